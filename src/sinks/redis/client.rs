//! The connection to Redis: one, made when it is needed, and made anew after any failure.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisConnectionInfo, RedisError, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Plan;
use crate::sinks::http::answer::{Answer, Fate};
use crate::sinks::http::parts::{Courier, Ledger, Limits};
use crate::sinks::net::link::Link;
use crate::sinks::net::topic::Topic;
use crate::sinks::{BoxFuture, BuildCx, Sink, SinkError, Verdict};
use crate::spool::Stored;

/// What one pipeline holds at most.
const LIMITS: Limits = Limits { events: 500, bytes: 4_000_000 };

pub(super) fn build(plan: &Plan, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
    let mut info = RedisConnectionInfo::default().set_db(i64::try_from(plan.db).unwrap_or(0)).set_skip_set_lib_name();
    if let Some(user) = &plan.user {
        info = info.set_username(user);
    }
    if let Some(password) = &plan.password {
        info = info.set_password(password.read(&cx.base)?.reveal());
    }
    let server = Server {
        link: plan.link.build(&cx.base)?,
        info,
        stream: plan.stream.clone(),
        maxlen: plan.maxlen,
        warm: Mutex::default(),
    };
    Ok(Box::new(Redis { server, ledger: Ledger::default() }))
}

struct Redis {
    server: Server,
    ledger: Ledger,
}

impl Sink for Redis {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(self.ledger.deliver(&self.server, LIMITS, batch))
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            let asking = async {
                let mut connected = self.server.connect().await?;
                let answer: Result<Value, RedisError> = redis::cmd("PING").query_async(&mut connected.connection).await;
                answer.map(drop).map_err(|error| self.server.told(&error))
            };
            self.server.within(asking).await
        })
    }
}

struct Server {
    link: Link,
    info: RedisConnectionInfo,
    stream: Topic,
    maxlen: u64,
    warm: Mutex<Option<Connected>>,
}

/// A connection, and the task that moves its bytes; both end together.
struct Connected {
    connection: MultiplexedConnection,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Server {
    async fn connect(&self) -> Result<Connected, SinkError> {
        let wire = self.link.dial().await?;
        let made = MultiplexedConnection::new_with_config(&self.info, wire, unbounded()).await;
        let (connection, driver) = made.map_err(|error| self.told(&error))?;
        Ok(Connected { connection, driver: tokio::spawn(driver) })
    }

    /// Adds each event as an entry; the replies, in order.
    async fn add(&self, part: &[Stored]) -> Result<Vec<Result<Value, RedisError>>, SinkError> {
        let mut pipeline = redis::Pipeline::with_capacity(part.len());
        pipeline.ignore_errors();
        for one in part {
            let command = pipeline.cmd("XADD").arg(self.stream.of(&one.event));
            if self.maxlen > 0 {
                command.arg("MAXLEN").arg("~").arg(self.maxlen);
            }
            command.arg("*").arg("id").arg(one.event.id.to_string());
            command.arg("type").arg(one.event.event_type.as_str()).arg("event").arg(&*one.line);
        }
        let mut warm = self.warm.lock().await;
        let mut connected = match warm.take() {
            Some(connected) => connected,
            None => self.connect().await?,
        };
        let replies = pipeline.query_async(&mut connected.connection).await.map_err(|error| self.told(&error))?;
        // Not after a failure: a connection in doubt is not used again.
        *warm = Some(connected);
        Ok(replies)
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, SinkError>>) -> Result<T, SinkError> {
        let limit: Duration = self.link.timeout();
        match timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(self.link.told(&format!("no answer within {limit:?}"))),
        }
    }

    /// An error of Redis by its code alone: its text may repeat an argument.
    fn told(&self, error: &RedisError) -> SinkError {
        self.link.told(&why(error))
    }
}

impl Courier for Server {
    fn carry<'a>(&'a self, part: &'a [Stored]) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            match self.within(self.add(part)).await {
                Err(why) => Answer::lost(why),
                Ok(replies) => Answer::Items(
                    replies
                        .into_iter()
                        .map(|reply| match reply {
                            Ok(Value::BulkString(_) | Value::SimpleString(_)) => Fate::Taken,
                            Ok(_) => Fate::Later(self.link.told("it answered no id of an entry").to_string()),
                            Err(error) => Fate::Later(self.told(&error).to_string()),
                        })
                        .collect(),
                ),
            }
        })
    }
}

/// The time allowed is measured here, for connecting and answering together.
fn unbounded() -> redis::AsyncConnectionConfig {
    redis::AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None)
}

fn why(error: &RedisError) -> String {
    match error.code() {
        Some(code) => {
            let hint = match code {
                "NOAUTH" | "WRONGPASS" | "NOPERM" => "; check user and password and what they allow",
                "WRONGTYPE" => "; the key holds something else than a stream",
                "OOM" => "; its memory is full",
                "MOVED" | "ASK" => "; a cluster is not followed: name the node that holds the stream",
                "READONLY" => "; this is a replica: name the primary",
                _ => "",
            };
            format!("Redis answered {code}{hint}")
        }
        None if error.kind() == redis::ErrorKind::AuthenticationFailed => {
            "Redis does not let this user in; check user and password".into()
        }
        None if error.is_io_error() => format!("the connection broke: {error}"),
        None => format!("no sense in the conversation with Redis ({:?})", error.kind()),
    }
}
