//! The connection to NATS. The library keeps it; after a failure it is dropped with all that was
//! still to be written, and made anew.

use std::error::Error;
use std::future::IntoFuture;
use std::time::Duration;

use async_nats::jetstream::context::{Context, ContextBuilder, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::{ConnectOptions, ServerAddr};
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Plan, SignIn};
use crate::event::{Outcome, notice};
use crate::sinks::http::answer::{Answer, Fate};
use crate::sinks::http::parts::{Courier, Ledger, Limits};
use crate::sinks::http::secret::Secret;
use crate::sinks::net::link::build_tls_of_library;
use crate::sinks::net::topic::Topic;
use crate::sinks::{BoxFuture, BuildCx, Sink, SinkError, Verdict};
use crate::spool::Stored;

/// What waits for acknowledgements at most.
const LIMITS: Limits = Limits { events: 500, bytes: 4_000_000 };
/// The length of the seed of an nkey, in its base32.
const SEED: usize = 58;
/// The server's answer to a message longer than the stream takes (`JSStreamMessageExceedsMaximumErr`).
const TOO_LONG: u64 = 10_054;

pub(super) fn build(plan: &Plan, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
    let sign_in = match &plan.sign_in {
        SignIn::Not => Ready::Not,
        SignIn::Token(source) => Ready::Token(source.read(&cx.base)?),
        SignIn::User(user, source) => Ready::User(user.clone(), source.read(&cx.base)?),
        SignIn::Creds(source) => {
            let creds = source.read(&cx.base)?;
            // What is wrong with it is not repeated: it may be the seed.
            if ConnectOptions::new().credentials(&whole(&creds)).is_err() {
                let what = "holds no NATS credentials: the JWT of a user and its seed, as `nsc` writes them";
                return Err(SinkError::Other(format!("{} {what}", creds.place())));
            }
            Ready::Creds(creds)
        }
        SignIn::Nkey(source) => {
            let seed = source.read(&cx.base)?;
            let text = seed.reveal();
            let base32 = |b: u8| b.is_ascii_uppercase() || matches!(b, b'2'..=b'7');
            if text.len() != SEED || !text.starts_with("SU") || !text.bytes().all(base32) {
                let what = "holds no seed of a user's nkey: 58 letters and digits that begin with SU";
                return Err(SinkError::Other(format!("{} {what}", seed.place())));
            }
            Ready::Nkey(seed)
        }
    };
    let mut servers = Vec::with_capacity(plan.servers.len());
    for address in &plan.servers {
        let scheme = if plan.tls.is_some() { "tls" } else { "nats" };
        let server: ServerAddr = format!("{scheme}://{address}")
            .parse()
            .map_err(|_| SinkError::Other(format!("{address} is no address of a NATS server")))?;
        servers.push(server);
    }
    let broker = Broker {
        place: plan.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        servers,
        subject: plan.subject.clone(),
        stream: plan.stream.clone(),
        sign_in,
        tls: build_tls_of_library(plan.tls.as_ref(), &cx.base)?,
        tls_required: plan.tls.is_some(),
        timeout: plan.timeout,
        warm: Mutex::default(),
    };
    Ok(Box::new(Nats { broker, ledger: Ledger::default() }))
}

struct Nats {
    broker: Broker,
    ledger: Ledger,
}

impl Sink for Nats {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(self.ledger.deliver(&self.broker, LIMITS, batch))
    }

    /// Asks which stream covers the subject.
    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            let broker = &self.broker;
            let subject = broker.subject.of(&notice::notice(notice::STARTED, Outcome::Success, &[]));
            let asking = async {
                let context = broker.connect().await?;
                let found = context.stream_by_subject(subject.clone()).await;
                let found = found.map_err(|_| broker.told(&format!("no stream covers the subject {subject}")))?;
                match &broker.stream {
                    Some(stream) if *stream != found => {
                        Err(broker.told(&format!("the subject {subject} goes to another stream than {stream}")))
                    }
                    _ => Ok(()),
                }
            };
            match timeout(broker.timeout, asking).await {
                Ok(result) => result,
                Err(_) => Err(broker.told(&format!("no answer within {:?}", broker.timeout))),
            }
        })
    }
}

