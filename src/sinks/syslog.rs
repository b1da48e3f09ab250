//! Syslog: one message of RFC 5424 an event, over UDP (RFC 5426), TCP (RFC 6587) or TLS (RFC 5425).
//!
//! Syslog acknowledges nothing. Over TCP and TLS [`Stream`] writes the last batch again if its
//! connection broke; over UDP a datagram that is lost is lost. It must never cut a message: one
//! that is longer than the bound is refused, since half a JSON document is worth nothing. Nothing
//! that a client sent stands in the header of a message.

use std::fmt::Write;
use std::io;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::net::address::Address;
use super::net::link::LinkPlan;
use super::net::stream::{Stream, To};
use super::net::{TIMEOUT, check_timeout};
use super::{BoxFuture, BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan, Verdict};
use crate::config::node::{Map, clip};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::event::{Event, Outcome, notice};
use crate::format;
use crate::spool::Stored;
use crate::tls::client::{ClientPlan, RECEIVER};

#[cfg(test)]
mod tests;

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "syslog",
    doc: "syslog (RFC 5424) over UDP, TCP or TLS; with `format: cef` or `leef` what a SIEM expects",
    fields: FIELDS,
    formats: Formats::Any("native"),
    check,
};

const FIELDS: &[Field] = &[
    Field::required(
        "address",
        Kind::Str,
        "the receiver, HOST or HOST:PORT; without a port 514, 601 over tcp, 6514 over tls",
    ),
    Field::new(
        "transport",
        Kind::Word(TRANSPORTS),
        "udp",
        "how messages travel; only `tls` keeps them from being read on the way",
    ),
    Field::new(
        "framing",
        Kind::Word(FRAMINGS),
        "octet",
        "over tcp and tls: `octet` counts the bytes of each message (RFC 6587 section 3.4.1), `line` ends each with a line end",
    ),
    Field::new("facility", Kind::Word(FACILITIES), "authpriv", "the facility of RFC 5424 table 1"),
    Field::new("hostname", Kind::Str, "", "the host that messages name; without it the name of this system"),
    Field::new("app_name", Kind::Str, "authtap", "the application that messages name"),
    Field::new(
        "max_bytes",
        Kind::Size,
        "",
        "the longest message; a longer one is refused, never cut. Without it 8KiB over udp, 64KiB otherwise",
    ),
    Field::new("tls", RECEIVER, "", "settings of `transport: tls`; without it the usual"),
    TIMEOUT,
    format::field("native"),
];

const TRANSPORTS: &[&str] = &["udp", "tcp", "tls"];
const FRAMINGS: &[&str] = &["octet", "line"];

/// In the order of their codes (RFC 5424 table 1).
const FACILITIES: &[&str] = &[
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp",
    "security", "console", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

const AUTHPRIV: usize = 10;
/// What rsyslog takes unless told otherwise, and a datagram carries.
const MAX_UDP: u64 = 8 * 1024;
const MAX_STREAM: u64 = 64 * 1024;
/// The bounds of `max_bytes`: every receiver takes the least (RFC 5424 section 6.1); no datagram is
/// longer than the second.
const LEAST: u64 = 480;
const MOST_UDP: u64 = 65_000;
const MOST_STREAM: u64 = 1 << 20;
/// The longest message id and application name (RFC 5424 section 6).
const MAX_MSGID: usize = 32;
const MAX_APP_NAME: usize = 48;
const MAX_HOSTNAME: usize = 255;
/// A name is looked up anew this often, so that datagrams follow a receiver that moved.
const LOOK_UP: Duration = Duration::from_secs(60);

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let transport = map.one_of("transport", TRANSPORTS, problems).unwrap_or("udp");
    let usual = match transport {
        "tls" => 6514,
        "tcp" => 601,
        _ => 514,
    };
    let address = map.get("address").and_then(|at| Address::check(at, Some(usual), problems));
    let timeout = check_timeout(map, problems);
    let tls = match (transport, map.get("tls")) {
        ("tls", settings) => ClientPlan::check_receiver(settings, problems).map(Some),
        (_, None) => Some(None),
        (_, Some(at)) => {
            problems.error_hint(at, format!("`tls` does nothing over {transport}"), "write transport: tls");
            None
        }
    };
    if let (Some(at), "udp") = (map.get("framing"), transport) {
        problems.error_hint(at, "`framing` does nothing over udp".into(), "a datagram is a message: leave it out");
    }
    let counted = map.one_of("framing", FRAMINGS, problems) != Some("line");
    let facility = map.one_of("facility", FACILITIES, problems);
    let facility = facility.and_then(|word| FACILITIES.iter().position(|f| *f == word)).unwrap_or(AUTHPRIV);
    let (usual, most) = if transport == "udp" { (MAX_UDP, MOST_UDP) } else { (MAX_STREAM, MOST_STREAM) };
    let max = map.get("max_bytes").map_or(Some(usual), |at| {
        let max = at.size(problems)?;
        if !(LEAST..=most).contains(&max) {
            let hint = format!("from {LEAST}B to {most}B over {transport}");
            problems.error_hint(at, format!("`max_bytes` cannot be {}", at.describe()), &hint);
            return None;
        }
        Some(max)
    });
    let hostname = check_name(map, "hostname", MAX_HOSTNAME, problems);
    let app_name = check_name(map, "app_name", MAX_APP_NAME, problems);
    let (address, timeout) = (address?, timeout?);
    let carrier = match transport {
        "udp" => CarrierPlan::Datagrams { address, timeout },
        _ => CarrierPlan::Stream { link: LinkPlan { address, tls: tls?, timeout }, counted },
    };
    Some(Box::new(Plan {
        carrier,
        facility,
        hostname: hostname?,
        app_name: app_name?,
        max: usize::try_from(max?).unwrap_or(usize::MAX),
    }))
}

