//! Records as JSON with holes: the few texts of `data/` stand for any number of objects.
//!
//! A string of a template may hold `${kind#label:arguments}`. A string that is nothing but a hole
//! becomes the value of that hole in its own JSON type; anywhere else the value is spliced in as
//! text. Every hole is a pure function of the record, so nothing is stored and any record can be
//! written again at any time. Two holes of a record with the same label (or, without one, the same
//! text) draw from the same number, which is how the parts of an object agree: a charge whose
//! `paid` is false is also the one with a `failure_code`.

use std::io::Write as _;

use chrono::{DateTime, Datelike as _, Timelike as _};
use serde_json::{Map, Value};

use crate::people;
use crate::world::{Row, World, choice, draw, hash};

/// How many spaces a record in a Stripe list is set in from the left, its closing brace included.
const LIST_INDENT: usize = 4;

/// The layout of the text around the values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Two spaces a level, laid out for its place in a list: Stripe.
    Pretty,
    /// No white space: Zendesk and Mixpanel.
    Compact,
}

/// One compiled kind of record.
pub(crate) struct Template {
    layout: Layout,
    fields: Vec<Field>,
}

struct Field {
    name: String,
    /// Present only when the request names it (`expand[]=`, `include=`): written with a leading `+`
    /// in the data.
    on_request: bool,
    /// Opens the field: the separator, the line break and the quoted name.
    head: String,
    value: Vec<Piece>,
}

enum Piece {
    Text(String),
    /// The hole, what it draws from, and whether it is the whole string.
    Hole {
        hole: Hole,
        salt: u64,
        alone: bool,
    },
}

enum Hole {
    Id,
    Number,
    Livemode,
    Project,
    Time(i64),
    Iso(i64),
    /// When a record of Zendesk was made, and when somebody changed it last.
    Created,
    Updated,
    /// The id of the record that it is a child of.
    Parent,
    /// How many children it has in another table.
    Children(usize),
    Int(i64, u64),
    Pick(Vec<String>),
    /// One of the alternatives after another.
    Nth(Vec<String>),
    Chars(&'static [u8], usize),
    Ref(usize),
    RowId(usize),
    Person(people::Field, Option<usize>),
    /// Another table's record: the referenced one, or (`same`) the one with this record's index.
    Record {
        table: usize,
        same: bool,
        indent: usize,
    },
}

const DIGITS: &[u8] = b"0123456789";
const HEX: &[u8] = b"0123456789abcdef";
pub(crate) const ALPHANUMERIC: &[u8] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

impl Template {
    /// Compiles a record of the data files; `tables` gives the ordinal of a table's name.
    pub(crate) fn compile(
        record: &Map<String, Value>,
        layout: Layout,
        tables: &dyn Fn(&str) -> usize,
    ) -> Template {
        let fields = sorted(record)
            .into_iter()
            .enumerate()
            .map(|(position, (name, value))| {
                let mut compiler = Compiler {
                    layout,
                    tables,
                    depth: 1,
                    pieces: Vec::new(),
                    text: String::new(),
                };
                if position > 0 {
                    compiler.text.push(',');
                }
                compiler.line();
                compiler.key(name.trim_start_matches('+'));
                let head = std::mem::take(&mut compiler.text);
                compiler.value(value);
                compiler.flush();
                Field {
                    name: name.trim_start_matches('+').to_owned(),
                    on_request: name.starts_with('+'),
                    head,
                    value: compiler.pieces,
                }
            })
            .collect();
        Template { layout, fields }
    }

    /// Appends the record as JSON, with the fields that `requested` adds to it.
    pub(crate) fn write(&self, world: &World, row: Row, requested: &[&str], out: &mut Vec<u8>) {
        out.push(b'{');
        for field in &self.fields {
            let wanted = requested.contains(&field.name.as_str());
            if field.on_request && !wanted {
                continue;
            }
            out.extend_from_slice(field.head.as_bytes());
            match field.reference().filter(|_| wanted) {
                Some((table, salt)) => write_record(
                    world,
                    world.referenced(row, table, salt),
                    LIST_INDENT + 2,
                    out,
                ),
                None => write_pieces(&field.value, world, row, out),
            }
        }
        if self.layout == Layout::Pretty {
            out.extend_from_slice(b"\n    ");
        }
        out.push(b'}');
    }

