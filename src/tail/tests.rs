use std::net::SocketAddr;
use std::sync::Arc;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

use super::*;
use crate::admin::tests::{failed, state};
use crate::admin::{AdminAuth, AdminError, AdminState, serve};
use crate::spool::Spool;
use crate::spool::memory::MemorySpool;

/// After this a test has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// An output that can be waited for.
struct Screen(watch::Sender<String>);

impl Screen {
    fn new() -> (Screen, watch::Receiver<String>) {
        let (sender, receiver) = watch::channel(String::new());
        (Screen(sender), receiver)
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_modify(|text| text.push_str(&String::from_utf8_lossy(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn until(screen: &mut watch::Receiver<String>, wanted: impl Fn(&str) -> bool) -> String {
    let seen = timeout(PATIENCE, screen.wait_for(|text| wanted(text))).await.expect("it is shown in time");
    seen.expect("tail still runs").clone()
}

/// `tail`, but a test that waits in vain fails instead of hanging.
async fn follow(
    options: TailOptions,
    out: &mut dyn Write,
    err: &mut dyn Write,
    stop: impl Future<Output = ()>,
) -> Result<u64, TailError> {
    timeout(PATIENCE, tail(options, &login, out, err, stop)).await.expect("tail ends in time")
}

fn lines(count: usize) -> impl Fn(&str) -> bool {
    move |text| text.matches('\n').count() >= count
}

fn login(value: &Value) -> String {
    value["actor"]["login"].as_str().unwrap_or("?").to_owned()
}

fn options(address: SocketAddr, query: &str) -> TailOptions {
    let filter = Filter::parse(query).expect("a filter");
    TailOptions { admin: address.to_string(), token: None, filter, json: false, wait: true }
}

/// A running admin listener.
struct Server {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), AdminError>>,
}

impl Server {
    async fn start(listener: TcpListener, state: AdminState) -> Server {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, state, async {
            let _ = stopped.await;
        }));
        Server { stop, task }
    }

    async fn stop(self) {
        self.stop.send(()).expect("the server runs");
        self.task.await.expect("no panic").expect("no error");
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// The same port again, as soon as the system gives it.
async fn again(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn events_are_rendered_as_they_happen_until_stopped() {
    let spool = Arc::new(MemorySpool::new(100));
    let (socket, address) = listener().await;
    let server = Server::start(socket, state(spool.clone())).await;
    spool.append(vec![failed("a"), failed("b")]);
    let ((mut out, mut seen), (mut err, _)) = (Screen::new(), Screen::new());
    let (stop, stopped) = oneshot::channel::<()>();
    let followed = follow(options(address, "since=1h&actor=%2a"), &mut out, &mut err, async {
        let _ = stopped.await;
    });
    let script = async {
        until(&mut seen, lines(2)).await;
        spool.append(vec![failed("c")]);
        let text = until(&mut seen, lines(3)).await;
        stop.send(()).expect("tail runs");
        text
    };
    let (count, text) = tokio::join!(followed, script);
    assert_eq!((count.expect("no error"), text.as_str()), (3, "a\nb\nc\n"));
    server.stop().await;
}

#[tokio::test]
async fn json_writes_the_lines_as_they_are_and_a_limit_ends() {
    let spool = Arc::new(MemorySpool::new(100));
    let (socket, address) = listener().await;
    let server = Server::start(socket, state(spool.clone())).await;
    let events = vec![failed("a"), failed("b"), failed("c")];
    let expected: String = events[..2].iter().map(|event| format!("{}\n", event.to_line())).collect();
    spool.append(events);
    let options = TailOptions { json: true, ..options(address, "since=1h&limit=2") };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let count = follow(options, &mut out, &mut err, std::future::pending()).await.expect("no error");
    assert_eq!((count, String::from_utf8(out).expect("text")), (2, expected));
    assert!(err.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn after_a_restart_on_the_same_port_nothing_is_missing_and_nothing_is_shown_twice() {
    let spool = Arc::new(MemorySpool::new(100));
    let (socket, address) = listener().await;
    let first = Server::start(socket, state(spool.clone())).await;
    spool.append(vec![failed("a"), failed("b")]);
    let ((mut out, mut seen), (mut err, mut told)) = (Screen::new(), Screen::new());
    let followed = follow(options(address, "since=1h&limit=5"), &mut out, &mut err, std::future::pending());
    let script = async {
        until(&mut seen, lines(2)).await;
        first.stop().await;
        // Appended while nobody listens.
        spool.append(vec![failed("c"), failed("d")]);
        until(&mut told, lines(1)).await;
        let second = Server::start(again(address).await, state(spool.clone())).await;
        until(&mut seen, lines(4)).await;
        spool.append(vec![failed("e")]);
        let text = until(&mut seen, lines(5)).await;
        (second, text)
    };
    let (count, (second, text)) = tokio::join!(followed, script);
    assert_eq!((count.expect("no error"), text.as_str()), (5, "a\nb\nc\nd\ne\n"));
    assert!(told.borrow().starts_with(&format!("waiting for authtap at {address} …")));
    assert_eq!(told.borrow().matches("waiting").count(), 1);
    second.stop().await;
}

/// Answers one connection by hand, gives the head of its request, and hangs up.
async fn answer(listener: &TcpListener, answer: &str) -> String {
    let accepted = timeout(PATIENCE, listener.accept()).await.expect("a connection in time");
    let (mut stream, _) = accepted.expect("a connection");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut head).await.expect("a request"), 0);
    }
    stream.write_all(answer.as_bytes()).await.expect("sent");
    stream.shutdown().await.expect("hung up");
    String::from_utf8(head).expect("text")
}

const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn events_during_an_outage_are_shown_even_if_none_was_shown_before() {
    let spool = Arc::new(MemorySpool::new(100));
    spool.append(vec![failed("old"), failed("missed")]);
    let (socket, address) = listener().await;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let followed = follow(options(address, "limit=1"), &mut out, &mut err, std::future::pending());
    let script = async {
        answer(&socket, &format!("{STREAM}id: 1\n\n")).await;
        Server::start(socket, state(spool.clone())).await
    };
    let (count, server) = tokio::join!(followed, script);
    assert_eq!((count.expect("no error"), out.as_slice()), (1, b"missed\n".as_slice()));
    server.stop().await;
}

#[tokio::test]
async fn whoever_comes_back_says_where_it_was_and_half_an_event_does_not_count() {
    let (socket, address) = listener().await;
    let ((mut out, _), (mut err, mut told)) = (Screen::new(), Screen::new());
    let options = TailOptions { token: Some("t0ken\n".into()), ..options(address, "since=1h&limit=3&type=user.%2a") };
    let (stop, stopped) = oneshot::channel::<()>();
    let followed = follow(options, &mut out, &mut err, async {
        let _ = stopped.await;
    });
    let script = async {
        let body = "id: 7\nevent: event\ndata: {}\n\nid: 8\nevent: skipped\ndata: {\"skipped\": 3}\n\nid: 9\ndata: {";
        let first = answer(&socket, &format!("{STREAM}{body}")).await;
        let second = answer(&socket, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\n\r\nfull\n").await;
        let told = until(&mut told, lines(2)).await;
        stop.send(()).expect("tail runs");
        (first, second, told)
    };
    let (count, (first, second, told)) = tokio::join!(followed, script);
    assert_eq!(count.expect("no error"), 1);
    assert!(first.starts_with("GET /events?type=user.*&since=3600000ms&limit=3 HTTP/1.1\r\n"), "{first}");
    assert!(first.contains("authorization: Bearer t0ken\r\n") && !first.contains("last-event-id"), "{first}");
    assert!(second.starts_with("GET /events?type=user.*&limit=2 HTTP/1.1\r\n"), "{second}");
    assert!(second.contains("last-event-id: 8\r\n"), "{second}");
    let waiting = format!("skipped 3 events that authtap no longer holds\nwaiting for authtap at {address} … (full)\n");
    assert_eq!(told, waiting);
}

#[tokio::test]
async fn what_is_no_event_is_left_out_and_said() {
    let (socket, address) = listener().await;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let followed = follow(options(address, "limit=1"), &mut out, &mut err, std::future::pending());
    let long = "x".repeat(MAX_LINE_BYTES);
    let body = format!(
        "event: event\ndata: {long}\n\nevent: event\ndata: not json\n\nevent: news\ndata: {{}}\n\nevent: event\ndata: {{}}\n\n"
    );
    let text = format!("{STREAM}{body}");
    let (count, _) = tokio::join!(followed, answer(&socket, &text));
    assert_eq!((count.expect("no error"), out.as_slice()), (1, b"?\n".as_slice()));
    let err = String::from_utf8(err).expect("text");
    assert_eq!(err, "left out an event of more than 1 MiB\nleft out an event that is not JSON\n");
}

#[tokio::test]
async fn refusals_that_will_not_change_end_it_with_the_remedy() {
    let spool = Arc::new(MemorySpool::new(1));
    let (socket, address) = listener().await;
    let auth = AdminAuth::for_listener(([0, 0, 0, 0], 0).into(), Some("t0ken".into())).expect("a token");
    let server = Server::start(socket, AdminState { auth, ..state(spool) }).await;
    let wrong = TailOptions { token: Some("guess".into()), ..options(address, "") };
    let never = std::future::pending();
    let error = follow(wrong, &mut Vec::new(), &mut Vec::new(), never).await.expect_err("refused").to_string();
    assert!(error.contains("status 401: it demands a token") && !error.contains("guess"), "{error}");
    server.stop().await;

    let (socket, address) = listener().await;
    let page = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 0\r\n\r\n";
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let followed = follow(options(address, ""), &mut out, &mut err, std::future::pending());
    let (ended, _) = tokio::join!(followed, answer(&socket, page));
    assert!(ended.expect_err("refused").to_string().contains("is it the admin listener of authtap?"));
}

#[tokio::test]
async fn without_waiting_a_first_failure_ends_it_with_the_remedy() {
    // Bound and not listening: nobody answers, and no other test can be given the port.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let address = socket.local_addr().expect("an address");
    let options = TailOptions { wait: false, ..options(address, "") };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let never = std::future::pending();
    let error = follow(options, &mut out, &mut err, never).await.expect_err("nobody").to_string();
    assert!(error.contains(&address.to_string()) && error.contains("start `authtap run`"), "{error}");
    assert!(out.is_empty() && err.is_empty());
}

/// An output whose reader has gone, or that is broken.
struct Gone(io::ErrorKind);

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_broken_pipe_ends_quietly_and_a_full_disk_does_not() {
    let spool = Arc::new(MemorySpool::new(8));
    spool.append(vec![failed("a")]);
    let (socket, address) = listener().await;
    let server = Server::start(socket, state(spool)).await;
    let ended = async |kind: io::ErrorKind| {
        let (mut out, mut err) = (Gone(kind), Vec::new());
        follow(options(address, "since=1h"), &mut out, &mut err, std::future::pending()).await
    };
    assert_eq!(ended(io::ErrorKind::BrokenPipe).await.expect("quiet"), 0);
    assert!(matches!(ended(io::ErrorKind::StorageFull).await, Err(TailError::Output(_))));
    server.stop().await;
}

#[test]
fn addresses_are_host_and_port_and_errors_do_not_repeat_them() {
    let shown = |text: &str| Address::parse(text).map(|a| a.to_string());
    assert_eq!(shown("127.0.0.1:9"), Ok("127.0.0.1:9".into()));
    assert_eq!(shown("HTTP://localhost:9/"), Ok("localhost:9".into()));
    assert_eq!(shown("[::1]:9"), Ok("[::1]:9".into()));
    for bad in ["", "localhost", ":9", "localhost:0", "localhost:99999", "https://localhost:9", "http://h:9/x", "::1:9"]
    {
        assert!(shown(bad).is_err(), "{bad}");
    }
    assert_eq!(shown("http://me:secret@localhost:9"), Err("has a user name"));
}

fn parse(chunks: &[&[u8]]) -> (Vec<Message>, Option<String>) {
    let mut parser = SseParser::new();
    let mut messages = Vec::new();
    for chunk in chunks {
        parser.feed(chunk, &mut |message| messages.push(message));
    }
    (messages, parser.last_id().map(str::to_owned))
}

fn message(event: &str, data: &str) -> Message {
    Message { event: event.into(), data: data.into(), cut: false }
}

#[test]
fn the_stream_is_read_as_the_standard_says() {
    let (messages, id) = parse(&[
        b"\xef\xbb\xbf: comment\ndata: a\ndata:b\ndata\n\nevent: x\rdata:  c\r\rid: 5\r\n\r\nevent: y\r\ndata: d\r\nunknown: e\r\n\r\n",
        b"id: 6\0\nevent: lost without data\n\ndata: f\nevent\n\nid: 7\ndata: unfinished\n",
    ]);
    let expected = [message("message", "a\nb\n"), message("x", " c"), message("y", "d"), message("message", "f")];
    assert_eq!(messages, expected);
    assert_eq!(id.as_deref(), Some("5"));
}

#[test]
fn a_line_or_data_beyond_the_bound_is_left_out_and_the_next_event_is_whole() {
    let fits = "x".repeat(MAX_LINE_BYTES - 6);
    let half = "y".repeat(MAX_LINE_BYTES / 2);
    let cut = Message { event: "message".into(), data: String::new(), cut: true };
    for (long, expected) in [
        (format!("data: {fits}\n\n"), message("message", &fits)),
        (format!("data: {fits}x\n\n"), cut.clone()),
        (format!("data: {half}\ndata: {half}\ndata: z\n\n"), cut.clone()),
    ] {
        let text = format!("{long}id: 2\ndata: next\n\n");
        let (messages, id) = parse(&text.as_bytes().chunks(60_000).collect::<Vec<_>>());
        assert!(messages == [expected, message("message", "next")]);
        assert_eq!(id.as_deref(), Some("2"));
    }
    let mut parser = SseParser::new();
    for _ in 0..100 {
        parser.feed(&[b'x'; 60_000], &mut |_| panic!("no event"));
        assert!(parser.line.capacity() <= 2 * MAX_LINE_BYTES);
    }
}

/// Bytes that look like a stream often enough to matter.
fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => prop::sample::select(vec!["\n", "\r", "\r\n", "\n\n", ":", " ", "data", "data: ", "event: e", "id: 1", "id: \0", "\u{feff}", "{}"])
            .prop_map(|s| s.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..5),
    ];
    prop::collection::vec(part, 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_events(stream in any_stream(), cuts in prop::collection::vec(0usize..400, 0..20)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).chain([0, stream.len()]).collect();
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        let whole = parse(&[&stream]);
        prop_assert_eq!(&whole, &parse(&chunks));
        prop_assert_eq!(&whole, &parse(&single));
    }
}
