//! What happens to records that depart from what a connector declares: the contract of a stream.
//!
//! Without a contract everything *evolves*: undeclared members, and values that do not fit their
//! column, are kept in [`EXTRA`](crate::EXTRA), and nothing here runs. A contract is held before a
//! page is staged, so that a page which breaks a frozen one leaves neither rows nor a position.
//! Columns whose values stand [inside](pipeline_core::Inside) a member are an account's own and not
//! part of it.

use std::collections::{BTreeMap, BTreeSet};

use pipeline_core::{DataType, Error, ErrorKind, RawRecord, Result, Stream};

use super::decode::{Departure, Departures, OTHER_FIELDS};

/// Names of fields that are counted for an endpoint; what comes beyond is counted as
/// [`OTHER_FIELDS`].
const MOST_DROPPED: usize = 1_000;

/// Why a value is counted that was dropped.
pub(crate) const DROPPED: &str = "dropped by `contract`";

/// What is done about a departure from what is declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContractMode {
    /// The value is kept in [`EXTRA`](crate::EXTRA). The default.
    #[default]
    Evolve,
    /// The endpoint stops before the page is committed, and resumes there.
    Freeze,
    /// The value is dropped, and counted.
    DiscardValue,
    /// The record is kept in the table of rejected ones. It does not count against the
    /// [`ErrorBudget`](crate::ErrorBudget).
    DiscardRow,
}

/// What the records of a stream may have besides what is declared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contract {
    /// What is done about members that are not declared.
    pub columns: ContractMode,
    /// What is done about values that do not fit their column.
    pub types: ContractMode,
    /// Members that are not declared and may come: they are kept in [`EXTRA`](crate::EXTRA)
    /// whatever `columns` says.
    pub accept: BTreeSet<String>,
}

impl Contract {
    fn is_default(&self) -> bool {
        self.columns == ContractMode::Evolve && self.types == ContractMode::Evolve
    }

    fn mode_of(&self, departure: &Departure) -> ContractMode {
        match departure.declared {
            Some(_) => self.types,
            None if self.accept.contains(&departure.field) => ContractMode::Evolve,
            None => self.columns,
        }
    }
}

/// The contracts of a source's streams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamContracts {
    /// That of every stream that is not named.
    pub default: Contract,
    /// Those of single streams, by name.
    pub streams: BTreeMap<String, Contract>,
}

impl StreamContracts {
    /// The contract of a stream.
    pub fn of(&self, stream: &str) -> &Contract {
        self.streams.get(stream).unwrap_or(&self.default)
    }
}

/// What becomes of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ContractVerdict {
    /// It stays as it is.
    Whole,
    /// It loses these members.
    Without(Vec<String>),
    /// It is rejected for this reason.
    Rejected(String),
}

/// Holds the records of one stream to its contract.
pub(crate) struct ContractGuard {
    stream: String,
    key: Vec<String>,
    contract: Contract,
    departures: Departures,
}

impl ContractGuard {
    /// None where everything evolves.
    pub(crate) fn of(stream: &Stream, contracts: &StreamContracts) -> Option<Self> {
        let contract = contracts.of(stream.name());
        (!contract.is_default()).then(|| Self {
            stream: stream.name().to_owned(),
            key: stream.key().iter().map(ToString::to_string).collect(),
            contract: contract.clone(),
            departures: Departures::of(stream),
        })
    }

    /// Decides what becomes of a record.
    ///
    /// # Errors
    /// [`ErrorKind::Rejected`] when it breaks a frozen contract.
    pub(crate) fn hold(&mut self, record: &RawRecord) -> Result<ContractVerdict> {
        let departures = self.departures.find(record);
        let with = |wanted: ContractMode| {
            let contract = &self.contract;
            departures
                .iter()
                .filter(move |departure| contract.mode_of(departure) == wanted)
        };
        if let Some(departure) = with(ContractMode::Freeze).next() {
            return Err(self.broken(departure, record));
        }
        if let Some(departure) = with(ContractMode::DiscardRow).next() {
            return Ok(ContractVerdict::Rejected(format!(
                "contract: {}",
                described(departure)
            )));
        }
        let dropped: Vec<String> = with(ContractMode::DiscardValue)
            .map(|departure| departure.field.clone())
            .collect();
        Ok(if dropped.is_empty() {
            ContractVerdict::Whole
        } else {
            ContractVerdict::Without(dropped)
        })
    }

    fn broken(&self, departure: &Departure, record: &RawRecord) -> Error {
        let key: Vec<String> = self
            .key
            .iter()
            .filter_map(|name| record.scalar(name))
            .collect();
        let (field, stream) = (&departure.field, &self.stream);
        let (part, way) = match departure.declared {
            Some(_) => ("types", String::new()),
            None => (
                "columns",
                format!("add `{field}` to `accept` of the contract, or "),
            ),
        };
        Error::new(
            ErrorKind::Rejected,
            format!("`{stream}` breaks its contract: {}", described(departure)),
        )
        .with_context("key", key.join(", "))
        .with_help(format!(
            "nothing of the page was written; {way}set `{part}` of the contract to \"evolve\", \
             then run again: the endpoint resumes before it"
        ))
    }
}

/// The field, with its old and its new type.
fn described(
    Departure {
        field,
        declared,
        found,
    }: &Departure,
) -> String {
    match declared {
        Some(declared) => {
            let declared = in_words(*declared);
            format!("field `{field}` is declared as {declared}, and is {found}")
        }
        None => format!("field `{field}` is not declared, and is {found}"),
    }
}

/// A declared type, as a person says it.
fn in_words(declared: DataType) -> &'static str {
    match declared {
        DataType::Bool => "true or false",
        DataType::Int64 => "a whole number of 64 bits",
        DataType::Float64 | DataType::Decimal { .. } => "a number",
        DataType::String => "a string",
        DataType::Reference => "an id",
        DataType::Date => "a date",
        DataType::Timestamp(_) => "a time",
        DataType::Json => "any JSON",
        DataType::Object => "an object",
        DataType::Array => "a list",
    }
}

/// Values that an endpoint dropped, by the number of the stream and by field.
#[derive(Debug, Default)]
pub(crate) struct DroppedValues(BTreeMap<(usize, String), u64>);

impl DroppedValues {
    pub(crate) fn add(&mut self, stream: usize, field: &str, records: u64) {
        let known = (stream, field.to_owned());
        let is_counted = self.0.len() < MOST_DROPPED || self.0.contains_key(&known);
        let place = if is_counted {
            known
        } else {
            (stream, OTHER_FIELDS.to_owned())
        };
        *self.0.entry(place).or_default() += records;
    }

    /// The fields of a stream, and how many of its records had them.
    pub(crate) fn of(&self, stream: usize) -> Vec<(String, u64)> {
        let of_stream = self.0.iter().filter(|((number, _), _)| *number == stream);
        of_stream
            .map(|((_, field), records)| (field.clone(), *records))
            .collect()
    }
}
