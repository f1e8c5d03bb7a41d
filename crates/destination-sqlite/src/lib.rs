//! destination-sqlite
