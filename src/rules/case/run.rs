//! Runs a test: its exchange goes the way of real traffic, through every route of the file.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;

use super::judge::Found;
use super::{Case, Verdict};
use crate::event::{Event, EventType, Timestamp};
use crate::exchange::{Ended, Exchange, Kept, Request, Response};
use crate::rules::facts::Facts;
use crate::rules::follow::Follow;
use crate::rules::route::Route;
use crate::rules::{Candidates, Decision, RuleSet, extract};

/// When every test's answer is given (2026-01-15T09:32:17Z): what a cookie's expiry is held against.
const ANSWERED: Timestamp = Timestamp::from_millis(1_768_469_537_000);
/// The client of every test (RFC 5737: for documentation).
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

impl Case {
    /// Runs the test of `route` against the whole set.
    pub fn run(&self, rules: &RuleSet, route: &Route) -> Verdict {
        let Some((exchange, candidates)) = self.exchange(rules) else { return self.judge(None, route) };
        let mut facts = Facts::of_exchange(&exchange);
        facts.session_known = Some(self.session.is_some());
        facts.served = self.served.clone();
        // Of a batch the first call that gives an event counts.
        let mut first: Option<Found> = None;
        rules.decide_each(&candidates, &facts, |decision| {
            if first.as_ref().is_some_and(|(_, _, event)| event.is_some()) {
                return;
            }
            let mut event = extract::event(&decision, &facts, &exchange);
            let decision = match (decision.follow, &self.next) {
                (Some(follow), Some(next)) => {
                    let placeholder = EventType::fixed("user.login.unknown");
                    let waiting = extract::event_called(placeholder, &decision, &facts, &exchange);
                    let (decision, shown) = next.follows(decision, follow, waiting);
                    event = shown;
                    decision
                }
                _ => decision,
            };
            if let (Some(event), Some(known)) = (&mut event, &self.session) {
                event.actor_of_session(known);
            }
            let decided = (decision.route.id.to_string(), decision.rule.to_string());
            let found = event.map(|event| (event, decision.types.get(1..).unwrap_or_default().to_vec()));
            first = Some((decided, decision.outcome, found));
        });
        self.judge(first, route)
    }

    /// The exchange as capture would hand it over, and the routes it may belong to.
    pub(in crate::rules) fn exchange(&self, rules: &RuleSet) -> Option<(Exchange, Candidates)> {
        let mut head = Facts::of_request(&self.method, &self.uri, &self.host, &self.headers);
        let candidates = rules.candidates(&head)?;
        let mut exchange = self.whole();
        if !candidates.wants_request_body {
            exchange.request.body = Kept::default();
        }
        if let (Some((status, headers, _)), Some(response)) = (&self.response, &mut exchange.response) {
            head.response = Some((*status, headers));
            head.at = ANSWERED;
            if !rules.wants_answer(&candidates, &head) {
                response.body = Kept::default();
            }
        }
        Some((exchange, candidates))
    }

    /// What this exchange, which is the next one, makes of an event that waited for it.
    fn follows<'r>(&self, decision: Decision<'r>, follow: &'r Follow, waiting: Event) -> (Decision<'r>, Option<Event>) {
        let exchange = self.whole();
        let mut facts = Facts::of_exchange(&exchange);
        facts.session_known = Some(self.session.is_some());
        let decision = RuleSet::decide_followed(decision.route, follow, &facts).unwrap_or(decision);
        let event = decision.types.first().map(|first| Event {
            event_type: first.clone(),
            outcome: decision.outcome,
            reason: decision.reason.clone(),
            source: crate::event::Source { rule: Some(decision.rule.clone()), ..waiting.source.clone() },
            ..waiting
        });
        (decision, event)
    }

    /// The exchange with both bodies.
    pub fn whole(&self) -> Exchange {
        let kept = |bytes: &Bytes| Kept { bytes: bytes.clone(), cut: false, asked: true };
        let response = self.response.as_ref().map(|(status, headers, body)| Response {
            status: *status,
            headers: headers.clone(),
            body: kept(body),
        });
        Exchange {
            tls: self.tls.clone(),
            began: ANSWERED,
            answered: ANSWERED,
            duration: Duration::ZERO,
            client_ip: CLIENT,
            scheme: "https",
            request_id: "test".into(),
            request: Request {
                method: self.method.clone(),
                uri: self.uri.clone(),
                host: self.host.clone(),
                headers: self.headers.clone(),
                body: kept(&self.body),
            },
            ended: if response.is_some() { Ended::Complete } else { Ended::UpstreamFailed },
            response,
        }
    }
}
