use http::{HeaderMap, HeaderValue, Method, Uri, header};

use super::*;
use crate::event::Timestamp;
use crate::exchange::{Ended, Exchange, Kept, Request as Asked};

fn exchange(content_type: &'static str, target: &'static str, body: &str) -> Exchange {
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))]);
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

proptest::proptest! {
    #[test]
    fn any_body_is_some_request(body in "[a-z{}\\[\\]\":,$()&=%@ <>/#\\\\]{0,120}", json: bool) {
        roles(if json { JSON } else { FORM }, &body, &nothing);
        roles(JSON, &serde_json::json!({"query": format!("mutation {{{body}"), "variables": {"a": body}}).to_string(), &nothing);
    }
}
