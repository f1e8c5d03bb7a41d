//! How a bucket is reached.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{ObjectStore, RetryConfig};
use pipeline_core::{Error, ErrorKind, Result};
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::remote::address::{Address, Scheme};
use crate::remote::client::Connector;
use crate::remote::error::StoreError;

/// Longest time in which a request is tried again.
const RETRY: Duration = Duration::from_mins(1);
const RETRIES: usize = 8;

/// How a bucket is reached: the table `[destination.storage]`. What is not set comes from the
/// environment, as the provider's own tools read it, or from the identity of the machine.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StorageConfig {
    /// Address of the service, for a store that is compatible with S3. Default: the provider's own.
    #[schemars(extend("format" = "uri"))]
    pub endpoint: Option<String>,
    /// Region of an S3 bucket. Default: `AWS_REGION`, or us-east-1.
    pub region: Option<String>,
    /// Access key of S3, together with `secret_access_key`.
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pub access_key_id: Option<SecretString>,
    /// Secret key of S3.
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pub secret_access_key: Option<SecretString>,
    /// Session token of temporary S3 keys.
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pub session_token: Option<SecretString>,
    /// Key of a Google service account, as the JSON that Google gives out.
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pub service_account_key: Option<SecretString>,
    /// Azure storage account. Default: `AZURE_STORAGE_ACCOUNT_NAME`.
    pub account: Option<String>,
    /// Key of the Azure storage account.
    #[schemars(with = "Option<String>", extend("writeOnly" = true))]
    pub account_key: Option<SecretString>,
    /// Allows an endpoint without TLS that is not on this machine. Default: false.
    #[serde(default)]
    pub allow_http: bool,
}

impl StorageConfig {
    /// Makes a client of a bucket; nothing is requested yet.
    pub(crate) fn store(
        &self,
        address: &Address,
        connector: Connector,
    ) -> Result<Arc<dyn ObjectStore>> {
        if let Some(endpoint) = &self.endpoint {
            self.check_endpoint(endpoint, Some("storage.endpoint"))?;
        }
        match address.scheme {
            Scheme::S3 => self.s3(address, connector),
            Scheme::Gs => self.gs(address, connector),
            Scheme::Az => self.az(address, connector),
        }
    }

    fn s3(&self, address: &Address, connector: Connector) -> Result<Arc<dyn ObjectStore>> {
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&address.bucket)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_disable_tagging(true)
            .with_retry(retry())
            .with_http_connector(connector);
        match (&self.access_key_id, &self.secret_access_key) {
            (Some(id), Some(secret)) => {
                builder = builder
                    .with_access_key_id(id.expose_secret())
                    .with_secret_access_key(secret.expose_secret());
                if let Some(token) = &self.session_token {
                    builder = builder.with_token(token.expose_secret());
                }
            }
            (None, None) => {}
            _ => {
                return Err(Error::new(
                    ErrorKind::ConfigInvalid,
                    "`access_key_id` and `secret_access_key` require each other",
                )
                .with_context("field", "storage"));
            }
        }
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        if let Some(region) = &self.region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = builder.get_config_value(&AmazonS3ConfigKey::Endpoint) {
            self.check_endpoint(&endpoint, None)?;
        }
        built(builder.build())
    }

    fn gs(&self, address: &Address, connector: Connector) -> Result<Arc<dyn ObjectStore>> {
        let mut builder = GoogleCloudStorageBuilder::from_env()
            .with_bucket_name(&address.bucket)
            .with_retry(retry())
            .with_http_connector(connector);
        if let Some(key) = &self.service_account_key {
            builder = builder.with_service_account_key(key.expose_secret());
        }
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_base_url(endpoint.trim_end_matches('/'));
        }
        built(builder.build())
    }

    fn az(&self, address: &Address, connector: Connector) -> Result<Arc<dyn ObjectStore>> {
        let mut builder = MicrosoftAzureBuilder::from_env()
            .with_container_name(&address.bucket)
            .with_disable_tagging(true)
            .with_retry(retry())
            .with_http_connector(connector);
        if let Some(account) = &self.account {
            builder = builder.with_account(account);
        }
        if let Some(key) = &self.account_key {
            builder = builder.with_access_key(key.expose_secret());
        }
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        if let Some(endpoint) = builder.get_config_value(&AzureConfigKey::Endpoint) {
            self.check_endpoint(&endpoint, None)?;
        }
        built(builder.build())
    }

    /// Fails for an endpoint that is not one, or to which data would go in the clear.
    fn check_endpoint(&self, endpoint: &str, field: Option<&'static str>) -> Result<()> {
        let invalid = |message: &'static str, help: &'static str| {
            let error = Error::new(ErrorKind::ConfigInvalid, message).with_help(help);
            Err(match field {
                Some(field) => error.with_context("field", field),
                None => error,
            })
        };
        let url = match endpoint.parse::<url::Url>() {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
            _ => {
                return invalid(
                    "the endpoint is not the address of a service",
                    "write it as https://host",
                );
            }
        };
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return invalid(
                "the endpoint has more than a host, a port and a path",
                "put the keys into `access_key_id` and `secret_access_key`",
            );
        }
        if url.scheme() == "http" && !self.allow_http && !is_this_machine(&url) {
            return invalid(
                "the endpoint has no TLS, so that data could be read on the way",
                "use https://, or set `allow_http = true` in a network that you trust",
            );
        }
        Ok(())
    }
}

