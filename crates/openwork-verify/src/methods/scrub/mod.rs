//! Causal scrubbing of the hypothesis that every circuit makes: *nothing outside it matters*.
//!
//! Whatever the circuit says does not matter is replaced by what it is on other prompts, drawn at random and
//! *independently per path*. If the circuit is right, the output stays what it was. Ablation puts one constant
//! everywhere, and a common source keeps what nodes have in common; both let nodes pass that cancel each other.
//! Source: Chan et al. 2022, "Causal scrubbing".
//!
//! # What is drawn independently of what
//! One scrub of one prompt draws a source prompt of its own, uniformly from the prompts of all pairs (itself included),
//! for
//! - every channel of the residual stream *at every place that reads it* (the input of every attention and MLP, and
//!   the end) and *every node outside the circuit that wrote to it* before: two readers of one write have two
//!   sources, and so have two writes that one reader sums;
//! - every attention channel, neuron and read outside the circuit: two nodes have two sources. The readers of one such
//!   node share its source: its value goes through one matrix to all of them.
//!
//! Nodes of the circuit are computed once a scrub from what was scrubbed before them, so their readers see one value.
//! The embedding, the position channels of [`Positions::Added`](openwork_model::Positions::Added) and the bigram table
//! are no nodes and stay the prompt's own; scales of norms and AbsTopK follow the scrubbed stream. Positions are aligned
//! at the last token; a source that is shorter repeats the value of its first token.

mod tap;

use std::collections::BTreeMap;

use openwork_circuit::{NodeSet, NodeSpace, Outcome, credit};
use openwork_model::{Model, Site};
use openwork_tasks::Pair;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    run::{
        measures::{Faithfulness, argmax, faithfulness, kl, losses_at_best_shift},
        prompts::{self, Chunk, PromptError, Recorded, chunks, seen},
        shift_free::ToAnswers,
    },
    settings::Settings,
    stats::intervals::{Estimate, Resamples, fraction},
};
use tap::ScrubTap;

/// Independence of the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sources {
    /// One for every path: causal scrubbing.
    PerPath,
    /// One for everything in a scrub of a prompt: weaker, since what nodes have in common survives. Where
    /// this passes and [`Sources::PerPath`] does not, nodes outside the circuit make up for each other.
    Shared,
}

/// Settings of causal scrubbing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubSettings {
    /// Seed of the sources and of the bootstrap.
    pub seed: u64,
    /// Scrubs of every prompt. Prompts are the larger source of spread, so a few suffice.
    pub scrubs: usize,
    /// Independence of the sources.
    pub sources: Sources,
    /// Most pairs to scrub, and to draw sources from: all values of all nodes on them are held in memory.
    pub max_pairs: usize,
    /// Bootstrap resamples.
    pub bootstrap: usize,
    /// The score needs a denominator of so many standard errors; below, it is undefined.
    pub min_denominator_se: f64,
}

impl Default for ScrubSettings {
    fn default() -> Self {
        Self {
            seed: 0,
            scrubs: 8,
            sources: Sources::PerPath,
            max_pairs: 64,
            bootstrap: 2000,
            min_denominator_se: Settings::default().min_denominator_se,
        }
    }
}

/// Reason that nothing could be scrubbed.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ScrubError {
    /// The circuit is one of another model.
    #[error("the circuit has {circuit} possible nodes and the model {model}: it belongs to a model of another shape")]
    OtherModel {
        /// Nodes in the circuit's space.
        circuit: usize,
        /// Nodes of the model.
        model: usize,
    },
    /// There is too little to scrub.
    #[error("{pairs} pairs, {scrubs} scrubs and {bootstrap} bootstrap resamples: scrubbing needs at least 2, 1 and 1")]
    TooFew {
        /// Pairs.
        pairs: usize,
        /// Scrubs of each.
        scrubs: usize,
        /// Resamples.
        bootstrap: usize,
    },
    /// An answer is not in the vocabulary.
    #[error("pair {pair} has an answer outside the vocabulary")]
    Answer {
        /// The pair.
        pair: usize,
    },
    /// A prompt cannot be run.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The forward pass did not go where it must: no result would mean anything.
    #[error("the forward pass visited {visited} places, expected {expected}")]
    Hooks {
        /// Places that the hook saw.
        visited: usize,
        /// Places there are.
        expected: usize,
    },
    /// The model's logits are not numbers.
    #[error("the logits of pair {pair} are not finite")]
    NotFinite {
        /// The pair.
        pair: usize,
    },
}

