//! A ground-truth case as files that other tools read: its weights, the circuit, prompts, and what we measure on them.

use std::{collections::BTreeMap, convert::Infallible, fs, ops::ControlFlow, path::Path};

use anyhow::{Context, Result};
use openwork_circuit::{Ablation, Batch, Keep, NodeSet, NodeSpace, batches, evaluate};
use openwork_model::{Matrix, Model, Record, Site, SiteKind, Tap, Tokens};
use openwork_tasks::Pair;
use openwork_truth::zoo::GroundTruthCase;
use openwork_verify::{ScrubError, ScrubPath, ScrubSettings, cpr_cmd, faithfulness_by_size, margin, scrub_once, sizes};
use serde_json::{Map, Value, json};

/// Writes `model.safetensors` and `case.json` into `folder`.
pub fn write(given: &GroundTruthCase, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    given.model.save(folder.join("model.safetensors"), &BTreeMap::new())?;
    let path = folder.join("case.json");
    fs::write(&path, case(given)?.to_string()).with_context(|| format!("cannot write {}", path.display()))
}

/// Scrubs that are laid open for other tools.
const SCRUBS: usize = 2;

fn case(given: &GroundTruthCase) -> Result<Value> {
    let space = given.circuit.space();
    let (kept, means) = (given.circuit.kept(), given.means.values());
    let mut by_site = [Map::new(), Map::new()];
    for (site, range) in space.sites() {
        by_site[0].insert(site.to_string(), json!(kept[range.clone()]));
        by_site[1].insert(site.to_string(), json!(means[range.clone()]));
    }
    let [kept, means] = by_site;
    let sides = |p: &Pair| [p.positive.clone(), p.negative.clone()];
    let ranking: Vec<usize> = given.circuit.numbers().chain(given.circuit.complement().numbers()).collect();
    let sources = sources(&given.held_out);
    Ok(json!({
        "sites": space.sites().iter().map(|(site, range)| json!([site.to_string(), range.len()])).collect::<Vec<_>>(),
        "kept": kept,
        "means": means,
        "prompts": given.held_out.iter().flat_map(sides).collect::<Vec<_>>(),
        "candidates": given.held_out.iter().flat_map(|p| [[p.answer, p.alternative]; 2]).collect::<Vec<_>>(),
        "sources": sources,
        "ranking": ranking,
        "counts": sizes(space.len()),
        "ours": ours(given, &ranking, &sources),
        "scrubs": (0..SCRUBS).map(|n| scrub(given, n)).collect::<Result<Vec<_>, _>>().context("cannot scrub")?,
    }))
}

/// A scrub of all prompts: reader (of writes), site, index and sources of every path, and what came out.
fn scrub(given: &GroundTruthCase, number: usize) -> Result<Value, ScrubError> {
    let settings = ScrubSettings { seed: given.seed, max_pairs: given.held_out.len(), ..ScrubSettings::default() };
    let scrub = scrub_once(&given.model, &given.circuit, &given.held_out, &settings, number)?;
    let space = given.circuit.space();
    let path = |(path, sources): (&ScrubPath, &Vec<usize>)| {
        let node = space.node(path.node);
        json!([path.reader.map(|site| site.to_string()), node.site.to_string(), node.index, sources])
    };
    Ok(json!({
        "sources": scrub.sources.iter().map(path).collect::<Vec<_>>(),
        "differences": scrub.differences,
    }))
}

/// For every prompt one of the same length with another right answer: its partner, or the next there is; itself where there
/// is none.
fn sources(pairs: &[Pair]) -> Vec<usize> {
    let prompts: Vec<(usize, u16)> =
        pairs.iter().flat_map(|p| [(p.positive.len(), p.answer), (p.negative.len(), p.alternative)]).collect();
    let source = |i: usize| {
        let mut others = std::iter::once(i ^ 1).chain((1..prompts.len()).map(|n| (i + n) % prompts.len()));
        let fits = |&other: &usize| prompts[other].0 == prompts[i].0 && prompts[other].1 != prompts[i].1;
        others.find(fits).unwrap_or(i)
    };
    (0..prompts.len()).map(source).collect()
}

/// Quantities that every tool should find too: logit differences, and areas of faithfulness.
fn ours(given: &GroundTruthCase, ranking: &[usize], sources: &[usize]) -> Value {
    let model = &given.model;
    // One batch, so that every prompt is in reach of every other.
    let batch = batches(&given.held_out, given.held_out.len(), model.config.n_ctx);
    let run = |nodes: &NodeSet, ablation| evaluate(model, &batch, false, || Keep::new(nodes, ablation), |_| ());
    let whole = run(&NodeSet::all(NodeSpace::new(&model.config)), Ablation::Zero);
    let mean = |nodes: &NodeSet| Ok::<_, Infallible>(margin(&run(nodes, Ablation::Mean(&given.means))));
    let curve = faithfulness_by_size(given.circuit.space(), ranking, margin(&whole), mean);
    let curve = curve.unwrap_or_else(|never| match never {});
    let left_out = left_out(&given.circuit, model);
    let recorded = recorded(model, &batch[0], sources);
    let parts = |values: Option<&[(Site, Matrix)]>| {
        evaluate(model, &batch, false, || Parts { left_out: &left_out, values }, |_| ()).differences
    };
    json!({
        "model": whole.differences,
        "zero": run(&given.circuit, Ablation::Zero).differences,
        "mean": run(&given.circuit, Ablation::Mean(&given.means)).differences,
        "faithfulness": curve.as_ref().map(|points| points.iter().map(|p| p.1).collect::<Vec<_>>()),
        "areas": curve.as_deref().map(cpr_cmd),
        "parts": kept_parts(&given.circuit, model),
        "parts_zero": parts(None),
        "parts_resample": parts(Some(&recorded)),
    })
}

