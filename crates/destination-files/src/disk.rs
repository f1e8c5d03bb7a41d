//! The calls of the operating system, each of which a test can let fail.

use std::fs::{self, File, Metadata};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use pipeline_core::{Result, fault_point};

use crate::error::Explain;
use crate::names;

/// Makes a call, and makes it again when a signal interrupts it.
fn call<T>(operation: &str, call: impl Fn() -> io::Result<T>) -> io::Result<T> {
    loop {
        match fault_point(operation).and_then(|()| call()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Opens a file for reading.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    call("open", || File::open(path))
}

/// Creates a file that does not exist.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    call("create", || File::create_new(path))
}

/// Opens a file that exists, to write at its end.
pub(crate) fn append(path: &Path) -> io::Result<File> {
    call("open", || File::options().append(true).open(path))
}

/// Opens a file to lock it, and creates it if need be.
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    call("open", || {
        File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
    })
}

/// Writes a part of some bytes, and returns its length.
pub(crate) fn write(file: &mut File, bytes: &[u8]) -> io::Result<usize> {
    match fault_point("write") {
        // No error number: the system takes less than it was given.
        Err(error) if error.raw_os_error() == Some(0) => {
            file.write(&bytes[..bytes.len().div_ceil(2)])
        }
        Err(error) => Err(error),
        Ok(()) => file.write(bytes),
    }
}

/// Brings a file to disk.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    call("sync", || file.sync_all())
}

/// The content of a file; none: it does not exist.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match call("read", || fs::read(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Reads the next bytes of a file.
pub(crate) fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match fault_point("read").and_then(|()| file.read(buffer)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Moves a file, at once into the place of another one.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    call("rename", || fs::rename(from, to))
}

/// Gives a file another name, which must not exist.
pub(crate) fn link(from: &Path, to: &Path) -> io::Result<()> {
    call("link", || fs::hard_link(from, to))
}

/// What the system says of a file; none: it does not exist.
pub(crate) fn metadata(path: &Path) -> io::Result<Option<Metadata>> {
    match call("stat", || fs::metadata(path)) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        metadata => metadata.map(Some),
    }
}

/// Creates a folder and those that it is in.
pub(crate) fn create_folders(path: &Path) -> io::Result<()> {
    call("mkdir", || fs::create_dir_all(path))
}

/// What is in a folder; nothing when it does not exist.
pub(crate) fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match call("list", || {
        fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect()
    }) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Vec::new())
        }
        listed => listed,
    }
}

/// Removes a file that may be gone.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match call("remove", || fs::remove_file(path)) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Err(error).explain("removing a file", path)
        }
        _ => Ok(()),
    }
}

/// Makes a folder's entries durable.
pub(crate) fn sync_folder(folder: &Path, operation: &'static str) -> Result<()> {
    // Windows has no such operation and keeps entries in order by itself.
    if cfg!(unix) {
        open(folder)
            .and_then(|folder| sync(&folder))
            .explain(operation, folder)
    } else {
        Ok(())
    }
}

/// A name that nobody has used or will use.
pub(crate) fn unique_name() -> String {
    let random = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

/// Writes a new file of a unique name, which is on disk when this returns.
pub(crate) fn write_unique(
    folder: &Path,
    bytes: &[u8],
    operation: &'static str,
) -> Result<PathBuf> {
    let path = names::unique(folder);
    let written = create_new(&path).and_then(|file| {
        let mut file = Unbuffered(file);
        file.write_all(bytes).and_then(|()| sync(&file.0))
    });
    written
        .explain(operation, &path)
        .inspect_err(|_| drop(remove(&path)))?;
    Ok(path)
}

/// A file whose writes a test can let fail.
struct Unbuffered(File);

impl Write for Unbuffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(&mut self.0, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
