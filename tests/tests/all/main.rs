//! One binary, one module per theme.

mod parity;
mod rules;
