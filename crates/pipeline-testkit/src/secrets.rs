//! Secrets of a case, and the search for them in everything that a program could print or store.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::fixture::{Exchange, Fixture};

/// A shorter secret would be found by chance.
const MIN_LENGTH: usize = 8;

/// Secrets, and every form in which they could appear.
#[derive(Clone, Default)]
pub struct Secrets {
    raw: Vec<String>,
    forms: Vec<String>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({})", self.raw.len())
    }
}

impl Secrets {
    /// The secrets among these values.
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        let raw: BTreeSet<String> = values
            .into_iter()
            .filter(|value| !value.is_empty())
            .collect();
        let forms = raw.iter().flat_map(|secret| forms(secret)).collect();
        Self {
            raw: raw.into_iter().collect(),
            forms,
        }
    }

    /// The members of a case's configuration that `schema` marks `writeOnly`, and the tokens that
    /// the vendor issues.
    pub fn of_case(schema: &Value, fixture: &Fixture) -> Self {
        let mut names = BTreeSet::new();
        write_only(schema, &mut names);
        let mut values = Vec::new();
        strings_under(&fixture.config, &names, &mut values);
        let issued = ["access_token", "refresh_token"]
            .into_iter()
            .map(ToOwned::to_owned)
            .collect();
        for Exchange { request, response } in &fixture.exchanges {
            if let (true, Ok(body)) = (
                request.is_for_token(),
                serde_json::from_slice(&response.body),
            ) {
                strings_under(&body, &issued, &mut values);
            }
        }
        Self::new(values)
    }

    /// What makes the search unreliable, if anything.
    pub fn weakness(&self) -> Option<String> {
        let short = self.raw.iter().any(|secret| secret.len() < MIN_LENGTH);
        short.then(|| {
            format!(
                "a secret in the case is shorter than {MIN_LENGTH} characters, too short to be \
                 searched for; make it longer"
            )
        })
    }

    /// The part of `text` around the first secret in any form, with the secret taken out; none when
    /// there is none.
    pub fn leak(&self, text: &str) -> Option<String> {
        let (at, form) = self
            .forms
            .iter()
            .find_map(|form| Some((text.find(form.as_str())?, form)))?;
        let before: String = text[..at]
            .chars()
            .rev()
            .take(60)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        let after: String = text[at + form.len()..].chars().take(20).collect();
        Some(self.hide(&format!("{before}[secret]{after}")))
    }

    /// The text without the secrets.
    pub fn hide(&self, text: &str) -> String {
        self.forms.iter().fold(text.to_owned(), |text, form| {
            text.replace(form.as_str(), "[secret]")
        })
    }
}

/// Raw, JSON-escaped, percent-encoded, and base64 in both alphabets at each of the three alignments
/// that a secret can have within a longer text, such as the password of basic authentication.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    forms.push(Value::from(secret).to_string().trim_matches('"').to_owned());
    forms.push(url::form_urlencoded::byte_serialize(secret.as_bytes()).collect());
    for (shift, touched) in [(0, 0), (1, 2), (2, 3)] {
        let mut bytes = vec![0; shift];
        bytes.extend_from_slice(secret.as_bytes());
        let whole = usize::from(!bytes.len().is_multiple_of(3));
        for text in [
            STANDARD_NO_PAD.encode(&bytes),
            URL_SAFE_NO_PAD.encode(&bytes),
        ] {
            forms.extend(
                text.get(touched..text.len() - whole)
                    .filter(|form| form.len() >= MIN_LENGTH)
                    .map(ToOwned::to_owned),
            );
        }
    }
    let mut seen = BTreeSet::new();
    forms.retain(|form| seen.insert(form.clone()));
    forms
}

/// Names of the properties that a JSON Schema marks `writeOnly`, wherever they stand.
fn write_only(schema: &Value, names: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Object(properties)) = members.get("properties") {
                let secret = properties
                    .iter()
                    .filter(|(_, property)| property.get("writeOnly") == Some(&Value::Bool(true)));
                names.extend(secret.map(|(name, _)| name.clone()));
            }
            members
                .values()
                .for_each(|member| write_only(member, names));
        }
        Value::Array(elements) => elements
            .iter()
            .for_each(|element| write_only(element, names)),
        _ => {}
    }
}

fn strings_under(value: &Value, names: &BTreeSet<String>, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if names.contains(name) => found.push(text.clone()),
                    member => strings_under(member, names, found),
                }
            }
        }
        Value::Array(elements) => elements
            .iter()
            .for_each(|element| strings_under(element, names, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3cr&t/+key=42";

    #[test]
    fn every_form_is_found() {
        let secrets = Secrets::new([SECRET.to_owned()]);
        let basic = |user: &str| STANDARD_NO_PAD.encode(format!("{user}:{SECRET}:tail"));
        let texts = [
            format!("failed with {SECRET}"),
            format!(
                "url?key={}",
                url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect::<String>()
            ),
            format!("Basic {}", basic("")),
            format!("Basic {}", basic("a")),
            format!("Basic {}", basic("ab")),
            format!("Basic {}", URL_SAFE_NO_PAD.encode(SECRET)),
        ];
        for text in texts {
            let leak = secrets.leak(&text);
            assert!(
                leak.as_deref()
                    .is_some_and(|leak| leak.contains("[secret]") && !leak.contains(SECRET)),
                "{text}: {leak:?}"
            );
        }
        assert_eq!(secrets.leak("nothing here"), None);
    }

    #[test]
    fn write_only_members_are_the_secrets() {
        let schema = serde_json::json!({
            "properties": { "api_key": { "writeOnly": true }, "region": {}, "auth": { "$ref": "#/$defs/Auth" } },
            "$defs": { "Auth": { "oneOf": [{ "properties": { "password": { "writeOnly": true } } }] } },
        });
        let mut names = BTreeSet::new();
        write_only(&schema, &mut names);
        assert_eq!(
            names.into_iter().collect::<Vec<_>>(),
            ["api_key", "password"]
        );
    }
}
