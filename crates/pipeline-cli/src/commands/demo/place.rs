//! Where the demo writes: `demo.db` in the current folder, or another destination.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pipeline_engine::{Depth, Destination};
use pipeline_simulator::{Simulator, Truth};
use serde_json::Value;

use super::proof::{self, Verdict};
use super::{STREAMS, simulate};
use crate::config::{Config, reason, suggest};
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::setup::Target;
use crate::{args, destinations, schema, units};

const DATABASE: &str = "demo.db";

/// The destination, and a folder for the rest that is removed at the end.
pub(super) struct Place {
    folder: PathBuf,
    /// The table `[destination]`.
    table: String,
    /// The file of the default destination, which can be asked questions.
    database: Option<PathBuf>,
}

impl Place {
    pub(super) fn new(args: &args::Demo) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Failure::usage(
                format!("the demo cannot write its files: {}", reason(&error)),
                "run it in a writable folder",
            )
        };
        let current = std::env::current_dir().map_err(failed)?;
        let is_default = args.destination == destinations::DEFAULT && args.settings.is_empty();
        let database = is_default.then(|| current.join(DATABASE));
        if let Some(database) = database.as_deref().filter(|database| database.exists()) {
            proof::is_demo(database)?;
            std::fs::remove_file(database).map_err(failed)?;
            for companion in ["-wal", "-shm"] {
                // There only if the demo before was interrupted.
                let _ = std::fs::remove_file(format!("{}{companion}", database.display()));
            }
        }
        let table = destination(&args.destination, &args.settings, &current)?;
        let folder = std::env::temp_dir().join(format!("pipeline-demo-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(failed)?;
        Ok(Self {
            folder,
            table,
            database,
        })
    }

    pub(super) fn config(&self) -> PathBuf {
        self.folder.join("pipeline.toml")
    }

    /// The database of the default destination.
    pub(super) fn database(&self) -> Option<&Path> {
        self.database.as_deref()
    }

    pub(super) fn write(&self, simulator: &Simulator) -> Result<()> {
        let sources = simulate::sources(simulator, "rk_live_sim");
        let mut text = format!(
            "{}\n[sync]\ncommit_interval = \"500ms\"\n\n{sources}",
            self.table
        );
        for (source, streams) in STREAMS {
            let header = format!("[sources.{source}]\n");
            text = text.replace(&header, &format!("{header}streams = {streams:?}\n"));
        }
        write_privately(&self.config(), &text).map_err(|error| {
            Failure::usage(
                format!(
                    "the demo's configuration cannot be written: {}",
                    reason(&error)
                ),
                "free some space",
            )
        })
    }

    async fn open(&self, console: &Arc<Console>) -> Result<Option<Arc<dyn Destination>>> {
        let config = Config::load(&self.config())?;
        Target::of(&config, console)?.to_read().await
    }

    /// Refuses a destination with data of sources that are named like the demo's, so that nothing
    /// of the user's is changed.
    pub(super) async fn refuse_used(&self, console: &Arc<Console>) -> Result<()> {
        let Some(destination) = self.open(console).await? else {
            return Ok(());
        };
        for (source, _) in STREAMS {
            let states = destination.states(source).await;
            if !states
                .map_err(|error| Failure::of_destination(&error))?
                .is_empty()
            {
                return Err(Failure::usage(
                    format!("the destination already contains a source `{source}`"),
                    "name another place with --set, or remove what an earlier demo wrote",
                ));
            }
        }
        Ok(())
    }

    /// Compares what is stored with the truth: record by record in the default destination, by
    /// numbers of rows in others, which then read all that they store to prove it undamaged.
    pub(super) async fn compare(&self, truth: &Truth, console: &Arc<Console>) -> Result<Verdict> {
        if let Some(database) = self.database() {
            return proof::compare(database, truth);
        }
        let Some(destination) = self.open(console).await? else {
            return Err(Failure::new(Exit::Bug, "nothing is stored", None));
        };
        let failed = |error| Failure::of_destination(&error);
        let status = destination.status(0).await.map_err(failed)?;
        let damages = destination.verify(Depth::Content).await.map_err(failed)?;
        Ok(proof::count(&status, &damages, truth))
    }

    /// What to type next.
    pub(super) fn next(&self, elapsed: Duration) -> String {
        let explore = match self.database {
            Some(_) => format!(
                "Explore the database {DATABASE}:\n  sqlite3 {DATABASE} 'SELECT currency, count(*), \
                 sum(amount) FROM payments_charges GROUP BY 1'"
            ),
            None => "The README of the destination shows how its tables are read.".to_owned(),
        };
        format!(
            "\nFinished in {}. {explore}\n\nWith your own account:\n  pipeline init --connector \
             stripe\n  export STRIPE_API_KEY=rk_live_…\n  pipeline check && pipeline sync\n\
             (`pipeline` is target/release/pipeline; `cargo install --path crates/pipeline-cli` puts \
             it on your path)\n",
            units::short(elapsed)
        )
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Writes a file that only its owner may read, as settings may be secrets.
fn write_privately(path: &Path, text: &str) -> std::io::Result<()> {
    // A demo that was killed may have left one.
    let _ = std::fs::remove_file(path);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}

/// The table of a destination with the given settings. Paths are below `folder`; one that is
/// required and not given is named after the demo.
fn destination(name: &str, settings: &[String], folder: &Path) -> Result<String> {
    let registry = destinations::registry();
    let known: Vec<&str> = registry.names().collect();
    let spec = registry.spec(name).map_err(|_| {
        Failure::usage(
            format!("unknown destination `{name}`"),
            &suggest(name, "destinations", known),
        )
    })?;
    let mut given = Vec::new();
    for setting in settings {
        let (member, value) = setting.split_once('=').ok_or_else(|| {
            Failure::usage(
                format!("`--set {setting}` has no value"),
                "write it as --set NAME=VALUE",
            )
        })?;
        given.push((member.to_owned(), value.to_owned()));
    }
    let properties = schema::properties(spec);
    for property in properties.iter().filter(|property| property.required) {
        if given.iter().any(|(member, _)| member == property.name) {
            continue;
        }
        let own = if name == destinations::DEFAULT {
            DATABASE.to_owned()
        } else {
            format!("demo-{name}")
        };
        if !property.is_path(&own) {
            return Err(Failure::usage(
                format!("the destination {name} needs `{}`", property.name),
                &format!("add --set {}=…", property.name),
            ));
        }
        given.push((property.name.to_owned(), own));
    }
    let mut text = format!("[destination]\ntype = \"{name}\"\n");
    for (member, value) in given {
        let property = properties.iter().find(|property| property.name == member);
        let value = match property {
            Some(property) if property.is_path(&value) => folder.join(value).display().to_string(),
            _ => value,
        };
        // A JSON string is a TOML string, with the same escapes.
        let _ = writeln!(text, "{member} = {}", Value::from(value));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn table(name: &str, settings: &[&str]) -> Result<String> {
        let settings: Vec<String> = settings.iter().map(|text| (*text).to_owned()).collect();
        destination(name, &settings, Path::new("/here"))
    }

    #[test]
    fn settings_become_a_table_with_whole_paths() {
        assert_eq!(
            table("postgres", &["url=${DATABASE_URL}", "tls=off"]).unwrap(),
            "[destination]\ntype = \"postgres\"\nurl = \"${DATABASE_URL}\"\ntls = \"off\"\n"
        );
        assert_eq!(
            table("parquet", &[]).unwrap(),
            "[destination]\ntype = \"parquet\"\npath = \"/here/demo-parquet\"\n"
        );
        assert_eq!(
            table(
                "jsonl",
                &["path=s3://bucket/demo", "storage.region=eu-west-1"]
            )
            .unwrap(),
            "[destination]\ntype = \"jsonl\"\npath = \"s3://bucket/demo\"\n\
             storage.region = \"eu-west-1\"\n"
        );
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        for (name, settings, message) in [
            ("postgres", &[][..], "the destination postgres needs `url`"),
            ("oracle", &[], "unknown destination `oracle`"),
            ("jsonl", &["path"], "`--set path` has no value"),
        ] {
            let failure = table(name, settings).unwrap_err();
            assert!(failure.text.contains(message), "{}", failure.text);
        }
    }
}
