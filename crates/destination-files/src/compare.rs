//! Compares the folder with what its manifests say.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::Metadata;
use std::path::PathBuf;

use pipeline_core::{Error, ErrorKind, Result};
use pipeline_engine::{Damage, Depth, Generation, TableId};

use crate::error::Explain;
use crate::format::FileFormat;
use crate::manifest::{DataFile, Files, Fold};
use crate::place::Place;
use crate::settle::has_size;
use crate::store::Store;
use crate::{disk, names, output, rows};

const COMPARING: &str = "comparing the files with the manifests";
/// How often a comparison is begun anew because another process has committed meanwhile.
const ATTEMPTS: usize = 3;

/// A data file that is not what was written.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    path: PathBuf,
    what: String,
}

/// Data files in the folders of tables, as they are named on the disk.
#[derive(Debug, Default)]
pub(crate) struct Found(Vec<(PathBuf, String, u64)>);

impl Found {
    /// Looks into every folder in which a table could be.
    pub(crate) fn look(place: &dyn Place) -> Result<Self> {
        let found = place.data_files()?.into_iter().filter_map(|path| {
            let name = names::of(&path)?;
            let name = names::of_arrived(name).unwrap_or(name).to_owned();
            let sequence = names::sequence(&name)?;
            Some((path.parent()?.to_owned(), name, sequence))
        });
        Ok(Self(found.collect()))
    }
}

impl Store {
    /// Fails when there are files that a later commit must have written than the last one that is
    /// known: then manifests are lost, all of them or the newest, and going on would read again, or
    /// leave out, what the tables hold. `found` was looked for before the manifests were read.
    pub(crate) fn check_log(&self, found: &Found) -> Result<()> {
        let fold = self.fold();
        let tables: BTreeMap<PathBuf, &TableId> = fold
            .tables
            .keys()
            .map(|table| (self.folder(table), table))
            .collect();
        let is_early = |(folder, name, sequence): &&(PathBuf, String, u64)| {
            let waits = |table: &&TableId| {
                fold.tables
                    .get(*table)
                    .is_some_and(|files| files.next.iter().any(|file| file.name == *name))
            };
            *sequence > fold.sequence || tables.get(folder).is_some_and(waits)
        };
        let Some((folder, name, _)) = found.0.iter().find(is_early) else {
            return self.log().check_end(fold.sequence);
        };
        let message = if fold.sequence == 0 {
            "the folder `_manifest` is lost or empty, but tables hold files of earlier commits"
        } else {
            "manifests are lost: a table holds a file of a later commit than the newest manifest"
        };
        Err(Error::new(ErrorKind::Destination, message)
            .with_operation(COMPARING)
            .with_context("path", folder.join(name).display().to_string())
            .with_context("manifests", fold.sequence.to_string())
            .with_help(
                "restore `_manifest` from a backup that is as new as the tables; or choose another path, or move this folder \
                 away, and run again to read everything anew",
            ))
    }

    /// Fails when the folder holds files of another format.
    pub(crate) fn check_format(&self) -> Result<()> {
        let Some(format) = self
            .fold()
            .format()
            .filter(|format| *format != self.extension())
        else {
            return Ok(());
        };
        Err(Error::new(
            ErrorKind::ConfigInvalid,
            format!(
                "the folder holds {format} files, and the destination is of type {}",
                self.extension()
            ),
        )
        .with_context("path", self.root().display().to_string())
        .with_help(format!(
            "set the destination's `type` to \"{format}\", or choose another path"
        )))
    }

    /// The first of some files of a table that is not as large as it was written, or not there.
    pub(crate) fn damage(&self, table: &TableId, files: &[DataFile]) -> Result<Option<Broken>> {
        let _view = (!files.is_empty()).then(|| self.view([table]));
        for file in files {
            if let Some(broken) = self.look_at(table, file)? {
                return Ok(Some(broken));
            }
        }
        Ok(None)
    }

