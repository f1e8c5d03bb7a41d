//! Which events tell of changes to which streams.
//!
//! An event is routed by the type of the object that it carries, never by its name:
//! `charge.refund.updated` carries a refund. So an event whose name nobody knew when this was
//! written is understood as well; the names only say what to ask for when few streams are selected.

use std::collections::{BTreeMap, BTreeSet};

use pipeline_core::declarative::ListDef;

use crate::streams::{inside, stream};
use crate::vendor::Stripe;

/// The events whose object is one of a stream's, all of them names in Stripe's OpenAPI file.
const HEARD: &[(&str, &str)] = &[
    ("account_capabilities", "capability.updated"),
    ("accounts", "account.updated"),
    ("application_fees", "application_fee.{created,refunded}"),
    (
        "authorizations",
        "issuing_authorization.{created,request,updated}",
    ),
    (
        "bank_accounts",
        "customer.source.{created,deleted,expiring,updated}",
    ),
    (
        "billing_portal_configurations",
        "billing_portal.configuration.{created,updated}",
    ),
    ("cardholders", "issuing_cardholder.{created,updated}"),
    (
        "charges",
        "charge.{captured,expired,failed,pending,refunded,succeeded,updated}",
    ),
    (
        "checkout_sessions",
        "checkout.session.{async_payment_failed,async_payment_succeeded,completed,expired}",
    ),
    (
        "climate_orders",
        "climate.order.{canceled,created,delayed,delivered,product_substituted}",
    ),
    ("coupons", "coupon.{created,deleted,updated}"),
    ("credit_grants", "billing.credit_grant.created"),
    ("credit_notes", "credit_note.{created,updated,voided}"),
    (
        "customer_cards",
        "customer.source.{created,deleted,expiring,updated}",
    ),
    (
        "customer_cash_balance_transactions",
        "customer_cash_balance_transaction.created",
    ),
    (
        "customer_tax_ids",
        "customer.tax_id.{created,deleted,updated}",
    ),
    ("customers", "customer.{created,deleted,updated}"),
    (
        "disputes",
        "charge.dispute.{closed,created,funds_reinstated,funds_withdrawn,updated}",
    ),
    (
        "early_fraud_warnings",
        "radar.early_fraud_warning.{created,updated}",
    ),
    (
        "external_account_bank_accounts",
        "account.external_account.{created,deleted,updated}",
    ),
    (
        "external_account_cards",
        "account.external_account.{created,deleted,updated}",
    ),
    ("files", "file.created"),
    (
        "financial_connections_accounts",
        "financial_connections.account.{account_numbers_updated,created,deactivated,disconnected,reactivated,refreshed_balance,\
         refreshed_ownership,refreshed_transactions,upcoming_account_number_expiry}",
    ),
    (
        "identity_verification_sessions",
        "identity.verification_session.{canceled,created,processing,redacted,requires_input,verified}",
    ),
    ("invoice_items", "invoiceitem.{created,deleted}"),
    ("invoice_payments", "invoice_payment.paid"),
    (
        "invoices",
        "invoice.{created,deleted,finalization_failed,finalized,marked_uncollectible,overdue,overpaid,paid,payment_action_required,\
         payment_attempt_required,payment_failed,payment_succeeded,sent,updated,voided,will_be_due}",
    ),
    ("issuing_cards", "issuing_card.{created,updated}"),
    (
        "issuing_disputes",
        "issuing_dispute.{closed,created,funds_reinstated,funds_rescinded,submitted,updated}",
    ),
    (
        "issuing_personalization_designs",
        "issuing_personalization_design.{activated,deactivated,rejected,updated}",
    ),
    ("issuing_tokens", "issuing_token.{created,updated}"),
    (
        "payment_intents",
        "payment_intent.{amount_capturable_updated,canceled,created,partially_funded,payment_failed,processing,requires_action,\
         succeeded}",
    ),
    ("payment_links", "payment_link.{created,updated}"),
    (
        "payment_methods",
        "payment_method.{attached,automatically_updated,detached,updated}",
    ),
    (
        "payouts",
        "payout.{canceled,created,failed,paid,reconciliation_completed,updated}",
    ),
    ("persons", "person.{created,deleted,updated}"),
    ("plans", "plan.{created,deleted,updated}"),
    ("prices", "price.{created,deleted,updated}"),
    ("products", "product.{created,deleted,updated}"),
    ("promotion_codes", "promotion_code.{created,updated}"),
    ("quotes", "quote.{accepted,canceled,created,finalized}"),
    (
        "refunds",
        "refund.{created,failed,updated} charge.refund.updated",
    ),
    (
        "reporting_report_runs",
        "reporting.report_run.{failed,succeeded}",
    ),
    ("reporting_report_types", "reporting.report_type.updated"),
    ("reviews", "review.{closed,opened}"),
    (
        "setup_intents",
        "setup_intent.{canceled,created,requires_action,setup_failed,succeeded}",
    ),
    (
        "sigma_scheduled_query_runs",
        "sigma.scheduled_query_run.created",
    ),
    (
        "subscription_schedules",
        "subscription_schedule.{aborted,canceled,completed,created,expiring,released,updated}",
    ),
    (
        "subscriptions",
        "customer.subscription.{created,deleted,paused,pending_update_applied,pending_update_expired,resumed,trial_will_end,updated}",
    ),
    ("tax_rates", "tax_rate.{created,updated}"),
    (
        "terminal_readers",
        "terminal.reader.{action_failed,action_succeeded,action_updated}",
    ),
    (
        "test_clocks",
        "test_helpers.test_clock.{advancing,created,deleted,internal_failure,ready}",
    ),
    (
        "top_ups",
        "topup.{canceled,created,failed,reversed,succeeded}",
    ),
    (
        "transactions",
        "issuing_transaction.{created,purchase_details_receipt_updated,updated}",
    ),
    ("transfers", "transfer.{created,reversed,updated}"),
    (
        "treasury_credit_reversals",
        "treasury.credit_reversal.{created,posted}",
    ),
    (
        "treasury_debit_reversals",
        "treasury.debit_reversal.{completed,created,initial_credit_granted}",
    ),
    (
        "treasury_financial_accounts",
        "treasury.financial_account.{closed,created,features_status_updated}",
    ),
    (
        "treasury_inbound_transfers",
        "treasury.inbound_transfer.{canceled,created,failed,succeeded}",
    ),
    (
        "treasury_outbound_payments",
        "treasury.outbound_payment.{canceled,created,expected_arrival_date_updated,failed,posted,returned,tracking_details_updated}",
    ),
    (
        "treasury_outbound_transfers",
        "treasury.outbound_transfer.{canceled,created,expected_arrival_date_updated,failed,posted,returned,tracking_details_updated}",
    ),
    (
        "treasury_received_credits",
        "treasury.received_credit.{created,failed,succeeded}",
    ),
    (
        "treasury_received_debits",
        "treasury.received_debit.created",
    ),
];

