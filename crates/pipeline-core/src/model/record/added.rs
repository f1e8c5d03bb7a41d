//! Members that a record has besides those that the vendor sent.

use std::sync::Arc;

use crate::json::scan;

/// Members to add to records, or to leave out of them. Clones share what they hold: make it once
/// for all records that get the same.
///
/// No text is written: the members travel beside a record's text, and whoever looks at the record
/// finds them where they were put. Where a record has a name of its own as well:
///
/// * [`before`](Self::before): the record's own is left out.
/// * [`after`](Self::after): the last of a name counts, as in any JSON, so the added one does.
/// * [`instead`](Self::instead): the value stands in the place of the record's own, and nowhere
///   when it has none.
/// * [`without`](Self::without): the record's own is left out.
#[derive(Clone, Debug)]
pub struct Added(Arc<Lists>);

#[derive(Clone, Debug, Default)]
struct Lists {
    before: Vec<Part>,
    /// Names that are not what the record's own text says; with a value what they are.
    instead: Vec<(Box<str>, Option<Value>)>,
    after: Vec<Part>,
}

/// What becomes of a record's own member.
#[derive(Clone, Copy)]
pub(super) enum Own<'a> {
    /// It is what the text says.
    AsWritten,
    /// It does not count.
    LeftOut,
    /// It has this value.
    Instead(&'a Value),
}

/// One member that was added.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) name: Box<str>,
    /// The name as JSON.
    pub(super) key: Box<str>,
    pub(super) value: Value,
}

/// A value as JSON.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) raw: Box<str>,
    /// The same without white space, where it has some.
    compact: Option<Box<str>>,
}

impl Value {
    fn new(raw: &str) -> Self {
        Self {
            compact: scan::compacted(raw).map(Into::into),
            raw: raw.into(),
        }
    }

    pub(super) fn compact(&self) -> &str {
        self.compact.as_ref().unwrap_or(&self.raw)
    }
}

impl Part {
    fn new((name, value): (&str, &str)) -> Self {
        Self {
            name: name.into(),
            key: quoted(name).into(),
            value: Value::new(value),
        }
    }
}

/// A name as JSON.
pub(super) fn quoted(name: &str) -> String {
    serde_json::to_string(name).unwrap_or_else(|_| unreachable!("a string is always JSON"))
}

impl Added {
    /// Members before the record's own, of which those with these names are left out. Values are
    /// JSON already.
    pub fn before<'m>(members: impl IntoIterator<Item = (&'m str, &'m str)>) -> Self {
        let before: Vec<Part> = members.into_iter().map(Part::new).collect();
        let instead = before.iter().map(|part| (part.name.clone(), None));
        Self::of(Lists {
            instead: instead.collect(),
            before,
            ..Lists::default()
        })
    }

    /// Members after the record's own. Values are JSON already.
    pub fn after<'m>(members: impl IntoIterator<Item = (&'m str, &'m str)>) -> Self {
        Self::of(Lists {
            after: members.into_iter().map(Part::new).collect(),
            ..Lists::default()
        })
    }

    /// Values in the place of those that the record's own members of these names have, the last of
    /// a name. Values are JSON already.
    pub fn instead<'m>(members: impl IntoIterator<Item = (&'m str, &'m str)>) -> Self {
        let mut instead: Vec<(Box<str>, Option<Value>)> = Vec::new();
        for (name, value) in members {
            instead.retain(|(known, _)| **known != *name);
            instead.push((name.into(), Some(Value::new(value))));
        }
        Self::of(Lists {
            instead,
            ..Lists::default()
        })
    }

    /// Leaves out the record's own members of these names.
    pub fn without(names: &[&str]) -> Self {
        Self::of(Lists {
            instead: names.iter().map(|name| ((*name).into(), None)).collect(),
            ..Lists::default()
        })
    }

    fn of(lists: Lists) -> Self {
        Self(Arc::new(lists))
    }

    /// True when nothing is added and nothing left out.
    pub fn is_empty(&self) -> bool {
        let Lists {
            before,
            instead,
            after,
        } = &*self.0;
        before.is_empty() && instead.is_empty() && after.is_empty()
    }

    /// True when both are one, and not only equal.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What a record has that got these members, and then others.
    pub(super) fn and(&self, then: &Self) -> Self {
        let Lists {
            before,
            mut instead,
            after,
        } = (*self.0).clone();
        let changed = |parts: Vec<Part>| {
            let kept = parts.into_iter().filter_map(|part| {
                let value = match then.own(part.name.as_bytes()) {
                    Own::LeftOut => return None,
                    Own::Instead(value) => value.clone(),
                    Own::AsWritten => part.value,
                };
                Some(Part { value, ..part })
            });
            kept.collect::<Vec<_>>()
        };
        let (before, after) = (changed(before), changed(after));
        for (name, value) in &then.0.instead {
            match instead.iter_mut().find(|(known, _)| known == name) {
                // What is left out already cannot come back.
                Some((_, known)) => *known = known.take().and_then(|_| value.clone()),
                None => instead.push((name.clone(), value.clone())),
            }
        }
        Self::of(Lists {
            before: then.0.before.iter().cloned().chain(before).collect(),
            instead,
            after: after
                .into_iter()
                .chain(then.0.after.iter().cloned())
                .collect(),
        })
    }

    pub(super) fn parts_before(&self) -> &[Part] {
        &self.0.before
    }

    pub(super) fn parts_after(&self) -> &[Part] {
        &self.0.after
    }

    /// What becomes of the record's own member of that name.
    pub(super) fn own(&self, name: &[u8]) -> Own<'_> {
        let mut instead = self.0.instead.iter();
        match instead.find(|(known, _)| known.as_bytes() == name) {
            None => Own::AsWritten,
            Some((_, None)) => Own::LeftOut,
            Some((_, Some(value))) => Own::Instead(value),
        }
    }

    /// True when members are added behind the record's own and nothing else is changed.
    pub(super) fn only_appends(&self) -> bool {
        self.0.before.is_empty() && self.0.instead.is_empty()
    }
}
