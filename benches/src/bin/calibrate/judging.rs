//! Judging a plant as the program would, and naming the checks that fired.

use std::{collections::BTreeSet, time::Instant};

use openwork_circuit::{Domain, NodeSpace};
use openwork_extract::calibrate;
use openwork_truth::{
    Carrier,
    zoo::{Expected, Plant, Planted},
};
use openwork_verify::{
    Case, Check, Control, ControlKind, Effort, Fill, Limits, Meaning, Norms, Report, Settings, Shift, Split, Status,
    Verdict, certify, hypothesis::Hypothesis, verify,
};

/// What became of a plant.
pub struct Judged {
    pub plant: Plant,
    pub host: &'static str,
    pub severity: f32,
    pub seed: u64,
    pub expected: Expected,
    pub should_fire: &'static [&'static str],
    pub verdict: String,
    /// Families of the checks that failed.
    pub fired: BTreeSet<&'static str>,
    pub reasons: Vec<String>,
    /// The whole report.
    pub words: String,
    pub seconds: f64,
}

impl Judged {
    /// Whether the verdict is the expected one.
    pub fn is_right(&self) -> bool {
        let word = self.verdict.as_str();
        match self.expected {
            Expected::Pass => matches!(word, "STRONG" | "CERTIFIED"),
            Expected::Refuted => word == "REFUTED",
            Expected::NoTask => word == "NO TASK",
            Expected::Error => word == "ERROR",
            Expected::Undefined => word == "UNDEFINED",
            Expected::Weak(_) => word == "WEAK",
        }
    }

    /// Whether the check that was made for such plants fired; of an honest circuit, that none did.
    pub fn is_caught(&self) -> bool {
        match self.should_fire {
            [] => self.fired.iter().all(|f| *f == "trivial"),
            families => families.iter().any(|f| self.fired.contains(f)),
        }
    }
}

/// Builds the case that the program would and judges it on every level.
pub fn judge(planted: Planted) -> Judged {
    let started = Instant::now();
    let settings =
        Settings { random_sets: 100, random_pairs: 32, bootstrap: 400, seed: planted.seed, ..Settings::default() };
    // The searches that controls come from are the finder's; here they found nothing where there is nothing.
    let control = |kind| Control { kind, reached_target: false, loss: std::f64::consts::LN_2, nodes: 0, edges: 0 };
    let controls = ControlKind::ALL.map(control);
    let shifts: Vec<Shift<'_>> =
        planted.shifted.iter().map(|(name, pairs)| Shift { split: split(name), pairs }).collect();
    let hypothesis = hypothesis(&planted);
    let meaning = hypothesis.as_ref().map(|hypothesis| Meaning { hypothesis, text: &text });
    let case = Case {
        model: &planted.model,
        means: &planted.means,
        circuit: &planted.circuit,
        calibration: calibrate(&planted.model, &planted.means, &planted.circuit, &planted.training),
        target_loss: planted.target_loss,
        held_out: &planted.held_out,
        shifts: &shifts,
        selection: &planted.selection,
        meaning,
    };
    // The hook of a site where the circuit ablates something.
    let space = NodeSpace::new(&planted.model.config);
    let ablates = |range: &std::ops::Range<usize>| range.clone().any(|n| !planted.circuit.kept()[n]);
    let dead = space.sites().iter().filter(|(_, range)| ablates(range)).map(|(site, _)| *site).nth(2);
    let limits = Limits { dead_hook: dead.filter(|_| planted.dead_hook), ..Limits::level(5) };
    let mut report = verify(&case, &controls, &settings, &limits, &mut |_| ());
    certified(&case, &planted, &mut report);
    let mut fired: BTreeSet<&'static str> = report.checks.iter().filter_map(family).collect();
    if report.verdict == Verdict::Undefined {
        fired.insert("undefined");
    }
    Judged {
        plant: planted.plant,
        host: planted.host,
        severity: planted.severity,
        seed: planted.seed,
        expected: planted.expected,
        should_fire: planted.should_fire,
        verdict: report.verdict.word().trim_start_matches("PASS (").trim_end_matches(')').into(),
        fired,
        words: report.words(),
        reasons: report.reasons,
        seconds: started.elapsed().as_secs_f64(),
    }
}

