//! The run: what is checked in which order, how long it may take, and where it stops.

mod adversaries;
mod attacks;
pub mod case;
mod certify;
mod completeness;
mod inputs;
mod meaning;
mod minimality;
mod necessity;
pub mod recompute;
mod roles;
mod rules;
mod seal;
mod sufficiency;
mod worst_inputs;

use std::time::Instant;

use openwork_circuit::{Calibration, NodeSet, NodeSpace};
use openwork_tasks::Pair;

use crate::{
    certificate::{Certificate, Kind},
    checks::{Check, Role, Status, Unfinished, control::Controls, id::CheckId, needs::Needs},
    levels::{
        case::{Case, Limits},
        seal::End,
    },
    report::{
        Draft, Report,
        counter_example::{Change, CounterExample, Intervention, runs},
        fault::{Fault, InputError},
        findings::{Declaration, Size},
    },
    run::{
        ablator::{Ablator, KeepOnly},
        context::{Context, Weights},
        error::RunError,
        evaluator::Evaluator,
        measures::{losses_at_best_shift, mean},
        scheme::{Norms, Scheme, Split},
    },
    settings::Settings,
    stats::intervals::Resamples,
};

/// The reason that a run ends before its last check.
enum Stop {
    Fault(Fault),
    /// A gate failed.
    Gate,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

impl From<RunError> for Stop {
    fn from(error: RunError) -> Self {
        Stop::Fault(error.into())
    }
}

impl From<InputError> for Stop {
    fn from(error: InputError) -> Self {
        Stop::Fault(error.into())
    }
}

/// Shares of the time that levels 1 to 6 get, where all are asked for.
const SHARES: [f64; 6] = [0.05, 0.15, 0.25, 0.25, 0.15, 0.15];

/// The judgement on a circuit.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The report.
    pub report: Report,
    /// Certificates that level 6 wrote, each to be kept in a file of its own.
    pub certificates: Vec<(Kind, Certificate)>,
}

/// Judges a circuit. `controls` are what a search achieved where it must fail; without one of each kind the verdict is
/// [`Verdict::Incomplete`](crate::report::verdict::Verdict::Incomplete) at best. `progress` is told what is being done.
///
/// The same case, controls and settings give the same report, whatever the number of threads, unless time runs out.
pub fn verify(
    case: &Case<'_>,
    controls: Controls<'_>,
    settings: &Settings,
    limits: &Limits<'_>,
    progress: &mut dyn FnMut(&str),
) -> Judgement {
    verify_through(&KeepOnly, case, controls, settings, limits, progress)
}

/// [`verify`] with an ablation of the caller's own, which the self-checks watch before anything else: they compare what
/// every run leaves at every site with what it had to.
pub fn verify_through(
    ablator: &dyn Ablator,
    case: &Case<'_>,
    controls: Controls<'_>,
    settings: &Settings,
    limits: &Limits<'_>,
    progress: &mut dyn FnMut(&str),
) -> Judgement {
    let needs = Needs { frozen_norms: has_norms(case), hypothesis: case.meaning.is_some() };
    let report = Draft::new((case.claim, limits.level), needs, declarations(case), settings.clone());
    let judged = match inputs::judged(case) {
        Ok(judged) => judged,
        Err(error) => return faulty(report, error.into()),
    };
    let context = Context { model: case.model, means: case.means, judged: &judged, seed: settings.seed, ablator };
    let clock = Clock { limits, level: 0, started: Instant::now(), level_until: limits.until };
    let (counter_example, certificates, certified) = (None, vec![], None);
    let mut verifier =
        Verifier { case, context, settings, clock, progress, report, counter_example, certificates, certified };
    let end = match verifier.run(controls) {
        Ok(()) => End::Whole { certified: verifier.certified.take() },
        Err(Stop::Fault(fault)) => End::Fault(fault),
        Err(Stop::Gate) => End::Whole { certified: None },
    };
    let Verifier { mut report, counter_example, certificates, .. } = verifier;
    match end {
        End::Fault(fault) => Judgement { certificates, ..faulty(report, fault) },
        end => {
            report.checks.insert(0, Check::new(CheckId::SelfChecks, Status::Passed, SELF_CHECKS));
            Judgement { report: seal::seal(report, end, counter_example), certificates }
        }
    }
}

