//! Columns whose values stand inside a member: in an object, or in a list of entries that have a name and a value.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::members::name;
use crate::scan;
use crate::schema::{Field, Inside};

/// A member, and the columns whose values stand inside of it.
pub(super) struct Container {
    /// The member's own column.
    pub(super) column: usize,
    /// For a list: the members of an entry that hold the name and the value.
    entries: Option<(&'static str, &'static str)>,
    columns: HashMap<String, usize>,
    /// Names as they are written, and their columns, in the order in which they came first: records of one stream have
    /// them in the same.
    order: Vec<(Vec<u8>, Option<usize>)>,
}

impl Container {
    /// The members that fields stand inside of, of those that are columns themselves.
    pub(super) fn of(fields: &[Field], columns: &HashMap<String, usize>) -> Vec<Self> {
        let mut containers: Vec<Self> = Vec::new();
        let inner = fields.iter().zip(0..).filter_map(|(field, column)| Some((field.inside.as_ref()?, column)));
        for (Inside { member, name, entries }, inner) in inner {
            let Some(column) = columns.get(&**member).copied() else { continue };
            let is_it = |known: &Self| known.column == column && known.entries == *entries;
            let index = containers.iter().position(is_it).unwrap_or_else(|| {
                containers.push(Self { column, entries: *entries, columns: HashMap::new(), order: Vec::new() });
                containers.len() - 1
            });
            containers[index].columns.insert(name.to_string(), inner);
        }
        containers
    }

    /// Finds the value of each column in the member, and where it stands; of several with one name the last comes last.
    pub(super) fn find(&mut self, json: &[u8], mut found: impl FnMut(usize, Range<usize>)) {
        let (mut index, entries) = (0, self.entries);
        let mut named = |name: &[u8], value: Option<Range<usize>>| {
            let column = self.column_of(index, name);
            index += 1;
            if let (Some(column), Some(value)) = (column, value) {
                found(column, value);
            }
        };
        match (entries, json.first()) {
            (None, Some(b'{')) => scan::members(json, 0, |key, value| named(&json[key], Some(value))),
            (Some(entries), Some(b'[')) => scan::elements(json, 0, |entry| {
                let (name, value) = name_and_value(json, entry, entries);
                if let Some(name) = name {
                    named(&json[name], value);
                }
            }),
            _ => None,
        };
    }

    /// The column of a name as it is written, the `index`th of the member.
    fn column_of(&mut self, index: usize, written: &[u8]) -> Option<usize> {
        match self.order.get(index) {
            Some((known, column)) if known == written => *column,
            known => {
                let column = self.columns.get(&*plain(written)).copied();
                if known.is_none() {
                    self.order.push((written.to_owned(), column));
                }
                column
            }
        }
    }
}

/// A name, whether it is written as text or as a number.
fn plain(written: &[u8]) -> Cow<'_, str> {
    let written = std::str::from_utf8(written).unwrap_or_default();
    if written.starts_with('"') { name(written) } else { written.into() }
}

/// Where the name and the value of an entry of a list stand.
fn name_and_value(json: &[u8], entry: Range<usize>, (name_key, value_key): (&str, &str)) -> (Option<Range<usize>>, Option<Range<usize>>) {
    let (mut name, mut value) = (None, None);
    if json[entry.start] == b'{' {
        scan::members(json, entry.start, |key, place| {
            let key = plain(&json[key]);
            if key == name_key {
                name = Some(place);
            } else if key == value_key {
                value = Some(place);
            }
        });
    }
    (name, value)
}
