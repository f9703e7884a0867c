//! What the crate promises: models do what their programs say, and the true circuits are true.

mod programs;
mod tracr;
mod truth;
