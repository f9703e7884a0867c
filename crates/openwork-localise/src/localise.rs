//! The training: the model's own loss on text, and the interventions on its circuits.

use std::{convert::Infallible, ops::ControlFlow};

use openwork_circuit::{Batch, Calibration, Localisation, Means, NodeSet, NodeSpace, batches, evaluate};
use openwork_model::{Bigram, Cpu, Gradient, Model, NoTap, Params, Record, Tokens};
use openwork_tasks::Pair;
use openwork_train::{CpuStore, Schedule, Trainer};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    Goal, Standing,
    adversary::Adversary,
    goal::raw_loss,
    objective::Context,
    standing::standing,
    terms::{self, Kind, budget, interventions, untouched},
};

/// Localisation of circuits: the model before, what is trained on, and how.
pub struct Localiser<'a> {
    /// The model before.
    pub original: &'a Model,
    /// Means of its nodes.
    pub means: &'a Means,
    /// Tokens that means are taken over again as the model changes, whole sequences of `seq_len`.
    pub sample: &'a [u16],
    /// Tokens of a sequence of text.
    pub seq_len: usize,
    /// Circuits to train in, each with its task.
    pub goals: &'a [Goal],
    /// Training pairs of other tasks, whose answers stay the original's.
    pub preserved: &'a [Vec<Pair>],
    /// Schedule that the model was trained by; its sparsity stays.
    pub schedule: &'a Schedule,
    /// Sums of gradients, and sequences of a chunk of text, as in the recipe.
    pub lanes: (usize, usize),
    /// Settings.
    pub settings: &'a Localisation,
}

/// State after a step.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Steps done, of both phases.
    pub step: u64,
    /// Most steps there will be.
    pub steps: u64,
    /// Cross-entropy of the step's text, nats per token.
    pub text_loss: f64,
    /// Mean distance of the step's interventions from what they are asked for, nats; 0 of the twin.
    pub distance: f64,
    /// States of the goals, where this step looked at them.
    pub standings: Option<&'a [Standing]>,
}

/// Callback after every step; its `Break` ends the training.
pub type OnStep<'a> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'a;

/// The caller ended the training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the training was ended before its last step")]
pub struct Ended;

/// A localised model.
#[derive(Clone, Debug)]
pub struct Localised {
    /// The model.
    pub model: Model,
    /// Steps of the two phases: until the circuits stood, and after idle nodes were dropped.
    pub phases: [u64; 2],
    /// The circuits, in the order of the goals.
    pub goals: Vec<LocalisedGoal>,
}

/// A circuit of a localised model.
#[derive(Clone, Debug)]
pub struct LocalisedGoal {
    /// Nodes that are left of the goal's.
    pub nodes: NodeSet,
    /// State in the model before.
    pub before: Standing,
    /// States on the way, by steps done.
    pub on_the_way: Vec<(u64, Standing)>,
    /// State in the end.
    pub after: Standing,
}

/// Tokens that means are taken over while the model changes.
const MEANS_TOKENS: usize = 1 << 15;
/// Pairs of an earlier-known task a step.
const PRESERVED_PAIRS: usize = 6;
/// Share of the loss reduction that a node must be worth to stay.
const IDLE: f64 = 0.01;

