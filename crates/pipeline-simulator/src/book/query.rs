//! The query parameters of written-down lists.

use serde_json::Value;

use super::{Book, Definition, Kept};
use crate::stripe_query::{Refusal, integer, limit, refuse};

/// A parsed query.
pub(crate) struct BookQuery {
    pub(crate) limit: usize,
    pub(crate) starting_after: Option<String>,
    /// Seconds, half-open.
    since: i64,
    until: i64,
    pub(crate) expand: Vec<String>,
    /// A member and the value that it must have.
    filters: Vec<(String, String)>,
    /// Names of events.
    pub(crate) types: Vec<String>,
}

impl BookQuery {
    pub(crate) fn parse(
        pairs: &[(String, String)],
        params: &[String],
        definition: Option<&Definition>,
    ) -> Result<BookQuery, Refusal> {
        // A list that takes no page size comes whole.
        let limit_default = if params.iter().any(|known| known == "limit") {
            10
        } else {
            usize::MAX
        };
        let (since, until) = (i64::MIN, i64::MAX);
        let mut query = BookQuery {
            limit: limit_default,
            starting_after: None,
            since,
            until,
            expand: Vec::new(),
            filters: Vec::new(),
            types: Vec::new(),
        };
        for (name, value) in pairs {
            let base = name.split('[').next().unwrap_or(name);
            let is_parent = definition
                .is_some_and(|definition| definition.parent_param.as_deref() == Some(base));
            if !params.iter().any(|known| known == base) {
                return refuse(
                    Some("parameter_unknown"),
                    name,
                    format!("Received unknown parameter: {name}"),
                );
            }
            match base {
                _ if is_parent => {}
                // A grant has one customer.
                "customer"
                    if definition.is_some_and(|definition| {
                        definition.parent.as_deref() == Some("credit_grants")
                    }) => {}
                "limit" => query.limit = limit(value)?,
                "starting_after" => query.starting_after = Some(value.clone()),
                "created" => query.bound(name, integer(name, value)?)?,
                "expand" => query.expand.push(expansion(value, definition)?),
                "types" | "type" => query.types.push(value.clone()),
                // The lists that share a path are told apart by it.
                "object" => {}
                "status" if value == "all" => {}
                _ => query.filters.push((base.to_owned(), value.clone())),
            }
        }
        if query.types.len() > 20 {
            return refuse(
                None,
                "types",
                "You may pass up to 20 event types.".to_owned(),
            );
        }
        Ok(query)
    }

