//! Other tools on the same cases: how far their numbers are from ours, and how well their scores tell flawed circuits from true ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    ops::Range,
    path::Path,
};

use anyhow::{Context, Result};
use openwork_benches::{Csv, Peer, Peers, Table};
use openwork_truth::zoo::{CaseKind, Expected};

use crate::{card::rate, exchange, judging::Judged};

/// A score of a tool, larger being worse.
struct Score {
    tool: &'static str,
    key: &'static str,
    /// The score in the tool's words.
    words: &'static str,
}

const MASKING: &[&str] = &["auto-circuit", "circuitkit"];
const SCRUBBING: &[&str] = &["rust-circuit"];

const SCORES: [Score; 7] = [
    Score {
        tool: "auto-circuit",
        key: "difference resample",
        words: "distance of the answer difference from the model's, resample",
    },
    Score { tool: "auto-circuit", key: "difference zero", words: "the same, zero" },
    Score { tool: "auto-circuit", key: "KL resample", words: "KL, resample" },
    Score { tool: "auto-circuit", key: "KL zero", words: "KL, zero" },
    Score { tool: "circuitkit", key: "F patching", words: "1 − F, patching" },
    Score { tool: "circuitkit", key: "F zero", words: "1 − F, zero" },
    Score { tool: "rust-circuit", key: "loss", words: "1 − share of the loss recovered, causal scrubbing per path" },
];

/// Quantities that these tools must agree on with us.
const PARITY: [(&str, &str, &[&str]); 8] = [
    ("parity model", "logit differences of the model", MASKING),
    ("parity zero", "the same with nodes set to zero", MASKING),
    ("parity mean", "the same with nodes set to means", MASKING),
    ("parity faithfulness", "faithfulness at ten sizes, CPR and CMD", MASKING),
    ("parity parts zero", "heads and MLPs set to zero, by the tool", MASKING),
    ("parity parts resample", "heads and MLPs of another prompt, by the tool", MASKING),
    ("parity expression", "logit differences of the model, as an expression of the tool", SCRUBBING),
    ("parity scrubbed", "the same scrubbed, every path from the source that we drew, by the tool", SCRUBBING),
];

/// Distance of a mean over sources that a tool drew from one over ours, in standard errors.
const EXPECTATION: &str = "expectation";

/// So many standard errors leave one in twenty outside.
const NORMAL_95: f64 = 1.96;

/// Agreement asked for, as a share of the largest number.
const TOLERANCE: f64 = 1e-5;

/// Cases whose flaw is not in model or circuit, or that are true, if trivially: no score of a circuit could tell.
const LEFT_OUT: [CaseKind; 4] = [CaseKind::AllNodes, CaseKind::WrongHypothesis, CaseKind::DeadHook, CaseKind::Leak];

/// Answer of a tool about a case: a number, or the reason that there is none.
struct Said {
    kind: CaseKind,
    seed: u64,
    tool: &'static str,
    key: &'static str,
    value: Result<f64, String>,
}

/// Result of the comparison.
pub struct Comparison {
    /// For the card.
    pub text: String,
    /// Every number.
    pub csv: Csv,
}

