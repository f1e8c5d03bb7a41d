//! What acceptance tests of several connectors share: whole syncs of a simulated account on the
//! paused clock, without a socket, so that hours of rate limits take as long as the work does.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::time::Instant;

pub use self::clocks::Clocks;
use crate::Pieces;

mod clocks;

/// The end of the simulated data, in 2030, so that clocks that begin after it are ahead of the real
/// one whenever a test runs.
pub const UNTIL: i64 = 1_900_000_000;

/// A whole number from the environment, which makes a test larger.
///
/// # Panics
/// When it is not a whole number.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| match text.parse() {
        Ok(number) => number,
        Err(error) => panic!("{name}: {text:?} is not a whole number: {error}"),
    })
}

/// The most requests in any minute, wherever it starts, of times in their order.
pub fn busiest_minute(times: &[Duration]) -> usize {
    let within = |(index, first): (usize, &Duration)| {
        times.partition_point(|time| *time < *first + Duration::from_mins(1)) - index
    };
    times.iter().enumerate().map(within).max().unwrap_or(0)
}

/// An answer of one's own.
///
/// # Panics
/// When the status or a header cannot be sent.
pub fn reply(
    status: u16,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> http::Response<Pieces> {
    let body = body.into();
    let mut answer = http::Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(*name, *value);
    }
    match answer.body(futures::stream::once(async move { Ok(body) }).boxed()) {
        Ok(answer) => answer,
        Err(error) => panic!("not an answer: {error}"),
    }
}

/// How long something takes on the paused clock.
pub async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let started = Instant::now();
    let done = work.await;
    (done, started.elapsed())
}
