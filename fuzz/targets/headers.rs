//! `Retry-After`, `Date`, and headers of limits: any value has a meaning or none, and never makes
//! time overflow.

#![no_main]

use std::time::Duration;

use chrono::DateTime;
use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;
use pipeline_core::rate_limit::{RateHeaders, retry_after};
use tokio::time::Instant;

const LONGEST: Duration = Duration::from_secs(101 * 366 * 24 * 3600);

fuzz_target!(|data: &[u8]| {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else {
            continue;
        };
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    let now = DateTime::UNIX_EPOCH;
    let families = [
        RateHeaders::GITHUB,
        RateHeaders::GITLAB,
        RateHeaders::TWITTER,
        RateHeaders::DELTA,
        RateHeaders::Ietf,
    ];
    let resets = families
        .iter()
        .flat_map(|family| family.parse(&headers, now))
        .filter_map(|hint| hint.share(0.8).reset);
    for pause in retry_after(&headers, now).into_iter().chain(resets) {
        assert!(
            Instant::now().checked_add(pause).is_some() && pause <= LONGEST,
            "{pause:?}"
        );
    }
});
