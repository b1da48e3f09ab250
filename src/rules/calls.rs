//! What one exchange asks for: one call, or several at once.
//!
//! A GraphQL request holds operations of several top-level fields, and may be a batch; JSON-RPC has
//! batches, XML-RPC has `system.multicall`. A login hidden as the second of ten calls is still a
//! login, so each call is looked at by itself. Must never look at more than [`MAX_CALLS`] of them,
//! and says when there were more.
//!
//! The invariant: every exchange has at least one call, and an exchange that is no batch has exactly
//! one, whatever its body.

use serde_json::Value;

use super::facts::Facts;
use crate::body::graphql::{self, Operation};
use crate::body::{self, form, json, xmlrpc};

/// The most calls of one exchange that are looked at.
pub const MAX_CALLS: usize = 256;

/// The most calls of one exchange that become events, successes and others apart; each may have
/// further ones by `also`.
pub const MAX_EVENTS: usize = 16;

/// The most entries of a batch's answer that are searched for the one with a call's id.
const MAX_ANSWERS: usize = 2 * MAX_CALLS;

/// How much of an exchange a route is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All of it: it is decided once.
    #[default]
    Exchange,
    /// Each entry of a batch.
    Entry,
    /// Each field of each operation, each call of a multicall.
    Field,
}

/// The calls of one exchange.
#[derive(Debug, Default)]
pub struct Calls {
    pub(super) kind: Kind,
    /// True if there were more than are looked at.
    pub(super) cut: bool,
}

#[derive(Debug, Default)]
pub(super) enum Kind {
    /// One, of no kind that is known here.
    #[default]
    Plain,
    /// A JSON-RPC batch of so many entries.
    JsonRpc(usize),
    /// GraphQL; for each call its request and its field.
    GraphQl { requests: Vec<Asked>, fields: Vec<(usize, usize)>, batch: bool },
    /// XML-RPC.
    XmlRpc(xmlrpc::Calls),
}

/// One GraphQL request, or one entry of a batch of them.
#[derive(Debug)]
pub struct Asked {
    /// What is carried out; `None` if only a name or a hash was sent.
    pub operation: Option<Operation>,
    /// `operationName`, else the operation's own name.
    pub name: Option<String>,
    /// `variables`, if they came as text and not within the body's JSON.
    pub(super) variables: Option<Value>,
}

impl Calls {
    /// Reads what the request asks for.
    pub(super) fn of(facts: &Facts<'_>) -> Calls {
        let Some(body) = facts.request_body() else { return Calls::default() };
        let content_type = body::media_type(body::content_type(facts.headers));
        if let Some(json) = body.json() {
            return Calls::of_json(json).unwrap_or_default();
        }
        if content_type.eq_ignore_ascii_case("application/graphql") && !body.cut() {
            let asked = asked(Some(&body.text()), &|name| facts.query().first(name));
            return asked.map_or_else(Calls::default, |one| Calls::graphql(vec![one], false, false));
        }
        if let Some(fields) = body.fields().filter(|fields| fields.complete()) {
            // The multipart form of file uploads wraps the request into `operations`.
            let wrapped = fields.first("operations").and_then(|text| json::parse(text.as_bytes()));
            if let Some(calls) = wrapped.as_ref().and_then(Calls::of_json) {
                return calls.with_variables(wrapped.as_ref());
            }
            if let Some(one) = asked(fields.first("query"), &|name| fields.first(name)) {
                return Calls::graphql(vec![one], false, false);
            }
        }
        if body.decoded().trim_ascii_start().starts_with(b"<")
            && let Some(calls) = xmlrpc::calls(body.decoded(), body.cut())
        {
            let cut = calls.cut;
            return Calls { kind: Kind::XmlRpc(calls), cut };
        }
        let query = facts.query();
        match asked(query.first("query"), &|name| query.first(name)) {
            Some(one) if body.decoded().is_empty() => Calls::graphql(vec![one], false, false),
            _ => Calls::default(),
        }
    }

