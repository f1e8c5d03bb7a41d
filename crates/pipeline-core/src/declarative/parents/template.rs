//! Paths and parameters with the values of a parent.

use crate::error::{Error, ErrorKind, Result};
use crate::http::path_segment;
use crate::model::record::RawRecord;

/// The names in braces.
pub(super) fn placeholders(template: &str) -> impl Iterator<Item = &str> {
    template
        .split('{')
        .skip(1)
        .filter_map(|rest| Some(rest.split_once('}')?.0))
}

/// The template with the parent's values, written by `write`, for the names in braces.
fn fill(
    template: &str,
    parent: &RawRecord,
    write: impl Fn(&str) -> Option<String>,
) -> Result<String> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, (name, after))) = rest
        .split_once('{')
        .and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
    {
        let missing = || {
            Error::new(
                ErrorKind::Decode,
                format!("a record has no `{name}` to ask with for what belongs to it"),
            )
        };
        let nowhere = || {
            Error::new(
                ErrorKind::Refused,
                format!("no path leads to a record whose `{name}` is empty or a dot"),
            )
        };
        let value = parent.scalar(name).ok_or_else(missing)?;
        filled.push_str(before);
        filled.push_str(&write(&value).ok_or_else(nowhere)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// A path with the parent's values. Ids that people choose hold any character: none may become a
/// separator.
pub(in crate::declarative) fn path(template: &str, parent: &RawRecord) -> Result<String> {
    fill(template, parent, |value| path_segment(value))
}

/// The value of a parameter with the parent's values.
pub(in crate::declarative) fn value(template: &str, parent: &RawRecord) -> Result<String> {
    fill(template, parent, |value| Some(value.to_owned()))
}