impl Localiser<'_> {
    /// Trains until every circuit stands on its selection pairs at two successive looks, or the steps are over; then drops nodes that are worth
    /// less than a hundredth of the loss reduction, and makes the extra steps. `text(step)` has the sequences of a step.
    ///
    /// The loss of a step is the cross-entropy of its text, plus `weight` times the sum over interventions of their distances
    /// (`objective.rs`); goals take turns. The bigram table is frozen and every nonzero stays where it is. The same inputs give the same
    /// bytes on any number of threads.
    ///
    /// # Errors
    /// Those of `text`; [`Ended`] inside where `on_step` ended it.
    pub fn run<E>(
        &self,
        text: &mut dyn FnMut(u64) -> Result<Vec<u16>, E>,
        on_step: &mut OnStep<'_>,
    ) -> Result<Result<Localised, Ended>, E> {
        let settings = self.settings;
        let mut goals: Vec<Goal> = self.goals.to_vec();
        let before: Vec<Standing> =
            goals.iter().map(|g| standing(self.original, self.original, self.means, g)).collect();
        let mut state = State::new(self, &goals);
        let mut looks: Vec<(u64, Vec<Standing>)> = vec![];
        let mut stood = false;
        let mut trainer = self.trainer(self.frozen(), settings.steps, settings.lr);
        let mut done = 0;
        for step in 0..settings.steps {
            let (text_loss, distance) = self.step(&mut trainer, &text(done)?, &goals, &mut state, done);
            done += 1;
            let look = done.is_multiple_of(settings.check_every) || done == settings.steps;
            let standings = look.then(|| self.look(trainer.model(), &state.means, &goals));
            let most = settings.steps + settings.extra_steps;
            let progress = Progress { step: done, steps: most, text_loss, distance, standings: standings.as_deref() };
            if on_step(progress).is_break() {
                return Ok(Err(Ended));
            }
            let Some(standings) = standings else { continue };
            let stands = standings.iter().all(|s| self.stands(s));
            looks.push((done, standings));
            if stands && stood {
                break;
            }
            stood = stands && step + 1 < settings.steps;
        }
        let first = done;
        let stands: Vec<bool> = looks.last().map_or(vec![], |(_, last)| last.iter().map(|s| self.stands(s)).collect());
        self.drop_idle(trainer.model(), &state.means, &mut goals, &stands);
        let mut trainer = self.trainer(trainer.model().clone(), settings.extra_steps, settings.lr / 2.0);
        for _ in 0..settings.extra_steps {
            let (text_loss, distance) = self.step(&mut trainer, &text(done)?, &goals, &mut state, done);
            done += 1;
            let progress =
                Progress { step: done, steps: first + settings.extra_steps, text_loss, distance, standings: None };
            if on_step(progress).is_break() {
                return Ok(Err(Ended));
            }
        }
        let model = self.thawed(trainer.model());
        let after = self.look(&model, &self.means_of(&model), &goals);
        let goals = goals.into_iter().zip(before).zip(after).enumerate().map(|(i, ((goal, before), after))| {
            let on_the_way = looks.iter().map(|(step, standings)| (*step, standings[i])).collect();
            LocalisedGoal { nodes: goal.nodes, before, on_the_way, after }
        });
        Ok(Ok(Localised { goals: goals.collect(), model, phases: [first, done - first] }))
    }

    /// The twin of a localised model: the same steps on the same text without the interventions.
    ///
    /// # Errors
    /// As [`Localiser::run`].
    pub fn twin<E>(
        &self,
        phases: [u64; 2],
        text: &mut dyn FnMut(u64) -> Result<Vec<u16>, E>,
        on_step: &mut OnStep<'_>,
    ) -> Result<Result<Model, Ended>, E> {
        let mut model = self.frozen();
        let (mut done, lr) = (0, self.settings.lr);
        // The first phase keeps the schedule of its most steps, wherever it ended.
        for (steps, scheduled, lr) in [(phases[0], self.settings.steps, lr), (phases[1], phases[1], lr / 2.0)] {
            let mut trainer = self.trainer(model, scheduled, lr);
            for _ in 0..steps {
                let Ok(report) = trainer.step(&text(done)?, self.seq_len);
                done += 1;
                let (steps, text_loss) = (phases.iter().sum(), report.loss_nats);
                if on_step(Progress { step: done, steps, text_loss, distance: 0.0, standings: None }).is_break() {
                    return Ok(Err(Ended));
                }
            }
            model = trainer.model().clone();
        }
        Ok(Ok(self.thawed(&model)))
    }

    fn stands(&self, standing: &Standing) -> bool {
        standing.is_localised(self.settings.agreement, self.settings.target_loss)
    }

    /// One step; the cross-entropy of the text and the mean distance of the interventions.
    fn step(&self, trainer: &mut Trainer, tokens: &[u16], goals: &[Goal], state: &mut State, step: u64) -> (f64, f64) {
        let mut distance = 0.0;
        let Ok::<_, Infallible>(report) = trainer.step_with(tokens, self.seq_len, &mut |store: &mut CpuStore| {
            let (model, gradients) = store.model_and_gradient();
            distance = self.add_interventions(model, gradients, goals, state, step);
        });
        if (step + 1).is_multiple_of(self.settings.means_every) {
            state.means = self.means_of(trainer.model());
        }
        (report.loss_nats, distance)
    }

    /// Adds the gradient of the interventions on the circuit whose turn it is, and of one preserved task.
    fn add_interventions(
        &self,
        model: &Model,
        gradients: &mut Params<Gradient>,
        goals: &[Goal],
        state: &mut State,
        step: u64,
    ) -> f64 {
        let [mut rng, mut of_knock_outs] = [2 * step, 2 * step + 1].map(|stream| {
            let mut rng = ChaCha8Rng::seed_from_u64(self.settings.seed);
            rng.set_stream(stream);
            rng
        });
        let turn = (step % goals.len() as u64) as usize;
        let (goal, State { space, means, adversaries, targets, preserved }) = (&goals[turn], state);
        let (batch, of_original) = draw(&goal.train, &targets[turn], self.settings.pairs, model, &mut rng);
        let mut record = Record::of_kinds(&NodeSpace::KINDS);
        model.forward_in(
            Tokens::new(&batch.tokens, batch.seq_len),
            Some(&batch.readout),
            &mut record,
            &mut Cpu::default(),
        );
        let context = Context { model, space, means, record: Some(&record) };
        let budget = budget(&goal.nodes, &mut rng);
        let adversary = &mut adversaries[turn];
        let subject = (&goal.nodes, &of_original[..]);
        let of_circuit = interventions((context, &batch), subject, (adversary, budget), [&mut rng, &mut of_knock_outs]);
        let mut all: Vec<(&Batch, terms::Intervention)> = of_circuit.into_iter().map(|i| (&batch, i)).collect();
        let others;
        if !self.preserved.is_empty() {
            let which = rng.random_range(0..self.preserved.len());
            others = draw(&self.preserved[which], &preserved[which], PRESERVED_PAIRS, model, &mut rng);
            all.push((&others.0, untouched(others.1.clone(), space.len())));
        }
        let ran = terms::run(context, &all, self.settings.weight, gradients);
        let attack = all.iter().position(|(_, i)| i.kind == Kind::Attack).expect("a step has an attack");
        adversary.follow(&ran[attack].by_coefficient, &goal.nodes, budget);
        ran.iter().map(|r| r.value).sum::<f64>() / ran.len() as f64
    }

    fn trainer(&self, model: Model, steps: u64, lr: f64) -> Trainer {
        let warmup = self.settings.warmup_steps.min(steps / 4) as f64;
        Trainer::fine_tuning(model, self.schedule.fine_tuning(steps, lr, warmup), self.lanes.0, self.lanes.1)
    }

    /// The original with its bigram table frozen: what a token says of the next by itself is no circuit's business.
    fn frozen(&self) -> Model {
        let mut model = self.original.clone();
        if model.config.bigram == Bigram::Learned {
            model.config.bigram = Bigram::Fixed;
        }
        model
    }

    fn thawed(&self, model: &Model) -> Model {
        let mut model = model.clone();
        model.config.bigram = self.original.config.bigram;
        model
    }

    fn means_of(&self, model: &Model) -> Means {
        let n = self.sample.len().min(MEANS_TOKENS) / self.seq_len * self.seq_len;
        Means::compute(model, &self.sample[..n], self.seq_len)
    }

    fn look(&self, model: &Model, means: &Means, goals: &[Goal]) -> Vec<Standing> {
        goals.iter().map(|goal| standing(self.original, model, means, goal)).collect()
    }

    /// Drops nodes of circuits, those of least worth first, as long as all that are dropped are worth less than a hundredth of the model's
    /// loss reduction together. A circuit that does not stand, such as a control's, keeps all.
    fn drop_idle(&self, model: &Model, means: &Means, goals: &mut [Goal], stands: &[bool]) {
        for (goal, _) in goals.iter_mut().zip(stands).filter(|(_, stands)| **stands) {
            let selection = batches(&goal.selection, 8, model.config.n_ctx);
            let of_model = evaluate(model, &selection, false, || NoTap, |_| ()).loss(Calibration::NONE);
            let most = IDLE * (std::f64::consts::LN_2 - of_model).max(0.0);
            // A calibration would make up for a node that holds the threshold.
            let loss = |nodes: &NodeSet| raw_loss(model, means, goal, nodes);
            let without = |nodes: &NodeSet, out: usize| {
                NodeSet::of(nodes.space().clone(), nodes.numbers().filter(|&node| node != out))
            };
            let (mut nodes, whole) = (goal.nodes.clone(), loss(&goal.nodes));
            let mut worth: Vec<(f64, usize)> =
                nodes.numbers().map(|node| (loss(&without(&nodes, node)) - whole, node)).collect();
            worth.retain(|(rise, _)| *rise < most);
            worth.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            for (_, node) in worth {
                let fewer = without(&nodes, node);
                if loss(&fewer) - whole < most && !fewer.is_empty() {
                    nodes = fewer;
                }
            }
            goal.nodes = nodes;
        }
    }
}

