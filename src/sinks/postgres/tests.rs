// Behind a feature clippy does not see that this is a test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use tokio_postgres::{Client, NoTls};

use crate::format::tests::full;
use crate::sinks::Verdict;
use crate::sinks::http::receiver::{built, problems};
use crate::sinks::net::service::{Service, batch, free_port, output, wanted};
use crate::spool::Stored;
use crate::tls::fixture::{Authority, replace};

const TABLE: &str = include_str!("../../../examples/postgres/table.sql");

/// A program of PostgreSQL, from the path or from where Debian keeps it.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut places: Vec<PathBuf> = versions.map(|version| version.path().join("bin").join(name)).collect();
    places.retain(|place| place.is_file());
    places.sort();
    places.pop().unwrap_or_else(|| PathBuf::from(name))
}

/// A server of its own, with a superuser `root` that any local connection may be.
struct Server {
    port: u16,
    folder: PathBuf,
    running: Option<Service>,
}

impl Server {
    fn new(folder: &Path) -> Server {
        let port = free_port();
        let base = folder.join("db");
        std::fs::create_dir(&base).unwrap();
        give_away(&base);
        let mut init = as_user(program("initdb"), &["-D", &base.display().to_string()]);
        output(init.args(["-U", "root", "-A", "trust", "-E", "UTF8", "--no-sync"]));
        Server { port, folder: base, running: None }
    }

    fn start(&mut self) {
        let arguments = ["-D", &self.folder.display().to_string(), "-p", &self.port.to_string()].map(str::to_owned);
        let mut command = as_user(program("postgres"), &arguments.each_ref().map(String::as_str));
        let sockets = self.folder.display().to_string();
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-k", &sockets]);
        self.running = Some(Service::at(self.port, &mut command, "Debian: postgresql"));
    }

    fn stop(&mut self) {
        // A killed server leaves its lock, which the next one finds stale and removes.
        self.running.take().unwrap().end();
    }

