//! Selection: the fewest nodes of a learned ranking that reach the target, less those that are not needed.

use std::ops::ControlFlow;

use openwork_circuit::{
    Ablation, Calibration, Keep, Means, Node, NodeSet, NodeSpace, Objective, Outcome, batches, evaluate, softplus,
};
use openwork_model::{Model, NoTap, Site, SiteKind};
use openwork_tasks::Pair;

use crate::{
    Settings,
    objective::attack_cost,
    prompts::{Prompts, Runner, prompts},
};

/// Evaluates candidate circuits: calibrated on training pairs, measured on validation pairs.
pub(crate) struct Selection<'a> {
    runner: Runner<'a>,
    means: &'a Means,
    train: Vec<Prompts>,
    validation: Vec<Prompts>,
    settings: &'a Settings,
    /// The whole model's logit differences on the validation pairs, and some of those pairs for attacks.
    plain: Vec<f64>,
    attacked: Vec<Pair>,
}

/// Training pairs the two-parameter calibration is fitted on.
const CALIBRATION_PAIRS: usize = 32;

/// Calibration of a circuit as the search fits it: the scale and shift of least task loss on the first 32 of the training
/// pairs, with everything outside `nodes` at its mean.
///
/// # Panics
/// When `training` is empty.
pub fn calibrate(model: &Model, means: &Means, nodes: &NodeSet, training: &[Pair]) -> Calibration {
    assert!(!training.is_empty(), "a calibration needs training pairs");
    let batches = batches(calibrating(training), PAIRS_PER_BATCH, model.config.n_ctx);
    evaluate(model, &batches, false, || Keep::new(nodes, Ablation::Mean(means)), |_| ()).calibrate()
}

/// The training pairs that calibrations are fitted on.
fn calibrating(training: &[Pair]) -> &[Pair] {
    &training[..training.len().min(CALIBRATION_PAIRS)]
}

/// Pairs per forward pass.
const PAIRS_PER_BATCH: usize = 8;

/// Pairs per forward pass of a selection: more of them begin alike.
const SELECTION_PAIRS: usize = 16;

impl<'a> Selection<'a> {
    pub fn new(
        model: &'a Model,
        means: &'a Means,
        train: &[Pair],
        validation: &[Pair],
        settings: &'a Settings,
    ) -> Self {
        let group = |pairs: &[Pair]| prompts(pairs, SELECTION_PAIRS, &model.config);
        let runner = Runner::new(model);
        let attacked = validation[..validation.len().min(CALIBRATION_PAIRS)].to_vec();
        let (train, validation) = (group(calibrating(train)), group(validation));
        let plain = match settings.masks.objective {
            Objective::Task => vec![],
            _ => runner.outcome(&validation, || NoTap).differences,
        };
        Self { runner, means, train, validation, settings, plain, attacked }
    }

    /// True if a circuit meets the target by its objective: the task loss; and KL(model ‖ circuit) over the two
    /// candidates, uncalibrated; and what a short attack on closed nodes costs the model.
    pub fn reaches(&self, nodes: &NodeSet) -> bool {
        let target = self.settings.target_loss;
        if self.loss(nodes).0 > target {
            return false;
        }
        if self.settings.masks.objective == Objective::Task {
            return true;
        }
        let run = self.run(nodes, &self.validation).differences;
        let kl = run.iter().zip(&self.plain).map(|(&q, &p)| kl_of_odds(p, q)).sum::<f64>() / run.len() as f64;
        if kl > target {
            return false;
        }
        self.settings.masks.objective == Objective::Kl
            || attack_cost(&self.runner, nodes.space(), self.means, nodes, &self.attacked, &self.settings.masks)
                <= target
    }

    /// Calibrated loss on the validation pairs, in nats per sequence, and the calibration, whose scale is at most
    /// [`Calibration::MAX_SCALE`] in magnitude, as the verifier asks. A negative one stays possible: for the nonsense labels of a control either
    /// order of the two tokens is as good.
    pub fn loss(&self, nodes: &NodeSet) -> (f64, Calibration) {
        let calibration = self.run(nodes, &self.train).calibrate();
        (self.run(nodes, &self.validation).loss(calibration), calibration)
    }

    /// Loss of the whole model on the validation pairs: as it is or calibrated, whichever is lower. A trained
    /// model needs no calibration, and one fitted on few pairs can make it worse.
    pub fn model_loss(&self, space: NodeSpace) -> f64 {
        let all = NodeSet::all(space);
        self.loss(&all).0.min(self.run(&all, &self.validation).loss(Calibration::NONE))
    }

    fn run(&self, nodes: &NodeSet, prompts: &[Prompts]) -> Outcome {
        self.runner.outcome(prompts, || Keep::new(nodes, Ablation::Mean(self.means)))
    }

