//! The doors beside the login form: GraphQL, JSON-RPC, XML-RPC, token endpoints, methods that stand
//! for others. Each trap has a test that is named after it.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::harness::{Client, Origin, Proxy, answer, ask, at, form, get, post};

fn json_answer(body: &Value) -> Vec<u8> {
    answer("200 OK", &["Content-Type: application/json"], body.to_string())
}

fn json_post(target: &str, body: &Value) -> Vec<u8> {
    post(target, "Content-Type: application/json\r\n", body.to_string())
}

/// Type, reason and login of each event.
fn said(events: &[Value]) -> Vec<(&str, &str, &str)> {
    events.iter().map(|e| (at(e, "/event_type"), at(e, "/reason"), at(e, "/actor/login"))).collect()
}

const SUCCESS: &str = "user.login.success";
const FAILED: &str = "user.login.failed";

// ---- GraphQL ---------------------------------------------------------------------------------------

const GRAPHQL: &str = r#"
routes:
  - id: login
    match: { path: /graphql, graphql: { operation: mutation, field: auth_login } }
    actor: { login: graphql.email, id: "response.graphql:/user/id" }
    method: password
    rules:
      - { name: wrong, when: { graphql: { code: INVALID_CREDENTIALS } }, outcome: failure, reason: invalid_credentials }
      - { name: refused, when: { graphql: { errors: present } }, outcome: rejected, reason: error }
      - { name: signed-in, when: { graphql: { data: present } }, outcome: success }
    emit: { success: user.login.success, failure: user.login.failed }
  - id: persisted-login
    match: { path: /graphql, graphql: { name: PersistedLogin } }
    rules:
      - { name: asked-to-send-it, when: { graphql: { code: PERSISTED_QUERY_NOT_FOUND } }, outcome: ignore }
      - { name: signed-in, when: { graphql: { errors: absent, result: { /auth_login/expires: present } } }, outcome: success }
    emit: user.login.success
"#;

/// Answers each login by whether its text says `right`; knows aliases `a`, `b` and batches.
fn graphql_application() -> Origin {
    let wrong = |key: &str| json!({"message": "no", "path": [key], "extensions": {"code": "INVALID_CREDENTIALS"}});
    Origin::answering(move |request| {
        let text = format!("{} {}", request.target(), request.text());
        json_answer(&if text.contains("batch") {
            json!([
                {"data": {"me": null}},
                {"data": {"auth_login": null}, "errors": [wrong("auth_login")]},
                {"data": {"auth_login": {"expires": 1, "user": {"id": "u7"}}}}
            ])
        } else if text.contains("a: auth_login") || text.contains("n0: auth_login") {
            json!({"data": {"a": null, "b": {"expires": 1}}, "errors": [wrong("a")]})
        } else if text.contains("nonsense") {
            json!({"errors": [{"message": "unknown field"}]})
        } else if text.contains("unregistered") {
            json!({"errors": [{"message": "send it", "extensions": {"code": "PERSISTED_QUERY_NOT_FOUND"}}]})
        } else if text.contains("right") {
            json!({"data": {"auth_login": {"expires": 1, "user": {"id": "u7"}}}})
        } else {
            json!({"data": {"auth_login": null}, "errors": [wrong("auth_login")]})
        })
    })
}

fn graphql_events(requests: &[Vec<u8>]) -> Vec<Value> {
    let origin = graphql_application();
    let proxy = Proxy::before(origin.address, GRAPHQL);
    let mut client = Client::connect(proxy.address);
    for request in requests {
        client.send(request).answer("POST");
    }
    proxy.stop()
}

const BY_VARIABLE: &str = "mutation L($e: String!, $p: String!) { auth_login(email: $e, password: $p) { expires } }";

#[test]
fn json_200_with_an_error_inside_is_a_failed_graphql_login() {
    let login = |password: &str| json!({"query": BY_VARIABLE, "variables": {"e": "bob@x", "p": password}});
    let events = graphql_events(&[json_post("/graphql", &login("wrong")), json_post("/graphql", &login("right"))]);
    assert_eq!(said(&events), [(FAILED, "invalid_credentials", "bob@x"), (SUCCESS, "", "bob@x")]);
    assert_eq!(at(&events[1], "/actor/id"), "u7");
}