    fn look_at(&self, table: &TableId, file: &DataFile) -> Result<Option<Broken>> {
        let ([staged, arrived, placed], mut broken) = (self.places(table, file), None);
        // Nearly always it is where it belongs; otherwise in the order in which it moves, so that
        // one that is moved meanwhile is met.
        for path in [placed.clone(), staged, arrived, placed] {
            let len = match self.place().metadata(&path) {
                Ok(None) => continue,
                Ok(Some(found)) if found.is_file => found.len,
                Ok(Some(_)) => {
                    broken = Some(Broken {
                        path,
                        what: "is not a file".to_owned(),
                    });
                    continue;
                }
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    return Ok(Some(Broken {
                        path,
                        what: "cannot be read: permission denied".to_owned(),
                    }));
                }
                Err(error) => return Err(error).explain(COMPARING, &path),
            };
            if len == file.bytes {
                return Ok(None);
            }
            broken = Some(Broken {
                path,
                what: format!("has {len} bytes, and was written with {}", file.bytes),
            });
        }
        let missing = || Broken {
            path: self.folder(table).join(&file.name),
            what: "is missing".to_owned(),
        };
        Ok(Some(broken.unwrap_or_else(missing)))
    }

    /// Makes sure, before a table is written, that readers see what was committed: puts right what
    /// an earlier commit left to be moved, and compares the files with the manifests.
    ///
    /// # Errors
    /// [`ErrorKind::Destination`] when they differ.
    pub(crate) fn ready(&mut self, table: &TableId, generation: Generation) -> Result<()> {
        self.catch_up(table)?;
        let Some(files) = self.fold().tables.get(table) else {
            return Ok(());
        };
        match self.damage(table, files.of(generation))? {
            None => Ok(()),
            Some(broken) => Err(broken.error(table, generation)),
        }
    }

    /// Compares the folder with the manifests.
    pub(crate) fn verify(&mut self, depth: Depth, format: &dyn FileFormat) -> Result<Vec<Damage>> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            self.refresh()?;
            let sequence = self.fold().sequence;
            let damage = self.compare(depth, format)?;
            self.refresh()?;
            // What another process has replaced meanwhile is not damaged.
            if damage.is_empty() || self.fold().sequence == sequence || attempts == ATTEMPTS {
                return Ok(damage);
            }
        }
    }

    fn compare(&self, depth: Depth, format: &dyn FileFormat) -> Result<Vec<Damage>> {
        let _view = self.view(self.fold().tables.keys());
        let mut damages = Vec::new();
        if depth == Depth::Content {
            damages.extend(self.compare_log()?);
        }
        for (table, files) in &self.fold().tables {
            if let Some(reason) = self.hindrance(table, &files.current)? {
                let what = format!(
                    "committed files wait in `_staging`, because they cannot be moved: {reason}"
                );
                let help = format!(
                    "make sure that {} can be written, and run again",
                    self.folder(table).display()
                );
                damages.push(Damage {
                    table: Some(table.clone()),
                    what,
                    help,
                });
            }
            for generation in [Generation::Current, Generation::Next] {
                let mut broken = Vec::new();
                for file in files.of(generation) {
                    let is_whole = self.look_at(table, file)?;
                    let found = if is_whole.is_none() && depth == Depth::Content {
                        self.read_whole(table, file, format)?
                    } else {
                        is_whole
                    };
                    broken.extend(found);
                }
                damages.extend(Broken::summary(&broken, table, generation));
            }
            if self.is_read_only() {
                damages.extend(self.strange(table, files)?);
            }
        }
        Ok(damages)
    }

    /// Files that no commit names beside those of a table: what is written to the table is not
    /// touched by them, but whoever reads all files of its folder gets their rows as well. So a
    /// sync goes on, and only who looks at the folder is warned.
    fn strange(&self, table: &TableId, files: &Files) -> Result<Option<Damage>> {
        let mut strange = self.others(table, files)?.strange;
        strange.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == self.extension())
        });
        strange.sort();
        let Some((first, more)) = strange.split_first() else {
            return Ok(None);
        };
        let others = match more.len() {
            0 => String::new(),
            1 => ", nor another file beside it".to_owned(),
            more => format!(", nor {more} other files beside it"),
        };
        let what = format!(
            "no commit names {}{others}: who reads all files of the folder gets rows that are not the table's",
            first.display()
        );
        let help =
            "move out of the folder what was copied or renamed; nothing of it is needed to go on"
                .to_owned();
        Ok(Some(Damage {
            table: Some(table.clone()),
            what,
            help,
        }))
    }

    /// What keeps committed files of a table from being moved to where readers see them; none: the
    /// next run moves those that wait.
    fn hindrance(&self, table: &TableId, files: &[DataFile]) -> Result<Option<String>> {
        if let Some(pending) = self.pending.get(table) {
            return Ok(Some(pending.reason.clone()));
        }
        if self.place().is_remote() {
            return Ok(None);
        }
        let folder = self.folder(table);
        let is_usable = |found: &Metadata| found.is_dir() && !found.permissions().readonly();
        if disk::metadata(&folder)
            .explain(COMPARING, &folder)?
            .is_none_or(|found| is_usable(&found))
        {
            return Ok(None);
        }
        for file in files {
            if has_size(self.place(), &self.staging().join(&file.staged), file)? {
                return Ok(Some(format!(
                    "{} is not a folder that can be written",
                    folder.display()
                )));
            }
        }
        Ok(None)
    }

    /// Reads a file of the right size. One of an older release has no hash, and then its rows are
    /// counted.
    fn read_whole(
        &self,
        table: &TableId,
        file: &DataFile,
        format: &dyn FileFormat,
    ) -> Result<Option<Broken>> {
        let path = self.locate(table, file);
        let broken = |what: String| {
            Ok(Some(Broken {
                path: path.clone(),
                what,
            }))
        };
        if let Some(expected) = &file.hash {
            let found = self
                .place()
                .open(&path)
                .and_then(|mut file| output::hash_of(&mut file));
            match found {
                Ok(found) if found == *expected => {}
                Ok(_) => return broken("holds other bytes than were written".to_owned()),
                Err(error) => return broken(format!("cannot be read: {error}")),
            }
        }
        let mut count = 0;
        let counted = rows::read(self.place(), format, &path).and_then(|mut batches| {
            batches.try_for_each(|batch| {
                count += batch?.num_rows() as u64;
                Ok(())
            })
        });
        match counted {
            Err(error) => broken(format!("cannot be read: {error}")),
            Ok(()) if count != file.rows => broken(format!(
                "has {count} rows, and was written with {}",
                file.rows
            )),
            Ok(()) => Ok(None),
        }
    }

    /// Reads every manifest, and compares what they lead to with what the snapshot leads to.
    fn compare_log(&self) -> Result<Option<Damage>> {
        let damage = |what: String| {
            let help = "restore `_manifest` from a backup, or move the folder away and run again to read everything anew".to_owned();
            Ok(Some(Damage {
                table: None,
                what,
                help,
            }))
        };
        let mut fold = Fold::default();
        while fold.sequence < self.fold().sequence {
            let next = fold.sequence + 1;
            let applied = match self.log().manifest(next) {
                Ok(Some(manifest)) => fold.apply(manifest).map(drop),
                Ok(None) => {
                    return damage(format!(
                        "manifest {next} is missing from the log of commits"
                    ));
                }
                Err(error) => Err(error),
            };
            if let Err(error) = applied {
                return damage(format!("manifest {next} cannot be used: {error}"));
            }
        }
        if fold.agrees_with(self.fold()) {
            return Ok(None);
        }
        let help =
            "delete `_manifest/snapshot.json`: it is made again from the manifests beside it"
                .to_owned();
        Ok(Some(Damage {
            table: None,
            what: "the snapshot is not what the manifests lead to".to_owned(),
            help,
        }))
    }
}