    /// The fewest top-τ nodes within the target, less those that it does not need; where no number of them
    /// is within the target, those of least loss. Circuits of more than `most` nodes keep what they do not need. `None` where `goes_on`, which is asked before every node is tried, breaks: for a
    /// ranking that tells nothing there are thousands to try.
    pub fn fewest(
        &self,
        space: &NodeSpace,
        tau: &[f32],
        most: usize,
        goes_on: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Option<NodeSet> {
        let mut ranking: Vec<usize> = (0..tau.len()).collect();
        ranking.sort_by(|&a, &b| tau[b].total_cmp(&tau[a]).then(a.cmp(&b)));
        let top = |k: usize| NodeSet::of(space.clone(), ranking[..k].iter().copied());
        let within = |k: usize| self.reaches(&top(k));
        if within(0) {
            return Some(top(0)); // what no node mediates needs no node; the verifier says what that is worth
        }
        // All nodes usually reach the target; what the mask itself kept may do so where all do not.
        let open = tau.iter().filter(|&&t| t > 0.0).count();
        let halves = std::iter::successors(Some(ranking.len()), |k| (*k > 1).then_some(k / 2));
        let tried: Vec<usize> = [open].into_iter().chain(halves).collect();
        let Some(mut high) = tried.iter().copied().find(|&k| within(k)) else {
            let loss = |k: &usize| self.loss(&top(*k)).0;
            return Some(top(tried.into_iter().min_by(|a, b| loss(a).total_cmp(&loss(b))).expect("some were tried")));
        };
        // Invariant: `high` nodes are within the target, `low` are not.
        let mut low = 0;
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if within(middle) { high = middle } else { low = middle }
        }
        match high > most {
            true => Some(top(high)),
            false => self.drop_single_nodes(space, &ranking[..high], goes_on),
        }
    }

    /// Tries to remove every node once, lowest τ first (the paper's footnote 9: pruning leaves removable
    /// nodes). Under the adversarial objective every try is an attack, and there are hundreds of nodes: there an eighth of the nodes is tried at once,
    /// then half as many, and so on to single ones.
    fn drop_single_nodes(
        &self,
        space: &NodeSpace,
        ranked: &[usize],
        goes_on: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Option<NodeSet> {
        let mut kept = ranked.to_vec();
        let mut at_once = match self.settings.masks.objective {
            Objective::Adversarial => (ranked.len() / 8).max(1),
            Objective::Task | Objective::Kl => 1,
        };
        loop {
            for nodes in kept.clone().rchunks(at_once) {
                if goes_on(kept.len()).is_break() {
                    return None;
                }
                let without: Vec<usize> = kept.iter().copied().filter(|n| !nodes.contains(n)).collect();
                if self.reaches(&NodeSet::of(space.clone(), without.iter().copied())) {
                    kept = without;
                }
            }
            match at_once {
                1 => return Some(NodeSet::of(space.clone(), kept)),
                _ => at_once /= 2,
            }
        }
    }
}

/// The nodes with the query of every key among them: of the same channel and block.
pub(crate) fn with_queries(nodes: &NodeSet) -> NodeSet {
    let space = nodes.space();
    let query = |key: Node| space.number(Node { site: Site { kind: SiteKind::Query, ..key.site }, ..key });
    let queries: Vec<usize> = nodes.nodes().filter(|n| n.site.kind == SiteKind::Key).filter_map(query).collect();
    NodeSet::of(space.clone(), nodes.numbers().chain(queries))
}

/// KL divergence in nats of two-way distributions of log odds `p` and `q`.
fn kl_of_odds(p: f64, q: f64) -> f64 {
    let part = |p: f64, q: f64| (-softplus(-p)).exp() * (softplus(-q) - softplus(-p));
    part(p, q) + part(-p, -q)
}

#[cfg(test)]
mod tests {
    use openwork_model::Config;

    use super::*;

    #[test]
    fn queries_come_with_their_keys_and_nothing_else_does() {
        let space = NodeSpace::new(&Config { vocab_size: 8, ..Config::default() });
        let number = |name: &str| space.number(name.parse().unwrap()).unwrap();
        let nodes = NodeSet::of(space.clone(), ["1.attn.k[3]", "0.attn.v[2]", "0.attn.q[1]"].map(number));
        let with = with_queries(&nodes);
        let names: Vec<String> = with.nodes().map(|n| n.to_string()).collect();
        assert_eq!(names, ["0.attn.q[1]", "0.attn.v[2]", "1.attn.q[3]", "1.attn.k[3]"]);
        assert_eq!(with_queries(&with), with);
    }
}
