//! Names of tables and columns.

use pipeline_engine::TableId;

use crate::Dialect;

/// The names that the table of a stream may have: the second one, unless it is taken.
///
/// It is `<source>_<stream>` of letters, digits and underscores, outside what the database and the
/// destination reserve.
pub fn table_names(id: &TableId, dialect: &Dialect) -> [String; 2] {
    let name = format!("{}_{}", clean(&id.source), clean(&id.stream));
    let is_reserved = dialect
        .reserved_tables
        .iter()
        .any(|prefix| name.to_ascii_lowercase().starts_with(prefix));
    let plain = if is_reserved {
        format!("t{name}")
    } else {
        name
    };
    [format!("{plain}_{}", table_fingerprint(id)), plain]
}

/// The fingerprint of a stream's table.
pub fn table_fingerprint(id: &TableId) -> String {
    fingerprint(&format!("{}\0{}", id.source, id.stream))
}

/// A text with an underscore in the place of everything but letters, digits and underscores.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect()
}

/// A name of at most so many bytes: one that is longer is cut, and ends in the fingerprint of what
/// it is the name of.
pub fn shorten(mut name: String, of: &str, longest: usize) -> String {
    if name.len() > longest {
        let mark = fingerprint(of);
        name.truncate(name.floor_char_boundary(longest.saturating_sub(mark.len() + 1)));
        name.push('_');
        name.push_str(&mark);
    }
    name
}

/// The names that a field's column may have: the second one, unless it is taken.
pub fn column_names(field: &str) -> [String; 2] {
    let plain = field.replace('\0', "\u{2400}");
    [format!("{plain}_{}", fingerprint(field)), plain]
}

/// Eight hexadecimal digits that are the same in every release (FNV-1a), to distinguish names that
/// a database takes for one.
pub fn fingerprint(text: &str) -> String {
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::tests::DIALECT;

    /// Stored names never change: what is here is in databases of users.
    #[test]
    fn names_are_the_same_in_every_release() {
        let of = |source: &str, stream: &str| {
            table_names(
                &TableId {
                    source: source.to_owned(),
                    stream: stream.to_owned(),
                },
                &DIALECT,
            )
        };
        assert_eq!(
            of("payments", "charges"),
            ["payments_charges_621cdc43", "payments_charges"]
        );
        assert_eq!(of("my-shop", "ü.x")[1], "my_shop___x");
        assert_eq!(of("SYS", "x")[1], "tSYS_x", "reserved in any case");
        assert_ne!(of("a_b", "c")[0], of("a", "b_c")[0]);
        assert_eq!(column_names("a\0b")[1], "a\u{2400}b");
        assert_eq!(fingerprint("rowid"), "65c847b6");
        assert_eq!(fingerprint(""), "811c9dc5");
    }
}
