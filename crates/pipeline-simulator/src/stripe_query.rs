//! The query parameters of Stripe's lists.

use std::ops::Range;

use crate::world::{Row, Table, World};

/// What is wrong with a parameter.
pub(crate) struct Refusal {
    pub(crate) code: Option<&'static str>,
    pub(crate) message: String,
    pub(crate) param: String,
}

pub(crate) fn refuse<T>(
    code: Option<&'static str>,
    param: &str,
    message: String,
) -> Result<T, Refusal> {
    Err(Refusal {
        code,
        message,
        param: param.to_owned(),
    })
}

/// A parsed query.
pub(crate) struct Query {
    limit: usize,
    starting_after: Option<String>,
    ending_before: Option<String>,
    /// Seconds, half-open.
    created: Range<i64>,
    pub(crate) expand: Vec<String>,
    /// A field and the values that pass.
    filters: Vec<(String, Vec<String>)>,
}

/// The records of one page, newest first.
pub(crate) struct Page {
    pub(crate) indexes: Vec<u64>,
    pub(crate) has_more: bool,
}

impl Query {
    pub(crate) fn parse(
        pairs: &[(String, String)],
        world: &World,
        table: &Table,
    ) -> Result<Query, Refusal> {
        let mut query = Query {
            limit: 10,
            starting_after: None,
            ending_before: None,
            created: i64::MIN..i64::MAX,
            expand: Vec::new(),
            filters: Vec::new(),
        };
        for (name, value) in pairs {
            let base = name.split('[').next().unwrap_or(name);
            if !table.params.iter().any(|known| known == base) {
                return refuse(
                    Some("parameter_unknown"),
                    name,
                    format!("Received unknown parameter: {name}"),
                );
            }
            match base {
                "limit" => query.limit = limit(value)?,
                "starting_after" => query.starting_after = Some(value.clone()),
                "ending_before" => query.ending_before = Some(value.clone()),
                "created" => query.created(name, value)?,
                "expand" => query.expand.push(expansion(value, table)?),
                _ => query.filter(base, value, world, table)?,
            }
        }
        if query.starting_after.is_some() && query.ending_before.is_some() {
            let message = "You can't use both `starting_after` and `ending_before`.".to_owned();
            return refuse(None, "ending_before", message);
        }
        query.hide(&table.name);
        Ok(query)
    }

    fn created(&mut self, name: &str, value: &str) -> Result<(), Refusal> {
        let second = integer(name, value)?;
        let Range { start, end } = &mut self.created;
        match name {
            "created" => {
                (*start, *end) = ((*start).max(second), (*end).min(second.saturating_add(1)));
            }
            "created[gte]" => *start = (*start).max(second),
            "created[gt]" => *start = (*start).max(second.saturating_add(1)),
            "created[lt]" => *end = (*end).min(second),
            "created[lte]" => *end = (*end).min(second.saturating_add(1)),
            _ => {
                return refuse(
                    Some("parameter_unknown"),
                    name,
                    format!("Received unknown parameter: {name}"),
                );
            }
        }
        Ok(())
    }

    /// Other parameters are taken as "the field of that name has this value", which is what they
    /// mean.
    fn filter(
        &mut self,
        name: &str,
        value: &str,
        world: &World,
        table: &Table,
    ) -> Result<(), Refusal> {
        let field = match name {
            "ids" => "id",
            "types" => "type",
            // No transaction that is made up belongs to a payout.
            "payout" => "source",
            other => other,
        };
        let row = Row {
            table: world.table(&table.name),
            index: 0,
        };
        if world.field(row, field).is_none() {
            return refuse(
                None,
                name,
                format!("The simulator can't filter {} by {name}.", table.name),
            );
        }
        match self.filters.iter_mut().find(|(known, _)| known == field) {
            Some((_, values)) => values.push(value.to_owned()),
            None => self
                .filters
                .push((field.to_owned(), vec![value.to_owned()])),
        }
        Ok(())
    }

