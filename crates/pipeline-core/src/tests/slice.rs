//! Tests of slicing: plans, splits and restarts leave no gap and ask for nothing twice.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::{at, request};
use crate::connector::slice::{
    Oldest, SingleSlice, Slicer, StartTime, TimeRange, TimeSlicer, check_start, parse_start,
    parse_time, render_time,
};
use crate::model::state::{EndpointState, Position, SliceState, Window};
use crate::{Coverage, Since, TimeFormat};

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
    for (since, until, position, reached) in windows {
        let window = Some(Window {
            since: Some(noon(*since)),
            until: noon(*until),
        });
        state.add_slice(SliceState {
            window,
            position: position.clone(),
            reached: reached.map(noon),
            ..SliceState::default()
        });
    }
    state
}

/// Planned windows, oldest first: `since..until`, without the day, and the query.
fn planned(
    windows: &TimeSlicer,
    state: &EndpointState,
    range: TimeRange,
    now: DateTime<Utc>,
) -> String {
    let mut slices = windows.plan(state, range, now);
    assert!(
        slices
            .iter()
            .all(|slice| slice.position == Position::Start && slice.reached.is_none())
    );
    slices.sort_by_key(|slice| slice.window.map(|window| (window.since, window.until)));
    let time = |time: DateTime<Utc>| time.format("%d %H:%M:%S").to_string().replace("31 ", "");
    let show = |slice: &SliceState| {
        let window = slice.window.unwrap();
        let query = slice
            .query
            .iter()
            .fold(String::new(), |text, (name, value)| {
                format!("{text} {name}={value}")
            });
        format!(
            "{}..{}{query}",
            window.since.map_or_else(|| "open".to_owned(), time),
            time(window.until)
        )
    };
    slices.iter().map(show).collect::<Vec<_>>().join(", ")
}

#[test]
fn the_first_plan_covers_what_is_wanted() {
    let now = at("12:00:30") + TimeDelta::milliseconds(500);
    let from = |start| TimeRange::since(at(start));
    let to = |start, end| TimeRange {
        start: Some(at(start)),
        end: Some(at(end)),
    };
    let lagging = TimeSlicer {
        lag: TimeDelta::seconds(20),
        ..seconds()
    };
    let steps = TimeSlicer {
        step: Some(TimeDelta::seconds(10)),
        ..seconds()
    };
    let fractions = TimeSlicer {
        step: Some(TimeDelta::milliseconds(10_400)),
        ..seconds()
    };
    let nothing = TimeSlicer {
        step: Some(TimeDelta::zero()),
        ..seconds()
    };
    let partitioned = TimeSlicer {
        partition: Some(("status", &["open", "closed"])),
        ..seconds()
    };
    let dated = TimeSlicer {
        oldest: Oldest::At(at("11:59:59")),
        ..seconds()
    };
    let half_second = TimeRange {
        start: Some(at("12:00:00.5")),
        end: Some(at("12:00:10.5")),
    };
    for (slicer, range, expected) in [
        (&seconds(), TimeRange::all(), "open..12:00:31"),
        (&seconds(), from("12:00:00"), "12:00:00..12:00:31"),
        (&seconds(), to("12:00:00", "12:00:10"), "12:00:00..12:00:10"),
        (&seconds(), to("12:00:00", "13:00:00"), "12:00:00..12:00:31"),
        (&seconds(), half_second, "12:00:00..12:00:11"),
        (&seconds(), from("12:00:30"), "12:00:30..12:00:31"),
        (&seconds(), from("12:00:31"), ""),
        (&lagging, from("12:00:00"), "12:00:00..12:00:11"),
        (&lagging, to("12:00:00", "12:00:05"), "12:00:00..12:00:05"),
        (&lagging, from("12:00:20"), ""),
        (&steps, TimeRange::all(), "open..12:00:31"),
        (
            &steps,
            from("12:00:00"),
            "12:00:00..12:00:01, 12:00:01..12:00:11, 12:00:11..12:00:21, 12:00:21..12:00:31",
        ),
        (
            &fractions,
            from("12:00:12"),
            "12:00:12..12:00:20, 12:00:20..12:00:31",
        ),
        (
            &nothing,
            from("12:00:29"),
            "12:00:29..12:00:30, 12:00:30..12:00:31",
        ),
        (
            &partitioned,
            from("12:00:00"),
            "12:00:00..12:00:31 status=open, 12:00:00..12:00:31 status=closed",
        ),
        (&dated, TimeRange::all(), "11:59:59..12:00:31"),
        (&dated, from("12:00:00"), "12:00:00..12:00:31"),
    ] {
        assert_eq!(
            planned(slicer, &EndpointState::default(), range, now),
            expected,
            "{range:?} {slicer:?}"
        );
    }
}

