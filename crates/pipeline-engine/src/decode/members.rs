//! Which column the members of one record belong to.

use std::borrow::Cow;
use std::collections::HashMap;

use pipeline_core::Field;
use pipeline_core::json::scan::Member;

use super::inside::Container;

/// A record's text, and that of its nested values without white space.
#[derive(Clone, Copy)]
pub(super) struct Text<'r> {
    pub(super) record: &'r str,
    pub(super) compact: &'r str,
}

impl<'r> Text<'r> {
    /// A member's value, without white space around its parts.
    fn value(self, member: Member) -> &'r str {
        member.compact.map_or_else(
            || member.value.of_text(self.record),
            |compact| compact.of_text(self.compact),
        )
    }

    /// A member's name as it is written, with its quotes.
    fn key(self, member: Member) -> &'r str {
        member.key.span.of_text(self.record)
    }

    /// The same without its quotes.
    fn written(self, member: Member) -> &'r str {
        self.key(member)
            .strip_prefix('"')
            .and_then(|name| name.strip_suffix('"'))
            .unwrap_or_default()
    }

    /// What a member's name means.
    fn name(self, member: Member) -> Cow<'r, [u8]> {
        member.key.name(self.record.as_bytes())
    }
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
    declared: Vec<Option<Member>>,
    containers: Vec<Container>,
    unknown: Vec<Member>,
    misfits: Vec<Member>,
    repeated: Vec<Member>,
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

    /// Takes the members of a record.
    pub(super) fn take(&mut self, members: &[Member], text: Text<'_>) {
        self.declared.fill(None);
        self.unknown.clear();
        self.misfits.clear();
        self.repeated.clear();
        // One more than the column before, 0 at the start.
        let mut previous = 0;
        for member in members {
            let predicted = self.successors[previous];
            let name = self.names.get(predicted).and_then(Option::as_ref);
            let is_predicted = name.is_some_and(|name| name == text.key(*member));
            let known = || self.columns.get(&*text.name(*member)).copied();
            let Some(column) = is_predicted.then_some(predicted).or_else(known) else {
                self.unknown.push(*member);
                continue;
            };
            self.successors[previous] = column;
            self.repeated.extend(self.declared[column].replace(*member));
            previous = column + 1;
        }
        self.drop_repeated_unknown(text);
        self.look_inside(text);
    }

    /// Gives back what an unusual record took.
    pub(super) fn trim(&mut self) {
        for buffer in [&mut self.unknown, &mut self.misfits, &mut self.repeated] {
            if size_of::<Member>() * buffer.capacity() > super::SPARE_BYTES {
                *buffer = Vec::new();
            }
        }
    }

    /// Finds what columns show of the inside of members.
    fn look_inside(&mut self, text: Text<'_>) {
        let Self {
            containers,
            declared,
            ..
        } = self;
        for container in containers {
            let Some(member) = declared[container.column] else {
                continue;
            };
            container.find(text.value(member).as_bytes(), |column, place| {
                let inner = match member.compact {
                    Some(compact) => Member {
                        compact: Some(compact.part(place)),
                        ..member
                    },
                    None => Member {
                        value: member.value.part(place),
                        ..member
                    },
                };
                declared[column] = Some(inner);
            });
        }
    }

    /// The value of a column; none when it is absent or null.
    pub(super) fn value<'r>(&self, column: usize, text: Text<'r>) -> Option<&'r str> {
        self.declared[column]
            .map(|member| text.value(member))
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
    pub(super) fn repeated<'r>(&self, text: Text<'r>) -> impl Iterator<Item = &'r str> {
        self.repeated
            .iter()
            .map(move |member| text.written(*member))
    }

    /// Keys that are not declared.
    pub(super) fn unknown<'r>(&self, text: Text<'r>) -> impl Iterator<Item = &'r str> {
        self.unknown.iter().map(move |member| text.written(*member))
    }

    /// Keys and values of members that no column holds, in the record's order.
    pub(super) fn extra<'r>(&mut self, text: Text<'r>) -> impl Iterator<Item = (&'r str, &'r str)> {
        self.unknown.append(&mut self.misfits);
        self.unknown
            .sort_unstable_by_key(|member| member.key.span.range().start);
        self.unknown
            .iter()
            .map(move |member| (text.written(*member), text.value(*member)))
    }

    /// Keeps the last of several unknown members with one name.
    fn drop_repeated_unknown(&mut self, text: Text<'_>) {
        let Self {
            unknown, repeated, ..
        } = self;
        if unknown.len() < 2 {
            return;
        }
        let name = |member: &Member| text.name(*member);
        let start = |member: &Member| member.key.span.range().start;
        unknown.sort_unstable_by(|a, b| name(a).cmp(&name(b)).then(start(b).cmp(&start(a))));
        unknown.dedup_by(|earlier, kept| {
            let is_repeated = name(earlier) == name(kept);
            repeated.extend(is_repeated.then_some(*earlier));
            is_repeated
        });
    }
}
