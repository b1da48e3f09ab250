//! HTTP/2 in tests: an application that speaks it by prior knowledge, and a client that does the
//! same. Both are hyper's; what is tested is between them. Must never retry.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

use super::PATIENCE;

/// A body of any kind.
pub type AnyBody = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

/// A body that is there as a whole.
pub fn whole(body: impl Into<Bytes>) -> AnyBody {
    Full::new(body.into()).boxed()
}

/// A body that is sent piece by piece.
pub fn piecewise() -> (Sender<Bytes>, AnyBody) {
    let (sender, body) = Channel::new(1);
    (sender, body.boxed())
}

/// Runs a test that waits for several things at once, for at most the usual patience. Connections are
/// served on another thread than the test's, so that their ends are heard while it waits for authtap's.
pub fn within_patience<T>(test: impl Future<Output = T>) -> T {
    let builder = &mut tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("in time") })
}

/// An application; its connections are counted.
pub struct H2Origin {
    /// Where it listens.
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl H2Origin {
    /// Answers each request with what `answer` says, on connections with `streams` streams at most.
    /// To be called inside a runtime.
    pub async fn serving<F, A>(streams: u32, answer: F) -> H2Origin
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<AnyBody>> + Send + 'static,
    {
        H2Origin::over(|stream| async { Some(stream) }, streams, answer).await
    }

    /// The same over what `wrap` makes of a connection: TLS, for one.
    pub async fn over<W, S, P, F, A>(wrap: W, streams: u32, answer: F) -> H2Origin
    where
        W: Fn(TcpStream) -> P + Send + Sync + 'static,
        P: Future<Output = Option<S>> + Send,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<AnyBody>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Some(stream) = wrap(stream).await else { continue };
                counted.fetch_add(1, SeqCst);
                let answer = answer.clone();
                let service = service_fn(move |request| {
                    let answering = answer(request);
                    async move { Ok::<_, std::convert::Infallible>(answering.await) }
                });
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.max_concurrent_streams(streams);
                // How a connection ends is the other side's to say.
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
        H2Origin { address, connections }
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

/// A connection that speaks HTTP/2 by prior knowledge. To be called inside a runtime.
pub async fn connect(address: SocketAddr) -> SendRequest<AnyBody> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = shaken.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// The same by `h2` itself, which shows interim answers and windows.
pub async fn dial(address: SocketAddr) -> h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender.ready().await.expect("a connection that takes requests")
}

/// The head of a request for a target of `app.example.test`.
pub fn head(method: &str, target: &str, fields: &[(&'static str, &'static str)]) -> Request<()> {
    let uri = format!("http://app.example.test{target}");
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request")
}

/// The next interim answer; `None` if the final one is there.
pub async fn interim(answer: &mut h2::client::ResponseFuture) -> Option<Response<()>> {
    let next = std::future::poll_fn(|cx| answer.poll_informational(cx)).await;
    next.map(|interim| interim.expect("no reset"))
}

/// A request for a target of `app.example.test`.
pub fn request(method: &str, target: &str, body: AnyBody) -> Request<AnyBody> {
    let uri = format!("http://app.example.test{target}");
    Request::builder().method(method).uri(uri).body(body).expect("a request")
}

/// The next piece of a body; `None` at its end.
pub async fn piece(body: &mut (impl Body<Data = Bytes, Error = hyper::Error> + Unpin)) -> Option<Bytes> {
    body.frame().await.map(|frame| frame.expect("whole").into_data().expect("data, no trailers"))
}
