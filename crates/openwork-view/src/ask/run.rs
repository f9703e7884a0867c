//! Runs on prompts: the model's answer, values of a circuit's nodes, and both under edits.

use openwork_circuit::{Ablation, CircuitFile, Keep, Node};
use openwork_debug::{Change, Trace};
use openwork_model::{Model, Tokens};
use openwork_tasks::Side;
use serde::{Deserialize, Serialize};

use crate::{
    View, ViewError,
    ask::{Token, graph::pairs_of},
    open::OpenedModel,
};

/// Likeliest tokens that are shown.
const TOP: usize = 10;
/// Pairs of a task whose prompts are offered.
const PAIRS: usize = 6;

/// A prompt: text, or tokens by their ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// A text.
    Text(String),
    /// Tokens.
    Tokens(Vec<u16>),
}

/// Value that an edit gives a node.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// A number.
    Number(f32),
    /// Its mean over training data.
    Mean,
}

/// An edit of a node in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EditAsked {
    /// The node.
    pub node: String,
    /// Position; all where it is none.
    pub position: Option<usize>,
    /// The value.
    pub to: To,
}

/// Question about a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunQuestion {
    /// The circuit whose model runs, and whose nodes are shown.
    pub circuit: usize,
    /// The prompt.
    pub prompt: Prompt,
    /// Edits, of which a later one holds.
    pub edits: Vec<EditAsked>,
}

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct RunAnswer {
    /// Tokens of the prompt.
    pub tokens: Vec<Token>,
    /// Likeliest tokens after each position, in the run with the edits.
    pub answers: Vec<Vec<Likely>>,
    /// The likeliest after the last position without edits; none where there are no edits.
    pub unedited: Option<Vec<Likely>>,
    /// The likeliest after the last position in the circuit alone, all other nodes at their means; none without means.
    pub alone: Option<Vec<Likely>>,
    /// Values of the circuit's nodes at every position.
    pub values: Vec<NodeValues>,
}

/// A token that may come next.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Likely {
    /// Its id.
    pub id: u16,
    /// Its text.
    pub text: String,
    /// Its logit.
    pub logit: f32,
    /// Its probability.
    pub probability: f64,
}

/// Values of a node.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeValues {
    /// The node.
    pub node: String,
    /// Value at every position, in the run with the edits.
    pub values: Vec<f32>,
    /// Values without the edits; none where there are no edits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Vec<f32>>,
}

/// Prompts of a task.
#[derive(Clone, Debug, Serialize)]
pub struct Prompts {
    /// The task.
    pub task: String,
    /// The prompts.
    pub prompts: Vec<TaskPrompt>,
}

/// A prompt of a contrast pair.
#[derive(Clone, Debug, Serialize)]
pub struct TaskPrompt {
    /// Number of the pair.
    pub pair: usize,
    /// True if the pair's answer continues it, false if the alternative does.
    pub positive: bool,
    /// Its tokens.
    pub tokens: Vec<Token>,
    /// The right token, where it is known.
    pub right: Option<Token>,
    /// The wrong one.
    pub wrong: Option<Token>,
}

impl View {
    /// Runs the model of a circuit on a prompt with edits.
    ///
    /// # Errors
    /// When the prompt is empty, too long or has a token that the model does not know, or an edit names no node of the
    /// model, no position of the prompt, or means that are not there.
    pub fn run(&self, question: &RunQuestion) -> Result<RunAnswer, ViewError> {
        let (circuit, opened) = self.circuit(question.circuit)?;
        let file = circuit.file();
        let tokens = opened.tokens_of(&question.prompt)?;
        let changes = opened.changes(&question.edits, tokens.len())?;
        let trace = opened.trace(&tokens, &changes)?;
        let plain = (!changes.is_empty()).then(|| opened.trace(&tokens, &[])).transpose()?;
        let last = tokens.len() - 1;
        let column = |trace: &Trace, position: usize| -> Vec<f32> { trace.logits().column(position).to_vec() };
        let values = |node: Node| NodeValues {
            node: node.to_string(),
            values: (0..tokens.len()).map(|at| trace.value(node, at)).collect(),
            before: plain.as_ref().map(|plain| (0..tokens.len()).map(|at| plain.value(node, at)).collect()),
        };
        Ok(RunAnswer {
            answers: (0..tokens.len()).map(|at| opened.likeliest(&column(&trace, at))).collect(),
            unedited: plain.as_ref().map(|plain| opened.likeliest(&column(plain, last))),
            alone: alone(opened, &file, &tokens).map(|logits| opened.likeliest(&logits)),
            values: file.circuit.nodes().nodes().map(values).collect(),
            tokens: opened.texts(&tokens),
        })
    }

