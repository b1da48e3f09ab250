//! One request in the words of HTTP/2 (RFC 9113 section 8.3), and back in those of HTTP/1.1 where
//! it turns out that the application speaks that.
//!
//! The invariant: [`to_http1`] undoes [`to_http2`].

use http::header;
use http::uri::{Authority, Parts, Scheme};
use http::{Uri, Version};
use http_body::Body;

use crate::proxy::error::ProxyError;
use crate::proxy::message::Request;

/// `Host` becomes `:authority`; what describes a connection of HTTP/1.1 goes, but `TE: trailers`
/// stays, for gRPC (RFC 9113 section 8.2.2). `scheme` is that of the connection.
///
/// # Errors
/// [`ProxyError::BadRequest`] if no URI can be made of host and target.
pub fn to_http2<B>(request: &mut Request<B>, scheme: Scheme) -> Result<(), ProxyError> {
    const NO_URI: ProxyError = ProxyError::BadRequest("its host and target make no URI");
    let host = request.headers().get(header::HOST).ok_or(NO_URI)?;
    let mut parts = Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(Authority::try_from(host.as_bytes()).map_err(|_| NO_URI)?);
    parts.path_and_query = request.uri().path_and_query().cloned();
    request.head_mut().uri = Uri::from_parts(parts).map_err(|_| NO_URI)?;
    let headers = request.headers_mut();
    headers.remove(header::HOST);
    headers.remove(header::CONNECTION);
    headers.remove(header::TRANSFER_ENCODING);
    request.head_mut().version = Version::HTTP_2;
    Ok(())
}

/// `:authority` becomes `Host`; framing and `Connection` are what the body and `TE` ask for.
pub fn to_http1<B: Body>(request: &mut Request<B>) {
    if let Some(authority) = request.uri().authority().cloned() {
        request.headers_mut().insert(header::HOST, authority.as_str());
    }
    let mut parts = Parts::default();
    parts.path_and_query = request.uri().path_and_query().cloned();
    request.head_mut().uri = Uri::from_parts(parts).unwrap_or_default();
    if request.headers().contains_key(header::TE) {
        request.headers_mut().insert(header::CONNECTION, "te");
    }
    if !request.body().is_end_stream() && request.body().size_hint().exact().is_none() {
        request.headers_mut().insert(header::TRANSFER_ENCODING, "chunked");
    }
    request.head_mut().version = Version::HTTP_11;
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;
    use crate::headers::Name;

    fn request() -> Request<Full<bytes::Bytes>> {
        http::Request::post("/a/b?c=d")
            .header("host", "app.example.test:8080")
            .header("te", "trailers")
            .header("connection", "te")
            .header("x-kept", "1")
            .version(Version::HTTP_11)
            .body(Full::from("body"))
            .expect("a request")
            .into()
    }

    #[test]
    fn the_host_becomes_the_authority_and_te_trailers_stays() {
        let mut request = request();
        to_http2(&mut request, Scheme::HTTP).expect("a URI");
        assert_eq!(request.uri(), "http://app.example.test:8080/a/b?c=d");
        assert_eq!(request.version(), Version::HTTP_2);
        let mut names: Vec<&str> = request.headers().keys().map(Name::as_sent).collect();
        names.sort_unstable();
        assert_eq!(names, ["te", "x-kept"]);
    }

    #[test]
    fn the_way_back_gives_the_same_request() {
        let (before, mut after) = (request(), request());
        to_http2(&mut after, Scheme::HTTPS).expect("a URI");
        to_http1(&mut after);
        assert_eq!((before.uri(), before.version()), (after.uri(), after.version()));
        assert_eq!(before.headers(), after.headers());
    }

    #[test]
    fn the_target_of_a_whole_server_stays_an_asterisk() {
        let request = http::Request::options("*").header("host", "a").body(Full::<bytes::Bytes>::default());
        let mut request = Request::from(request.expect("one"));
        to_http2(&mut request, Scheme::HTTP).expect("a URI");
        to_http1(&mut request);
        assert_eq!(request.uri(), "*");
    }
}
