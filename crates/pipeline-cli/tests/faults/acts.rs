//! What can be done to an answer.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::between::{Act, Answer, Asked, Reply, Then, Upstream};

/// A page for people, as captive portals and proxies send it.
pub(crate) const WEB_PAGE: &str = "<!DOCTYPE html><html><body>Please log in</body></html>";

/// The time by which the command, another process, works.
#[expect(clippy::disallowed_methods, reason = "another process takes no clock")]
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now()
}

fn act(reply: impl Fn(&Asked, &Upstream) -> Reply + Send + Sync + 'static) -> Act {
    Arc::new(reply)
}

/// Resets the connection before any byte.
pub(crate) fn reset() -> Act {
    act(|_, _| Reply::Bytes(Vec::new(), Then::Reset))
}

/// Resets the connection after the head.
pub(crate) fn reset_after_head() -> Act {
    act(|asked, upstream| {
        let answer = upstream.answer(asked);
        Reply::Bytes(
            answer.head(&format!("content-length: {}", answer.body.len())),
            Then::Reset,
        )
    })
}

/// Closes the connection without an answer.
pub(crate) fn close() -> Act {
    act(|_, _| Reply::Bytes(Vec::new(), Then::Close))
}

/// Sends the right answer, and closes the connection that was to be kept.
pub(crate) fn answer_and_close() -> Act {
    act(|asked, upstream| Reply::Bytes(upstream.answer(asked).to_bytes(), Then::Close))
}

/// Sends nothing.
pub(crate) fn silence() -> Act {
    act(|_, _| Reply::Bytes(Vec::new(), Then::Silence))
}

/// Sends the head, and then a byte of the body at a time.
pub(crate) fn trickle(pause: Duration) -> Act {
    act(move |asked, upstream| {
        Reply::Bytes(
            upstream.answer(asked).head("content-length: 100000"),
            Then::Trickle(pause),
        )
    })
}

/// Sends half of a body whose head announces the whole.
pub(crate) fn half_a_body(then: Then) -> Act {
    act(move |asked, upstream| {
        let answer = upstream.answer(asked);
        let whole = answer.to_bytes();
        Reply::Bytes(whole[..whole.len() - answer.body.len() / 2].to_vec(), then)
    })
}

/// Sends half of a chunked body, without its last chunk.
pub(crate) fn half_a_chunked_body() -> Act {
    act(|asked, upstream| {
        let answer = upstream.answer(asked);
        let half = &answer.body[..answer.body.len() / 2];
        let chunk = [format!("{:x}\r\n", half.len()).as_bytes(), half, b"\r\n"].concat();
        Reply::Bytes(
            [answer.head("transfer-encoding: chunked"), chunk].concat(),
            Then::Close,
        )
    })
}

/// Sends these bytes and closes the connection.
pub(crate) fn bytes(bytes: impl Into<Vec<u8>>) -> Act {
    let bytes = bytes.into();
    act(move |_, _| Reply::Bytes(bytes.clone(), Then::Close))
}

/// Sends this in the place of the answer.
pub(crate) fn instead(answer: Answer) -> Act {
    act(move |_, _| Reply::Answer(answer.clone()))
}

/// Sends JSON with this status.
pub(crate) fn status(status: u16, body: &str) -> Act {
    instead(Answer::json(status, body))
}