#[test]
fn a_graphql_login_is_seen_however_it_is_sent() {
    let inline = "mutation { auth_login(email: \"bob@x\", password: \"right\") { expires } }";
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let variables = r#"{"e":"bob@x","p":"right"}"#;
    let fragment =
        "mutation { ...F } fragment F on Mutation { auth_login(email: \"bob@x\", password: \"right\") { expires } }";
    let wrapped = json!({"query": BY_VARIABLE, "variables": {"e": "bob@x", "p": "right"}}).to_string();
    let multipart = format!("--b\r\nContent-Disposition: form-data; name=\"operations\"\r\n\r\n{wrapped}\r\n--b--\r\n");
    let requests = [
        json_post("/graphql", &json!({"query": inline})),
        json_post("/graphql", &json!({"query": fragment})),
        json_post("/graphql", &json!({"query": BY_VARIABLE, "variables": variables})),
        json_post(
            "/graphql",
            &json!({"query": format!("query Q {{ me }} {inline}").replace("mutation {", "mutation M {"), "operationName": "M"}),
        ),
        post("/graphql", "Content-Type: application/graphql\r\n", inline),
        post(
            &format!("/graphql?variables={}", encoded(variables)),
            "Content-Type: application/graphql\r\n",
            BY_VARIABLE,
        ),
        form("/graphql", format!("query={}&variables={}", encoded(BY_VARIABLE), encoded(variables))),
        post("/graphql", "Content-Type: multipart/form-data; boundary=b\r\n", multipart),
        format!(
            "GET /graphql?query={}&variables={} HTTP/1.1\r\nHost: a\r\n\r\n",
            encoded(BY_VARIABLE),
            encoded(variables)
        )
        .into_bytes(),
    ];
    let events = graphql_events(&requests);
    assert_eq!(said(&events), [(SUCCESS, "", "bob@x"); 9]);
}

#[test]
fn a_graphql_query_on_the_same_url_is_silent() {
    let events = graphql_events(&[
        json_post("/graphql", &json!({"query": "{ users_me { id email } }"})),
        json_post("/graphql", &json!({"query": "query auth_login { me(auth_login: true) { auth_login } }"})),
        json_post("/graphql", &json!({"query": "no document"})),
        json_post("/graphql", &json!({"q": 1})),
        get_request("/graphql?query=auth_login"),
    ]);
    assert_eq!(said(&events), []);
}

fn get_request(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: app.example.test\r\n\r\n").into_bytes()
}

#[test]
fn each_alias_of_a_graphql_login_is_a_login_of_its_own() {
    let query = "mutation { a: auth_login(email: \"a@x\", password: \"1\") { expires } b: auth_login(email: \"b@x\", password: \"2\") { expires } }";
    let events = graphql_events(&[json_post("/graphql", &json!({"query": query}))]);
    assert_eq!(said(&events), [(FAILED, "invalid_credentials", "a@x"), (SUCCESS, "", "b@x")]);
}

#[test]
fn each_entry_of_a_graphql_batch_has_its_own_outcome() {
    let login = |email: &str| json!({"query": BY_VARIABLE, "variables": {"e": email, "p": "batch"}});
    let events = graphql_events(&[json_post("/graphql", &json!([{"query": "{ me }"}, login("a@x"), login("b@x")]))]);
    assert_eq!(said(&events), [(FAILED, "invalid_credentials", "a@x"), (SUCCESS, "", "b@x")]);
    assert_eq!((at(&events[0], "/actor/id"), at(&events[1], "/actor/id")), ("", "u7"));
}

#[test]
fn an_error_without_a_path_concerns_the_whole_graphql_request() {
    let query = "mutation { nonsense auth_login(email: \"a@x\", password: \"right\") { expires } }";
    let events = graphql_events(&[json_post("/graphql", &json!({"query": query}))]);
    assert_eq!(said(&events), [("user.login.rejected", "error", "a@x")]);
}

#[test]
fn a_persisted_graphql_query_is_known_by_its_name() {
    let request = |hash: &str| {
        json!({"operationName": "PersistedLogin", "variables": {"e": "right"},
               "extensions": {"persistedQuery": {"version": 1, "sha256Hash": hash}}})
    };
    let events =
        graphql_events(&[json_post("/graphql", &request("unregistered")), json_post("/graphql", &request("known"))]);
    assert_eq!(said(&events), [(SUCCESS, "", "")]);
}

