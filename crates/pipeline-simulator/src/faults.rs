//! What can go wrong on purpose: with every so many requests, or with certain ones only.

mod ordinary;
pub(crate) mod rule;
pub(crate) mod spoil;

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::{StreamExt as _, stream};

use self::rule::Rule;
use crate::{Vendor, mixpanel, stripe, zendesk};

/// The switches, all off by default. They count the requests they apply to, so the same requests in
/// the same order meet the same faults. `0` for "every so many requests" is never.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The only vendor that is affected; all are if `None`.
    pub only: Option<Vendor>,
    /// Every so many requests the answer is 500 and 503 in turn.
    pub error_every: u64,
    /// Bursts of 429.
    pub throttle: Throttle,
    /// Every so many requests the connection closes in the middle of the body, which
    /// `Content-Length` gave away as longer.
    pub cut_every: u64,
    /// Every so many requests the answer takes [`slow`](Self::slow) longer.
    pub slow_every: u64,
    /// How long a slow answer takes.
    pub slow: Duration,
    /// A captive portal: every answer is a web page with status 200.
    pub captive_portal: bool,
    /// Every answer is 401, as if the credentials had been revoked.
    pub unauthorized: bool,
    /// Every so many raw exports the answer is 200, breaks off half-way and says so in its last
    /// line.
    pub export_terminated_every: u64,
}

/// Of every `every` requests the last `length` are answered with 429.
#[derive(Clone, Copy, Debug, Default)]
pub struct Throttle {
    /// The length of the cycle; 0 for no bursts.
    pub every: u64,
    /// The length of the burst.
    pub length: u64,
    /// The seconds in `Retry-After`, where the vendor sends that header (Stripe doesn't).
    pub retry_after: u64,
}

/// What happens to one request.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    Unauthorized,
    CaptivePortal,
    Throttle(u64),
    Error(StatusCode),
    Slow(Duration),
    Cut,
}

impl Faults {
    /// What a vendor refuses to an ordinary account, which has paid for little and set up less, for
    /// [`Simulation::rules`].
    ///
    /// [`Simulation::rules`]: crate::Simulation::rules
    pub fn ordinary_account(vendor: Vendor) -> Vec<Rule> {
        ordinary::rules(vendor)
    }

    pub(crate) fn affects(&self, vendor: Vendor) -> bool {
        self.only.is_none_or(|only| only == vendor)
    }

    /// The fault that meets the `n`th affected request, counted from 1.
    pub(crate) fn nth(&self, n: u64) -> Option<Fault> {
        let due = |every: u64| every > 0 && n.is_multiple_of(every);
        let Throttle {
            every,
            length,
            retry_after,
        } = self.throttle;
        if self.unauthorized {
            Some(Fault::Unauthorized)
        } else if self.captive_portal {
            Some(Fault::CaptivePortal)
        } else if every > 0 && (n - 1) % every >= every.saturating_sub(length) {
            Some(Fault::Throttle(retry_after))
        } else if due(self.error_every) {
            let odd = (n / self.error_every) % 2 == 1;
            Some(Fault::Error(if odd {
                StatusCode::INTERNAL_SERVER_ERROR
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            }))
        } else if due(self.cut_every) {
            Some(Fault::Cut)
        } else if due(self.slow_every) {
            Some(Fault::Slow(self.slow))
        } else {
            None
        }
    }
}

impl Fault {
    /// The answer that replaces the real one.
    pub(crate) fn answer(self, vendor: Vendor) -> Option<Response> {
        match self {
            Fault::Unauthorized => Some(match vendor {
                Vendor::Stripe => stripe::invalid_key(),
                Vendor::Zendesk => zendesk::invalid_token(),
                Vendor::Mixpanel => mixpanel::invalid_credentials(),
            }),
            Fault::Throttle(seconds) => Some(match vendor {
                Vendor::Stripe => stripe::rate_limited(Some("endpoint-rate")),
                Vendor::Zendesk => zendesk::throttled(seconds),
                Vendor::Mixpanel => mixpanel::throttled(seconds),
            }),
            Fault::Error(status) => Some(match vendor {
                Vendor::Stripe => stripe::error(
                    status,
                    "api_error",
                    "An unknown error occurred.",
                    None,
                    None,
                ),
                Vendor::Zendesk => (status, "Sorry, something went wrong").into_response(),
                Vendor::Mixpanel => mixpanel::error(status, "unknown error"),
            }),
            Fault::CaptivePortal => {
                let page = "<!DOCTYPE html><html><head><title>Welcome</title></head><body>Please \
                            log in</body></html>";
                Some(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response())
            }
            Fault::Slow(_) | Fault::Cut => None,
        }
    }
}

/// An error as a vendor writes it.
fn error_of(vendor: Vendor, status: StatusCode, message: &str, code: Option<&str>) -> Response {
    match vendor {
        Vendor::Stripe => {
            let kind = if status.is_server_error() {
                "api_error"
            } else {
                "invalid_request_error"
            };
            stripe::error(status, kind, message, code, None)
        }
        Vendor::Zendesk => zendesk::error(status, code.unwrap_or("UnprocessableEntity"), message),
        Vendor::Mixpanel => mixpanel::error(status, message),
    }
}

/// Lets half of the body's first piece through and then drops the connection.
pub(crate) fn cut(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let half = body
        .into_data_stream()
        .take(1)
        .map(|piece| piece.map(|bytes| bytes.slice(..bytes.len() / 2)));
    let broken = stream::once(async {
        // Being idle once makes the connection send what it has.
        tokio::task::yield_now().await;
        Err::<Bytes, _>(axum::Error::new(std::io::Error::other("cut on purpose")))
    });
    Response::from_parts(parts, Body::from_stream(half.chain(broken)))
}