    fn of_json(json: &Value) -> Option<Calls> {
        match json {
            Value::Object(_) => Some(Calls::graphql(vec![asked_json(json)?], false, false)),
            Value::Array(entries) if !entries.is_empty() => {
                let cut = entries.len() > MAX_CALLS;
                if entries.iter().all(|e| e.get("method").is_some_and(Value::is_string)) {
                    return Some(Calls { kind: Kind::JsonRpc(entries.len().min(MAX_CALLS)), cut });
                }
                let requests: Option<Vec<Asked>> = entries.iter().take(MAX_CALLS).map(asked_json).collect();
                Some(Calls::graphql(requests?, true, cut))
            }
            _ => None,
        }
    }

    fn graphql(requests: Vec<Asked>, batch: bool, mut cut: bool) -> Calls {
        let mut fields = Vec::new();
        for (entry, request) in requests.iter().enumerate() {
            // A request of which only the name is known is one call too.
            let count = request.operation.as_ref().map_or(1, |o| o.fields.len().max(1));
            cut |= request.operation.as_ref().is_some_and(|o| o.cut);
            for field in 0..count {
                if fields.len() >= MAX_CALLS {
                    cut = true;
                    break;
                }
                fields.push((entry, field));
            }
        }
        Calls { kind: Kind::GraphQl { requests, fields, batch }, cut }
    }

    /// Variables of a JSON text that is not the body itself.
    fn with_variables(mut self, wrapped: Option<&Value>) -> Calls {
        if let Kind::GraphQl { requests, batch, .. } = &mut self.kind {
            for (entry, request) in requests.iter_mut().enumerate() {
                let of = if *batch { wrapped.and_then(|w| w.get(entry)) } else { wrapped };
                request.variables = request.variables.take().or_else(|| of?.get("variables").cloned());
            }
        }
        self
    }

    /// How many there are; at least one.
    pub fn len(&self) -> usize {
        match &self.kind {
            Kind::Plain => 1,
            Kind::JsonRpc(entries) => *entries,
            Kind::GraphQl { fields, .. } => fields.len().max(1),
            Kind::XmlRpc(calls) => calls.calls.len().max(1),
        }
    }

    /// Never: there is always one.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// True if there were more than are looked at.
    pub fn cut(&self) -> bool {
        self.cut
    }

    /// The widest route that call number `call` concerns: the first also concerns those about the
    /// whole exchange, the first of an entry also those about the entry.
    pub(super) fn widest(&self, call: usize) -> Scope {
        match &self.kind {
            _ if call == 0 => Scope::Exchange,
            Kind::GraphQl { fields, .. } if fields.get(call).is_some_and(|(_, field)| *field > 0) => Scope::Field,
            Kind::XmlRpc(_) => Scope::Field,
            _ => Scope::Entry,
        }
    }

    /// Which entry of a batch call number `call` belongs to; `None` if there is no batch.
    pub(super) fn entry(&self, call: usize) -> Option<usize> {
        match &self.kind {
            Kind::JsonRpc(_) => Some(call),
            Kind::GraphQl { fields, batch: true, .. } => fields.get(call).map(|(entry, _)| *entry),
            _ => None,
        }
    }
}

/// A request as JSON: a document, or what stands for one that the application has already.
fn asked_json(json: &Value) -> Option<Asked> {
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    let document = text("query").map(graphql::parse);
    // A search for something is sent as `query` too.
    let document = match document {
        Some(None) => return None,
        found => found.flatten(),
    };
    let persisted = json.pointer("/extensions/persistedQuery").is_some();
    if document.is_none() && !persisted && text("operationName").is_none() {
        return None;
    }
    let name = text("operationName").filter(|name| !name.is_empty());
    let variables = text("variables").and_then(|v| json::parse(v.as_bytes()));
    Some(finished(document, name, variables))
}

