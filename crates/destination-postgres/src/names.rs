//! Names of schemas and tables.

use destination_sql::{clean, quote, shorten, table_fingerprint, table_names};
use pipeline_engine::TableId;

use crate::dialect::DIALECT;

/// The schema of this crate's own tables, and of rows that nobody is to see.
pub(crate) const OWN: &str = "_pipeline";

/// Bytes of a name; Postgres cuts longer ones silently.
pub(crate) const LONGEST: usize = 63;

/// A table, or something else with columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relation {
    pub(crate) schema: String,
    pub(crate) name: String,
}

impl Relation {
    /// As it is written in statements.
    pub(crate) fn sql(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.name))
    }

    fn own(name: String) -> Self {
        Self {
            schema: OWN.to_owned(),
            name,
        }
    }
}

/// The table of a stream, as it is registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registered {
    /// What the names of its other relations are made of.
    pub(crate) number: i64,
    /// What others read.
    pub(crate) visible: Relation,
}

impl Registered {
    /// Where the next generation is collected.
    pub(crate) fn next(&self) -> Relation {
        Relation::own(format!("next_{}", self.number))
    }

    /// Where tombstones of the next generation are collected: they count for the rows that are
    /// carried into it as well.
    pub(crate) fn gone(&self) -> Relation {
        Relation::own(format!("gone_{}", self.number))
    }

    /// The unique index of the visible table's key.
    pub(crate) fn key(&self) -> String {
        format!("_pipeline_key_{}", self.number)
    }

    /// The unique index of the next generation's key.
    pub(crate) fn next_key(&self) -> String {
        format!("_pipeline_next_key_{}", self.number)
    }
}

/// The names that the table of a stream may have: the second one, unless it is taken.
pub(crate) fn relations(template: &str, id: &TableId) -> [Relation; 2] {
    let schema = schema(template, &id.source);
    let names = if template.contains(SOURCE) {
        let plain = not_empty(clean(&id.stream).to_ascii_lowercase());
        [format!("{plain}_{}", table_fingerprint(id)), plain]
    } else {
        table_names(id, &DIALECT).map(|name| name.to_ascii_lowercase())
    };
    names.map(|name| Relation {
        schema: schema.clone(),
        name: shorten(name, &table_fingerprint(id), LONGEST),
    })
}

/// What stands for the source's name in the template of a schema.
const SOURCE: &str = "{source}";

/// The schema of a source's tables. Capital letters become small ones, so that nobody has to quote
/// the name.
fn schema(template: &str, source: &str) -> String {
    let name = template.replace(SOURCE, &clean(source).to_ascii_lowercase());
    let is_reserved = name.starts_with("pg_") || name == OWN || name == "information_schema";
    let plain = not_empty(if is_reserved {
        format!("s{name}")
    } else {
        name
    });
    shorten(plain, source, LONGEST)
}

fn not_empty(name: String) -> String {
    if name.is_empty() {
        "_".to_owned()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored names never change: what is here is in databases of users.
    #[test]
    fn names_are_the_same_in_every_release() {
        let of = |template: &str, source: &str, stream: &str| {
            let id = TableId {
                source: source.to_owned(),
                stream: stream.to_owned(),
            };
            relations(template, &id)
                .map(|relation| format!("{}.{}", relation.schema, relation.name))
        };
        assert_eq!(
            of("{source}", "payments", "charges"),
            ["payments.charges_621cdc43", "payments.charges"]
        );
        assert_eq!(of("raw", "payments", "charges")[1], "raw.payments_charges");
        assert_eq!(of("raw_{source}", "My-Shop", "ü.X")[1], "raw_my_shop.__x");
        assert_eq!(of("{source}", "PG_temp", "x")[1], "spg_temp.x");
        assert_eq!(of("{source}", "_pipeline", "state")[1], "s_pipeline.state");
        assert_eq!(of("{source}", "", "")[1], "_._");
        let long = "s".repeat(100);
        for name in of("{source}", &long, &long) {
            assert!(name.split('.').all(|part| part.len() == LONGEST), "{name}");
        }
    }
}
