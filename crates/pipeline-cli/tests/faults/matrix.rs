//! The table's rows, by the groups of their codes.

mod a_network;
mod b_http;
mod c_semantics;
mod d_content;
mod e_credentials;
mod f_process;
mod g_sinks;
mod h_webhooks;

pub(crate) use self::a_network::network;
pub(crate) use self::b_http::http;
pub(crate) use self::c_semantics::semantics;
pub(crate) use self::d_content::content;
pub(crate) use self::e_credentials::credentials;
pub(crate) use self::f_process::process;
pub(crate) use self::g_sinks::sinks;
pub(crate) use self::h_webhooks::{webhooks, workers};