#[test]
fn a_flood_of_logins_in_one_request_is_bounded_and_counted() {
    let origin = graphql_application();
    let proxy = Proxy::before(origin.address, GRAPHQL);
    let mut query = String::from("mutation {");
    for n in 0..40 {
        let _ = write!(query, " n{n}: auth_login(email: \"u{n}@x\", password: \"guess\") {{ expires }}");
    }
    query.push_str("b: auth_login(email: \"b@x\") { expires } a: auth_login(email: \"a@x\") { expires } }");
    ask(proxy.address, json_post("/graphql", &json!({"query": query})));
    let events = proxy.await_events(17);
    assert_eq!(events.len(), 17);
    assert_eq!(at(&events[16], "/actor/login"), "b@x", "the one success is not among those left out");
    let metrics = get(proxy.admin, "/metrics").text();
    let counted = metrics.lines().find(|l| l.starts_with("authtap_events_dropped_total{reason=\"batch\"}"));
    assert_eq!(counted.and_then(|l| l.rsplit(' ').next()), Some("25"), "{metrics}");
}

// ---- JSON-RPC and XML-RPC -------------------------------------------------------------------------------

const RPC: &str = r#"
routes:
  - id: rpc-login
    match: { method: POST, path: /jsonrpc, json: { /method: login } }
    actor: { login: "json:/params/user" }
    rules:
      - { name: wrong, when: { json: { /error: present } }, outcome: failure, reason: invalid_credentials }
      - { name: signed-in, when: { json: { /result: present } }, outcome: success }
    emit: { success: user.login.success, failure: user.login.failed }
  - id: xmlrpc-login
    match: { method: POST, path: /xmlrpc.php, xmlrpc: { method: wp.getUsersBlogs } }
    actor: { login: xmlrpc.0 }
    rules:
      - { name: wrong, when: { xmlrpc: { code: "403" } }, outcome: failure, reason: invalid_credentials }
      - { name: fault, when: { xmlrpc: { fault: present } }, outcome: rejected, reason: fault }
      - { name: signed-in, when: { xmlrpc: { fault: absent } }, outcome: success }
    emit: { success: user.login.success, failure: user.login.failed }
"#;

#[test]
fn each_entry_of_a_json_rpc_batch_is_decided_by_the_answer_with_its_id() {
    let origin = Origin::answering(|request| match request.text().contains("batch") {
        true => {
            json_answer(&json!([{"id": 3, "result": "token"}, {"id": 2, "error": {"code": 1}}, {"id": 1, "result": 5}]))
        }
        false => json_answer(&json!({"id": 1, "error": {"code": 1}})),
    });
    let proxy = Proxy::before(origin.address, RPC);
    let call = |id: u8, method: &str, user: &str| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {"user": user}});
    ask(proxy.address, json_post("/jsonrpc", &call(1, "login", "single")));
    let batch = json!([call(1, "version", "batch"), call(2, "login", "alice"), call(3, "login", "bob")]);
    ask(proxy.address, json_post("/jsonrpc", &batch));
    let events = proxy.stop();
    let expected =
        [(FAILED, "invalid_credentials", "single"), (FAILED, "invalid_credentials", "alice"), (SUCCESS, "", "bob")];
    assert_eq!(said(&events), expected);
}

fn xml_call(user: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><methodCall><methodName>wp.getUsersBlogs</methodName><params>\
         <param><value><string>{user}</string></value></param><param><value><string>guess</string></value></param>\
         </params></methodCall>"
    )
}

const FAULT: &str = "<value><struct><member><name>faultCode</name><value><int>403</int></value></member>\
    <member><name>faultString</name><value><string>Incorrect username or password.</string></value></member></struct></value>";

fn xml_application() -> Origin {
    Origin::answering(|request| {
        let text = request.text();
        let body = if text.contains("system.multicall") {
            format!(
                "<methodResponse><params><param><value><array><data>{FAULT}{FAULT}<value><array><data>\
                 <value><array><data/></array></value></data></array></value></data></array></value></param></params></methodResponse>"
            )
        } else if text.contains("alice") {
            "<methodResponse><params><param><value><array><data/></array></value></param></params></methodResponse>"
                .into()
        } else {
            format!("<methodResponse><fault>{FAULT}</fault></methodResponse>")
        };
        answer("200 OK", &["Content-Type: text/xml; charset=UTF-8"], body)
    })
}

