//! The actions in an entry of a Delta log, of which each is a line.

use std::collections::BTreeMap;
use std::io;

use pipeline_core::Result;
use serde::{Deserialize, Serialize};

use super::{READING, guid};
use crate::disk;
use crate::error::Explain;
use crate::format::Bound;
use crate::manifest::DataFile;

/// What an entry does. Others are of other programs, which must not write our tables.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Action {
    CommitInfo(CommitInfo),
    Protocol(Protocol),
    MetaData(MetaData),
    Txn(Txn),
    Remove(Remove),
    Add(Add),
}

/// What a reader and a writer must be able to do: the least that there is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Protocol {
    min_reader_version: u32,
    min_writer_version: u32,
}

impl Default for Protocol {
    fn default() -> Self {
        Self {
            min_reader_version: 1,
            min_writer_version: 2,
        }
    }
}

/// What the table is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MetaData {
    id: String,
    format: Format,
    schema_string: String,
    partition_columns: Vec<String>,
    configuration: BTreeMap<String, String>,
    created_time: i64,
}

impl MetaData {
    /// A table with other columns than before, or a new one.
    pub(super) fn new(before: Option<&Self>, fields: &[Field], at: i64) -> Result<Self> {
        let schema = Struct {
            kind: "struct".to_owned(),
            fields: fields.to_vec(),
        };
        Ok(Self {
            id: before.map_or_else(guid, |before| before.id.clone()),
            format: Format::default(),
            schema_string: encoded(&schema)?,
            partition_columns: Vec::new(),
            configuration: BTreeMap::new(),
            created_time: before.map_or(at, |before| before.created_time),
        })
    }

    pub(super) fn fields(&self) -> Result<Vec<Field>> {
        let schema: Struct = serde_json::from_str(&self.schema_string)
            .map_err(io::Error::from)
            .explain(READING, "_delta_log".as_ref())?;
        Ok(schema.fields)
    }
}

/// How the data files are read.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Format {
    provider: String,
    options: BTreeMap<String, String>,
}

impl Default for Format {
    fn default() -> Self {
        Self {
            provider: "parquet".to_owned(),
            options: BTreeMap::new(),
        }
    }
}

/// The columns of the table.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Struct {
    #[serde(rename = "type")]
    kind: String,
    fields: Vec<Field>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Field {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    nullable: bool,
    metadata: BTreeMap<String, String>,
}

impl Field {
    pub(super) fn new(name: &str, kind: String) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            nullable: true,
            metadata: BTreeMap::new(),
        }
    }
}

/// The commit that the entry is of.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Txn {
    pub(super) app_id: String,
    pub(super) version: u64,
    pub(super) last_updated: i64,
}

/// A file that the table no longer contains.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remove {
    pub(super) path: String,
    pub(super) deletion_timestamp: i64,
    pub(super) data_change: bool,
}

/// A file of the table.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Add {
    pub(super) path: String,
    partition_values: BTreeMap<String, String>,
    size: u64,
    modification_time: i64,
    data_change: bool,
    stats: String,
    pub(super) tags: Tags,
}

impl Add {
    pub(super) fn new(
        file: &DataFile,
        at: i64,
        data_change: bool,
        statistics: &Statistics,
    ) -> Result<Self> {
        Ok(Self {
            path: file.name.clone(),
            partition_values: BTreeMap::new(),
            size: file.bytes,
            modification_time: at,
            data_change,
            stats: encoded(statistics)?,
            tags: Tags {
                staged: file.staged.clone(),
                rows: file.rows.to_string(),
            },
        })
    }

    /// Rows in it.
    pub(super) fn rows(&self) -> u64 {
        self.tags.rows.parse().unwrap_or_default()
    }
}

/// What we say of a file to ourselves.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Tags {
    /// A name that no two files share, also where one of the same name takes its place.
    pub(super) staged: String,
    rows: String,
}

/// What readers skip files by.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Statistics {
    pub(super) num_records: u64,
    pub(super) min_values: BTreeMap<String, Bound>,
    pub(super) max_values: BTreeMap<String, Bound>,
    pub(super) null_count: BTreeMap<String, u64>,
}

/// Where the entry comes from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CommitInfo {
    timestamp: i64,
    operation: String,
    operation_parameters: BTreeMap<String, String>,
    engine_info: String,
    /// Random, so that an entry in a bucket is recognised by who has written it.
    txn_id: String,
}

impl CommitInfo {
    pub(super) fn new(timestamp: i64, is_merge: bool) -> Self {
        Self {
            timestamp,
            operation: if is_merge { "OPTIMIZE" } else { "WRITE" }.to_owned(),
            operation_parameters: BTreeMap::new(),
            engine_info: concat!("pipeline/", env!("CARGO_PKG_VERSION")).to_owned(),
            txn_id: disk::unique_name(),
        }
    }
}

/// An entry as it is stored.
pub(super) fn encode(entry: &[Action]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for action in entry {
        serde_json::to_writer(&mut bytes, action)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// The actions of an entry.
pub(super) fn decode(bytes: &[u8]) -> serde_json::Result<Vec<Action>> {
    serde_json::Deserializer::from_slice(bytes)
        .into_iter()
        .collect()
}

fn encoded(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(io::Error::from)
        .explain(super::PROJECTING, "_delta_log".as_ref())
}
