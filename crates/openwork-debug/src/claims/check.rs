//! Claims as they are tested on a model.

use openwork_circuit::{
    Ablation, Calibration, Keep, MemberError, Node, NodeSet, NodeSpace, ResidualMaskError, batches, credit, evaluate,
    without_edges,
};
use openwork_model::{Model, NoTap};
use openwork_tasks::{Pair, Side, Split, TaskError};
use rayon::prelude::*;

use super::{Against, Beyond, Checked, CircuitFacts, Claim, Claims, Outcome, Sample, Share, Statement, Strength};
use crate::{Trace, Vocabulary};

/// Pairs of a batch.
const BATCH: usize = 8;

/// Model and files that claims are tested on.
pub struct World<'a> {
    /// The model.
    pub model: &'a Model,
    /// Its hash.
    pub model_sha256: &'a str,
    /// Texts of its tokens.
    pub vocabulary: &'a dyn Vocabulary,
    /// Means of its nodes, by number, which take the place of what is ablated.
    pub means: Option<&'a [f32]>,
    /// Reads the circuit file of a name; the error is the reason that it cannot be read, in words.
    pub circuit: &'a dyn Fn(&str) -> Result<CircuitFacts, Unreadable>,
}

/// Reason that a circuit file cannot be read, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// Reason that a claim cannot be tested on a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Untestable {
    /// The pairs of its task cannot be drawn.
    #[error(transparent)]
    Pairs(#[from] TaskError),
    /// A prompt is longer than the model's context.
    #[error("a prompt has {tokens} tokens, and the model reads at most {n_ctx}")]
    TooLong {
        /// Its tokens.
        tokens: usize,
        /// The context.
        n_ctx: usize,
    },
    /// No means are at hand.
    #[error("there are no means of the model's nodes beside it")]
    NoMeans,
    /// The weight that is taken away is none of the model.
    #[error(transparent)]
    Edge(#[from] MemberError),
    /// The circuit leaves out an edge that no weight belongs to.
    #[error(transparent)]
    Masked(#[from] ResidualMaskError),
    /// The file of the circuit cannot be read.
    #[error(transparent)]
    Circuit(#[from] Unreadable),
}

/// Result on one pair: what speaks against the claim, or none where the pair does not count.
pub(super) enum OnPair {
    Holds,
    Against(Side, String),
    /// The pair says nothing about the claim.
    Silent,
}

impl Claims {
    /// Tests every claim on a model. The same claims, model and files give the same outcomes.
    pub fn check(&self, world: &World<'_>) -> Vec<Checked> {
        self.claims.iter().map(|claim| check(claim, world)).collect()
    }
}

fn check(claim: &Claim, world: &World<'_>) -> Checked {
    let untested = |reason: String| Checked {
        line: claim.line,
        claim: claim.text.clone(),
        outcome: Outcome::Untested,
        share: None,
        bar: None,
        against: None,
        reason,
    };
    let decided = |sample: &Sample, pairs: &[Pair], found: Vec<OnPair>| count(claim, world, sample, pairs, found);
    let result = match &claim.statement {
        Statement::FiresOn { node, tokens, only, beyond, sample } => pairs(world, sample)
            .map(|pairs| decided(sample, &pairs, fires(world, &pairs, *node, tokens, *only, *beyond))),
        Statement::NeededFor { node, by, sample } => pairs(world, sample).and_then(|pairs| {
            let lost = lost_without_node(world, &pairs, *node)?;
            Ok(decided(sample, &pairs, at_least(&lost, *by)))
        }),
        Statement::EdgeCarries { from, to, by, sample } => pairs(world, sample).and_then(|pairs| {
            let lost = lost_without_edge(world, &pairs, (*from, *to))?;
            Ok(decided(sample, &pairs, at_least(&lost, *by)))
        }),
        Statement::AgreesWith { circuit, sample } => pairs(world, sample).and_then(|pairs| {
            let facts = (world.circuit)(circuit)?;
            Ok(decided(sample, &pairs, agrees(world, &pairs, &facts)?))
        }),
        Statement::Verdict { circuit, least, model_sha256, circuit_sha256 } => {
            Ok(verdict(claim, world, circuit, *least, [model_sha256, circuit_sha256]))
        }
    };
    result.unwrap_or_else(|reason: Untestable| untested(reason.to_string()))
}

/// Pairs of a claim.
pub(super) fn pairs(world: &World<'_>, sample: &Sample) -> Result<Vec<Pair>, Untestable> {
    let task = openwork_tasks::find(&sample.task).expect("the parser knows the tasks");
    let encode = |text: &str| world.vocabulary.encode(text);
    let pairs = task.pairs(&encode, Split::Validation, sample.pairs, sample.seed)?;
    let n_ctx = world.model.config.n_ctx;
    let longest = pairs.iter().flat_map(Pair::prompts).map(<[u16]>::len).max().unwrap_or(0);
    match longest > n_ctx {
        true => Err(Untestable::TooLong { tokens: longest, n_ctx }),
        false => Ok(pairs),
    }
}

/// Share of the pairs on which a claim holds, and the first on which it does not.
fn count(claim: &Claim, world: &World<'_>, sample: &Sample, pairs: &[Pair], found: Vec<OnPair>) -> Checked {
    let holds = found.iter().filter(|on| matches!(on, OnPair::Holds)).count();
    let n = found.iter().filter(|on| !matches!(on, OnPair::Silent)).count();
    let against = found.iter().zip(pairs).enumerate().find_map(|(number, (on, pair))| match on {
        OnPair::Against(side, observed) => Some(Against {
            pair: number,
            prompt: crate::language::literal(&world.vocabulary.decode(pair.prompt(*side))),
            observed: observed.clone(),
        }),
        _ => None,
    });
    let (line, text, bar) = (claim.line, claim.text.clone(), sample.bar);
    if n == 0 {
        let reason = "none of its tokens is in a prompt of these pairs".to_owned();
        return Checked { line, claim: text, outcome: Outcome::Untested, share: None, bar: Some(bar), against, reason };
    }
    let share = Share::new(holds, n);
    let outcome = match share.ci95 {
        (low, _) if low >= bar => Outcome::Holds,
        (_, high) if high < bar => Outcome::Falls,
        _ => Outcome::Undecided,
    };
    let reason = format!("{share}, the bar is {bar}");
    Checked { line, claim: text, outcome, share: Some(share), bar: Some(bar), against, reason }
}

/// The node at every token of both prompts of every pair.
fn fires(world: &World<'_>, pairs: &[Pair], node: Node, tokens: &[u16], only: bool, beyond: Beyond) -> Vec<OnPair> {
    // The vocabulary need not be shared between threads, so its words come after the runs.
    let model = world.model;
    let found: Vec<Fired> =
        pairs.par_iter().map(|pair| fires_on_pair(model, pair, node, tokens, only, beyond)).collect();
    let words = |fired| match fired {
        Fired::Right => OnPair::Holds,
        Fired::Silent => OnPair::Silent,
        Fired::Wrong { side, position, token, value } => {
            let what = if tokens.contains(&token) { "does not fire" } else { "fires" };
            let token = world.vocabulary.quoted(token);
            OnPair::Against(side, format!("it {what} at position {position} {token}: {value:.6}"))
        }
    };
    found.into_iter().map(words).collect()
}

/// A node on a pair.
enum Fired {
    Right,
    Silent,
    Wrong { side: Side, position: usize, token: u16, value: f32 },
}

fn fires_on_pair(model: &Model, pair: &Pair, node: Node, tokens: &[u16], only: bool, beyond: Beyond) -> Fired {
    let mut counts = false;
    for side in Side::BOTH {
        let prompt = pair.prompt(side);
        let trace = Trace::run(model, prompt, &[]);
        for (position, &token) in prompt.iter().enumerate() {
            let listed = tokens.contains(&token);
            counts |= listed;
            let value = trace.value(node, position);
            if listed != beyond.contains(value) && (listed || only) {
                return Fired::Wrong { side, position, token, value };
            }
        }
    }
    if counts { Fired::Right } else { Fired::Silent }
}

fn at_least(lost: &[Lost], by: f64) -> Vec<OnPair> {
    let of = |lost: &Lost| match lost.mean() >= by {
        true => OnPair::Holds,
        false => OnPair::Against(
            lost.smaller(),
            format!(
                "the right answer loses {:.4} nats of its lead there, {:.4} over the pair",
                lost.by_side[lost.smaller() as usize],
                lost.mean()
            ),
        ),
    };
    lost.iter().map(of).collect()
}

/// Lead that the right answer loses, in nats, on both prompts of a pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost {
    by_side: [f64; 2],
}

impl Lost {
    pub fn mean(&self) -> f64 {
        (self.by_side[0] + self.by_side[1]) / 2.0
    }

    fn smaller(&self) -> Side {
        if self.by_side[0] <= self.by_side[1] { Side::Positive } else { Side::Negative }
    }
}

/// Leads of the right answers of the whole model less those of `other`.
fn lost(model: &Model, pairs: &[Pair], other: impl Fn(&[openwork_circuit::Batch]) -> Vec<f64>) -> Vec<Lost> {
    let batches = batches(pairs, BATCH, model.config.n_ctx);
    let whole = evaluate(model, &batches, false, || NoTap, |_| ()).differences;
    let other = other(&batches);
    let of = |pair: usize| {
        let by_side = Side::BOTH.map(|side| {
            let at = side.sequence(pair);
            side.towards_right(whole[at]) - side.towards_right(other[at])
        });
        Lost { by_side }
    };
    (0..pairs.len()).map(of).collect()
}

/// Lead that is lost with the node at its mean.
pub(super) fn lost_without_node(world: &World<'_>, pairs: &[Pair], node: Node) -> Result<Vec<Lost>, Untestable> {
    let means = world.means.ok_or(Untestable::NoMeans)?;
    let space = NodeSpace::new(&world.model.config);
    let number = space.number(node).expect("the parser knows the nodes");
    let kept = NodeSet::of(space, [number]).complement();
    let keep = || Keep::new(&kept, Ablation::Constant(means));
    Ok(lost(world.model, pairs, |batches| evaluate(world.model, batches, false, keep, |_| ()).differences))
}

/// Lead that is lost without a weight.
pub(super) fn lost_without_edge(
    world: &World<'_>,
    pairs: &[Pair],
    edge: (Node, Node),
) -> Result<Vec<Lost>, Untestable> {
    let cut = without_edges(world.model, &[edge])?;
    Ok(lost(world.model, pairs, |batches| evaluate(&cut, batches, false, || NoTap, |_| ()).differences))
}

/// The circuit alone, under means, beside the model.
pub(super) fn agrees(world: &World<'_>, pairs: &[Pair], facts: &CircuitFacts) -> Result<Vec<OnPair>, Untestable> {
    let means = world.means.ok_or(Untestable::NoMeans)?;
    let batches = batches(pairs, BATCH, world.model.config.n_ctx);
    let model = evaluate(world.model, &batches, false, || NoTap, |_| ()).differences;
    let masked = facts.circuit.masked(world.model)?;
    let keep = || Keep::new(facts.circuit.nodes(), Ablation::Constant(means));
    let circuit = evaluate(&masked, &batches, false, keep, |_| ()).differences;
    let Calibration { scale, shift } = facts.calibration;
    let on_pair = |pair: usize| {
        for side in Side::BOTH {
            let at = side.sequence(pair);
            let (own, theirs) = (model[at], scale * circuit[at] + shift);
            if credit(own) != credit(theirs) {
                return OnPair::Against(
                    side,
                    format!("the answer leads by {own:.4} in the model and by {theirs:.4} in the circuit"),
                );
            }
        }
        OnPair::Holds
    };
    Ok((0..pairs.len()).map(on_pair).collect())
}

fn verdict(
    claim: &Claim,
    world: &World<'_>,
    circuit: &str,
    least: Strength,
    [model_sha256, circuit_sha256]: [&str; 2],
) -> Checked {
    let outcome = |outcome, reason: String| Checked {
        line: claim.line,
        claim: claim.text.clone(),
        outcome,
        share: None,
        bar: None,
        against: None,
        reason,
    };
    if model_sha256 != world.model_sha256 {
        return outcome(
            Outcome::Falls,
            format!(
                "the claim is about model {model_sha256}, and this is {}: a verdict of another model does not count",
                world.model_sha256
            ),
        );
    }
    let facts = match (world.circuit)(circuit) {
        Ok(facts) => facts,
        Err(error) => return outcome(Outcome::Untested, error.to_string()),
    };
    if circuit_sha256 != facts.circuit_sha256 {
        let found = facts.circuit_sha256;
        return outcome(
            Outcome::Falls,
            format!("the claim is about circuit {circuit_sha256}, and the file holds {found}"),
        );
    }
    let Some(verdict) = facts.verdict else { return outcome(Outcome::Falls, "the circuit has no verdict".into()) };
    if verdict.model_sha256 != model_sha256 || verdict.circuit_sha256 != circuit_sha256 {
        return outcome(Outcome::Falls, "the verdict beside the circuit is about another model or circuit".into());
    }
    match verdict.strength {
        Some(strength) if strength.reaches(least) => outcome(Outcome::Holds, verdict.words),
        _ => outcome(Outcome::Falls, format!("the verdict is {}", verdict.words)),
    }
}
