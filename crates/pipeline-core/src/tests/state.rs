//! Tests of progress: no order of events skips what is unread, and no stored state is misread.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use super::at;
use crate::connector::slice::{Slicer, TimeRange, TimeSlicer};
use crate::model::state::{
    Change, CheckpointStore, EndpointId, EndpointState, Gap, MemoryCheckpoints, Position,
    STATE_VERSION, Seen, SliceState, Window,
};
use crate::{Coverage, ErrorKind, Origin, Since, TimeFormat};

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

fn advance(slice: u32, from: Position, to: Position) -> Change {
    Change::Advance {
        endpoint: orders(),
        plan: 0,
        slice,
        from,
        to,
        reached: None,
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
    let replace = |from: EndpointState| Change::Replace {
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
    let change = |from, to, reached: Option<i64>, entries: &[(u64, Seen)]| Change::Advance {
        endpoint: orders(),
        plan: 0,
        slice: 0,
        from,
        to,
        reached: reached.map(second),
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
    assert_eq!(state.slices[&0].reached, Some(second(8)));
    assert_eq!(state.boundary, BTreeMap::from([(1, seen(8)), (2, seen(9))]));
}

#[test]
fn unfinished_slices_and_freshness_are_told() {
    let whole = SliceState {
        reached: Some(second(50)),
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

#[tokio::test]
async fn a_store_applies_all_changes_or_none() {
    let store = MemoryCheckpoints::default();
    let refunds = EndpointId::new("shop", "refunds");
    let planned = state([slice(0, 10, Position::Start)]);
    let plan = |endpoint: &EndpointId| Change::Replace {
        endpoint: endpoint.clone(),
        from: EndpointState::default(),
        to: planned.clone(),
    };
    let conflict = store
        .apply(&[plan(&orders()), advance(0, page("never"), page("a"))])
        .await
        .unwrap_err();
    assert_eq!(conflict.kind(), ErrorKind::CheckpointConflict);
    assert_eq!(store.list().await.unwrap(), []);
    store
        .apply(&[
            plan(&orders()),
            advance(0, Position::Start, page("a")),
            plan(&refunds),
        ])
        .await
        .unwrap();
    assert_eq!(
        store.load(&orders()).await.unwrap().slices[&0].position,
        page("a")
    );
    assert_eq!(store.load(&refunds).await.unwrap(), planned);
    assert_eq!(
        store.load(&EndpointId::new("shop", "other")).await.unwrap(),
        EndpointState::default()
    );
    let names: Vec<String> = store
        .list()
        .await
        .unwrap()
        .iter()
        .map(|(id, _)| id.to_string())
        .collect();
    assert_eq!(names, ["shop/orders", "shop/refunds"]);
}

/// Never change this file: states like it are stored at users.
const VERSION_1: &str = include_str!("golden/endpoint_state_v1.json");

#[test]
fn a_state_of_version_1_is_read_for_ever() {
    let day = |day: &str| format!("{day}T00:00:00Z").parse::<DateTime<Utc>>().unwrap();
    let whole = SliceState {
        position: Position::End,
        ..SliceState::default()
    };
    let open = SliceState {
        window: Some(Window {
            since: None,
            until: day("2026-01-10"),
        }),
        ..SliceState::default()
    };
    let pair = |value: &str| ("status".to_owned(), value.to_owned());
    let running = SliceState {
        window: Some(Window {
            since: Some(day("2026-01-10")),
            until: at("12:00:01"),
        }),
        query: vec![pair("open"), pair("closed")],
        position: page("or_1\nor_2"),
        reached: Some(day("2026-01-20") + TimeDelta::minutes(510)),
        unit: None,
        doubted: None,
    };
    let expected = EndpointState {
        version: STATE_VERSION,
        plan: 7,
        cursor: Some(day("2026-01-01")),
        refreshing: true,
        begun: None,
        edition: None,
        origin: None,
        coverage: None,
        settings: BTreeMap::new(),
        streams: BTreeSet::from(["order_lines".to_owned(), "orders".to_owned()]),
        boundary: BTreeMap::from([
            (
                9_007_199_254_740_993,
                Seen {
                    content: u64::MAX,
                    at: 1_767_225_600,
                },
            ),
            (u64::MAX, Seen { content: 0, at: -1 }),
        ]),
        slices: BTreeMap::from([(0, open), (3, running), (10, whole)]),
        gaps: BTreeMap::new(),
    };
    assert_eq!(EndpointState::from_json(VERSION_1).unwrap(), expected);
    assert_eq!(
        EndpointState::from_json(&expected.to_json()).unwrap(),
        expected
    );
    let dated = EndpointState {
        begun: Some(at("12:00:01")),
        edition: Some("2026-01-31".to_owned()),
        ..expected
    };
    assert_eq!(EndpointState::from_json(&dated.to_json()).unwrap(), dated);
    assert_eq!(
        EndpointState::from_json(r#"{"version":1}"#).unwrap(),
        EndpointState::default()
    );
    assert_eq!(
        EndpointState::default().to_json(),
        r#"{"version":3,"plan":0}"#
    );
}

const VERSION_3: &str = r#"{"version":3,"plan":2,"cursor":"2026-01-02T00:00:00Z","origin":{"account":"acct_1","realm":"test mode"},"coverage":{"since":{"at":"2025-01-01T00:00:00Z"},"wanted":"beginning","until":"2026-01-01T00:00:00Z","newest":"2025-12-31T23:00:00Z"},"settings":{"time_storage":"utc"}}"#;

#[test]
fn a1_a2_a_state_says_what_it_was_read_from_and_what_it_covers() {
    let day = |text: &str| format!("{text}T00:00:00Z").parse().unwrap();
    let expected = EndpointState {
        plan: 2,
        cursor: Some(day("2026-01-02")),
        origin: Some(Origin::of_account("acct_1").realm("test mode")),
        coverage: Some(Coverage {
            since: Since::At(day("2025-01-01")),
            wanted: Since::Beginning,
            until: Some(day("2026-01-01")),
            newest: Some("2025-12-31T23:00:00Z".parse().unwrap()),
        }),
        settings: BTreeMap::from([("time_storage".to_owned(), "utc".to_owned())]),
        ..EndpointState::default()
    };
    assert_eq!(EndpointState::from_json(VERSION_3).unwrap(), expected);
    assert_eq!(expected.to_json(), VERSION_3);
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
    for (case, position, reached, (since, until), newest_first, expected) in cases {
        let window = |(since, until)| {
            Some(Window {
                since: Some(second(since)),
                until: second(until),
            })
        };
        let slice = SliceState {
            window: window((since, until)),
            position,
            reached: reached.map(second),
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

fn gap(name: &str) -> Gap {
    Gap {
        name: name.to_owned(),
        reason: "refused".to_owned(),
        since: second(0),
        tried: second(0),
        attempts: 1,
        keep: BTreeMap::new(),
        stale: false,
        given_up: false,
        rejected: false,
        slice: SliceState::default(),
    }
}

#[test]
fn a3_a_gap_that_was_asked_for_in_the_future_is_due() {
    let gap = Gap {
        tried: second(0) + TimeDelta::days(40),
        attempts: 9,
        ..gap("or_1")
    };
    assert!(
        gap.is_due(second(0)),
        "the clock was 40 days ahead when it was asked for"
    );
    assert!(
        !gap.is_due(gap.tried - TimeDelta::minutes(15)),
        "so far do syncs that start every hour differ"
    );
    assert!(!gap.is_due(gap.tried));
    assert!(gap.is_due(gap.tried + TimeDelta::days(1)));
}

#[test]
fn a_gap_that_is_met_again_keeps_when_it_began_and_whether_it_was_given_up() {
    let mut state = state([slice(0, 10, Position::Start)]);
    let meet = |state: &mut EndpointState, from: Position, to: Position, gap: Gap| {
        let Change::Advance {
            endpoint,
            plan,
            slice,
            reached,
            newest,
            seen,
            ..
        } = advance(0, from.clone(), to.clone())
        else {
            unreachable!()
        };
        state
            .apply(&Change::Advance {
                endpoint,
                plan,
                slice,
                from,
                to,
                reached,
                newest,
                seen,
                gaps: vec![gap],
            })
            .unwrap();
    };
    meet(&mut state, Position::Start, page("a"), gap("or_1"));
    state.gaps.get_mut(&1).unwrap().given_up = true;
    let again = Gap {
        since: second(60),
        tried: second(60),
        reason: "gone".to_owned(),
        ..gap("or_1")
    };
    meet(&mut state, page("a"), page("b"), again.clone());
    assert_eq!(
        state.gaps,
        BTreeMap::from([(
            1,
            Gap {
                since: second(0),
                attempts: 2,
                given_up: true,
                ..again
            }
        )])
    );
    assert_eq!(state.missing().count(), 0, "it was given up");
    meet(&mut state, page("b"), page("c"), gap("or_2"));
    assert_eq!(
        state.missing().map(|gap| &*gap.name).collect::<Vec<_>>(),
        ["or_2"]
    );
}

#[test]
fn only_a_gap_that_names_its_unit_or_its_window_can_be_read_by_itself() {
    let of = |slice| Gap {
        slice,
        ..gap("or_1")
    };
    assert!(!of(SliceState::default()).is_readable());
    assert!(
        of(SliceState {
            unit: Some("or_1".to_owned()),
            ..SliceState::default()
        })
        .is_readable()
    );
    assert!(of(slice(0, 10, Position::Start)).is_readable());
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

#[tokio::test]
async fn a_store_that_keeps_no_claims_says_that_it_does_not_know_of_any() {
    let store = MemoryCheckpoints::default();
    let claim = store.claim("shop", "run").await.unwrap();
    assert_eq!(store.is_claimed("shop").await.unwrap(), None);
    drop(claim);
}

#[test]
fn a_state_that_is_damaged_or_too_new_is_never_taken_for_an_empty_one() {
    let newer = format!(r#"{{"version":{},"unheard":"of"}}"#, STATE_VERSION + 1);
    let error = EndpointState::from_json(&newer).unwrap_err();
    assert_eq!(
        (error.kind(), error.help()),
        (ErrorKind::Unsupported, Some("upgrade this program"))
    );
    let damaged = [
        "",
        " ",
        "null",
        "{}",
        "[]",
        "<html>",
        r#"{"version":"1"}"#,
        r#"{"version":-1}"#,
        r#"{"version":1"#,
        r#"{"version":1} x"#,
        r#"{"version":1,"cursor":"yesterday"}"#,
        r#"{"version":1,"slices":{"0":{}}}"#,
        r#"{"version":1,"slices":{"x":{"position":"start"}}}"#,
        r#"{"version":1,"slices":{"0":{"position":"middle"}}}"#,
        r#"{"version":1,"boundary":[1]}"#,
    ];
    for json in damaged {
        assert_eq!(
            EndpointState::from_json(json).unwrap_err().kind(),
            ErrorKind::Decode,
            "{json}"
        );
    }
    for end in 0..VERSION_1.trim_end().len() {
        assert!(
            EndpointState::from_json(&VERSION_1[..end]).is_err(),
            "cut at {end}"
        );
    }
}

const SPAN: i64 = 120;
const STATUSES: &[&str] = &["open", "closed"];

/// Something that happens to a plan; the number picks an unfinished slice.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A page is read, this part of the way down.
    Read(usize, f64),
    /// The slice is read to its end.
    Finish(usize),
    /// The slice gives half away.
    Split(usize),
    /// The cursor is moved.
    Collapse,
    /// The process ends, and the next one plans what is new.
    Resume,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<usize>(), 0.0..1.0).prop_map(|(slice, part)| Step::Read(slice, part)),
        3 => any::<usize>().prop_map(Step::Finish),
        2 => any::<usize>().prop_map(Step::Split),
        2 => Just(Step::Collapse),
        1 => Just(Step::Resume),
    ]
}

/// A plan that is carried out, and the seconds that were read of each status.
struct Model {
    slicer: TimeSlicer,
    state: EndpointState,
    read: BTreeSet<(String, i64)>,
    pages: u32,
    now: i64,
}

impl Model {
    fn new(step: Option<i64>, partitioned: bool, lookback: i64) -> Self {
        let slicer = TimeSlicer {
            step: step.map(TimeDelta::seconds),
            partition: partitioned.then_some(("status", STATUSES)),
            lookback: TimeDelta::seconds(lookback),
            ..TimeSlicer::newest_first("since", "until", TimeFormat::UnixSeconds)
        };
        let mut model = Self {
            slicer,
            state: EndpointState::default(),
            read: BTreeSet::new(),
            pages: 0,
            now: SPAN,
        };
        model.plan();
        model
    }

    fn plan(&mut self) {
        for slice in self
            .slicer
            .plan(&self.state, TimeRange::since(second(0)), second(self.now))
        {
            self.state.add_slice(slice);
        }
    }

    /// One slice advances, through the same door as in a commit.
    fn advance(&mut self, id: u32, to: Position, reached: i64) {
        let slice = self.state.slices[&id].clone();
        let window = slice.window.unwrap();
        let until = slice
            .reached
            .map_or(window.until, |reached| window.until.min(reached))
            .timestamp();
        let status = slice
            .query
            .first()
            .map_or_else(String::new, |(_, status)| status.clone());
        self.read
            .extend((reached..until).map(|second| (status.clone(), second)));
        let change = Change::Advance {
            endpoint: orders(),
            plan: 0,
            slice: id,
            from: slice.position,
            to,
            reached: Some(second(reached)),
            newest: None,
            seen: vec![],
            gaps: vec![],
        };
        self.state.apply(&change).unwrap();
        self.state.apply(&change).unwrap_err();
    }

    fn step(&mut self, step: Step) {
        let unfinished: Vec<u32> = self.state.unfinished().map(|(id, _)| id).collect();
        let pick = |index: usize| unfinished.get(index % unfinished.len().max(1)).copied();
        match step {
            Step::Read(index, part) => {
                let Some(id) = pick(index) else { return };
                let (since, until) = self.bounds(id);
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_precision_loss,
                    reason = "any place inside will do"
                )]
                let reached = until - ((until - since) as f64 * part) as i64;
                self.pages += 1;
                self.advance(id, page(&self.pages.to_string()), reached);
            }
            Step::Finish(index) => {
                let Some(id) = pick(index) else { return };
                self.advance(id, Position::End, self.bounds(id).0);
            }
            Step::Split(index) => {
                let Some(id) = pick(index) else { return };
                let Some((kept, given)) = self.slicer.split(&self.state.slices[&id]) else {
                    return;
                };
                self.state.slices.insert(id, kept);
                self.state.add_slice(given);
            }
            Step::Collapse => self.state.collapse(),
            Step::Resume => {
                self.now += 7;
                self.state.collapse();
                self.plan();
            }
        }
    }

    /// The unread part of a slice.
    fn bounds(&self, id: u32) -> (i64, i64) {
        let slice = &self.state.slices[&id];
        let window = slice.window.unwrap();
        (
            window.since.unwrap().timestamp(),
            slice
                .reached
                .unwrap_or(window.until)
                .min(window.until)
                .timestamp(),
        )
    }

    fn statuses(&self) -> &[&str] {
        if self.slicer.partition.is_some() {
            STATUSES
        } else {
            &[""]
        }
    }

    fn is_read(&self, until: i64) -> bool {
        self.statuses().iter().all(|status| {
            (0..until).all(|second| self.read.contains(&((*status).to_owned(), second)))
        })
    }

    /// The seconds of each status that a slice covers, finished or not, together with those below
    /// the cursor.
    fn is_covered(&self) -> bool {
        let cursor = self.state.cursor.map_or(0, |cursor| cursor.timestamp());
        let covers = |status: &str, at: i64| {
            self.state.slices.values().any(|slice| {
                let window = slice.window.unwrap();
                let is_inside = window.since.is_none_or(|since| since <= second(at))
                    && second(at) < window.until;
                is_inside && slice.query.first().map_or("", |(_, status)| status) == status
            })
        };
        self.statuses()
            .iter()
            .all(|status| (cursor..=SPAN).all(|at| covers(status, at)))
    }
}

proptest! {
    #[test]
    fn no_interleaving_skips_what_is_unread(
        steps in prop::collection::vec(any_step(), 0..60), size in prop::option::of(5_i64..60), partitioned in any::<bool>(), lookback in 0_i64..30,
    ) {
        let mut model = Model::new(size, partitioned, lookback);
        for step in steps {
            model.step(step);
            let cursor = model.state.cursor.map_or(0, |cursor| cursor.timestamp());
            prop_assert!(model.is_read(cursor), "the cursor {} passed unread seconds after {:?}", cursor, step);
            prop_assert!(model.is_covered(), "nobody reads some seconds after {:?}", step);
        }
        // What a serial run ends with: the cursor at the end of what was planned, and nothing left
        // over.
        let planned = model.state.slices.values().map(|slice| slice.window.unwrap().until).chain(model.state.cursor).max();
        while model.state.unfinished().next().is_some() {
            model.step(Step::Finish(0));
        }
        model.state.collapse();
        prop_assert_eq!(&model.state, &EndpointState { cursor: planned, ..EndpointState::default() });
        prop_assert!(model.is_read(planned.unwrap().timestamp()));
    }

    #[test]
    fn collapsing_twice_is_collapsing_once(slices in prop::collection::vec((prop::option::of(0_i64..50), 1_i64..50, any::<bool>()), 0..12)) {
        let slices = slices.into_iter().map(|(since, length, done)| {
            slice(since, since.unwrap_or(0) + length, if done { Position::End } else { Position::Start })
        });
        let mut once = state(slices);
        once.collapse();
        let mut twice = once.clone();
        twice.collapse();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn a_state_survives_being_stored(cursor in prop::option::of(0_i64..4_000_000_000), text in any::<String>(), key in any::<u64>(), content in any::<u64>()) {
        let slice = SliceState { query: vec![(text.clone(), text.clone())], position: Position::At(text.clone()), ..SliceState::default() };
        let mut stored = EndpointState { cursor: cursor.map(second), ..state([slice]) };
        stored.streams.insert(text);
        stored.boundary.insert(key, Seen { content, at: -5 });
        prop_assert_eq!(EndpointState::from_json(&stored.to_json()).unwrap(), stored);
    }
}
