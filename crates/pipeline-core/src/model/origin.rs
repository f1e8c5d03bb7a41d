//! Whose data a source reads: what distinguishes one account from another, so that no table ever
//! holds two of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::host::is_loopback;

/// What the records of a source were read from, as far as it is known. No part of it is a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// What the vendor calls the account: an id, a name. None: the credentials may not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Which of the account's worlds it is, in words: `test mode`, `region eu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// The vendor's host. None for one on this machine: that of a test, or of a tunnel, whose port
    /// says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl Origin {
    /// An account with an id.
    pub fn of_account(account: impl Into<String>) -> Self {
        Self {
            account: Some(account.into()),
            ..Self::default()
        }
    }

    /// Adds which of the account's worlds it is.
    #[must_use]
    pub fn realm(mut self, realm: impl Into<String>) -> Self {
        self.realm = Some(realm.into());
        self
    }

    /// Adds the host of a URL, unless it is this machine.
    #[must_use]
    pub fn host(mut self, url: &url::Url) -> Self {
        self.host = url
            .host_str()
            .filter(|_| !is_loopback(url))
            .map(str::to_ascii_lowercase);
        self
    }

    /// True when nothing is known.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }

    /// Whether this is another account than `other`. What only one of the two knows is no
    /// difference; where both know the account itself, it does not matter by which host it is
    /// reached.
    pub fn differs_from(&self, other: &Self) -> bool {
        let differ = |one: &Option<String>, other: &Option<String>| {
            one.is_some() && other.is_some() && one != other
        };
        let is_named = self.account.is_some() && other.account.is_some();
        differ(&self.account, &other.account)
            || differ(&self.realm, &other.realm)
            || !is_named && differ(&self.host, &other.host)
    }

    /// Whether the account is known now, and was not before: that it is the same is then assumed
    /// and not proved.
    pub fn is_assumed(&self, before: &Self) -> bool {
        self.account.is_some() && before.account.is_none() && !before.is_unknown()
    }

    /// What is known now, and what was known before of the rest.
    #[must_use]
    pub fn or(self, before: Option<&Self>) -> Self {
        let Some(before) = before else { return self };
        Self {
            account: self.account.or_else(|| before.account.clone()),
            realm: self.realm.or_else(|| before.realm.clone()),
            host: self.host.or_else(|| before.host.clone()),
        }
    }

    /// The notice that the account of what is stored is assumed to be this one.
    pub fn assumption(&self, source: &str, before: &Self) -> String {
        format!(
            "the credentials now belong to {self}; the stored rows were read from {before}, whose \
             id was not known, and are taken for the same account's: if they are not, give this \
             one a source name of its own, or run `pipeline state reset {source} --yes` and sync \
             again"
        )
    }

    /// The refusal to read this into what `before` was read into.
    pub fn refusal(&self, source: &str, before: &Self) -> Error {
        let message = format!(
            "source `{source}` was read from {before}, and now its credentials belong to {self}"
        );
        Error::new(ErrorKind::ConfigInvalid, message).with_help(format!(
            "to keep both, give this one a source name of its own; to replace what is there, run \
             `pipeline state reset {source} --yes` and sync again; if the credentials were changed \
             by mistake, put the old ones back"
        ))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.account, &self.realm, &self.host) {
            (Some(account), Some(realm), _) => write!(f, "account {account} ({realm})"),
            (Some(account), None, _) => write!(f, "account {account}"),
            (None, Some(realm), Some(host)) => write!(f, "an account at {host} ({realm})"),
            (None, Some(realm), None) => write!(f, "an account in {realm}"),
            (None, None, Some(host)) => write!(f, "an account at {host}"),
            (None, None, None) => f.write_str("an account that nobody knows"),
        }
    }
}
