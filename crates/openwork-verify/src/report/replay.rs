//! Running a counter-example again, from what its report says about it alone.

use openwork_circuit::{
    Ablation, Batch, Frozen, Means, MemberError, Node, NodeError, NodeSpace, NormScales, Partial, without_edges,
};
use std::borrow::Cow;

use openwork_model::{Model, NoTap, Record, Tap, Tokens};

use crate::{
    report::counter_example::CounterExample,
    run::scheme::{AblationValue, Norms},
};

/// Reason that a counter-example cannot be run again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// It names a node that the model does not have, or more nodes from there on than follow.
    #[error("the model does not have {count} nodes from {node} on")]
    Node {
        /// Name of the first node.
        node: String,
        /// Number of nodes.
        count: usize,
    },
    /// It names a node that is none.
    #[error(transparent)]
    Name(#[from] NodeError),
    /// It is without an edge that the model does not have.
    #[error(transparent)]
    Edge(#[from] MemberError),
    /// A prompt cannot be run.
    #[error("a prompt is empty, longer than the model's context or has a token it does not know")]
    Prompt,
    /// A candidate is outside the vocabulary.
    #[error("an answer is a token that the model does not know")]
    Candidate,
    /// The values of its ablation are neither in it nor follow from the model.
    #[error("the counter-example does not hold the values of its {value} ablation")]
    Values {
        /// Ablation.
        value: AblationValue,
    },
}

/// The logit differences `l_answer − l_alternative` of the model and of the run (calibrated), after both prompts.
///
/// # Errors
/// When the counter-example does not belong to the model.
pub fn replay(model: &Model, means: &Means, example: &CounterExample) -> Result<([f64; 2], [f64; 2]), ReplayError> {
    let space = NodeSpace::new(&model.config);
    let mut r = vec![0.0_f32; space.len()];
    let whole = example.intervention.kept.iter().map(|(first, count)| (first, *count, 1.0));
    let partly = example.intervention.partly.iter().map(|(node, part)| (node, 1, *part));
    for (first, count, part) in whole.chain(partly) {
        let unknown = || ReplayError::Node { node: first.clone(), count };
        let first: usize = space.number(first.parse()?).ok_or_else(unknown)?;
        let nodes = first.checked_add(count).and_then(|end| r.get_mut(first..end)).ok_or_else(unknown)?;
        nodes.fill(part);
    }
    let in_vocabulary = |t: &u16| usize::from(*t) < model.config.vocab_size;
    let (answer, alternative) = example.candidates;
    let prompts = example.prompts.iter().chain(example.intervention.sources.iter().flatten());
    for prompt in prompts {
        if prompt.is_empty() || prompt.len() > model.config.n_ctx || !prompt.iter().all(in_vocabulary) {
            return Err(ReplayError::Prompt);
        }
    }
    if !in_vocabulary(&answer) || !in_vocabulary(&alternative) {
        return Err(ReplayError::Candidate);
    }
    let name = |(from, to): &(String, String)| Ok::<(Node, Node), NodeError>((from.parse()?, to.parse()?));
    let cut = example.intervention.cut_edges.iter().map(name).collect::<Result<Vec<_>, _>>()?;
    let masked = if cut.is_empty() { Cow::Borrowed(model) } else { Cow::Owned(without_edges(model, &cut)?) };
    let run = |i: usize| -> Result<(f64, f64), ReplayError> {
        let prompt = &example.prompts[i];
        let batch = Batch {
            tokens: prompt.clone(),
            seq_len: prompt.len(),
            readout: vec![prompt.len() - 1],
            candidates: vec![example.candidates],
        };
        let constants = constants(&space, &r, example);
        let recorded = example.intervention.sources.as_ref().map(|s| aligned(model, &s[i], prompt.len()));
        let ablation = match (&recorded, &constants, example.intervention.scheme.value) {
            (Some(values), _, _) => Ablation::Recorded(values),
            (_, Some(constants), _) => Ablation::Constant(constants),
            (_, _, AblationValue::Zero) => Ablation::Zero,
            (_, _, AblationValue::Mean) => Ablation::Mean(means),
            (_, _, value) => return Err(ReplayError::Values { value }),
        };
        let plain = difference(model, &batch, &mut NoTap);
        let partial = Partial::new(&space, &r, ablation);
        let ablated = match example.intervention.scheme.norms {
            Norms::Free => difference(&masked, &batch, &mut { partial }),
            Norms::Frozen => {
                let mut scales = NormScales::new(model);
                difference(model, &batch, &mut scales);
                difference(&masked, &batch, &mut Frozen::new(partial, &masked, &scales, &batch.readout))
            }
        };
        Ok((plain, example.calibration.scale * ablated + example.calibration.shift))
    };
    let (positive, negative) = (run(0)?, run(1)?);
    Ok(([positive.0, negative.0], [positive.1, negative.1]))
}

/// The constants of a counter-example, which lists those of nodes that are not kept whole.
fn constants(space: &NodeSpace, r: &[f32], example: &CounterExample) -> Option<Vec<f32>> {
    let mut listed = example.intervention.constants.as_ref()?.iter().copied();
    Some((0..space.len()).map(|n| if r[n] == 0.0 { listed.next().unwrap_or(0.0) } else { 0.0 }).collect())
}

fn difference(model: &Model, batch: &Batch, tap: &mut dyn Tap) -> f64 {
    let logits = model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), tap).logits;
    let (answer, alternative) = batch.candidates[0];
    f64::from(logits[[usize::from(answer), 0]]) - f64::from(logits[[usize::from(alternative), 0]])
}

/// Values of a source prompt's plain run, aligned at the last token with a prompt of this length.
fn aligned(model: &Model, source: &[u16], length: usize) -> Record {
    let mut values = Record::of_kinds(&NodeSpace::KINDS);
    model.forward(Tokens::new(source, source.len()), Some(&[0]), &mut values);
    let column = |t: usize| (source.len() - 1).saturating_sub(length - 1 - t);
    values.rearranged(&(0..length).map(column).collect::<Vec<_>>())
}
