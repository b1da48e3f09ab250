//! What is said and asked of sessions, to and from Redis: one connection, one task.
//!
//! Everything goes in the order in which the pipeline said it, so that a question after a logout
//! never finds what the logout removed. While there is no connection, what is to be written waits in
//! the queue. It must never hold a name in the clear in Redis: values are sealed, and each opens
//! under its own key only.
//!
//! In Redis, behind the prefix: `:s:<hash>` a session, which ends by itself; `:ends` the moments at
//! which sessions count as expired; `:news` a stream of hashes that changed, kept to a length.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use redis::{Pipeline, RedisError, Value};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::SharePlan;
use crate::event::Timestamp;
use crate::session::Handle;
use crate::session::entry::Entry;
use crate::session::sealed::Seal;
use crate::session::share::{Ends, Found, News, Op, Room};
use crate::sinks::SinkError;
use crate::sinks::net::link::LinkPlan;
use crate::sinks::net::redis::{Connected, Host};

/// How many commands go together.
const TOGETHER: usize = 256;
/// The longest that an answer is waited for before the connection is given up.
const ANSWER: Duration = Duration::from_secs(2);
/// How often it is asked what other replicas said.
const LISTEN_EVERY: Duration = Duration::from_millis(500);
/// How often sessions are looked for that were not used for too long.
const EXPIRE_EVERY: Duration = Duration::from_secs(5);
/// Entries of the stream that one look reads, and sessions that one look ends.
const AT_ONCE: usize = 500;
/// Entries that the stream is kept to, roughly: what a replica may miss while it has no connection.
const STREAM: usize = 50_000;
/// The first pause after a failure; doubled up to [`LONGEST`].
const AGAIN: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

