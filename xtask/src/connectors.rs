//! The connectors whose fixtures are tested. A new one is a line here and a line in `Cargo.toml`.

use std::path::Path;

use connector_mixpanel::MixpanelConfig;
use connector_stripe::StripeConfig;
use connector_zendesk::ZendeskConfig;
use pipeline_testkit::{Report, Update, run_suite};

/// Runs a connector's suite on the fixtures in a folder.
type Suite = fn(&Path, Update) -> Report;

/// All connectors, by name.
pub(crate) const CONNECTORS: &[(&str, Suite)] =
    &[("mixpanel", run_suite::<MixpanelConfig>), ("stripe", run_suite::<StripeConfig>), ("zendesk", run_suite::<ZendeskConfig>)];
