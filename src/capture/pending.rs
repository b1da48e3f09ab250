//! An exchange in the making.
//!
//! [`Pending`] is the guard of one exchange: whatever its ending (sent to the end, client gone,
//! application gone, task dropped), dropping it hands the exchange over with how it ended. The
//! request's body may still be arriving when the answer is complete, so its copy is shared between
//! the guard and the body that goes by, on one thread.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use tokio::sync::oneshot;

use super::CaptureConfig;
use super::hold::OnDisk;
use super::queue::{Captured, Held, Queue};
use super::tee::Copier;
use super::watch::Watch;
use crate::auto::gate::{Gate, Keep, PAGE_BYTES};
use crate::event::{Text, Timestamp};
use crate::exchange::{ClientTls, Ended, Exchange, Kept, Request, Response};
use crate::headers::Headers;
use crate::rules::facts::Facts;
use crate::rules::{Candidates, RuleSet};
use crate::telemetry::Traffic;

/// The head of a request, as capture is asked about it.
pub struct Head<'a> {
    /// Method.
    pub method: &'a Method,
    /// Target as sent.
    pub uri: &'a Uri,
    /// Host without port, lower case.
    pub host: &'a str,
    /// Headers as sent by the client.
    pub headers: &'a Headers,
    /// The client, decided once.
    pub client_ip: IpAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// What is known of the client's TLS connection.
    pub tls: Option<&'a Arc<ClientTls>>,
}

/// The copy of a request's body while it arrives.
pub type RequestCopy = Rc<RefCell<Copier>>;

/// One exchange in the making; hands itself over when dropped.
pub struct Pending {
    inner: Option<Box<Inner>>,
    on_disk: Option<OnDisk>,
}

struct Inner {
    started: Instant,
    began: Timestamp,
    answered: Option<Timestamp>,
    client_ip: IpAddr,
    scheme: &'static str,
    tls: Option<Arc<ClientTls>>,
    request_id: String,
    method: Method,
    uri: Uri,
    host: String,
    headers: Headers,
    request_copy: Option<RequestCopy>,
    response: Option<(StatusCode, Headers)>,
    response_copy: Option<Copier>,
    response_limit: usize,
    ended: Ended,
    candidates: Candidates,
    hint: Option<HeaderName>,
    rules: Arc<RuleSet>,
    follows: bool,
    watch: Arc<Watch>,
    auto: Option<Arc<Gate>>,
    queue: Queue,
    stats: Arc<Traffic>,
    written: Option<oneshot::Sender<()>>,
}

impl Pending {
    /// A guard if a route, or capture without routes, may be about this request, or another waits for
    /// it; `None`, without an allocation, if none of this is so.
    pub fn begin(config: &CaptureConfig, head: &Head<'_>, queue: &Queue, stats: &Arc<Traffic>) -> Option<Pending> {
        let facts = Facts::of_request(head.method, head.uri, head.host, head.headers);
        let candidates = config.rules.candidates(&facts);
        let auto = config.auto.as_ref().filter(|_| Gate::may_matter(head.method, head.uri, head.headers));
        let follows = config.watch.is_open(head.client_ip, head.headers);
        // Whether the application has something to say is known with its answer.
        if candidates.is_none() && !follows && auto.is_none() && config.hint.is_none() {
            return None;
        }
        let candidates = candidates.unwrap_or_default();
        let wanted = candidates.wants_request_body
            || (auto.is_some() && Gate::wants_request_body(head.method, head.headers))
            || (follows && config.rules.follow_needs().request_body);
        let request_copy = wanted.then(|| Rc::new(RefCell::new(Copier::new(config.limits.request_body))));
        let (written, waits) = config.hold.then(oneshot::channel).unzip();
        Some(Pending {
            on_disk: waits.map(|waits| OnDisk::new(waits, stats.clone())),
            inner: Some(Box::new(Inner {
                started: Instant::now(),
                began: Timestamp::now(),
                answered: None,
                client_ip: head.client_ip,
                scheme: head.scheme,
                tls: head.tls.cloned(),
                request_id: String::new(),
                method: head.method.clone(),
                uri: head.uri.clone(),
                host: head.host.to_owned(),
                headers: head.headers.clone(),
                request_copy,
                response: None,
                response_copy: None,
                response_limit: config.limits.response_body,
                ended: Ended::ClientGone,
                candidates,
                hint: config.hint.clone(),
                rules: config.rules.clone(),
                follows,
                watch: config.watch.clone(),
                auto: auto.cloned(),
                queue: queue.clone(),
                stats: stats.clone(),
                written,
            })),
        })
    }

    /// Notes what a trusted proxy says of the client's TLS, in place of what our own connection says.
    pub fn tls_told(&mut self, tls: Option<ClientTls>) {
        if let Some(inner) = &mut self.inner {
            inner.tls = tls.map(Arc::new);
        }
    }

    /// Notes the request id that goes to the application.
    pub fn request_id(&mut self, id: &str) {
        if let Some(inner) = &mut self.inner {
            id.clone_into(&mut inner.request_id);
        }
    }

