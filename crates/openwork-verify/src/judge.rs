//! The run: what is checked in which order, and where it stops.

use std::f64::consts::LN_2;

use openwork_circuit::{Calibration, NodeSet, edges, tasks::Pair};

use crate::{
    Case, Check, Control, ControlKind, CounterExample, Declaration, Draw, Faithfulness, Fill, Kept, RandomSets, Report,
    Role, Settings, Size, Split, Status, Verdict, audit,
    measure::{Bench, Measured, Subject, faithfulness, losses_at_best_shift},
    random::{Comparison, calibrate, mean},
    rules,
    stats::{Resamples, holm},
};

/// Why a run ends before its last check.
enum Stop {
    Error(String),
    NoTask,
    Undefined,
}

impl From<String> for Stop {
    fn from(fault: String) -> Self {
        Stop::Error(fault)
    }
}

/// Judges a circuit. `controls` are what the search that found it achieved where it must fail; without one of each
/// kind the verdict is [`Verdict::Weak`] at best. `progress` is told what is being done.
///
/// The same case, controls and settings give the same report, whatever the number of threads.
pub fn verify(case: &Case<'_>, controls: &[Control], settings: &Settings, progress: &mut dyn FnMut(&str)) -> Report {
    let report = Report {
        verdict: Verdict::Error,
        reasons: Vec::new(),
        size: None,
        checks: Vec::new(),
        matrix: Vec::new(),
        random_sets: Vec::new(),
        declarations: declarations(case),
        settings: settings.clone(),
    };
    let mut judge = Judge { case, settings, progress, report, counter_example: None };
    let stop = judge.run(controls);
    let Judge { mut report, counter_example, .. } = judge;
    let gate = |report: &Report| -> Vec<String> {
        let failed = report.checks.iter().filter(|c| c.status == Status::Failed && c.role == Role::Gate);
        failed.map(|c| c.explanation.clone()).collect()
    };
    if !matches!(stop, Err(Stop::Error(_))) {
        let words = "keeping all nodes is the model, every hook fired and did its work, no pair was selected on, all \
                     numbers are finite";
        report.checks.insert(0, rules::check("self-checks", Role::Gate, Status::Passed, words.into()));
    }
    (report.verdict, report.reasons) = match stop {
        Ok(()) => rules::verdict(&report.checks, counter_example),
        Err(Stop::Error(fault)) => {
            report.checks.push(rules::check("self-checks", Role::Gate, Status::Failed, fault.clone()));
            (Verdict::Error, vec![fault])
        }
        Err(Stop::NoTask) => (Verdict::NoTask, gate(&report)),
        Err(Stop::Undefined) => (Verdict::Undefined, gate(&report)),
    };
    report
}

struct Judge<'a> {
    case: &'a Case<'a>,
    settings: &'a Settings,
    progress: &'a mut dyn FnMut(&str),
    report: Report,
    counter_example: Option<CounterExample>,
}

/// A split with what was measured on it.
struct Runs {
    split: Split,
    resamples: Resamples,
    model: Measured,
    /// Losses of the model and of all but the circuit at their best shift.
    model_shifted: Vec<f64>,
    without_shifted: Vec<f64>,
    without: Measured,
    /// The circuit and nothing, under mean and under zero ablation.
    by_fill: [(Fill, Measured, Measured); 2],
}

