//! `[sources.NAME.quality]`: what rows are checked for before they reach the destination.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use pipeline_core::{Connector, Endpoint, Stream};
use pipeline_engine::{OnFailure, QualityCheck, QualityRule, RangeBound};
use regex::Regex;
use serde_json::Value as Json;

use super::source::known_streams;
use super::tree::{Member, Node, Span, Table, Value};
use super::{Problem, closest, known_members, suggest_or, table, text, unknown};

pub(super) const QUALITY_MEMBERS: [&str; 1] = ["checks"];
pub(super) const CHECK_MEMBERS: [&str; 7] = [
    "stream",
    "not_null",
    "accepted",
    "unique",
    "range",
    "pattern",
    "on_failure",
];
pub(super) const ACTIONS: [&str; 3] = ["quarantine", "warn", "stop"];

/// Members of a range.
const RANGE_MEMBERS: [&str; 2] = ["min", "max"];

/// The checks of a source as written in the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct QualityTable(Vec<Written>);

/// One rule of one check, and where it is written.
#[derive(Clone, Debug)]
struct Written {
    check: QualityCheck,
    stream: Span,
    /// Where each column of the rule is written, in its order.
    columns: Vec<Span>,
    /// Where what it is compared with is written.
    rule: Span,
}

impl QualityTable {
    pub(super) fn parse(member: &Member) -> Result<Self, Problem> {
        let quality = table(&member.node, "quality")?;
        known_members(quality, "quality", &QUALITY_MEMBERS)?;
        let Some(checks) = quality.get("checks") else {
            return Ok(Self::default());
        };
        let Value::List(checks) = &checks.node.value else {
            let problem = Problem::new(checks.span.clone(), "`checks` must be a list of tables");
            return Err(problem.help("write [[sources.NAME.quality.checks]] before each check"));
        };
        let checks: Result<Vec<_>, Problem> = checks.iter().map(check).collect();
        Ok(Self(checks?.into_iter().flatten().collect()))
    }

    /// The checks.
    pub(crate) fn checks(&self) -> Vec<QualityCheck> {
        self.0.iter().map(|written| written.check.clone()).collect()
    }

    /// Refuses streams and columns that the connector does not declare, and rules that do not apply
    /// to a column's type.
    pub(super) fn fit(&self, connector: &dyn Connector) -> Result<(), Problem> {
        let named: Vec<(String, Span)> = self
            .0
            .iter()
            .map(|written| (written.check.stream.clone(), written.stream.clone()))
            .collect();
        known_streams(connector, &named)?;
        for written in &self.0 {
            let stream = connector
                .endpoints()
                .iter()
                .flat_map(Endpoint::streams)
                .find(|stream| stream.name() == written.check.stream);
            if let Some(stream) = stream {
                written.fit(stream)?;
            }
        }
        Ok(())
    }
}

impl Written {
    fn fit(&self, stream: &Stream) -> Result<(), Problem> {
        let fields = stream.schema().fields();
        let names = || fields.iter().map(|field| &*field.name);
        for (column, span) in self.check.rule.columns().into_iter().zip(&self.columns) {
            let Some(field) = fields.iter().find(|field| field.name == column) else {
                let mut problem = Problem::new(span.clone(), unknown("column", column, names()));
                problem
                    .harmless
                    .extend(closest(column, names()).map(|_| span.clone()));
                let names: Vec<&str> = names().collect();
                return Err(problem.help(suggest_or(
                    column,
                    "columns",
                    names,
                    "pipeline discover --columns",
                )));
            };
            if !self.check.rule.applies_to(field.data_type) {
                let message = format!("this rule does not apply to the column `{}`", field.name);
                return Err(Problem::new(self.rule.clone(), message)
                    .help("compare numbers with numbers, and times with text such as \"2026-01-31\" or \"2026-01-31T12:00:00Z\"; values and patterns are for text"));
            }
        }
        Ok(())
    }
}