    /// The JSON text of one top-level field of a record.
    pub(crate) fn field(&self, name: &str, world: &World, row: Row) -> Option<Vec<u8>> {
        let field = self.fields.iter().find(|field| field.name == name)?;
        let mut out = Vec::new();
        write_pieces(&field.value, world, row, &mut out);
        Some(out)
    }
}

impl Field {
    /// The table, and the draw, that the field's value is the id of.
    fn reference(&self) -> Option<(usize, u64)> {
        match self.value.as_slice() {
            [
                Piece::Hole {
                    hole: Hole::Ref(table),
                    salt,
                    ..
                },
            ] => Some((*table, *salt)),
            _ => None,
        }
    }
}

/// Stripe's order: the id and the object's kind first, then the alphabet.
fn sorted(object: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut fields: Vec<_> = object.iter().collect();
    fields.sort_by_key(|(name, _)| {
        (
            *name != "id",
            *name != "object",
            name.trim_start_matches('+'),
        )
    });
    fields
}

struct Compiler<'a> {
    layout: Layout,
    tables: &'a dyn Fn(&str) -> usize,
    depth: usize,
    pieces: Vec<Piece>,
    text: String,
}

impl Compiler<'_> {
    fn line(&mut self) {
        if self.layout == Layout::Pretty {
            self.text.push('\n');
            self.text
                .push_str(&" ".repeat(LIST_INDENT + 2 * self.depth));
        }
    }

    fn key(&mut self, name: &str) {
        self.text.push_str(&Value::from(name).to_string());
        self.text.push_str(if self.layout == Layout::Pretty {
            ": "
        } else {
            ":"
        });
    }

    fn flush(&mut self) {
        if !self.text.is_empty() {
            self.pieces
                .push(Piece::Text(std::mem::take(&mut self.text)));
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Object(object) if !object.is_empty() => {
                self.nested(
                    '{',
                    '}',
                    sorted(object)
                        .into_iter()
                        .map(|(name, value)| (Some(name.as_str()), value)),
                );
            }
            Value::Array(items) if !items.is_empty() => {
                self.nested('[', ']', items.iter().map(|value| (None, value)));
            }
            Value::String(text) => self.string(text),
            plain => self.text.push_str(&plain.to_string()),
        }
    }

    fn nested<'v>(
        &mut self,
        open: char,
        close: char,
        members: impl Iterator<Item = (Option<&'v str>, &'v Value)>,
    ) {
        self.text.push(open);
        self.depth += 1;
        for (position, (name, value)) in members.enumerate() {
            if position > 0 {
                self.text.push(',');
            }
            self.line();
            if let Some(name) = name {
                self.key(name);
            }
            self.value(value);
        }
        self.depth -= 1;
        self.line();
        self.text.push(close);
    }

    fn string(&mut self, text: &str) {
        if let Some(hole) = text
            .strip_prefix("${")
            .and_then(|rest| rest.strip_suffix('}'))
            && !hole.contains('}')
        {
            return self.hole(hole, true);
        }
        self.text.push('"');
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            self.text.push_str(before);
            let (hole, after) = after.split_once('}').unwrap_or((after, ""));
            self.hole(hole, false);
            rest = after;
        }
        self.text.push_str(rest);
        self.text.push('"');
    }

    fn hole(&mut self, source: &str, alone: bool) {
        let (head, arguments) = source.split_once(':').unwrap_or((source, ""));
        let (kind, label) = head.split_once('#').unzip();
        let kind = kind.unwrap_or(head);
        // What points at another table draws by that table's name, so that a customer's id and
        // e-mail address belong together.
        let label = label.unwrap_or(match kind {
            "ref" | "embed" => arguments,
            "person" => arguments.split_once(':').map_or(source, |(_, owner)| owner),
            _ => source,
        });
        let hole = self.parse(kind, arguments, alone);
        let quoted = alone
            && (kind == "text"
                || matches!(
                    hole,
                    Hole::Iso(_)
                        | Hole::Created
                        | Hole::Updated
                        | Hole::Chars(..)
                        | Hole::Person(..)
                ));
        if quoted {
            self.text.push('"');
        }
        self.flush();
        self.pieces.push(Piece::Hole {
            hole,
            salt: hash(label.as_bytes()),
            alone,
        });
        if quoted {
            self.text.push('"');
        }
    }

    fn parse(&self, kind: &str, arguments: &str, alone: bool) -> Hole {
        let number = |text: &str| text.parse::<i64>().unwrap_or(0);
        let length = arguments.parse().unwrap_or(0);
        let table = |name: &str| (self.tables)(name);
        match kind {
            "id" => Hole::Id,
            "livemode" => Hole::Livemode,
            "project" => Hole::Project,
            "time" => Hole::Time(number(arguments)),
            "iso" => Hole::Iso(number(arguments)),
            "created" => Hole::Created,
            "updated" => Hole::Updated,
            "parent" => Hole::Parent,
            "children" => Hole::Children(table(arguments)),
            "int" | "text" => {
                let (low, high) = arguments.split_once(':').unwrap_or((arguments, arguments));
                Hole::Int(number(low), number(high).abs_diff(number(low)) + 1)
            }
            "pick" => Hole::Pick(alternatives(arguments, alone)),
            "nth" => Hole::Nth(alternatives(arguments, alone)),
            "digits" => Hole::Chars(DIGITS, length),
            "hex" => Hole::Chars(HEX, length),
            "alnum" => Hole::Chars(ALPHANUMERIC, length),
            "ref" => Hole::Ref(table(arguments)),
            "row_id" => Hole::RowId(table(arguments)),
            "person" => {
                let (field, owner) = arguments.split_once(':').unzip();
                Hole::Person(
                    people::Field::named(field.unwrap_or(arguments)),
                    owner.map(table),
                )
            }
            "embed" | "row" => Hole::Record {
                table: table(arguments),
                same: kind == "row",
                indent: LIST_INDENT + 2 * self.depth,
            },
            _ => Hole::Number,
        }
    }
}

