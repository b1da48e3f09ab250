//! The connection to the broker: one, with one channel, made when it is needed, and made anew
//! after any failure.
//!
//! What is published and what the broker answers go at the same time, because a broker whose
//! answers nobody reads stops reading too. There are no heartbeats: between batches nobody reads,
//! and the system asks by itself whether the broker is still there. The invariant: an event counts
//! as delivered when a confirmation named it and it had not come back.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf, split};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use super::frame::{Frames, Heard, MAX_FRAME, Message, Nonsense, PROTOCOL, Settled, first};
use super::{Plan, SignIn, USUAL};
use crate::sinks::http::answer::{Answer, Fate};
use crate::sinks::http::parts::{Courier, Ledger, Limits};
use crate::sinks::http::secret::Secret;
use crate::sinks::net::link::{Link, Wire};
use crate::sinks::net::topic::Topic;
use crate::sinks::{BoxFuture, BuildCx, Sink, SinkError, Verdict};
use crate::spool::Stored;

/// What waits for confirmations at most.
const LIMITS: Limits = Limits { events: 500, bytes: 4_000_000 };
/// The longest routing key, in bytes (a short string).
const MAX_KEY: usize = 255;
/// How much is read at once, in bytes.
const READ: usize = 16 * 1024;
/// The most that is read before a batch of what came since the last one, in pieces of 4 KiB.
const MAX_TALK: usize = 64;

pub(super) fn build(plan: &Plan, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
    let sign_in = match &plan.sign_in {
        SignIn::Usual => Ready::Usual,
        SignIn::Plain(user, password) => Ready::Plain(user.clone(), password.read(&cx.base)?),
        SignIn::External => Ready::External,
    };
    let broker = Broker {
        link: plan.link.build(&cx.base)?,
        vhost: plan.vhost.clone(),
        exchange: plan.exchange.clone(),
        routing_key: plan.routing_key.clone(),
        mandatory: plan.mandatory,
        sign_in,
        media: cx.media.one,
        warm: Mutex::default(),
    };
    Ok(Box::new(Amqp { broker, ledger: Ledger::default() }))
}

struct Amqp {
    broker: Broker,
    ledger: Ledger,
}

impl Sink for Amqp {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(self.ledger.deliver(&self.broker, LIMITS, batch))
    }

    /// Signs in, and asks whether the exchange is there.
    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            let broker = &self.broker;
            let looked = timeout(broker.link.timeout(), broker.look()).await;
            looked.unwrap_or(Err(Trouble::Late)).map_err(|trouble| broker.told(&trouble))
        })
    }
}

enum Ready {
    Usual,
    Plain(String, Secret),
    External,
}

struct Broker {
    link: Link,
    vhost: String,
    exchange: String,
    routing_key: Topic,
    mandatory: bool,
    sign_in: Ready,
    media: &'static str,
    warm: Mutex<Option<Connection>>,
}

/// Why a conversation ended.
enum Trouble {
    /// There is no connection, told already.
    Link(SinkError),
    Broken(String),
    Nonsense,
    /// The broker ended the connection or the channel with this code.
    Closed(u16),
    /// The broker said that it takes nothing for now, and fell silent.
    Blocked,
    Late,
    NoMechanism,
    Unexpected,
}

impl From<Nonsense> for Trouble {
    fn from(_: Nonsense) -> Trouble {
        Trouble::Nonsense
    }
}

