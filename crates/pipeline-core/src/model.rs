//! What is read and how far: records, columns, progress, and the accounts that they belong to.
//! Nothing here asks a vendor.

mod availability;
pub(crate) mod coverage;
pub mod gap;
pub(crate) mod origin;
pub(crate) mod record;
pub(crate) mod run_log;
pub(crate) mod schema;
pub mod state;

pub use self::availability::Availability;
