//! Limits that the vendor does not publish: learned from what it refuses.

pub(crate) mod controller;
#[cfg(test)]
mod tests;
pub(crate) mod window;