impl Broker {
    /// Has no bound of its own.
    async fn connect(&self) -> Result<Connection, Trouble> {
        let wire = self.link.dial().await.map_err(Trouble::Link)?;
        let (from, to) = split(wire);
        let mut connection = Connection {
            from: Incoming { wire: from, arrived: BytesMut::new(), blocked: false },
            to,
            frame: MAX_FRAME,
            tag: 0,
        };
        connection.write(PROTOCOL).await?;
        let Heard::Start { mechanisms } = connection.from.next().await? else { return Err(Trouble::Unexpected) };
        let (mechanism, response) = match &self.sign_in {
            Ready::Usual => ("PLAIN", format!("\0{USUAL}\0{USUAL}")),
            Ready::Plain(user, password) => ("PLAIN", format!("\0{user}\0{}", password.reveal())),
            Ready::External => ("EXTERNAL", String::new()),
        };
        if !mechanisms.split(' ').any(|offered| offered == mechanism) {
            return Err(Trouble::NoMechanism);
        }
        connection.write(Frames::default().start_ok(mechanism, &response).bytes()).await?;
        let Heard::Tune { frame } = connection.from.next().await? else { return Err(Trouble::Unexpected) };
        connection.frame = frame;
        connection.write(Frames::default().tune_and_open(frame, &self.vhost).bytes()).await?;
        connection.from.expect(&Heard::Open).await?;
        connection.write(Frames::default().channel().bytes()).await?;
        connection.from.expect(&Heard::ChannelOpen).await?;
        connection.from.expect(&Heard::Confirming).await?;
        Ok(connection)
    }

    async fn look(&self) -> Result<(), Trouble> {
        let mut connection = self.connect().await?;
        if !self.exchange.is_empty() {
            connection.write(Frames::default().is_there(&self.exchange).bytes()).await?;
            connection.from.expect(&Heard::Declared).await?;
        }
        connection.write(Frames::default().close().bytes()).await?;
        connection.from.expect(&Heard::CloseOk).await
    }

    /// The connection of the last batch if it can be used, or a new one. One that the broker has
    /// blocked is watched until it is free and then given up: what was written to it may still be
    /// read, so writing the same to another one would double it each time.
    async fn ready(&self, warm: &mut Option<Connection>, deadline: Instant) -> Result<Connection, Trouble> {
        if let Some(mut connection) = warm.take_if(|connection| connection.from.blocked) {
            let freed = async {
                while connection.from.blocked {
                    connection.from.next().await?;
                }
                Ok::<(), Trouble>(())
            };
            if timeout_at(deadline, freed).await.is_err() {
                *warm = Some(connection);
                return Err(Trouble::Blocked);
            }
        } else if let Some(connection) = warm.take()
            && let Some(alive) = connection.if_alive().await
        {
            return Ok(alive);
        }
        timeout_at(deadline, self.connect()).await.unwrap_or(Err(Trouble::Late))
    }

    /// Publishes each event; what became of each, in order.
    async fn publish(&self, part: &[Stored]) -> Result<Vec<Fate>, Trouble> {
        let deadline = Instant::now() + self.link.timeout();
        let mut warm = self.warm.lock().await;
        let mut connection = self.ready(&mut warm, deadline).await?;
        let mut waiting = Waiting::new(connection.tag, part.len());
        let mut frames = Frames::default();
        for (place, one) in part.iter().enumerate() {
            let (routing_key, id) = (self.routing_key.of(&one.event), one.event.id.to_string());
            if routing_key.len() > MAX_KEY {
                let why = format!("its routing key is longer than {MAX_KEY} bytes");
                waiting.fates.insert(place, Fate::Refused(why));
                continue;
            }
            let message = Message {
                exchange: &self.exchange,
                routing_key: &routing_key,
                mandatory: self.mandatory,
                media: self.media,
                id: &id,
                seconds: u64::try_from(one.event.timestamp.as_millis() / 1000).unwrap_or(0),
                kind: one.event.event_type.as_str(),
                body: one.line.as_bytes(),
            };
            frames.publish(&message, connection.frame);
            waiting.places.push((place, false));
            waiting.ids.insert(id, waiting.places.len() - 1);
        }
        connection.tag = connection.tag.saturating_add(waiting.places.len() as u64);
        let Connection { from, to, .. } = &mut connection;
        let writing = async {
            to.write_all(frames.bytes()).await.map_err(broken)?;
            to.flush().await.map_err(broken)
        };
        let reading = async {
            while waiting.low < waiting.places.len() {
                waiting.hear(from.next().await?, self)?;
            }
            Ok(())
        };
        let trouble = match timeout_at(deadline, async { tokio::try_join!(writing, reading) }).await {
            Ok(Ok(_)) => None,
            Ok(Err(trouble)) => Some(trouble),
            Err(_) if connection.from.blocked => Some(Trouble::Blocked),
            Err(_) => Some(Trouble::Late),
        };
        if matches!(trouble, None | Some(Trouble::Blocked)) {
            *warm = Some(connection);
        }
        let why = match trouble {
            Some(trouble) if waiting.fates.is_empty() => return Err(trouble),
            // What was settled before is not sent again.
            Some(trouble) => self.told(&trouble).to_string(),
            None => String::new(),
        };
        let fate = |place| waiting.fates.remove(&place).unwrap_or_else(|| Fate::Later(why.clone()));
        Ok((0..part.len()).map(fate).collect())
    }