#[test]
fn the_second_door_of_xml_rpc_is_seen() {
    let origin = xml_application();
    let proxy = Proxy::before(origin.address, RPC);
    for user in ["alice", "bob"] {
        ask(proxy.address, post("/xmlrpc.php", "Content-Type: text/xml\r\n", xml_call(user)));
    }
    ask(proxy.address, post("/xmlrpc.php", "", xml_call("carol").replace("getUsersBlogs", "getOptions")));
    let events = proxy.stop();
    assert_eq!(said(&events), [(SUCCESS, "", "alice"), (FAILED, "invalid_credentials", "bob")]);
}

#[test]
fn each_call_of_a_system_multicall_is_a_login_of_its_own() {
    let one = |user: &str| {
        format!(
            "<value><struct><member><name>methodName</name><value>wp.getUsersBlogs</value></member><member><name>params</name>\
             <value><array><data><value>{user}</value><value>guess</value></data></array></value></member></struct></value>"
        )
    };
    let body = format!(
        "<methodCall><methodName>system.multicall</methodName><params><param><value><array><data>{}{}{}</data></array>\
         </value></param></params></methodCall>",
        one("a"),
        one("b"),
        one("c")
    );
    let origin = xml_application();
    let proxy = Proxy::before(origin.address, RPC);
    ask(proxy.address, post("/xmlrpc.php", "Content-Type: text/xml\r\n", body));
    let wrong = "invalid_credentials";
    assert_eq!(said(&proxy.stop()), [(FAILED, wrong, "a"), (FAILED, wrong, "b"), (SUCCESS, "", "c")]);
}

// ---- bearer tokens and Basic ------------------------------------------------------------------------------------

#[test]
fn a_bearer_token_that_is_a_logins_jwt_is_no_api_key() {
    let yaml = r#"
routes:
  - { id: key, match: { path: "prefix:/api/", header: { authorization: { regex: '^[Bb]earer +[^.]+$' } } }, method: api_key, when: { status: 2xx }, emit: api_key.used }
"#;
    let origin = Origin::answering(|_| json_answer(&json!({})));
    let proxy = Proxy::before(origin.address, yaml);
    for token in ["eyJhbGciOiJIUzI1NiJ9.eyJpZCI6IjEifQ.c2lnbmF0dXJl", "static-token-0123456789"] {
        ask(proxy.address, format!("GET /api/me HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"));
    }
    assert_eq!(said(&proxy.stop()), [("api_key.used", "", "")]);
}

#[test]
fn the_second_door_of_basic_on_a_rest_api_is_seen_with_its_refusals() {
    let yaml = r#"
routes:
  - id: rest
    match: { path: "prefix:/wp-json/", header: { authorization: { regex: '^(?i)basic ' } } }
    actor: { login: basic.user }
    method: basic
    rules:
      - { name: refused, when: { status: [401, 403] }, outcome: failure, reason: invalid_credentials }
      - { name: taken, when: { status: 2xx }, outcome: success }
    default: ignore
    emit: { success: api_key.used, failure: user.login.failed }
"#;
    let origin = Origin::answering(|request| match request.field("authorization").is_some_and(|v| v.ends_with("==")) {
        true => answer("401 Unauthorized", &[], ""),
        false => json_answer(&json!({"id": 1})),
    });
    let proxy = Proxy::before(origin.address, yaml);
    // alice:keykey, and alice:guess12.
    for credential in ["YWxpY2U6a2V5a2V5", "YWxpY2U6Z3Vlc3MxMg=="] {
        let request = format!("GET /wp-json/me HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {credential}\r\n\r\n");
        ask(proxy.address, request);
    }
    assert_eq!(said(&proxy.stop()), [("api_key.used", "", "alice"), (FAILED, "invalid_credentials", "alice")]);
}

