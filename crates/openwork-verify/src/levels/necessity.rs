//! Level 3: necessity of the circuit for the model, beside random node sets; and controls.

use openwork_circuit::{Calibration, Claim, edges};

use super::{Evaluators, Shown, Stop, Verifier, sufficiency::range, worst_pair};
use crate::{
    checks::{
        Check, Status, Unfinished,
        control::{ControlKind, Controls},
        id::CheckId,
    },
    levels::rules,
    methods::random_sets::{Comparison, Draw, RandomSets},
    report::{counter_example::Change, findings::Size},
    run::{
        error::RunError,
        measures::{Measured, losses_at_best_shift, mean},
        scheme::{Kept, Scheme, Split},
        shift_free::best_shift_at,
    },
    settings::Settings,
    stats::intervals::holm,
};

impl Verifier<'_> {
    /// Level 3.
    pub(super) fn necessity(&mut self, evaluators: &Evaluators<'_>, controls: Controls<'_>) -> Result<(), Stop> {
        self.effect(evaluators)?;
        self.random_sets(evaluators)?;
        for kind in ControlKind::ALL {
            if controls.cut_short.contains(&kind) && !controls.done.iter().any(|c| c.kind == kind) {
                self.unfinished(CheckId::Control { kind });
            }
            self.control(kind, controls);
        }
        self.completeness(evaluators)?;
        self.minimality(evaluators)?;
        self.beside_random_circuits(evaluators)?;
        Ok(())
    }

    /// One control. The circuits that its search finds have all edges between their nodes, and are compared with as many of
    /// this one: an edge that is left out afterwards makes no search better.
    fn control(&mut self, kind: ControlKind, controls: Controls<'_>) {
        let size = self.report.size.expect("known by now");
        let all = edges(self.case.model, self.case.circuit.nodes()).len();
        let mut check = rules::control(kind, controls.done, Size { edges: all, ..size });
        if all != size.edges {
            check.explanation += "; the edges that the circuit leaves out count, since a search leaves out none";
        }
        self.push(check);
    }

    /// Necessity: the loss of the model with only the circuit ablated.
    fn effect(&mut self, evaluators: &Evaluators<'_>) -> Result<(), RunError> {
        let (evaluator, resamples, circuit) = (&evaluators.held_out, &evaluators.resamples, self.case.circuit.nodes());
        let others = circuit.complement();
        let run = evaluator.run_in_model(&others, Scheme::MEAN)?;
        let without = Measured::new(&run, Calibration::NONE, &evaluator.model);
        let kept = (Split::HeldOut, Kept::AllButCircuit, Some(Scheme::MEAN));
        self.report.matrix.push(without.cell(kept, Calibration::NONE, None, resamples));
        self.independence(evaluator, &without.differences);
        let (shifted, model) = (losses_at_best_shift(&run), losses_at_best_shift(&evaluator.model));
        let check = rules::necessity(&shifted, &model, resamples, self.settings);
        if check.status == Status::Failed {
            // Where the model does best without the circuit.
            let pair = worst_pair(shifted.len(), |i| -shifted[i]);
            let shown = Shown {
                check: check.id,
                split: Split::HeldOut,
                pair,
                evaluator,
                run: &without.differences,
                calibration: Calibration::NONE,
            };
            self.refute_by(|| shown.example(shown.kept(Change::OnlyCircuitAblated, &others, Scheme::MEAN)));
        }
        self.push(check);
        Ok(())
    }

    /// Necessity and sufficiency against random sets, on part of the pairs.
    fn random_sets(&mut self, evaluators: &Evaluators<'_>) -> Result<(), RunError> {
        let (circuit, settings) = (self.case.circuit.nodes(), self.settings);
        let (necessity, sufficiency) = (CheckId::NecessityAgainstRandomSets, CheckId::SufficiencyAgainstRandomSets);
        if circuit.is_empty() || circuit.complement().is_empty() {
            let words = "a circuit of no nodes or of all has no random sets of its size to be compared with";
            self.not_applicable(&[necessity, sufficiency], words);
            return Ok(());
        }
        if !self.has_time_for(&[necessity, sufficiency]) {
            return Ok(());
        }
        let evaluator = &evaluators.few;
        let (own, calibration) = (evaluator.run_differences(circuit, Scheme::MEAN)?, self.case.calibration);
        let own = [own.loss(calibration), own.loss(best_shift_at(&own, calibration.scale))];
        let limit = settings.loss_limit();
        let model = mean(&losses_at_best_shift(&evaluator.model));
        let clock = self.clock;
        let comparison = Comparison {
            evaluator,
            selection: &evaluators.few_selection,
            circuit,
            necessary: model + settings.min_necessity * (std::f64::consts::LN_2 - model),
            sufficient: limit,
            active: &evaluators.active,
            settings,
            out_of_time: &|| clock.is_over(),
        };
        let counted = comparison.ablated(Draw::Others, self.progress)?;
        let activity = comparison.ablated(Draw::ActiveOthers, self.progress)?;
        let [kept, shifted] = comparison.kept(own, self.progress)?;
        // Two tests decide, whatever is claimed.
        let adjusted = |kept: &RandomSets| holm(&[counted.p_value.max(activity.p_value), kept.p_value]);
        let [as_it_is, after_shift] = [&kept, &shifted].map(adjusted);
        let of_necessity = match self.case.claim {
            Claim::Answer => as_it_is[0],
            Claim::Contrast => after_shift[0],
        };

        let too_short = counted.shortfall.1 as f64 > settings.max_shortage * circuit.len() as f64;
        let mut first = rank(necessity, of_necessity, settings, necessity_text(&counted, &activity));
        if too_short {
            first.status = Status::NotApplicable;
            first.explanation = format!(
                "the circuit constants its sites so far that random sets outside it lack {} of its {} nodes",
                counted.shortfall.1,
                circuit.len()
            );
        }
        let words = |kept: &RandomSets, after: &str| {
            let reached = kept.random.iter().filter(|&&l| l <= limit).count();
            format!(
                "kept alone{after}, random sets of the circuit's size have losses {} nats; the circuit {:.4}; {reached} of {} reach \
                 {limit:.4}",
                range(&kept.random),
                kept.circuit,
                kept.random.len()
            )
        };
        let id = sufficiency.shift_free().expect("it has both forms");
        let mut checks = [
            first,
            rank(sufficiency, as_it_is[1], settings, words(&kept, "")),
            rank(id, after_shift[1], settings, words(&shifted, " at the best common shift of each")),
        ];
        let fewest = [&counted, &activity, &kept].map(|s| s.random.len()).into_iter().min().expect("three");
        if fewest < settings.random_sets {
            let step = Unfinished::new(CheckId::RandomSets, self.clock.limits.why());
            self.report.unfinished.push(Unfinished { done: Some((fewest, settings.random_sets)), ..step });
            // Fewer sets than were asked for decide nothing, neither for the circuit nor against it.
            checks.iter_mut().for_each(|c| c.status = Status::NotApplicable);
        }
        checks.into_iter().for_each(|check| self.push(check));
        self.report.random_sets.extend([counted, activity, kept]);
        Ok(())
    }
}

fn rank(id: CheckId, p: f64, settings: &Settings, words: String) -> Check {
    let passed = p <= settings.alpha;
    Check {
        split: Some(Split::HeldOut),
        ablation: Some(Scheme::MEAN),
        p_value: Some(p),
        threshold: Some(settings.alpha),
        ..Check::new(id, Status::of(passed), format!("{words}; p = {p:.3} after Holm"))
    }
}

fn necessity_text(counted: &RandomSets, active: &RandomSets) -> String {
    let shortfall = match active.shortfall {
        (0, _) => String::new(),
        (sites, nodes) => {
            format!("; at {sites} sites other active nodes run short, {nodes} had to be replaced by inactive ones")
        }
    };
    format!(
        "without the circuit the loss is {:.4} nats at the best shift; without as many other nodes {} (p = {:.3}), \
         without as many other active nodes {} (p = {:.3}){shortfall}; the larger p decides (conservative: of a circuit that is \
         itself a random set, p is nearly always large, since most sets cost nothing)",
        counted.circuit,
        range(&counted.random),
        counted.p_value,
        range(&active.random),
        active.p_value
    )
}
