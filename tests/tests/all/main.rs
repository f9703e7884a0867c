//! One binary, one module per theme.

mod kernels;
mod numbers;
mod parity;
mod rules;
mod shipped;
mod web;
