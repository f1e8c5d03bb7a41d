//! What is sold, and what is billed for it.

use pipeline_core::RawRecord;

use super::{Inner, Stream};

/// Such objects are active or archived, and some lists show only one kind unless asked for the
/// other.
const ACTIVE: &[&str] = &["true", "false"];

/// The streams.
pub(super) const STREAMS: &[Stream] = &[
    Stream::new("active_entitlements", "/v1/entitlements/active_entitlements", "entitlements.active_entitlement")
        .each("customers")
        .query(&[("customer", "{id}")])
        .parent_id("customer"),
    Stream::new("billing_alerts", "/v1/billing/alerts", "billing.alert").unfiltered(),
    Stream::new("billing_meters", "/v1/billing/meters", "billing.meter").unfiltered(),
    Stream::new("billing_portal_configurations", "/v1/billing_portal/configurations", "billing_portal.configuration").unfiltered(),
    Stream::new("coupons", "/v1/coupons", "coupon").ageless().expand(&["applies_to", "currency_options"]).revision(2),
    Stream::new("credit_balance_transactions", "/v1/billing/credit_balance_transactions", "billing.credit_balance_transaction")
        .each_when("credit_grants", has_customer)
        .owner("credit_grant")
        .query(&[("credit_grant", "{id}"), ("customer", "{customer}")])
        .revision(2)
        .note("Stripe lists those of a customer only"),
    Stream::new("credit_grants", "/v1/billing/credit_grants", "billing.credit_grant").unfiltered(),
    Stream::new("credit_note_line_items", "/v1/credit_notes/{credit_note}/lines", "credit_note_line_item")
        .inside("credit_notes", "lines")
        .key(&["credit_note_id", "id"])
        .parent_id("credit_note_id"),
    Stream::new("credit_notes", "/v1/credit_notes", "credit_note"),
    Stream::new("entitlement_features", "/v1/entitlements/features", "entitlements.feature")
        .unfiltered()
        .partition("archived", &["false", "true"]),
    Stream::new("invoice_items", "/v1/invoiceitems", "invoiceitem")
        .cursor(Some("date"))
        .expand(&["discounts"])
        .spare(&["discounts"])
        .revision(2)
        .note("filtered by `created`, which the object calls `date`"),
    Stream::new("invoice_line_items", "/v1/invoices/{invoice}/lines", "line_item")
        .inside("invoices", "lines")
        .key(&["invoice", "id"])
        .parent_id("invoice")
        .expand(&["discounts"])
        .note("legacy ids repeat from one invoice to the next, so the invoice is part of the key"),
    Stream::new("invoice_payments", "/v1/invoice_payments", "invoice_payment"),
    Stream::new("invoice_rendering_templates", "/v1/invoice_rendering_templates", "invoice_rendering_template").unfiltered(),
    Stream::new("invoices", "/v1/invoices", "invoice")
        .expand(&["discounts", "payments", "lines.data.discounts"])
        .spare(&["discounts", "lines.data.discounts"])
        .revision(2)
        .inner(&[Inner { member: "payments", path: "/v1/invoice_payments", query: &[("invoice", "{id}")] }])
        .note("deleted drafts are not listed"),
    Stream::new("plans", "/v1/plans", "plan").ageless().expand(&["tiers"]).note("what prices were called before"),
    Stream::new("prices", "/v1/prices", "price")
        .ageless()
        .partition("active", ACTIVE)
        .expand(&["tiers", "currency_options"])
        .note("active and inactive ones are separate lists; inline prices are not listed"),
    Stream::new("product_features", "/v1/products/{product}/features", "product_feature")
        .each("products")
        .parent_id("product_id")
        .again_after(7)
        .revision(2)
        .note("what is attached or removed without an event of the product is seen after 7 days, or `stream_refresh_days`"),
    Stream::new("products", "/v1/products", "product").ageless(),
    Stream::new("promotion_codes", "/v1/promotion_codes", "promotion_code"),
    Stream::new("quote_line_items", "/v1/quotes/{quote}/line_items", "item")
        .inside("quotes", "line_items")
        .key(&["quote_id", "id"])
        .parent_id("quote_id"),
    Stream::new("quotes", "/v1/quotes", "quote")
        .unfiltered()
        .expand(&["discounts", "line_items"])
        .spare(&["discounts"])
        .note("those of test clocks are not listed; drafts are edited without an event"),
    Stream::new("shipping_rates", "/v1/shipping_rates", "shipping_rate").whole(),
    Stream::new("subscription_items", "/v1/subscription_items", "subscription_item")
        .inside("subscriptions", "items")
        .owner("subscription")
        .expand(&["discounts"])
        .query(&[("subscription", "{id}")]),
    Stream::new("subscription_schedules", "/v1/subscription_schedules", "subscription_schedule"),
    Stream::new("subscriptions", "/v1/subscriptions", "subscription")
        .query(&[("status", "all")])
        .expand(&["discounts", "items.data.discounts"])
        .spare(&["discounts", "items.data.discounts"])
        .revision(2)
        .note("cancelled ones included, those of test clocks not"),
    Stream::new("tax_codes", "/v1/tax_codes", "tax_code").unfiltered().note("Stripe's, the same for every account"),
    Stream::new("tax_ids", "/v1/tax_ids", "tax_id")
        .unfiltered()
        .note("of the account itself; those of its customers are `customer_tax_ids`"),
    Stream::new("tax_rates", "/v1/tax_rates", "tax_rate")
        .ageless()
        .partition("active", ACTIVE)
        .revision(2)
        .note("active and archived ones are separate lists"),
    Stream::new("tax_registrations", "/v1/tax/registrations", "tax.registration")
        .unfiltered()
        .query(&[("status", "all")])
        .note("expired and scheduled ones included"),
    Stream::new("test_clocks", "/v1/test_helpers/test_clocks", "test_helpers.test_clock").unfiltered().test_only().note("needs a test key"),
];

/// Credit that was granted to an account of the newer kind is listed by that, which this version of
/// the API does not show.
fn has_customer(grant: &RawRecord) -> bool {
    grant.scalar("customer").is_some()
}
