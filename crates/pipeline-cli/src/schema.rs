//! What the JSON Schema of a connector's or a destination's configuration says about its members.

use serde_json::{Map, Value};

/// A member of a configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Property<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Its own schema.
    pub(crate) schema: &'a Value,
    /// True without a default.
    pub(crate) required: bool,
    /// The schema that it is a part of, for references.
    root: &'a Value,
}

/// Every member that may occur, alternatives included, in the schema's order.
pub(crate) fn properties(spec: &Value) -> Vec<Property<'_>> {
    let mut found = Vec::new();
    collect(spec, spec, true, &mut found);
    found
}

fn collect<'a>(root: &'a Value, schema: &'a Value, all: bool, found: &mut Vec<Property<'a>>) {
    if let Some(target) = referred(root, schema) {
        collect(root, target, all, found);
    }
    let required = |name: &str| {
        schema["required"]
            .as_array()
            .is_some_and(|names| names.iter().any(|known| known == name))
    };
    for (name, member) in schema["properties"]
        .as_object()
        .into_iter()
        .flat_map(Map::iter)
    {
        if !found.iter().any(|known| known.name == name) {
            found.push(Property {
                name,
                schema: member,
                required: all && required(name),
                root,
            });
        }
    }
    for (keyword, all) in [("allOf", all), ("oneOf", false), ("anyOf", false)] {
        for part in schema[keyword].as_array().into_iter().flatten() {
            collect(root, part, all, found);
        }
    }
}

/// What `$ref` points at.
fn referred<'a>(root: &'a Value, schema: &Value) -> Option<&'a Value> {
    root.pointer(schema["$ref"].as_str()?.trim_start_matches('#'))
}

/// The names of all members.
pub(crate) fn members(spec: &Value) -> Vec<&str> {
    properties(spec)
        .into_iter()
        .map(|property| property.name)
        .collect()
}

/// The value as the member wants it.
pub(crate) fn fitting(spec: &Value, member: &str, value: Value) -> Value {
    match properties(spec)
        .into_iter()
        .find(|property| property.name == member)
    {
        Some(property) => property.fitting(value),
        None => value,
    }
}

/// The names of the members that are secrets: those marked `writeOnly`.
pub(crate) fn secrets(spec: &Value) -> Vec<&str> {
    properties(spec)
        .into_iter()
        .filter(Property::is_secret)
        .map(|property| property.name)
        .collect()
}

impl<'a> Property<'a> {
    /// True when the value must not be seen.
    pub(crate) fn is_secret(&self) -> bool {
        let write_only = |schema: &Value| schema["writeOnly"] == true;
        let parts = self.schema["anyOf"].as_array().into_iter().flatten();
        write_only(self.schema)
            || parts
                .chain(self.schema["allOf"].as_array().into_iter().flatten())
                .any(write_only)
    }

    /// True for a member that is one value, and not a list or a table.
    pub(crate) fn takes_text_or_number(&self) -> bool {
        let parts = self.schema["anyOf"].as_array().into_iter().flatten();
        !self.is_type("array")
            && !self.is_type("object")
            && !parts
                .into_iter()
                .any(|part| part["type"] == "array" || part["type"] == "object")
    }

    /// True for a member that is text and nothing else.
    pub(crate) fn takes_text_only(&self) -> bool {
        self.schema["type"] == "string"
    }

    /// The value as the member wants it: variables are text, so text that is a number or a truth
    /// value becomes one where no text may stand.
    pub(crate) fn fitting(&self, value: Value) -> Value {
        match &value {
            Value::String(text)
                if ["integer", "number", "boolean"]
                    .iter()
                    .any(|name| self.is_type(name)) =>
            {
                let parsed = serde_json::from_str(text)
                    .ok()
                    .filter(|parsed: &Value| parsed.is_number() || parsed.is_boolean());
                parsed.unwrap_or(value)
            }
            _ => value,
        }
    }

    /// True when a text is a path that is relative to the configuration's folder: the member has
    /// `format: path`, and the text is neither a word with a meaning of its own (`const`) nor a URL
    /// where the member takes one (`format: uri`).
    pub(crate) fn is_path(&self, text: &str) -> bool {
        let parts = || {
            self.schema["anyOf"]
                .as_array()
                .into_iter()
                .flatten()
                .chain([self.schema])
        };
        let has_format = |format: &str| parts().any(|part| part["format"] == format);
        let is_word = parts().any(|part| part["const"] == text);
        has_format("path") && !is_word && !(has_format("uri") && text.contains("://"))
    }