#[test]
fn the_next_plan_starts_at_the_cursor_less_the_lookback() {
    let state = EndpointState {
        cursor: Some(at("12:00:00")),
        ..EndpointState::default()
    };
    let back = TimeSlicer {
        lookback: TimeDelta::seconds(30),
        lag: TimeDelta::seconds(1),
        ..seconds()
    };
    let lagging = TimeSlicer {
        lookback: TimeDelta::zero(),
        ..back.clone()
    };
    let plan = |slicer: &TimeSlicer, range| planned(slicer, &state, range, at("12:10:00"));
    assert_eq!(
        plan(&seconds(), TimeRange::all()),
        "11:59:59..12:10:01",
        "the last second was not over"
    );
    assert_eq!(
        plan(&lagging, TimeRange::all()),
        "12:00:00..12:10:00",
        "the last second was over"
    );
    assert_eq!(plan(&back, TimeRange::all()), "11:59:30..12:10:00");
    assert_eq!(
        plan(&back, TimeRange::since(at("11:59:50"))),
        "11:59:50..12:10:00",
        "not before what the user wants"
    );
    assert_eq!(
        plan(&back, TimeRange::since(at("12:05:00"))),
        "12:00:00..12:10:00",
        "a later start leaves no gap"
    );
    assert_eq!(
        plan(
            &back,
            TimeRange {
                start: None,
                end: Some(at("11:00:00"))
            }
        ),
        ""
    );
}

#[test]
fn a_resumed_plan_adds_what_is_new() {
    let lagging = TimeSlicer {
        lag: TimeDelta::seconds(1),
        ..seconds()
    };
    let unread = state(&[(-600, 0, Position::Start, None)]);
    let plan = |slicer: &TimeSlicer, state: &EndpointState, now| {
        planned(slicer, state, TimeRange::all(), at(now))
    };
    assert_eq!(plan(&seconds(), &unread, "12:00:10"), "12:00:00..12:00:11");
    assert_eq!(plan(&seconds(), &unread, "11:59:59"), "", "nothing is new");
    assert_eq!(
        plan(
            &lagging,
            &state(&[(-600, 0, Position::End, None)]),
            "12:00:10"
        ),
        "12:00:00..12:00:10"
    );
}

#[test]
fn a_resumed_plan_reads_again_what_late_records_may_have_joined() {
    let back = TimeSlicer {
        lookback: TimeDelta::seconds(60),
        lag: TimeDelta::seconds(1),
        ..seconds()
    };
    let oldest_first = TimeSlicer {
        newest_first: false,
        ..back.clone()
    };
    let running = || Position::At("x".to_owned());
    let plan = |slicer: &TimeSlicer, windows: &[_]| {
        planned(slicer, &state(windows), TimeRange::all(), at("12:00:10"))
    };
    for (slicer, windows, expected) in [
        (
            &back,
            vec![(-600, 0, Position::Start, None)],
            "12:00:00..12:00:10",
        ),
        (
            &back,
            vec![(-600, 0, running(), None)],
            "12:00:00..12:00:10",
        ),
        (
            &back,
            vec![(-600, 0, running(), Some(-20))],
            "11:59:41..12:00:00, 12:00:00..12:00:10",
        ),
        (
            &back,
            vec![(-600, 0, running(), Some(-300))],
            "11:59:00..12:00:00, 12:00:00..12:00:10",
        ),
        (
            &back,
            vec![
                (-600, -300, Position::Start, None),
                (-300, 0, Position::End, None),
            ],
            "11:59:00..12:00:00, 12:00:00..12:00:10",
        ),
        (
            &back,
            vec![
                (-600, -30, Position::Start, None),
                (-30, 0, Position::End, None),
            ],
            "11:59:30..12:00:00, 12:00:00..12:00:10",
        ),
        (
            &oldest_first,
            vec![(-600, 0, running(), Some(-20))],
            "12:00:00..12:00:10",
        ),
        (
            &oldest_first,
            vec![(-600, 0, Position::End, None)],
            "11:59:00..12:00:00, 12:00:00..12:00:10",
        ),
    ] {
        assert_eq!(plan(slicer, &windows), expected, "{windows:?}");
    }
}

