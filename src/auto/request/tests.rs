use http::{HeaderValue, Method, Uri, header};

use super::super::intent::{self, Intent, Known};
use super::*;
use crate::event::Timestamp;
use crate::exchange::{Ended, Exchange, Kept, Request as Asked};
use crate::headers::Headers;

fn exchange(content_type: &'static str, target: &'static str, body: &str) -> Exchange {
    let headers = Headers::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
    Exchange {
        began: Timestamp::from_millis(0),
        answered: Timestamp::from_millis(0),
        duration: std::time::Duration::ZERO,
        client_ip: std::net::Ipv4Addr::LOCALHOST.into(),
        scheme: "http",
        tls: None,
        request_id: String::new(),
        request: Asked {
            method: Method::POST,
            uri: Uri::from_static(target),
            host: String::new(),
            headers,
            body: Kept { bytes: body.to_owned().into(), cut: false, asked: true },
        },
        response: None,
        ended: Ended::Complete,
    }
}

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// Names and roles of what a body carries, machinery and the rest left out.
fn roles(content_type: &'static str, body: &str, asks: &dyn Fn(&str) -> Option<Asks>) -> Vec<(String, Role)> {
    let exchange = exchange(content_type, "/x", body);
    let facts = Facts::of_exchange(&exchange);
    let request = Request::read(&facts, asks);
    let telling = request.fields.iter().filter(|f| !matches!(f.role, Role::Machinery | Role::Other));
    telling.map(|f| (f.name.to_string(), f.role)).collect()
}

fn nothing(_: &str) -> Option<Asks> {
    None
}