    /// Prompts of the task of a circuit.
    ///
    /// # Errors
    /// When there is no such circuit, or its task is unknown.
    pub fn prompts(&self, number: usize) -> Result<Prompts, ViewError> {
        let (circuit, opened) = self.circuit(number)?;
        let file = circuit.file();
        let pairs = pairs_of(&file, opened, PAIRS)?;
        let token = |id: u16| opened.texts(&[id]).remove(0);
        let prompt = |pair: usize, of: &openwork_tasks::Pair, side: Side| TaskPrompt {
            pair,
            positive: side == Side::Positive,
            tokens: opened.texts(of.prompt(side)),
            right: Some(token(of.right(side))),
            wrong: Some(token(of.right(if side == Side::Positive { Side::Negative } else { Side::Positive }))),
        };
        let both = |(i, pair)| Side::BOTH.map(|side| prompt(i, pair, side));
        Ok(Prompts { task: file.task, prompts: pairs.iter().enumerate().flat_map(both).collect() })
    }
}

/// Logits after the last token in the circuit alone.
fn alone(opened: &OpenedModel, file: &CircuitFile, tokens: &[u16]) -> Option<Vec<f32>> {
    let means = opened.means.as_ref()?;
    let masked = file.circuit.masked(&opened.open.model).ok()?;
    let mut keep = Keep::new(file.circuit.nodes(), Ablation::Mean(means));
    let pass = masked.forward(Tokens::new(tokens, tokens.len()), Some(&[tokens.len() - 1]), &mut keep);
    Some(pass.logits.column(0).to_vec())
}

impl OpenedModel {
    /// Tokens of a prompt that the model can run.
    pub(crate) fn tokens_of(&self, prompt: &Prompt) -> Result<Vec<u16>, ViewError> {
        let tokens = match prompt {
            Prompt::Text(text) => self.tokenizer.encode(text),
            Prompt::Tokens(tokens) => tokens.clone(),
        };
        let config = &self.open.model.config;
        if tokens.is_empty() {
            return Err(ViewError::EmptyPrompt);
        }
        if tokens.len() > config.n_ctx {
            return Err(ViewError::LongPrompt { tokens: tokens.len(), n_ctx: config.n_ctx });
        }
        match tokens.iter().find(|&&token| usize::from(token) >= config.vocab_size) {
            Some(&token) => Err(ViewError::NoToken { token, last: config.vocab_size - 1 }),
            None => Ok(tokens),
        }
    }

    /// Changes of a run of so many tokens.
    pub(crate) fn changes(&self, edits: &[EditAsked], length: usize) -> Result<Vec<Change>, ViewError> {
        let mut changes = vec![];
        for EditAsked { node, position, to } in edits {
            let node = self.parse_node(node)?;
            let value = match to {
                To::Number(number) if number.is_finite() => *number,
                To::Number(number) => {
                    let found = f64::from(*number);
                    return Err(ViewError::Range { field: "to", found, expected: "any finite number" });
                }
                To::Mean => {
                    let means = self.means.as_ref().ok_or(ViewError::NoMeans)?;
                    means.values()[self.space.number(node).expect("it was found")]
                }
            };
            if let Some(position) = position.filter(|&position| position >= length) {
                return Err(ViewError::NoPosition { position, last: length - 1 });
            }
            let positions = position.map_or(0..length, |at| at..at + 1);
            changes.extend(positions.map(|position| Change { node, position, value }));
        }
        Ok(changes)
    }

    /// The run, whose values are finite.
    pub(crate) fn trace(&self, tokens: &[u16], changes: &[Change]) -> Result<Trace, ViewError> {
        let model: &Model = &self.open.model;
        let trace = Trace::run(model, tokens, changes);
        model.check_finite(Tokens::new(tokens, tokens.len()), trace.logits())?;
        Ok(trace)
    }

    /// Likeliest tokens under logits `[vocab]`: `softmax`, in f64; ties by id.
    pub(crate) fn likeliest(&self, logits: &[f32]) -> Vec<Likely> {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exp = |logit: f32| f64::from(logit - most).exp();
        let sum: f64 = logits.iter().map(|&logit| exp(logit)).sum();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
        let likely = |&id: &usize| Likely {
            id: id as u16,
            text: self.tokenizer.decode(&[id as u16]),
            logit: logits[id],
            probability: exp(logits[id]) / sum,
        };
        order.iter().take(TOP).map(likely).collect()
    }
}
