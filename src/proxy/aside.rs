//! Something that is waited for beside the work of a task, and asked only when it has something to say.
//!
//! A task that waits for two things asks both whenever one of them wakes it. Where the one wakes it with
//! every request and the other at most once in the life of a connection, that is waste. Here the other has
//! a waker of its own, which says who rang.
//!
//! The invariant: after its waker was woken it is asked at the next turn of the task.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use pin_project_lite::pin_project;

struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Release);
        self.task.wake();
    }
}

pin_project! {
    /// See the module.
    pub struct Aside<F> {
        #[pin]
        future: F,
        bell: Arc<Bell>,
        waker: Waker,
    }
}

impl<F: Future> Aside<F> {
    /// Asked for the first time with the task's first turn.
    pub fn new(future: F) -> Aside<F> {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: AtomicWaker::new() });
        let waker = Waker::from(bell.clone());
        Aside { future, bell, waker }
    }
}

impl<F: Future> Future for Aside<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if !this.bell.rung.load(Acquire) {
            return Poll::Pending;
        }
        // Before it is asked: what rings meanwhile wakes this task.
        this.bell.task.register(cx.waker());
        this.bell.rung.swap(false, AcqRel);
        this.future.poll(&mut Context::from_waker(this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn it_is_asked_once_and_then_only_when_its_own_waker_was_woken() {
        let asked = Cell::new(0);
        let own = Cell::new(None);
        let mut aside = std::pin::pin!(Aside::new(poll_fn(|cx| {
            asked.set(asked.get() + 1);
            own.set(Some(cx.waker().clone()));
            if asked.get() < 3 { Poll::Pending } else { Poll::Ready("said") }
        })));
        for _ in 0..5 {
            let polled = poll_fn(|cx| Poll::Ready(aside.as_mut().poll(cx).is_pending())).await;
            assert!(polled);
        }
        assert_eq!(asked.get(), 1);
        own.take().unwrap().wake();
        // Its ring wakes this task too: it is waited for without any other hint.
        let waited = async {
            own.take();
            aside.as_mut().await
        };
        let again = async {
            loop {
                if let Some(waker) = own.take() {
                    break waker.wake();
                }
                tokio::task::yield_now().await;
            }
        };
        let (said, ()) = tokio::join!(waited, again);
        assert_eq!((said, asked.get()), ("said", 3));
    }
}
