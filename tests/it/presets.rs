//! Presets in a running proxy: they decide like routes of the file, and one that is not in use is
//! proposed when the application shows itself.

use authtap::event::notice::SUGGESTED;

use crate::harness::{Client, Origin, PATIENCE, Proxy, answer, ask, at, form, post};

/// A blog that knows one password, and sets its test cookie on every page.
fn blog() -> Origin {
    Origin::answering(|request| {
        let test = "Set-Cookie: wordpress_test_cookie=x; path=/";
        if request.text().contains("pwd=right") {
            let signed_in = "Set-Cookie: wordpress_logged_in_0a=alice%7C1%7Cx%7Cy; path=/; HttpOnly";
            answer("302 Found", &["Location: /blog/wp-admin/", test, signed_in], "")
        } else {
            answer("200 OK", &["Content-Type: text/html", test], "<div id=\"login_error\">")
        }
    })
}

#[test]
fn a_preset_decides_where_its_application_is_mounted_and_is_named_by_the_event() {
    let origin = blog();
    let proxy = Proxy::before(origin.address, "presets: [{ name: wordpress, base: /blog }]");
    let mut client = Client::connect(proxy.address);
    client.send(form("/blog/wp-login.php", "log=alice%40example.test&pwd=right")).answer("POST");
    client.send(form("/blog/wp-login.php", "log=bob&pwd=wrong")).answer("POST");
    // Another application's, beside it.
    client.send(form("/wp-login.php", "log=bob&pwd=wrong")).answer("POST");
    let events = proxy.stop();
    let said: Vec<_> = events.iter().map(|e| (at(e, "/event_type"), at(e, "/actor/login"))).collect();
    assert_eq!(said, [("user.login.success", "alice@example.test"), ("user.login.failed", "bob")]);
    assert_eq!(at(&events[0], "/actor/id"), "alice");
    assert_eq!(at(&events[0], "/source/route"), "wordpress.login");
    assert_eq!(at(&events[0], "/source/preset"), "wordpress");
    assert_eq!(at(&events[0], "/source/mode"), "preset");
}

#[test]
fn where_a_preset_is_silent_on_purpose_auto_is_too_and_elsewhere_it_speaks() {
    let origin = Origin::answering(|request| match request.text().contains("=right") {
        true => answer("302 Found", &["Location: /home", "Set-Cookie: other=q8v2n5xk0w3m7z1c; HttpOnly"], ""),
        false => {
            answer("401 Unauthorized", &["Content-Type: text/html"], "<form><input type=password name=password></form>")
        }
    });
    let seen_with = |presets: &str| {
        let proxy = Proxy::before(origin.address, &format!("auto: on\n{presets}"));
        let mut client = Client::connect(proxy.address);
        // The preset knows this place by the fields of its form; these are not among them.
        client.send(form("/user/login", "username=alice&password=wrong")).answer("POST");
        // It is about a POST there, and about nothing here.
        client.send(form("/plugin/login", "username=bob&password=wrong")).answer("POST");
        let events = proxy.stop();
        let said = events.iter().map(|e| format!("{} {}", at(e, "/source/mode"), at(e, "/actor/login")));
        said.collect::<Vec<_>>()
    };
    assert_eq!(seen_with("presets: [gitea]"), ["auto bob"]);
    assert_eq!(seen_with(""), ["auto alice", "auto bob"]);
    // Devise has a route for every path of one segment, which says nothing of each of them.
    assert_eq!(seen_with("presets: [devise]"), ["auto alice", "auto bob"]);
}

#[test]
fn what_is_changed_in_a_form_is_told_against_the_page_as_it_was_served() {
    let page = "<form method=post><input type=hidden name=user_id value=4><select name=role><option value=author selected>A</option>\
        <option value=editor>E</option></select><input name=email value=carol@example.test></form>";
    let origin = Origin::answering(move |request| {
        if request.start().starts_with("GET ") {
            answer("200 OK", &["Content-Type: text/html"], page)
        } else {
            answer("302 Found", &["Location: /wp-admin/user-edit.php?user_id=4&updated=1"], "")
        }
    });
    let proxy = Proxy::before(origin.address, "preset: wordpress");
    let mut client = Client::connect(proxy.address);
    let cookie = "Cookie: wordpress_logged_in_0a=admin%7C1%7Cx%7Cy\r\n";
    let sent = format!("Content-Type: application/x-www-form-urlencoded\r\n{cookie}");
    let edit = |fields: &str| post("/wp-admin/user-edit.php", &sent, fields);
    // Not seen served yet: whatever is in the form, nothing is claimed.
    client.send(edit("user_id=4&role=editor&email=carol%40example.test")).answer("POST");
    let get = format!("GET /wp-admin/user-edit.php?user_id=4 HTTP/1.1\r\nHost: app.example.test\r\n{cookie}\r\n");
    client.send(get).answer("GET");
    client.send(edit("user_id=4&role=author&email=carol%40example.test&first_name=Carol")).answer("POST");
    client.send(edit("user_id=4&role=editor&email=carol%40example.test")).answer("POST");
    let events = proxy.stop();
    let said: Vec<_> =
        events.iter().map(|e| (at(e, "/event_type"), at(e, "/source/rule"), at(e, "/target/id"))).collect();
    assert_eq!(said, [("user.role.updated", "role", "4")]);
}

