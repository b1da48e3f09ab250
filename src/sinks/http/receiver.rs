//! A receiver over HTTP in the test's own process: remembers what it got, answers by a script.

use std::convert::Infallible;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::config::node::Node;
use crate::config::problem::Problems;
use crate::sinks::{BuildCx, Sink, SinkError, SinkSpec, check};

/// One request as it came, its body without compression.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub method: Method,
    pub target: String,
    pub headers: HeaderMap,
    /// As text, if it is one.
    pub body: String,
    /// As it is.
    pub bytes: Bytes,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {}", self.body))
    }

    /// One JSON value a line.
    pub fn lines(&self) -> Vec<serde_json::Value> {
        self.body.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }
}

/// What the receiver answers.
#[derive(Clone, Debug)]
pub(crate) struct Says {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    /// Not to answer at all.
    pub never: bool,
    /// To close the connection after the answer, without saying so before.
    pub hang_up: bool,
}

pub(crate) fn says(status: u16, body: &str) -> Says {
    Says { status, headers: Vec::new(), body: body.to_owned(), never: false, hang_up: false }
}

/// A receiver that is there.
pub(crate) struct Receiver {
    pub address: SocketAddr,
    pub secure: bool,
    got: Arc<Mutex<Vec<Got>>>,
    connections: Arc<AtomicUsize>,
    accepting: tokio::task::JoinHandle<()>,
}

type Script = dyn Fn(&Got, usize) -> Says + Send + Sync;

impl Receiver {
    /// Answers the first request by `script(request, 1)` and so on.
    pub async fn start(script: impl Fn(&Got, usize) -> Says + Send + Sync + 'static) -> Receiver {
        Receiver::begin(None, Arc::new(script)).await
    }

    /// The same over TLS.
    pub async fn secured(tls: TlsAcceptor, script: impl Fn(&Got, usize) -> Says + Send + Sync + 'static) -> Receiver {
        Receiver::begin(Some(tls), Arc::new(script)).await
    }

    async fn begin(tls: Option<TlsAcceptor>, script: Arc<Script>) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (got, connections): (Arc<Mutex<Vec<Got>>>, Arc<AtomicUsize>) = Default::default();
        let secure = tls.is_some();
        let (remember, count) = (got.clone(), connections.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Relaxed);
                let (tls, script, remember) = (tls.clone(), script.clone(), remember.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, script, remember).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, script, remember).await;
                            }
                        }
                    }
                });
            }
        });
        Receiver { address, secure, got, connections, accepting }
    }

    pub fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve<S>(stream: S, script: Arc<Script>, remember: Arc<Mutex<Vec<Got>>>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let hang_up = Arc::new(tokio::sync::Notify::new());
    let told = hang_up.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (script, remember, told) = (script.clone(), remember.clone(), told.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
            let bytes = match head.headers.get("content-encoding").map(|v| v.as_bytes()) {
                Some(b"gzip") => unpacked(flate2::read::GzDecoder::new(&body[..])),
                Some(b"zstd") => unpacked(ruzstd::decoding::StreamingDecoder::new(&body[..]).unwrap()),
                _ => body,
            };
            let body = String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| "(bytes)".into());
            let target = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
            let got = Got { method: head.method, target, headers: head.headers, body, bytes };
            let turn = {
                let mut all = remember.lock().unwrap();
                all.push(got.clone());
                all.len()
            };
            let says = script(&got, turn);
            if says.never {
                std::future::pending::<()>().await;
            }
            let mut response = Response::builder().status(says.status);
            for (name, value) in &says.headers {
                response = response.header(*name, value);
            }
            if says.hang_up {
                told.notify_one();
            }
            Ok::<_, Infallible>(response.body(Full::new(Bytes::from(says.body))).unwrap())
        }
    });
    let mut connection =
        std::pin::pin!(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        biased;
        _ = &mut connection => {}
        () = async { hang_up.notified().await; } => {
            // The answer goes out first; then the connection ends.
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

fn unpacked(mut from: impl Read) -> Bytes {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).unwrap();
    bytes.into()
}

/// One sink of the configuration, checked without a problem.
pub(crate) fn spec(yaml: &str) -> SinkSpec {
    let mut problems = Problems::new("routes.yaml", yaml);
    let node = Node::parse(yaml, &mut problems).expect("parses");
    let spec = check(&node, &mut problems);
    assert!(problems.is_empty(), "{yaml}: {problems}");
    spec.expect("a sink")
}

/// What is wrong with one sink of the configuration.
pub(crate) fn problems(yaml: &str) -> String {
    let mut problems = Problems::new("routes.yaml", yaml);
    let node = Node::parse(yaml, &mut problems).expect("parses");
    let _ = check(&node, &mut problems);
    problems.to_string()
}

/// The sink of a configuration, built with its files in `base`.
pub(crate) fn built(yaml: &str, base: &Path) -> Result<Box<dyn Sink>, SinkError> {
    spec(yaml).build(&BuildCx::new(base.to_owned(), false))
}
