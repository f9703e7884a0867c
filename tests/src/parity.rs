//! Agreement with another implementation's numbers.
//!
//! A fixture folder with `expected.safetensors` is one forward and backward pass; one with
//! `trajectory.safetensors` and `trajectory.json` is a training run. Errors are relative per tensor,
//! `‖a − b‖ / ‖b‖`; the worst over all tensors is reported.

use std::{fmt, ops::ControlFlow, path::Path};

use anyhow::{Context, Result, bail, ensure};
use ndarray::ArrayView2;
use openwork_cuda::{Array, Gpu};
use openwork_model::{
    Config, Engine, Matrix, Model, NoTap, Params, Positions, Record, Role, Site, Tap, Ties, Tokens, Weight,
};
use openwork_ops::{ActivationDtype, Cuda, Device};
use openwork_tensor::TensorFile;
use openwork_train::{Anneal, BatchShape, Schedule, Trainer};
use serde::Deserialize;

/// Result of comparing a fixture folder.
pub struct Report {
    /// Name of the folder.
    pub name: String,
    /// Compared quantities: what, worst relative error, tolerance.
    pub figures: Vec<Figure>,
}

/// One compared quantity.
pub struct Figure {
    /// Name of the comparison.
    pub what: &'static str,
    /// Worst relative error over its tensors.
    pub worst: f64,
    /// Largest error that passes.
    pub tolerance: f64,
    /// Tensor or step with the worst error.
    pub at: String,
}

impl Report {
    /// True if every figure is within its tolerance.
    pub fn passes(&self) -> bool {
        self.figures.iter().all(|f| f.worst <= f.tolerance) // NaN fails
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<14}", self.name)?;
        for figure in &self.figures {
            write!(f, "  {} {:.1e} (<= {:.0e})", figure.what, figure.worst, figure.tolerance)?;
        }
        if self.passes() {
            return write!(f, "  OK");
        }
        write!(f, "  FAIL")?;
        let mut failed = self.figures.iter().filter(|f| f.worst.is_nan() || f.worst > f.tolerance);
        failed.try_for_each(|figure| write!(f, " [{} worst at {}]", figure.what, figure.at))
    }
}

impl Figure {
    fn new(what: &'static str, tolerance: f64) -> Self {
        Self { what, worst: 0.0, tolerance, at: String::new() }
    }

    fn add(&mut self, error: f64, at: &str) {
        if error > self.worst || error.is_nan() {
            (self.worst, self.at) = (error, at.to_owned());
        }
    }
}

/// Compares every fixture folder under `dir`, or `dir` itself if it is one, in order of name.
///
/// On a GPU ties of AbsTopK go by index and not as `torch.topk` decides on a CPU. Where embeddings are sparse, a token has
/// fewer entries than are kept, all zeros tie, and the gradients of the embeddings depend on which are kept: these are
/// then not compared, nor is where a run ends whose embeddings became sparse.
pub fn folder(dir: &Path, device: &Device) -> Result<Vec<Report>> {
    let mut folders: Vec<_> = match is_fixture(dir) {
        true => vec![dir.to_owned()],
        false => std::fs::read_dir(dir)
            .with_context(|| format!("cannot list {}", dir.display()))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<_>>>()?,
    };
    folders.retain(|f| is_fixture(f));
    folders.sort();
    ensure!(
        !folders.is_empty(),
        "no fixture folder (with expected.safetensors or trajectory.safetensors) in {}",
        dir.display()
    );
    folders
        .iter()
        .map(|f| {
            let name = f.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let one = f.join("expected.safetensors").exists();
            let figures = if one { one_pass(f, device) } else { trajectory(f, device) };
            Ok(Report { name, figures: figures.with_context(|| f.display().to_string())? })
        })
        .collect()
}

fn is_fixture(dir: &Path) -> bool {
    dir.join("expected.safetensors").exists() || dir.join("trajectory.safetensors").exists()
}

