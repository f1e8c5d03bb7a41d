//! `contract` of a source: what its records may have that the connector does not declare.

use pipeline_engine::{Contract, ContractMode, StreamContracts};

use super::tree::{Member, Node, Span, Table, Value};
use super::{Problem, known_members, suggest, table, text, unknown};

/// The setting that has the contracts of single streams.
const BY_STREAM: &str = "by_stream";

/// Settings of a stream's contract.
const OWN: [&str; 3] = ["columns", "types", "accept"];

/// Settings of a source's contract.
pub(super) const CONTRACT_MEMBERS: [&str; 4] = [OWN[0], OWN[1], OWN[2], BY_STREAM];

/// What may be done about a departure from what is declared.
const MODES: [(&str, ContractMode); 4] = [
    ("evolve", ContractMode::Evolve),
    ("freeze", ContractMode::Freeze),
    ("discard_value", ContractMode::DiscardValue),
    ("discard_row", ContractMode::DiscardRow),
];

/// The names of what may be done.
pub(super) fn modes() -> Vec<&'static str> {
    MODES.iter().map(|(name, _)| *name).collect()
}

/// The contracts of a source as written in the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContractTable {
    /// What they mean.
    pub(super) contracts: StreamContracts,
    /// The streams that are named.
    pub(super) streams: Vec<(String, Span)>,
}

impl ContractTable {
    /// Parses the contract of a source. What one of a stream does not set is that of the source.
    pub(super) fn parse(member: &Member) -> Result<Self, Problem> {
        let settings = table(&member.node, "contract")?;
        known_members(settings, "contract", &CONTRACT_MEMBERS)?;
        let default = contract(settings, &Contract::default())?;
        let mut all = Self {
            contracts: StreamContracts {
                default,
                ..StreamContracts::default()
            },
            streams: Vec::new(),
        };
        let Some(by_stream) = settings.get(BY_STREAM) else {
            return Ok(all);
        };
        for Member { name, span, node } in &table(&by_stream.node, "contract.by_stream")?.0 {
            let settings = table(node, "contract.by_stream.NAME")?;
            known_members(settings, "contract.by_stream", &OWN)?;
            let of_stream = contract(settings, &all.contracts.default)?;
            all.contracts.streams.insert(name.clone(), of_stream);
            all.streams.push((name.clone(), span.clone()));
        }
        Ok(all)
    }
}

fn contract(settings: &Table, default: &Contract) -> Result<Contract, Problem> {
    let mode = |name: &str, default: ContractMode| {
        settings
            .get(name)
            .map_or(Ok(default), |member| mode(&member.node, name))
    };
    let mut accept = default.accept.clone();
    if let Some(member) = settings.get("accept") {
        accept.extend(names(&member.node)?);
    }
    Ok(Contract {
        columns: mode("columns", default.columns)?,
        types: mode("types", default.types)?,
        accept,
    })
}

fn mode(node: &Node, name: &str) -> Result<ContractMode, Problem> {
    let written = text(node, name)?;
    let known = MODES.iter().find(|(mode, _)| *mode == written);
    known.map(|(_, mode)| *mode).ok_or_else(|| {
        let problem = Problem::new(node.span.clone(), unknown("mode", written, modes()));
        problem.help(suggest(written, "modes", modes()))
    })
}

fn names(node: &Node) -> Result<Vec<String>, Problem> {
    let wrong = |span: &Span| {
        Problem::new(span.clone(), "`accept` must be a list of names")
            .help("write accept = [\"new_field\"]")
    };
    let Value::List(items) = &node.value else {
        return Err(wrong(&node.span));
    };
    let name = |item: &Node| match &item.value {
        Value::Text(name) => Ok(name.clone()),
        _ => Err(wrong(&item.span)),
    };
    items.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tree;
    use super::*;

    fn parse(text: &str) -> Result<ContractTable, Problem> {
        ContractTable::parse(tree::parse(text).unwrap().get("contract").unwrap())
    }

    #[test]
    fn a_stream_has_what_its_source_has_unless_it_says_otherwise() {
        let parsed = parse(
            "contract = { columns = \"freeze\", accept = [\"a\"], by_stream = { charges = { types = \
             \"discard_row\", accept = [\"b\"] } } }",
        )
        .unwrap()
        .contracts;
        let customers = parsed.of("customers");
        assert_eq!(customers.columns, ContractMode::Freeze);
        assert_eq!(customers.types, ContractMode::Evolve);
        assert_eq!(customers.accept, ["a".to_owned()].into());
        let charges = parsed.of("charges");
        assert_eq!(charges.columns, ContractMode::Freeze);
        assert_eq!(charges.types, ContractMode::DiscardRow);
        assert_eq!(charges.accept, ["a".to_owned(), "b".to_owned()].into());
    }

    #[test]
    fn what_is_wrong_is_located_and_explained() {
        for (written, at) in [
            ("contract = \"freeze\"", "\"freeze\""),
            ("contract = { columns = \"freze\" }", "\"freze\""),
            ("contract = { column = \"freeze\" }", "column"),
            ("contract = { types = 5 }", "5"),
            ("contract = { accept = \"a\" }", "\"a\""),
            ("contract = { accept = [5] }", "5"),
            (
                "contract = { by_stream = { charges = \"freeze\" } }",
                "\"freeze\"",
            ),
            (
                "contract = { by_stream = { charges = { by_stream = {} } } }",
                "by_stream",
            ),
        ] {
            let problem = parse(written).unwrap_err();
            assert_eq!(&written[problem.span.clone()], at, "{written}");
            assert!(problem.help.is_some(), "{written}");
        }
    }
}