/// `a*3|b` is `a` three times as often as `b`. Alone in its string an alternative keeps its JSON
/// type.
fn alternatives(source: &str, alone: bool) -> Vec<String> {
    let mut all = Vec::new();
    for alternative in source.split('|') {
        let (text, weight) = alternative.rsplit_once('*').unwrap_or((alternative, "1"));
        let text = if alone
            && !serde_json::from_str::<Value>(text).is_ok_and(|value| !value.is_string())
        {
            Value::from(text).to_string()
        } else {
            text.to_owned()
        };
        all.extend(std::iter::repeat_n(text, weight.parse().unwrap_or(1)));
    }
    all
}

fn write_pieces(pieces: &[Piece], world: &World, row: Row, out: &mut Vec<u8>) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Hole { hole, salt, alone } => write_hole(hole, *salt, *alone, world, row, out),
        }
    }
}

fn write_hole(hole: &Hole, salt: u64, alone: bool, world: &World, row: Row, out: &mut Vec<u8>) {
    let value = || draw(world.key(row), salt);
    match hole {
        Hole::Id => world.write_id(row, alone, out),
        Hole::RowId(table) => world.write_id(
            Row {
                table: *table,
                index: row.index,
            },
            alone,
            out,
        ),
        Hole::Ref(table) => world.write_id(world.referenced(row, *table, salt), alone, out),
        Hole::Number => print(out, format_args!("{}", row.index + 1)),
        Hole::Livemode => out.extend_from_slice(if world.live { b"true" } else { b"false" }),
        Hole::Project => print(out, format_args!("{}", world.project)),
        Hole::Time(offset) => print(out, format_args!("{}", world.time(row) + offset)),
        Hole::Iso(offset) => write_iso(world.seconds(row) + offset, out),
        Hole::Created => write_iso(world.entry(row).map_or(0, |entry| entry.created), out),
        Hole::Updated => write_iso(world.entry(row).map_or(0, |entry| entry.updated), out),
        Hole::Parent => world
            .parent(row)
            .into_iter()
            .for_each(|parent| world.write_id(parent, alone, out)),
        Hole::Children(table) => print(out, format_args!("{}", world.children(row, *table).len())),
        Hole::Int(low, width) => print(
            out,
            format_args!("{}", low.wrapping_add_unsigned(value() % width)),
        ),
        Hole::Pick(all) => {
            out.extend_from_slice(all[choice(value(), all.len())].as_bytes());
        }
        Hole::Nth(all) => {
            let turn = usize::try_from(row.index).unwrap_or(0) % all.len().max(1);
            out.extend_from_slice(all[turn].as_bytes());
        }
        Hole::Chars(set, length) => write_chars(value(), set, *length, out),
        Hole::Person(field, owner) => {
            let person = owner.map_or(row.index, |table| world.referenced(row, table, salt).index);
            people::write(person, *field, out);
        }
        Hole::Record {
            table,
            same,
            indent,
        } => {
            let other = if *same {
                Row {
                    table: *table,
                    index: row.index,
                }
            } else {
                world.referenced(row, *table, salt)
            };
            if world.exists(other) {
                write_record(world, other, *indent, out);
            } else {
                out.extend_from_slice(b"null");
            }
        }
    }
}

