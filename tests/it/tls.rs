//! The transport in front of the requests: TLS, HTTP/2, the PROXY protocol, and the limits of
//! connections and requests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::harness::certificate::{Authority, named};
use crate::harness::message::{Message, Wire};
use crate::harness::{Client, LOGIN, Origin, PATIENCE, Proxy, answer, ask, at, eventually, form, get, post};

fn application() -> Origin {
    Origin::answering(|_| answer("302 Found", &["Location: /home"], "in"))
}

/// A listener with TLS and this one certificate.
fn secured(folder: &Path, name: &str) -> String {
    format!("[ {{ address: 127.0.0.1:0, tls: {} }} ]", named(folder, name))
}

/// A client's side of TLS that believes this authority.
fn trust(authority: &Authority, alpn: &[&str]) -> Arc<ClientConfig> {
    let provider = authtap::tls::provider::provider().expect("a build with TLS");
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder.expect("versions").with_root_certificates(authority.roots()).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A client that speaks HTTP/1.1 over TLS.
struct Secure(Wire<StreamOwned<ClientConnection, TcpStream>>);

impl Secure {
    fn connect(address: SocketAddr, authority: &Authority, name: &'static str) -> Secure {
        Secure::over(tcp(address), authority, name)
    }

    fn over(stream: TcpStream, authority: &Authority, name: &'static str) -> Secure {
        Secure::with(stream, trust(authority, &["http/1.1"]), name)
    }

    fn with(mut stream: TcpStream, config: Arc<ClientConfig>, name: &'static str) -> Secure {
        let name = ServerName::try_from(name).expect("a name");
        let mut tls = ClientConnection::new(config, name).expect("a client");
        tls.complete_io(&mut stream).expect("a handshake");
        Secure(Wire::new(StreamOwned::new(tls, stream)))
    }

    /// The certificate that the other side showed.
    fn shown(&self) -> CertificateDer<'static> {
        let shown = self.0.inner.conn.peer_certificates().and_then(|chain| chain.first());
        shown.expect("a certificate").clone().into_owned()
    }

    fn ask(&mut self, method: &str, request: impl AsRef<[u8]>) -> Message {
        self.0.inner.write_all(request.as_ref()).expect("sent");
        let mut message = self.0.head().expect("a head").expect("a head before the end");
        self.0.response_body(method, &mut message).expect("a body");
        message
    }
}

fn tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// One request over HTTP/2 on a connection of its own.
async fn over_http2<S>(stream: S, request: Request<Full<Bytes>>) -> Response<Bytes>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = async {
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.expect("HTTP/2");
        tokio::spawn(connection);
        let (parts, body) = sender.send_request(request).await.expect("an answer").into_parts();
        Response::from_parts(parts, body.collect().await.expect("a whole body").to_bytes())
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("an answer in time")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A login whose cookies are split, as browsers split them over HTTP/2.
fn crumbs(uri: &str) -> Request<Full<Bytes>> {
    let request = Request::post(uri).header("content-type", "application/x-www-form-urlencoded");
    let request = request.header("cookie", "SID=0ld").header("cookie", "theme=dark");
    request.body(Full::new(Bytes::from_static(b"username=alice&password=right"))).expect("a request")
}

#[test]
fn a_login_over_tls_becomes_an_event_that_says_what_tls_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    authority.write(folder.path(), "app", &["app.example.test"]);
    let origin = application();
    let proxy = Proxy::listening(origin.address, &secured(folder.path(), "app"), LOGIN);
    let mut client = Secure::connect(proxy.address, &authority, "app.example.test");
    let got = client.ask("POST", form("/login", "username=alice&password=right"));
    assert_eq!((got.status(), got.text().as_str()), (302, "in"));

    let [asked] = &origin.requests()[..] else { panic!("one request") };
    assert_eq!(asked.field("x-forwarded-proto").as_deref(), Some("https"));
    let events = proxy.stop();
    assert_eq!(events.len(), 1, "{events:#?}");
    let said = |pointer: &str| at(&events[0], pointer).to_owned();
    assert_eq!((said("/event_type").as_str(), said("/actor/login").as_str()), ("user.login.success", "alice"));
    assert_eq!(said("/metadata/tls/version"), "1.3");
    assert_eq!(said("/metadata/tls/sni"), "app.example.test");
    // TLS 1.3 over TCP to a name, HTTP/1.1 asked for; then two hashes.
    let ja4 = said("/metadata/tls/ja4");
    let parts: Vec<&str> = ja4.split('_').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [10, 12, 12], "{ja4}");
    assert!(ja4.starts_with("t13d") && parts[0].ends_with("h1"), "{ja4}");
}

