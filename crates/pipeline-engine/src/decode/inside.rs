//! Columns whose values stand inside a member: in an object, or in a list of entries that have a
//! name and a value.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use pipeline_core::json::scan;
use pipeline_core::{Field, Inside};

/// A member, and the columns whose values stand inside of it.
pub(super) struct Container {
    /// The member's own column.
    pub(super) column: usize,
    /// For a list: the members of an entry that hold the name and the value.
    entries: Option<(&'static str, &'static str)>,
    columns: HashMap<Vec<u8>, usize>,
    /// Names as they are written, and their columns, in the order in which they came first: records
    /// of one stream have them in the same.
    order: Vec<(Vec<u8>, Option<usize>)>,
}

impl Container {
    /// The members that fields stand inside of, of those that are columns themselves.
    pub(super) fn of(fields: &[Field], columns: &HashMap<Vec<u8>, usize>) -> Vec<Self> {
        let mut containers: Vec<Self> = Vec::new();
        let inner = fields
            .iter()
            .zip(0..)
            .filter_map(|(field, column)| Some((field.inside.as_ref()?, column)));
        for (
            Inside {
                member,
                name,
                entries,
            },
            inner,
        ) in inner
        {
            let Some(column) = columns.get(member.as_bytes()).copied() else {
                continue;
            };
            let is_it = |known: &Self| known.column == column && known.entries == *entries;
            let index = containers.iter().position(is_it).unwrap_or_else(|| {
                containers.push(Self {
                    column,
                    entries: *entries,
                    columns: HashMap::new(),
                    order: Vec::new(),
                });
                containers.len() - 1
            });
            containers[index]
                .columns
                .insert(name.as_bytes().to_vec(), inner);
        }
        containers
    }

    /// Finds the value of each column in the member, and where it stands; of several with one name
    /// the last comes last.
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
            (None, Some(b'{')) => scan::members(json, 0, |key, start| {
                let end = scan::value(json, start)?;
                named(key.span.of(json), Some(start..end));
                Some(end)
            }),
            (Some(entries), Some(b'[')) => scan::elements(json, 0, |start| {
                let (name, value, end) = name_and_value(json, start, entries)?;
                if let Some(name) = name {
                    named(&json[name], value);
                }
                Some(end)
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
fn plain(written: &[u8]) -> Cow<'_, [u8]> {
    match written {
        [b'"', name @ .., b'"'] if memchr::memchr(b'\\', name).is_none() => name.into(),
        [b'"', ..] => serde_json::from_slice::<String>(written)
            .map_or(written.into(), |name| name.into_bytes().into()),
        _ => written.into(),
    }
}

/// Where the name and the value of an entry of a list stand, and where the entry ends.
type Entry = (Option<Range<usize>>, Option<Range<usize>>, usize);

fn name_and_value(json: &[u8], start: usize, (name_key, value_key): (&str, &str)) -> Option<Entry> {
    let (mut name, mut value) = (None, None);
    let end = if json.get(start) == Some(&b'{') {
        scan::members(json, start, |key, at| {
            let end = scan::value(json, at)?;
            let key = key.name(json);
            if *key == *name_key.as_bytes() {
                name = Some(at..end);
            } else if *key == *value_key.as_bytes() {
                value = Some(at..end);
            }
            Some(end)
        })?
    } else {
        scan::value(json, start)?
    };
    Some((name, value, end))
}
