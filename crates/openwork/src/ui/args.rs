//! Arguments that several commands share, and opening what they name.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use openwork_circuit::{Circuit, CircuitFile, LearnedMasks, Objective};
use openwork_data::Tokenizer;
use openwork_extract::Settings;
use openwork_model::Model;
use openwork_ops::{Device, DeviceChoice};
use openwork_project::{
    Beside, Notice, OpenModel, Project, Standing, VerdictFile, circuit_of_verdict, find_task, stale, verdicts_in,
};
use openwork_tasks::Task;
use openwork_tensor::quoted;

use super::{
    interrupt,
    ranges::{at_least, between, seed, up_to},
    show::{count, say},
};

/// Model, and what lies beside it.
#[derive(clap::Args)]
pub struct ProjectArgs {
    /// Model file, folder of a finished run, or published folder
    pub model: PathBuf,
    #[command(flatten)]
    beside: BesideArgs,
}

/// Tokenizer and data, where they do not lie beside the model.
#[derive(clap::Args)]
pub struct BesideArgs {
    /// Data the model was trained on, for the means; needed once if the model has no sample of it beside it
    #[arg(long)]
    data: Option<PathBuf>,
    /// The model's tokenizer [default: tokenizer.json beside the model]
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Tokens of the sequences that the model was trained on, for the means; needed once if the model does not say it (256 for
    /// the published models)
    #[arg(long, value_parser = at_least::<usize>(2))]
    trained_context: Option<usize>,
}

impl ProjectArgs {
    /// Opens the project; notices go to standard error.
    pub fn open(&self) -> Result<Project> {
        let BesideArgs { data, tokenizer, trained_context } = &self.beside;
        let (tokenizer, data) = (tokenizer.as_deref(), data.as_deref());
        open_project(&self.model, Beside { tokenizer, data, trained_context: *trained_context })
    }
}

/// Opens a project; notices go to standard error.
pub fn open_project(model: &Path, beside: Beside<'_>) -> Result<Project> {
    Ok(Project::open(model, beside, &mut |notice| match notice {
        Notice::Ignored(text) => eprintln!("note: {text}"),
        Notice::TakingMeans { tokens, seq_len } => {
            eprintln!("taking means over {} tokens of training data, in sequences of {seq_len}", count(tokens as u64))
        }
    })?)
}

/// Says so if the circuit beside the verdict, or the project, is not the one that it is about.
pub fn note_if_stale(project: &Project, verdict: &Path, file: &VerdictFile) {
    let Some(path) = circuit_of_verdict(verdict).filter(|path| path.exists()) else { return };
    match project.circuit(&path) {
        Ok(circuit) => {
            let differs = file.about.differs(&circuit, Some(project));
            if !differs.is_empty() {
                eprintln!("note: {}", stale(verdict, &differs));
            }
        }
        Err(error) => eprintln!("note: the circuit beside the verdict cannot be read: {error}"),
    }
}

/// Opens a model; notices go to standard error.
pub fn open_model(path: &Path) -> Result<OpenModel> {
    let open = OpenModel::open(path)?;
    open.notices.iter().for_each(|notice| eprintln!("note: {notice}"));
    Ok(open)
}

/// Reads a model's tokenizer. Where the model does not say that it is its own and the sizes differ, a notice goes to standard error:
/// published models have more rows than tokens, and so has a model with somebody else's tokenizer.
pub fn tokenizer_of(open: &OpenModel, given: Option<&Path>) -> Result<Tokenizer> {
    let tokenizer = open.tokenizer(given)?;
    let (tokens, rows) = (tokenizer.vocab_size(), open.model.config.vocab_size);
    if tokens < rows && !open.names_tokenizer() {
        eprintln!(
            "note: the tokenizer has {} tokens and the model {} rows, and does not say which tokenizer is its own",
            count(tokens as u64),
            count(rows as u64)
        );
    }
    Ok(tokenizer)
}

/// Says so if a circuit has no nodes: what was asked of it holds with everything ablated.
pub fn note_if_empty(circuit: &CircuitFile) {
    if circuit.circuit.nodes().is_empty() {
        eprintln!(
            "note: the circuit has no nodes: what is asked for holds without any, and no verdict on it is a pass"
        );
    }
}

/// Says the verdicts on the circuits of a model in `dir`, a line each.
pub fn say_verdicts(dir: &Path) -> Result<()> {
    for (path, verdict) in verdicts_in(dir)? {
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(error) => {
                eprintln!("note: {:#}", anyhow::Error::new(error));
                continue;
            }
        };
        let size = verdict.report.size.map_or(String::new(), |s| format!("{} nodes, {} edges, ", s.nodes, s.edges));
        let file = path.strip_prefix(dir).unwrap_or(&path).display();
        say!("  {}: {size}{}  ({file})", verdict.about.task, verdict.report.headline());
    }
    Ok(())
}

