#![doc = include_str!("../README.md")]

mod attack;
mod bench;
mod control;
mod grow;
mod learn;
mod mask;
mod objective;
mod prompts;
mod prune;
mod scores;
mod select;
mod settings;
mod stability;
mod tune;

pub use control::{nonsense_labels, random_weights};
pub use grow::{Grow, GrowError, GrownCircuit, GrowthStep, OnGrowthStep, Stop};
pub use learn::{OnStep, Progress};
pub use prune::{NotReached, PruneError, Pruned, Search};
pub use scores::{
    CurvePoint, EdgeScores, GoesOn, OnScoreStep, Ranked, Refinement, ScoreSearch, ScoreStage, ScoreStep, Scorer,
    SiteSum, curve_sizes, ranking,
};
pub use select::calibrate;
pub use settings::Settings;
pub use stability::{Spread, Stability};
pub use tune::{OnTuneStep, Trial, TuneStep, Tuning, best_trial};