/// The judgement on a run that a fault ended.
fn faulty(mut report: Draft, fault: Fault) -> Judgement {
    report.checks.push(Check::new(CheckId::SelfChecks, Status::Failed, fault.to_string()));
    Judgement { report: seal::seal(report, End::Fault(fault), None), certificates: vec![] }
}

/// Explanation of passed self-checks.
const SELF_CHECKS: &str = "keeping all nodes is the model bit for bit, keeping none is ablating all, every hook fired and did \
                           its work, gradients are finite differences, no pair was selected on, all numbers are finite";

struct Verifier<'a> {
    case: &'a Case<'a>,
    context: Context<'a>,
    settings: &'a Settings,
    clock: Clock<'a>,
    progress: &'a mut dyn FnMut(&str),
    report: Draft,
    counter_example: Option<CounterExample>,
    certificates: Vec<(Kind, Certificate)>,
    /// Scope of the certificates, where they cover every input of a domain.
    certified: Option<String>,
}

/// The level that the run is at, and when it must be over. A copy is what long steps look at.
#[derive(Clone, Copy)]
struct Clock<'a> {
    limits: &'a Limits<'a>,
    level: u8,
    started: Instant,
    level_until: Option<Instant>,
}

impl Clock<'_> {
    /// The same at the start of a level, which may run until the shares of the levels up to it are over: what earlier
    /// ones leave is for later ones.
    fn at(self, level: u8) -> Self {
        let share = |levels: u8| SHARES[..usize::from(levels)].iter().sum::<f64>();
        let asked = share(level) / share(self.limits.level);
        let level_until = self.limits.until.map(|until| self.started + (until - self.started).mul_f64(asked));
        Self { level, level_until, ..self }
    }

    /// True if the time of the level or of the run is over, or the caller interrupts the run.
    fn is_over(&self) -> bool {
        self.limits.are_over() || self.level_until.is_some_and(|until| Instant::now() > until)
    }
}

/// Evaluators and resamples that several levels use.
struct Evaluators<'a> {
    held_out: Evaluator<'a>,
    selection: Evaluator<'a>,
    /// Fewer held-out pairs, for what is run hundreds of times, and as many selection pairs.
    few: Evaluator<'a>,
    few_selection: Evaluator<'a>,
    /// Resamples of both.
    resamples: Resamples,
    few_resamples: Resamples,
    /// Pairs from elsewhere, for levels 3 and 4.
    shifts: Vec<(Split, Evaluator<'a>)>,
    active: Vec<bool>,
}

impl<'a> Verifier<'a> {
    fn run(&mut self, controls: Controls<'_>) -> Result<(), Stop> {
        (self.progress)("self-checks");
        inputs::check(self.case, self.settings)?;
        let n = self.case.held_out.len();
        if n < self.settings.min_pairs {
            let words = format!("{n} held-out pairs cannot decide, at least {} are needed", self.settings.min_pairs);
            self.push(Check::new(CheckId::EnoughPairs, Status::Failed, words));
            return Err(Stop::Gate);
        }
        let evaluators = self.evaluators()?;
        let unit = Declaration { what: "intervals".into(), value: format!("over {}", evaluators.resamples.unit()) };
        self.report.declarations.push(unit);
        evaluators.few.check_identity()?;
        evaluators.few_selection.check_gradient()?;
        self.report.size = Some(self.size(&evaluators.active));
        self.begin(1);
        let published = self.task(&evaluators)?;
        for level in 2..=self.clock.limits.level {
            self.begin(level);
            match level {
                2 => self.sufficiency(&evaluators, &published)?,
                3 => self.necessity(&evaluators, controls)?,
                4 => self.adversaries(&evaluators)?,
                5 => self.meaning(&evaluators)?,
                _ => self.certify()?,
            }
            self.close(level);
        }
        Ok(())
    }

