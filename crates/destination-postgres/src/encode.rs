//! Rows as `COPY` reads them: text, which has one form for every type, and never a value that
//! Postgres refuses, since that would fail all rows with it.

use pipeline_engine::cell::{Cell, Column};
use pipeline_engine::{EXTRA, Table};

use crate::config::Json;
use crate::dialect::DIALECT;
use crate::odd::{mend, quoted};
use crate::table::Physical;

/// Microseconds and days from the year 1 on, up to the last ones that the types hold; of the first
/// type that is more than there are.
const TIMES: std::ops::RangeFrom<i64> = -62_135_596_800_000_000..;
const DAYS: std::ops::RangeInclusive<i32> = -719_162..=2_145_042_905;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Json(Json),
    Bigint,
    Numeric,
    Double,
    Boolean,
    Date,
    Timestamp,
    /// A type that somebody chose: it is given text, which it may refuse.
    Foreign,
}

impl Kind {
    pub(crate) fn of(data_type: &str) -> Self {
        match data_type {
            "text" => Self::Text,
            "jsonb" => Self::Json(Json::Jsonb),
            "json" => Self::Json(Json::Json),
            "bigint" => Self::Bigint,
            "numeric" => Self::Numeric,
            "double precision" => Self::Double,
            "boolean" => Self::Boolean,
            "date" => Self::Date,
            "timestamp with time zone" => Self::Timestamp,
            _ => Self::Foreign,
        }
    }

    /// Whether a column of this kind holds a value without a loss.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "whether something is lost is what is asked"
    )]
    fn holds(self, cell: Cell<'_>) -> bool {
        match (self, cell) {
            (Self::Text | Self::Foreign | Self::Json(_), _)
            | (Self::Bigint, Cell::Int64(_))
            | (Self::Numeric, Cell::Int64(_) | Cell::Float64(_) | Cell::Decimal(..))
            | (Self::Double, Cell::Float64(_))
            | (Self::Boolean, Cell::Bool(_)) => true,
            (Self::Double, Cell::Int64(value)) => value as f64 as i64 == value && value < i64::MAX,
            (Self::Date, Cell::Date(days)) => DAYS.contains(&days),
            (Self::Timestamp, Cell::Timestamp(micros)) => TIMES.contains(&micros),
            _ => false,
        }
    }
}

/// A column that is written.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) data_type: String,
    pub(crate) kind: Kind,
    /// The column of the batch.
    field: usize,
    is_key: bool,
}

impl Place {
    /// True when it is the column of a field with a plain name.
    pub(crate) fn is(&self, field: &str) -> bool {
        DIALECT.column_names(field).contains(&self.name)
    }
}

/// Which columns of batches are written, in which order.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The one for what does not fit elsewhere comes last.
    pub(crate) places: Vec<Place>,
    /// Columns of the batch for which the table has no room.
    homeless: Vec<usize>,
    has_extra: bool,
}

impl Layout {
    pub(crate) fn of(table: &Table, physical: &Physical) -> Self {
        let fields = table.schema.fields();
        let (mut places, mut homeless, mut extra) = (Vec::new(), Vec::new(), None);
        for (index, field) in fields.iter().enumerate() {
            let Some((name, data_type)) = &physical.columns[index] else {
                homeless.push(index);
                continue;
            };
            let place = Place {
                is_key: physical.key.contains(name),
                name: name.clone(),
                kind: Kind::of(data_type),
                data_type: data_type.clone(),
                field: index,
            };
            if field.name() == EXTRA {
                extra = Some(place);
            } else {
                places.push(place);
            }
        }
        let has_extra = extra.is_some();
        places.extend(extra);
        Self {
            places,
            homeless,
            has_extra,
        }
    }

    /// The column that holds a column of the batch.
    pub(crate) fn place(&self, field: usize) -> Option<&Place> {
        self.places.iter().find(|place| place.field == field)
    }
}

/// Writes rows of a batch.
pub(crate) struct Encoder<'a> {
    layout: &'a Layout,
    columns: &'a [Column<'a>],
    text: String,
    /// Members for the last column: what does not fit elsewhere, as JSON.
    extra: Vec<(&'a str, String)>,
}

