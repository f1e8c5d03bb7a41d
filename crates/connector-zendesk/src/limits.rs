//! The budgets of requests.

use pipeline_core::http::HttpClientBuilder;
use pipeline_core::rate_limit::Quota;

use crate::rates::ZendeskRates;

/// Every ticketing request, by plan.
pub(crate) const SUPPORT: &str = "support";

/// Incremental exports. No header shows this budget, so it must be counted.
pub(crate) const EXPORT: &str = "export";

/// Every request of Help Center and Community: a budget of the same size, counted apart.
pub(crate) const HELP_CENTER: &str = "help_center";

/// The export of the search index.
pub(crate) const SEARCH_EXPORT: &str = "search_export";

/// The list of deleted tickets.
pub(crate) const DELETED_TICKETS: &str = "deleted_tickets";

/// The audits of tickets, all tickets together.
pub(crate) const TICKET_AUDITS: &str = "ticket_audits";

/// The list of tags, by the name in its header.
pub(crate) const TAGS: &str = "tags-index";

/// The exports of Talk, counted apart from the others.
pub(crate) const TALK_EXPORT: &str = "talk_export";

/// The list of webhooks.
pub(crate) const WEBHOOKS: &str = "webhooks";

/// What the largest plan allows in a minute. Answers lower it to what the account's own plan
/// allows.
const LARGEST_PLAN: u32 = 2500;

/// Requests that go out at once before the first answer told the plan.
const BURST: u32 = 10;

/// Declares the buckets.
pub(crate) fn declare(
    builder: HttpClientBuilder,
    share: f64,
    plan_rpm: Option<u32>,
    export_rpm: u32,
) -> HttpClientBuilder {
    let support = Quota::per_minute(plan_rpm.unwrap_or(LARGEST_PLAN))
        .burst(BURST)
        .share(share);
    builder
        .quota(SUPPORT, support)
        .quota(HELP_CENTER, support)
        .quota(EXPORT, Quota::per_minute(export_rpm).burst(export_rpm))
        .quota(SEARCH_EXPORT, Quota::per_minute(100).share(share))
        .quota(DELETED_TICKETS, Quota::per_minute(10))
        .quota(TICKET_AUDITS, Quota::per_minute(450).share(share))
        .quota(TALK_EXPORT, Quota::per_minute(10).burst(10))
        .quota(WEBHOOKS, Quota::per_minute(100).share(share))
        .quota(TAGS, Quota::per_minute(100).share(share))
        .rate_headers(ZendeskRates { share })
}
