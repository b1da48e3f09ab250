//! `Expect: 100-continue` (RFC 9110 section 10.1.1): the application, not the proxy, says whether
//! the body may come.
//!
//! The body is not asked for until the application has said so, whose own word is passed on.
//! An application that says nothing (HTTP/1.0, or one that only reads) gets the body after
//! [`PATIENCE`], as the RFC wants of whoever waits.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{StatusCode, header};

use super::passage::Passage;
use crate::headers::Headers;

/// How long the application may take to say something before it is sent the body anyway.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps a body back until it is opened.
#[derive(Clone, Debug, Default)]
pub struct Gate(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    open: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

impl Gate {
    /// Lets the body through from now on; true if it was kept back until now.
    pub fn open(&self) -> bool {
        let first = !self.0.open.replace(true);
        let waiting = self.0.waiting.take();
        waiting.inspect(Waker::wake_by_ref);
        first
    }

    /// Whether it lets the body through.
    pub fn is_open(&self) -> bool {
        self.0.open.get()
    }

    /// Ready once it is open.
    pub fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.0.open.get() {
            return Poll::Ready(());
        }
        *self.0.waiting.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// True if the client waits to be told that its body may come.
pub fn is_expected(headers: &Headers) -> bool {
    headers.get(header::EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Says 100 in the application's place when it has said nothing for long enough.
pub fn go_on_late(passage: &Passage) {
    let passage = passage.clone();
    tokio::task::spawn_local(async move {
        tokio::time::sleep(PATIENCE).await;
        passage.say(StatusCode::CONTINUE, &Headers::new());
    });
}
