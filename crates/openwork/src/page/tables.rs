//! The tables of a task's section.

use std::fmt::Write as _;

use openwork_verify::{Check, Estimate, Kept, Report, Role, Settings, Status};

use openwork_project::{CircuitReport, Example, TaskRow, TaskScore};
use openwork_tensor::quoted;

use super::{escape, prose};
use crate::ui::show::percent;

/// Example prompts with both answers.
pub fn examples(out: &mut String, examples: &[Example]) {
    if examples.is_empty() {
        return;
    }
    out.push_str(
        "<h3>Prompts</h3><div class=\"scroll\"><table><tr><th>prompt</th><th>right</th><th>wrong</th>\
         <th>model: p(right)</th><th>circuit: p(right)</th></tr>",
    );
    for e in examples {
        let cell = |p: f64| format!("{}{p:.2}", bar(p, p <= 0.5));
        let template = if e.held_out_template { " <span class=\"quiet\">(held-out template)</span>" } else { "" };
        let _ = write!(
            out,
            "<tr><td><pre>{}</pre>{template}</td><td><code>{}</code></td><td><code>{}</code></td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(tail(&e.prompt)),
            escape(&quoted(&e.candidates.0)),
            escape(&quoted(&e.candidates.1)),
            cell(e.p_right.0),
            cell(e.p_right.1)
        );
    }
    out.push_str("</table></div>");
}

/// The last lines of a prompt.
fn tail(prompt: &str) -> &str {
    let starts: Vec<usize> = prompt.match_indices('\n').map(|(i, _)| i + 1).collect();
    match starts.len().checked_sub(5) {
        Some(skip) => &prompt[starts[skip]..],
        None => prompt,
    }
}

/// Mean and 95 % interval.
pub fn estimate(e: &Estimate) -> String {
    format!("{:.3} <span class=\"ci\">[{:.3}, {:.3}]</span>", e.mean, e.ci95.0, e.ci95.1)
}

/// A part of 1 as a bar.
pub fn bar(part: f64, wrong: bool) -> String {
    let class = if wrong { "bar wrong" } else { "bar" };
    format!("<span class=\"{class}\"><i style=\"width:{:.0}%\"></i></span>", 100.0 * part.clamp(0.0, 1.0))
}

/// Status of a check, as a cell.
pub fn mark(status: Status) -> &'static str {
    match status {
        Status::Passed => "<td class=\"ok\">✓ passed</td>",
        Status::Failed => "<td class=\"bad\">✗ failed</td>",
        Status::NotApplicable => "<td class=\"na\">– n/a</td>",
    }
}

