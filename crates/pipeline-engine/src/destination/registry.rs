//! The destinations that a program can open.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::Arc;

use async_trait::async_trait;
use pipeline_core::{Error, ErrorKind, Result, config_schema};

use super::{Destination, DestinationConfig, Location, OpenContext};

/// The destinations that a program can open, added one by one.
#[derive(Default)]
pub struct DestinationRegistry {
    destinations: BTreeMap<&'static str, Registered>,
}

struct Registered {
    schema: serde_json::Value,
    configure: fn(serde_json::Value) -> Result<ConfiguredDestination>,
}

impl Debug for DestinationRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.destinations.keys()).finish()
    }
}

impl DestinationRegistry {
    /// Adds a destination.
    pub fn add<C: DestinationConfig>(&mut self) -> &mut Self {
        let schema = config_schema::<C>();
        self.destinations.insert(
            C::NAME,
            Registered {
                schema,
                configure: configure::<C>,
            },
        );
        self
    }

    /// The known names, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.destinations.keys().copied()
    }

    /// The JSON Schema of a destination's configuration.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] when the name is unknown.
    pub fn spec(&self, name: &str) -> Result<&serde_json::Value> {
        Ok(&self.get(name)?.schema)
    }

    /// Reads a destination's configuration, without opening it.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] with the context `field`, the path of the wrong member.
    pub fn configure(
        &self,
        name: &str,
        config: serde_json::Value,
    ) -> Result<ConfiguredDestination> {
        (self.get(name)?.configure)(config)
    }

    fn get(&self, name: &str) -> Result<&Registered> {
        self.destinations.get(name).ok_or_else(|| {
            let known: Vec<_> = self.names().collect();
            Error::new(
                ErrorKind::ConfigInvalid,
                format!("unknown destination `{name}`"),
            )
            .with_context("field", "type")
            .with_help(format!("known destinations: {}", known.join(", ")))
        })
    }
}

fn configure<C: DestinationConfig>(config: serde_json::Value) -> Result<ConfiguredDestination> {
    let config: C = serde_path_to_error::deserialize(config).map_err(|error| {
        Error::new(ErrorKind::ConfigInvalid, error.inner().to_string())
            .with_context("field", error.path().to_string())
    })?;
    Ok(ConfiguredDestination(Box::new(config)))
}

/// A destination of any type, ready to be opened.
#[derive(Debug)]
pub struct ConfiguredDestination(Box<dyn AnyConfig>);

impl ConfiguredDestination {
    /// See [`DestinationConfig::location`].
    pub fn location(&self) -> Location {
        self.0.location()
    }

    /// See [`DestinationConfig::exists`].
    pub async fn exists(&self) -> Result<bool> {
        self.0.exists().await
    }

    /// See [`DestinationConfig::open`].
    pub async fn open(&self, context: OpenContext) -> Result<Arc<dyn Destination>> {
        self.0.open(context).await
    }
}

/// The part of [`DestinationConfig`] that needs no type.
#[async_trait]
trait AnyConfig: Debug + Send + Sync {
    fn location(&self) -> Location;
    async fn exists(&self) -> Result<bool>;
    async fn open(&self, context: OpenContext) -> Result<Arc<dyn Destination>>;
}

#[async_trait]
impl<C: DestinationConfig> AnyConfig for C {
    fn location(&self) -> Location {
        DestinationConfig::location(self)
    }

    async fn exists(&self) -> Result<bool> {
        DestinationConfig::exists(self).await
    }

    async fn open(&self, context: OpenContext) -> Result<Arc<dyn Destination>> {
        DestinationConfig::open(self, context).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use schemars::JsonSchema;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Nowhere {
        #[allow(dead_code, reason = "read from the configuration only")]
        rows: u32,
    }

    #[async_trait]
    impl DestinationConfig for Nowhere {
        const NAME: &'static str = "nowhere";

        fn location(&self) -> Location {
            Location::Url("nowhere://".to_owned())
        }

        async fn open(&self, _: OpenContext) -> Result<Arc<dyn Destination>> {
            Err(Error::new(
                ErrorKind::Destination,
                "there is nothing to open",
            ))
        }
    }

    #[tokio::test]
    async fn a_destination_is_configured_by_its_name() {
        let mut registry = DestinationRegistry::default();
        registry.add::<Nowhere>();
        assert_eq!(registry.names().collect::<Vec<_>>(), ["nowhere"]);
        assert_eq!(
            registry.spec("nowhere").unwrap()["required"],
            serde_json::json!(["rows"])
        );
        let configured = registry
            .configure("nowhere", serde_json::json!({ "rows": 1 }))
            .unwrap();
        assert_eq!(
            (
                configured.location().to_string().as_str(),
                configured.exists().await.unwrap()
            ),
            ("nowhere://", true)
        );
        assert_eq!(
            configured
                .open(OpenContext::default())
                .await
                .unwrap_err()
                .kind(),
            ErrorKind::Destination
        );

        let wrong = registry
            .configure("nowhere", serde_json::json!({ "rows": "x" }))
            .unwrap_err();
        assert_eq!(
            (wrong.kind(), wrong.context_value("field")),
            (ErrorKind::ConfigInvalid, Some("rows"))
        );
        let unknown = registry
            .configure("elsewhere", serde_json::json!({}))
            .unwrap_err();
        assert_eq!(unknown.help(), Some("known destinations: nowhere"));
    }
}
