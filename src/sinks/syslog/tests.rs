use std::process::Command;

use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::*;
use crate::sinks::http::receiver::{built, problems, spec};
use crate::sinks::net::service::{Service, batch, free_port, until, wanted};
use crate::tls::fixture::{Authority, replace};

#[test]
fn a_message_has_the_header_of_rfc_5424_and_the_line_as_it_is() {
    let batch = batch(1);
    let one = &batch[0];
    let text = message(&one.event, &one.line, 10, "web-1 authtap 42");
    let expected = format!("<85>1 2026-01-15T09:32:17.123Z web-1 authtap 42 user.login.failed - {}", one.line);
    assert_eq!(text, expected);
    let notice = notice::notice(notice::DROPPED, Outcome::Unknown, &[]);
    assert!(message(&notice, "x", 4, "- - -").starts_with("<36>1 "), "a loss is a warning");
    let long = "acme.a_name_of_our_own_that_is_far_too_long_for_a_message_id";
    let event = crate::spool::sample::of_type(long, "a");
    let text = message(&event, "x", 0, "- - -");
    assert_eq!(text.split(' ').nth(5), Some(&long[..32]));
}

#[tokio::test]
async fn a_datagram_is_a_message_and_one_too_long_is_refused_whole() {
    let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let batch = batch(5);
    let max = batch.iter().map(|one| one.line.len()).max().unwrap().max(500) + 60;
    let yaml =
        format!("{{ type: syslog, address: '{}', hostname: h, max_bytes: {max} }}", receiver.local_addr().unwrap());
    let sink = built(&yaml, folder.path()).unwrap();
    sink.probe().await.unwrap();
    let mut with_long = batch.clone();
    with_long[2].line = format!("{}{}", batch[2].line, "x".repeat(300)).into();
    match sink.send(&with_long).await {
        Verdict::Refused { which, why } => {
            assert_eq!(which, [2]);
            assert!(why.to_string().contains("max_bytes") && !why.to_string().contains("alice"), "{why}");
        }
        verdict => panic!("{verdict:?}"),
    }
    let mut buffer = [0; 65536];
    for one in [&batch[0], &batch[1], &batch[3], &batch[4]] {
        let length = receiver.recv(&mut buffer).await.unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        assert!(text.starts_with("<85>1 ") && text.ends_with(&*one.line), "{text}");
    }
}

#[tokio::test]
async fn a_receiver_of_datagrams_that_is_not_there_is_noticed_where_the_system_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let address = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let sink = built(&format!("{{ type: syslog, address: '{address}' }}"), folder.path()).unwrap();
    let verdict = sink.send(&batch(3)).await;
    assert!(matches!(verdict, Verdict::Retry { .. }), "{verdict:?}");
    let back = UdpSocket::bind(address).await.unwrap();
    assert!(matches!(sink.send(&batch(1)).await, Verdict::Delivered));
    back.recv(&mut [0; 9000]).await.unwrap();
}

#[tokio::test]
async fn over_tcp_each_message_is_counted_or_ended_by_a_line() {
    let folder = tempfile::tempdir().unwrap();
    for framing in ["octet", "line"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let yaml = format!("{{ type: syslog, address: '{address}', transport: tcp, framing: {framing} }}");
        let sink = built(&yaml, folder.path()).unwrap();
        let batch = batch(4);
        assert!(matches!(sink.send(&batch).await, Verdict::Delivered));
        drop(sink);
        let mut text = String::new();
        listener.accept().await.unwrap().0.read_to_string(&mut text).await.unwrap();
        let mut rest = text.as_str();
        for one in &batch {
            let message = if framing == "octet" {
                let (count, after) = rest.split_once(' ').unwrap();
                let (message, after) = after.split_at(count.parse().unwrap());
                rest = after;
                message
            } else {
                let (message, after) = rest.split_once('\n').unwrap();
                rest = after;
                message
            };
            assert!(message.starts_with("<85>1 ") && message.ends_with(&*one.line), "{message}");
        }
        assert_eq!(rest, "");
    }
}

