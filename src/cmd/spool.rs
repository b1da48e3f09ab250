//! `authtap spool info | verify | replay`: what the store holds, whether it is whole, and sending a
//! sink again what it had.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{DIFFERENT, FAILED, USAGE, complain, events, print};
use crate::cli::{Replay, Spool, SpoolCommand};
use crate::config::settings::{DEFAULT_DATA, parse_listen};
use crate::event::Timestamp;
use crate::history::{History, HistoryError, state};
use crate::spool::store::lock;

/// How long the admin listener may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most of its answer that is read, in bytes.
const ANSWER: u64 = 16 << 10;

/// Carries it out.
pub fn run(options: &Spool) -> u8 {
    let folder = options.data.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_DATA));
    match &options.command {
        SpoolCommand::Info { json } => match info(&folder, *json) {
            Ok(text) => print(&text),
            Err(error) => events::finish(Err(error)),
        },
        SpoolCommand::Verify => match History::open(&folder).and_then(|history| history.verify()) {
            Ok(wrong) if wrong.is_empty() => print("the event store is whole\n"),
            Ok(wrong) => {
                print(&format!("{}\n", wrong.join("\n")));
                DIFFERENT
            }
            Err(error) => events::finish(Err(error)),
        },
        SpoolCommand::Replay(replay) => again(&folder, replay),
    }
}

fn info(folder: &Path, json: bool) -> Result<String, HistoryError> {
    let info = History::open(folder)?.info()?;
    if json {
        let value = serde_json::to_value(&info).map_err(std::io::Error::other)?;
        return Ok(format!("{value:#}\n"));
    }
    let moment = |at: Option<Timestamp>| at.map_or("-".into(), |at| at.to_string());
    let mut text = format!(
        "{}{}\n{:.1} MB, {} events (positions {} to {}), from {} to {}\ntexts searchable up to {}, tables of version {}\n",
        info.file,
        if info.in_use { ", in use by a running authtap" } else { "" },
        info.bytes as f64 / 1e6,
        info.events,
        info.oldest,
        info.newest,
        moment(info.from),
        moment(info.to),
        info.searchable,
        info.version,
    );
    for sink in &info.sinks {
        text.push_str(&format!(
            "\nsink {}: at {}, waiting {} events, {} bytes, {} s; delivered {}, not wanted {}, refused {} ({} dead letters), given up {}; moved {}\n",
            sink.sink,
            sink.position,
            sink.lag_events,
            sink.lag_bytes,
            sink.lag_seconds,
            sink.delivered,
            sink.filtered,
            sink.refused,
            sink.dead_letters,
            sink.skipped,
            sink.updated,
        ));
    }
    Ok(text)
}

fn again(folder: &Path, options: &Replay) -> u8 {
    let since = match options.from.as_deref().map(|text| events::moment("--from", text)).transpose() {
        Ok(since) => since.map(|since| since.moment()),
        Err(why) => {
            complain(&why);
            return USAGE;
        }
    };
    if since.is_none() && !options.dead_letters {
        complain("say what to send again: --from T, --dead-letters, or both");
        return USAGE;
    }
    if lock::is_held(folder) {
        return ask(options, since);
    }
    match state::rewind(folder, &options.sink, since, options.dead_letters) {
        Ok(position) => print(&format!("sink {} goes on after position {position} at the next start\n", options.sink)),
        Err(error) => events::finish(Err(error)),
    }
}

/// Asks the running proxy: the file is its own.
fn ask(options: &Replay, since: Option<Timestamp>) -> u8 {
    let address = match parse_listen(&options.admin) {
        Ok(address) => address,
        Err(why) => {
            complain(&why);
            return USAGE;
        }
    };
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("sink", &options.sink);
    if let Some(since) = since {
        query.append_pair("from", &since.to_string());
    }
    if options.dead_letters {
        query.append_pair("dead_letters", "true");
    }
    let token = std::env::var(&options.token_env).ok().filter(|token| !token.is_empty());
    match post(address, &query.finish(), token.as_deref()) {
        Ok((200, said)) => print(&said),
        Ok((status, said)) => {
            complain(&format!("the running authtap refused with status {status}: {}", said.trim()));
            FAILED
        }
        Err(error) => {
            complain(&format!(
                "a running authtap has the data folder, and its admin listener does not answer at {address}: {error}; name it with --admin"
            ));
            FAILED
        }
    }
}

fn post(address: SocketAddr, query: &str, token: Option<&str>) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let token = match token {
        Some(token) if token.chars().any(char::is_control) => {
            return Err(std::io::Error::other("the token has characters that cannot be sent"));
        }
        Some(token) => format!("authorization: Bearer {}\r\n", token.trim()),
        None => String::new(),
    };
    stream.write_all(
        format!(
            "POST /replay?{query} HTTP/1.1\r\nhost: {address}\r\n{token}content-length: 0\r\nconnection: close\r\n\r\n"
        )
        .as_bytes(),
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other("that is no answer in HTTP"))?;
    Ok((status, body.chars().filter(|c| *c == '\n' || !c.is_control()).collect()))
}
