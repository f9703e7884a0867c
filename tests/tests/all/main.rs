//! One binary, one module per theme.

mod kernels;
mod parity;
mod rules;