    /// What lists leave out unless asked: canceled subscriptions.
    fn hide(&mut self, table: &str) {
        match (
            table,
            self.filters.iter().position(|(field, _)| field == "status"),
        ) {
            ("subscriptions", None) => {
                let shown = [
                    "active",
                    "past_due",
                    "trialing",
                    "unpaid",
                    "paused",
                    "incomplete",
                ]
                .map(str::to_owned);
                self.filters.push(("status".to_owned(), shown.to_vec()));
            }
            ("subscriptions", Some(position)) if self.filters[position].1 == ["all"] => {
                self.filters.remove(position);
            }
            _ => {}
        }
    }

    fn passes(&self, world: &World, row: Row) -> bool {
        self.filters.iter().all(|(field, values)| {
            let text = world.field(row, field).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let text = text.trim_matches('"');
            // Only event types may end in a wildcard, and no other value ends like one.
            let matches = |value: &String| {
                value
                    .strip_suffix('*')
                    .map_or(text == value, |start| text.starts_with(start))
            };
            values.iter().any(matches)
        })
    }

    /// The page that the query asks for.
    pub(crate) fn page(&self, world: &World, table: usize) -> Result<Page, Refusal> {
        let records = &world.tables[table];
        let within = records.between(self.created.clone());
        let passes = |index: &u64| {
            self.passes(
                world,
                Row {
                    table,
                    index: *index,
                },
            )
        };
        let cursor = |param: &str, id: &str| {
            // A cursor that the filters leave out is as unknown as one that was deleted.
            match records
                .index(id)
                .filter(|index| within.contains(index) && passes(index))
            {
                Some(index) => Ok(index),
                None => refuse(Some("resource_missing"), param, missing(records, id)),
            }
        };
        if let Some(id) = &self.ending_before {
            let newer = cursor("ending_before", id)? + 1..within.end;
            let mut page = self.take(newer.filter(passes));
            page.indexes.reverse();
            return Ok(page);
        }
        let end = match &self.starting_after {
            Some(id) => cursor("starting_after", id)?,
            None => within.end,
        };
        Ok(self.take((within.start..end).rev().filter(passes)))
    }

    fn take(&self, mut matching: impl Iterator<Item = u64>) -> Page {
        let indexes: Vec<u64> = matching.by_ref().take(self.limit).collect();
        Page {
            has_more: matching.next().is_some(),
            indexes,
        }
    }
}

/// Stripe's wording for an id that isn't there.
pub(crate) fn missing(table: &Table, id: &str) -> String {
    format!("No such {}: '{id}'", table.name.trim_end_matches('s'))
}

pub(crate) fn integer(name: &str, value: &str) -> Result<i64, Refusal> {
    match value.parse() {
        Ok(number) => Ok(number),
        Err(_) => refuse(
            Some("parameter_invalid_integer"),
            name,
            format!("Invalid integer: {value}"),
        ),
    }
}

pub(crate) fn limit(value: &str) -> Result<usize, Refusal> {
    match integer("limit", value)? {
        number @ 1..=100 => Ok(usize::try_from(number).unwrap_or(100)),
        number => {
            let bound = if number < 1 {
                "greater than or equal to 1"
            } else {
                "less than or equal to 100"
            };
            refuse(
                Some("parameter_invalid_integer"),
                "limit",
                format!("This value must be {bound} (it currently is '{number}')."),
            )
        }
    }
}

/// The field to expand. What is below the entries of a list in that field isn't simulated.
fn expansion(value: &str, table: &Table) -> Result<String, Refusal> {
    let path = value.strip_prefix("data.").unwrap_or_default();
    let field = path.split_once(".data.").map_or(path, |(field, _)| field);
    if table.expandable.iter().any(|known| known == field) {
        return Ok(field.to_owned());
    }
    let message = format!("This property cannot be expanded ({value}).");
    refuse(None, "expand", message)
}
