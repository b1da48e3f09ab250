//! The library's client of Azure Blob Storage, with the credentials of the configuration.

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use super::{Plan, SignIn};
use crate::sinks::objects::remote::{Remote, Wire};
use crate::sinks::{BuildCx, Sink, SinkError};

/// What Azure's workload identity puts into the environment of a container.
const FEDERATED: &[(&str, AzureConfigKey)] = &[
    ("AZURE_CLIENT_ID", AzureConfigKey::ClientId),
    ("AZURE_TENANT_ID", AzureConfigKey::AuthorityId),
    ("AZURE_FEDERATED_TOKEN_FILE", AzureConfigKey::FederatedTokenFile),
    ("AZURE_AUTHORITY_HOST", AzureConfigKey::AuthorityHost),
];

pub(super) fn build(plan: &Plan, cx: &BuildCx) -> Result<Box<dyn Sink>, SinkError> {
    let wire = Wire::build(&plan.endpoint, &plan.tls, plan.timeout, &cx.base)?;
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(&plan.account)
        .with_container_name(&plan.container)
        .with_endpoint(plan.endpoint.base())
        .with_allow_http(true)
        .with_retry(Wire::no_retries())
        .with_crypto_provider(Wire::crypto())
        .with_http_connector(wire.clone());
    match &plan.sign_in {
        SignIn::Key(source) => builder = builder.with_access_key(source.read(&cx.base)?.reveal()),
        SignIn::Signature(source) => {
            let text = source.read(&cx.base)?;
            builder = builder.with_config(AzureConfigKey::SasKey, text.reveal().trim_start_matches('?'));
        }
        SignIn::Machine(client_id) => {
            for (name, key) in FEDERATED {
                if let Ok(value) = std::env::var(name) {
                    builder = builder.with_config(*key, value);
                }
            }
            if let Some(id) = client_id {
                builder = builder.with_client_id(id);
            }
        }
    }
    // What the library says of credentials may show a part of them.
    let unusable = "the credentials cannot be used: an access key is base64, a signature begins with `sv=`";
    let store = builder.build().map_err(|_| SinkError::Other(unusable.into()))?;
    Ok(plan.objects.sink(Remote::new(store, &plan.prefix, &wire, hint), cx))
}

fn hint(code: &str) -> &'static str {
    match code {
        "AuthenticationFailed" | "InvalidAuthenticationInfo" | "NoAuthenticationInformation" => {
            "; check the key or the signature, and this machine's clock"
        }
        "AuthorizationFailure" | "AuthorizationPermissionMismatch" => {
            "; a signature needs the rights c and w, an identity the role Storage Blob Data Contributor"
        }
        "ContainerNotFound" | "ResourceNotFound" => "; check `container`",
        "AccountIsDisabled" => "; check the account",
        _ => "",
    }
}