/// Task loss (nats) and divergence from the model of one kind of run; means over pairs of the mean over scrubs and
/// the two prompts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScrubbedRun {
    /// `−log p(right | two candidates)`; chance is ln 2.
    pub loss: Estimate,
    /// KL(model ‖ run) over the whole vocabulary at the last token, in nats.
    pub kl: Estimate,
    /// Fraction of runs whose preferred candidate is the model's.
    pub agreement: Estimate,
    /// Fraction of runs with the model's most likely token of the whole vocabulary.
    pub agreement_vocabulary: Estimate,
}

/// The prompt and scrub that came out furthest from the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorstScrub {
    /// Pair.
    pub pair: usize,
    /// True if it is the positive prompt of the pair.
    pub positive: bool,
    /// Number of the scrub; with the seed it says which sources were drawn ([`scrub_once`] tells).
    pub scrub: usize,
    /// KL(model ‖ scrubbed) in nats.
    pub kl: f64,
    /// Logit of the answer above the alternative: model, scrubbed.
    pub differences: [f64; 2],
}

/// Result of causal scrubbing.
///
/// A score is `(E[m scrubbed] − E[m all resampled]) / (E[m] − E[m all resampled])`: 1 where nothing outside the circuit
/// matters, 0 where the circuit is no better than no circuit. "All resampled" is the scrub of the empty circuit with the
/// same draws. Scores are not clamped; intervals are over pairs (draws of sources are shared between pairs, which they
/// leave out).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scrubbed {
    /// Settings.
    pub settings: ScrubSettings,
    /// Pairs scrubbed.
    pub pairs: usize,
    /// Score with m = −task loss.
    pub score_loss: Faithfulness,
    /// Score with m = −KL(model ‖ run): `1 − KL(scrubbed) / KL(all resampled)`.
    pub score_kl: Faithfulness,
    /// Task loss of the plain model.
    pub model_loss: Estimate,
    /// The circuit with everything else scrubbed.
    pub circuit: ScrubbedRun,
    /// The empty circuit.
    pub all_resampled: ScrubbedRun,
    /// The worst prompt of the scrubbed circuit.
    pub worst: WorstScrub,
    /// The same after common shifts.
    pub at_best_shift: ScrubbedShifted,
}

/// Result of causal scrubbing after a shift of the logit difference that is common to all prompts and scrubs of a kind of run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScrubbedShifted {
    /// Score with m = −task loss, of model, circuit and the empty circuit at the shift that suits each best.
    pub score_loss: Faithfulness,
    /// Fraction of the circuit's runs whose preferred candidate is the model's, at the shift that suits the model's answers best, over
    /// pairs to whose prompts these are different; none without such pairs.
    pub agreement: Option<Estimate>,
}

/// Scrubs everything outside `circuit`, nodes with all edges between them, on the prompts of `pairs` (of which the first
/// `max_pairs` are taken).
///
/// The result depends on the seed and not on the number of threads.
pub fn scrub(
    model: &Model,
    circuit: &NodeSet,
    pairs: &[Pair],
    settings: &ScrubSettings,
) -> Result<Scrubbed, ScrubError> {
    scrub_with(model, model, circuit, pairs, settings)
}

