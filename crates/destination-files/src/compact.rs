//! Merges small files of a table into larger ones, so that their number stays small however often
//! there is a commit.
//!
//! Merging is a commit like any other: it names the new file in the place of the last one that it
//! was made of, and removes those before. Every row stays as it is, and in its order. Files are
//! merged when some that are next to each other are all small, so that each row is written again
//! once for each of a few sizes, and not in every run.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, new_null_array};
use arrow_schema::{Schema, SchemaRef};
use pipeline_core::{Error, ErrorKind, Result, RunRecord};
use pipeline_engine::{Commit, TableId};

use crate::error::{Explain, damaged};
use crate::format::{FileFormat, FileWriter};
use crate::manifest::{DataFile, Rewritten};
use crate::output::hash_of;
use crate::store::Store;
use crate::{names, rows};

const MERGING: &str = "merging data files";
/// Files that are merged at least.
const FEWEST: usize = 8;
/// Small files of a table from which on any that are next to each other are merged.
const MANY: usize = 40;
/// Files that are merged at most, which bounds the requests.
const MOST: usize = 512;
/// A file of this size is not merged any more.
const LARGE: u64 = 64 << 20;
/// Bytes that one run reads to merge files of all its tables.
const BUDGET: u64 = 256 << 20;

/// Merges small files of the tables that this process has written, in one commit.
///
/// # Errors
/// [`ErrorKind::CheckpointConflict`] when another process has replaced the files; then nothing was
/// done, as after any other error before the commit.
pub(crate) fn compact(
    store: &mut Store,
    format: &Arc<dyn FileFormat>,
    run: &RunRecord,
) -> Result<()> {
    store.refresh()?;
    let mut merged = Merged {
        store,
        rewritten: Vec::new(),
    };
    let mut budget = BUDGET;
    for table in merged.store.written() {
        let files = merged.store.fold().tables.get(&table);
        let files = files.map(|files| files.current.clone()).unwrap_or_default();
        let Some(range) = select(&files) else {
            continue;
        };
        let files = &files[range];
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        if bytes > budget || merged.store.damage(&table, files)?.is_some() {
            // What is damaged is not made to look whole.
            continue;
        }
        budget -= bytes;
        merged.merge(&**format, &table, files)?;
    }
    merged.commit(format, run)
}

/// The files of a table that are merged next, if any: those next to each other of which enough are
/// of one class and the others smaller. So a row is written again about once for each class.
///
/// Where sizes vary so that this leaves many files, the smallest are merged that make enough
/// together.
fn select(files: &[DataFile]) -> Option<Range<usize>> {
    let same = |run: &[DataFile], largest| {
        let is_it = |file: &&DataFile| class(file.bytes) == largest;
        run.iter().filter(is_it).count()
    };
    let small = |file: &&DataFile| file.bytes < LARGE;
    let are_many = files.iter().filter(small).count() > MANY;
    first_run(files, same).or_else(|| {
        are_many
            .then(|| first_run(files, |run, _| run.len()))
            .flatten()
    })
}

/// The first files next to each other, none larger than a class, that count enough.
fn first_run(
    files: &[DataFile],
    count: impl Fn(&[DataFile], u32) -> usize,
) -> Option<Range<usize>> {
    (0..class(LARGE)).find_map(|largest| {
        let mut start = 0;
        for end in 0..=files.len() {
            let file = files.get(end);
            if file.is_some_and(|file| class(file.bytes) <= largest) {
                continue;
            }
            let run = &files[start..end];
            if count(run, largest) >= FEWEST {
                return Some(start..start + enough(run));
            }
            start = end + 1;
        }
        None
    })
}

/// How many of some files make a large one.
fn enough(files: &[DataFile]) -> usize {
    let mut bytes = 0;
    let until = files.iter().position(|file| {
        bytes += file.bytes;
        bytes >= LARGE
    });
    until.map_or(files.len(), |last| last + 1).min(MOST)
}

/// Files of one class differ by a factor of eight at most.
fn class(bytes: u64) -> u32 {
    (bytes >> 10)
        .checked_ilog2()
        .map_or(0, |log| log.div_ceil(3))
}