    /// Ends a level: of what it asks, nothing goes without an outcome.
    fn close(&mut self, level: u8) {
        for id in CheckId::asked_at(level) {
            if !self.report.checks.iter().any(|c| c.id.answers(id)) {
                self.push(Check::new(id, Status::NotApplicable, "not made, for no reason that is known"));
            }
        }
    }

    fn evaluators(&self) -> Result<Evaluators<'a>, RunError> {
        let (case, settings, context) = (self.case, self.settings, self.context);
        let few = |pairs: &[Pair]| Evaluator::new(context, &some_of(pairs, settings.random_pairs));
        let held_out = Evaluator::new(context, case.held_out)?;
        let few_held_out = few(case.held_out)?;
        let active = held_out.activity.active(case.circuit.nodes().space(), settings.active_share);
        let elsewhere = case.shifts.iter().filter(|s| self.clock.limits.level > 2 && !s.pairs.is_empty());
        let shifts =
            elsewhere.map(|s| Ok((s.split, Evaluator::new(context, s.pairs)?))).collect::<Result<_, RunError>>()?;
        Ok(Evaluators {
            selection: Evaluator::new(context, case.selection)?,
            few_selection: few(case.selection)?,
            resamples: resamples(&held_out.pairs, settings),
            few_resamples: resamples(&few_held_out.pairs, settings),
            held_out,
            few: few_held_out,
            shifts,
            active,
        })
    }

    /// Starts a level.
    fn begin(&mut self, level: u8) {
        self.clock = self.clock.at(level);
    }

    /// True if there is time for a step. If not, the check that it would have made is not made, and the report says so.
    fn has_time(&mut self, check: CheckId) -> bool {
        self.has_time_for(&[check])
    }

    /// The same of a step that makes several checks.
    fn has_time_for(&mut self, checks: &[CheckId]) -> bool {
        if self.clock.is_over() {
            checks.iter().for_each(|&check| self.left_out(check));
            return false;
        }
        (self.progress)(&checks[0].to_string());
        true
    }

    /// Checks that cannot be asked of the circuit at hand, each with the part in the verdict that it always has.
    fn not_applicable(&mut self, checks: &[CheckId], reason: &str) {
        checks.iter().for_each(|&check| self.push_in_both_forms(Check::new(check, Status::NotApplicable, reason)));
    }

    /// A check that was not made for want of time.
    fn left_out(&mut self, check: CheckId) {
        // Attacks after the shift are named beside the others, whatever is claimed.
        let named = |id: &CheckId| {
            let attack = matches!(id, CheckId::AdversaryShifted | CheckId::LargerAdversaryShifted);
            id.belongs_to(self.case.claim) || attack
        };
        let forms = [Some(check), check.shift_free()];
        forms.into_iter().flatten().filter(named).for_each(|id| self.unfinished(id));
        let words = format!("not made: {}", self.clock.limits.why());
        self.push_in_both_forms(Check::new(check, Status::NotApplicable, words));
    }

    /// One form of a check that was not made for want of time, where the other was.
    fn left_out_in_one_form(&mut self, check: CheckId) {
        if check.belongs_to(self.case.claim) {
            self.unfinished(check);
        }
        self.push(Check::new(check, Status::NotApplicable, format!("not made: {}", self.clock.limits.why())));
    }

    /// Adds a check that could be made in neither form.
    fn push_in_both_forms(&mut self, check: Check) {
        let other = check.id.shift_free().map(|id| Check { id, ..check.clone() });
        self.push(check);
        other.into_iter().for_each(|check| self.push(check));
    }

    /// A step that was not finished for want of time.
    fn unfinished(&mut self, step: CheckId) {
        self.report.unfinished.push(Unfinished::new(step, self.clock.limits.why()));
    }

    /// Adds a check; in the form of the other claim it decides nothing.
    fn push(&mut self, check: Check) {
        debug_assert_eq!(check.level, self.clock.level, "{} is asked at its level", check.id);
        let role = if check.id.belongs_to(self.case.claim) { check.role } else { Role::Reported };
        self.report.checks.push(Check { role, ..check });
    }

    fn size(&self, active: &[bool]) -> Size {
        let circuit = self.case.circuit.nodes();
        Size {
            nodes: circuit.len(),
            edges: self.case.circuit.edges().len(),
            model_nodes: circuit.space().len(),
            active_nodes: active.iter().filter(|&&a| a).count(),
            active_in_circuit: circuit.numbers().filter(|&n| active[n]).count(),
        }
    }

    /// Loss reduction of the model, nats: `ln 2 − loss`, the loss at its best shift.
    fn loss_reduction(&self, evaluator: &Evaluator<'_>) -> f64 {
        std::f64::consts::LN_2 - mean(&losses_at_best_shift(&evaluator.model))
    }

    /// Notes the first example that speaks against the circuit.
    fn refute_by(&mut self, example: impl FnOnce() -> CounterExample) {
        if self.counter_example.is_none() {
            self.counter_example = Some(example());
        }
    }
}

