//! Tests of a hypothesis by interchange interventions.

use openwork_circuit::{Node, NodeSet};
use openwork_expression::Language;
use openwork_model::Model;
use rand::{RngExt, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    Hypothesis, HypothesisCheck, HypothesisCheckId, HypothesisError, HypothesisExample, HypothesisReport,
    HypothesisSettings, HypothesisVerdict, Prompts, Tokens,
    intervene::{Group, Job, Outcome, Patch, Patcher, Sayings, When},
    model::{Answers, HighLevel},
};
use crate::{checks::Status, stats::intervals::fraction, streams::Stream};

/// Tests a hypothesis about `model` on prompts, by interchange interventions: run a *base* prompt with some nodes set to
/// what they are on a *source* prompt.
///
/// - *Accuracy*: without intervention, how often the hypothesis gives the model's answer.
/// - *Interchange* of each variable, and of several at once (each from its own source): how often
///   `argmax M^{nodes(V) ← source}(base) = H^{V ← V(source)}(base)`. Reported apart where the swap changes the predicted
///   answer and where a different value leaves it, since doing nothing is right on the second.
/// - *Same value*: a variable's nodes are set from a prompt of the same value; the answer must stay.
/// - *Nodes that no variable names* are set from a prompt of another predicted answer; the answer must stay
///   (strict interchange intervention training). All of them; a random half; everything outside the circuit and each
///   circuit node alone, if there is a circuit. So a hypothesis must name all nodes that carry a variable, one after
///   the other included.
/// - *Around the named nodes*: the same for all of them with the named nodes held as they are. Where this passes and the
///   check above does not, the missing nodes only feed the named ones.
///
/// Every check needs the lower end of its exact (Clopper and Pearson) interval above a threshold. Base and source have
/// as many tokens as each other where nodes are set at more than the last token.
pub fn examine(
    model: &Model,
    circuit: Option<&NodeSet>,
    hypothesis: &Hypothesis,
    prompts: Prompts<'_>,
    settings: &HypothesisSettings,
) -> Result<HypothesisReport, HypothesisError> {
    let language = Language::new();
    let high = HighLevel::new(&language, hypothesis);
    let patcher = Patcher::new(model, prompts, settings.max_prompts)?;
    if circuit.is_some_and(|c| *c.space() != patcher.recorded.space) {
        return Err(HypothesisError::OtherModel);
    }
    let answers = Answers::new(hypothesis, model.config.vocab_size, prompts)?;
    let sayings = Sayings::new(&patcher, &high, &answers)?;
    let plain = patcher.plain(&answers);
    let rng = Stream::Hypothesis.rng(settings.seed);
    let mut examiner = Examiner { patcher, high, answers, sayings, plain, settings, rng, checks: vec![], open: vec![] };
    examiner.accuracy();
    examiner.variables()?;
    examiner.unnamed(circuit)?;
    Ok(examiner.report())
}

/// A run, what it should give, and what was done in words.
struct Trial<'g> {
    job: Job<'g>,
    predicted: u16,
    swapped: Vec<(String, usize)>,
}

/// Draws of a source before a base is given up.
const TRIES: usize = 32;

struct Examiner<'a> {
    patcher: Patcher<'a>,
    high: HighLevel<'a>,
    answers: Answers,
    sayings: Sayings,
    plain: Vec<u16>,
    settings: &'a HypothesisSettings,
    rng: ChaCha8Rng,
    checks: Vec<HypothesisCheck>,
    /// Checks that must decide and could not.
    open: Vec<HypothesisCheckId>,
}

