//! Whether something can be read at all.

use serde::Serialize;

/// Whether an endpoint can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// It can.
    Available,
    /// It cannot, because of a permission, a plan or a product that is not enabled.
    Unavailable(String),
    /// It cannot, for a reason of the vendor's own or because it is not there: no permission
    /// changes that.
    Refused(String),
    /// It could not be determined.
    Failed(String),
}
