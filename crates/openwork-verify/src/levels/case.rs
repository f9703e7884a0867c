//! The case that is verified, and the limits of a verification.

use std::time::Instant;

use openwork_circuit::{Calibration, Circuit, Claim, Domain, Means};
use openwork_model::Model;
use openwork_tasks::Pair;

use crate::{checks::Why, hypothesis::Hypothesis, run::scheme::Split};

/// The claim under test: `circuit` is how `model` does the task of its pairs.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The model.
    pub model: &'a Model,
    /// Means of its nodes over training data.
    pub means: &'a Means,
    /// The circuit: kept nodes and kept edges between them.
    pub circuit: &'a Circuit,
    /// Claim that is made of it: the form of the checks that decide.
    pub claim: Claim,
    /// Scale and shift of the circuit's logit difference, fitted with the circuit under mean ablation.
    pub calibration: Calibration,
    /// Loss that whoever found the circuit asked of it, nats per sequence. It sets no threshold: those are the settings'. A
    /// looser one than theirs is a reservation.
    pub target_loss: f64,
    /// Fresh pairs of the templates the circuit was selected on.
    pub held_out: &'a [Pair],
    /// Pairs from elsewhere: other templates, lengths, words. Fewer than [`Settings::min_pairs`](crate::Settings::min_pairs) of a split leave
    /// at most a weak pass; too few of other templates leave the verdict incomplete.
    pub shifts: &'a [Shift<'a>],
    /// The pairs the circuit was selected on. None may recur above; node sets that come without a calibration
    /// are calibrated on them.
    pub selection: &'a [Pair],
    /// Hypothesis about the meaning of its nodes.
    pub meaning: Option<Meaning<'a>>,
    /// Hash of the model by content (`Model::sha256`), which certificates name.
    pub model_sha256: &'a str,
    /// All inputs there are, where they can be listed: level 6 certifies over them.
    pub domain: Option<&'a Domain>,
}

/// A hypothesis about a circuit, and what tokens are called in it.
#[derive(Clone, Copy)]
pub struct Meaning<'a> {
    /// The hypothesis.
    pub hypothesis: &'a Hypothesis,
    /// Text of a token.
    pub text: &'a dyn Fn(u16) -> String,
}

/// Pairs that differ from those the circuit was selected on in one respect.
#[derive(Clone, Copy, Debug)]
pub struct Shift<'a> {
    /// In which.
    pub split: Split,
    /// The pairs.
    pub pairs: &'a [Pair],
}

/// Limits of a run: highest level, time, and work of certificates.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// The highest level, 1 to 6.
    pub level: u8,
    /// Deadline of all levels. Each has its share of the time until then, and says what it could not finish
    /// in it; results of a run that finishes do not depend on it.
    pub until: Option<Instant>,
    /// Looked at between measurements: once true, the run ends with the report as far as it got.
    pub interrupted: &'a (dyn Fn() -> bool + Sync),
    /// Work of certificates.
    pub effort: Effort,
}

impl Limits<'_> {
    /// Levels up to `level`, as long as they take.
    pub fn level(level: u8) -> Self {
        Self { level, until: None, interrupted: &|| false, effort: Effort::default() }
    }

    /// True if the time is over or the caller interrupts the run.
    pub fn are_over(&self) -> bool {
        (self.interrupted)() || self.until.is_some_and(|until| Instant::now() > until)
    }

    /// Reason that steps are left out once they are.
    pub fn why(&self) -> Why {
        if (self.interrupted)() { Why::Interrupted } else { Why::OutOfTime }
    }
}

/// Work that certificates may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Runs of an exhaustive certificate: minutes for models of thousands of weights.
    pub runs: usize,
    /// Prompts of a finite space whose values take the place of ablated ones, one after the other.
    pub sources: usize,
    /// Inputs that are bounded over all partial ablations; each takes milliseconds in small models and seconds in trained
    /// ones.
    pub bounded: usize,
    /// Draws of the statistical certificate, 100 times a power of two: 3,200 without a failure bound them at 0.1 %, at 95 %
    /// confidence.
    pub samples: u64,
    /// Noise symbols of a bound, in a model of 4,096 nodes; larger ones get fewer. 512 take a few hundred megabytes.
    pub symbols: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Self { runs: 2_000_000, sources: 16, bounded: 256, samples: 3200, symbols: 512 }
    }
}
