//! What every sink over HTTP shares: its settings, its client, and what answers mean.
//!
//! Not a sink. A sink joins the fields below to its own table ([`fields`], and [`TOKEN`] or
//! [`BASIC`] or both if the receiver takes them), reads them with
//! [`HttpPlan::check`], builds a [`client::Client`], and sends parts of a batch through a
//! [`parts::Ledger`]. Nothing here knows what is in a body.

pub mod answer;
pub mod client;
#[cfg(feature = "otlp-grpc")]
pub mod grpc;
pub mod parts;
#[cfg(test)]
pub(crate) mod receiver;
pub mod secret;
pub mod url;

#[cfg(test)]
pub(crate) mod services;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, header};

use self::client::{Client, Compression};
use self::parts::Limits;
use self::secret::SecretSource;
use self::url::Url;
use super::{BuildCx, SinkError};
use crate::config::node::{Map, Node, Value, clip};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::tls::client::{ClientPlan, RECEIVER};

/// What every receiver over HTTP has besides its `url`.
pub const fn fields(usual: &Usual) -> [Field; 4] {
    let compressions = usual.compressions;
    [
        Field::new(
            "headers",
            Kind::Dict(&Kind::Any(&[Kind::Str, SECRET_VALUE])),
            "",
            "further headers; a secret is named by its variable or file: { x-api-key: { env: NAME } }",
        ),
        Field::new("compression", Kind::Word(compressions.words), compressions.usual, "of request bodies"),
        TIMEOUT,
        TLS,
    ]
}

/// A secret that is sent with every request in one header.
pub const TOKEN: &[Field] = &[
    Field::new("token_env", Kind::Str, "", "environment variable that holds the token sent with every request"),
    Field::new("token_file", Kind::Str, "", "file that holds it instead, read at the start and at each reload"),
];
/// HTTP Basic authentication.
pub const BASIC: &[Field] = &[
    Field::new("user", Kind::Str, "", "name for HTTP Basic authentication"),
    Field::new("password_env", Kind::Str, "", "environment variable that holds the password"),
    Field::new("password_file", Kind::Str, "", "file that holds it instead, read at the start and at each reload"),
];

/// The time for one request.
pub const TIMEOUT: Field =
    Field::new("timeout", Kind::Duration, "30s", "for one request, from connecting to the end of the answer");
/// TLS.
pub const TLS: Field = Field::new("tls", RECEIVER, "", "TLS to an https: receiver; without it the usual");

/// How a receiver may be sent bodies, and how it is without `compression:`.
#[derive(Clone, Copy, Debug)]
pub struct Compressions {
    usual: &'static str,
    words: &'static [&'static str],
}

impl Compressions {
    /// Every receiver of its kind reads gzip.
    pub const GZIP: Compressions = Compressions { usual: "gzip", words: &["off", "gzip"] };
    /// The same, and zstd.
    pub const GZIP_OR_ZSTD: Compressions = Compressions { usual: "gzip", words: &["off", "gzip", "zstd"] };
    /// Some read gzip.
    pub const MAYBE_GZIP: Compressions = Compressions { usual: "off", words: &["off", "gzip"] };
    /// Some read gzip or zstd.
    pub const MAYBE_ANY: Compressions = Compressions { usual: "off", words: &["off", "gzip", "zstd"] };
}

const SECRET_VALUE: Kind = Kind::Named("secret_value", || &Kind::Map(HEADER));

const HEADER: &[Field] = &[
    Field::new("env", Kind::Str, "", "environment variable that holds the value"),
    Field::new("file", Kind::Str, "", "file that holds the value"),
];

/// The most headers of `headers:`.
const MAX_HEADERS: usize = 32;
/// The bounds of `timeout`.
const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(600);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// What one request holds at most, unless `batch:` or the receiver says otherwise.
pub const USUAL_LIMITS: Limits = Limits { events: 500, bytes: 1_000_000 };

