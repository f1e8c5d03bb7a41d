//! What a user may set, and how the database is opened.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use destination_sql::Deletes;
use pipeline_core::Result;
use pipeline_engine::{Destination, DestinationConfig, Location, OpenContext};
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::destination::PostgresDestination;
use crate::server;

/// Settings of the Postgres destination.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// The server, the role and the database: `postgres://role:password@host:5432/database`. Of
    /// its options, `sslmode=disable` counts where `tls` is not set.
    #[schemars(
        with = "String",
        extend("writeOnly" = true, "examples" = ["${DATABASE_URL}"])
    )]
    pub url: SecretString,
    /// The schema of the tables, in which `{source}` stands for the source's name. With it, tables
    /// are named as their streams; without it, as `<source>_<stream>`. Default: `{source}`.
    #[serde(default = "each_source")]
    pub schema: String,
    /// How the connection is protected. Default: `verify`; to this machine itself: `off`.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// A file with certificates, as PEM, of the authorities that may have signed the server's.
    /// Default: the authorities that this machine trusts.
    #[schemars(extend("format" = "path"))]
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// The type of columns that hold JSON. Default: `jsonb`.
    #[serde(default)]
    pub json: Json,
    /// What a tombstone does to its row. Default: `remove`.
    #[serde(default)]
    pub deletes: Deletes,
    /// True when the URL leads to a pooler that gives each transaction another connection, such as
    /// pgbouncer with `pool_mode = transaction`. Default: false.
    #[serde(default)]
    pub pooled: bool,
}

fn each_source() -> String {
    "{source}".to_owned()
}

/// How a connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// TLS with a server whose certificate is signed by a known authority and names its host.
    Verify,
    /// TLS with whatever server answers: nobody can listen, but somebody could pretend to be it.
    Encrypt,
    /// No TLS.
    Off,
}

/// The type of columns that hold JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Json {
    /// Parsed: it can be indexed and compared. It does not keep white space, the order of members,
    /// or members that come twice.
    #[default]
    Jsonb,
    /// Text as it came.
    Json,
}

impl PostgresConfig {
    /// Settings with defaults for everything but the URL.
    pub fn new(url: impl Into<SecretString>) -> Self {
        Self {
            url: url.into(),
            schema: each_source(),
            tls: None,
            ca: None,
            json: Json::default(),
            deletes: Deletes::default(),
            pooled: false,
        }
    }
}

#[async_trait]
impl DestinationConfig for PostgresConfig {
    const NAME: &'static str = "postgres";

    fn location(&self) -> Location {
        Location::Url(server::name_of(self.url.expose_secret()))
    }

    async fn open(&self, context: OpenContext) -> Result<Arc<dyn Destination>> {
        Ok(Arc::new(
            PostgresDestination::open_for(context.access, self.clone()).await?,
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn settings_are_checked_and_the_location_holds_no_password() {
        let config: PostgresConfig = serde_json::from_str(
            r#"{"url":"postgres://me:s3cret@db.example/shop?sslmode=require"}"#,
        )
        .unwrap();
        assert_eq!(
            (config.schema.as_str(), config.json, config.pooled),
            ("{source}", Json::Jsonb, false)
        );
        assert_eq!(
            config.location().to_string(),
            "postgres://db.example:5432/shop"
        );
        assert!(!format!("{config:?}").contains("s3cret"));
        serde_json::from_str::<PostgresConfig>(r#"{"url":"postgres://h/d","delete":"mark"}"#)
            .unwrap_err();
    }
}
