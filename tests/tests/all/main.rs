//! One binary, one module per theme.

mod parity;