/// Headers that carry secrets; written out in the file they would be shown with it.
const SECRETS: &[&str] = &["authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "dd-api-key"];
/// Headers that the client sets itself.
const OWN: &[&str] =
    &["host", "content-length", "transfer-encoding", "connection", "content-encoding", "upgrade", "te"];

/// What is usual for one kind of sink.
#[derive(Clone, Copy, Debug)]
pub struct Usual {
    /// The URL without `url:`, if there is one.
    pub url: Option<&'static str>,
    /// The path of a URL that has none.
    pub path: &'static str,
    /// How bodies may be compressed.
    pub compressions: Compressions,
    /// The header that carries the token, and what stands before it.
    pub token: (&'static str, &'static str),
    /// True if there must be a token.
    pub token_required: bool,
}

impl Usual {
    /// A bearer token that may be missing, no compression, and a URL that must be given.
    pub const BEARER: Usual = Usual {
        url: None,
        path: "/",
        compressions: Compressions::MAYBE_GZIP,
        token: ("authorization", "Bearer "),
        token_required: false,
    };
}

/// The checked settings of a sink over HTTP.
#[derive(Debug)]
pub struct HttpPlan {
    url: Url,
    timeout: Duration,
    compression: Compression,
    headers: Vec<(HeaderName, Content)>,
    token: Option<(HeaderName, &'static str, SecretSource)>,
    basic: Option<(String, Option<SecretSource>)>,
    tls: ClientPlan,
}

/// The value of a configured header.
#[derive(Debug)]
enum Content {
    Plain(HeaderValue),
    Secret(SecretSource),
}

impl HttpPlan {
    /// Reads the fields of this module that the sink's table has.
    pub fn check(map: &Map<'_>, usual: &Usual, problems: &mut Problems) -> Option<HttpPlan> {
        let url = match map.get("url") {
            Some(at) => Url::check(at, problems),
            // A missing `url` that must be there is told by the table.
            None => usual.url.and_then(|url| Url::parse(url).ok()),
        };
        let timeout = check_timeout(map, problems);
        let Compressions { usual: compression, words } = usual.compressions;
        let compression = match map.one_of("compression", words, problems).unwrap_or(compression) {
            "gzip" => Compression::Gzip,
            "zstd" => Compression::Zstd,
            _ => Compression::Off,
        };
        let headers = check_headers(map.get("headers"), problems);
        let token = SecretSource::check(map, "token_env", "token_file", problems);
        if usual.token_required && matches!(token, Some(None)) {
            let hint = "put the token into an environment variable and name it: token_env: NAME";
            problems.error_hint(map.node, "a token is needed".into(), hint);
        }
        let basic = check_basic(map, problems);
        let tls = ClientPlan::check_receiver(map.get("tls"), problems);
        let url = url?.or_path(usual.path);
        if let Some(at) = map.get("tls")
            && !url.https
        {
            problems.error_hint(at, "`tls` does nothing for an http: URL".into(), "write https://, or leave `tls` out");
        }
        let (token, basic) = (token?, basic?);
        if let (Some(_), Some(_), Some(at)) = (&token, &basic, map.get("user"))
            && usual.token.0 == "authorization"
        {
            problems.error_hint(at, "both a token and a user".into(), "leave one of the two out");
        }
        let name = HeaderName::from_static(usual.token.0);
        let token = token.map(|source| (name, usual.token.1, source));
        Some(HttpPlan { url, timeout: timeout?, compression, headers: headers?, token, basic, tls: tls? })
    }

    /// True if there is a secret of the sink's own: a token, or a user with a password.
    pub fn has_secret(&self) -> bool {
        self.token.is_some() || self.basic.is_some()
    }

    /// Where the receiver is.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Reads the secrets and certificates, and makes the client; connects to nothing.
    ///
    /// # Errors
    /// A secret or a certificate cannot be had.
    pub fn build(&self, cx: &BuildCx) -> Result<Client, SinkError> {
        let mut headers = client::usual_headers(&self.url)?;
        for (name, content) in &self.headers {
            let value = match content {
                Content::Plain(value) => value.clone(),
                Content::Secret(source) => source.read(&cx.base)?.header("")?,
            };
            headers.insert(name.clone(), value);
        }
        if let Some((name, prefix, source)) = &self.token {
            headers.insert(name.clone(), source.read(&cx.base)?.header(prefix)?);
        }
        if let Some((user, source)) = &self.basic {
            let password = source.as_ref().map(|source| source.read(&cx.base)).transpose()?;
            let password = password.as_ref().map_or("", |secret| secret.reveal());
            let pair = STANDARD.encode(format!("{user}:{password}"));
            let value = HeaderValue::from_str(&format!("Basic {pair}"));
            let mut value = value.map_err(|_| SinkError::Other("user and password make no header".into()))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let tls = match self.url.https {
            false => None,
            true => Some(self.tls.build(&cx.base).map_err(|error| SinkError::Other(error.to_string()))?),
        };
        for warning in tls.iter().flat_map(|tls| tls.warnings()) {
            tracing::warn!(receiver = %self.url, "{warning}");
        }
        Ok(Client {
            url: self.url.clone(),
            tls: tls.map(Arc::new),
            timeout: self.timeout,
            compression: self.compression,
            headers,
            warm: Mutex::new(None),
        })
    }
}

/// A short text of the configuration that goes into requests as it is; `Some(None)` if it is absent.
pub fn check_word(map: &Map<'_>, key: &str, problems: &mut Problems) -> Option<Option<String>> {
    let Some(at) = map.get(key) else { return Some(None) };
    let text = at.str(problems)?;
    if text.is_empty() || text.len() > 256 || !text.bytes().all(|b| b.is_ascii_graphic()) {
        let hint = "1 to 256 visible ASCII characters without spaces";
        problems.error_hint(at, format!("`{key}` cannot be {}", at.describe()), hint);
        return None;
    }
    Some(Some(text.to_owned()))
}

/// What an answer to a probe means.
///
/// # Errors
/// It is no success.
pub fn probed(reply: &client::Reply, client: &Client) -> Result<(), SinkError> {
    match answer::Answer::by_status(reply, &client.place()) {
        answer::Answer::Taken | answer::Answer::Items(_) => Ok(()),
        answer::Answer::Refused { why, .. } | answer::Answer::Later { why, .. } => Err(why),
    }
}

pub(super) fn check_timeout(map: &Map<'_>, problems: &mut Problems) -> Option<Duration> {
    let Some(at) = map.get("timeout") else { return Some(DEFAULT_TIMEOUT) };
    let timeout = at.duration(problems)?;
    if !TIMEOUTS.contains(&timeout) {
        problems.error_hint(at, format!("`timeout` cannot be {}", at.describe()), "from 10ms to 10m");
        return None;
    }
    Some(timeout)
}

fn check_basic(map: &Map<'_>, problems: &mut Problems) -> Option<Option<(String, Option<SecretSource>)>> {
    let password = SecretSource::check(map, "password_env", "password_file", problems)?;
    let Some(at) = map.get("user") else {
        if password.is_some() {
            problems.error_hint(map.node, "a password without a `user`".into(), "add `user:`");
            return None;
        }
        return Some(None);
    };
    let user = at.str(problems)?;
    if user.is_empty() || user.contains(':') || user.chars().any(char::is_control) {
        problems.error_hint(at, "this is no user for HTTP Basic".into(), "a name without `:` (RFC 7617)");
        return None;
    }
    Some(Some((user.to_owned(), password)))
}

fn check_headers(node: Option<&Node>, problems: &mut Problems) -> Option<Vec<(HeaderName, Content)>> {
    let Some(node) = node else { return Some(Vec::new()) };
    let entries = node.entries(problems);
    let mut found = Vec::new();
    let before = problems.counts().0;
    for (key, value) in entries.iter().take(MAX_HEADERS) {
        let Ok(name) = HeaderName::from_bytes(key.text.as_bytes()) else {
            problems.error_key(node, key, format!("`{}` is no name of a header", clip(&key.text)), "such as x-tenant");
            continue;
        };
        if OWN.contains(&name.as_str()) {
            problems.error_key(node, key, format!("`{name}` is set by authtap itself"), "leave it out");
            continue;
        }
        if let Value::Map(_) = value.value {
            let Some(map) = value.map(HEADER, problems) else { continue };
            match SecretSource::check(&map, "env", "file", problems) {
                Some(Some(source)) => found.push((name, Content::Secret(source))),
                Some(None) => problems.error_hint(value, "nothing is named here".into(), "write { env: NAME }"),
                None => {}
            }
            continue;
        }
        if SECRETS.contains(&name.as_str()) {
            let hint = "put the value into an environment variable and name it: { env: NAME }";
            problems.error_blotted(
                value,
                format!("`{name}` carries a secret, which does not belong into the file"),
                hint,
            );
            continue;
        }
        let Some(text) = value.str(problems) else { continue };
        match HeaderValue::from_str(text) {
            Ok(value) => found.push((name, Content::Plain(value))),
            Err(_) => problems.error(value, format!("the value of `{name}` has characters that a header cannot carry")),
        }
    }
    if let Some((key, _)) = entries.get(MAX_HEADERS) {
        problems.error_key(node, key, format!("more than {MAX_HEADERS} headers"), "send less");
    }
    (problems.counts().0 == before).then_some(found)
}
