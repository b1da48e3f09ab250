//! `session.share:` of the configuration. Secrets are named here, and read when a program starts.

use std::path::Path;
use std::time::Duration;

use super::{Shared, client};
use crate::config::node::{Map, Node};
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::sinks::SinkError;
use crate::sinks::http::secret::SecretSource;
use crate::sinks::net::address::Address;
use crate::sinks::net::link::{LinkPlan, check_tls};
use crate::sinks::net::{PASSWORD_ENV, TLS, USER};
use crate::tls::client::ClientPlan;

/// The keys of `session.share:`.
pub const FIELDS: &[Field] = &[
    Field::required(
        "redis",
        Kind::Str,
        "redis://HOST:PORT/DB, or rediss:// for TLS; port 6379 and database 0 without them",
    ),
    Field::new(
        "secret_env",
        Kind::Str,
        "",
        "environment variable that holds the secret of all replicas, 32 characters or more: sessions are hashed and names sealed under it",
    ),
    Field::new("secret_file", Kind::Str, "", "file that holds it instead"),
    Field::new("prefix", Kind::Str, PREFIX, "what the names of all keys in Redis begin with; one for each application"),
    Field::new("timeout", Kind::Duration, "50ms", "how long a batch of exchanges waits for an answer, 1ms to 1s"),
    USER,
    PASSWORD_ENV,
    Field::new("password_file", Kind::Str, "", "file that holds it instead"),
    TLS,
];

const PREFIX: &str = "authtap";
const TIMEOUT: Duration = Duration::from_millis(50);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The fewest bytes of a secret under which names are sealed.
const MIN_SECRET: usize = 32;
/// Through what sessions are shared; no secret was read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharePlan {
    address: Address,
    pub(super) db: u64,
    tls: Option<ClientPlan>,
    pub(super) user: Option<String>,
    pub(super) password: Option<SecretSource>,
    secret: SecretSource,
    pub(super) prefix: String,
    /// How long a batch of exchanges waits for an answer.
    pub timeout: Duration,
}

impl SharePlan {
    /// Reads `session.share:`. `None` after an error.
    pub fn check(node: &Node, problems: &mut Problems) -> Option<SharePlan> {
        let map = node.map(FIELDS, problems)?;
        if !cfg!(feature = "redis") {
            let hint = "build it with `cargo build --release --features redis`";
            problems.error_hint(
                node,
                "this build of authtap cannot share sessions: it lacks the feature `redis`".into(),
                hint,
            );
        }
        if !crate::tls::provider::COMPILED_IN {
            let hint = "build it with the feature `tls-aws-lc` or `tls-ring`, whose ciphers seal the names";
            problems.error_hint(node, "this build of authtap cannot share sessions: it has no cipher".into(), hint);
        }
        let url = map.get("redis").and_then(|at| url(at, problems));
        let tls = tls(&map, url.as_ref().is_some_and(|u| u.2), problems);
        let password = SecretSource::check(&map, "password_env", "password_file", problems);
        let user = map.str("user", problems).map(str::to_owned);
        if let (Some(at), Some(None)) = (map.get("user"), &password) {
            problems.error_hint(at, "a `user` without a password".into(), "add `password_env:`");
        }
        let secret = SecretSource::check(&map, "secret_env", "secret_file", problems);
        if let Some(None) = &secret {
            let hint = "add `secret_env: AUTHTAP_SESSION_SECRET`, and give every replica the same 32 characters or more in it (openssl rand -hex 32)";
            problems.error_hint(node, "sessions are shared under a common secret, and none is named".into(), hint);
        }
        let prefix = prefix(&map, problems);
        let timeout = timeout(&map, problems);
        let (address, db, _) = url?;
        Some(SharePlan {
            address,
            db,
            tls: tls?,
            user,
            password: password?,
            secret: secret??,
            prefix: prefix?,
            timeout: timeout?,
        })
    }

    /// What is in force, for people to read; names the places of secrets, never a secret.
    pub fn shown(&self) -> serde_json::Value {
        let place = |source: &SecretSource| match source {
            SecretSource::Env(name) => format!("${name}"),
            SecretSource::File(path) => path.display().to_string(),
        };
        serde_json::json!({
            "redis": self.address.to_string(), "db": self.db, "tls": self.tls.is_some(), "user": self.user,
            "password": self.password.as_ref().map(place), "secret": place(&self.secret),
            "prefix": self.prefix, "timeout": format!("{}ms", self.timeout.as_millis()),
        })
    }

    /// Reads secrets and certificates; connects to nothing.
    ///
    /// # Errors
    /// One of them cannot be had, or this build has no Redis.
    pub fn build(&self, base: &Path) -> Result<Shared, SinkError> {
        let secret = self.secret.read(base)?;
        if secret.reveal().len() < MIN_SECRET {
            let place = secret.place();
            return Err(SinkError::Other(format!(
                "{place} must hold a secret of {MIN_SECRET} characters or more, the same for every replica"
            )));
        }
        let key = blake3::derive_key("authtap 2026 sessions shared between replicas", secret.reveal().as_bytes());
        let link = LinkPlan { address: self.address.clone(), tls: self.tls.clone(), timeout: CONNECT };
        Ok(Shared { key, timeout: self.timeout, server: client::Server::build(self, &link, &key, base)? })
    }
}

/// Address, database, whether the scheme asks for TLS.
fn url(at: &Node, problems: &mut Problems) -> Option<(Address, u64, bool)> {
    let text = at.str(problems)?;
    let (secure, rest) = match (text.strip_prefix("rediss://"), text.strip_prefix("redis://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => (false, text),
    };
    let (host, db) = rest.split_once('/').unwrap_or((rest, ""));
    let db = if db.is_empty() { Some(0) } else { db.parse().ok().filter(|db| *db <= 65_535) };
    let found = Address::parse(host, Some(6379)).zip(db);
    if found.is_none() {
        // It may carry a password.
        let hint = "write redis://HOST:PORT/DB, and name user and password by `user` and `password_env`";
        problems.error_blotted(at, "this is no address of a Redis".into(), hint);
    }
    found.map(|(address, db)| (address, db, secure))
}

fn tls(map: &Map<'_>, secure: bool, problems: &mut Problems) -> Option<Option<ClientPlan>> {
    let said = check_tls(map.get("tls"), problems)?;
    match (said, map.get("tls"), secure) {
        (None, Some(at), true) => {
            problems.error_hint(
                at,
                "`rediss://` is TLS, and `tls: off` is none".into(),
                "write redis://, or leave `tls` out",
            );
            None
        }
        (None, None, true) => ClientPlan::check_receiver(None, problems).map(Some),
        (said, ..) => Some(said),
    }
}

fn prefix(map: &Map<'_>, problems: &mut Problems) -> Option<String> {
    let Some(at) = map.get("prefix") else { return Some(PREFIX.into()) };
    let text = at.str(problems)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'{' | b'}');
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
        problems.error_hint(
            at,
            format!("`prefix` cannot be {}", at.describe()),
            "letters, digits, `-`, `_`, `.` and `:`, 64 at most",
        );
        return None;
    }
    Some(text.to_owned())
}

fn timeout(map: &Map<'_>, problems: &mut Problems) -> Option<Duration> {
    let Some(at) = map.get("timeout") else { return Some(TIMEOUT) };
    let timeout = at.duration(problems)?;
    if !(Duration::from_millis(1)..=Duration::from_secs(1)).contains(&timeout) {
        problems.error_hint(at, format!("`timeout` cannot be {}", at.describe()), "1ms to 1s");
        return None;
    }
    Some(timeout)
}
