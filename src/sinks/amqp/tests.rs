mod rabbitmq;

use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::frame::{Frames, PROTOCOL, first};
use crate::sinks::http::receiver::{built, problems};
use crate::sinks::net::service::batch;
use crate::sinks::{Sink, Verdict};

/// What a publisher said: class and method, and the rest of the payload; 0, 0 are header and body.
type Said = (u16, u16, Vec<u8>);

/// One client, as a broker sees it.
struct Client {
    stream: TcpStream,
    arrived: Vec<u8>,
    published: u64,
}

impl Client {
    /// The next that it says; `None` if it has hung up.
    async fn said(&mut self) -> Option<Said> {
        loop {
            if let Some((frame, length)) = first(&self.arrived).expect("frames") {
                let said = match self.arrived[0] {
                    1 => {
                        let id = |at: usize| u16::from_be_bytes([frame.payload[at], frame.payload[at + 1]]);
                        (id(0), id(2), frame.payload[4..].to_vec())
                    }
                    _ => (0, 0, frame.payload.to_vec()),
                };
                self.arrived.drain(..length);
                self.published += u64::from((said.0, said.1) == (60, 40));
                return Some(said);
            }
            if self.stream.read_buf(&mut self.arrived).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    async fn says(&mut self, channel: u16, class: u16, method: u16, arguments: &[u8]) {
        let mut frames = Frames::default();
        frames.method(channel, class, method, |to| to.extend_from_slice(arguments));
        let _ = self.stream.write_all(frames.bytes()).await;
    }

    async fn acks(&mut self, tag: u64, multiple: bool) {
        self.settles(80, tag, multiple).await;
    }

    async fn settles(&mut self, method: u16, tag: u64, multiple: bool) {
        let mut arguments = tag.to_be_bytes().to_vec();
        arguments.push(u8::from(multiple));
        self.says(1, 60, method, &arguments).await;
    }

    /// Lets it in, up to the channel that confirms.
    async fn welcome(&mut self) -> Vec<Said> {
        let mut opening = [0; 8];
        self.stream.read_exact(&mut opening).await.unwrap();
        assert_eq!(&opening, PROTOCOL);
        self.says(0, 10, 10, b"\0\x09\0\0\0\0\0\0\0\x0ePLAIN EXTERNAL\0\0\0\x05en_US").await;
        let mut all = vec![self.said().await.unwrap()];
        self.says(0, 10, 30, b"\x07\xff\0\0\x10\0\0\x3c").await;
        all.extend([self.said().await.unwrap(), self.said().await.unwrap()]);
        self.says(0, 10, 41, b"\0").await;
        all.extend([self.said().await.unwrap(), self.said().await.unwrap()]);
        self.says(1, 20, 11, b"\0\0\0\0").await;
        self.says(1, 85, 11, b"").await;
        all
    }

    /// Waits until so many messages were published, with their headers and bodies of one frame.
    async fn takes(&mut self, count: u64) {
        let (until, mut rest) = (self.published + count, 2);
        while self.published < until || rest > 0 {
            let said = self.said().await.expect("messages");
            rest = if (said.0, said.1) == (60, 40) { 2 } else { rest - 1 };
        }
    }
}

/// A broker in the test's own process: whoever comes gets what the script does with the how-manyth.
struct Broker {
    address: String,
    conversations: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Broker {
    async fn start<F, R>(script: F) -> Broker
    where
        F: Fn(Client, usize) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let conversations: Arc<Mutex<Vec<JoinHandle<()>>>> = Arc::default();
        let all = conversations.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut all = all.lock().unwrap();
                let client = Client { stream, arrived: Vec::new(), published: 0 };
                let turn = all.len() + 1;
                all.push(tokio::spawn(script(client, turn)));
            }
        });
        Broker { address, conversations }
    }

    fn connections(&self) -> usize {
        self.conversations.lock().unwrap().len()
    }

    /// Waits until every script has ended, and fails with any that failed.
    async fn ends(&self, sink: Box<dyn Sink>) {
        drop(sink);
        let all = std::mem::take(&mut *self.conversations.lock().unwrap());
        for conversation in all {
            conversation.await.unwrap();
        }
    }
}

