//! Controls: inputs on which a search with the same budget must *not* succeed as cheaply, or its success on the real
//! task means nothing.
//!
//! Source: Drori 2026: learned masks find small circuits with low loss for tasks that no model was trained
//! on, and in untrained networks.

use openwork_model::Model;
use openwork_tasks::Pair;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The same prompts with two meaningless candidates: the cue decides between two tokens drawn from
/// `vocabulary` (tokens that the data contains), other than the task's own.
///
/// # Panics
/// When fewer than two other tokens are left to draw from.
pub fn nonsense_labels(pairs: &[Pair], vocabulary: &[u16], seed: u64) -> Vec<Pair> {
    let own = |t: u16| pairs.iter().any(|p| p.answer == t || p.alternative == t);
    let free: Vec<u16> = vocabulary.iter().copied().filter(|&t| !own(t)).collect();
    assert!(free.len() >= 2, "nonsense labels need two tokens that are no answer of the task");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let first = rng.random_range(0..free.len());
    let second = (first + rng.random_range(1..free.len())) % free.len();
    pairs.iter().map(|p| Pair { answer: free[first], alternative: free[second], ..p.clone() }).collect()
}

/// The model with the entries of every tensor shuffled: same shapes, same densities, same magnitudes, no
/// structure.
pub fn random_weights(model: &Model, seed: u64) -> Model {
    let mut random = model.clone();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for weight in random.params.values_mut() {
        weight.update(|w| {
            let entries = w.as_slice_mut().expect("row-major");
            for last in (1..entries.len()).rev() {
                entries.swap(last, rng.random_range(0..=last));
            }
        });
    }
    random
}

#[cfg(test)]
mod tests {
    use openwork_model::Config;

    use super::*;

    #[test]
    fn nonsense_is_consistent_and_not_the_task() {
        let pair = |n| Pair { positive: vec![n], negative: vec![n + 1], answer: 3, alternative: 5, template: 0 };
        let pairs: Vec<Pair> = (0..4).map(pair).collect();
        let nonsense = nonsense_labels(&pairs, &[1, 2, 3, 5, 7], 9);
        assert!(nonsense.iter().all(|p| (p.answer, p.alternative) == (nonsense[0].answer, nonsense[0].alternative)));
        assert!([1, 2, 7].contains(&nonsense[0].answer) && nonsense[0].answer != nonsense[0].alternative);
        assert_eq!(nonsense[2].positive, pairs[2].positive);
        assert_eq!(nonsense, nonsense_labels(&pairs, &[1, 2, 3, 5, 7], 9));
    }

    #[test]
    fn random_weights_keep_the_values_and_lose_their_places() {
        let model = Model::init(Config { vocab_size: 30, ..Config::default() }, 1);
        let random = random_weights(&model, 2);
        for (a, b) in model.params.values().into_iter().zip(random.params.values()) {
            let sorted = |w: &openwork_model::Weight| {
                let mut v: Vec<f32> = w.dense().iter().copied().collect();
                v.sort_by(f32::total_cmp);
                v
            };
            assert_eq!(sorted(a), sorted(b));
        }
        assert_ne!(model.params.embed.dense(), random.params.embed.dense());
    }
}
