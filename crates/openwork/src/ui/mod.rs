//! Terminal side of the commands: shared arguments, results, progress, Ctrl-C.

pub mod args;
pub mod editor;
pub mod interrupt;
pub mod options;
pub mod page;
pub mod progress;
pub mod ranges;
pub mod show;
pub mod sources;
pub mod training;
