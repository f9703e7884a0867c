//! Circuits of the finished models: how many nodes and edges it takes to do a task as well as is asked for.

use std::{io::Write, ops::ControlFlow, path::Path};

use anyhow::{Context, Result, ensure};
use openwork_benches::commit;
use openwork_circuit::LearnedMasks;
use openwork_data::Tokenizer;
use openwork_extract::{Search, Settings};
use openwork_ops::Device;
use openwork_project::{Sample, find_task, splits};
use openwork_tasks::Splits;
use openwork_train::Windows;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{
    cell::{Outcome, Study},
    design::{self, Cell},
};

const FORMAT: &str = "openwork-quality-circuits 1";
/// The tasks that models of this size and training do best, and the loss that a circuit has to reach, in nats per
/// sequence (chance is 0.693): what the worst of the models can do, with room for a circuit.
const TASKS: [(&str, f64); 2] = [("single_double_quote", 0.4), ("while_return_true", 0.5)];
/// Tokens that means are taken over.
const MEAN_TOKENS: usize = 1 << 18;

/// The circuits of a model, as they are kept in `circuits/NAME.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Circuits {
    pub format: String,
    /// Name of the run.
    pub run: String,
    pub commit: String,
    pub circuits: Vec<Circuit>,
}

/// Circuit of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Circuit {
    pub task: String,
    pub target_loss: f64,
    /// Loss, nodes and edges; none where the whole model does not reach the target.
    pub found: Option<Size>,
}

/// Size of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    pub loss: f64,
    pub nodes: usize,
    pub edges: usize,
}

impl Circuits {
    /// Of the run whose models lie in `runs`, if they have been looked for.
    pub fn read(runs: &Path, run: &str) -> Result<Option<Self>> {
        let path = runs.join("circuits").join(run).with_extension("json");
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let circuits: Self = serde_json::from_slice(&text)
            .with_context(|| format!("{} holds no circuits; remove it to have them found again", path.display()))?;
        ensure!(circuits.format == FORMAT, "{} has format {}, not {FORMAT}", path.display(), circuits.format);
        Ok(Some(circuits))
    }

    /// The circuit for a task.
    pub fn of(&self, task: &str) -> Option<Size> {
        self.circuits.iter().find(|circuit| circuit.task == task)?.found
    }
}

/// Names of the tasks.
pub fn task_names() -> [&'static str; TASKS.len()] {
    TASKS.map(|(name, _)| name)
}

/// Finds the circuits that are not there yet, of the runs of the design that are finished; one model a thread.
pub fn find(study: &Study, tokenizer: &Path, outcomes: &[Outcome]) -> Result<()> {
    let tokenizer = Tokenizer::load(tokenizer)?;
    study.check_tokenizer(tokenizer.sha256())?;
    let finished = |cell: &Cell| outcomes.iter().any(|outcome| outcome.is(cell) && !outcome.diverged);
    let cells: Vec<Cell> = design::circuit_cells().into_iter().filter(finished).collect();
    cells.par_iter().try_for_each(|cell| {
        let run = cell.name();
        if Circuits::read(&study.out, &run)?.is_some() {
            println!("{run} was looked at before");
            return Ok(());
        }
        let circuits = of_model(study, cell, &tokenizer).with_context(|| run.clone())?;
        for Circuit { task, target_loss, found } in &circuits {
            match found {
                Some(Size { nodes, edges, .. }) => println!("{run} {task}: {nodes} nodes, {edges} edges"),
                None => println!("{run} {task}: the model does not reach {target_loss}"),
            }
        }
        let path = study.out.join("circuits").join(&run).with_extension("json");
        std::fs::create_dir_all(path.parent().expect("it has a folder"))?;
        let text = serde_json::to_string_pretty(&Circuits { format: FORMAT.into(), run, commit: commit(), circuits })?;
        openwork_tensor::write_atomic(&path, |w| writeln!(w, "{text}"))
            .with_context(|| format!("cannot write {}", path.display()))
    })
}

/// A circuit of a model for each task.
fn of_model(study: &Study, cell: &Cell, tokenizer: &Tokenizer) -> Result<Vec<Circuit>> {
    let model = study.model(cell)?;
    let n_ctx = model.config.n_ctx;
    let mut windows = Windows::new(study.data.train.len(), n_ctx, 0).context("too few training tokens")?;
    let means = Sample { tokens: windows.read(&study.data.train, 0, MEAN_TOKENS / n_ctx)?, n_ctx }.means(&model)?;
    let circuit = |(task, target_loss): &(&'static str, f64)| {
        let splits: Splits = splits(find_task(task)?, tokenizer, n_ctx, 0)?;
        let masks = LearnedMasks { restarts: 1, ..LearnedMasks::default() };
        let settings = Settings { target_loss: *target_loss, masks, ..Settings::default() };
        let search = Search {
            model: &model,
            means: &means,
            train: &splits.train,
            validation: &splits.selection,
            settings: &settings,
        };
        let pruned = search.prune(&Device::Cpu, &mut |_| ControlFlow::Continue(())).ok().filter(|p| p.reached);
        let found =
            pruned.map(|p| Size { loss: p.loss, nodes: p.circuit.nodes().len(), edges: p.circuit.edges().len() });
        Ok(Circuit { task: (*task).to_owned(), target_loss: *target_loss, found })
    };
    TASKS.iter().map(circuit).collect()
}