/// A counter-example that is a pair of a split.
struct Shown<'a> {
    check: CheckId,
    split: Split,
    pair: usize,
    evaluator: &'a Evaluator<'a>,
    /// Calibrated logit differences of the run.
    run: &'a [f64],
    calibration: Calibration,
}

impl Shown<'_> {
    fn example(&self, intervention: Intervention) -> CounterExample {
        let two = |d: &[f64]| [d[2 * self.pair], d[2 * self.pair + 1]];
        let pair = &self.evaluator.pairs[self.pair];
        CounterExample {
            check: self.check,
            split: self.split,
            pair: Some(self.pair),
            prompts: [self.evaluator.prompt(2 * self.pair).to_vec(), self.evaluator.prompt(2 * self.pair + 1).to_vec()],
            candidates: (pair.answer, pair.alternative),
            intervention,
            calibration: self.calibration,
            model: two(&self.evaluator.model.differences),
            run: two(self.run),
        }
    }

    /// The intervention that keeps `nodes` under a scheme.
    fn kept(&self, what: Change, nodes: &NodeSet, scheme: Scheme) -> Intervention {
        let context = self.evaluator.context;
        let source = |i: usize| self.evaluator.prompt(self.evaluator.source(2 * self.pair + i, scheme.value)).to_vec();
        let constants = match context.constants(scheme.value) {
            Some(openwork_circuit::Ablation::Constant(values)) => {
                Some((0..values.len()).filter(|&n| !nodes.kept()[n]).map(|n| values[n]).collect())
            }
            _ => None,
        };
        Intervention {
            scheme,
            sources: context.constants(scheme.value).is_none().then(|| [source(0), source(1)]),
            constants,
            cut_edges: context.cut_edges(weights_of(what)),
            ..Intervention::keeping(what, nodes)
        }
    }

    /// The intervention that keeps node n to the part `r[n]`.
    fn partly(&self, what: Change, r: &[f32], scheme: Scheme) -> Intervention {
        let space = self.evaluator.space();
        let partly = r.iter().enumerate().filter(|(_, r)| **r > 0.0 && **r < 1.0);
        Intervention {
            what,
            scheme,
            kept: runs(&space, r.iter().enumerate().filter(|(_, r)| **r == 1.0).map(|(n, _)| n)),
            partly: partly.map(|(n, r)| (space.node(n).to_string(), *r)).collect(),
            sources: None,
            constants: None,
            cut_edges: vec![],
        }
    }
}

/// Weights of the run of a counter-example.
fn weights_of(what: Change) -> Weights {
    match what {
        Change::OnlyCircuitKept => Weights::Circuit,
        Change::OnlyCircuitAblated | Change::KnockOut | Change::Attack => Weights::Model,
    }
}

/// At most `n` pairs, evenly spread.
fn some_of(pairs: &[Pair], n: usize) -> Vec<Pair> {
    let n = n.min(pairs.len());
    (0..n).map(|i| pairs[i * pairs.len() / n].clone()).collect()
}

