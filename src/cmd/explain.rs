//! `authtap explain`: for each recorded exchange, which rules were asked, and why not.
//!
//! The rules are asked by the same pipeline as in `authtap replay`; a trace beside it says how each leaf
//! of a condition came out. What is shown of an exchange is what its event would show: never a body,
//! never a value that somebody typed.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};

use serde_json::{Value, json};

use super::{DONE, FAILED, complain, recorded, serve};
use crate::app::offline::Offline;
use crate::capture::queue::Captured;
use crate::cli::Explain;
use crate::config::settings::Config;
use crate::event::Event;
use crate::learn::is_word;
use crate::rules::calls::Scope;
use crate::rules::condition::Condition;
use crate::rules::extract::shown_path;
use crate::rules::facts::Facts;
use crate::rules::path::compared;
use crate::rules::route::{Route, Rule};
use crate::rules::trace::Trace;

/// Explains a recording.
pub fn run(options: &Explain) -> u8 {
    explained(options).unwrap_or_else(|code| code)
}

fn explained(options: &Explain) -> Result<u8, u8> {
    let config = recorded::config(options.config.as_deref())?;
    let mut offline = Offline::new(&config).map_err(|error| {
        complain(&error.to_string());
        serve::code_of(&error)
    })?;
    let exchanges = recorded::exchanges(&options.recording, offline.limits())?;
    let only = options.only.as_deref().map(|path| compared(path).into_owned());
    let mut out = BufWriter::new(anstream::stdout());
    let mut shown = 0_usize;
    let write = || -> io::Result<()> {
        for (number, exchange) in exchanges.into_iter().enumerate() {
            let captured = offline.captured(exchange);
            let waited = offline.before(&captured);
            let facts = offline.facts(&captured);
            let wanted = only.as_deref().is_none_or(|path| facts.path == path);
            let routes = if wanted { asked(&config, &facts) } else { Vec::new() };
            drop(facts);
            let events = offline.events_of(&captured);
            if wanted {
                shown += 1;
                let report = Report { number: number + 1, captured: &captured, routes, events };
                let text = if options.json { format!("{}\n", report.json()) } else { report.text() };
                out.write_all(text.as_bytes())?;
            }
            out.write_all(late(&waited, options.json).as_bytes())?;
        }
        out.write_all(late(&offline.end(), options.json).as_bytes())?;
        out.flush()
    };
    let written = write();
    if let (0, Some(path)) = (shown, &options.only) {
        complain(&format!(
            "no exchange of {} has the path {path}: --only takes the whole path, without the query",
            options.recording.display()
        ));
    }
    match written {
        Ok(()) => Ok(DONE),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(DONE),
        Err(_) => Ok(FAILED),
    }
}

/// What became of one route.
struct Asked {
    /// The call that it was asked about, of a batch.
    call: Option<Call>,
    id: String,
    /// It decided, and by which rule.
    decided: Option<String>,
    /// What it demands of the request and did not find.
    missing: Vec<String>,
    /// An earlier route decided.
    after: Option<String>,
    rules: Vec<AskedRule>,
}

/// One call of a batch.
#[derive(Clone, PartialEq, Eq)]
struct Call {
    /// From 1.
    number: usize,
    /// How many there are.
    of: usize,
    /// The GraphQL field or the method, where it has a name.
    name: String,
}

/// What became of one rule.
struct AskedRule {
    name: String,
    held: Option<bool>,
    outcome: String,
    why: Vec<String>,
}

/// The routes whose path fits, in order, and how each came out; of a batch for each of its calls.
fn asked(config: &Config, facts: &Facts<'_>) -> Vec<Asked> {
    let routes = || config.rules.routes().iter().filter(|route| fits(route, facts));
    // Where no route looks at calls, the exchange is one to all of them.
    let several = routes().any(|route| route.scope > Scope::Exchange);
    let of = if several { facts.calls().len() } else { 1 };
    let mut all = Vec::new();
    for call in 0..of {
        facts.look_at(call);
        let widest = facts.widest();
        // What looks at all of it has been asked with the first call.
        let concerned = routes().filter(|route| call == 0 || route.scope >= widest);
        let named = (of > 1).then(|| Call { number: call + 1, of, name: call_name(facts) });
        all.extend(asked_about(named.as_ref(), concerned, facts));
    }
    facts.look_at(0);
    all
}

fn fits(route: &Route, facts: &Facts<'_>) -> bool {
    route.paths.is_empty() || route.paths.iter().any(|path| path.matches(&facts.path))
}

/// What is called, if that is a name; never what somebody typed in its place.
fn call_name(facts: &Facts<'_>) -> String {
    let graphql = facts.graphql_field().map(|field| field.name.as_str());
    let xmlrpc = facts.xmlrpc().map(|call| call.method.as_str());
    let jsonrpc = facts.request_json().and_then(|json| json.get("method")?.as_str());
    let name = graphql.or(xmlrpc).or(jsonrpc).filter(|name| is_word(name));
    name.map_or_else(|| "unnamed".to_owned(), str::to_owned)
}

