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
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use tokio::sync::oneshot;

use super::CaptureConfig;
use super::hold::OnDisk;
use super::queue::{Captured, Held, Outlet};
use super::tee::Copier;
use super::watch::Watch;
use crate::auto::gate::{Gate, Keep, PAGE_BYTES};
use crate::event::{Text, Timestamp};
use crate::exchange::{ClientTls, Ended, Exchange, Kept, Request, Response};
use crate::headers::Headers;
use crate::rules::facts::Facts;

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
    /// What is handed over in the end, filled as it becomes known: never moved, since it is large.
    captured: Box<Captured>,
    started: Instant,
    request_copy: Option<RequestCopy>,
    response_copy: Option<Copier>,
    response_limit: usize,
    hint: Option<HeaderName>,
    watch: Arc<Watch>,
    auto: Option<Arc<Gate>>,
    outlet: Rc<Outlet>,
}

impl Pending {
    /// A guard if a route, or capture without routes, may be about this request, or another waits for
    /// it; `None`, without an allocation, if none of this is so.
    pub fn begin(config: &CaptureConfig, head: &Head<'_>, outlet: &Rc<Outlet>) -> Option<Pending> {
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
        let began = Timestamp::now();
        Some(Pending {
            on_disk: waits.map(|waits| OnDisk::new(waits, outlet.stats.clone())),
            inner: Some(Box::new(Inner {
                captured: Box::new(Captured {
                    exchange: Exchange {
                        began,
                        answered: began,
                        duration: Duration::ZERO,
                        client_ip: head.client_ip,
                        scheme: head.scheme,
                        tls: head.tls.cloned(),
                        request_id: String::new(),
                        request: Request {
                            method: head.method.clone(),
                            uri: head.uri.clone(),
                            host: head.host.to_owned(),
                            headers: head.headers.clone(),
                            body: Kept::default(),
                        },
                        response: None,
                        ended: Ended::ClientGone,
                    },
                    candidates,
                    rules: config.rules.clone(),
                    follows,
                    auto: auto.is_some(),
                    held: Held::default(),
                    written,
                }),
                started: Instant::now(),
                request_copy,
                response_copy: None,
                response_limit: config.limits.response_body,
                hint: config.hint.clone(),
                watch: config.watch.clone(),
                auto: auto.cloned(),
                outlet: outlet.clone(),
            })),
        })
    }

    /// Notes what a trusted proxy says of the client's TLS, in place of what our own connection says.
    pub fn tls_told(&mut self, tls: Option<ClientTls>) {
        if let Some(inner) = &mut self.inner {
            inner.captured.exchange.tls = tls.map(Arc::new);
        }
    }

    /// Notes the request id that goes to the application.
    pub fn request_id(&mut self, id: &str) {
        if let Some(inner) = &mut self.inner {
            id.clone_into(&mut inner.captured.exchange.request_id);
        }
    }

    /// Notes the `traceparent` that goes to the application: the event names the trace that the
    /// application knows.
    pub fn traced(&mut self, told: HeaderValue) {
        if let Some(inner) = &mut self.inner {
            inner.captured.exchange.request.headers.insert(HeaderName::from_static("traceparent"), told);
        }
    }

    /// The route that is about the request, if its head alone says so: its id, and the path it is
    /// written for, if it is one path or a template.
    pub fn route(&self) -> Option<(Text, Option<Text>)> {
        let captured = &self.inner.as_ref()?.captured;
        let route = captured.rules.certain(&captured.candidates, &asked(&captured.exchange.request))?;
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
        let captured = &mut *inner.captured;
        if captured.candidates.is_empty()
            && !captured.follows
            && inner.auto.is_none()
            && !inner.hint.as_ref().is_some_and(|name| headers.contains_key(name))
        {
            self.inner = None;
            return;
        }
        let now = Timestamp::now();
        captured.exchange.answered = now;
        let request = &captured.exchange.request;
        let mut facts = asked(request);
        facts.response = Some((status, headers));
        facts.at = now;
        // Before the client can act on the answer, and so before its next request.
        if let Some(within) = captured.rules.may_follow(&captured.candidates, &facts) {
            inner.watch.open(inner.watch.client(captured.exchange.client_ip, &request.headers), within);
        }
        let followed = captured.follows && captured.rules.follow_needs().response_body;
        if followed || captured.rules.wants_answer(&captured.candidates, &facts) {
            inner.response_copy = Some(Copier::new(inner.response_limit));
        }
        if let Some(gate) = &inner.auto {
            let request = (&request.method, &request.uri, request.host.as_str(), &request.headers);
            match gate.keep(request, captured.exchange.client_ip, (status, headers), now) {
                Keep::Nothing if captured.candidates.is_empty() && !captured.follows && inner.hint.is_none() => {
                    self.inner = None;
                    return;
                }
                Keep::Nothing => captured.auto = false,
                Keep::Head => {}
                Keep::Page | Keep::Body if inner.response_copy.is_some() => {}
                Keep::Page => inner.response_copy = Some(Copier::new(inner.response_limit.min(PAGE_BYTES))),
                Keep::Body => inner.response_copy = Some(Copier::new(inner.response_limit)),
            }
        }
        captured.exchange.response = Some(Response { status, headers: headers.clone(), body: Kept::default() });
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
            inner.captured.exchange.ended = ended;
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
    fn hand_over(self) {
        let Inner { mut captured, started, request_copy, response_copy, outlet, .. } = self;
        let exchange = &mut captured.exchange;
        match &mut exchange.response {
            Some(response) => {
                if let Some(mut copy) = response_copy {
                    if exchange.ended == Ended::Complete {
                        copy.end();
                    }
                    response.body = copy.kept();
                }
            }
            // No route is about it, and no answer came that could have said something.
            None if captured.candidates.is_empty() && !captured.follows => return,
            None => exchange.answered = Timestamp::now(),
        }
        if let Some(mut copy) = request_copy.as_ref().and_then(|copy| copy.try_borrow_mut().ok()) {
            exchange.request.body = copy.kept();
        }
        exchange.duration = started.elapsed();
        outlet.offer(captured);
    }
}

/// What is asked.
fn asked(request: &Request) -> Facts<'_> {
    Facts::of_request(&request.method, &request.uri, &request.host, &request.headers)
}
