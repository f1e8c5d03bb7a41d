//! Unit tests of the foundations.
#![allow(clippy::unwrap_used)]

mod error;
mod record;
mod slice;
mod state;

/// A point in time of the day that most tests are about.
pub(crate) fn at(time: &str) -> chrono::DateTime<chrono::Utc> {
    format!("2026-01-31T{time}Z").parse().unwrap()
}

/// A request to the shop that most tests ask.
pub(crate) fn request(query: &[(&str, &str)]) -> crate::message::Request {
    let mut request = crate::message::Request::new(
        crate::http::Method::GET,
        "https://shop.test/api/orders".parse().unwrap(),
    );
    request.query = query
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    request
}
