use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, duplex};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};

use super::*;
use crate::proxy::idle::{IdleStream, IdleTimes};

const IDLE: Duration = Duration::from_secs(10);

impl Fails for std::convert::Infallible {
    fn reason(&self) -> Option<Reason> {
        match *self {}
    }
}

/// The stream of the first answer on a connection, which is served on.
async fn first(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> SendStream<Bytes> {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let (_, mut respond) = connection.accept().await.unwrap().unwrap();
    spawn_local(async move { while connection.accept().await.is_some() {} });
    respond.send_response(Response::new(()), false).unwrap()
}

/// Both ends of an answer whose reader allows `window` bytes.
async fn pair(window: u32) -> (SendStream<Bytes>, h2::RecvStream) {
    let (near, far) = duplex(1 << 20);
    let asking = async {
        let mut builder = h2::client::Builder::new();
        let (mut sender, connection) = builder.initial_window_size(window).handshake::<_, Bytes>(far).await.unwrap();
        spawn_local(connection);
        let (answer, _) = sender.send_request(Request::get("http://a.test/").body(()).unwrap(), true).unwrap();
        answer.await.unwrap().into_body()
    };
    tokio::join!(first(near), asking)
}

fn zeros(bytes: usize) -> Full<Bytes> {
    Full::from(vec![0; bytes])
}

fn patience(idle: Duration) -> Option<Patience> {
    Some(Patience::new(idle, Busy::new()))
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stands_still_is_reset_and_one_that_moves_is_not() {
    let test = async {
        let window = u32::try_from(PIECE).unwrap();
        let ((slow, mut reader), (still, mut sleeper)) = tokio::join!(pair(window), pair(window));
        let began = Instant::now();
        let moving = async {
            for _ in 0..20 {
                let mut taken = 0;
                while taken < PIECE {
                    taken += reader.data().await.unwrap().unwrap().len();
                }
                tokio::time::sleep(IDLE * 9 / 10).await;
                reader.flow_control().release_capacity(PIECE).unwrap();
            }
        };
        let standing = async {
            let ended = Sending::new(zeros(PIECE * 100), still, patience(IDLE)).await;
            assert!(matches!(ended, Err(Unsent::Stalled)), "{ended:?}");
            began.elapsed()
        };
        let sending = Sending::new(zeros(PIECE * 20), slow, patience(IDLE));
        let (moved, took, ()) = tokio::join!(sending, standing, moving);
        moved.unwrap();
        assert!((IDLE..IDLE * 2).contains(&took), "{took:?}");
        let mut taken = 0;
        let error = loop {
            match sleeper.data().await.unwrap() {
                Ok(data) => taken += data.len(),
                Err(error) => break error,
            }
        };
        assert_eq!((taken, error.reason()), (PIECE, Some(Reason::CANCEL)), "no more than its window");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_takes_a_byte_now_and_then_is_reset_too() {
    let test = async {
        let (sender, mut reader) = pair(1).await;
        let began = Instant::now();
        let dripping = async {
            while let Some(Ok(data)) = reader.data().await {
                tokio::time::sleep(IDLE / 2).await;
                let _ = reader.flow_control().release_capacity(data.len());
            }
        };
        let (ended, ()) = tokio::join!(Sending::new(zeros(100), sender, patience(IDLE)), dripping);
        assert!(matches!(ended, Err(Unsent::Stalled)), "{ended:?}");
        assert!(began.elapsed() < IDLE * 2);
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn an_application_that_is_slow_is_not_the_clients_fault_and_zero_is_no_limit() {
    let test = async {
        let (sender, _reader) = pair(1 << 20).await;
        let (say, said) = mpsc::channel::<Result<Frame<Bytes>, std::convert::Infallible>>(1);
        let slow = StreamBody::new(futures_util::stream::unfold(said, async |mut said| {
            said.recv().await.map(|frame| (frame, said))
        }));
        let mut sending = Box::pin(Sending::new(Box::pin(slow), sender, patience(IDLE)));
        say.send(Ok(Frame::data(Bytes::from_static(b"some")))).await.unwrap();
        assert!(tokio::time::timeout(IDLE * 100, &mut sending).await.is_err(), "it waits for more");
        drop(say);
        sending.await.unwrap();

        let (sender, _reader) = pair(1).await;
        let sending = Sending::new(zeros(100), sender, patience(Duration::ZERO));
        assert!(tokio::time::timeout(IDLE * 100, sending).await.is_err(), "no limit");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn while_the_connection_itself_is_full_no_streams_time_runs() {
    let test = async {
        let (near, mut far) = duplex(64);
        let connection = IdleStream::new(near, IdleTimes { first_byte: Duration::ZERO, idle: IDLE * 100 });
        let busy = connection.busy();
        // Windows that never close, and GET / on stream 1.
        let mut frames = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frames.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff]);
        frames.extend([0, 0, 4, 8, 0, 0, 0, 0, 0, 0x70, 0, 0, 0]);
        frames.extend([0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84]);
        let asking = async {
            far.write_all(&frames).await.unwrap();
            far
        };
        let (sender, mut far) = tokio::join!(first(connection), asking);
        let began = Instant::now();
        let reading = async {
            for _ in 0..8 {
                tokio::time::sleep(IDLE * 9 / 10).await;
                far.read_u8().await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let sending = Sending::new(zeros(4 << 20), sender, Some(Patience::new(IDLE, busy)));
        let ended = tokio::select! { ended = sending => ended, () = reading => unreachable!() };
        assert!(matches!(ended, Err(Unsent::Stalled)), "{ended:?}");
        assert!(began.elapsed() >= IDLE * 7, "{:?}", began.elapsed());
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_body_arrives_whole_with_its_trailers_and_nothing_of_the_connection() {
    let test = async {
        let (sender, mut reader) = pair(100).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("7"));
        trailers.insert("connection", HeaderValue::from_static("close"));
        let frames = [
            Frame::data(Bytes::from(vec![7; PIECE * 2 + 5])),
            Frame::data(Bytes::new()),
            Frame::data(Bytes::from_static(b"end")),
            Frame::trailers(trailers),
        ];
        let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, std::convert::Infallible>)));
        let reading = async {
            let mut taken = Vec::new();
            while let Some(data) = reader.data().await {
                let data = data.unwrap();
                reader.flow_control().release_capacity(data.len()).unwrap();
                taken.extend_from_slice(&data);
            }
            (taken, reader.trailers().await.unwrap().unwrap())
        };
        let (sent, (taken, trailers)) = tokio::join!(Sending::new(body, sender, None), reading);
        sent.unwrap();
        assert_eq!((taken.len(), &taken[PIECE * 2 + 5..]), (PIECE * 2 + 8, &b"end"[..]));
        assert_eq!(trailers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(), ["x-sum"]);
    };
    LocalSet::new().run_until(test).await;
}

/// A failure with this reason.
struct Failure(Option<Reason>);

impl Fails for Failure {
    fn reason(&self) -> Option<Reason> {
        self.0
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_a_reset_with_the_reason_where_that_says_something() {
    let test = async {
        for (given, told) in [
            (None, Reason::INTERNAL_ERROR),
            (Some(Reason::CANCEL), Reason::CANCEL),
            (Some(Reason::NO_ERROR), Reason::INTERNAL_ERROR),
            (Some(Reason::REFUSED_STREAM), Reason::INTERNAL_ERROR),
        ] {
            let (sender, mut reader) = pair(100).await;
            let frames = [Ok(Frame::data(Bytes::from_static(b"part"))), Err(Failure(given))];
            let body = StreamBody::new(futures_util::stream::iter(frames));
            let ended = Sending::new(body, sender, None).await;
            assert!(matches!(ended, Err(Unsent::Broken)), "{ended:?}");
            let error = loop {
                match reader.data().await.unwrap() {
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            assert_eq!(error.reason(), Some(told), "{given:?}");
        }
    };
    LocalSet::new().run_until(test).await;
}