    async fn ask(&self) -> Client {
        let address = format!("host=127.0.0.1 port={} user=root dbname=postgres", self.port);
        for _ in 0..600 {
            if let Ok((client, connection)) = tokio_postgres::connect(&address, NoTls).await {
                tokio::spawn(connection);
                return client;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("PostgreSQL does not let anybody in");
    }
}

/// PostgreSQL refuses to run as root, so root becomes somebody else.
fn as_user(program: PathBuf, arguments: &[&str]) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.args(arguments);
    command
}

fn is_root() -> bool {
    output(Command::new("id").arg("-u")).trim() == "0"
}

fn give_away(path: &Path) {
    if is_root() {
        output(Command::new("chown").args(["-R", "65534:65534"]).arg(path));
        // The folder above must let somebody else through.
        let above = path.parent().unwrap();
        std::fs::set_permissions(above, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
}

fn again(verdict: Verdict, expected: &str) {
    match verdict {
        Verdict::Retry { why, .. } => {
            let why = why.to_string();
            assert!(why.contains(expected) && !why.contains("alice") && !why.contains("hunter2"), "{expected}: {why}");
        }
        verdict => panic!("{expected}: {verdict:?}"),
    }
}

#[tokio::test]
async fn every_event_is_a_row_of_the_shipped_table_once_and_what_cannot_be_one_is_refused() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::new(folder.path());
    let yaml = format!(
        "{{ type: postgres, address: '127.0.0.1:{}', database: postgres, user: authtap, timeout: 5s }}",
        server.port
    );
    let sink = built(&yaml, folder.path()).unwrap();
    again(sink.send(&batch(1)).await, "no connection");
    server.start();
    let root = server.ask().await;
    root.batch_execute("CREATE USER authtap").await.unwrap();
    again(sink.send(&batch(1)).await, "examples/postgres/table.sql");
    root.batch_execute(TABLE).await.unwrap();
    again(sink.send(&batch(1)).await, "the user needs INSERT");
    root.batch_execute("GRANT INSERT ON authtap_events TO authtap; GRANT SELECT (id) ON authtap_events TO authtap")
        .await
        .unwrap();
    sink.probe().await.unwrap();

    let mut all = batch(120);
    let rich = full("user.login.failed", false);
    all.push(Stored { seq: 121, line: rich.to_line().into(), event: rich.into() });
    assert!(matches!(sink.send(&all).await, Verdict::Delivered));
    assert!(matches!(sink.send(&all[..30]).await, Verdict::Delivered), "a second time");
    let rows = root.query("SELECT id::text, event::text, actor_login, host(ip_address), extract(epoch FROM timestamp)::text, event_type FROM authtap_events ORDER BY id", &[]);
    let rows = rows.await.unwrap();
    let mut expected = all.clone();
    expected.sort_by_key(|one| one.event.id.to_string());
    assert_eq!(rows.len(), expected.len());
    for (row, one) in rows.iter().zip(&expected) {
        let text = |at: usize| row.get::<_, Option<String>>(at);
        assert_eq!(text(0), Some(one.event.id.to_string()));
        let (read, sent): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(&text(1).unwrap()).unwrap(), serde_json::from_str(&one.line).unwrap());
        assert_eq!(read, sent);
        assert_eq!(text(2).as_deref(), one.event.actor.login.as_ref().map(|login| login.as_str()));
        assert_eq!(text(3), one.event.metadata.ip_address.map(|ip| ip.to_string()));
        assert_eq!(text(4).as_deref(), Some("1768469537.123000"));
        assert_eq!(text(5).as_deref(), Some("user.login.failed"));
    }

    let mut with_bad = batch(5);
    with_bad[3].line = with_bad[3].line.replace("203.0.113.42", "not an address").into();
    match sink.send(&with_bad).await {
        Verdict::Refused { which, why } => {
            assert_eq!(which, [3]);
            assert!(why.to_string().contains("22P02") && !why.to_string().contains("not an"), "{why}");
        }
        verdict => panic!("{verdict:?}"),
    }
    drop(root);
    server.stop();
    again(sink.send(&batch(1)).await, "127.0.0.1");
    server.start();
    let root = server.ask().await;
    let more = batch(2);
    while !matches!(sink.send(&more).await, Verdict::Delivered) {}
    let count: i64 = root.query_one("SELECT count(*) FROM authtap_events", &[]).await.unwrap().get(0);
    assert_eq!(count, 121 + 4 + 2);
}

#[tokio::test]
async fn it_signs_in_by_password_over_tls() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::new(folder.path());
    let authority = Authority::new("postgres");
    replace(folder.path(), "ca.pem", &authority.pem());
    replace(folder.path(), "good", "hunter2hunter2\n");
    replace(folder.path(), "bad", "hunter3hunter3\n");
    authority.server(&["127.0.0.1"]).write(&server.folder, "server");
    let base = server.folder.display();
    let config = format!("ssl=on\nssl_cert_file='{base}/server.pem'\nssl_key_file='{base}/server.key'\n");
    std::fs::write(server.folder.join("postgresql.auto.conf"), config).unwrap();
    let rules = "hostssl all authtap 127.0.0.1/32 scram-sha-256\nhost all root 127.0.0.1/32 trust\n";
    std::fs::write(server.folder.join("pg_hba.conf"), rules).unwrap();
    give_away(&server.folder);
    server.start();
    let root = server.ask().await;
    root.batch_execute(TABLE).await.unwrap();
    root.batch_execute("CREATE USER authtap PASSWORD 'hunter2hunter2'; GRANT ALL ON authtap_events TO authtap")
        .await
        .unwrap();
    let with = |password: &str, tls: &str| {
        let yaml = format!(
            "{{ type: postgres, address: '127.0.0.1:{}', database: postgres, user: authtap, password_file: {password}, timeout: 5s, tls: {tls} }}",
            server.port
        );
        built(&yaml, folder.path()).unwrap()
    };
    let good = with("good", "{ ca: ca.pem }");
    good.probe().await.unwrap();
    assert!(matches!(good.send(&batch(3)).await, Verdict::Delivered));
    let error = with("bad", "{ ca: ca.pem }").probe().await.unwrap_err().to_string();
    assert!(error.contains("check user and password") && !error.contains("hunter"), "{error}");
    let error = with("good", "on").probe().await.unwrap_err().to_string();
    assert!(error.contains("certificate") || error.contains("authorities"), "{error}");
    assert!(with("good", "off").probe().await.is_err(), "the server wants TLS");
}

#[test]
fn settings_that_cannot_be_are_told() {
    for (yaml, expected) in [
        ("address: a.test, database: d, user: u, table: 'a; DROP TABLE b'", "`table` cannot be"),
        ("address: a.test, database: d, user: u, table: a.b.c", "`table` cannot be"),
        ("address: a.test, database: d, user: u, table: 1a", "`table` cannot be"),
        ("address: a.test, database: d", "`user` is missing"),
        ("address: a.test, database: '', user: u", "`database` cannot be"),
        ("address: 'postgres://a.test', database: d, user: u", "no HOST:PORT"),
    ] {
        let told = problems(&format!("{{ type: postgres, {yaml} }}"));
        assert!(told.contains(expected), "{yaml}: {told}");
    }
}

#[test]
fn the_example_is_a_configuration_without_a_problem() {
    let (_, problems) =
        crate::config::settings::check("routes.yaml", include_str!("../../../examples/postgres/routes.yaml"));
    assert!(problems.is_empty(), "{problems}");
}
