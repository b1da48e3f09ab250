//! The connection to the broker: kept by a task of its own, which answers pings between batches
//! and ends with the first error.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, NetworkOptions, Outgoing, Packet,
    QoS, TlsConfiguration, Transport,
};
use rustls::ClientConfig;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, timeout_at};

use super::Plan;
use crate::event::EventId;
use crate::sinks::http::answer::{Answer, Fate};
use crate::sinks::http::parts::{Courier, Ledger, Limits};
use crate::sinks::http::secret::Secret;
use crate::sinks::net::address::Address;
use crate::sinks::net::link::build_tls_of_library;
use crate::sinks::net::topic::Topic;
use crate::sinks::{BoxFuture, BuildCx, Sink, SinkError, Verdict};
use crate::spool::Stored;

/// What waits for acknowledgements at most: few enough for any broker's own bound.
const LIMITS: Limits = Limits { events: 100, bytes: 4_000_000 };
const IN_FLIGHT: u16 = 100;
/// The largest packet, in bytes, either way.
const MAX_PACKET: usize = 1 << 20;
const KEEP_ALIVE: Duration = Duration::from_secs(30);

pub(super) fn build(plan: &Plan, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
    let broker = Broker {
        address: plan.address.clone(),
        topic: plan.topic.clone(),
        client_id: plan.client_id.clone(),
        user: plan.user.clone(),
        password: plan.password.as_ref().map(|source| source.read(&cx.base)).transpose()?,
        tls: match &plan.tls {
            Some(plan) => build_tls_of_library(Some(plan), &cx.base)?.map(Arc::new),
            None => None,
        },
        timeout: plan.timeout,
        warm: Mutex::default(),
    };
    Ok(Box::new(Mqtt { broker, ledger: Ledger::default() }))
}

struct Mqtt {
    broker: Broker,
    ledger: Ledger,
}

impl Sink for Mqtt {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(self.ledger.deliver(&self.broker, LIMITS, batch))
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            let deadline = Instant::now() + self.broker.timeout;
            let connection = self.broker.connect(deadline).await?;
            // The broker is told, where it can be.
            let _ = connection.client.disconnect().await;
            Ok(())
        })
    }
}

struct Broker {
    address: Address,
    topic: Topic,
    client_id: Option<String>,
    user: Option<String>,
    password: Option<Secret>,
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
    warm: Mutex<Option<Connection>>,
}

/// What the task has seen.
enum Seen {
    Connected,
    /// A message went out under this number, in the order of publishing.
    Sent(u16),
    Acknowledged(u16),
    Failed(String),
}

struct Connection {
    client: AsyncClient,
    seen: mpsc::Receiver<Seen>,
    task: tokio::task::JoinHandle<()>,
}

