//! Several accounts in one source.
//!
//! Every account has endpoints of its own, with states and failures of their own, that feed the same tables. Their
//! declarations say so by [`Endpoint::by_account`](crate::Endpoint::by_account), and
//! [`Connector::prepare`](crate::Connector::prepare) makes of them, by [`Endpoint::of_account`](crate::Endpoint::of_account),
//! those of each account. [`HttpClient::for_account`](crate::http::HttpClient::for_account) sends requests for one of them.

use std::sync::Arc;

/// One of several accounts that a source reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The vendor's id of it.
    pub id: Arc<str>,
    /// Whether the configuration names it. Then it is a failure that it may not be read; one that was found by asking the
    /// vendor is unavailable, even to streams that are named.
    pub named: bool,
}
