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
    /// Requests per second that Stripe allows for the list.
    pub rate: u32,
    /// What a reader of the data must know.
    pub note: &'static str,
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
        .note("connected accounts; old ones have no `created`, so the list is never filtered by it"),
    Stream::new("application_fees", "/v1/application_fees", "application_fee").note("`refunds` holds the first ten"),
    Stream::new("authorizations", "/v1/issuing/authorizations", "issuing.authorization").note("needs Issuing"),
    Stream::new("balance_transactions", "/v1/balance_transactions", "balance_transaction")
        .note("`status` turns from pending to available without a trace outside the object"),
    Stream::new("cardholders", "/v1/issuing/cardholders", "issuing.cardholder").note("needs Issuing"),
    Stream::new("charges", "/v1/charges", "charge")
        .expand(&["refunds"])
        .note("the member `refunds` holds the first ten; the stream `refunds` has all"),
    Stream::new("checkout_sessions", "/v1/checkout/sessions", "checkout.session")
        .expand(&["line_items"])
        .note("`line_items` holds the first ten"),
    Stream::new("coupons", "/v1/coupons", "coupon").whole().expand(&["applies_to"]),
    Stream::new("credit_notes", "/v1/credit_notes", "credit_note").note("`lines` holds the first ten"),
    Stream::new("customers", "/v1/customers", "customer").note("deleted customers and those of test clocks are not listed"),
    Stream::new("disputes", "/v1/disputes", "dispute"),
    Stream::new("early_fraud_warnings", "/v1/radar/early_fraud_warnings", "radar.early_fraud_warning"),
    Stream::new("events", "/v1/events", "event").note("kept by Stripe for 30 days; `data` is in the account's API version, not ours"),
    Stream::new("file_links", "/v1/file_links", "file_link").whole(),
    Stream::new("files", "/v1/files", "file").rate(20).note("descriptions; contents are not read"),
    Stream::new("invoice_items", "/v1/invoiceitems", "invoiceitem")
        .cursor(Some("date"))
        .note("filtered by `created`, which the object calls `date`"),
    Stream::new("invoice_payments", "/v1/invoice_payments", "invoice_payment"),
    Stream::new("invoices", "/v1/invoices", "invoice")
        .expand(&["discounts", "payments"])
        .note("`lines` and `payments` hold the first ten; deleted drafts are not listed"),
    Stream::new("issuing_cards", "/v1/issuing/cards", "issuing.card").note("needs Issuing; number and cvc are never asked for"),
    Stream::new("issuing_disputes", "/v1/issuing/disputes", "issuing.dispute").note("needs Issuing"),
    Stream::new("payment_intents", "/v1/payment_intents", "payment_intent"),
    Stream::new("payouts", "/v1/payouts", "payout"),
    Stream::new("plans", "/v1/plans", "plan").whole().expand(&["tiers"]).note("what prices were called before"),
    Stream::new("prices", "/v1/prices", "price")
        .whole()
        .partition("active", &["true", "false"])
        .expand(&["tiers", "currency_options"])
        .note("active and inactive ones are separate lists; inline prices are not listed"),
    Stream::new("products", "/v1/products", "product").whole(),
    Stream::new("promotion_codes", "/v1/promotion_codes", "promotion_code"),
    Stream::new("refunds", "/v1/refunds", "refund"),
    Stream::new("reviews", "/v1/reviews", "review").note("only open ones are listed; absence says nothing"),
    Stream::new("setup_intents", "/v1/setup_intents", "setup_intent"),
    Stream::new("shipping_rates", "/v1/shipping_rates", "shipping_rate").whole(),
    Stream::new("subscription_schedules", "/v1/subscription_schedules", "subscription_schedule"),
    Stream::new("subscriptions", "/v1/subscriptions", "subscription")
        .query("status", "all")
        .note("cancelled ones included, those of test clocks not; `items` holds the first ten"),
    Stream::new("top_ups", "/v1/topups", "topup"),
    Stream::new("transactions", "/v1/issuing/transactions", "issuing.transaction").note("needs Issuing"),
    Stream::new("transfers", "/v1/transfers", "transfer").note("`reversals` holds the first ten"),
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
