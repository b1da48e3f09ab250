use std::collections::BTreeSet;

use tokio::net::TcpListener;

use super::*;
use crate::config::node::{Node, Value as Yaml};
use crate::config::problem::Problems;
use crate::demo::{ROUTES, app, state};
use crate::event::EventType;

/// The address of a new application, and the task that serves it.
async fn application() -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (address, tokio::spawn(app::serve(listener)))
}

/// The event that does what was expected.
fn event(of: &Expected) -> Value {
    json!({
        "event_type": of.event_type,
        "outcome": of.outcome.as_str(),
        "reason": of.reason,
        "actor": of.actor.map(|name| json!({"id": "u1", "login": name})),
        "metadata": {"ip_address": of.ip.to_string()},
    })
}

fn two() -> [Expected; 2] {
    let failed = Expected {
        step: "wrong password",
        event_type: "user.login.failed",
        outcome: Outcome::Failure,
        actor: Some("alice"),
        ip: GUESSER,
        reason: Some("invalid_credentials"),
    };
    let login = Expected { step: "login", event_type: "user.login.success", outcome: Outcome::Success, ..failed };
    [failed, Expected { ip: ALICE, reason: None, ..login }]
}

#[tokio::test]
async fn the_application_answers_every_step_as_the_script_says() {
    let (address, server) = application().await;
    let mut steps = Vec::new();
    let expected = play(address, |step| steps.push(step)).await.expect("plays to its end");
    let quiet: Vec<_> = steps.iter().filter(|step| !expected.iter().any(|e| e.step == **step)).collect();
    assert!(quiet.len() == 3 && quiet.iter().all(|step| step.ends_with("(no event)")), "{quiet:?}");
    assert_eq!(steps.iter().collect::<BTreeSet<_>>().len(), steps.len(), "a step has the name of another");
    assert_eq!(judge(&expected, &expected.iter().map(event).collect::<Vec<_>>()), Vec::<String>::new());
    server.abort();
}

#[tokio::test]
async fn a_used_application_stops_the_tour_with_the_step_and_without_a_secret() {
    let (address, server) = application().await;
    play(address, |_| {}).await.expect("plays to its end");
    let error = play(address, |_| {}).await.expect_err("bob is locked").to_string();
    assert!(error.starts_with("step `API login failed`: expected 401") && error.contains("new and unused"), "{error}");
    server.abort();
}

#[tokio::test]
async fn nothing_that_play_tells_holds_a_password_or_code() {
    let (address, server) = application().await;
    let mut told = String::new();
    let expected = play(address, |step| told.push_str(step)).await.expect("plays to its end");
    told.push_str(&format!("{expected:?}"));
    server.abort();
    let secrets = state::DEMO_USERS.map(|(_, password, ..)| password);
    for secret in secrets.into_iter().chain([ALICE_OTHER, DEMO_CODE, "explorer2000", "a-guess"]) {
        assert!(!told.contains(secret), "a secret was told");
        assert!(!ROUTES.contains(secret), "a secret stands in the configuration");
    }
}