#[test]
fn settings_that_do_nothing_or_cannot_be_are_told() {
    for (yaml, expected) in [
        ("address: a.test, tls: { ca: x }", "`tls` does nothing over udp"),
        ("address: a.test, framing: line", "`framing` does nothing over udp"),
        ("address: a.test, max_bytes: 100", "`max_bytes` cannot be"),
        ("address: a.test, max_bytes: 1MB", "`max_bytes` cannot be"),
        ("address: a.test, facility: local8", "did you mean `local"),
        ("address: a.test, hostname: 'a b'", "`hostname` cannot be"),
        ("address: 'a b'", "no HOST:PORT"),
        ("address: a.test, transport: tcp, app_name: ''", "`app_name` cannot be"),
    ] {
        let told = problems(&format!("{{ type: syslog, {yaml} }}"));
        assert!(told.contains(expected), "{yaml}: {told}");
    }
    spec("{ type: syslog, address: a.test, transport: tls, format: cef }");
}

/// rsyslog as a second reader of RFC 5424: what it understood of each message.
#[tokio::test]
async fn rsyslog_reads_what_was_meant_over_udp_tcp_and_tls() {
    if !wanted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().display();
    let authority = Authority::new("syslog");
    replace(folder.path(), "ca.pem", &authority.pem());
    authority.server(&["127.0.0.1", "localhost"]).write(folder.path(), "server");
    let (udp, tcp, tls) = (free_port(), free_port(), free_port());
    let config = format!(
        r#"global(workDirectory="{base}" maxMessageSize="64k" defaultNetstreamDriverCAFile="{base}/ca.pem"
  defaultNetstreamDriverCertFile="{base}/server.pem" defaultNetstreamDriverKeyFile="{base}/server.key")
module(load="imudp")
module(load="imtcp")
input(type="imudp" port="{udp}" address="127.0.0.1")
input(type="imtcp" port="{tcp}" address="127.0.0.1")
input(type="imtcp" port="{tls}" address="127.0.0.1" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
template(name="t" type="string" string="%pri% %timereported:::date-rfc3339% %hostname% %app-name% %procid% %msgid% %structured-data% %msg%\n")
action(type="omfile" file="{base}/out.log" template="t")
"#
    );
    let file = folder.path().join("rsyslog.conf");
    std::fs::write(&file, config).unwrap();
    let _rsyslog = Service::at(
        tls,
        Command::new("rsyslogd").arg("-n").arg("-f").arg(&file).arg("-i").arg(folder.path().join("pid")),
        "Debian: rsyslog rsyslog-gnutls",
    );
    until("the other ports", || std::net::TcpStream::connect(("127.0.0.1", tcp)).ok());
    until("the port for datagrams", || std::net::UdpSocket::bind(("127.0.0.1", udp)).err());
    let batch = batch(8);
    let mut expected = Vec::new();
    for (transport, settings) in [
        ("udp", format!("address: '127.0.0.1:{udp}'")),
        ("tcp", format!("address: '127.0.0.1:{tcp}'")),
        ("tls", format!("address: '127.0.0.1:{tls}', tls: {{ ca: ca.pem }}")),
    ] {
        for format in ["native", "cef"] {
            let yaml = format!(
                "{{ type: syslog, transport: {transport}, {settings}, hostname: web-1, app_name: {transport}-{format}, facility: local3, format: {format} }}"
            );
            let sink = built(&yaml, folder.path()).unwrap();
            let verdict = sink.send(&batch).await;
            assert!(matches!(verdict, Verdict::Delivered), "{yaml}: {verdict:?}");
            for one in &batch {
                let text = match format {
                    "native" => one.line.to_string(),
                    _ => crate::format::tests::write("cef", &one.event),
                };
                expected.push(format!(
                    "157 2026-01-15T09:32:17.123Z web-1 {transport}-{format} {} user.login.failed - {text}",
                    std::process::id()
                ));
            }
        }
    }
    expected.sort();
    let read = until("rsyslog to write everything", || {
        let text = std::fs::read_to_string(folder.path().join("out.log")).ok()?;
        // Its own lines have another application's name.
        let mut lines: Vec<String> =
            text.lines().filter(|line| line.contains(" web-1 ")).map(|line| line.replacen("  ", " ", 1)).collect();
        lines.sort();
        (lines.len() >= expected.len()).then_some(lines)
    });
    assert_eq!(read, expected);
}
