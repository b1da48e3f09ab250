//! What is known of an exchange at some moment, as conditions and sources read it.
//!
//! The same conditions are asked three times: when the request's head is there, when the answer's
//! head is there, and when everything is. What is not known yet answers "open", so that the early
//! questions can only ever say "needed" or "not needed", never something else than the last one.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};

use http::{Method, StatusCode, Uri};
use serde_json::Value;

use super::calls::{self, Asked, Calls};
use super::path::compared;
use crate::body::form::Fields;
use crate::body::{self, encoding, form, graphql, json, multipart, xmlrpc};
use crate::event::Timestamp;
use crate::exchange::{ClientTls, Exchange, Kept};
use crate::headers::Headers;
use crate::served::ServedForm;

/// Yes, no, or open (`None`): not decidable from what is known.
pub type Truth = Option<bool>;

/// The most bytes a decoded body may have, whatever was kept of it compressed.
const DECODED_CAP: usize = 1 << 20;

/// What is known of an exchange.
pub struct Facts<'a> {
    /// Method.
    pub method: &'a Method,
    /// Target as sent.
    pub uri: &'a Uri,
    /// Path in its compared form.
    pub path: Cow<'a, str>,
    /// Host without port, lower case.
    pub host: &'a str,
    /// Request headers.
    pub headers: &'a Headers,
    /// What is known of the client's TLS, once the exchange is whole.
    pub tls: Option<&'a ClientTls>,
    /// Status and headers of the answer, once there is one.
    pub response: Option<(StatusCode, &'a Headers)>,
    /// Bodies, once everything is there.
    pub bodies: Option<Bodies<'a>>,
    /// Whether the request's session has an actor, once that was looked up.
    pub session_known: Truth,
    /// The form that this request sends back, as it was served, once that was looked up.
    pub served: Option<ServedForm>,
    /// When the answer was given: what a cookie's expiry is compared with.
    pub at: Timestamp,
    query: OnceCell<Fields<'a>>,
    calls: OnceCell<Calls>,
    /// Which of the calls is looked at.
    call: Cell<usize>,
    xmlrpc_answers: OnceCell<Option<Vec<xmlrpc::Answer>>>,
}

/// Both bodies, read when somebody asks.
pub struct Bodies<'a> {
    /// The request's.
    pub request: BodyFacts<'a>,
    /// The answer's, if one came.
    pub response: Option<BodyFacts<'a>>,
}

/// One kept body, decoded and parsed at most once.
pub struct BodyFacts<'a> {
    kept: &'a Kept,
    headers: &'a Headers,
    decoded: OnceCell<(Cow<'a, [u8]>, bool)>,
    fields: OnceCell<Option<Fields<'a>>>,
    json: OnceCell<Option<Value>>,
}

impl<'a> Facts<'a> {
    /// What the head of a request says.
    pub fn of_request(method: &'a Method, uri: &'a Uri, host: &'a str, headers: &'a Headers) -> Facts<'a> {
        Facts {
            method,
            uri,
            path: compared(uri.path()),
            host,
            headers,
            tls: None,
            response: None,
            bodies: None,
            session_known: None,
            served: None,
            at: Timestamp::from_millis(0),
            query: OnceCell::new(),
            calls: OnceCell::new(),
            call: Cell::new(0),
            xmlrpc_answers: OnceCell::new(),
        }
    }

    /// What a whole exchange says.
    pub fn of_exchange(exchange: &'a Exchange) -> Facts<'a> {
        let request = &exchange.request;
        let mut facts = Facts::of_request(&request.method, &request.uri, &request.host, &request.headers);
        facts.at = exchange.answered;
        facts.tls = exchange.tls.as_deref();
        facts.response = exchange.response.as_ref().map(|r| (r.status, &r.headers));
        facts.bodies = Some(Bodies {
            request: BodyFacts::new(&request.body, &request.headers),
            response: exchange.response.as_ref().map(|r| BodyFacts::new(&r.body, &r.headers)),
        });
        facts
    }

    /// The fields of the query.
    pub fn query(&self) -> &Fields<'a> {
        self.query.get_or_init(|| form::parse(self.uri.query().unwrap_or_default().as_bytes(), false))
    }

    /// The answer's body, once known.
    pub fn response_body(&self) -> Option<&BodyFacts<'a>> {
        self.bodies.as_ref()?.response.as_ref()
    }

    /// The request's body, once known.
    pub fn request_body(&self) -> Option<&BodyFacts<'a>> {
        self.bodies.as_ref().map(|b| &b.request)
    }

    /// What the request asks for, once its body is known.
    pub fn calls(&self) -> &Calls {
        self.calls.get_or_init(|| Calls::of(self))
    }

    /// From here on, call number `call` is looked at.
    pub fn look_at(&self, call: usize) {
        self.call.set(call);
    }

    /// The widest route that the call that is looked at concerns.
    pub fn widest(&self) -> calls::Scope {
        // The body of what is no batch need not be read to know this.
        if self.call.get() == 0 { calls::Scope::Exchange } else { self.calls().widest(self.call.get()) }
    }

    /// The request's JSON; of a batch, the entry that is looked at.
    pub fn request_json(&self) -> Option<&Value> {
        let json = self.request_body()?.json()?;
        // Only lists are batches.
        let entry = if json.is_array() { self.calls().entry(self.call.get()) } else { None };
        entry.map_or(Some(json), |entry| json.get(entry))
    }

    /// The answer's JSON; of a batch, the part that answers what is looked at.
    pub fn response_json(&self) -> Option<&Value> {
        let answer = self.response_body()?.json()?;
        let entry = if answer.is_array() { self.calls().entry(self.call.get()) } else { None };
        entry.map_or(Some(answer), |entry| calls::answer_to(self.request_json(), entry, answer))
    }

    /// The GraphQL request that is looked at.
    pub fn graphql(&self) -> Option<&Asked> {
        let calls::Kind::GraphQl { requests, fields, .. } = &self.calls().kind else { return None };
        requests.get(fields.get(self.call.get())?.0)
    }

    /// The field that is looked at; `None` if only the operation's name is known.
    pub fn graphql_field(&self) -> Option<&graphql::Field> {
        let calls::Kind::GraphQl { fields, .. } = &self.calls().kind else { return None };
        self.graphql()?.operation.as_ref()?.fields.get(fields.get(self.call.get())?.1)
    }

    /// The variables of the GraphQL request that is looked at.
    pub fn graphql_variables(&self) -> Option<&Value> {
        let asked = self.graphql()?;
        asked.variables.as_ref().or_else(|| self.request_json()?.get("variables"))
    }

    /// The XML-RPC call that is looked at.
    pub fn xmlrpc(&self) -> Option<&xmlrpc::Call> {
        let calls::Kind::XmlRpc(calls) = &self.calls().kind else { return None };
        calls.calls.get(self.call.get())
    }

    /// What was answered to it: its own result, or a fault that concerns all calls.
    pub fn xmlrpc_answer(&self) -> Option<&xmlrpc::Answer> {
        let calls::Kind::XmlRpc(calls) = &self.calls().kind else { return None };
        let body = self.response_body()?;
        let answers = self.xmlrpc_answers.get_or_init(|| xmlrpc::answers(body.decoded(), body.cut(), calls.multicall));
        match answers.as_deref()? {
            [fault @ xmlrpc::Answer::Fault(_)] => Some(fault),
            several => several.get(self.call.get()),
        }
    }
}