impl Judge<'_> {
    fn run(&mut self, controls: &[Control]) -> Result<(), Stop> {
        let (case, settings) = (self.case, self.settings);
        (self.progress)("self-checks");
        audit::inputs(case, settings)?;
        let n = case.held_out.len();
        if n < settings.min_pairs {
            let words = format!("{n} held-out pairs cannot decide, at least {} are needed", settings.min_pairs);
            self.report.checks.push(rules::check("enough pairs", Role::Gate, Status::Failed, words));
            return Err(Stop::Undefined);
        }
        let subject = Subject { model: case.model, means: case.means };
        let held_out = Bench::new(subject, case.held_out)?;
        let selection = Bench::new(subject, case.selection)?;
        let templates = match case.held_out_templates {
            few if few.len() < settings.min_pairs => None,
            pairs => Some(Bench::new(subject, pairs)?),
        };
        for bench in [Some(&held_out), Some(&selection), templates.as_ref()].into_iter().flatten() {
            bench.check_identity()?;
        }
        let active = held_out.activity.active(case.circuit.space(), settings.active_share);
        let size = self.size(&active);
        self.report.size = Some(size);

        let runs = self.measure(&held_out, &selection, Split::HeldOut)?;
        let model = &self.report.cell(Split::HeldOut, Kept::Model, None).expect("measured");
        let task = rules::task(model, &runs.model.loss, &runs.resamples, settings);
        let done = task.status == Status::Passed;
        self.report.checks.push(task);
        if !done {
            return Err(Stop::NoTask);
        }
        let circuit = self.report.cell(Split::HeldOut, Kept::Circuit, Some(Fill::Mean)).expect("measured");
        let through = rules::through_nodes(circuit.faithfulness.as_ref().expect("a circuit has one"), settings);
        let defined = through.status == Status::Passed;
        self.report.checks.push(through);
        if !defined {
            return Err(Stop::Undefined);
        }

        self.sufficiency(&runs, &held_out);
        match &templates {
            Some(bench) => {
                let runs = self.measure(bench, &selection, Split::HeldOutTemplates)?;
                self.sufficiency(&runs, bench);
            }
            None => self.report.checks.push(rules::check(
                "held-out templates",
                Role::Required,
                Status::NotApplicable,
                format!(
                    "there are {} pairs of other templates, at least {} are needed: nothing is known beyond the templates \
                     of the search",
                    case.held_out_templates.len(),
                    settings.min_pairs
                ),
            )),
        }
        let necessity = rules::necessity(&runs.without_shifted, &runs.model_shifted, &runs.resamples, settings);
        if necessity.status == Status::Failed && self.counter_example.is_none() {
            // Where the model does best without the circuit.
            let pair = (0..n).min_by(|&a, &b| runs.without_shifted[a].total_cmp(&runs.without_shifted[b]));
            self.counter_example =
                pair.map(|i| example(Split::HeldOut, i, Kept::AllButCircuit, &held_out, &runs.without));
        }
        self.report.checks.push(necessity);
        self.random_sets(subject, &active)?;
        for kind in [ControlKind::NonsenseLabels, ControlKind::RandomWeights] {
            self.report.checks.push(rules::control(kind, controls, size));
        }
        self.report.checks.push(rules::selective(size, settings));
        Ok(())
    }

    fn size(&self, active: &[bool]) -> Size {
        let circuit = self.case.circuit;
        Size {
            nodes: circuit.len(),
            edges: edges(self.case.model, circuit).len(),
            model_nodes: circuit.space().len(),
            active_nodes: active.iter().filter(|&&a| a).count(),
            active_in_circuit: circuit.numbers().filter(|&n| active[n]).count(),
        }
    }

    /// Every run on a split; adds the cells to the matrix.
    fn measure(&mut self, bench: &Bench<'_>, selection: &Bench<'_>, split: Split) -> Result<Runs, String> {
        (self.progress)(&format!("measuring on {split}"));
        let (circuit, settings) = (self.case.circuit, self.settings);
        let nothing = NodeSet::empty(circuit.space().clone());
        let n = bench.model.differences.len() / 2;
        let resamples = Resamples::new(n, settings.bootstrap, settings.seed);
        let model = Measured::new(&bench.model, Calibration::NONE, &bench.model);
        let model_shifted = losses_at_best_shift(&bench.model);
        self.report.matrix.push(model.cell((split, Kept::Model, None), Calibration::NONE, None, &resamples));
        let mut without_shifted = Vec::new();
        let mut all_but = None;
        let mut one = |fill: Fill| -> Result<(Fill, Measured, Measured), String> {
            let calibrated = |nodes: &NodeSet, c: Option<Calibration>| -> Result<(Measured, Calibration), String> {
                let run = bench.run(nodes, fill)?;
                let c = c.map_or_else(|| Ok::<_, String>(calibrate(&selection.run_differences(nodes, fill)?)), Ok)?;
                Ok((Measured::new(&run, c, &bench.model), c))
            };
            let own = (fill == Fill::Mean).then_some(self.case.calibration);
            let (kept, kept_calibration) = calibrated(circuit, own)?;
            let (none, none_calibration) = calibrated(&nothing, None)?;
            let without = bench.run(&circuit.complement(), fill)?;
            let without_measured = Measured::new(&without, Calibration::NONE, &bench.model);
            let f = faithfulness(&none.loss, &kept.loss, &model.loss, &resamples, settings);
            let cells = [
                kept.cell((split, Kept::Circuit, Some(fill)), kept_calibration, Some(f), &resamples),
                none.cell((split, Kept::Nothing, Some(fill)), none_calibration, None, &resamples),
                without_measured.cell((split, Kept::AllButCircuit, Some(fill)), Calibration::NONE, None, &resamples),
            ];
            self.report.matrix.extend(cells);
            if fill == Fill::Mean {
                without_shifted = losses_at_best_shift(&without);
                all_but = Some(without_measured);
            }
            Ok((fill, kept, none))
        };
        let by_fill = [one(Fill::Mean)?, one(Fill::Zero)?];
        let without = all_but.expect("mean ablation was run");
        Ok(Runs { split, resamples, model, model_shifted, without_shifted, without, by_fill })
    }

    fn sufficiency(&mut self, runs: &Runs, bench: &Bench<'_>) {
        for (fill, circuit, nothing) in &runs.by_fill {
            let cell = |kept, ablation| self.report.cell(runs.split, kept, ablation).expect("measured");
            let (model, of_circuit) = (cell(Kept::Model, None), cell(Kept::Circuit, Some(*fill)));
            let mut checks = rules::sufficiency(
                (model, of_circuit),
                (circuit, nothing),
                &runs.resamples,
                self.case.target_loss,
                self.settings,
            );
            checks.push(reported_faithfulness(of_circuit.faithfulness.as_ref(), runs.split, *fill));
            let refuted = checks.iter().any(|c| c.role == Role::Required && c.status == Status::Failed);
            if refuted && self.counter_example.is_none() {
                // Most disagreement first, then most loss.
                let badness = |i: &usize| (1.0 - circuit.agree[*i], circuit.loss[*i]);
                let worse = |a: &usize, b: &usize| {
                    let (a, b) = (badness(a), badness(b));
                    a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
                };
                let pair = (0..circuit.loss.len()).max_by(worse);
                self.counter_example = pair.map(|i| example(runs.split, i, Kept::Circuit, bench, circuit));
            }
            self.report.checks.extend(checks);
        }
    }

    /// Necessity and sufficiency against random sets, on part of the pairs.
    fn random_sets(&mut self, subject: Subject<'_>, active: &[bool]) -> Result<(), String> {
        let (circuit, settings) = (self.case.circuit, self.settings);
        let (necessity, sufficiency) = ("necessity: against random sets", "sufficiency: against random sets");
        if circuit.is_empty() || circuit.complement().is_empty() {
            let words = "a circuit of no nodes or of all has no random sets of its size to be compared with";
            for name in [necessity, sufficiency] {
                self.report.checks.push(rules::check(name, Role::Required, Status::NotApplicable, words.into()));
            }
            return Ok(());
        }
        let bench = Bench::new(subject, &some_of(self.case.held_out, settings.random_pairs))?;
        let selection = Bench::new(subject, &some_of(self.case.selection, settings.random_pairs))?;
        let own = bench.run_differences(circuit, Fill::Mean)?.loss(self.case.calibration);
        let limit = settings.loss_limit(self.case.target_loss);
        let model = mean(&losses_at_best_shift(&bench.model));
        let comparison = Comparison {
            bench: &bench,
            selection: &selection,
            circuit,
            necessary: model + settings.min_necessity * (LN_2 - model),
            sufficient: limit,
            active,
            settings,
        };
        let counted = comparison.ablated(Draw::Others, self.progress)?;
        let activity = comparison.ablated(Draw::ActiveOthers, self.progress)?;
        let kept = comparison.kept(own, self.progress)?;
        let adjusted = holm(&[counted.p_value.max(activity.p_value), kept.p_value]);

        let too_short = counted.wanting.1 as f64 > settings.max_shortage * circuit.len() as f64;
        let mut first = rank(necessity, adjusted[0], settings, necessity_words(&counted, &activity));
        if too_short {
            first.status = Status::NotApplicable;
            first.explanation = format!(
                "the circuit fills its sites so far that random sets outside it lack {} of its {} nodes",
                counted.wanting.1,
                circuit.len()
            );
        }
        let reached = kept.random.iter().filter(|&&l| l <= limit).count();
        let words = format!(
            "kept alone, random sets of the circuit's size have losses {} nats; the circuit {:.4}; {reached} of {} reach \
             {limit:.4}",
            range(&kept.random),
            kept.circuit,
            kept.random.len()
        );
        self.report.checks.extend([first, rank(sufficiency, adjusted[1], settings, words)]);
        self.report.random_sets.extend([counted, activity, kept]);
        Ok(())
    }
}

