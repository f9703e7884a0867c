#![doc = include_str!("../README.md")]
//!
//! To follow one step, read `localise.rs` (the loop), `terms.rs` (the interventions of a step) and `objective.rs` (the distance that
//! each asks for).

mod adversary;
mod controls;
mod goal;
mod localise;
mod objective;
mod standing;
mod terms;

pub use controls::connected_random;
pub use goal::{Goal, NotInTheModel, check_goal};
pub use localise::{Ended, Localised, LocalisedGoal, Localiser, OnStep, Progress};
pub use standing::{Standing, standing};
