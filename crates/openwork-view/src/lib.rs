#![doc = include_str!("../README.md")]

pub mod ask;
mod assets;
mod error;
mod export;
mod open;
mod page;
mod published;
mod serve;

pub use assets::{BUNDLE_HASH, CSS, JS};
pub use error::ViewError;
pub use export::{export, exported};
pub use open::{OpenNotice, View};
pub use page::{content_security_policy, page};
pub use serve::{Address, Server};
