//! Random steps of a sync, against a model that remembers every second that was read.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use proptest::prelude::*;

use super::{orders, page, second, slice, state};
use crate::TimeFormat;
use crate::connector::slice::{Slicer, TimeRange, TimeSlicer};
use crate::model::state::{CheckpointDelta, EndpointState, Position, Seen, SliceState};

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
    pub(super) fn new(step: Option<i64>, partitioned: bool, lookback: i64) -> Self {
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

    pub(super) fn plan(&mut self) {
        for slice in self
            .slicer
            .plan(&self.state, TimeRange::since(second(0)), second(self.now))
        {
            self.state.add_slice(slice);
        }
    }

    /// One slice advances, through the same door as in a commit.
    fn advance(&mut self, id: u32, to: Position, watermark: i64) {
        let slice = self.state.slices[&id].clone();
        let window = slice.window.unwrap();
        let until = slice
            .watermark
            .map_or(window.until, |watermark| window.until.min(watermark))
            .timestamp();
        let status = slice
            .query
            .first()
            .map_or_else(String::new, |(_, status)| status.clone());
        self.read
            .extend((watermark..until).map(|second| (status.clone(), second)));
        let change = CheckpointDelta::Advance {
            endpoint: orders(),
            plan: 0,
            slice: id,
            from: slice.position,
            to,
            watermark: Some(second(watermark)),
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
                let watermark = until - ((until - since) as f64 * part) as i64;
                self.pages += 1;
                self.advance(id, page(&self.pages.to_string()), watermark);
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
                .watermark
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
            prop_assert!(model.is_read(cursor), "the cursor {} passed unread seconds after \
                                                 {:?}", cursor, step);
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