fn rank(name: &str, p: f64, settings: &Settings, words: String) -> Check {
    let passed = p <= settings.alpha;
    let status = if passed { Status::Passed } else { Status::Failed };
    Check {
        split: Some(Split::HeldOut),
        ablation: Some(Fill::Mean),
        p_value: Some(p),
        threshold: Some(settings.alpha),
        ..rules::check(name, Role::Required, status, format!("{words}; p = {p:.3} after Holm"))
    }
}

fn necessity_words(counted: &RandomSets, active: &RandomSets) -> String {
    let wanting = match active.wanting {
        (0, _) => String::new(),
        (sites, nodes) => {
            format!("; at {sites} sites other active nodes run short, {nodes} had to be replaced by silent ones")
        }
    };
    format!(
        "without the circuit the loss is {:.4} nats at the best shift; without as many other nodes {} (p = {:.3}), \
         without as many other active nodes {} (p = {:.3}){wanting}; the larger p decides",
        counted.circuit,
        range(&counted.random),
        counted.p_value,
        range(&active.random),
        active.p_value
    )
}

/// Least, median and largest.
fn range(values: &[f64]) -> String {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |p| crate::stats::quantile(&sorted, p);
    format!("from {:.4} to {:.4}, median {:.4}", at(0.0), at(1.0), at(0.5))
}

