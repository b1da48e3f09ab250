//! A store behind the client library `object_store`, over connections of our own.
//!
//! The library knows how requests to Google and Azure are made and signed, and where credentials
//! come from. What goes over the network goes through [`Wire`]: the same client, TLS and limits as
//! every sink over HTTP has. The library's own errors are never shown, because they repeat bodies;
//! what the last answer was is remembered here instead. The library must not retry.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use object_store::client::{
    CryptoProvider, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, ClientOptions, ObjectStore, ObjectStoreExt, PutOptions, PutPayload, RetryConfig,
};

use super::crypto::Crypto;
use super::{Object, Store, code, refusal};
use crate::sinks::http::answer::{Answer, shown};
use crate::sinks::http::client::{Client, Outgoing};
use crate::sinks::http::url::Url;
use crate::sinks::{BoxFuture, SinkError};
use crate::tls::client::{ClientPlan, ClientTls};

/// The most hosts that connections are kept to: the store, and where tokens come from.
const MAX_HOSTS: usize = 8;

/// The library's part in a store.
pub(in crate::sinks) struct Remote {
    store: Box<dyn ObjectStore>,
    /// Without slashes at its ends.
    prefix: String,
    wire: Wire,
    /// What a code of the store's calls for.
    hint: fn(&str) -> &'static str,
}

impl Remote {
    /// A store whose objects stand under this prefix. `wire` is what it was built with.
    pub(in crate::sinks) fn new(
        store: impl ObjectStore,
        prefix: &str,
        wire: &Wire,
        hint: fn(&str) -> &'static str,
    ) -> Remote {
        Remote { store: Box::new(store), prefix: prefix.to_owned(), wire: wire.clone(), hint }
    }

    fn path(&self, name: &str) -> Result<Path, SinkError> {
        let name = if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) };
        Path::parse(name).map_err(|_| SinkError::Other("the store takes no such prefix".into()))
    }

    /// What went wrong, by the last answer.
    fn told(&self, seen: Option<&Seen>) -> SinkError {
        let what = match seen {
            None => "the credentials cannot be used".to_owned(),
            Some(Seen { host, result: Err(why), .. }) => {
                // It names the host already.
                return SinkError::Other(if why.is_empty() { format!("{host}: no answer") } else { why.clone() });
            }
            Some(Seen { host, result: Ok(answered), .. }) if answered.status.is_success() => {
                format!("no sense in the answer of {host}")
            }
            Some(Seen { host, result: Ok(answered), .. }) => {
                let code = answered.code.as_deref().unwrap_or_default();
                let space = if code.is_empty() { "" } else { " " };
                format!("{host} answered {}{space}{code}{}", shown(answered.status), (self.hint)(code))
            }
        };
        SinkError::Other(what)
    }
}

impl Store for Remote {
    fn put(&self, object: Object) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            let path = match self.path(&object.name) {
                Ok(path) => path,
                Err(why) => return Answer::lost(why),
            };
            let attributes = Attributes::from_iter([(Attribute::ContentType, object.media)]);
            let options = PutOptions { attributes, ..PutOptions::default() };
            self.wire.forget();
            let result = self.store.put_opts(&path, PutPayload::from(object.body), options).await;
            let seen = self.wire.seen();
            match &seen {
                _ if result.is_ok() => Answer::Taken,
                // The library wants more of an answer than that the object is there.
                Some(Seen { put: true, result: Ok(answered), .. }) if answered.status.is_success() => Answer::Taken,
                Some(Seen { put: true, result: Ok(answered), .. }) => {
                    let (status, code) = (answered.status.as_u16(), answered.code.as_deref());
                    refusal(status, code, answered.after, self.told(seen.as_ref()))
                }
                Some(Seen { result: Ok(answered), .. }) => {
                    Answer::Later { after: answered.after, why: self.told(seen.as_ref()) }
                }
                seen => Answer::lost(self.told(seen.as_ref())),
            }
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            let path = self.path("authtap-probe")?;
            self.wire.forget();
            let result = self.store.get(&path).await;
            let seen = self.wire.seen();
            let answered = seen.as_ref().and_then(|seen| seen.result.as_ref().ok());
            let (status, code) = match answered {
                _ if result.is_ok() => return Ok(()),
                Some(answered) => (answered.status.as_u16(), answered.code.as_deref()),
                None => return Err(self.told(seen.as_ref())),
            };
            match (status, code) {
                (404, Some("NoSuchBucket" | "ContainerNotFound" | "ResourceNotFound")) => {}
                (404, _) => return Ok(()),
                // Whoever may only write is not told what is there.
                (403, Some("AccessDenied" | "AuthorizationPermissionMismatch")) => return Ok(()),
                _ => {}
            }
            Err(self.told(seen.as_ref()))
        })
    }
}

