//! Credentials, added to every attempt anew.

mod oauth;
mod token_endpoint;
pub(crate) mod token_pair;
mod token_store;

use std::fmt::Debug;

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::AUTHORIZATION;
use secrecy::{ExposeSecret, SecretString};

pub use self::oauth::OAuth2;
pub use self::token_store::{FileTokens, MemoryTokens, TokenLock, TokenStore};
use crate::error::{Error, ErrorKind, Result};
use crate::http::{HeaderName, HeaderValue};
use crate::message::Request;

/// Which issue of a credential a request carried; rises with every refresh.
pub type CredentialGeneration = u64;

/// Adds credentials to requests.
#[async_trait]
pub trait Authenticator: Send + Sync + Debug {
    /// Adds the current credential and says which one it is. May refresh one that is about to
    /// expire.
    async fn authenticate(&self, request: &mut Request) -> Result<CredentialGeneration>;

    /// Replaces the credential that was refused. Does nothing when a newer one is already there:
    /// fifty tasks that were refused under one generation cause one refresh.
    ///
    /// Returns false when there is nothing newer to be had, as for a fixed key.
    async fn refresh(&self, refused: CredentialGeneration) -> Result<bool>;

    /// Secrets that it holds beyond what it adds to requests, such as a client's secret: they are
    /// taken out of everything that is shown. Asked for each time that a credential was issued.
    /// Default: none.
    async fn secrets(&self) -> Vec<SecretString> {
        Vec::new()
    }
}

/// No credential.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

#[async_trait]
impl Authenticator for Anonymous {
    async fn authenticate(&self, _request: &mut Request) -> Result<CredentialGeneration> {
        Ok(0)
    }

    async fn refresh(&self, _refused: CredentialGeneration) -> Result<bool> {
        Ok(false)
    }
}

/// A user and a password, or a key in the place of either.
#[derive(Clone, Debug)]
pub struct Basic(SecretString);

impl Basic {
    /// Sends `Authorization: Basic <base64 of user:password>`. The user must not hold a colon; the
    /// password may be empty, as where a key stands in the user's place.
    pub fn new(user: &SecretString, password: &SecretString) -> Self {
        let pair = SecretString::from(format!(
            "{}:{}",
            user.expose_secret(),
            password.expose_secret()
        ));
        Self(BASE64_STANDARD.encode(pair.expose_secret()).into())
    }
}

#[async_trait]
impl Authenticator for Basic {
    async fn authenticate(&self, request: &mut Request) -> Result<CredentialGeneration> {
        set_header(
            request,
            AUTHORIZATION,
            &format!("Basic {}", self.0.expose_secret()),
        )
    }

    async fn refresh(&self, _refused: CredentialGeneration) -> Result<bool> {
        Ok(false)
    }
}

/// A fixed token.
#[derive(Clone, Debug)]
pub struct Bearer(SecretString);

impl Bearer {
    /// Sends `Authorization: Bearer <token>`.
    pub fn new(token: SecretString) -> Self {
        Self(token)
    }
}

#[async_trait]
impl Authenticator for Bearer {
    async fn authenticate(&self, request: &mut Request) -> Result<CredentialGeneration> {
        set_header(
            request,
            AUTHORIZATION,
            &format!("Bearer {}", self.0.expose_secret()),
        )
    }

    async fn refresh(&self, _refused: CredentialGeneration) -> Result<bool> {
        Ok(false)
    }
}

/// A key in a header or in the query.
#[derive(Clone, Debug)]
pub struct ApiKey {
    place: KeyLocation,
    key: SecretString,
}

#[derive(Clone, Debug)]
enum KeyLocation {
    Header(HeaderName),
    Query(String),
}

impl ApiKey {
    /// Sends the key as the value of a header.
    pub fn header(name: HeaderName, key: SecretString) -> Self {
        Self {
            place: KeyLocation::Header(name),
            key,
        }
    }

    /// Sends the key as a query parameter. Prefer a header where the vendor takes one: proxies log
    /// URLs.
    pub fn query(name: impl Into<String>, key: SecretString) -> Self {
        Self {
            place: KeyLocation::Query(name.into()),
            key,
        }
    }
}

#[async_trait]
impl Authenticator for ApiKey {
    async fn authenticate(&self, request: &mut Request) -> Result<CredentialGeneration> {
        match &self.place {
            KeyLocation::Header(name) => {
                set_header(request, name.clone(), self.key.expose_secret())
            }
            KeyLocation::Query(name) => {
                request.set_query(name, self.key.expose_secret());
                Ok(0)
            }
        }
    }

    async fn refresh(&self, _refused: CredentialGeneration) -> Result<bool> {
        Ok(false)
    }
}

/// Sets a header that holds a secret.
pub(crate) fn set_header(
    request: &mut Request,
    name: HeaderName,
    value: &str,
) -> Result<CredentialGeneration> {
    let invalid = |_| {
        Error::new(
            ErrorKind::ConfigInvalid,
            "the credential holds a character that a header cannot carry",
        )
        .with_help("look for a line break or another stray character in it")
    };
    let mut value = HeaderValue::from_str(value).map_err(invalid)?;
    value.set_sensitive(true);
    request.headers.insert(name, value);
    Ok(0)
}
