//! The destinations that this program knows. A new one is a line here and a line in `Cargo.toml`.

use pipeline_engine::DestinationRegistry;

/// What a new configuration has.
pub(crate) const DEFAULT: &str = "sqlite";

/// All destinations.
pub(crate) fn registry() -> DestinationRegistry {
    let mut registry = DestinationRegistry::default();
    registry.add::<destination_ducklake::DucklakeConfig>();
    registry.add::<destination_jsonl::JsonlConfig>();
    registry.add::<destination_parquet::ParquetConfig>();
    registry.add::<destination_postgres::PostgresConfig>();
    registry.add::<destination_sqlite::SqliteConfig>();
    registry
}
