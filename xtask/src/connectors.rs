//! The connectors whose fixtures are tested. A new one is a line here and a line in `Cargo.toml`.

use std::path::Path;

use pipeline_testkit::{Report, Update, run_suite};

/// Runs a connector's suite on the fixtures in a folder.
type Suite = fn(&Path, Update) -> Report;

/// All connectors, by name.
pub(crate) const CONNECTORS: &[(&str, Suite)] = &[
    ("mixpanel", run_suite::<connector_mixpanel::MixpanelConfig>),
    ("stripe", run_suite::<connector_stripe::StripeConfig>),
    ("zendesk", run_suite::<connector_zendesk::ZendeskConfig>),
];
