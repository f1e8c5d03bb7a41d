//! Arrow columns as lines of JSON, written straight into one buffer.

use std::io::Write;

use arrow_array::RecordBatch;
use destination_files::file_error;
use pipeline_core::Result;
use pipeline_engine::cell::{Cell, Column};

use crate::WRITING;

/// Writes rows as JSON objects; keeps its buffer from batch to batch.
#[derive(Default)]
pub(crate) struct Encoder {
    line: String,
}

impl Encoder {
    /// Writes each row as an object, with text before and after it; returns the bytes written.
    pub(crate) fn encode(
        &mut self,
        before: &str,
        batch: &RecordBatch,
        after: &str,
        out: &mut impl Write,
    ) -> Result<u64> {
        let columns = Column::of(batch)?;
        let names: Vec<String> = columns.iter().map(|column| member(column.name())).collect();
        let mut written = 0;
        for row in 0..batch.num_rows() {
            self.line.clear();
            self.line.push_str(before);
            push_object(&mut self.line, &columns, &names, row);
            self.line.push_str(after);
            out.write_all(self.line.as_bytes())
                .map_err(|error| file_error(WRITING, error))?;
            written += self.line.len() as u64;
        }
        Ok(written)
    }
}

/// A member's name, ready to be followed by its value.
fn member(name: &str) -> String {
    let mut out = String::new();
    push_string(&mut out, name);
    out.push(':');
    out
}

fn push_object(out: &mut String, columns: &[Column<'_>], names: &[String], row: usize) {
    let mut separator = '{';
    for (column, name) in columns.iter().zip(names) {
        let cell = column.cell(row);
        if cell != Cell::Null {
            out.push(separator);
            out.push_str(name);
            push_value(out, cell);
            separator = ',';
        }
    }
    out.push_str(if separator == '{' { "{}" } else { "}" });
}

fn push_value(out: &mut String, cell: Cell<'_>) {
    match cell {
        Cell::String(text) => push_string(out, text),
        // In JSON a line break is white space between tokens, never part of a value.
        Cell::Json(json) if memchr::memchr2(b'\n', b'\r', json.as_bytes()).is_some() => {
            out.extend(json.chars().filter(|c| !matches!(c, '\n' | '\r')));
        }
        // JSON has no infinities.
        Cell::Float64(value) if !value.is_finite() => out.push_str("null"),
        Cell::Decimal(..) | Cell::Date(_) | Cell::Timestamp(_) => {
            out.push('"');
            cell.push_text(out);
            out.push('"');
        }
        Cell::Null | Cell::Bool(_) | Cell::Int64(_) | Cell::Float64(_) | Cell::Json(_) => {
            cell.push_text(out);
        }
    }
}

/// Appends a JSON string; whatever needs no escape is copied in one piece.
pub(crate) fn push_string(out: &mut String, text: &str) {
    const HEX: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    out.push('"');
    let mut rest = text;
    while let Some(at) = special(rest.as_bytes()) {
        out.push_str(&rest[..at]);
        out.push('\\');
        match rest.as_bytes()[at] {
            byte @ (b'"' | b'\\') => out.push(char::from(byte)),
            b'\n' => out.push('n'),
            b'\r' => out.push('r'),
            b'\t' => out.push('t'),
            byte => out.extend([
                'u',
                '0',
                '0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

/// The place of the first byte that needs an escape. Sixteen are looked at together, without a
/// branch between them, of which compilers make a few instructions.
#[expect(
    clippy::needless_bitwise_bool,
    reason = "a branch for every byte is what it avoids"
)]
fn special(text: &[u8]) -> Option<usize> {
    let is_special = |byte: u8| (byte < b' ') | (byte == b'"') | (byte == b'\\');
    let (blocks, _) = text.as_chunks::<16>();
    let is_plain = |block: &&[u8; 16]| {
        !block
            .iter()
            .fold(false, |found, byte| found | is_special(*byte))
    };
    let plain = blocks.iter().take_while(is_plain).count() * 16;
    text[plain..]
        .iter()
        .position(|byte| is_special(*byte))
        .map(|at| plain + at)
}