    /// A trouble in words. What the broker says of it is not repeated.
    fn told(&self, trouble: &Trouble) -> SinkError {
        let what = match trouble {
            Trouble::Link(why) => return SinkError::Other(why.to_string()),
            Trouble::Broken(why) => format!("the connection broke: {why}"),
            Trouble::Nonsense => "this is no broker of AMQP 0-9-1".into(),
            Trouble::Unexpected => "no sense in the conversation with the broker".into(),
            Trouble::NoMechanism => "the broker does not offer this way to sign in; check `sasl`".into(),
            Trouble::Blocked => "the broker takes no messages now: its memory or disk is full".into(),
            Trouble::Late => format!("no answer within {:?}", self.link.timeout()),
            Trouble::Closed(code) => {
                let hint = match code {
                    320 => " (it is shutting down, or somebody closed the connection)",
                    403 => "; check user, password and the rights on the exchange",
                    404 => return self.link.told(&format!("there is no exchange `{}`", self.exchange)),
                    406 => " (longer than the broker takes, or against its rules)",
                    530 => "; check `vhost`, and the user's right to it",
                    _ => "",
                };
                format!("the broker answered {code}{hint}")
            }
        };
        self.link.told(&what)
    }
}

impl Courier for Broker {
    fn carry<'a>(&'a self, part: &'a [Stored]) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            match self.publish(part).await {
                Ok(fates) => Answer::Items(fates),
                // A message that is too long ends the channel, and the broker does not say which.
                Err(trouble @ Trouble::Closed(311 | 406)) => {
                    Answer::Refused { why: self.told(&trouble), divisible: true }
                }
                Err(trouble) => Answer::lost(self.told(&trouble)),
            }
        })
    }
}

/// The messages of one part that are out, and what became of them.
struct Waiting {
    /// How many messages the channel had seen before.
    before: u64,
    /// For each message where its event stands in the part, and whether it has been answered.
    places: Vec<(usize, bool)>,
    /// All before this one are answered.
    low: usize,
    /// The messages by id.
    ids: HashMap<String, usize>,
    /// By place in the part.
    fates: HashMap<usize, Fate>,
    /// The code of the message that is coming back, and what is missing of its body.
    returning: Option<(u16, u64)>,
}

impl Waiting {
    fn new(before: u64, count: usize) -> Waiting {
        Waiting {
            before,
            places: Vec::with_capacity(count),
            low: 0,
            ids: HashMap::with_capacity(count),
            fates: HashMap::with_capacity(count),
            returning: None,
        }
    }

    fn hear(&mut self, heard: Heard, broker: &Broker) -> Result<(), Trouble> {
        match (heard, self.returning) {
            (Heard::Ack(settled), None) => self.settle(settled, &Fate::Taken),
            (Heard::Nack(settled), None) => {
                let why = "the broker did not take a message: a full queue, or a fault of its own";
                self.settle(settled, &Fate::Later(broker.link.told(why).to_string()))
            }
            (Heard::Returned(code), None) => {
                self.returning = Some((code, u64::MAX));
                Ok(())
            }
            (Heard::Header { body, id }, Some((code, u64::MAX))) => {
                let place = id.and_then(|id| self.ids.get(&id)).and_then(|at| self.places.get(*at));
                let (place, _) = place.ok_or(Trouble::Unexpected)?;
                let why = match code {
                    312 => format!("no queue is bound to the exchange `{}` for its routing key", broker.exchange),
                    _ => format!("the broker returned it with {code}"),
                };
                self.fates.insert(*place, Fate::Refused(why));
                self.returning = (body > 0).then_some((code, body));
                Ok(())
            }
            (Heard::Body(bytes), Some((code, missing))) if missing != u64::MAX => {
                let missing = missing.checked_sub(bytes).ok_or(Trouble::Unexpected)?;
                self.returning = (missing > 0).then_some((code, missing));
                Ok(())
            }
            (Heard::Other | Heard::Unblocked, _) => Ok(()),
            _ => Err(Trouble::Unexpected),
        }
    }