/// Refuses a number of tokens that the vocabulary does not have; `option` names it.
pub fn check_count(option: &str, count: usize, tokenizer: &Tokenizer) -> Result<()> {
    let most = tokenizer.vocab_size();
    ensure!(count <= most, "{option} is {count}, and the vocabulary has {most} tokens");
    Ok(())
}

/// Refuses an option's value that is given twice.
pub fn check_distinct(option: &str, values: &[String]) -> Result<()> {
    match (1..values.len()).find(|&i| values[..i].contains(&values[i])) {
        Some(twice) => bail!("{option} {} stands twice", values[twice]),
        None => Ok(()),
    }
}

/// Refuses a folder for outputs that cannot be made or takes no files.
pub fn check_folder(folder: &Path) -> Result<()> {
    let there = folder.ancestors().find(|path| path.exists() || path.as_os_str().is_empty()).unwrap_or(folder);
    openwork_tensor::check_writable(&there.join("output"))
        .with_context(|| format!("cannot write to {}", folder.display()))
}

/// Reads a tokenizer; where there is none, the error says which command makes it. `source` is how that command is told
/// what to train on.
pub fn open_tokenizer(path: &Path, source: &str) -> Result<Tokenizer> {
    if !path.exists() {
        let path = path.display();
        bail!("there is no tokenizer at {path}; `openwork tokenizer train {source} --out {path}` makes one");
    }
    Ok(Tokenizer::load(path)?)
}

/// Opens the device that was asked for; says why `auto` is not a GPU.
pub fn open_device(choice: DeviceChoice) -> Result<Device> {
    Ok(choice.open(|reason| eprintln!("on the CPU: {reason}"))?)
}

/// Model, task and budget of a search for circuits.
#[derive(clap::Args)]
pub struct SearchArgs {
    #[command(flatten)]
    project: ProjectArgs,
    /// Task the circuit is for (see `openwork tasks list`)
    #[arg(long)]
    task: String,
    /// Device on which masks are learned: cpu, cuda, cuda:N, or auto for a GPU if there is one (`openwork devices` lists them)
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    #[command(flatten)]
    budget: Budget,
}

impl SearchArgs {
    /// The task, the project and the device. From now on Ctrl-C ends searches.
    pub fn open(&self) -> Result<(&'static Task, Project, Device)> {
        let task = find_task(&self.task)?;
        let device = open_device(self.device)?;
        let project = self.project.open()?;
        interrupt::listen()?;
        Ok((task, project, device))
    }

    /// Settings of the search.
    pub fn settings(&self) -> Settings {
        let &Budget { target_loss, restarts, steps, k_coef, lr, seed, objective, price_rise, .. } = &self.budget;
        let &Budget { adversary_ascents, queries_with_keys, .. } = &self.budget;
        // An adversary needs time to learn before nodes are dear.
        let rise = if objective == Objective::Adversarial { 0.5 } else { 0.0 };
        let price_rise = price_rise.unwrap_or(rise);
        let masks = LearnedMasks {
            restarts,
            steps,
            k_coef,
            lr,
            objective,
            price_rise,
            adversary_ascents,
            queries_with_keys,
            ..LearnedMasks::default()
        };
        Settings { target_loss, seed, masks }
    }
}

/// A name that is one file's, and none of those that lie beside circuits.
pub fn circuit_name(name: &str) -> Result<String, String> {
    let plain = |c: char| c.is_alphanumeric() || "_-+".contains(c);
    match !name.is_empty() && name.chars().all(plain) {
        true => Ok(name.to_owned()),
        false => Err("a name has letters, digits, _, - and + only".into()),
    }
}

