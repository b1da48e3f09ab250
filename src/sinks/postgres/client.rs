//! The connection to PostgreSQL: one, made when it is needed, and made anew after any failure.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, Error, NoTls, Statement};

use super::Plan;
use crate::sinks::http::answer::Answer;
use crate::sinks::http::parts::{Courier, Ledger, Limits};
use crate::sinks::net::link::{Link, Wire};
use crate::sinks::{BoxFuture, BuildCx, Sink, SinkError, Verdict};
use crate::spool::Stored;

/// What one statement inserts at most.
const LIMITS: Limits = Limits { events: 500, bytes: 4_000_000 };

/// The columns of `examples/postgres/table.sql`, and where they stand in an event.
const COLUMNS: &[(&str, &str)] = &[
    ("id", "(e->>'id')::uuid"),
    ("timestamp", "(e->>'timestamp')::timestamptz"),
    ("event_type", "e->>'event_type'"),
    ("outcome", "e->>'outcome'"),
    ("reason", "e->>'reason'"),
    ("actor_id", "e#>>'{actor,id}'"),
    ("actor_login", "e#>>'{actor,login}'"),
    ("actor_email", "e#>>'{actor,email}'"),
    ("organization", "e#>>'{organization,id}'"),
    ("ip_address", "(e#>>'{metadata,ip_address}')::inet"),
    ("country", "e#>>'{metadata,geo,country}'"),
    ("event", "e"),
];

pub(super) fn build(plan: &Plan, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
    let mut config = Config::new();
    config.user(&plan.user).dbname(&plan.database).application_name("authtap");
    if let Some(password) = &plan.password {
        config.password(password.read(&cx.base)?.reveal());
    }
    config.ssl_mode(if plan.link.tls.is_some() { SslMode::Require } else { SslMode::Disable });
    let server = Server {
        link: plan.link.build(&cx.base)?,
        config,
        insert: insert(&plan.table),
        table: plan.table.clone(),
        warm: Mutex::default(),
    };
    Ok(Box::new(Postgres { server, ledger: Ledger::default() }))
}

/// The statement for this table: an array of lines in, rows out.
fn insert(table: &str) -> String {
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let values: Vec<&str> = COLUMNS.iter().map(|(_, value)| *value).collect();
    format!(
        "INSERT INTO {table} ({}) SELECT {} FROM (SELECT line::jsonb AS e FROM unnest($1::text[]) AS line) AS lines ON CONFLICT (id) DO NOTHING",
        names.join(", "),
        values.join(", ")
    )
}

struct Postgres {
    server: Server,
    ledger: Ledger,
}

impl Sink for Postgres {
    fn send<'a>(&'a self, batch: &'a [Stored]) -> BoxFuture<'a, Verdict> {
        Box::pin(self.ledger.deliver(&self.server, LIMITS, batch))
    }

    /// Signs in and has the statement prepared, which needs the table and its columns.
    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            match timeout(self.server.link.timeout(), self.server.connect()).await {
                Ok(result) => result.map(drop),
                Err(_) => Err(self.server.late()),
            }
        })
    }
}

struct Server {
    link: Link,
    config: Config,
    insert: String,
    table: String,
    warm: Mutex<Option<Connected>>,
}

/// A session with its statement, and the task that moves its bytes; both end together.
struct Connected {
    client: Client,
    insert: Statement,
    driver: Driver,
}

struct Driver(tokio::task::JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Server {
    /// Has no bound of its own.
    async fn connect(&self) -> Result<Connected, SinkError> {
        let stream = self.link.tcp().await?;
        let (client, driver) = if self.link.is_secure() {
            let made = self.config.connect_raw(stream, Upgrade(&self.link)).await;
            let (client, connection) = made.map_err(|error| self.told(&error))?;
            // How it ends is seen by whoever waits for an answer.
            (client, tokio::spawn(async move { drop(connection.await) }))
        } else {
            let made = self.config.connect_raw(stream, NoTls).await;
            let (client, connection) = made.map_err(|error| self.told(&error))?;
            (client, tokio::spawn(async move { drop(connection.await) }))
        };
        let driver = Driver(driver);
        let insert = client.prepare_typed(&self.insert, &[Type::TEXT_ARRAY]).await;
        let insert = insert.map_err(|error| self.told(&error))?;
        Ok(Connected { client, insert, driver })
    }

    async fn rows(&self, part: &[Stored]) -> Answer {
        let mut warm = self.warm.lock().await;
        let connected = match warm.take() {
            Some(connected) if !connected.client.is_closed() && !connected.driver.0.is_finished() => connected,
            _ => match self.connect().await {
                Ok(connected) => connected,
                Err(why) => return Answer::lost(why),
            },
        };
        let lines: Vec<&str> = part.iter().map(|one| &*one.line).collect();
        match connected.client.execute(&connected.insert, &[&lines]).await {
            Ok(_) => {
                *warm = Some(connected);
                Answer::Taken
            }
            Err(error) if is_about_a_row(&error) => {
                // The session is as good as before; only the statement failed.
                *warm = Some(connected);
                Answer::Refused { why: self.told(&error), divisible: true }
            }
            Err(error) => Answer::lost(self.told(&error)),
        }
    }

    fn late(&self) -> SinkError {
        self.link.told(&format!("no answer within {:?}", self.link.timeout()))
    }

    /// An error of the server by its code alone: its text may repeat a value.
    fn told(&self, error: &Error) -> SinkError {
        let Some(code) = error.code() else {
            let cause = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
            return self.link.told(&format!("{error}{cause}"));
        };
        let hint = match code {
            _ if *code == SqlState::UNDEFINED_TABLE => {
                format!("; there is no table {}: make it by examples/postgres/table.sql", self.table)
            }
            _ if *code == SqlState::UNDEFINED_COLUMN || *code == SqlState::INVALID_COLUMN_REFERENCE => {
                format!("; {} is not the table of examples/postgres/table.sql", self.table)
            }
            _ if *code == SqlState::INSUFFICIENT_PRIVILEGE => {
                format!("; the user needs INSERT on {}, and SELECT on its column id", self.table)
            }
            _ if code.code().starts_with("28") => "; check user and password".to_owned(),
            _ => String::new(),
        };
        self.link.told(&format!("PostgreSQL answered {}{hint}", code.code()))
    }
}

impl Courier for Server {
    fn carry<'a>(&'a self, part: &'a [Stored]) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            match timeout(self.link.timeout(), self.rows(part)).await {
                Ok(answer) => answer,
                Err(_) => Answer::lost(self.late()),
            }
        })
    }
}

/// True if a value cannot be stored, today or ever: classes 22 (data exception), 23 (constraint)
/// and 54 (limits) of the SQL standard's codes.
fn is_about_a_row(error: &Error) -> bool {
    error.code().is_some_and(|code| matches!(code.code().get(..2), Some("22" | "23" | "54")))
}

/// Makes the handshake of a [`Link`] when the server has agreed to it.
struct Upgrade<'l>(&'l Link);

impl<'l> TlsConnect<TcpStream> for Upgrade<'l> {
    type Stream = Secured;
    type Error = SinkError;
    type Future = Pin<Box<dyn Future<Output = Result<Secured, SinkError>> + Send + 'l>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        Box::pin(async move { self.0.secure(stream).await.map(Secured) })
    }
}

/// A connection after the handshake.
struct Secured(Box<dyn Wire>);

impl TlsStream for Secured {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Secured {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