#[tokio::test]
async fn a_dead_proxy_is_named() {
    // Bound and never listening: the port stays taken, and refuses.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port");
    let address = socket.local_addr().expect("an address");
    match play(address, |_| {}).await {
        Err(TourError::Visit { step: "wrong password", source: VisitError::Connect(to, _) }) => assert_eq!(to, address),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_script_tag_as_user_name_is_shown_as_text() {
    const SCRIPT_NAME: &str = "<script>alert(1)</script>";
    let (address, server) = application().await;
    let mut visitor = Visitor::new(address, ADMIN, CHROME);
    let mut sign_in = async |name: &str, password: &str| {
        let page = visitor.get("/login").await.expect("a page");
        let form = page.forms().remove(0);
        visitor.submit(&form, &[("username", name), ("password", password)]).await.expect("an answer")
    };
    let refused = sign_in(SCRIPT_NAME, "whatever").await;
    assert!(refused.body.contains("&lt;script&gt;") && !refused.body.contains("<script"));
    assert_eq!(sign_in("admin", "letmein-2009").await.status, StatusCode::FOUND);

    let page = visitor.get("/admin/users").await.expect("a page");
    let form = page.forms().into_iter().find(|f| f.action == "/admin/users").expect("a form");
    let typed = [("username", SCRIPT_NAME), ("email", "x@acme.example"), ("password", "long enough")];
    assert_eq!(visitor.submit(&form, &typed).await.expect("an answer").status, StatusCode::FOUND);
    let page = visitor.get("/admin/users").await.expect("a page");
    assert!(page.body.contains("&lt;script&gt;") && !page.body.contains("<script"));

    // And the account can be reached by the name in its path.
    let delete = page.forms().into_iter().find(|f| f.action.contains("script") && f.action.ends_with("/delete"));
    let answer = visitor.submit(&delete.expect("a form"), &[]).await.expect("an answer");
    assert_eq!(answer.status, StatusCode::FOUND);
    assert!(!visitor.get("/admin/users").await.expect("a page").body.contains("&lt;script&gt;"));
    server.abort();
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_pages_of_others_stay_shut() {
    let (address, server) = application().await;
    let mut visitor = Visitor::new(address, STRANGER, CHROME);
    let long = "x".repeat(app::MAX_BODY);
    let answer = visitor.post_json("/api/login", &json!({"username": long, "password": ""})).await.expect("an answer");
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    for path in ["/", "/password", "/api-keys", "/export.csv", "/admin/users", "/mfa"] {
        let answer = visitor.get(path).await.expect("an answer");
        assert_eq!((answer.status, answer.location.as_deref()), (StatusCode::FOUND, Some("/login")), "{path}");
    }
    let form = visitor.get("/login").await.expect("a page").forms().remove(0);
    visitor.submit(&form, &[("username", "bob"), ("password", "builder2009")]).await.expect("an answer");
    assert_eq!(visitor.get("/admin/users").await.expect("an answer").status, StatusCode::FORBIDDEN);
    assert_eq!(visitor.get("/no/such/page").await.expect("an answer").status, StatusCode::NOT_FOUND);
    server.abort();
}

#[test]
fn a_right_tour_is_judged_right_in_any_order() {
    let expected = two();
    let mut events: Vec<Value> = expected.iter().map(event).collect();
    events.reverse();
    events.push(json!({"event_type": "authtap.started", "outcome": "success"}));
    assert_eq!(judge(&expected, &events), Vec::<String>::new());
}

#[test]
fn a_missing_event_is_found() {
    let expected = two();
    let report = judge(&expected, &[event(&expected[0])]);
    assert_eq!(report, ["step `login`: missed user.login.success (success) by alice from 81.2.69.142"]);
}

#[test]
fn an_extra_event_is_found_even_if_it_is_one_right_event_twice() {
    let expected = two();
    let events = [event(&expected[0]), event(&expected[1]), event(&expected[0])];
    let report = judge(&expected, &events);
    assert_eq!(report, ["nothing asked for user.login.failed (failure) by alice from 77.88.8.8"]);
}

#[test]
fn wrong_actors_outcomes_and_reasons_are_found_in_one_line_each() {
    let expected = two();
    let mut events = expected.each_ref().map(event);
    events[0]["actor"] = json!({"login": "bob"});
    events[0]["reason"] = json!("locked");
    events[1]["outcome"] = json!("unknown");
    assert_eq!(
        judge(&expected, &events),
        [
            "step `wrong password`: user.login.failed from 77.88.8.8 has actor bob instead of alice \
             and reason locked instead of invalid_credentials",
            "step `login`: user.login.success from 81.2.69.142 has outcome unknown instead of success",
        ]
    );
}

#[test]
fn nobody_expected_means_that_nobody_may_be_named() {
    let [failed, _] = two();
    let anonymous = Expected { actor: None, ..failed.clone() };
    assert_eq!(judge(std::slice::from_ref(&anonymous), &[event(&anonymous)]), Vec::<String>::new());
    let report = judge(&[anonymous], &[event(&failed)]);
    assert_eq!(report, ["step `wrong password`: user.login.failed from 77.88.8.8 has actor alice instead of nobody"]);
}

#[test]
fn an_event_of_another_address_is_both_missed_and_extra() {
    let [failed, _] = two();
    let elsewhere = event(&Expected { ip: STRANGER, ..failed.clone() });
    assert_eq!(judge(&[failed], &[elsewhere]).len(), 2);
    assert_eq!(
        judge(&[], &[json!(null)]),
        ["nothing asked for an event without a type (no outcome) by nobody from no address"]
    );
}

/// Every value under a key of that name, anywhere in the tree.
fn under<'n>(node: &'n Node, key: &str, found: &mut Vec<&'n Node>) {
    match &node.value {
        Yaml::Map(entries) => {
            for (k, value) in entries {
                if k.text == key {
                    found.push(value);
                }
                under(value, key, found);
            }
        }
        Yaml::Seq(items) => items.iter().for_each(|item| under(item, key, found)),
        _ => {}
    }
}

fn texts(node: &Node) -> Vec<&str> {
    match &node.value {
        Yaml::Map(entries) => entries.iter().filter_map(|(_, value)| value.scalar()).collect(),
        _ => node.items().iter().filter_map(Node::scalar).collect(),
    }
}

#[tokio::test]
async fn the_configuration_reads_well_and_can_emit_what_the_tour_expects() {
    let mut problems = Problems::new("routes.yaml", ROUTES);
    let root = Node::parse(ROUTES, &mut problems).expect("reads");
    assert!(problems.is_empty(), "{problems}");
    let all = |key: &str| {
        let mut found = Vec::new();
        under(&root, key, &mut found);
        found
    };
    let emitted: BTreeSet<&str> = all("emit").into_iter().chain(all("also")).flat_map(texts).collect();
    for name in &emitted {
        assert!(EventType::parse(name).is_some_and(|t| t.is_known()), "{name}");
    }
    for word in all("outcome").into_iter().chain(all("default")).flat_map(texts) {
        assert!(Outcome::parse(word).is_some(), "{word}");
    }
    let ids: Vec<&str> = all("id").into_iter().filter(|n| n.path.matches('.').count() == 1).flat_map(texts).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "an id stands twice");

    let (address, server) = application().await;
    for expected in play(address, |_| {}).await.expect("plays to its end") {
        assert!(emitted.contains(expected.event_type), "no route emits {}", expected.event_type);
    }
    server.abort();
    for sentence in [crate::demo::pages::NOW_LOCKED, crate::demo::pages::LOCKED, crate::demo::pages::COPY_NOW] {
        let mut looked_for = all("contains").into_iter().flat_map(texts);
        assert!(looked_for.any(|text| sentence.contains(text)), "no rule looks for: {sentence}");
    }
}
