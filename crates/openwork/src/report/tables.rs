//! The tables of a task's section.

use std::fmt::Write as _;

use openwork_verify::{Estimate, Kept, Report, Split, Status};

use super::{Example, Judged, TaskRow, escape, prose};

/// Example prompts with both answers.
pub fn examples(out: &mut String, examples: &[Example]) {
    out.push_str(
        "<h3>Prompts</h3><div class=\"scroll\"><table><tr><th>prompt</th><th>right</th><th>wrong</th>\
         <th>model: p(right)</th><th>circuit: p(right)</th></tr>",
    );
    for e in examples {
        let cell = |p: f64| {
            let class = if p > 0.5 { "bar" } else { "bar wrong" };
            format!("<span class=\"{class}\"><i style=\"width:{:.0}%\"></i></span>{p:.2}", 100.0 * p)
        };
        let template = if e.held_out_template { " <span class=\"quiet\">(held-out template)</span>" } else { "" };
        let _ = write!(
            out,
            "<tr><td><pre>{}</pre>{template}</td><td><code>{}</code></td><td><code>{}</code></td>\
             <td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(tail(&e.prompt)),
            escape(&format!("{:?}", e.candidates.0)),
            escape(&format!("{:?}", e.candidates.1)),
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
fn estimate(e: &Estimate) -> String {
    format!("{:.3} <span class=\"ci\">[{:.3}, {:.3}]</span>", e.mean, e.ci95.0, e.ci95.1)
}

/// Every run on every split.
pub fn matrix(out: &mut String, report: &Report) {
    out.push_str(
        "<h3>Sufficiency and necessity</h3><p class=\"quiet\">Means over contrast pairs with 95 % intervals; losses \
         and divergences in nats (chance is 0.693). Agreement is with the full model.</p><div class=\"scroll\"><table>\
         <tr><th>kept</th><th>others</th><th>pairs</th><th class=\"n\">task loss</th><th class=\"n\">uncalibrated</th>\
         <th class=\"n\">accuracy</th><th class=\"n\">agreement</th><th class=\"n\">KL to model</th></tr>",
    );
    for cell in &report.matrix {
        let class = if cell.kept == Kept::Circuit { " class=\"circuit\"" } else { "" };
        let fill = cell.ablation.map_or("–".to_owned(), |a| a.to_string());
        let split = match cell.split {
            Split::HeldOut => "fresh",
            other => &other.to_string(),
        };
        let _ = write!(out, "<tr{class}><td>{}</td><td>{fill}</td><td>{split}</td>", cell.kept);
        for e in [&cell.loss, &cell.loss_uncalibrated, &cell.accuracy, &cell.agreement, &cell.kl] {
            let _ = write!(out, "<td class=\"n\">{}</td>", estimate(e));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>");
}

/// The circuit beside what the same search found where there is nothing to find.
pub fn controls(out: &mut String, judged: &Judged) {
    if judged.controls.is_empty() {
        return;
    }
    out.push_str(
        "<h3>Controls</h3><p class=\"quiet\">The same search with the same budget where there is nothing to find. If it \
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
    let file = &judged.file;
    row("the task itself", true, file.loss, file.nodes.len(), judged.edges.len());
    for c in &judged.controls {
        row(&c.kind.to_string(), c.reached_target, c.loss, c.nodes, c.edges);
    }
    out.push_str("</table></div>");
}

/// Every check with its outcome.
pub fn checks(out: &mut String, report: &Report) {
    out.push_str("<h3>Checks</h3><div class=\"scroll\"><table><tr><th></th><th>check</th><th>what was seen</th></tr>");
    for check in &report.checks {
        let (class, mark) = match check.status {
            Status::Passed => ("ok", "passed"),
            Status::Failed => ("bad", "failed"),
            Status::NotApplicable => ("na", "n/a"),
        };
        let _ = write!(
            out,
            "<tr><td class=\"{class}\">{mark}</td><td>{}{}</td><td>{}</td></tr>",
            escape(&check.name),
            check.ablation.map_or(String::new(), |a| format!(" <span class=\"ci\">{a} ablation</span>")),
            escape(&check.explanation)
        );
    }
    out.push_str("</table></div>");
}

/// The choices behind the numbers.
pub fn declarations(out: &mut String, report: &Report) {
    out.push_str("<details><summary>The choices behind these numbers</summary><div class=\"scroll\"><table>");
    for d in &report.declarations {
        let _ = write!(out, "<tr><td>{}</td><td>{}</td></tr>", escape(&d.what), escape(&d.value));
    }
    out.push_str("</table></div></details>");
}

/// The whole model on every task.
pub fn tasks(out: &mut String, tasks: &[TaskRow]) {
    out.push_str(
        "<section><h2>What the model can do</h2><p class=\"quiet\">The whole model on every task; loss in nats per \
         sequence (chance is 0.693) and accuracy.</p><div class=\"scroll\"><table><tr><th>task</th><th></th>\
         <th class=\"n\">fresh pairs</th><th class=\"n\">held-out templates</th></tr>",
    );
    for task in tasks {
        let _ = write!(out, "<tr><td><code>{}</code></td><td>{}</td>", task.name, prose(task.description));
        let _ = match &task.results {
            Ok(results) => results.iter().try_for_each(|(loss, accuracy)| {
                let accuracy = 100.0 * accuracy;
                write!(out, "<td class=\"n\">{loss:.3} <span class=\"ci\">{accuracy:.0} %</span></td>")
            }),
            Err(reason) => {
                write!(out, "<td colspan=\"2\" class=\"na\" style=\"white-space:normal\">{}</td>", escape(reason))
            }
        };
        out.push_str("</tr>");
    }
    out.push_str("</table></div></section>\n");
}
