//! Verification of a ground-truth case as the program would do it, and the families of checks that fired.

use std::{collections::BTreeSet, mem::discriminant, ops::ControlFlow, time::Instant};

use openwork_circuit::{Circuit, Domain, Keep, NodeSpace};
use openwork_extract::calibrate;
use openwork_model::{Matrix, Site, Tap};
use openwork_truth::{
    Carrier,
    zoo::{self, CaseKind, Expected, GroundTruthCase},
};
use openwork_verify::{
    Ablator, Case, Control, ControlKind, Controls, Effort, Family, Limits, Meaning, Reason, Settings, Shift, Split,
    Verdict, hypothesis::Hypothesis, verify, verify_through,
};

/// Judgement on a case.
pub struct Judged {
    pub kind: CaseKind,
    pub host: &'static str,
    pub severity: f32,
    pub seed: u64,
    pub expected: Expected,
    pub should_fire: &'static [Family],
    pub verdict: Verdict,
    /// Families of the checks that failed.
    pub fired: BTreeSet<Family>,
    pub reasons: Vec<Reason>,
    /// The whole report.
    pub words: String,
    pub seconds: f64,
}

impl Judged {
    /// True if the verdict is the expected one.
    pub fn is_right(&self) -> bool {
        match self.expected {
            Expected::Pass => self.is_called_good(),
            Expected::Refuted => matches!(self.verdict, Verdict::Refuted { .. }),
            Expected::NoTask => self.verdict == Verdict::NoTask,
            Expected::Error => matches!(self.verdict, Verdict::Error { .. }),
            Expected::Undefined => self.verdict == Verdict::Undefined,
            // Of a circuit that is nearly the whole model, some checks leave nothing to make.
            Expected::Weak(_) => self.is_weak() || self.verdict == Verdict::Incomplete,
            Expected::NotStrong(_) => self.is_weak() || matches!(self.verdict, Verdict::Refuted { .. }),
        }
    }

    fn is_weak(&self) -> bool {
        matches!(self.verdict, Verdict::Weak | Verdict::ContrastWeak)
    }

    /// True if the verdict is strong or certified, on what is claimed.
    pub fn is_called_good(&self) -> bool {
        matches!(self.verdict, Verdict::Strong | Verdict::ContrastStrong | Verdict::Certified { .. })
    }

    /// True if another judgement has the same verdict, whatever the counter-example.
    pub fn has_verdict_of(&self, other: &Self) -> bool {
        discriminant(&self.verdict) == discriminant(&other.verdict)
    }

    /// The verdict in a word, for tables.
    pub fn word(&self) -> &'static str {
        match self.verdict {
            Verdict::Weak => "WEAK",
            Verdict::Strong => "STRONG",
            Verdict::ContrastWeak => "WEAK (contrast)",
            Verdict::ContrastStrong => "STRONG (contrast)",
            Verdict::Certified { .. } => "CERTIFIED",
            ref other => other.word(),
        }
    }

    /// True if a check that was made for this kind of case fired; of a true circuit, that none did.
    pub fn is_caught(&self) -> bool {
        match self.should_fire {
            [] => self.fired.iter().all(|f| *f == Family::Trivial),
            families => families.iter().any(|f| self.fired.contains(f)),
        }
    }
}

