//! Comparison of two hypotheses about one model, on runs that they predict differently.

use std::collections::BTreeSet;

use openwork_circuit::Node;
use openwork_expression::Language;
use openwork_model::Model;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{
    AnswerError, Hypothesis, HypothesisError, HypothesisSettings, Prompts, Tokens,
    intervene::{Group, Job, Patch, Patcher, Sayings},
    model::{Answers, HighLevel},
};
use crate::{
    stats::intervals::{Estimate, fraction},
    streams::Stream,
};

/// Source prompts drawn for every base and every intervention.
const SOURCES: usize = 8;

/// A run that two hypotheses predict differently.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disagreement {
    /// Number of the base prompt.
    pub base: usize,
    /// Texts of its tokens.
    pub base_tokens: Vec<String>,
    /// Variable that was set: `VARIABLE of HYPOTHESIS`; nothing for a plain run.
    pub swapped: Option<String>,
    /// Number of the source prompt and texts of its tokens.
    pub source: Option<(usize, Vec<String>)>,
    /// Prediction of each hypothesis.
    pub predicted: [String; 2],
    /// Answer of the model.
    pub found: String,
}

/// Comparison of two hypotheses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Their names.
    pub names: [String; 2],
    /// Runs that were considered: every prompt plain, and with the nodes of every variable of either set from
    /// up to eight other prompts.
    pub considered: usize,
    /// Of these, runs on which one of the two predicts nothing, since its variables share only some of the nodes.
    pub unpredicted: usize,
    /// Of these, runs that the two predict differently.
    pub differ: usize,
    /// Runs of the model among those: one at most for every prompt and intervention.
    pub runs: usize,
    /// Fraction of those runs in which the model answered as each predicts; none without runs. They need not add up to 1.
    pub follows: Option<[Estimate; 2]>,
    /// The first of these runs.
    pub example: Option<Disagreement>,
}

impl Comparison {
    /// The hypothesis that the model follows: the one whose interval lies above that of the other.
    pub fn favoured(&self) -> Option<&str> {
        let [a, b] = self.follows?;
        if a.ci95.0 > b.ci95.1 {
            Some(&self.names[0])
        } else if b.ci95.0 > a.ci95.1 {
            Some(&self.names[1])
        } else {
            None
        }
    }
}

/// Looks for runs on which two hypotheses differ and lets the model decide.
///
/// An intervention sets the nodes of one variable of one hypothesis from a source prompt. The other hypothesis predicts
/// what follows if each of its own variables has all its nodes among them (its value is set, too) or none (it
/// stays); otherwise it predicts nothing. Both must name the same candidates.
pub fn compare(
    model: &Model,
    [a, b]: [&Hypothesis; 2],
    prompts: Prompts<'_>,
    settings: &HypothesisSettings,
) -> Result<Comparison, HypothesisError> {
    if a.candidates != b.candidates {
        let reason = AnswerError::OtherCandidates { other: a.name.clone() };
        return Err(HypothesisError::Answer { file: b.file.clone(), reason });
    }
    let (language, patcher) = (Language::new(), Patcher::new(model, prompts, settings.max_prompts)?);
    let answers = Answers::new(a, model.config.vocab_size, prompts)?;
    let side = |hypothesis| {
        let high = HighLevel::new(&language, hypothesis);
        Ok::<_, HypothesisError>(Side { sayings: Sayings::new(&patcher, &high, &answers)?, high })
    };
    let sides: [Side<'_>; 2] = [side(a)?, side(b)?];
    let interventions = interventions([a, b], &patcher);
    let mut search = Search {
        patcher: &patcher,
        answers: &answers,
        sides: &sides,
        rng: Stream::Hypothesis.rng(settings.seed),
        counts: [0; 3],
        found: vec![],
    };
    search.plain();
    for intervention in &interventions {
        search.intervention(intervention)?;
    }
    search.run([a, b])
}

struct Side<'a> {
    high: HighLevel<'a>,
    sayings: Sayings,
}

/// Nodes of one variable, and which variables of each hypothesis they set (none: it predicts nothing).
struct Intervention {
    name: String,
    group: Group,
    at: Tokens,
    sets: [Option<Vec<bool>>; 2],
}

/// Nodes with the tokens at which they are named.
fn cells(nodes: &[Node], at: Tokens) -> BTreeSet<(Node, bool)> {
    // A node at all tokens is at the last one (true) and before it (false).
    let parts = match at {
        Tokens::Last => &[true][..],
        Tokens::All => &[true, false],
    };
    nodes.iter().flat_map(|&node| parts.iter().map(move |&last| (node, last))).collect()
}

