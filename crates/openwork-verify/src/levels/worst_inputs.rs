//! Level 4: inputs that no split has.

use openwork_circuit::Calibration;

use super::{Evaluators, Verifier, sufficiency::NO_CONTRASTS, weights_of};
use crate::{
    checks::{Check, Status, id::CheckId},
    methods::inputs,
    report::counter_example::{Change, CounterExample, Intervention},
    run::scheme::{Kept, Scheme, Split},
    stats::intervals::lower_bound,
};

impl Verifier<'_> {
    /// The worst input among those seen, and a search for worse.
    pub(super) fn inputs(&mut self, evaluators: &Evaluators<'_>) {
        let (id, evaluator) = (CheckId::WorstInputs, &evaluators.held_out);
        if !self.has_time(id) {
            return;
        }
        // Whatever is drawn like the held-out prompts is worse than the worst of those in at most this share, at 95 %
        // confidence. Of searched ones no such thing can be said.
        let n = 2 * evaluator.pairs.len();
        let share = 1.0 - 0.05_f64.powf(1.0 / n as f64);
        let published =
            self.report.cell(Split::HeldOut, Kept::Circuit, Some(Scheme::MEAN)).expect("measured at level 1");
        let seen = published.kl_max;
        self.report.findings.worst_input = Some((share, seen));
        for (id, calibration) in self.in_both_forms(id) {
            self.worst_input(id, calibration, (n, share, seen), evaluators);
        }
    }

    /// A check in both forms, each with the calibration that the circuit's answers have: its own, and its scale with the shift that
    /// suits the model's answers to the held-out prompts best. What a search finds has no shift of its own: it could be fitted on the very
    /// prompts that were searched. Without contrasts the second cannot be made.
    fn in_both_forms(&mut self, id: CheckId) -> Vec<(CheckId, Calibration)> {
        let of_circuit = self.report.cell(Split::HeldOut, Kept::Circuit, Some(Scheme::MEAN));
        let table = of_circuit.and_then(|cell| cell.at_best_shift.as_ref()).expect("measured at level 1");
        let (shift, other) = (table.shift_to_answers, id.shift_free().expect("it has both forms"));
        let mut forms = vec![(id, self.case.calibration)];
        match shift {
            Some(shift) => forms.push((other, Calibration { shift, ..self.case.calibration })),
            None => self.push(Check::new(other, Status::NotApplicable, NO_CONTRASTS)),
        }
        forms
    }

    /// A search for prompts whose answers the circuit turns, of the `n` held-out prompts, all but a share of whose kind are no worse
    /// than what was `seen`.
    fn worst_input(
        &mut self,
        id: CheckId,
        calibration: Calibration,
        (n, share, seen): (usize, f64, f64),
        evaluators: &Evaluators<'_>,
    ) {
        let (evaluator, circuit) = (&evaluators.held_out, self.case.circuit.nodes());
        let found = inputs::worst_input(evaluator, circuit, calibration, self.settings.inputs, self.settings.seed);
        let Some((worst, turned)) = found else {
            let words = "no two prompts of one template have one length and differ in more than their cues: there is nothing \
                         to exchange between them";
            return self.push(Check::not_asked(id, words));
        };
        let words = format!(
            "of {} prompts made by exchanging tokens other than the cues between prompts of one template, {turned} have an answer of the \
             model, sure by a nat or more, that the circuit turns; the worst KL over the candidates is {:.4} nats. Of the {n} \
             held-out prompts as they are, the worst has KL {seen:.4} over the vocabulary, which bounds all but a share \
             {share:.4} of their kind, at 95 % confidence",
            self.settings.inputs, worst.kl
        );
        // One in a hundred may be no prompt of the task any more, for all that it keeps its cue.
        let passed = turned * 100 <= self.settings.inputs;
        self.push(Check { ablation: Some(Scheme::MEAN), ..Check::new(id, Status::of(passed), words) });
        if !passed {
            let shown = (worst.prompts, worst.candidates);
            self.show_input((id, calibration), evaluators, shown, (worst.model, worst.run));
        }
    }

    /// Notes a prompt that a search made as the counter-example.
    fn show_input(
        &mut self,
        (check, calibration): (CheckId, Calibration),
        evaluators: &Evaluators<'_>,
        (prompts, candidates): ([Vec<u16>; 2], (u16, u16)),
        (model, run): ([f64; 2], [f64; 2]),
    ) {
        if !check.belongs_to(self.case.claim) {
            return;
        }
        let what = Change::OnlyCircuitKept;
        let cut_edges = evaluators.held_out.context.cut_edges(weights_of(what));
        let intervention = Intervention { cut_edges, ..Intervention::keeping(what, self.case.circuit.nodes()) };
        self.refute_by(|| CounterExample {
            check,
            split: Split::HeldOut,
            pair: None,
            prompts,
            candidates,
            intervention,
            calibration,
            model,
            run,
        });
    }

    /// Tokens that few pairs or none have.
    pub(super) fn rare_tokens(&mut self, evaluators: &Evaluators<'_>) {
        let id = CheckId::RareTokens;
        if !self.has_time(id) {
            return;
        }
        for (id, calibration) in self.in_both_forms(id) {
            self.rare_tokens_at(id, calibration, evaluators);
        }
    }

    fn rare_tokens_at(&mut self, id: CheckId, calibration: Calibration, evaluators: &Evaluators<'_>) {
        let (clock, settings) = (self.clock, self.settings);
        let found = inputs::rare_tokens(
            (&evaluators.few_selection, &evaluators.few),
            self.case.circuit.nodes(),
            calibration,
            (settings.tokens, settings.seed),
            &|| clock.is_over(),
        );
        let Some((tried, closely)) = found else {
            if self.clock.is_over() {
                return self.left_out_in_one_form(id);
            }
            let words =
                "prompts of one template and length differ in their cues alone: there is no place for other tokens";
            return self.push(Check::not_asked(id, words));
        };
        let bar = 1.0 - settings.min_agreement;
        let Some(worst) = closely.first() else {
            let words = "the model finds no token likely in a place of a prompt that is no cue of some pair";
            return self.push(Check::not_asked(id, words));
        };
        let passed = worst.at_least() <= bar;
        let words = format!(
            "{tried} tokens that the model finds likely there were put in places that are no cue, and the {} on which circuit and \
             model part most or nodes outside are most active tried closely: with token {}, the worst of them, the circuit turns \
             {} of {} answers of which the model is sure; that is {:.3} or more of such prompts, at 95 % confidence, and at most \
             {bar:.2} may be turned",
            closely.len(),
            worst.token,
            worst.turned,
            worst.sure,
            worst.at_least()
        );
        self.push(Check { ablation: Some(Scheme::MEAN), ..Check::new(id, Status::of(passed), words) });
        if let Some((parent, model, run)) = worst.worst.clone().filter(|_| !passed) {
            let prompts = [parent.prompt.clone(), parent.prompt];
            self.show_input((id, calibration), evaluators, (prompts, parent.candidates), ([model; 2], [run; 2]));
        }
    }

    /// Prompts of a pair that differ in several places: no pair tells which of them decides.
    pub(super) fn companions(&mut self, evaluators: &Evaluators<'_>) {
        let id = CheckId::Companions;
        if !self.has_time(id) {
            return;
        }
        for (id, calibration) in self.in_both_forms(id) {
            self.companions_at(id, calibration, evaluators);
        }
    }

    fn companions_at(&mut self, id: CheckId, calibration: Calibration, evaluators: &Evaluators<'_>) {
        let circuit = self.case.circuit.nodes();
        let Some(found) = inputs::companions(&evaluators.held_out, circuit, calibration) else {
            let words =
                "no two prompts of a pair have one length and differ in several places: cues have no companions";
            return self.push(Check::not_asked(id, words));
        };
        let [first, second] = &found.example;
        let both = |(a, b): &(Vec<u16>, Vec<u16>)| format!("{a:?} or {b:?}");
        let unknown = format!(
            "the prompts of {} of {} pairs differ in several places at once, as in tokens {} and {}: whether the answer hangs on \
             one or on the other no pair tells",
            found.pairs.0,
            found.pairs.1,
            both(first),
            both(second)
        );
        if found.decided == 0 {
            let words = format!(
                "{unknown}; with one of them exchanged alone the model follows neither as a rule, so that such prompts have \
                 contradicting cues"
            );
            return self.push(Check::not_asked(id, words));
        }
        let least = lower_bound(found.decided, found.turned, 0.05);
        let bar = 1.0 - self.settings.min_agreement;
        let passed = least <= bar;
        let words = format!(
            "{unknown}; with one of them exchanged alone the model follows one as a rule in {} prompts, of which the circuit turns \
             {}; that is {least:.3} or more of such prompts, at 95 % confidence, and at most {bar:.2} may be turned",
            found.decided, found.turned
        );
        self.push(Check { ablation: Some(Scheme::MEAN), ..Check::new(id, Status::of(passed), words) });
        if let Some((parent, model, run)) = found.worst.filter(|_| !passed) {
            let prompts = [parent.prompt.clone(), parent.prompt];
            self.show_input((id, calibration), evaluators, (prompts, parent.candidates), ([model; 2], [run; 2]));
        }
    }
}