#[test]
fn days_are_whole_and_the_last_one_is_inside() {
    let yesterday = TimeSlicer {
        lag: TimeDelta::days(1),
        ..days()
    };
    let back = TimeSlicer {
        lookback: TimeDelta::days(2),
        ..yesterday.clone()
    };
    let rendered = |slicer: &TimeSlicer, state: &EndpointState, range: TimeRange| {
        let show = |slice: &SliceState| {
            let mut request = request(&[("x", "1")]);
            slicer.apply(slice, &mut request).unwrap();
            request
                .full_url()
                .query()
                .unwrap()
                .replace("from=2026-01-", "")
                .replace("&to=2026-01-", "-")
                .replace("&x=1", "")
        };
        let mut days: Vec<String> = slicer
            .plan(state, range, at("12:00:00"))
            .iter()
            .map(show)
            .collect();
        days.sort();
        days.join(" ")
    };
    let first = EndpointState::default();
    let next = EndpointState {
        cursor: Some(day("2026-01-30")),
        ..first.clone()
    };
    let daily = TimeSlicer {
        step: Some(TimeDelta::hours(36)),
        ..days()
    };
    let until = |end| TimeRange {
        start: None,
        end: Some(end),
    };
    assert_eq!(
        rendered(&days(), &first, TimeRange::all()),
        "28-31",
        "today included"
    );
    assert_eq!(rendered(&yesterday, &first, TimeRange::all()), "28-30");
    assert_eq!(
        rendered(&yesterday, &first, until(day("2026-01-30"))),
        "28-29",
        "the end is not wanted"
    );
    assert_eq!(
        rendered(&days(), &first, until(day("2026-01-30"))),
        "28-29",
        "whatever the lag"
    );
    assert_eq!(rendered(&daily, &first, TimeRange::all()), "28-29 30-31");
    assert_eq!(
        rendered(&days(), &next, TimeRange::all()),
        "29-31",
        "the last day was not over"
    );
    assert_eq!(rendered(&yesterday, &next, TimeRange::all()), "30-30");
    assert_eq!(rendered(&back, &next, TimeRange::all()), "28-30");
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

fn running(since: Option<&str>, until: &str, reached: &str) -> SliceState {
    let window = Some(Window {
        since: since.map(at),
        until: at(until),
    });
    SliceState {
        window,
        position: Position::At("x".to_owned()),
        reached: Some(at(reached)),
        ..SliceState::default()
    }
}

#[test]
fn a_slice_that_cannot_be_cut_is_not_split() {
    let window = |since, until, reached| running(Some(since), until, reached);
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
            reached: None,
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
        (restarted.position, restarted.reached),
        (Position::Start, slice.reached)
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
            reached: None,
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
fn a_list_that_is_whole_or_has_a_start_is_planned_once() {
    let start = StartTime {
        param: "start_time",
        format: TimeFormat::UnixSeconds,
        earliest: second(1),
    };
    let planned = state(&[(0, 1, Position::End, None)]);
    let none = EndpointState::default();
    let now = at("12:00:00");
    assert_eq!(
        SingleSlice.plan(&none, TimeRange::since(now), now),
        [SliceState::default()]
    );
    for slicer in [&SingleSlice as &dyn Slicer, &start] {
        assert_eq!(slicer.plan(&planned, TimeRange::all(), now), []);
    }
    for (range, expected) in [
        (TimeRange::all(), "1"),
        (TimeRange::since(second(5)), "5"),
        (TimeRange::since(at("13:00:00")), "1769860800"),
    ] {
        let mut request = request(&[]);
        start
            .apply(&start.plan(&none, range, now)[0], &mut request)
            .unwrap();
        assert_eq!(
            request.query,
            [("start_time".to_owned(), expected.to_owned())],
            "not in the future"
        );
    }
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
        let reached = second(since.unwrap_or(0) + (length as f64 * unread) as i64) + TimeDelta::milliseconds(millis);
        let window = Window { since: since.map(second), until: second(since.unwrap_or(0) + length) };
        let slice = SliceState { window: Some(window), query: vec![("a".to_owned(), "b".to_owned())], position: Position::At("x".to_owned()), reached: Some(reached), unit: None, doubted: None };
        if let Some((kept, given)) = seconds().split(&slice) {
            let (upper, lower) = (kept.window.unwrap(), given.window.unwrap());
            prop_assert_eq!(upper.until, window.until);
            prop_assert_eq!(lower.since, window.since);
            prop_assert_eq!(upper.since, Some(lower.until));
            prop_assert_eq!(lower.until.timestamp_subsec_nanos(), 0);
            prop_assert!(lower.since.is_none_or(|since| since < lower.until) && lower.until < upper.until);
            prop_assert!(reached >= lower.until, "the record that the position names stays inside");
            prop_assert_eq!((&kept.position, kept.reached, &kept.query), (&slice.position, slice.reached, &slice.query));
            prop_assert_eq!((&given.position, given.reached, &given.query), (&Position::Start, None, &slice.query));
        } else {
            prop_assert!(since.is_none_or(|since| reached.timestamp() - since < 2) || reached >= window.until, "{:?} can be cut", slice);
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

/// What a configuration wants that begins earlier than before: cut as any plan is, and up to the
/// instant that is covered.
#[test]
fn a2_what_lies_before_the_covered_part_is_cut_like_a_plan() {
    let before = |windows: &TimeSlicer, since: Since| {
        let slices = windows.before(since, second(1_000)).unwrap();
        let window = |slice: &SliceState| {
            slice.window.map(|window| {
                (
                    window.since.map(|since| since.timestamp()),
                    window.until.timestamp(),
                )
            })
        };
        slices
            .iter()
            .map(|slice| (window(slice).unwrap(), slice.query.len()))
            .collect::<Vec<_>>()
    };
    let steps = TimeSlicer {
        step: Some(TimeDelta::seconds(400)),
        ..seconds()
    };
    let parts = TimeSlicer {
        partition: Some(("status", &["open", "closed"])),
        ..seconds()
    };
    assert_eq!(before(&seconds(), Since::Beginning), [((None, 1_000), 0)]);
    assert_eq!(
        before(&seconds(), Since::At(second(0))),
        [((Some(0), 1_000), 0)]
    );
    assert_eq!(
        before(&steps, Since::At(second(0))),
        [
            ((Some(600), 1_000), 0),
            ((Some(200), 600), 0),
            ((Some(0), 200), 0)
        ]
    );
    assert_eq!(
        before(&parts, Since::At(second(0))),
        [((Some(0), 1_000), 1), ((Some(0), 1_000), 1)]
    );
    assert_eq!(
        StartTime {
            param: "start",
            format: TimeFormat::UnixSeconds,
            earliest: second(0)
        }
        .before(Since::Beginning, second(9)),
        None
    );
}

/// Behind the newest record there was nothing, unless the clock was wrong by which that was asked:
/// to ask once more costs nothing.
#[test]
fn a3_a_sync_begins_behind_the_newest_record_that_was_seen() {
    let windows = TimeSlicer {
        lag: TimeDelta::seconds(10),
        lookback: TimeDelta::seconds(100),
        ..seconds()
    };
    for (newest, since) in [
        (None, 900),
        (Some(990), 900),
        (Some(899), 900),
        (Some(700), 701),
    ] {
        let coverage = Coverage {
            newest: newest.map(second),
            ..Coverage::new(Since::Beginning, None)
        };
        let state = EndpointState {
            cursor: Some(second(1_000)),
            coverage: Some(coverage),
            ..EndpointState::default()
        };
        let window = windows.plan(&state, TimeRange::all(), second(2_000))[0].window;
        assert_eq!(
            window,
            Some(Window {
                since: Some(second(since)),
                until: second(1_991)
            }),
            "{newest:?}"
        );
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
