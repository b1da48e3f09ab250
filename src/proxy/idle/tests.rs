use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::{advance, timeout};

use super::*;

const IDLE: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_secs(29);

/// A body of what is sent to it; it counts how often it is asked.
struct Fed(mpsc::Receiver<Bytes>, Arc<AtomicU32>);

impl Body for Fed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.1.fetch_add(1, Relaxed);
        self.0.poll_recv(cx).map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

fn fed(idle: Duration) -> (mpsc::Sender<Bytes>, Arc<AtomicU32>, IdleBody<Fed>) {
    let (sender, receiver) = mpsc::channel(16);
    let asked = Arc::<AtomicU32>::default();
    (sender, asked.clone(), IdleBody::new(Fed(receiver, asked), idle))
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stands_still_fails_exactly_when_its_time_is_over() {
    let (sender, _, mut body) = fed(IDLE);
    sender.send(Bytes::from_static(b"a")).await.expect("open");
    assert!(body.frame().await.is_some_and(|f| f.is_ok()));
    advance(Duration::from_secs(7)).await;
    let began = Instant::now();
    assert!(matches!(body.frame().await, Some(Err(IdleError::Idle))));
    assert_eq!(began.elapsed(), IDLE);
    assert!(body.is_end_stream());
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_that_moves_goes_on_and_wakes_its_reader_seldom() {
    let (sender, asked, mut body) = fed(IDLE);
    let feeding = tokio::spawn(async move {
        for _ in 0..10 {
            tokio::time::sleep(SHORT).await;
            sender.send(Bytes::from_static(b"a")).await.expect("open");
        }
    });
    let mut frames = 0;
    while let Some(frame) = body.frame().await {
        frame.expect("in time");
        frames += 1;
    }
    feeding.await.expect("fed");
    assert_eq!(frames, 10);
    // Once for each frame, once to wait for it, once for each alarm; no more.
    assert!(asked.load(Relaxed) <= 3 * 11, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_not_taken_for_a_slow_sender() {
    let (sender, _, mut body) = fed(IDLE);
    // Nobody waits yet.
    advance(IDLE * 3).await;
    sender.send(Bytes::from_static(b"a")).await.expect("open");
    assert!(body.frame().await.is_some_and(|f| f.is_ok()));
    advance(IDLE * 3).await;
    assert!(timeout(SHORT, body.frame()).await.is_err(), "still in time");
    // It waited, was given a frame in time, and was asked for it late.
    sender.send(Bytes::from_static(b"b")).await.expect("open");
    advance(IDLE * 3).await;
    assert!(body.frame().await.is_some_and(|f| f.is_ok()));
    drop(sender);
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn zero_is_no_limit() {
    let (_sender, _, mut body) = fed(Duration::ZERO);
    assert!(timeout(IDLE * 1000, body.frame()).await.is_err());
    let (_client, mut stream) = streams(IdleTimes::default());
    assert!(timeout(IDLE * 1000, stream.read_u8()).await.is_err());
}

fn streams(times: IdleTimes) -> (DuplexStream, IdleStream<DuplexStream>) {
    let (client, server) = duplex(8);
    (client, IdleStream::new(server, times))
}

const TIMES: IdleTimes = IdleTimes { first_byte: Duration::from_secs(5), idle: IDLE };

async fn times_out<T: std::fmt::Debug>(of: impl Future<Output = io::Result<T>>) -> Duration {
    let began = Instant::now();
    assert_eq!(of.await.expect_err("no byte").kind(), io::ErrorKind::TimedOut);
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_is_ended_by_the_time_of_its_first_byte() {
    let (_client, mut stream) = streams(TIMES);
    advance(Duration::from_secs(2)).await;
    // Our own words do not count for it.
    stream.write_all(b"hello").await.expect("room");
    assert_eq!(times_out(stream.read_u8()).await, Duration::from_secs(3));
    // It stays ended.
    assert_eq!(times_out(stream.write_all(b"x")).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_ended_when_neither_direction_moved() {
    let (mut client, mut stream) = streams(TIMES);
    client.write_all(b"a").await.expect("room");
    stream.read_u8().await.expect("a byte");
    for _ in 0..4 {
        assert!(timeout(SHORT, stream.read_u8()).await.is_err(), "still in time");
        stream.write_all(b"x").await.expect("room");
    }
    assert_eq!(times_out(stream.read_u8()).await, IDLE);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_ended_even_while_it_waits_for_an_answer() {
    let (mut client, mut stream) = streams(TIMES);
    client.write_all(b"a").await.expect("room");
    stream.read_u8().await.expect("a byte");
    let _hold = stream.busy().hold();
    advance(IDLE * 2).await;
    assert_eq!(times_out(stream.write_all(&[0; 100])).await, IDLE);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_only_now_waits_has_its_full_time() {
    let (mut client, mut stream) = streams(TIMES);
    client.write_all(b"a").await.expect("room");
    stream.read_u8().await.expect("a byte");
    let _hold = stream.busy().hold();
    // The peer's window is exactly full, and nothing is written for long.
    stream.write_all(&[0; 8]).await.expect("room");
    advance(IDLE * 2).await;
    assert_eq!(times_out(stream.write_all(b"x")).await, IDLE);
}

#[tokio::test(start_paused = true)]
async fn silence_while_an_answer_is_made_is_no_idleness_and_counts_from_its_end() {
    let (mut client, mut stream) = streams(TIMES);
    client.write_all(b"a").await.expect("room");
    stream.read_u8().await.expect("a byte");
    let hold = stream.busy().hold();
    assert!(timeout(IDLE * 10 + SHORT, stream.read_u8()).await.is_err(), "still held");
    drop(hold);
    assert_eq!(times_out(stream.read_u8()).await, IDLE);
}

#[tokio::test(start_paused = true)]
async fn what_moves_touches_no_timer() {
    let (mut client, mut stream) = streams(TIMES);
    for _ in 0..100 {
        client.write_all(b"a").await.expect("room");
        stream.read_u8().await.expect("a byte");
        stream.write_all(b"b").await.expect("room");
        client.read_u8().await.expect("a byte");
    }
    assert!(stream.state.alarm.sleep.is_none());
    // One wait makes the timer; bytes after it leave it as it was set.
    assert!(timeout(Duration::from_secs(1), stream.read_u8()).await.is_err());
    let set = stream.state.alarm.sleep.as_ref().map(|s| s.deadline());
    client.write_all(b"a").await.expect("room");
    advance(Duration::from_secs(1)).await;
    stream.read_u8().await.expect("a byte");
    let mut byte = [0];
    let mut empty = ReadBuf::new(&mut byte);
    let pending = poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_read(cx, &mut empty).is_pending())).await;
    assert!(pending);
    assert_eq!(stream.state.alarm.sleep.as_ref().map(|s| s.deadline()), set);
}

#[tokio::test(start_paused = true)]
async fn a_time_that_is_asked_for_at_the_end_of_a_tasks_turn_runs_out_too() {
    let mut alarm = Alarm::default();
    let began = Instant::now();
    let mut used_up = false;
    let asked = poll_fn(|cx| {
        if !used_up {
            while has_budget_remaining() {
                assert!(pin!(tokio::task::coop::consume_budget()).poll(cx).is_ready());
            }
            used_up = true;
        }
        alarm.poll(began + SHORT, cx)
    });
    timeout(IDLE, asked).await.expect("the timer was made");
    assert_eq!(began.elapsed(), SHORT);
}
