//! `openwork report`: gathers what the page shows from a run's folder.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use openwork_circuit::{Ablation, Calibration, CircuitFile, Keep, batches, edges, evaluate};
use openwork_model::{NoTap, Sampling};
use openwork_tasks::Pair;
use openwork_verify::{Report, Verdict};

use super::{Example, Judged, Page, TaskRow, training_facts};
use crate::{
    plot,
    prune::Subject,
    show::{count, say},
    tasks::{self, measure},
    verify::{self, VerdictFile, report_path},
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of a finished run
    run: PathBuf,
    /// The HTML file to write [default: report.html in the run's folder]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Data the model was trained on; needed once if the run has no sample of it
    #[arg(long)]
    data: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let subject = Subject::open(&args.run, None, args.data.as_deref())?;
    let out = args.out.unwrap_or_else(|| args.run.join("report.html"));
    write(&subject, &out)?;
    say!("{}", out.display());
    Ok(ExitCode::SUCCESS)
}

/// Writes the page on a model, its run and the judged circuits beside it.
pub fn write(subject: &Subject, out: &Path) -> Result<()> {
    write_page(&page(subject)?, out)
}

fn write_page(page: &Page, out: &Path) -> Result<()> {
    let html = page.html();
    openwork_tensor::write_atomic(out, |w| w.write_all(html.as_bytes()))
        .with_context(|| format!("cannot write {}", out.display()))
}

fn page(subject: &Subject) -> Result<Page> {
    let config = &subject.model.config;
    let weights: usize = subject.model.params.values().iter().map(|w| w.dense().len()).sum();
    let shape =
        format!("{} layers, width {}, {} heads of {}", config.n_layer, config.d_model, config.n_head, config.d_head);
    let mut facts = vec![("model".to_owned(), shape), ("parameters".to_owned(), count(weights as u64))];
    let log = plot::read_log(&subject.dir).ok().filter(|log| !log.is_empty());
    facts.extend(log.as_deref().map(training_facts).unwrap_or_default());
    facts.push(("model hash".into(), subject.sha256[..16].to_owned()));
    Ok(Page {
        title: "Circuits of a weight-sparse transformer".into(),
        facts,
        curves: log.as_deref().map(plot::svg).transpose()?,
        writing: Some(writing(subject)),
        circuits: circuits(subject)?,
        tasks: openwork_tasks::all()
            .iter()
            .map(|task| TaskRow {
                name: task.name(),
                description: task.description(),
                results: measure(&subject.model, &subject.tokenizer, task, 64, 0).map_err(|e| e.to_string()),
            })
            .collect(),
    })
}

/// A text the model writes from nothing but a first word.
fn writing(subject: &Subject) -> (String, String) {
    let prompt = "def ";
    let tokens = subject.tokenizer.encode(prompt);
    let sampling = Sampling { temperature: 0.8, top_k: 50, seed: 0 };
    let end = Some(subject.tokenizer.end_of_text());
    let mut text = subject.model.generate(&tokens, 160, end, sampling);
    text.pop_if(|last| Some(*last) == end);
    (prompt.to_owned(), subject.tokenizer.decode(&text))
}

/// Every circuit beside the model that has been judged, in order of name.
fn circuits(subject: &Subject) -> Result<Vec<Judged>> {
    let dir = subject.dir.join("circuits");
    let Ok(entries) = std::fs::read_dir(&dir) else { return Ok(vec![]) };
    let mut paths: Vec<PathBuf> = entries.map(|e| Ok(e?.path())).collect::<std::io::Result<_>>()?;
    paths.retain(|p| p.extension().is_some_and(|e| e == "json") && report_path(p).exists());
    paths.sort();
    paths.iter().map(|path| judged(subject, path)).collect()
}

fn judged(subject: &Subject, path: &Path) -> Result<Judged> {
    let file = CircuitFile::load(path, &subject.model, &subject.sha256)?;
    let verdict_path = report_path(path);
    let verdict = VerdictFile::read(&verdict_path)?;
    join(subject, file, verdict, verify::replay_command(&subject.dir, &verdict_path))
}

/// Writes the page on one circuit and its verdict, which `replay` runs again.
pub fn write_one(subject: &Subject, file: CircuitFile, verdict: VerdictFile, replay: String, out: &Path) -> Result<()> {
    let page = Page {
        title: format!("Verdict on the circuit {}", file.task),
        facts: vec![
            ("model hash".into(), subject.sha256[..16].to_owned()),
            ("hash of the means".into(), file.means_sha256.chars().take(16).collect()),
        ],
        curves: None,
        writing: None,
        circuits: vec![join(subject, file, verdict, replay)?],
        tasks: vec![],
    };
    write_page(&page, out)
}

fn join(subject: &Subject, file: CircuitFile, verdict: VerdictFile, replay: String) -> Result<Judged> {
    let task = crate::tasks::find(&file.task)?;
    let pairs = tasks::splits(task, &subject.tokenizer, file.seed)?;
    let mut examples = examples(subject, &file, &pairs.held_out[..2], false);
    examples.extend(self::examples(subject, &file, &pairs.held_out_templates[..1], true));
    Ok(Judged {
        edges: edges(&subject.model, &file.nodes),
        d_head: subject.model.config.d_head,
        controls: verdict.controls,
        tokens: texts(subject, &verdict.report),
        report: verdict.report,
        replay,
        examples,
        file,
    })
}

/// Texts of the tokens that the counter-example names.
fn texts(subject: &Subject, report: &Report) -> BTreeMap<u16, String> {
    let Verdict::Refuted { counter_example: Some(example), .. } = &report.verdict else { return BTreeMap::new() };
    let (answer, alternative) = example.candidates;
    let prompts = example.prompts.iter().chain(example.intervention.sources.iter().flatten());
    let tokens = prompts.flatten().copied().chain([answer, alternative]);
    tokens.map(|token| (token, subject.tokenizer.decode(&[token]))).collect()
}

/// Both prompts of each pair, with what model and circuit make of them.
fn examples(subject: &Subject, circuit: &CircuitFile, pairs: &[Pair], held_out_template: bool) -> Vec<Example> {
    let batches = batches(pairs, 8, subject.model.config.n_ctx);
    let keep = || Keep::new(&circuit.nodes, Ablation::Mean(&subject.means));
    let model = evaluate(&subject.model, &batches, false, || NoTap, |_| ()).losses(Calibration::NONE);
    let kept = evaluate(&subject.model, &batches, false, keep, |_| ()).losses(circuit.calibration);
    let text = |tokens: &[u16]| subject.tokenizer.decode(tokens);
    let sides =
        pairs.iter().flat_map(|p| [(&p.positive, p.answer, p.alternative), (&p.negative, p.alternative, p.answer)]);
    sides
        .zip(model.iter().zip(&kept))
        .map(|((prompt, right, wrong), (model, kept))| Example {
            prompt: text(prompt),
            candidates: (text(&[right]), text(&[wrong])),
            p_right: ((-model).exp(), (-kept).exp()),
            held_out_template,
        })
        .collect()
}
