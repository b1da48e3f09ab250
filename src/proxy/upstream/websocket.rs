//! A WebSocket's handshake of HTTP/1.1 (RFC 6455 section 4) in the words of HTTP/2 (extended CONNECT,
//! RFC 8441), and the answer to it in those of HTTP/1.1: the other direction of what `upgrade.rs` does
//! for clients of HTTP/2.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use h2::ext::Protocol;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode, request, response};
use sha1::{Digest, Sha1};

/// What is hashed with a key to show that the handshake was understood (RFC 6455 section 1.3).
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// True if a request asks for a WebSocket. That it may be upgraded at all has been settled before.
pub(super) fn is_asked<B>(request: &Request<B>) -> bool {
    let asked = request.headers().get(header::UPGRADE);
    request.method() == Method::GET && asked.is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// What goes to HTTP/2 of the handshake. Gives the key, as HTTP/2 has none (RFC 8441 section 5).
pub(super) fn ask(parts: &mut request::Parts) -> Option<HeaderValue> {
    parts.method = Method::CONNECT;
    parts.extensions.insert(Protocol::from_static("websocket"));
    parts.headers.remove(header::UPGRADE);
    // Of none, as it has no body.
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::SEC_WEBSOCKET_KEY)
}

/// Success as the 101 that means the same.
pub(super) fn opened(parts: &mut response::Parts, key: Option<&HeaderValue>) {
    parts.status = StatusCode::SWITCHING_PROTOCOLS;
    let headers: &mut HeaderMap = &mut parts.headers;
    // What follows is no body (RFC 9110 section 9.3.6).
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    let accept = key.and_then(|key| {
        let hash = Sha1::new().chain_update(key.as_bytes()).chain_update(MAGIC).finalize();
        HeaderValue::try_from(STANDARD.encode(hash)).ok()
    });
    if let Some(accept) = accept {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_of_the_rfc_is_asked_in_the_words_of_http2_and_accepted_in_those_of_http1() {
        let request = Request::get("http://server.example.com/chat")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-version", "13")
            .body(())
            .unwrap();
        assert!(is_asked(&request));
        let (mut parts, ()) = request.into_parts();
        let key = ask(&mut parts);
        assert_eq!(
            (parts.method, parts.extensions.get::<Protocol>().unwrap().as_str()),
            (Method::CONNECT, "websocket")
        );
        let names: Vec<_> = parts.headers.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names, ["sec-websocket-version"]);
        let (mut answer, ()) = http::Response::builder().header("content-length", "0").body(()).unwrap().into_parts();
        opened(&mut answer, key.as_ref());
        assert_eq!(answer.status, 101);
        assert!(!answer.headers.contains_key("content-length"));
        assert_eq!(answer.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn other_upgrades_are_no_websocket() {
        let request = |name: &str| Request::get("/").header("upgrade", name).body(()).unwrap();
        assert!(!is_asked(&request("h2c")) && !is_asked(&request("websocket/13")));
        assert!(!is_asked(&Request::post("/").header("upgrade", "websocket").body(()).unwrap()));
    }
}