/// Credentials with the line end behind their last line, which the library asks for and a secret has not.
fn whole(creds: &Secret) -> String {
    format!("{}\n", creds.reveal())
}

enum Ready {
    Not,
    Token(Secret),
    User(String, Secret),
    Creds(Secret),
    Nkey(Secret),
}

struct Broker {
    place: String,
    servers: Vec<ServerAddr>,
    subject: Topic,
    stream: Option<String>,
    sign_in: Ready,
    /// Given to the library whether it is wanted or not: without it, a server that demands TLS
    /// would make the library ask for the provider of the process.
    tls: Option<rustls::ClientConfig>,
    tls_required: bool,
    timeout: Duration,
    warm: Mutex<Option<Context>>,
}

impl Broker {
    async fn connect(&self) -> Result<Context, SinkError> {
        let mut options = ConnectOptions::new()
            .name("authtap")
            .connection_timeout(self.timeout)
            .request_timeout(Some(self.timeout))
            .require_tls(self.tls_required)
            .ignore_discovered_servers();
        if let Some(tls) = &self.tls {
            options = options.tls_client_config(tls.clone());
        }
        options = match &self.sign_in {
            Ready::Not => options,
            Ready::Token(token) => options.token(token.reveal().to_owned()),
            Ready::User(user, password) => options.user_and_password(user.clone(), password.reveal().to_owned()),
            Ready::Creds(creds) => {
                options.credentials(&whole(creds)).map_err(|_| self.told("the credentials cannot be used"))?
            }
            Ready::Nkey(seed) => options.nkey(seed.reveal().to_owned()),
        };
        let client = options.connect(self.servers.clone()).await;
        let client = client.map_err(|error| self.told(&format!("no connection: {error}")))?;
        Ok(ContextBuilder::new().timeout(self.timeout).build(client))
    }

    async fn publish(&self, part: &[Stored]) -> Result<Vec<Fate>, SinkError> {
        let deadline = Instant::now() + self.timeout;
        let late = || self.told(&format!("no answer within {:?}", self.timeout));
        let mut warm = self.warm.lock().await;
        let context = match warm.take() {
            Some(context) => context,
            None => timeout_at(deadline, self.connect()).await.map_err(|_| late())??,
        };
        let mut promises = Vec::with_capacity(part.len());
        for one in part {
            let mut message = PublishMessage::build()
                .payload(Bytes::copy_from_slice(one.line.as_bytes()))
                .message_id(one.event.id.to_string());
            if let Some(stream) = &self.stream {
                message = message.expected_stream(stream);
            }
            let promise = timeout_at(deadline, context.send_publish(self.subject.of(&one.event), message)).await;
            promises.push(promise.map_err(|_| late())?);
        }
        let mut fates = Vec::with_capacity(part.len());
        for promise in promises {
            fates.push(match promise {
                Err(error) => self.fate(&error),
                Ok(promise) => match timeout_at(deadline, promise.into_future()).await {
                    Ok(Ok(_)) => Fate::Taken,
                    Ok(Err(error)) => self.fate(&error),
                    Err(_) => Fate::Later(late().to_string()),
                },
            });
        }
        if fates.iter().all(|fate| !matches!(fate, Fate::Later(_))) {
            *warm = Some(context);
        }
        Ok(fates)
    }

    fn fate(&self, error: &PublishError) -> Fate {
        let code = error.source().and_then(|source| source.downcast_ref::<async_nats::jetstream::Error>());
        let code = code.map(|error| error.error_code().0);
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Fate::Refused("longer than the server takes".into()),
            _ if code == Some(TOO_LONG) => Fate::Refused("longer than the stream takes".into()),
            PublishErrorKind::StreamNotFound => {
                Fate::Later(self.told(&format!("no stream covers the subject {}", self.subject.text())).to_string())
            }
            kind => {
                let code = code.map(|code| format!(" (JetStream error {code})")).unwrap_or_default();
                Fate::Later(self.told(&format!("{kind}{code}")).to_string())
            }
        }
    }

    fn told(&self, what: &str) -> SinkError {
        SinkError::Other(format!("{}: {what}", self.place))
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
