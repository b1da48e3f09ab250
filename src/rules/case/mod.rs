//! Tests written beside a route: an exchange in a few words, and the event it must give.
//!
//! A test proves a configuration without an application: its exchange is built whole and goes the
//! way of real traffic, through the same questions in the same order, with every route of the file
//! in place. It must never touch the world or read the clock. The invariant: a body reaches a
//! condition here only if capture would have kept it there.
//!
//! `fields` has the keys and `read` makes tests of them; `run` plays one, and `judge` compares.

mod fields;
mod judge;
mod message;
mod read;
mod run;

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode, Uri};

use crate::event::{Actor, Text};
use crate::exchange::ClientTls;
use crate::headers::Headers;
use crate::served::ServedForm;

pub use fields::FIELDS;

/// One test.
#[derive(Debug)]
pub struct Case {
    /// What it shows.
    pub name: Text,
    method: Method,
    uri: Uri,
    host: String,
    headers: Headers,
    body: Bytes,
    session: Option<Actor>,
    served: Option<ServedForm>,
    tls: Option<Arc<ClientTls>>,
    response: Option<(StatusCode, Headers, Bytes)>,
    /// The next exchange of the client; what it expects is its own business.
    next: Option<Box<Case>>,
    expect: Expect,
}

#[derive(Debug)]
enum Expect {
    Nothing,
    Event { values: Vec<Wanted>, also: Option<Vec<String>> },
}

/// One value that the event must have.
#[derive(Debug)]
struct Wanted {
    /// What the test calls it.
    name: String,
    /// Where it stands in the event's JSON (RFC 6901).
    pointer: String,
    /// `None` if nothing may stand there.
    text: Option<String>,
}

/// What became of a test.
#[derive(Debug)]
pub struct Verdict {
    /// Each difference in one line; none if the test holds.
    pub differences: Vec<String>,
    /// The route and the rule that decided, if one did.
    pub decided: Option<(String, String)>,
}

impl Case {
    /// True if its request carries somebody's session.
    pub fn in_session(&self) -> bool {
        self.session.is_some()
    }

    /// True if it shows that nothing is reported.
    pub fn expects_nothing(&self) -> bool {
        matches!(self.expect, Expect::Nothing)
    }
}

#[cfg(test)]
mod tests {
    use crate::config::settings;

    #[test]
    fn a_test_says_what_the_clients_certificate_says() {
        let yaml = r#"
version: 1
upstream: http://127.0.0.1:1
routes:
  - id: device
    match: { method: POST, path: /enrol }
    actor: { login: tls.client.cn, email: tls.client.email }
    fields: { subject: tls.client.subject, name: tls.sni, hello: tls.ja4 }
    when: { status: 204 }
    emit: acme.device.enrolled
    tests:
      - name: by its certificate
        request:
          tls: { sni: App.example.test, ja4: t13d, client: { subject: "CN=alice,O=Acme", cn: alice, email: a@example.test } }
        response: { status: 204 }
        expect:
          actor: { login: alice, email: a@example.test }
          fields: { subject: "CN=alice,O=Acme", name: app.example.test, hello: t13d }
      - name: without one
        request: { tls: { sni: app.example.test } }
        response: { status: 204 }
        expect: { actor: { login: absent }, fields: { name: app.example.test } }
"#;
        let (config, problems) = settings::check("t.yaml", yaml);
        let rules = config.unwrap_or_else(|| panic!("{problems}")).rules;
        let route = &rules.routes()[0];
        assert_eq!(route.cases.len(), 2, "{problems}");
        for case in &route.cases {
            assert_eq!(case.run(&rules, route).differences, Vec::<String>::new(), "{}", case.name);
        }
    }
}