/// The network as the library sees it.
#[derive(Clone)]
pub(in crate::sinks) struct Wire(Arc<Shared>);

struct Shared {
    tls: Option<Arc<ClientTls>>,
    timeout: Duration,
    clients: Mutex<HashMap<String, Arc<Client>>>,
    seen: Mutex<Option<Seen>>,
}

/// The last answer.
#[derive(Clone)]
struct Seen {
    /// Where it came from, for messages.
    host: String,
    /// An object was written, or tried to be.
    put: bool,
    result: Result<Answered, String>,
}

#[derive(Clone)]
struct Answered {
    status: StatusCode,
    code: Option<String>,
    after: Option<Duration>,
}

impl Wire {
    /// Reads the certificates; connects to nothing. With a store that is asked without TLS nothing
    /// is asked over it.
    pub(in crate::sinks) fn build(
        store: &Url,
        tls: &ClientPlan,
        timeout: Duration,
        base: &std::path::Path,
    ) -> Result<Wire, SinkError> {
        let tls = match store.https {
            false => None,
            true => Some(tls.build(base).map_err(|error| SinkError::Other(error.to_string()))?),
        };
        for warning in tls.iter().flat_map(ClientTls::warnings) {
            tracing::warn!(receiver = %store, "{warning}");
        }
        let (clients, seen) = (Mutex::default(), Mutex::default());
        Ok(Wire(Arc::new(Shared { tls: tls.map(Arc::new), timeout, clients, seen })))
    }

    /// Requests of the library are not repeated: that is the work of the delivery.
    pub(in crate::sinks) fn no_retries() -> RetryConfig {
        RetryConfig { max_retries: 0, ..RetryConfig::default() }
    }

    /// The program's own cryptography.
    pub(in crate::sinks) fn crypto() -> Arc<dyn CryptoProvider> {
        Arc::new(Crypto)
    }

    fn forget(&self) {
        *lock(&self.0.seen) = None;
    }

    fn seen(&self) -> Option<Seen> {
        lock(&self.0.seen).clone()
    }

    fn client(&self, url: Url) -> Result<Arc<Client>, SinkError> {
        let key = url.to_string();
        let mut clients = lock(&self.0.clients);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        if clients.len() >= MAX_HOSTS {
            clients.clear();
        }
        let tls = if url.https { self.0.tls.clone() } else { None };
        if url.https && tls.is_none() {
            return Err(SinkError::Other(format!("{url}: no TLS for a store that is asked without it")));
        }
        let client = Arc::new(Client::new(url, tls, self.0.timeout)?);
        clients.insert(key, client.clone());
        Ok(client)
    }

    async fn ask(&self, url: Url, request: HttpRequest) -> Result<(HttpResponse, Answered), SinkError> {
        let client = self.client(url)?;
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(|_| SinkError::Other("the request cannot be read".into()))?;
        let outgoing = Outgoing {
            method: parts.method,
            target: Some(parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string)),
            headers: parts.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            body: body.to_bytes().to_vec(),
        };
        let reply = client.send(outgoing).await?;
        let answered =
            Answered { status: reply.status, code: code(&reply).map(str::to_owned), after: reply.retry_after };
        let mut response = HttpResponse::new(HttpResponseBody::from(reply.body));
        *response.status_mut() = reply.status;
        *response.headers_mut() = reply.headers;
        Ok((response, answered))
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let put = request.method() == Method::PUT;
        let (scheme, authority) = (request.uri().scheme_str(), request.uri().authority());
        let url = match (scheme, authority) {
            (Some(scheme), Some(authority)) => Url::parse(&format!("{scheme}://{authority}/")),
            _ => Err("no host"),
        };
        let (host, result) = match url {
            Ok(url) => (url.authority(), self.ask(url, request).await),
            Err(why) => (String::new(), Err(SinkError::Other(format!("the store's URL: {why}")))),
        };
        let (response, result) = match result {
            Ok((response, answered)) => (Ok(response), Ok(answered)),
            Err(why) => (Err(HttpError::new(HttpErrorKind::Unknown, Unanswered)), Err(why.to_string())),
        };
        *lock(&self.0.seen) = Some(Seen { host, put, result });
        response
    }
}

impl HttpConnector for Wire {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no answer")]
struct Unanswered;
