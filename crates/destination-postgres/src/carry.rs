//! Rows of the visible generation that stay when the next one takes its place.

use std::collections::BTreeMap;

use destination_sql::{quote, quote_all};
use pipeline_core::{Result, failpoint};
use pipeline_engine::{DELETED, Keep, SYNCED_AT};

use crate::columns::{self, text_of};
use crate::encode::Kind;
use crate::names::Registered;
use crate::publish::PUBLISHING;
use crate::session::{Session, param};
use crate::table::{Part, Shape, WRITTEN_BY, shape, unique_index};

/// Inserts the selected rows of the visible table into the next generation, unless it has the key
/// or deletes the row.
pub(crate) async fn carry(
    session: &Session,
    registered: &Registered,
    keep: &[&Keep],
    transaction: i64,
) -> Result<()> {
    if keep.is_empty() {
        return Ok(());
    }
    let Some(from) = shape(session, registered, Part::Visible).await? else {
        return Ok(());
    };
    let to = match shape(session, registered, Part::Next).await? {
        Some(to) => to,
        None => create_next(session, registered, &from).await?,
    };
    let shared: Vec<&String> = from
        .names()
        .filter(|name| to.names().any(|column| column == *name))
        .collect();
    let names = quote_all(shared.iter().copied());
    let values: Vec<String> = shared
        .iter()
        .map(|name| {
            let (from, to) = (columns::type_of(&from, name), columns::type_of(&to, name));
            let value = format!("kept.{}", quote(name));
            if from == to {
                value
            } else {
                columns::widened(&value, from, to)
            }
        })
        .collect();
    let gone = gone(session, registered, &from).await?;
    for (condition, selected) in conditions(&from, keep) {
        let sql = format!(
            "INSERT INTO {} ({names}, {WRITTEN_BY}) SELECT {}, {transaction} FROM {} AS kept WHERE {}{gone}
             ON CONFLICT DO NOTHING",
            registered.next().sql(),
            values.join(", "),
            registered.visible.sql(),
            condition.sql(&from)
        );
        let lists: Vec<Vec<String>> = (0..condition.compared.len())
            .map(|column| selected.iter().map(|row| row[column].clone()).collect())
            .collect();
        let params: Vec<_> = lists.iter().map(param).collect();
        session.execute(PUBLISHING, &sql, &params).await?;
        failpoint("postgres-carrying");
    }
    Ok(())
}

/// A next generation for rows that are carried alone.
async fn create_next(session: &Session, registered: &Registered, from: &Shape) -> Result<Shape> {
    let ours = columns::registered(session, registered).await?;
    let mut shape = Shape {
        columns: from
            .columns
            .iter()
            .filter(|(name, _)| ours.contains(name))
            .cloned()
            .collect(),
        key: from.key.clone(),
        dropped: 0,
    };
    shape
        .columns
        .push((WRITTEN_BY.to_owned(), "bigint".to_owned()));
    let columns: Vec<String> = shape
        .columns
        .iter()
        .map(|(name, data_type)| format!("{} {data_type}", quote(name)))
        .collect();
    let sql = format!(
        "CREATE TABLE {} ({});{}",
        registered.next().sql(),
        columns.join(", "),
        unique_index(registered, Part::Next, &shape.key)
    );
    session.batch(PUBLISHING, &sql).await?;
    Ok(shape)
}

/// What some of the selections compare.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Condition {
    /// Columns that have a value.
    compared: Vec<String>,
    /// Columns that have none.
    null: Vec<String>,
}

impl Condition {
    /// The condition, in which the parameters are lists: one for each column that is compared.
    fn sql(&self, shape: &Shape) -> String {
        let null = self
            .null
            .iter()
            .map(|name| format!("kept.{} IS NULL", quote(name)));
        let mut parts: Vec<String> = null.collect();
        if !self.compared.is_empty() {
            let places = || 1..=self.compared.len();
            let lists: Vec<String> = places().map(|place| format!("${place}")).collect();
            let columns: Vec<String> = places().map(|place| format!("c{place}")).collect();
            let equal: Vec<String> = self
                .compared
                .iter()
                .zip(&columns)
                .map(|(name, wanted)| equal(name, columns::type_of(shape, name), wanted))
                .collect();
            parts.push(format!(
                "EXISTS (SELECT 1 FROM unnest({}) AS wanted ({}) WHERE {})",
                lists.join(", "),
                columns.join(", "),
                equal.join(" AND ")
            ));
        }
        if parts.is_empty() {
            "true".to_owned()
        } else {
            parts.join(" AND ")
        }
    }
}

