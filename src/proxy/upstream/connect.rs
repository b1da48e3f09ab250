//! One connection to the application: TCP or a Unix socket, the PROXY header and TLS if they are
//! asked for, then HTTP/1.1 or HTTP/2.
//!
//! It must never speak to an `https:` address without TLS, nor go on after a handshake that failed,
//! nor speak a protocol that was not agreed on. A name is resolved at each connection, so that a
//! change of address is followed.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::http1::Http1;
use super::wire::Wire;
use super::{Address, Protocol, Timeouts, Upstream, http2};
use crate::descriptors::Outgoing;
use crate::proxy::error::ProxyError;
use crate::proxy::socket::Socket;
use crate::tls::HandshakeError;
use crate::tls::client::ClientTls;

/// How long `check --connect` listens for a refusal of its certificate.
const REFUSAL: Duration = Duration::from_millis(300);
/// A new connection, ready for requests.
pub(super) enum Opened {
    /// For one request after the other.
    Http1(Box<Http1>),
    /// For many at once.
    Http2(http2::Connection),
}

/// How to connect.
#[derive(Clone, Copy)]
pub(super) struct Dial<'a> {
    pub(super) address: &'a Address,
    pub(super) tls: Option<&'a ClientTls>,
    pub(super) protocol: Protocol,
    /// What goes before everything else: a PROXY header, or nothing.
    pub(super) first: &'a [u8],
    pub(super) within: Duration,
}

impl Dial<'_> {
    /// Connects up to where HTTP begins; true if that is HTTP/2.
    ///
    /// # Errors
    /// [`ProxyError::Connect`] if there is no connection or no agreement, [`ProxyError::UpstreamTimeout`]
    /// if it takes longer than `within`.
    pub(super) async fn dial(self) -> Result<(Wire, bool), ProxyError> {
        let dialling = async {
            match self.address {
                Address::Tcp(host, port) => {
                    Ok((Wire::Plain(Socket::Tcp(self.tcp(host, *port).await?)), self.by_knowledge()))
                }
                Address::Tls(host, port) => {
                    let Some(tls) = self.tls else {
                        return Err(ProxyError::Connect("TLS to the application was not set up".into()));
                    };
                    let stream = self.tcp(host, *port).await?;
                    let connected = tls.connect(stream, host, self.alpn(), self.within).await;
                    let stream = connected.map_err(|error| match error {
                        HandshakeError::TimedOut(_) => ProxyError::UpstreamTimeout,
                        error => ProxyError::Connect(error.into()),
                    })?;
                    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                    if self.protocol == Protocol::Http2 && !h2 {
                        let why = "it does not agree to HTTP/2 in TLS: write `protocol: auto` or `http1`";
                        return Err(ProxyError::Connect(why.into()));
                    }
                    Ok((Wire::Tls(Box::new(stream)), h2))
                }
                Address::Unix(path) => {
                    let mut stream = UnixStream::connect(path).await.map_err(refused)?;
                    stream.write_all(self.first).await.map_err(refused)?;
                    Ok((Wire::Plain(Socket::Unix(stream)), self.by_knowledge()))
                }
            }
        };
        tokio::time::timeout(self.within, dialling).await.unwrap_or(Err(ProxyError::UpstreamTimeout))
    }

    /// Connects; the request that uses the connection learns of what goes wrong with it. It keeps
    /// `outgoing` for as long as it is open. To be called on a thread of a `LocalRuntime` or inside a `LocalSet`.
    ///
    /// # Errors
    /// As [`Dial::dial`].
    pub(super) async fn open(self, outgoing: Outgoing) -> Result<Opened, ProxyError> {
        let (wire, speaks_http2) = self.dial().await?;
        let wire = wire.counted(outgoing);
        if speaks_http2 {
            http2::Connection::over(wire).await.map(Opened::Http2)
        } else {
            Ok(Opened::Http1(Box::new(Http1::over(wire))))
        }
    }

    /// Without TLS nothing is agreed on: HTTP/2 only if it is known (RFC 9113 section 3.3).
    fn by_knowledge(&self) -> bool {
        self.protocol == Protocol::Http2
    }

    fn alpn(&self) -> &'static [&'static str] {
        match self.protocol {
            Protocol::Http1 => &["http/1.1"],
            Protocol::Http2 => &["h2"],
            Protocol::Auto => &["h2", "http/1.1"],
        }
    }

    async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, ProxyError> {
        let mut stream = TcpStream::connect((host, port)).await.map_err(refused)?;
        // Small writes go out at once; failure to set it costs only latency.
        let _ = stream.set_nodelay(true);
        stream.write_all(self.first).await.map_err(refused)?;
        Ok(stream)
    }
}

/// Tries to connect to an address of `upstream`, and to agree on TLS where that is spoken, for
/// `check --connect`.
///
/// # Errors
/// [`ProxyError::Connect`] with its source, or [`ProxyError::UpstreamTimeout`].
pub async fn probe(upstream: &Upstream, address: &Address, timeouts: &Timeouts) -> Result<(), ProxyError> {
    let first = upstream.proxy_protocol.map(|version| version.encode_local()).unwrap_or_default();
    let (tls, protocol) = (upstream.tls(), upstream.protocol.towards(address));
    match (Dial { address, tls, protocol, first: &first, within: timeouts.connect }).dial().await? {
        (wire @ Wire::Tls(_), _) => rejected(wire).await,
        _ => Ok(()),
    }
}

/// In TLS 1.3 the client is done before the server has looked at the client's certificate (RFC 8446
/// section 2): a refusal of it is the first that comes back. A server that takes it says nothing
/// before a request, so that a short silence is a yes.
async fn rejected(mut stream: Wire) -> Result<(), ProxyError> {
    let read = tokio::time::timeout(REFUSAL, stream.read(&mut [0; 1])).await;
    match read {
        Ok(Err(error)) => Err(ProxyError::Connect(HandshakeError::Failed(error).into())),
        _ => Ok(()),
    }
}

fn refused(error: std::io::Error) -> ProxyError {
    ProxyError::Connect(error.into())
}