/// An error in Stripe's words.
pub(crate) fn refusal(code: u16, message: &str) -> Act {
    status(
        code,
        &format!(r#"{{"error":{{"type":"invalid_request_error","message":"{message}"}}}}"#),
    )
}

/// A page for people.
pub(crate) fn web_page(status: u16) -> Act {
    instead(Answer::json(status, WEB_PAGE).with("content-type", "text/html; charset=utf-8"))
}

/// A redirect to this place.
pub(crate) fn redirect(status: u16, location: &str) -> Act {
    instead(Answer::json(status, "").with("location", location))
}

/// A 429 with this header.
pub(crate) fn throttled(header: Option<(&str, &str)>) -> Act {
    let answer = Answer::json(
        429,
        r#"{"error":{"type":"invalid_request_error","code":"rate_limit","message":"Too many requests"}}"#,
    );
    instead(
        header
            .into_iter()
            .fold(answer, |answer, (name, value)| answer.with(name, value)),
    )
}

/// Changes the right answer.
pub(crate) fn change(edit: impl Fn(&Asked, Answer) -> Answer + Send + Sync + 'static) -> Act {
    act(move |asked, upstream| Reply::Answer(edit(asked, upstream.answer(asked))))
}

/// Changes the text of the right answer.
pub(crate) fn edit(edit: impl Fn(&str) -> String + Send + Sync + 'static) -> Act {
    change(move |_, answer| Answer {
        body: edit(&String::from_utf8_lossy(&answer.body)).into_bytes(),
        ..answer
    })
}

/// Changes the bytes of the right answer.
pub(crate) fn edit_bytes(edit: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static) -> Act {
    change(move |_, answer| Answer {
        body: edit(answer.body),
        ..answer
    })
}

/// Adds a header to the right answer.
pub(crate) fn header(name: &'static str, value: &'static str) -> Act {
    change(move |_, answer| answer.with(name, value))
}

/// The text with another value of the first member of this name.
pub(crate) fn first_member(name: &str, value: &str, text: &str) -> String {
    let name = format!("\"{name}\":");
    let start = text
        .find(&name)
        .unwrap_or_else(|| panic!("there is no {name} in {text}"))
        + name.len();
    let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<IgnoredAny>();
    assert!(
        values.next().is_some_and(|value| value.is_ok()),
        "{name} has no value"
    );
    format!(
        "{} {value}{}",
        &text[..start],
        &text[start + values.byte_offset()..]
    )
}

/// Replaces the value of the first member of this name, in the first record that has it.
pub(crate) fn set_first(name: &'static str, value: impl Into<String>) -> Act {
    let value = value.into();
    edit(move |text| first_member(name, &value, text))
}

/// Replaces the value of every member of this name.
pub(crate) fn rename_all(from: &'static str, to: &'static str) -> Act {
    edit(move |text| text.replace(&format!("\"{from}\": "), &format!("\"{to}\": ")))
}

/// Sends the right answer after this time.
pub(crate) fn slow(time: Duration) -> Act {
    change(move |_, answer| {
        std::thread::park_timeout(time);
        answer
    })
}

/// Compressed with gzip.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Sends these bytes, and then this happens to the connection.
pub(crate) fn bytes_then(bytes: &'static str, then: Then) -> Act {
    act(move |_, _| Reply::Bytes(bytes.into(), then))
}

/// The same answer with a header more.
pub(crate) fn with_header(inner: Act, name: &'static str, value: &'static str) -> Act {
    act(move |asked, upstream| match inner(asked, upstream) {
        Reply::Answer(answer) => Reply::Answer(answer.with(name, value)),
        Reply::Bytes(bytes, then) => Reply::Bytes(bytes, then),
    })
}

/// The right answer to another request: its target is changed first.
fn as_if(target: impl Fn(&str) -> String + Send + Sync + 'static) -> Act {
    act(move |asked, upstream| Reply::Answer(upstream.answer(&asked.to(&target(&asked.target)))))
}

/// The first page of a list in the place of the one that was requested.
pub(crate) fn first_page() -> Act {
    as_if(|target| without(target, "starting_after"))
}

/// The answer to a request with another text in its target.
pub(crate) fn limited_to(from: &'static str, to: &'static str) -> Act {
    as_if(move |target| target.replace(from, to))
}

/// Every page of a Zendesk list says that the next one is at the cursor that it was requested with.
pub(crate) fn cursor_of_request() -> Act {
    change(|asked, answer| match value(&asked.target, CURSOR) {
        Some(cursor) => with_cursor(answer, &cursor),
        None => answer,
    })
}

/// The second page of a Zendesk list is followed by the first.
pub(crate) fn cursor_cycle() -> Act {
    let cursors: Mutex<Vec<String>> = Mutex::default();
    as_if(move |target| {
        let Some(cursor) = value(target, CURSOR) else {
            return target.to_owned();
        };
        let mut cursors = cursors.lock().unwrap();
        if !cursors.contains(&cursor) {
            cursors.push(cursor.clone());
        }
        if cursors[0] == cursor {
            target.to_owned()
        } else {
            without(target, CURSOR)
        }
    })
}

/// Every page of a Zendesk list is the first one, with a cursor that never was.
pub(crate) fn ever_new_cursor() -> Act {
    let count = AtomicUsize::new(0);
    act(move |asked, upstream| {
        let answer = upstream.answer(&asked.to(&without(&asked.target, CURSOR)));
        Reply::Answer(with_cursor(
            answer,
            &format!("cursor{}", count.fetch_add(1, Ordering::Relaxed)),
        ))
    })
}

/// A page without its records.
pub(crate) fn empty_page(list: &'static str) -> Act {
    json(move |body| body[list] = Value::Array(Vec::new()))
}

/// A page of Stripe's with its records in the opposite order.
pub(crate) fn reversed() -> Act {
    edit(|text| {
        #[derive(serde::Deserialize)]
        struct List<'t> {
            #[serde(borrow)]
            data: Vec<&'t RawValue>,
        }
        let page: List<'_> = serde_json::from_str(text).unwrap();
        let (Some(first), Some(last)) = (page.data.first(), page.data.last()) else {
            return text.to_owned();
        };
        let (start, end) = (
            text.find(first.get()).unwrap(),
            text.rfind(last.get()).unwrap() + last.get().len(),
        );
        let records: Vec<&str> = page.data.iter().rev().map(|record| record.get()).collect();
        format!("{}{}{}", &text[..start], records.join(","), &text[end..])
    })
}

