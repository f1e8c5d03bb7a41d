//! Statements that every database understands.

/// An identifier that cannot end early.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Identifiers, joined by commas.
pub fn quote_all<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    names
        .into_iter()
        .map(|name| quote(name))
        .collect::<Vec<_>>()
        .join(", ")
}

/// An insert of some columns, which are identifiers already, that replaces their values when there
/// is a row with the key. `parameter` writes the placeholder of a value, counted from 1.
pub fn upsert(
    table: &str,
    columns: &[String],
    key: &[String],
    parameter: impl Fn(usize) -> String,
) -> String {
    let values: Vec<String> = (1..=columns.len()).map(parameter).collect();
    let insert = format!(
        "INSERT INTO {} ({}) VALUES ({})",
        quote(table),
        columns.join(", "),
        values.join(", ")
    );
    if key.is_empty() {
        return insert;
    }
    let sets: Vec<String> = columns
        .iter()
        .map(|name| format!("{name} = excluded.{name}"))
        .collect();
    format!(
        "{insert} ON CONFLICT ({}) DO UPDATE SET {}",
        quote_all(key),
        sets.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_end_where_they_should() {
        assert_eq!(
            quote("a\"; DROP TABLE b; --"),
            "\"a\"\"; DROP TABLE b; --\""
        );
        let columns = ["id", "na\"me"].map(quote);
        let key = ["id".to_owned()];
        assert_eq!(
            upsert("t", &columns, &key, |number| format!("${number}")),
            "INSERT INTO \"t\" (\"id\", \"na\"\"me\") VALUES ($1, $2) \
             ON CONFLICT (\"id\") DO UPDATE SET \"id\" = excluded.\"id\", \"na\"\"me\" = excluded.\"na\"\"me\""
        );
        assert_eq!(
            upsert("t", &columns, &[], |_| "?".to_owned()),
            "INSERT INTO \"t\" (\"id\", \"na\"\"me\") VALUES (?, ?)"
        );
    }
}
