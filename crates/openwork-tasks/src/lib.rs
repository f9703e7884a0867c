#![doc = include_str!("../README.md")]

mod fill;
mod list;
mod pair;
mod splits;
mod task;
pub mod words;

pub use pair::{Pair, Side, Split, TextPair, sha256};
pub use splits::Splits;
pub use task::{Task, TaskError};

/// All tasks.
pub fn all() -> &'static [Task] {
    list::TASKS
}

/// The task with this name.
pub fn find(name: &str) -> Option<&'static Task> {
    all().iter().find(|task| task.name() == name)
}

#[cfg(test)]
mod tests;