/// Appends a record with its closing brace `indent` spaces from the left.
fn write_record(world: &World, row: Row, indent: usize, out: &mut Vec<u8>) {
    let start = out.len();
    world.tables[row.table].template.write(world, row, &[], out);
    let extra = " ".repeat(indent.saturating_sub(LIST_INDENT));
    let text = out.split_off(start);
    for (position, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if position > 0 {
            out.push(b'\n');
            out.extend_from_slice(extra.as_bytes());
        }
        out.extend_from_slice(line);
    }
}

/// A listed record as it looks on its own. Line breaks inside strings are escaped in JSON, so the
/// real ones are layout.
pub(crate) fn dedent(record: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(record.len());
    for (position, line) in record.split(|byte| *byte == b'\n').enumerate() {
        if position > 0 {
            out.push(b'\n');
            out.extend_from_slice(&line[LIST_INDENT.min(line.len())..]);
        } else {
            out.extend_from_slice(line);
        }
    }
    out
}

fn write_chars(seed: u64, set: &[u8], length: usize, out: &mut Vec<u8>) {
    for block in 0..length.div_ceil(8) {
        let bytes = draw(seed, block as u64).to_le_bytes();
        let wanted = bytes.iter().take(length - 8 * block);
        out.extend(wanted.map(|byte| set[usize::from(*byte) * set.len() / 256]));
    }
}

/// `2026-11-20T09:15:02`, without a zone: Zendesk's templates add the `Z`, Mixpanel's profiles have
/// none.
fn write_iso(seconds: i64, out: &mut Vec<u8>) {
    let Some(time) = DateTime::from_timestamp(seconds, 0) else {
        return;
    };
    let (date, time) = (time.date_naive(), time.time());
    let (year, month, day) = (date.year(), date.month(), date.day());
    print(
        out,
        format_args!(
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
            time.hour(),
            time.minute(),
            time.second()
        ),
    );
}

/// Writing to a vector can't fail.
fn print(out: &mut Vec<u8>, text: std::fmt::Arguments) {
    let _ = out.write_fmt(text);
}
