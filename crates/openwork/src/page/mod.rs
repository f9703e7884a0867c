//! One self-contained HTML page on a model and its circuits: training curves, circuits as graphs, example
//! prompts, verification with intervals and controls. No scripts, no files beside it, and a policy that says so.

mod findings;
mod graph;
mod heat;
mod lines;
mod strip;
mod tables;
#[cfg(test)]
mod tests;
mod training;
mod verdict;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

pub use training::curves as training_curves;

use anyhow::{Context, Result};
use openwork_project::{CircuitReport, ModelReport, PAGE_MARK, Project, TaskRow, UnjudgedCircuit, Writing};
use openwork_verify::Verdict;

use crate::ui::{args::replay_command, show::count};

/// Content-security policy: the page runs nothing and loads nothing. Styles stand in the page, in attributes too.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Content of a page.
pub struct Page {
    /// Headline.
    title: String,
    /// Facts on model and data: name and value.
    facts: Vec<(String, String)>,
    /// Training curves, as SVG.
    curves: Option<String>,
    /// A text that the model wrote.
    writing: Option<Writing>,
    /// One section per circuit.
    circuits: Vec<CircuitReport>,
    /// Circuits without a verdict that is about them.
    unjudged: Vec<UnjudgedCircuit>,
    /// The whole model on every task.
    tasks: Vec<TaskRow>,
    /// The model as commands name it.
    model_path: PathBuf,
}

/// A token of a counter-example as HTML; line ends and what cannot be seen as escapes.
fn token_html(circuit: &CircuitReport, token: u16) -> String {
    let Some(text) = circuit.tokens.get(&token) else { return format!("token {token}") };
    let visible = |c: char| match c {
        '"' | '\'' | '\\' => c.to_string(),
        c => c.escape_debug().to_string(),
    };
    escape(&text.chars().map(visible).collect::<String>())
}

impl Page {
    /// The page on a model, which commands name by `model_path`.
    pub fn of_model(report: ModelReport, model_path: &Path) -> Result<Self> {
        let ModelReport { config, parameters, model_sha256, context, log, writing, circuits, unjudged, tasks } = report;
        let shape = format!(
            "{} layers, width {}, {} heads of {}",
            config.n_layer, config.d_model, config.n_head, config.d_head
        );
        let mut facts = vec![("model".to_owned(), shape), ("parameters".to_owned(), count(parameters as u64))];
        facts.extend(training::facts(&log));
        facts.push(("model hash".into(), short(&model_sha256)));
        facts.push(("ablation means over sequences of".into(), format!("{} tokens", count(context as u64))));
        let curves = if log.is_empty() { None } else { Some(training::curves(&log)?) };
        let title = "Circuits of a weight-sparse transformer".into();
        let model_path = model_path.to_owned();
        Ok(Self { title, facts, curves, writing: Some(writing), circuits, unjudged, tasks, model_path })
    }

    /// The page on one circuit of a model, which commands name by `model_path`.
    pub fn of_circuit(project: &Project, circuit: CircuitReport, model_path: &Path) -> Self {
        let facts = [("model hash", &project.model_sha256), ("hash of the means", &circuit.file.means_sha256)];
        Self {
            title: format!("Verdict on the circuit {}", circuit.file.task),
            facts: facts.map(|(name, hash)| (name.to_owned(), short(hash))).into(),
            curves: None,
            writing: None,
            circuits: vec![circuit],
            unjudged: vec![],
            tasks: vec![],
            model_path: model_path.to_owned(),
        }
    }

    /// Writes the page, atomically.
    pub fn write(&self, out: &Path) -> Result<()> {
        let html = self.html();
        openwork_tensor::write_atomic(out, |w| std::io::Write::write_all(w, html.as_bytes()))
            .with_context(|| format!("cannot write {}", out.display()))
    }

