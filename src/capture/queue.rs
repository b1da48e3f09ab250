//! The bounded way from the traffic threads to the pipeline.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::{mpsc, oneshot};

use crate::exchange::Exchange;
use crate::rules::{Candidates, RuleSet};
use crate::telemetry::Traffic;

/// How many exchanges may wait. Each holds at most its two body prefixes and its headers; ordinary
/// logins hold about 4 KB.
pub const CAPACITY: usize = 4096;

/// How many bytes of bodies may wait, in all: large prefixes fill the queue before many do.
pub const MAX_BYTES: usize = 64 << 20;

/// A finished exchange with the routes it may belong to. It goes its way in a box: it is large to move.
#[derive(Debug)]
pub struct Captured {
    /// The exchange.
    pub exchange: Exchange,
    /// The routes, by index into `rules`.
    pub candidates: Candidates,
    /// The rule set that was in force when the request came.
    pub rules: Arc<RuleSet>,
    /// True if the client's next request was waited for when this one came.
    pub follows: bool,
    /// True if it may be looked at where no route takes it.
    pub auto: bool,
    /// The bytes it holds of the queue's bound; given back when it is dropped.
    pub held: Held,
    /// Used when the event is on disk; dropped if there is none. Whoever holds the answer waits for it.
    pub written: Option<oneshot::Sender<()>>,
}

/// A share of the queue's bound in bytes.
#[derive(Debug, Default)]
pub struct Held {
    bytes: usize,
    of: Option<Arc<AtomicUsize>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(of) = &self.of {
            of.fetch_sub(self.bytes, Relaxed);
        }
    }
}

/// The sending side, one clone a traffic thread.
#[derive(Clone)]
pub struct Queue {
    sender: mpsc::Sender<Box<Captured>>,
    held: Arc<AtomicUsize>,
}

impl Queue {
    /// A queue and its receiving side.
    pub fn new(capacity: usize) -> (Queue, mpsc::Receiver<Box<Captured>>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Queue { sender, held: Arc::default() }, receiver)
    }

    /// Hands an exchange over, or drops and counts it if the queue is full. Never waits.
    pub fn offer(&self, mut captured: Box<Captured>, stats: &Traffic) {
        let answer = captured.exchange.response.as_ref().map_or(0, |r| r.body.bytes.len());
        let bytes = captured.exchange.request.body.bytes.len() + answer;
        let before = self.held.fetch_add(bytes, Relaxed);
        captured.held = Held { bytes, of: Some(self.held.clone()) };
        let taken = before + bytes <= MAX_BYTES && self.sender.try_send(captured).is_ok();
        let counter = if taken { &stats.captured } else { &stats.queue_full };
        counter.fetch_add(1, Relaxed);
    }
}

/// A traffic thread's way to the pipeline. Each exchange that is captured holds on to it: by a count of
/// the thread's own, where clones of its parts would be eight atomic operations.
pub struct Outlet {
    queue: Queue,
    /// The thread's counters.
    pub stats: Arc<Traffic>,
}

impl Outlet {
    /// The way by `queue`, counted in `stats`.
    pub fn new(queue: Queue, stats: Arc<Traffic>) -> Outlet {
        Outlet { queue, stats }
    }

    /// See [`Queue::offer`].
    pub fn offer(&self, captured: Box<Captured>) {
        self.queue.offer(captured, &self.stats);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::Timestamp;
    use crate::exchange::{Ended, Kept, Request};
    use crate::rules::facts::Facts;

    fn boxed(body: usize) -> Box<Captured> {
        let source = "- { id: any, match: { method: POST }, emit: data.viewed }";
        let mut problems = crate::config::problem::Problems::new("t", source);
        let node = crate::config::node::Node::parse(source, &mut problems).expect("yaml");
        let rules = Arc::new(RuleSet::check(node.items(), &[], &mut problems));
        let request = Request {
            method: http::Method::POST,
            uri: http::Uri::from_static("/"),
            host: String::new(),
            headers: crate::headers::Headers::new(),
            body: Kept { bytes: Bytes::from(vec![0; body]), cut: false, asked: true },
        };
        let facts = Facts::of_request(&request.method, &request.uri, "", &request.headers);
        let candidates = rules.candidates(&facts).expect("a candidate");
        let moment = Timestamp::from_millis(0);
        let exchange = Exchange {
            tls: None,
            began: moment,
            answered: moment,
            duration: std::time::Duration::ZERO,
            client_ip: std::net::Ipv4Addr::LOCALHOST.into(),
            scheme: "http",
            request_id: String::new(),
            request,
            response: None,
            ended: Ended::Complete,
        };
        let (held, written) = (Held::default(), None);
        Box::new(Captured { exchange, candidates, rules, follows: false, auto: false, held, written })
    }

    #[test]
    fn a_full_queue_drops_and_counts_by_number_and_by_bytes() {
        let stats = Traffic::default();
        let (queue, mut receiver) = Queue::new(2);
        for _ in 0..3 {
            queue.offer(boxed(10), &stats);
        }
        assert_eq!((stats.captured.load(Relaxed), stats.queue_full.load(Relaxed)), (2, 1));

        let (queue, mut large) = Queue::new(100);
        for _ in 0..3 {
            queue.offer(boxed(MAX_BYTES / 2), &stats);
        }
        assert_eq!(stats.queue_full.load(Relaxed), 2, "two halves fit, a third does not");
        drop(large.try_recv());
        queue.offer(boxed(10), &stats);
        assert_eq!(stats.queue_full.load(Relaxed), 2, "what was taken out gave its bytes back");
        assert!(receiver.try_recv().is_ok());
    }
}
