//! The table of streams: every list that needs no parent and no parameter of its own.

use std::borrow::Cow;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::http::Request;
use pipeline_core::paginate::AfterLastId;
use pipeline_core::slice::{Slicer, TimeRange, Windows};
use pipeline_core::state::{EndpointState, SliceState};
use pipeline_core::{Deletes, Endpoint, Result, Schema, StreamDef, SyncMode, TimeFormat};

use crate::schemas;

/// The bucket that every request of an account counts against.
pub(crate) const ACCOUNT: &str = "account";

/// One stream as data: what is requested and which quirks of the list must be known to read all of it.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// The stream's name.
    pub name: &'static str,
    /// Path of the list.
    pub path: &'static str,
    /// The object's name in Stripe's OpenAPI file, which its columns come from.
    pub object: &'static str,
    /// How it is read from one sync to the next.
    pub mode: SyncMode,
    /// The member that the filter `created` looks at; none: the list is read without that filter, as one slice.
    pub cursor: Option<&'static str>,
    /// A parameter of every request, without which the list hides objects.
    pub query: Option<(&'static str, &'static str)>,
    /// A parameter whose values are read one after the other, because no single request lists all objects.
    pub partition: Option<(&'static str, &'static [&'static str])>,
    /// Members that Stripe leaves out unless they are asked for.
    pub expand: &'static [&'static str],
    /// Types of the events whose object is one of this stream's. An event of another type is understood too, by the type of
    /// its object: these are what is asked for when few streams are selected.
    pub events: &'static [&'static str],
    /// Events of other objects that change one of this stream's.
    pub signals: &'static [Signal],
    /// Requests per second that Stripe allows for the list.
    pub rate: u32,
    /// What a reader of the data must know.
    pub note: &'static str,
}

/// Events of another object that say that objects of a stream changed, which have no event of their own.
#[derive(Clone, Copy, Debug)]
pub struct Signal {
    /// Type of the events' object.
    pub object: &'static str,
    /// Types of the events.
    pub types: &'static [&'static str],
    /// Which objects changed.
    pub names: Names,
}

/// How an event's object names the objects of a stream.
#[derive(Clone, Copy, Debug)]
pub enum Names {
    /// By the id in this member.
    Id(&'static str),
    /// They are what the stream's list has when this parameter is the id of the event's object.
    ListedBy(&'static str),
}

impl Stream {
    const fn new(name: &'static str, path: &'static str, object: &'static str) -> Self {
        Self {
            name,
            path,
            object,
            mode: SyncMode::Incremental,
            cursor: Some("created"),
            query: None,
            partition: None,
            expand: &[],
            events: &[],
            signals: &[],
            rate: 25,
            note: "",
        }
    }

    /// Read as a whole by every sync: short lists that people keep, whose entries change and disappear.
    const fn whole(mut self) -> Self {
        self.mode = SyncMode::FullRefresh;
        self
    }

    const fn cursor(mut self, cursor: Option<&'static str>) -> Self {
        self.cursor = cursor;
        self
    }

    const fn query(mut self, name: &'static str, value: &'static str) -> Self {
        self.query = Some((name, value));
        self
    }

    const fn partition(mut self, name: &'static str, values: &'static [&'static str]) -> Self {
        self.partition = Some((name, values));
        self
    }

    const fn expand(mut self, expand: &'static [&'static str]) -> Self {
        self.expand = expand;
        self
    }

    const fn events(mut self, events: &'static [&'static str]) -> Self {
        self.events = events;
        self
    }

    const fn signals(mut self, signals: &'static [Signal]) -> Self {
        self.signals = signals;
        self
    }

    const fn rate(mut self, rate: u32) -> Self {
        self.rate = rate;
        self
    }

    const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    /// The declared columns, as Stripe's OpenAPI file has them.
    pub fn schema(&self) -> Schema {
        Schema::from_static(schemas::columns(self.name))
    }

    /// The limit of the list alone: Stripe counts a method and a path template together, for all ids.
    pub(crate) fn operation(&self) -> String {
        format!("GET {}", self.path)
    }

    /// The limits that a request counts against, the narrowest first.
    pub(crate) fn buckets(&self) -> [Cow<'static, str>; 2] {
        [self.operation().into(), ACCOUNT.into()]
    }

    /// The parameters that every request of the list carries, besides the page size.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (String, String)> {
        let expand = self.expand.iter().enumerate().map(|(index, member)| (format!("expand[{index}]"), format!("data.{member}")));
        self.query.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).chain(expand)
    }
}

