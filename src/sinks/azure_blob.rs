//! Objects in Azure Blob Storage, with an account's key, a shared access signature, or the
//! machine's own identity.
//!
//! Objects are made by [`super::objects`]; each is a block blob, written whole by one request. It
//! must never list, read or delete what is there.

#[cfg(feature = "object-store")]
mod client;
#[cfg(test)]
mod tests;

use std::time::Duration;

#[cfg(not(feature = "object-store"))]
use super::absent as client;
use super::http::secret::SecretSource;
use super::http::url::Url;
use super::http::{self as shared, check_timeout, check_word};
use super::objects::{self, ObjectsPlan, check_endpoint, check_name, check_prefix, check_tls};
use super::{BuildCx, Formats, Sink, SinkError, SinkKind, SinkPlan};
use crate::config::node::Map;
use crate::config::problem::Problems;
use crate::config::shape::{Field, Kind};
use crate::format;
use crate::tls::client::ClientPlan;

/// The table's entry.
pub const KIND: SinkKind = SinkKind {
    name: "azure_blob",
    doc: "objects of gzipped lines, or Parquet, in Azure Blob Storage; needs the feature `object-store`",
    fields: FIELDS,
    formats: Formats::Any("native"),
    check,
};

const FIELDS: &[Field] = &[
    Field::required("account", Kind::Str, "the storage account"),
    Field::required("container", Kind::Str, "the container, which must exist"),
    objects::PREFIX,
    Field::new("access_key_env", Kind::Str, "", "environment variable that holds a key of the account"),
    Field::new("access_key_file", Kind::Str, "", "file that holds it instead, read at the start and at each reload"),
    Field::new("sas_token_env", Kind::Str, "", "environment variable that holds a shared access signature"),
    Field::new("sas_token_file", Kind::Str, "", "file that holds it instead, read at the start and at each reload"),
    Field::new("client_id", Kind::Str, "", "without a key and a signature: which of the machine's identities to use"),
    Field::new("url", Kind::Str, "https://ACCOUNT.blob.core.windows.net", "where Azure's interface is"),
    objects::INTERVAL,
    objects::ENCODING,
    shared::TIMEOUT,
    shared::TLS,
    format::field("native"),
];

fn check(map: &Map<'_>, problems: &mut Problems) -> Option<Box<dyn SinkPlan>> {
    let objects = ObjectsPlan::check(map, problems);
    let account = check_name(map, "account", 3..=24, &[], problems);
    let container = check_name(map, "container", 3..=63, &['-', '$'], problems);
    let prefix = check_prefix(map, problems);
    let (key, sas) = (
        SecretSource::check(map, "access_key_env", "access_key_file", problems),
        SecretSource::check(map, "sas_token_env", "sas_token_file", problems),
    );
    let client_id = check_word(map, "client_id", problems);
    let (timeout, tls) = (check_timeout(map, problems), check_tls(map, problems));
    let sign_in = match (key?, sas?, client_id?) {
        (None, None, client_id) => SignIn::Machine(client_id),
        (Some(key), None, None) => SignIn::Key(key),
        (None, Some(sas), None) => SignIn::Signature(sas),
        _ => {
            let message = "more than one way to sign in".into();
            problems.error_hint(map.node, message, "an access key, a shared access signature, or a `client_id`");
            return None;
        }
    };
    let account = account?;
    let usual = format!("https://{account}.blob.core.windows.net");
    let endpoint = check_endpoint(map, &usual, problems);
    Some(Box::new(Plan {
        objects: objects?,
        account,
        container: container?,
        prefix: prefix?,
        endpoint: endpoint?,
        sign_in,
        timeout: timeout?,
        tls: tls?,
    }))
}

#[derive(Debug)]
#[cfg_attr(not(feature = "object-store"), expect(dead_code, reason = "only the client reads it"))]
struct Plan {
    objects: ObjectsPlan,
    account: String,
    container: String,
    prefix: String,
    endpoint: Url,
    sign_in: SignIn,
    timeout: Duration,
    tls: ClientPlan,
}

#[derive(Debug)]
#[cfg_attr(not(feature = "object-store"), expect(dead_code, reason = "only the client reads it"))]
enum SignIn {
    Key(SecretSource),
    Signature(SecretSource),
    /// A workload's federated identity if the environment has one, else a managed identity, of
    /// this client.
    Machine(Option<String>),
}

impl SinkPlan for Plan {
    fn build(&self, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
        client::build(self, cx)
    }
}