#[test]
fn a_401_that_means_right_password_and_wrong_second_factor_is_no_failed_login() {
    let yaml = r#"
routes:
  - id: login
    match: { method: POST, path: /auth/login }
    actor: { login: "json:/email" }
    rules:
      - { when: { json: { /code: INVALID_OTP }, request: { json: { /otp: { empty: false } } } }, outcome: failure, reason: invalid_code, emit: user.mfa.challenge.failed }
      - { when: { json: { /code: INVALID_OTP } }, outcome: challenge }
      - { when: { status: 401 }, outcome: failure, reason: invalid_credentials }
    emit: { failure: user.login.failed }
"#;
    let origin = Origin::answering(|request| {
        let code = if request.text().contains("right") { "INVALID_OTP" } else { "INVALID_CREDENTIALS" };
        answer("401 Unauthorized", &["Content-Type: application/json"], json!({"code": code}).to_string())
    });
    let proxy = Proxy::before(origin.address, yaml);
    for body in [
        json!({"email": "a", "password": "right"}),
        json!({"email": "a", "password": "right", "otp": "000000"}),
        json!({"email": "a", "password": "wrong", "otp": "000000"}),
    ] {
        ask(proxy.address, json_post("/auth/login", &body));
    }
    let events = proxy.stop();
    assert_eq!(
        said(&events),
        [
            ("user.mfa.challenge.requested", "", "a"),
            ("user.mfa.challenge.failed", "invalid_code", "a"),
            (FAILED, "invalid_credentials", "a")
        ]
    );
}

#[test]
fn a_token_that_the_body_carries_names_its_actor_also_after_it_was_renewed() {
    let yaml = r#"
routes:
  - id: login
    match: { method: POST, path: /login }
    actor: { login: "json:/email" }
    session: { token: "response.json:/refresh_token" }
    when: { status: 200 }
    emit: user.login.success
  - id: refresh
    match: { method: POST, path: /refresh }
    session: { token: "response.json:/refresh_token", carried: "json:/refresh_token" }
    outcome: ignore
    emit: session.refreshed
  - { id: logout, match: { method: POST, path: /logout }, session: { carried: "json:/refresh_token" }, emit: user.logout }
"#;
    let origin = Origin::answering(|request| {
        let token = if request.target() == "/login" { "first" } else { "second" };
        json_answer(&json!({"refresh_token": token}))
    });
    let proxy = Proxy::before(origin.address, yaml);
    ask(proxy.address, json_post("/login", &json!({"email": "carol"})));
    ask(proxy.address, json_post("/refresh", &json!({"refresh_token": "first"})));
    ask(proxy.address, json_post("/logout", &json!({"refresh_token": "second"})));
    ask(proxy.address, json_post("/logout", &json!({"refresh_token": "third"})));
    let expected = [(SUCCESS, "", "carol"), ("user.logout", "", "carol"), ("user.logout", "", "")];
    assert_eq!(said(&proxy.stop()), expected);
}

#[test]
fn a_mailed_token_names_its_actor_by_its_claims() {
    let yaml = r#"
routes:
  - { id: reset, match: { method: POST, path: /reset }, actor: { login: "jwt:json:/token#/email" }, emit: user.password.reset_completed }
  - { id: link, match: { path: /confirm }, actor: { login: "jwt:query.token#/email" }, emit: user.email.verified }
"#;
    let origin = Origin::answering(|_| answer("204 No Content", &[], ""));
    let proxy = Proxy::before(origin.address, yaml);
    // {"email":"bob@x"}
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJlbWFpbCI6ImJvYkB4In0.c2ln";
    ask(proxy.address, json_post("/reset", &json!({"token": token, "password": "n3w"})));
    get(proxy.address, &format!("/confirm?token={token}"));
    let lines = proxy.stop_for_lines();
    let events: Vec<Value> = lines.iter().map(|l| serde_json::from_str(l).expect("an event is JSON")).collect();
    assert_eq!(said(&events), [("user.password.reset_completed", "", "bob@x"), ("user.email.verified", "", "bob@x")]);
    assert!(lines.iter().all(|l| !l.contains("eyJ")), "{lines:?}");
}

// ---- methods and grants ---------------------------------------------------------------------------------------

