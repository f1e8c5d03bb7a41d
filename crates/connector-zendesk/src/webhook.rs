//! Webhooks: Zendesk says that something has happened, at once.
//!
//! What a webhook says is never stored: it comes at least once and in no order, and whoever set it
//! up chose what it says. Whoever receives one proves it and runs a sync sooner than planned. The
//! exports show what has happened a minute later.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
pub use pipeline_core::webhook::Rejection;
use pipeline_core::webhook::{SigningSecrets, check_age};
use secrecy::SecretString;

/// How old a webhook may be. It is as long ahead of our clock.
const TOLERANCE: TimeDelta = TimeDelta::seconds(300);

/// What proves the webhooks of an account.
#[derive(Clone, Debug)]
pub struct Webhooks {
    secrets: SigningSecrets,
}

impl Webhooks {
    /// Takes the webhooks' signing secrets. Each webhook has one of its own;
    /// `/api/v2/webhooks/{id}/signing_secret` shows it.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`](pipeline_core::ErrorKind::ConfigInvalid) when there is none, or
    /// one is empty or has white space around it.
    pub fn new(secrets: impl IntoIterator<Item = SecretString>) -> pipeline_core::Result<Self> {
        Ok(Self {
            secrets: SigningSecrets::new(secrets)?,
        })
    }

    /// Proves that Zendesk has sent a webhook within the last five minutes.
    ///
    /// `signature` is the header `X-Zendesk-Webhook-Signature`, `timestamp` is
    /// `X-Zendesk-Webhook-Signature-Timestamp`, and `body` the bytes of the body as they came, of
    /// which there may be none.
    ///
    /// # Errors
    /// Why it is not to be believed.
    pub fn verify(
        &self,
        signature: &str,
        timestamp: &str,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<(), Rejection> {
        let made = STANDARD
            .decode(signature)
            .ok()
            .filter(|made| !made.is_empty())
            .ok_or(Rejection::Malformed)?;
        let sent = DateTime::parse_from_rfc3339(timestamp).map_err(|_| Rejection::Malformed)?;
        self.secrets
            .verify(&[timestamp.as_bytes(), body], [&*made])?;
        check_age(sent.to_utc(), now, TOLERANCE)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const BODY: &str = r#"{"ticket_id":42,"title":"Gr\u00fc\u00dfe"}"#;
    const SENT: &str = "2026-11-26T10:00:00Z";
    /// Made by another implementation, of the body and of none.
    const SIGNED: &str = "GmrbajVlAbK+YSst6U9i1HqX7autcZq6Y1LZu/MT9qo=";
    const SIGNED_NONE: &str = "YuirHgumTv1PaFDnONolWtxoheZXw4U7p7FUO+Oz6HA=";

    fn verify(
        secret: &str,
        signature: &str,
        timestamp: &str,
        body: &str,
        after: i64,
    ) -> Result<(), Rejection> {
        let webhooks = Webhooks::new(["first".into(), secret.into()]).unwrap();
        let now = DateTime::parse_from_rfc3339(SENT).unwrap().to_utc() + TimeDelta::seconds(after);
        webhooks.verify(signature, timestamp, body.as_bytes(), now)
    }

    #[test]
    fn c55_a_webhook_counts_that_is_signed_whole_and_now() {
        for after in [0, 300, -300] {
            assert_eq!(verify("second", SIGNED, SENT, BODY, after), Ok(()));
            assert_eq!(
                verify("second", SIGNED_NONE, SENT, "", after),
                Ok(()),
                "one without a body"
            );
        }
        let cases = [
            ("second", SIGNED, SENT, BODY, 301, Rejection::Stale),
            ("second", SIGNED, SENT, BODY, -301, Rejection::Stale),
            (
                "second",
                SIGNED,
                SENT,
                "{\"ticket_id\":43,\"title\":\"Gr\\u00fc\\u00dfe\"}",
                0,
                Rejection::Forged,
            ),
            (
                "second",
                SIGNED,
                SENT,
                "{\"ticket_id\": 42,\"title\":\"Gr\\u00fc\\u00dfe\"}",
                0,
                Rejection::Forged,
            ),
            (
                "second",
                SIGNED,
                "2026-11-26T10:00:01Z",
                BODY,
                0,
                Rejection::Forged,
            ),
            ("another", SIGNED, SENT, BODY, 0, Rejection::Forged),
            ("second", SIGNED_NONE, SENT, BODY, 0, Rejection::Forged),
            ("second", "", SENT, BODY, 0, Rejection::Malformed),
            ("second", "not base64!", SENT, BODY, 0, Rejection::Malformed),
            ("second", SIGNED, "yesterday", BODY, 0, Rejection::Malformed),
            ("second", SIGNED, "", BODY, 0, Rejection::Malformed),
        ];
        for (secret, signature, timestamp, body, after, expected) in cases {
            assert_eq!(
                verify(secret, signature, timestamp, body, after),
                Err(expected),
                "{secret} {timestamp} {after} {body}"
            );
        }
    }

    #[test]
    fn no_secret_is_printed_and_none_that_is_empty_is_taken() {
        assert!(!format!("{:?}", Webhooks::new(["second".into()]).unwrap()).contains("second"));
        assert_eq!(
            Webhooks::new(["".into()]).unwrap_err().kind(),
            pipeline_core::ErrorKind::ConfigInvalid
        );
    }
}