/// The rules of one check.
fn check(node: &Node) -> Result<Vec<Written>, Problem> {
    let members = table(node, "checks")?;
    known_members(members, "quality.checks", &CHECK_MEMBERS)?;
    let stream = members.get("stream").ok_or_else(|| {
        Problem::new(node.span.clone(), "missing `stream` in quality.checks")
            .help("name the stream whose rows are checked, such as stream = \"charges\"")
    })?;
    let name = text(&stream.node, "stream")?;
    let on_failure = members
        .get("on_failure")
        .map(|member| on_failure(&member.node))
        .transpose()?
        .unwrap_or_default();
    let mut written = Vec::new();
    for member in &members.0 {
        for (rule, columns, span) in rules(member)? {
            written.push(Written {
                check: QualityCheck {
                    stream: name.to_owned(),
                    rule,
                    on_failure,
                },
                stream: stream.node.span.clone(),
                columns,
                rule: span,
            });
        }
    }
    if written.is_empty() {
        let problem = Problem::new(stream.span.clone(), "this check has no rule");
        return Err(problem.help("add one, such as not_null = [\"id\"]"));
    }
    Ok(written)
}

/// A rule, where its columns are written, and where it is.
type Found = (QualityRule, Vec<Span>, Span);

fn rules(Member { name, node, .. }: &Member) -> Result<Vec<Found>, Problem> {
    match name.as_str() {
        "not_null" => Ok(columns(node, name)?
            .into_iter()
            .map(|(column, span)| {
                let rule = QualityRule::NotNull { column };
                (rule, vec![span.clone()], span)
            })
            .collect()),
        "unique" => {
            let (columns, spans) = columns(node, name)?.into_iter().unzip();
            Ok(vec![(
                QualityRule::Unique { columns },
                spans,
                node.span.clone(),
            )])
        }
        "accepted" => by_column(node, name, |column, node| {
            let values = accepted(node)?;
            Ok(QualityRule::Accepted { column, values })
        }),
        "range" => by_column(node, name, range),
        "pattern" => by_column(node, name, |column, node| {
            let pattern = Regex::new(text(node, "pattern")?).map_err(|_| {
                Problem::new(node.span.clone(), "invalid regular expression").help(
                    "use the syntax of the Rust crate `regex`: no backreferences, no look-around",
                )
            })?;
            Ok(QualityRule::Pattern { column, pattern })
        }),
        _ => Ok(Vec::new()),
    }
}

/// One rule for each member of a table of columns.
fn by_column(
    node: &Node,
    name: &str,
    rule: impl Fn(String, &Node) -> Result<QualityRule, Problem>,
) -> Result<Vec<Found>, Problem> {
    let Value::Table(columns) = &node.value else {
        let problem = Problem::new(
            node.span.clone(),
            format!("`{name}` must be a table of columns"),
        );
        return Err(problem.help(match name {
            "accepted" => "write accepted = { status = [\"paid\", \"open\"] }",
            "range" => "write range = { amount = { min = 0 } }",
            _ => "write pattern = { email = \"@\" }",
        }));
    };
    let found = |member: &Member| {
        let rule = rule(member.name.clone(), &member.node)?;
        Ok((rule, vec![member.span.clone()], member.node.span.clone()))
    };
    columns.0.iter().map(found).collect()
}

fn columns(node: &Node, name: &str) -> Result<Vec<(String, Span)>, Problem> {
    let wrong = |span: &Span| {
        Problem::new(span.clone(), format!("`{name}` must be a list of columns"))
            .help(format!("write {name} = [\"id\"]"))
    };
    let Value::List(items) = &node.value else {
        return Err(wrong(&node.span));
    };
    if items.is_empty() {
        return Err(wrong(&node.span));
    }
    let column = |item: &Node| match &item.value {
        Value::Text(name) => Ok((name.clone(), item.span.clone())),
        _ => Err(wrong(&item.span)),
    };
    items.iter().map(column).collect()
}

fn accepted(node: &Node) -> Result<BTreeSet<String>, Problem> {
    let wrong = |span: &Span| {
        Problem::new(span.clone(), "accepted values must be a list")
            .help("write accepted = { status = [\"paid\", \"open\"] }")
    };
    let Value::List(items) = &node.value else {
        return Err(wrong(&node.span));
    };
    let value = |item: &Node| match &item.value {
        Value::Text(text) => Ok(text.clone()),
        Value::Plain(plain @ (Json::Bool(_) | Json::Number(_))) => Ok(plain.to_string()),
        _ => Err(wrong(&item.span)),
    };
    items.iter().map(value).collect()
}

