//! Which column the members of one record belong to.

use std::collections::HashMap;
use std::ops::Range;

use pipeline_core::{Field, Parts};

use super::inside::Container;

/// Where a value is among the members of a record.
#[derive(Clone, Copy)]
struct Place {
    /// Of the member.
    member: u32,
    /// The part of its value that it is; nothing for all of it.
    start: u32,
    end: u32,
}

impl Place {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "no record has as many members"
    )]
    fn of(member: usize) -> Self {
        Self {
            member: member as u32,
            start: 0,
            end: 0,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "no text is larger")]
    fn part(self, part: Range<usize>) -> Self {
        Self {
            start: part.start as u32,
            end: part.end as u32,
            ..self
        }
    }

    fn member(self) -> usize {
        self.member as usize
    }

    fn value(self, parts: Parts<'_>) -> &str {
        let value = parts.value(self.member());
        if self.end == 0 {
            return value;
        }
        value
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// A member's name as it is written, without its quotes.
fn written(parts: Parts<'_>, place: Place) -> &str {
    parts
        .key(place.member())
        .strip_prefix('"')
        .and_then(|name| name.strip_suffix('"'))
        .unwrap_or_default()
}

/// The members of the record read last, by what becomes of them; buffers are used again for the
/// next.
pub(super) struct Members {
    /// The written names of columns, with their quotes; none for columns whose values stand inside
    /// a member.
    names: Vec<Option<String>>,
    columns: HashMap<Vec<u8>, usize>,
    /// The column that came after each column last time: records of one stream have their members
    /// in the same order.
    successors: Vec<usize>,
    declared: Vec<Option<Place>>,
    containers: Vec<Container>,
    unknown: Vec<Place>,
    misfits: Vec<Place>,
    repeated: Vec<Place>,
}

impl Members {
    pub(super) fn new(fields: &[Field]) -> Self {
        let named = |field: &Field| {
            field
                .inside
                .is_none()
                .then(|| serde_json::Value::from(&*field.name).to_string())
        };
        let own = fields
            .iter()
            .zip(0..)
            .filter(|(field, _)| field.inside.is_none());
        let columns: HashMap<Vec<u8>, usize> = own
            .map(|(field, column)| (field.name.as_bytes().to_vec(), column))
            .collect();
        Self {
            successors: (0..=fields.len()).collect(),
            declared: vec![None; fields.len()],
            containers: Container::of(fields, &columns),
            names: fields.iter().map(named).collect(),
            columns,
            unknown: Vec::new(),
            misfits: Vec::new(),
            repeated: Vec::new(),
        }
    }

    /// Takes the members of a record. Of several with one name the last counts.
    pub(super) fn take(&mut self, parts: Parts<'_>) {
        self.declared.fill(None);
        self.unknown.clear();
        self.misfits.clear();
        self.repeated.clear();
        // One more than the column before, 0 at the start.
        let mut previous = 0;
        for member in (0..parts.len()).filter(|member| !parts.is_left_out(*member)) {
            let (place, predicted) = (Place::of(member), self.successors[previous]);
            let name = self.names.get(predicted).and_then(Option::as_ref);
            let is_predicted = name.is_some_and(|name| name == parts.key(member));
            let known = || self.columns.get(&*parts.name(member)).copied();
            let Some(column) = is_predicted.then_some(predicted).or_else(known) else {
                self.unknown.push(place);
                continue;
            };
            self.successors[previous] = column;
            self.repeated.extend(self.declared[column].replace(place));
            previous = column + 1;
        }
        self.drop_repeated_unknown(parts);
        self.look_inside(parts);
    }

    /// Gives back what an unusual record took.
    pub(super) fn trim(&mut self) {
        for buffer in [&mut self.unknown, &mut self.misfits, &mut self.repeated] {
            if size_of::<Place>() * buffer.capacity() > super::SPARE_BYTES {
                *buffer = Vec::new();
            }
        }
    }

    /// Finds what columns show of the inside of members.
    fn look_inside(&mut self, parts: Parts<'_>) {
        let Self {
            containers,
            declared,
            ..
        } = self;
        for container in containers {
            let Some(place) = declared[container.column] else {
                continue;
            };
            container.find(place.value(parts).as_bytes(), |column, part| {
                declared[column] = Some(place.part(part));
            });
        }
    }

    /// The value of a column; none when it is absent or null.
    pub(super) fn value<'r>(&self, column: usize, parts: Parts<'r>) -> Option<&'r str> {
        self.declared[column]
            .map(|place| place.value(parts))
            .filter(|value| *value != "null")
    }

    /// Moves a column's member to those that no column holds.
    pub(super) fn set_aside(&mut self, column: usize) {
        self.misfits.extend(self.declared[column]);
    }

    /// Forgets everything but these columns.
    pub(super) fn keep_only(&mut self, kept: &[Option<usize>]) {
        for (index, member) in self.declared.iter_mut().enumerate() {
            if !kept.contains(&Some(index)) {
                *member = None;
            }
        }
        self.unknown.clear();
        self.repeated.clear();
    }

    /// Keys of earlier values that a later one replaced.
    pub(super) fn repeated<'r>(&self, parts: Parts<'r>) -> impl Iterator<Item = &'r str> {
        self.repeated
            .iter()
            .map(move |place| written(parts, *place))
    }

    /// Keys that are not declared.
    pub(super) fn unknown<'r>(&self, parts: Parts<'r>) -> impl Iterator<Item = &'r str> {
        self.unknown.iter().map(move |place| written(parts, *place))
    }

    /// Keys and values of members that are not declared.
    pub(super) fn unknown_values<'r>(
        &self,
        parts: Parts<'r>,
    ) -> impl Iterator<Item = (&'r str, &'r str)> {
        self.unknown
            .iter()
            .map(move |place| (written(parts, *place), place.value(parts)))
    }

    /// Keys and values of members that no column holds, in the record's order.
    pub(super) fn extra<'r>(
        &mut self,
        parts: Parts<'r>,
    ) -> impl Iterator<Item = (&'r str, &'r str)> {
        self.unknown.append(&mut self.misfits);
        self.unknown.sort_unstable_by_key(|place| place.member);
        self.unknown
            .iter()
            .map(move |place| (written(parts, *place), place.value(parts)))
    }

    /// Keeps the last of several unknown members with one name.
    fn drop_repeated_unknown(&mut self, parts: Parts<'_>) {
        let Self {
            unknown, repeated, ..
        } = self;
        if unknown.len() < 2 {
            return;
        }
        let name = |place: &Place| parts.name(place.member());
        unknown.sort_unstable_by(|a, b| name(a).cmp(&name(b)).then(b.member.cmp(&a.member)));
        unknown.dedup_by(|earlier, kept| {
            let is_repeated = name(earlier) == name(kept);
            repeated.extend(is_repeated.then_some(*earlier));
            is_repeated
        });
    }
}