/// [`scrub`] of a circuit that leaves out weights between its nodes: its runs are of `masked`, the model without them. Sources,
/// and the runs that it is compared with, are of `model`.
pub(crate) fn scrub_with(
    model: &Model,
    masked: &Model,
    circuit: &NodeSet,
    pairs: &[Pair],
    settings: &ScrubSettings,
) -> Result<Scrubbed, ScrubError> {
    let scrubber = Scrubber { masked, ..Scrubber::new(model, circuit, pairs, settings)? };
    let of_circuit = scrubber.runs(circuit)?;
    let of_nothing = scrubber.runs(&NodeSet::empty(NodeSpace::new(&model.config)))?;
    Ok(scrubber.report(&of_circuit, &of_nothing))
}

/// Place in which a value of a node outside the circuit is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ScrubPath {
    /// The node.
    pub node: usize,
    /// Reader of the residual stream that sees it replaced, where the node is a write to it. Of any other node all readers
    /// see one value.
    pub reader: Option<Site>,
}

/// One scrub of every prompt, with all that it takes to repeat it in another program.
#[derive(Clone, Debug, PartialEq)]
pub struct OneScrub {
    /// Of every path the prompt that each prompt's value came from. Prompts are numbered pair by pair, the positive one of a
    /// pair first.
    pub sources: BTreeMap<ScrubPath, Vec<usize>>,
    /// Logit of the answer above the alternative, of every prompt.
    pub differences: Vec<f64>,
}

/// Lays one of the scrubs open that [`scrub`] runs with the same arguments: the one with number `number`.
pub fn scrub_once(
    model: &Model,
    circuit: &NodeSet,
    pairs: &[Pair],
    settings: &ScrubSettings,
    number: usize,
) -> Result<OneScrub, ScrubError> {
    let scrubber = Scrubber::new(model, circuit, pairs, settings)?;
    let mut one = OneScrub { sources: BTreeMap::new(), differences: vec![] };
    for chunk in &scrubber.chunks {
        let runs = scrubber.chunk(circuit, number, chunk, Some(&mut one.sources))?;
        one.differences.extend(runs.iter().map(|run| run.difference));
    }
    Ok(one)
}

/// Result of one prompt in one scrub.
#[derive(Clone, Copy)]
struct Run {
    difference: f64,
    kl: f64,
    same_candidate: f64,
    same_top: f64,
}

struct Scrubber<'a> {
    /// The model without the weights that the circuit leaves out.
    masked: &'a Model,
    pairs: &'a [Pair],
    recorded: Recorded,
    chunks: Vec<Chunk>,
    settings: &'a ScrubSettings,
}

impl<'a> Scrubber<'a> {
    fn new(
        model: &'a Model,
        circuit: &NodeSet,
        pairs: &'a [Pair],
        settings: &'a ScrubSettings,
    ) -> Result<Self, ScrubError> {
        let space = NodeSpace::new(&model.config);
        if *circuit.space() != space {
            return Err(ScrubError::OtherModel { circuit: circuit.space().len(), model: space.len() });
        }
        let pairs = &pairs[..pairs.len().min(settings.max_pairs)];
        if pairs.len() < 2 || settings.scrubs == 0 || settings.bootstrap == 0 {
            let (scrubs, bootstrap) = (settings.scrubs, settings.bootstrap);
            return Err(ScrubError::TooFew { pairs: pairs.len(), scrubs, bootstrap });
        }
        let tokens = |p: &Pair| [p.answer, p.alternative].iter().all(|&t| usize::from(t) < model.config.vocab_size);
        if let Some(pair) = pairs.iter().position(|p| !tokens(p)) {
            return Err(ScrubError::Answer { pair });
        }
        let n_ctx = model.config.n_ctx;
        let prompts: Vec<&[u16]> =
            pairs.iter().flat_map(|p| [&p.positive, &p.negative]).map(|p| seen(p, n_ctx)).collect();
        prompts::check(&prompts, model.config.vocab_size)?;
        Ok(Self { masked: model, pairs, recorded: Recorded::new(model, &prompts), chunks: chunks(&prompts), settings })
    }

