//! Rows that break a check: what is written, what is kept, and where the next sync begins.

use std::sync::Arc;
use std::time::Duration;

use pipeline_core::ErrorKind;

use super::budget::List;
use super::store::Store;
use crate::{OnFailure, Outcome, QualityCheck, QualityRule, RangeBound, Summary, sync};

/// Records of which every tenth has a value below zero.
fn records(count: i64) -> impl Iterator<Item = String> {
    (0..count).map(|index| {
        let value = if index % 10 == 3 { -index } else { index };
        format!(r#"{{"id":"tx_{index:03}","value":{value}}}"#)
    })
}

async fn checked(list: &Arc<List>, store: &Arc<Store>, on_failure: Option<OnFailure>) -> Summary {
    let check = on_failure.map(|on_failure| QualityCheck {
        stream: "taxes".to_owned(),
        rule: QualityRule::Range {
            column: "value".to_owned(),
            min: Some(RangeBound::Integer(0)),
            max: None,
        },
        on_failure,
    });
    let checks = [("shop".to_owned(), check.into_iter().collect())].into();
    sync(list.job(store).quality(checks)).await.unwrap()
}

fn lists() -> [(Arc<List>, Arc<Store>, bool); 3] {
    [
        (List::new(true), Store::new(), false),
        (List::new(false), Store::new(), true),
        (List::without_key(), Store::appending(), false),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_warning_counts_rows_and_writes_them() {
    for (list, store, _) in lists() {
        list.set(records(50), 7);
        let summary = checked(&list, &store, Some(OnFailure::Warn)).await;
        assert_eq!((summary.failure(), store.len("taxes")), (None, 50));
        assert_eq!(store.len("_rejected"), 0);
        let quality = &summary.endpoints[0].streams[0].quality;
        assert_eq!((quality.len(), quality[0].records), (1, 5));
        assert_eq!(quality[0].reason, "`value` is below 0");
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_in_quarantine_does_not_reach_its_table_and_costs_no_other() {
    for (list, store, _) in lists() {
        list.set(records(50), 7);
        let summary = checked(&list, &store, Some(OnFailure::Quarantine)).await;
        assert_eq!((summary.failure(), store.len("taxes")), (None, 45));
        assert_eq!(store.len("_rejected"), 5);
        assert!(!store.ids("taxes").contains(&"tx_013".to_owned()));
        let stream = &summary.endpoints[0].streams[0];
        assert_eq!((stream.rows, stream.rejected), (45, 0));
        assert_eq!(stream.quality[0].records, 5);
    }
}

/// More rows than `max_rejected` allows may be in quarantine: it is the user's rule that they are
/// not wanted, and `stop` is how to say that they must not be passed over.
#[tokio::test(start_paused = true)]
async fn rows_in_quarantine_are_not_of_the_error_budget() {
    let (list, store) = (List::new(true), Store::new());
    list.set(
        (0..100).map(|index| format!(r#"{{"id":"tx_{index}","value":-1}}"#)),
        10,
    );
    let summary = checked(&list, &store, Some(OnFailure::Quarantine)).await;
    assert_eq!((summary.failure(), store.len("taxes")), (None, 0));
    assert_eq!(store.len("_rejected"), 100);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_stops_before_the_page_and_resumes_there_when_the_check_is_relaxed() {
    for (list, store, is_whole) in lists() {
        // The fourth page has the first record that breaks the check.
        list.set(records(50).skip(4).take(20), 3);
        for _ in 0..3 {
            let summary = checked(&list, &store, Some(OnFailure::Stop)).await;
            assert_eq!(summary.failure(), Some(ErrorKind::Rejected), "{summary:?}");
            assert!(summary.lasts());
            let Outcome::Failed { error } = &summary.endpoints[0].outcome else {
                panic!("{summary:?}")
            };
            assert!(
                error
                    .message
                    .contains("quality check failed: `value` is below 0 in 1 row of `taxes`"),
                "{}",
                error.message
            );
            let visible = store.ids("taxes");
            assert!(!visible.contains(&"tx_013".to_owned()), "{visible:?}");
            assert_eq!(visible.len(), if is_whole { 0 } else { 9 });
            assert_eq!(store.len("_rejected"), 0);
        }
        let summary = checked(&list, &store, None).await;
        assert_eq!((summary.failure(), store.len("taxes")), (None, 20));
    }
}

/// A response that has no place to stop inside is given up as a whole, wherever in it the row is.
#[tokio::test(start_paused = true)]
async fn a_response_with_a_row_that_stops_it_leaves_nothing() {
    for page in [7, 17, 50] {
        let (list, store) = (List::response(), Store::appending());
        list.set(records(50).skip(4), page);
        for _ in 0..2 {
            let summary = checked(&list, &store, Some(OnFailure::Stop)).await;
            assert_eq!(summary.failure(), Some(ErrorKind::Rejected), "{summary:?}");
            assert_eq!(store.len("taxes"), 0, "pages of {page}");
        }
        let summary = checked(&list, &store, Some(OnFailure::Quarantine)).await;
        assert_eq!((summary.failure(), store.len("taxes")), (None, 42));
        assert_eq!(store.len("_rejected"), 4);
        let next = checked(&list, &store, Some(OnFailure::Quarantine)).await;
        assert_eq!((next.failure(), store.len("taxes")), (None, 42));
    }
}

/// What a refresh had published stays visible while the next one breaks a check.
#[tokio::test(start_paused = true)]
async fn a_refresh_that_breaks_a_check_is_not_published() {
    let (list, store) = (List::new(false), Store::new());
    list.set(
        (0..30).map(|index| format!(r#"{{"id":"tx_{index}","value":1}}"#)),
        10,
    );
    checked(&list, &store, Some(OnFailure::Stop)).await;
    list.set(records(40), 10);
    for _ in 0..2 {
        let summary = checked(&list, &store, Some(OnFailure::Stop)).await;
        assert_eq!(summary.failure(), Some(ErrorKind::Rejected));
        assert_eq!(store.len("taxes"), 30);
    }
    let summary = checked(&list, &store, Some(OnFailure::Warn)).await;
    assert_eq!((summary.failure(), store.len("taxes")), (None, 40));
}

/// Killed anywhere, with any choice, nothing is lost or there twice.
#[tokio::test(start_paused = true)]
async fn a_killed_run_neither_loses_nor_doubles_what_is_checked() {
    for killed_after in 0..8 {
        for on_failure in [OnFailure::Warn, OnFailure::Quarantine, OnFailure::Stop] {
            for (list, store, _) in lists() {
                let what = format!("{on_failure:?} after {killed_after}");
                list.set(records(50), 7);
                *list.hang_after.lock().unwrap() = Some(killed_after);
                let run = checked(&list, &store, Some(on_failure));
                let _ = tokio::time::timeout(Duration::from_hours(1), run).await;
                *list.hang_after.lock().unwrap() = None;
                checked(&list, &store, Some(on_failure)).await;
                let (rows, kept) = match on_failure {
                    OnFailure::Warn => (50, 0),
                    OnFailure::Quarantine => (45, 5),
                    OnFailure::Stop => {
                        checked(&list, &store, None).await;
                        (50, 0)
                    }
                };
                let ids = store.ids("taxes");
                assert_eq!(ids.len(), rows, "{what}");
                assert!(ids.windows(2).all(|two| two[0] != two[1]), "{what}");
                // The store in memory keeps every version of a rejected record.
                let records = store.ids("_rejected").len();
                assert!(records >= kept, "{what}: {records} kept");
            }
        }
    }
}