/// Replaces the value of a member in every record of a list of Stripe's.
pub(crate) fn set_all(name: &'static str, text: &'static str) -> Act {
    let value: Value = serde_json::from_str(text).unwrap();
    json(move |body| {
        body["data"]
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(|record| record[name] = value.clone());
    })
}

/// Refuses the request, and repeats the credential in some form.
pub(crate) fn echo(form: fn(&str) -> String) -> Act {
    act(move |asked, _| {
        let credential = form(&asked.header("authorization").unwrap_or_default());
        let error = format!(
            r#"{{"error":{{"type":"invalid_request_error","message":"Refused with {credential} and {credential}"}}}}"#
        );
        Reply::Answer(Answer::json(400, error))
    })
}

/// Refuses the request, and repeats the credential as its number.
pub(crate) fn echo_request_id() -> Act {
    act(|asked, _| {
        let error = r#"{"error":{"type":"invalid_request_error","message":"Refused."}}"#;
        Reply::Answer(Answer::json(400, error).with(
            "request-id",
            asked.header("authorization").unwrap_or_default(),
        ))
    })
}

/// The parameter that cursors of Zendesk's lists are sent in.
const CURSOR: &str = "page%5Bafter%5D";

fn json(edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Act {
    change(move |_, answer| {
        let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
        edit(&mut body);
        Answer {
            body: serde_json::to_vec_pretty(&body).unwrap(),
            ..answer
        }
    })
}

fn with_cursor(answer: Answer, cursor: &str) -> Answer {
    let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
    body["meta"]["has_more"] = Value::Bool(true);
    body["meta"]["after_cursor"] = Value::from(cursor);
    body["links"]["next"] =
        Value::from(format!("http://simulator/api/v2/groups?{CURSOR}={cursor}"));
    Answer {
        body: serde_json::to_vec(&body).unwrap(),
        ..answer
    }
}

/// The value of a parameter, as it was sent.
fn value(target: &str, name: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(known, _)| {
            known.eq_ignore_ascii_case(name) || *known == "page[after]" && name == CURSOR
        })
        .map(|(_, value)| value.to_owned())
}

/// The target without a parameter.
fn without(target: &str, name: &str) -> String {
    let Some((path, query)) = target.split_once('?') else {
        return target.to_owned();
    };
    let kept = query
        .split('&')
        .filter(|pair| value(&format!("?{pair}"), name).is_none());
    format!("{path}?{}", kept.collect::<Vec<_>>().join("&"))
}