fn range(column: String, node: &Node) -> Result<QualityRule, Problem> {
    let bounds: &Table = table(node, "range")
        .map_err(|problem| problem.help("write range = { amount = { min = 0, max = 100 } }"))?;
    known_members(bounds, "range", &RANGE_MEMBERS)?;
    let end = |name: &str| {
        bounds
            .get(name)
            .map(|member| bound(&member.node, name))
            .transpose()
    };
    let (min, max) = (end("min")?, end("max")?);
    if min.is_none() && max.is_none() {
        return Err(
            Problem::new(node.span.clone(), "a range needs `min`, `max`, or both")
                .help("write range = { amount = { min = 0 } }"),
        );
    }
    Ok(QualityRule::Range { column, min, max })
}

fn bound(node: &Node, name: &str) -> Result<RangeBound, Problem> {
    let found = match &node.value {
        Value::Plain(Json::Number(number)) => number
            .as_i64()
            .map(RangeBound::Integer)
            .or_else(|| number.as_f64().map(RangeBound::Number)),
        Value::Text(text) => instant(text).map(RangeBound::Instant),
        _ => None,
    };
    found.ok_or_else(|| {
        Problem::new(
            node.span.clone(),
            format!("`{name}` must be a number, a day, or an instant"),
        )
        .help("write 0, \"2026-01-31\", or \"2026-01-31T12:00:00Z\"")
    })
}

fn instant(text: &str) -> Option<DateTime<Utc>> {
    let day = || Some(text.parse::<NaiveDate>().ok()?.and_time(NaiveTime::MIN));
    let at = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc());
    at.ok().or_else(|| Some(day()?.and_utc()))
}

fn on_failure(node: &Node) -> Result<OnFailure, Problem> {
    match text(node, "on_failure")? {
        "quarantine" => Ok(OnFailure::Quarantine),
        "warn" => Ok(OnFailure::Warn),
        "stop" => Ok(OnFailure::Stop),
        other => Err(
            Problem::new(node.span.clone(), unknown("on_failure", other, ACTIONS)).help(
                "write quarantine (the row is kept in `_rejected` instead), warn (it is counted), or \
                 stop (the stream stops in front of it)",
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tree;
    use super::*;

    fn parse(text: &str) -> Result<Vec<QualityCheck>, Problem> {
        let text = format!("[[quality.checks]]\n{text}");
        let root = tree::parse(&text).unwrap();
        QualityTable::parse(root.get("quality").unwrap()).map(|table| table.checks())
    }

    #[test]
    fn each_rule_of_a_check_is_one_for_each_column() {
        let checks = parse(
            "stream = \"charges\"\nnot_null = [\"id\", \"amount\"]\nunique = [\"id\"]\n\
             accepted = { status = [\"paid\", 1, true] }\n\
             range = { amount = { min = 0, max = 1.5 }, created = { min = \"2026-01-31\" } }\n\
             pattern = { email = \"@\" }\non_failure = \"stop\"",
        )
        .unwrap();
        assert!(checks.iter().all(|it| it.on_failure == OnFailure::Stop));
        let said: Vec<String> = checks.iter().map(|it| it.rule.to_string()).collect();
        assert_eq!(
            said,
            [
                "`id` is null",
                "`amount` is null",
                "`id` is not unique",
                "`status` is not an accepted value",
                "`amount` is not within 0 and 1.5",
                "`created` is below 2026-01-31T00:00:00Z",
                "`email` does not match its pattern",
            ]
        );
        let default = parse("stream = \"charges\"\nnot_null = [\"id\"]").unwrap();
        assert_eq!(default[0].on_failure, OnFailure::Quarantine);
    }

    #[test]
    fn what_is_wrong_has_its_place_and_a_way_out() {
        for wrong in [
            "not_null = [\"id\"]",
            "stream = \"charges\"",
            "stream = \"charges\"\nnot_null = \"id\"",
            "stream = \"charges\"\nnot_null = []",
            "stream = \"charges\"\nunique = [1]",
            "stream = \"charges\"\naccepted = { status = \"paid\" }",
            "stream = \"charges\"\naccepted = [\"paid\"]",
            "stream = \"charges\"\nrange = { amount = {} }",
            "stream = \"charges\"\nrange = { amount = { min = \"low\" } }",
            "stream = \"charges\"\nrange = { amount = 1 }",
            "stream = \"charges\"\npattern = { email = \"(\" }",
            "stream = \"charges\"\nnot_nul = [\"id\"]",
            "stream = \"charges\"\nnot_null = [\"id\"]\non_failure = \"explode\"",
        ] {
            let problem = parse(wrong).unwrap_err();
            assert!(
                problem.help.is_some() && !problem.span.is_empty(),
                "{wrong}"
            );
        }
    }
}
