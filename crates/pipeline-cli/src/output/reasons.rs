//! Why something could not be read: each reason once, with everything that it concerns.

use pipeline_core::state::EndpointId;
use pipeline_engine::{Outcome, Summary};
use serde_json::Value;

use crate::exit::render;

/// Members of a vendor's error in which people write, or which name what is wrong. Others name the
/// request.
const TELLING: [&str; 9] = [
    "message",
    "description",
    "detail",
    "details",
    "title",
    "error",
    "errors",
    "reason",
    "code",
];

/// Endpoints that failed for one reason.
#[derive(Debug)]
pub(super) struct Reason<'a> {
    /// What is the same for all of them.
    key: (bool, &'a str, String, Option<&'a str>),
    /// The reason as the first of them had it, and what can be done.
    pub(super) text: String,
    pub(super) endpoints: Vec<&'a EndpointId>,
}

/// The reasons of a run, in the order in which they first occur.
pub(super) fn reasons(summary: &Summary) -> Vec<Reason<'_>> {
    let mut reasons: Vec<Reason<'_>> = Vec::new();
    for endpoint in &summary.endpoints {
        let (severity, message, answer, help) = match &endpoint.outcome {
            Outcome::Unavailable {
                reason,
                answer,
                help,
                ..
            } => ("unavailable", reason, answer, help.as_deref()),
            Outcome::Failed { error } => (
                "error",
                &error.message,
                &error.answer,
                error.help.as_deref(),
            ),
            _ => continue,
        };
        let key = (
            severity == "error",
            what_failed(message),
            answer.as_deref().map(words).unwrap_or_default(),
            help,
        );
        match reasons.iter_mut().find(|known| known.key == key) {
            Some(known) => known.endpoints.push(&endpoint.id),
            None => reasons.push(Reason {
                key,
                text: render(severity, message, help),
                endpoints: vec![&endpoint.id],
            }),
        }
    }
    reasons
}

/// The part of a message that does not depend on the request.
fn what_failed(message: &str) -> &str {
    message
        .split_once(" (while ")
        .map_or(message, |(what, _)| what)
}

/// What a vendor's error says, without the members that differ from request to request.
fn words(answer: &str) -> String {
    fn collect(value: &Value, words: &mut String) {
        match value {
            Value::Object(members) => {
                let telling = members
                    .iter()
                    .filter(|(name, _)| TELLING.contains(&name.as_str()));
                telling.for_each(|(_, value)| collect(value, words));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, words)),
            Value::Null => {}
            Value::String(text) => words.extend([text, "\n"]),
            other => words.extend([&*other.to_string(), "\n"]),
        }
    }
    let mut words = String::new();
    // A long answer is cut, and then compared as it is.
    if let Ok(value) = serde_json::from_str(answer) {
        collect(&value, &mut words);
    }
    if words.is_empty() {
        answer.to_owned()
    } else {
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_compared_by_what_people_read_in_them() {
        let first =
            r#"{"error":{"message":"Not set up.","type":"t","request_log_url":"https://x/req_1"}}"#;
        let second =
            r#"{"error":{"request_log_url":"https://x/req_2","message":"Not set up.","type":"t"}}"#;
        assert_eq!(
            (words(first).as_str(), words(second).as_str()),
            ("Not set up.\n", "Not set up.\n")
        );
        let errors = r#"{"errors":[{"title":"Forbidden","detail":"No."},{"code":7}]}"#;
        assert_eq!(words(errors), "No.\nForbidden\n7\n");
        for plain in ["no JSON", r#"{"cut": "of"#, r#"{"other":1}"#] {
            assert_eq!(words(plain), plain);
        }
    }
}
