//! From when on a source has data.

use connector_stripe::StripeConfig;
use pipeline_core::{BuildContext, ErrorKind};
use serde_json::json;

/// The same of every vendor: a start in the future is refused, in the same words.
#[test]
fn a2_a_start_in_the_future_is_refused_by_every_vendor() {
    let mut registry = pipeline_core::Registry::default();
    registry
        .add::<StripeConfig>()
        .add::<connector_zendesk::ZendeskConfig>()
        .add::<connector_mixpanel::MixpanelConfig>();
    let configs = [
        ("stripe", json!({ "api_key": "sk_test_a" })),
        (
            "zendesk",
            json!({ "subdomain": "acme", "email": "a@example.com", "api_token": "t" }),
        ),
        (
            "mixpanel",
            json!({ "project_id": 1, "username": "u", "secret": "s" }),
        ),
    ];
    for (vendor, config) in configs {
        for (start, is_taken) in [
            ("2026-01-31", true),
            ("2999-01-01", false),
            ("9999-12-31", false),
            ("soon", false),
        ] {
            let mut config = config.clone();
            config["start_date"] = json!(start);
            let built = registry.build(vendor, config, BuildContext::default());
            let error = built.err().map(|error| {
                (
                    error.kind(),
                    error.context_value("field").unwrap_or_default().to_owned(),
                )
            });
            assert_eq!(
                error,
                (!is_taken).then(|| (ErrorKind::ConfigInvalid, "start_date".to_owned())),
                "{vendor}: {start}"
            );
        }
    }
}
