//! One stream of a list as data.

use super::vendor::Vendor;
use crate::connector::{Deletes, Transform};
use crate::model::schema::{Field, Schema};

/// A stream of a [`ListDef`](super::ListDef): what the user selects and gets as a table.
#[derive(Debug)]
pub struct StreamDef<V: Vendor> {
    /// The stream's name.
    pub name: &'static str,
    /// Where its records are in a response. Default: where those of the list are.
    pub records: Option<&'static str>,
    /// Its columns. None: those that are generated, see [`Vendor::columns`].
    pub columns: Option<&'static [Field]>,
    /// Further columns, or other types of those.
    pub added: &'static [&'static [Field]],
    /// Members that the vendor sends and nobody gets: copies of others, and secrets.
    pub hidden: &'static [&'static str],
    /// Members that together identify a record. Default: `id`.
    pub key: &'static [&'static str],
    /// How deletions show. Default: what is missing from a list that is read whole is gone, and
    /// deletions from any other are invisible.
    pub deletes: Option<Deletes>,
    /// What becomes of a record.
    pub transform: Transform,
    /// What only this vendor's streams have. Default: [`Vendor::STREAM`].
    pub facts: V::Stream,
    /// What the list hides, and what a reader of the data must know.
    pub note: &'static str,
}

impl<V: Vendor> Clone for StreamDef<V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V: Vendor> Copy for StreamDef<V> {}

impl<V: Vendor> StreamDef<V> {
    /// A stream with these columns, and those whose records have an `id`.
    pub const fn new(name: &'static str, columns: &'static [Field]) -> Self {
        Self {
            name,
            records: None,
            columns: Some(columns),
            added: &[],
            hidden: &[],
            key: &["id"],
            deletes: None,
            transform: Transform::AsSent,
            facts: V::STREAM,
            note: "",
        }
    }

    /// A stream whose columns are generated from the vendor's description of its API.
    pub const fn generated(name: &'static str) -> Self {
        Self {
            columns: None,
            ..Self::new(name, &[])
        }
    }

    /// Where its records are in a response, if not where the list says.
    pub const fn records(mut self, path: &'static str) -> Self {
        self.records = Some(path);
        self
    }

    /// Adds columns, or changes the types of those that have the name.
    pub const fn added(mut self, columns: &'static [&'static [Field]]) -> Self {
        self.added = columns;
        self
    }

    /// Leaves out columns of these names.
    pub const fn hidden(mut self, members: &'static [&'static str]) -> Self {
        self.hidden = members;
        self
    }

    /// Members that together identify a record; none: every record is appended.
    pub const fn key(mut self, key: &'static [&'static str]) -> Self {
        self.key = key;
        self
    }

    /// How deletions show.
    pub const fn deletes(mut self, deletes: Deletes) -> Self {
        self.deletes = Some(deletes);
        self
    }

    /// What becomes of a record.
    pub const fn transform(mut self, transform: Transform) -> Self {
        self.transform = transform;
        self
    }

    /// What only this vendor's streams have.
    pub const fn facts(mut self, facts: V::Stream) -> Self {
        self.facts = facts;
        self
    }

    /// What the list hides, and what a reader of the data must know.
    pub const fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    /// Whether its columns are generated.
    pub const fn is_generated(&self) -> bool {
        self.columns.is_none()
    }

    /// The declared columns: the table, plus those that are added, minus those that are hidden.
    pub fn schema(&self) -> Schema {
        let table = self.columns.unwrap_or_else(|| V::columns(self.name));
        let is_hidden = |field: &Field| self.hidden.iter().any(|name| field.name == *name);
        let table = if table.iter().any(is_hidden) {
            let shown = table.iter().filter(|field| !is_hidden(field)).cloned();
            Schema::default().extend(shown)
        } else {
            Schema::from_static(table)
        };
        let added = self.added.iter().copied().flatten();
        added.fold(table, |schema, field| {
            schema.with(field.name.clone(), field.data_type)
        })
    }
}
