//! Credentials, added to every attempt anew.

use std::fmt::Debug;

use async_trait::async_trait;
use secrecy::SecretString;

use super::Request;
use crate::error::Result;

/// Which issue of a credential a request carried; rises with every refresh.
pub type Generation = u64;

/// Adds credentials to requests.
#[async_trait]
pub trait Authenticator: Send + Sync + Debug {
    /// Adds the current credential and says which one it is. May refresh one that is about to expire.
    async fn authenticate(&self, request: &mut Request) -> Result<Generation>;

    /// Replaces the credential that was refused. Does nothing when a newer one is already there: fifty tasks that were
    /// refused under one generation cause one refresh.
    ///
    /// Returns false when there is nothing newer to be had, as for a fixed key.
    async fn refresh(&self, refused: Generation) -> Result<bool>;
}

/// No credential.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

#[async_trait]
impl Authenticator for Anonymous {
    async fn authenticate(&self, _request: &mut Request) -> Result<Generation> {
        Ok(0)
    }

    async fn refresh(&self, _refused: Generation) -> Result<bool> {
        Ok(false)
    }
}

/// Keeps tokens that the vendor replaces while we use them, such as rotating refresh tokens.
#[async_trait]
pub trait TokenStore: Send + Sync + Debug {
    /// The stored token, if any.
    async fn load(&self, key: &str) -> Result<Option<SecretString>>;

    /// Stores a token durably before it is first used: after a crash the old one is worth nothing.
    async fn save(&self, key: &str, token: &SecretString) -> Result<()>;
}

/// Keeps tokens until the process ends.
#[derive(Debug, Default)]
pub struct MemoryTokens(std::sync::Mutex<std::collections::HashMap<String, SecretString>>);

#[async_trait]
impl TokenStore for MemoryTokens {
    async fn load(&self, key: &str) -> Result<Option<SecretString>> {
        Ok(self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(key).cloned())
    }

    async fn save(&self, key: &str, token: &SecretString) -> Result<()> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(key.to_owned(), token.clone());
        Ok(())
    }
}