/// Level 6 where all inputs are known, for plants that it is made for.
fn certified(case: &Case<'_>, planted: &Planted, report: &mut Report) {
    let Some(domain) = &planted.domain else { return };
    let asked = matches!(planted.plant, Plant::True | Plant::FixedLength)
        && matches!(report.verdict, Verdict::Strong | Verdict::Weak | Verdict::Refuted { .. });
    if !asked {
        return;
    }
    let prompts: Vec<Vec<u16>> = domain.iter().map(|p| p.tokens.clone()).collect();
    let domain = Domain::listed(&prompts).expect("prompts have tokens");
    // Every input under means and one other prompt; a few bounds.
    let effort = Effort { sources: 1, bounded: 4, samples: 100, symbols: 64, ..Effort::default() };
    certify(case, "", Some(&domain), effort, &Limits::level(6), report, &mut |_| ())
        .expect("the domain is the model's");
}

fn split(name: &str) -> Split {
    match name {
        "length" => Split::Lengths,
        "vocabulary" => Split::Vocabulary,
        "templates" => Split::HeldOutTemplates,
        other => unreachable!("the zoo has no shift called {other}"),
    }
}

/// The family of a check that failed.
fn family(check: &Check) -> Option<&'static str> {
    if check.status != Status::Failed {
        return None;
    }
    let name = check.name.as_str();
    let starts = |with: &str| name.starts_with(with);
    let shift = [Split::HeldOutTemplates, Split::Lengths, Split::Vocabulary].iter().any(|s| starts(&s.to_string()));
    Some(match name {
        "self-checks" if check.explanation.contains("selected on") || check.explanation.contains("twice") => "leak",
        "self-checks" => "self-check",
        "the model does the task" => "task",
        "the task goes through nodes" | "enough pairs" => "undefined",
        "sufficiency: against random sets" => "random",
        "completeness" => "completeness",
        "minimality: nodes" => "minimality",
        "roles" | "hypothesis" => "interchange",
        "causal scrubbing" => "scrubbing",
        "identified" => "rival",
        "exhaustive" => "exhaustive",
        "not trivial" => "trivial",
        "equivalence" => "equivalence",
        "worst inputs" => "inputs",
        "adversary" => "adversary",
        "adversary of the circuit's size" => "larger adversary",
        _ if starts("control") => "control",
        _ if starts("necessity") => "necessity",
        _ if shift => "shift",
        // Under another ablation than the published one, with norms free or frozen.
        _ if check.ablation.is_some_and(|s| s.fill != Fill::Mean) => "ablation matrix",
        _ if check.ablation.is_some_and(|s| s.norms == Norms::Frozen) => "frozen norm",
        _ if starts("sufficiency") => "sufficiency",
        _ => "other",
    })
}

/// What tokens are called in hypotheses.
fn text(token: u16) -> String {
    format!("t{token}")
}

/// The hypothesis of a model with two variables, as the plant claims it: yes where the first cue is `+` and the second is
/// not.
fn hypothesis(planted: &Planted) -> Option<Hypothesis> {
    let [first, second] = match (planted.plant, &planted.variables[..]) {
        (Plant::WrongHypothesis, [first, second]) => [first, second],
        _ => return None,
    };
    let variable = |name: &str, carrier: &Carrier| {
        let nodes = carrier.nodes.nodes().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
        let token = text(carrier.token);
        format!("[[variable]]\nname = \"{name}\"\nvalue = \"'{token}' in tokens\"\nnodes = [{nodes}]\nat = \"all\"\n")
    };
    let [yes, no] = [planted.held_out[0].answer, planted.held_out[0].alternative].map(text);
    let file = format!(
        "name = \"two cues\"\nanswer = \"'{yes}' if first and not second else '{no}'\"\ncandidates = [\"{yes}\", \"{no}\"]\n{}{}",
        variable("first", first),
        variable("second", second)
    );
    Some(Hypothesis::parse(&file, "hypothesis.toml", &planted.model.config).expect("a hypothesis about this model"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plant_is_called_what_it_is_by_the_check_made_for_it() {
        for plant in Plant::all() {
            let judged = judge(plant.build(1.0, 1));
            assert!(judged.is_right() && judged.is_caught(), "{}: {}\n{}", plant.name(), judged.verdict, judged.words);
        }
    }

    #[test]
    fn verdicts_do_not_depend_on_the_order_of_nodes_or_the_names_of_tokens() {
        for plant in [Plant::True, Plant::Backup, Plant::CancellingPair, Plant::WrongHypothesis] {
            let planted = plant.build(1.0, 3);
            let shuffled = judge(planted.shuffled(4));
            let as_it_is = judge(planted);
            assert_eq!(as_it_is.verdict, shuffled.verdict, "{}", plant.name());
        }
    }
}
