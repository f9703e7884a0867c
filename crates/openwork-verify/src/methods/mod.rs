//! Methods: one test of a circuit each, without regard to what a level makes of it.

pub mod adversary;
pub mod dissociation;
pub mod inputs;
pub mod interpolation;
pub(crate) mod junk;
pub mod knockouts;
pub mod random_sets;
pub mod rival;
pub mod roles;
pub mod scrub;
pub mod size_curve;
pub mod watch;
