//! The front end, built by `cargo xtask web` from `web/` and committed.

/// Its script.
pub const JS: &str = include_str!("../assets/view.js");
/// Its style sheet.
pub const CSS: &str = include_str!("../assets/view.css");
/// Hashes of the sources that it was built from, and of script and style sheet, a line each.
pub const BUNDLE_HASH: &str = include_str!("../assets/sources.sha256");
