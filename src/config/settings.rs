//! The whole file, checked: one field a key, each read by the part it configures.
//!
//! Checking must never touch the world: no disk, network, environment or clock. The invariant: what
//! [`check`] answers has no error in it, and every part was looked at, so that all problems are told
//! at once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::collide;
use super::node::{Map, Node, Value, clip};
use super::problem::Problems;
use super::shape::{Field, Kind};
use crate::capture;
use crate::enrich::{self, EnrichPlan};
use crate::hint::{self, Hint};
use crate::identity::{self, IdentityPlan};
use crate::proxy::access_log;
use crate::proxy::balance::{self, Upstreams};
use crate::proxy::client_ip::{self, ClientIp};
use crate::proxy::client_tls;
use crate::proxy::forwarded::{self, Policy};
use crate::proxy::limits::{self, Limits};
use crate::proxy::proxy_protocol;
use crate::proxy::upstream::{self, Timeouts};
use crate::replicas::SharePlan;
use crate::rules::{RuleSet, declared, presets, route};
use crate::session::{self, SessionConfig};
use crate::sinks::{self, SinkSpec};
use crate::spool::{self, settings::SpoolSettings};
use crate::tls::client::{self, ClientPlan};
use crate::tls::server::{self, ServerPlan};
use crate::traces::{self, TracesPlan};

/// Where the proxy listens without `listen:`.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:8080";
/// Where the admin listener listens without `admin:`.
pub const DEFAULT_ADMIN: &str = "127.0.0.1:9977";
/// The data folder without `data:` and `--data`.
pub const DEFAULT_DATA: &str = "authtap-data";

/// The longest path of a Unix socket: `sun_path` of unix(7), less the zero at its end.
const MAX_SOCKET_PATH: usize = 107;

const LISTEN: &[Field] = &[
    Field::required("address", Kind::Str, "HOST:PORT, or unix:/PATH of a socket"),
    Field::new("tls", Kind::Map(server::FIELDS), "", "TLS on this listener, with HTTP/2 and HTTP/1.1 by ALPN"),
    Field::new(
        "proxy_protocol",
        proxy_protocol::KIND,
        "off",
        "the PROXY protocol (versions 1 and 2) before everything else",
    ),
];

const ADMIN: &[Field] = &[
    Field::new(
        "listen",
        Kind::Str,
        DEFAULT_ADMIN,
        "HOST:PORT of /healthz, /readyz, /metrics, /events, /config and /reload",
    ),
    Field::new("token_env", Kind::Str, "", "environment variable that holds the bearer token; demanded off loopback"),
];