/// Builds the case that the program would and judges it on every level.
pub fn judge(given: GroundTruthCase) -> Judged {
    let started = Instant::now();
    let settings =
        Settings { random_sets: 100, random_pairs: 32, bootstrap: 400, seed: given.seed, ..Settings::default() };
    // The searches that controls come from are the finder's; here they found nothing where there is nothing.
    let control = |kind| Control { kind, reached_target: false, loss: std::f64::consts::LN_2, nodes: 0, edges: 0 };
    let controls = ControlKind::ALL.map(control);
    let prompts = domain_of(&given);
    let domain = prompts.as_deref().map(|prompts| Domain::listed(prompts).expect("prompts have tokens"));
    let shifts: Vec<Shift<'_>> =
        given.shifted.iter().map(|(shift, pairs)| Shift { split: split(*shift), pairs }).collect();
    let hypothesis = hypothesis(&given);
    let meaning = hypothesis.as_ref().map(|hypothesis| Meaning { hypothesis, text: &text });
    let circuit = Circuit::new(&given.model, given.circuit.clone());
    let case = Case {
        model: &given.model,
        means: &given.means,
        circuit: &circuit,
        claim: given.claim,
        calibration: calibrate(&given.model, &given.means, &given.circuit, &given.training),
        target_loss: given.target_loss,
        held_out: &given.held_out,
        shifts: &shifts,
        selection: &given.selection,
        meaning,
        model_sha256: "",
        domain: domain.as_ref(),
    };
    // The hook of a site where the circuit ablates something.
    let space = NodeSpace::new(&given.model.config);
    let ablates = |range: &std::ops::Range<usize>| range.clone().any(|n| !given.circuit.kept()[n]);
    let dead = space.sites().iter().filter(|(_, range)| ablates(range)).map(|(site, _)| *site).nth(2);
    let limits = Limits { effort: EFFORT, ..Limits::level(if domain.is_some() { 6 } else { 5 }) };
    let controls = Controls { done: &controls, cut_short: &[] };
    let report = match dead.filter(|_| given.dead_hook) {
        Some(site) => verify_through(&Skips(site), &case, controls, &settings, &limits, &mut |_| ()).report,
        None => verify(&case, controls, &settings, &limits, &mut |_| ()).report,
    };
    let mut fired = report.failed_families();
    if report.verdict == Verdict::Undefined {
        fired.insert(Family::Undefined);
    }
    Judged {
        kind: given.kind,
        host: given.host,
        severity: given.severity,
        seed: given.seed,
        expected: given.expected,
        should_fire: families(given.kind, given.severity),
        verdict: report.verdict.clone(),
        fired,
        words: report.text(),
        reasons: report.reasons.clone(),
        seconds: started.elapsed().as_secs_f64(),
    }
}

/// Every input under means and one other prompt; a few bounds.
const EFFORT: Effort = Effort { runs: 2_000_000, sources: 1, bounded: 4, samples: 100, symbols: 64 };

/// All inputs, where they are known, of the kinds of cases that level 6 is made for.
fn domain_of(given: &GroundTruthCase) -> Option<Vec<Vec<u16>>> {
    let domain = given.domain.as_ref().filter(|_| matches!(given.kind, CaseKind::True | CaseKind::FixedLength))?;
    Some(domain.iter().map(|p| p.tokens.clone()).collect())
}

/// An ablation that skips a site, as a broken hook would.
struct Skips(Site);

impl Ablator for Skips {
    fn ablate(&self, keep: &mut Keep<'_>, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        if site == self.0 { ControlFlow::Continue(()) } else { keep.forward(site, value) }
    }
}

