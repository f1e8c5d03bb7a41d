//! Tests of slicing: plans, splits and restarts leave no gap and ask for nothing twice.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::{at, request};
use crate::TimeFormat;
use crate::connector::slice::{
    Oldest, SingleSlice, Slicer, TimeRange, TimeSlicer, check_start, parse_start, parse_time,
    render_time,
};
use crate::model::state::{EndpointState, Position, SliceState, Window};

mod plans;

fn seconds() -> TimeSlicer {
    TimeSlicer::newest_first("since", "until", TimeFormat::UnixSeconds)
}

fn days() -> TimeSlicer {
    TimeSlicer {
        newest_first: false,
        oldest: Oldest::At(day("2026-01-28")),
        ..TimeSlicer::newest_first("from", "to", TimeFormat::Date)
    }
}

fn day(day: &str) -> DateTime<Utc> {
    format!("{day}T00:00:00Z").parse().unwrap()
}

fn second(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

/// A state with these windows, in seconds after noon; the last value of a line is where it stands.
fn state(windows: &[(i64, i64, Position, Option<i64>)]) -> EndpointState {
    let noon = |offset: i64| at("12:00:00") + TimeDelta::seconds(offset);
    let mut state = EndpointState::default();
    for (since, until, position, watermark) in windows {
        let window = Some(Window {
            since: Some(noon(*since)),
            until: noon(*until),
        });
        state.add_slice(SliceState {
            window,
            position: position.clone(),
            watermark: watermark.map(noon),
            ..SliceState::default()
        });
    }
    state
}

#[test]
fn a_window_is_sent_as_the_vendor_writes_time() {
    let window = Some(Window {
        since: Some(at("11:00:00")),
        until: at("12:00:00"),
    });
    let slice = SliceState {
        window,
        query: vec![("status".to_owned(), "open".to_owned())],
        ..SliceState::default()
    };
    let sent = |format, slice: &SliceState| {
        let mut request = request(&[("since", "0")]);
        TimeSlicer {
            format,
            ..seconds()
        }
        .apply(slice, &mut request)
        .unwrap();
        request.query.sort();
        request
            .query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("&")
    };
    assert_eq!(
        sent(TimeFormat::UnixSeconds, &slice),
        "since=1769857200&status=open&until=1769860800"
    );
    assert_eq!(
        sent(TimeFormat::UnixMillis, &slice),
        "since=1769857200000&status=open&until=1769860800000"
    );
    assert_eq!(
        sent(TimeFormat::Rfc3339, &slice),
        "since=2026-01-31T11:00:00Z&status=open&until=2026-01-31T12:00:00Z"
    );
    let open = SliceState {
        window: Some(Window {
            since: None,
            until: at("12:00:00"),
        }),
        ..SliceState::default()
    };
    assert_eq!(
        sent(TimeFormat::UnixSeconds, &open),
        "since=0&until=1769860800",
        "no lower bound is sent"
    );
}

fn running(since: Option<&str>, until: &str, watermark: &str) -> SliceState {
    let window = Some(Window {
        since: since.map(at),
        until: at(until),
    });
    SliceState {
        window,
        position: Position::At("x".to_owned()),
        watermark: Some(at(watermark)),
        ..SliceState::default()
    }
}

#[test]
fn a_slice_that_cannot_be_cut_is_not_split() {
    let window = |since, until, watermark| running(Some(since), until, watermark);
    for slice in [
        window("12:00:00", "12:00:01", "12:00:00"),
        window("12:00:00", "12:00:01", "12:00:00.9"),
        window("12:00:00", "12:00:02", "12:00:01"),
        window("12:00:00", "12:00:30", "12:00:00"),
        window("12:00:00", "12:00:30", "11:00:00"),
        window("12:00:00", "12:00:30", "13:00:00"),
        running(None, "12:00:30", "12:00:30"),
        running(None, "12:00:30", "13:00:00"),
        SliceState {
            watermark: None,
            ..window("12:00:00", "12:00:30", "12:00:20")
        },
        SliceState {
            position: Position::End,
            ..window("12:00:00", "12:00:30", "12:00:20")
        },
        SliceState {
            window: None,
            ..window("12:00:00", "12:00:30", "12:00:20")
        },
    ] {
        assert_eq!(seconds().split(&slice), None, "{slice:?}");
    }
    let oldest_first = TimeSlicer {
        newest_first: false,
        ..seconds()
    };
    assert_eq!(
        oldest_first.split(&window("12:00:00", "12:00:30", "12:00:20")),
        None
    );
    assert_eq!(
        SingleSlice.split(&window("12:00:00", "12:00:30", "12:00:20")),
        None
    );
}

#[test]
fn a_slice_without_a_lower_bound_gives_what_is_far_away() {
    let (kept, given) = seconds()
        .split(&running(None, "12:00:30", "12:00:20"))
        .unwrap();
    let boundary = at("12:00:20") - TimeDelta::seconds(10 * 32);
    assert_eq!(
        kept.window,
        Some(Window {
            since: Some(boundary),
            until: at("12:00:30")
        })
    );
    assert_eq!(
        given.window,
        Some(Window {
            since: None,
            until: boundary
        })
    );
}

#[test]
fn a_restart_reads_the_unread_rest() {
    let slice = running(Some("11:00:00"), "12:00:00", "11:30:00.5");
    let restarted = seconds().restart(&slice).unwrap();
    assert_eq!(
        restarted.window,
        Some(Window {
            since: Some(at("11:00:00")),
            until: at("11:30:01")
        }),
        "the second reached is read again"
    );
    assert_eq!(
        (restarted.position, restarted.watermark),
        (Position::Start, slice.watermark)
    );
    assert_eq!(
        seconds()
            .restart(&running(None, "12:00:00", "13:00:00"))
            .unwrap()
            .window
            .unwrap()
            .until,
        at("12:00:00")
    );
    assert_eq!(
        seconds().restart(&running(Some("11:00:00"), "12:00:00", "10:00:00")),
        None
    );
    assert_eq!(
        seconds().restart(&SliceState {
            watermark: None,
            ..slice.clone()
        }),
        None
    );
    assert_eq!(
        TimeSlicer {
            newest_first: false,
            ..seconds()
        }
        .restart(&slice),
        None
    );
    assert_eq!(SingleSlice.restart(&slice), None);
}

#[test]
fn instants_are_read_in_their_format_only() {
    let noon = Some(at("12:00:00"));
    for (text, format, expected) in [
        ("1769860800", TimeFormat::UnixSeconds, noon),
        ("1769860800000", TimeFormat::UnixMillis, noon),
        ("2026-01-31T12:00:00Z", TimeFormat::Rfc3339, noon),
        ("2026-01-31T12:00:00.000Z", TimeFormat::Rfc3339, noon),
        ("2026-01-31T13:00:00+01:00", TimeFormat::Rfc3339, noon),
        ("2026-01-31T12:00:00", TimeFormat::Rfc3339, noon),
        ("2026-01-31 12:00:00", TimeFormat::Rfc3339, noon),
        ("2026-01-31", TimeFormat::Date, Some(day("2026-01-31"))),
        ("1769860800.5", TimeFormat::UnixSeconds, None),
        ("99999999999999999999", TimeFormat::UnixSeconds, None),
        ("9223372036854775807", TimeFormat::UnixSeconds, None),
        ("", TimeFormat::UnixMillis, None),
        ("2026-01-31", TimeFormat::Rfc3339, None),
        ("2026-02-30T12:00:00Z", TimeFormat::Rfc3339, None),
        ("2026-1-31", TimeFormat::Date, None),
        ("2026-01-31T", TimeFormat::Date, None),
        ("20é6-01-31", TimeFormat::Date, None),
        ("2026-01-é1", TimeFormat::Date, None),
    ] {
        assert_eq!(parse_time(text, format), expected, "{text}");
    }
}

/// The seconds that a window asks for.
fn asked(slice: &SliceState) -> std::ops::Range<i64> {
    let window = slice.window.unwrap();
    window.since.unwrap().timestamp()..window.until.timestamp()
}

proptest! {
    #[test]
    fn a_plan_asks_for_every_second_once(start in 0_i64..500, length in 1_i64..500, step in prop::option::of(0_i64..200), lag in 0_i64..5, millis in 0_i64..1000) {
        let slicer = TimeSlicer { step: step.map(TimeDelta::seconds), lag: TimeDelta::seconds(lag), ..seconds() };
        let now = second(start + length + lag) + TimeDelta::milliseconds(millis);
        let slices = slicer.plan(&EndpointState::default(), TimeRange::since(second(start)), now);
        let mut all: Vec<i64> = slices.iter().flat_map(asked).collect();
        all.sort_unstable();
        prop_assert_eq!(all, (start..=start + length).collect::<Vec<_>>());
    }

    #[test]
    fn syncs_one_after_another_leave_no_gap(gaps in prop::collection::vec(1_i64..100, 1..8), lookback in 0_i64..50, lag in 0_i64..5) {
        let slicer = TimeSlicer { lookback: TimeDelta::seconds(lookback), lag: TimeDelta::seconds(lag), ..seconds() };
        let mut state = EndpointState::default();
        let mut read = std::collections::BTreeSet::new();
        let mut now = 1_000;
        for gap in gaps {
            now += gap;
            for slice in slicer.plan(&state, TimeRange::since(second(1_000)), second(now)) {
                // A second that is not over yet may still get records.
                read.extend(asked(&slice).filter(|asked| *asked < now));
                state.add_slice(SliceState { position: Position::End, ..slice });
            }
            state.collapse();
            prop_assert!((1_000..now - lag).all(|second| read.contains(&second)));
            prop_assert!(read.first().is_none_or(|first| *first >= 1_000));
        }
    }

    #[test]
    fn the_parts_of_a_split_slice_are_the_whole(since in prop::option::of(0_i64..100_000), length in 1_i64..100_000, unread in 0.0..1.0_f64, millis in 0_i64..1000) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "any place inside will do")]
        let watermark = second(since.unwrap_or(0) + (length as f64 * unread) as i64) + TimeDelta::milliseconds(millis);
        let window = Window { since: since.map(second), until: second(since.unwrap_or(0) + length) };
        let slice = SliceState { window: Some(window), query: vec![("a".to_owned(), "b".to_owned())], position: Position::At("x".to_owned()), watermark: Some(watermark), unit: None, doubted: None };
        if let Some((kept, given)) = seconds().split(&slice) {
            let (upper, lower) = (kept.window.unwrap(), given.window.unwrap());
            prop_assert_eq!(upper.until, window.until);
            prop_assert_eq!(lower.since, window.since);
            prop_assert_eq!(upper.since, Some(lower.until));
            prop_assert_eq!(lower.until.timestamp_subsec_nanos(), 0);
            prop_assert!(lower.since.is_none_or(|since| since < lower.until) && lower.until < upper.until);
            prop_assert!(watermark >= lower.until, "the record that the position names stays inside");
            prop_assert_eq!((&kept.position, kept.watermark, &kept.query), (&slice.position, slice.watermark, &slice.query));
            prop_assert_eq!((&given.position, given.watermark, &given.query), (&Position::Start, None, &slice.query));
        } else {
            prop_assert!(since.is_none_or(|since| watermark.timestamp() - since < 2) || watermark >= window.until, "{:?} can be cut", slice);
        }
    }

    #[test]
    fn instants_are_read_as_they_are_written(seconds in -60_000_000_000_i64..200_000_000_000) {
        let time = second(seconds);
        for format in [TimeFormat::UnixSeconds, TimeFormat::UnixMillis, TimeFormat::Rfc3339] {
            prop_assert_eq!(parse_time(&render_time(time, format), format), Some(time));
        }
        prop_assert_eq!(parse_time(&render_time(time, TimeFormat::Date), TimeFormat::Date), Some(second(seconds.div_euclid(86_400) * 86_400)));
    }
}

#[test]
fn a2_a_start_is_a_day_or_a_time_that_is_over() {
    let now = day("2026-11-30");
    let cases = [
        ("2026-01-31", Some("2026-01-31T00:00:00Z"), true),
        (" 2026-01-31 ", Some("2026-01-31T00:00:00Z"), true),
        (
            "2026-01-31T12:00:00+02:00",
            Some("2026-01-31T10:00:00Z"),
            true,
        ),
        ("2026-01-31 12:00:00", Some("2026-01-31T12:00:00Z"), true),
        ("2026-11-30", Some("2026-11-30T00:00:00Z"), false),
        ("9999-12-31", Some("9999-12-31T00:00:00Z"), false),
        ("2026-02-30", None, false),
        ("31.01.2026", None, false),
        ("", None, false),
    ];
    for (text, read, is_taken) in cases {
        let start = parse_start(text);
        assert_eq!(start, read.map(|time| time.parse().unwrap()), "{text:?}");
        assert_eq!(
            start.is_some_and(|start| check_start(start, now).is_ok()),
            is_taken,
            "{text:?}"
        );
    }
}
