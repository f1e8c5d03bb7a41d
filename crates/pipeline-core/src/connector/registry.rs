//! The connectors that a program has, by name.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::Arc;

use super::{Connector, ConnectorConfig, config_schema};
use crate::error::{Error, ErrorKind, Result};
use crate::http::BuildContext;

type Build =
    Box<dyn Fn(serde_json::Value, BuildContext) -> Result<Arc<dyn Connector>> + Send + Sync>;

/// The connectors that a program knows, added one by one.
#[derive(Default)]
pub struct Registry {
    connectors: BTreeMap<&'static str, Registered>,
}

struct Registered {
    reads: &'static str,
    schema: serde_json::Value,
    build: Build,
}

impl Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.connectors.keys()).finish()
    }
}

impl Registry {
    /// Adds a connector.
    pub fn add<C: ConnectorConfig>(&mut self) -> &mut Self {
        let build = |config: serde_json::Value, context: BuildContext| {
            let config: C = serde_path_to_error::deserialize(config).map_err(|error| {
                Error::new(ErrorKind::ConfigInvalid, error.inner().to_string())
                    .with_context("field", error.path().to_string())
            })?;
            config.build(context)
        };
        let schema = config_schema::<C>();
        self.connectors.insert(
            C::NAME,
            Registered {
                reads: C::READS,
                schema,
                build: Box::new(build),
            },
        );
        self
    }

    /// The known names, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.connectors.keys().copied()
    }

    /// The JSON Schema of a connector's configuration.
    pub fn spec(&self, name: &str) -> Result<&serde_json::Value> {
        Ok(&self.get(name)?.schema)
    }

    /// What a connector reads: [`ConnectorConfig::READS`].
    pub fn reads(&self, name: &str) -> Result<&'static str> {
        Ok(self.get(name)?.reads)
    }

    /// Builds a connector from its configuration.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] with the context `field`, the path of the wrong member.
    pub fn build(
        &self,
        name: &str,
        config: serde_json::Value,
        context: BuildContext,
    ) -> Result<Arc<dyn Connector>> {
        (self.get(name)?.build)(config, context)
    }

    fn get(&self, name: &str) -> Result<&Registered> {
        self.connectors.get(name).ok_or_else(|| {
            let known: Vec<_> = self.names().collect();
            Error::new(
                ErrorKind::ConfigInvalid,
                format!("unknown connector `{name}`"),
            )
            .with_context("field", "connector")
            .with_help(format!("known connectors: {}", known.join(", ")))
        })
    }
}
