//! What the transactions of one process share, and what one of them has at hand.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use destination_sqlite::bookkeeping::Explain;
use pipeline_core::{Clock, Result, SystemClock};
use rusqlite::{Connection, params};

use crate::catalog::random;
use crate::snapshot::Snapshot;

const BEGINNING: &str = "opening a transaction";

/// Where files go, and how those of this process are named.
#[derive(Clone, Debug)]
pub(crate) struct Lake {
    /// The folder of the data files.
    pub(crate) data: PathBuf,
    /// What names of files of this process begin with, after [`PREFIX`].
    pub(crate) writer: String,
    /// Bytes of memory that files being written may take.
    pub(crate) memory: usize,
}

/// What names of all our files begin with.
pub(crate) const PREFIX: &str = "pipeline-";

impl Lake {
    /// Registers this process as a writer of files, unless it is: what it leaves behind when it dies
    /// can be found by its name.
    pub(crate) fn announce(&self, connection: &Connection) -> Result<()> {
        connection
            .execute(
                "INSERT OR IGNORE INTO _pipeline_writers VALUES (?, ?)",
                params![self.writer, SystemClock.now().to_rfc3339()],
            )
            .explain(BEGINNING)
            .map(drop)
    }

    /// True while this process is registered.
    pub(crate) fn is_announced(&self, connection: &Connection) -> Result<bool> {
        connection
            .prepare_cached("SELECT 1 FROM _pipeline_writers WHERE writer = ?")
            .and_then(|mut select| select.exists([&self.writer]))
            .explain(BEGINNING)
    }
}

/// What an open transaction has done besides what is in the catalogue.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) lake: Lake,
    pub(crate) snapshot: Snapshot,
    /// The number of the commit that it will be.
    pub(crate) sequence: i64,
    /// Files from this number on are of this transaction.
    pub(crate) first_file: i64,
    /// Files of which rows were deleted, this transaction's own included.
    pub(crate) touched: BTreeSet<i64>,
    /// Files that it has made: removed with it.
    pub(crate) made: Vec<PathBuf>,
    /// Files that nobody needs once it has committed.
    pub(crate) needless: Vec<PathBuf>,
}

impl Work {
    pub(crate) fn begin(connection: &Connection, lake: Lake) -> Result<Self> {
        let number = |sql: &str| {
            connection
                .query_row(sql, [], |row| row.get::<_, i64>(0))
                .explain(BEGINNING)
        };
        Ok(Self {
            snapshot: Snapshot::begin(connection)?,
            sequence: number("SELECT coalesce(max(sequence), 0) + 1 FROM _pipeline_commits")?,
            first_file: number(
                "SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = '_pipeline_files'",
            )?,
            lake,
            touched: BTreeSet::new(),
            made: Vec::new(),
            needless: Vec::new(),
        })
    }

    /// A name for a new file, which is removed unless the transaction commits.
    pub(crate) fn new_file(
        &mut self,
        connection: &Connection,
        folder: &Path,
        suffix: &str,
    ) -> Result<(String, PathBuf)> {
        let random = random(connection).explain("naming a data file")?;
        let name = format!(
            "{PREFIX}{}-{}{suffix}.parquet",
            self.lake.writer,
            &random[..12]
        );
        let path = folder.join(&name);
        self.made.push(path.clone());
        Ok((name, path))
    }
}
