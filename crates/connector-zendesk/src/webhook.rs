//! Webhooks: Zendesk says that something has happened, at once.
//!
//! What a webhook says is never stored: it comes at least once and in no order, and whoever set it
//! up chose what it says. Whoever receives one proves it and runs a sync sooner than planned. The
//! exports show what has happened a minute later.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::http::HeaderMap;
pub use pipeline_core::webhook::Rejection;
use pipeline_core::webhook::{SigningSecrets, WebhookHint, WebhookReader, check_age};
use secrecy::SecretString;
use serde::Deserialize;

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

/// The streams that events of a domain concern: those that Zendesk exports by change.
///
/// `zen:event-type:DOMAIN.WHAT` is the type of an event; a webhook of a trigger or an automation
/// has no type, and is about a ticket.
const CONCERNED: &[(&str, &[&str])] = &[
    ("article", &["articles"]),
    ("organization", &["organizations"]),
    (
        "ticket",
        &[
            "tickets",
            "ticket_comments",
            "ticket_events",
            "ticket_metrics",
        ],
    ),
    ("user", &["users"]),
];

/// The domain of a webhook that says nothing of its own.
const TICKET: &str = "ticket";

/// How old a time must be that is asked for, and a second more.
const SETTLES: Duration = Duration::from_secs(61);

/// The webhooks of a configured source.
#[derive(Debug)]
pub(crate) struct ZendeskHooks(Webhooks);

impl ZendeskHooks {
    pub(crate) fn new(secrets: SigningSecrets) -> Self {
        Self(Webhooks { secrets })
    }
}

impl WebhookReader for ZendeskHooks {
    fn read(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<WebhookHint, Rejection> {
        let header = |name| {
            let value = headers.get(name).ok_or(Rejection::Malformed)?;
            value.to_str().map_err(|_| Rejection::Malformed)
        };
        let signature = header("x-zendesk-webhook-signature")?;
        let timestamp = header("x-zendesk-webhook-signature-timestamp")?;
        self.0.verify(signature, timestamp, body, now)?;
        let kind = kind(body);
        let domain = match &kind {
            Some(kind) => kind.split('.').next().unwrap_or_default(),
            None => TICKET,
        };
        let concerned = CONCERNED.iter().find(|(known, _)| *known == domain);
        let streams: BTreeSet<String> = concerned
            .map(|(_, streams)| streams.iter().map(|name| (*name).to_owned()).collect())
            .unwrap_or_default();
        Ok(WebhookHint {
            // No header with an id is signed.
            id: Some(signature.to_owned()),
            kind: kind.unwrap_or_else(|| TICKET.to_owned()),
            streams,
        })
    }

    fn settles_after(&self) -> Duration {
        SETTLES
    }
}

/// The type of an event without what all of them begin with; none when the body is not an event.
fn kind(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "type")]
        kind: String,
    }
    let event: Event = serde_json::from_slice(body).ok()?;
    let kind = event.kind.strip_prefix("zen:event-type:")?;
    Some(kind.to_owned())
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
    fn the_streams_of_an_event_are_those_that_are_exported_by_change() {
        let reader = ZendeskHooks::new(SigningSecrets::new(["second".into()]).unwrap());
        let now = DateTime::parse_from_rfc3339(SENT).unwrap().to_utc();
        let tickets = &[
            "ticket_comments",
            "ticket_events",
            "ticket_metrics",
            "tickets",
        ][..];
        let cases = [
            (BODY, SIGNED, "ticket", tickets),
            ("", SIGNED_NONE, "ticket", tickets),
            (
                r#"{"type":"zen:event-type:user.created","id":"1"}"#,
                "nrv7ayBVdChIS/l7OYJAsSz/2cgx62QGoB7YHNCFNNI=",
                "user.created",
                &["users"],
            ),
            (
                r#"{"type":"zen:event-type:ticket.status_changed"}"#,
                "9ugSp28DFLFSYgA1QwvUXcwmNL2R8yt8a6o3dcsedtw=",
                "ticket.status_changed",
                tickets,
            ),
            (
                r#"{"type":"zen:event-type:agent.state_changed"}"#,
                "AMx/QshsQ4CXwIWvqgAEkTSHVVXluOH75GTj3oGL6DM=",
                "agent.state_changed",
                &[],
            ),
        ];
        for (body, signature, kind, streams) in cases {
            let mut headers = HeaderMap::new();
            headers.insert("x-zendesk-webhook-signature", signature.parse().unwrap());
            let time = "x-zendesk-webhook-signature-timestamp";
            headers.insert(time, SENT.parse().unwrap());
            let hint = reader.read(&headers, body.as_bytes(), now).unwrap();
            assert_eq!((&*hint.kind, hint.id.as_deref()), (kind, Some(signature)));
            assert!(hint.streams.iter().eq(streams), "{kind}: {hint:?}");
            headers.remove(time);
            assert_eq!(
                reader.read(&headers, body.as_bytes(), now),
                Err(Rejection::Malformed)
            );
        }
        // Every stream that is named is one.
        let endpoints = crate::streams::endpoints(100, &[]);
        let known: BTreeSet<&str> = endpoints
            .iter()
            .flat_map(|endpoint| endpoint.streams().map(pipeline_core::Stream::name))
            .collect();
        for stream in CONCERNED.iter().flat_map(|(_, streams)| *streams) {
            assert!(known.contains(stream), "{stream}");
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
