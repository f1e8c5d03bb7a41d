//! Gaps: when they are due, and what is kept of them.

use std::collections::BTreeMap;

use chrono::TimeDelta;

use super::{advance, page, second, slice, state};
use crate::model::state::{CheckpointDelta, EndpointState, Gap, Position, SliceState};

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
        let CheckpointDelta::Advance {
            endpoint,
            plan,
            slice,
            watermark,
            newest,
            seen,
            ..
        } = advance(0, from.clone(), to.clone())
        else {
            unreachable!()
        };
        state
            .apply(&CheckpointDelta::Advance {
                endpoint,
                plan,
                slice,
                from,
                to,
                watermark,
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
