//! `max_rejected` of a source: the share of its records that a stream may reject.

use pipeline_engine::{ErrorBudget, Share};

use super::tree::{Member, Node, Span, Value};
use super::{Problem, text};

/// Stands for every stream that is not named.
const OTHERS: &str = "*";

/// The shares of a source as written in the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct MaxRejected {
    /// What they mean.
    pub(super) budget: ErrorBudget,
    /// The streams that are named.
    pub(super) streams: Vec<(String, Span)>,
}

impl MaxRejected {
    /// Parses one share of all streams, or a table of shares by stream.
    pub(super) fn parse(node: &Node) -> Result<Self, Problem> {
        let mut all = Self::default();
        let Value::Table(table) = &node.value else {
            all.budget.default = share(node)?;
            return Ok(all);
        };
        for Member { name, span, node } in &table.0 {
            let share = share(node)?;
            if name == OTHERS {
                all.budget.default = share;
            } else {
                all.budget.streams.insert(name.clone(), share);
                all.streams.push((name.clone(), span.clone()));
            }
        }
        Ok(all)
    }
}

fn share(node: &Node) -> Result<Share, Problem> {
    text(node, "max_rejected")?.parse().map_err(|error| {
        let problem = Problem::new(
            node.span.clone(),
            format!("invalid `max_rejected`: {error}"),
        );
        problem.help(
            "write max_rejected = \"5%\", or { charges = \"20%\", \"*\" = \"5%\" } for individual \
             streams",
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tree;
    use super::*;

    fn parse(text: &str) -> Result<MaxRejected, Problem> {
        MaxRejected::parse(&tree::parse(text).unwrap().get("max_rejected").unwrap().node)
    }

    #[test]
    fn a5_shares_are_those_of_all_streams_or_of_single_ones() {
        let shares = |text: &str, streams: [&str; 2]| {
            streams.map(|stream| parse(text).unwrap().budget.of(stream).to_string())
        };
        assert_eq!(
            shares("max_rejected = \"7%\"", ["charges", "taxes"]),
            ["7 %", "7 %"]
        );
        assert_eq!(
            shares("max_rejected = { charges = \"20%\" }", ["charges", "taxes"]),
            ["20 %", "5 %"]
        );
        assert_eq!(
            shares(
                "max_rejected = { charges = \"20%\", \"*\" = \"0%\" }",
                ["charges", "taxes"]
            ),
            ["20 %", "0 %"]
        );
        for wrong in [
            "max_rejected = 5",
            "max_rejected = \"5\"",
            "max_rejected = \"200%\"",
            "max_rejected = { charges = 5 }",
        ] {
            assert!(
                parse(wrong).is_err_and(|problem| problem.help.is_some()),
                "{wrong}"
            );
        }
    }
}
