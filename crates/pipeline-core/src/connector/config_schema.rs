//! JSON Schemas of configurations.

use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema, schema_for};

/// Returns the JSON Schema of a configuration.
///
/// Descriptions are the doc comments of its members. Their paragraphs are single lines, so that a
/// description does not depend on where the source wraps.
pub fn config_schema<C: JsonSchema>() -> serde_json::Value {
    let mut schema = schema_for!(C);
    RecursiveTransform(join_lines).transform(&mut schema);
    schema.to_value()
}

fn join_lines(schema: &mut Schema) {
    for name in ["title", "description"] {
        if let Some(text) = schema.get(name).and_then(|text| text.as_str()) {
            let paragraphs: Vec<_> = text
                .split("\n\n")
                .map(|text| text.replace('\n', " "))
                .collect();
            schema.insert(name.to_owned(), paragraphs.join("\n\n").into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::config_schema;

    /// First line of a summary
    /// that goes on.
    ///
    /// A second paragraph.
    #[derive(schemars::JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Wrapped {
        /// A member whose text
        /// is wrapped.
        member: Option<u8>,
    }

    #[test]
    fn descriptions_do_not_depend_on_where_the_source_wraps() {
        let schema = config_schema::<Wrapped>();
        assert_eq!(
            schema["description"],
            "First line of a summary that goes on.\n\nA second paragraph."
        );
        assert_eq!(
            schema["properties"]["member"]["description"],
            "A member whose text is wrapped."
        );
    }
}
