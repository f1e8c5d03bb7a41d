//! What of a configuration may be shown: values that are known to be no secrets, by where they
//! stand and what they look like.
//!
//! A secret may stand anywhere: under a mistyped name, in a table whose header is wrong, in the
//! place of another member. So a value is shown only where its member is known not to be secret,
//! and where it does not look like a credential either.

use pipeline_core::Registry;
use pipeline_engine::DestinationRegistry;
use serde_json::{Value as Json, json};

use super::contract::{self, CONTRACT_MEMBERS};
use super::document::closest;
use super::quality::{CHECK_MEMBERS, QUALITY_MEMBERS};
use super::service::{ALERT_MEMBERS, RUN_MEMBERS, TIMING_MEMBERS};
use super::source::OWN_MEMBERS;
use super::tree::{Node, Span, Table, Value};
use super::{MEMBERS, SYNC_MEMBERS, reference};
use crate::schema;
use crate::schema::Property;

/// A name or a value in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Where it stands.
    pub(super) span: Span,
    /// True when it may be shown.
    pub(super) is_harmless: bool,
}

/// Marks every name and every value of a document, in the order of the text.
pub(super) fn marks(
    root: &Table,
    connectors: &Registry,
    destinations: &DestinationRegistry,
) -> Vec<Mark> {
    let mut marks = Marks(Vec::new());
    for member in &root.0 {
        marks.name(&member.name, &member.span);
        let Value::Table(table) = &member.node.value else {
            marks.hide(&member.node);
            continue;
        };
        match member.name.as_str() {
            "destination" => marks.destination(table, destinations),
            "sync" => marks.table(table, &members_spec(&SYNC_MEMBERS)),
            "run" => marks.table(table, &open_spec(&RUN_MEMBERS)),
            "alerts" => marks.table(table, &open_spec(&ALERT_MEMBERS)),
            "sources" => table.0.iter().for_each(|source| {
                marks.name(&source.name, &source.span);
                match &source.node.value {
                    Value::Table(members) => marks.source(members, connectors),
                    _ => marks.hide(&source.node),
                }
            }),
            _ => marks.hide(&member.node),
        }
    }
    marks.0.sort_by_key(|mark| mark.span.start);
    marks.0
}

/// Names that may stand before `=`, whatever table they are meant for.
pub(super) fn known_names(
    connectors: &Registry,
    destinations: &DestinationRegistry,
) -> Vec<String> {
    let own = MEMBERS
        .into_iter()
        .chain(SYNC_MEMBERS)
        .chain(RUN_MEMBERS)
        .chain(ALERT_MEMBERS)
        .chain(OWN_MEMBERS)
        .chain(TIMING_MEMBERS)
        .chain(CONTRACT_MEMBERS)
        .chain(QUALITY_MEMBERS)
        .chain(CHECK_MEMBERS)
        .chain(["type", "secrets"]);
    let connectors = connectors
        .names()
        .filter_map(|name| connectors.spec(name).ok());
    let destinations = destinations
        .names()
        .filter_map(|name| destinations.spec(name).ok());
    own.chain(connectors.chain(destinations).flat_map(schema::members))
        .map(str::to_owned)
        .collect()
}