impl<'a> Encoder<'a> {
    pub(crate) fn new(layout: &'a Layout, columns: &'a [Column<'a>]) -> Self {
        Self {
            layout,
            columns,
            text: String::new(),
            extra: Vec::new(),
        }
    }

    /// Appends the fields of a row, separated by tabulators.
    ///
    /// # Errors
    /// Why the row cannot be stored: without its key it would be another row.
    pub(crate) fn push(
        &mut self,
        row: usize,
        out: &mut Vec<u8>,
    ) -> std::result::Result<(), String> {
        self.extra.clear();
        for field in &self.layout.homeless {
            let column = &self.columns[*field];
            if column.cell(row) != Cell::Null {
                let json = json(column.cell(row));
                self.extra.push((column.name(), sound(json)));
            }
        }
        let own = self.layout.places.len() - usize::from(self.layout.has_extra);
        for (index, place) in self.layout.places[..own].iter().enumerate() {
            if index > 0 {
                out.push(b'\t');
            }
            self.field(place, row, out)?;
        }
        if let Some(place) = self.layout.places.get(own) {
            if own > 0 {
                out.push(b'\t');
            }
            self.rest(place, row, out);
        }
        Ok(())
    }

    fn field(
        &mut self,
        place: &Place,
        row: usize,
        out: &mut Vec<u8>,
    ) -> std::result::Result<(), String> {
        let (cell, name) = (
            self.columns[place.field].cell(row),
            self.columns[place.field].name(),
        );
        if cell == Cell::Null {
            out.extend_from_slice(b"\\N");
            return Ok(());
        }
        if !place.kind.holds(cell) {
            if place.is_key {
                return Err(format!("the key `{name}` does not fit its column"));
            }
            self.extra.push((name, sound(json(cell))));
            out.extend_from_slice(b"\\N");
            return Ok(());
        }
        let odd = match (place.kind, cell) {
            (Kind::Json(as_type), Cell::Json(text)) => {
                let mended = mend(text, as_type);
                escape(mended.as_deref().unwrap_or(text), out);
                mended.map(|_| quoted(text))
            }
            (Kind::Json(as_type), cell) => {
                let text = json(cell);
                escape(mend(&text, as_type).as_deref().unwrap_or(&text), out);
                None
            }
            (_, Cell::String(text) | Cell::Json(text)) if text.contains('\0') => {
                escape(&text.replace('\0', "\u{2400}"), out);
                Some(quoted(&json(cell)))
            }
            (_, Cell::String(text) | Cell::Json(text)) => {
                escape(text, out);
                None
            }
            (_, cell) => {
                self.text.clear();
                cell.push_text(&mut self.text);
                // Years of more than four digits have a sign, which Postgres does not take.
                let is_time = matches!(cell, Cell::Date(_) | Cell::Timestamp(_));
                let text = self.text.strip_prefix('+').filter(|_| is_time);
                out.extend_from_slice(text.unwrap_or(&self.text).as_bytes());
                None
            }
        };
        self.extra.extend(odd.map(|raw| (name, raw)));
        Ok(())
    }

    /// Appends the column of everything else.
    fn rest(&mut self, place: &Place, row: usize, out: &mut Vec<u8>) {
        let column = &self.columns[place.field];
        let given = match column.cell(row) {
            Cell::String(text) | Cell::Json(text) => Some(text),
            _ => None,
        };
        let mended = match (given, place.kind) {
            (Some(text), Kind::Json(as_type)) => mend(text, as_type),
            _ => None,
        };
        if let (Some(text), true) = (given, mended.is_some()) {
            self.extra.push((column.name(), quoted(text)));
        }
        let given = mended.as_deref().or(given);
        if self.extra.is_empty() {
            match given {
                Some(text) => escape(text, out),
                None => out.extend_from_slice(b"\\N"),
            }
            return;
        }
        let inner = given
            .map(str::trim)
            .and_then(|text| text.strip_prefix('{')?.strip_suffix('}'))
            .map(str::trim)
            .unwrap_or_default();
        let members = self
            .extra
            .iter()
            .map(|(name, json)| format!("{}:{json}", quoted(&name.replace('\0', "\u{2400}"))));
        let all: Vec<String> = (!inner.is_empty())
            .then(|| inner.to_owned())
            .into_iter()
            .chain(members)
            .collect();
        escape(&format!("{{{}}}", all.join(",")), out);
    }
}

/// A value as JSON.
fn json(cell: Cell<'_>) -> String {
    let mut text = String::new();
    match cell {
        Cell::Null => text.push_str("null"),
        Cell::String(value) => return quoted(value),
        Cell::Json(value) => return value.to_owned(),
        Cell::Bool(_) | Cell::Int64(_) | Cell::Decimal(..) => cell.push_text(&mut text),
        Cell::Float64(value) if value.is_finite() => cell.push_text(&mut text),
        Cell::Float64(_) | Cell::Date(_) | Cell::Timestamp(_) => {
            cell.push_text(&mut text);
            return quoted(&text);
        }
    }
    text
}

/// JSON that any type takes: of what it would refuse, the text.
fn sound(json: String) -> String {
    if mend(&json, Json::Jsonb).is_some() {
        quoted(&json)
    } else {
        json
    }
}

/// Appends a text so that `COPY` reads it as one field.
fn escape(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut start = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escaped = match byte {
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            _ => continue,
        };
        out.extend_from_slice(&bytes[start..at]);
        out.extend_from_slice(escaped);
        start = at + 1;
    }
    out.extend_from_slice(&bytes[start..]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use arrow_array::{ArrayRef, RecordBatch, StringArray};
    use arrow_schema::{DataType, Field, Schema};
    use pipeline_engine::Generation;

    use super::*;
    use crate::names::Relation;

    /// Encodes one row of a table with a key, a text, and the rest.
    fn encode(
        id: Option<&str>,
        name: Option<&str>,
        extra: Option<&str>,
        types: [&str; 3],
    ) -> String {
        let fields = ["id", "name", EXTRA].map(|name| Field::new(name, DataType::Utf8, true));
        let schema = Arc::new(Schema::new(fields.to_vec()));
        let table = Table {
            source: "demo".to_owned(),
            stream: "x".to_owned(),
            primary_key: vec!["id".to_owned()],
            schema: Arc::clone(&schema),
            generation: Generation::Current,
        };
        let physical = Physical {
            relation: Relation {
                schema: "demo".to_owned(),
                name: "x".to_owned(),
            },
            columns: ["id", "name", EXTRA]
                .iter()
                .zip(types)
                .map(|(name, data_type)| {
                    (!data_type.is_empty()).then(|| ((*name).to_owned(), data_type.to_owned()))
                })
                .collect(),
            key: vec!["id".to_owned()],
        };
        let arrays =
            [id, name, extra].map(|value| -> ArrayRef { Arc::new(StringArray::from(vec![value])) });
        let batch = RecordBatch::try_new(schema, arrays.to_vec()).unwrap();
        let columns = Column::of(&batch).unwrap();
        let layout = Layout::of(&table, &physical);
        let mut out = Vec::new();
        match Encoder::new(&layout, &columns).push(0, &mut out) {
            Ok(()) => String::from_utf8(out).unwrap(),
            Err(reason) => reason,
        }
    }

    #[test]
    fn what_does_not_fit_is_kept_beside_the_row() {
        let plain = ["text", "text", "jsonb"];
        assert_eq!(encode(Some("1"), None, None, plain), "1\t\\N\t\\N");
        assert_eq!(
            encode(Some("a\tb\\c\r\n"), Some("\\N"), Some("{}"), plain),
            "a\\tb\\\\c\\r\\n\t\\\\N\t{}"
        );
        assert_eq!(
            encode(Some("1"), Some("a\0"), Some(r#"{"b":2}"#), plain),
            "1\ta\u{2400}\t{\"b\":2,\"name\":\"\\\\\"a\\\\\\\\u0000\\\\\"\"}"
        );
        assert_eq!(
            encode(Some("1"), Some("x"), None, ["text", "bigint", "jsonb"]),
            "1\t\\N\t{\"name\":\"x\"}",
            "a column that could not be made wider"
        );
        assert_eq!(
            encode(Some("1"), Some("x"), Some("{}"), ["text", "", "jsonb"]),
            "1\t{\"name\":\"x\"}",
            "a table without room for another column"
        );
        assert!(encode(Some("a\0"), None, None, plain).starts_with("a\u{2400}\t"));
        assert!(encode(Some("a"), None, None, ["bigint", "text", "jsonb"]).contains("key"));
    }

    #[test]
    fn numbers_and_instants_are_held_without_a_loss_or_not_at_all() {
        for (kind, cell, holds) in [
            (Kind::Double, Cell::Int64(1 << 53), true),
            (Kind::Double, Cell::Int64((1 << 53) + 1), false),
            (Kind::Double, Cell::Int64(i64::MAX), false),
            (Kind::Numeric, Cell::Float64(1e300), true),
            (Kind::Bigint, Cell::Decimal(1, 0), false),
            (Kind::Timestamp, Cell::Timestamp(i64::MAX), true),
            (Kind::Timestamp, Cell::Timestamp(i64::MIN), false),
            (Kind::Date, Cell::Date(i32::MIN), false),
            (Kind::Date, Cell::Date(0), true),
        ] {
            assert_eq!(kind.holds(cell), holds, "{kind:?} {cell:?}");
        }
    }
}
