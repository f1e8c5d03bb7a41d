//! Columns: which one holds a field, and how wide it is.

use arrow_schema::{DataType, FieldRef};

use crate::names::column_names;

/// What differs between databases.
#[derive(Debug)]
pub struct Dialect {
    /// What names of tables may not begin with, in lower case.
    pub reserved_tables: &'static [&'static str],
    /// Names that no column may have, in any case.
    pub reserved_columns: &'static [&'static str],
    /// The type of a field's column.
    pub column_type: fn(&DataType) -> &'static str,
    /// Types from the narrowest to the one that holds all. A column of another type is left as it
    /// is.
    pub widening: &'static [&'static str],
}

/// The columns of a table, each with its type, and which of them the fields of a batch are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// Every column with its type: those that there were, in their order, then those that are new.
    pub all: Vec<(String, String)>,
    /// For each field, its column.
    pub of_fields: Vec<String>,
}

impl Dialect {
    /// Adds fields to the columns of a table, which are never narrowed. Names that differ only in
    /// case, which databases take for one, are told apart by a fingerprint; so are reserved ones.
    pub fn widen(&self, mut columns: Vec<(String, String)>, fields: &[FieldRef]) -> Columns {
        let mut names: Vec<String> = Vec::with_capacity(fields.len());
        for field in fields {
            let candidates = column_names(field.name());
            let [marked, plain] = &candidates;
            let present = |name: &String| {
                !names.contains(name) && columns.iter().any(|(column, _)| column == name)
            };
            let clashes = |name: &str| {
                columns
                    .iter()
                    .any(|(column, _)| column.eq_ignore_ascii_case(name))
            };
            let is_reserved = self
                .reserved_columns
                .iter()
                .any(|reserved| reserved.eq_ignore_ascii_case(plain));
            let name = match candidates.iter().find(|name| present(name)) {
                Some(name) => name,
                None if clashes(plain) || is_reserved => marked,
                None => plain,
            }
            .clone();
            let wanted = (self.column_type)(field.data_type());
            match columns.iter_mut().find(|(column, _)| *column == name) {
                Some((_, present)) => *present = self.wider(present, wanted).to_owned(),
                None => columns.push((name.clone(), wanted.to_owned())),
            }
            names.push(name);
        }
        Columns {
            all: columns,
            of_fields: names,
        }
    }

    /// The type that holds what both do.
    fn wider<'a>(&self, present: &'a str, wanted: &'a str) -> &'a str {
        let rank = |name: &str| self.widening.iter().position(|known| *known == name);
        if rank(present).is_some_and(|present| Some(present) < rank(wanted)) {
            wanted
        } else {
            present
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use arrow_schema::Field;

    use super::*;

    pub(crate) const DIALECT: Dialect = Dialect {
        reserved_tables: &["sys_"],
        reserved_columns: &["ctid"],
        column_type: |data_type| match data_type {
            DataType::Int64 => "bigint",
            _ => "text",
        },
        widening: &["bigint", "text"],
    };

    fn fields(names: &[(&str, DataType)]) -> Vec<FieldRef> {
        names
            .iter()
            .map(|(name, data_type)| Arc::new(Field::new(*name, data_type.clone(), true)))
            .collect()
    }

    #[test]
    fn columns_are_added_and_widened_and_never_narrowed() {
        let first = DIALECT.widen(
            Vec::new(),
            &fields(&[
                ("id", DataType::Int64),
                ("ID", DataType::Utf8),
                ("CTID", DataType::Utf8),
            ]),
        );
        assert_eq!(first.of_fields[0], "id");
        assert!(
            first.of_fields[1].starts_with("ID_") && first.of_fields[2].starts_with("CTID_"),
            "{first:?}"
        );
        let again = DIALECT.widen(
            first.all.clone(),
            &fields(&[
                ("id", DataType::Utf8),
                ("ID", DataType::Int64),
                ("new", DataType::Int64),
            ]),
        );
        assert_eq!(
            again.of_fields[..2],
            first.of_fields[..2],
            "the same columns"
        );
        let types: Vec<&str> = again
            .all
            .iter()
            .map(|(_, data_type)| data_type.as_str())
            .collect();
        assert_eq!(types, ["text", "text", "text", "bigint"]);
        let foreign = DIALECT.widen(
            vec![("id".to_owned(), "uuid".to_owned())],
            &fields(&[("id", DataType::Utf8)]),
        );
        assert_eq!(
            foreign.all,
            [("id".to_owned(), "uuid".to_owned())],
            "a type that somebody chose stays"
        );
    }
}
