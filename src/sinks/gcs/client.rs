//! The library's client of Google Cloud Storage, with the credentials of the configuration.

use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};

use super::Plan;
use crate::sinks::objects::remote::{Remote, Wire};
use crate::sinks::{BuildCx, Sink, SinkError};

pub(super) fn build(plan: &Plan, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
    let wire = Wire::build(&plan.endpoint, &plan.tls, plan.timeout, &cx.base)?;
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&plan.bucket)
        .with_base_url(&plan.endpoint.base())
        .with_retry(Wire::no_retries())
        .with_crypto_provider(Wire::crypto())
        .with_http_connector(wire.clone());
    if let Some(source) = &plan.credentials {
        builder = builder.with_service_account_key(source.read(&cx.base)?.reveal());
    }
    if plan.anonymous {
        let nobody = GcpCredential { bearer: String::new() };
        builder = builder.with_skip_signature(true).with_credentials(Arc::new(StaticCredentialProvider::new(nobody)));
    }
    // What the library says of credentials may show a part of them.
    let unusable = match &plan.credentials {
        Some(_) => "the credentials are no key of a service account (JSON with `client_email` and `private_key`)",
        None => "the machine's own credentials for Google cannot be used; name a service account's key",
    };
    let store = builder.build().map_err(|_| SinkError::Other(unusable.into()))?;
    Ok(plan.objects.sink(Remote::new(store, &plan.prefix, &wire, hint), cx))
}

fn hint(code: &str) -> &'static str {
    match code {
        "AccessDenied" => {
            "; the account needs the right storage.objects.create (and storage.objects.delete to write a part again)"
        }
        "NoSuchBucket" => "; check `bucket`",
        "InvalidAuthentication" | "AuthenticationRequired" | "InvalidSecurity" => "; check the credentials",
        "UserProjectAccountProblem" | "AccountProblem" => "; check the account's billing",
        _ => "",
    }
}
