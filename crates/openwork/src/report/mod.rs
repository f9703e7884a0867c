//! One self-contained HTML page on a model and its circuits: training curves, circuits as graphs, example
//! prompts, verification with intervals and controls. No scripts, no files beside it.

mod graph;
mod strip;
mod tables;

use std::fmt::Write as _;

use openwork_circuit::{CircuitFile, Edge};
use openwork_train::LogLine;
use openwork_verify::{Control, Report, Verdict};

/// What the page is about.
pub struct Page<'a> {
    /// Headline.
    pub title: String,
    /// Facts on model and data: name and value.
    pub facts: Vec<(String, String)>,
    /// Training curves, as SVG.
    pub curves: Option<String>,
    /// A text the model wrote: prompt and continuation.
    pub writing: Option<(String, String)>,
    /// One section per task.
    pub tasks: Vec<TaskSection<'a>>,
}

/// A task's circuit and what came of judging it.
pub struct TaskSection<'a> {
    /// Name of the task.
    pub name: &'a str,
    /// What it asks.
    pub description: &'a str,
    /// The circuit, or why there is none.
    pub circuit: Result<Judged, String>,
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
    facts.push(("silent neurons".into(), count(last.dead_neurons as u64)));
    facts
}

impl Page<'_> {
    /// The page as HTML.
    pub fn html(&self) -> String {
        let mut out = String::new();
        let title = escape(&self.title);
        let _ = write!(
            out,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
             <style>{}</style></head><body><main>\n<header><h1>{title}</h1>",
            include_str!("page.css")
        );
        let _ = write!(out, "<ul class=\"verdicts\">");
        for task in &self.tasks {
            let (word, class) = headline(task);
            let size = match &task.circuit {
                Ok(judged) => format!("{} nodes, {} edges", judged.file.nodes.len(), judged.edges.len()),
                Err(_) => String::new(),
            };
            let _ = write!(
                out,
                "<li><a href=\"#{name}\"><span class=\"badge {class}\">{word}</span> <code>{name}</code> \
                 <span class=\"quiet\">{size}</span></a></li>",
                name = escape(task.name),
            );
        }
        out.push_str("</ul><dl class=\"facts\">");
        for (name, value) in &self.facts {
            let _ = write!(out, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
        }
        out.push_str("</dl></header>\n");
        for task in &self.tasks {
            self.task(&mut out, task);
        }
        if let Some(curves) = &self.curves {
            let _ = write!(out, "<section><h2>Training</h2><figure>{curves}</figure></section>\n");
        }
        if let Some((prompt, continuation)) = &self.writing {
            let _ = write!(
                out,
                "<section><h2>What the model writes</h2><pre class=\"code\"><b>{}</b>{}</pre></section>\n",
                escape(prompt),
                escape(continuation)
            );
        }
        out.push_str("</main></body></html>\n");
        out
    }

    fn task(&self, out: &mut String, task: &TaskSection<'_>) {
        let (word, class) = headline(task);
        let _ = write!(
            out,
            "<section id=\"{name}\"><h2><code>{name}</code> <span class=\"badge {class}\">{word}</span></h2>\
             <p class=\"quiet\">{}</p>",
            escape(task.description),
            name = escape(task.name),
        );
        match &task.circuit {
            Err(reason) => {
                let _ = write!(out, "<p>{}</p>", escape(reason));
            }
            Ok(judged) => {
                out.push_str("<ul class=\"reasons\">");
                for reason in &judged.report.reasons {
                    let _ = write!(out, "<li>{}</li>", escape(reason));
                }
                out.push_str("</ul>");
                let _ = write!(
                    out,
                    "<figure>{}<figcaption>The circuit: {} nodes and the {} weights between them. Layers rise; blue \
                     weights are positive, orange negative, width is magnitude. Dashed lines are the residual stream: a \
                     channel written below is read above (not counted as edges). Dotted lines join queries and keys of a \
                     head.</figcaption></figure>",
                    graph::draw(judged),
                    judged.file.nodes.len(),
                    judged.edges.len()
                );
                tables::examples(out, &judged.examples);
                tables::matrix(out, &judged.report);
                tables::controls(out, judged);
                strip::random_sets(out, &judged.report);
                tables::checks(out, &judged.report);
                tables::declarations(out, &judged.report);
            }
        }
        out.push_str("</section>\n");
    }
}

/// The badge of a task: its words and colour class.
fn headline(task: &TaskSection<'_>) -> (&'static str, &'static str) {
    match &task.circuit {
        Err(_) => ("NO CIRCUIT", "none"),
        Ok(judged) => {
            let class = match judged.report.verdict {
                Verdict::Strong => "strong",
                Verdict::Weak => "weak",
                Verdict::Refuted { .. } => "refuted",
                Verdict::Error => "refuted",
                Verdict::NoTask | Verdict::Undefined => "none",
            };
            (judged.report.verdict.word(), class)
        }
    }
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