/// The condition that a column has a value that is given as text.
fn equal(name: &str, data_type: &str, wanted: &str) -> String {
    let column = format!("kept.{}", quote(name));
    match Kind::of(data_type) {
        Kind::Numeric => format!("trim_scale({column})::text = wanted.{wanted}"),
        Kind::Json(_) => format!(
            "CASE jsonb_typeof({column}::jsonb) WHEN 'string' THEN {column}::jsonb #>> '{{}}'
                 ELSE {column}::jsonb::text END = wanted.{wanted}"
        ),
        _ => format!("{} = wanted.{wanted}", text_of(&column, data_type)),
    }
}

/// The selections by what they compare, with their values as text. One that compares a column that
/// the table does not have selects nothing.
fn conditions(shape: &Shape, keep: &[&Keep]) -> BTreeMap<Condition, Vec<Vec<String>>> {
    let mut conditions: BTreeMap<Condition, Vec<Vec<String>>> = BTreeMap::new();
    'keep: for keep in keep {
        let (mut condition, mut row) = (
            Condition {
                compared: Vec::new(),
                null: Vec::new(),
            },
            Vec::new(),
        );
        for (field, json) in &keep.values {
            match (shape.column(field), text(json)) {
                (Some((column, data_type)), Some(text)) => {
                    condition.compared.push(column.clone());
                    row.push(match Kind::of(data_type) {
                        Kind::Numeric => trimmed(text),
                        _ => text,
                    });
                }
                (Some((column, _)), None) => condition.null.push(column.clone()),
                (None, None) => {}
                (None, Some(_)) => continue 'keep,
            }
        }
        conditions.entry(condition).or_default().push(row);
    }
    conditions
}

/// A JSON value as the text that is compared; none: null.
fn text(json: &str) -> Option<String> {
    match json.trim() {
        "null" => None,
        json => Some(
            serde_json::from_str::<String>(json)
                .unwrap_or_else(|_| json.to_owned())
                .replace('\0', "\u{2400}"),
        ),
    }
}

/// A number without the zeros at its end that mean nothing.
fn trimmed(number: String) -> String {
    if number.contains('.') {
        number
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned()
    } else {
        number
    }
}

/// The condition that no tombstone of the next generation deletes the row; empty: it has none.
async fn gone(session: &Session, registered: &Registered, visible: &Shape) -> Result<String> {
    let Some(gone) = shape(session, registered, Part::Gone).await? else {
        return Ok(String::new());
    };
    let system = [DELETED, SYNCED_AT].map(|field| visible.column(field).map(|(name, _)| name));
    let mut compared = Vec::new();
    for (column, data_type) in visible
        .columns
        .iter()
        .filter(|(column, _)| !system.contains(&Some(column)))
    {
        let Some((_, gone_type)) = gone.columns.iter().find(|(known, _)| known == column) else {
            continue;
        };
        let column = quote(column);
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM {} WHERE {column} IS NOT NULL)",
            registered.gone().sql()
        );
        if session.is(PUBLISHING, &sql, &[]).await? {
            compared.push(format!(
                "(gone.{column} IS NULL OR {} = {})",
                text_of(&format!("gone.{column}"), gone_type),
                text_of(&format!("kept.{column}"), data_type)
            ));
        }
    }
    if compared.is_empty() {
        return Ok(String::new());
    }
    Ok(format!(
        " AND NOT EXISTS (SELECT 1 FROM {} AS gone WHERE {})",
        registered.gone().sql(),
        compared.join(" AND ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_as_text() {
        for (json, expected) in [
            ("\"it's\"", Some("it's")),
            ("null", None),
            ("5", Some("5")),
            ("true", Some("true")),
        ] {
            assert_eq!(text(json).as_deref(), expected);
        }
        for (number, expected) in [
            ("5.50", "5.5"),
            ("5.0", "5"),
            ("500", "500"),
            ("-0.10", "-0.1"),
        ] {
            assert_eq!(trimmed(number.to_owned()), expected);
        }
    }
}
