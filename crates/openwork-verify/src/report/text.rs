//! The report as plain text, for terminals of 100 columns.

use std::fmt::Write;

use crate::{
    checks::{Check, Role, Status, form::Raw, id::CheckId},
    report::{
        Contents,
        counter_example::CounterExample,
        levels::LevelState,
        verdict::{Reason, Verdict},
    },
    run::{
        measures::Cell,
        scheme::{AblationValue, Kept, Norms, Scheme},
    },
};

const WIDTH: usize = 100;

impl Contents {
    /// The report as text for people: the verdict, why, and the prompt that shows it; then a line per check, level by
    /// level, and a table of the runs. What is longer (curves, searches, every interval) is in the file and on the page.
    pub fn text(&self) -> String {
        let mut out = String::new();
        wrap(&mut out, "VERDICT: ", 4, &self.headline());
        wrap(&mut out, "  claim: ", 4, &format!("{}: {}", self.claim, self.claim.words()));
        self.why(&mut out);
        if let Verdict::Refuted { counter_example: Some(example), .. } = &self.verdict {
            wrap(&mut out, "  - ", 4, &counter_example(example));
        }
        if let Some(s) = &self.size {
            let words = format!(
                "{} of {} nodes ({} of {} active ones), {} edges",
                s.nodes, s.model_nodes, s.active_in_circuit, s.active_nodes, s.edges
            );
            wrap(&mut out, "\nCircuit: ", 9, &words);
        }
        self.checks_by_level(&mut out);
        self.table(&mut out);
        push(&mut out, "\nChoices behind the numbers");
        self.declarations.iter().for_each(|d| wrap(&mut out, "  ", 6, &format!("{}: {}", d.what, d.value)));
        out
    }

    /// The level and the reasons.
    fn why(&self, out: &mut String) {
        if !matches!(self.verdict, Verdict::Error { .. }) {
            push(out, &format!("  level {} of 6 reached; level {} was asked for", self.level_reached, self.level));
        }
        // Steps that were left out stand together at the end.
        let left_out = |reason: &&Reason| matches!(reason, Reason::Unfinished(_) | Reason::NotMade { .. });
        self.reasons.iter().filter(|r| !left_out(r)).for_each(|reason| wrap(out, "  - ", 4, &reason.to_string()));
        for level in self.levels() {
            if let Some(words) = level.left_out() {
                wrap(out, &format!("  - level {} ", level.number), 4, &words);
            }
        }
    }

    /// Every check, a line each, under what its level asks.
    fn checks_by_level(&self, out: &mut String) {
        self.checks.iter().filter(|c| c.level == 0).for_each(|c| line(out, c));
        for level in self.levels() {
            push(out, &format!("\n{} {} {}", level.number, level.question, level.state));
            if !matches!(level.state, LevelState::NotAsked | LevelState::NotReached) {
                self.checks.iter().filter(|c| c.level == level.number).for_each(|c| line(out, c));
            }
        }
    }

    /// The runs in short: a row per ablation.
    fn table(&self, out: &mut String) {
        let mut splits: Vec<_> = self.matrix.iter().map(|c| c.split).collect();
        splits.dedup();
        for split in splits {
            push(out, &format!("\nThe circuit alone on {split}: task loss in nats, and agreement with the model"));
            push(out, &format!("  {:<16}{:<36}{}", "else", "free norms", "frozen norms"));
            for value in AblationValue::ALL {
                let cell = |norms| self.cell(split, Kept::Circuit, Some(Scheme { value, norms })).map(short);
                if let (None, None) = (cell(Norms::Free), cell(Norms::Frozen)) {
                    continue;
                }
                let [free, frozen] = [Norms::Free, Norms::Frozen].map(|norms| cell(norms).unwrap_or("-".into()));
                push(out, format!("  {:<16}{free:<36}{frozen}", value.to_string()).trim_end());
            }
            for kept in [Kept::Model, Kept::AllButCircuit] {
                if let Some(cell) = self.matrix.iter().find(|c| c.split == split && c.kept == kept) {
                    push(out, &format!("  {:<24}{}", kept.to_string(), short(cell)));
                }
            }
        }
    }
}

fn short(c: &Cell) -> String {
    format!("{:.3} [{:.3}, {:.3}] {:>6.1} %", c.loss.mean, c.loss.ci95.0, c.loss.ci95.1, 100.0 * c.agreement.mean)
}

