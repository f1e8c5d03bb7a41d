//! The connectors that this program knows. A new one is a line here and a line in `Cargo.toml`.

use connector_mixpanel::MixpanelConfig;
use connector_stripe::StripeConfig;
use connector_zendesk::ZendeskConfig;
use pipeline_core::Registry;

/// All connectors.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.add::<MixpanelConfig>().add::<StripeConfig>().add::<ZendeskConfig>();
    registry
}