impl Connection {
    /// Itself, unless it has ended since the last batch.
    fn if_alive(mut self) -> Option<Connection> {
        loop {
            match self.seen.try_recv() {
                Ok(Seen::Failed(_)) | Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Ok(_) => {}
                Err(mpsc::error::TryRecvError::Empty) => return Some(self),
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Broker {
    async fn connect(&self, deadline: Instant) -> Result<Connection, SinkError> {
        let id = self.client_id.clone().unwrap_or_else(|| {
            // 23 characters are what every broker takes.
            let random = EventId::new().to_string().replace('-', "");
            format!("authtap-{}", random.get(17..).unwrap_or_default())
        });
        let mut options = MqttOptions::new(id, self.address.host.clone(), self.address.port);
        options.set_keep_alive(KEEP_ALIVE).set_clean_session(true).set_inflight(IN_FLIGHT);
        options.set_max_packet_size(MAX_PACKET, MAX_PACKET);
        if let Some(user) = &self.user {
            options.set_credentials(user, self.password.as_ref().map_or("", |password| password.reveal()));
        }
        if let Some(tls) = &self.tls {
            options.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls.clone())));
        }
        let (client, mut events) = AsyncClient::new(options, LIMITS.events);
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(self.timeout.as_secs().max(1));
        network.set_tcp_nodelay(true);
        events.set_network_options(network);
        let (tell, seen) = mpsc::channel(4 * LIMITS.events);
        let mut connection = Connection { client, seen, task: tokio::spawn(keep(events, tell)) };
        match timeout_at(deadline, connection.seen.recv()).await {
            Ok(Some(Seen::Connected)) => Ok(connection),
            Ok(Some(Seen::Failed(why))) => Err(self.told(&format!("no connection: {why}"))),
            Ok(_) => Err(self.told("no connection")),
            Err(_) => Err(self.told(&format!("no connection within {:?}", self.timeout))),
        }
    }

    async fn publish(&self, part: &[Stored]) -> Result<Vec<Fate>, SinkError> {
        let deadline = Instant::now() + self.timeout;
        let mut warm = self.warm.lock().await;
        let mut connection = match warm.take().and_then(Connection::if_alive) {
            Some(connection) => connection,
            None => self.connect(deadline).await?,
        };
        let mut fates: Vec<Option<Fate>> = Vec::with_capacity(part.len());
        let mut waiting: VecDeque<usize> = VecDeque::with_capacity(part.len());
        for (place, one) in part.iter().enumerate() {
            let topic = self.topic.of(&one.event);
            if one.line.len() + topic.len() + 16 > MAX_PACKET {
                fates.push(Some(Fate::Refused(format!("longer than a message of {MAX_PACKET} bytes"))));
                continue;
            }
            fates.push(None);
            waiting.push_back(place);
            let sending = connection.client.publish(topic, QoS::AtLeastOnce, false, one.line.as_bytes().to_vec());
            match timeout_at(deadline, sending).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(self.told("the connection broke")),
                Err(_) => return Err(self.told(&format!("the broker takes nothing within {:?}", self.timeout))),
            }
        }
        let mut under: HashMap<u16, usize> = HashMap::with_capacity(part.len());
        let mut open = waiting.len();
        let mut why = None;
        while open > 0 && why.is_none() {
            match timeout_at(deadline, connection.seen.recv()).await {
                Ok(Some(Seen::Sent(number))) => {
                    if let Some(place) = waiting.pop_front() {
                        under.insert(number, place);
                    }
                }
                Ok(Some(Seen::Acknowledged(number))) => {
                    if let Some(fate) = under.remove(&number).and_then(|place| fates.get_mut(place)) {
                        *fate = Some(Fate::Taken);
                        open -= 1;
                    }
                }
                Ok(Some(Seen::Connected)) => {}
                Ok(Some(Seen::Failed(reason))) => why = Some(reason),
                Ok(None) => why = Some("the connection broke".into()),
                Err(_) => why = Some(format!("no acknowledgement within {:?}", self.timeout)),
            }
        }
        if why.is_none() {
            *warm = Some(connection);
        }
        let later = self.told(&why.unwrap_or_default()).to_string();
        Ok(fates.into_iter().map(|fate| fate.unwrap_or_else(|| Fate::Later(later.clone()))).collect())
    }

    fn told(&self, what: &str) -> SinkError {
        SinkError::Other(format!("{}: {what}", self.address))
    }
}

impl Courier for Broker {
    fn carry<'a>(&'a self, part: &'a [Stored]) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            match self.publish(part).await {
                Ok(fates) => Answer::Items(fates),
                Err(why) => Answer::lost(why),
            }
        })
    }
}

/// Moves the connection's bytes until it fails, and tells what it sees.
async fn keep(mut events: EventLoop, tell: mpsc::Sender<Seen>) {
    loop {
        let seen = match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => Seen::Connected,
            Ok(Event::Incoming(Packet::PubAck(ack))) => Seen::Acknowledged(ack.pkid),
            Ok(Event::Outgoing(Outgoing::Publish(number))) => Seen::Sent(number),
            Ok(_) => continue,
            Err(error) => {
                // Whoever waits for it, or asks before the next batch, is told; nobody may.
                let _ = tell.send(Seen::Failed(why(&error))).await;
                return;
            }
        };
        if tell.send(seen).await.is_err() {
            return;
        }
    }
}

/// An error without a packet, which may hold an event.
fn why(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
        ) => "the broker does not let this user in".into(),
        ConnectionError::ConnectionRefused(code) => format!("the broker refused: {code:?}"),
        ConnectionError::Io(error) => error.to_string(),
        ConnectionError::Tls(error) => error.to_string(),
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => "too slow".into(),
        _ => "the connection broke".into(),
    }
}