/// The keys of the file.
pub const FIELDS: &[Field] = &[
    Field::required("version", Kind::Int(1, 1), "the version of this file's format: 1"),
    Field::new(
        "listen",
        Kind::OneOrList(&Kind::Any(&[Kind::Str, Kind::Map(LISTEN)])),
        DEFAULT_LISTEN,
        "where clients come in, HOST:PORT or unix:/run/authtap.sock, or several",
    ),
    Field::new(
        "upstream",
        balance::KIND,
        "",
        "the application: http://HOST:PORT, https://HOST:PORT or unix:/run/app.sock, or several addresses used in turn",
    ),
    Field::new("upstream_tls", Kind::Map(client::FIELDS), "", "TLS towards an https: upstream; without it the usual"),
    Field::new(
        "workers",
        Kind::Any(&[Kind::Word(&["auto"]), Kind::Int(1, 256)]),
        "auto",
        "traffic threads; auto is one a core",
    ),
    Field::new("client_ip", Kind::Map(client_ip::FIELDS), "", "whom to believe about the client's address"),
    Field::new("forwarded", forwarded::KIND, "append", "what the application is told about the client"),
    Field::new(
        "tls_header",
        Kind::Map(client_tls::BELIEVED),
        "",
        "headers by which a trusted proxy that ends TLS says what it knows of the client's",
    ),
    Field::new(
        "client_cert",
        Kind::Map(client_tls::TOLD),
        "",
        "headers by which the application is told of a client's verified certificate",
    ),
    Field::new("limits", Kind::Map(limits::FIELDS), "", "what is allowed of connections and requests"),
    Field::new("timeouts", Kind::Map(upstream::TIMEOUT_FIELDS), "", "times allowed"),
    Field::new(
        "auto",
        Kind::Bool,
        "off",
        "recognise logins and their like where no route is about them; on by itself without a file",
    ),
    Field::new(
        "presets",
        presets::SEVERAL,
        "[]",
        "routes that are shipped, by application; those of the file come first, and take the place of one with their id",
    ),
    Field::new("preset", presets::ONE, "", "the same, for one"),
    Field::new(
        "session",
        Kind::Map(session::FIELDS),
        "",
        "where the application's sessions are carried, so that later events know their actor",
    ),
    Field::new("identity", Kind::Map(identity::FIELDS), "raw", "how much of who somebody is an event says"),
    Field::new(
        "hint",
        Kind::Map(hint::FIELDS),
        "off",
        "a response header by which the application itself names events",
    ),
    Field::new(
        "method_override",
        Kind::Bool,
        "false",
        "in every route of the file a POST counts as the method it names, as `match.method_override` says for one",
    ),
    Field::new("capture", Kind::Map(capture::FIELDS), "", "how much of a body is copied for the rules"),
    enrich::geoip::FIELD,
    enrich::user_agent::FIELD,
    Field::new("admin", Kind::Any(&[Kind::Word(&["on", "off"]), Kind::Map(ADMIN)]), "on", "the admin listener, or off"),
    Field::new("access_log", access_log::KIND, "off", "one JSON line a request, without queries and secrets"),
    Field::new("traces", traces::KIND, "off", "a span for each request, to an OpenTelemetry collector"),
    Field::new("data", Kind::Str, "authtap-data", "folder for what must outlive the process"),
    spool::settings::DURABILITY,
    spool::settings::RETENTION,
    Field::new(
        "routes",
        Kind::List(&Kind::Map(route::FIELDS)),
        "[]",
        "what to look for, in order: the first route that matches decides",
    ),
    Field::new(
        "sinks",
        Kind::OneOrList(&Kind::Tagged("sink", sinks::schema_table)),
        "[{ type: stdout }]",
        "where events go",
    ),
];

/// A checked configuration. Nothing in it has touched the world yet.
#[derive(Debug)]
pub struct Config {
    /// Where clients come in.
    pub listen: Vec<Listen>,
    /// The application, unless only the command line names it.
    pub upstream: Option<Upstreams>,
    /// TLS towards it, unless the default will do.
    pub upstream_tls: Option<ClientPlan>,
    /// Traffic threads; `None` is one a core.
    pub workers: Option<usize>,
    /// Whom to believe about the client's address.
    pub client_ip: ClientIp,
    /// What the application is told about the client.
    pub forwarded: Policy,
    /// What is believed and told about the client's TLS.
    pub client_tls: client_tls::Policy,
    /// Times allowed.
    pub timeouts: Timeouts,
    /// Where sessions are carried.
    pub session: SessionConfig,
    /// How much of who somebody is an event says.
    pub identity: IdentityPlan,
    /// The header by which the application names events, if it is believed.
    pub hint: Option<Hint>,
    /// How much of a body is copied.
    pub capture: capture::Limits,
    /// Capture without routes.
    pub auto: bool,
    /// What is allowed of connections and requests.
    pub limits: Limits,
    /// What is added to events.
    pub enrich: EnrichPlan,
    /// The admin listener; `None` is off.
    pub admin: Option<Admin>,
    /// Where the access log goes; `None` is off.
    pub access_log: Option<access_log::Target>,
    /// Where spans of requests go; `None` is off.
    pub traces: Option<TracesPlan>,
    /// Folder for what must outlive the process.
    pub data: PathBuf,
    /// When events are on disk, and for how long.
    pub spool: SpoolSettings,
    /// What to look for.
    pub rules: Arc<RuleSet>,
    /// The presets among it.
    pub presets: Vec<presets::Chosen>,
    /// Where events go.
    pub sinks: Vec<SinkSpec>,
    /// Relative paths in the file are relative to this folder.
    pub base: PathBuf,
}

