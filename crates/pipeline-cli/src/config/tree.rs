//! A TOML document as a tree that remembers where everything stands.

use std::ops::Range;

use serde_json::{Number, Value as Json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Bytes of the document's text.
pub(crate) type Span = Range<usize>;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Where the value stands.
    pub(crate) span: Span,
    /// The value.
    pub(crate) value: Value,
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Text, in which references are still to be replaced.
    Text(String),
    /// A number or a truth value.
    Plain(Json),
    /// A list.
    List(Vec<Node>),
    /// A table.
    Table(Table),
}

/// A table, in the order of the document.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table(pub(crate) Vec<Member>);

/// A member of a table.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its name.
    pub(crate) name: String,
    /// Where the name stands.
    pub(crate) span: Span,
    /// Its value.
    pub(crate) node: Node,
}

/// Reads a document.
pub(crate) fn parse(text: &str) -> Result<Table, (String, Span)> {
    let table = DeTable::parse(text)
        .map_err(|error| (error.message().to_owned(), error.span().unwrap_or(0..0)))?;
    Ok(Table::from(table.get_ref()))
}

impl From<&DeTable<'_>> for Table {
    fn from(table: &DeTable<'_>) -> Self {
        let member = |(name, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let key: &Spanned<std::borrow::Cow<'_, str>> = name;
            Member {
                name: key.get_ref().to_string(),
                span: key.span(),
                node: Node::from(value),
            }
        };
        let mut members: Vec<Member> = table.iter().map(member).collect();
        members.sort_by_key(|member| member.span.start);
        Self(members)
    }
}

impl From<&Spanned<DeValue<'_>>> for Node {
    fn from(value: &Spanned<DeValue<'_>>) -> Self {
        let plain = |text: &str| {
            serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.to_owned()))
        };
        let content = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => {
                let number = i64::from_str_radix(number.as_str(), number.radix());
                Value::Plain(number.map_or(Json::Null, |number| Json::Number(Number::from(number))))
            }
            DeValue::Float(number) => Value::Plain(plain(number.as_str())),
            DeValue::Boolean(truth) => Value::Plain(Json::Bool(*truth)),
            DeValue::Datetime(at) => Value::Text(at.to_string()),
            DeValue::Array(items) => Value::List(items.iter().map(Node::from).collect()),
            DeValue::Table(table) => Value::Table(Table::from(table)),
        };
        Self {
            span: value.span(),
            value: content,
        }
    }
}

impl Value {
    /// What it is, in words, as a person would write it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Plain(Json::Bool(_)) => "true or false",
            Self::Plain(_) => "a number",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl Table {
    /// The member of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Member> {
        self.0.iter().find(|member| member.name == name)
    }

    /// Every text in it, and where it stands.
    pub(crate) fn texts(&self) -> Vec<(&str, &Span)> {
        fn collect<'a>(node: &'a Node, found: &mut Vec<(&'a str, &'a Span)>) {
            match &node.value {
                Value::Text(text) => found.push((text, &node.span)),
                Value::Plain(_) => {}
                Value::List(items) => items.iter().for_each(|item| collect(item, found)),
                Value::Table(table) => table
                    .0
                    .iter()
                    .for_each(|member| collect(&member.node, found)),
            }
        }
        let mut found = Vec::new();
        for member in &self.0 {
            collect(&member.node, &mut found);
        }
        found
    }

    /// The deepest member on a path such as `auth.scopes[1]`: where an error about that path is
    /// shown.
    pub(crate) fn locate(&self, path: &str) -> Option<Span> {
        let mut found = None;
        let mut table = self;
        for part in path.split(['.', '[']) {
            let part = part.trim_end_matches(']');
            let Some(member) = table.get(part) else { break };
            found = Some(member.node.span.clone());
            match &member.node.value {
                Value::Table(inner) => table = inner,
                _ => break,
            }
        }
        found
    }
}
