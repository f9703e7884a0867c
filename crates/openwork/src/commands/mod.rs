//! Commands of the program, a module each: arguments, one call of a library, and its result on the terminal.
//!
//! No command uses another; what several need is in [`crate::ui`], or in a library.

pub mod check_certificate;
pub mod config;
pub mod curves;
pub mod data;
pub mod debug;
pub mod devices;
pub mod dissociate;
pub mod exchange;
pub mod forward;
pub mod fsck;
pub mod generate;
pub mod hypothesis;
pub mod localise;
pub mod models;
pub mod plot;
pub mod prune;
pub mod quickstart;
pub mod recipe;
pub mod refine;
pub mod replay;
pub mod report;
pub mod stability;
pub mod tasks;
pub mod tokenize;
pub mod tokenizer;
pub mod train;
pub mod tune;
pub mod verdict;
pub mod verify;
pub mod view;
pub mod watch;