    /// Notes the `traceparent` that goes to the application: the event names the trace that the
    /// application knows.
    pub fn traced(&mut self, told: HeaderValue) {
        if let Some(inner) = &mut self.inner {
            inner.headers.insert(HeaderName::from_static("traceparent"), told);
        }
    }

    /// The route that is about the request, if its head alone says so: its id, and the path it is
    /// written for, if it is one path or a template.
    pub fn route(&self) -> Option<(Text, Option<Text>)> {
        let inner = self.inner.as_ref()?;
        let facts = Facts::of_request(&inner.method, &inner.uri, &inner.host, &inner.headers);
        let route = inner.rules.certain(&inner.candidates, &facts)?;
        let path = match route.paths.as_slice() {
            [only] => only.low_cardinality().and_then(Text::other),
            _ => None,
        };
        Some((route.id.clone(), path))
    }

    /// The copy that the request's body has to feed, if anybody needs it.
    pub fn request_copy(&self) -> Option<RequestCopy> {
        self.inner.as_ref()?.request_copy.clone()
    }

    /// The answer's head is there; decides whether its body is kept.
    pub fn answered(&mut self, status: StatusCode, headers: &Headers) {
        let Some(inner) = &mut self.inner else { return };
        if inner.candidates.is_empty()
            && !inner.follows
            && inner.auto.is_none()
            && !inner.hint.as_ref().is_some_and(|name| headers.contains_key(name))
        {
            self.inner = None;
            return;
        }
        let now = Timestamp::now();
        inner.answered = Some(now);
        let mut facts = Facts::of_request(&inner.method, &inner.uri, &inner.host, &inner.headers);
        facts.response = Some((status, headers));
        facts.at = now;
        // Before the client can act on the answer, and so before its next request.
        if let Some(within) = inner.rules.may_follow(&inner.candidates, &facts) {
            inner.watch.open(inner.watch.client(inner.client_ip, &inner.headers), within);
        }
        let followed = inner.follows && inner.rules.follow_needs().response_body;
        if followed || inner.rules.wants_answer(&inner.candidates, &facts) {
            inner.response_copy = Some(Copier::new(inner.response_limit));
        }
        if let Some(gate) = &inner.auto {
            let request = (&inner.method, &inner.uri, inner.host.as_str(), &inner.headers);
            match gate.keep(request, inner.client_ip, (status, headers), now) {
                Keep::Nothing if inner.candidates.is_empty() && !inner.follows && inner.hint.is_none() => {
                    self.inner = None;
                    return;
                }
                Keep::Nothing => inner.auto = None,
                Keep::Head => {}
                Keep::Page | Keep::Body if inner.response_copy.is_some() => {}
                Keep::Page => inner.response_copy = Some(Copier::new(inner.response_limit.min(PAGE_BYTES))),
                Keep::Body => inner.response_copy = Some(Copier::new(inner.response_limit)),
            }
        }
        inner.response = Some((status, headers.clone()));
    }

    /// Data of the answer's body goes by.
    pub fn see(&mut self, data: &Bytes) {
        if let Some(copy) = self.inner.as_mut().and_then(|i| i.response_copy.as_mut()) {
            copy.see(data);
        }
    }

    /// What the end of the answer waits for, if it is to wait; the time it may take begins now.
    pub fn on_disk(&mut self) -> Option<OnDisk> {
        self.on_disk.take().map(OnDisk::begun)
    }

    /// The exchange ended; hands it over now.
    pub fn finish(&mut self, ended: Ended) {
        if let Some(mut inner) = self.inner.take() {
            inner.ended = ended;
            inner.hand_over();
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            inner.hand_over();
        }
    }
}

impl Inner {
    fn hand_over(mut self: Box<Self>) {
        // No route is about it, and no answer came that could have said something.
        if self.candidates.is_empty() && !self.follows && self.response.is_none() {
            return;
        }
        if self.ended == Ended::Complete
            && let Some(copy) = &mut self.response_copy
        {
            copy.end();
        }
        let duration = self.started.elapsed();
        let request_body = self.request_copy.take().map_or_else(Kept::default, |copy| match copy.try_borrow_mut() {
            Ok(mut copy) => copy.kept(),
            Err(_) => Kept::default(),
        });
        let response_body = self.response_copy.take().map_or_else(Kept::default, |mut copy| copy.kept());
        let exchange = Exchange {
            began: self.began,
            answered: self.answered.unwrap_or_else(Timestamp::now),
            duration,
            client_ip: self.client_ip,
            scheme: self.scheme,
            tls: self.tls,
            request_id: self.request_id,
            request: Request {
                method: self.method,
                uri: self.uri,
                host: self.host,
                headers: self.headers,
                body: request_body,
            },
            response: self.response.map(|(status, headers)| Response { status, headers, body: response_body }),
            ended: self.ended,
        };
        self.queue.offer(
            Captured {
                exchange,
                candidates: self.candidates,
                rules: self.rules,
                auto: self.auto.is_some(),
                follows: self.follows,
                held: Held::default(),
                written: self.written,
            },
            &self.stats,
        );
    }
}
