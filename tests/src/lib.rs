//! Checks that span crates. [`parity`] compares with numbers of other implementations, [`samples`] are small files of our own;
//! the rest of the package is one test binary with a module per theme.

pub mod parity;
pub mod samples;