/// Events of other objects that say that a stream's objects have changed, which have no event of
/// their own.
const SIGNALS: &[Signal] = &[
    Signal {
        stream: "accounts",
        object: "capability",
        types: "capability.updated",
        names: Names::Id("account"),
    },
    Signal {
        stream: "active_entitlements",
        object: "entitlements.active_entitlement_summary",
        types: "entitlements.active_entitlement_summary.updated",
        names: Names::ChildrenOf("customer"),
    },
    Signal {
        stream: "application_fees",
        object: "fee_refund",
        types: "application_fee.refund.updated",
        names: Names::Id("fee"),
    },
    Signal {
        stream: "charges",
        object: "dispute",
        types: "charge.dispute.{closed,created,funds_reinstated,funds_withdrawn,updated}",
        names: Names::Id("charge"),
    },
    Signal {
        stream: "charges",
        object: "refund",
        types: "refund.{created,failed,updated} charge.refund.updated",
        names: Names::Id("charge"),
    },
    Signal {
        stream: "customer_balance_transactions",
        object: "customer",
        types: "customer.updated",
        names: Names::ChildrenOf("id"),
    },
    Signal {
        stream: "customers",
        object: "cash_balance",
        types: "cash_balance.funds_available",
        names: Names::Id("customer"),
    },
    Signal {
        stream: "customers",
        object: "discount",
        types: "customer.discount.{created,deleted,updated}",
        names: Names::Id("customer"),
    },
    Signal {
        stream: "customers",
        object: "tax_id",
        types: "customer.tax_id.{created,deleted,updated}",
        names: Names::Id("customer"),
    },
    Signal {
        stream: "invoice_items",
        object: "invoice",
        types: "invoice.{created,finalized}",
        names: Names::ListedBy("invoice"),
    },
    Signal {
        stream: "invoice_payments",
        object: "invoice",
        types: "invoice.{paid,voided}",
        names: Names::ListedBy("invoice"),
    },
    Signal {
        stream: "invoices",
        object: "invoice_payment",
        types: "invoice_payment.paid",
        names: Names::Id("invoice"),
    },
    Signal {
        stream: "payout_balance_transactions",
        object: "payout",
        types: "payout.{paid,reconciliation_completed}",
        names: Names::ChildrenOf("id"),
    },
    Signal {
        stream: "product_features",
        object: "product",
        types: "product.updated",
        names: Names::ChildrenOf("id"),
    },
    Signal {
        stream: "setup_attempts",
        object: "setup_intent",
        types: "setup_intent.{canceled,created,requires_action,setup_failed,succeeded}",
        names: Names::ChildrenOf("id"),
    },
    Signal {
        stream: "subscriptions",
        object: "discount",
        types: "customer.discount.{created,deleted,updated}",
        names: Names::Id("subscription"),
    },
];