fn is_this_machine(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn retry() -> RetryConfig {
    RetryConfig {
        max_retries: RETRIES,
        retry_timeout: RETRY,
        ..RetryConfig::default()
    }
}

fn built<S: ObjectStore>(built: object_store::Result<S>) -> Result<Arc<dyn ObjectStore>> {
    match built {
        Ok(store) => Ok(Arc::new(store)),
        Err(error) => Err(Error::new(
            ErrorKind::ConfigInvalid,
            "the settings of the object store cannot be used",
        )
        .with_context("field", "storage")
        .with_help("check `[destination.storage]`, and the provider's variables in the environment")
        .with_source(StoreError::new(&error))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;

    fn refused(address: &str, storage: &str) -> Error {
        let storage: StorageConfig = serde_json::from_str(storage).unwrap();
        let address = Address::of(Path::new(address)).unwrap().unwrap();
        storage
            .store(&address, Connector::new().unwrap())
            .unwrap_err()
    }

    #[test]
    fn an_endpoint_in_the_clear_has_to_be_allowed() {
        let storage = r#"{"endpoint":"http://store.example:9000"}"#;
        let error = refused("s3://lake", storage);
        assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
        assert!(error.help().unwrap().contains("allow_http"), "{error:?}");
        for allowed in [
            r#"{"endpoint":"http://store.example:9000","allow_http":true}"#,
            r#"{"endpoint":"http://127.0.0.1:9000"}"#,
            r#"{"endpoint":"https://store.example"}"#,
        ] {
            let storage: StorageConfig = serde_json::from_str(allowed).unwrap();
            let address = Address::of(Path::new("s3://lake")).unwrap().unwrap();
            storage.store(&address, Connector::new().unwrap()).unwrap();
        }
    }

    #[test]
    fn settings_that_cannot_be_used_show_no_secret() {
        for (address, storage) in [
            ("s3://lake", r#"{"secret_access_key":"hidden-word"}"#),
            ("s3://lake", r#"{"endpoint":"https://x:hidden-word@host"}"#),
            ("s3://lake", r#"{"endpoint":"hidden-word"}"#),
            ("gs://lake", r#"{"service_account_key":"hidden-word"}"#),
            (
                "az://lake",
                r#"{"account":"a","account_key":"hidden-word!"}"#,
            ),
        ] {
            let error = refused(address, storage);
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error:?}");
            assert!(!format!("{error:?}").contains("hidden-word"), "{error:?}");
        }
    }
}
