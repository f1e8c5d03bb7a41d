//! Proof that a webhook comes from the vendor, and that it is not an old one sent again.
//!
//! Vendors sign what they send with a secret that both sides know, and the time with it. A webhook
//! never carries data into a destination here: it only says that a sync would find something.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, Mac};
use http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use crate::error::{Error, ErrorKind, Result};

/// Why a webhook is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// A header is not what the vendor documents.
    #[error("the webhook's signature is malformed")]
    Malformed,
    /// No signature was made with one of the secrets, of these very bytes.
    #[error("the webhook's signature is wrong")]
    Forged,
    /// It was sent longer ago than a webhook may be, or its time lies as far ahead.
    #[error("the webhook was sent too long ago, or a clock is wrong")]
    Stale,
    /// It is signed, but is not a message that the vendor documents.
    #[error("the webhook's body is not what the vendor documents")]
    Unreadable,
}

/// The secrets that a vendor signs with: more than one while one is being replaced.
#[derive(Clone, Debug)]
pub struct SigningSecrets(Vec<SecretString>);

impl SigningSecrets {
    /// Takes the secrets as the vendor shows them.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`] when there is none, or one is empty or has white space around
    /// it: anyone could sign with an empty one, and nothing would be accepted with a copied line
    /// end.
    pub fn new(secrets: impl IntoIterator<Item = SecretString>) -> Result<Self> {
        let secrets: Vec<SecretString> = secrets.into_iter().collect();
        let is_unusable = |secret: &SecretString| {
            let secret = secret.expose_secret();
            secret.is_empty() || secret.trim() != secret
        };
        if secrets.is_empty() || secrets.iter().any(is_unusable) {
            return Err(Error::new(
                ErrorKind::ConfigInvalid,
                "a webhook's signing secret is missing, or has white space around it",
            )
            .with_help("copy it again from the vendor's settings of the webhook"));
        }
        Ok(Self(secrets))
    }

    /// Accepts what is signed with HMAC-SHA256: by any of the secrets, in any of the signatures.
    /// What is signed may come in parts. Comparing takes the same time whatever the signatures are.
    ///
    /// # Errors
    /// [`Rejection::Forged`] when none fits.
    pub fn verify<'s>(
        &self,
        signed: &[&[u8]],
        signatures: impl IntoIterator<Item = &'s [u8]>,
    ) -> Result<(), Rejection> {
        let expected: Vec<Hmac<Sha256>> = self.0.iter().map(|secret| of(secret, signed)).collect();
        let fits = |signature: &[u8]| {
            expected
                .iter()
                .filter(|mac| (*mac).clone().verify_slice(signature).is_ok())
                .count()
                > 0
        };
        if signatures
            .into_iter()
            .filter(|signature| fits(signature))
            .count()
            > 0
        {
            Ok(())
        } else {
            Err(Rejection::Forged)
        }
    }
}

/// Proves the webhooks of one vendor, and reads what they are about.
pub trait WebhookReader: Debug + Send + Sync {
    /// Proves that the vendor has sent these headers and this body, and recently. `body` has to be
    /// the bytes as they came.
    ///
    /// # Errors
    /// Why it is not to be believed.
    fn read(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<WebhookHint, Rejection>;

    /// Time from a webhook until a sync finds what it is about.
    fn settles_after(&self) -> Duration;
}

/// What a webhook is about. It says where to look, never what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookHint {
    /// The same for every delivery of one event; none where the vendor signs nothing like it.
    pub id: Option<String>,
    /// The vendor's name of what has happened.
    pub kind: String,
    /// Streams that have changed; none when the event concerns no stream of the connector.
    pub streams: BTreeSet<String>,
}

fn of(secret: &SecretString, signed: &[&[u8]]) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes());
    let mut mac = mac.unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    for part in signed {
        mac.update(part);
    }
    mac
}

/// Accepts what was sent at most so long ago, and no further ahead of our clock.
///
/// # Errors
/// [`Rejection::Stale`].
pub fn check_age(
    sent: DateTime<Utc>,
    now: DateTime<Utc>,
    tolerance: TimeDelta,
) -> Result<(), Rejection> {
    if (now - sent).abs() > tolerance {
        Err(Rejection::Stale)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn secrets(all: &[&str]) -> Result<SigningSecrets> {
        SigningSecrets::new(all.iter().map(|secret| SecretString::from(*secret)))
    }

    /// The second test case of RFC 4231.
    const KNOWN: [u8; 32] = [
        0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24, 0x26, 0x08, 0x95, 0x75,
        0xc7, 0x5a, 0x00, 0x3f, 0x08, 0x9d, 0x27, 0x39, 0x83, 0x9d, 0xec, 0x58, 0xb9, 0x64, 0xec,
        0x38, 0x43,
    ];

    #[test]
    fn any_signature_by_any_secret_counts_and_nothing_else_does() {
        let text: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
        let one = secrets(&["Jefe"]).unwrap();
        let two = secrets(&["other", "Jefe"]).unwrap();
        for known in [&one, &two] {
            assert_eq!(known.verify(&text, [&KNOWN[..]]), Ok(()));
            assert_eq!(known.verify(&text, [&[0; 32][..], &KNOWN]), Ok(()));
            for wrong in [&KNOWN[..31], &[][..], &[0; 32]] {
                assert_eq!(known.verify(&text, [wrong]), Err(Rejection::Forged));
            }
            assert_eq!(known.verify(&text, []), Err(Rejection::Forged));
            assert_eq!(
                known.verify(&text[..1], [&KNOWN[..]]),
                Err(Rejection::Forged)
            );
        }
        assert_eq!(
            secrets(&["other"]).unwrap().verify(&text, [&KNOWN[..]]),
            Err(Rejection::Forged)
        );
    }

    #[test]
    fn secrets_that_cannot_be_right_are_refused_and_none_is_printed() {
        for wrong in [&[][..], &[""], &["good", ""], &["copied\n"], &[" copied"]] {
            let error = secrets(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConfigInvalid);
            assert!(!format!("{error:?}").contains("copied"));
        }
        assert!(!format!("{:?}", secrets(&["Jefe"]).unwrap()).contains("Jefe"));
    }

    #[test]
    fn age_counts_in_both_directions() {
        let at = |second| DateTime::from_timestamp(second, 0).unwrap_or_default();
        let tolerance = TimeDelta::seconds(300);
        for (sent, expected) in [
            (700, Ok(())),
            (699, Err(Rejection::Stale)),
            (1_300, Ok(())),
            (1_301, Err(Rejection::Stale)),
        ] {
            assert_eq!(
                check_age(at(sent), at(1_000), tolerance),
                expected,
                "{sent}"
            );
        }
    }
}
