//! Code that the benchmarks share. The programs are in `src/bin`, one folder each, and are called through
//! `cargo xtask bench`: `kernels` and `step` measure speed beside other implementations ([`Peers`]), `search` that of a search for circuits,
//! `quality` what the faster training modes cost in validation loss.
//!
//! To read a number: contestants [`take_turns`], so that whatever else the machine does falls on all of
//! them; what is reported is the median with p10–p90 ([`stats::Spread`]), and the median of the ratios
//! within rounds. A [`Record`] prints the lines and remembers them; [`Save`] writes them below a heading
//! that says which [`Machine`], commit and command they are from, beside the raw samples ([`Csv`]).

/// The allocator of the `openwork` program. Rows of matrices begin at cache lines with it, which the kernels gain by, and memory comes back warm.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod csv;
mod exit;
mod fraction;
mod machine;
mod peer;
mod record;
mod save;
pub mod stats;
mod table;
mod training;
mod turns;

pub use csv::Csv;
pub use exit::exit;
pub use fraction::Fraction;
pub use machine::Machine;
pub use peer::{Peer, Peers};
pub use record::Record;
pub use save::{Save, commit, latest_folder, repository, today, write};
pub use table::Table;
pub use training::{Change, Mode, Setup, recipe, use_threads};
pub use turns::{Contestant, Samples, take_turns};