#[test]
fn fields_are_known_by_name_in_any_spelling() {
    use Role::*;
    type Case<'c> = (&'static str, &'c str, &'c [(&'c str, Role)]);
    let cases: [Case<'_>; 11] = [
        (
            FORM,
            "user%5Bemail%5D=a@b.cd&user%5Bpassword%5D=x",
            &[("user[email]", Identifier), ("user[password]", Password)],
        ),
        (FORM, "j_username=a&j_password=x", &[("j_username", Identifier), ("j_password", Password)]),
        (
            FORM,
            "__VIEWSTATE=abc&ctl00%24Main%24txtUser=a&ctl00%24Main%24txtPassword=x",
            &[("ctl00$Main$txtUser", Identifier), ("ctl00$Main$txtPassword", Password)],
        ),
        (FORM, "Benutzername=a&Passwort=x", &[("Benutzername", Identifier), ("Passwort", Password)]),
        (FORM, "用户名=a&密码=x", &[("用户名", Identifier), ("密码", Password)]),
        (
            FORM,
            "old=1&oldpassword=x&password1=y&password2=y",
            &[("oldpassword", Old), ("password1", Password), ("password2", Again)],
        ),
        (
            FORM,
            "password=x&new_password=y&new_password_confirmation=y",
            &[("password", Old), ("new_password", New), ("new_password_confirmation", Again)],
        ),
        (FORM, "usable_password=true&pass1=x&pass2=x", &[("pass1", Password), ("pass2", Again)]),
        (
            JSON,
            r#"{"data":{"email":"a@b.cd","password":"x","otp":"123456"}}"#,
            &[("email", Identifier), ("otp", Code), ("password", Password)],
        ),
        (JSON, r#"{"currentPassword":"x","newPassword":"y"}"#, &[("currentPassword", Old), ("newPassword", New)]),
        (JSON, r#"{"token":"0123456789abcdef","password":"y"}"#, &[("password", Password), ("token", Token)]),
    ];
    for (content_type, body, expected) in cases {
        let mut found = roles(content_type, body, &nothing);
        let mut expected: Vec<_> = expected.iter().map(|(n, r)| (n.to_string(), *r)).collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, expected, "{body}");
    }
}

#[test]
fn a_password_without_a_telling_name_is_known_by_the_page_that_asked_for_it() {
    let asks = |name: &str| match name {
        "f2" => Some(Asks::Password),
        "f1" => Some(Asks::Text),
        _ => None,
    };
    assert_eq!(
        roles(FORM, "h=1&f1=alice&f2=x", &asks),
        [("f1".to_owned(), Role::Identifier), ("f2".to_owned(), Role::Password)]
    );
    assert!(roles(FORM, "h=1&f1=alice&f2=x", &nothing).is_empty());
}

#[test]
fn arguments_of_graphql_are_fields_wherever_their_values_stand() {
    for body in [
        r#"{"query":"mutation login($e: String!, $p: String!) { signIn(email: $e, password: $p) { ok } }","variables":{"e":"a@b.cd","p":"x"}}"#,
        r#"{"query":"mutation { signIn(email: \"a@b.cd\", password: \"x\") { token } }"}"#,
        r#"{"query":"mutation ($i: In!) { signIn(input: $i) { token } }","variables":{"i":{"email":"a@b.cd","password":"x"}}}"#,
    ] {
        let exchange = exchange(JSON, "/graphql", body);
        let facts = Facts::of_exchange(&exchange);
        let request = Request::read(&facts, &nothing);
        assert_eq!((request.shape, request.identifier()), (Shape::GraphQl, Some("a@b.cd")), "{body}");
        assert!(request.says(&super::super::words::LOGIN) && request.with(Role::Password).count() == 1, "{body}");
    }
    let exchange = exchange(JSON, "/graphql", r#"{"query":"query { login { email } }"}"#);
    let facts = Facts::of_exchange(&exchange);
    assert_eq!(Request::read(&facts, &nothing).shape, Shape::GraphQlRead);
}

/// What a JSON body is about at a place, for somebody with or without a session.
fn about(target: &'static str, body: &str, session: bool) -> Intent {
    let exchange = exchange(JSON, target, body);
    let facts = Facts::of_exchange(&exchange);
    let request = Request::read(&facts, &nothing);
    intent::of(&request, &Method::POST, Known { session, ..Known::default() })
}

#[test]
fn an_old_and_a_new_value_are_passwords_where_the_place_or_a_name_beside_says_so() {
    for (target, body) in [
        ("/api/password", r#"{"old":"a1","new":"b2"}"#),
        ("/api/me/change-password", r#"{"current":"a1","new":"b2"}"#),
        ("/api/changePassword", r#"{"old":"a1","new":"b2","confirm":"b2"}"#),
        ("/account/pwd", r#"{"oldSecret":"a1","newSecret":"b2","newSecretRepeat":"b2"}"#),
        ("/users/7/credentials", r#"{"previous":"a1","new":"b2","sign_out_others":true}"#),
        ("/profil/passwort", r#"{"alt":"a1","neu":"b2"}"#),
        ("/api/me/password", r#"{"data":{"old":"a1","new":"me@home.example"}}"#),
        ("/api/me", r#"{"password":{"old":"a1","new":"b2"}}"#),
        ("/api/me", r#"{"user":{"password":{"current":"a1","new":"b2","confirmation":"b2"}}}"#),
        ("/api/me", r#"{"password":"a1","new":"b2"}"#),
        ("/api/me", r#"{"old":"a1","password":"b2"}"#),
        ("/rpc", r#"{"jsonrpc":"2.0","method":"user.changePassword","params":{"old":"a1","new":"b2"}}"#),
        ("/graphql", r#"{"query":"mutation { changePassword(old: \"a1\", new: \"b2\") { ok } }"}"#),
    ] {
        assert_eq!(about(target, body, true), Intent::PasswordChange, "{target} {body}");
    }
}

#[test]
fn an_old_and_a_new_value_of_something_else_are_no_passwords() {
    for (target, body) in [
        ("/api/documents/3/rename", r#"{"old":"draft-1","new":"final-2"}"#),
        ("/api/me", r#"{"old":"Nick_1999","new":"Nick_2000"}"#),
        ("/api/me/email", r#"{"old":"a@b.cd","new":"e@b.cd"}"#),
        ("/api/me/password", r#"{"old_email":"a@b.cd","new_email":"e@b.cd"}"#),
        ("/api/password-policy", r#"{"old":"strict-8","new":"lax-6"}"#),
        ("/vault/passwords/7", r#"{"old":"a1","new":"b2"}"#),
        ("/api/password/hint", r#"{"old":"my dog","new":"my cat"}"#),
        ("/api/password", r#"{"old":true,"new":false}"#),
        ("/api/password", r#"{"old":"a1"}"#),
        ("/api/password", r#"{"old":"a1","new":"b2","title":"x","body":"y"}"#),
        ("/api/things", r#"{"password":"a1","title":"x","new":"b2"}"#),
    ] {
        assert_ne!(about(target, body, true), Intent::PasswordChange, "{target} {body}");
    }
    // Whose password the place could mean nobody knows without a session.
    assert_eq!(about("/api/password", r#"{"old":"a1","new":"b2"}"#, false), Intent::Nothing);
}

#[test]
fn keys_are_made_at_places_of_keys_inside_a_session() {
    for target in
        ["/api/keys", "/api/tokens", "/api/v1/api-keys", "/me/keys", "/account/key/generate", "/keys/create-token"]
    {
        assert_eq!(about(target, r#"{"name":"ci","scopes":["read"]}"#, true), Intent::KeyMade, "{target}");
        assert_eq!(about(target, r#"{"name":"ci"}"#, false), Intent::Nothing, "{target}");
    }
    assert_eq!(about("/rpc", r#"{"method":"createKey","params":{"name":"ci"}}"#, true), Intent::KeyMade);
    for target in [
        "/user/ssh/keys",
        "/api/ssh-keys",
        "/projects/1/translations/keys",
        "/csrf-token/new",
        "/devices/push-token/add",
        "/keys/7/comments",
        "/api/keyboards",
        "/licenses/keys",
        "/cache/keys",
    ] {
        assert_eq!(about(target, r#"{"name":"ci"}"#, true), Intent::Nothing, "{target}");
    }
}

proptest::proptest! {
    #[test]
    fn any_body_is_some_request(body in "[a-z{}\\[\\]\":,$()&=%@ <>/#\\\\]{0,120}", json: bool) {
        roles(if json { JSON } else { FORM }, &body, &nothing);
        roles(JSON, &serde_json::json!({"query": format!("mutation {{{body}"), "variables": {"a": body}}).to_string(), &nothing);
    }
}