/// Heads that have a value channel in the circuit and MLPs that have a neuron, by block.
fn parts_of(circuit: &NodeSet, model: &Model, layer: usize) -> (Vec<bool>, bool) {
    let has = |kind, indices: std::ops::Range<usize>| {
        let range = circuit.space().range(Site { layer, kind }).expect("a site of nodes");
        circuit.kept()[range][indices].contains(&true)
    };
    let width = model.config.d_head;
    let heads = (0..model.config.n_head).map(|h| has(SiteKind::Value, h * width..(h + 1) * width)).collect();
    (heads, has(SiteKind::Neuron, 0..model.config.d_mlp))
}

/// Such as `A1.0` and `MLP 0`.
fn kept_parts(circuit: &NodeSet, model: &Model) -> Vec<String> {
    let mut names = vec![];
    for layer in 0..model.config.n_layer {
        let (heads, mlp) = parts_of(circuit, model, layer);
        names.extend((0..heads.len()).filter(|&h| heads[h]).map(|h| format!("A{layer}.{h}")));
        names.extend(mlp.then(|| format!("MLP {layer}")));
    }
    names
}

/// The rows of the values that heads and MLPs which are left out write.
fn left_out(circuit: &NodeSet, model: &Model) -> BTreeMap<Site, Vec<usize>> {
    let mut rows = BTreeMap::new();
    for layer in 0..model.config.n_layer {
        let (heads, mlp) = parts_of(circuit, model, layer);
        let width = model.config.d_head;
        let out = (0..heads.len() * width).filter(|row| !heads[row / width]).collect();
        rows.insert(Site { layer, kind: SiteKind::AttnMix }, out);
        let all = if mlp { 0..0 } else { 0..model.config.d_model };
        rows.insert(Site { layer, kind: SiteKind::MlpWrite }, all.collect());
    }
    rows
}

/// Values of the plain model, each prompt seeing those of its source.
fn recorded(model: &Model, batch: &Batch, sources: &[usize]) -> Vec<(Site, Matrix)> {
    let mut record = Record::default();
    model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.readout), &mut record);
    let n = batch.seq_len;
    let columns: Vec<usize> = sources.iter().flat_map(|s| s * n..(s + 1) * n).collect();
    let parts =
        record.values.into_iter().filter(|(site, _)| matches!(site.kind, SiteKind::AttnMix | SiteKind::MlpWrite));
    parts.map(|(site, values)| (site, values.select(ndarray::Axis(1), &columns))).collect()
}

/// Ablates whole heads and MLPs, as tools do that know no smaller parts.
struct Parts<'a> {
    left_out: &'a BTreeMap<Site, Vec<usize>>,
    /// Values in their place; nothing: zero.
    values: Option<&'a [(Site, Matrix)]>,
}

impl Tap for Parts<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        for &row in self.left_out.get(&site).into_iter().flatten() {
            match self.values.and_then(|values| values.iter().find(|(s, _)| *s == site)) {
                Some((_, source)) => value.row_mut(row).assign(&source.row(row)),
                None => value.row_mut(row).fill(0.0),
            }
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use openwork_truth::zoo::CaseKind;

    use super::*;

    #[test]
    fn sources_are_as_long_and_answer_something_else() {
        let given = CaseKind::True.build(1.0, 0);
        let prompts: Vec<_> =
            given.held_out.iter().flat_map(|p| [(&p.positive, p.answer), (&p.negative, p.alternative)]).collect();
        let found = sources(&given.held_out);
        for (i, &s) in found.iter().enumerate().filter(|(i, s)| i != *s) {
            assert_eq!(prompts[i].0.len(), prompts[s].0.len());
            assert_ne!(prompts[i].1, prompts[s].1);
        }
        assert!(found.iter().enumerate().any(|(i, s)| i != *s));
    }

    #[test]
    fn all_parts_kept_is_the_model_and_none_is_not() {
        let numbers =
            |value: &Value, key: &str| serde_json::from_value::<Vec<f64>>(value["ours"][key].clone()).unwrap();
        let all = case(&CaseKind::AllNodes.build(1.0, 0)).unwrap();
        for key in ["zero", "mean", "parts_zero", "parts_resample"] {
            assert_eq!(numbers(&all, key), numbers(&all, "model"), "{key}");
        }
        // Nothing is drawn, and log-probabilities are logits less one number.
        let scrubbed: Vec<f64> = serde_json::from_value(all["scrubs"][0]["differences"].clone()).unwrap();
        let off = scrubbed.iter().zip(numbers(&all, "model")).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(all["scrubs"][0]["sources"].as_array().unwrap().is_empty() && off < 1e-5, "{off}");
        let none = case(&CaseKind::Empty.build(1.0, 0)).unwrap();
        assert_eq!(none["ours"]["parts"], json!([]));
        assert_ne!(none["scrubs"][0], none["scrubs"][1]);
        for key in ["zero", "parts_zero", "parts_resample"] {
            assert_ne!(numbers(&none, key), numbers(&none, "model"), "{key}");
        }
    }
}
