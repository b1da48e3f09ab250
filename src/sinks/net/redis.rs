//! A connection to Redis, signed in, and its errors in words that repeat nothing.

use std::path::Path;

use redis::aio::MultiplexedConnection;
use redis::{RedisConnectionInfo, RedisError};

use super::link::{Link, LinkPlan};
use crate::sinks::SinkError;
use crate::sinks::http::secret::SecretSource;

/// A Redis that can be connected to.
pub struct Host {
    link: Link,
    info: RedisConnectionInfo,
}

/// A connection, and the task that moves its bytes; both end together.
pub struct Connected {
    /// The connection. It has no time limits of its own.
    pub connection: MultiplexedConnection,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Host {
    /// Reads certificates and password; connects to nothing.
    ///
    /// # Errors
    /// One of them cannot be had.
    pub fn build(
        link: &LinkPlan,
        db: u64,
        user: Option<&str>,
        password: Option<&SecretSource>,
        base: &Path,
    ) -> Result<Host, SinkError> {
        let db = i64::try_from(db).unwrap_or(0);
        let mut info = RedisConnectionInfo::default().set_db(db).set_skip_set_lib_name();
        if let Some(user) = user {
            info = info.set_username(user);
        }
        if let Some(password) = password {
            info = info.set_password(password.read(base)?.reveal());
        }
        Ok(Host { link: link.build(base)?, info })
    }

    /// Where it is, and how long connecting may take.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Connects and signs in.
    ///
    /// # Errors
    /// There is no connection, or Redis does not let this user in.
    pub async fn connect(&self) -> Result<Connected, SinkError> {
        let wire = self.link.dial().await?;
        let made = MultiplexedConnection::new_with_config(&self.info, wire, unbounded()).await;
        let (connection, driver) = made.map_err(|error| self.told(&error))?;
        Ok(Connected { connection, driver: tokio::spawn(driver) })
    }

    /// An error of Redis by its code alone: its text may repeat an argument.
    pub fn told(&self, error: &RedisError) -> SinkError {
        self.link.told(&why(error))
    }
}

/// Whoever asks measures the time allowed, for connecting and answering together.
fn unbounded() -> redis::AsyncConnectionConfig {
    redis::AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None)
}

fn why(error: &RedisError) -> String {
    match error.code() {
        Some(code) => {
            let hint = match code {
                "NOAUTH" | "WRONGPASS" | "NOPERM" => "; check user and password and what they allow",
                "WRONGTYPE" => "; the key holds something else",
                "OOM" => "; its memory is full",
                "MOVED" | "ASK" => "; a cluster is not followed: name the node that holds the key",
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
