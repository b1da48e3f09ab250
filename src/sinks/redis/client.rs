//! Events into a stream, over one connection that is made when it is needed, and anew after any
//! failure.

use std::time::Duration;

use redis::{RedisError, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Plan;
use crate::sinks::http::answer::{Answer, Fate};
use crate::sinks::http::parts::{Courier, Ledger, Limits};
use crate::sinks::net::redis::{Connected, Host};
use crate::sinks::net::topic::Topic;
use crate::sinks::{BoxFuture, BuildCx, Sink, SinkError, Verdict};
use crate::spool::Stored;

/// What one pipeline holds at most.
const LIMITS: Limits = Limits { events: 500, bytes: 4_000_000 };

pub(super) fn build(plan: &Plan, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
    let server = Server {
        host: Host::build(&plan.link, plan.db, plan.user.as_deref(), plan.password.as_ref(), &cx.base)?,
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
                let mut connected = self.server.host.connect().await?;
                let answer: Result<Value, RedisError> = redis::cmd("PING").query_async(&mut connected.connection).await;
                answer.map(drop).map_err(|error| self.server.host.told(&error))
            };
            self.server.within(asking).await
        })
    }
}

struct Server {
    host: Host,
    stream: Topic,
    maxlen: u64,
    warm: Mutex<Option<Connected>>,
}

impl Server {
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
            None => self.host.connect().await?,
        };
        let replies = pipeline.query_async(&mut connected.connection).await.map_err(|error| self.host.told(&error))?;
        // Not after a failure: a connection in doubt is not used again.
        *warm = Some(connected);
        Ok(replies)
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, SinkError>>) -> Result<T, SinkError> {
        let limit: Duration = self.host.link().timeout();
        match timeout(limit, work).await {
            Ok(result) => result,
            Err(_) => Err(self.host.link().told(&format!("no answer within {limit:?}"))),
        }
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
                            Ok(_) => Fate::Later(self.host.link().told("it answered no id of an entry").to_string()),
                            Err(error) => Fate::Later(self.host.told(&error).to_string()),
                        })
                        .collect(),
                ),
            }
        })
    }
}
