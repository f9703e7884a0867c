//! Drafts of claims from a verified circuit.

use std::collections::BTreeMap;

use openwork_circuit::Node;
use openwork_model::SiteKind;

use super::{
    CircuitFacts, FORMAT, Sample, Share,
    check::{self, Lost, Untestable, World},
};
use crate::{Trace, language::literal};

/// Pairs that a draft is measured on, and that its claims are tested on: others, of another seed.
const PAIRS: usize = 100;
const MEASURED: u64 = 0;
const TESTED: u64 = 1;
/// Share of pairs that the claims of a draft state. On 100 pairs it takes 96 that hold.
const BAR: f64 = 0.9;
/// Least loss of lead that is worth a claim, in nats.
const LEAST: f64 = 0.05;
/// Most edges that a draft has claims on.
const EDGES: usize = 12;

/// Claims about a circuit of a file `name` in words that [`super::Claims::parse`] reads. Each is measured on 100 pairs and stated
/// of others: nodes and edges with half of the loss of lead that all but a few of the measured pairs reach, neurons
/// with the tokens that they fire on and half of the least value there.
///
/// # Errors
/// When the circuit's task has too few pairs, or the model no means.
pub fn draft(world: &World<'_>, name: &str, facts: &CircuitFacts) -> Result<String, Untestable> {
    let sample = Sample { task: facts.task.clone(), bar: BAR, pairs: PAIRS, seed: MEASURED };
    let pairs = check::pairs(world, &sample)?;
    let (task, name) = (&facts.task, literal(name));
    let on = format!("in {BAR} of {PAIRS} pairs seed {TESTED}");
    let mut lines = vec![
        FORMAT.to_owned(),
        format!("# Drafted from {name}: measured on pairs of seed {MEASURED}, stated of pairs of seed {TESTED}."),
    ];
    if let Some(verdict) = &facts.verdict
        && let Some(strength) = verdict.strength
    {
        let (model, circuit) = (world.model_sha256, &facts.circuit_sha256);
        lines.push(format!("verdict of {name} at least {strength} model \"{model}\" circuit \"{circuit}\""));
    }
    let agreed = check::agrees(world, &pairs, facts)?.iter().filter(|on| matches!(on, check::OnPair::Holds)).count();
    if Share::new(agreed, pairs.len()).ci95.0 >= BAR {
        lines.push(format!("circuit {name} agrees_with model on {task} {on}"));
    }
    for node in facts.circuit.nodes().nodes() {
        if let Some(by) = worth(&check::lost_without_node(world, &pairs, node)?) {
            lines.push(format!("{node} needed_for {task} by {by} {on}"));
        }
        if node.site.kind == SiteKind::Neuron {
            lines.extend(
                firing(world, &pairs, node).map(|words| format!("{node} fires_on only {words} on {task} {on}")),
            );
        }
    }
    let mut edges = vec![];
    for edge in facts.circuit.edges() {
        if let Some(by) = worth(&check::lost_without_edge(world, &pairs, (edge.from, edge.to))?) {
            edges.push((by, format!("edge {} -> {} carries {task} by {by} {on}", edge.from, edge.to)));
        }
    }
    edges.sort_by(|a, b| b.0.total_cmp(&a.0));
    lines.extend(edges.into_iter().take(EDGES).map(|(_, line)| line));
    Ok(lines.join("\n") + "\n")
}

/// Half of the loss that all but two in a hundred pairs reach, rounded down to hundredths, if it is worth a claim.
fn worth(lost: &[Lost]) -> Option<f64> {
    let mut means: Vec<f64> = lost.iter().map(Lost::mean).collect();
    means.sort_by(f64::total_cmp);
    let by = (means[means.len() / 50] / 2.0 * 100.0).floor() / 100.0;
    (by >= LEAST).then_some(by)
}

/// Tokens at which a neuron is above half of what it is at the least of them, while it is below that everywhere else, and the bound.
fn firing(world: &World<'_>, pairs: &[openwork_tasks::Pair], node: Node) -> Option<String> {
    // Least and largest value at every token.
    let mut seen: BTreeMap<u16, [f32; 2]> = BTreeMap::new();
    for prompt in pairs.iter().flat_map(openwork_tasks::Pair::prompts) {
        let trace = Trace::run(world.model, prompt, &[]);
        for (position, &token) in prompt.iter().enumerate() {
            let value = trace.value(node, position);
            let range = seen.entry(token).or_insert([value, value]);
            *range = [range[0].min(value), range[1].max(value)];
        }
    }
    let most = seen.values().map(|range| range[1]).fold(0.0, f32::max);
    let listed: Vec<u16> = seen.iter().filter(|(_, range)| range[0] > most / 2.0).map(|(token, _)| *token).collect();
    let least = listed.iter().map(|token| seen[token][0]).fold(f32::INFINITY, f32::min);
    let bound = least / 2.0;
    let others = seen.iter().filter(|(token, _)| !listed.contains(token)).map(|(_, range)| range[1]);
    if listed.is_empty() || listed.len() > 6 || most <= 0.0 || others.fold(0.0, f32::max) > bound {
        return None;
    }
    // A text that reads back as the token, or its id.
    let name = |&token: &u16| {
        let text = world.vocabulary.decode(&[token]);
        let plain = text.chars().all(|c| c.is_ascii_graphic() || matches!(c, ' ' | '\n' | '\t'));
        match plain && world.vocabulary.encode(&text) == [token] {
            true => literal(&text),
            false => format!("#{token}"),
        }
    };
    let tokens: Vec<String> = listed.iter().map(name).collect();
    Some(format!("{} above {bound:.4}", tokens.join(" ")))
}