#[test]
fn a_verified_client_certificate_is_the_actor_and_is_told_to_the_application() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    authority.write(folder.path(), "app", &["app.example.test"]);
    authority.write_itself(folder.path(), "clients.pem");
    let files = folder.path().display();
    let listen = format!(
        "[ {{ address: 127.0.0.1:0, tls: {{ cert: {files}/app.pem, key: {files}/app.key, \
         client_auth: {{ ca: {files}/clients.pem, mode: optional }} }} }} ]"
    );
    let origin = application();
    let proxy = Proxy::listening(
        origin.address,
        &listen,
        "client_cert: { header: x-client-cert-subject, email_header: x-client-cert-email }\n\
         routes:\n  - id: entry\n    match: { method: POST, path: /login }\n    \
         actor: { login: [tls.client.cn, form.username], email: tls.client.email }\n    \
         fields: { certificate: tls.client.subject }\n    emit: user.login.success\n    when: { status: 302 }\n",
    );
    let (certificate, key) = authority.client("alice", "alice@acme.test");
    let provider = authtap::tls::provider::provider().expect("a build with TLS");
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_root_certificates(authority.roots());
    let config = Arc::new(builder.with_client_auth_cert(vec![certificate], key).expect("a client's certificate"));

    let forged = post(
        "/login",
        "Content-Type: application/x-www-form-urlencoded\r\nX-Client-Cert-Subject: CN=root\r\nX_Client_Cert_Email: root@acme.test\r\n",
        "username=bob&password=right",
    );
    let mut alice = Secure::with(tcp(proxy.address), config, "app.example.test");
    assert_eq!(alice.ask("POST", &forged).status(), 302);
    assert_eq!(Secure::connect(proxy.address, &authority, "app.example.test").ask("POST", &forged).status(), 302);

    let [with, without] = &origin.requests()[..] else { panic!("two requests") };
    assert_eq!(with.field("x-client-cert-subject").as_deref(), Some("CN=alice"));
    assert_eq!(with.field("x-client-cert-email").as_deref(), Some("alice@acme.test"));
    for name in ["x-client-cert-subject", "x-client-cert-email", "x_client_cert_email"] {
        assert_eq!(without.field(name), None, "{name} of a client without a certificate");
    }
    assert_eq!(with.field("x_client_cert_email"), None);
    let events = proxy.stop();
    let [alice, bob] = &events[..] else { panic!("two events: {events:#?}") };
    let said = |pointer: &str| (at(alice, pointer).to_owned(), bob.pointer(pointer).and_then(|v| v.as_str()));
    assert_eq!(said("/actor/login"), ("alice".into(), Some("bob")));
    assert_eq!(said("/actor/email"), ("alice@acme.test".into(), None));
    assert_eq!(said("/metadata/tls/subject"), ("CN=alice".into(), None));
    assert_eq!(said("/metadata/fields/certificate"), ("CN=alice".into(), None));
}

#[test]
fn a_trusted_balancers_word_about_the_clients_tls_stands_in_the_event_and_a_strangers_does_not() {
    let yaml = |trusted: &str| {
        format!(
            "client_ip: {{ trusted_proxies: [{trusted}] }}\n\
             tls_header: {{ version: x-tls-version, sni: x-tls-sni, ja4: x-ja4 }}\n{LOGIN}"
        )
    };
    let request = post(
        "/login",
        "Content-Type: application/x-www-form-urlencoded\r\nX-TLS-Version: TLSv1.3\r\nX-TLS-SNI: App.example.test\r\n\
         X-JA4: t13d1516h2_8daaf6152771_e5627efa2ab1\r\nConnection: x-ja4\r\n",
        "username=alice&password=right",
    );
    let origin = application();
    let trusting = Proxy::before(origin.address, &yaml("127.0.0.1"));
    let wary = Proxy::before(origin.address, &yaml("192.0.2.1"));
    assert_eq!((ask(trusting.address, &request).status(), ask(wary.address, &request).status()), (302, 302));
    let [believed, dropped] = &origin.requests()[..] else { panic!("two requests") };
    assert_eq!(believed.field("x-ja4").as_deref(), Some("t13d1516h2_8daaf6152771_e5627efa2ab1"));
    assert_eq!((dropped.field("x-ja4"), dropped.field("x-tls-sni")), (None, None));
    let (believed, dropped) = (trusting.stop(), wary.stop());
    assert_eq!(at(&believed[0], "/metadata/tls/version"), "1.3");
    assert_eq!(at(&believed[0], "/metadata/tls/sni"), "app.example.test");
    assert_eq!(at(&believed[0], "/metadata/tls/ja4"), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    assert_eq!(dropped[0].pointer("/metadata/tls"), None);
}

#[test]
fn the_name_asked_for_picks_the_certificate_and_the_first_is_for_any_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    let a = authority.write(folder.path(), "a", &["a.example.test", "127.0.0.1"]);
    let b = authority.write(folder.path(), "b", &["b.example.test"]);
    let (one, two) = (named(folder.path(), "a"), named(folder.path(), "b"));
    let listen = format!("[ {{ address: 127.0.0.1:0, tls: {{ certificates: [ {one}, {two} ] }} }} ]");
    let origin = application();
    let proxy = Proxy::listening(origin.address, &listen, "");
    assert_eq!(Secure::connect(proxy.address, &authority, "a.example.test").shown(), a);
    assert_eq!(Secure::connect(proxy.address, &authority, "b.example.test").shown(), b);
    // An address is no name, so none is sent.
    assert_eq!(Secure::connect(proxy.address, &authority, "127.0.0.1").shown(), a);
}