    /// One [`Run`] a prompt, scrub after scrub.
    fn runs(&self, kept: &NodeSet) -> Result<Vec<Run>, ScrubError> {
        let jobs: Vec<(usize, &Chunk)> =
            (0..self.settings.scrubs).flat_map(|scrub| self.chunks.iter().map(move |chunk| (scrub, chunk))).collect();
        let parts: Result<Vec<Vec<Run>>, ScrubError> =
            jobs.into_par_iter().map(|(scrub, chunk)| self.chunk(kept, scrub, chunk, None)).collect();
        Ok(parts?.concat())
    }

    /// One [`Run`] a prompt of the chunk. The sources that it draws are appended to those of each path in `sources`.
    fn chunk(
        &self,
        kept: &NodeSet,
        scrub: usize,
        chunk: &Chunk,
        sources: Option<&mut BTreeMap<ScrubPath, Vec<usize>>>,
    ) -> Result<Vec<Run>, ScrubError> {
        let mut tap = ScrubTap::new(&self.recorded, kept, chunk, scrub, self.settings);
        tap.sources = sources;
        let log_probs = chunk.log_probs(self.masked, &mut tap);
        // A block's kinds of node and its two views of the residual stream; and the end.
        let expected = self.recorded.space.sites().len() / NodeSpace::KINDS.len() * (NodeSpace::KINDS.len() + 2) + 1;
        if tap.visited != expected {
            return Err(ScrubError::Hooks { visited: tap.visited, expected });
        }
        let one = |(i, run): (usize, Vec<f32>)| {
            let prompt = chunk.first + i;
            let model = &self.recorded.log_probs[prompt];
            let difference = self.difference(prompt, &run);
            let kl = kl(model, &run);
            if !kl.is_finite() || !difference.is_finite() {
                return Err(ScrubError::NotFinite { pair: prompt / 2 });
            }
            Ok(Run {
                difference,
                kl,
                same_candidate: 1.0 - (credit(difference) - credit(self.difference(prompt, model))).abs(),
                same_top: f64::from(u8::from(argmax(model) == argmax(&run))),
            })
        };
        log_probs.into_iter().enumerate().map(one).collect()
    }

    /// Logit of the answer above the alternative.
    fn difference(&self, prompt: usize, log_probs: &[f32]) -> f64 {
        let pair = &self.pairs[prompt / 2];
        f64::from(log_probs[usize::from(pair.answer)]) - f64::from(log_probs[usize::from(pair.alternative)])
    }

    fn loss(&self, prompt: usize, difference: f64) -> f64 {
        let x = if prompt.is_multiple_of(2) { -difference } else { difference };
        x.max(0.0) + (-x.abs()).exp().ln_1p()
    }

    /// Mean of a quantity over scrubs and the two prompts of every pair.
    fn by_pair(&self, runs: &[Run], value: impl Fn(usize, &Run) -> f64) -> Vec<f64> {
        let mut sums = vec![0.0; self.pairs.len()];
        for (i, run) in runs.iter().enumerate() {
            let prompt = i % self.recorded.len();
            sums[prompt / 2] += value(prompt, run);
        }
        sums.iter().map(|s| s / (2 * self.settings.scrubs) as f64).collect()
    }