    fn is_type(&self, name: &str) -> bool {
        let types = &self.schema["type"];
        types == name
            || types
                .as_array()
                .is_some_and(|types| types.iter().any(|known| known == name))
    }

    /// What may be written for it: the default, the schema's own example, a reference for a secret,
    /// or a place to fill in.
    pub(crate) fn example(&self, owner: &str) -> String {
        let schema = self.schema;
        if let Some(value) = [&schema["default"], &schema["examples"][0]]
            .into_iter()
            .find(|value| !value.is_null())
        {
            return value.to_string();
        }
        if let Some(choice) = self.choices().first() {
            return format!("\"{choice}\"");
        }
        match self.name {
            _ if self.is_secret() => self.variable(owner),
            "start_date" => "\"2024-01-01\"".to_owned(),
            _ if self.is_type("integer") || self.is_type("number") => "0".to_owned(),
            _ if self.is_type("boolean") => "false".to_owned(),
            _ if self.is_type("array") => "[]".to_owned(),
            _ => "\"\"".to_owned(),
        }
    }

    /// A reference to an environment variable that is named after it.
    pub(crate) fn variable(&self, owner: &str) -> String {
        format!(
            "\"${{{}_{}}}\"",
            owner.to_uppercase().replace('-', "_"),
            self.name.to_uppercase()
        )
    }

    /// The words that may be written for it, when no others may.
    pub(crate) fn choices(&self) -> Vec<&'a str> {
        let parts = self.schema["anyOf"]
            .as_array()
            .into_iter()
            .flatten()
            .chain([self.schema]);
        let schemas = parts.map(|part| referred(self.root, part).unwrap_or(part));
        let words = |schema: &'a Value| {
            let named = schema["oneOf"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|choice| &choice["const"]);
            named
                .chain(schema["enum"].as_array().into_iter().flatten())
                .filter_map(Value::as_str)
        };
        schemas.flat_map(words).collect()
    }

    /// The first sentence of its description.
    pub(crate) fn summary(&self) -> &str {
        self.schema["description"]
            .as_str()
            .map_or("", first_sentence)
    }
}

/// The first sentence of a text, on one line, without the stop.
pub(crate) fn first_sentence(text: &str) -> &str {
    let paragraph = text.split("\n\n").next().unwrap_or(text);
    paragraph
        .split(". ")
        .next()
        .unwrap_or(paragraph)
        .trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_a_number_only_where_no_text_may_stand() {
        let spec = serde_json::json!({"properties": {"id": {"type": "integer"}, "name": {"type": ["string", "null"]}}});
        for (member, text, fitting_value) in [
            ("id", "12", Value::from(12)),
            ("id", "x", "x".into()),
            ("name", "12", "12".into()),
        ] {
            assert_eq!(fitting(&spec, member, text.into()), fitting_value);
        }
    }

    #[test]
    fn only_paths_are_relative_to_the_configuration() {
        let spec = serde_json::json!({"properties": {
            "file": {"type": "string", "format": "path"},
            "stream": {"type": "string", "anyOf": [{"const": "-"}, {"format": "path"}]},
            "bucket": {"type": "string", "anyOf": [{"format": "path"}, {"format": "uri"}]},
            "url": {"type": "string", "format": "uri"},
            "word": {"type": "string"},
        }});
        let paths = |text: &str| -> Vec<&str> {
            properties(&spec)
                .into_iter()
                .filter(|property| property.is_path(text))
                .map(|property| property.name)
                .collect()
        };
        assert_eq!(paths("lake"), ["bucket", "file", "stream"]);
        assert_eq!(paths("-"), ["bucket", "file"]);
        assert_eq!(paths("s3://bucket/lake"), ["file", "stream"]);
    }

    #[test]
    fn members_of_alternatives_and_references_are_known() {
        let spec = serde_json::json!({
            "properties": {"subdomain": {"description": "The account. More."}, "token": {"writeOnly": true}},
            "required": ["subdomain"],
            "oneOf": [{"properties": {"email": {}}, "required": ["email"]}, {"$ref": "#/$defs/OAuth"}],
            "$defs": {"OAuth": {"properties": {"client_secret": {"anyOf": [{"writeOnly": true}, {"type": "null"}]}}}},
        });
        assert_eq!(
            members(&spec),
            ["subdomain", "token", "email", "client_secret"]
        );
        assert_eq!(secrets(&spec), ["token", "client_secret"]);
        let required: Vec<_> = properties(&spec)
            .into_iter()
            .filter(|p| p.required)
            .map(|p| (p.name, p.summary().to_owned()))
            .collect();
        assert_eq!(required, [("subdomain", "The account".to_owned())]);
    }
}
