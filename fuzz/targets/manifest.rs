//! Manifests of file destinations: whatever stands there is read or refused. The first line is the
//! newest manifest's name, the rest its text.

#![no_main]

use std::fs;

use destination_files::{FileDestination, Options};
use destination_jsonl::Jsonl;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let end = data
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(data.len());
    let (name, text) = (
        String::from_utf8_lossy(&data[..end]),
        data.get(end + 1..).unwrap_or_default(),
    );
    let is_name = !name.is_empty()
        && name.len() < 100
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !is_name || name.starts_with('.') {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let manifests = folder.path().join("_manifest");
    fs::create_dir(&manifests).expect("a folder of manifests");
    fs::write(manifests.join(&*name), text).expect("a manifest");
    let _ = FileDestination::open(folder.path(), Jsonl, Options::default());
});