/// Every run on every split with every measure.
pub fn runs(out: &mut String, report: &Report) {
    if report.matrix.is_empty() {
        return;
    }
    out.push_str(
        "<details><summary>All runs, all measures</summary><p class=\"quiet\">Means over contrast pairs with 95 % \
         intervals; losses and divergences in nats (chance is 0.693).</p><div class=\"scroll\"><table><tr><th>kept</th>\
         <th>others</th><th>pairs</th><th class=\"n\">task loss</th><th class=\"n\">uncalibrated</th>\
         <th class=\"n\">accuracy</th><th class=\"n\">agreement</th><th class=\"n\">KL to model</th></tr>",
    );
    for cell in &report.matrix {
        let class = if cell.kept == Kept::Circuit { " class=\"circuit\"" } else { "" };
        let fill = cell.ablation.map_or("–".to_owned(), |a| a.to_string());
        let _ = write!(out, "<tr{class}><td>{}</td><td>{fill}</td><td>{}</td>", cell.kept, cell.split);
        for e in [&cell.loss, &cell.loss_uncalibrated, &cell.accuracy, &cell.agreement, &cell.kl] {
            let _ = write!(out, "<td class=\"n\">{}</td>", estimate(e));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div></details>");
}

/// The circuit beside what the verifier's search found where there is nothing to find.
pub fn controls(out: &mut String, circuit: &CircuitReport) {
    if circuit.controls.is_empty() {
        out.push_str(
            "<h3>Controls</h3><p>The search with nonsense labels and in a model of random weights was not run; without it the \
             verdict is incomplete at best.</p>",
        );
        return;
    }
    out.push_str(
        "<h3>Controls</h3><p class=\"quiet\">The verifier's own search where there is nothing to find. If it \
         did as well with as few edges, a small circuit with a low loss would mean nothing.</p><div class=\"scroll\">\
         <table><tr><th>search on</th><th class=\"n\">reached target</th><th class=\"n\">loss</th>\
         <th class=\"n\">nodes</th><th class=\"n\">edges</th></tr>",
    );
    let mut row = |name: &str, reached: bool, loss: f64, nodes: usize, edges: usize| {
        let reached = if reached { "yes" } else { "no" };
        let _ = write!(
            out,
            "<tr><td>{name}</td><td class=\"n\">{reached}</td><td class=\"n\">{loss:.3}</td>\
             <td class=\"n\">{nodes}</td><td class=\"n\">{edges}</td></tr>"
        );
    };
    let file = &circuit.file;
    row("the task itself", true, file.loss, file.circuit.nodes().len(), file.circuit.edges().len());
    for c in &circuit.controls {
        row(&c.kind.to_string(), c.reached_target, c.loss, c.nodes, c.edges);
    }
    out.push_str("</table></div>");
}

/// Every check with its outcome, level by level.
pub fn checks(out: &mut String, report: &Report) {
    let failed = report.checks.iter().filter(|c| c.status == Status::Failed).count();
    let _ = write!(
        out,
        "<details><summary>All {} checks, {failed} of them failed</summary><div class=\"scroll\"><table class=\"checks\">\
         <tr><th></th><th>level</th><th>check</th><th>part in the verdict</th><th>what was seen</th></tr>",
        report.checks.len()
    );
    report.checks.iter().for_each(|check| row(out, check));
    out.push_str("</table></div></details>");
}

fn row(out: &mut String, check: &Check) {
    let role = match check.role {
        Role::Gate => "gate",
        Role::Required => "required",
        Role::ForStrong => "for strong",
        Role::Reported => "reported",
    };
    let fill = check.ablation.map_or(String::new(), |a| format!("<br/><span class=\"ci\">{a} ablation</span>"));
    let p = check.p_value.map_or(String::new(), |p| format!(" <span class=\"ci\">p = {p:.2e}</span>"));
    let _ = write!(
        out,
        "<tr>{}<td>{}</td><td>{}{fill}</td><td>{role}</td><td>{}{p}</td></tr>",
        mark(check.status),
        check.level,
        escape(&check.id.to_string()),
        escape(&check.explanation)
    );
}

/// The choices behind the numbers: declarations, seeds and thresholds.
pub fn choices(out: &mut String, report: &Report) {
    out.push_str("<h3>The choices behind these numbers</h3><div class=\"scroll\"><table>");
    for d in &report.declarations {
        let _ = write!(out, "<tr><td>{}</td><td>{}</td></tr>", escape(&d.what), escape(&d.value));
    }
    out.push_str("</table></div><details><summary>Seed, thresholds and budgets</summary><dl class=\"facts\">");
    for (name, value) in thresholds(&report.settings) {
        let _ = write!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escape(&name), escape(&value));
    }
    out.push_str("</dl></details>");
}

/// Names and values of all settings.
fn thresholds(settings: &Settings) -> Vec<(String, String)> {
    let Ok(serde_json::Value::Object(map)) = serde_json::to_value(settings) else { return vec![] };
    let rounded = |value: serde_json::Value| match value.as_f64() {
        Some(x) if value.is_f64() => format!("{}", (x * 1e4).round() / 1e4),
        _ => value.to_string(),
    };
    map.into_iter().map(|(name, value)| (name.replace('_', " "), rounded(value))).collect()
}

/// The whole model on every task.
pub fn tasks(out: &mut String, tasks: &[TaskRow]) {
    if tasks.is_empty() {
        return;
    }
    out.push_str(
        "<section><h2>What the model can do</h2><p class=\"quiet\">The whole model on every task; loss in nats per \
         sequence (chance is 0.693) and accuracy with its 95 % interval.</p><div class=\"scroll\"><table><tr><th>task</th><th></th>\
         <th class=\"n\">fresh pairs</th><th class=\"n\">held-out templates</th></tr>",
    );
    for task in tasks {
        let _ = write!(out, "<tr><td><code>{}</code></td><td>{}</td>", task.name, prose(task.description));
        let _ = match &task.scores {
            Ok(scores) => scores.iter().try_for_each(|TaskScore { loss, accuracy }| {
                let accuracy = percent(accuracy);
                write!(out, "<td class=\"n\">{loss:.3} <span class=\"ci\">{accuracy}</span></td>")
            }),
            Err(reason) => {
                write!(
                    out,
                    "<td colspan=\"2\" class=\"na\" style=\"white-space:normal\">{}</td>",
                    escape(&reason.to_string())
                )
            }
        };
        out.push_str("</tr>");
    }
    out.push_str("</table></div></section>\n");
}