impl<'a> BodyFacts<'a> {
    fn new(kept: &'a Kept, headers: &'a Headers) -> BodyFacts<'a> {
        BodyFacts { kept, headers, decoded: OnceCell::new(), fields: OnceCell::new(), json: OnceCell::new() }
    }

    /// The body without its content codings.
    pub fn decoded(&self) -> &[u8] {
        &self.unpacked().0
    }

    /// True if there was more than is known.
    pub fn cut(&self) -> bool {
        self.unpacked().1
    }

    fn unpacked(&self) -> &(Cow<'a, [u8]>, bool) {
        self.decoded.get_or_init(|| {
            let decoded = encoding::decode(&self.kept.bytes, self.headers, DECODED_CAP);
            let cut = self.kept.cut || decoded.cut || decoded.failed.is_some() || !self.kept.asked;
            (decoded.bytes, cut)
        })
    }

    /// The body as text.
    pub fn text(&self) -> Cow<'_, str> {
        encoding::text(self.decoded(), body::content_type(self.headers))
    }

    /// The fields of a form, urlencoded or multipart; `None` if the body is no form.
    pub fn fields(&self) -> Option<&Fields<'a>> {
        self.fields
            .get_or_init(|| {
                let content_type = body::content_type(self.headers);
                // As it stands in nearly every form.
                let plain = content_type == "application/x-www-form-urlencoded";
                let essence = if plain { content_type } else { body::media_type(content_type) };
                if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
                    Some(match &self.unpacked().0 {
                        Cow::Borrowed(bytes) => form::parse(bytes, self.cut()),
                        Cow::Owned(bytes) => form::parse(bytes, self.cut()).into_owned(),
                    })
                } else if essence.eq_ignore_ascii_case("multipart/form-data") {
                    multipart::parse(self.decoded(), content_type)
                } else {
                    None
                }
            })
            .as_ref()
    }

    /// The body as JSON; `None` if it is not JSON or was cut.
    pub fn json(&self) -> Option<&Value> {
        self.json.get_or_init(|| if self.cut() { None } else { json::parse(self.decoded()) }).as_ref()
    }
}

/// The values a JSON pointer (RFC 6901) selects; a segment `*` stands for every element or member.
pub fn select<'v>(value: &'v Value, pointer: &str) -> Vec<&'v Value> {
    let mut found = vec![value];
    for segment in pointer.split('/').skip(1) {
        let mut next = Vec::new();
        for value in found {
            match (segment, value) {
                ("*", Value::Array(items)) => next.extend(items.iter()),
                ("*", Value::Object(members)) => next.extend(members.values()),
                _ => {
                    let one = format!("/{segment}");
                    next.extend(value.pointer(&one));
                }
            }
        }
        // A wildcard over a huge array is not walked further than this.
        next.truncate(1000);
        found = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_a_pointer_selects_every_element() {
        let value = serde_json::json!({"flows": [{"id": "a"}, {"id": "b"}], "x/y": 1});
        let ids: Vec<_> = select(&value, "/flows/*/id").into_iter().filter_map(Value::as_str).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(select(&value, "/x~1y").len(), 1);
        assert_eq!(select(&value, "").len(), 1);
        assert!(select(&value, "/flows/9/id").is_empty());
    }
}