fn interventions(hypotheses: [&Hypothesis; 2], patcher: &Patcher<'_>) -> Vec<Intervention> {
    let mut seen: BTreeSet<BTreeSet<(Node, bool)>> = BTreeSet::new();
    let mut found = Vec::new();
    for hypothesis in hypotheses {
        for variable in &hypothesis.variables {
            let nodes = cells(&variable.nodes, variable.at);
            if !seen.insert(nodes.clone()) {
                continue;
            }
            let sets = hypotheses.map(|h| {
                let of = |own: BTreeSet<_>| match (own.is_subset(&nodes), own.is_disjoint(&nodes)) {
                    (true, _) => Some(true),
                    (_, true) => Some(false),
                    _ => None,
                };
                h.variables.iter().map(|v| of(cells(&v.nodes, v.at))).collect()
            });
            found.push(Intervention {
                name: format!("{} of {}", variable.name, hypothesis.name),
                group: patcher.group(variable.nodes.iter().copied(), variable.at.into()),
                at: variable.at,
                sets,
            });
        }
    }
    found
}

/// A run that the two predict differently.
struct Found<'a> {
    base: usize,
    intervention: Option<(&'a Intervention, usize)>,
    predicted: [u16; 2],
}

struct Search<'a> {
    patcher: &'a Patcher<'a>,
    answers: &'a Answers,
    sides: &'a [Side<'a>; 2],
    rng: ChaCha8Rng,
    /// Considered, unpredicted, differ.
    counts: [usize; 3],
    found: Vec<Found<'a>>,
}

impl<'a> Search<'a> {
    fn plain(&mut self) {
        for base in 0..self.patcher.len() {
            let predicted = [0, 1].map(|i| self.sides[i].sayings.answers[base]);
            self.counts[0] += 1;
            if predicted[0] != predicted[1] {
                self.counts[2] += 1;
                self.found.push(Found { base, intervention: None, predicted });
            }
        }
    }

    fn intervention(&mut self, intervention: &'a Intervention) -> Result<(), HypothesisError> {
        for base in 0..self.patcher.len() {
            let mut first = true;
            for _ in 0..SOURCES {
                let source = self.patcher.source(base, intervention.at, &mut self.rng);
                if source == base {
                    continue;
                }
                self.counts[0] += 1;
                let [Some(a), Some(b)] = &intervention.sets else {
                    self.counts[1] += 1;
                    continue;
                };
                let predict = |side: &Side<'_>, sets: &[bool]| {
                    let sources: Vec<_> = sets.iter().map(|set| set.then_some(source)).collect();
                    side.sayings.swapped(self.patcher, &side.high, self.answers, base, &sources)
                };
                let predicted = [predict(&self.sides[0], a)?, predict(&self.sides[1], b)?];
                if predicted[0] != predicted[1] {
                    self.counts[2] += 1;
                    if first {
                        self.found.push(Found { base, intervention: Some((intervention, source)), predicted });
                        first = false;
                    }
                }
            }
        }
        Ok(())
    }

    /// Lets the model answer.
    fn run(self, hypotheses: [&Hypothesis; 2]) -> Result<Comparison, HypothesisError> {
        let patches = |found: &Found<'a>| -> Vec<Patch<'a>> {
            found.intervention.iter().map(|(i, source)| Patch { group: &i.group, source: *source }).collect()
        };
        let jobs: Vec<Job<'_>> = self.found.iter().map(|f| Job { base: f.base, patches: patches(f) }).collect();
        let outcomes = self.patcher.run(&jobs, self.answers)?;
        let follows = |i: usize| {
            let right = self.found.iter().zip(&outcomes).map(|(f, o)| f64::from(u8::from(f.predicted[i] == o.answer)));
            fraction(&right.collect::<Vec<_>>())
        };
        let example = self.found.first().map(|f| Disagreement {
            base: f.base,
            base_tokens: self.patcher.texts[f.base].clone(),
            swapped: f.intervention.map(|(i, _)| i.name.clone()),
            source: f.intervention.map(|(_, source)| (source, self.patcher.texts[source].clone())),
            predicted: f.predicted.map(|p| self.answers.text(p)),
            found: self.answers.text(outcomes[0].answer),
        });
        let [considered, unpredicted, differ] = self.counts;
        Ok(Comparison {
            names: hypotheses.map(|h| h.name.clone()),
            considered,
            unpredicted,
            differ,
            runs: self.found.len(),
            follows: (!self.found.is_empty()).then(|| [follows(0), follows(1)]),
            example,
        })
    }
}
