//! Objects in Google Cloud Storage, with the key of a service account or the machine's own rights.
//!
//! Objects are made by [`super::objects`]; each is written whole by one request. It must never
//! list, read or delete what is there. With an HMAC key the sink `s3` does the same without a
//! feature.

#[cfg(feature = "object-store")]
mod client;
#[cfg(test)]
mod tests;

use std::time::Duration;

#[cfg(not(feature = "object-store"))]
use super::absent as client;
use super::http::secret::SecretSource;
use super::http::url::Url;
use super::http::{self as shared, check_timeout};
use super::objects::{self, ObjectsPlan, check_endpoint, check_name, check_prefix, check_tls};
use super::{BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan};
use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::format;
use crate::tls::client::ClientPlan;

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "gcs",
    doc: "objects of gzipped lines, or Parquet, in Google Cloud Storage; needs the feature `object-store`",
    fields: FIELDS,
    formats: Formats::Any("native"),
    check,
};

const FIELDS: &[Field] = &[
    Field::required("bucket", Kind::Str, "the bucket, which must exist"),
    objects::PREFIX,
    Field::new(
        "credentials_env",
        Kind::Str,
        "",
        "environment variable that holds the key of a service account, as JSON; without it and `credentials_file` the machine's own rights",
    ),
    Field::new("credentials_file", Kind::Str, "", "file that holds it instead, read at the start and at each reload"),
    Field::new("anonymous", Kind::Bool, "off", "requests show nobody's rights, for a store of one's own"),
    Field::new("url", Kind::Str, ENDPOINT, "where Google's interface is"),
    objects::INTERVAL,
    objects::ENCODING,
    shared::TIMEOUT,
    shared::TLS,
    format::field("native"),
];

const ENDPOINT: &str = "https://storage.googleapis.com";

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let objects = ObjectsPlan::check(map, problems);
    let bucket = check_name(map, "bucket", 3..=222, &['-', '_', '.'], problems);
    let prefix = check_prefix(map, problems);
    let endpoint = check_endpoint(map, ENDPOINT, problems);
    let credentials = SecretSource::check(map, "credentials_env", "credentials_file", problems);
    let anonymous = map.get("anonymous").map_or(Some(false), |at| at.bool(problems));
    let (timeout, tls) = (check_timeout(map, problems), check_tls(map, problems));
    let (credentials, anonymous) = (credentials?, anonymous?);
    if anonymous && credentials.is_some() {
        let message = "`anonymous` has no credentials".into();
        problems.error_hint(map.node, message, "leave one of the two out");
        return None;
    }
    Some(Box::new(Plan {
        objects: objects?,
        bucket: bucket?,
        prefix: prefix?,
        endpoint: endpoint?,
        credentials,
        anonymous,
        timeout: timeout?,
        tls: tls?,
    }))
}

#[derive(Debug)]
#[cfg_attr(not(feature = "object-store"), expect(dead_code, reason = "only the client reads it"))]
struct Plan {
    objects: ObjectsPlan,
    bucket: String,
    prefix: String,
    endpoint: Url,
    credentials: Option<SecretSource>,
    anonymous: bool,
    timeout: Duration,
    tls: ClientPlan,
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        client::build(self, cx)
    }
}