    /// The page as HTML.
    pub fn html(&self) -> String {
        let mut out = String::new();
        let title = escape(&self.title);
        let _ = write!(
            out,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>{PAGE_MARK}\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\"/>\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/><title>{title}</title>\
             <style>{}</style></head><body><main>\n<header><h1>{title}</h1>",
            include_str!("page.css")
        );
        let _ = write!(out, "<ul class=\"verdicts\">");
        for circuit in &self.circuits {
            let _ = write!(
                out,
                "<li><a href=\"#{name}\">{} <code>{name}</code> <span class=\"quiet\">{} nodes, {} edges</span></a></li>",
                badge(circuit),
                circuit.file.circuit.nodes().len(),
                circuit.file.circuit.edges().len(),
                name = escape(&circuit.file.task),
            );
        }
        for circuit in &self.unjudged {
            let _ = write!(
                out,
                "<li><span class=\"badge none\">NOT VERIFIED</span> <code>{}</code> <span class=\"quiet\">{}: {} nodes, {} edges: {}\
                 </span></li>",
                escape(&circuit.path.file_stem().unwrap_or_default().to_string_lossy()),
                escape(&circuit.task),
                circuit.size.nodes,
                circuit.size.edges,
                prose(&circuit.words()),
            );
        }
        out.push_str("</ul><dl class=\"facts\">");
        for (name, value) in &self.facts {
            let _ = write!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
        }
        out.push_str("</dl></header>\n");
        self.circuits.iter().for_each(|circuit| section(&mut out, circuit, &self.model_path));
        if let Some(curves) = &self.curves {
            let _ = writeln!(out, "<section><h2>Training</h2><figure>{curves}</figure></section>");
        }
        if let Some(Writing { prompt, continuation }) = &self.writing {
            let _ = writeln!(
                out,
                "<section><h2>What the model writes</h2><pre class=\"code\"><b>{}</b>{}</pre></section>",
                escape(prompt),
                escape(continuation)
            );
        }
        tables::tasks(&mut out, &self.tasks);
        out.push_str("</main></body></html>\n");
        out
    }
}

/// All about one circuit.
fn section(out: &mut String, circuit: &CircuitReport, model_path: &Path) {
    let name = escape(&circuit.file.task);
    let description = openwork_tasks::find(&circuit.file.task).map_or("", |t| t.description());
    let _ = write!(
        out,
        "<section id=\"{name}\"><h2><code>{name}</code> {}</h2><p class=\"quiet\">{}</p>",
        badge(circuit),
        prose(description),
    );
    let report = &circuit.report;
    verdict::headline(out, report);
    verdict::provenance(out, &circuit.provenance);
    verdict::levels(out, report);
    verdict::counter_example(out, circuit, &replay_command(model_path, &circuit.verdict_path));
    let _ = write!(
        out,
        "<h3>The circuit</h3><figure>{}<figcaption>{} nodes and the {} weights between them. Layers rise; blue weights \
         are positive, orange negative, width is magnitude. Dashed lines are the residual stream: a channel written \
         below is read above (not counted as edges). Dotted lines join query and key of a channel.</figcaption></figure>",
        graph::draw(circuit),
        circuit.file.circuit.nodes().len(),
        circuit.file.circuit.edges().len()
    );
    let names: Vec<String> = circuit.file.circuit.nodes().nodes().map(|n| format!("<code>{n}</code>")).collect();
    let _ = write!(out, "<details><summary>Names of its nodes</summary><p>{}</p></details>", names.join(", "));
    findings::labels(out, &circuit.file.circuit);
    tables::examples(out, &circuit.examples);
    heat::matrix(out, report);
    lines::curves(out, report);
    strip::random_sets(out, report);
    findings::incompleteness(out, report);
    findings::attacks(out, report);
    findings::nodes(out, circuit);
    findings::rivals(out, report);
    findings::scrubbing(out, report);
    findings::hypothesis(out, report);
    findings::certificates(out, report);
    tables::controls(out, circuit);
    tables::choices(out, report);
    tables::checks(out, report);
    tables::runs(out, report);
    out.push_str("</section>\n");
}

/// The verdict as a badge.
fn badge(circuit: &CircuitReport) -> String {
    let class = match circuit.report.verdict {
        Verdict::Strong | Verdict::Certified { .. } => "strong",
        Verdict::ContrastStrong => "strong contrast",
        Verdict::ContrastWeak => "weak contrast",
        Verdict::Weak => "weak",
        Verdict::Refuted { .. } | Verdict::Error { .. } => "refuted",
        Verdict::NoTask | Verdict::Undefined | Verdict::Incomplete => "none",
    };
    format!("<span class=\"badge {class}\">{}</span>", escape(&circuit.report.headline()))
}

/// The first digits of a hash.
fn short(hash: &str) -> String {
    hash.chars().take(16).collect()
}

/// Text with `code` in back quotes as HTML.
pub fn prose(text: &str) -> String {
    let parts = text.split('`').map(escape).enumerate();
    parts.map(|(i, part)| if i % 2 == 1 { format!("<code>{part}</code>") } else { part }).collect()
}

/// Text as HTML.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}
