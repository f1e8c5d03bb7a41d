//! Tests of progress: no order of events skips what is unread, and no stored state is misread.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use crate::model::state::{
    CheckpointDelta, EndpointId, EndpointState, Position, Seen, SliceState, Window,
};
use crate::{Coverage, ErrorKind, Since};

mod gaps;
mod model;
mod stored;

fn second(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

fn slice(since: impl Into<Option<i64>>, until: i64, position: Position) -> SliceState {
    let window = Some(Window {
        since: since.into().map(second),
        until: second(until),
    });
    SliceState {
        window,
        position,
        ..SliceState::default()
    }
}

fn state(slices: impl IntoIterator<Item = SliceState>) -> EndpointState {
    let mut state = EndpointState::default();
    for slice in slices {
        state.add_slice(slice);
    }
    state
}

fn orders() -> EndpointId {
    EndpointId::new("shop", "orders")
}

fn advance(slice: u32, from: Position, to: Position) -> CheckpointDelta {
    CheckpointDelta::Advance {
        endpoint: orders(),
        plan: 0,
        slice,
        from,
        to,
        watermark: None,
        newest: None,
        seen: Vec::new(),
        gaps: Vec::new(),
    }
}

fn page(page: &str) -> Position {
    Position::At(page.to_owned())
}

/// Cursor and windows after collapsing: `cursor; since-until position, …`.
fn collapsed(slices: Vec<SliceState>, cursor: Option<i64>) -> String {
    let mut state = EndpointState {
        cursor: cursor.map(second),
        ..state(slices)
    };
    state.collapse();
    let show = |(id, slice): (&u32, &SliceState)| {
        let window = slice.window.map(|w| {
            (
                w.since
                    .map_or_else(|| "open".to_owned(), |since| since.timestamp().to_string()),
                w.until.timestamp(),
            )
        });
        let window = window.map_or_else(
            || "whole".to_owned(),
            |(since, until)| format!("{since}-{until}"),
        );
        format!("{id}: {window} {:?}", slice.position)
    };
    let slices: Vec<String> = state.slices.iter().map(show).collect();
    format!(
        "{:?}; {}",
        state.cursor.map(|cursor| cursor.timestamp()),
        slices.join(", ")
    )
}

#[test]
fn the_cursor_moves_over_finished_windows_from_the_oldest_on() {
    use Position::{End, Start};
    for (slices, cursor, expected) in [
        (vec![], Some(5), "Some(5); "),
        (vec![slice(0, 10, End)], None, "Some(10); "),
        (vec![slice(None, 10, End)], None, "Some(10); "),
        (vec![slice(None, 10, Start)], None, "None; 0: open-10 Start"),
        (
            vec![slice(0, 10, End), slice(10, 20, Start)],
            None,
            "Some(10); 1: 10-20 Start",
        ),
        (
            vec![slice(10, 20, End), slice(0, 10, Start)],
            None,
            "Some(0); 0: 10-20 End, 1: 0-10 Start",
        ),
        (
            vec![slice(10, 20, End), slice(None, 10, Start)],
            None,
            "None; 0: 10-20 End, 1: open-10 Start",
        ),
        (
            vec![slice(20, 30, End), slice(10, 20, End), slice(0, 10, Start)],
            None,
            "Some(0); 1: 10-30 End, 2: 0-10 Start",
        ),
        (
            vec![slice(20, 30, End), slice(10, 20, Start), slice(0, 10, End)],
            None,
            "Some(10); 0: 20-30 End, 1: 10-20 Start",
        ),
        (
            vec![slice(10, 30, End), slice(15, 20, End), slice(0, 10, Start)],
            None,
            "Some(0); 0: 10-30 End, 2: 0-10 Start",
        ),
        (vec![slice(3, 10, Start)], Some(5), "Some(5); 0: 3-10 Start"),
        (vec![slice(3, 4, End)], Some(5), "Some(5); "),
        (vec![SliceState::default()], None, "None; 0: whole Start"),
        (
            vec![SliceState {
                position: End,
                ..SliceState::default()
            }],
            None,
            "None; 0: whole End",
        ),
    ] {
        assert_eq!(
            collapsed(slices.clone(), cursor),
            expected,
            "{slices:?} from {cursor:?}"
        );
    }
}

#[test]
fn windows_of_different_queries_are_finished_apart() {
    let part = |since, until, position, status: &str| SliceState {
        query: vec![("status".to_owned(), status.to_owned())],
        ..slice(since, until, position)
    };
    let slices = |last| {
        vec![
            part(0, 10, Position::End, "open"),
            part(0, 10, last, "closed"),
            part(10, 20, Position::End, "open"),
            part(10, 20, Position::End, "closed"),
        ]
    };
    assert_eq!(
        collapsed(slices(Position::Start), None),
        "Some(0); 0: 0-20 End, 1: 0-10 Start, 3: 10-20 End"
    );
    assert_eq!(collapsed(slices(Position::End), None), "Some(20); ");
}

#[test]
fn a_change_applies_only_to_what_it_starts_from() {
    let stored = || state([slice(0, 10, page("a")), slice(10, 20, Position::End)]);
    let mut newer = stored();
    newer.plan = 1;
    let replace = |from: EndpointState| CheckpointDelta::Replace {
        endpoint: orders(),
        from,
        to: EndpointState::default(),
    };
    for (change, applies) in [
        (advance(0, page("a"), page("b")), true),
        (advance(0, page("a"), Position::End), true),
        (advance(0, Position::Start, page("b")), false),
        (advance(0, page("b"), page("c")), false),
        (advance(1, Position::Start, page("a")), false),
        (advance(2, Position::Start, page("a")), false),
        (replace(stored()), true),
        (replace(newer.clone()), false),
        (replace(EndpointState::default()), false),
    ] {
        let mut state = stored();
        let outcome = state.apply(&change).map_err(|error| error.kind());
        assert_eq!(
            outcome,
            if applies {
                Ok(())
            } else {
                Err(ErrorKind::CheckpointConflict)
            },
            "{change:?}"
        );
        assert_eq!(
            state != stored(),
            applies,
            "a refused change changes nothing"
        );
    }
    let outcome = newer.apply(&advance(0, page("a"), page("b"))).unwrap_err();
    assert_eq!(
        outcome.to_string(),
        "the position of a slice was changed by another process (endpoint: shop/orders)"
    );
}

#[test]
fn an_advance_keeps_what_it_does_not_change() {
    let mut state = state([slice(0, 10, Position::Start)]);
    let seen = |at| Seen { content: 7, at };
    let change =
        |from, to, watermark: Option<i64>, entries: &[(u64, Seen)]| CheckpointDelta::Advance {
            endpoint: orders(),
            plan: 0,
            slice: 0,
            from,
            to,
            watermark: watermark.map(second),
            newest: None,
            seen: entries.to_vec(),
            gaps: Vec::new(),
        };
    state
        .apply(&change(
            Position::Start,
            page("a"),
            Some(8),
            &[(1, seen(8)), (2, seen(8))],
        ))
        .unwrap();
    state
        .apply(&change(page("a"), page("b"), None, &[(2, seen(9))]))
        .unwrap();
    assert_eq!(state.slices[&0].watermark, Some(second(8)));
    assert_eq!(state.boundary, BTreeMap::from([(1, seen(8)), (2, seen(9))]));
}

#[test]
fn unfinished_slices_and_freshness_are_told() {
    let whole = SliceState {
        watermark: Some(second(50)),
        ..SliceState::default()
    };
    let mut state = state([
        slice(0, 10, Position::End),
        slice(10, 20, page("a")),
        slice(20, 30, Position::Start),
        whole,
    ]);
    assert_eq!(
        state.unfinished().map(|(id, _)| id).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert_eq!(state.freshness(), Some(second(50)));
    state.cursor = Some(second(60));
    assert_eq!(state.freshness(), Some(second(60)));
    assert_eq!(EndpointState::default().freshness(), None);
}

/// What is planned of an end that lies behind what one of the clocks, or both, say now.
#[test]
fn a3_an_end_that_no_clock_can_vouch_for_is_taken_back() {
    let covered = |until: Option<i64>, newest: Option<i64>| {
        Some(Coverage {
            until: until.map(second),
            newest: newest.map(second),
            ..Coverage::new(Since::Beginning, None)
        })
    };
    let cases = [
        (
            "both clocks agreed",
            covered(Some(1_000), Some(900)),
            1_000,
            2_000,
            1_000,
        ),
        (
            "the vendor's was ahead",
            covered(Some(1_000), Some(900)),
            90_000,
            2_000,
            1_000,
        ),
        (
            "the vendor's was ahead, and that time has come",
            covered(Some(1_000), Some(900)),
            90_000,
            100_000,
            1_000,
        ),
        (
            "both were ahead",
            covered(Some(90_000), Some(900)),
            90_000,
            2_000,
            900,
        ),
        (
            "both were ahead, and nothing was ever seen",
            covered(Some(90_000), None),
            90_000,
            2_000,
            2_000,
        ),
        (
            "a record is ahead of both",
            covered(Some(90_000), Some(80_000)),
            90_000,
            2_000,
            2_000,
        ),
        (
            "they go apart by seconds",
            covered(Some(2_030), Some(900)),
            2_030,
            2_000,
            2_030,
        ),
        ("an earlier release, ahead", None, 90_000, 2_000, 2_000),
        ("an earlier release", None, 1_000, 2_000, 1_000),
    ];
    for (case, coverage, end, present, safe) in cases {
        let mut state = EndpointState {
            coverage,
            cursor: Some(second(end)),
            ..EndpointState::default()
        };
        state.take_back(second(present), true);
        assert_eq!(state.cursor, Some(second(safe)), "{case}");
    }
}

/// What is left of slices whose windows end in a future that was none.
#[test]
fn a3_slices_end_with_what_is_safe_and_keep_what_their_position_names() {
    let at = || page("or_1");
    // Position, last record read, window, newest first; the window and the position afterwards.
    let cases = [
        (
            "not begun",
            Position::Start,
            None,
            (0, 9_000),
            true,
            Some(((0, 1_000), Position::Start)),
        ),
        (
            "not begun, all of it to come",
            Position::Start,
            None,
            (5_000, 9_000),
            true,
            None,
        ),
        (
            "read",
            Position::End,
            Some(1),
            (0, 9_000),
            true,
            Some(((0, 1_000), Position::End)),
        ),
        (
            "read, before that",
            Position::End,
            Some(1),
            (0, 900),
            true,
            Some(((0, 900), Position::End)),
        ),
        (
            "begun",
            at(),
            Some(500),
            (0, 9_000),
            true,
            Some(((0, 1_000), at())),
        ),
        (
            "begun, with a record of that time",
            at(),
            Some(1_500),
            (0, 9_000),
            true,
            Some(((0, 1_501), at())),
        ),
        (
            "begun, oldest first",
            at(),
            Some(500),
            (0, 9_000),
            false,
            Some(((0, 1_000), Position::Start)),
        ),
    ];
    for (case, position, watermark, (since, until), newest_first, expected) in cases {
        let window = |(since, until)| {
            Some(Window {
                since: Some(second(since)),
                until: second(until),
            })
        };
        let slice = SliceState {
            window: window((since, until)),
            position,
            watermark: watermark.map(second),
            ..SliceState::default()
        };
        let coverage = Some(Coverage::new(Since::Beginning, Some(second(1_000))));
        let mut state = EndpointState {
            coverage,
            slices: BTreeMap::from([(3, slice.clone())]),
            ..EndpointState::default()
        };
        state.take_back(second(2_000), newest_first);
        let expected = expected.map(|(span, position)| SliceState {
            window: window(span),
            position,
            ..slice
        });
        assert_eq!(state.slices.remove(&3), expected, "{case}");
    }
}

#[test]
fn a_state_that_is_reset_forgets_how_far_it_was_read_and_nothing_that_others_go_by() {
    let streams = BTreeSet::from(["orders".to_owned()]);
    let read = EndpointState {
        plan: 4,
        cursor: Some(second(5)),
        streams: streams.clone(),
        ..state([slice(5, 10, page("a"))])
    };
    let reset = read.reset();
    assert_eq!(
        reset,
        EndpointState {
            plan: 5,
            edition: Some("reset".to_owned()),
            streams,
            ..EndpointState::default()
        }
    );
    let untouched = EndpointState {
        plan: 4,
        ..EndpointState::default()
    };
    let forgotten = [&read, &reset, &untouched]
        .map(|state| (state.is_untouched(), state.is_reset(), state.is_forgotten()));
    assert_eq!(
        forgotten,
        [
            (false, false, false),
            (false, true, true),
            (true, false, true)
        ]
    );
}