/// What belongs to an object goes with it, and nothing tells of each: by the type of the object,
/// the event of its end, and the streams whose rows name it in the column of their
/// [owner](crate::streams::owner).
const GO_WITH: [(&str, &str, &[&str]); 3] = [
    (
        "customer",
        "customer.deleted",
        &[
            "active_entitlements",
            "bank_accounts",
            "customer_balance_transactions",
            "customer_cards",
            "customer_cash_balance_transactions",
            "customer_tax_ids",
            "payment_methods",
        ],
    ),
    ("invoice", "invoice.deleted", &["invoice_line_items"]),
    ("product", "product.deleted", &["product_features"]),
];

/// Every signal.
fn signals() -> impl Iterator<Item = Signal> {
    let gone = GO_WITH.iter().flat_map(|(object, types, streams)| {
        streams.iter().map(|stream| Signal {
            stream,
            object,
            types,
            names: Names::RowsOfIt,
        })
    });
    SIGNALS.iter().copied().chain(gone)
}

/// Objects whose ids people choose, so that one can be deleted and made again under the same id.
const CHOSEN: [&str; 3] = ["coupon", "plan", "product"];

/// An event of another object that concerns a stream.
#[derive(Clone, Copy, Debug)]
struct Signal {
    stream: &'static str,
    /// Type of the event's object.
    object: &'static str,
    types: &'static str,
    names: Names,
}

/// Which objects of a stream an event's object names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Itself.
    Itself,
    /// The one whose id is in this member.
    Id(&'static str),
    /// Those that the stream's list has when this parameter is the id of the event's object.
    ListedBy(&'static str),
    /// The list of the parent whose id is in this member.
    ChildrenOf(&'static str),
    /// All that belong to the object: they are gone when it is.
    RowsOfIt,
}

/// A stream that an object's events concern.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) stream: &'static ListDef<Stripe>,
    pub(super) names: Names,
}

/// The routes of every object, by its type.
#[derive(Debug)]
pub(super) struct Routes(BTreeMap<&'static str, Vec<Route>>);

impl Routes {
    pub(super) fn new() -> Self {
        let mut routes: BTreeMap<&'static str, Vec<Route>> = BTreeMap::new();
        for stream in HEARD.iter().filter_map(|(name, _)| stream(name)) {
            routes.entry(stream.facts.object).or_default().push(Route {
                stream,
                names: Names::Itself,
            });
        }
        for Signal {
            stream: name,
            object,
            names,
            ..
        } in signals()
        {
            let Some(stream) = stream(name) else { continue };
            routes
                .entry(object)
                .or_default()
                .push(Route { stream, names });
        }
        Self(routes)
    }

    /// The streams that events of an object of this type concern.
    pub(super) fn of(&self, object: &str) -> &[Route] {
        self.0.get(object).map_or(&[], Vec::as_slice)
    }
}

/// The streams that events tell of, by name, those inside the objects of others included.
pub fn heard() -> BTreeSet<&'static str> {
    let named = HEARD
        .iter()
        .map(|(name, _)| *name)
        .chain(signals().map(|signal| signal.stream));
    let named: BTreeSet<&str> = named.filter(|name| stream(name).is_some()).collect();
    let owners = named.iter().copied().filter_map(stream);
    let inside = owners.flat_map(inside).map(|(inside, _)| inside.name);
    inside.chain(named.iter().copied()).collect()
}

/// The names of the events to ask for when these streams are selected.
pub(super) fn types(selected: &dyn Fn(&ListDef<Stripe>) -> bool) -> BTreeSet<String> {
    let is_selected = |name: &str| stream(name).is_some_and(selected);
    let heard = HEARD
        .iter()
        .filter(|(name, _)| is_selected(name))
        .map(|(_, types)| *types);
    let signals = signals()
        .filter(|signal| is_selected(signal.stream))
        .map(|signal| signal.types);
    heard
        .chain(signals)
        .flat_map(|types| types.split(' '))
        .flat_map(expand)
        .collect()
}

/// Whether the name of an event is one of those in the tables.
pub(super) fn is_known(name: &str) -> bool {
    concerned(name).next().is_some()
}

/// Whether an event of that name carries an object of one of the streams, which has an id.
pub(super) fn carries_object(name: &str) -> bool {
    HEARD.iter().any(|(_, types)| are_of(types, name))
}

/// The streams that events of that name concern.
pub(crate) fn concerned(name: &str) -> impl Iterator<Item = &'static str> {
    let heard = HEARD.iter().map(|(stream, types)| (*stream, *types));
    let all = heard.chain(signals().map(|signal| (signal.stream, signal.types)));
    all.filter(move |(_, types)| are_of(types, name))
        .map(|(stream, _)| stream)
}

