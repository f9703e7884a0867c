//! Terminal side of the commands: shared arguments, results, progress, Ctrl-C.

pub mod args;
pub mod interrupt;
pub mod progress;
pub mod show;
pub mod sources;
pub mod training;