/// Asks the tools that run here about these seeds of `kinds` at full severity, and sets what was `judged` of the
/// same beside it; `None`, said aloud, where none runs.
pub fn compare(kinds: &[CaseKind], judged: &[Judged], seeds: Range<u64>) -> Result<Option<Comparison>> {
    let Some(peers) = Peers::find(true) else { return Ok(None) };
    let start = |&tool: &&'static str| Some((tool, peers.start(tool, "circuits.py", &[tool.into()])?));
    let started = [MASKING, SCRUBBING].into_iter().flatten().filter_map(start);
    let mut tools: Vec<(&'static str, Peer)> = started.collect();
    if tools.is_empty() {
        return Ok(None);
    }
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let mut said = vec![];
    for &kind in kinds.iter().filter(|p| !LEFT_OUT.contains(p)) {
        for seed in seeds.clone() {
            // A name of its own, since tools keep the last case in memory.
            let case = folder.path().join(format!("{}-{seed}", kind.number()));
            exchange::write(&kind.build(1.0, seed), &case)?;
            tools.iter_mut().for_each(|(tool, peer)| ask(tool, peer, &case, (kind, seed), &mut said));
            fs::remove_dir_all(&case).with_context(|| format!("cannot remove {}", case.display()))?;
        }
        println!("other tools were asked about {} seeds of {}", seeds.end - seeds.start, kind.name());
    }
    let versions: Vec<&str> = tools.iter().map(|(_, peer)| peer.version.as_str()).collect();
    let same = |j: &&Judged| j.severity == 1.0 && seeds.contains(&j.seed) && !LEFT_OUT.contains(&j.kind);
    let judged: Vec<&Judged> = judged.iter().filter(same).collect();
    Ok(Some(Comparison { text: report(&judged, &said, &versions), csv: csv(&said) }))
}

fn ask(tool: &'static str, peer: &mut Peer, case: &Path, (kind, seed): (CaseKind, u64), said: &mut Vec<Said>) {
    let parity = PARITY.iter().filter(|(.., tools)| tools.contains(&tool)).map(|p| p.0);
    let scores = SCORES.iter().filter(|s| s.tool == tool).map(|s| s.key);
    let expectation = SCRUBBING.contains(&tool).then_some(EXPECTATION);
    said.extend(parity.chain(scores).chain(expectation).map(|key| {
        let value = peer.ask(&format!("{}\t{key}", case.display())).map_err(|error| format!("{error:#}"));
        Said { kind, seed, tool, key, value }
    }));
}

fn csv(said: &[Said]) -> Csv {
    let mut csv = Csv::new(["case", "seed", "tool", "quantity", "value", "error"]);
    for s in said {
        let (value, error) = match &s.value {
            Ok(value) => (value.to_string(), String::new()),
            Err(error) => (String::new(), error.replace([',', '"', '\n'], ";")),
        };
        csv.row(vec![s.kind.name().into(), s.seed.to_string(), s.tool.into(), s.key.into(), value, error]);
    }
    csv
}

fn report(judged: &[&Judged], said: &[Said], versions: &[&str]) -> String {
    let mut out = format!("## Other tools\n\nOn the same circuits at full severity: {}.\n\n", versions.join("; "));
    parity(&mut out, said);
    expectations(&mut out, said);
    let rows = rates(said);
    totals(&mut out, judged, &rows);
    by_kind(&mut out, judged, &rows);
    out
}

fn parity(out: &mut String, said: &[Said]) {
    let _ = writeln!(
        out,
        "The same quantities, computed by both: the largest distance, as a share of the largest number of its kind in the \
         case, since single precision rounds in shares of what it sums.\n"
    );
    let mut table = Table::new(["quantity", "tool", "cases", "largest distance", "within 1e-5", "not computed"]);
    for (key, words, tools) in PARITY {
        for &tool in tools {
            let of: Vec<&Said> = said.iter().filter(|s| s.key == key && s.tool == tool).collect();
            if of.is_empty() {
                continue;
            }
            let values: Vec<f64> = of.iter().filter_map(|s| s.value.as_ref().ok().copied()).collect();
            let largest = values.iter().copied().fold(0.0, f64::max);
            let within = values.iter().filter(|v| **v <= TOLERANCE).count();
            let cells = [values.len().to_string(), format!("{largest:.1e}"), within.to_string()];
            let missing = (of.len() - values.len()).to_string();
            table.row([vec![words.into(), tool.into()], cells.to_vec(), vec![missing]].concat());
        }
    }
    let _ = writeln!(out, "{}", table.markdown());
    let failed =
        |s: &Said| s.value.as_ref().err().map(|why| format!("{} on {}, {}: {why}", s.tool, s.kind.name(), s.key));
    for why in said.iter().filter_map(failed).collect::<BTreeSet<_>>() {
        let _ = writeln!(out, "- {why}");
    }
    out.push('\n');
}

fn expectations(out: &mut String, said: &[Said]) {
    for &tool in SCRUBBING {
        let of = said.iter().filter(|s| s.tool == tool && s.key == EXPECTATION);
        let values: Vec<f64> = of.filter_map(|s| s.value.as_ref().ok().copied()).collect();
        if values.is_empty() {
            continue;
        }
        let within = values.iter().filter(|v| **v <= NORMAL_95).count();
        let _ = writeln!(
            out,
            "To {tool} a circuit is a correspondence in which every path of a node outside it is a leaf of its own. With sources \
             that {tool} draws itself, the mean task loss of the scrubbed circuit is within {NORMAL_95} standard \
             errors of ours in {}; the largest distance is {:.1}. One in twenty must lie outside by chance, fewer where \
             scrubbing changes nothing.\n",
            rate(within, values.len()),
            values.iter().copied().fold(0.0, f64::max)
        );
    }
}

/// A score with its values, true circuits and others apart.
struct Rates<'a> {
    score: &'a Score,
    /// By kind; `None` in it: undefined, or no answer. Neither accepts a circuit.
    values: BTreeMap<CaseKind, Vec<Option<f64>>>,
    /// The best threshold in hindsight.
    best: f64,
}

