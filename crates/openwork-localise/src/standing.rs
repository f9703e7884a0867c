//! State of a circuit in training, by which training knows when it is done.

use openwork_circuit::{Batch, Means, NodeSet, NodeSpace, batches};
use openwork_model::{Cpu, Model, NoTap, Tokens};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::{
    Goal,
    adversary::{self, SHARES},
    goal::circuit_loss,
    objective::{Context, Values},
    terms::{contrast_gap, worst_knock_out},
};

/// State of a circuit on the selection pairs of its goal. Nothing of it is a verdict: `openwork-verify` judges, with attacks of its own.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Standing {
    /// Task loss of the circuit alone, all else at its mean, calibrated; nats per sequence.
    pub loss: f64,
    /// Share of sequences on which the circuit alone prefers the original model's answer, uncalibrated, all else at its mean.
    pub at_means: f64,
    /// The same with all else zero.
    pub at_zero: f64,
    /// Share on which the model does under the attacks of training, with 0.3 and 1.2 times the circuit's nodes.
    pub attacked: [f64; 2],
    /// Contrast by which model and circuit part without the worst one to three nodes found, as a share of the model's own.
    pub gap: f64,
}

impl Standing {
    /// True if every agreement is at least `agreement` and the gap at most twice `1 − agreement` plus a tenth.
    pub fn is_localised(&self, agreement: f64, target_loss: f64) -> bool {
        let least = self.attacked.iter().fold(self.at_means.min(self.at_zero), |least, a| least.min(*a));
        self.loss <= target_loss && least >= agreement && self.gap <= 2.0 * (1.0 - agreement) + 0.1
    }
}

/// Pairs that attacks are made on, and that they are judged on.
const ATTACKED: usize = 24;

/// State of `goal` in `model`, whose means are `means`, beside `original`.
pub fn standing(original: &Model, model: &Model, means: &Means, goal: &Goal) -> Standing {
    let space = NodeSpace::new(&model.config);
    let context = Context { model, space: &space, means, record: None };
    let some = |pairs: &[openwork_tasks::Pair], n: usize| batches(&pairs[..n.min(pairs.len())], 8, model.config.n_ctx);
    let (made, judged) = (
        batches(&goal.train[..ATTACKED.min(goal.train.len())], ATTACKED, model.config.n_ctx),
        some(&goal.selection, 64),
    );
    let of_original: Vec<Vec<f64>> = judged.par_iter().map(|batch| plain(original, batch)).collect();
    let agreement = |r: &[f32], values: &Values| {
        let one = |(batch, of_original): (&Batch, &Vec<f64>)| {
            let d = context.differences(batch, r, values, &mut Cpu::default());
            d.iter().zip(of_original).filter(|(d, p)| (**d > 0.0) == (**p > 0.0)).count()
        };
        let agree: usize = judged.par_iter().zip(&of_original).map(one).sum();
        agree as f64 / of_original.iter().map(Vec::len).sum::<usize>() as f64
    };
    let kept: Vec<f32> = goal.nodes.kept().iter().map(|&kept| f32::from(u8::from(kept))).collect();
    let batch = &made[0];
    let signs = plain(original, batch);
    let attacked = SHARES.map(|share| {
        let budget = adversary::budget(share, &goal.nodes);
        let r = adversary::worst((context, batch), (&goal.nodes, &signs), budget, &mut Cpu::default());
        agreement(&r, &Values::Means)
    });
    Standing {
        loss: circuit_loss(model, means, goal, &goal.nodes),
        at_means: agreement(&kept, &Values::Means),
        at_zero: agreement(&kept, &Values::Zero),
        attacked,
        gap: gap((context, batch), &goal.nodes),
    }
}

/// Largest gap of a greedy knock-out of up to three nodes, as a share of the model's contrast.
fn gap((context, batch): (Context<'_>, &Batch), circuit: &NodeSet) -> f64 {
    let out = worst_knock_out((context, batch), circuit, 3, &mut ChaCha8Rng::seed_from_u64(0));
    let worst = (0..=out.len()).map(|n| contrast_gap((context, batch), circuit, &out[..n])).fold(0.0, f64::max);
    let d = plain(context.model, batch);
    let own = d.chunks(2).map(|pair| (pair[0] - pair[1]).abs().min(6.0)).sum::<f64>() / (d.len() / 2) as f64;
    worst / own.max(1e-9)
}

/// Logit differences of the plain model.
pub(crate) fn plain(model: &Model, batch: &Batch) -> Vec<f64> {
    let pass = model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut NoTap);
    batch.outcome(&pass.logits, false).differences
}