/// Resamples of pairs, grouped by their templates.
fn resamples(pairs: &[Pair], settings: &Settings) -> Resamples {
    let labels: Vec<Vec<usize>> = pairs.iter().map(|p| vec![p.template]).collect();
    Resamples::grouped(&labels, settings.bootstrap, settings.seed)
}

/// The pair where a function of its index is largest.
fn worst_pair(n: usize, badness: impl Fn(usize) -> f64) -> usize {
    (0..n).max_by(|&a, &b| badness(a).total_cmp(&badness(b))).expect("a split has pairs")
}

fn declarations(case: &Case<'_>) -> Vec<Declaration> {
    let tokens = case.means.n_tokens();
    let ablation = format!(
        "the node's mean over {tokens} training tokens decides; beside it zero, its mean on the task, its value on other \
         prompts (of the same template, of any) and the constant that suits the circuit best"
    );
    let mut input = format!("{} fresh pairs of the templates of the search", case.held_out.len());
    case.shifts.iter().for_each(|s| input += &format!(", {} pairs of {}", s.pairs.len(), s.split));
    let selection = format!("{} pairs, none of whose prompts is evaluated on", case.selection.len());
    let shifts = case.shifts.iter().map(|s| (s.split.to_string(), s.pairs));
    let held_out = (Split::HeldOut.to_string(), case.held_out);
    let data = [("selection pairs".into(), case.selection), held_out].into_iter().chain(shifts);
    let left_out = edges_left_out(case);
    let granularity = granularity(case.circuit.edges().len(), left_out);
    let mut circuit_hash = format!("circuit {}", case.circuit.nodes().sha256());
    if left_out > 0 {
        circuit_hash += &format!(", its nodes and edges {}", case.circuit.sha256());
    }
    let hashes =
        data.fold(circuit_hash, |all, (what, pairs)| format!("{all}, {what} {}", openwork_tasks::sha256(pairs)));
    let norms = match case.model.config.norm {
        openwork_model::NormKind::Rms | openwork_model::NormKind::Layer => {
            "free (recomputed in the ablated run), and frozen at those of the plain model"
        }
        openwork_model::NormKind::None => "the model has no norms",
    };
    [
        ("granularity", granularity.as_str()),
        ("component types", "attention reads, queries, keys, values and writes; MLP reads, neurons and writes"),
        ("ablation value", &ablation),
        ("token positions", "all; answers are read at the last one"),
        ("direction", "values are destroyed in the clean run, none is restored into a corrupt one"),
        ("set ablated", "the complement of the circuit (sufficiency) and the circuit (necessity)"),
        ("scales of norms", norms),
        ("input distribution", &input),
        ("reference", "the model (agreement, KL) and the right answers (loss, accuracy)"),
        ("selection and evaluation", &selection),
        ("SHA-256", &hashes),
    ]
    .map(|(what, value)| Declaration { what: what.into(), value: value.into() })
    .into()
}

/// Number of weights between the circuit's nodes that are not its edges; 0 for a circuit of another shape, a fault that
/// `inputs::check` names.
fn edges_left_out(case: &Case<'_>) -> usize {
    let fits = *case.circuit.nodes().space() == NodeSpace::new(&case.model.config);
    if fits { case.circuit.missing_edges(case.model).len() } else { 0 }
}

fn granularity(edges: usize, left_out: usize) -> String {
    if left_out == 0 {
        return "nodes: one feature at one site, for all tokens; edges follow from the weights between them".into();
    }
    let all = edges + left_out;
    format!(
        "nodes and edges: one feature at one site, for all tokens, and {edges} of the {all} weights between them; runs of \
         the circuit are without the other weights"
    )
}

/// A model without norms has none to freeze.
fn has_norms(case: &Case<'_>) -> bool {
    case.model.config.norm != openwork_model::NormKind::None
}

/// Schemes other than the published one.
fn other_schemes() -> impl Iterator<Item = Scheme> {
    Scheme::all().filter(|s| *s != Scheme::MEAN)
}

/// True if a scheme freezes norms.
fn is_frozen(scheme: Scheme) -> bool {
    scheme.norms == Norms::Frozen
}