    fn bound(&mut self, name: &str, second: i64) -> Result<(), Refusal> {
        match name {
            "created[gte]" => self.since = self.since.max(second),
            "created[gt]" => self.since = self.since.max(second.saturating_add(1)),
            "created[lt]" => self.until = self.until.min(second),
            "created[lte]" => self.until = self.until.min(second.saturating_add(1)),
            "created" => (self.since, self.until) = (second, second.saturating_add(1)),
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

    pub(crate) fn includes(&self, created: i64) -> bool {
        created >= self.since && created < self.until
    }

    /// Whether an object is in the list. The parent is a filter like any other member that says
    /// whose it is.
    pub(crate) fn passes(&self, kept: &Kept) -> bool {
        let has = |(member, value): &(String, String)| match kept.fields.get(member) {
            Some(Value::String(text)) => text == value,
            Some(other) => value.parse::<Value>().is_ok_and(|value| value == *other),
            None => kept.parent.as_ref() == Some(value),
        };
        !kept.gone && self.includes(kept.created) && self.filters.iter().all(has)
    }
}

/// The member to expand, which the data file must know.
fn expansion(value: &str, definition: Option<&Definition>) -> Result<String, Refusal> {
    let member = value.strip_prefix("data.").unwrap_or(value);
    let known =
        definition.is_some_and(|definition| definition.expand.iter().any(|known| known == member));
    if known {
        Ok(member.to_owned())
    } else {
        refuse(
            None,
            "expand",
            format!("This property cannot be expanded ({value})."),
        )
    }
}

/// What a request asks for.
pub(crate) enum Target {
    /// A list, of one object's entries or of all.
    List {
        table: usize,
        parent: Option<String>,
    },
    /// An object by its id.
    Object {
        table: usize,
        id: String,
    },
    Events,
    Event(String),
    Account,
}

impl Book {
    /// What a path and its parameters name, and the operation that they count as.
    pub(crate) fn target(
        &self,
        path: &str,
        pairs: &[(String, String)],
    ) -> Option<(Target, String)> {
        match path {
            "/v1/events" => return Some((Target::Events, "GET /v1/events".to_owned())),
            "/v1/account" => return Some((Target::Account, "GET /v1/account".to_owned())),
            _ => {}
        }
        if let Some(id) = path.strip_prefix("/v1/events/") {
            return Some((
                Target::Event(id.to_owned()),
                "GET /v1/events/{id}".to_owned(),
            ));
        }
        if let Some((table, parent)) = self.list(path, pairs) {
            return Some((
                Target::List { table, parent },
                format!("GET {}", self.definitions[table].path),
            ));
        }
        let (list, id) = path.rsplit_once('/')?;
        // Objects of lists that share a path are found by their id, whatever the parameters say.
        let id = id_in_path(id);
        let of_list = |definition: &Definition| {
            fits(
                definition.objects.as_ref().unwrap_or(&definition.path),
                list,
            )
            .is_some()
        };
        let tables = (0..self.definitions.len()).filter(|table| of_list(&self.definitions[*table]));
        let tables: Vec<usize> = tables.collect();
        let is_there = |table: &&usize| {
            self.accounts
                .values()
                .any(|account| account.shelves[**table].find(&id).is_some())
        };
        let table = *tables.iter().find(is_there).or(tables.first())?;
        let Definition { path, objects, .. } = &self.definitions[table];
        let operation = format!("GET {}/{{id}}", objects.as_ref().unwrap_or(path));
        Some((Target::Object { table, id }, operation))
    }

    /// Whether a path and its parameters name the list of this name, and not one that belongs to
    /// some object.
    pub(crate) fn is_of_all(&self, name: &str, path: &str, pairs: &[(String, String)]) -> bool {
        self.list(path, pairs)
            .is_none_or(|(table, _)| self.definitions[table].name == name)
    }

    fn list(&self, path: &str, pairs: &[(String, String)]) -> Option<(usize, Option<String>)> {
        let value = |name: &str| {
            pairs
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.clone())
        };
        let mut found = None;
        for (table, definition) in self.definitions.iter().enumerate() {
            let Some(in_path) = fits(&definition.path, path) else {
                continue;
            };
            let asked = definition.parent_param.as_deref().map(value);
            match (in_path, asked) {
                (Some(id), _)
                    if definition.only.is_none() || definition.only == value("object") =>
                {
                    return Some((table, Some(id)));
                }
                (None, Some(Some(id))) => return Some((table, Some(id))),
                (None, None) => found = Some((table, None)),
                _ => {}
            }
        }
        found.or_else(|| self.list_inside(path))
    }

    /// A list inside an object, by the object's own path: `/v1/charges/{id}/refunds`.
    fn list_inside(&self, path: &str) -> Option<(usize, Option<String>)> {
        let (object, member) = path.rsplit_once('/')?;
        let (list, id) = object.rsplit_once('/')?;
        let owner = self.definitions.iter().find(|owner| owner.path == list)?;
        let nested = owner.nested.iter().find(|nested| nested.member == member)?;
        Some((self.table(&nested.table), Some(id_in_path(id))))
    }
}

/// The value of the name in braces; none when there are no braces.
type InPath = Option<String>;

/// The value in a path of the name in a template's braces, if the path is one of the template.
fn fits(template: &str, path: &str) -> Option<InPath> {
    let (mut template, mut path) = (template.split('/'), path.split('/'));
    let mut id = None;
    loop {
        match (template.next(), path.next()) {
            (None, None) => return Some(id),
            (Some(expected), Some(found)) if expected == found => {}
            (Some(expected), Some(found)) if expected.starts_with('{') => {
                id = Some(id_in_path(found));
            }
            _ => return None,
        }
    }
}

/// An id in a path, in which Stripe reads `+` as a space.
fn id_in_path(text: &str) -> String {
    percent_decoded(&text.replace('+', " "))
}

/// A part of a path without percent signs.
pub(crate) fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |digit: Option<u8>| char::from(digit.unwrap_or(b'0')).to_digit(16).unwrap_or(0);
        let byte = if byte == b'%' {
            u8::try_from(hex(rest.next()) * 16 + hex(rest.next())).unwrap_or(byte)
        } else {
            byte
        };
        bytes.push(byte);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
