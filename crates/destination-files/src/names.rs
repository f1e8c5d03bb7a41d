//! Names of folders and files, and which of them are ours.

use std::path::{Path, PathBuf};

use crate::disk;

/// What stands before the name of a file that is in its table's folder but must not be seen yet.
const ARRIVED: &str = ".";

/// A name that is a folder's on every system: other characters than ASCII letters, digits, `-`, `_`
/// and `.` are written `%XX` per byte, and so are a `.` or `_` at the start, which have meanings of
/// their own.
pub(crate) fn folder(name: &str) -> String {
    let plain = |(index, byte): (usize, u8)| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => true,
        b'.' | b'_' => index > 0,
        _ => false,
    };
    let encode = |(index, byte)| {
        if plain((index, byte)) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    if name.is_empty() {
        "%".to_owned()
    } else {
        name.bytes().enumerate().map(encode).collect()
    }
}

/// The name of a data file in its table's folder: the number of the commit, its place there, and a
/// part of its name in the staging folder, which is random. So no two files ever have the same
/// name, not even when numbers begin again.
pub(crate) fn data(sequence: u64, index: usize, staged: &str, extension: &str) -> String {
    let random: String = staged
        .chars()
        .take_while(char::is_ascii_hexdigit)
        .take(12)
        .collect();
    format!("{sequence:010}-{index:06}-{random}.{extension}")
}

/// The name that a data file of a generation with carried rows had before version 3 of the
/// manifests.
pub(crate) fn old_data(sequence: u64, index: usize, extension: &str) -> String {
    format!("{sequence:010}-{index:06}.{extension}")
}

/// The commit in the name of a data file; none: the file is not ours. Releases before version 3 of
/// the manifests had names without the random part.
pub(crate) fn sequence(name: &str) -> Option<u64> {
    let (stem, extension) = name.rsplit_once('.')?;
    let mut parts = stem.split('-');
    let (sequence, index, random) = (parts.next()?, parts.next()?, parts.next());
    let are_digits = |text: &str, least: usize| {
        text.len() >= least && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_random =
        |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_ours = are_digits(sequence, 10)
        && are_digits(index, 4)
        && random.is_none_or(is_random)
        && parts.next().is_none();
    (is_ours && !extension.is_empty())
        .then(|| sequence.parse().ok())
        .flatten()
}

/// The name that a data file has in its table's folder until it may be seen. It ends in no format's
/// extension, and patterns leave out names that begin with a dot.
pub(crate) fn arrived(name: &str) -> String {
    format!("{ARRIVED}{name}.tmp")
}

/// The data file that will have the name of an arrived one.
pub(crate) fn of_arrived(name: &str) -> Option<&str> {
    name.strip_prefix(ARRIVED)?
        .strip_suffix(".tmp")
        .filter(|name| sequence(name).is_some())
}

/// True for what can be the name of a source's folder or a table's: the others are ours.
pub(crate) fn can_be_table(name: &str) -> bool {
    !name.starts_with(['_', '.'])
}

/// What of a data file's name says where its rows are among those of its table: the number of the
/// commit and the place there.
pub(crate) fn place(name: &str) -> Option<(&str, &str)> {
    sequence(name)?;
    let mut parts = name.split(['-', '.']);
    Some((parts.next()?, parts.next()?))
}

/// The name of a file that has the rows of another one, and of those before it.
pub(crate) fn merged(last: &str, staged: &str, extension: &str) -> String {
    let random: String = staged.chars().take(12).collect();
    match place(last) {
        Some((sequence, index)) => format!("{sequence}-{index}-{random}.{extension}"),
        None => format!("{last}-{random}.{extension}"),
    }
}

/// True for the names of [`unique`].
pub(crate) fn is_unique(name: &str, extension: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(stem, found)| {
        found == extension && stem.len() == 32 && stem.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// The path of a file that nobody has named so or will.
pub(crate) fn unique(folder: &Path) -> PathBuf {
    folder.join(disk::unique_name() + ".tmp")
}

/// The last part of a path; none: it is not text, and so not ours.
pub(crate) fn of(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

#[cfg(test)]
mod tests {
    use super::{arrived, data, of_arrived, sequence};

    #[test]
    fn only_names_of_ours_are_ours() {
        let staged = "1f2704f605b278b19eddc6574655104e.tmp";
        let name = data(12, 3, staged, "parquet");
        assert_eq!(name, "0000000012-000003-1f2704f605b2.parquet");
        assert_eq!(
            (sequence(&name), of_arrived(&arrived(&name))),
            (Some(12), Some(&*name))
        );
        assert_eq!(
            sequence("0000000012-0003.jsonl"),
            Some(12),
            "of an older release"
        );
        assert_eq!(
            sequence("12345678901-1000003-1f2704f605b2.jsonl"),
            Some(12_345_678_901)
        );
        let others = [
            "compacted.parquet",
            "2026-01-01.jsonl",
            "0000000012-0003-copy.jsonl",
            "0000000012-0003-1f2704f605b2-1.jsonl",
        ];
        for other in others
            .iter()
            .chain(&["0000000012.jsonl", "0000000012-0003", ".x.tmp", ""])
        {
            assert_eq!(
                (sequence(other), of_arrived(other)),
                (None, None),
                "{other}"
            );
        }
    }
}