/// A word of the header; `Some(None)` if it is absent.
fn check_name(map: &Map<'_>, key: &str, max: usize, problems: &mut Problems) -> Option<Option<String>> {
    let Some(at) = map.get(key) else { return Some(None) };
    let text = at.str(problems)?;
    if text.is_empty() || text.len() > max || !text.bytes().all(|b| b.is_ascii_graphic()) {
        let hint = format!("1 to {max} visible ASCII characters without spaces");
        problems.error_hint(at, format!("`{key}` cannot be `{}`", clip(text)), &hint);
        return None;
    }
    Some(Some(text.to_owned()))
}

#[derive(Debug)]
struct Plan {
    carrier: CarrierPlan,
    /// Its code in RFC 5424 table 1.
    facility: usize,
    hostname: Option<String>,
    app_name: Option<String>,
    max: usize,
}

#[derive(Debug)]
enum CarrierPlan {
    Datagrams { address: Address, timeout: Duration },
    Stream { link: LinkPlan, counted: bool },
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        let hostname = self.hostname.clone().unwrap_or_else(own_name);
        let app_name = self.app_name.as_deref().unwrap_or("authtap");
        let carrier = match &self.carrier {
            CarrierPlan::Datagrams { address, timeout } => {
                Carrier::Datagrams { address: address.clone(), timeout: *timeout, socket: Mutex::default() }
            }
            CarrierPlan::Stream { link, counted } => {
                Carrier::Stream { stream: Stream::new(To::Tcp(link.build(&cx.base)?)), counted: *counted }
            }
        };
        let origin = format!("{hostname} {app_name} {}", std::process::id());
        Ok(Box::new(Syslog { carrier, facility: self.facility, origin, max: self.max }))
    }
}

/// The name of this system, or `-` (RFC 5424 section 6.2.4) if it has none.
fn own_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
    let name = name.unwrap_or_default();
    let name: String = name.trim().chars().filter(char::is_ascii_graphic).take(MAX_HOSTNAME).collect();
    if name.is_empty() { "-".into() } else { name }
}

struct Syslog {
    carrier: Carrier,
    facility: usize,
    /// Host, application and process, as they stand in every header.
    origin: String,
    max: usize,
}

enum Carrier {
    Datagrams { address: Address, timeout: Duration, socket: Mutex<Option<(UdpSocket, Instant)>> },
    Stream { stream: Stream, counted: bool },
}