#[test]
fn head_options_and_preflight_on_a_login_path_are_no_login() {
    let origin = Origin::answering(|_| answer("204 No Content", &[], ""));
    let proxy =
        Proxy::before(origin.address, "routes: [{ id: any, match: { path: /login }, emit: user.login.success }]");
    let mut client = Client::connect(proxy.address);
    for method in ["HEAD", "OPTIONS", "TRACE", "POST"] {
        let preflight = "Access-Control-Request-Method: POST\r\nOrigin: https://x.test\r\nContent-Length: 0";
        client.send(format!("{method} /login HTTP/1.1\r\nHost: a\r\n{preflight}\r\n\r\n")).answer(method);
    }
    let events = proxy.stop();
    let methods: Vec<&str> = events.iter().map(|e| at(e, "/metadata/request/method")).collect();
    assert_eq!(methods, ["POST"]);
}

#[test]
fn a_method_override_is_honoured_only_where_the_route_says_so() {
    let yaml = r#"
routes:
  - { id: told, match: { method: DELETE, method_override: true, path: "template:/told/{id}" }, target: { id: path.id }, emit: user.deleted }
  - { id: untold, match: { method: DELETE, path: "prefix:/untold/" }, emit: user.deleted }
  - { id: created, match: { method: POST, method_override: true, path: "prefix:/told/" }, emit: user.created }
"#;
    let origin = Origin::answering(|_| answer("302 Found", &["Location: /"], ""));
    let proxy = Proxy::before(origin.address, yaml);
    let empty = "Content-Type: application/x-www-form-urlencoded\r\n";
    for request in [
        form("/told/form", "_method=delete&x=1"),
        post("/told/header", &format!("{empty}X-HTTP-Method-Override: DELETE\r\n"), "x=1"),
        form("/told/query?_method=DELETE", ""),
        // One framework obeys the form, another the header: whichever it is, something was deleted.
        post("/told/both", &format!("{empty}X-HTTP-Method-Override: PATCH\r\n"), "_method=DELETE"),
        form("/told/none", "x=1"),
        form("/told/other", "_method=PATCH"),
        form("/untold/form", "_method=DELETE"),
        b"GET /told/get?_method=DELETE HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"DELETE /told/real HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_vec(),
    ] {
        ask(proxy.address, request);
    }
    let events = proxy.stop();
    let said: Vec<_> = events.iter().map(|e| (at(e, "/event_type"), at(e, "/target/id"))).collect();
    let deleted = |id| ("user.deleted", id);
    assert_eq!(
        said,
        [deleted("form"), deleted("header"), deleted("query"), deleted("both"), ("user.created", ""), deleted("real")]
    );
}

#[test]
fn an_override_of_the_whole_file_counts_for_every_route_but_those_that_say_otherwise() {
    let yaml = r#"
method_override: true
routes:
  - { id: gone, match: { method: DELETE, path: "template:/users/{id}" }, target: { id: path.id }, emit: user.deleted }
  - { id: made, match: { method: POST, path: "prefix:/users/" }, emit: user.created }
  - { id: as-sent, match: { method: POST, path: "prefix:/raw/", method_override: false }, emit: user.invited }
  - { id: seen, match: { method: GET, path: "prefix:/users/" }, emit: data.viewed }
"#;
    let origin = Origin::answering(|_| answer("302 Found", &["Location: /"], ""));
    let proxy = Proxy::before(origin.address, yaml);
    for request in [
        form("/users/1", "_method=delete"),
        form("/users/2", "x=1"),
        form("/raw/3", "_method=delete"),
        form("/users/4", "_method=patch"),
        b"GET /users/5 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
    ] {
        ask(proxy.address, request);
    }
    let events = proxy.stop();
    let said: Vec<_> = events.iter().map(|e| at(e, "/event_type")).collect();
    assert_eq!(said, ["user.deleted", "user.created", "user.invited", "data.viewed"]);
}

