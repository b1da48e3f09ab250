//! The pipeline without traffic: recorded exchanges in, events out.
//!
//! Behind `replay`, `explain`, `learn` and `test`. What it is handed goes the way of live traffic: the
//! same routes, memory and order, bodies reduced to what capture would have kept. It binds no port, makes
//! no folder and writes to no sink. Time is that of the recording: what waits for a next request waits
//! until the next exchange says that it is too late.

use std::net::Ipv4Addr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::StartError;
use crate::auto::gate::{Gate, Keep};
use crate::capture::Limits;
use crate::capture::queue::{Captured, Held};
use crate::config::settings::Config;
use crate::event::{Event, Timestamp};
use crate::exchange::{Exchange, Kept};
use crate::pipeline::{Pipeline, PipelineConfig};
use crate::proxy::client_ip::ClientIp;
use crate::rules::RuleSet;
use crate::rules::facts::Facts;
use crate::session::key;
use crate::spool::memory::MemorySpool;
use crate::telemetry::Metrics;

/// The pipeline over recorded exchanges.
pub struct Offline {
    pipeline: Pipeline,
    rules: Arc<RuleSet>,
    client_ip: ClientIp,
    limits: Limits,
    auto: Option<Gate>,
}

impl Offline {
    /// A pipeline as this configuration would run it.
    ///
    /// # Errors
    /// A database or key that the configuration names cannot be read.
    pub fn new(config: &Config) -> Result<Offline, StartError> {
        let pipeline = PipelineConfig {
            enrichers: Arc::new(config.enrich.build(&config.base)?),
            session: config.session.clone(),
            watch: Arc::default(),
            identity: config.identity.build(&config.base)?,
            hint: config.hint.clone(),
        };
        let key = key::fresh().map_err(StartError::System)?;
        // Nothing is appended: the events are the caller's.
        let spool = Arc::new(MemorySpool::new(1));
        let pipeline = Pipeline::new(Arc::new(ArcSwap::from_pointee(pipeline)), key, spool, Arc::new(Metrics::new()));
        Ok(Offline {
            pipeline,
            rules: config.rules.clone(),
            client_ip: config.client_ip.clone(),
            limits: config.capture,
            auto: config.auto.then(Gate::default),
        })
    }

    /// How much of bodies capture keeps.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// An exchange as capture would hand it over.
    pub fn captured(&self, mut exchange: Exchange) -> Captured {
        // A recording by the browser itself has no client but itself.
        if exchange.client_ip == Ipv4Addr::LOCALHOST {
            exchange.client_ip = self.client_ip.decide(Some(exchange.client_ip), &exchange.request.headers);
        }
        let request = &exchange.request;
        let mut head = Facts::of_request(&request.method, &request.uri, &request.host, &request.headers);
        let candidates = self.rules.candidates(&head).unwrap_or_default();
        let follows = self.rules.follow_needs();
        let auto = self.auto.as_ref().filter(|_| Gate::may_matter(&request.method, &request.uri, &request.headers));
        let wants_request = candidates.wants_request_body
            || follows.request_body
            || (auto.is_some() && Gate::wants_request_body(&request.method, &request.headers));
        head.response = exchange.response.as_ref().map(|r| (r.status, &r.headers));
        head.at = exchange.answered;
        let mut wants_answer = follows.response_body || self.rules.wants_answer(&candidates, &head);
        let keep = auto.zip(head.response).map(|(gate, answer)| {
            let request = (&request.method, &request.uri, request.host.as_str(), &request.headers);
            gate.keep(request, exchange.client_ip, answer, exchange.answered)
        });
        wants_answer |= matches!(keep, Some(Keep::Page | Keep::Body));
        let auto = keep.is_some_and(|keep| keep != Keep::Nothing);
        if !wants_request {
            exchange.request.body = Kept::default();
        }
        if let Some(response) = exchange.response.as_mut().filter(|_| !wants_answer) {
            response.body = Kept::default();
        }
        Captured {
            exchange,
            candidates,
            rules: self.rules.clone(),
            follows: true,
            auto,
            written: None,
            held: Held::default(),
        }
    }

    /// The events that are due before an exchange began, because nothing came in time.
    pub fn before(&mut self, captured: &Captured) -> Vec<Event> {
        self.pipeline.events_of_time(captured.exchange.began)
    }

    /// What is known of an exchange when its rules are asked.
    pub fn facts<'e>(&mut self, captured: &'e Captured) -> Facts<'e> {
        self.pipeline.looked_up(captured)
    }

    /// The events of an exchange.
    pub fn events_of(&mut self, captured: &Captured) -> Vec<Event> {
        self.pipeline.events_of(captured)
    }

    /// What still waits for a request that will not come.
    pub fn end(&mut self) -> Vec<Event> {
        self.pipeline.events_of_time(Timestamp::from_millis(i64::MAX))
    }
}