impl Rates<'_> {
    /// Number of cases of a kind that are called bad at a threshold, and of all.
    fn called(&self, kind: CaseKind, threshold: f64) -> (usize, usize) {
        let values = self.values.get(&kind).map_or(&[][..], Vec::as_slice);
        (values.iter().filter(|v| v.is_none_or(|v| v > threshold)).count(), values.len())
    }

    fn called_of(&self, kinds: impl Iterator<Item = CaseKind>, threshold: f64) -> (usize, usize) {
        kinds.map(|kind| self.called(kind, threshold)).fold((0, 0), |sum, x| (sum.0 + x.0, sum.1 + x.1))
    }

    fn flawed(&self, threshold: f64) -> (usize, usize) {
        self.called_of(self.values.keys().copied().filter(|p| *p != CaseKind::True), threshold)
    }
}

fn rates(said: &[Said]) -> Vec<Rates<'static>> {
    let one = |score: &'static Score| {
        let mut values: BTreeMap<CaseKind, Vec<Option<f64>>> = BTreeMap::new();
        for s in said.iter().filter(|s| s.tool == score.tool && s.key == score.key) {
            values.entry(s.kind).or_default().push(s.value.as_ref().ok().copied().filter(|v| !v.is_nan()));
        }
        let mut rates = Rates { score, values, best: f64::INFINITY };
        rates.best = best_threshold(&rates);
        (!rates.values.is_empty()).then_some(rates)
    };
    SCORES.iter().filter_map(one).collect()
}

/// The threshold with the most detections above false alarms, in shares, among all that tell any two circuits apart: chosen
/// with the truth in hand, which no user has. The largest of equals, which alarms least.
fn best_threshold(rates: &Rates<'_>) -> f64 {
    let mut thresholds: Vec<f64> = rates.values.values().flatten().flatten().copied().collect();
    thresholds.push(f64::NEG_INFINITY);
    thresholds.sort_by(f64::total_cmp);
    let share = |(k, n): (usize, usize)| k as f64 / n.max(1) as f64;
    let worth = |t: f64| share(rates.flawed(t)) - share(rates.called(CaseKind::True, t));
    thresholds.into_iter().max_by(|a, b| worth(*a).total_cmp(&worth(*b))).expect("at least one")
}

