//! `openwork prune`: find a circuit.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, bail, ensure};
use openwork_circuit::{Claim, Growth, Parts, Score, Scored, SearchSettings};
use openwork_extract::Settings;
use openwork_project::{
    GrowthFrom, GrowthMethod, Method, OutputKind, Project, ScoreMethod, SearchRequest, check_outputs, find_circuit,
};

use crate::ui::{
    args::{SearchArgs, check_folder, circuit_name, describe_annotations, describe_circuit, note_if_empty},
    interrupt,
    progress::SearchProgress,
    ranges::{between, up_to},
    show::say,
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// The circuit file to write [default: circuits/TASK.json beside the model]
    #[arg(long, conflicts_with = "name")]
    out: Option<PathBuf>,
    /// Name of the circuit: it is written to circuits/NAME.json beside the model
    #[arg(long, value_parser = circuit_name)]
    name: Option<String>,
    /// Claim of the circuit: the model's answer, threshold included, or the contrast, which of the two prompts of a pair gets
    /// which answer; the weaker claim, as every verdict on it says. The search is the same
    #[arg(long, default_value_t = Claim::Answer, value_name = "answer|contrast")]
    claim: Claim,
    /// Method of the search
    #[arg(long, value_enum, default_value_t = MethodName::Masks)]
    method: MethodName,
    /// Replace the circuit that lies there; its verdict, pairs and certificates are removed with it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    search: SearchArgs,
    #[command(flatten)]
    growth: GrowthArgs,
    #[command(flatten)]
    scores: ScoreArgs,
}

/// Method of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum MethodName {
    /// Masks over nodes, learned by gradient descent
    Masks,
    /// Growth by counter-examples, from the circuit that masks find or from --from
    Grow,
    /// The top of a ranking by attribution scores (--score)
    Scores,
}

/// Options of growth.
#[derive(clap::Args)]
#[command(next_help_heading = "Growth (--method grow)")]
struct GrowthArgs {
    /// Circuit of the task to grow, in place of one that masks find; its seed and target loss are those of the growth
    #[arg(
        long,
        value_name = "CIRCUIT",
        conflicts_with_all = ["restarts", "steps", "k_coef", "lr", "objective", "device", "target_loss", "seed", "price_rise", "adversary_ascents", "queries_with_keys"]
    )]
    from: Option<PathBuf>,
    /// Least share of answers that stay the model's in every check [default: 0.985]
    #[arg(long, value_parser = between(0.5, 1.0))]
    agreement: Option<f64>,
    /// Largest gap between the losses of circuit and model without the same nodes, as a share of what the answers are worth [default: 0.35]
    #[arg(long, value_parser = up_to(1.0))]
    max_gap: Option<f64>,
    /// Most nodes of the circuit [default: 400]
    #[arg(long, value_parser = between::<usize>(1, 1 << 20))]
    max_nodes: Option<usize>,
    /// Most rounds of growth [default: 60]
    #[arg(long, value_parser = between::<usize>(1, 1 << 20))]
    rounds: Option<usize>,
    /// Nodes that a check that fails adds at most, as a share of the circuit's [default: 0.1]
    #[arg(long, value_parser = up_to(1.0))]
    add_share: Option<f64>,
    /// Write the circuit even where it does not reach what is asked for; its file says so
    #[arg(long)]
    accept_unreached: bool,
}

impl GrowthArgs {
    /// The first option that was given, if one was.
    fn given(&self) -> Option<&'static str> {
        let options = [
            (self.from.is_some(), "--from"),
            (self.agreement.is_some(), "--agreement"),
            (self.max_gap.is_some(), "--max-gap"),
            (self.max_nodes.is_some(), "--max-nodes"),
            (self.rounds.is_some(), "--rounds"),
            (self.add_share.is_some(), "--add-share"),
            (self.accept_unreached, "--accept-unreached"),
        ];
        options.into_iter().find(|(given, _)| *given).map(|(_, name)| name)
    }

    fn settings(&self) -> Growth {
        let default = Growth::default();
        Growth {
            agreement: self.agreement.unwrap_or(default.agreement),
            max_gap: self.max_gap.unwrap_or(default.max_gap),
            max_nodes: self.max_nodes.unwrap_or(default.max_nodes),
            rounds: self.rounds.unwrap_or(default.rounds),
            add_share: self.add_share.unwrap_or(default.add_share),
            ..default
        }
    }

    /// The circuit to begin from.
    fn from(&self, project: &Project, task: &str, masks: Settings) -> Result<GrowthFrom> {
        let Some(path) = &self.from else { return Ok(GrowthFrom::Masks(masks)) };
        let circuit = project.circuit(path)?;
        project.check_means(&circuit)?;
        let (file, of) = (path.display(), &circuit.task);
        ensure!(of == task, "{file} is a circuit of the task {of}, and --task is {task}");
        Ok(GrowthFrom::Circuit(Box::new(circuit)))
    }
}

