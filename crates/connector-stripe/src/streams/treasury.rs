//! Treasury: bank accounts that the account keeps for others, and Financial Connections: those it
//! may look into.

use super::Stream;

const OF_ACCOUNT: &[(&str, &str)] = &[("financial_account", "{id}")];

/// A list that every financial account has.
const fn of_account(name: &'static str, path: &'static str, object: &'static str) -> Stream {
    Stream::new(name, path, object)
        .each("treasury_financial_accounts")
        .owner("financial_account")
        .query(OF_ACCOUNT)
        .note("needs Treasury")
}

/// The streams.
pub(super) const STREAMS: &[Stream] = &[
    Stream::new(
        "financial_connections_accounts",
        "/v1/financial_connections/accounts",
        "financial_connections.account",
    )
    .unfiltered(),
    Stream::new(
        "financial_connections_transactions",
        "/v1/financial_connections/transactions",
        "financial_connections.transaction",
    )
    .each("financial_connections_accounts")
    .owner("account")
    .query(&[("account", "{id}")]),
    of_account(
        "treasury_credit_reversals",
        "/v1/treasury/credit_reversals",
        "treasury.credit_reversal",
    ),
    of_account(
        "treasury_debit_reversals",
        "/v1/treasury/debit_reversals",
        "treasury.debit_reversal",
    ),
    Stream::new(
        "treasury_financial_accounts",
        "/v1/treasury/financial_accounts",
        "treasury.financial_account",
    )
    .whole()
    .expand(&["features"])
    .note("needs Treasury"),
    of_account(
        "treasury_inbound_transfers",
        "/v1/treasury/inbound_transfers",
        "treasury.inbound_transfer",
    ),
    of_account(
        "treasury_outbound_payments",
        "/v1/treasury/outbound_payments",
        "treasury.outbound_payment",
    ),
    of_account(
        "treasury_outbound_transfers",
        "/v1/treasury/outbound_transfers",
        "treasury.outbound_transfer",
    ),
    of_account(
        "treasury_received_credits",
        "/v1/treasury/received_credits",
        "treasury.received_credit",
    ),
    of_account(
        "treasury_received_debits",
        "/v1/treasury/received_debits",
        "treasury.received_debit",
    ),
    of_account(
        "treasury_transaction_entries",
        "/v1/treasury/transaction_entries",
        "treasury.transaction_entry",
    ),
    of_account(
        "treasury_transactions",
        "/v1/treasury/transactions",
        "treasury.transaction",
    ),
];
