//! Pages that are walked, and pages that are too large.

use std::collections::BTreeSet;

use connector_stripe::StripeConfig;
use futures::{StreamExt, TryStreamExt};
use pipeline_core::slice::TimeRange;
use pipeline_core::{BuildContext, ErrorKind, RawRecord, SessionExt};
use tokio::time::Duration;

use super::{ids, read};
use crate::fake::{Fake, page, param};

#[tokio::test]
async fn c01_250_charges_are_three_pages_of_100() {
    let all: Vec<String> = (0..250).map(|number| format!("ch_{number}")).collect();
    let listed = all.clone();
    let fake = Fake::new(move |request| {
        let start = param(request, "starting_after").map_or(0, |id| {
            listed.iter().position(|known| known == id).unwrap() + 1
        });
        let end =
            (start + param(request, "limit").unwrap().parse::<usize>().unwrap()).min(listed.len());
        page(&listed[start..end], end < listed.len())
    });
    let records = read(&fake, "charges").await.unwrap();
    assert_eq!(
        (records.len(), ids(&records)),
        (250, all.into_iter().collect())
    );
    let sent = fake.sent.lock().unwrap();
    let asked: Vec<_> = sent
        .iter()
        .map(|request| {
            (
                param(request, "limit").unwrap(),
                param(request, "starting_after"),
            )
        })
        .collect();
    assert_eq!(
        asked,
        [
            ("100", None),
            ("100", Some("ch_99")),
            ("100", Some("ch_199"))
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn c05_every_page_ends_where_the_first_does_however_long_the_walk() {
    let fake = Fake::new(|request| match param(request, "starting_after") {
        None => page(&["ch_3"], true),
        Some("ch_3") => page(&["ch_2"], true),
        Some(_) => page(&["ch_1"], false),
    });
    let stripe = fake.open(StripeConfig::new("rk_live_key")).await;
    let mut pages = stripe.records("charges", TimeRange::all());
    while pages.next().await.is_some() {
        tokio::time::sleep(Duration::from_mins(10)).await;
    }
    let sent = fake.sent.lock().unwrap();
    let ends: BTreeSet<_> = sent
        .iter()
        .map(|request| param(request, "created[lt]").unwrap())
        .collect();
    // A minute before the start, that second included.
    assert_eq!((sent.len(), ends), (3, BTreeSet::from(["1769817541"])));
}

/// Twelve charges, of which some are so large that no page of more than `fitting` is read.
fn large(fitting: usize) -> std::sync::Arc<Fake> {
    let all: Vec<String> = (0..12).map(|number| format!("ch_{number}")).collect();
    Fake::new(move |request| {
        let start = param(request, "starting_after").map_or(0, |id| {
            all.iter().position(|known| known == id).unwrap() + 1
        });
        let limit = param(request, "limit").unwrap().parse::<usize>().unwrap();
        let end = (start + limit).min(all.len());
        let (status, body) = page(&all[start..end], end < all.len());
        let padding = if limit > fitting {
            " ".repeat(64 << 10)
        } else {
            String::new()
        };
        (status, body + &padding)
    })
}

fn small_bodies() -> BuildContext {
    BuildContext::default().max_body(32 << 10)
}

#[tokio::test(start_paused = true)]
async fn a15_a_page_that_is_too_large_is_asked_for_in_smaller_ones() {
    for fitting in [50, 7, 1] {
        let fake = large(fitting);
        let stripe = fake
            .open_in(StripeConfig::new("rk_live_key"), small_bodies())
            .await;
        let records: Vec<RawRecord> = stripe
            .records("charges", TimeRange::all())
            .try_collect()
            .await
            .unwrap();
        assert_eq!(ids(&records).len(), 12, "each once, {fitting} a page");
        assert_eq!(records.len(), 12);
        let sent = fake.sent.lock().unwrap();
        let limits: Vec<usize> = sent
            .iter()
            .map(|request| param(request, "limit").unwrap().parse().unwrap())
            .collect();
        assert_eq!(limits[..2], [100, 50], "{limits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a15_one_record_that_is_too_large_is_an_error_with_words() {
    let fake = large(0);
    let stripe = fake
        .open_in(StripeConfig::new("rk_live_key"), small_bodies())
        .await;
    let error = stripe
        .records("charges", TimeRange::all())
        .try_collect::<Vec<_>>()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error:?}");
    assert!(
        error
            .help()
            .unwrap()
            .starts_with("one record alone is larger"),
        "{error:?}"
    );
    let limits: Vec<String> = fake
        .sent
        .lock()
        .unwrap()
        .iter()
        .map(|request| param(request, "limit").unwrap().to_owned())
        .collect();
    assert_eq!(limits, ["100", "50", "25", "12", "6", "3", "1"]);
}