/// A request as fields of a form or a query.
fn asked<'v>(document: Option<&str>, field: &dyn Fn(&'static str) -> Option<&'v str>) -> Option<Asked> {
    let document = match document.map(graphql::parse) {
        Some(None) => return None,
        found => found.flatten(),
    };
    let name = field("operationName").filter(|name| !name.is_empty());
    if document.is_none() && (name.is_none() || field("extensions").is_none()) {
        return None;
    }
    let variables = field("variables").filter(|v| v.len() <= form::MAX_VALUE);
    Some(finished(document, name, variables.and_then(|v| json::parse(v.as_bytes()))))
}

fn finished(document: Option<graphql::Document>, name: Option<&str>, variables: Option<Value>) -> Asked {
    let operation = document.and_then(|d| d.operation(name));
    let own = operation.as_ref().and_then(|o| o.name.clone());
    Asked { name: name.map(str::to_owned).or(own), operation, variables }
}

/// The answer to one entry of a batch: by its id where the protocol has ids, else by its place.
pub(super) fn answer_to<'v>(asked: Option<&Value>, entry: usize, answer: &'v Value) -> Option<&'v Value> {
    // An application that refuses the whole batch answers with one document.
    let Value::Array(answers) = answer else { return Some(answer) };
    match asked.filter(|asked| asked.get("jsonrpc").is_some()) {
        Some(asked) => {
            let id = asked.get("id").filter(|id| !id.is_null())?;
            answers.iter().take(MAX_ANSWERS).find(|a| a.get("id") == Some(id))
        }
        None => answers.get(entry),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kinds(body: &Value) -> Option<(usize, bool)> {
        Calls::of_json(body).map(|calls| (calls.len(), calls.cut()))
    }

    #[test]
    fn batches_and_fields_are_calls_and_other_bodies_are_not() {
        let login = json!({"query": "mutation { a: login b: login }"});
        let cases = [
            (login.clone(), Some((2, false))),
            (json!([login, {"query": "{ me }"}]), Some((3, false))),
            (
                json!({"operationName": "Login", "extensions": {"persistedQuery": {"sha256Hash": "x"}}}),
                Some((1, false)),
            ),
            (json!([{"jsonrpc": "2.0", "method": "a"}, {"jsonrpc": "2.0", "method": "b", "id": 1}]), Some((2, false))),
            (json!({"query": "blue shoes"}), None),
            (json!({"query": {"limit": 1}}), None),
            (json!([1, 2]), None),
            (json!([]), None),
            (json!({"email": "a@x"}), None),
        ];
        for (body, expected) in cases {
            assert_eq!(kinds(&body), expected, "{body}");
        }
    }

    #[test]
    fn the_number_of_calls_is_bounded_and_said() {
        let many = json!({"query": format!("{{ {} }}", "a ".repeat(1000))});
        assert_eq!(kinds(&many), Some((MAX_CALLS, true)));
        let entries: Vec<_> = (0..300).map(|id| json!({"jsonrpc": "2.0", "method": "a", "id": id})).collect();
        assert_eq!(kinds(&json!(entries)), Some((MAX_CALLS, true)));
    }

    #[test]
    fn an_answer_belongs_to_the_call_with_its_id_or_its_place() {
        let answers = json!([{"id": 2, "result": "b"}, {"id": 1, "result": "a"}]);
        let by_id = answer_to(Some(&json!({"jsonrpc": "2.0", "id": 1})), 0, &answers);
        assert_eq!(by_id.and_then(|a| a.get("result")), Some(&json!("a")));
        assert_eq!(answer_to(Some(&json!({"jsonrpc": "2.0"})), 0, &answers), None, "a notification has no answer");
        assert_eq!(answer_to(None, 1, &answers).and_then(|a| a.get("id")), Some(&json!(1)));
        let refused = json!({"error": "no batches"});
        assert_eq!(answer_to(None, 7, &refused), Some(&refused));
    }
}