/// Files that are to take the place of others; they are removed unless they are committed.
struct Merged<'a> {
    store: &'a mut Store,
    rewritten: Vec<Rewritten>,
}

impl Merged<'_> {
    fn merge(
        &mut self,
        format: &dyn FileFormat,
        table: &TableId,
        files: &[DataFile],
    ) -> Result<()> {
        let Some((last, before)) = files.split_last() else {
            return Ok(());
        };
        let Some(file) = write(self.store, format, table, files)? else {
            return Ok(());
        };
        let rewritten = |from: &DataFile, to| Rewritten {
            table: table.clone(),
            from: from.staged.clone(),
            to,
        };
        self.rewritten.push(rewritten(last, Some(file)));
        self.rewritten
            .extend(before.iter().map(|file| rewritten(file, None)));
        Ok(())
    }

    fn commit(mut self, format: &Arc<dyn FileFormat>, run: &RunRecord) -> Result<()> {
        if self.rewritten.is_empty() {
            return Ok(());
        }
        let commit = Commit {
            run: run.run.clone(),
            at: run.started + run.took.unwrap_or_default(),
            ..Commit::default()
        };
        let nothing = |store: &Store| Ok(store.stage(format));
        let committed = self
            .store
            .commit_with(&[], &self.rewritten, &commit, nothing);
        // After any other failure a manifest may name the files: the next start knows.
        if !committed
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::CheckpointConflict)
        {
            self.rewritten.clear();
        }
        committed.map(drop)
    }
}

impl Drop for Merged<'_> {
    fn drop(&mut self) {
        for file in self.rewritten.iter().filter_map(|file| file.to.as_ref()) {
            let staged = self.store.staging().join(&file.staged);
            self.store.place().abandon(&staged);
        }
    }
}

/// Writes the rows of some files to another one. None: their columns differ in type, so that no
/// file can hold them all.
fn write(
    store: &Store,
    format: &dyn FileFormat,
    table: &TableId,
    files: &[DataFile],
) -> Result<Option<DataFile>> {
    let place = store.place();
    let mut opened = Vec::with_capacity(files.len());
    for file in files {
        let path = store.locate(table, file);
        check(store, &path, file)?;
        opened.push(path);
    }
    let Some(schema) = common(store, format, &opened)? else {
        return Ok(None);
    };
    let path = names::unique(&store.staging());
    let write = || {
        let (mut output, mut writer) = (Some(place.begin(&path)), None);
        let mut count = 0;
        for source in &opened {
            for batch in rows::read(place, format, source)? {
                let batch = fit(&batch?, schema.as_ref())?;
                if let Some(output) = output.take() {
                    writer = Some(format.begin(output, &batch)?);
                }
                if let Some(writer) = &mut writer {
                    write_bounded(&mut **writer, &batch, store.buffered())?;
                }
                count += batch.num_rows() as u64;
            }
        }
        let done = match (writer, output) {
            (Some(writer), _) => writer.finish()?,
            (None, Some(output)) => output,
            (None, None) => unreachable!("the file is in the writer"),
        };
        let written = done.complete().explain(MERGING, &path)?;
        place.complete(&path).wait().map(|()| (written, count))
    };
    let (written, count) = write().inspect_err(|_| place.abandon(&path))?;
    let rows = files.iter().map(|file| file.rows).sum();
    if count != rows {
        place.abandon(&path);
        return Err(
            damaged("a data file has other rows than were written", &path).with_operation(MERGING),
        );
    }
    let staged = names::of(&path).unwrap_or_default().to_owned();
    let last = files.last().map_or("", |file| &file.name);
    Ok(Some(DataFile {
        name: names::merged(last, &staged, format.extension()),
        staged,
        rows,
        bytes: written.bytes,
        hash: Some(written.hash),
    }))
}

/// Fails when a file holds other bytes than were written: merged, it would look whole.
fn check(store: &Store, path: &Path, file: &DataFile) -> Result<()> {
    let Some(expected) = &file.hash else {
        return Ok(());
    };
    let found = store
        .place()
        .open(path)
        .and_then(|mut file| hash_of(&mut file))
        .explain(MERGING, path)?;
    if found == *expected {
        Ok(())
    } else {
        Err(
            damaged("a data file holds other bytes than were written", path)
                .with_operation(MERGING),
        )
    }
}