/// The streams, by name.
pub const STREAMS: &[Stream] = &[
    Stream::new("accounts", "/v1/accounts", "account")
        .whole()
        .cursor(None)
        .note("connected accounts; old ones have no `created`, so the list is never filtered by it")
        .events(&["account.updated"])
        .signals(&[Signal { object: "capability", types: &["capability.updated"], names: Names::Id("account") }]),
    Stream::new("application_fees", "/v1/application_fees", "application_fee")
        .note("`refunds` holds the first ten")
        .events(&["application_fee.created", "application_fee.refunded"])
        .signals(&[Signal { object: "fee_refund", types: &["application_fee.refund.updated"], names: Names::Id("fee") }]),
    Stream::new("authorizations", "/v1/issuing/authorizations", "issuing.authorization").note("needs Issuing").events(&[
        "issuing_authorization.created",
        "issuing_authorization.request",
        "issuing_authorization.updated",
    ]),
    Stream::new("balance_transactions", "/v1/balance_transactions", "balance_transaction")
        .note("`status` turns from pending to available without a trace outside the object"),
    Stream::new("cardholders", "/v1/issuing/cardholders", "issuing.cardholder")
        .note("needs Issuing")
        .events(&["issuing_cardholder.created", "issuing_cardholder.updated"]),
    Stream::new("charges", "/v1/charges", "charge")
        .expand(&["refunds"])
        .note("the member `refunds` holds the first ten; the stream `refunds` has all")
        .events(&[
            "charge.captured",
            "charge.expired",
            "charge.failed",
            "charge.pending",
            "charge.refunded",
            "charge.succeeded",
            "charge.updated",
        ])
        .signals(&[
            Signal {
                object: "dispute",
                types: &[
                    "charge.dispute.closed",
                    "charge.dispute.created",
                    "charge.dispute.funds_reinstated",
                    "charge.dispute.funds_withdrawn",
                    "charge.dispute.updated",
                ],
                names: Names::Id("charge"),
            },
            Signal {
                object: "refund",
                types: &["refund.created", "refund.failed", "refund.updated", "charge.refund.updated"],
                names: Names::Id("charge"),
            },
        ]),
    Stream::new("checkout_sessions", "/v1/checkout/sessions", "checkout.session")
        .expand(&["line_items"])
        .note("`line_items` holds the first ten")
        .events(&[
            "checkout.session.async_payment_failed",
            "checkout.session.async_payment_succeeded",
            "checkout.session.completed",
            "checkout.session.expired",
        ]),
    Stream::new("coupons", "/v1/coupons", "coupon").whole().expand(&["applies_to"]).events(&[
        "coupon.created",
        "coupon.deleted",
        "coupon.updated",
    ]),
    Stream::new("credit_notes", "/v1/credit_notes", "credit_note").note("`lines` holds the first ten").events(&[
        "credit_note.created",
        "credit_note.updated",
        "credit_note.voided",
    ]),
    Stream::new("customers", "/v1/customers", "customer")
        .note("deleted customers and those of test clocks are not listed")
        .events(&["customer.created", "customer.deleted", "customer.updated"])
        .signals(&[
            Signal {
                object: "discount",
                types: &["customer.discount.created", "customer.discount.deleted", "customer.discount.updated"],
                names: Names::Id("customer"),
            },
            Signal {
                object: "tax_id",
                types: &["customer.tax_id.created", "customer.tax_id.deleted", "customer.tax_id.updated"],
                names: Names::Id("customer"),
            },
            Signal { object: "cash_balance", types: &["cash_balance.funds_available"], names: Names::Id("customer") },
        ]),
    Stream::new("disputes", "/v1/disputes", "dispute").events(&[
        "charge.dispute.closed",
        "charge.dispute.created",
        "charge.dispute.funds_reinstated",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.updated",
    ]),
    Stream::new("early_fraud_warnings", "/v1/radar/early_fraud_warnings", "radar.early_fraud_warning")
        .events(&["radar.early_fraud_warning.created", "radar.early_fraud_warning.updated"]),
    Stream::new("events", "/v1/events", "event").note("kept by Stripe for 30 days; `data` is in the account's API version, not ours"),
    Stream::new("file_links", "/v1/file_links", "file_link").whole(),
    Stream::new("files", "/v1/files", "file").rate(20).note("descriptions; contents are not read").events(&["file.created"]),
    Stream::new("invoice_items", "/v1/invoiceitems", "invoiceitem")
        .cursor(Some("date"))
        .note("filtered by `created`, which the object calls `date`")
        .events(&["invoiceitem.created", "invoiceitem.deleted"])
        .signals(&[Signal { object: "invoice", types: &["invoice.created", "invoice.finalized"], names: Names::ListedBy("invoice") }]),
    Stream::new("invoice_payments", "/v1/invoice_payments", "invoice_payment").events(&["invoice_payment.paid"]).signals(&[Signal {
        object: "invoice",
        types: &["invoice.paid", "invoice.voided"],
        names: Names::ListedBy("invoice"),
    }]),
    Stream::new("invoices", "/v1/invoices", "invoice")
        .expand(&["discounts", "payments"])
        .note("`lines` and `payments` hold the first ten; deleted drafts are not listed")
        .events(&[
            "invoice.created",
            "invoice.deleted",
            "invoice.finalization_failed",
            "invoice.finalized",
            "invoice.marked_uncollectible",
            "invoice.overdue",
            "invoice.overpaid",
            "invoice.paid",
            "invoice.payment_action_required",
            "invoice.payment_attempt_required",
            "invoice.payment_failed",
            "invoice.payment_succeeded",
            "invoice.sent",
            "invoice.updated",
            "invoice.voided",
            "invoice.will_be_due",
        ])
        .signals(&[Signal { object: "invoice_payment", types: &["invoice_payment.paid"], names: Names::Id("invoice") }]),
    Stream::new("issuing_cards", "/v1/issuing/cards", "issuing.card")
        .note("needs Issuing; number and cvc are never asked for")
        .events(&["issuing_card.created", "issuing_card.updated"]),
    Stream::new("issuing_disputes", "/v1/issuing/disputes", "issuing.dispute").note("needs Issuing").events(&[
        "issuing_dispute.closed",
        "issuing_dispute.created",
        "issuing_dispute.funds_reinstated",
        "issuing_dispute.funds_rescinded",
        "issuing_dispute.submitted",
        "issuing_dispute.updated",
    ]),
    Stream::new("payment_intents", "/v1/payment_intents", "payment_intent").events(&[
        "payment_intent.amount_capturable_updated",
        "payment_intent.canceled",
        "payment_intent.created",
        "payment_intent.partially_funded",
        "payment_intent.payment_failed",
        "payment_intent.processing",
        "payment_intent.requires_action",
        "payment_intent.succeeded",
    ]),
    Stream::new("payouts", "/v1/payouts", "payout").events(&[
        "payout.canceled",
        "payout.created",
        "payout.failed",
        "payout.paid",
        "payout.reconciliation_completed",
        "payout.updated",
    ]),
    Stream::new("plans", "/v1/plans", "plan").whole().expand(&["tiers"]).note("what prices were called before").events(&[
        "plan.created",
        "plan.deleted",
        "plan.updated",
    ]),
    Stream::new("prices", "/v1/prices", "price")
        .whole()
        .partition("active", &["true", "false"])
        .expand(&["tiers", "currency_options"])
        .note("active and inactive ones are separate lists; inline prices are not listed")
        .events(&["price.created", "price.deleted", "price.updated"]),
    Stream::new("products", "/v1/products", "product").whole().events(&["product.created", "product.deleted", "product.updated"]),
    Stream::new("promotion_codes", "/v1/promotion_codes", "promotion_code").events(&["promotion_code.created", "promotion_code.updated"]),
    Stream::new("refunds", "/v1/refunds", "refund").events(&["refund.created", "refund.failed", "refund.updated", "charge.refund.updated"]),
    Stream::new("reviews", "/v1/reviews", "review")
        .note("only open ones are listed; absence says nothing")
        .events(&["review.closed", "review.opened"]),
    Stream::new("setup_intents", "/v1/setup_intents", "setup_intent").events(&[
        "setup_intent.canceled",
        "setup_intent.created",
        "setup_intent.requires_action",
        "setup_intent.setup_failed",
        "setup_intent.succeeded",
    ]),
    Stream::new("shipping_rates", "/v1/shipping_rates", "shipping_rate").whole(),
    Stream::new("subscription_schedules", "/v1/subscription_schedules", "subscription_schedule").events(&[
        "subscription_schedule.aborted",
        "subscription_schedule.canceled",
        "subscription_schedule.completed",
        "subscription_schedule.created",
        "subscription_schedule.expiring",
        "subscription_schedule.released",
        "subscription_schedule.updated",
    ]),
    Stream::new("subscriptions", "/v1/subscriptions", "subscription")
        .query("status", "all")
        .note("cancelled ones included, those of test clocks not; `items` holds the first ten")
        .events(&[
            "customer.subscription.created",
            "customer.subscription.deleted",
            "customer.subscription.paused",
            "customer.subscription.pending_update_applied",
            "customer.subscription.pending_update_expired",
            "customer.subscription.resumed",
            "customer.subscription.trial_will_end",
            "customer.subscription.updated",
        ])
        .signals(&[Signal {
            object: "discount",
            types: &["customer.discount.created", "customer.discount.deleted", "customer.discount.updated"],
            names: Names::Id("subscription"),
        }]),
    Stream::new("top_ups", "/v1/topups", "topup").events(&[
        "topup.canceled",
        "topup.created",
        "topup.failed",
        "topup.reversed",
        "topup.succeeded",
    ]),
    Stream::new("transactions", "/v1/issuing/transactions", "issuing.transaction").note("needs Issuing").events(&[
        "issuing_transaction.created",
        "issuing_transaction.purchase_details_receipt_updated",
        "issuing_transaction.updated",
    ]),
    Stream::new("transfers", "/v1/transfers", "transfer").note("`reversals` holds the first ten").events(&[
        "transfer.created",
        "transfer.reversed",
        "transfer.updated",
    ]),
    Stream::new("value_lists", "/v1/radar/value_lists", "radar.value_list").whole().note("`list_items` holds the first ten"),
];

