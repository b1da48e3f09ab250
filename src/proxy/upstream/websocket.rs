//! A WebSocket's handshake of HTTP/1.1 (RFC 6455 section 4) in the words of HTTP/2 (extended CONNECT,
//! RFC 8441), and the answer to it in those of HTTP/1.1: the other direction of what `upgrade.rs` does
//! for clients of HTTP/2.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use h2::ext::Protocol;
use http::{Method, StatusCode, header};
use sha1::{Digest, Sha1};

use crate::proxy::message::{AnswerParts, Parts, Request};

/// What is hashed with a key to show that the handshake was understood (RFC 6455 section 1.3).
const MAGIC: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// True if a request asks for a WebSocket. That it may be upgraded at all has been settled before.
pub(super) fn is_asked<B>(request: &Request<B>) -> bool {
    let asked = request.headers().get(header::UPGRADE);
    request.method() == Method::GET && asked.is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// What goes to HTTP/2 of the handshake. Gives the key, as HTTP/2 has none (RFC 8441 section 5).
pub(super) fn ask(parts: &mut Parts) -> Option<Bytes> {
    parts.method = Method::CONNECT;
    parts.protocol = Some(Box::new(Protocol::from_static("websocket")));
    parts.headers.remove(header::UPGRADE);
    // Of none, as it has no body.
    parts.headers.remove(header::CONTENT_LENGTH);
    let key = parts.headers.get(header::SEC_WEBSOCKET_KEY).map(|key| parts.headers.shared(key));
    parts.headers.remove(header::SEC_WEBSOCKET_KEY);
    key
}

/// Success as the 101 that means the same.
pub(super) fn opened(parts: &mut AnswerParts, key: Option<&[u8]>) {
    parts.status = StatusCode::SWITCHING_PROTOCOLS;
    let headers = &mut parts.headers;
    // What follows is no body (RFC 9110 section 9.3.6).
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::UPGRADE, "websocket");
    headers.insert(header::CONNECTION, "upgrade");
    if let Some(key) = key {
        let hash = Sha1::new().chain_update(key).chain_update(MAGIC).finalize();
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, STANDARD.encode(hash));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::Name;

    #[test]
    fn the_handshake_of_the_rfc_is_asked_in_the_words_of_http2_and_accepted_in_those_of_http1() {
        let request = http::Request::get("http://server.example.com/chat")
            .header("upgrade", "WebSocket")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-version", "13")
            .body(())
            .unwrap();
        let request = Request::from(request);
        assert!(is_asked(&request));
        let (mut parts, ()) = request.into_parts();
        let key = ask(&mut parts);
        assert_eq!((parts.method, parts.protocol.unwrap().as_str()), (Method::CONNECT, "websocket"));
        let names: Vec<_> = parts.headers.keys().map(Name::as_sent).collect();
        assert_eq!(names, ["sec-websocket-version"]);
        let answer = http::Response::builder().header("content-length", "0").body(()).unwrap();
        let (mut answer, ()) = crate::proxy::message::Response::from(answer).into_parts();
        opened(&mut answer, key.as_deref());
        assert_eq!(answer.status, 101);
        assert!(!answer.headers.contains_key("content-length"));
        assert_eq!(answer.headers.get("sec-websocket-accept").unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn other_upgrades_are_no_websocket() {
        let request = |name: &str| Request::from(http::Request::get("/").header("upgrade", name).body(()).unwrap());
        assert!(!is_asked(&request("h2c")) && !is_asked(&request("websocket/13")));
        assert!(!is_asked(&Request::from(http::Request::post("/").header("upgrade", "websocket").body(()).unwrap())));
    }
}