#[test]
fn http2_is_chosen_by_alpn_and_its_cookie_crumbs_reach_the_application_joined() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    authority.write(folder.path(), "app", &["app.example.test"]);
    let origin = application();
    let proxy = Proxy::listening(origin.address, &secured(folder.path(), "app"), LOGIN);
    runtime().block_on(async {
        let connector = TlsConnector::from(trust(&authority, &["h2", "http/1.1"]));
        let tcp = tokio::net::TcpStream::connect(proxy.address).await.expect("a connection");
        let name = ServerName::try_from("app.example.test").expect("a name");
        let stream = connector.connect(name, tcp).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let got = over_http2(stream, crumbs("https://app.example.test/login")).await;
        assert_eq!((got.status().as_u16(), &got.body()[..]), (302, &b"in"[..]));
    });
    let [asked] = &origin.requests()[..] else { panic!("one request") };
    assert_eq!(asked.start(), "POST /login HTTP/1.1");
    assert_eq!(asked.fields_less(&[]).iter().filter(|(n, _)| n.eq_ignore_ascii_case(b"cookie")).count(), 1);
    assert_eq!(asked.field("cookie").as_deref(), Some("SID=0ld; theme=dark"));
    assert_eq!(asked.field("host").as_deref(), Some("app.example.test"));
    assert_eq!(asked.field("x-forwarded-proto").as_deref(), Some("https"));
    let events = proxy.stop();
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(at(&events[0], "/metadata/tls/sni"), "app.example.test");
    assert!(at(&events[0], "/metadata/tls/ja4").contains("h2_"), "{events:#?}");
}

#[test]
fn http2_with_prior_knowledge_is_served_without_tls() {
    let origin = application();
    let proxy = Proxy::before(origin.address, LOGIN);
    runtime().block_on(async {
        let stream = tokio::net::TcpStream::connect(proxy.address).await.expect("a connection");
        let got = over_http2(stream, crumbs("http://app.example.test/login")).await;
        assert_eq!((got.status().as_u16(), &got.body()[..]), (302, &b"in"[..]));
    });
    let [asked] = &origin.requests()[..] else { panic!("one request") };
    assert_eq!(asked.field("cookie").as_deref(), Some("SID=0ld; theme=dark"));
    assert_eq!(asked.field("x-forwarded-proto").as_deref(), Some("http"));
    let events = proxy.stop();
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(events[0].pointer("/metadata/tls"), None);
}

#[test]
fn a_replaced_certificate_is_for_new_connections_and_an_old_one_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    let old = authority.write(folder.path(), "app", &["app.example.test"]);
    let origin = application();
    let proxy = Proxy::listening(origin.address, &secured(folder.path(), "app"), "");
    let request = "GET / HTTP/1.1\r\nHost: app.example.test\r\n\r\n";
    let mut before = Secure::connect(proxy.address, &authority, "app.example.test");
    assert_eq!(before.shown(), old);
    assert_eq!(before.ask("GET", request).status(), 302);

    let new = authority.write(folder.path(), "app", &["app.example.test"]);
    assert_ne!(new, old);
    eventually("the new certificate is served", || {
        Secure::connect(proxy.address, &authority, "app.example.test").shown() == new
    });
    assert_eq!(before.ask("GET", request).status(), 302, "the old connection goes on");
    assert_eq!(Secure::connect(proxy.address, &authority, "app.example.test").ask("GET", request).status(), 302);
}

