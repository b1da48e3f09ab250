//! Capture without configuration, before small applications that answer as frameworks do. None of
//! them is known to authtap, and nothing is configured: what each story should tell stands beside it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use serde_json::Value;

use crate::harness::{Client, Message, Origin, Proxy, answer, at};

/// A visitor with cookies, who follows redirects as browsers do.
struct Visitor {
    client: Client,
    cookies: Vec<(String, String)>,
    fields: String,
}

impl Visitor {
    fn of(proxy: &Proxy) -> Visitor {
        Visitor { client: Client::connect(proxy.address), cookies: Vec::new(), fields: String::new() }
    }

    fn get(&mut self, target: &str) -> Message {
        self.send("GET", target, "", "")
    }

    fn form(&mut self, target: &str, body: &str) -> Message {
        self.send("POST", target, "application/x-www-form-urlencoded", body)
    }

    fn json(&mut self, method: &str, target: &str, body: &str) -> Message {
        self.send(method, target, "application/json", body)
    }

    fn send(&mut self, method: &str, target: &str, kind: &str, body: &str) -> Message {
        let cookies: Vec<String> = self.cookies.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let mut head =
            format!("{method} {target} HTTP/1.1\r\nHost: app.example.test\r\nUser-Agent: visitor\r\n{}", self.fields);
        if !cookies.is_empty() {
            head.push_str(&format!("Cookie: {}\r\n", cookies.join("; ")));
        }
        if !kind.is_empty() {
            head.push_str(&format!("Content-Type: {kind}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let answer = self.client.send(format!("{head}\r\n{body}")).answer(method);
        for (name, line) in &answer.fields {
            if name.eq_ignore_ascii_case(b"set-cookie") {
                self.keep(&String::from_utf8_lossy(line));
            }
        }
        match answer.field("location").filter(|_| answer.status() / 100 == 3) {
            Some(location) => self.get(&location),
            None => answer,
        }
    }

    fn keep(&mut self, line: &str) {
        let pair = line.split(';').next().unwrap_or_default();
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        self.cookies.retain(|(n, _)| n != name);
        if !value.is_empty() {
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
    }
}

/// authtap before an application, told nothing about it.
fn before(origin: &Origin) -> Proxy {
    Proxy::before(origin.address, "auto: on")
}

/// What was told: type and actor of each event.
fn told(events: &[Value]) -> Vec<String> {
    let who = |e: &Value| {
        ["/actor/email", "/actor/login", "/actor/id"]
            .iter()
            .map(|p| at(e, p))
            .find(|w| !w.is_empty())
            .unwrap_or("-")
            .to_owned()
    };
    events.iter().map(|e| format!("{} {}", at(e, "/event_type"), who(e))).collect()
}

fn page(status: &str, fields: &[&str], body: &str) -> Vec<u8> {
    let fields: Vec<&str> = fields.iter().copied().chain(["Content-Type: text/html; charset=utf-8"]).collect();
    answer(status, &fields, body)
}

fn json(status: &str, fields: &[&str], body: &str) -> Vec<u8> {
    let fields: Vec<&str> = fields.iter().copied().chain(["Content-Type: application/json"]).collect();
    answer(status, &fields, body)
}

fn to(status: &str, location: &str, fields: &[&str]) -> Vec<u8> {
    let location = format!("Location: {location}");
    let fields: Vec<&str> = fields.iter().copied().chain([location.as_str()]).collect();
    answer(status, &fields, "")
}

/// A secret that was not there before.
fn fresh(counter: &AtomicU64) -> String {
    format!("{:016x}abcdef0123456789", counter.fetch_add(1, SeqCst) + 0x1a2b_3c4d)
}

const HOME: &str = "<h1>Home</h1><a href='/sign_out'>x</a>";

#[test]
fn a_session_set_before_the_login_and_200_for_every_refusal() {
    let form = "<form method=post><input name=user><input type=password name=pass></form>";
    let inside = AtomicBool::new(false);
    let origin = Origin::answering(move |request| {
        let target = request.target();
        let new = if request.field("cookie").is_none() {
            vec!["Set-Cookie: PHPSESSID=abcdefghij0123456789abcdef; path=/; HttpOnly"]
        } else {
            vec![]
        };
        match (request.start().starts_with("POST"), target.as_str()) {
            (true, "/login.php") if inside.load(SeqCst) => to("302 Found", "/index.php", &[]),
            (true, "/login.php") if request.text().contains("pass=right") => {
                inside.store(true, SeqCst);
                to("302 Found", "/index.php", &[])
            }
            (_, "/login.php") => page("200 OK", &new, form),
            (_, "/logout.php") => {
                inside.store(false, SeqCst);
                to("302 Found", "/login.php", &[])
            }
            (true, "/confirm.php") => to("302 Found", "/index.php", &[]),
            _ if inside.load(SeqCst) => page("200 OK", &[], "<a href='/logout.php'>x</a>"),
            _ => to("302 Found", "/login.php", &[]),
        }
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    visitor.get("/login.php");
    visitor.form("/login.php", "user=alice&pass=wrong");
    visitor.form("/login.php", "user=alice&pass=right");
    visitor.form("/login.php", "user=bob&pass=wrong"); // signed in already: the same redirect
    visitor.form("/confirm.php", "pass=right"); // the password once more inside the session
    visitor.get("/logout.php");
    visitor.get("/logout.php"); // anonymous by now
    // A guess without any cookie: the session it is given proves nothing.
    Visitor::of(&proxy).form("/login.php", "user=carol&pass=wrong");
    assert_eq!(
        told(&proxy.stop()),
        ["user.login.failed alice", "user.login.success alice", "user.logout alice", "user.login.failed carol"]
    );
}

#[test]
fn both_outcomes_are_redirects_and_the_error_stands_in_the_query() {
    let counter = AtomicU64::new(0);
    let origin = Origin::answering(move |request| {
        let target = request.target();
        let session = format!("Set-Cookie: JSESSIONID={}; Path=/; HttpOnly", fresh(&counter));
        match (request.start().starts_with("POST"), target.as_str()) {
            (true, "/j_check") if request.text().contains("_csrf=bad") => {
                page("403 Forbidden", &[], "<h1>Forbidden</h1>")
            }
            (true, "/j_check") if request.text().contains("j_password=right") => to("302 Found", "/", &[&session]),
            (true, "/j_check") => to("302 Found", "/login?error", &[]),
            (true, "/logout") => to("302 Found", "/login?logout", &["Set-Cookie: JSESSIONID=; Max-Age=0; Path=/"]),
            (_, "/") => page("200 OK", &[], HOME),
            _ => page(
                "200 OK",
                &[],
                "<form action='/j_check' method=post><input name=j_username><input name=j_password type=password></form>",
            ),
        }
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    visitor.get("/login");
    visitor.form("/j_check", "j_username=alice&j_password=wrong");
    visitor.form("/j_check", "j_username=alice&j_password=right&_csrf=bad");
    visitor.form("/j_check", "j_username=alice&j_password=right");
    visitor.form("/logout", "_csrf=x");
    visitor.form("/logout", "_csrf=x");
    assert_eq!(
        told(&proxy.stop()),
        ["user.login.failed alice", "user.login.rejected alice", "user.login.success alice", "user.logout alice"]
    );
}

#[test]
fn a_session_cookie_that_changes_with_every_answer() {
    let counter = AtomicU64::new(0);
    let inside = AtomicBool::new(false);
    let form = "<form action='/users/sign_in' method=post><input type=email name='user[email]'><input type=password name='user[password]'></form>";
    let origin = Origin::answering(move |request| {
        let session = format!("Set-Cookie: _app_session={}; path=/; HttpOnly; SameSite=Lax", fresh(&counter));
        let set: &[&str] = &[&session];
        let posted = request.start().starts_with("POST");
        match (posted, request.target().as_str()) {
            (true, "/users/sign_in") if request.text().contains("=right") => {
                inside.store(true, SeqCst);
                to("303 See Other", "/", set)
            }
            (true, "/users/sign_in") => page("422 Unprocessable Content", set, form),
            (true, "/users/sign_out") => {
                inside.store(false, SeqCst);
                to("303 See Other", "/", set)
            }
            (true, "/users/password") => to("303 See Other", "/users/sign_in", set),
            (true, "/users") if request.text().contains("short") => page("422 Unprocessable Content", set, form),
            (true, "/users") => to("303 See Other", "/", set),
            (true, _) => to("303 See Other", "/", set),
            (_, "/users/sign_in") => page("200 OK", set, form),
            _ if inside.load(SeqCst) => page(
                "200 OK",
                set,
                "<form action='/users/sign_out' method=post><input type=hidden name=_method value=delete></form>",
            ),
            _ => page("200 OK", set, "<p>Welcome</p>"),
        }
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    visitor.get("/users/sign_in");
    visitor.get("/");
    visitor.form("/users/sign_in", "user[email]=alice@example.test&user[password]=wrong");
    visitor.form("/users/sign_in", "user[email]=alice@example.test&user[password]=right");
    visitor.get("/");
    visitor.form("/users", "_method=patch&user[current_password]=right&user[password]=n&user[password_confirmation]=n");
    visitor.form("/comments", "comment[body]=hello&comment[name]=alice");
    visitor.form("/users/sign_out", "_method=delete");
    visitor.form("/users/password", "user[email]=alice@example.test");
    visitor.form("/users", "user[email]=bob@example.test&user[password]=short&user[password_confirmation]=short");
    visitor.form("/users", "user[email]=bob@example.test&user[password]=n&user[password_confirmation]=n");
    assert_eq!(
        told(&proxy.stop()),
        [
            "user.login.failed alice@example.test",
            "user.login.success alice@example.test",
            "user.password.changed alice@example.test",
            "user.logout alice@example.test",
            "user.password.reset_requested alice@example.test",
            "user.created bob@example.test",
        ]
    );
}

#[test]
fn a_json_interface_with_bearer_tokens() {
    let counter = AtomicU64::new(0);
    let origin = Origin::answering(move |request| {
        let text = request.text();
        let tokens = format!(
            r#"{{"access_token":"{}","refresh_token":"{}","expires_in":900}}"#,
            fresh(&counter),
            fresh(&counter)
        );
        match request.target().as_str() {
            "/api/login" if text.contains("nobody@") => {
                json("429 Too Many Requests", &[], r#"{"message":"slow down"}"#)
            }
            "/api/login" if text.contains("right") => json("200 OK", &[], &tokens),
            "/api/login" => json("200 OK", &[], r#"{"success":false,"message":"nope"}"#),
            "/api/token/refresh" => json("200 OK", &[], &tokens),
            "/api/password" if text.contains("wrong") => json("400 Bad Request", &[], r#"{"error":"no"}"#),
            _ => answer("204 No Content", &[], ""),
        }
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    let token = |answer: &Message, name: &str| {
        let body: Value = serde_json::from_str(&answer.text()).expect("json");
        body[name].as_str().unwrap_or_default().to_owned()
    };
    visitor.json("POST", "/api/login", r#"{"email":"alice@example.test","password":"wrong"}"#);
    visitor.json("POST", "/api/login", r#"{"email":"nobody@example.test","password":"wrong"}"#);
    let answer = visitor.json("POST", "/api/login", r#"{"email":"alice@example.test","password":"right"}"#);
    let refresh = token(&answer, "refresh_token");
    let answer = visitor.json("POST", "/api/token/refresh", &format!(r#"{{"refresh_token":"{refresh}"}}"#));
    visitor.fields = format!("Authorization: Bearer {}\r\n", token(&answer, "access_token"));
    visitor.json("PUT", "/api/password", r#"{"oldPassword":"wrong","newPassword":"x"}"#);
    visitor.json("PUT", "/api/password", r#"{"oldPassword":"right","newPassword":"x"}"#);
    visitor.json("POST", "/api/notes", r#"{"title":"a","author":"bob@example.test"}"#);
    visitor.json("POST", "/api/logout", "{}");
    visitor.fields.clear();
    visitor.json("POST", "/api/forgot-password", r#"{"email":"bob@example.test"}"#);
    visitor.json(
        "POST",
        "/api/reset-password",
        r#"{"token":"0123456789abcdef0123","password":"x","passwordConfirm":"x","email":"bob@example.test"}"#,
    );
    assert_eq!(
        told(&proxy.stop()),
        [
            "user.login.failed alice@example.test",
            "user.login.rejected nobody@example.test",
            "user.login.success alice@example.test",
            "user.password.changed alice@example.test",
            "user.logout alice@example.test",
            "user.password.reset_requested bob@example.test",
            "user.password.reset_completed bob@example.test",
        ]
    );
}

#[test]
fn passwords_and_keys_of_a_json_interface_whose_names_say_little() {
    let counter = AtomicU64::new(0);
    let origin = Origin::answering(move |request| {
        let (text, key) = (request.text(), fresh(&counter));
        match request.target().as_str() {
            "/api/login" => json("200 OK", &[], &format!(r#"{{"token":"{key}"}}"#)),
            "/api/me/password" if text.contains("wr0ng") => json("403 Forbidden", &[], r#"{"error":"no"}"#),
            "/api/keys" if text.contains("public") => {
                json("201 Created", &[], r#"{"id":1,"key":"0123456789abcdef0123"}"#)
            }
            "/api/keys" => json("201 Created", &[], &format!(r#"{{"id":2,"name":"ci","key":"{key}"}}"#)),
            "/api/tokens" if text.contains("push") => json("200 OK", &[], r#"{"token":"f00dfeed0123456789ab"}"#),
            "/api/tokens" if text.contains("taken") => json("409 Conflict", &[], r#"{"error":"taken"}"#),
            "/api/tokens" => json("201 Created", &[], &format!(r#"{{"data":{{"secret":"{key}"}}}}"#)),
            "/api/rows" => json("200 OK", &[], &format!(r#"{{"key":"{key}"}}"#)),
            _ => json("200 OK", &[], r#"{"ok":true}"#),
        }
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    let login = visitor.json("POST", "/api/login", r#"{"email":"alice@example.test","password":"r1ght"}"#);
    let body: Value = serde_json::from_str(&login.text()).expect("json");
    visitor.fields = format!("Authorization: Bearer {}\r\n", body["token"].as_str().unwrap_or_default());
    visitor.json("POST", "/api/me/password", r#"{"old":"wr0ng","new":"n3w"}"#);
    visitor.json("POST", "/api/me/password", r#"{"old":"r1ght","new":"n3w"}"#);
    visitor.json("PUT", "/api/me", r#"{"password":{"current":"n3w","new":"n3w3r"}}"#);
    visitor.json("POST", "/api/documents/3", r#"{"old":"draft","new":"final"}"#);
    visitor.json("POST", "/api/keys", r#"{"name":"ci"}"#);
    // What came with the request was not made by it.
    visitor.json("POST", "/api/keys", r#"{"name":"public","key":"0123456789abcdef0123"}"#);
    visitor.json("POST", "/api/tokens", r#"{"push":true,"token":"f00dfeed0123456789ab"}"#);
    visitor.json("POST", "/api/tokens", r#"{"name":"taken"}"#);
    visitor.json("POST", "/api/tokens", r#"{"name":"deploy"}"#);
    visitor.json("POST", "/api/rows", r#"{"name":"row"}"#);
    visitor.json("POST", "/api/logout", "{}");
    let events = proxy.stop();
    assert_eq!(
        told(&events),
        [
            "user.login.success alice@example.test",
            "user.password.changed alice@example.test",
            "user.password.changed alice@example.test",
            "api_key.created alice@example.test",
            "api_key.created alice@example.test",
            "user.logout alice@example.test",
        ]
    );
    // How somebody proved themselves stands at the login alone.
    let methods: Vec<_> = events.iter().map(|event| at(event, "/metadata/method")).collect();
    assert_eq!(methods, ["password", "", "", "", "", ""]);
}

#[test]
fn only_a_sign_in_says_by_what_it_was_proved() {
    let origin = Origin::answering(|request| match request.target().as_str() {
        "/forgot" => json("200 OK", &[], r#"{"ok":true}"#),
        "/reset" => json("200 OK", &[], r#"{"ok":true}"#),
        "/register" => json("201 Created", &[], r#"{"id":1}"#),
        _ => json("401 Unauthorized", &[], r#"{"error":"no"}"#),
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    visitor.json("POST", "/login", r#"{"username":"alice","password":"wr0ng"}"#);
    visitor.json("POST", "/forgot", r#"{"email":"bob@example.test"}"#);
    visitor.json("POST", "/reset", r#"{"token":"0123456789abcdef0123","password":"n3w","email":"bob@example.test"}"#);
    visitor.json("POST", "/register", r#"{"username":"carol","password":"n3w"}"#);
    let events = proxy.stop();
    let said: Vec<_> = events.iter().map(|event| (at(event, "/event_type"), at(event, "/metadata/method"))).collect();
    assert_eq!(
        said,
        [
            ("user.login.failed", "password"),
            ("user.password.reset_requested", ""),
            ("user.password.reset_completed", ""),
            ("user.created", ""),
        ]
    );
}

#[test]
fn a_refusal_that_redirects_back_to_the_form() {
    let counter = AtomicU64::new(0);
    let inside = AtomicBool::new(false);
    let form = "<form method=post><input name=_token type=hidden><input name=email type=email><input name=password type=password></form>";
    let origin = Origin::answering(move |request| {
        let text = request.text();
        let session = format!("Set-Cookie: app_session={}; path=/; httponly", fresh(&counter));
        let set: &[&str] = &[&session];
        match (request.start().starts_with("POST"), request.target().as_str()) {
            (true, "/login") if text.contains("password=right") => {
                inside.store(true, SeqCst);
                to("302 Found", "/dashboard", set)
            }
            (true, "/login") => to("302 Found", "/login", set),
            (true, "/logout") => {
                inside.store(false, SeqCst);
                to("302 Found", "/", set)
            }
            (true, "/forgot-password") => to("302 Found", "/forgot-password", set),
            (true, "/reset-password") => to("302 Found", "/login", set),
            (true, "/register") => to("302 Found", "/dashboard", set),
            (_, "/login") => page("200 OK", set, form),
            (_, "/dashboard") if inside.load(SeqCst) => {
                page("200 OK", set, "<form action='/logout' method=post></form>")
            }
            (_, "/dashboard") => to("302 Found", "/login", set),
            _ => page("200 OK", set, "<p>x</p>"),
        }
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    visitor.get("/login");
    visitor.form("/login", "_token=abcdefghijklmnop1234&email=alice@example.test&password=wrong");
    visitor.form("/login", "_token=abcdefghijklmnop1234&email=alice@example.test&password=right");
    visitor.get("/settings");
    visitor.form("/logout", "_token=abcdefghijklmnop1234");
    visitor.form("/forgot-password", "_token=abcdefghijklmnop1234&email=alice@example.test");
    visitor.form(
        "/reset-password",
        "_token=abcdefghijklmnop1234&token=0123456789abcdef0123456789&email=alice@example.test&password=n&password_confirmation=n",
    );
    visitor.form(
        "/register",
        "_token=abcdefghijklmnop1234&name=Bob&email=bob@example.test&password=n&password_confirmation=n",
    );
    assert_eq!(
        told(&proxy.stop()),
        [
            "user.login.failed alice@example.test",
            "user.login.success alice@example.test",
            "user.logout alice@example.test",
            "user.password.reset_requested alice@example.test",
            "user.password.reset_completed alice@example.test",
            "user.created bob@example.test",
        ]
    );
}

#[test]
fn one_address_for_everything_with_the_outcome_on_the_next_page_only() {
    let inside = AtomicBool::new(false);
    let form = "<form method=post><input name=user><input type=password name=pw></form>";
    let own = "<form action='index.php?action=logout'><button>x</button></form><form method=post><input type=password name=old_pw><input type=password name=new_pw></form>";
    let complaint = AtomicBool::new(false);
    let origin = Origin::answering(move |request| {
        let text = request.text();
        let set = ["Set-Cookie: PHPSESSID=abcdefghij0123456789abcdef; path=/"];
        let back = || to("302 Found", "/index.php", &set);
        match (request.start().starts_with("POST"), request.target().as_str()) {
            (true, _) if text.contains("old_pw=") => {
                complaint.store(text.contains("old_pw=wrong"), SeqCst);
                back()
            }
            (true, _) => {
                inside.store(text.contains("pw=right"), SeqCst);
                back()
            }
            (_, "/index.php?action=logout") => {
                inside.store(false, SeqCst);
                back()
            }
            _ if complaint.swap(false, SeqCst) => page("200 OK", &[], &format!("<p class=error>no</p>{own}")),
            _ if inside.load(SeqCst) => page("200 OK", &[], own),
            _ => page("200 OK", &set, form),
        }
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    visitor.get("/index.php");
    visitor.form("/index.php", "user=alice&pw=wrong");
    visitor.form("/index.php", "user=alice&pw=right");
    visitor.form("/index.php", "old_pw=wrong&new_pw=n");
    visitor.form("/index.php", "old_pw=right&new_pw=n");
    visitor.get("/index.php?action=logout");
    assert_eq!(
        told(&proxy.stop()),
        ["user.login.failed alice", "user.login.success alice", "user.password.changed alice", "user.logout alice"]
    );
}

#[test]
fn a_session_kept_in_the_cookie_moves_and_proves_nothing_by_it() {
    let counter = AtomicU64::new(0);
    let inside = AtomicBool::new(false);
    let form = "<form method=post><input name=username><input type=password name=password></form>";
    let origin = Origin::answering(move |request| {
        let text = request.text();
        let session = format!("Set-Cookie: session={}; HttpOnly; Path=/", fresh(&counter));
        let set: &[&str] = &[&session];
        match (request.start().starts_with("POST"), request.target().as_str()) {
            (true, "/login/") if text.contains("csrf_token=bad") => {
                page("200 OK", &[], &format!("<p>The CSRF token is invalid.</p>{form}"))
            }
            (true, "/login/") if inside.load(SeqCst) => to("302 Found", "/", set),
            (true, "/login/") if text.contains("password=right") => {
                inside.store(true, SeqCst);
                to("302 Found", "/", set)
            }
            (true, "/login/") => to("302 Found", "/login/", set),
            (_, "/logout/") => {
                inside.store(false, SeqCst);
                to("302 Found", "/", set)
            }
            (_, "/login/") => page("200 OK", set, form),
            _ if inside.load(SeqCst) => page("200 OK", set, "<a href='/logout/'>x</a>"),
            _ => page("200 OK", &[], "<p>x</p>"),
        }
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    visitor.get("/login/");
    visitor.form("/login/", "csrf_token=c&username=alice&password=wrong");
    visitor.form("/login/", "csrf_token=bad&username=alice&password=right");
    visitor.form("/login/", "csrf_token=c&username=alice&password=right");
    visitor.get("/");
    visitor.form("/login/", "csrf_token=c&username=bob&password=wrong"); // signed in already
    visitor.get("/logout/");
    visitor.get("/logout/");
    assert_eq!(
        told(&proxy.stop()),
        ["user.login.failed alice", "user.login.rejected alice", "user.login.success alice", "user.logout alice"]
    );
}

#[test]
fn long_prefixes_machinery_and_a_ticket_cookie() {
    let counter = AtomicU64::new(0);
    let form = "<form method=post><input type=hidden name=__VIEWSTATE value=x><input name='ctl00$Main$txtUser'><input type=password name='ctl00$Main$txtPassword'><input type=submit name='ctl00$Main$btnGo'></form>";
    let origin = Origin::answering(move |request| {
        let ticket = format!("Set-Cookie: .AUTH={}; path=/; HttpOnly", fresh(&counter));
        match (request.start().starts_with("POST"), request.target().as_str()) {
            (true, _) if request.text().contains("txtPassword=right") => to("302 Found", "/Default.aspx", &[&ticket]),
            (_, "/SignOut.aspx") => {
                to("302 Found", "/Login.aspx", &["Set-Cookie: .AUTH=; expires=Tue, 12-Oct-1999 00:00:00 GMT; path=/"])
            }
            (_, "/Default.aspx") => page("200 OK", &[], HOME),
            _ => page("200 OK", &[], form),
        }
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    let fields = |password: &str| {
        format!(
            "__VIEWSTATE=%2FwEPDwUKMTY1NDU2MTA1Mg&__EVENTTARGET=&ctl00%24Main%24txtUser=alice&ctl00%24Main%24txtPassword={password}&ctl00%24Main%24btnGo=Go"
        )
    };
    visitor.get("/Login.aspx");
    visitor.form("/Login.aspx", &fields("wrong"));
    visitor.form("/Login.aspx?ReturnUrl=%2f", &fields("right"));
    visitor.get("/SignOut.aspx");
    assert_eq!(told(&proxy.stop()), ["user.login.failed alice", "user.login.success alice", "user.logout alice"]);
}

#[test]
fn one_url_for_every_call_of_graphql() {
    let counter = AtomicU64::new(0);
    let origin = Origin::answering(move |request| {
        let text = request.text();
        let set = format!("Set-Cookie: gsid={}; HttpOnly", fresh(&counter));
        if text.contains("signIn") && text.contains("right") {
            json("200 OK", &[&set], r#"{"data":{"signIn":{"user":{"id":"u7","email":"alice@example.test"}}}}"#)
        } else if text.contains("signIn") {
            json("200 OK", &[], r#"{"data":{"signIn":null},"errors":[{"message":"x"}]}"#)
        } else {
            json("200 OK", &[], r#"{"data":{"ok":true}}"#)
        }
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    let call = |query: &str, variables: &str| format!(r#"{{"query":"{query}","variables":{variables}}}"#);
    let login = "mutation S($a: String!, $b: String!) { signIn(email: $a, password: $b) { user { id email } } }";
    visitor.json("POST", "/graphql", &call("query { viewer { email } }", "{}"));
    visitor.json("POST", "/graphql", &call(login, r#"{"a":"alice@example.test","b":"wrong"}"#));
    visitor.json("POST", "/graphql", &call(login, r#"{"a":"alice@example.test","b":"right"}"#));
    visitor.json(
        "POST",
        "/graphql",
        &call(
            "mutation ($i: I!) { changePassword(input: $i) { ok } }",
            r#"{"i":{"oldPassword":"right","newPassword":"n"}}"#,
        ),
    );
    visitor.json("POST", "/graphql", &call("mutation { requestPasswordReset(email: \\\"bob@example.test\\\") }", "{}"));
    visitor.json("POST", "/graphql", &call("mutation { signOut }", "{}"));
    let events = proxy.stop();
    assert_eq!(
        told(&events),
        [
            "user.login.failed alice@example.test",
            "user.login.success alice@example.test",
            "user.password.changed alice@example.test",
            "user.password.reset_requested alice@example.test",
            "user.logout alice@example.test",
        ]
    );
    assert_eq!(at(&events[1], "/actor/id"), "u7");
}

#[test]
fn first_who_then_the_password_then_a_code() {
    let counter = AtomicU64::new(0);
    let origin = Origin::answering(move |request| {
        let text = request.text();
        let set = format!("Set-Cookie: sid={}; HttpOnly", fresh(&counter));
        let ask = |what: &str| page("200 OK", &[], &format!("<form method=post><input {what}></form>"));
        match (request.start().starts_with("POST"), request.target().as_str()) {
            (true, "/signin") => {
                to("302 Found", "/signin/challenge", &["Set-Cookie: state=st4te0123456789abcdef; HttpOnly"])
            }
            (true, "/signin/challenge") if text.contains("secret=right") => to("302 Found", "/signin/step2", &[]),
            (true, "/signin/challenge") => ask("type=password name=secret"),
            (true, "/signin/step2") if text.contains("digits=123456") => to("302 Found", "/", &[&set]),
            (true, "/signin/step2") | (_, "/signin/step2") => ask("name=digits autocomplete=one-time-code"),
            (_, "/signin/challenge") => ask("type=password name=secret"),
            (_, "/signin") => ask("name=identifier"),
            _ => page("200 OK", &[], HOME),
        }
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    visitor.get("/signin");
    visitor.form("/signin", "identifier=alice@example.test");
    visitor.form("/signin/challenge", "secret=wrong");
    visitor.form("/signin/challenge", "secret=right");
    visitor.form("/signin/step2", "digits=000000");
    visitor.form("/signin/step2", "digits=123456");
    assert_eq!(
        told(&proxy.stop()),
        [
            "user.login.failed alice@example.test",
            "user.mfa.challenge.requested alice@example.test",
            "user.mfa.challenge.failed alice@example.test",
            "user.mfa.challenge.success alice@example.test",
            "user.login.success alice@example.test",
        ]
    );
}

#[test]
fn credentials_with_each_request_are_told_once() {
    let origin = Origin::answering(|request| match request.field("authorization").as_deref() {
        // alice:right
        Some("Basic YWxpY2U6cmlnaHQ=") => page("200 OK", &[], "<h1>in</h1>"),
        _ => page("401 Unauthorized", &["WWW-Authenticate: Basic realm=x"], "<h1>out</h1>"),
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    visitor.get("/");
    // alice:wrong
    visitor.fields = "Authorization: Basic YWxpY2U6d3Jvbmc=\r\nAccept: text/html\r\n".into();
    visitor.get("/");
    visitor.fields = "Authorization: Basic YWxpY2U6cmlnaHQ=\r\nAccept: text/html\r\n".into();
    for target in ["/", "/a", "/b"] {
        visitor.get(target);
    }
    assert_eq!(told(&proxy.stop()), ["user.login.failed alice", "user.login.success alice"]);
}

#[test]
fn words_of_other_languages_and_names_that_say_nothing() {
    let counter = AtomicU64::new(0);
    for (login, user, password, way_out, forgot) in [
        ("/anmelden", "Benutzername", "Kennwort", "/abmelden", "/passwort-vergessen"),
        ("/connexion", "identifiant", "mot_de_passe", "/deconnexion", "/mot-de-passe-oublie"),
        ("/yonghu/denglu", "用户名", "密码", "/退出", "/忘记密码"),
        ("/x/1", "f1", "f2", "/x/logout", "/x/lost"),
    ] {
        let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let path = |text: &str| text.split('/').map(encode).collect::<Vec<_>>().join("/");
        let first = fresh(&counter);
        let names = (path(login), encode(password), path(way_out), path(forgot));
        let form = format!(
            "<form method=post action='{login}'><input name='{user}'><input type=password name='{password}'></form>"
        );
        let (at_login, secret, at_end) = (names.0.clone(), names.1.clone(), names.2.clone());
        let origin = Origin::answering(move |request| {
            let target = request.target();
            let set = format!("Set-Cookie: s={first}; HttpOnly");
            if request.start().starts_with("POST") && target == at_login {
                return match request.text().contains(&format!("{secret}=right")) {
                    true => to("302 Found", "/", &[&set]),
                    false => page("200 OK", &[], &form),
                };
            }
            match target.as_str() {
                t if t == at_end => to("302 Found", "/", &["Set-Cookie: s=; Max-Age=0"]),
                t if t == at_login => page("200 OK", &[], &form),
                _ => page("200 OK", &[], "<p>x</p>"),
            }
        });
        let proxy = before(&origin);
        let mut visitor = Visitor::of(&proxy);
        let fields = |word: &str| format!("{}=alice&{}={word}", encode(user), names.1);
        visitor.get(&names.0);
        visitor.form(&names.0, &fields("wrong"));
        visitor.form(&names.0, &fields("right"));
        visitor.get(&names.2);
        visitor.form(&names.3, &format!("{}=alice", encode("email")));
        assert_eq!(
            told(&proxy.stop()),
            [
                "user.login.failed alice",
                "user.login.success alice",
                "user.logout alice",
                "user.password.reset_requested alice"
            ],
            "{login}"
        );
    }
}

#[test]
fn what_looks_like_a_login_and_is_none_stays_silent() {
    let origin = Origin::answering(|request| match request.target().as_str() {
        "/page-password" => to("302 Found", "/secret", &["Set-Cookie: page=0123456789abcdef0123; HttpOnly"]),
        "/api/auth/refresh" => json("401 Unauthorized", &[], r#"{"error":"no token"}"#),
        "/private" => json("401 Unauthorized", &[], r#"{"error":"who are you"}"#),
        _ => page("200 OK", &[], "<form action='/search'><input name=q></form>"),
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    visitor.get("/");
    visitor.form("/page-password", "post_password=sesame");
    visitor.form("/search", "q=login+password");
    visitor.form("/comments", "author=Bob&email=bob@example.test&url=&comment=nice");
    visitor.form("/newsletter", "email=bob@example.test");
    visitor.json("POST", "/api/auth/refresh", "{}");
    visitor.get("/private");
    visitor.get("/logout");
    visitor.form("/logout", "csrf=x");
    visitor.send("OPTIONS", "/login", "", "");
    assert_eq!(told(&proxy.stop()), Vec::<String>::new());
}

#[test]
fn every_event_says_how_sure_it_is_and_by_which_sign_and_holds_no_secret() {
    let origin = Origin::answering(|request| match request.text().contains("hunter2") {
        true => {
            json("200 OK", &["Set-Cookie: sid=s3cr3t0123456789abcd; HttpOnly"], r#"{"token":"t0k3n0123456789abcdef"}"#)
        }
        false => json("401 Unauthorized", &[], r#"{"error":"no"}"#),
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    visitor.json("POST", "/login", r#"{"username":"alice","password":"hunter2"}"#);
    visitor.json("POST", "/login", r#"{"username":"alice","password":"wr0ngw0rd"}"#);
    let lines = proxy.stop_for_lines();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    for (line, rule) in lines.iter().zip(["token-in-json", "status-401"]) {
        let event: Value = serde_json::from_str(line).expect("json");
        assert_eq!((at(&event, "/source/mode"), at(&event, "/source/rule")), ("auto", rule));
        let confidence = event.pointer("/source/confidence").and_then(Value::as_f64).unwrap_or_default();
        assert!((0.9..=1.0).contains(&confidence), "{confidence}");
        for secret in ["hunter2", "wr0ngw0rd", "s3cr3t", "t0k3n"] {
            assert!(!line.contains(secret), "{secret}");
        }
    }
}

#[test]
fn what_no_sign_decides_is_unknown() {
    let origin = Origin::answering(|_| answer("200 OK", &["Content-Type: text/plain"], "hello"));
    let proxy = before(&origin);
    let mut client = Client::connect(proxy.address);
    client.send(crate::harness::form("/other/login", "username=alice&password=x")).answer("POST");
    let events = proxy.stop();
    assert_eq!(told(&events), ["user.login.unknown alice"]);
    assert_eq!(at(&events[0], "/outcome"), "unknown");
}

#[test]
fn routes_decide_before_it_and_it_sees_only_what_they_leave() {
    let origin = Origin::answering(|request| match request.text().contains("right") {
        true => answer("204 No Content", &[], ""),
        false => json("401 Unauthorized", &[], "{}"),
    });
    let routes = "auto: on\nroutes: [{ id: door, match: { method: POST, path: /door }, actor: { login: form.username }, emit: acme.door.opened, when: { status: 204 } }]";
    let proxy = Proxy::before(origin.address, routes);
    let mut visitor = Visitor::of(&proxy);
    visitor.form("/door", "username=alice&password=right");
    visitor.form("/login", "username=alice&password=wrong");
    let events = proxy.stop();
    assert_eq!(told(&events), ["acme.door.opened alice", "user.login.failed alice"]);
    assert_eq!((at(&events[0], "/source/mode"), at(&events[1], "/source/mode")), ("routes", "auto"));
}

#[test]
fn a_name_that_one_page_declares_new_is_a_password_where_one_signs_in() {
    let sign_in = "<form method=post><input name=n><input type=password name=p></form>";
    let sign_up = "<form method=post><input name=n autocomplete=username>\
                   <input type=password name=p autocomplete=new-password></form>";
    let secrets = AtomicU64::new(0);
    let origin =
        Origin::answering(move |request| match (request.start().starts_with("POST"), request.target().as_str()) {
            (true, "/x?title=Special:UserLogin") if request.text().contains("p=right") => {
                to("302 Found", "/home", &[&format!("Set-Cookie: sid={}; HttpOnly", fresh(&secrets))])
            }
            (_, "/x?title=Special:UserLogin") => page("200 OK", &[], sign_in),
            (_, "/x?title=Special:CreateAccount") => page("200 OK", &[], sign_up),
            _ => page("200 OK", &[], HOME),
        });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    visitor.get("/x?title=Special:UserLogin");
    visitor.get("/x?title=Special:CreateAccount");
    visitor.form("/x?title=Special:UserLogin", "n=alice&p=wrong");
    visitor.get("/x?title=Special:CreateAccount");
    visitor.form("/x?title=Special:UserLogin", "n=alice&p=right");
    assert_eq!(told(&proxy.stop()), ["user.login.failed alice", "user.login.success alice"]);
}

#[test]
fn a_page_that_demands_a_new_password_is_no_refusal_of_the_one_that_was_right() {
    let sign_in = "<form method=post><input name=n><input type=password name=p></form>";
    // The same name again, declared new, beside whom it is for: nobody can write into that.
    let demand = "<form method=post><input name=n readonly><input type=password name=p autocomplete=new-password>\
                  <input type=password name=retype autocomplete=new-password></form>";
    // A site whose login declares its password new, beside its sign-up.
    let both = "<form method=post><input name=username><input type=password name=p autocomplete=new-password></form>\
                <form action=/join><input name=username><input type=password name=p autocomplete=new-password>\
                <input type=password name=p2 autocomplete=new-password></form>";
    let secrets = AtomicU64::new(0);
    let origin = Origin::answering(move |request| {
        let (text, sent) = (request.text(), request.start().starts_with("POST"));
        match request.target().as_str() {
            "/signin" if sent && text.contains("retype=long-enough") => {
                to("302 Found", "/home", &[&format!("Set-Cookie: sid={}; HttpOnly", fresh(&secrets))])
            }
            "/signin" if sent && (text.contains("p=mailed") || text.contains("retype=")) => page("200 OK", &[], demand),
            "/signin" => page("200 OK", &[&format!("Set-Cookie: visit={}; HttpOnly", fresh(&secrets))], sign_in),
            "/account/login" => page("200 OK", &[], both),
            _ => page("200 OK", &[], HOME),
        }
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    visitor.get("/signin");
    visitor.form("/signin", "n=alice&p=wrong");
    visitor.form("/signin", "n=alice&p=mailed");
    visitor.form("/signin", "n=alice&p=short&retype=short");
    visitor.form("/signin", "n=alice&p=long-enough&retype=long-enough");
    let mut other = Visitor::of(&proxy);
    other.get("/account/login");
    other.form("/account/login", "username=bob&p=wrong");
    let events = proxy.stop();
    assert_eq!(
        told(&events),
        [
            "user.login.failed alice",
            "user.mfa.challenge.requested alice",
            "user.password.changed alice",
            "user.login.success alice",
            "user.login.failed bob",
        ]
    );
    assert_eq!(at(&events[1], "/reason"), "required_action");
}

#[test]
fn who_signs_up_is_known_by_the_next_page_where_the_cookie_proves_nothing() {
    let counter = AtomicU64::new(0);
    let inside = AtomicBool::new(false);
    let form = "<form action='/register' method=post><input name=username><input type=email name=email><input type=password name=password><input type=password name=confirm></form>";
    let origin = Origin::answering(move |request| {
        let session = format!("Set-Cookie: app={}; path=/; HttpOnly", fresh(&counter));
        let set: &[&str] = &[&session];
        match (request.start().starts_with("POST"), request.target().as_str()) {
            (true, "/register") => {
                inside.store(request.text().contains("username=carol"), SeqCst);
                to("302 Found", "/account", set)
            }
            (_, "/register") => page("200 OK", set, form),
            (_, "/sign_out") => to("302 Found", "/", set),
            (_, "/welcome/dave") => page("200 OK", set, HOME),
            _ if inside.load(SeqCst) => page("200 OK", set, HOME),
            _ => page("200 OK", set, "<p>A mail is under way</p>"),
        }
    });
    let proxy = before(&origin);
    let mut anybody = Visitor::of(&proxy);
    (0..5).for_each(|_| drop(anybody.get("/")));
    for name in ["dave", "carol"] {
        let mut visitor = Visitor::of(&proxy);
        visitor.get("/");
        visitor.get("/register");
        visitor.form("/register", &format!("username={name}&email={name}@example.test&password=n&confirm=n"));
        visitor.get("/welcome/dave");
        visitor.get("/sign_out");
    }
    let events = proxy.stop();
    assert_eq!(
        told(&events),
        ["user.created dave@example.test", "user.created carol@example.test", "user.logout carol@example.test"]
    );
    assert_eq!(events.iter().map(|e| at(e, "/actor/login")).collect::<Vec<_>>(), ["dave", "carol", "carol"]);
}

#[test]
fn an_administrator_who_makes_a_user_changes_no_password() {
    let form = "<form action='/login' method=post><input name=username><input type=password name=password></form>";
    let origin = Origin::answering(move |request| match (request.start().starts_with("POST"), &*request.target()) {
        (true, "/login") => to("302 Found", "/", &["Set-Cookie: sid=abcdefghij0123456789abcdef; path=/; HttpOnly"]),
        (true, "/users") => to("302 Found", "/users/7", &[]),
        (true, _) => to("302 Found", "/people/modify", &[]),
        (_, "/login") => page("200 OK", &[], form),
        _ => page("200 OK", &[], HOME),
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    visitor.get("/login");
    visitor.form("/login", "username=root&password=right");
    visitor.form("/users", "user[login]=dora&user[password]=n&user[password_confirmation]=n");
    visitor.form("/people/modify", "login=dora&current_password=right&password1=n&password2=n");
    visitor.form("/people/modify", "login=root&current_password=right&password1=n&password2=n");
    assert_eq!(told(&proxy.stop()), ["user.login.success root", "user.created root", "user.password.changed root"]);
}

#[test]
fn whether_a_page_ends_a_session_or_asks_first_is_read_each_time() {
    let counter = AtomicU64::new(0);
    let form = "<form action='/login' method=post><input name=user><input type=password name=pass></form>";
    let origin = Origin::answering(move |request| {
        let session = format!("Set-Cookie: sid={}; path=/; HttpOnly", fresh(&counter));
        match (request.start().starts_with("POST"), &*request.target()) {
            (true, "/login") => to("302 Found", "/", &[&session]),
            (_, "/login") => page("200 OK", &[], form),
            (_, "/logout") => page("200 OK", &[], "<form action='/logout' method=post><button>Sure?</button></form>"),
            (_, "/leave/logout.html") => page("200 OK", &[&session], "<p>Bye</p>"),
            _ => page("200 OK", &[], "<a href='/leave/logout.html'>x</a>"),
        }
    });
    let proxy = before(&origin);
    for _ in 0..2 {
        let mut visitor = Visitor::of(&proxy);
        visitor.get("/login");
        visitor.form("/login", "user=alice&pass=right");
        visitor.get("/logout");
        visitor.get("/leave/logout.html");
    }
    assert_eq!(
        told(&proxy.stop()),
        ["user.login.success alice", "user.logout alice", "user.login.success alice", "user.logout alice"]
    );
}

#[test]
fn a_reset_without_a_page_is_whose_its_link_or_its_token_says() {
    // {"sub":"bob","email":"bob@example.test"}
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IiLCJlbWFpbCI6ImJvYkBleGFtcGxlLnRlc3QifQ.c2lnbmF0dXJl";
    let origin = Origin::answering(move |request| match &*request.target() {
        "/auth/reset/validate?token=c0ffee00c0ffee00c0ffee" => {
            json("200 OK", &[], r#"{"id":4,"email":"alice@example.test"}"#)
        }
        "/auth/reset/password" => answer("200 OK", &[], ""),
        "/account/reset" => json(
            "200 OK",
            &["Set-Cookie: access=abcdefghij0123456789abcdef; path=/; HttpOnly"],
            &format!(r#"{{"access_token":"{token}"}}"#),
        ),
        _ => json("200 OK", &["Set-Cookie: access=; path=/; Max-Age=0"], r#"{"status":"success"}"#),
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    visitor.get("/auth/reset/validate?token=c0ffee00c0ffee00c0ffee");
    visitor.json("POST", "/auth/reset/password", r#"{"token":"c0ffee00c0ffee00c0ffee","password":"n"}"#);
    visitor.json("PUT", "/account/reset", r#"{"reset_key":"k_0123456789abcdef","password":"n","password_repeat":"n"}"#);
    visitor.json("POST", "/account/logout", "{}");
    assert_eq!(
        told(&proxy.stop()),
        [
            "user.password.reset_completed alice@example.test",
            "user.password.reset_completed bob@example.test",
            "user.logout bob@example.test"
        ]
    );
}

#[test]
fn a_cookie_that_only_carries_a_sign_in_to_its_code_is_no_session() {
    let origin = Origin::answering(move |request| match &*request.target() {
        "/auth/sign-in" => json(
            "200 OK",
            &["Set-Cookie: app.two_factor=abcdefghij0123456789abcdef; path=/; HttpOnly"],
            r#"{"twoFactorRedirect":true,"twoFactorMethods":["totp"]}"#,
        ),
        _ if request.text().contains("000000") => json("401 Unauthorized", &[], r#"{"code":"INVALID_CODE"}"#),
        _ => json(
            "200 OK",
            &["Set-Cookie: app.session=k9k8k7k6k5k4k3k2k1k0; path=/; HttpOnly"],
            r#"{"token":"0a1b2c3d4e5f6071829304","user":{"id":"u1","email":"alice@example.test"}}"#,
        ),
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    visitor.json("POST", "/auth/sign-in", r#"{"email":"alice@example.test","password":"right"}"#);
    visitor.json("POST", "/auth/two-factor/verify", r#"{"code":"000000"}"#);
    visitor.json("POST", "/auth/two-factor/verify", r#"{"code":"123456"}"#);
    assert_eq!(
        told(&proxy.stop()),
        [
            "user.mfa.challenge.requested alice@example.test",
            "user.mfa.challenge.failed alice@example.test",
            "user.mfa.challenge.success alice@example.test",
            "user.login.success alice@example.test"
        ]
    );
}

#[test]
fn a_refusal_may_be_plain_words_or_a_session_that_is_taken_back() {
    let counter = AtomicU64::new(0);
    let inside = AtomicBool::new(false);
    let form = "<form action='/public.php' method=post><input name=login><input type=password name=password></form>";
    let text = |body: &str| answer("200 OK", &["Content-Type: text/json"], body);
    let origin = Origin::answering(move |request| {
        let sent = request.text();
        match (request.start().starts_with("POST"), &*request.target()) {
            (true, "/public.php") => {
                let session = format!("Set-Cookie: sid={}; path=/; HttpOnly", fresh(&counter));
                inside.store(sent.contains("password=right"), SeqCst);
                to("302 Found", "/", &[&session])
            }
            (true, _) if sent.contains("old_password=wrong") => text("<div class='alert'><b>Error</b>: no</div>"),
            (true, _) if sent.contains("confirm_password=x") => text("ERROR: <div class='alert'>no</div>"),
            (true, _) => text("<div class='alert'>Password has been changed.</div>"),
            _ if inside.load(SeqCst) => page("200 OK", &[], "<p>Feeds</p>"),
            _ => page("200 OK", &["Set-Cookie: sid=deleted; path=/; Max-Age=0"], form),
        }
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    visitor.get("/");
    for password in ["right", "right", "wrong"] {
        let mut visitor = Visitor::of(&proxy);
        visitor.form("/public.php", &format!("op=login&login=alice&password={password}"));
    }
    visitor.form("/public.php", "op=login&login=alice&password=right");
    visitor.form("/backend.php", "method=changepassword&old_password=wrong&new_password=n&confirm_password=n");
    visitor.form("/backend.php", "method=changepassword&old_password=right&new_password=n&confirm_password=x");
    visitor.form("/backend.php", "method=changepassword&old_password=right&new_password=n&confirm_password=n");
    assert_eq!(
        told(&proxy.stop()),
        [
            "user.login.success alice",
            "user.login.success alice",
            "user.login.failed alice",
            "user.login.success alice",
            "user.password.changed alice"
        ]
    );
}

#[test]
fn a_form_that_is_led_back_to_either_way_is_told_by_its_message() {
    let said = std::sync::Mutex::new("");
    let login = "<form action='/login' method=post><input name=user><input type=password name=pass></form>";
    let form = "<form method=post><input type=password name=CurrentPass><input type=password name=Pass1><input type=password name=Pass2></form>";
    let origin = Origin::answering(move |request| {
        let text = request.text();
        match (request.start().starts_with("POST"), &*request.target()) {
            (true, "/login") if text.contains("pass=right") => {
                to("302 Found", "/", &["Set-Cookie: sid=abcdefghij0123456789abcdef; path=/; HttpOnly"])
            }
            (true, "/login") => page("200 OK", &[], login),
            (true, _) => {
                *said.lock().unwrap() = match () {
                    () if text.contains("CurrentPass=wrong") => "Password: has not been set",
                    () if text.contains("Pass2=x") => "Kennwort: stimmt nicht überein",
                    () => "Password: changed",
                };
                to("302 Found", "/me?results=1", &[])
            }
            (_, "/login") => page("200 OK", &[], login),
            (_, "/me?results=1") => {
                let said = *said.lock().unwrap();
                page("200 OK", &[], &format!("{HOME}<ul class='action-results'><li>{said}</li></ul>{form}"))
            }
            _ => page("200 OK", &[], &format!("{HOME}{form}<p>Do not tell anybody</p>")),
        }
    });
    let proxy = before(&origin);
    let mut visitor = Visitor::of(&proxy);
    visitor.get("/login");
    visitor.form("/login", "user=alice&pass=wrong");
    visitor.form("/login", "user=alice&pass=right");
    for body in
        ["CurrentPass=wrong&Pass1=n&Pass2=n", "CurrentPass=right&Pass1=n&Pass2=x", "CurrentPass=right&Pass1=n&Pass2=n"]
    {
        visitor.get("/me");
        visitor.form("/me", body);
    }
    let events = proxy.stop();
    assert_eq!(told(&events), ["user.login.failed alice", "user.login.success alice", "user.password.changed alice"]);
}
