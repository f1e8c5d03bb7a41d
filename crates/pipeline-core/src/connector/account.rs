//! Several accounts in one source.
//!
//! Every account has endpoints of its own, with states and failures of their own, that feed the
//! same tables. Their declarations say so by [`Endpoint::by_account`](crate::Endpoint::by_account),
//! and [`Connector::open`](crate::Connector::open) makes of them, by
//! [`Endpoint::of_account`](crate::Endpoint::of_account), those of each account.
//! [`HttpClient::for_account`](crate::http::HttpClient::for_account) sends requests for one of
//! them.

use std::sync::Arc;

use crate::connector::endpoint::Endpoint;
use crate::model::state::EndpointId;

/// One of several accounts that a source reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The vendor's id of it.
    pub id: Arc<str>,
    /// Whether the configuration names it. Then it is a failure that it may not be read; one that
    /// was found by asking the vendor is unavailable, even to streams that are named.
    pub named: bool,
}

impl Endpoint {
    /// Is one of several accounts' endpoints: this column, which the engine fills, is the first of
    /// every key and names the account of a row. [`Connector::open`](crate::Connector::open) finds
    /// out which accounts there are.
    pub fn by_account(mut self, column: &'static str) -> Self {
        self.account_column = Some(column);
        for feed in Arc::make_mut(&mut self.feeds) {
            feed.stream.keyed_by(column);
        }
        self
    }

    /// The same endpoint for one account, with a state of its own; its rows go to the same tables.
    /// Needs [`by_account`](Self::by_account).
    pub fn of_account(mut self, account: Account) -> Self {
        self.account = Some(account);
        self
    }

    /// The account that is read.
    pub fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// The column that distinguishes accounts, and the value that rows of this endpoint have in it.
    pub fn account_value(&self) -> Option<(&'static str, &str)> {
        Some((self.account_column?, &self.account.as_ref()?.id))
    }

    /// The key of its state in a source.
    pub fn id(&self, source: &str) -> EndpointId {
        EndpointId::of_account(
            source,
            self.name(),
            self.account.as_ref().map(|account| &*account.id),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::stream::Stream;
    use crate::model::schema::Schema;

    #[test]
    fn the_endpoints_of_all_accounts_share_what_they_declare_whatever_is_selected() {
        let stream = |name: &'static str| Stream::new(name, Schema::default()).primary_key(["id"]);
        let declared = Endpoint::get("orders", "/orders")
            .records("data")
            .stream(stream("orders"))
            .records("data.lines")
            .stream(stream("lines"));
        let declared = declared.by_account("_account");
        let of = |id: &str| {
            declared
                .clone()
                .of_account(Account {
                    id: id.into(),
                    named: false,
                })
                .select(|name| name == "orders")
        };
        let (one, other) = (of("1"), of("2"));
        assert!(Arc::ptr_eq(&one.feeds, &declared.feeds) && Arc::ptr_eq(&one.feeds, &other.feeds));
        assert!(one.wants(0) && !one.wants(1) && !one.wants(2));
        assert!(
            declared.wants(1) && !declared.wants(2),
            "all are, unless somebody says which"
        );
    }
}
