//! The report as plain text.

use std::fmt::Write;

use crate::{Kept, Report, Status, Verdict};

impl Report {
    /// The whole report as text for people: verdict and reasons first, then every check and every run.
    pub fn words(&self) -> String {
        let mut out = format!("VERDICT: {}\n", self.verdict.word());
        let mut line = |text: String| writeln!(out, "{text}").expect("a string takes everything");
        self.reasons.iter().for_each(|reason| line(format!("  - {reason}")));
        if let Verdict::Refuted { counter_example: Some(c), .. } = &self.verdict {
            let pair =
                c.pair.map_or("a pair that a search over inputs made".into(), |i| format!("pair {i} of {}", c.split));
            line(format!(
                "  - for example {pair}, where {} (logit of the answer above the alternative, positive and negative \
                 prompt): model {:+.3}, {:+.3}; run {:+.3}, {:+.3}",
                c.intervention.what, c.model[0], c.model[1], c.run[0], c.run[1]
            ));
        }
        if !matches!(self.verdict, Verdict::Error) {
            line(format!("  rung {} of the {} that were asked for", self.rung, self.level));
        }
        if let Some(s) = &self.size {
            line(format!(
                "\nCircuit: {} of {} nodes ({} of {} active ones), {} edges",
                s.nodes, s.model_nodes, s.active_in_circuit, s.active_nodes, s.edges
            ));
        }
        line("\nChecks".into());
        for c in &self.checks {
            let mark = match c.status {
                Status::Passed => "pass",
                Status::Failed => "FAIL",
                Status::NotApplicable => " -  ",
            };
            let fill = c.ablation.map_or(String::new(), |scheme| format!(" ({scheme})"));
            line(format!("  {mark}  {} {}{fill}\n        {}", c.level, c.name, c.explanation));
        }
        if !self.matrix.is_empty() {
            line("\nRuns: losses and KL from the model in nats, 95 % intervals over pairs".into());
            line(format!(
                "  {:<18} {:<20} {:<27} {:<25} {:<25} {:<25} {:<25}",
                "pairs", "kept", "else", "loss", "accuracy", "agreement", "KL"
            ));
            for c in &self.matrix {
                let fill = c.ablation.map_or(String::new(), |fill| fill.to_string());
                let cells = [c.loss, c.accuracy, c.agreement, c.kl].map(|e| e.to_string());
                let [loss, accuracy, agreement, kl] = &cells;
                let kept: &Kept = &c.kept;
                line(format!(
                    "  {:<18} {:<20} {fill:<27} {loss:<25} {accuracy:<25} {agreement:<25} {kl:<25}",
                    c.split.to_string(),
                    kept.to_string()
                ));
            }
        }
        line("\nChoices behind the numbers".into());
        self.declarations.iter().for_each(|d| line(format!("  {}: {}", d.what, d.value)));
        out
    }
}
