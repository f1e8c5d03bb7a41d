//! connector-stripe
