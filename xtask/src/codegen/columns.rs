//! The file of a connector's generated columns: one constant for each stream, and a seal.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::Result;

/// Starts the line of the head with the hash of the rest of the file.
const SEAL: &str = "//! Seal: ";

/// One column: its name and its type as Rust.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) data_type: &'static str,
}

/// A file of columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct File<'a> {
    /// The comment at its beginning, with its last line feed.
    pub(super) head: &'a str,
    /// The format of the vendor's times.
    pub(super) time: &'a str,
    /// When a stream has no columns, as in `when they are written by hand`.
    pub(super) empty: &'a str,
}

impl File<'_> {
    /// The text of the file.
    pub(super) fn render(&self, streams: &[(&str, &[Column])]) -> String {
        let used: BTreeSet<&str> = streams
            .iter()
            .flat_map(|(_, columns)| *columns)
            .map(|column| column.data_type.split('(').next().unwrap_or_default())
            .collect();
        let used: Vec<&str> = used.into_iter().collect();
        let mut body = format!(
            "use pipeline_core::DataType::{{{}}};\nuse pipeline_core::Field;\nuse pipeline_core::TimeFormat::{};\n\n\
             /// Columns of a stream; empty {}.\n\
             pub(crate) fn columns(stream: &str) -> &'static [Field] {{\n    match stream {{\n",
            used.join(", "),
            self.time,
            self.empty
        );
        for (name, _) in streams {
            let _ = writeln!(body, "        \"{name}\" => {},", name.to_uppercase());
        }
        body.push_str("        _ => &[],\n    }\n}\n");
        for (name, columns) in streams {
            let _ = writeln!(body, "\nconst {}: &[Field] = &[", name.to_uppercase());
            for Column { name, data_type } in *columns {
                let _ = writeln!(body, "    Field::new(\"{name}\", {data_type}),");
            }
            body.push_str("];\n");
        }
        format!("{}{SEAL}{}\n\n{body}", self.head, seal(self.head, &body))
    }
}

/// A hash of the file without the line that holds it.
fn seal(head: &str, body: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(head.as_bytes()).update(body.as_bytes());
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Fails when a file is not as it was written by a command.
pub(super) fn verify_seal(text: &str, command: &str) -> Result<()> {
    let intact = text.split_once(SEAL).and_then(|(head, rest)| {
        let (known, body) = rest.split_once("\n\n")?;
        Some(known == seal(head, body))
    });
    match intact {
        Some(true) => Ok(()),
        _ => Err(format!("the generated columns were edited by hand; run `{command}`").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_becomes_a_constant_and_the_types_in_use_are_imported() {
        let column = |name: &str, data_type| Column {
            name: name.to_owned(),
            data_type,
        };
        let file = File {
            head: "//! A file.\n",
            time: "Rfc3339",
            empty: "when it is not known",
        };
        let columns = [column("id", "Int64"), column("at", "Timestamp(Rfc3339)")];
        let text = file.render(&[("things", &columns)]);
        let expected = "\
            use pipeline_core::DataType::{Int64, Timestamp};\n\
            use pipeline_core::Field;\n\
            use pipeline_core::TimeFormat::Rfc3339;\n\
            \n\
            /// Columns of a stream; empty when it is not known.\n\
            pub(crate) fn columns(stream: &str) -> &'static [Field] {\n    \
                match stream {\n        \
                    \"things\" => THINGS,\n        \
                    _ => &[],\n    \
                }\n\
            }\n\
            \n\
            const THINGS: &[Field] = &[\n    \
                Field::new(\"id\", Int64),\n    \
                Field::new(\"at\", Timestamp(Rfc3339)),\n\
            ];\n";
        let (head, body) = text.split_once("\n\n").unwrap_or_default();
        assert_eq!(body, expected);
        assert!(head.starts_with("//! A file.\n//! Seal: "));
    }
}