/// Options of scores.
#[derive(clap::Args)]
#[command(next_help_heading = "Scores (--method scores)")]
struct ScoreArgs {
    /// Score that ranks the parts: gradient, integrated, inputs, patching, weights, acdc or random
    #[arg(
        long,
        conflicts_with_all = [
            "restarts", "steps", "k_coef", "lr", "objective", "device", "price_rise", "adversary_ascents", "queries_with_keys"
        ]
    )]
    score: Option<Score>,
    /// Parts that are ranked: nodes or edges [default: nodes]
    #[arg(long, requires = "score")]
    parts: Option<Parts>,
    /// Training pairs that scores are taken on [default: 64]
    #[arg(long, requires = "score", value_parser = between::<usize>(1, 1 << 20))]
    score_pairs: Option<usize>,
    /// Points of the paths of integrated gradients [default: 8]
    #[arg(long, requires = "score", value_parser = between::<usize>(1, 1 << 10))]
    points: Option<usize>,
    /// Rise of the distance from the model, in nats, below which acdc removes a part [default: 0.01]
    #[arg(long, requires = "score", value_parser = up_to(100.0))]
    threshold: Option<f64>,
}

impl ScoreArgs {
    fn settings(&self) -> Result<Scored> {
        let default = Scored::default();
        let score = self.score.context("--method scores needs --score, such as --score gradient")?;
        let scored = Scored {
            score,
            parts: self.parts.unwrap_or(default.parts),
            pairs: self.score_pairs.unwrap_or(default.pairs),
            points: self.points.unwrap_or(default.points),
            threshold: self.threshold.unwrap_or(default.threshold),
        };
        let unused = [
            (self.score_pairs.is_some(), "--score-pairs", !matches!(score, Score::Weights | Score::Random)),
            (self.points.is_some(), "--points", matches!(score, Score::Integrated | Score::Inputs)),
            (self.threshold.is_some(), "--threshold", score == Score::Acdc),
        ];
        if let Some((.., option, _)) = unused.into_iter().find(|(given, _, used)| *given && !used) {
            bail!("{option} is no option of --score {score}: leave it out");
        }
        match scored.fault() {
            Some(fault) => bail!("--score {score} --parts {}: {fault}", scored.parts),
            None => Ok(scored),
        }
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    if let Some(option) = args.growth.given().filter(|_| args.method != MethodName::Grow) {
        bail!("{option} is an option of growth: leave it out or say --method grow");
    }
    ensure!(
        args.scores.score.is_none() || args.method == MethodName::Scores,
        "--score is an option of scores: leave it out or say --method scores"
    );
    let scored = (args.method == MethodName::Scores).then(|| args.scores.settings()).transpose()?;
    let (task, project, device) = args.search.open()?;
    let name = args.name.as_deref().unwrap_or(task.name());
    let out = args.out.unwrap_or_else(|| project.circuit_path(name));
    match out.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        Some(folder) => check_folder(folder)?,
        None => check_outputs(&[(OutputKind::Circuit, &out)], &[])?,
    }
    match args.force {
        true => project.check_beside(&out)?,
        false => project.check_free(&out)?,
    }
    let masks = args.search.settings();
    let (seed, method) = match (args.method, scored) {
        (_, Some(settings)) => {
            let Settings { target_loss, seed, .. } = masks;
            (seed, Method::Scores(ScoreMethod { target_loss, seed, settings }))
        }
        (MethodName::Grow, None) => {
            let from = args.growth.from(&project, task.name(), masks)?;
            let seed = match &from {
                GrowthFrom::Masks(masks) => masks.seed,
                GrowthFrom::Circuit(circuit) => circuit.seed,
            };
            let (settings, accept_unreached) = (args.growth.settings(), args.growth.accept_unreached);
            (seed, Method::Grow(Box::new(GrowthMethod { from, settings, accept_unreached })))
        }
        (_, None) => (masks.seed, Method::Masks(masks)),
    };
    let splits = project.splits(task, seed)?;
    let request = SearchRequest { task: task.name(), splits: &splits, claim: args.claim, method: &method };
    let progress = SearchProgress::default();
    let found = find_circuit(&project, &request, &device, &mut |p| progress.step(p))?;
    progress.finish();
    let Some(circuit) = found else {
        eprintln!("interrupted before there was a circuit: nothing was written");
        return Ok(ExitCode::from(interrupt::INTERRUPTED));
    };
    project.save_circuit(&circuit, &out, args.force)?;
    note_if_empty(&circuit);
    say!("{}", describe_circuit(&circuit));
    if let SearchSettings::Grown(grown) = &circuit.search {
        let reached = if grown.reached { "" } else { "; it does not reach what growth asks for" };
        say!(
            "grown from {} nodes and {} edges in {} rounds{reached}",
            grown.start.nodes,
            grown.start.edges,
            grown.rounds.len()
        );
    }
    for line in describe_annotations(&circuit.circuit) {
        say!("{line}");
    }
    say!("{}", out.display());
    if interrupt::requested() {
        eprintln!("interrupted: this is the best of what was finished");
        return Ok(ExitCode::from(interrupt::INTERRUPTED));
    }
    Ok(ExitCode::SUCCESS)
}
