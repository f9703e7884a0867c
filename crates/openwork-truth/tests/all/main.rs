//! Promises of the crate: models do what their programs say, and the true circuits are true.

mod contrast;
mod inject;
mod programs;
mod tracr;
mod truth;
mod zoo;
