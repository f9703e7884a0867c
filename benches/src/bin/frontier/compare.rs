//! Sparse models beside dense ones of the same validation loss.

use openwork_benches::stats::{median, quantile};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::record::{Model, Search};

/// Models and searches of a study.
pub struct Study {
    /// Models, in the order in which they were trained.
    pub models: Vec<Model>,
    /// Searches.
    pub searches: Vec<Search>,
}

/// Ratio of the edges of dense circuits to those of sparse ones, at one target loss.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    /// Tasks with a circuit in the sparse model and in both dense ones.
    pub tasks: usize,
    /// Geometric mean over the tasks of the median over seeds, sparse model.
    pub sparse: f64,
    /// The same of a dense model of the sparse one's loss: log edges on the line between the two dense models, by loss.
    pub dense: f64,
    /// 95 % interval of `dense / sparse`: percentiles over tasks and seeds drawn again.
    pub interval: (f64, f64),
}

/// Draws of the interval.
const DRAWS: usize = 2000;

impl Study {
    /// Edges of the circuits that the masks found, one a seed.
    fn edges(&self, model: &str, task: &str, target: &str) -> Vec<f64> {
        let of = |s: &&Search| s.kind == "masks" && s.model == model && s.task == task && s.target == target;
        self.searches.iter().filter(of).filter_map(|s| s.edges).map(|edges| edges.max(1) as f64).collect()
    }

    /// Tasks in which all of `models` have a circuit at a target.
    pub fn shared_tasks<'a>(&self, models: &[&'a Model], target: &str) -> Vec<&'a str> {
        let Some(first) = models.first() else { return vec![] };
        let tasks = first.scores.tasks.iter().map(|score| &score.task[..]);
        tasks.filter(|task| models.iter().all(|model| !self.edges(&model.model, task, target).is_empty())).collect()
    }

    /// Geometric mean over tasks of the median of the edges over seeds.
    ///
    /// # Panics
    /// When a task has no circuit in the model, or there are no tasks.
    pub fn mean_edges(&self, model: &Model, tasks: &[&str], target: &str) -> f64 {
        let logs = tasks.iter().map(|task| median(&self.edges(&model.model, task, target)).ln());
        (logs.sum::<f64>() / tasks.len() as f64).exp()
    }

    /// Dense models whose validation losses are nearest to that of `sparse` from above and from below.
    pub fn bracket(&self, sparse: &Model) -> Option<(&Model, &Model)> {
        let dense = || self.models.iter().filter(|model| model.pfrac.is_none());
        let loss = |model: &&Model| model.validation_nats;
        let above = dense().filter(|m| loss(m) >= sparse.validation_nats).min_by(|a, b| loss(a).total_cmp(&loss(b)))?;
        let below = dense().filter(|m| loss(m) <= sparse.validation_nats).max_by(|a, b| loss(a).total_cmp(&loss(b)))?;
        Some((above, below))
    }

    /// Compares a sparse model with dense ones of its loss. None if no dense losses bracket it, or no task is shared.
    pub fn ratio(&self, sparse: &Model, target: &str) -> Option<Ratio> {
        let (above, below) = self.bracket(sparse)?;
        let tasks = self.shared_tasks(&[sparse, above, below], target);
        if tasks.is_empty() {
            return None;
        }
        let span = above.validation_nats - below.validation_nats;
        let weight = if span > 0.0 { (above.validation_nats - sparse.validation_nats) / span } else { 0.0 };
        let between = |above: f64, below: f64| (above.ln() * (1.0 - weight) + below.ln() * weight).exp();
        let of = |model| self.mean_edges(model, &tasks, target);
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let ratios: Vec<f64> = (0..DRAWS)
            .map(|_| {
                let mut sum = 0.0;
                for _ in &tasks {
                    let task = tasks[rng.random_range(0..tasks.len())];
                    let mut again = |model: &Model| {
                        let edges = self.edges(&model.model, task, target);
                        let drawn: Vec<f64> = edges.iter().map(|_| edges[rng.random_range(0..edges.len())]).collect();
                        median(&drawn)
                    };
                    let (sparse, above, below) = (again(sparse), again(above), again(below));
                    sum += (between(above, below) / sparse).ln();
                }
                (sum / tasks.len() as f64).exp()
            })
            .collect();
        Some(Ratio {
            tasks: tasks.len(),
            sparse: of(sparse),
            dense: between(of(above), of(below)),
            interval: (quantile(&ratios, 0.025), quantile(&ratios, 0.975)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Score, Scores};

    fn model(name: &str, pfrac: Option<f64>, validation_nats: f64) -> Model {
        let scores = Scores { tasks: ["a", "b"].map(|task| Score { task: task.into(), fresh: None }).to_vec() };
        Model { model: name.into(), width: 64, pfrac, tokens: 1, validation_nats, nonzeros: 1, scores }
    }

    fn found(model: &str, task: &str, edges: Option<usize>) -> Search {
        Search { kind: "masks".into(), model: model.into(), task: task.into(), target: "0.15".into(), edges }
    }

    #[test]
    fn dense_edges_are_taken_at_the_loss_of_the_sparse_model() {
        let models = vec![
            model("s", Some(0.5), 3.25),
            model("worse", None, 3.5),
            model("better", None, 3.0),
            model("far", None, 9.0),
        ];
        let mut searches = vec![found("s", "b", None), found("worse", "b", Some(7)), found("better", "b", Some(7))];
        for (name, edges) in [("s", [10, 10, 10]), ("worse", [100, 100, 100]), ("better", [400, 400, 400])] {
            searches.extend(edges.map(|edges| found(name, "a", Some(edges))));
        }
        // Another kind of search is no circuit of the masks.
        searches.push(Search { kind: "random".into(), ..found("s", "b", Some(1)) });
        let study = Study { models, searches };
        let ratio = study.ratio(&study.models[0], "0.15").unwrap();
        // Half way between in loss: √(100 · 400) edges. Task b has no circuit in the sparse model.
        assert_eq!((ratio.tasks, ratio.sparse.round(), ratio.dense.round()), (1, 10.0, 200.0));
        assert!((ratio.interval.0 - 20.0).abs() < 1e-9 && (ratio.interval.1 - 20.0).abs() < 1e-9);
        assert_eq!(study.ratio(&study.models[0], "0.5"), None);
        let outside = Study { models: vec![model("s", Some(0.5), 2.0), model("d", None, 3.0)], searches: vec![] };
        assert!(outside.bracket(&outside.models[0]).is_none());
    }

    #[test]
    fn intervals_hold_the_ratio_where_seeds_differ() {
        let models = vec![model("s", Some(0.5), 3.0), model("d", None, 3.0)];
        let mut searches = vec![];
        for (task, sparse, dense) in [("a", [8, 10, 13], [80, 120, 170]), ("b", [30, 20, 25], [300, 500, 900])] {
            searches.extend(sparse.map(|edges| found("s", task, Some(edges))));
            searches.extend(dense.map(|edges| found("d", task, Some(edges))));
        }
        let study = Study { models, searches };
        let ratio = study.ratio(&study.models[0], "0.15").unwrap();
        let expected = (12.0_f64 * 20.0).sqrt();
        assert!((ratio.dense / ratio.sparse - expected).abs() < 1e-9);
        assert!(ratio.interval.0 < expected && expected < ratio.interval.1);
    }
}