fn asked_about<'r>(call: Option<&Call>, routes: impl Iterator<Item = &'r Route>, facts: &Facts<'_>) -> Vec<Asked> {
    let mut decided: Option<String> = None;
    let mut all = Vec::new();
    for route in routes {
        let demands = Trace::of(&Condition::All(route.demands.clone()), facts);
        // A route for every path is of interest only where it is about the request.
        if route.paths.is_empty() && demands.held() != Some(true) {
            continue;
        }
        let mut asked = Asked {
            call: call.cloned(),
            id: route.id.to_string(),
            decided: None,
            missing: demands.blame(),
            after: decided.clone(),
            rules: Vec::new(),
        };
        if demands.held() == Some(true) && decided.is_none() {
            asked.rules = rules(route, facts);
            let last = asked.rules.last().filter(|rule| rule.held != Some(false));
            asked.decided = Some(last.map_or_else(
                || format!("default, {}", route.default),
                |rule| match rule.held {
                    Some(_) => format!("{}, {}", rule.name, rule.outcome),
                    None => "undecided, unknown".into(),
                },
            ));
            decided = Some(asked.id.clone());
        }
        all.push(asked);
    }
    all
}

/// The rules up to the one that decides, or that leaves it open.
fn rules(route: &Route, facts: &Facts<'_>) -> Vec<AskedRule> {
    let mut all = Vec::new();
    for rule in &route.rules {
        let trace = rule.when.as_ref().map(|when| Trace::of(when, facts));
        let held = trace.as_ref().map_or(Some(true), Trace::held);
        let why = trace.map(|trace| trace.blame()).unwrap_or_default();
        all.push(AskedRule { name: rule.name.to_string(), held, outcome: outcome(rule), why });
        if held != Some(false) {
            break;
        }
    }
    all
}

fn outcome(rule: &Rule) -> String {
    match (&rule.follow, &rule.reason) {
        (Some(_), _) => "the next request decides".into(),
        (None, Some(reason)) => format!("{} ({reason})", rule.outcome),
        (None, None) => rule.outcome.to_string(),
    }
}

struct Report<'a> {
    number: usize,
    captured: &'a Captured,
    routes: Vec<Asked>,
    events: Vec<Event>,
}

impl Report<'_> {
    fn text(&self) -> String {
        let mut out = String::new();
        let exchange = &self.captured.exchange;
        let status = exchange.response.as_ref().map_or_else(|| "no answer".into(), |r| r.status.as_u16().to_string());
        let path = shown_path(&compared(exchange.request.uri.path()), &[]);
        // Writing to a text cannot fail.
        let _ = writeln!(out, "{} {} {path} -> {status}", self.number, exchange.request.method);
        if self.routes.is_empty() {
            let _ = writeln!(out, "  no route has this path");
        }
        let mut before = None;
        for route in &self.routes {
            if let Some(call) = route.call.as_ref().filter(|call| before != Some(call.number)) {
                before = Some(call.number);
                let _ = writeln!(out, "  call {} of {}: {}", call.number, call.of, call.name);
            }
            match (&route.decided, &route.after) {
                (Some(by), _) => {
                    let _ = writeln!(out, "  route {}: decided by {by}", route.id);
                }
                (None, Some(before)) if route.missing.is_empty() => {
                    let _ = writeln!(out, "  route {}: not asked, {before} decided", route.id);
                }
                _ => {
                    let _ = writeln!(out, "  route {}: not about this request", route.id);
                }
            }
            for line in &route.missing {
                let _ = writeln!(out, "    {line}");
            }
            for rule in &route.rules {
                let word = match rule.held {
                    Some(true) => "holds",
                    Some(false) => "does not hold",
                    None => "is open",
                };
                let _ = writeln!(out, "    rule {} ({}) {word}", rule.name, rule.outcome);
                for line in &rule.why {
                    let _ = writeln!(out, "      {line}");
                }
            }
        }
        for event in &self.events {
            let _ = writeln!(out, "  event {}", said(event));
        }
        if self.events.is_empty() {
            let _ = writeln!(out, "  no event");
        }
        out
    }

    fn json(&self) -> Value {
        let exchange = &self.captured.exchange;
        let routes = self.routes.iter().map(|route| {
            let rules = route
                .rules
                .iter()
                .map(|rule| json!({"rule": rule.name, "held": rule.held, "outcome": rule.outcome, "why": rule.why}));
            let call = route.call.as_ref().map(|call| json!({"number": call.number, "of": call.of, "name": call.name}));
            json!({"call": call, "route": route.id, "decided": route.decided, "not_asked_because_of": route.after,
                   "missing": route.missing, "rules": rules.collect::<Vec<_>>()})
        });
        json!({
            "number": self.number, "method": exchange.request.method.as_str(),
            "path": shown_path(&compared(exchange.request.uri.path()), &[]),
            "status": exchange.response.as_ref().map(|r| r.status.as_u16()),
            "routes": routes.collect::<Vec<_>>(), "events": self.events,
        })
    }
}

/// Events of earlier exchanges that nothing decided in time.
fn late(events: &[Event], json: bool) -> String {
    let mut out = String::new();
    for event in events {
        match json {
            true => {
                let _ = writeln!(out, "{}", json!({"late": event}));
            }
            false => {
                let _ = writeln!(out, "event of an earlier exchange, as nothing decided it in time: {}", said(event));
            }
        }
    }
    out
}

/// An event in a few words.
fn said(event: &Event) -> String {
    let mut text = format!("{} {}", event.event_type, event.outcome);
    if let Some(reason) = &event.reason {
        let _ = write!(text, " ({reason})");
    }
    if let Some(who) = event.actor.label() {
        let _ = write!(text, " by {who}");
    }
    if let (None, Some(rule)) = (&event.source.route, &event.source.rule) {
        let _ = write!(text, ", recognised by {rule} with confidence {}", event.source.confidence);
    }
    text
}
