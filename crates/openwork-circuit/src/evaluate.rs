//! Runs of a model, whole or ablated, on contrast pairs.

use openwork_model::{Model, Tap, Tokens};
use rayon::prelude::*;

use crate::{Batch, Outcome};

/// Runs every batch under a tap of its own, made by `tap`, on all threads; `with_log_probs` also keeps the
/// whole distribution. `done` sees each tap after its pass (to check that hooks fired).
pub fn evaluate<T: Tap>(
    model: &Model,
    batches: &[Batch],
    with_log_probs: bool,
    tap: impl Fn() -> T + Sync,
    done: impl Fn(&T) + Sync,
) -> Outcome {
    let parts: Vec<Outcome> = batches
        .par_iter()
        .map(|batch| {
            let mut tap = tap();
            let pass = model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut tap);
            done(&tap);
            batch.outcome(&pass.logits, with_log_probs)
        })
        .collect();
    let mut all = Outcome::default();
    parts.into_iter().for_each(|part| all.append(part));
    all
}

#[cfg(test)]
mod tests {
    use openwork_model::{Config, NoTap};
    use openwork_tasks::Pair;

    use super::*;
    use crate::batches;

    fn pair(positive: &[u16], negative: &[u16]) -> Pair {
        Pair { positive: positive.to_vec(), negative: negative.to_vec(), answer: 3, alternative: 5, template: 0 }
    }

    #[test]
    fn padding_and_batching_do_not_change_the_outcome() {
        let model = Model::init(Config { vocab_size: 20, n_ctx: 8, ..Config::default() }, 2);
        let long: Vec<u16> = (0..12).collect();
        let pairs = [pair(&[1, 2, 3], &[4]), pair(&[7, 8], &[9, 10, 11, 12, 13]), pair(&long, &[2, 2])];
        let run = |n| evaluate(&model, &batches(&pairs, n, 8), true, || NoTap, |_| ());
        let (one, all) = (run(1), run(3));
        for (a, b) in one.differences.iter().zip(&all.differences) {
            assert!((a - b).abs() < 1e-5);
        }
        // By hand: the last sequence of the first pair, and the truncated one.
        for (sequence, at) in [(vec![4_u16], 1), (long[4..].to_vec(), 4)] {
            let logits =
                model.forward(Tokens::new(&sequence, sequence.len()), Some(&[sequence.len() - 1]), &mut NoTap).logits;
            assert!((f64::from(logits[[3, 0]] - logits[[5, 0]]) - one.differences[at]).abs() < 1e-5);
            let p: f32 = one.log_probs[at].iter().map(|l| l.exp()).sum();
            assert!((p - 1.0).abs() < 1e-5);
        }
    }
}