#[test]
fn what_is_no_tls_on_a_tls_port_is_closed_and_never_seen_by_the_application() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    authority.write(folder.path(), "app", &["app.example.test"]);
    let origin = application();
    let proxy = Proxy::listening(origin.address, &secured(folder.path(), "app"), LOGIN);
    let login = form("/login", "username=alice&password=right");
    for garbage in [
        &login[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 600],
        b"\x16\x03\x01\xff\xff garbage",
        b"PRI * HTTP/2.0\r\n\r\n",
    ] {
        let mut stream = tcp(proxy.address);
        stream.write_all(garbage).expect("sent");
        // Fails if the other side was faster, which is as good.
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        match stream.read_to_end(&mut said) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
        // An alert of TLS at most (RFC 8446 section 6), never an answer of HTTP.
        assert!(said.is_empty() || said[0] == 21, "{said:?}");
    }
    // The listener serves on.
    let mut client = Secure::connect(proxy.address, &authority, "app.example.test");
    assert_eq!(client.ask("GET", "GET / HTTP/1.1\r\nHost: app.example.test\r\n\r\n").status(), 302);
    assert_eq!(origin.requests().len(), 1);
    assert!(proxy.stop().is_empty());
}

const V1: &str = "PROXY TCP4 198.51.100.7 192.0.2.1 56324 443\r\n";

#[test]
fn a_proxy_header_of_a_trusted_peer_says_who_the_client_is() {
    let origin = application();
    let listen = "[ { address: 127.0.0.1:0, proxy_protocol: { trusted: [127.0.0.1] } } ]";
    let proxy = Proxy::listening(origin.address, listen, LOGIN);
    let login = form("/login", "username=alice&password=right");
    assert_eq!(Client::connect(proxy.address).send([V1.as_bytes(), &login].concat()).answer("POST").status(), 302);
    assert_eq!(origin.requests()[0].field("x-forwarded-for").as_deref(), Some("198.51.100.7"));
    // A trusted peer has to send it.
    assert!(Client::connect(proxy.address).send(&login).ends());
    let events = proxy.stop();
    assert_eq!(events.iter().map(|e| at(e, "/metadata/ip_address")).collect::<Vec<_>>(), ["198.51.100.7"]);
}

#[test]
fn a_proxy_header_of_anybody_else_ends_the_connection() {
    let origin = application();
    let listen = "[ { address: 127.0.0.1:0, proxy_protocol: { trusted: [192.0.2.1] } } ]";
    let proxy = Proxy::listening(origin.address, listen, LOGIN);
    let login = form("/login", "username=alice&password=right");
    assert!(Client::connect(proxy.address).send(V1).ends());
    assert!(origin.requests().is_empty());
    // Without the header such a peer is an ordinary client.
    assert_eq!(ask(proxy.address, &login).status(), 302);
    let events = proxy.stop();
    assert_eq!(events.iter().map(|e| at(e, "/metadata/ip_address")).collect::<Vec<_>>(), ["127.0.0.1"]);
}

#[test]
fn the_proxy_header_stands_before_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    authority.write(folder.path(), "app", &["app.example.test"]);
    let origin = application();
    let tls = named(folder.path(), "app");
    let listen = format!("[ {{ address: 127.0.0.1:0, proxy_protocol: {{ trusted: [127.0.0.1] }}, tls: {tls} }} ]");
    let proxy = Proxy::listening(origin.address, &listen, LOGIN);
    let mut stream = tcp(proxy.address);
    stream.write_all(V1.as_bytes()).expect("sent");
    let mut client = Secure::over(stream, &authority, "app.example.test");
    assert_eq!(client.ask("POST", form("/login", "username=alice&password=right")).status(), 302);
    let events = proxy.stop();
    let said: Vec<_> = events.iter().map(|e| (at(e, "/metadata/ip_address"), at(e, "/metadata/tls/sni"))).collect();
    assert_eq!(said, [("198.51.100.7", "app.example.test")]);
}

#[test]
fn a_body_over_its_limit_is_answered_413_announced_or_not() {
    let origin = application();
    let proxy = Proxy::before(origin.address, "limits: { request_body: 10B }");
    assert_eq!(ask(proxy.address, post("/", "", "0123456789")).status(), 302);
    let announced = ask(proxy.address, post("/", "", "0123456789a"));
    assert_eq!((announced.status(), announced.field("server").as_deref()), (413, Some("authtap")));
    let chunked = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n01234567\r\n8\r\n01234567\r\n0\r\n\r\n";
    assert_eq!(ask(proxy.address, chunked).status(), 413);
    assert_eq!(origin.requests().iter().filter(|r| r.whole).count(), 1, "neither reached the application whole");
}

