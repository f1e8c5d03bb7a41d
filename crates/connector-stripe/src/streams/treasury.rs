//! Treasury: bank accounts that the account keeps for others, and Financial Connections: those it
//! may look into.

use pipeline_core::declarative::{ListDef, ParentRef, StreamDef};

use super::{kept, list};
use crate::vendor::{Facts, Stripe};

const OF_ACCOUNT: &[(&str, &str)] = &[("financial_account", "{id}")];

const NEEDED: &str = "needs Treasury";

/// A list that every financial account has.
const fn of_account(name: &'static str, path: &'static str) -> ListDef<Stripe> {
    let account = ParentRef::to("treasury_financial_accounts");
    list(name, path)
        .params(OF_ACCOUNT)
        .child_of(account.include(&[("id", "financial_account")]))
}

/// The lists.
pub(super) const LISTS: &[ListDef<Stripe>] = &[
    list(
        "financial_connections_accounts",
        "/v1/financial_connections/accounts",
    )
    .streams(&[StreamDef::generated("financial_connections_accounts")])
    .facts(Facts::of("financial_connections.account")),
    list(
        "financial_connections_transactions",
        "/v1/financial_connections/transactions",
    )
    .streams(&[StreamDef::generated("financial_connections_transactions")])
    .facts(Facts::of("financial_connections.transaction"))
    .params(&[("account", "{id}")])
    .child_of(ParentRef::to("financial_connections_accounts").include(&[("id", "account")])),
    of_account("treasury_credit_reversals", "/v1/treasury/credit_reversals")
        .streams(&[StreamDef::generated("treasury_credit_reversals").note(NEEDED)])
        .facts(Facts::of("treasury.credit_reversal"))
        .incremental(),
    of_account("treasury_debit_reversals", "/v1/treasury/debit_reversals")
        .streams(&[StreamDef::generated("treasury_debit_reversals").note(NEEDED)])
        .facts(Facts::of("treasury.debit_reversal"))
        .incremental(),
    kept(
        "treasury_financial_accounts",
        "/v1/treasury/financial_accounts",
    )
    .streams(&[StreamDef::generated("treasury_financial_accounts").note(NEEDED)])
    .facts(Facts::of("treasury.financial_account").expand(&["features"]))
    .full_refresh(),
    of_account(
        "treasury_inbound_transfers",
        "/v1/treasury/inbound_transfers",
    )
    .streams(&[StreamDef::generated("treasury_inbound_transfers").note(NEEDED)])
    .facts(Facts::of("treasury.inbound_transfer"))
    .incremental(),
    of_account(
        "treasury_outbound_payments",
        "/v1/treasury/outbound_payments",
    )
    .streams(&[StreamDef::generated("treasury_outbound_payments").note(NEEDED)])
    .facts(Facts::of("treasury.outbound_payment"))
    .incremental(),
    of_account(
        "treasury_outbound_transfers",
        "/v1/treasury/outbound_transfers",
    )
    .streams(&[StreamDef::generated("treasury_outbound_transfers").note(NEEDED)])
    .facts(Facts::of("treasury.outbound_transfer"))
    .incremental(),
    of_account("treasury_received_credits", "/v1/treasury/received_credits")
        .streams(&[StreamDef::generated("treasury_received_credits").note(NEEDED)])
        .facts(Facts::of("treasury.received_credit"))
        .incremental(),
    of_account("treasury_received_debits", "/v1/treasury/received_debits")
        .streams(&[StreamDef::generated("treasury_received_debits").note(NEEDED)])
        .facts(Facts::of("treasury.received_debit"))
        .incremental(),
    of_account(
        "treasury_transaction_entries",
        "/v1/treasury/transaction_entries",
    )
    .streams(&[StreamDef::generated("treasury_transaction_entries").note(NEEDED)])
    .facts(Facts::of("treasury.transaction_entry")),
    of_account("treasury_transactions", "/v1/treasury/transactions")
        .streams(&[StreamDef::generated("treasury_transactions").note(NEEDED)])
        .facts(Facts::of("treasury.transaction")),
];