/// Effort of a search.
#[derive(clap::Args)]
struct Budget {
    /// Loss to reach, in nats per sequence (chance is 0.693)
    #[arg(long, default_value_t = 0.15, value_parser = up_to(1.0))]
    target_loss: f64,
    /// Independent searches; the circuit with the fewest edges is kept
    #[arg(long, default_value_t = LearnedMasks::default().restarts, value_parser = between::<usize>(1, 1 << 20))]
    restarts: usize,
    /// Optimizer steps of each search
    #[arg(long, default_value_t = LearnedMasks::default().steps, value_parser = between::<usize>(1, 1 << 20))]
    steps: usize,
    /// Price of a kept node in nats
    #[arg(long, default_value_t = LearnedMasks::default().k_coef, value_parser = between(0.0, 1.0))]
    k_coef: f64,
    /// Learning rate of the masks
    #[arg(long, default_value_t = LearnedMasks::default().lr, value_parser = up_to(10.0))]
    lr: f64,
    /// Seed of pairs, masks and batches
    #[arg(long, default_value_t = 0, value_parser = seed)]
    seed: u64,
    /// Objective of the masks: task (the published task loss), kl (to do what the model does) or adversarial (and
    /// to be safe from ablation of a few nodes outside)
    #[arg(long, default_value_t)]
    objective: Objective,
    /// Fraction of the steps over which the price of a kept node rises from 0 [default: 0.5 for adversarial, 0 for others]
    #[arg(long, value_parser = between(0.0, 1.0))]
    price_rise: Option<f64>,
    /// Moves of the adversary in a step, for --objective adversarial
    #[arg(long, default_value_t = LearnedMasks::default().adversary_ascents, value_parser = between::<usize>(1, 64))]
    adversary_ascents: usize,
    /// Take the query of the same channel with every key that is selected: a head then lives with all else at zero, too
    #[arg(long)]
    queries_with_keys: bool,
}

/// The command that runs the counter-example of a verdict again.
pub fn replay_command(model: &Path, verdict: &Path) -> String {
    let quoted = |path: &Path| {
        let text = path.display().to_string();
        let plain = |c: char| c.is_alphanumeric() || "/._-+".contains(c);
        if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
    };
    format!("openwork replay {} {}", quoted(model), quoted(verdict))
}

/// Says so on standard error if the circuit at `path` did not pass, has no verdict, or lies beside one that is about something
/// else.
pub fn note_standing(path: &Path, circuit: &CircuitFile, project: Option<&Project>) {
    match Standing::of(path, circuit, project) {
        Ok(standing) => {
            if let Some(words) = standing.reservation() {
                eprintln!("note: {}: {words}", path.display());
            }
        }
        Err(error) => {
            let causes = std::iter::successors(std::error::Error::source(&error), |e| e.source());
            let causes: String = causes.map(|cause| format!(": {cause}")).collect();
            eprintln!("note: the verdict on this circuit cannot be used: {error}{causes}");
        }
    }
}

/// One line on a circuit.
pub fn describe_circuit(circuit: &CircuitFile) -> String {
    let size = circuit.circuit.size();
    format!(
        "{}: {} nodes, {} edges, loss {:.3} nats (target {}), claims the {}",
        circuit.task, size.nodes, size.edges, circuit.loss, circuit.target_loss, circuit.claim
    )
}

/// Size of a circuit in parameters of the model.
pub fn describe_parameters(circuit: &Circuit, model: &Model) -> String {
    let parameters = circuit.parameters(model);
    format!(
        "{} nodes, {} edges, {} edges with biases, {} weights with the embedding's and the unembedding's",
        circuit.nodes().len(),
        parameters.edges,
        parameters.with_biases(),
        parameters.weights()
    )
}

/// Lines on the labels and groups of a circuit; none where it has neither.
pub fn describe_annotations(circuit: &Circuit) -> Vec<String> {
    let note = |note: &Option<String>| note.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
    let labels =
        circuit.labels().iter().map(|(node, label)| format!("{node} is {}{}", quoted(&label.name), note(&label.note)));
    let groups = circuit.groups().iter().map(|group| {
        let nodes: Vec<String> = group.nodes.iter().map(ToString::to_string).collect();
        format!("group {} has {}{}", quoted(&group.name), nodes.join(", "), note(&group.note))
    });
    labels.chain(groups).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use openwork_circuit::{Group, Label, NodeSet, NodeSpace};
    use openwork_model::Config;

    use super::*;

    #[test]
    fn labels_and_groups_are_a_line_each() {
        let model = Model::init(Config { vocab_size: 8, n_layer: 1, ..Config::default() }, 1);
        let space = NodeSpace::new(&model.config);
        let circuit = Circuit::new(&model, NodeSet::of(space.clone(), [0, 1]));
        assert!(describe_annotations(&circuit).is_empty());
        let [first, second] = [0, 1].map(|n| space.node(n));
        let label = Label { name: "quote".into(), note: Some("opens a string".into()) };
        let group = Group { name: "reads".into(), note: None, nodes: vec![first, second] };
        let circuit = circuit.with_labels(BTreeMap::from([(first, label)])).unwrap().with_groups(vec![group]).unwrap();
        assert_eq!(
            describe_annotations(&circuit),
            ["0.attn.act_in[0] is \"quote\": opens a string", "group \"reads\" has 0.attn.act_in[0], 0.attn.act_in[1]"]
        );
    }
}
