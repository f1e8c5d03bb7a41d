//! A refresh token and its access token, as they are stored between runs.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};

/// An access token.
#[derive(Clone)]
pub(crate) struct AccessToken {
    pub(crate) token: SecretString,
    /// When to replace it.
    pub(crate) stale: DateTime<Utc>,
    /// When it ends.
    pub(crate) expires: DateTime<Utc>,
}

impl AccessToken {
    /// True for a token that is good for a while and is not the one that was refused or has grown
    /// old.
    pub(crate) fn is_newer_than(&self, known: Option<&SecretString>, now: DateTime<Utc>) -> bool {
        self.stale > now
            && known.is_none_or(|known| known.expose_secret() != self.token.expose_secret())
    }
}

/// What is stored of one authorization: each refresh replaces both parts.
pub(crate) struct Pair {
    pub(crate) refresh: SecretString,
    /// None before the first refresh.
    pub(crate) access: Option<AccessToken>,
}

impl Pair {
    /// The stored text.
    pub(crate) fn text(&self) -> SecretString {
        let mut stored = serde_json::json!({ "refresh_token": self.refresh.expose_secret() });
        if let Some(access) = &self.access {
            stored["access_token"] = access.token.expose_secret().into();
            stored["replace_at"] = access.stale.timestamp().into();
            stored["expires_at"] = access.expires.timestamp().into();
        }
        stored.to_string().into()
    }

    /// Reads a stored text. The cause of a failure is left out, as it may quote a token.
    pub(crate) fn read(text: &SecretString) -> Result<Self> {
        #[derive(Deserialize)]
        struct Stored {
            refresh_token: SecretString,
            access_token: Option<SecretString>,
            replace_at: Option<i64>,
            expires_at: Option<i64>,
        }
        let stored: Stored = serde_json::from_str(text.expose_secret()).map_err(|_| {
            Error::new(ErrorKind::Decode, "the stored tokens are damaged")
                .with_help("re-authorise this source and configure the new refresh token")
        })?;
        let time = |seconds: Option<i64>| DateTime::from_timestamp(seconds?, 0);
        let times = time(stored.replace_at).zip(time(stored.expires_at));
        let access = stored
            .access_token
            .zip(times)
            .map(|(token, (stale, expires))| AccessToken {
                token,
                stale,
                expires,
            });
        Ok(Self {
            refresh: stored.refresh_token,
            access,
        })
    }
}

/// How long a token lives that says so itself: a JSON Web Token, three parts of which the second
/// holds `exp`.
pub(crate) fn jwt_life(token: &str, now: DateTime<Utc>) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Claims {
        exp: i64,
    }
    let mut parts = token.split('.');
    let (_head, claims, _signature, None) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next())
    else {
        return None;
    };
    let claims: Claims =
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    (DateTime::from_timestamp(claims.exp, 0)? - now)
        .to_std()
        .ok()
        .filter(|life| !life.is_zero())
}
