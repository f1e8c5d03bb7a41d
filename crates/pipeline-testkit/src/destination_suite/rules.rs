//! The rules, each a function that a generated test calls.
#![allow(missing_docs, reason = "the names say it")]

use super::*;

mod checked;
mod columns;
mod generations;
mod storage;
mod transactions;
mod versions;

pub use self::checked::*;
pub use self::columns::*;
pub use self::generations::*;
pub use self::storage::*;
pub use self::transactions::*;
pub use self::versions::*;