impl Broken {
    fn error(&self, table: &TableId, generation: Generation) -> Error {
        let message = format!("a data file of the table `{}` {}", table.stream, self.what);
        Error::new(ErrorKind::Destination, message)
            .with_operation(COMPARING)
            .with_context("source", table.source.clone())
            .with_context("stream", table.stream.clone())
            .with_context("path", self.path.display().to_string())
            .with_help(ways_out(table, generation))
    }

    /// What is wrong with the files of a table; none: nothing.
    fn summary(broken: &[Self], table: &TableId, generation: Generation) -> Option<Damage> {
        let (first, more) = broken.split_first()?;
        let others = match more.len() {
            0 => String::new(),
            1 => ", and another file is damaged".to_owned(),
            more => format!(", and {more} other files are damaged"),
        };
        let what = format!("{first}{others}");
        Some(Damage {
            table: Some(table.clone()),
            what,
            help: ways_out(table, generation),
        })
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path.display(), self.what)
    }
}

fn ways_out(table: &TableId, generation: Generation) -> String {
    let TableId { source, stream } = table;
    let what = match generation {
        Generation::Current => "which replaces the table",
        Generation::Next => "which begins the refresh again that the file belongs to",
    };
    format!(
        "restore the file from a backup, or run `pipeline sync {source} --full-refresh --streams {stream}`, {what}"
    )
}