    /// Gives a fate to the messages that an answer is about, unless they came back.
    fn settle(&mut self, settled: Settled, fate: &Fate) -> Result<(), Trouble> {
        let last = match settled.tag {
            0 => self.places.len(),
            // Numbers of the channel begin with 1.
            tag => tag.checked_sub(self.before).and_then(|nth| usize::try_from(nth).ok()).ok_or(Trouble::Unexpected)?,
        };
        if last == 0 || last > self.places.len() {
            return Err(Trouble::Unexpected);
        }
        let from = if settled.multiple || settled.tag == 0 { self.low } else { last - 1 };
        for (place, answered) in self.places.get_mut(from..last).unwrap_or_default() {
            if !std::mem::replace(answered, true) {
                self.fates.entry(*place).or_insert_with(|| fate.clone());
            }
        }
        while self.places.get(self.low).is_some_and(|(_, answered)| *answered) {
            self.low += 1;
        }
        Ok(())
    }
}

struct Connection {
    from: Incoming,
    to: WriteHalf<Box<dyn Wire>>,
    /// The largest frame, in bytes.
    frame: u32,
    /// How many messages were published.
    tag: u64,
}

/// What comes from the broker.
struct Incoming {
    wire: ReadHalf<Box<dyn Wire>>,
    /// What is not understood yet, of one frame at most after each look.
    arrived: BytesMut,
    /// The broker has said that it reads nothing for now.
    blocked: bool,
}

impl Connection {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.to.write_all(bytes).await.map_err(broken)?;
        self.to.flush().await.map_err(broken)
    }

    /// Itself, unless the broker has ended it since the last batch.
    async fn if_alive(mut self) -> Option<Connection> {
        for _ in 0..MAX_TALK {
            while let Some(heard) = self.from.waiting().ok()? {
                if !matches!(heard, Heard::Other | Heard::Unblocked) {
                    return None;
                }
            }
            let mut space = [0_u8; 4096];
            let mut buffer = ReadBuf::new(&mut space);
            let wire = &mut self.from.wire;
            match poll_fn(|cx| Poll::Ready(Pin::new(&mut *wire).poll_read(cx, &mut buffer))).await {
                Poll::Pending => return Some(self),
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.from.arrived.extend_from_slice(buffer.filled());
                }
                Poll::Ready(_) => return None,
            }
        }
        None
    }
}

impl Incoming {
    /// The next of what has arrived already, if it is whole.
    fn waiting(&mut self) -> Result<Option<Heard>, Trouble> {
        let Some((frame, length)) = first(&self.arrived)? else { return Ok(None) };
        let heard = frame.heard()?;
        self.arrived.advance(length);
        match heard {
            Heard::Blocked => self.blocked = true,
            Heard::Unblocked => self.blocked = false,
            Heard::Closed(code) | Heard::ChannelClosed(code) => return Err(Trouble::Closed(code)),
            _ => return Ok(Some(heard)),
        }
        Ok(Some(Heard::Other))
    }

    /// The next that the broker says. Has no bound of its own in time.
    async fn next(&mut self) -> Result<Heard, Trouble> {
        loop {
            if let Some(heard) = self.waiting()? {
                return Ok(heard);
            }
            self.arrived.reserve(READ);
            if self.wire.read_buf(&mut self.arrived).await.map_err(broken)? == 0 {
                return Err(Trouble::Broken("the broker closed it".into()));
            }
        }
    }

    /// Waits for one answer; whatever else may come in between is passed over.
    async fn expect(&mut self, awaited: &Heard) -> Result<(), Trouble> {
        loop {
            match self.next().await? {
                heard if heard == *awaited => return Ok(()),
                Heard::Other => {}
                _ => return Err(Trouble::Unexpected),
            }
        }
    }
}

fn broken(error: std::io::Error) -> Trouble {
    Trouble::Broken(error.to_string())
}