/// Where one listens for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAt {
    /// An address and port.
    Tcp(SocketAddr),
    /// A Unix socket, by the absolute path of its file.
    Unix(PathBuf),
}

impl From<SocketAddr> for ListenAt {
    fn from(address: SocketAddr) -> Self {
        ListenAt::Tcp(address)
    }
}

impl std::fmt::Display for ListenAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ListenAt::Tcp(address) => address.fmt(f),
            ListenAt::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl ListenAt {
    /// Reads `unix:/PATH`, or HOST:PORT as [`parse_listen`] does.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<ListenAt, String> {
        let Some(path) = text.strip_prefix("unix:") else { return parse_listen(text).map(ListenAt::Tcp) };
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
            return Err(format!("`{}` is not the absolute path of a socket", clip(path)));
        }
        if path.len() > MAX_SOCKET_PATH {
            return Err(format!("the path of a socket has at most {MAX_SOCKET_PATH} bytes, this has {}", path.len()));
        }
        Ok(ListenAt::Unix(path.into()))
    }
}

/// One place where clients come in.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Where.
    pub address: ListenAt,
    /// TLS, if it is spoken there.
    pub tls: Option<ServerPlan>,
    /// Whose PROXY headers are believed there, if any.
    pub proxy_protocol: Option<Arc<proxy_protocol::Policy>>,
}

impl Listen {
    /// Plain HTTP.
    pub fn plain(address: impl Into<ListenAt>) -> Listen {
        Listen { address: address.into(), tls: None, proxy_protocol: None }
    }

    /// As `/config` shows it.
    pub fn shown(&self) -> serde_json::Value {
        let (tls, proxied) = (self.tls.is_some(), self.proxy_protocol.is_some());
        serde_json::json!({"address": self.address.to_string(), "tls": tls, "proxy_protocol": proxied})
    }
}

/// The settings that only a start can follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    listen: Vec<ListenAt>,
    secured: Vec<Option<ServerPlan>>,
    /// Policies have no equality; their text tells them apart.
    proxy_protocol: Vec<String>,
    workers: Option<usize>,
    admin: Option<Admin>,
    data: PathBuf,
    spool: SpoolSettings,
    share: Option<SharePlan>,
}

impl Config {
    /// What of it only a start can follow.
    pub fn start(&self) -> Start {
        Start {
            listen: self.listen.iter().map(|l| l.address.clone()).collect(),
            secured: self.listen.iter().map(|l| l.tls.clone()).collect(),
            proxy_protocol: self.listen.iter().map(|l| format!("{:?}", l.proxy_protocol)).collect(),
            workers: self.workers,
            admin: self.admin.clone(),
            data: self.data.clone(),
            spool: self.spool,
            share: self.session.share.clone(),
        }
    }

    /// True if a running program that was started with `before` cannot follow all of it.
    pub fn needs_restart_over(&self, before: &Start) -> bool {
        self.start() != *before
    }
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where.
    pub listen: SocketAddr,
    /// The variable that holds the token.
    pub token_env: Option<String>,
}

/// Reads and checks a file's text. `file` is its name for messages.
pub fn check(file: &str, source: &str) -> (Option<Config>, Problems) {
    let mut problems = Problems::new(file, source);
    let config = Node::parse(source, &mut problems).and_then(|root| checked(&root, file, &mut problems));
    let config = config.filter(|_| !problems.has_errors());
    (config, problems)
}

