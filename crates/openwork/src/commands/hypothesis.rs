//! `openwork hypothesis`: test what a researcher says that nodes mean.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail, ensure};
use openwork_circuit::CircuitFile;
use openwork_project::{LineFormat, ProjectError, PromptLines, find_task, splits};
use openwork_tensor::{quoted, quoted_list};
use openwork_verify::hypothesis::{
    Comparison, Hypothesis, HypothesisReport, HypothesisSettings, HypothesisVerdict, Prompts, compare, examine,
};

use crate::ui::{
    args::{note_standing, open_model, tokenizer_of},
    ranges::seed,
    show::say,
};

/// Text that `--help` adds.
const FILE_FORMAT: &str = r#"A hypothesis is a TOML file:

  name = "The sign of the cue"
  answer = "'yes' if sign == '+' else 'no'"   # the text of the token that comes next
  candidates = ["yes", "no"]                  # optional: the model's answer is the likeliest of these

  [[variable]]
  name = "sign"
  value = "last_of(tokens, ['+', '-'])"       # of the prompt's tokens and the variables above
  nodes = ["0.attn.v[3]", "0.mlp.post_act[7]"]
  at = "all"                                  # or "last": the last token only

Exit code 0: supported; 1: refuted or undecided."#;

/// Arguments of the command.
#[derive(clap::Args)]
#[command(after_help = FILE_FORMAT)]
pub struct Args {
    /// Model file or folder of a finished run
    model: PathBuf,
    /// The hypothesis
    hypothesis: PathBuf,
    /// Take the held-out prompts of this task (see `openwork tasks list`)
    #[arg(long, required_unless_present = "prompts")]
    task: Option<String>,
    /// Take the prompts of this file, one per line
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    prompts: Option<PathBuf>,
    /// Lines of --prompts are JSON: texts, or objects with a text `prompt`
    #[arg(long, requires = "prompts", conflicts_with = "task")]
    jsonl: bool,
    /// Also test each node of this circuit that the hypothesis does not name
    #[arg(long)]
    circuit: Option<PathBuf>,
    /// Compare with this hypothesis: on what do the two differ, and which does the model follow there?
    #[arg(long, value_name = "HYPOTHESIS")]
    against: Option<PathBuf>,
    /// Write JSON in place of text
    #[arg(long)]
    json: bool,
    /// The model's tokenizer [default: tokenizer.json beside the model]
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Seed of the prompts and of base and source
    #[arg(long, default_value_t = 0, value_parser = seed)]
    seed: u64,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let open = open_model(&args.model)?;
    let tokenizer = tokenizer_of(&open, args.tokenizer.as_deref())?;
    let hypothesis = Hypothesis::load(&args.hypothesis, &open.model.config)?;
    let tokens: Vec<Vec<u16>> = match (&args.task, &args.prompts) {
        (Some(task), _) => {
            let pairs = splits(find_task(task)?, &tokenizer, open.model.config.n_ctx, args.seed)?.held_out;
            pairs.into_iter().flat_map(|p| [p.positive, p.negative]).collect()
        }
        (None, Some(path)) => {
            let format = if args.jsonl { LineFormat::Json } else { LineFormat::Text };
            // All of them or none: a verdict is about the prompts that were named.
            let lines = PromptLines::open(path, format)?.map(|line| {
                let line = line?.with_context(|| format!("cannot use {}", path.display()))?;
                Ok(tokenizer.encode(&line.prompt))
            });
            lines.collect::<Result<_>>()?
        }
        (None, None) => bail!("name the prompts: --task TASK or --prompts FILE"),
    };
    let text = |token: u16| tokenizer.decode(&[token]);
    let prompts = Prompts { tokens: &tokens, text: &text };
    let settings = HypothesisSettings { seed: args.seed, ..HypothesisSettings::default() };
    if let Some(other) = &args.against {
        let same = std::fs::canonicalize(other).ok() == std::fs::canonicalize(&args.hypothesis).ok();
        ensure!(!same, "--against {} is the hypothesis itself; name another one", other.display());
        let other = Hypothesis::load(other, &open.model.config)?;
        let comparison = compare(&open.model, [&hypothesis, &other], prompts, &settings)?;
        match args.json {
            true => say!("{}", serde_json::to_string_pretty(&comparison)?),
            false => say!("{}", text_of(&comparison)),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let load = |path: &PathBuf| {
        let circuit = open.circuit(path)?;
        note_standing(path, &circuit, None);
        if let Some(task) = args.task.as_ref().filter(|task| **task != circuit.task) {
            eprintln!("note: {} is a circuit of {}, and the prompts are those of {task}", path.display(), circuit.task);
        }
        Ok::<_, ProjectError>(circuit)
    };
    let circuit = args.circuit.as_ref().map(load).transpose()?;
    let report = examine(&open.model, circuit.as_ref().map(|c| c.circuit.nodes()), &hypothesis, prompts, &settings)?;
    match args.json {
        true => {
            let circuit_sha256 = circuit.as_ref().map(CircuitFile::claim_sha256);
            let json = Json { model_sha256: &open.sha256, circuit_sha256, report: &report };
            say!("{}", serde_json::to_string_pretty(&json)?);
        }
        false => say!("{}", report.text()),
    }
    Ok(ExitCode::from(u8::from(report.verdict != HypothesisVerdict::Supported)))
}

/// A report with what it is about, by hash.
#[derive(serde::Serialize)]
struct Json<'a> {
    model_sha256: &'a str,
    circuit_sha256: Option<String>,
    #[serde(flatten)]
    report: &'a HypothesisReport,
}

/// A comparison as text.
fn text_of(c: &Comparison) -> String {
    let [a, b] = [0, 1].map(|i| quoted(&c.names[i]));
    let mut lines = vec![format!(
        "{a} and {b} predict otherwise on {} of {} runs considered ({} more cannot be predicted by both)",
        c.differ,
        c.considered - c.unpredicted,
        c.unpredicted
    )];
    if let Some([of_a, of_b]) = c.follows {
        lines.push(format!("on {} of these the model answers as {a}: {of_a}, as {b}: {of_b}", c.runs));
        lines.push(
            c.favoured().map_or("neither is favoured".into(), |name| format!("the model follows {}", quoted(name))),
        );
    }
    if let Some(e) = &c.example {
        let source =
            e.source.as_ref().map_or(String::new(), |(_, tokens)| format!(" set as on {}", quoted_list(tokens)));
        let swapped = e.swapped.as_ref().map_or(String::new(), |s| format!(" with {s}"));
        lines.push(format!(
            "for example {}{swapped}{source}: {a} says {}, {b} says {}, the model answers {}",
            quoted_list(&e.base_tokens),
            quoted(&e.predicted[0]),
            quoted(&e.predicted[1]),
            quoted(&e.found)
        ));
    }
    lines.join("\n")
}
