//! A small browser: one person at one address, with cookies and forms.
//!
//! It speaks HTTP/1.1 over one kept connection, follows no redirect by itself (the tour asserts
//! each one), and reads of a page only its forms and links. It must never put a body, a cookie or
//! a field into an error: what it sends are passwords and codes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// The host that every visitor asks for (RFC 2606 section 2: never a real one).
pub const HOST: &str = "intranet.acme.test";
/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 1024 * 1024;
/// The longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a request got no answer. Holds no header and no body.
#[derive(Debug, thiserror::Error)]
pub enum VisitError {
    /// Nobody listens there.
    #[error("cannot connect to {0}; is the proxy running?")]
    Connect(SocketAddr, #[source] std::io::Error),
    /// The connection broke or what came was not HTTP.
    #[error("the connection failed before the answer was complete")]
    Connection(#[source] hyper::Error),
    /// The answer broke off, or is longer than a page of the demo can be.
    #[error("the answer broke off or is longer than {MAX_ANSWER} bytes")]
    Answer,
    /// No answer in time.
    #[error("no answer within {} seconds", PATIENCE.as_secs())]
    Slow,
    /// A path or header that HTTP has no room for.
    #[error("the request cannot be written as HTTP")]
    Request(#[source] http::Error),
}

/// One person at one address.
pub struct Visitor {
    proxy: SocketAddr,
    ip: IpAddr,
    agent: &'static str,
    cookies: BTreeMap<String, String>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

/// What came back.
pub struct Answer {
    /// Status code.
    pub status: StatusCode,
    /// The `Location` header.
    pub location: Option<String>,
    /// The `Content-Type` header; empty if there is none.
    pub content_type: String,
    /// The body as text.
    pub body: String,
}

/// A form of a page, with what it sends unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// Where it goes.
    pub action: String,
    /// Its hidden fields: names and values.
    pub hidden: Vec<(String, String)>,
}

impl Visitor {
    /// Somebody at `ip` (told to the proxy by `X-Forwarded-For`, which it believes from loopback)
    /// with that user agent, without cookies.
    pub fn new(proxy: SocketAddr, ip: IpAddr, agent: &'static str) -> Visitor {
        Visitor { proxy, ip, agent, cookies: BTreeMap::new(), connection: None }
    }

    /// The address this visitor says it comes from.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Opens a page.
    ///
    /// # Errors
    /// [`VisitError`] if no complete answer came.
    pub async fn get(&mut self, path: &str) -> Result<Answer, VisitError> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    /// Opens a page with a bearer token (RFC 6750 section 2.1).
    ///
    /// # Errors
    /// [`VisitError`] if no complete answer came.
    pub async fn get_with_token(&mut self, path: &str, token: &str) -> Result<Answer, VisitError> {
        self.send(Method::GET, path, &[("authorization", &format!("Bearer {token}"))], Bytes::new()).await
    }

    /// Sends a form with its hidden fields and `typed`; a typed field replaces a hidden one.
    ///
    /// # Errors
    /// [`VisitError`] if no complete answer came.
    pub async fn submit(&mut self, form: &Form, typed: &[(&str, &str)]) -> Result<Answer, VisitError> {
        let mut body = form_urlencoded::Serializer::new(String::new());
        let untouched = form.hidden.iter().filter(|(name, _)| !typed.iter().any(|(t, _)| t == name));
        body.extend_pairs(untouched).extend_pairs(typed);
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.send(Method::POST, &form.action, &headers, Bytes::from(body.finish())).await
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// [`VisitError`] if no complete answer came.
    pub async fn post_json(&mut self, path: &str, value: &Value) -> Result<Answer, VisitError> {
        let headers = [("content-type", "application/json")];
        self.send(Method::POST, path, &headers, Bytes::from(value.to_string())).await
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, VisitError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, HOST)
            .header(header::USER_AGENT, self.agent)
            .header(header::ACCEPT, "text/html,application/json;q=0.9,*/*;q=0.8")
            .header(header::ACCEPT_LANGUAGE, "en-GB,en;q=0.7")
            .header("x-forwarded-for", self.ip.to_string());
        if !self.cookies.is_empty() {
            let all: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(header::COOKIE, all.join("; "));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(VisitError::Request)?;
        tokio::time::timeout(PATIENCE, self.exchange(request)).await.map_err(|_| VisitError::Slow)?
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, VisitError> {
        let response = match self.connection.take() {
            None => self.on_new_connection(request).await?,
            // The other side may have closed the kept connection meanwhile; a request that was
            // not sent comes back and goes out on a new one.
            Some(mut kept) => match kept.try_send_request(request).await {
                Ok(response) => {
                    self.connection = Some(kept);
                    response
                }
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) => self.on_new_connection(unsent).await?,
                    None => return Err(VisitError::Connection(failed.into_error())),
                },
            },
        };
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|_| VisitError::Answer)?.to_bytes();
        self.keep_cookies(&head.headers);
        let text = |name| head.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        Ok(Answer {
            status: head.status,
            location: text(header::LOCATION),
            content_type: text(header::CONTENT_TYPE).unwrap_or_default(),
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    async fn on_new_connection(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, VisitError> {
        let stream = TcpStream::connect(self.proxy).await.map_err(|e| VisitError::Connect(self.proxy, e))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(VisitError::Connection)?;
        // Ends by itself when the sender is dropped; its error reaches the request that waits.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let response = sender.send_request(request).await.map_err(VisitError::Connection)?;
        self.connection = Some(sender);
        Ok(response)
    }

    /// Attributes other than an immediate expiry are of no use to a visit of a second.
    fn keep_cookies(&mut self, headers: &HeaderMap) {
        for line in headers.get_all(header::SET_COOKIE).iter().filter_map(|v| v.to_str().ok()) {
            let mut parts = line.split(';');
            let Some((name, value)) = parts.next().and_then(|pair| pair.trim().split_once('=')) else { continue };
            if parts.any(|attribute| attribute.trim().eq_ignore_ascii_case("max-age=0")) {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

impl Answer {
    /// The forms of the page, in order.
    pub fn forms(&self) -> Vec<Form> {
        let mut forms: Vec<Form> = Vec::new();
        let mut inside = false;
        for tag in tags(&self.body) {
            match tag.split_ascii_whitespace().next() {
                Some("form") => {
                    forms.push(Form { action: attribute(tag, "action").unwrap_or_default(), hidden: Vec::new() });
                    inside = true;
                }
                Some("/form") => inside = false,
                Some("input") if inside && attribute(tag, "type").as_deref() == Some("hidden") => {
                    let field = attribute(tag, "name").zip(attribute(tag, "value"));
                    if let (Some(form), Some(field)) = (forms.last_mut(), field) {
                        form.hidden.push(field);
                    }
                }
                _ => {}
            }
        }
        forms
    }

    /// The targets of the page's links, in order.
    pub fn links(&self) -> Vec<String> {
        let anchors = tags(&self.body).filter(|tag| tag.split_ascii_whitespace().next() == Some("a"));
        anchors.filter_map(|tag| attribute(tag, "href")).collect()
    }
}

/// What stands between angle brackets. Enough for pages that escape theirs, as the demo's do.
fn tags(page: &str) -> impl Iterator<Item = &str> {
    page.split('<').skip(1).filter_map(|rest| rest.split_once('>')).map(|(tag, _)| tag)
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    let plain = value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
    Some(plain.replace("&amp;", "&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read_with_their_own_hidden_fields_only() {
        let body = r#"<form method="post" action="/a"><input type="hidden" name="csrf" value="1&amp;&quot;"><input
            name="typed" value="no"></form><input type="hidden" name="stray" value="2"><a href="/x?a=1&amp;b=2">x</a>
            <form action="/b"></form> < broken"#;
        let answer =
            Answer { status: StatusCode::OK, location: None, content_type: String::new(), body: body.to_owned() };
        let first = Form { action: "/a".into(), hidden: vec![("csrf".into(), "1&\"".into())] };
        assert_eq!(answer.forms(), [first, Form { action: "/b".into(), hidden: Vec::new() }]);
        assert_eq!(answer.links(), ["/x?a=1&b=2"]);
    }

    #[test]
    fn cookies_are_replaced_and_deleted_as_told() {
        let mut visitor = Visitor::new(([127, 0, 0, 1], 1).into(), [192, 0, 2, 1].into(), "test");
        let mut headers = HeaderMap::new();
        let mut told = |line: &'static str| {
            headers.insert(header::SET_COOKIE, http::HeaderValue::from_static(line));
            visitor.keep_cookies(&headers);
            visitor.cookies.get("s").cloned()
        };
        assert_eq!(told("s=1; Path=/").as_deref(), Some("1"));
        assert_eq!(told("s=2; HttpOnly").as_deref(), Some("2"));
        assert_eq!(told("s=; Path=/; Max-Age=0"), None);
    }
}
