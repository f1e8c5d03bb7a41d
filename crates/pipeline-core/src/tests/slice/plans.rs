//! Plans: the first one, the next one, and what a resumed one adds.

use chrono::{DateTime, TimeDelta, Utc};

use super::{day, days, second, seconds, state};
use crate::connector::slice::{Oldest, SingleSlice, Slicer, StartTime, TimeRange, TimeSlicer};
use crate::model::state::{EndpointState, Position, SliceState, Window};
use crate::tests::{at, request};
use crate::{Coverage, Since, TimeFormat};

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
            .all(|slice| slice.position == Position::Start && slice.watermark.is_none())
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
