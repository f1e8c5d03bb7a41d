//! A line of the export taken apart: one scan finds its members and its properties.

use pipeline_core::Result;
use pipeline_core::json::scan;

use super::malformed;
use crate::json::{Members, damaged, name};

/// An event's line. All of it are parts of the line's text.
pub(super) struct Line<'t> {
    /// The event's name, as JSON.
    pub(super) event: &'t str,
    /// The properties, as JSON.
    pub(super) text: &'t str,
    /// True when the properties have no white space between their parts.
    pub(super) is_compact: bool,
    pub(super) properties: Members<'t>,
    /// The members beside name and properties.
    pub(super) others: Members<'t>,
}

impl<'t> Line<'t> {
    /// Reads a line. Of several members with one name the last counts.
    ///
    /// # Errors
    /// When it is not JSON, or not an event.
    pub(super) fn read(line: &'t str) -> Result<Self> {
        let text = line.as_bytes();
        let (mut event, mut found, mut others) = ("", None, Members::new());
        let start = scan::space(text, 0);
        let end = scan::members(text, start, |key, start| {
            let name = name(key, line)?;
            if name == "properties" && text.get(start) == Some(&b'{') {
                let properties = Properties::find(line, start)?;
                let end = start + properties.text.len();
                found = Some(properties);
                return Some(end);
            }
            let end = scan::value(text, start)?;
            let value = line.get(start..end)?;
            match &*name {
                "event" => event = value,
                "properties" => found = None,
                _ => others.push((name, value)),
            }
            Some(end)
        });
        let is_whole = end.map(|end| scan::space(text, end)) == Some(text.len());
        if !is_whole || text.get(start) != Some(&b'{') {
            return Err(damaged(line));
        }
        let Some(properties) = found.filter(|_| event.starts_with('"')) else {
            return Err(malformed("an export line is not an event"));
        };
        Ok(Self {
            event,
            text: properties.text,
            is_compact: properties.is_compact,
            properties: properties.members,
            others,
        })
    }
}

struct Properties<'t> {
    text: &'t str,
    is_compact: bool,
    members: Members<'t>,
}

impl<'t> Properties<'t> {
    /// Those that begin at `start`.
    fn find(line: &'t str, start: usize) -> Option<Self> {
        let text = line.as_bytes();
        // Most events have that many.
        let mut members = Members::with_capacity(32);
        // What the text has when there is nothing between its parts.
        let (mut length, mut is_compact) = ("{}".len(), true);
        let end = scan::members(text, start, |key, start| {
            let (end, is_packed) = scan::packed(text, start)?;
            is_compact &= is_packed;
            length += key.span.range().len() + ":".len() + (end - start);
            members.push((name(key, line)?, line.get(start..end)?));
            Some(end)
        })?;
        let text = line.get(start..end)?;
        length += members.len().saturating_sub(1) * ",".len();
        Some(Self {
            is_compact: is_compact && length == text.len(),
            text,
            members,
        })
    }
}
