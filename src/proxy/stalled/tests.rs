use futures_util::future::poll_fn;
use http_body_util::{BodyExt, Full};
use hyper::rt::Executor;
use tokio::io::{AsyncWriteExt, duplex};
use tokio::task::LocalSet;

use super::*;
use crate::proxy::idle::{IdleStream, IdleTimes};

const IDLE: Duration = Duration::from_secs(10);

/// What hyper does with a stream's answer: it asks for a piece as often as the window opens.
async fn pipe(mut body: Paced<Full<Bytes>>, mut window: tokio::sync::mpsc::Receiver<()>) {
    while window.recv().await.is_some() {
        if poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.is_none() {
            return;
        }
    }
}

/// Drops with the stream.
type Alive = tokio::sync::oneshot::Receiver<()>;

/// Runs a stream with an answer of `pieces` pieces; the window, and what says that it is over.
fn stream(guard: &Guard, pieces: usize) -> (tokio::sync::mpsc::Sender<()>, Alive) {
    let body = guard.next().body(Full::from(vec![0; PIECE * pieces]));
    let ((open, window), (guarded, alive)) = (tokio::sync::mpsc::channel(1), tokio::sync::oneshot::channel());
    guard.execute(async move {
        let _guarded: tokio::sync::oneshot::Sender<()> = guarded;
        pipe(body, window).await;
    });
    (open, alive)
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stands_still_is_ended_and_one_that_moves_is_not() {
    let test = async {
        let guard = Guard::new(IDLE, Busy::new());
        let (slow, slow_ended) = stream(&guard, 100);
        let (still, still_ended) = stream(&guard, 100);
        still.send(()).await.expect("it lives");
        let began = Instant::now();
        let moving = async {
            for _ in 0..20 {
                slow.send(()).await.expect("it lives");
                tokio::time::sleep(IDLE * 9 / 10).await;
            }
        };
        let ending = async {
            still_ended.await.expect_err("it was dropped");
            began.elapsed()
        };
        let ((), took) = tokio::join!(moving, ending);
        assert!((IDLE..IDLE * 2).contains(&took), "{took:?}");
        slow_ended.await.expect_err("now it stands still too");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn an_application_that_is_slow_is_not_the_clients_fault_and_zero_is_no_limit() {
    let test = async {
        let patient = Guard::new(Duration::ZERO, Busy::new());
        let (open, mut ended) = stream(&patient, 10);
        open.send(()).await.expect("it lives");
        tokio::time::sleep(IDLE * 100).await;
        assert!(ended.try_recv().is_err_and(|e| e == tokio::sync::oneshot::error::TryRecvError::Empty));
        // Nothing of the answer is there: nothing waits for the client.
        let guard = Guard::new(IDLE, Busy::new());
        let (_open, mut ended) = stream(&guard, 10);
        tokio::time::sleep(IDLE * 100).await;
        assert!(ended.try_recv().is_err_and(|e| e == tokio::sync::oneshot::error::TryRecvError::Empty));
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test(start_paused = true)]
async fn while_the_connection_itself_is_full_no_streams_time_runs() {
    let test = async {
        let (near, mut far) = duplex(1);
        let mut connection = IdleStream::new(near, IdleTimes { first_byte: Duration::ZERO, idle: IDLE * 10 });
        let guard = Guard::new(IDLE, connection.busy());
        let (open, ended) = stream(&guard, 100);
        open.send(()).await.expect("it lives");
        let began = Instant::now();
        let writing = async { connection.write_all(&[0; 8]).await.expect("it is read") };
        let reading = async {
            for _ in 0..8 {
                tokio::time::sleep(IDLE * 9 / 10).await;
                tokio::io::AsyncReadExt::read_u8(&mut far).await.expect("a byte");
            }
        };
        let ending = async {
            ended.await.expect_err("it was dropped");
            began.elapsed()
        };
        let ((), (), took) = tokio::join!(writing, reading, ending);
        assert!(took >= IDLE * 7, "{took:?}");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_body_comes_in_pieces_and_says_its_length() {
    let guard = Guard::new(IDLE, Busy::new());
    let mut body = guard.next().body(Full::from(vec![7; PIECE * 2 + 5]));
    let mut pieces = Vec::new();
    while !body.is_end_stream() {
        assert_eq!(body.size_hint().exact(), Some((PIECE * 2 + 5 - pieces.iter().sum::<usize>()) as u64));
        let frame = body.frame().await.expect("more").expect("no error");
        pieces.push(frame.into_data().expect("data").len());
    }
    assert_eq!(pieces, [PIECE, PIECE, 5]);
}
