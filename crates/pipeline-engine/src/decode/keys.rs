//! Which records cannot be rows, before rows are made of them.

use pipeline_core::{Op, RawRecord, Stream};

use super::Rejection;
use super::columns::Values;

/// Checks the keys of a stream's records, as a decoder does.
pub(crate) struct Keys {
    columns: Vec<(String, Option<Values>)>,
    scratch: String,
}

impl Keys {
    /// The members that identify a record, but for one that the engine adds and those that stand
    /// inside of others.
    pub(crate) fn of(stream: &Stream, added: Option<&str>) -> Self {
        let column = |name: &str| {
            let field = stream.schema().field(name);
            let is_inside = field.is_some_and(|field| field.inside.is_some());
            (!is_inside && added != Some(name)).then(|| {
                (
                    name.to_owned(),
                    field.map(|field| Values::new(field.data_type)),
                )
            })
        };
        Self {
            columns: stream
                .key()
                .iter()
                .filter_map(|name| column(name))
                .collect(),
            scratch: String::new(),
        }
    }

    /// Why a record cannot be a row; none also when only reading all of it can show that.
    pub(crate) fn refuse(&mut self, record: &RawRecord) -> Option<Rejection> {
        if let Some(reason) = record.rejection() {
            return Some(Rejection::Unreadable(reason.clone()));
        }
        if record.op() == Op::DeleteMatching {
            return None;
        }
        if !record.is_object() {
            return Some(Rejection::NotAnObject);
        }
        let Self { columns, scratch } = self;
        columns.iter().find_map(|(name, values)| {
            // Keys come first, and once: what looks wrong is looked for again among the members
            // that follow, as the last counts.
            let value = record.first_member(name);
            check(value, values.as_ref(), scratch)
                .and_then(|_| check(record.member(name), values.as_ref(), scratch))
        })
    }
}

fn check(value: Option<&str>, values: Option<&Values>, scratch: &mut String) -> Option<Rejection> {
    let (Some(value), Some(values)) = (value.filter(|value| *value != "null"), values) else {
        return Some(Rejection::MissingKey);
    };
    (value.starts_with(['{', '[']) || !values.fits(value, scratch)).then_some(Rejection::InvalidKey)
}
