//! Which lines are events, and which show that an export broke off.

use pipeline_core::json::scan;
use pipeline_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{malformed, readable};

/// Characters of an error that are shown.
const MAX_SHOWN: usize = 200;

/// What some programs write at the start of a text.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Refuses a line that is not an event, or that shows that the export broke off: it does so with
/// status 200, in text or in JSON.
pub(crate) fn check(line: &[u8]) -> Result<()> {
    if is_event(line)? {
        Ok(())
    } else {
        Err(malformed("an export line is not an event"))
    }
}

/// Refuses a line that shows that the export broke off. One that is JSON came whole, whether or not
/// it is an event.
pub(crate) fn check_whole(line: &[u8]) -> Result<()> {
    is_event(line).map(drop)
}

/// True for an event, false for another object.
pub(super) fn is_event(line: &[u8]) -> Result<bool> {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    if is_plain_event(line) {
        Ok(true)
    } else {
        judge(line)
    }
}

/// True for an event as Mixpanel writes it. Whatever is unusual about a line, this is false.
fn is_plain_event(line: &[u8]) -> bool {
    let (mut events, mut properties, mut is_usual) = (0, 0, line.first() == Some(&b'{'));
    let end = scan::members(line, 0, |key, start| {
        match key.written(line) {
            b"event" => {
                events += 1;
                is_usual &= line.get(start) == Some(&b'"');
            }
            b"properties" => {
                properties += 1;
                is_usual &= line.get(start) == Some(&b'{');
            }
            other => is_usual &= !key.is_escaped && other != b"error",
        }
        if is_usual {
            scan::value(line, start)
        } else {
            None
        }
    });
    is_usual && (events, properties) == (1, 1) && end == Some(line.len())
}

/// The same of any line.
pub(super) fn judge(line: &[u8]) -> Result<bool> {
    #[derive(Deserialize)]
    struct Line<'a> {
        #[serde(borrow)]
        event: Option<&'a RawValue>,
        #[serde(borrow)]
        properties: Option<&'a RawValue>,
        #[serde(borrow)]
        error: Option<&'a RawValue>,
    }
    let text = readable(line);
    if text.eq_ignore_ascii_case("terminated early")
        || text.eq_ignore_ascii_case("export terminated early")
    {
        return Err(broken("the export was terminated early"));
    }
    if !text.starts_with('{') {
        return Err(malformed("an export line is not an event"));
    }
    let line: Line<'_> = serde_json::from_str(&text)
        .map_err(|error| malformed("an export line is not JSON").with_source(error))?;
    match line {
        Line {
            event: Some(event),
            properties: Some(properties),
            ..
        } if starts(event, '"') && starts(properties, '{') => Ok(true),
        Line {
            error: Some(error), ..
        } => Err(reported(error.get())),
        _ => Ok(false),
    }
}

fn starts(json: &RawValue, with: char) -> bool {
    json.get().starts_with(with)
}

/// An export that Mixpanel broke off, as it does with those that take too long.
fn broken(message: &str) -> Error {
    Error::new(ErrorKind::TooLarge, message).temporary()
}

/// An error in place of an event; all but refused credentials may pass.
fn reported(text: &str) -> Error {
    let shown: String = text.trim_matches('"').chars().take(MAX_SHOWN).collect();
    let error = if text.contains("Unable to authenticate") {
        Error::new(
            ErrorKind::Unauthenticated,
            "the export ended because the credentials were refused",
        )
    } else {
        broken("the export ended with an error")
    };
    error.with_context("answer", shown)
}
