//! A place of a test's own.

use std::any::Any;
use std::fmt::{self, Debug};
use std::fs;
use std::path::Path;

use tempfile::TempDir;

/// A place of a test's own: a folder, a database or a bucket. It is removed when this is dropped.
pub struct Scratch {
    name: String,
    /// Removes the place when it is dropped.
    _held: Option<Box<dyn Any + Send + Sync>>,
}

impl Scratch {
    /// A place with the name by which another process finds it, such as a URL, and what removes it
    /// when it is dropped.
    pub fn new(name: impl Into<String>, held: impl Any + Send + Sync) -> Self {
        Self {
            name: name.into(),
            _held: Some(Box::new(held)),
        }
    }

    /// An empty folder, with nothing beside it.
    pub fn folder() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("data");
        fs::create_dir(&folder).unwrap();
        Self::new(text(&folder), parent)
    }

    /// A folder that is there already, and stays.
    pub fn at(folder: impl AsRef<Path>) -> Self {
        Self {
            name: text(folder.as_ref()),
            _held: None,
        }
    }

    /// A place of which the process that made it has given the name.
    pub(crate) fn of_another_process(name: String) -> Self {
        Self { name, _held: None }
    }

    /// The name by which another process finds it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder, if it is one.
    pub fn path(&self) -> &Path {
        Path::new(&self.name)
    }
}

impl Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scratch").field(&self.name).finish()
    }
}

fn text(path: &Path) -> String {
    path.to_str()
        .expect("folders of tests have plain names")
        .to_owned()
}

/// A folder below a file, and one that cannot be written.
pub(super) fn unusable_folders() -> Vec<Scratch> {
    let (below, locked) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(below.path().join("file"), "not a folder").unwrap();
    let folder =
        |parent: TempDir, name: &str| Scratch::new(text(&parent.path().join(name)), parent);
    let mut permissions = fs::metadata(locked.path()).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(locked.path(), permissions).unwrap();
    // The superuser writes anywhere: for it only the first place is unusable.
    let is_locked = fs::write(locked.path().join("probe"), "").is_err();
    let mut unusable = vec![folder(below, "file/below")];
    if is_locked {
        unusable.push(folder(locked, ""));
    }
    unusable
}
