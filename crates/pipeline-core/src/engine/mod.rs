//! The sync engine.

pub mod decode;