fn write_bounded(writer: &mut dyn FileWriter, batch: &RecordBatch, buffered: usize) -> Result<()> {
    writer.write(batch)?;
    if writer.buffered() > buffered {
        writer.flush()?;
    }
    Ok(())
}

/// The columns of all files, where each file has columns of its own. None: a format without columns.
type Columns = Option<SchemaRef>;

/// None: a column has two types.
fn common(
    store: &Store,
    format: &dyn FileFormat,
    files: &[std::path::PathBuf],
) -> Result<Option<Columns>> {
    if !format.has_columns() {
        return Ok(Some(None));
    }
    let mut schemas = Vec::new();
    for path in files {
        if let Some(batch) = rows::read(store.place(), format, path)?.next() {
            let mut fields = Vec::new();
            for field in batch?.schema().fields() {
                fields.push(field.as_ref().clone().with_nullable(true));
            }
            schemas.push(Schema::new(fields));
        }
    }
    Ok(Schema::try_merge(schemas)
        .ok()
        .map(|schema| Some(Arc::new(schema))))
}

/// A batch with the columns of all files: those that it lacks are null.
fn fit(batch: &RecordBatch, schema: Option<&SchemaRef>) -> Result<RecordBatch> {
    let Some(schema) = schema else {
        return Ok(batch.clone());
    };
    let column = |field: &arrow_schema::FieldRef| -> ArrayRef {
        match batch.column_by_name(field.name()) {
            Some(column) => Arc::clone(column),
            None => new_null_array(field.data_type(), batch.num_rows()),
        }
    };
    let columns = schema.fields().iter().map(column).collect();
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| {
        Error::new(ErrorKind::Unexpected, "rows of files cannot be joined").with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: usize, bytes: u64) -> DataFile {
        DataFile {
            name: format!("{number:010}-000000-0123456789ab.x"),
            staged: number.to_string(),
            rows: 1,
            bytes,
            hash: None,
        }
    }

    /// Merges until nothing is to be merged, as runs do one after the other.
    fn merge(files: &mut Vec<DataFile>) -> u64 {
        let Some(range) = select(files) else { return 0 };
        let bytes: u64 = files[range.clone()].iter().map(|file| file.bytes).sum();
        let last = range.end - 1;
        files[last].bytes = bytes;
        files.drain(range.start..last);
        bytes
    }

    #[test]
    fn a_year_of_hourly_commits_leaves_tens_of_files() {
        for each in [100, 3_000, 40_000, 700_000] {
            let (mut files, mut read, mut most) = (Vec::new(), 0, 0);
            for number in 0..8_760 {
                files.push(file(number, each));
                read += merge(&mut files);
                most = most.max(files.len());
            }
            let large = files.iter().filter(|file| file.bytes >= LARGE).count();
            assert!(most - large <= 50, "{each}: {most} files, {large} large");
            assert!(files.is_sorted_by_key(|file| file.name.clone()));
            let rewritten = read / (8_760 * each);
            assert!(
                rewritten <= 8,
                "{each}: each row is written {rewritten} times"
            );
        }
    }

    #[test]
    fn commits_of_every_size_are_merged() {
        let (mut files, mut seed) = (Vec::new(), 1_u64);
        for number in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            files.push(file(number, 1 << (seed >> 60)));
            merge(&mut files);
        }
        assert!(files.len() <= 50, "{}", files.len());
    }

    #[test]
    fn what_is_large_or_alone_stays() {
        let large = vec![file(1, LARGE); 20];
        assert_eq!(select(&large), None);
        let few = vec![file(1, 10); FEWEST - 1];
        assert_eq!(select(&few), None);
        // Small ones between large ones are not next to each other.
        let mixed: Vec<_> = (0..40)
            .map(|number| file(number, if number % 8 == 0 { LARGE } else { 10 }))
            .collect();
        assert_eq!(select(&mixed), None);
        assert_eq!(select(&vec![file(1, 10); 9]), Some(0..9));
        assert_eq!(select(&vec![file(1, LARGE / 2); 9]), Some(0..2));
    }
}