    fn report(&self, circuit: &[Run], nothing: &[Run]) -> Scrubbed {
        let labels: Vec<Vec<usize>> = self.pairs.iter().map(|p| vec![p.template]).collect();
        let resamples = Resamples::grouped(&labels, self.settings.bootstrap, self.settings.seed);
        let loss = |runs: &[Run]| self.by_pair(runs, |prompt, run| self.loss(prompt, run.difference));
        let kl = |runs: &[Run]| self.by_pair(runs, |_, run| run.kl);
        let run = |runs: &[Run]| ScrubbedRun {
            loss: resamples.mean(&loss(runs)),
            kl: resamples.mean(&kl(runs)),
            agreement: fraction(&self.by_pair(runs, |_, run| run.same_candidate)),
            agreement_vocabulary: fraction(&self.by_pair(runs, |_, run| run.same_top)),
        };
        // Summed over as many scrubs as the others, so that equal runs have equal sums.
        let model = self
            .by_pair(circuit, |prompt, _| self.loss(prompt, self.difference(prompt, &self.recorded.log_probs[prompt])));
        let score = |nothing: &[f64], circuit: &[f64], model: &[f64], min_denominator_share: f64| {
            let settings = Settings {
                min_denominator_se: self.settings.min_denominator_se,
                min_denominator_share,
                ..Settings::default()
            };
            faithfulness(nothing, circuit, model, &resamples, &settings)
        };
        let share = Settings::default().min_denominator_share;
        Scrubbed {
            settings: self.settings.clone(),
            pairs: self.pairs.len(),
            score_loss: score(&loss(nothing), &loss(circuit), &model, share),
            // There is no loss reduction that a divergence could be a share of.
            score_kl: score(&kl(nothing), &kl(circuit), &vec![0.0; self.pairs.len()], 0.0),
            model_loss: resamples.mean(&model),
            circuit: run(circuit),
            all_resampled: run(nothing),
            worst: self.worst(circuit),
            at_best_shift: self.shifted(circuit, nothing, &resamples),
        }
    }

    /// Loss and agreement after common shifts.
    fn shifted(&self, circuit: &[Run], nothing: &[Run], resamples: &Resamples) -> ScrubbedShifted {
        let outcome =
            |runs: &[Run]| Outcome { differences: runs.iter().map(|r| r.difference).collect(), log_probs: vec![] };
        let prompts = self.recorded.len();
        let model: Vec<f64> = (0..prompts).map(|p| self.difference(p, &self.recorded.log_probs[p])).collect();
        // As many times as there are scrubs, so that runs and answers stand side by side.
        let model = Outcome { differences: model.repeat(self.settings.scrubs), log_probs: vec![] };
        // Pairs follow each other scrub after scrub; a pair has the mean over its scrubs.
        let by_pair = |values: Vec<f64>| -> Vec<f64> {
            let n = self.pairs.len();
            (0..n).map(|pair| values.iter().skip(pair).step_by(n).sum::<f64>() / self.settings.scrubs as f64).collect()
        };
        let loss = |run: &Outcome| by_pair(losses_at_best_shift(run));
        let settings = Settings { min_denominator_se: self.settings.min_denominator_se, ..Settings::default() };
        let (run, nothing) = (outcome(circuit), outcome(nothing));
        let score_loss = faithfulness(&loss(&nothing), &loss(&run), &loss(&model), resamples, &settings);
        let agree = ToAnswers::new(&run, 1.0, &model).agree;
        let contrasts = agree.len() / self.settings.scrubs;
        let of_pair =
            |pair: usize| agree.iter().skip(pair).step_by(contrasts).sum::<f64>() / self.settings.scrubs as f64;
        let agreement = (contrasts > 0).then(|| fraction(&(0..contrasts).map(of_pair).collect::<Vec<_>>()));
        ScrubbedShifted { score_loss, agreement }
    }

    fn worst(&self, runs: &[Run]) -> WorstScrub {
        // The first of the largest.
        let at = (1..runs.len()).fold(0, |best, i| if runs[i].kl > runs[best].kl { i } else { best });
        let (scrub, prompt) = (at / self.recorded.len(), at % self.recorded.len());
        let model = self.difference(prompt, &self.recorded.log_probs[prompt]);
        WorstScrub {
            pair: prompt / 2,
            positive: prompt.is_multiple_of(2),
            scrub,
            kl: runs[at].kl,
            differences: [model, runs[at].difference],
        }
    }
}