fn checked(root: &Node, file: &str, problems: &mut Problems) -> Option<Config> {
    let map = root.map(FIELDS, problems)?;
    version(&map, problems);
    let mut session = SessionConfig::check(map.get("session"), problems);
    let mut asked = presets::check(&map, problems);
    presets::merge_sessions(&mut asked, map.get("session"), &mut session);
    session.check_shared(map.get("session"), problems);
    let shipped = asked.iter_mut().flat_map(|preset| preset.routes(&session, problems)).collect();
    let routes = map.list("routes", problems);
    let overridden = map.bool("method_override", problems) == Some(true);
    let rules = RuleSet::check_with(routes, shipped, &session.cookies, overridden, problems);
    for route in routes {
        declared::check(route, &session, false, problems);
    }
    let sinks = match map.get("sinks") {
        Some(at) => sinks::check_all(at, problems),
        None => standard_output(problems),
    };
    let base = Path::new(file).parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    collide::check(&map, base, problems);
    // Every part is read before the first of them may end the reading.
    let client_ip = ClientIp::check(map.get("client_ip"), problems);
    let forwarded = Policy::check(map.get("forwarded"), problems);
    let client_ip = client_ip.unwrap_or_default();
    let client_tls = client_tls::Policy::check(&map, &client_ip, problems);
    Some(Config {
        listen: listen(&map, &client_ip, problems),
        upstream_tls: upstream_tls(&map, problems),
        upstream: upstream(&map, problems),
        workers: workers(&map, problems),
        client_ip,
        forwarded: forwarded.unwrap_or_default(),
        client_tls,
        timeouts: Timeouts::check(map.get("timeouts"), problems),
        session,
        hint: Hint::check(map.get("hint"), problems),
        identity: IdentityPlan::check(map.get("identity"), problems),
        limits: Limits::check(map.get("limits"), problems),
        capture: capture::Limits::check(map.get("capture"), problems),
        auto: map.bool("auto", problems).unwrap_or(false),
        enrich: enrich::check(&map, problems),
        admin: admin(&map, problems),
        access_log: access_log::check(map.get("access_log"), problems),
        traces: TracesPlan::check(map.get("traces"), problems),
        data: map.str("data", problems).map_or_else(|| DEFAULT_DATA.into(), |named| base.join(named)),
        spool: SpoolSettings::check(map.get("durability"), map.get("retention"), problems),
        rules: Arc::new(rules),
        presets: asked.into_iter().map(|preset| preset.chosen).collect(),
        sinks,
        base: base.to_owned(),
    })
}

fn version(map: &Map<'_>, problems: &mut Problems) {
    let Some(node) = map.get("version") else { return };
    if node.scalar() != Some("1") {
        let message = format!("there is no version {} of this format", node.describe());
        problems.error_hint(node, message, "write `version: 1`; it is not the version of your own file");
    }
}

/// Without `sinks:`, events go to standard output.
fn standard_output(problems: &mut Problems) -> Vec<SinkSpec> {
    let source = "type: stdout";
    let mut none = Problems::new(&problems.file, source);
    Node::parse(source, &mut none).and_then(|node| sinks::check(&node, &mut none)).into_iter().collect()
}

fn address(node: &Node, problems: &mut Problems) -> Option<SocketAddr> {
    let text = node.str(problems)?;
    match parse_listen(text) {
        Ok(address) => Some(address),
        Err(why) => {
            problems.error_hint(node, why, &listen_hint(text));
            None
        }
    }
}

fn listen_at(node: &Node, problems: &mut Problems) -> Option<ListenAt> {
    let text = node.str(problems)?;
    if !text.starts_with("unix:") {
        return address(node, problems).map(ListenAt::Tcp);
    }
    match ListenAt::parse(text) {
        Ok(at) => Some(at),
        Err(why) => {
            problems.error_hint(node, why, "write the whole path: unix:/run/authtap.sock");
            None
        }
    }
}

