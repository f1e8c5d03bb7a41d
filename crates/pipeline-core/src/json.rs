//! JSON as text: proved, cut and repaired without building a tree.

pub mod lines;
pub mod mend;
pub mod scan;