/// allauth signs a key anew, with the time in seconds, whenever it writes one down: into the mail, and into the form of
/// the page that the mail leads to. Within one second they are the same.
#[test]
fn a_confirmation_whose_form_has_a_younger_key_than_the_mail_knows_its_address_too() {
    let page = "<a href=\"mailto:new@example.test\">new@example.test</a>\
        <form method=\"post\" action=\"/accounts/confirm-email/Mg:1uKx9Z:younger/\"><button></button></form>";
    let origin = Origin::answering(move |request| match request.start().starts_with("GET ") {
        true => answer("200 OK", &["Content-Type: text/html"], page),
        false => answer("302 Found", &["Location: /accounts/email/"], ""),
    });
    for key in ["Mg:1uKx9Z:younger", "Mg:1uKx9Y:mailed"] {
        let proxy = Proxy::before(origin.address, "preset: django-allauth");
        let mut client = Client::connect(proxy.address);
        client
            .send(format!("GET /accounts/confirm-email/{key}/ HTTP/1.1\r\nHost: app.example.test\r\n\r\n"))
            .answer("GET");
        client.send(form("/accounts/confirm-email/Mg:1uKx9Z:younger/", "csrfmiddlewaretoken=x")).answer("POST");
        let events = proxy.stop();
        let said: Vec<_> = events.iter().map(|e| (at(e, "/event_type"), at(e, "/actor/email"))).collect();
        assert_eq!(said, [("user.email.changed", "new@example.test")], "{key}");
    }
}

/// The presets that were proposed so far.
fn proposed(proxy: &Proxy) -> Vec<String> {
    let stored = proxy.spool.read(0, usize::MAX).events;
    let notices = stored.iter().filter(|stored| stored.event.event_type == SUGGESTED);
    let fields = notices.filter_map(|stored| serde_json::from_str::<serde_json::Value>(&stored.line).ok());
    fields.map(|event| at(&event, "/metadata/fields/preset").to_owned()).collect()
}

/// Waits for a proposal.
fn await_proposal(proxy: &Proxy) {
    let mut appended = proxy.spool.appended();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let enough = runtime.block_on(async {
        let enough = appended.wait_for(|_| !proposed(proxy).is_empty());
        tokio::time::timeout(PATIENCE, enough).await.is_ok_and(|r| r.is_ok())
    });
    assert!(enough, "waited for a proposal");
}

#[test]
fn an_application_that_shows_itself_is_named_once() {
    let origin = blog();
    let proxy = Proxy::before(origin.address, "preset: django");
    let mut client = Client::connect(proxy.address);
    let get = "GET / HTTP/1.1\r\nHost: app.example.test\r\n\r\n";
    client.send(get).answer("GET");
    await_proposal(&proxy);
    for _ in 0..5 {
        client.send(get).answer("GET");
    }
    assert_eq!(proposed(&proxy), ["wordpress"]);
}

#[test]
fn an_application_is_recognised_by_its_pages_where_auto_reads_them_and_again_after_a_reload() {
    let origin = Origin::answering(|_| {
        let page = "<head><meta name=generator content=\"DokuWiki\"/></head><form><input type=password name=p></form>";
        answer("200 OK", &["Content-Type: text/html"], page)
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("routes.yaml");
    let write = |presets: &str| {
        let yaml = format!(
            "version: 1\nupstream: http://{}\nworkers: 1\nsinks: []\nauto: on\npresets: [{presets}]\n",
            origin.address
        );
        std::fs::write(&file, yaml).expect("written");
    };
    write("dokuwiki");
    let proxy = Proxy::with_file(file.clone());
    let mut client = Client::connect(proxy.address);
    let page = |n: u8| format!("GET /page/{n} HTTP/1.1\r\nHost: app.example.test\r\nAccept: text/html\r\n\r\n");
    client.send(page(1)).answer("GET");
    assert_eq!(proposed(&proxy), Vec::<String>::new(), "it is in use");
    write("gitea");
    let reload = ask(proxy.admin, "POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(reload.status(), 200, "{}", reload.text());
    client.send(page(2)).answer("GET");
    await_proposal(&proxy);
    assert_eq!(proposed(&proxy), ["dokuwiki"]);
}
