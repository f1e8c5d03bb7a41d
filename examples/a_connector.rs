//! A connector for another API, here one with customers that are listed newest first and walked by
//! their ids.
//!
//! `ACME_API_KEY=… ACME_BASE_URL=… cargo run -p pipeline-examples --example a_connector` prints
//! what it can read.
#![expect(clippy::print_stdout, reason = "printing is what the example does")]

use std::sync::Arc;

use pipeline_core::http::{Bearer, HttpClient};
use pipeline_core::paginate::AfterLastId;
use pipeline_core::rate_limit::Quota;
use pipeline_core::slice::TimeSlicer;
use pipeline_core::{
    BuildContext, Connector, ConnectorConfig, DataType, DeclarativeConnector, Endpoint, Result,
    Schema, Stream, TimeFormat,
};
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

/// What a user writes. The JSON Schema comes from here, and the schema marks the secret.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcmeConfig {
    /// The account's key.
    #[schemars(with = "String", extend("writeOnly" = true))]
    pub(crate) api_key: SecretString,
    /// Where the API is.
    #[schemars(with = "String")]
    pub(crate) base_url: Url,
}

impl ConnectorConfig for AcmeConfig {
    const NAME: &'static str = "acme";
    const READS: &'static str = "Acme: customers of one account";

    fn build(self, context: BuildContext) -> Result<Arc<dyn Connector>> {
        let client =
            HttpClient::builder(&context, self.base_url).authenticator(Bearer::new(self.api_key));
        let client = client
            .quota("account", Quota::per_second(25).share(0.8))
            .build()?;
        Ok(Arc::new(DeclarativeConnector::new(
            client,
            vec![customers()],
        )))
    }
}

/// One list: how it is requested, walked, and cut by time, and what its records look like.
fn customers() -> Endpoint {
    let columns = Schema::default()
        .with("id", DataType::String)
        .with("email", DataType::String)
        .with("created", DataType::Timestamp(TimeFormat::UnixSeconds));
    Endpoint::get("customers", "/v1/customers")
        .records("data")
        .stream(Stream::new("customers", columns).primary_key(["id"]))
        .query("limit", "100")
        .paginate(AfterLastId {
            param: "starting_after",
            more: "has_more",
            id: "id",
        })
        .slices(TimeSlicer::newest_first(
            "created[gte]",
            "created[lt]",
            TimeFormat::UnixSeconds,
        ))
        .cursor("created", TimeFormat::UnixSeconds)
        .incremental()
        .buckets(["account"])
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let (api_key, base_url) = (
        std::env::var("ACME_API_KEY")?.into(),
        std::env::var("ACME_BASE_URL")?.parse()?,
    );
    let acme = AcmeConfig { api_key, base_url }.build(BuildContext::new("acme"))?;
    println!("{}", serde_json::to_string_pretty(&acme.check(&[]).await?)?);
    Ok(())
}
