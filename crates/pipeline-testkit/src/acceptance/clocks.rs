//! Clocks that are wrong.

use bytes::Bytes;
use chrono::DateTime;
use futures::FutureExt;

use crate::Pieces;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

/// Seconds by which clocks are ahead of the true time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clocks {
    /// This machine's.
    pub machine: i64,
    /// The vendor's, as answers tell it. None: it is right.
    pub date: Option<i64>,
    /// The answers that tell it, by what is in their path; all others are right.
    pub of: &'static str,
    /// Whether only failures tell it.
    pub of_failures: bool,
}

impl Clocks {
    /// What the clocks say in one sync, by its name. In all others they are right.
    pub fn wrong() -> Vec<(&'static str, Self)> {
        let date = |ahead| Self {
            date: Some(ahead),
            ..Self::default()
        };
        vec![
            ("the vendor's is an hour behind", date(-HOUR)),
            ("the vendor's is ten minutes ahead", date(600)),
            ("the vendor's is an hour ahead", date(HOUR)),
            ("the vendor's is a day ahead", date(DAY)),
            ("the vendor's is forty days ahead", date(40 * DAY)),
            ("the vendor's is in the year 9999", date(250_000_000_000)),
            (
                "this machine's is a day ahead",
                Self {
                    machine: DAY,
                    ..date(0)
                },
            ),
            (
                "this machine's is a day behind",
                Self {
                    machine: -DAY,
                    ..date(0)
                },
            ),
            (
                "both are a day ahead",
                Self {
                    machine: DAY,
                    ..date(DAY)
                },
            ),
        ]
    }

    /// Seconds by which the vendor's clock is ahead in the answer to a request.
    pub fn ahead(self, request: &http::Request<Bytes>) -> Option<i64> {
        let is_meant = request.uri().path().contains(self.of);
        self.date.map(|ahead| if is_meant { ahead } else { 0 })
    }

    /// An answer with the time that the clock says.
    pub fn dated<A>(
        self,
        ahead: Option<i64>,
        now: i64,
        answer: A,
    ) -> impl Future<Output = http::Response<Pieces>> + use<A>
    where
        A: Future<Output = http::Response<Pieces>>,
    {
        answer.map(move |mut answer| {
            let is_meant = !self.of_failures || answer.status().is_server_error();
            let time = |ahead| DateTime::from_timestamp(now + if is_meant { ahead } else { 0 }, 0);
            if let Some(date) = ahead.and_then(time) {
                let date = date.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
                answer.headers_mut().remove(http::header::DATE);
                answer
                    .headers_mut()
                    .extend(date.parse().ok().map(|date| (http::header::DATE, date)));
            }
            answer
        })
    }
}
