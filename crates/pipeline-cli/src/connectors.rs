//! The connectors that this program knows. A new one is a line here and a line in `Cargo.toml`.

use pipeline_core::Registry;

/// All connectors.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.add::<connector_mixpanel::MixpanelConfig>();
    registry.add::<connector_stripe::StripeConfig>();
    registry.add::<connector_zendesk::ZendeskConfig>();
    registry
}
