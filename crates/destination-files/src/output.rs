//! The file that a writer fills.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::disk;

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 256 * 1024;

/// The file of a [`FileWriter`](crate::FileWriter): it takes bytes, and counts and hashes them. The
/// file is created when the first bytes leave memory. It can be closed in between, so that a
/// transaction of many tables needs few open files.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    file: Option<File>,
    is_created: bool,
    /// False for a draft, which is of no use once this process has ended.
    is_durable: bool,
    buffer: Vec<u8>,
    hasher: blake3::Hasher,
    bytes: u64,
}

/// A complete file.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) hash: String,
}

impl Output {
    /// A file that will be there.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            is_created: false,
            is_durable: true,
            buffer: Vec::new(),
            hasher: blake3::Hasher::new(),
            bytes: 0,
        }
    }

    /// A file that is copied to where it belongs when it is complete.
    pub(crate) fn draft(path: PathBuf) -> Self {
        Self {
            is_durable: false,
            ..Self::new(path)
        }
    }

    /// Bytes held in memory.
    pub fn held(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes taken so far.
    pub fn taken(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Closes the file until more is to be written. What was written is on disk then, because the
    /// system tells of a failure only those who had the file open.
    pub(crate) fn park(&mut self) -> io::Result<()> {
        match self.file.take() {
            Some(file) if self.is_durable => disk::sync(&file),
            _ => Ok(()),
        }
    }

    /// Completes the file, which is on disk when this returns.
    pub(crate) fn complete(mut self) -> io::Result<Written> {
        self.flush()?;
        let is_durable = self.is_durable;
        let file = self.file()?;
        if is_durable {
            disk::sync(file)?;
        }
        Ok(Written {
            bytes: self.bytes,
            hash: hash(&self.hasher),
        })
    }

    fn file(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None if self.is_created => disk::append(&self.path)?,
            None => disk::create_new(&self.path)?,
        };
        self.is_created = true;
        Ok(self.file.insert(file))
    }

    fn write_through(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let file = self.file()?;
        while !bytes.is_empty() {
            match disk::write(file, bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.flush()?;
        }
        if bytes.len() >= BUFFER_BYTES {
            self.write_through(bytes)?;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    /// Writes what is held in memory.
    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = self.write_through(&buffer);
        buffer.clear();
        self.buffer = buffer;
        written
    }
}

/// The hash of a file that is read from its beginning.
pub(crate) fn hash_of(file: &mut File) -> io::Result<String> {
    let (mut hasher, mut buffer) = (blake3::Hasher::new(), vec![0; BUFFER_BYTES]);
    loop {
        match disk::read_some(file, &mut buffer)? {
            0 => return Ok(hash(&hasher)),
            read => hasher.update(&buffer[..read]),
        };
    }
}

/// Half of the hash, which is long enough to notice damage, and keeps manifests short.
fn hash(hasher: &blake3::Hasher) -> String {
    hasher.finalize().to_hex()[..32].to_owned()
}