/// Families of checks of which one must fire; the first is the one made for this kind of case. Others may
/// fire too unless the circuit is true.
fn families(kind: CaseKind, severity: f32) -> &'static [Family] {
    match kind {
        CaseKind::AllNodes
        | CaseKind::True
        | CaseKind::Redundant
        | CaseKind::Large
        | CaseKind::NoSplit
        | CaseKind::LiveCompany
        | CaseKind::Threshold
        | CaseKind::TrueAsContrast => &[],
        CaseKind::FaintPath if severity <= 0.05 => &[],
        CaseKind::FaintPath => &[Family::Completeness, Family::Necessity, Family::Rival],
        CaseKind::RedundantPadded | CaseKind::LiveJunk | CaseKind::Crowd => &[Family::Minimality],
        CaseKind::ThirdToken => &[Family::Vocabulary],
        CaseKind::Empty => &[Family::Sufficiency],
        // Under means or under another ablation.
        CaseKind::OneMissing => &[Family::Sufficiency, Family::AblationMatrix],
        CaseKind::Padded => &[Family::Minimality],
        CaseKind::Random => &[Family::Random, Family::Sufficiency],
        CaseKind::Backup => &[Family::Completeness, Family::Necessity, Family::Rival],
        CaseKind::CancellingPair | CaseKind::ContrastCancelling => &[Family::Adversary],
        CaseKind::ThresholdAsAnswer | CaseKind::ContrastGuard => &[Family::Adversary],
        CaseKind::ContrastByPlace => &[Family::Shift],
        CaseKind::VaryingOffset => &[Family::Sufficiency],
        CaseKind::HalfCue => &[Family::Completeness],
        CaseKind::Nonsense | CaseKind::DeadSalmon => &[Family::Task],
        CaseKind::NormCheat => &[Family::FrozenNorm],
        CaseKind::PositionalShortcut => &[Family::Shift],
        CaseKind::FixedLength => &[Family::Shift, Family::Exhaustive],
        CaseKind::RoleSwap | CaseKind::WrongHypothesis => &[Family::Interchange],
        CaseKind::MeanOnly => &[Family::AblationMatrix],
        CaseKind::DeadHook => &[Family::SelfCheck],
        CaseKind::Leak => &[Family::Leak],
        CaseKind::Undefined => &[Family::Undefined],
        CaseKind::TwoCircuits => &[Family::Rival, Family::Necessity],
        CaseKind::Guard => &[Family::Adversary],
        CaseKind::CancellingGroup => &[Family::Groups, Family::LargerAdversary, Family::Adversary],
        CaseKind::OpposedWrite => &[Family::Interchange],
        // Common ones show in agreement.
        CaseKind::RareToken => &[Family::Inputs, Family::Sufficiency],
        CaseKind::Companion => &[Family::Inputs],
    }
}

fn split(shift: zoo::Shift) -> Split {
    match shift {
        zoo::Shift::Lengths => Split::Lengths,
        zoo::Shift::Vocabulary => Split::Vocabulary,
        zoo::Shift::Templates => Split::HeldOutTemplates,
    }
}

/// Text of a token in hypotheses.
fn text(token: u16) -> String {
    format!("t{token}")
}

/// The hypothesis of a model with two variables, as the case claims it: yes where the first cue is `+` and the second is
/// not.
fn hypothesis(given: &GroundTruthCase) -> Option<Hypothesis> {
    let [first, second] = match (given.kind, &given.variables[..]) {
        (CaseKind::WrongHypothesis, [first, second]) => [first, second],
        _ => return None,
    };
    let variable = |name: &str, carrier: &Carrier| {
        let nodes = carrier.nodes.nodes().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
        let token = text(carrier.token);
        format!("[[variable]]\nname = \"{name}\"\nvalue = \"'{token}' in tokens\"\nnodes = [{nodes}]\nat = \"all\"\n")
    };
    let [yes, no] = [given.held_out[0].answer, given.held_out[0].alternative].map(text);
    let file = format!(
        "name = \"two cues\"\nanswer = \"'{yes}' if first and not second else '{no}'\"\ncandidates = [\"{yes}\", \"{no}\"]\n{}{}",
        variable("first", first),
        variable("second", second)
    );
    Some(Hypothesis::parse(&file, "hypothesis.toml", &given.model.config).expect("a hypothesis about this model"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_called_what_it_is_by_the_check_made_for_it() {
        for kind in CaseKind::all() {
            let judged = judge(kind.build(kind.full(), 1));
            assert!(judged.is_right() && judged.is_caught(), "{}: {}\n{}", kind.name(), judged.word(), judged.words);
        }
    }

    #[test]
    fn verdicts_do_not_depend_on_the_order_of_nodes_or_the_names_of_tokens() {
        for kind in [CaseKind::True, CaseKind::Backup, CaseKind::CancellingPair, CaseKind::WrongHypothesis] {
            let given = kind.build(1.0, 3);
            let shuffled = judge(given.shuffled(4));
            let as_it_is = judge(given);
            assert!(as_it_is.has_verdict_of(&shuffled), "{}", kind.name());
        }
    }
}
