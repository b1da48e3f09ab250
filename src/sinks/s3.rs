//! Objects in a store that speaks Amazon's S3: Amazon's own, MinIO, Ceph, R2, Google's with an HMAC key.
//!
//! Objects are made by [`super::objects`]; each is written whole by one signed request. It must
//! never list, read or delete what is there.

pub mod sign;
#[cfg(test)]
mod tests;

use http::Method;

use self::sign::{Keys, Request, sha256_hex};
use super::http::answer::{Answer, shown};
use super::http::client::{Client, Outgoing, Reply};
use super::http::secret::SecretSource;
use super::http::{self as shared, HttpPlan, Usual, check_word};
use super::objects::{self, Object, ObjectsPlan, Store, code, refusal};
use super::{BoxFuture, BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan};
use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::event::Timestamp;
use crate::format;

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "s3",
    doc: "objects of gzipped lines, or Parquet, in S3 or any store that speaks it",
    fields: FIELDS,
    formats: Formats::Any("native"),
    check,
};

const FIELDS: &[Field] = &[
    Field::required(
        "url",
        Kind::Str,
        "where objects go: https://BUCKET.s3.REGION.amazonaws.com/PREFIX, or https://HOST/BUCKET/PREFIX",
    ),
    Field::new("region", Kind::Str, "us-east-1", "the region that requests are signed for"),
    Field::new("access_key_env", Kind::Str, "AWS_ACCESS_KEY_ID", "environment variable that holds the access key id"),
    Field::new(
        "secret_key_env",
        Kind::Str,
        "AWS_SECRET_ACCESS_KEY",
        "environment variable that holds the secret access key",
    ),
    Field::new(
        "session_token_env",
        Kind::Str,
        "",
        "environment variable that holds a session token, if the keys have one",
    ),
    objects::INTERVAL,
    objects::ENCODING,
    shared::TIMEOUT,
    shared::TLS,
    format::field("native"),
];

const REGION: &str = "us-east-1";

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let http = HttpPlan::check(map, &Usual::BEARER, problems);
    let objects = ObjectsPlan::check(map, problems);
    let region = check_word(map, "region", problems);
    let variable = |key: &str, usual: &str, problems: &mut Problems| match map.get(key) {
        Some(at) => SecretSource::env(at, problems),
        None => Some(SecretSource::Env(usual.to_owned())),
    };
    let access = variable("access_key_env", "AWS_ACCESS_KEY_ID", problems);
    let secret = variable("secret_key_env", "AWS_SECRET_ACCESS_KEY", problems);
    let token = match map.get("session_token_env") {
        Some(at) => SecretSource::env(at, problems).map(Some),
        None => Some(None),
    };
    let http = http?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'/');
    if let Some(at) = map.get("url")
        && (!http.url().path.bytes().all(plain) || http.url().query.is_some())
    {
        let hint = "letters, digits, `-`, `.`, `_`, `~` and `/`, and no query";
        problems.error_blotted(at, "the path of the URL has other characters than its signature allows".into(), hint);
        return None;
    }
    Some(Box::new(Plan {
        http,
        objects: objects?,
        region: region?.unwrap_or_else(|| REGION.to_owned()),
        access: access?,
        secret: secret?,
        token: token?,
    }))
}

#[derive(Debug)]
struct Plan {
    http: HttpPlan,
    objects: ObjectsPlan,
    region: String,
    access: SecretSource,
    secret: SecretSource,
    token: Option<SecretSource>,
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        let keys = Keys {
            access: self.access.read(&cx.base)?,
            secret: self.secret.read(&cx.base)?,
            token: self.token.as_ref().map(|source| source.read(&cx.base)).transpose()?,
            region: self.region.clone(),
        };
        Ok(self.objects.sink(S3 { client: self.http.build(cx)?, keys }, cx))
    }
}

struct S3 {
    client: Client,
    keys: Keys,
}

impl S3 {
    async fn ask(&self, method: Method, path: String, media: &'static str, body: Vec<u8>) -> Result<Reply, SinkError> {
        let now = Timestamp::now().to_string();
        let request = Request {
            method: method.as_str(),
            path: &path,
            host: &self.client.url().authority(),
            body: &sha256_hex(&body),
            more: &[],
        };
        let signed = self.keys.sign(&request, &now);
        let mut outgoing = Outgoing { method, target: Some(path), headers: Vec::new(), body };
        for (name, value) in signed {
            outgoing = outgoing.with(name, &value);
        }
        if !outgoing.body.is_empty() {
            outgoing = outgoing.with("content-type", media);
        }
        self.client.send(outgoing).await
    }

    /// An answer that is no success. Its code is a word of Amazon's list, and no event.
    fn told(&self, reply: &Reply) -> SinkError {
        let code = code(reply);
        let hint = match code {
            Some("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken") => {
                "; check the keys, and whether their session has ended"
            }
            Some("AccessDenied" | "AllAccessDisabled") => "; the keys need the right s3:PutObject",
            Some("NoSuchBucket") => "; check the bucket in the URL",
            Some("AuthorizationHeaderMalformed" | "PermanentRedirect") => "; check `region` and the URL",
            Some("RequestTimeTooSkewed") => "; the clock of this machine is wrong",
            _ => "",
        };
        let code = code.map(|code| format!(" {code}")).unwrap_or_default();
        SinkError::Other(format!("{} answered {}{code}{hint}", self.client.place(), shown(reply.status)))
    }
}

impl Store for S3 {
    fn put(&self, object: Object) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            // `=` is written as it stands in the signature.
            let path = self.client.url().under(&format!("/{}", object.name.replace('=', "%3D")));
            match self.ask(Method::PUT, path, object.media, object.body).await {
                Ok(reply) if reply.status.is_success() => Answer::Taken,
                Ok(reply) => refusal(reply.status.as_u16(), code(&reply), reply.retry_after, self.told(&reply)),
                Err(why) => Answer::lost(why),
            }
        })
    }

    /// Asks for an object that is not there: whose signature is wrong is told so.
    fn probe(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async {
            let path = self.client.url().under("/authtap-probe");
            let reply = self.ask(Method::GET, path, "", Vec::new()).await?;
            match (reply.status.as_u16(), code(&reply)) {
                (200..=299, _) | (404, Some("NoSuchKey")) => Ok(()),
                // Whoever may only write is not told what is there.
                (403, Some("AccessDenied")) => Ok(()),
                _ => Err(self.told(&reply)),
            }
        })
    }
}
