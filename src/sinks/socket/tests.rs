use std::sync::Arc;
use std::sync::Mutex;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Notify;

use crate::sinks::Verdict;
use crate::sinks::http::receiver::{built, problems, spec};
use crate::sinks::http::tests::acceptor;
use crate::sinks::net::service::{batch, lines};
use crate::tls::fixture::{Authority, replace};

/// What a receiver has read, line by line.
#[derive(Clone, Default)]
struct Heard(Arc<(Mutex<Vec<String>>, Notify)>);

impl Heard {
    /// Reads lines until the sender, or after `most` the receiver, hangs up.
    async fn listen(&self, stream: impl AsyncRead + Unpin, most: usize) {
        let mut lines = BufReader::new(stream).lines();
        for _ in 0..most {
            let Ok(Some(line)) = lines.next_line().await else { return };
            self.0.0.lock().unwrap().push(line);
            self.0.1.notify_one();
        }
    }

    async fn once(&self, count: usize) -> Vec<String> {
        loop {
            let heard = self.0.0.lock().unwrap().clone();
            if heard.len() >= count {
                return heard;
            }
            self.0.1.notified().await;
        }
    }
}

#[tokio::test]
async fn events_arrive_one_a_line_and_in_order_over_tcp_and_unix() {
    let folder = tempfile::tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let unix = UnixListener::bind(folder.path().join("s")).unwrap();
    let yaml = format!("{{ type: tcp, address: '{}' }}", tcp.local_addr().unwrap());
    let over_tcp = built(&yaml, folder.path()).unwrap();
    let over_unix = built("{ type: unix, path: s }", folder.path()).unwrap();
    let (by_tcp, by_unix) = (Heard::default(), Heard::default());
    let (one, two) = (by_tcp.clone(), by_unix.clone());
    tokio::spawn(async move { one.listen(tcp.accept().await.unwrap().0, 1000).await });
    tokio::spawn(async move { two.listen(unix.accept().await.unwrap().0, 1000).await });
    let batch = batch(200);
    for part in batch.chunks(70) {
        assert!(matches!(over_tcp.send(part).await, Verdict::Delivered));
        assert!(matches!(over_unix.send(part).await, Verdict::Delivered));
    }
    assert_eq!(by_tcp.once(200).await, lines(&batch));
    assert_eq!(by_unix.once(200).await, lines(&batch));
}

#[tokio::test]
async fn what_a_broken_connection_may_have_swallowed_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sink =
        built(&format!("{{ type: tcp, address: '{}' }}", listener.local_addr().unwrap()), folder.path()).unwrap();
    let heard = Heard::default();
    let ears = heard.clone();
    let (hung_up, told) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (gone, back) = (hung_up.clone(), told.clone());
    tokio::spawn(async move {
        // The first connection is closed after two of three lines; the third is lost on the way.
        ears.listen(listener.accept().await.unwrap().0, 2).await;
        gone.notify_one();
        let second = listener.accept().await.unwrap().0;
        back.notify_one();
        ears.listen(second, 1000).await;
    });
    let batch = batch(40);
    assert!(matches!(sink.send(&batch[..3]).await, Verdict::Delivered));
    hung_up.notified().await;
    // The system tells of the end some time between two batches.
    let mut sent = 3;
    let mut reached = Box::pin(told.notified());
    while sent < batch.len() {
        if matches!(sink.send(&batch[sent..=sent]).await, Verdict::Delivered) {
            sent += 1;
        }
        if futures_util::FutureExt::now_or_never(reached.as_mut()).is_some() {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(sent < batch.len(), "the end was never noticed");
    assert!(matches!(sink.send(&batch[sent..]).await, Verdict::Delivered));
    let all = loop {
        let all = heard.once(1).await;
        if all.last() == lines(&batch).last() {
            break all;
        }
        heard.0.1.notified().await;
    };
    let missing: Vec<usize> = (0..batch.len()).filter(|i| !all.contains(&batch[*i].line.to_string())).collect();
    assert_eq!(missing, Vec::<usize>::new());
}

#[tokio::test]
async fn nobody_there_means_again_and_the_next_try_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let sink = built("{ type: unix, path: s }", folder.path()).unwrap();
    let batch = batch(2);
    match sink.send(&batch).await {
        Verdict::Retry { why, .. } => {
            let why = why.to_string();
            assert!(why.contains("/s: no connection") && !why.contains("alice"), "{why}");
        }
        verdict => panic!("{verdict:?}"),
    }
    assert!(sink.probe().await.is_err());
    let listener = UnixListener::bind(folder.path().join("s")).unwrap();
    let heard = Heard::default();
    let ears = heard.clone();
    tokio::spawn(async move { ears.listen(listener.accept().await.unwrap().0, 1000).await });
    assert!(matches!(sink.send(&batch).await, Verdict::Delivered));
    assert_eq!(heard.once(2).await, lines(&batch));
}

