//! Files, events, reports, identity, terminals and what else an account has.

use pipeline_core::declarative::{ListDef, ParentRef, StreamDef};

use super::{created, kept, list};
use crate::vendor::{Facts, Pages, Stripe};

/// The lists.
pub(super) const LISTS: &[ListDef<Stripe>] = &[
    list("apple_pay_domains", "/v1/apple_pay/domains")
        .streams(&[StreamDef::generated("apple_pay_domains")])
        .facts(Facts::of("apple_pay_domain")),
    list("climate_orders", "/v1/climate/orders")
        .streams(&[StreamDef::generated("climate_orders").note("needs Climate Orders")])
        .facts(Facts::of("climate.order")),
    list("country_specs", "/v1/country_specs")
        .streams(&[
            StreamDef::generated("country_specs").note("Stripe's, the same for every account")
        ])
        .facts(Facts::of("country_spec")),
    created("events", "/v1/events")
        .streams(&[StreamDef::generated("events").note(
            "kept by Stripe for 30 days; `data` is in the account's API \
             version, not ours",
        )])
        .facts(Facts::of("event")),
    list("exchange_rates", "/v1/exchange_rates")
        .streams(&[
            StreamDef::generated("exchange_rates").note("Stripe's, the same for every account")
        ])
        .facts(Facts::of("exchange_rate")),
    kept("file_links", "/v1/file_links")
        .streams(&[StreamDef::generated("file_links")])
        .facts(Facts::of("file_link"))
        .full_refresh(),
    created("files", "/v1/files")
        .streams(&[StreamDef::generated("files").note("descriptions; contents are not read")])
        .facts(Facts::of("file").rate(20)),
    list("files.links", "/v1/file_links")
        .params(&[("file", "{id}")])
        .embedded_in(ParentRef::to("files"), "links"),
    created("forwarding_requests", "/v1/forwarding/requests")
        .streams(&[
            StreamDef::generated("forwarding_requests").note("needs the Vault and Forward API")
        ])
        .facts(Facts::of("forwarding.request")),
    created(
        "identity_verification_reports",
        "/v1/identity/verification_reports",
    )
    .streams(&[StreamDef::generated("identity_verification_reports").note("needs Identity")])
    .facts(Facts::of("identity.verification_report")),
    created(
        "identity_verification_sessions",
        "/v1/identity/verification_sessions",
    )
    .streams(&[StreamDef::generated("identity_verification_sessions").note("needs Identity")])
    .facts(Facts::of("identity.verification_session")),
    created("reporting_report_runs", "/v1/reporting/report_runs")
        .streams(&[StreamDef::generated("reporting_report_runs")])
        .facts(Facts::of("reporting.report_run")),
    list("reporting_report_types", "/v1/reporting/report_types")
        .streams(&[StreamDef::generated("reporting_report_types")
            .note("Stripe's, the same for every account")])
        .facts(Facts::of("reporting.report_type"))
        .pages(Pages::One),
    list(
        "sigma_scheduled_query_runs",
        "/v1/sigma/scheduled_query_runs",
    )
    .streams(&[StreamDef::generated("sigma_scheduled_query_runs").note("needs Sigma")])
    .facts(Facts::of("scheduled_query_run")),
    list("terminal_configurations", "/v1/terminal/configurations")
        .streams(&[StreamDef::generated("terminal_configurations")])
        .facts(Facts::of("terminal.configuration")),
    list("terminal_locations", "/v1/terminal/locations")
        .streams(&[StreamDef::generated("terminal_locations")])
        .facts(Facts::of("terminal.location")),
    list("terminal_readers", "/v1/terminal/readers")
        .streams(&[StreamDef::generated("terminal_readers")])
        .facts(Facts::of("terminal.reader")),
    list("webhook_endpoints", "/v1/webhook_endpoints")
        .streams(&[StreamDef::generated("webhook_endpoints")])
        .facts(Facts::of("webhook_endpoint")),
];