/// What was probably meant by a text that is no address to listen on.
fn listen_hint(text: &str) -> String {
    let authority = text.split_once("://").map_or(text, |(_, rest)| rest).trim_end_matches('/');
    let bracketed = authority.rsplit_once(':').map(|(host, port)| format!("[{host}]:{port}"));
    if text.parse::<u16>().is_ok() {
        format!("did you mean `127.0.0.1:{text}` (this machine only) or `0.0.0.0:{text}` (every address)?")
    } else if authority != text && parse_listen(authority).is_ok() {
        format!("did you mean `{authority}`?")
    } else if let Some(meant) = bracketed.filter(|b| text.matches(':').count() > 1 && parse_listen(b).is_ok()) {
        format!("an IPv6 address stands in brackets: {meant}")
    } else if text.parse::<std::net::IpAddr>().is_ok() {
        "add the port: HOST:PORT, for example 0.0.0.0:8080".into()
    } else {
        "write ADDRESS:PORT, for example 0.0.0.0:8080, [::]:8080 or localhost:8080; other names are not looked up"
            .into()
    }
}

/// The JSON Schema of the file, for editors.
pub fn json_schema() -> serde_json::Value {
    super::shape::json_schema("authtap routes.yaml", FIELDS)
}

/// Reads HOST:PORT; the host may be an address, `localhost`, `*` or nothing (every address).
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let full = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => match text.strip_prefix("*:").or(text.strip_prefix(':')) {
            Some(port) => format!("0.0.0.0:{port}"),
            None => text.to_owned(),
        },
    };
    full.parse().map_err(|_| format!("`{}` is not an address to listen on", clip(text)))
}

fn listen(map: &Map<'_>, client_ip: &ClientIp, problems: &mut Problems) -> Vec<Listen> {
    if map.get("listen").is_none() {
        return parse_listen(DEFAULT_LISTEN).into_iter().map(Listen::plain).collect();
    }
    let items = map.get("listen").map_or(&[][..], |node| node.some(problems)).iter();
    let listens: Vec<Listen> = items
        .filter_map(|item| match item.scalar() {
            Some(_) => listen_at(item, problems).map(Listen::plain),
            None => {
                let inner = item.map(LISTEN, problems)?;
                let address = inner.get("address").and_then(|at| listen_at(at, problems));
                let tls = inner.get("tls").map(|at| ServerPlan::check(at, problems));
                let proxy_protocol = proxy_protocol::Policy::check(inner.get("proxy_protocol"), client_ip, problems);
                if let (Some(ListenAt::Unix(_)), Some(_), Some(at)) =
                    (&address, &proxy_protocol, inner.get("proxy_protocol"))
                {
                    let message = "the PROXY protocol is not read on a Unix socket".into();
                    problems.error_hint(
                        at,
                        message,
                        "take it away; X-Forwarded-For of a Unix socket's peer is believed",
                    );
                }
                Some(Listen { address: address?, tls: tls.flatten(), proxy_protocol: proxy_protocol.map(Arc::new) })
            }
        })
        .collect();
    let by_http = listens.iter().any(|l| l.tls.as_ref().is_some_and(ServerPlan::needs_plain_listener));
    if let Some(at) = map.get("listen").filter(|_| by_http && listens.iter().all(|l| l.tls.is_some())) {
        let hint = "add one that the authority reaches on port 80: `- 0.0.0.0:80`, or take `challenge: http-01` away";
        problems.error_hint(at, "ACME by http-01 needs a listener without TLS".into(), hint);
    }
    listens
}

fn upstream(map: &Map<'_>, problems: &mut Problems) -> Option<Upstreams> {
    let node = map.get("upstream")?;
    Upstreams::check(node, problems)
}

fn upstream_tls(map: &Map<'_>, problems: &mut Problems) -> Option<ClientPlan> {
    let node = map.get("upstream_tls")?;
    let plan = ClientPlan::check(node, problems);
    // Without `upstream:` it is named on the command line, and may be anything.
    let plain = map.get("upstream").and_then(|at| match &at.value {
        Value::Map(_) => at.child("servers"),
        _ => Some(at),
    });
    if plain.is_some_and(|list| !list.items().iter().any(|i| i.scalar().is_some_and(|t| t.starts_with("https://")))) {
        problems.warn(node, "no upstream is https:, so this does nothing".into(), "write https://HOST, or remove it");
    }
    plan
}

