//! Columns: which one holds a field, and how wide it is.

use arrow_schema::{Field, FieldRef};

use crate::names::{column_names, shorten};

/// What differs between databases.
#[derive(Debug)]
pub struct Dialect {
    /// What names of tables may not begin with, in lower case.
    pub reserved_tables: &'static [&'static str],
    /// Names that no column may have, in any case.
    pub reserved_columns: &'static [&'static str],
    /// Bytes that the name of a column may have. A longer one is cut, and told apart by a
    /// fingerprint: some databases cut it silently, and take two columns for one.
    pub longest_name: usize,
    /// The type of a field's column.
    pub column_type: fn(&Field) -> &'static str,
    /// Chains of types, each from the narrowest to one that holds all of its chain. Two types
    /// become the first one that is at or above both. A column of another type is left as it is.
    pub widening: &'static [&'static [&'static str]],
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
            let candidates = self.column_names(field.name());
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
            let wanted = (self.column_type)(field);
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

    /// The names that a field's column may have in this database: the second one, unless it is
    /// taken.
    pub fn column_names(&self, field: &str) -> [String; 2] {
        column_names(field).map(|name| shorten(name, field, self.longest_name))
    }

    /// The type that holds what both do.
    fn wider<'a>(&self, present: &'a str, wanted: &'a str) -> &'a str {
        let holds = |wide: &str, narrow: &str| {
            self.widening.iter().any(|chain| {
                let place = |name: &str| chain.iter().position(|known| *known == name);
                place(narrow).is_some_and(|narrow| Some(narrow) <= place(wide))
            })
        };
        if !holds(present, present) || !holds(wanted, wanted) {
            return present;
        }
        let both = |wide: &&&str| holds(wide, present) && holds(wide, wanted);
        // In a chain of the present type, so that the first one found is the narrowest.
        let chain = self
            .widening
            .iter()
            .find(|chain| chain.contains(&present) && chain.iter().any(|wide| both(&wide)));
        match chain.and_then(|chain| chain.iter().find(both)) {
            Some(wide) => wide,
            None => present,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use arrow_schema::DataType;

    use super::*;

    pub(crate) const DIALECT: Dialect = Dialect {
        reserved_tables: &["sys_"],
        reserved_columns: &["ctid"],
        longest_name: 20,
        column_type: |field| match field.data_type() {
            DataType::Int64 => "bigint",
            DataType::Float64 => "double precision",
            DataType::Boolean => "boolean",
            _ => "text",
        },
        widening: &[
            &["bigint", "numeric", "text"],
            &["double precision", "numeric", "text"],
            &["boolean", "text"],
        ],
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

    #[test]
    fn two_types_become_the_narrowest_that_holds_both() {
        for (present, wanted, wide) in [
            ("bigint", "bigint", "bigint"),
            ("bigint", "double precision", "numeric"),
            ("double precision", "bigint", "numeric"),
            ("numeric", "bigint", "numeric"),
            ("boolean", "bigint", "text"),
            ("text", "boolean", "text"),
            ("uuid", "text", "uuid"),
        ] {
            assert_eq!(DIALECT.wider(present, wanted), wide, "{present}, {wanted}");
        }
    }

    #[test]
    fn long_names_are_cut_at_a_character_and_stay_apart() {
        let long = "a_very_long_name_of_a_c\u{f6}lumn";
        let columns = DIALECT.widen(
            Vec::new(),
            &fields(&[
                (&format!("{long}1"), DataType::Int64),
                (&format!("{long}2"), DataType::Int64),
                (
                    "\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}\u{1f600}",
                    DataType::Int64,
                ),
            ]),
        );
        assert!(
            columns.of_fields.iter().all(|name| name.len() <= 20),
            "{columns:?}"
        );
        assert_ne!(columns.of_fields[0], columns.of_fields[1]);
        assert!(columns.of_fields[0].starts_with("a_very_long"));
        assert!(columns.of_fields[2].starts_with("\u{1f600}\u{1f600}_"));
    }
}
