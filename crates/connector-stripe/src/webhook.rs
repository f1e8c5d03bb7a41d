//! Webhooks: Stripe says that something has happened, at once.
//!
//! What a webhook says is never stored: it comes at least once, in no order, and in the version of
//! the API that its endpoint was made with. Whoever receives one proves it and runs a sync sooner
//! than planned. The sync reads Stripe's own list of events, in which each is there once.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use pipeline_core::http::HeaderMap;
pub use pipeline_core::webhook::Rejection;
use pipeline_core::webhook::{SigningSecrets, WebhookHint, WebhookReader, check_age};
use secrecy::SecretString;
use serde::Deserialize;

use crate::change_feed::concerned;

/// How old a webhook may be, as Stripe's own libraries have it. It is as long ahead of our clock.
const TOLERANCE: TimeDelta = TimeDelta::seconds(300);

/// What proves the webhooks of an endpoint, or of several.
#[derive(Clone, Debug)]
pub struct Webhooks {
    secrets: SigningSecrets,
}

/// What a webhook tells of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Notification {
    /// Id of the event. It is the same when the webhook is delivered again.
    pub id: String,
    /// The event's name, such as `invoice.paid`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The connected account in which it happened; none: the endpoint's own.
    #[serde(default)]
    pub account: Option<String>,
}

impl Webhooks {
    /// Takes the endpoints' signing secrets, `whsec_…`. Stripe signs with two for up to a day after
    /// one was rolled.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigInvalid`](pipeline_core::ErrorKind::ConfigInvalid) when there is none, or
    /// one is empty or has white space around it.
    pub fn new(secrets: impl IntoIterator<Item = SecretString>) -> pipeline_core::Result<Self> {
        Ok(Self {
            secrets: SigningSecrets::new(secrets)?,
        })
    }

    /// Proves that Stripe has sent a webhook within the last five minutes, and tells what it is
    /// about.
    ///
    /// `signature` is the header `Stripe-Signature`, and `body` the bytes of the body as they came:
    /// parsed and written again they are others.
    ///
    /// # Errors
    /// Why it is not to be believed. Answer with 400 then.
    pub fn verify(
        &self,
        signature: &str,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<Notification, Rejection> {
        let Header {
            time,
            sent,
            signatures,
        } = Header::read(signature)?;
        self.secrets.verify(
            &[time.as_bytes(), b".", body],
            signatures.iter().map(Vec::as_slice),
        )?;
        check_age(sent, now, TOLERANCE)?;
        serde_json::from_slice(body).map_err(|_| Rejection::Unreadable)
    }
}

/// The webhooks of a configured source.
#[derive(Debug)]
pub(crate) struct StripeHooks {
    webhooks: Webhooks,
    /// How far behind now a sync ends.
    lag: Duration,
}

impl StripeHooks {
    pub(crate) fn new(secrets: SigningSecrets, lag: TimeDelta) -> Self {
        Self {
            webhooks: Webhooks { secrets },
            lag: lag.to_std().unwrap_or_default(),
        }
    }
}

impl WebhookReader for StripeHooks {
    fn read(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<WebhookHint, Rejection> {
        let signature = headers
            .get("stripe-signature")
            .ok_or(Rejection::Malformed)?;
        let signature = signature.to_str().map_err(|_| Rejection::Malformed)?;
        let Notification { id, kind, .. } = self.webhooks.verify(signature, body, now)?;
        // A thin event is named as the other form of it, after the version of the API.
        let name = kind.strip_prefix("v1.").unwrap_or(&kind);
        Ok(WebhookHint {
            streams: concerned(name).map(ToOwned::to_owned).collect(),
            id: Some(id),
            kind,
        })
    }

    /// A sync reads whole seconds, and ends before the one in which it ends begins.
    fn settles_after(&self) -> Duration {
        self.lag + Duration::from_secs(1)
    }
}

/// `t=1492774577,v1=5257…,v1=6ffb…,v0=6ffb…`. Only `v1` proves anything: `v0` is for tests, with a
/// secret that is none.
struct Header<'h> {
    /// The time as it is written, which is signed.
    time: &'h str,
    sent: DateTime<Utc>,
    signatures: Vec<Vec<u8>>,
}

impl<'h> Header<'h> {
    fn read(header: &'h str) -> Result<Self, Rejection> {
        let values = |name: &'static str| {
            let pairs = header.split(',').filter_map(|pair| pair.split_once('='));
            pairs
                .filter(move |(known, _)| *known == name)
                .map(|(_, value)| value)
        };
        let time = values("t").next().ok_or(Rejection::Malformed)?;
        let seconds = time
            .parse()
            .ok()
            .and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        let sent = seconds.ok_or(Rejection::Malformed)?;
        if values("v1").next().is_none() {
            return Err(Rejection::Malformed);
        }
        Ok(Self {
            time,
            sent,
            signatures: values("v1").filter_map(bytes).collect(),
        })
    }
}

