//! Which days a request asks for: those that there are, and as many as it can have.

use pipeline_core::ErrorKind;
use pipeline_engine::Outcome;
use serde_json::json;

use crate::server::{Said, event, ok, read_with};

#[tokio::test(start_paused = true)]
async fn c30_a_day_that_has_not_begun_there_is_left_out_once() {
    const TOO_LATE: &str = r#"{"error":"to_date cannot be later than today"}"#;
    let config = json!({ "start_date": "2026-11-20" });
    let behind = read_with(config.clone(), |asked, _| {
        if asked.ends_with("2026-11-21") {
            Said::of(400, TOO_LATE)
        } else {
            ok(event("1", "a"))
        }
    })
    .await;
    assert!(matches!(behind.summary.endpoints[0].outcome, Outcome::Done));
    assert_eq!(
        behind.asked(),
        ["2026-11-20 2026-11-21", "2026-11-20 2026-11-20"]
    );
    let always = read_with(config, |_, _| Said::of(400, TOO_LATE)).await;
    let (kind, message) = always.failure();
    assert_eq!((kind, always.asked().len()), (ErrorKind::ConfigInvalid, 2));
    assert!(message.contains("time zone"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn history_that_the_project_does_not_keep_is_left_out_and_told() {
    let refused = |days: u32| {
        Said::of(
            403,
            format!(
                r#"{{"error":"Date range exceeds {days} days into the past","status":"error"}}"#
            ),
        )
    };
    let read = read_with(json!({ "start_date": "2026-10-01" }), move |asked, _| {
        if asked < "2026-11-12" {
            refused(10)
        } else {
            ok(event(asked, asked))
        }
    })
    .await;
    assert!(
        matches!(read.summary.endpoints[0].outcome, Outcome::Done),
        "{:?}",
        read.summary.endpoints[0].outcome
    );
    assert_eq!(
        read.asked(),
        ["2026-10-31 2026-11-21", "2026-11-12 2026-11-21"]
    );
    assert_eq!(read.notes().len(), 1);
    let told = "the project's plan keeps no days before 2026-11-12: they are left out";
    assert_eq!(
        read.notices.iter().filter(|notice| *notice == told).count(),
        1,
        "{:?}",
        read.notices
    );
    // Where the project's day is ahead of UTC, it is one day less. And all of what is asked for may
    // be gone.
    let ahead = read_with(json!({ "start_date": "2026-10-01" }), move |asked, _| {
        if asked < "2026-11-13" {
            refused(10)
        } else {
            ok("")
        }
    })
    .await;
    assert_eq!(
        ahead.asked(),
        [
            "2026-10-31 2026-11-21",
            "2026-11-12 2026-11-21",
            "2026-11-13 2026-11-21"
        ]
    );
    let gone = read_with(
        json!({ "start_date": "2026-10-01", "end_date": "2026-10-03" }),
        move |_, _| refused(10),
    )
    .await;
    assert!(
        matches!(gone.summary.endpoints[0].outcome, Outcome::Done) && gone.asked().len() == 1,
        "{:?}",
        gone.asked()
    );
    let always = read_with(json!({}), move |_, _| refused(10)).await;
    assert_eq!(
        (always.failure().0, always.asked().len()),
        (ErrorKind::Refused, 1),
        "the day that is kept by its own account"
    );
}

#[tokio::test(start_paused = true)]
async fn several_days_that_are_larger_than_expected_are_asked_for_in_parts() {
    let big = event("1", &"x".repeat(1 << 20)) + "\n";
    let config = json!({ "start_date": "2026-11-12", "export_window_mb": 1 });
    let read = read_with(config, move |asked, _| {
        let is_day = asked[..10] == asked[11..];
        // Ten days are five megabytes, a day half a one.
        ok(if is_day {
            event(asked, asked)
        } else {
            big.repeat(5)
        })
    })
    .await;
    assert!(
        matches!(read.summary.endpoints[0].outcome, Outcome::Done),
        "{:?}",
        read.summary.endpoints[0].outcome
    );
    let asked = read.asked();
    assert_eq!(
        asked[..3],
        [
            "2026-11-12 2026-11-21",
            "2026-11-20 2026-11-21",
            "2026-11-21 2026-11-21"
        ]
    );
    assert_eq!(read.notes().len(), 10);
    assert!(
        asked.len() <= 2 + 10 + 3,
        "longer ones are tried now and then: {asked:?}"
    );
    assert!(
        read.notices
            .iter()
            .any(|notice| notice.contains("larger than it should be")),
        "{:?}",
        read.notices
    );
}

/// Exports of a hundred and twenty days of a small project, of which the given number of answers
/// break off first.
async fn exports_after(failures: usize) -> usize {
    let answer = move |_: &str, before: usize| {
        if before < failures {
            ok("terminated early\n")
        } else {
            ok(event("1", "a"))
        }
    };
    let read = read_with(
        json!({ "start_date": "2026-07-25", "exports_per_hour": 100_000 }),
        answer,
    )
    .await;
    assert!(
        matches!(read.summary.endpoints[0].outcome, Outcome::Done),
        "{failures}"
    );
    read.asked().len()
}

#[tokio::test(start_paused = true)]
async fn b6_a_short_outage_does_not_make_a_long_history_expensive() {
    let undisturbed = exports_after(0).await;
    assert_eq!(undisturbed, 4, "a month each");
    for failures in [1, 3, 8] {
        let more = exports_after(failures).await - failures - undisturbed;
        assert!(
            more <= 16,
            "{failures} answers that broke off cost {more} exports more"
        );
    }
}