/// Whether the name of an event is one of these.
fn are_of(types: &str, name: &str) -> bool {
    types.split(' ').any(|types| match types.split_once('{') {
        None => types == name,
        Some((prefix, rest)) => name.strip_prefix(prefix).is_some_and(|end| {
            rest.trim_end_matches('}')
                .split(',')
                .any(|suffix| suffix == end)
        }),
    })
}

/// `a.{b,c}` are `a.b` and `a.c`.
fn expand(types: &str) -> Vec<String> {
    match types.split_once('{') {
        None => vec![types.to_owned()],
        Some((prefix, suffixes)) => suffixes
            .trim_end_matches('}')
            .split(',')
            .map(|suffix| format!("{prefix}{suffix}"))
            .collect(),
    }
}

/// Whether an event says that its object is gone. A cancelled subscription is not: Stripe still has
/// it.
pub(super) fn is_deletion(name: &str, object: &str) -> bool {
    name.ends_with(".deleted") && object != "subscription"
}

/// Whether only Stripe can say if a deleted object exists again.
pub(super) fn may_return(object: &str) -> bool {
    CHOSEN.contains(&object)
}

/// Whether events tell of deletions from a stream.
pub fn tells_deletions(stream: &str) -> bool {
    if signals().any(|signal| signal.stream == stream && signal.names == Names::RowsOfIt) {
        return true;
    }
    let object = self::stream(stream).map_or("", |list| list.facts.object);
    let types = HEARD
        .iter()
        .filter(|(name, _)| *name == stream)
        .flat_map(|(_, types)| types.split(' '));
    types
        .flat_map(expand)
        .any(|name| is_deletion(&name, object))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::streams::streams;

    #[test]
    fn every_entry_names_a_stream() {
        let unknown: Vec<_> = HEARD
            .iter()
            .map(|(name, _)| *name)
            .chain(signals().map(|signal| signal.stream))
            .filter(|name| stream(name).is_none())
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn names_in_braces_are_names() {
        assert_eq!(
            expand("refund.{created,failed}"),
            ["refund.created", "refund.failed"]
        );
        assert!(is_known("charge.refund.updated") && is_known("customer.subscription.deleted"));
        assert!(!is_known("charge.vaporised") && !is_known("customer"));
    }

    #[test]
    fn c26_few_streams_are_asked_for_by_name_and_shared_names_once() {
        let names = types(&|stream| ["refunds", "charges", "invoice_items"].contains(&stream.name));
        assert_eq!(
            names
                .iter()
                .filter(|name| *name == "charge.refund.updated")
                .count(),
            1
        );
        assert!(names.len() <= 20, "{names:?}");
        assert!(types(&|_| true).len() > 100);
    }

    #[test]
    fn deletions_are_told_apart_from_endings() {
        assert!(is_deletion("customer.deleted", "customer"));
        assert!(!is_deletion(
            "customer.subscription.deleted",
            "subscription"
        ));
        let told: Vec<_> = streams()
            .map(|list| list.name)
            .filter(|name| tells_deletions(name))
            .collect();
        insta::assert_compact_json_snapshot!(told);
    }
}