/// State of a training beside the weights: means, adversaries, and the answers to keep.
struct State {
    space: NodeSpace,
    means: Means,
    adversaries: Vec<Adversary>,
    /// Logit differences of the original on the training pairs of every goal, two a pair.
    targets: Vec<Vec<f64>>,
    /// The same of preserved tasks.
    preserved: Vec<Vec<f64>>,
}

impl State {
    fn new(localiser: &Localiser<'_>, goals: &[Goal]) -> Self {
        let (model, space) = (localiser.original, NodeSpace::new(&localiser.original.config));
        let differences = |pairs: &[Pair]| {
            evaluate(model, &batches(pairs, 8, model.config.n_ctx), false, || NoTap, |_| ()).differences
        };
        Self {
            means: localiser.means.clone(),
            adversaries: goals.iter().map(|_| Adversary::new(space.len())).collect(),
            targets: goals.iter().map(|goal| differences(&goal.train)).collect(),
            preserved: localiser.preserved.iter().map(|pairs| differences(pairs)).collect(),
            space,
        }
    }
}

/// Pairs drawn with replacement, as a batch, and the original's logit differences on them.
fn draw(pairs: &[Pair], of_original: &[f64], n: usize, model: &Model, rng: &mut ChaCha8Rng) -> (Batch, Vec<f64>) {
    let drawn: Vec<usize> = (0..n).map(|_| rng.random_range(0..pairs.len())).collect();
    let some: Vec<Pair> = drawn.iter().map(|&i| pairs[i].clone()).collect();
    let batch = batches(&some, n, model.config.n_ctx).remove(0);
    (batch, drawn.iter().flat_map(|&i| [of_original[2 * i], of_original[2 * i + 1]]).collect())
}

#[cfg(test)]
mod tests;
