//! One connection to the application: TCP or a Unix socket, TLS if it is asked for, then HTTP/1.1.
//!
//! It must never speak to an `https:` address without TLS, nor go on after a handshake that failed.
//! A name is resolved at each connection, so that a change of address is followed.

use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::{Address, Timeouts};
use crate::proxy::body::RequestBody;
use crate::proxy::error::ProxyError;
use crate::tls::HandshakeError;
use crate::tls::client::ClientTls;

/// How long `check --connect` listens for a refusal of its certificate.
const REFUSAL: Duration = Duration::from_millis(300);

/// Connects; the request that uses the connection learns of what goes wrong with it.
///
/// # Errors
/// [`ProxyError::Connect`] if there is no connection or no handshake, [`ProxyError::UpstreamTimeout`]
/// if both together take longer than `timeouts.connect`.
pub(super) async fn connect(
    address: &Address,
    tls: Option<&ClientTls>,
    timeouts: &Timeouts,
) -> Result<SendRequest<RequestBody>, ProxyError> {
    let connecting = async {
        match address {
            Address::Tcp(host, port) => speak(tcp(host, *port).await?).await,
            Address::Tls(host, port) => speak(secured(host, *port, tls, timeouts).await?).await,
            Address::Unix(path) => speak(UnixStream::connect(path).await.map_err(refused)?).await,
        }
    };
    tokio::time::timeout(timeouts.connect, connecting).await.unwrap_or(Err(ProxyError::UpstreamTimeout))
}

/// Tries to connect, and to agree on TLS where that is spoken, for `check --connect`.
///
/// # Errors
/// [`ProxyError::Connect`] with its source, or [`ProxyError::UpstreamTimeout`].
pub async fn probe(address: &Address, tls: Option<&ClientTls>, timeouts: &Timeouts) -> Result<(), ProxyError> {
    let connecting = async {
        match address {
            Address::Tcp(host, port) => tcp(host, *port).await.map(drop),
            Address::Tls(host, port) => {
                let mut stream = secured(host, *port, tls, timeouts).await?;
                rejected(&mut stream).await
            }
            Address::Unix(path) => UnixStream::connect(path).await.map(drop).map_err(refused),
        }
    };
    tokio::time::timeout(timeouts.connect, connecting).await.unwrap_or(Err(ProxyError::UpstreamTimeout))
}

async fn tcp(host: &str, port: u16) -> Result<TcpStream, ProxyError> {
    let stream = TcpStream::connect((host, port)).await.map_err(refused)?;
    // Small writes go out at once; failure to set it costs only latency.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn secured(
    host: &str,
    port: u16,
    tls: Option<&ClientTls>,
    timeouts: &Timeouts,
) -> Result<TlsStream<TcpStream>, ProxyError> {
    let Some(tls) = tls else { return Err(ProxyError::Connect("TLS to the application was not set up".into())) };
    let stream = tcp(host, port).await?;
    tls.connect(stream, host, timeouts.connect).await.map_err(|error| match error {
        HandshakeError::TimedOut(_) => ProxyError::UpstreamTimeout,
        error => ProxyError::Connect(error.into()),
    })
}

/// In TLS 1.3 the client is done before the server has looked at the client's certificate (RFC 8446
/// section 2): a refusal of it is the first that comes back. A server that takes it says nothing
/// before a request, so that a short silence is a yes.
async fn rejected(stream: &mut TlsStream<TcpStream>) -> Result<(), ProxyError> {
    use tokio::io::AsyncReadExt;
    let read = tokio::time::timeout(REFUSAL, stream.read(&mut [0; 1])).await;
    match read {
        Ok(Err(error)) => Err(ProxyError::Connect(HandshakeError::Failed(error).into())),
        _ => Ok(()),
    }
}

fn refused(error: std::io::Error) -> ProxyError {
    ProxyError::Connect(error.into())
}

async fn speak<S>(stream: S) -> Result<SendRequest<RequestBody>, ProxyError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .max_headers(256)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| ProxyError::Connect(error.into()))?;
    // The task ends with the connection; what went wrong reaches the request that uses it.
    tokio::task::spawn_local(async move {
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}