fn workers(map: &Map<'_>, problems: &mut Problems) -> Option<usize> {
    let node = map.get("workers")?;
    if node.scalar() == Some("auto") {
        return None;
    }
    node.int(1..=256, problems).and_then(|n| usize::try_from(n).ok())
}

fn admin(map: &Map<'_>, problems: &mut Problems) -> Option<Admin> {
    let default = parse_listen(DEFAULT_ADMIN).ok()?;
    let Some(node) = map.get("admin") else { return Some(Admin { listen: default, token_env: None }) };
    match node.scalar() {
        Some("off" | "false" | "no") => return None,
        Some("on" | "true" | "yes") => return Some(Admin { listen: default, token_env: None }),
        _ => {}
    }
    let inner = node.map(ADMIN, problems)?;
    Some(Admin {
        listen: inner.get("listen").and_then(|n| address(n, problems)).unwrap_or(default),
        token_env: inner.str("token_env", problems).map(str::to_owned),
    })
}

impl Config {
    /// What it says, as JSON. Names variables that hold secrets, never a secret.
    pub fn shown(&self) -> serde_json::Value {
        let millis = |d: std::time::Duration| format!("{}ms", d.as_millis());
        let routes: Vec<_> = self
            .rules
            .routes()
            .iter()
            .map(|r| {
                let types: std::collections::BTreeSet<&str> =
                    r.possible_types().into_iter().map(|t| t.as_str()).collect();
                serde_json::json!({"id": r.id.as_str(), "emits": types})
            })
            .collect();
        let sinks: Vec<_> = self.sinks.iter().map(|s| serde_json::json!({"name": s.name, "type": s.kind})).collect();
        // One address is shown as it is usually written.
        let mut upstream: Vec<_> = self.upstream.iter().flat_map(|u| &u.servers).map(ToString::to_string).collect();
        let upstream = if upstream.len() > 1 { serde_json::json!(upstream) } else { serde_json::json!(upstream.pop()) };
        serde_json::json!({
            "version": 1,
            "listen": self.listen.iter().map(Listen::shown).collect::<Vec<_>>(),
            "upstream": upstream,
            "upstream_tls": self.upstream_tls.is_some(),
            "upstream_protocol": self.upstream.as_ref().map(|u| u.protocol.as_str()),
            "upstream_proxy_protocol": self.upstream.as_ref().is_some_and(|u| u.proxy_protocol.is_some()),
            "upstream_health": self.upstream.as_ref().and_then(|u| u.health.as_ref()).map(|h| &h.path),
            "workers": self.workers,
            "timeouts": {
                "connect": millis(self.timeouts.connect),
                "answer": millis(self.timeouts.answer),
                "upstream_idle": millis(self.timeouts.upstream_idle),
                "header": millis(self.timeouts.header),
                "drain": millis(self.timeouts.drain),
            },
            "session": {
                "cookies": self.session.cookies,
                "bearer": self.session.bearer,
                "headers": self.session.headers.iter().map(|h| h.as_str()).collect::<Vec<_>>(),
                "ttl": millis(self.session.ttl),
                "share": self.session.share.as_ref().map(|share| share.shown()),
            },
            "auto": self.auto,
            "identity": self.identity.shown(),
            "hint": self.hint.as_ref().map(|h| h.header.as_str()),
            "capture": { "request_body": self.capture.request_body, "response_body": self.capture.response_body },
            "admin": self.admin.as_ref().map(|a| serde_json::json!({"listen": a.listen, "token_env": a.token_env})),
            "access_log": self.access_log.as_ref().map(ToString::to_string),
            "traces": self.traces.as_ref().map(TracesPlan::shown),
            "data": self.data,
            "presets": self.presets.iter().map(|p| serde_json::json!({"name": p.name, "base": p.base(), "routes": p.routes})).collect::<Vec<_>>(),
            "durability": self.spool.durability.to_string(),
            "retention": { "age": format!("{}s", self.spool.retention.age.as_secs()), "size": self.spool.retention.size },
            "routes": routes,
            "sinks": sinks,
        })
    }
}
