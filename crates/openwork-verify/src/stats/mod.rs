//! Intervals, p-values and tests.

pub mod equivalence;
pub mod intervals;