/// A check in a line: its numbers, or its words where it has none. Words are given in full where it did not pass.
fn line(out: &mut String, c: &Check) {
    let mark = match c.status {
        Status::Passed => "pass",
        Status::Failed => "FAIL",
        Status::NotApplicable => " -  ",
    };
    // What decides nothing must not look as if it did.
    let mark = match (c.role, c.status) {
        (Role::Reported, Status::Failed) => "fail",
        _ => mark,
    };
    let mut numbers: Vec<String> = Vec::new();
    numbers.extend(c.estimate.map(|e| format!("{:.3} [{:.3}, {:.3}]", e.mean, e.ci95.0, e.ci95.1)));
    numbers.extend(c.p_value.map(|p| if p < 0.001 { "p < 0.001".into() } else { format!("p {p:.3}") }));
    if c.estimate.is_some() || c.p_value.is_some() {
        numbers.extend(c.threshold.map(|bar| format!("bar {}", (bar * 1e4).round() / 1e4)));
    }
    let ablation = match (c.id, c.ablation) {
        // Their names tell of the norms.
        (
            CheckId::Sufficiency { .. } | CheckId::ShiftFree { of: Raw::Sufficiency { .. } } | CheckId::Amplification,
            Some(scheme),
        ) if scheme.norms == Norms::Frozen => {
            format!(" ({})", scheme.value)
        }
        (_, Some(scheme)) => format!(" ({scheme})"),
        (_, None) => String::new(),
    };
    let name = format!("{}{ablation}", c.id);
    let decided = c.estimate.is_some() || c.p_value.is_some();
    if decided && c.status != Status::NotApplicable {
        push(out, &format!("  {mark}  {name:<50} {}", numbers.join("  ")));
    } else if c.status == Status::Passed {
        push(out, &clipped(&format!("  {mark}  {name}: {}", c.explanation)));
    } else {
        wrap(out, &format!("  {mark}  {name}: "), 8, &c.explanation);
    }
}

fn counter_example(c: &CounterExample) -> String {
    let pair = c.pair.map_or("a pair that a search over inputs made".into(), |i| format!("pair {i} of {}", c.split));
    format!(
        "for example {pair}, where {} (logit of the answer above the alternative, positive and negative prompt): model \
         {:+.3}, {:+.3}; run {:+.3}, {:+.3}",
        c.intervention.what, c.model[0], c.model[1], c.run[0], c.run[1]
    )
}

/// A line cut to the width of the page.
fn clipped(line: &str) -> String {
    match line.chars().count() > WIDTH {
        true => line.chars().take(WIDTH - 1).chain(['…']).collect(),
        false => line.into(),
    }
}

fn push(out: &mut String, line: &str) {
    writeln!(out, "{line}").expect("a string takes everything");
}

/// `words` after `first`, broken at blanks; further lines start `indent` in.
fn wrap(out: &mut String, first: &str, indent: usize, words: &str) {
    let mut line = first.to_owned();
    let width = |line: &str| line.trim_start_matches('\n').chars().count();
    let mut empty = true;
    for word in words.split_whitespace() {
        if !empty && width(&line) + 1 + word.chars().count() > WIDTH {
            push(out, &line);
            line = " ".repeat(indent);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line += word;
        empty = false;
    }
    push(out, line.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checks::id::Quantity, stats::intervals::Estimate};

    #[test]
    fn lines_break_at_blanks_and_are_indented() {
        let mut out = String::new();
        wrap(&mut out, "  - ", 4, &"word ".repeat(40));
        let lines: Vec<&str> = out.lines().collect();
        assert!(lines.len() == 3 && lines.iter().all(|l| l.chars().count() <= WIDTH), "{out}");
        assert!(lines[0].starts_with("  - word") && lines[1].starts_with("    word"));
        assert_eq!(out.matches("word").count(), 40);
    }

    #[test]
    fn a_check_is_a_line_of_numbers_and_one_without_numbers_is_words() {
        let id = CheckId::Sufficiency { scheme: Scheme::ZERO, quantity: Quantity::Loss };
        let mut check = Check { role: Role::Required, ..Check::new(id, Status::Failed, "what was seen") };
        let text = |check: &Check| {
            let mut out = String::new();
            line(&mut out, check);
            out
        };
        assert_eq!(text(&check), "  FAIL  sufficiency: loss: what was seen\n");
        check.estimate = Some(Estimate { mean: 0.25, ci95: (0.125, 0.5), n: 9 });
        (check.threshold, check.ablation) = (Some(0.3), Some(Scheme::ZERO));
        let numbers = text(&check);
        assert!(numbers.starts_with("  FAIL  sufficiency: loss (zero) "), "{numbers}");
        assert!(numbers.ends_with("0.250 [0.125, 0.500]  bar 0.3\n") && numbers.len() <= WIDTH + 1, "{numbers}");
        check.role = Role::Reported;
        assert!(text(&check).starts_with("  fail"));
        let long = Check::new(CheckId::NotTrivial, Status::Passed, "word ".repeat(40));
        assert!(text(&long).trim_end().chars().count() == WIDTH && text(&long).ends_with("…\n"));
    }
}
