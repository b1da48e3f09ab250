use proptest::prelude::*;

use super::*;
use crate::rules::facts::Facts;

fn one(entry: &str) -> Exchange {
    let har = format!(r#"{{"log":{{"version":"1.2","entries":[{entry}]}}}}"#);
    let mut recorded = read(har.as_bytes(), Limits::default()).expect("HAR");
    recorded.exchanges.pop().expect("an exchange")
}

const LOGIN: &str = r#"{"startedDateTime":"2026-01-15T09:32:17.000Z","time":41.5,
  "timings":{"blocked":-1,"send":1,"wait":30,"receive":10.5},
  "request":{"method":"POST","url":"https://App.example.test:8443/login?next=%2F#top","httpVersion":"h2",
    "headers":[{"name":":authority","value":"app.example.test:8443"},{"name":":method","value":"POST"},
      {"name":"content-type","value":"application/x-www-form-urlencoded"}],
    "cookies":[{"name":"sid","value":"a"},{"name":"lang","value":"en"}],
    "postData":{"mimeType":"application/x-www-form-urlencoded","params":[{"name":"user","value":"a b"},{"name":"pw","value":"x&y"}]}},
  "response":{"status":302,"headers":[{"name":"set-cookie","value":"sid=b; Path=/\nlang=de"},{"name":"content-encoding","value":"gzip"}],
    "cookies":[],"redirectURL":"/home","content":{"size":2,"mimeType":"text/html","text":"b2s=","encoding":"base64"}}}"#;

#[test]
fn what_a_browser_wrote_down_is_an_exchange_again() {
    let exchange = one(LOGIN);
    assert_eq!(exchange.began.to_string(), "2026-01-15T09:32:17.000Z");
    assert_eq!(exchange.answered.to_string(), "2026-01-15T09:32:17.031Z");
    assert_eq!((exchange.scheme, exchange.request.host.as_str()), ("https", "app.example.test"));
    assert_eq!(exchange.request.uri, "/login?next=%2F");
    assert_eq!(exchange.request.headers.get("cookie").expect("cookies"), "sid=a; lang=en");
    let response = exchange.response.as_ref().expect("an answer");
    assert_eq!(response.headers.get_all("set-cookie").iter().count(), 2, "one line each");
    assert_eq!(response.headers.get("location").expect("a place"), "/home");
    let facts = Facts::of_exchange(&exchange);
    assert_eq!(facts.request_body().and_then(|b| b.fields()?.first("pw").map(str::to_owned)).as_deref(), Some("x&y"));
    assert_eq!(facts.response_body().expect("a body").text(), "ok", "decoded once, not unpacked again");
}

#[test]
fn a_form_of_parts_that_only_its_fields_are_left_of_is_one_again() {
    let exchange = one(
        r#"{"request":{"method":"POST","url":"http://a/up","headers":[{"name":"Content-Type","value":"multipart/form-data; boundary=x"}],
        "postData":{"mimeType":"multipart/form-data","params":[{"name":"user","value":"alice"},{"name":"f","fileName":"a.png","value":"?"}]}},
        "response":{"status":200,"content":{"size":9,"mimeType":"text/html"}}}"#,
    );
    let facts = Facts::of_exchange(&exchange);
    let user = facts.request_body().and_then(|b| b.fields()?.first("user").map(str::to_owned));
    assert_eq!(user.as_deref(), Some("alice"));
    assert!(facts.response_body().expect("a body").cut(), "a body that was left out stays open");
}

#[test]
fn cookies_that_stand_beside_the_headers_alone_are_not_lost() {
    let exchange =
        one(r#"{"request":{"method":"POST","url":"http://a/login","cookies":[]},"response":{"status":200,"cookies":[
        {"name":"sid","value":"n","path":"/","httpOnly":true,"expires":"1970-01-01T00:00:00.000Z"}]}}"#);
    let line = exchange.response.as_ref().and_then(|r| r.headers.get("set-cookie")).expect("a cookie");
    assert_eq!(line, "sid=n; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly");
}

#[test]
fn what_never_reached_the_application_is_left_out_and_counted() {
    let entries = r#"{"request":{"method":"GET","url":"data:text/plain,x"}},
        {"request":{"method":"GET","url":"wss://a/socket"}},
        {"request":{"method":"GET","url":"http://a/x.js"},"_fromCache":"disk"},
        {"request":{"method":"GET","url":"http://a/gone"},"response":{"status":0}}"#;
    let har = format!(r#"{{"log":{{"entries":[{entries}]}}}}"#);
    let recorded = read(har.as_bytes(), Limits::default()).expect("HAR");
    assert_eq!((recorded.exchanges.len(), recorded.skipped), (1, 3));
    assert!(recorded.exchanges[0].response.is_none(), "no answer came");
}

#[test]
fn bodies_are_cut_where_capture_cuts_them_and_an_error_quotes_nothing() {
    let limits = Limits { request_body: 4, response_body: 4 };
    let har = r#"{"log":{"entries":[{"request":{"method":"POST","url":"http://a/","postData":{"text":"hunter22"}}}]}}"#;
    let recorded = read(har.as_bytes(), limits).expect("HAR");
    let body = &recorded.exchanges[0].request.body;
    assert!(body.cut && body.bytes.len() == 4);
    let error = read(br#"{"log":{"entries":[{"password":"hunter22"]}}"#, limits).expect_err("broken");
    assert!(!error.to_string().contains("hunter22"), "{error}");
}

proptest! {
    #[test]
    fn no_bytes_of_a_stranger_break_it(bytes in prop::collection::vec(any::<u8>(), 0..600), url in "\\PC{0,60}", value in "\\PC{0,40}") {
        let _ = read(&bytes, Limits::default());
        let entry = serde_json::json!({"log": {"entries": [{"startedDateTime": value, "time": -1e300,
            "request": {"method": value, "url": url, "headers": [{"name": value, "value": value}]}},
            {"request": {"method": "POST", "url": format!("http://{url}"), "headers": [{"name": "content-type", "value": value}],
                "cookies": [{"name": value, "value": value}],
                "postData": {"mimeType": value, "text": value, "encoding": "base64"}},
             "response": {"status": 200, "cookies": [{"name": value, "expires": value}], "content": {"text": value, "mimeType": value}}}]}});
        let recorded = read(entry.to_string().as_bytes(), Limits { request_body: 10, response_body: 10 }).expect("HAR");
        for exchange in &recorded.exchanges {
            prop_assert!(exchange.request.body.bytes.len() <= 10);
            let _ = Facts::of_exchange(exchange).request_body().map(|b| b.text().len());
        }
    }
}
