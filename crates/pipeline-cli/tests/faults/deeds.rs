//! What is done to a scenario's folder while no sync runs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::rows;
use crate::scenario::KEY;

/// Where the right configuration is kept meanwhile.
const KEPT: &str = "pipeline.toml.kept";

fn configure(folder: &Path, edit: impl Fn(&str) -> String) {
    let file = folder.join("pipeline.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(folder.join(KEPT), &text).unwrap();
    let edited = edit(&text);
    assert_ne!(edited, text, "nothing was changed");
    fs::write(file, edited).unwrap();
}

/// Brings the right configuration back.
pub(crate) fn restored(folder: &Path) {
    fs::rename(folder.join(KEPT), folder.join("pipeline.toml")).unwrap();
}

fn base_url(text: &str, url: &str) -> String {
    let lines = text.lines().map(|line| {
        if line.starts_with("base_url") {
            format!("base_url = \"{url}\"")
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The base URL names a host that does not exist.
pub(crate) fn unknown_host(folder: &Path) {
    configure(folder, |text| base_url(text, "https://vendor.invalid"));
}

/// No server listens at the base URL.
pub(crate) fn address_without_listener(folder: &Path) {
    configure(folder, |text| base_url(text, "http://127.0.0.1:1"));
}

/// The base URL names a host that has addresses of both kinds.
pub(crate) fn localhost(folder: &Path) {
    configure(folder, |text| {
        text.replace("http://127.0.0.1", "http://localhost")
    });
}

fn secret_from(folder: &Path, content: Option<&str>, mode: u32) {
    configure(folder, |text| text.replace("${SECRET}", "file:secret"));
    if let Some(content) = content {
        fs::write(folder.join("secret"), content).unwrap();
        set_mode(&folder.join("secret"), mode);
    }
}

#[cfg(not(unix))]
fn set_mode(_path: &Path, _mode: u32) {}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The secret's file is not there.
pub(crate) fn no_secret_file(folder: &Path) {
    secret_from(folder, None, 0o600);
}

/// The secret's file is empty.
pub(crate) fn empty_secret_file(folder: &Path) {
    secret_from(folder, Some(""), 0o600);
}

/// The secret's file ends with a newline, as editors write it. It is removed when the configuration
/// is restored.
pub(crate) fn secret_file_with_newline(folder: &Path) {
    secret_from(folder, Some(&format!("{KEY}\n")), 0o600);
}

/// Every user can read the secret's file.
pub(crate) fn readable_secret_file(folder: &Path) {
    secret_from(folder, Some(KEY), 0o644);
}

/// Brings the right configuration back, and removes the secret's file, which should not be read
/// for leaks.
pub(crate) fn restored_without_secret(folder: &Path) {
    restored(folder);
    fs::remove_file(folder.join("secret")).unwrap();
}

/// Files of a stream of the lake that hold rows, sorted.
fn data_files(folder: &Path) -> Vec<PathBuf> {
    let stream = folder.join("lake/payments/charges");
    let mut files: Vec<PathBuf> = fs::read_dir(stream)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no files to damage");
    files
}

/// A data file loses its second half.
pub(crate) fn cut_data_file(folder: &Path) {
    let file = &data_files(folder)[0];
    let bytes = fs::read(file).unwrap();
    fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
}

/// A data file is empty.
pub(crate) fn empty_data_file(folder: &Path) {
    fs::write(&data_files(folder)[0], "").unwrap();
}

/// A data file is gone.
pub(crate) fn lost_data_file(folder: &Path) {
    fs::remove_file(&data_files(folder)[0]).unwrap();
}

/// Five bytes in the middle of a data file are others.
pub(crate) fn flipped_data_file(folder: &Path) {
    let file = &data_files(folder)[0];
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 5]
        .iter_mut()
        .for_each(|byte| *byte ^= 0x55);
    fs::write(file, bytes).unwrap();
}

/// The folder of the manifest is gone.
pub(crate) fn lost_manifest(folder: &Path) {
    fs::remove_dir_all(folder.join("lake/_manifest")).unwrap();
}

/// The folder of the destination is moved away, so that the next sync reads everything anew.
pub(crate) fn lake_moved_away(folder: &Path) {
    fs::rename(folder.join("lake"), folder.join("lake.old")).unwrap();
}

/// The checkpoint is cut.
pub(crate) fn torn_state(folder: &Path) {
    rows::execute(
        folder,
        "CREATE TABLE kept_state AS SELECT * FROM _pipeline_state; UPDATE _pipeline_state SET \
         state = substr(state, 1, 25)",
    );
}

/// The checkpoint has a version that is still to come.
pub(crate) fn state_of_the_future(folder: &Path) {
    let newer = "UPDATE _pipeline_state SET state = json_set(state, '$.version', 999)";
    rows::execute(
        folder,
        &format!("CREATE TABLE kept_state AS SELECT * FROM _pipeline_state; {newer}"),
    );
}

/// The checkpoint is as it was.
pub(crate) fn state_restored(folder: &Path) {
    let restore = "DELETE FROM _pipeline_state; INSERT INTO _pipeline_state SELECT * FROM \
                   kept_state; DROP TABLE kept_state";
    rows::execute(folder, restore);
}

/// The table of checkpoints is back, as it was.
pub(crate) fn state_made_again(folder: &Path) {
    rows::execute(
        folder,
        "DROP TABLE IF EXISTS _pipeline_state; ALTER TABLE pipeline_state_kept RENAME TO \
         _pipeline_state",
    );
}

/// The table of checkpoints is gone.
pub(crate) fn dropped_state(folder: &Path) {
    rows::execute(
        folder,
        "ALTER TABLE _pipeline_state RENAME TO pipeline_state_kept",
    );
}

/// Another program dropped a table.
pub(crate) fn dropped_table(folder: &Path) {
    rows::execute(folder, "DROP TABLE payments_charges");
}

/// Another program deleted the rows of a table.
pub(crate) fn emptied_table(folder: &Path) {
    rows::execute(folder, "DELETE FROM payments_charges");
}

/// The database's file is cut in half.
pub(crate) fn cut_database(folder: &Path) {
    let file = folder.join("warehouse.db");
    let bytes = fs::read(&file).unwrap();
    fs::copy(&file, folder.join("warehouse.kept")).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
}

/// The database's file is as it was.
pub(crate) fn database_restored(folder: &Path) {
    for name in ["warehouse.db-wal", "warehouse.db-shm"] {
        let _ = fs::remove_file(folder.join(name));
    }
    fs::rename(folder.join("warehouse.kept"), folder.join("warehouse.db")).unwrap();
}