/// The bytes that hexadecimal digits stand for.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| {
        char::from(*byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let pair = |pair: &[u8]| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?);
    digits.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const BODY: &str = r#"{"id":"evt_1","object":"event","account":"acct_1","type":"invoice.paid","data":{"object":{"id":"in_1","object":"invoice"}}}"#;
    const SENT: i64 = 1_900_000_000;
    /// Made by another implementation, with `whsec_old` and `whsec_new`.
    const OLD: &str = "59ccdedee84e0c4838b8936f2069ecd21b21b945fad72731e9f47565e7325aff";
    const NEW: &str = "9ad073865811f7df06b24062be323bd9f8e67fa4bba4b6ebe9a8a4ca483e3f49";

    /// Verified with the new secret, so many seconds after it was sent.
    fn verify(header: &str, body: &str, after: i64) -> Result<Notification, Rejection> {
        let webhooks = Webhooks::new(["whsec_new".into()]).unwrap();
        webhooks.verify(
            header,
            body.as_bytes(),
            DateTime::from_timestamp(SENT + after, 0).unwrap(),
        )
    }

    #[test]
    fn c48_any_of_several_signatures_counts_and_neither_age_nor_another_body_does() {
        let both = format!("t={SENT},v1={OLD},v1={NEW},v0={OLD}");
        let told = Notification {
            id: "evt_1".to_owned(),
            kind: "invoice.paid".to_owned(),
            account: Some("acct_1".to_owned()),
        };
        for after in [0, 300, -300] {
            assert_eq!(verify(&both, BODY, after).as_ref(), Ok(&told));
        }
        for after in [301, -301, 86_400] {
            assert_eq!(verify(&both, BODY, after), Err(Rejection::Stale));
        }
        // As other programs write what they have parsed: with spaces, and with a line end.
        for body in [
            BODY.replace(':', ": "),
            BODY.replace(',', ", "),
            format!("{BODY}\n"),
        ] {
            assert_ne!(body, BODY);
            assert_eq!(verify(&both, &body, 0), Err(Rejection::Forged), "{body}");
        }
        let rolled = Webhooks::new(["whsec_other".into(), "whsec_old".into()]).unwrap();
        let now = DateTime::from_timestamp(SENT, 0).unwrap();
        assert_eq!(
            rolled.verify(&format!("t={SENT},v1={OLD}"), BODY.as_bytes(), now),
            Ok(told),
            "with the second secret"
        );
    }

    #[test]
    fn the_streams_of_an_event_are_named_whichever_form_it_has() {
        let reader = StripeHooks::new(
            SigningSecrets::new(["whsec_new".into()]).unwrap(),
            TimeDelta::seconds(5),
        );
        let now = DateTime::from_timestamp(SENT, 0).unwrap();
        // Signed by another implementation, with `whsec_new` at that time.
        let cases = [
            (
                BODY,
                NEW,
                "evt_1",
                "invoice.paid",
                &["invoice_payments", "invoices"][..],
            ),
            (
                r#"{"id":"evt_2","object":"v2.core.event","type":"v1.charge.captured","related_object":{"id":"ch_1","type":"charge"}}"#,
                "851dda02cec6ab7406a017b0883cd03acb2f2a111b6f95ddb81647f8bda648b6",
                "evt_2",
                "v1.charge.captured",
                &["charges"],
            ),
            (
                r#"{"id":"evt_3","type":"balance.available"}"#,
                "4d13eb671b483300324496f91e4c5fd8ce4286767483b008795f946bd719c96c",
                "evt_3",
                "balance.available",
                &[],
            ),
        ];
        for (body, signature, id, kind, streams) in cases {
            let mut headers = HeaderMap::new();
            let header = format!("t={SENT},v1={signature}");
            headers.insert("stripe-signature", header.parse().unwrap());
            let hint = reader.read(&headers, body.as_bytes(), now).unwrap();
            assert_eq!((hint.id.as_deref(), &*hint.kind), (Some(id), kind));
            assert!(hint.streams.iter().eq(streams), "{kind}: {hint:?}");
            headers.clear();
            assert_eq!(
                reader.read(&headers, body.as_bytes(), now),
                Err(Rejection::Malformed)
            );
        }
        assert_eq!(reader.settles_after(), Duration::from_secs(6));
    }

    #[test]
    fn headers_that_prove_nothing_are_refused() {
        let cases = [
            (String::new(), Rejection::Malformed),
            (format!("v1={NEW}"), Rejection::Malformed),
            (format!("t=now,v1={NEW}"), Rejection::Malformed),
            (format!("t={SENT}"), Rejection::Malformed),
            (format!("t={SENT},v0={NEW}"), Rejection::Malformed),
            (format!("t={SENT},v1="), Rejection::Forged),
            (format!("t={SENT},v1={OLD}"), Rejection::Forged),
            (format!("t={SENT},v1={}", &NEW[1..]), Rejection::Forged),
            (format!("t={SENT},v1=+{}", &NEW[1..]), Rejection::Forged),
            (format!("t={SENT},v1={NEW}0"), Rejection::Forged),
            (format!("t=0{SENT},v1={NEW}"), Rejection::Forged),
            (format!("t={},v1={NEW}", SENT + 1), Rejection::Forged),
        ];
        for (header, expected) in cases {
            assert_eq!(verify(&header, BODY, 0), Err(expected), "{header}");
        }
    }

    #[test]
    fn what_is_signed_and_is_no_event_is_refused_and_no_secret_is_printed() {
        // `{}`, signed with `whsec_new` at that time.
        let header =
            format!("t={SENT},v1=f0baa8fea26cad08285ecc65e27a9d5c705ccbcbcb8cd90ead33e582ace8886b");
        assert_eq!(verify(&header, "{}", 0), Err(Rejection::Unreadable));
        assert!(!format!("{:?}", Webhooks::new(["whsec_new".into()]).unwrap()).contains("new"));
        assert_eq!(
            Webhooks::new([" ".into()]).unwrap_err().kind(),
            pipeline_core::ErrorKind::ConfigInvalid
        );
    }
}
