//! The real broker, RabbitMQ.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::sinks::http::receiver::built;
use crate::sinks::net::service::{Service, batch, free_port, lines, output, wanted_large};
use crate::sinks::{Sink, Verdict};
use crate::spool::Stored;
use crate::tls::fixture::{Authority, replace};

const PACKAGE: &str = "Debian: rabbitmq-server";

/// A broker with its data in a folder, and the name service of its runtime.
struct Broker {
    folder: std::path::PathBuf,
    _names: Service,
    _server: Service,
}

impl Broker {
    /// Starts it and waits until it takes connections at this port.
    fn start(folder: &Path, port: u16, config: &str, plugins: &str) -> Broker {
        std::fs::write(folder.join("rabbitmq.conf"), config).unwrap();
        std::fs::write(folder.join("plugins"), plugins).unwrap();
        let _ = std::fs::remove_file(folder.join("pid"));
        let (names, between) = (free_port().to_string(), free_port().to_string());
        let own = |command: &mut Command| {
            command.env("HOME", folder).env("ERL_EPMD_PORT", &names).env("ERL_EPMD_ADDRESS", "127.0.0.1");
        };
        let mut epmd = Command::new("epmd");
        own(epmd.args(["-port", &names, "-address", "127.0.0.1"]));
        let epmd = Service::at(names.parse().unwrap(), &mut epmd, PACKAGE);
        // The command of the package would change to a user and a folder of its own.
        let mut server = Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
        own(&mut server);
        server
            .env("RABBITMQ_NODENAME", format!("authtap{port}@localhost"))
            .env("RABBITMQ_DIST_PORT", between)
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .env("RABBITMQ_CONFIG_FILE", folder.join("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
            .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
            .env("RABBITMQ_LOG_BASE", folder.join("log"))
            .env("RABBITMQ_PID_FILE", folder.join("pid"));
        let server = Service::at(port, &mut server, PACKAGE);
        Broker { folder: folder.to_owned(), _names: epmd, _server: server }
    }
}

impl Drop for Broker {
    /// The process that was started is a shell; the broker is its child.
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.folder.join("pid")).unwrap_or_default();
        if let Ok(pid @ 2..) = pid.trim().parse::<i32>() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
    }
}

/// Exchange, routing key, media type, delivery mode, id, time, type and body.
type Read = (String, String, String, u8, String, i64, String, String);

fn read(port: u16, queue: &str, count: usize) -> Vec<Read> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services/amqp_read.py");
    let mut command = Command::new("python3");
    command.args([script, &port.to_string(), queue, "authtap.#", &count.to_string()]).stdin(Stdio::null());
    output(&mut command).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Sends it again until it is settled, as the delivery does.
async fn settled(sink: &dyn Sink, batch: &[Stored]) -> Verdict {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match sink.send(batch).await {
            Verdict::Retry { .. } if Instant::now() < end => tokio::time::sleep(Duration::from_millis(20)).await,
            verdict => return verdict,
        }
    }
}

