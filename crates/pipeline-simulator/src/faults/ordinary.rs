//! What the vendors refuse to an ordinary account: products that few have, and lists that nobody
//! can read.

use super::rule::{Rule, Spoil};
use crate::Vendor;

/// The refusals of one vendor. Some are in words that its reference has, and some in words that
/// nothing knows: a reader that only gets along with the former will not with the vendor's next
/// product.
pub(super) fn rules(vendor: Vendor) -> Vec<Rule> {
    match vendor {
        Vendor::Stripe => stripe(),
        Vendor::Zendesk => zendesk(),
        Vendor::Mixpanel => mixpanel(),
    }
}

/// An account that sells something online, and does nothing else with Stripe.
fn stripe() -> Vec<Rule> {
    let unrecognized = |path: &str| {
        let shown = path.trim_end_matches("/**");
        Rule::refuse(
            path,
            400,
            format!(
                "Unrecognized request URL (GET: {shown}). (Hint: Have you been onboarded to this \
                 product?)"
            ),
        )
    };
    vec![
        Rule::refuse(
            "/v1/billing/credit_balance_transactions",
            400,
            "Must provide customer or customer_account.",
        )
        .code("parameter_missing")
        .without("customer")
        .without("customer_account"),
        unrecognized("/v1/treasury/**"),
        Rule::refuse(
            "/v1/issuing/**",
            400,
            "Your account is not set up to use Issuing.",
        ),
        Rule::refuse(
            "/v1/forwarding/**",
            400,
            "Contact us to have requests forwarded from your account.",
        ),
        Rule::refuse(
            "/v1/sigma/**",
            403,
            "Subscribe to Sigma in the dashboard to use this.",
        ),
        Rule::refuse(
            "/v1/exchange_rates",
            404,
            "Unrecognized request URL (GET: /v1/exchange_rates).",
        ),
        Rule::refuse(
            "/v1/climate/**",
            400,
            "Climate orders are not offered in your country.",
        ),
        Rule::refuse(
            "/v1/identity/**",
            400,
            "Your account is not set up to use Identity. Start at the dashboard.",
        ),
        Rule::refuse(
            "/v1/financial_connections/**",
            400,
            "You have not registered for live access to Financial Connections.",
        ),
        Rule::refuse(
            "/v1/accounts",
            400,
            "Only platforms that have signed up for Connect can list accounts.",
        ),
    ]
}

/// An account on the smallest plan without a Help Center, read by an administrator.
fn zendesk() -> Vec<Rule> {
    let forbidden = "You do not have access to this page.";
    vec![
        Rule::poison("/api/v2/help_center/**", Spoil::Redirect),
        Rule::poison("/api/v2/community/**", Spoil::Page(404)),
        Rule::refuse("/api/v2/queues", 422, "omnichannel routing is not enabled"),
        Rule::refuse("/api/v2/audit_logs", 403, forbidden),
        Rule::refuse("/api/v2/custom_objects", 403, forbidden),
        Rule::refuse("/api/v2/routing/**", 403, forbidden),
        Rule::refuse(
            "/api/v2/agent_availabilities/**",
            402,
            "this is not part of your plan",
        ),
        Rule::refuse("/api/v2/workspaces", 400, "contextual workspaces are off"),
        Rule::refuse(
            "/api/v2/deletion_schedules",
            423,
            "this account is locked for changes",
        ),
        Rule::refuse("/api/v2/group_slas/**", 451, "not available in your region"),
        Rule::refuse("/api/v2/slas/**", 403, forbidden),
    ]
}

/// A project on the free plan: it may export its events, and query nothing.
fn mixpanel() -> Vec<Rule> {
    let upgrade = "Your plan does not allow API calls. Upgrade at mixpanel.com/pricing";
    vec![
        Rule::refuse("/api/query/**", 402, upgrade),
        Rule::refuse(
            "/api/app/projects/*/schemas",
            403,
            "this role may not read schemas",
        ),
        Rule::refuse(
            "/api/app/projects/*/warehouse-sources/**",
            403,
            "warehouse connectors are not part of the plan",
        ),
        Rule::poison("/api/app/projects/*/annotations/tags", Spoil::Page(404)),
        Rule::refuse(
            "/lookup-tables",
            400,
            "lookup tables are not enabled for this project",
        ),
    ]
}