fn totals(out: &mut String, judged: &[&Judged], rates: &[Rates<'_>]) {
    let left_out = LEFT_OUT.map(|p| p.name()).join(", ");
    let _ = writeln!(
        out,
        "How often flawed circuits are called bad, and true circuits too. Larger scores are worse; an undefined one counts as bad. The \
         tools state no threshold for these scores; the best in hindsight is chosen on these very circuits. Not \
         asked about: {left_out} (true if trivially, or a flaw that is not in the circuit).\n"
    );
    let mut table = Table::new(["score", "best threshold in hindsight", "flawed found", "false alarms"]);
    for r in rates {
        let at = |t: f64| [r.flawed(t), r.called(CaseKind::True, t)].map(|(k, n)| rate(k, n));
        let name = format!("{}: {}", r.score.tool, r.score.words);
        table.row([vec![name, format!("{:.1e}", r.best)], at(r.best).to_vec()].concat());
    }
    let (honest, flawed): (Vec<&Judged>, Vec<&Judged>) = judged.iter().partition(|j| j.expected == Expected::Pass);
    let bad = |list: &[&Judged]| rate(list.iter().filter(|j| is_called_bad(j)).count(), list.len());
    if !judged.is_empty() {
        table.row(vec!["ours: not STRONG or CERTIFIED".into(), "the verdict".into(), bad(&flawed), bad(&honest)]);
    }
    let _ = writeln!(out, "{}", table.markdown());
}

fn is_called_bad(judged: &Judged) -> bool {
    !judged.is_called_good()
}

fn by_kind(out: &mut String, judged: &[&Judged], rates: &[Rates<'_>]) {
    let _ = writeln!(out, "How many of each case are called bad, at the best threshold in hindsight.\n");
    let names: Vec<String> = rates.iter().map(|r| format!("{}: {}", r.score.tool, r.score.words)).collect();
    let heading = std::iter::once("case").chain(names.iter().map(String::as_str)).chain(["ours"]);
    let mut table = Table::new(heading);
    for kind in CaseKind::all() {
        if !rates.iter().any(|r| r.values.contains_key(&kind)) {
            continue;
        }
        let of: Vec<&&Judged> = judged.iter().filter(|j| j.kind == kind).collect();
        let words = |(k, n): (usize, usize)| format!("{k} of {n}");
        let ours = words((of.iter().filter(|j| is_called_bad(j)).count(), of.len()));
        let theirs = rates.iter().map(|r| words(r.called(kind, r.best)));
        table.row(std::iter::once(kind.name().to_owned()).chain(theirs).chain([ours]).collect());
    }
    let _ = writeln!(out, "{}", table.markdown());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates_of(honest: &[Option<f64>], flawed: &[Option<f64>]) -> Rates<'static> {
        let values = BTreeMap::from([(CaseKind::True, honest.to_vec()), (CaseKind::Empty, flawed.to_vec())]);
        Rates { score: &SCORES[0], values, best: 0.0 }
    }

    #[test]
    fn the_best_threshold_parts_what_can_be_parted() {
        let rates = rates_of(&[Some(0.1), Some(0.2)], &[Some(0.3), Some(0.9), None]);
        let best = best_threshold(&rates);
        assert_eq!(best, 0.2);
        assert_eq!((rates.flawed(best), rates.called(CaseKind::True, best)), ((3, 3), (0, 2)));
    }

    #[test]
    fn scores_that_say_nothing_find_nothing() {
        // The same score for all: nobody is called bad, or everybody.
        let rates = rates_of(&[Some(0.5); 3], &[Some(0.5); 4]);
        let best = best_threshold(&rates);
        assert_eq!((rates.flawed(best), rates.called(CaseKind::True, best)), ((0, 4), (0, 3)));
        // A score that is undefined for a true circuit is a false alarm at every threshold.
        let undefined = rates_of(&[None], &[Some(0.5)]);
        assert_eq!(undefined.called(CaseKind::True, f64::INFINITY), (1, 1));
    }
}
