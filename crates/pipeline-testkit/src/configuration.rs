//! Configurations as a user writes them: what becomes of each.

use std::sync::Arc;

use pipeline_core::{BuildContext, Connector, ConnectorConfig, ErrorKind, Registry, Result};
use serde_json::Value;

/// Builds a connector from its configuration as a program does that knows it by name.
///
/// # Errors
/// What the registry or the connector has against it.
pub fn build<C: ConnectorConfig>(config: Value) -> Result<Arc<dyn Connector>> {
    let mut registry = Registry::default();
    registry.add::<C>();
    registry.build(C::NAME, config, BuildContext::default())
}

/// A working configuration, changed one way after the other: a line each that says `ok`, or what is
/// wrong and what to do. A member that a change sets to null is removed.
///
/// # Panics
/// When a configuration is refused as anything but [invalid](ErrorKind::ConfigInvalid).
pub fn verdicts<C: ConnectorConfig>(
    config: &Value,
    changes: impl IntoIterator<Item = Value>,
) -> String {
    let line = |change: Value| format!("{change}: {}", verdict::<C>(changed(config, &change)));
    changes.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

fn verdict<C: ConnectorConfig>(config: Value) -> String {
    match build::<C>(config) {
        Ok(_) => "ok".to_owned(),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid, "{error}");
            format!("{error}; {}", error.help().unwrap_or("no help"))
        }
    }
}

fn changed(config: &Value, changes: &Value) -> Value {
    let mut members = config.as_object().cloned().unwrap_or_default();
    for (name, value) in changes.as_object().into_iter().flatten() {
        match value {
            Value::Null => drop(members.remove(name)),
            value => drop(members.insert(name.clone(), value.clone())),
        }
    }
    members.into()
}
