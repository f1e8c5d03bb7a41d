//! What is sold, and what is billed for it.

use pipeline_core::RawRecord;
use pipeline_core::TimeFormat::UnixSeconds;
use pipeline_core::declarative::{ListDef, ParentRef, StreamDef};

use super::{created, kept, list};
use crate::vendor::{Facts, Requires, Slices, Stripe};

/// Such objects are active or archived, and some lists show only one kind unless asked for the
/// other.
const ACTIVE: &[&str] = &["true", "false"];

/// The lists.
pub(super) const LISTS: &[ListDef<Stripe>] = &[
    list(
        "active_entitlements",
        "/v1/entitlements/active_entitlements",
    )
    .streams(&[StreamDef::generated("active_entitlements")])
    .facts(Facts::of("entitlements.active_entitlement"))
    .params(&[("customer", "{id}")])
    .child_of(ParentRef::to("customers").include(&[("id", "customer")]))
    .incremental(),
    list("billing_alerts", "/v1/billing/alerts")
        .streams(&[StreamDef::generated("billing_alerts")])
        .facts(Facts::of("billing.alert")),
    list("billing_meters", "/v1/billing/meters")
        .streams(&[StreamDef::generated("billing_meters")])
        .facts(Facts::of("billing.meter")),
    list(
        "billing_portal_configurations",
        "/v1/billing_portal/configurations",
    )
    .streams(&[StreamDef::generated("billing_portal_configurations")])
    .facts(Facts::of("billing_portal.configuration")),
    kept("coupons", "/v1/coupons")
        .streams(&[StreamDef::generated("coupons")])
        .facts(
            Facts::of("coupon")
                .expand(&["applies_to", "currency_options"])
                .revision(2),
        ),
    list(
        "credit_balance_transactions",
        "/v1/billing/credit_balance_transactions",
    )
    .streams(&[StreamDef::generated("credit_balance_transactions")
        .note("Stripe lists those of a customer only")])
    .facts(Facts::of("billing.credit_balance_transaction").revision(2))
    .params(&[("credit_grant", "{id}"), ("customer", "{customer}")])
    .child_of(
        ParentRef::to("credit_grants")
            .filter(has_customer)
            .include(&[("id", "credit_grant")]),
    ),
    list("credit_grants", "/v1/billing/credit_grants")
        .streams(&[StreamDef::generated("credit_grants")])
        .facts(Facts::of("billing.credit_grant")),
    list(
        "credit_note_line_items",
        "/v1/credit_notes/{credit_note}/lines",
    )
    .streams(&[StreamDef::generated("credit_note_line_items").key(&["credit_note_id", "id"])])
    .facts(Facts::of("credit_note_line_item"))
    .embedded_in(
        ParentRef::to("credit_notes").include(&[("id", "credit_note_id")]),
        "lines",
    ),
    created("credit_notes", "/v1/credit_notes")
        .streams(&[StreamDef::generated("credit_notes")])
        .facts(Facts::of("credit_note")),
    list("entitlement_features", "/v1/entitlements/features")
        .streams(&[StreamDef::generated("entitlement_features")])
        .facts(Facts::of("entitlements.feature"))
        .slices(Slices::By("archived", &["false", "true"])),
    created("invoice_items", "/v1/invoiceitems")
        .streams(&[StreamDef::generated("invoice_items")
            .note("filtered by `created`, which the object calls `date`")])
        .facts(
            Facts::of("invoiceitem")
                .expand(&["discounts"])
                .spare(&["discounts"])
                .revision(2),
        )
        .cursor("date", UnixSeconds),
    list("invoice_line_items", "/v1/invoices/{invoice}/lines")
        .streams(&[StreamDef::generated("invoice_line_items")
            .key(&["invoice", "id"])
            .note(
                "legacy ids repeat from one invoice to the next, so the invoice \
                 is part of the key",
            )])
        .facts(Facts::of("line_item").expand(&["discounts"]))
        .embedded_in(
            ParentRef::to("invoices").include(&[("id", "invoice")]),
            "lines",
        ),
    created("invoice_payments", "/v1/invoice_payments")
        .streams(&[StreamDef::generated("invoice_payments")])
        .facts(Facts::of("invoice_payment")),
    list(
        "invoice_rendering_templates",
        "/v1/invoice_rendering_templates",
    )
    .streams(&[StreamDef::generated("invoice_rendering_templates")])
    .facts(Facts::of("invoice_rendering_template")),
    created("invoices", "/v1/invoices")
        .streams(&[StreamDef::generated("invoices").note("deleted drafts are not listed")])
        .facts(
            Facts::of("invoice")
                .expand(&["discounts", "payments", "lines.data.discounts"])
                .spare(&["discounts", "lines.data.discounts"])
                .revision(2),
        ),
    list("invoices.payments", "/v1/invoice_payments")
        .params(&[("invoice", "{id}")])
        .embedded_in(ParentRef::to("invoices"), "payments"),
    kept("plans", "/v1/plans")
        .streams(&[StreamDef::generated("plans").note("what prices were called before")])
        .facts(Facts::of("plan").expand(&["tiers"])),
    kept("prices", "/v1/prices")
        .streams(&[StreamDef::generated("prices").note(
            "active and inactive ones are separate lists; inline prices are \
             not listed",
        )])
        .facts(Facts::of("price").expand(&["tiers", "currency_options"]))
        .slices(Slices::EverBy("active", ACTIVE)),
    list("product_features", "/v1/products/{product}/features")
        .streams(&[StreamDef::generated("product_features").note(
            "what is attached or removed without an event of the product is \
             seen after 7 days, or `stream_refresh_days`",
        )])
        .facts(Facts::of("product_feature").revision(2).again_after(7))
        .child_of(ParentRef::to("products").include(&[("id", "product_id")]))
        .incremental(),
    kept("products", "/v1/products")
        .streams(&[StreamDef::generated("products")])
        .facts(Facts::of("product")),
    created("promotion_codes", "/v1/promotion_codes")
        .streams(&[StreamDef::generated("promotion_codes")])
        .facts(Facts::of("promotion_code")),
    list("quote_line_items", "/v1/quotes/{quote}/line_items")
        .streams(&[StreamDef::generated("quote_line_items").key(&["quote_id", "id"])])
        .facts(Facts::of("item"))
        .embedded_in(
            ParentRef::to("quotes").include(&[("id", "quote_id")]),
            "line_items",
        ),
    list("quotes", "/v1/quotes")
        .streams(&[StreamDef::generated("quotes").note(
            "those of test clocks are not listed; drafts are edited without \
             an event",
        )])
        .facts(
            Facts::of("quote")
                .expand(&["discounts", "line_items"])
                .spare(&["discounts"]),
        ),
    kept("shipping_rates", "/v1/shipping_rates")
        .streams(&[StreamDef::generated("shipping_rates")])
        .facts(Facts::of("shipping_rate"))
        .full_refresh(),
    list("subscription_items", "/v1/subscription_items")
        .streams(&[StreamDef::generated("subscription_items")])
        .facts(Facts::of("subscription_item").expand(&["discounts"]))
        .params(&[("subscription", "{id}")])
        .embedded_in(
            ParentRef::to("subscriptions").include(&[("id", "subscription")]),
            "items",
        ),
    created("subscription_schedules", "/v1/subscription_schedules")
        .streams(&[StreamDef::generated("subscription_schedules")])
        .facts(Facts::of("subscription_schedule")),
    created("subscriptions", "/v1/subscriptions")
        .streams(&[StreamDef::generated("subscriptions")
            .note("cancelled ones included, those of test clocks not")])
        .facts(
            Facts::of("subscription")
                .expand(&["discounts", "items.data.discounts"])
                .spare(&["discounts", "items.data.discounts"])
                .revision(2),
        )
        .params(&[("status", "all")]),
    list("tax_codes", "/v1/tax_codes")
        .streams(&[StreamDef::generated("tax_codes").note("Stripe's, the same for every account")])
        .facts(Facts::of("tax_code")),
    list("tax_ids", "/v1/tax_ids")
        .streams(&[StreamDef::generated("tax_ids").note(
            "of the account itself; those of its customers are \
             `customer_tax_ids`",
        )])
        .facts(Facts::of("tax_id")),
    kept("tax_rates", "/v1/tax_rates")
        .streams(&[
            StreamDef::generated("tax_rates").note("active and archived ones are separate lists")
        ])
        .facts(Facts::of("tax_rate").revision(2))
        .slices(Slices::EverBy("active", ACTIVE)),
    list("tax_registrations", "/v1/tax/registrations")
        .streams(&[
            StreamDef::generated("tax_registrations").note("expired and scheduled ones included")
        ])
        .facts(Facts::of("tax.registration"))
        .params(&[("status", "all")]),
    list("test_clocks", "/v1/test_helpers/test_clocks")
        .streams(&[StreamDef::generated("test_clocks").note("needs a test key")])
        .facts(Facts::of("test_helpers.test_clock"))
        .requires(&[Requires::TestMode]),
];

/// Credit that was granted to an account of the newer kind is listed by that, which this version of
/// the API does not show.
fn has_customer(grant: &RawRecord) -> bool {
    grant.scalar("customer").is_some()
}