fn sink(address: &str, more: &str) -> Box<dyn Sink> {
    built(&format!("{{ type: amqp, address: '{address}', {more} }}"), Path::new(".")).unwrap()
}

fn why(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Retry { why, .. } | Verdict::Refused { why, .. } => why.to_string(),
        Verdict::Delivered => panic!("delivered"),
    }
}

#[tokio::test]
async fn confirmations_are_read_one_by_one_and_many_at_once_and_what_was_not_taken_goes_alone() {
    let broker = Broker::start(|mut client, _| async move {
        client.welcome().await;
        client.takes(5).await;
        client.acks(2, false).await;
        client.acks(3, true).await;
        client.settles(120, 4, false).await;
        client.acks(5, false).await;
        client.takes(1).await;
        client.acks(6, true).await;
        client.takes(2).await;
        client.acks(0, true).await;
        assert!(client.said().await.is_none());
    })
    .await;
    let sink = sink(&broker.address, "");
    let all = batch(5);
    let verdict = sink.send(&all).await;
    assert!(why(&verdict).contains("did not take a message"), "{verdict:?}");
    assert!(matches!(sink.send(&all).await, Verdict::Delivered), "the one that was left");
    assert!(matches!(sink.send(&all[..2]).await, Verdict::Delivered));
    assert_eq!(broker.connections(), 1, "one warm connection");
    broker.ends(sink).await;
}

#[tokio::test]
async fn it_signs_in_as_configured_and_says_nothing_of_it() {
    for (more, mechanism, response) in
        [("user: a, password_env: CARGO_PKG_NAME", "PLAIN", "\0a\0authtap"), ("", "PLAIN", "\0guest\0guest")]
    {
        let broker = Broker::start(move |mut client, _| async move {
            let start_ok = client.welcome().await.remove(0).2;
            let text = String::from_utf8_lossy(&start_ok).into_owned();
            assert!(text.contains(&format!("{mechanism}\0\0\0")) && text.contains(response), "{text:?}");
            client.said().await.unwrap();
            client.says(1, 40, 11, b"").await;
            client.said().await.unwrap();
            client.says(0, 10, 51, b"").await;
            client.said().await;
        })
        .await;
        let yaml = format!("{{ type: amqp, address: '{}', {more} }}", broker.address);
        let mut problems = crate::config::problem::Problems::new("t.yaml", &yaml);
        let node = crate::config::node::Node::parse(&yaml, &mut problems).unwrap();
        let spec = crate::sinks::check(&node, &mut problems).unwrap();
        assert_eq!(problems.to_string().contains("crosses the network in clear"), !more.is_empty());
        let sink = spec.build(&crate::sinks::BuildCx::new(".".into(), false)).unwrap();
        sink.probe().await.unwrap();
        broker.ends(sink).await;
    }
}

#[tokio::test]
async fn a_message_that_ends_the_channel_is_found_and_the_others_are_delivered() {
    let poison = batch(5)[3].line.len();
    let broker = Broker::start(move |mut client, _| async move {
        client.welcome().await;
        let mut tag = 0;
        while let Some((class, method, payload)) = client.said().await {
            tag += u64::from((class, method) == (60, 40));
            if (class, method) == (0, 0) && payload.starts_with(b"{") {
                if payload.len() != poison {
                    client.acks(tag, false).await;
                    continue;
                }
                client.says(1, 20, 40, &[&406_u16.to_be_bytes()[..], b"\x05alice\0\x3c\0\x28"].concat()).await;
                // As a broker does: only the channel has ended.
                while client.said().await.is_some() {}
                return;
            }
        }
    })
    .await;
    let sink = sink(&broker.address, "");
    let all = batch(5);
    assert!(all.iter().enumerate().all(|(i, one)| i == 3 || one.line.len() != poison));
    let verdict = loop {
        match sink.send(&all).await {
            Verdict::Retry { why, .. } => assert!(why.to_string().contains("406"), "{why}"),
            verdict => break verdict,
        }
    };
    assert!(matches!(&verdict, Verdict::Refused { which, .. } if which == &[3]), "{verdict:?}");
    assert!(!why(&verdict).contains("alice"), "{verdict:?}");
    broker.ends(sink).await;
}