#[test]
fn a_target_over_its_limit_is_answered_414() {
    let origin = application();
    let proxy = Proxy::before(origin.address, "limits: { uri_bytes: 256B }");
    assert_eq!(get(proxy.address, &format!("/{}", "a".repeat(255))).status(), 302);
    assert_eq!(get(proxy.address, &format!("/{}", "a".repeat(256))).status(), 414);
    assert_eq!(get(proxy.address, &format!("/a?{}", "b".repeat(255))).status(), 414);
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn one_more_connection_of_an_address_than_allowed_is_closed_until_another_ends() {
    let origin = application();
    let proxy = Proxy::before(origin.address, "limits: { connections_per_ip: 2 }");
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let mut first = Client::connect(proxy.address);
    let mut second = Client::connect(proxy.address);
    assert_eq!(first.send(request).answer("GET").status(), 302);
    assert_eq!(second.send(request).answer("GET").status(), 302);
    assert!(Client::connect(proxy.address).ends());
    assert!(get(proxy.admin, "/metrics").text().contains("authtap_connections_refused_total 1"));
    assert_eq!(first.send(request).answer("GET").status(), 302, "those that are open go on");
    drop(second);
    eventually("the place is free again", || {
        let mut next = Client::connect(proxy.address);
        next.try_send(request).is_ok() && matches!(next.try_answer("GET"), Ok(Some(got)) if got.status() == 302)
    });
}

#[test]
fn a_body_that_stands_still_is_answered_408() {
    let origin = application();
    let proxy = Proxy::before(origin.address, &format!("{LOGIN}\nlimits: {{ body_idle: 100ms }}"));
    let mut client = Client::connect(proxy.address);
    client.send(
        "POST /login HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: 100\r\n\r\nusername=alice",
    );
    let got = client.answer("POST");
    assert_eq!((got.status(), got.field("connection").as_deref()), (408, Some("close")));
    assert!(client.ends());
    assert!(proxy.stop().iter().all(|event| at(event, "/outcome") == "unknown"), "nothing is claimed");
}

#[test]
fn a_connection_that_carried_its_requests_says_so_and_closes() {
    let origin = application();
    let proxy = Proxy::before(origin.address, "limits: { requests_per_connection: 2 }");
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let mut client = Client::connect(proxy.address);
    assert_eq!(client.send(request).answer("GET").field("connection"), None);
    let last = client.send(request).answer("GET");
    assert_eq!((last.status(), last.field("connection").as_deref()), (302, Some("close")));
    assert!(client.ends());
}

#[test]
fn the_limit_of_requests_does_not_spoil_an_upgrade() {
    let origin = Origin::raw(|conn| {
        conn.request();
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello");
        conn.await_end();
    });
    let proxy = Proxy::before(origin.address, "limits: { requests_per_connection: 1 }");
    let mut client = Client::connect(proxy.address);
    let request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    let head = client.send(request).head();
    assert_eq!(head.status(), 101);
    assert!(head.field("connection").is_some_and(|v| v.eq_ignore_ascii_case("upgrade")), "{head:?}");
    let mut hello = [0; 5];
    let mut filled = 0;
    while filled < hello.len() {
        let n = client.some(&mut hello[filled..]);
        assert!(n > 0, "the tunnel is open");
        filled += n;
    }
    assert_eq!(&hello, b"hello");
}

#[test]
fn a_connection_on_which_nothing_was_asked_yet_ends_with_a_stop_over_tls_too() {
    let (folder, authority) = (tempfile::tempdir().expect("a folder"), Authority::new());
    authority.write(folder.path(), "a", &["a.test"]);
    let origin = application();
    let listen = secured(folder.path(), "a");
    let mut proxy = Proxy::listening(origin.address, &listen, "timeouts: { drain: 20s, header: 20s }");
    let mut unused = Secure::connect(proxy.address, &authority, "a.test");
    eventually("it is accepted", || get(proxy.admin, "/metrics").text().contains("authtap_connections_open 1"));
    let told = std::time::Instant::now();
    proxy.tell_to_stop();
    // Closed in order, or reset if that was during the handshake's last message.
    match unused.0.some(&mut [0; 1]) {
        Ok(read) => assert_eq!(read, 0),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    proxy.await_end();
    assert!(told.elapsed() < std::time::Duration::from_secs(10), "nobody waited for the deadline");
}

#[test]
fn a_connection_without_a_next_request_is_closed() {
    let origin = application();
    let proxy = Proxy::before(origin.address, "limits: { keep_alive_idle: 200ms }");
    let mut client = Client::connect(proxy.address);
    assert_eq!(client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").answer("GET").status(), 302);
    assert!(client.ends());
    // Neither an error of the application's nor a request.
    assert_eq!(origin.requests().len(), 1);
}
