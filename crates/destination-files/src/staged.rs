//! The files that a transaction writes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use pipeline_core::{Error, Result, failpoint};
use pipeline_engine::{Generation, TableId};

use crate::card::Card;
use crate::error::Explain;
use crate::format::{FileFormat, FileWriter};
use crate::manifest::StagedFile;
use crate::names;
use crate::place::{Place, Upload};

const WRITING: &str = "writing rows";
/// A file that has grown this large is closed, and another begun.
const FILE_BYTES: u64 = 128 * 1024 * 1024;
/// Files of a transaction that are open at the same time, however many tables it writes. It leaves
/// most of the least limit that systems have, 256 on macOS, to connections.
const OPEN_FILES: usize = 12;

/// The files of a transaction, which are removed when this is dropped before they are committed.
pub(crate) struct Staged {
    place: Arc<dyn Place>,
    folder: PathBuf,
    format: Arc<dyn FileFormat>,
    /// What the open files may hold in memory together.
    buffered: usize,
    open: Vec<OpenFile>,
    files: Vec<StagedFile>,
    /// Complete files that are not where they are staged yet.
    uploads: Vec<Upload>,
    /// Calls of `write`.
    writes: u64,
}

/// A file that is not complete.
struct OpenFile {
    table: TableId,
    generation: Generation,
    schema: SchemaRef,
    path: PathBuf,
    rows: u64,
    writer: Box<dyn FileWriter>,
    /// When it was last written, as a number of `writes`.
    used: u64,
    /// The entries of its rows, where they are known.
    card: Option<Card>,
}

impl Staged {
    /// Files that will be in a folder of that place, and hold so many bytes in memory at most until
    /// they are written.
    pub(crate) fn new(
        place: Arc<dyn Place>,
        folder: PathBuf,
        format: Arc<dyn FileFormat>,
        buffered: usize,
    ) -> Self {
        Self {
            place,
            folder,
            format,
            buffered,
            open: Vec::new(),
            files: Vec::new(),
            uploads: Vec::new(),
            writes: 0,
        }
    }

    /// Adds rows to the file of a table.
    pub(crate) fn write(
        &mut self,
        table: &TableId,
        generation: Generation,
        batch: &RecordBatch,
    ) -> Result<()> {
        self.write_with(table, generation, batch, None)
    }

    /// Adds rows with their entries.
    pub(crate) fn write_with(
        &mut self,
        table: &TableId,
        generation: Generation,
        batch: &RecordBatch,
        card: Option<Card>,
    ) -> Result<()> {
        let index = self.file_for(table, generation, batch)?;
        let open = &mut self.open[index];
        open.card = if open.rows == 0 {
            card
        } else {
            open.card
                .take()
                .zip(card)
                .and_then(|(card, more)| card.join(more))
        };
        open.writer
            .write(batch)
            .map_err(|error| at(&open.path, error))?;
        open.rows += batch.num_rows() as u64;
        self.writes += 1;
        open.used = self.writes;
        if open.writer.written() >= FILE_BYTES {
            self.close(index)?;
        }
        failpoint("files-after-write");
        self.bound_memory()?;
        self.bound_files()
    }

    /// The open file of a table, begun if need be, and begun anew when the columns changed.
    fn file_for(
        &mut self,
        table: &TableId,
        generation: Generation,
        batch: &RecordBatch,
    ) -> Result<usize> {
        let schema = batch.schema();
        if let Some(index) = self
            .open
            .iter()
            .position(|open| open.table == *table && open.generation == generation)
        {
            if !self.format.has_columns() || self.open[index].schema == schema {
                return Ok(index);
            }
            self.close(index)?;
        }
        let path = names::unique(&self.folder);
        let writer = self
            .format
            .begin(self.place.begin(&path), batch)
            .inspect_err(|_| self.place.abandon(&path))?;
        self.open.push(OpenFile {
            table: table.clone(),
            generation,
            schema,
            path,
            rows: 0,
            writer,
            used: 0,
            card: None,
        });
        Ok(self.open.len() - 1)
    }

    fn bound_memory(&mut self) -> Result<()> {
        let mut buffered: usize = self.open.iter().map(|open| open.writer.buffered()).sum();
        while buffered > self.buffered {
            let Some(largest) = self
                .open
                .iter_mut()
                .max_by_key(|open| open.writer.buffered())
            else {
                break;
            };
            buffered -= largest.writer.buffered();
            largest
                .writer
                .flush()
                .map_err(|error| at(&largest.path, error))?;
        }
        Ok(())
    }

    /// Closes the files that were written longest ago, until they are written again.
    fn bound_files(&mut self) -> Result<()> {
        let mut in_use: Vec<&mut OpenFile> =
            self.open.iter_mut().filter_map(OpenFile::if_open).collect();
        if in_use.len() <= OPEN_FILES {
            return Ok(());
        }
        in_use.sort_unstable_by_key(|open| std::cmp::Reverse(open.used));
        let mut idle = in_use.into_iter().skip(OPEN_FILES);
        idle.try_for_each(|open| open.writer.output().park().explain(WRITING, &open.path))
    }

    /// Completes a file, and begins to bring it to where it is staged.
    fn close(&mut self, index: usize) -> Result<()> {
        let OpenFile {
            table,
            generation,
            path,
            rows,
            writer,
            card,
            ..
        } = self.open.remove(index);
        let finished = writer
            .finish()
            .map_err(|error| at(&path, error))
            .and_then(|output| output.complete().explain(WRITING, &path));
        let written = finished.inspect_err(|_| self.place.abandon(&path))?;
        self.uploads.push(self.place.complete(&path));
        let name = names::of(&path).unwrap_or_default().to_owned();
        self.files.push(StagedFile {
            table,
            generation,
            name,
            rows,
            bytes: written.bytes,
            hash: written.hash,
            card,
        });
        Ok(())
    }

    /// Completes all files; they are where they are staged when this returns.
    pub(crate) fn close_all(&mut self) -> Result<()> {
        while !self.open.is_empty() {
            self.close(0)?;
        }
        std::mem::take(&mut self.uploads)
            .into_iter()
            .try_for_each(Upload::wait)
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

impl OpenFile {
    fn if_open(&mut self) -> Option<&mut Self> {
        self.writer.output().is_open().then_some(self)
    }
}

fn at(path: &Path, error: Error) -> Error {
    error.with_context("path", path.display().to_string())
}

impl Drop for Staged {
    fn drop(&mut self) {
        let open = self.open.iter().map(|open| open.path.clone());
        let closed = self.files.iter().map(|file| self.folder.join(&file.name));
        self.uploads.clear();
        open.chain(closed)
            .for_each(|path| self.place.abandon(&path));
    }
}
