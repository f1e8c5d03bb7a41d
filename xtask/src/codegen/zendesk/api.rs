//! Zendesk's OpenAPI files, as far as they tell what a list answers.

use std::path::PathBuf;

use serde_json::{Map, Value};

use super::Result;
use crate::codegen::openapi::file_text;

/// The files, searched one after the other.
#[derive(Debug)]
pub(super) struct Api(Vec<Value>);

/// The object that a list holds, and the file that its references lead through.
#[derive(Debug)]
pub(super) struct Item<'a> {
    file: &'a Value,
    schema: &'a Value,
}

/// A member of an object.
#[derive(Debug)]
pub(super) struct Property {
    pub(super) kind: Option<String>,
    pub(super) format: Option<String>,
    pub(super) write_only: bool,
}

impl Api {
    /// Reads the files, gzipped if their names say so.
    pub(super) fn open(paths: &[PathBuf]) -> Result<Self> {
        let read =
            |path: &PathBuf| -> Result<Value> { Ok(serde_saphyr::from_str(&file_text(path)?)?) };
        let files = paths
            .iter()
            .map(|path| read(path).map_err(|error| format!("{}: {error}", path.display()).into()));
        Ok(Self(files.collect::<Result<_>>()?))
    }

    #[cfg(test)]
    pub(super) fn of(text: &str) -> Result<Self> {
        Ok(Self(vec![serde_saphyr::from_str(text)?]))
    }

    /// What stands in the array `records` of the answer to a GET of `path`, whatever the names in
    /// its braces are.
    pub(super) fn item(&self, path: &str, records: &str) -> Result<Item<'_>> {
        let wanted = without_names(path);
        let find = |file: &'_ Value| {
            let paths = file["paths"].as_object()?;
            Some(
                paths
                    .iter()
                    .find(|(known, _)| without_names(known) == wanted)?
                    .0
                    .clone(),
            )
        };
        let (file, path) = self
            .0
            .iter()
            .find_map(|file| Some((file, find(file)?)))
            .ok_or_else(|| format!("GET {path} is not described"))?;
        let answer = resolve(file, &file["paths"][&path]["get"]["responses"]["200"]);
        let body = &answer["content"]["application/json"]["schema"];
        let array = members(file, body)
            .into_iter()
            .find(|(name, _)| name == records)
            .map(|(_, schema)| resolve(file, schema));
        let array = array.ok_or_else(|| format!("GET {path} answers no `{records}`"))?;
        if array["type"] != "array" {
            return Err(format!("`{records}` of GET {path} is no array").into());
        }
        Ok(Item {
            file,
            schema: &array["items"],
        })
    }

    /// The members of an object, by name.
    #[expect(clippy::unused_self, reason = "reads as the file's answer")]
    pub(super) fn properties(&self, item: &Item<'_>) -> Vec<(String, Property)> {
        let property = |schema: &Value| {
            let target = resolve(item.file, schema);
            let text = |name: &str| target[name].as_str().map(ToOwned::to_owned);
            let write_only = schema["writeOnly"] == true || target["writeOnly"] == true;
            Property {
                kind: text("type"),
                format: text("format"),
                write_only,
            }
        };
        let mut properties: Vec<_> = members(item.file, item.schema)
            .into_iter()
            .map(|(name, schema)| (name, property(schema)))
            .collect();
        properties.sort_by(|(a, _), (b, _)| a.cmp(b));
        properties
    }
}

impl Item<'_> {
    /// An invented value of this shape. `number` tells records apart.
    pub(super) fn sample(&self, number: u64) -> Map<String, Value> {
        let mut members: Vec<_> = members(self.file, self.schema);
        members.sort_by(|(a, _), (b, _)| (a != "id", a).cmp(&(b != "id", b)));
        let readable = members.into_iter().filter(|(_, schema)| {
            schema["writeOnly"] != true && resolve(self.file, schema)["writeOnly"] != true
        });
        readable
            .map(|(name, schema)| {
                let value = value(self.file, schema, &name, number, 0);
                (name, value)
            })
            .collect()
    }
}

/// The path with empty braces: `{id}` here is `{ticket_id}` there.
fn without_names(path: &str) -> String {
    let segment = |segment: &str| {
        if segment.starts_with('{') {
            "{}".to_owned()
        } else {
            segment.to_owned()
        }
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

fn resolve<'a>(file: &'a Value, schema: &'a Value) -> &'a Value {
    let Some(reference) = schema["$ref"].as_str() else {
        return schema;
    };
    let target = file
        .pointer(reference.trim_start_matches('#'))
        .unwrap_or(&Value::Null);
    resolve(file, target)
}

/// The members of an object, with those of the objects that it is made of or may be.
fn members<'a>(file: &'a Value, schema: &'a Value) -> Vec<(String, &'a Value)> {
    let schema = resolve(file, schema);
    let mut found: Vec<(String, &Value)> = Vec::new();
    let parts = ["allOf", "oneOf", "anyOf"]
        .into_iter()
        .filter_map(|part| schema[part].as_array())
        .flatten();
    let own = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, schema)| (name.clone(), schema));
    for (name, member) in parts.flat_map(|part| members(file, part)).chain(own) {
        match found.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = member,
            None => found.push((name, member)),
        }
    }
    found
}

/// How deep invented values go: below are empty objects and lists.
const DEPTH: u32 = 2;

fn value(file: &Value, schema: &Value, name: &str, number: u64, depth: u32) -> Value {
    let schema = resolve(file, schema);
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    let kind = schema["type"].as_str().unwrap_or_else(|| {
        if members(file, schema).is_empty() {
            "null"
        } else {
            "object"
        }
    });
    match kind {
        "integer" if name == "id" => Value::from(7_253_394_974_000 + number),
        "integer" if name.ends_with("_id") => Value::from(360_000_000_000 + stable(name)),
        "integer" | "number" => Value::from(stable(name) % 7 + number),
        "boolean" => Value::from(stable(name).is_multiple_of(2)),
        "string" => Value::from(text(schema, name, number)),
        "array" if depth < DEPTH => {
            Value::from(vec![value(file, &schema["items"], name, number, depth + 1)])
        }
        "array" => Value::Array(Vec::new()),
        "object" if depth < DEPTH => {
            let mut members = members(file, schema);
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            members
                .into_iter()
                .map(|(name, schema)| {
                    let value = value(file, schema, &name, number, depth + 1);
                    (name, value)
                })
                .collect::<Map<_, _>>()
                .into()
        }
        "object" => Value::Object(Map::new()),
        _ => Value::Null,
    }
}

fn text(schema: &Value, name: &str, number: u64) -> String {
    match (schema["format"].as_str(), name) {
        (Some("date-time"), _) => {
            format!("2026-11-{:02}T09:{:02}:00Z", 2 + number, stable(name) % 60)
        }
        (Some("date"), _) => format!("2026-11-{:02}", 2 + number),
        (None, _) if name.ends_with("_at") || name == "time" => {
            format!("2026-11-{:02}T09:{:02}:00Z", 2 + number, stable(name) % 60)
        }
        (_, "email") => format!("person{number}@acme.test"),
        _ if name.ends_with("url") => format!("https://acme.zendesk.com/invented/{number}"),
        _ => format!("{} {number}", name.replace('_', " ")),
    }
}

/// A small number that is always the same for a name.
fn stable(name: &str) -> u64 {
    name.bytes()
        .fold(7, |sum, byte| (sum * 31 + u64::from(byte)) % 9973)
}
