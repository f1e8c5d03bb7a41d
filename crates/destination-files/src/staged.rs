//! The files that a transaction writes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use pipeline_core::{Error, Generation, Result, TableId, crash_point};

use crate::card::Card;
use crate::error::Explain;
use crate::format::{FileFormat, FileWriter};
use crate::log::create_unique;
use crate::manifest::StagedFile;
use crate::store;

const WRITING: &str = "writing rows";
/// A file that has grown this large is closed, and another begun.
const FILE_BYTES: u64 = 128 * 1024 * 1024;
/// What the open files of a transaction may hold in memory together.
const BUFFERED_BYTES: usize = 128 * 1024 * 1024;

/// The files of a transaction, which are removed when this is dropped before they are committed.
pub(crate) struct Staged {
    folder: PathBuf,
    format: Arc<dyn FileFormat>,
    open: Vec<OpenFile>,
    files: Vec<StagedFile>,
}

struct OpenFile {
    table: TableId,
    generation: Generation,
    schema: SchemaRef,
    path: PathBuf,
    rows: u64,
    writer: Box<dyn FileWriter>,
    /// The entries of its rows, where they are known.
    card: Option<Card>,
}

impl Staged {
    /// Files that will be in that folder.
    pub(crate) fn new(folder: PathBuf, format: Arc<dyn FileFormat>) -> Self {
        Self { folder, format, open: Vec::new(), files: Vec::new() }
    }

    /// Adds rows to the file of a table.
    pub(crate) fn write(&mut self, table: &TableId, generation: Generation, batch: &RecordBatch) -> Result<()> {
        self.write_with(table, generation, batch, None)
    }

    /// Adds rows with their entries.
    pub(crate) fn write_with(&mut self, table: &TableId, generation: Generation, batch: &RecordBatch, card: Option<Card>) -> Result<()> {
        let index = self.file_for(table, generation, batch)?;
        let open = &mut self.open[index];
        open.card = if open.rows == 0 { card } else { open.card.take().zip(card).and_then(|(card, more)| card.join(more)) };
        open.writer.write(batch).map_err(|error| at(&open.path, error))?;
        open.rows += batch.num_rows() as u64;
        if open.writer.written() >= FILE_BYTES {
            self.close(index)?;
        }
        crash_point("files-after-write");
        self.bound_memory()
    }

    /// The open file of a table, begun if need be, and begun anew when the columns changed.
    fn file_for(&mut self, table: &TableId, generation: Generation, batch: &RecordBatch) -> Result<usize> {
        let schema = batch.schema();
        if let Some(index) = self.open.iter().position(|open| open.table == *table && open.generation == generation) {
            if !self.format.has_columns() || self.open[index].schema == schema {
                return Ok(index);
            }
            self.close(index)?;
        }
        let (path, file) = create_unique(&self.folder, WRITING)?;
        let writer = self.format.begin(file, batch).inspect_err(|_| drop(store::remove(&path)))?;
        self.open.push(OpenFile { table: table.clone(), generation, schema, path, rows: 0, writer, card: None });
        Ok(self.open.len() - 1)
    }

    fn bound_memory(&mut self) -> Result<()> {
        let mut buffered: usize = self.open.iter().map(|open| open.writer.buffered()).sum();
        while buffered > BUFFERED_BYTES {
            let Some(largest) = self.open.iter_mut().max_by_key(|open| open.writer.buffered()) else { break };
            buffered -= largest.writer.buffered();
            largest.writer.flush().map_err(|error| at(&largest.path, error))?;
        }
        Ok(())
    }

    /// Completes a file; it is on disk when this returns.
    fn close(&mut self, index: usize) -> Result<()> {
        let OpenFile { table, generation, path, rows, writer, card, .. } = self.open.remove(index);
        let finish = || {
            let file = writer.finish().map_err(|error| at(&path, error))?;
            file.sync_all().and_then(|()| file.metadata()).explain(WRITING, &path)
        };
        let bytes = finish().inspect_err(|_| drop(store::remove(&path)))?.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.files.push(StagedFile { table, generation, name, rows, bytes, card });
        Ok(())
    }

    /// Completes all files.
    pub(crate) fn close_all(&mut self) -> Result<()> {
        while !self.open.is_empty() {
            self.close(0)?;
        }
        Ok(())
    }

    /// The files that are complete.
    pub(crate) fn files(&self) -> &[StagedFile] {
        &self.files
    }

    /// Takes complete files out.
    pub(crate) fn take_files(&mut self, wanted: impl Fn(&StagedFile) -> bool) -> Vec<StagedFile> {
        self.files.extract_if(.., |file| wanted(file)).collect()
    }

    /// Takes files of the same folder in, before its own.
    pub(crate) fn adopt(&mut self, files: Vec<StagedFile>) {
        self.files.splice(..0, files);
    }

    /// Leaves the files to a manifest that may name them: the next start knows.
    pub(crate) fn leave(&mut self) {
        self.files.clear();
    }
}

fn at(path: &Path, error: Error) -> Error {
    error.with_context("path", path.display().to_string())
}

impl Drop for Staged {
    fn drop(&mut self) {
        let open = self.open.iter().map(|open| open.path.clone());
        let closed = self.files.iter().map(|file| self.folder.join(&file.name));
        for path in open.chain(closed) {
            // What cannot be removed now is removed when the folder is next opened.
            let _ = store::remove(&path);
        }
    }
}