#[test]
fn a_webdav_verb_is_a_method_like_any_other() {
    let origin = Origin::answering(|_| answer("207 Multi-Status", &[], ""));
    let yaml = "routes: [{ id: dav, match: { method: [PROPFIND, SEARCH], path: /dav }, emit: data.viewed }]";
    let proxy = Proxy::before(origin.address, yaml);
    for method in ["PROPFIND", "SEARCH", "GET"] {
        ask(proxy.address, format!("{method} /dav HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    let events = proxy.stop();
    let methods: Vec<&str> = events.iter().map(|e| at(e, "/metadata/request/method")).collect();
    assert_eq!(methods, ["PROPFIND", "SEARCH"]);
}

#[test]
fn of_the_grants_of_a_token_endpoint_a_refresh_is_no_login() {
    let yaml = r#"
routes:
  - id: password-grant
    match: { method: POST, path: /oauth/token, form: { grant_type: password } }
    actor: { login: form.username }
    method: password
    rules:
      - { name: token-given, when: { status: 200, json: { /access_token: present } }, outcome: success }
      - { name: wrong-password, when: { status: 400, json: { /error: invalid_grant } }, outcome: failure, reason: invalid_credentials }
    emit: { success: user.login.success, failure: user.login.failed }
  - id: code-grant
    match: { method: POST, path: /oauth/token, form: { grant_type: authorization_code } }
    method: sso
    when: { status: 200, json: { /access_token: present } }
    emit: oauth.authorized
  - id: client-grant
    match: { method: POST, path: /oauth/token, form: { grant_type: client_credentials } }
    actor: { login: [form.client_id, basic.user], type: service }
    method: api_key
    when: { status: 200 }
    emit: user.login.success
"#;
    let origin = Origin::answering(|request| match request.text().contains("wrong") {
        true => answer("400 Bad Request", &["Content-Type: application/json"], r#"{"error":"invalid_grant"}"#),
        false => json_answer(&json!({"access_token": "t", "refresh_token": "r"})),
    });
    let proxy = Proxy::before(origin.address, yaml);
    for body in [
        "grant_type=refresh_token&refresh_token=r&username=alice",
        "grant_type=password&username=alice&password=right",
        "grant_type=password&username=alice&password=wrong",
        "grant_type=authorization_code&code=c",
        "grant_type=client_credentials&client_id=robot&client_secret=s",
    ] {
        ask(proxy.address, form("/oauth/token", body));
    }
    let events = proxy.stop();
    let expected = [
        (SUCCESS, "", "alice"),
        (FAILED, "invalid_credentials", "alice"),
        ("oauth.authorized", "", ""),
        (SUCCESS, "", "robot"),
    ];
    assert_eq!(said(&events), expected);
}

#[test]
fn routes_hidden_in_a_bodys_action_or_in_a_fields_name_are_told_apart() {
    let yaml = r#"
routes:
  - { id: by-value, match: { method: POST, path: /ajax, form: { action: save_role } }, emit: user.role.updated }
  - { id: by-name, match: { method: POST, path: /ajax, form: { "do[delete_user]": present } }, emit: user.deleted }
  - { id: by-query, match: { path: /ajax, query: { route: logout } }, emit: user.logout }
"#;
    let origin = Origin::answering(|_| answer("200 OK", &[], "ok"));
    let proxy = Proxy::before(origin.address, yaml);
    for body in ["action=save_role", "do%5Bdelete_user%5D=1", "action=heartbeat"] {
        ask(proxy.address, form("/ajax", body));
    }
    get(proxy.address, "/ajax?route=logout");
    let types: Vec<String> = proxy.stop().iter().map(|e| at(e, "/event_type").to_owned()).collect();
    assert_eq!(types, ["user.role.updated", "user.deleted", "user.logout"]);
}

#[test]
fn the_use_of_a_key_is_told_once_and_its_refusal_always() {
    let yaml = r#"
routes:
  - id: key
    match: { path: "prefix:/api/" }
    actor: { login: basic.user }
    method: api_key
    rules:
      - { name: taken, when: { status: 200 }, outcome: success }
      - { name: refused, when: { status: 401 }, outcome: failure }
    emit: { success: api_key.used, failure: access.denied }
"#;
    let origin = Origin::answering(|request| match request.field("authorization").is_some_and(|v| v.contains("bad")) {
        true => answer("401 Unauthorized", &[], ""),
        false => answer("200 OK", &[], "{}"),
    });
    let proxy = Proxy::before(origin.address, yaml);
    let mut client = Client::connect(proxy.address);
    for fields in [
        "Authorization: Bearer one",
        "Authorization: Bearer two",
        "Authorization: Bearer one",
        "Authorization: Basic YWxpY2U6a2V5",
        "Authorization: Basic YWxpY2U6a2V5",
        "X-API-Key: three",
        "X-API-Key: three",
        "X-Other: four",
        "X-Other: five",
        "Authorization: Bearer bad",
        "Authorization: Bearer bad",
    ] {
        client.send(format!("GET /api/x HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")).answer("GET");
    }
    client.send("GET /api/x?access_token=six HTTP/1.1\r\nHost: a\r\n\r\n").answer("GET");
    let events = proxy.await_events(8);
    let metrics = get(proxy.admin, "/metrics").text();
    assert!(metrics.contains("\nauthtap_events_sampled_total 4\n"), "{metrics}");
    let types: Vec<_> = events.iter().map(|e| (at(e, "/event_type"), at(e, "/actor/login"))).collect();
    let used = |login| ("api_key.used", login);
    let denied = ("access.denied", "");
    // One, two, Basic, three, the client without a key, refused twice, six.
    let expected = [used(""), used(""), used("alice"), used(""), used(""), denied, denied, used("")];
    assert_eq!(types, expected);
}

#[test]
fn a_hint_is_an_event_and_never_reaches_the_client() {
    let yaml = "hint: { header: X-Authtap-Event }\nsession: { cookies: [SID] }\n\
                routes: [{ id: login, match: { path: /login }, emit: user.login.success }]";
    let origin = Origin::answering(|request| match request.target().as_str() {
        "/login" => answer(
            "200 OK",
            &[
                "X-Authtap-Event: user.login.failed; actor=alice; reason=locked",
                "x-authtap-event: user.locked; actor=alice",
            ],
            "",
        ),
        "/in" => answer("200 OK", &["X-AUTHTAP-EVENT: user.login.success; actor=bob", "Set-Cookie: SID=n3w"], ""),
        "/role" => answer("200 OK", &["X-Authtap-Event: user.role.updated; target=7"], ""),
        "/odd" => answer("200 OK", &["X-Authtap-Event: no type"], ""),
        _ => answer("200 OK", &[], ""),
    });
    let proxy = Proxy::before(origin.address, yaml);
    let mut client = Client::connect(proxy.address);
    for (target, fields) in [
        ("/login", ""),
        ("/in", ""),
        ("/role", "Cookie: SID=n3w\r\n"),
        ("/odd", ""),
        // A client's own header says nothing.
        ("/other", "X-Authtap-Event: user.login.success\r\n"),
    ] {
        let got = client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).answer("GET");
        assert_eq!(got.field("x-authtap-event"), None, "{target}");
    }
    let events = proxy.stop();
    assert_eq!(
        said(&events),
        [
            (FAILED, "locked", "alice"),
            ("user.locked", "", "alice"),
            (SUCCESS, "", "bob"),
            ("user.role.updated", "", "bob")
        ]
    );
    assert_eq!((at(&events[3], "/target/id"), at(&events[3], "/source/rule")), ("7", "hint"));
}

#[test]
fn without_hint_the_header_is_a_header_like_any_other() {
    let origin = Origin::answering(|_| answer("200 OK", &["X-Authtap-Event: user.login.success; actor=eve"], ""));
    let proxy = Proxy::before(origin.address, "routes: []");
    let got = get(proxy.address, "/");
    assert_eq!(got.field("x-authtap-event").as_deref(), Some("user.login.success; actor=eve"));
    assert_eq!(proxy.stop().len(), 0);
}

#[test]
fn a_json_null_can_be_compared_with() {
    let yaml = r#"
routes:
  - id: token
    match: { method: PATCH, path: /me, json: { /token: present } }
    rules:
      - { name: taken-away, when: { request: { json: { /token: null } } }, outcome: success, emit: api_key.revoked }
      - { name: made, outcome: success }
    emit: { success: api_key.created }
"#;
    let origin = Origin::answering(|_| answer("200 OK", &[], ""));
    let proxy = Proxy::before(origin.address, yaml);
    for body in [json!({"token": "x"}), json!({"token": null}), json!({"name": null})] {
        let body = body.to_string();
        let length = body.len();
        ask(
            proxy.address,
            format!(
                "PATCH /me HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            ),
        );
    }
    let types: Vec<String> = proxy.stop().iter().map(|e| at(e, "/event_type").to_owned()).collect();
    assert_eq!(types, ["api_key.created", "api_key.revoked"]);
}