/// Takes what counts as expired out, whole: of several replicas that look, one gets each session,
/// and none that was used a moment before.
const EXPIRE: &str = "\
local ended = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
local found = {}
for _, hash in ipairs(ended) do
  redis.call('ZREM', KEYS[1], hash)
  local value = redis.call('GET', ARGV[3] .. hash)
  redis.call('DEL', ARGV[3] .. hash)
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'h', hash, 'w', '')
  if value then
    found[#found + 1] = hash
    found[#found + 1] = value
  end
end
return found";

pub(super) struct Server {
    host: Host,
    seal: Seal,
    prefix: String,
    /// Tells what this process said from what others did.
    writer: String,
}

impl Server {
    pub fn build(plan: &SharePlan, link: &LinkPlan, key: &[u8; 32], base: &Path) -> Result<Server, SinkError> {
        let seal = Seal::new("authtap 2026 sealed sessions of replicas", key);
        let seal =
            seal.ok_or_else(|| SinkError::Other("this build of authtap has no cipher to seal names with".into()))?;
        let mut writer = [0; 8];
        getrandom::fill(&mut writer).map_err(|_| SinkError::Other("the system has no random numbers".into()))?;
        Ok(Server {
            host: Host::build(link, plan.db, plan.user.as_deref(), plan.password.as_ref(), base)?,
            seal,
            prefix: plan.prefix.clone(),
            writer: hex(&writer),
        })
    }

    pub async fn probe(&self) -> Result<(), SinkError> {
        let mut connected = self.host.connect().await?;
        let ping = redis::cmd("PING");
        match timeout(ANSWER, ping.query_async::<Value>(&mut connected.connection)).await {
            Ok(answer) => answer.map(drop).map_err(|error| self.host.told(&error)),
            Err(_) => Err(self.silent()),
        }
    }

    fn silent(&self) -> SinkError {
        self.host.link().told(&format!("no answer within {ANSWER:?}"))
    }

    fn name(&self, what: &str) -> String {
        format!("{}:{what}", self.prefix)
    }

    fn key(&self, handle: &Handle) -> String {
        format!("{}:s:{}", self.prefix, hex(&handle.0))
    }

    /// The value of an entry; only the key it is written under opens it.
    fn sealed(&self, handle: &Handle, room: Room, entry: &Entry) -> Option<Vec<u8>> {
        let mut plain = entry.to_bytes();
        plain.insert(0, room as u8);
        self.seal.seal(&handle.0, plain)
    }

    fn opened(&self, handle: Handle, value: &[u8]) -> Option<Found> {
        let plain = self.seal.open(&handle.0, value)?;
        let (room, entry) = plain.split_first()?;
        Some((handle, Room::of(*room)?, Entry::from_bytes(entry)?))
    }

    fn announce(&self, to: &mut Pipeline, handle: &Handle) {
        let add = to.cmd("XADD").arg(self.name("news")).arg("MAXLEN").arg("~").arg(STREAM).arg("*");
        add.arg("h").arg(hex(&handle.0)).arg("w").arg(&self.writer);
    }

    /// The commands of one saying. None for a question, and where nothing can be sealed.
    fn write(&self, to: &mut Pipeline, op: &Op) {
        match op {
            Op::Put { handle, room, entry, lives, ends, news } => {
                let Some(value) = self.sealed(handle, *room, entry) else { return };
                let lives = u64::try_from(lives.as_millis()).unwrap_or(u64::MAX).max(1);
                to.cmd("SET").arg(self.key(handle)).arg(value).arg("PX").arg(lives);
                match ends {
                    Some(ends) => to.cmd("ZADD").arg(self.name("ends")).arg(*ends).arg(hex(&handle.0)),
                    None => to.cmd("ZREM").arg(self.name("ends")).arg(hex(&handle.0)),
                };
                if *news {
                    self.announce(to, handle);
                }
            }
            Op::Remove(handle) => {
                to.cmd("DEL").arg(self.key(handle));
                to.cmd("ZREM").arg(self.name("ends")).arg(hex(&handle.0));
                self.announce(to, handle);
            }
            Op::Ask { .. } => {}
        }
    }
}

/// The task that talks to Redis.
pub struct Task {
    server: Server,
    ends: Ends,
    /// Taken out of the queue and not yet done.
    under_way: VecDeque<Op>,
    /// The last entry of the stream that was read. All of it is, at the start: what the snapshot
    /// brought back may be older.
    heard: String,
    /// True while there is no connection, or one on which something is refused; each is said once.
    failing: bool,
    refused: bool,
}

impl Task {
    pub(super) fn new(server: Server, ends: Ends) -> Task {
        Task { server, ends, under_way: VecDeque::new(), heard: "0".into(), failing: false, refused: false }
    }

    /// Runs until the pipeline is gone and everything it said is written, or the first failure after
    /// that.
    pub async fn run(mut self) {
        let mut pause = AGAIN;
        loop {
            let error = match self.server.host.connect().await {
                Err(error) => error,
                Ok(mut connected) => match self.serve(&mut connected, &mut pause).await {
                    Ok(()) => return,
                    Err(error) => error,
                },
            };
            self.up(false);
            // Said once, until it works again.
            if !std::mem::replace(&mut self.failing, true) {
                tracing::warn!("sessions are not shared at present: {error}; what is to be written waits");
            }
            if self.ends.ops.is_closed() {
                let lost = self.under_way.len() + self.ends.ops.len();
                self.ends.metrics.share_write("dropped", lost as u64);
                return;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
        }
    }

    fn up(&self, up: bool) {
        self.ends.up.store(up, Relaxed);
        self.ends.metrics.share_up.set(i64::from(up));
    }

    /// Works until the pipeline is gone.
    async fn serve(&mut self, connected: &mut Connected, pause: &mut Duration) -> Result<(), SinkError> {
        // Before any question is answered: what was said meanwhile, by this replica and by others.
        self.work(connected).await?;
        self.listen(connected).await?;
        self.up(true);
        *pause = AGAIN;
        if std::mem::take(&mut self.failing) {
            tracing::info!("sessions are shared again");
        }
        let (mut listen, mut expire) = (interval(LISTEN_EVERY), interval(EXPIRE_EVERY));
        listen.set_missed_tick_behavior(MissedTickBehavior::Delay);
        expire.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ops = Vec::with_capacity(TOGETHER);
        loop {
            tokio::select! {
                // However much there is to do: these come seldom.
                biased;
                _ = listen.tick() => self.listen(connected).await?,
                _ = expire.tick() => self.expire(connected).await?,
                count = self.ends.ops.recv_many(&mut ops, TOGETHER) => {
                    if count == 0 {
                        return Ok(());
                    }
                    self.under_way.extend(ops.drain(..));
                    self.work(connected).await?;
                }
            }
        }
    }

    /// Does what is under way, in order; what was not done stays there after a failure.
    async fn work(&mut self, connected: &mut Connected) -> Result<(), SinkError> {
        while !self.under_way.is_empty() {
            let count = self.under_way.len().min(TOGETHER);
            let mut pipeline = Pipeline::with_capacity(2 * count);
            pipeline.ignore_errors();
            let mut places = Vec::new();
            for op in self.under_way.iter().take(count) {
                let place = pipeline.len();
                match op {
                    Op::Ask { handles, until, .. } if Instant::now() < *until => {
                        let get = pipeline.cmd("MGET");
                        for handle in handles {
                            get.arg(self.server.key(handle));
                        }
                        places.push(Some(place));
                    }
                    Op::Ask { .. } => places.push(None),
                    op => {
                        self.server.write(&mut pipeline, op);
                        places.push(Some(place));
                    }
                }
            }
            let replies = self.send(connected, &pipeline).await?;
            let done: Vec<Op> = self.under_way.drain(..count).collect();
            for (i, (op, place)) in done.into_iter().zip(&places).enumerate() {
                let Some(place) = *place else { continue };
                let next = places.get(i + 1..).and_then(|rest| rest.iter().flatten().next());
                let replies = replies.get(place..next.copied().unwrap_or(replies.len())).unwrap_or_default();
                self.done(op, replies);
            }
        }
        Ok(())
    }

    fn done(&mut self, op: Op, replies: &[Result<Value, RedisError>]) {
        let refused = replies.iter().find_map(|reply| reply.as_ref().err());
        match refused {
            Some(error) => self.told(error),
            None => self.refused = false,
        }
        let Op::Ask { handles, answer, .. } = op else {
            self.ends.metrics.share_write(if refused.is_some() { "refused" } else { "written" }, 1);
            return;
        };
        // Without an answer the pipeline counts the question as failed.
        let Some(Ok(Value::Array(values))) = replies.first() else { return };
        let found = handles.into_iter().zip(values).filter_map(|(handle, value)| match value {
            Value::BulkString(value) => self.server.opened(handle, value),
            _ => None,
        });
        // It may have given up waiting.
        let _ = answer.try_send(found.collect());
    }

    /// Redis is there, and does not do what it is asked.
    fn told(&mut self, error: &RedisError) {
        if !std::mem::replace(&mut self.refused, true) {
            tracing::warn!("sessions are not shared as they should be: {}", self.server.host.told(error));
        }
    }

    /// What others said since the last look.
    async fn listen(&mut self, connected: &mut Connected) -> Result<(), SinkError> {
        // As long as there is room for all of it; what is not read now is read later.
        while self.ends.news.capacity() >= AT_ONCE {
            let mut pipeline = Pipeline::with_capacity(1);
            let read = pipeline.cmd("XREAD").arg("COUNT").arg(AT_ONCE).arg("STREAMS");
            read.arg(self.server.name("news")).arg(&self.heard);
            pipeline.ignore_errors();
            let replies = self.send(connected, &pipeline).await?;
            let entries = match replies.into_iter().next() {
                Some(Ok(reply)) => entries(reply),
                Some(Err(error)) => {
                    self.told(&error);
                    return Ok(());
                }
                None => Vec::new(),
            };
            let count = entries.len();
            for (id, handle, writer) in entries {
                self.heard = id;
                if let Some(handle) = handle.filter(|_| writer != self.server.writer) {
                    // There is room, as nobody else sends.
                    let _ = self.ends.news.try_send(News::Stale(handle));
                }
            }
            if count < AT_ONCE {
                break;
            }
        }
        Ok(())
    }

    /// Takes over what was not used for too long.
    async fn expire(&mut self, connected: &mut Connected) -> Result<(), SinkError> {
        if self.ends.news.capacity() < AT_ONCE {
            return Ok(());
        }
        let mut pipeline = Pipeline::with_capacity(1);
        let eval = pipeline.cmd("EVAL").arg(EXPIRE).arg(2).arg(self.server.name("ends")).arg(self.server.name("news"));
        eval.arg(Timestamp::now().as_millis()).arg(AT_ONCE).arg(self.server.name("s:")).arg(STREAM);
        pipeline.ignore_errors();
        let replies = self.send(connected, &pipeline).await?;
        let found = match replies.into_iter().next() {
            Some(Ok(Value::Array(found))) => found,
            Some(Err(error)) => {
                self.told(&error);
                return Ok(());
            }
            _ => Vec::new(),
        };
        for pair in found.chunks_exact(2) {
            let [Value::BulkString(hash), Value::BulkString(value)] = pair else { continue };
            let found = handle(hash).and_then(|handle| self.server.opened(handle, value));
            if let Some((_, _, entry)) = found {
                let _ = self.ends.news.try_send(News::Expired(entry));
            }
        }
        Ok(())
    }

    async fn send(
        &self,
        connected: &mut Connected,
        pipeline: &Pipeline,
    ) -> Result<Vec<Result<Value, RedisError>>, SinkError> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        match timeout(ANSWER, pipeline.query_async(&mut connected.connection)).await {
            Ok(replies) => replies.map_err(|error| self.server.host.told(&error)),
            Err(_) => Err(self.server.silent()),
        }
    }
}

/// Id, hash and writer of each entry of the one stream that was read (`XREAD`, RESP2).
fn entries(reply: Value) -> Vec<(String, Option<Handle>, String)> {
    fn list(value: Value) -> Vec<Value> {
        if let Value::Array(list) = value { list } else { Vec::new() }
    }
    fn text(value: Value) -> String {
        if let Value::BulkString(text) = value { String::from_utf8_lossy(&text).into_owned() } else { String::new() }
    }
    let streams = list(reply).into_iter().filter_map(|stream| list(stream).into_iter().nth(1));
    let entries = streams.flat_map(list).filter_map(|entry| {
        let mut parts = list(entry).into_iter();
        let (id, fields) = (text(parts.next()?), list(parts.next()?));
        let mut said = (None, String::new());
        let mut fields = fields.into_iter().map(text);
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            match name.as_str() {
                "h" => said.0 = handle(value.as_bytes()),
                "w" => said.1 = value,
                _ => {}
            }
        }
        Some((id, said.0, said.1))
    });
    entries.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn handle(hex: &[u8]) -> Option<Handle> {
    let hex = std::str::from_utf8(hex).ok().filter(|hex| hex.len() == 32 && hex.is_ascii())?;
    Some(Handle(u128::from_str_radix(hex, 16).ok()?.to_be_bytes()))
}
