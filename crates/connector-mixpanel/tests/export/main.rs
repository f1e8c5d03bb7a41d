//! The export over a server of a few lines: what makes a response complete, and what is asked for
//! when it is not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod days;
mod server;
mod windows;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use pipeline_core::{ErrorKind, Event, Observer};
use pipeline_engine::{Job, Metrics, Outcome, Selection, Source, sync};
use pipeline_testkit::MemoryDestination;
use serde_json::json;

use self::server::{Said, connector, event, event_at, events, ok, read, read_with, zipped};

#[tokio::test(start_paused = true)]
async fn c01_c02_what_is_said_of_the_encoding_does_not_matter_but_what_comes() {
    let text = events(40);
    let plain = read({
        let text = text.clone();
        move |_, _| ok(text.clone())
    })
    .await
    .notes();
    assert_eq!(plain.len(), 40);
    for said in [
        Said {
            encoding: Some("gzip"),
            ..ok(zipped(&text))
        },
        Said {
            encoding: Some("gzip"),
            ..ok(text.clone())
        },
        ok(zipped(&text)),
    ] {
        let read = read(move |_, _| said.clone()).await;
        assert_eq!((read.notes(), read.asked().len()), (plain.clone(), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn c03_c05_lines_end_at_line_feeds_only() {
    let odd = "a\u{2028}b\u{2029}c\u{85}d\\u000be\\u000cf";
    let text = [event("1", odd), event("2", "plain")].join("\n");
    let read = read(move |_, _| ok(text.clone())).await;
    assert_eq!(
        read.notes(),
        ["a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f", "plain"]
    );
}

#[tokio::test(start_paused = true)]
async fn c04_pieces_may_end_anywhere() {
    let text = format!(
        "{}\r\n{}\r\n\r\n{}",
        event("1", "ä€𝄞"),
        event("2", ""),
        event("3", "z")
    );
    for at in 0..=text.len() {
        let bytes = Bytes::from(text.clone());
        let pieces = vec![Some(bytes.slice(..at)), Some(bytes.slice(at..))];
        let read = read(move |_, _| Said {
            pieces: pieces.clone(),
            ..ok("")
        })
        .await;
        assert_eq!(read.notes(), ["", "z", "ä€𝄞"], "cut at {at}");
    }
}

#[tokio::test(start_paused = true)]
async fn c06_a_day_without_events_is_complete() {
    let read = read(|_, _| ok("")).await;
    assert!(matches!(read.summary.endpoints[0].outcome, Outcome::Done));
    assert_eq!((read.notes().len(), read.asked().len()), (0, 1));
    assert_eq!(
        read.summary.endpoints[0].cursor.unwrap().to_rfc3339(),
        "2026-11-22T00:00:00+00:00"
    );
}

#[tokio::test(start_paused = true)]
async fn c07_c08_an_export_that_says_that_it_broke_off_does_not_count() {
    let line = event("1", "kept");
    let broken = [
        format!("{line}\nterminated early"),
        format!("{line}\nterminated early\n"),
        format!("{line}\nExport terminated early\n{}\n", event("2", "never")),
    ];
    for text in broken {
        let line = line.clone();
        let read = read(move |_, before| {
            ok(if before == 0 {
                text.clone()
            } else {
                line.clone()
            })
        })
        .await;
        assert_eq!(
            (read.notes(), read.asked().len()),
            (vec!["kept".to_owned()], 2)
        );
        assert_eq!(
            read.summary.endpoints[0].streams[0].records, 1,
            "nothing of the first response was counted"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c09_a_compressed_export_without_its_end_does_not_count() {
    let whole = zipped(&events(100));
    let cut = whole[..whole.len() - 4].to_vec();
    let body = move |before: usize| {
        if before == 0 {
            cut.clone()
        } else {
            whole.clone()
        }
    };
    let read = read(move |_, before| Said {
        encoding: Some("gzip"),
        ..ok(body(before))
    })
    .await;
    assert_eq!((read.notes().len(), read.asked().len()), (100, 2));
}

#[tokio::test(start_paused = true)]
async fn c10_an_error_in_place_of_an_event_is_told() {
    let cut = read(|_, before| {
        ok(if before == 0 {
            event("1", "a") + "\n{\"error\":"
        } else {
            event("1", "a")
        })
    })
    .await;
    assert_eq!((cut.notes().len(), cut.asked().len()), (1, 2));
    let refused = read(|_, _| ok(r#"{"error":"Unable to authenticate request"}"#)).await;
    assert_eq!(
        (refused.failure().0, refused.asked().len()),
        (ErrorKind::Unauthenticated, 1)
    );
    assert!(
        refused
            .failure()
            .1
            .contains("answer: Unable to authenticate request"),
        "{}",
        refused.failure().1
    );
}

#[tokio::test(start_paused = true)]
async fn c11_malformed_lines_are_kept_apart_and_their_day_is_missing_unless_they_are_accepted() {
    let bad = [
        r#"{"event":"Buy","properties":{"odd":NaN}}"#,
        r#"{"event":"x"}"#,
        r#"{"event":"Buy","properties":[]}"#,
    ];
    for (bad, text) in bad.iter().flat_map(|bad| {
        let lines = |order: [&str; 3]| order.join("\n");
        let (a, b) = (event("1", "a"), event("2", "b"));
        [
            (bad, lines([&a, bad, &b])),
            (bad, lines([bad, &a, &b]) + "\n"),
        ]
    }) {
        let number = if text.starts_with(bad) {
            "line: 1"
        } else {
            "line: 2"
        };
        let strict = read({
            let text = text.clone();
            move |_, _| ok(text.clone())
        })
        .await;
        assert_eq!(
            (strict.notes(), strict.asked().len()),
            (vec!["a".to_owned(), "b".to_owned()], 1),
            "{bad}"
        );
        let rejected = strict.destination.column("product", "_rejected", "record");
        assert_eq!(rejected, [*bad]);
        let endpoint = &strict.summary.endpoints[0];
        assert!(
            matches!(endpoint.outcome, Outcome::Incomplete),
            "{:?}",
            endpoint.outcome
        );
        assert_eq!(endpoint.gaps.len(), 1);
        assert!(
            endpoint.gaps[0].name == "2026-11-21" && endpoint.gaps[0].reason.contains(number),
            "{:?}",
            endpoint.gaps
        );
        let lenient = read_with(json!({ "max_bad_lines": 1 }), move |_, _| ok(text.clone())).await;
        assert!(matches!(
            lenient.summary.endpoints[0].outcome,
            Outcome::Done
        ));
        assert_eq!(
            (
                lenient.notes().len(),
                lenient
                    .destination
                    .column("product", "_rejected", "record")
                    .len()
            ),
            (2, 1)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c12_a_property_cut_within_a_character_is_kept_and_counted() {
    let mut text = event("1", "ab").into_bytes();
    let at = text.windows(2).position(|pair| pair == b"ab").unwrap() + 1;
    text[at] = 0xe2;
    let read = read(move |_, _| ok(text.clone())).await;
    assert_eq!(read.notes(), ["a\u{fffd}"]);
    let drift = &read.summary.endpoints[0].streams[0].drift;
    assert!(
        drift
            .iter()
            .any(|drift| drift.field == "utf8_repaired" && drift.records == 1),
        "{drift:?}"
    );
}

/// `d13`: the mark is at the start of the body, or of a line that was appended to it.
#[tokio::test(start_paused = true)]
async fn a15_a_byte_order_mark_is_not_a_part_of_an_event() {
    let (first, second) = (event("1", "a"), event("2", "b"));
    for text in [
        format!("\u{feff}{first}\n{second}\n"),
        format!("{first}\n\u{feff}{second}\n"),
        format!("\u{feff}\n{first}\r\n\u{feff}{second}"),
    ] {
        let said = ok(text.clone());
        let read = read(move |_, _| said.clone()).await;
        assert_eq!(
            (read.notes(), read.asked().len()),
            (vec!["a".to_owned(), "b".to_owned()], 1),
            "{text:?}"
        );
        assert!(
            matches!(read.summary.endpoints[0].outcome, Outcome::Done),
            "{text:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn c15_after_a_reset_every_event_is_there_once() {
    let text = Bytes::from(events(2_000));
    let half = text.slice(..text.len() / 2);
    let said = move |before: usize| {
        if before == 0 {
            vec![Some(half.clone()), None]
        } else {
            vec![Some(text.clone())]
        }
    };
    let read = read(move |_, before| Said {
        pieces: said(before),
        ..ok("")
    })
    .await;
    assert_eq!((read.notes().len(), read.asked().len()), (2_000, 2));
    assert_eq!(read.summary.endpoints[0].streams[0].records, 2_000);
}

#[tokio::test(start_paused = true)]
async fn c25_a_day_that_times_out_is_read_in_quarters() {
    let answer = |asked: &str, _: usize| {
        // An event a minute before and at every edge.
        let edges = [0, 6, 12, 18, 24].map(|hour| 1_795_219_200 + hour * 3_600);
        let bound = |sign: &str| {
            let bound = asked
                .split(sign)
                .nth(1)?
                .split_once("datetime(")?
                .1
                .split_once(')')?
                .0;
            bound.parse::<i64>().ok()
        };
        let (from, to) = (
            bound(">=").unwrap_or(edges[0]),
            bound("<").unwrap_or(edges[4]),
        );
        if to - from > 6 * 3_600 {
            return Said::of(504, "<html>upstream timed out</html>");
        }
        let times = edges[..4]
            .iter()
            .copied()
            .chain(edges[1..].iter().map(|edge| edge - 60))
            .filter(|time| (from..to).contains(time));
        let line = |time: i64| {
            event_at(&time.to_string(), 0, &time.to_string())
                .replace("1795219200000", &format!("{time}000"))
                + "\n"
        };
        ok(times.map(line).collect::<String>())
    };
    let read = read(answer).await;
    assert_eq!(
        read.notes().len(),
        8,
        "nothing falls between the parts, and nothing is in two"
    );
    let asked = read.asked();
    assert_eq!(
        asked.len(),
        3 + 4 + 1,
        "the rest of the day is tried after the first quarter: {asked:?}"
    );
    assert!(
        asked[..3]
            .iter()
            .all(|asked| asked == "2026-11-21 2026-11-21")
    );
    assert!(
        read.notices
            .iter()
            .any(|notice| notice.contains("did not come whole") && notice.contains("6 hours")),
        "{:?}",
        read.notices
    );
}

/// Counts the bytes of pages that were read.
#[derive(Debug, Default)]
struct Pages(AtomicU64);

impl Observer for Pages {
    fn observe(&self, event: &Event<'_>) {
        if let Event::PageRead { bytes, .. } = event {
            self.0.fetch_add(*bytes, Ordering::Relaxed);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c14_while_the_destination_stalls_nothing_more_is_read_than_it_was_given() {
    const EVENTS: usize = 40_000;
    let note = "x".repeat(400);
    let text: String = (0..EVENTS)
        .map(|n| event(&n.to_string(), &note) + "\n")
        .collect();
    let bytes = text.len() as u64;
    let (connector, clock) = connector(
        json!({}),
        move |_, _| ok(text.clone()),
        Arc::new(Metrics::default()),
    )
    .1;
    let (destination, pages) = (
        Arc::new(MemoryDestination::default()),
        Arc::new(Pages::default()),
    );
    let held = destination.hold().await;
    let source = Source {
        name: "product".to_owned(),
        connector,
        streams: Selection::Named(vec!["export".to_owned()]),
    };
    let job = Job::new("run", destination.clone(), vec![source])
        .clock(clock)
        .observer(pages.clone());
    let running = tokio::spawn(sync(job));
    while pages.0.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let given = pages.0.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_hours(1)).await;
    assert_eq!(
        pages.0.load(Ordering::Relaxed),
        given,
        "it reads on while nobody takes anything"
    );
    assert!(
        given < bytes / 4,
        "{given} of {bytes} bytes are held in memory"
    );
    drop(held);
    let summary = running.await.unwrap().unwrap();
    assert!(matches!(summary.endpoints[0].outcome, Outcome::Done));
    assert_eq!(destination.rows("product", "export").len(), EVENTS);
}
