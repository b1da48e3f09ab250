use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderValue, Method, Uri};

use super::*;
use crate::event::{Timestamp, sample};
use crate::exchange::{Ended, Kept, Request};
use crate::headers::Headers;

/// An exchange and its event, from this address, with this `User-Agent` header.
pub(super) fn login(address: &str, agent: Option<&[u8]>) -> (Exchange, Event) {
    let client_ip: IpAddr = address.parse().expect("an address");
    let mut headers = Headers::new();
    if let Some(agent) = agent {
        headers.insert(http::header::USER_AGENT, HeaderValue::from_bytes(agent).expect("a header"));
    }
    let moment = Timestamp::from_millis(0);
    let request = Request {
        method: Method::POST,
        uri: Uri::from_static("/login"),
        host: "app.example.test".into(),
        headers,
        body: Kept::default(),
    };
    let facts = Exchange {
        tls: None,
        began: moment,
        answered: moment,
        duration: Duration::ZERO,
        client_ip,
        scheme: "https",
        request_id: "r".into(),
        request,
        response: None,
        ended: Ended::Complete,
    };
    let mut event = sample::of_type("user.login.success", "alice");
    event.metadata.ip_address = Some(client_ip);
    (facts, event)
}

const TOP: &[Field] = &[geoip::FIELD, user_agent::FIELD];

/// What checking this configuration finds wrong, and the plan.
fn checked(source: &str) -> (EnrichPlan, Problems) {
    let mut problems = Problems::new("routes.yaml", source);
    let root = Node::parse(source, &mut problems).expect("readable");
    let plan = check(&root.map(TOP, &mut problems).expect("a mapping"), &mut problems);
    (plan, problems)
}

#[test]
fn nothing_configured_means_every_enricher_with_its_defaults() {
    let (plan, problems) = checked("{}");
    assert!(problems.is_empty());
    assert_eq!(format!("{plan:?}"), format!("{:?}", EnrichPlan::default()));

    let enrichers = plan.build(Path::new("")).expect("builds");
    let (facts, mut event) = login("8.8.8.8", Some(b"curl/8.5.0"));
    enrichers.enrich(&facts, &mut event);
    assert!(event.metadata.client.is_some_and(|client| client.bot));
    assert_eq!(event.metadata.geo.is_some(), cfg!(feature = "geoip-embedded"));
    assert!(enrichers.refresh().is_empty());
}

#[test]
fn off_adds_nothing_and_on_is_the_default() {
    let (plan, problems) = checked("geoip: off\nuser_agent: off\n");
    assert!(problems.is_empty());
    let enrichers = plan.build(Path::new("")).expect("builds");
    let (facts, mut event) = login("8.8.8.8", Some(b"curl/8.5.0"));
    let before = event.to_line();
    enrichers.enrich(&facts, &mut event);
    assert_eq!(event.to_line(), before);

    let (plan, problems) = checked("geoip: on\nuser_agent: on\n");
    assert!(!problems.has_errors());
    assert_eq!(format!("{plan:?}"), format!("{:?}", EnrichPlan::default()));
}

#[test]
fn every_mistake_is_reported_and_checking_goes_on() {
    let (_, problems) =
        checked("geoip: { contry: a.mmdb, asn: '', city: [x] }\nuser_agent: { cache: 1, device: maybe }\n");
    let found = problems.to_string();
    for expected in [
        "did you mean `country`?",
        "geoip.asn: the path is empty",
        "geoip.city",
        "user_agent.cache",
        "user_agent.device",
    ] {
        assert!(found.contains(expected), "{expected} in {found}");
    }
    assert_eq!(problems.counts(), (5, 0));

    let (_, problems) = checked("geoip: maybe\nuser_agent: [a]\n");
    assert_eq!(problems.counts(), (2, 0));
}

#[test]
fn the_field_tables_hold_every_key_that_the_table_of_enrichers_names() {
    for kind in ENRICHERS {
        assert!(TOP.iter().any(|field| field.name == kind.name), "{}", kind.name);
    }
    let schema = crate::config::shape::json_schema("t", TOP).to_string();
    for key in ["country", "anonymous", "cache", "device"] {
        assert!(schema.contains(key), "{key}");
    }
}