#[tokio::test]
async fn while_the_broker_is_blocked_nothing_is_written_again() {
    let (free, freed) = tokio::sync::oneshot::channel::<()>();
    let freed = Arc::new(Mutex::new(Some(freed)));
    let broker = Broker::start(move |mut client, turn| {
        let freed = freed.lock().unwrap().take();
        async move {
            client.welcome().await;
            client.takes(3).await;
            if turn == 1 {
                client.says(0, 10, 60, b"\x03low").await;
                freed.unwrap().await.unwrap();
                assert_eq!(client.published, 3);
                client.says(0, 10, 61, b"").await;
                assert!(client.said().await.is_none(), "it is given up");
            } else {
                client.acks(3, true).await;
                client.said().await;
            }
        }
    })
    .await;
    let sink = sink(&broker.address, "timeout: 300ms");
    let all = batch(3);
    for _ in 0..3 {
        let verdict = sink.send(&all).await;
        assert!(why(&verdict).contains("takes no messages now"), "{verdict:?}");
    }
    assert_eq!(broker.connections(), 1);
    free.send(()).unwrap();
    assert!(matches!(sink.send(&all).await, Verdict::Delivered));
    assert_eq!(broker.connections(), 2);
    broker.ends(sink).await;
}

#[tokio::test]
async fn a_connection_that_ended_between_batches_costs_nothing() {
    let broker = Broker::start(|mut client, turn| async move {
        client.welcome().await;
        client.takes(1).await;
        client.acks(1, false).await;
        if turn == 1 {
            client.says(0, 10, 50, b"\x01\x40\x03bye\0\0\0\0").await;
            return;
        }
        client.said().await;
    })
    .await;
    let sink = sink(&broker.address, "");
    assert!(matches!(sink.send(&batch(1)).await, Verdict::Delivered));
    // Until its end has arrived; the next batch finds it so, or is tried again.
    let delivered = loop {
        match sink.send(&batch(1)).await {
            Verdict::Delivered => break true,
            Verdict::Retry { why, .. } => assert!(why.to_string().contains("320") || why.to_string().contains("broke")),
            Verdict::Refused { .. } => break false,
        }
    };
    assert!(delivered && broker.connections() == 2);
    broker.ends(sink).await;
}

#[tokio::test]
async fn a_broker_that_falls_silent_hangs_up_or_speaks_otherwise_is_told_in_time() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "no answer within 200ms"),
        (b"AMQP\0\x01\0\0", "no broker of AMQP 0-9-1"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "no broker of AMQP 0-9-1"),
        (b"\x01\0\0\0\0\0\x04\0\x0a\0\x29\xce", "no sense in the conversation"),
        (b"\x01\0\0\0\0\0\x12\0\x0a\0\x0a\0\x09\0\0\0\0\0\0\0\0\0\0\0\0\xce", "check `sasl`"),
        (b"\x01\0\0\xff\xff\xff\xff", "no broker of AMQP 0-9-1"),
    ];
    for (answer, expected) in cases {
        let broker = Broker::start(move |mut client, _| async move {
            client.stream.write_all(answer).await.unwrap();
            let mut rest = Vec::new();
            let _ = client.stream.read_to_end(&mut rest).await;
        })
        .await;
        let sink = sink(&broker.address, "timeout: 200ms");
        let told = why(&sink.send(&batch(1)).await);
        assert!(told.contains(expected), "{expected}: {told}");
        assert!(sink.probe().await.is_err());
        broker.ends(sink).await;
    }
}

#[test]
fn settings_that_cannot_be_are_told() {
    for (yaml, expected) in [
        ("exchange: e", "`address` is missing"),
        ("address: 'amqp://u:p@a.test'", "no HOST:PORT"),
        ("address: a.test, routing_key: 'a.#'", "`routing_key` cannot be"),
        ("address: a.test, exchange: \"a\\nb\"", "`exchange` cannot be"),
        ("address: a.test, vhost: ''", "`vhost` cannot be"),
        ("address: a.test, user: u", "a user needs a password"),
        ("address: a.test, sasl: external", "`sasl: external` needs TLS"),
        ("address: a.test, sasl: external, user: u, password_env: A, tls: on", "has no user and password"),
    ] {
        let told = problems(&format!("{{ type: amqp, {yaml} }}"));
        assert!(told.contains(expected), "{yaml}: {told}");
    }
}
