//! Level 4: what is asked in which order; inputs from elsewhere, interpolation curves, and rivals.

use openwork_circuit::Claim;

use super::{Evaluators, Stop, Verifier, resamples};
use crate::{
    checks::{Check, Status, id::CheckId},
    methods::{interpolation, knockouts::whole_scale, rival},
    report::findings::{Curve, CurveKind, Rival},
    run::{
        error::RunError,
        measures::{Measured, calibrate_within},
        scheme::{Scheme, Split},
        shift_free::ShiftFree,
    },
    stats::intervals::{Estimate, fraction},
};

impl Verifier<'_> {
    /// Level 4.
    pub(super) fn adversaries(&mut self, evaluators: &Evaluators<'_>) -> Result<(), Stop> {
        self.shifts(evaluators)?;
        self.attacks(evaluators)?;
        self.roles(&evaluators.few)?;
        self.interpolation_curves(evaluators);
        self.inputs(evaluators);
        self.rare_tokens(evaluators);
        self.companions(evaluators);
        self.rivals(evaluators)?;
        Ok(())
    }

    /// Inputs that differ from those of the search in one respect.
    fn shifts(&mut self, evaluators: &Evaluators<'_>) -> Result<(), RunError> {
        for split in Split::ELSEWHERE {
            let evaluator = evaluators.shifts.iter().find(|(s, _)| *s == split).map(|(_, evaluator)| evaluator);
            let n = evaluator.map_or(0, |evaluator| evaluator.pairs.len());
            let id = CheckId::ShiftPairs { split };
            let Some(evaluator) = evaluator.filter(|_| n >= self.settings.min_pairs) else {
                let words = format!(
                    "there are {n} pairs of {split}, at least {} are needed: nothing is known about them",
                    self.settings.min_pairs
                );
                self.not_applicable(&[id], &words);
                continue;
            };
            if !self.has_time(id) {
                continue;
            }
            let resamples = resamples(&evaluator.pairs, self.settings);
            self.model_cell(split, evaluator, &resamples);
            for scheme in [Scheme::MEAN, Scheme::ZERO] {
                let measured = self.measure(split, evaluator, &evaluators.selection, &resamples, scheme)?;
                self.sufficient(split, evaluator, &measured, &resamples);
                if scheme == Scheme::MEAN {
                    self.turned_pairs(split, &measured);
                }
            }
        }
        Ok(())
    }

    /// The circuit's run as the rest is restored, and as the circuit's own nodes get the model's values.
    fn interpolation_curves(&mut self, evaluators: &Evaluators<'_>) {
        let (id, circuit) = (CheckId::Interchange, self.case.circuit.nodes());
        if circuit.is_empty() || circuit.complement().is_empty() {
            return self.not_applicable(&[id], "a circuit of no nodes or of all has nothing to interpolate to");
        }
        if !self.has_time(id) {
            return;
        }
        let points = interpolation::relaxation(&evaluators.few, circuit);
        self.report.curves.push(Curve { kind: CurveKind::RestRestored, points });
        let points = interpolation::interchange(&evaluators.few, circuit, self.settings.seed);
        let kl = |share: f64| points.iter().find(|p| p.0 == share).expect("a point of the curve").1;
        let words = format!(
            "KL goes from {:.3} to {:.3} nats with the model's values in the circuit's nodes ({:.3} in half of them); as far \
             as it falls, nodes hold other values than in the model",
            kl(0.0),
            kl(1.0),
            kl(0.5)
        );
        self.push(Check::new(id, Status::Passed, words));
        self.report.curves.push(Curve { kind: CurveKind::ModelValues, points });
    }

    /// Rivals: other circuits that do as well.
    fn rivals(&mut self, evaluators: &Evaluators<'_>) -> Result<(), RunError> {
        let (id, circuit, settings) = (CheckId::Identified, self.case.circuit.nodes(), self.settings);
        if circuit.is_empty() {
            self.not_applicable(&[id], "a circuit of no nodes has none that a rival could share");
            return Ok(());
        }
        if !self.has_time(id) {
            return Ok(());
        }
        let clock = self.clock;
        let out_of_time = || clock.is_over();
        let limit = rival::Limit { loss: settings.loss_limit(), scale: whole_scale(self.case.calibration) };
        let (evaluator, selection) = (&evaluators.few, &evaluators.few_selection);
        let Some(core) = rival::core(selection, circuit, limit, &out_of_time)? else {
            self.left_out(id);
            return Ok(());
        };
        self.report.findings.core = Some(core.len());
        // Exhaustion: forbid what is not in the core, then what its rivals use beyond the core, until nothing is left.
        let overlap = settings.rival_overlap * circuit.len() as f64;
        let mut good = None;
        let mut forbidden: Vec<usize> = circuit.numbers().filter(|n| !core.contains(n)).collect();
        const DEPTH: usize = 3;
        for _ in 0..DEPTH {
            if forbidden.is_empty() {
                break;
            }
            let steps = settings.rival_steps;
            let Some(found) = rival::search(selection, &forbidden, limit, steps, settings.seed, &out_of_time)? else {
                break;
            };
            let run = evaluator.run_in_model(&found, Scheme::MEAN)?;
            let calibration = calibrate_within(&selection.run_without(&found.complement(), Scheme::MEAN)?, limit.scale);
            let measured = Measured::new(&run, calibration, &evaluator.model);
            let shared = found.numbers().filter(|&n| circuit.kept()[n]).count();
            let rival = |loss: &[f64], agreement: Estimate| Rival {
                nodes: found.len(),
                shared,
                loss: evaluators.few_resamples.mean(loss),
                agreement,
            };
            let own = rival(&measured.loss, fraction(&measured.agree));
            let mut forms = vec![own.clone()];
            // A rival of a contrast does as well with a threshold elsewhere, too.
            if self.case.claim == Claim::Contrast {
                let shifted = ShiftFree::new(&run, calibration.scale, &evaluator.model, &evaluator.pairs);
                forms.extend(shifted.answers.agreement().map(|agreement| rival(&shifted.loss, agreement)));
            }
            let does_as_well = |r: &Rival| {
                r.shared as f64 <= overlap && r.loss.mean <= limit.loss && r.agreement.ci95.0 >= settings.min_template
            };
            good = good.or_else(|| forms.into_iter().find(does_as_well));
            self.report.findings.rivals.push(own);
            forbidden.extend(found.numbers().filter(|n| !core.contains(n)));
        }
        let rivals = &self.report.findings.rivals;
        let rival = good;
        if rival.is_none() && self.clock.is_over() {
            // The search that found none was cut short.
            self.left_out(id);
            return Ok(());
        }
        let words = format!(
            "{} of the circuit's {} nodes are irreplaceable: without any one of them nothing else in the model does the \
             task; {}",
            core.len(),
            circuit.len(),
            match &rival {
                Some(r) => format!(
                    "a rival of {} nodes that shares {} with the circuit has a loss of {} nats: the circuit is one of \
                     several",
                    r.nodes, r.shared, r.loss
                ),
                None =>
                    format!("no rival that shares at most {overlap:.0} of them was found ({} were tried)", rivals.len()),
            }
        );
        let passed = rival.is_none();
        self.push(Check::new(id, Status::of(passed), words));
        Ok(())
    }
}
