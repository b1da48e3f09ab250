//! Interim answers of the application on their way to one stream of a client.
//!
//! Whoever hears them has no stream to write to, and whoever has it is waiting for the answer: they
//! wait here for its next turn. Their number and size are bounded for each request.

use std::cell::RefCell;
use std::task::Waker;

use http::header;
use http::{Response, StatusCode};

use super::super::headers::strip_hop_by_hop;
use super::super::passage::{MAX_BYTES, MAX_HEADS};
use super::LINE;
use crate::headers::Headers;

/// See the module.
#[derive(Debug, Default)]
pub struct Heads {
    state: RefCell<State>,
    /// The stream's task.
    task: RefCell<Option<Waker>>,
}

#[derive(Debug, Default)]
struct State {
    heads: Vec<Response<()>>,
    said: usize,
    bytes: usize,
    continued: bool,
}

impl Heads {
    /// Hands one over. Beyond the bounds it is dropped.
    pub fn say(&self, status: StatusCode, headers: &Headers) {
        let mut state = self.state.borrow_mut();
        let lines = headers.iter().map(|(name, value)| name.as_bytes().len() + value.len() + LINE);
        let bytes = lines.fold(state.bytes, usize::saturating_add);
        // Who waits for the word to go on waits for nothing else: it is never one too many.
        let goes_on = status == StatusCode::CONTINUE && !state.continued;
        state.continued |= goes_on;
        if !goes_on && (state.said >= MAX_HEADS || bytes > MAX_BYTES) {
            return;
        }
        (state.said, state.bytes) = (state.said + 1, bytes);
        let mut headers = headers.clone();
        strip_hop_by_hop(&mut headers);
        // There is no body to describe (RFC 9110 section 8.6).
        headers.remove(header::CONTENT_LENGTH);
        let mut head = Response::new(());
        *head.status_mut() = status;
        *head.headers_mut() = headers.to_map();
        state.heads.push(head);
        drop(state);
        let task = self.task.borrow().clone();
        task.inspect(Waker::wake_by_ref);
    }

    /// Whom to wake for the next one.
    pub(super) fn wake(&self, task: &Waker) {
        let known = self.task.borrow().as_ref().is_some_and(|known| known.will_wake(task));
        if !known {
            *self.task.borrow_mut() = Some(task.clone());
        }
    }

    /// Those that wait, in their order.
    pub(super) fn take(&self) -> Vec<Response<()>> {
        std::mem::take(&mut self.state.borrow_mut().heads)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn hint(length: usize) -> Headers {
        Headers::from_iter([(header::LINK, HeaderValue::try_from("x".repeat(length)).unwrap())])
    }

    #[test]
    fn their_number_and_size_are_bounded_for_a_request_whenever_they_are_taken() {
        let heads = Heads::default();
        for n in 0..100 {
            heads.say(StatusCode::EARLY_HINTS, &hint(1));
            if n % 3 == 0 {
                heads.take();
            }
        }
        assert_eq!(heads.state.borrow().said, MAX_HEADS);
        let heads = Heads::default();
        heads.say(StatusCode::EARLY_HINTS, &hint(MAX_BYTES / 2));
        assert_eq!(heads.take().len(), 1);
        heads.say(StatusCode::EARLY_HINTS, &hint(MAX_BYTES / 2));
        assert!(heads.take().is_empty(), "with its line's share it is too much");
    }

    #[test]
    fn the_word_to_go_on_is_told_after_any_number_of_hints_and_once() {
        let heads = Heads::default();
        for _ in 0..100 {
            heads.say(StatusCode::EARLY_HINTS, &hint(1));
        }
        heads.say(StatusCode::CONTINUE, &Headers::new());
        heads.say(StatusCode::CONTINUE, &Headers::new());
        let told = heads.take();
        assert_eq!(told.iter().filter(|head| head.status() == 100).count(), 1);
        assert_eq!(told.len(), MAX_HEADS + 1);
    }

    #[test]
    fn what_describes_a_connection_or_a_body_stays_here() {
        let heads = Heads::default();
        let lines = [("connection", "x-a"), ("x-a", "1"), ("content-length", "7"), ("x-b", "2"), ("upgrade", "x")];
        let lines = lines.map(|(n, v)| (http::HeaderName::from_static(n), HeaderValue::from_static(v)));
        heads.say(StatusCode::PROCESSING, &Headers::from_iter(lines));
        let [head] = &heads.take()[..] else { panic!("one") };
        assert_eq!(head.status(), 102);
        assert_eq!(head.headers().keys().map(http::HeaderName::as_str).collect::<Vec<_>>(), ["x-b"]);
    }
}
