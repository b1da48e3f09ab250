//! Session cookies that an answer changes outside of every route.
//!
//! Some applications give the session another value with every answer. The session memory loses
//! such a session unless it hears of each change, wherever it happens. Costs a request without a
//! session cookie nothing, one with it a reference to its `Cookie` line; only an answer that really
//! changes the value makes an exchange, of these headers alone.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode, Uri, header};

use super::CaptureConfig;
use super::queue::{Captured, Held, Outlet};
use crate::body::cookie::{self, CookieChange};
use crate::body::wanted::fits;
use crate::event::Timestamp;
use crate::exchange::{Ended, Exchange, Kept, Request, Response};
use crate::headers::Headers;
use crate::rules::Candidates;

/// The `Cookie` line of a request whose session may move.
#[derive(Debug)]
pub struct Rotation {
    cookies: Bytes,
    uri: Uri,
}

impl Rotation {
    /// Notes the cookies of a request; `None` for almost every one that has no session.
    pub fn begin(config: &CaptureConfig, headers: &Headers, uri: &Uri) -> Option<Rotation> {
        // Almost every request that anybody counts by the second has none, and the list below is shared.
        let cookies = headers.get(header::COOKIE)?;
        // Those that are learnt are few: no application has many.
        let learnt = |names: &[String]| {
            !names.is_empty() && cookie::request_cookies(headers).any(|(name, _)| names.iter().any(|n| fits(n, name)))
        };
        let brought = match config.session_cookies.names().is_empty() {
            true => config.watch.learnt_any(learnt),
            false => cookie::brings_any(headers, &config.session_cookies),
        };
        if !brought {
            return None;
        }
        Some(Rotation { cookies: headers.shared(cookies), uri: uri.clone() })
    }

    /// Looks at the answer's head, and hands the change over if there is one.
    pub fn answered(self, config: &CaptureConfig, from: (&str, IpAddr), answer: &Headers, outlet: &Outlet) {
        if !answer.contains_key(header::SET_COOKIE) {
            return;
        }
        let (host, client_ip) = from;
        let now = Timestamp::now();
        let request = Headers::from_iter([(header::COOKIE, self.cookies)]);
        let learnt = config.watch.learnt();
        let named = config.session_cookies.names();
        let names = if named.is_empty() { &*learnt } else { named };
        let moved = names.iter().any(|name| {
            matches!(cookie::change(&request, answer, name, now), CookieChange::Changed | CookieChange::Deleted)
        });
        if !moved {
            return;
        }
        let set = answer.get_all(header::SET_COOKIE).iter().map(|line| (header::SET_COOKIE, line));
        let exchange = Exchange {
            began: now,
            answered: now,
            duration: std::time::Duration::ZERO,
            client_ip,
            scheme: "http",
            tls: None,
            request_id: String::new(),
            request: Request {
                method: Method::GET,
                uri: self.uri,
                host: host.to_owned(),
                headers: request,
                body: Kept::default(),
            },
            response: Some(Response { status: StatusCode::OK, headers: set.collect(), body: Kept::default() }),
            ended: Ended::Complete,
        };
        let captured = Captured {
            exchange,
            candidates: Candidates::default(),
            rules: Arc::clone(&config.rules),
            follows: false,
            auto: false,
            held: Held::default(),
            written: None,
        };
        outlet.offer(Box::new(captured));
    }
}