impl Sink for Syslog {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            let mut long = Vec::new();
            let mut messages = Vec::with_capacity(batch.len());
            for (place, one) in batch.iter().enumerate() {
                let message = message(&one.event, &one.line, self.facility, &self.origin);
                if message.len() > self.max { long.push(place) } else { messages.push((place, message)) }
            }
            match self.carrier.carry(&messages, &mut long).await {
                Err(why) => Verdict::Retry { after: None, why },
                Ok(()) if long.is_empty() => Verdict::Delivered,
                Ok(()) => {
                    long.sort_unstable();
                    let why = format!("longer than `max_bytes` ({}) or than the network carries", self.max);
                    Verdict::Refused { which: long, why: SinkError::Other(why) }
                }
            }
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            match &self.carrier {
                Carrier::Stream { stream, .. } => stream.probe().await,
                Carrier::Datagrams { address, timeout, .. } => open(address, *timeout).await.map(drop),
            }
        })
    }
}

impl Carrier {
    /// Sends messages, each with its place in the batch; the place of one too long goes into `long`.
    async fn carry(&self, messages: &[(usize, String)], long: &mut Vec<usize>) -> Result<(), SinkError> {
        match self {
            Carrier::Stream { stream, counted } => {
                if messages.is_empty() {
                    return Ok(());
                }
                let mut frames = String::with_capacity(messages.iter().map(|(_, message)| message.len() + 8).sum());
                for (_, message) in messages {
                    // Writing into memory cannot fail.
                    let _ = match counted {
                        true => write!(frames, "{} {message}", message.len()),
                        false => writeln!(frames, "{message}"),
                    };
                }
                stream.write(frames.into_bytes()).await
            }
            Carrier::Datagrams { address, timeout: within, socket } => {
                let mut kept = socket.lock().await;
                let (socket, since) = match kept.take() {
                    Some((socket, since)) if since.elapsed() < LOOK_UP => (socket, since),
                    _ => (open(address, *within).await?, Instant::now()),
                };
                for (place, message) in messages {
                    match timeout(*within, socket.send(message.as_bytes())).await {
                        Ok(Ok(_)) => {}
                        Ok(Err(error)) if is_too_long(&error) => long.push(*place),
                        Ok(Err(error)) => return Err(SinkError::Other(format!("{address}: not sent: {error}"))),
                        Err(_) => return Err(SinkError::Other(format!("{address}: not sent within {within:?}"))),
                    }
                }
                *kept = Some((socket, since));
                Ok(())
            }
        }
    }
}

/// A socket that sends to this address, of the same family.
async fn open(address: &Address, within: Duration) -> Result<UdpSocket, SinkError> {
    let opening = async {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for to in tokio::net::lookup_host((address.host.as_str(), address.port)).await? {
            let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(from).await?;
            match socket.connect(to).await {
                Ok(()) => return Ok(socket),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    match timeout(within, opening).await {
        Ok(result) => result.map_err(|error| SinkError::Other(format!("{address}: no socket: {error}"))),
        Err(_) => Err(SinkError::Other(format!("{address}: its name was not found within {within:?}"))),
    }
}

/// EMSGSIZE: no datagram can be that long.
fn is_too_long(error: &io::Error) -> bool {
    // 90 on Linux, 40 on the BSDs; the standard library has no name for it yet.
    matches!(error.raw_os_error(), Some(90)) && cfg!(target_os = "linux")
        || matches!(error.raw_os_error(), Some(40)) && !cfg!(target_os = "linux")
}

/// One message (RFC 5424 section 6). The line goes without a byte order mark, as octets of any
/// kind may (`MSG-ANY`): readers of JSON stumble over the mark.
fn message(event: &Event, line: &str, facility: usize, origin: &str) -> String {
    let priority = facility * 8 + severity(event);
    let event_type = event.event_type.as_str();
    let id = event_type.get(..MAX_MSGID).unwrap_or(event_type);
    format!("<{priority}>1 {} {origin} {id} - {line}", event.timestamp)
}

/// RFC 5424 table 2: a finding or a loss is a warning, what was refused a notice, the rest
/// informational.
fn severity(event: &Event) -> usize {
    let event_type = event.event_type.as_str();
    match event.outcome {
        _ if event_type.starts_with("detection.") || event_type == notice::DROPPED.as_str() => 4,
        Outcome::Failure | Outcome::Rejected => 5,
        Outcome::Success | Outcome::Challenge | Outcome::Requested | Outcome::Unknown | Outcome::Ignore => 6,
    }
}
