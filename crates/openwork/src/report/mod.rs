//! One self-contained HTML page on a model and its circuits: training curves, circuits as graphs, example
//! prompts, verification with intervals and controls. No scripts, no files beside it.

mod build;
mod findings;
mod graph;
mod heat;
mod lines;
mod strip;
mod tables;
#[cfg(test)]
mod tests;
mod verdict;

pub use build::{Args, run, write, write_one};

use std::{collections::BTreeMap, fmt::Write as _};

use openwork_circuit::{CircuitFile, Edge};
use openwork_train::LogLine;
use openwork_verify::{Control, Report, Verdict};

/// What the page is about.
pub struct Page {
    /// Headline.
    pub title: String,
    /// Facts on model and data: name and value.
    pub facts: Vec<(String, String)>,
    /// Training curves, as SVG.
    pub curves: Option<String>,
    /// A text the model wrote: prompt and continuation.
    pub writing: Option<(String, String)>,
    /// One section per circuit.
    pub circuits: Vec<Judged>,
    /// The whole model on every task.
    pub tasks: Vec<TaskRow>,
}

/// The whole model on one task.
pub struct TaskRow {
    /// Name of the task.
    pub name: &'static str,
    /// What it asks.
    pub description: &'static str,
    /// Loss in nats and accuracy on fresh pairs and on held-out templates, or why there is none.
    pub results: Result<[(f64, f64); 2], String>,
}

/// A circuit with its judgement.
pub struct Judged {
    /// The circuit.
    pub file: CircuitFile,
    /// Its weights.
    pub edges: Vec<Edge>,
    /// Channels per attention head, for the names of attention nodes.
    pub d_head: usize,
    /// Control searches.
    pub controls: Vec<Control>,
    /// The judgement.
    pub report: Report,
    /// Example prompts.
    pub examples: Vec<Example>,
    /// Texts of the tokens of the counter-example.
    pub tokens: BTreeMap<u16, String>,
    /// The command that runs the counter-example again.
    pub replay: String,
}

impl Judged {
    /// A token as HTML; line ends and what cannot be seen as escapes.
    fn token(&self, token: u16) -> String {
        let Some(text) = self.tokens.get(&token) else { return format!("token {token}") };
        let visible = |c: char| match c {
            '"' | '\'' | '\\' => c.to_string(),
            c => c.escape_debug().to_string(),
        };
        escape(&text.chars().map(visible).collect::<String>())
    }
}

/// A prompt with what model and circuit make of it.
pub struct Example {
    /// The prompt.
    pub prompt: String,
    /// The right continuation and the wrong one.
    pub candidates: (String, String),
    /// Probability of the right one among the two: the model's and the circuit's (calibrated).
    pub p_right: (f64, f64),
    /// Whether its template occurs in training the circuit.
    pub held_out_template: bool,
}

/// What training came to, for the facts.
pub fn training_facts(log: &[LogLine]) -> Vec<(String, String)> {
    let Some(last) = log.last() else { return vec![] };
    let count = |n: u64| crate::show::count(n);
    let validation = log.iter().rev().find_map(|l| l.validation_loss);
    let mut facts = vec![
        ("training".into(), format!("{} steps, {} tokens", count(last.step + 1), count(last.tokens))),
        ("nonzero weights".into(), count(last.l0 as u64)),
    ];
    if let Some(loss) = validation {
        facts.push(("validation loss".into(), format!("{loss:.3} nats per token")));
    }
    facts.push(("dead neurons".into(), count(last.dead_neurons as u64)));
    facts
}

impl Page {
    /// The page as HTML.
    pub fn html(&self) -> String {
        let mut out = String::new();
        let title = escape(&self.title);
        let _ = write!(
            out,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/><title>{title}</title>\
             <style>{}</style></head><body><main>\n<header><h1>{title}</h1>",
            include_str!("page.css")
        );
        let _ = write!(out, "<ul class=\"verdicts\">");
        for judged in &self.circuits {
            let _ = write!(
                out,
                "<li><a href=\"#{name}\">{} <code>{name}</code> <span class=\"quiet\">{} nodes, {} edges</span></a></li>",
                badge(judged),
                judged.file.nodes.len(),
                judged.edges.len(),
                name = escape(&judged.file.task),
            );
        }
        out.push_str("</ul><dl class=\"facts\">");
        for (name, value) in &self.facts {
            let _ = write!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
        }
        out.push_str("</dl></header>\n");
        self.circuits.iter().for_each(|judged| section(&mut out, judged));
        if let Some(curves) = &self.curves {
            let _ = writeln!(out, "<section><h2>Training</h2><figure>{curves}</figure></section>");
        }
        if let Some((prompt, continuation)) = &self.writing {
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
fn section(out: &mut String, judged: &Judged) {
    let name = escape(&judged.file.task);
    let description = openwork_tasks::find(&judged.file.task).map_or("", |t| t.description());
    let _ = write!(
        out,
        "<section id=\"{name}\"><h2><code>{name}</code> {}</h2><p class=\"quiet\">{}</p>",
        badge(judged),
        prose(description),
    );
    let report = &judged.report;
    verdict::headline(out, report);
    verdict::ladder(out, report);
    verdict::counter_example(out, judged);
    let _ = write!(
        out,
        "<h3>The circuit</h3><figure>{}<figcaption>{} nodes and the {} weights between them. Layers rise; blue weights \
         are positive, orange negative, width is magnitude. Dashed lines are the residual stream: a channel written \
         below is read above (not counted as edges). Dotted lines join query and key of a channel.</figcaption></figure>",
        graph::draw(judged),
        judged.file.nodes.len(),
        judged.edges.len()
    );
    tables::examples(out, &judged.examples);
    heat::matrix(out, report);
    lines::curves(out, report);
    strip::random_sets(out, report);
    findings::incompleteness(out, report);
    findings::attacks(out, report);
    findings::nodes(out, report);
    findings::rivals(out, report);
    findings::scrubbing(out, report);
    findings::hypothesis(out, report);
    findings::certificates(out, report);
    tables::controls(out, judged);
    tables::choices(out, report);
    tables::checks(out, report);
    tables::runs(out, report);
    out.push_str("</section>\n");
}

/// The verdict in a word.
fn badge(judged: &Judged) -> String {
    let class = match judged.report.verdict {
        Verdict::Strong | Verdict::Certified { .. } => "strong",
        Verdict::Weak => "weak",
        Verdict::Refuted { .. } | Verdict::Error => "refuted",
        Verdict::NoTask | Verdict::Undefined => "none",
    };
    format!("<span class=\"badge {class}\">{}</span>", judged.report.verdict.word())
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
