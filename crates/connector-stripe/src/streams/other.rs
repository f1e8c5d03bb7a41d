//! Files, events, reports, identity, terminals and what else an account has.

use super::{Inner, Stream};

/// The streams.
pub(super) const STREAMS: &[Stream] = &[
    Stream::new(
        "apple_pay_domains",
        "/v1/apple_pay/domains",
        "apple_pay_domain",
    )
    .unfiltered(),
    Stream::new("climate_orders", "/v1/climate/orders", "climate.order")
        .unfiltered()
        .note("needs Climate Orders"),
    Stream::new("country_specs", "/v1/country_specs", "country_spec")
        .unfiltered()
        .note("Stripe's, the same for every account"),
    Stream::new("events", "/v1/events", "event")
        .note("kept by Stripe for 30 days; `data` is in the account's API version, not ours"),
    Stream::new("exchange_rates", "/v1/exchange_rates", "exchange_rate")
        .unfiltered()
        .note("Stripe's, the same for every account"),
    Stream::new("file_links", "/v1/file_links", "file_link").whole(),
    Stream::new("files", "/v1/files", "file")
        .rate(20)
        .inner(&[Inner {
            member: "links",
            path: "/v1/file_links",
            query: &[("file", "{id}")],
        }])
        .note("descriptions; contents are not read"),
    Stream::new(
        "forwarding_requests",
        "/v1/forwarding/requests",
        "forwarding.request",
    )
    .note("needs the Vault and Forward API"),
    Stream::new(
        "identity_verification_reports",
        "/v1/identity/verification_reports",
        "identity.verification_report",
    )
    .note("needs Identity"),
    Stream::new(
        "identity_verification_sessions",
        "/v1/identity/verification_sessions",
        "identity.verification_session",
    )
    .note("needs Identity"),
    Stream::new(
        "reporting_report_runs",
        "/v1/reporting/report_runs",
        "reporting.report_run",
    ),
    Stream::new(
        "reporting_report_types",
        "/v1/reporting/report_types",
        "reporting.report_type",
    )
    .unfiltered()
    .one_page()
    .note("Stripe's, the same for every account"),
    Stream::new(
        "sigma_scheduled_query_runs",
        "/v1/sigma/scheduled_query_runs",
        "scheduled_query_run",
    )
    .unfiltered()
    .note("needs Sigma"),
    Stream::new(
        "terminal_configurations",
        "/v1/terminal/configurations",
        "terminal.configuration",
    )
    .unfiltered(),
    Stream::new(
        "terminal_locations",
        "/v1/terminal/locations",
        "terminal.location",
    )
    .unfiltered(),
    Stream::new(
        "terminal_readers",
        "/v1/terminal/readers",
        "terminal.reader",
    )
    .unfiltered(),
    Stream::new(
        "webhook_endpoints",
        "/v1/webhook_endpoints",
        "webhook_endpoint",
    )
    .unfiltered(),
];
