//! Unit tests of the paginators.