#[tokio::test]
async fn a_receiver_that_reads_nothing_costs_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("s")).unwrap();
    let sink = built("{ type: unix, path: s, timeout: 50ms }", folder.path()).unwrap();
    // The connection is never accepted, and the system's buffer holds only so much.
    let batch = batch(500);
    let mut rounds = 0;
    let why = loop {
        match sink.send(&batch).await {
            Verdict::Retry { why, .. } => break why.to_string(),
            verdict => assert!(matches!(verdict, Verdict::Delivered), "{verdict:?}"),
        }
        rounds += 1;
        assert!(rounds < 1000, "the buffer has no end");
    };
    assert!(why.contains("takes nothing within 50ms"), "{why}");
    drop(listener);
}

#[tokio::test]
async fn over_tls_only_a_trusted_receiver_gets_anything_and_it_may_ask_who_we_are() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other, people) = (Authority::new("ours"), Authority::new("other"), Authority::new("people"));
    replace(folder.path(), "ours.pem", &ours.pem());
    replace(folder.path(), "other.pem", &other.pem());
    people.client("authtap", "acme").write(folder.path(), "me");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Heard::default();
    let (ears, tls) = (heard.clone(), acceptor(&ours, Some(&people)));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = tls.accept(stream).await {
                ears.listen(stream, 1000).await;
            }
        }
    });
    let with = |tls: &str| built(&format!("{{ type: tcp, address: '{address}', tls: {{ {tls} }} }}"), folder.path());
    let batch = batch(3);
    let untrusted = with("ca: other.pem, cert: me.pem, key: me.key").unwrap();
    let verdict = untrusted.send(&batch).await;
    assert!(matches!(&verdict, Verdict::Retry { why, .. } if why.to_string().contains("certificate")), "{verdict:?}");
    assert!(with("ca: ours.pem").unwrap().probe().await.is_err(), "it demands a certificate");
    let known = with("ca: ours.pem, cert: me.pem, key: me.key").unwrap();
    known.probe().await.unwrap();
    assert!(matches!(known.send(&batch).await, Verdict::Delivered));
    assert_eq!(heard.once(3).await, lines(&batch));
}

#[test]
fn every_problem_is_told_at_once_and_no_password_is_repeated() {
    let yaml = "type: tcp\naddress: 'tcp://alice:hunter2@siem.example:1'\ntls: maybe\ntimeout: 1ms\n";
    let told = problems(yaml);
    assert!(told.contains("no HOST:PORT") && told.contains("true or false") && told.contains("`timeout`"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
    let told = problems("{ type: unix, path: '' }");
    assert!(told.contains("`path` names no socket"), "{told}");
    for yaml in
        ["{ type: tcp, address: 'a.test:1', tls: on }", "{ type: tcp, address: 'a.test:1', tls: off, format: cef }"]
    {
        spec(yaml);
    }
}