/// What the user decides about all lists.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) page_size: u8,
    pub(crate) lag: TimeDelta,
    pub(crate) lookback: TimeDelta,
}

/// The endpoint that reads a stream.
pub(crate) fn endpoint(stream: &Stream, reading: Reading) -> Endpoint {
    let deletes = match stream.mode {
        SyncMode::FullRefresh => Deletes::BySnapshot,
        SyncMode::Incremental => Deletes::Invisible,
    };
    let mut endpoint = Endpoint::get(stream.name, stream.path)
        .query("limit", reading.page_size.to_string())
        .feeds(StreamDef::new(stream.name, stream.schema()).primary_key(["id"]).deletes(deletes), "data")
        .paginate(AfterLastId { param: "starting_after", more: "has_more", id: "id" })
        .buckets([ACCOUNT])
        .bucket(stream.operation());
    for (name, value) in stream.parameters() {
        endpoint = endpoint.query(name, value);
    }
    let Some(cursor) = stream.cursor else { return endpoint };
    let windows = Windows {
        lag: reading.lag,
        lookback: reading.lookback,
        partition: stream.partition,
        ..Windows::newest_first("created[gte]", "created[lt]", TimeFormat::UnixSeconds)
    };
    let endpoint = endpoint.cursor(cursor, TimeFormat::UnixSeconds);
    match stream.mode {
        SyncMode::FullRefresh => endpoint.slices(Everything(windows)),
        SyncMode::Incremental => endpoint.slices(windows).incremental(),
    }
}

/// Windows over the whole life of the account. A start date limits what happened, not what is on sale: a subscription of
/// today can have a price of ten years ago.
#[derive(Debug)]
struct Everything(Windows);

impl Slicer for Everything {
    fn plan(&self, state: &EndpointState, range: TimeRange, now: DateTime<Utc>) -> Vec<SliceState> {
        self.0.plan(state, TimeRange { start: None, ..range }, now)
    }

    fn apply(&self, slice: &SliceState, request: &mut Request) -> Result<()> {
        self.0.apply(slice, request)
    }

    fn split(&self, slice: &SliceState) -> Option<(SliceState, SliceState)> {
        self.0.split(slice)
    }

    fn restart(&self, slice: &SliceState) -> Option<SliceState> {
        self.0.restart(slice)
    }
}
