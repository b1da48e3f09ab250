use http_body_util::BodyExt;

use super::*;

fn cause() -> Cause {
    "connect to 10.9.8.7:5432 refused".into()
}

fn every() -> Vec<(ProxyError, u16, Side)> {
    vec![
        (ProxyError::BadRequest("two lengths"), 400, Side::Client),
        (TargetError::BadHost.into(), 400, Side::Client),
        (TargetError::Connect.into(), 501, Side::Client),
        (ProxyError::RequestTimeout, 408, Side::Client),
        (ProxyError::BodyTooLarge, 413, Side::Client),
        (ProxyError::UriTooLong, 414, Side::Client),
        (ProxyError::Misdirected, 421, Side::Client),
        (ProxyError::HeadTooLarge, 431, Side::Client),
        (ProxyError::NotImplemented("gopher"), 501, Side::Client),
        (ProxyError::Connect(cause()), 502, Side::Upstream),
        (ProxyError::Closed(cause()), 502, Side::Upstream),
        (ProxyError::Invalid(cause()), 502, Side::Upstream),
        (ProxyError::AnswerHeadTooLarge(cause()), 502, Side::Upstream),
        (ProxyError::Ambiguous("two lengths"), 502, Side::Upstream),
        (ProxyError::UpstreamTimeout, 504, Side::Upstream),
        (ProxyError::Overloaded("too many connections"), 503, Side::Internal),
        (ProxyError::ShuttingDown, 503, Side::Internal),
    ]
}

fn accepting(lines: &[&'static str]) -> Headers {
    let mut headers = Headers::new();
    for line in lines {
        headers.append(header::ACCEPT, line);
    }
    headers
}

/// The body of a response whose body is whole.
fn body(response: Response<Full<Bytes>>) -> String {
    use std::future::Future;
    let mut collected = std::pin::pin!(response.into_parts().1.collect());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Ok(body)) = collected.as_mut().poll(&mut cx) else { panic!("a Full body is ready") };
    String::from_utf8(body.to_bytes().to_vec()).expect("text")
}

#[test]
fn every_error_has_its_status_side_and_a_word_of_its_own() {
    let mut words_seen = std::collections::HashMap::new();
    for (error, status, side) in every() {
        assert_eq!((error.status().as_u16(), error.side()), (status, side), "{error}");
        let word = words(error.status()).0;
        assert_eq!(*words_seen.entry(word).or_insert(status), status, "{word} stands for two statuses");
        let towards_it = side == Side::Upstream || matches!(error, ProxyError::Overloaded(_));
        assert_eq!(error.upstream_error().is_some(), towards_it, "{error}");
        let text = error.to_string();
        assert!(text.starts_with(char::is_lowercase) && !text.ends_with('.'), "{text}");
    }
}

#[test]
fn the_format_is_what_accept_names_with_the_highest_weight() {
    // RFC 9110 section 12.5.1.
    for (lines, want) in [
        (&[][..], Format::Text),
        (&["*/*"], Format::Text),
        (&["text/*"], Format::Text),
        (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], Format::Html),
        (&["application/json, text/plain, */*"], Format::Json),
        (&["application/vnd.api+json"], Format::Json),
        (&["text/html;q=0.5, application/json"], Format::Json),
        (&["text/html;q=0.5, application/json;q=0.51"], Format::Json),
        (&["text/html;q=0.500", "APPLICATION/JSON; Q=0.4"], Format::Html),
        (&["text/html;level=1;q=0.3, application/json;q=0.2"], Format::Html),
        (&["text/plain, text/html;q=0.9"], Format::Text),
        (&["application/json;q=0"], Format::Text),
        (&["application/json;q=2, text/html;q=0.1"], Format::Html),
        (&["application/json;q=1.001, text/html;q=0.1"], Format::Html),
        (&["application/json;q=0.0001, text/html;q=0.001"], Format::Html),
        (&["image/png, ,;q=1, text/html"], Format::Html),
    ] {
        assert_eq!(preferred(&accepting(lines)), want, "{lines:?}");
    }
}

#[test]
fn the_work_on_accept_is_bounded() {
    let far = format!("{}text/html", "a/b,".repeat(MAX_RANGES));
    let mut headers = Headers::new();
    headers.insert(header::ACCEPT, far);
    assert_eq!(preferred(&headers), Format::Text);
}

#[test]
fn an_answer_is_json_html_or_text_and_never_cached() {
    let id = "0193b0a2-7c4e-7000-8000-000000000001";
    for (accept, content_type, wants) in [
        (
            "application/json",
            "application/json",
            "{\"error\":\"bad_gateway\",\"status\":502,\"request_id\":\"0193b0a2-7c4e-7000-8000-000000000001\"}\n",
        ),
        ("text/html", "text/html; charset=utf-8", "<h1>502 Bad gateway</h1>"),
        ("*/*", "text/plain; charset=utf-8", "502 Bad gateway\n"),
    ] {
        let response = ProxyError::Closed(cause()).response(&accepting(&[accept]), Some(id));
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        assert_eq!(response.headers().get(header::CONTENT_TYPE).unwrap(), content_type);
        assert_eq!(response.headers().get(header::CACHE_CONTROL).unwrap(), "no-store");
        let body = body(response);
        assert!(body.contains(wants) && body.contains("0193b0a2"), "{body}");
    }
}

#[test]
fn nothing_of_the_inside_and_nothing_that_was_sent_is_shown() {
    let id = "</code><script>alert(1)</script>\"";
    for accept in ["application/json", "text/html", "text/plain"] {
        for (error, ..) in every() {
            let body = body(error.response(&accepting(&[accept]), Some(id)));
            for hidden in ["script", "10.9.8.7", "two lengths", "gopher", "too many connections", "request_id"] {
                assert!(!body.contains(hidden), "{hidden} in {body}");
            }
            if accept == "application/json" {
                let json: serde_json::Value = serde_json::from_str(&body).expect("JSON");
                assert_eq!(json.get("status").unwrap(), error.status().as_u16());
            }
        }
    }
}

#[test]
fn the_connection_ends_after_an_error_of_the_client() {
    for (error, _, side) in every() {
        let response = error.response(&Headers::new(), None);
        let closes = response.headers().get(header::CONNECTION).is_some_and(|value| value == "close");
        assert_eq!(closes, side == Side::Client, "{error}");
    }
}