/// True for a name as people give them: words of letters with a short number, not the characters of
/// a credential.
pub(super) fn is_name(name: &str) -> bool {
    let is_word = |word: &str| {
        let digits = word.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        word.len() <= 24 && digits.len() <= 4 && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    // The star stands for all other streams.
    name == "*"
        || name.len() <= 64 && !is_marked(name) && name.split(['_', '-', ' ', '.']).all(is_word)
}

/// The name, unless it may be a credential.
pub(super) fn shown_name(name: &str) -> &str {
    if is_name(name) {
        name
    } else {
        crate::console::HIDDEN
    }
}

/// True for text that does not look like a credential.
pub(super) fn is_plain(text: &str) -> bool {
    let is_mixed = |word: &str| {
        word.len() >= 6
            && word.bytes().any(|b| b.is_ascii_digit())
            && word.bytes().any(|b| b.is_ascii_alphabetic())
    };
    let is_key = |word: &str| word.len() >= 20 || is_mixed(word);
    let has_userinfo = text.contains('@') && text.contains(':');
    text.len() <= 128
        && !is_marked(text)
        && !has_userinfo
        && !text.split(|c: char| !c.is_alphanumeric()).any(is_key)
        && !text.contains(['\n', '\r'])
}

/// True for a beginning that credentials have and words do not.
fn is_marked(text: &str) -> bool {
    const MARKS: [&str; 7] = ["sk_", "rk_", "pk_", "whsec_", "sk-", "bearer ", "basic "];
    let text = text.trim_start_matches(|c: char| !c.is_alphanumeric());
    MARKS.iter().any(|mark| {
        text.get(..mark.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(mark))
    })
}

struct Marks(Vec<Mark>);

impl Marks {
    fn name(&mut self, name: &str, span: &Span) {
        self.0.push(Mark {
            span: span.clone(),
            is_harmless: is_name(name),
        });
    }

    /// Hides every value of a node but references, which name where the value is.
    fn hide(&mut self, node: &Node) {
        self.node(node, &|_| false);
    }

    fn node(&mut self, node: &Node, is_harmless: &dyn Fn(&Value) -> bool) {
        match &node.value {
            Value::List(items) => items.iter().for_each(|item| self.node(item, is_harmless)),
            Value::Table(table) => table.0.iter().for_each(|member| {
                self.name(&member.name, &member.span);
                self.node(&member.node, is_harmless);
            }),
            Value::Text(text) if reference::is_reference(text) => self.0.push(Mark {
                span: node.span.clone(),
                is_harmless: true,
            }),
            value => self.0.push(Mark {
                span: node.span.clone(),
                is_harmless: is_harmless(value),
            }),
        }
    }

    fn source(&mut self, members: &Table, registry: &Registry) {
        let names: Vec<&str> = registry.names().collect();
        let spec = text(members, "connector")
            .and_then(|name| registry.spec(name).ok())
            .cloned()
            .unwrap_or_else(|| json!({}));
        let own = json!({ "properties": { "connector": { "enum": names }, "streams": { "writeOnly": true }, "max_rejected": { "type": "string" }, "contract": { "enum": contract::modes() } } });
        let timing = members_spec(&TIMING_MEMBERS);
        self.table(
            members,
            &json!({ "allOf": [own, timing, spec], "$defs": spec["$defs"] }),
        );
    }

    /// The members of the destination. Of one whose type is not known only those are shown that no
    /// destination keeps secret.
    fn destination(&mut self, members: &Table, registry: &DestinationRegistry) {
        let names: Vec<&str> = registry.names().collect();
        let own = json!({ "properties": { "type": { "enum": names } } });
        let spec =
            if let Some(spec) = text(members, "type").and_then(|name| registry.spec(name).ok()) {
                json!({ "allOf": [own, spec], "$defs": spec["$defs"] })
            } else {
                let specs = names.iter().filter_map(|name| registry.spec(name).ok());
                let secret = specs
                    .clone()
                    .flat_map(schema::secrets)
                    .map(|name| (name.to_owned(), json!({ "writeOnly": true })));
                let secret = json!({ "properties": secret.collect::<serde_json::Map<_, _>>() });
                let parts = [own, secret]
                    .into_iter()
                    .chain(specs.map(|spec| members_spec(&schema::members(spec))));
                json!({ "allOf": parts.collect::<Vec<_>>() })
            };
        self.table(members, &spec);
    }

    /// The members of a table that a schema describes.
    fn table(&mut self, table: &Table, spec: &Json) {
        let properties = schema::properties(spec);
        for member in &table.0 {
            self.name(&member.name, &member.span);
            match properties
                .iter()
                .find(|property| property.name == member.name && !property.is_secret())
            {
                Some(property) => self.node(&member.node, &|value| is_harmless(value, property)),
                None => self.hide(&member.node),
            }
        }
    }
}

/// True when the value of a member that is not secret may be shown.
fn is_harmless(value: &Value, property: &Property<'_>) -> bool {
    match value {
        Value::Plain(_) => true,
        Value::Text(text) => match property.choices() {
            choices if choices.is_empty() => property.takes_text_or_number() && is_plain(text),
            choices => is_plain(text) && closest(text, choices).is_some(),
        },
        Value::List(_) | Value::Table(_) => false,
    }
}

/// The text of a member.
fn text<'a>(members: &'a Table, name: &str) -> Option<&'a str> {
    match &members.get(name)?.node.value {
        Value::Text(text) => Some(text.as_str()),
        _ => None,
    }
}

/// Members of which those that hold a credential are never shown.
fn open_spec(names: &[&str]) -> Json {
    let open: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| !["token", "slack", "webhook", "when"].contains(name))
        .collect();
    members_spec(&open)
}

fn members_spec(names: &[&str]) -> Json {
    let members: serde_json::Map<String, Json> = names
        .iter()
        .map(|name| ((*name).to_owned(), json!({ "type": "string" })))
        .collect();
    json!({ "properties": members })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_neither_names_nor_plain_text() {
        for text in [
            "sk_test_x1x2x3",
            "sk_live_topsecret",
            "rk_live_51HqLyjWDarjtT1zdp7dc",
            "Bearer abc",
            "0123456789abcdef0123456789abcdef",
            "AKIAIOSFODNN7EXAMPLE",
            "https://user:word@host",
            "me@example.com:word",
            "dGhpc2lzYXZlcnlsb25nd29yZA",
            "one\ntwo",
        ] {
            assert!(!is_plain(text), "{text}");
        }
        for text in [
            "warehouse.db",
            "half",
            "2026-01-31T00:00:00Z",
            "http://127.0.0.1:8401",
            "1h30m",
            "me@example.com",
            "acme",
        ] {
            assert!(is_plain(text), "{text}");
        }
        for (name, is_one) in [
            ("api_kye", true),
            ("my payments", true),
            ("team2", true),
            ("sources", true),
            ("sk_live_topsecret", false),
            ("x1x2x3", false),
            ("0123456789abcdef", false),
        ] {
            assert_eq!(is_name(name), is_one, "{name}");
        }
    }
}