#[tokio::test]
async fn every_event_is_confirmed_kept_over_a_kill_and_read_in_order() {
    if !wanted_large() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = format!(
        "listeners.tcp.1 = 127.0.0.1:{port}\ndefault_user = reader\ndefault_pass = reader\nmax_message_size = 1000000\n"
    );
    replace(folder.path(), "password", "reader\n");
    let with = |more: &str| {
        let yaml = format!("{{ type: amqp, address: '127.0.0.1:{port}', timeout: 20s, {more} }}");
        let mut problems = crate::config::problem::Problems::new("t.yaml", &yaml);
        let node = crate::config::node::Node::parse(&yaml, &mut problems).unwrap();
        let spec = crate::sinks::check(&node, &mut problems).unwrap();
        spec.build(&crate::sinks::BuildCx::new(folder.path().to_owned(), false)).unwrap()
    };
    let sink = with("user: reader, password_file: password");
    assert!(matches!(sink.send(&batch(1)).await, Verdict::Retry { .. }), "nobody is there yet");
    let first = Broker::start(folder.path(), port, &config, "[].");
    sink.probe().await.unwrap();
    match sink.send(&batch(3)).await {
        Verdict::Refused { which, why } => {
            assert_eq!(which, [0, 1, 2]);
            assert!(why.to_string().contains("no queue is bound"), "{why}");
        }
        verdict => panic!("{verdict:?}"),
    }
    read(port, "events", 0);
    let mut all = batch(2000);
    for part in all.chunks(500) {
        assert!(matches!(sink.send(part).await, Verdict::Delivered));
    }
    let mut with_long = batch(4);
    with_long[2] = Stored { line: "x".repeat(1_000_001).into(), ..with_long[2].clone() };
    let verdict = settled(&*sink, &with_long).await;
    assert!(matches!(&verdict, Verdict::Refused { which, .. } if which == &[2]), "{verdict:?}");

    for (more, expected) in [
        ("user: reader, password_file: password, exchange: nowhere", "there is no exchange `nowhere`"),
        ("user: reader, password_file: password, vhost: nowhere", "check `vhost`"),
        ("user: nobody, password_file: password", "check user"),
        ("", "check user"),
    ] {
        let error = with(more).probe().await.unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("reader"), "{more}: {error}");
        if more.contains("exchange") {
            let verdict = with(more).send(&batch(1)).await;
            assert!(matches!(&verdict, Verdict::Retry { .. }), "{verdict:?}");
        }
    }

    drop(first);
    assert!(matches!(sink.send(&batch(1)).await, Verdict::Retry { .. }));
    let _second = Broker::start(folder.path(), port, &config, "[].");
    let last = batch(2);
    let delivered = settled(&*sink, &last).await;
    assert!(matches!(delivered, Verdict::Delivered), "{delivered:?}");
    let found = read(port, "events", 2000 + 3 + 2);
    all.extend(with_long.iter().enumerate().filter(|(at, _)| *at != 2).map(|(_, one)| one.clone()));
    all.extend(last);
    let mut kept: Vec<(String, String)> = found.iter().map(|one| (one.4.clone(), one.7.clone())).collect();
    let mut expected: Vec<(String, String)> =
        all.iter().zip(lines(&all)).map(|(one, line)| (one.event.id.to_string(), line)).collect();
    assert_eq!(kept[..2000], expected[..2000], "in order");
    // What came before the long one in its part may be there twice.
    kept.sort();
    expected.sort();
    kept.dedup();
    assert_eq!(kept, expected);
    let one = &found[0];
    assert_eq!((one.0.as_str(), one.1.as_str()), ("amq.topic", "authtap.events.user.login.failed"));
    assert_eq!((one.2.as_str(), one.3, one.6.as_str()), ("application/json", 2, "user.login.failed"));
    assert_eq!(one.5, all[0].event.timestamp.as_millis() / 1000);
}

#[tokio::test]
async fn it_signs_in_by_its_certificate_or_a_password_over_tls() {
    if !wanted_large() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().display().to_string();
    let authority = Authority::new("amqp");
    replace(folder.path(), "ca.pem", &authority.pem());
    replace(folder.path(), "good", "hunter2hunter2\n");
    replace(folder.path(), "bad", "hunter3hunter3\n");
    authority.server(&["127.0.0.1"]).write(folder.path(), "server");
    authority.client("authtap", "us").write(folder.path(), "client");
    authority.client("stranger", "us").write(folder.path(), "stranger");
    let port = free_port();
    let config = format!(
        "listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {base}/ca.pem\nssl_options.certfile = {base}/server.pem\nssl_options.keyfile = {base}/server.key\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = false\nauth_mechanisms.1 = PLAIN\nauth_mechanisms.2 = EXTERNAL\nssl_cert_login_from = common_name\ndefault_user = authtap\ndefault_pass = hunter2hunter2\n"
    );
    let _broker = Broker::start(folder.path(), port, &config, "[rabbitmq_auth_mechanism_ssl].");
    let with = |more: &str| {
        let yaml = format!("{{ type: amqp, address: '127.0.0.1:{port}', mandatory: off, timeout: 5s, {more} }}");
        built(&yaml, folder.path()).unwrap()
    };
    let good = with("user: authtap, password_file: good, tls: { ca: ca.pem }");
    good.probe().await.unwrap();
    assert!(matches!(good.send(&batch(3)).await, Verdict::Delivered), "dropped by the broker, as it was told");
    let certified =
        |name: &str| with(&format!("sasl: external, tls: {{ ca: ca.pem, cert: {name}.pem, key: {name}.key }}"));
    certified("client").probe().await.unwrap();
    for (sink, expected) in [
        (certified("stranger"), "403"),
        (with("user: authtap, password_file: bad, tls: { ca: ca.pem }"), "403"),
        (with("user: authtap, password_file: good, tls: on"), "no connection"),
    ] {
        let error = sink.probe().await.unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("hunter"), "{expected}: {error}");
    }
}