/// `‖a − b‖ / ‖b‖`, or `‖a‖` where b is zero.
fn relative(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> f64 {
    let norm = |sum: f64| sum.sqrt();
    let difference = norm(a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum());
    let scale = norm(b.iter().map(|y| f64::from(*y).powi(2)).sum());
    if scale > 0.0 { difference / scale } else { difference }
}

/// A `[batch, time, features]` tensor as `[features, tokens]`.
fn feature_major(file: &TensorFile, name: &str) -> Result<Matrix> {
    let value = file.f32(name)?;
    let [batch, time, features] = *value.shape() else {
        bail!("`{name}` has shape {:?}, expected three axes", value.shape())
    };
    let rows = value.into_shape_with_order((batch * time, features))?;
    Ok(rows.t().as_standard_layout().into_owned())
}

fn token_ids(file: &TensorFile, name: &str) -> Result<(Vec<u16>, Vec<usize>)> {
    let ids = file.i64(name)?;
    let shape = ids.shape().to_vec();
    let ids =
        ids.iter().map(|&t| u16::try_from(t).with_context(|| format!("`{name}` holds {t}"))).collect::<Result<_>>()?;
    Ok((ids, shape))
}

fn one_pass(dir: &Path, device: &Device) -> Result<Vec<Figure>> {
    let (mut model, _) = openwork_model::Model::import(dir, false)?;
    model.ties = Ties::AsPyTorch;
    let file = TensorFile::open(dir.join("expected.safetensors"))?;
    let (ids, shape) = token_ids(&file, "tokens")?;
    let (targets, _) = token_ids(&file, "targets")?;
    let tokens = Tokens::new(&ids, shape[1]);
    let numbers = match device {
        Device::Cpu => Numbers::on_cpu(&model, tokens, &targets),
        Device::Cuda(gpu) => Numbers::on_gpu(&model, tokens, &targets, gpu)?,
    };

    let mut logits = Figure::new("logits", 1e-5);
    logits.add(relative(numbers.logits.view(), feature_major(&file, "logits")?.view()), "logits");

    let mut activations = Figure::new("activations", 1e-5);
    let mut compared = 0;
    for (site, value) in &numbers.activations {
        let name = format!("act.{}", site.hook_name());
        if file.contains(&name) {
            compared += 1;
            activations.add(relative(value.view(), feature_major(&file, &name)?.view()), &name);
        }
    }
    let expected = file.names().filter(|n| n.starts_with("act.")).count();
    ensure!(compared == expected, "{expected} activations are expected, {compared} have a site");

    let losses = &numbers.losses;
    let loss = losses.iter().map(|&l| f64::from(l)).sum::<f64>() / losses.len() as f64;
    let published = f64::from(file.f32("loss")?.iter().next().copied().context("`loss` is empty")?);
    let mut loss_figure = Figure::new("loss", 1e-5);
    loss_figure.add((loss - published).abs() / published, "loss");

    let mut figure = Figure::new("gradients", 1e-4);
    let ties = matches!(device, Device::Cuda(_)) && model.params.embed.dense().iter().any(|&x| x == 0.0);
    for (info, gradient) in Params::<()>::infos(&model.config).into_iter().zip(&numbers.gradients) {
        let name = format!("grad.{}", info.name);
        if ties && matches!(info.role, Role::Embed | Role::Position) {
            continue;
        }
        if file.contains(&name) {
            figure.add(relative(gradient.view(), file.matrix(&name)?.view()), &name);
        } else {
            ensure!(!model.config.is_trained(info.role), "`{name}` is missing, but the parameter is trained");
        }
    }
    Ok(vec![logits, activations, loss_figure, figure])
}

/// Results of a forward and a backward pass.
struct Numbers {
    logits: Matrix,
    activations: Vec<(Site, Matrix)>,
    losses: Vec<f32>,
    gradients: Vec<Matrix>,
}

impl Numbers {
    fn on_cpu(model: &Model, tokens: Tokens<'_>, targets: &[u16]) -> Self {
        let mut record = Record::default();
        let mut pass = model.forward(tokens, None, &mut record);
        let logits = pass.logits.clone();
        let mut dlogits = std::mem::take(&mut pass.logits);
        let losses = openwork_ops::cross_entropy(&mut dlogits, targets, 1.0 / targets.len() as f32);
        let mut gradients = model.zero_gradients();
        model.backward(&pass, &dlogits, &mut NoTap, Some(&mut gradients));
        let gradients = gradients.values().into_iter().map(|gradient| gradient.dense().clone()).collect();
        Self { logits, activations: record.values, losses, gradients }
    }

    fn on_gpu(model: &Model, tokens: Tokens<'_>, targets: &[u16], gpu: &Gpu) -> Result<Self> {
        /// [`Record`] of what lies on a GPU.
        #[derive(Default)]
        struct Copies(Vec<(Site, Array)>);
        impl Tap<Array> for Copies {
            fn forward(&mut self, site: Site, value: &mut Array) -> ControlFlow<()> {
                self.0.push((site, value.copy()));
                ControlFlow::Continue(())
            }
        }
        let on_gpu = model.upload(gpu)?;
        let mut gradients = on_gpu.gradients();
        let (mut engine, mut copies) = (Cuda::new(gpu.clone(), ActivationDtype::F32), Copies::default());
        let mut pass = on_gpu.model.forward_in(tokens, None, &mut copies, &mut engine);
        let logits = download(&pass.logits)?;
        let losses = engine.cross_entropy(&mut pass.logits, targets, 1.0 / targets.len() as f32).download()?;
        on_gpu.model.backward_in(&pass, &pass.logits, &mut NoTap, Some(&mut gradients), &mut engine);
        let activations = copies.0.iter().map(|(site, value)| Ok((*site, download(value)?)));
        let gradients = model.params.values().into_iter().enumerate();
        let gradients =
            gradients.map(|(i, w)| Ok(Matrix::from_shape_vec(w.dense().dim(), on_gpu.parameters.gradient(i)?)?));
        Ok(Self {
            logits,
            activations: activations.collect::<Result<_>>()?,
            losses,
            gradients: gradients.collect::<Result<_>>()?,
        })
    }
}

fn download(x: &Array) -> Result<Matrix> {
    let [rows, cols] = x.shape();
    Ok(Matrix::from_shape_vec((rows, cols), x.download()?)?)
}

#[derive(Deserialize)]
struct Trajectory {
    steps: u64,
    peak_lr: f64,
    betas: (f32, f32),
    eps: f32,
    weight_decay: f64,
    warmup_steps: f64,
    expansion_factor: f64,
    pfrac: f64,
    anneal_start_step: f64,
    anneal_stop_step: f64,
    min_alive: usize,
    trained_positional_embedding: bool,
    log: Vec<Logged>,
}

#[derive(Deserialize)]
struct Logged {
    loss: f64,
    lr: f64,
    pfrac: f64,
    grad_rms: f64,
    nnz: usize,
}

/// Steps until which weights are compared closely; later runs may part at a near-tie of a top-k.
const EARLY: u64 = 10;

fn trajectory(dir: &Path, device: &Device) -> Result<Vec<Figure>> {
    let read = |name| std::fs::read_to_string(dir.join(name)).with_context(|| format!("cannot read {name}"));
    let t: Trajectory = serde_json::from_str(&read("trajectory.json")?).context("trajectory.json")?;
    let file = TensorFile::open(dir.join("trajectory.safetensors"))?;
    let (mut config, _) = Config::from_published(&read("beeg_config.json")?)?;
    if !t.trained_positional_embedding && config.positions == Positions::Added {
        config.positions = Positions::None; // it is zero and stays so
    }
    let params = Params::try_build(&config, |info, [rows, cols]| {
        let value = file.matrix(&format!("init.{}", info.name))?;
        ensure!(value.dim() == (rows, cols), "`init.{}` is {:?}, expected [{rows}, {cols}]", info.name, value.dim());
        Ok(Weight::new(value))
    })?;
    let schedule = Schedule {
        steps: t.steps,
        peak_lr: t.peak_lr,
        warmup_steps: t.warmup_steps,
        adam: (t.betas.0, t.betas.1, t.eps),
        weight_decay: t.weight_decay,
        expansion_factor: t.expansion_factor,
        pfrac: t.pfrac,
        anneal: Anneal::Linear,
        anneal_start: t.anneal_start_step,
        anneal_stop: t.anneal_stop_step,
        sharkfin: true,
        min_per_unit: t.min_alive,
        gradient: openwork_train::GradientMode::Exact,
        dtype: openwork_model::ActivationDtype::F32,
        sparse_biases: false,
    };
    let (ids, shape) = token_ids(&file, "tokens")?;
    let [_, batch, time] = shape[..] else { bail!("`tokens` has shape {shape:?}, expected [step, batch, time]") };

    let mut early_loss = Figure::new("early losses", 1e-4);
    let mut late_loss = Figure::new("late losses", 2e-2);
    let mut schedules = Figure::new("schedules", 1e-6);
    let mut rms = Figure::new("gradient rms", 1e-3);
    let mut nnz = Figure::new("nonzeros", 0.0);
    let mut weights = Figure::new("early weights", 1e-4);
    let mut late_weights = Figure::new("late weights", 5e-2);
    let mut trainer = Trainer::new(Model { config, params, ties: Ties::AsPyTorch }, schedule, 2, 2);
    let mut on_gpu = match device {
        Device::Cpu => None,
        Device::Cuda(gpu) => {
            let shape = BatchShape { seq_len: time, sequences: batch, chunk_sequences: batch };
            // Sparse below a half: both kinds of products have their turn.
            Some(trainer.on_gpu_in(gpu.clone(), shape, 0.5)?)
        }
    };
    for (step, (logged, batch)) in t.log.iter().zip(ids.chunks(batch * time)).enumerate() {
        let report = match &mut on_gpu {
            None => trainer.step(batch, time)?,
            Some(gpu) => {
                let report = gpu.step(batch, time)?;
                gpu.download(&mut trainer)?;
                report
            }
        };
        let at = format!("step {step}");
        let apart = |a: f64, b: f64| (a - b).abs() / b.abs().max(1e-12);
        let early = (step as u64) < EARLY;
        (if early { &mut early_loss } else { &mut late_loss }).add(apart(report.loss_nats, logged.loss), &at);
        schedules.add(apart(report.lr, logged.lr).max(apart(report.pfrac, logged.pfrac)), &at);
        if early {
            rms.add(apart(report.grad_rms, logged.grad_rms), &at);
        }
        nnz.add(report.sparsity.l0.abs_diff(logged.nnz) as f64, &at);
        let done = step as u64 + 1;
        let model = trainer.model();
        for (info, weight) in Params::<()>::infos(&model.config).iter().zip(model.params.values()) {
            let name = format!("step{done}.{}", info.name);
            if file.contains(&name) {
                let error = relative(weight.dense().view(), file.matrix(&name)?.view());
                (if done <= EARLY { &mut weights } else { &mut late_weights }).add(error, &name);
            }
        }
    }
    let mut figures = vec![schedules, early_loss, late_loss, rms, nnz, weights];
    figures.extend(on_gpu.is_none().then_some(late_weights));
    Ok(figures)
}