fn reported_faithfulness(faithfulness: Option<&Faithfulness>, split: Split, fill: Fill) -> Check {
    let name = "faithfulness";
    let (estimate, status, words) = match faithfulness.expect("a circuit has one") {
        Faithfulness::Defined { ratio_of_means, by_pair: [low, median, high] } => (
            Some(*ratio_of_means),
            Status::Passed,
            format!(
                "on {split} under {fill} ablation the circuit recovers {ratio_of_means} of what the model gains over \
                 nothing; pair by pair {low:.2}, {median:.2}, {high:.2} (5 %, 50 %, 95 %){}",
                if ratio_of_means.ci95.0 > 1.0 { "; above 1: it does better than what it should explain" } else { "" }
            ),
        ),
        Faithfulness::Undefined { denominator: (mean, se) } => (
            None,
            Status::NotApplicable,
            format!("undefined on {split} under {fill} ablation: its denominator is {mean:.4} ± {se:.4} nats"),
        ),
    };
    let check = rules::check(name, Role::Reported, status, words);
    Check { split: Some(split), ablation: Some(fill), estimate, ..check }
}

fn example(split: Split, pair: usize, kept: Kept, bench: &Bench<'_>, run: &Measured) -> CounterExample {
    let two = |d: &[f64]| [d[2 * pair], d[2 * pair + 1]];
    CounterExample { split, pair, kept, model: two(&bench.model.differences), run: two(&run.differences) }
}

/// At most `n` pairs, evenly spread.
fn some_of(pairs: &[Pair], n: usize) -> Vec<Pair> {
    let n = n.min(pairs.len());
    (0..n).map(|i| pairs[i * pairs.len() / n].clone()).collect()
}

fn declarations(case: &Case<'_>) -> Vec<Declaration> {
    let tokens = case.means.n_tokens();
    let (held_out, templates) = (case.held_out.len(), case.held_out_templates.len());
    let ablation = format!("the node's mean over {tokens} training tokens; beside it zero");
    let input = format!("{held_out} fresh pairs of the templates of the search, {templates} pairs of other templates");
    let selection = format!("{} pairs, none of whose prompts is evaluated on", case.selection.len());
    [
        ("granularity", "nodes: one feature at one site, for all tokens"),
        ("component types", "attention reads, queries, keys, values and writes; MLP reads, neurons and writes"),
        ("ablation value", &ablation),
        ("token positions", "all"),
        ("direction", "values are destroyed in the clean run, none is restored into a corrupt one"),
        ("set ablated", "the complement of the circuit (sufficiency) and the circuit (necessity)"),
        ("scales of norms", "free: recomputed in the ablated run"),
        ("input distribution", &input),
        ("reference", "the right answers, and the model"),
        ("selection and evaluation", &selection),
    ]
    .map(|(what, value)| Declaration { what: what.into(), value: value.into() })
    .into()
}