impl Examiner<'_> {
    fn accuracy(&mut self) {
        let none =
            |base| Trial { job: Job { base, patches: vec![] }, predicted: self.sayings.answers[base], swapped: vec![] };
        let trials: Vec<Trial<'_>> = (0..self.patcher.len()).map(none).collect();
        let outcomes: Vec<Outcome> = self.plain.iter().map(|&answer| Outcome { answer, kl: 0.0 }).collect();
        let min = self.settings.min_accuracy;
        self.decide(
            HypothesisCheckId::Answers,
            "the hypothesis gives the model's answer",
            min,
            true,
            &trials,
            &outcomes,
        );
    }

    fn variables(&mut self) -> Result<(), HypothesisError> {
        let variables = &self.high.hypothesis.variables;
        let groups: Vec<Group> =
            variables.iter().map(|v| self.patcher.group(v.nodes.iter().copied(), v.at.into())).collect();
        let n = variables.len();
        for (v, variable) in variables.iter().enumerate() {
            let name = || variable.name.clone();
            let alone = move |_: &mut ChaCha8Rng| (0..n).map(|other| other == v).collect();
            let min = self.settings.min_interchange;
            let changes = self.interchanges(&groups, alone, Wanted::Changes)?;
            let id = HypothesisCheckId::Interchange { variable: name() };
            self.check(id, "where it changes, the answer is as predicted", min, true, changes)?;
            let stays = self.interchanges(&groups, alone, Wanted::Stays)?;
            let id = HypothesisCheckId::InterchangeStays { variable: name() };
            self.check(id, "another value that leaves the predicted answer leaves the model's", min, false, stays)?;
            let same = self.interchanges(&groups, alone, Wanted::SameValue)?;
            let id = HypothesisCheckId::SameValue { variable: name() };
            self.check(id, "nodes of the same value leave the answer", self.settings.min_unchanged, false, same)?;
        }
        if n > 1 {
            let several = move |rng: &mut ChaCha8Rng| {
                let one = rng.random_range(0..n);
                let other = (one + rng.random_range(1..n)) % n;
                (0..n).map(|v| v == one || v == other || rng.random_bool(0.5)).collect()
            };
            let min = self.settings.min_interchange;
            let changes = self.interchanges(&groups, several, Wanted::Changes)?;
            let words = "with several variables set, each from its own prompt, the answer changes as predicted";
            self.check(HypothesisCheckId::InterchangeOfSeveral, words, min, true, changes)?;
        }
        Ok(())
    }

    /// One trial a base, where sources of what is `wanted` are found; `which` draws the variables to set.
    fn interchanges<'g>(
        &mut self,
        groups: &'g [Group],
        which: impl Fn(&mut ChaCha8Rng) -> Vec<bool>,
        wanted: Wanted,
    ) -> Result<Vec<Trial<'g>>, HypothesisError> {
        let variables = &self.high.hypothesis.variables;
        let mut trials = Vec::new();
        for base in 0..self.patcher.len() {
            for _ in 0..TRIES {
                let set: Vec<bool> = which(&mut self.rng);
                let mut source = |at: Tokens| self.patcher.source(base, at, &mut self.rng);
                let sources: Vec<Option<usize>> =
                    set.into_iter().zip(variables).map(|(set, v)| set.then(|| source(v.at))).collect();
                let given = || sources.iter().enumerate().filter_map(|(v, s)| s.map(|s| (v, s)));
                if given().any(|(_, source)| source == base) {
                    continue;
                }
                let same = |(v, s): (usize, usize)| self.sayings.values[s][v] == self.sayings.values[base][v];
                let predicted = self.sayings.swapped(&self.patcher, &self.high, &self.answers, base, &sources)?;
                let changes = predicted != self.sayings.answers[base];
                let good = match wanted {
                    Wanted::Changes => changes,
                    Wanted::Stays => !changes && !given().all(same),
                    Wanted::SameValue => given().all(same),
                };
                if good {
                    let patches = given().map(|(v, source)| Patch { group: &groups[v], source }).collect();
                    let swapped = given().map(|(v, s)| (variables[v].name.clone(), s)).collect();
                    trials.push(Trial { job: Job { base, patches }, predicted, swapped });
                    break;
                }
            }
        }
        Ok(trials)
    }

    /// Sets nodes that no variable names.
    fn unnamed(&mut self, circuit: Option<&NodeSet>) -> Result<(), HypothesisError> {
        let space = self.patcher.recorded.space.clone();
        let variables = &self.high.hypothesis.variables;
        let at = |node: Node| variables.iter().find(|v| v.nodes.contains(&node)).map(|v| v.at);
        let all: Vec<Node> = (0..space.len()).map(|n| space.node(n)).collect();
        let unnamed: Vec<Node> = all.iter().copied().filter(|&n| at(n).is_none()).collect();
        // Named at the last token only: what they are before it carries nothing.
        let before: Vec<Node> = all.iter().copied().filter(|&n| at(n) == Some(Tokens::Last)).collect();
        let before = self.patcher.group(before, When::AllButLast);
        let named: Vec<Group> =
            variables.iter().map(|v| self.patcher.group(v.nodes.iter().copied(), v.at.into())).collect();
        let everything = self.patcher.group(unnamed.iter().copied(), When::All);

        let bases = self.other_answers(self.patcher.len());
        let all = HypothesisCheckId::AllUnnamed;
        let groups = |_: usize| vec![&everything, &before];
        let trials = self.unchanged(&all.to_string(), &bases, groups, &[]);
        let held = self.unchanged(&all.to_string(), &bases, groups, &named);
        self.must_stay(all, "they change nothing", trials)?;
        self.must_stay(HypothesisCheckId::AroundNamed, "with the named nodes held, the others change nothing", held)?;

        let mut halves = Vec::new();
        for _ in &bases {
            let mut shuffled = unnamed.clone();
            shuffled.shuffle(&mut self.rng);
            halves.push(self.patcher.group(shuffled[..unnamed.len() / 2].iter().copied(), When::All));
        }
        let half = HypothesisCheckId::RandomHalf;
        let trials = self.unchanged(&half.to_string(), &bases, |i| vec![&halves[i]], &[]);
        self.must_stay(half, "they change nothing", trials)?;

        let Some(circuit) = circuit else { return Ok(()) };
        let outside = self.patcher.group(unnamed.iter().copied().filter(|&n| !circuit.contains(n)), When::All);
        let rest = HypothesisCheckId::OutsideCircuit;
        let trials = self.unchanged(&rest.to_string(), &bases, |_| vec![&outside], &[]);
        self.must_stay(rest, "it changes nothing", trials)?;
        let alone: Vec<Node> = unnamed.into_iter().filter(|&n| circuit.contains(n)).collect();
        self.each_alone(&alone)
    }

    /// Each of some nodes alone; the worst of them is reported.
    fn each_alone(&mut self, nodes: &[Node]) -> Result<(), HypothesisError> {
        let bases = self.other_answers(self.settings.node_prompts);
        let mut worst: Option<(usize, Node)> = None;
        for &node in nodes {
            let group = self.patcher.group([node], When::All);
            let trials = self.unchanged(&node.to_string(), &bases, |_| vec![&group], &[]);
            let jobs: Vec<Job<'_>> = trials.iter().map(|t| t.job.clone()).collect();
            let outcomes = self.patcher.run(&jobs, &self.answers)?;
            let wrong = trials.iter().zip(&outcomes).filter(|(t, o)| t.predicted != o.answer).count();
            if worst.is_none_or(|(most, _)| wrong > most) {
                worst = Some((wrong, node));
            }
        }
        let Some((_, node)) = worst else { return Ok(()) };
        let group = self.patcher.group([node], When::All);
        let trials = self.unchanged(&node.to_string(), &bases, |_| vec![&group], &[]);
        let words = format!("of {} such nodes, {node} changes most", nodes.len());
        self.must_stay(HypothesisCheckId::EachUnnamed, &words, trials)
    }

    /// Up to `most` bases, each with a source of as many tokens and another predicted answer.
    fn other_answers(&mut self, most: usize) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for base in 0..self.patcher.len() {
            let tries: Vec<usize> = (0..TRIES).map(|_| self.patcher.source(base, Tokens::All, &mut self.rng)).collect();
            let other = |&s: &usize| self.sayings.answers[s] != self.sayings.answers[base];
            found.extend(tries.into_iter().find(other).map(|source| (base, source)));
        }
        found.truncate(most);
        found
    }

    /// The model's own answer must stay; `held` are kept at what they are on the base.
    fn unchanged<'g>(
        &self,
        what: &str,
        bases: &[(usize, usize)],
        groups: impl Fn(usize) -> Vec<&'g Group>,
        held: &'g [Group],
    ) -> Vec<Trial<'g>> {
        let one = |(i, &(base, source)): (usize, &(usize, usize))| {
            let mut patches: Vec<Patch<'g>> = groups(i).into_iter().map(|group| Patch { group, source }).collect();
            patches.extend(held.iter().map(|group| Patch { group, source: base }));
            Trial { job: Job { base, patches }, predicted: self.plain[base], swapped: vec![(what.to_owned(), source)] }
        };
        bases.iter().enumerate().map(one).collect()
    }

    fn must_stay(&mut self, id: HypothesisCheckId, words: &str, trials: Vec<Trial<'_>>) -> Result<(), HypothesisError> {
        self.check(id, words, self.settings.min_unchanged, true, trials)
    }

    fn check(
        &mut self,
        id: HypothesisCheckId,
        words: &str,
        threshold: f64,
        decides: bool,
        trials: Vec<Trial<'_>>,
    ) -> Result<(), HypothesisError> {
        let jobs: Vec<Job<'_>> = trials.iter().map(|t| t.job.clone()).collect();
        let outcomes = self.patcher.run(&jobs, &self.answers)?;
        self.decide(id, words, threshold, decides, &trials, &outcomes);
        Ok(())
    }

    fn decide(
        &mut self,
        id: HypothesisCheckId,
        words: &str,
        threshold: f64,
        decides: bool,
        trials: &[Trial<'_>],
        outcomes: &[Outcome],
    ) {
        let right: Vec<f64> =
            trials.iter().zip(outcomes).map(|(t, o)| f64::from(u8::from(t.predicted == o.answer))).collect();
        let estimate = (!right.is_empty()).then(|| fraction(&right));
        let status = match &estimate {
            // Few runs can still be enough to see that it is wrong.
            Some(e) if e.ci95.1 < threshold => Status::Failed,
            Some(e) if e.n >= self.settings.min_runs && e.ci95.0 >= threshold => Status::Passed,
            Some(e) if e.n >= self.settings.min_runs => Status::Failed,
            _ => Status::NotApplicable,
        };
        if decides && status == Status::NotApplicable {
            self.open.push(id.clone());
        }
        let numbers = match &estimate {
            Some(e) => format!("{:.3} [{:.3}, {:.3}] of {} runs", e.mean, e.ci95.0, e.ci95.1, e.n),
            None => "no such prompts".into(),
        };
        let explanation = match status {
            Status::NotApplicable => format!("{words}: {numbers}; {} are needed", self.settings.min_runs),
            _ => format!("{words}: {numbers}, at least {threshold} needed at the lower end"),
        };
        let wrong = trials.iter().zip(outcomes).find(|(t, o)| t.predicted != o.answer);
        let example = wrong.map(|(trial, outcome)| self.example(trial, outcome));
        let kl = outcomes.iter().map(|o| o.kl).sum::<f64>() / outcomes.len().max(1) as f64;
        self.checks.push(HypothesisCheck { id, status, estimate, threshold, kl, explanation, example });
    }

    fn example(&self, trial: &Trial<'_>, outcome: &Outcome) -> HypothesisExample {
        let base = trial.job.base;
        HypothesisExample {
            base,
            base_tokens: self.patcher.texts[base].clone(),
            source_tokens: trial.swapped.first().map(|(_, source)| self.patcher.texts[*source].clone()),
            swapped: trial.swapped.clone(),
            predicted: self.answers.text(trial.predicted),
            found: self.answers.text(outcome.answer),
            plain: self.answers.text(self.plain[base]),
        }
    }

    fn report(self) -> HypothesisReport {
        let failed = |c: &&HypothesisCheck| c.status == Status::Failed;
        let by: Vec<HypothesisCheckId> = self.checks.iter().filter(failed).map(|c| c.id.clone()).collect();
        let verdict = if !by.is_empty() {
            HypothesisVerdict::Refuted { by }
        } else if !self.open.is_empty() {
            HypothesisVerdict::Undecided { by: self.open }
        } else {
            HypothesisVerdict::Supported
        };
        HypothesisReport {
            hypothesis: self.high.hypothesis.name.clone(),
            verdict,
            checks: self.checks,
            prompts: self.patcher.len(),
            settings: self.settings.clone(),
        }
    }
}

/// Kind of swap that is looked for.
#[derive(Clone, Copy)]
enum Wanted {
    /// The predicted answer changes.
    Changes,
    /// A value changes and the predicted answer does not.
    Stays,
    /// No value changes.
    SameValue,
}
