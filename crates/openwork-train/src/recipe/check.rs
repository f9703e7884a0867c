//! Values of a recipe that make sense.

use openwork_model::{Config, Params, Role};

use super::{File, GradientName, PositionsName, Recipe};
use crate::Rule;

/// Sizes are below it: products of three of them are far from 128 bits, and no memory holds one that large.
const MOST: usize = 1 << 31;
/// Most parameters of a model.
const MOST_PARAMETERS: u128 = 1 << 40;
/// Most tokens of a step.
const MOST_TOKENS: u128 = 1 << 28;

/// A value without sense.
pub(super) struct Fault {
    pub key: &'static str,
    pub reason: String,
}

type Check = Result<(), Fault>;

/// A number as a person writes it: digits where they are few, and else a power of ten.
fn shown(x: f64) -> String {
    match x.abs() {
        size if size == 0.0 || (1e-4..1e6).contains(&size) || !size.is_finite() => x.to_string(),
        _ => format!("{x:e}"),
    }
}

/// `Err` with the key and its value unless `holds`.
fn ensure(holds: bool, key: &'static str, value: impl std::fmt::Display, right: impl std::fmt::Display) -> Check {
    if holds { Ok(()) } else { Err(Fault { key, reason: format!("is {value}; {right}") }) }
}

/// Checks every number of a file, alone and beside the others.
pub(super) fn ranges(file: &File) -> Check {
    let File { model, batch, optimizer, sparsity, run, .. } = file;
    for (key, size, least) in [
        ("model.n_ctx", model.n_ctx, 2),
        ("model.n_layer", model.n_layer, 1),
        ("model.n_head", model.n_head, 1),
        ("model.d_head", model.d_head, 1),
        ("model.d_model", model.d_model, 1),
        ("model.d_mlp", model.d_mlp, 1),
        ("model.position_channels", model.position_channels, 0),
        ("batch.sequences", batch.sequences, 1),
        ("batch.chunk_sequences", batch.chunk_sequences, 1),
        ("sparsity.min_per_unit", sparsity.min_per_unit, 0),
        ("sparsity.refresh_every", usize::try_from(sparsity.refresh_every).unwrap_or(usize::MAX), 0),
        ("run.validation_sequences", run.validation_sequences, 1),
    ] {
        ensure((least..MOST).contains(&size), key, size, format_args!("it has to be from {least} to below {MOST}"))?;
    }
    let context = model.n_ctx;
    let right = format!("it has to be at most {}", Config::MOST_CONTEXT);
    ensure(context <= Config::MOST_CONTEXT, "model.n_ctx", context, right)?;
    let vocabulary = (2..=1 << 16).contains(&model.vocab_size);
    ensure(vocabulary, "model.vocab_size", model.vocab_size, "it has to be from 2 to 65536: tokens are 16 bits wide")?;
    ensure((1..=4096).contains(&batch.lanes), "batch.lanes", batch.lanes, "it has to be at least 1 and at most 4096")?;
    for (key, steps) in [
        ("optimizer.steps", optimizer.steps),
        ("run.validation_every", run.validation_every),
        ("run.checkpoint_every", run.checkpoint_every),
    ] {
        ensure(steps > 0, key, steps, "it has to be at least 1")?;
    }
    for (key, fraction) in [
        ("optimizer.warmup_fraction", optimizer.warmup_fraction),
        ("sparsity.anneal_start", sparsity.anneal_start),
        ("sparsity.anneal_stop", sparsity.anneal_stop),
    ] {
        ensure((0.0..=1.0).contains(&fraction), key, shown(fraction), "it is a fraction of the run, from 0 to 1")?;
    }
    for (key, fraction) in [
        ("optimizer.beta1", f64::from(optimizer.beta1)),
        ("optimizer.beta2", f64::from(optimizer.beta2)),
        ("sparsity.regrow", sparsity.regrow),
    ] {
        ensure((0.0..1.0).contains(&fraction), key, shown(fraction), "it has to be from 0 to below 1")?;
    }
    for (key, number) in [
        ("optimizer.peak_lr", optimizer.peak_lr),
        ("optimizer.eps", f64::from(optimizer.eps)),
        ("sparsity.expansion_factor", sparsity.expansion_factor),
    ] {
        ensure(number > 0.0 && number <= 1000.0, key, shown(number), "it has to be above 0 and at most 1000")?;
    }
    together(file)
}

/// Checks keys beside each other.
fn together(file: &File) -> Check {
    let File { model, batch, optimizer, sparsity, .. } = file;
    let right = format!("batch.sequences is {}, of which a chunk is a part", batch.sequences);
    ensure(batch.chunk_sequences <= batch.sequences, "batch.chunk_sequences", batch.chunk_sequences, right)?;
    let decay = optimizer.weight_decay;
    let right = "it has to be at least 0, and below 1 / optimizer.peak_lr: more turns weights around";
    ensure(decay >= 0.0 && decay * optimizer.peak_lr < 1.0, "optimizer.weight_decay", shown(decay), right)?;
    let right = format!("sparsity.anneal_start is {}, after which it lies", sparsity.anneal_start);
    let in_order = sparsity.anneal_start <= sparsity.anneal_stop;
    ensure(in_order, "sparsity.anneal_stop", sparsity.anneal_stop, right)?;
    let dense = sparsity.expansion_factor * sparsity.expansion_factor;
    let right = format!("it has to be above 0 and at most expansion_factor² = {dense}");
    ensure(sparsity.pfrac > 0.0 && sparsity.pfrac <= dense, "sparsity.pfrac", shown(sparsity.pfrac), right)?;
    let density = model.act_density;
    ensure(density > 0.0 && density <= 1.0, "model.act_density", shown(density), "it has to be above 0 and at most 1")?;
    for (key, value) in
        [("sparsity.refresh_every", sparsity.refresh_every as f64), ("sparsity.regrow", sparsity.regrow)]
    {
        let exact = sparsity.gradient == GradientName::Exact;
        ensure(!exact || value == 0.0, key, value, "moves belong to gradient = \"support\"; with \"exact\" it is 0")?;
    }
    let both = (sparsity.refresh_every == 0) == (sparsity.regrow == 0.0);
    let right = format!("sparsity.refresh_every is {}: both are positive, or both 0 for never", sparsity.refresh_every);
    ensure(both, "sparsity.regrow", sparsity.regrow, right)?;
    let concatenated = matches!(model.positions, PositionsName::Concat | PositionsName::Sinusoidal);
    let right = "it is positive for concat and sinusoidal positions, and else 0";
    let fits = concatenated == (model.position_channels > 0);
    ensure(fits, "model.position_channels", model.position_channels, right)
}

/// Checks what the numbers make together: a model that computes something, and that a machine can hold.
pub(super) fn sizes(recipe: &Recipe) -> Check {
    let Recipe { config, schedule, batch_sequences, .. } = recipe;
    config.check().map_err(|error| {
        let fraction = config.act_density.as_ref().map_or(1.0, |density| density.fraction);
        Fault { key: "model.act_density", reason: format!("is {}: {error}", shown(fraction)) }
    })?;
    let parameters = config.n_parameters();
    let right =
        format!("with the other sizes it makes {parameters} parameters; at most {MOST_PARAMETERS} can be trained");
    // The size that a smaller one is wanted of.
    let (key, size) = [
        ("model.n_layer", config.n_layer),
        ("model.n_head", config.n_head),
        ("model.d_head", config.d_head),
        ("model.d_model", config.d_model),
        ("model.d_mlp", config.d_mlp),
        ("model.n_ctx", config.n_ctx),
    ]
    .into_iter()
    .max_by_key(|(_, size)| *size)
    .expect("there are sizes");
    ensure(parameters <= MOST_PARAMETERS, key, size, right)?;
    let tokens = *batch_sequences as u128 * config.n_ctx as u128;
    let right = format!("with n_ctx = {} it makes {tokens} tokens in a step; at most {MOST_TOKENS}", config.n_ctx);
    let longest = if config.n_ctx > *batch_sequences { "model.n_ctx" } else { "batch.sequences" };
    ensure(tokens <= MOST_TOKENS, longest, config.n_ctx.max(*batch_sequences), right)?;
    let right = "tokens of the run are beyond 63 bits";
    ensure(tokens * u128::from(schedule.steps) < 1 << 63, "optimizer.steps", schedule.steps, right)?;
    keeps_something(recipe)
}

/// Checks that no matrix and no embedding is left without an entry at the end.
fn keeps_something(recipe: &Recipe) -> Check {
    let (config, schedule) = (&recipe.config, &recipe.schedule);
    let one = Config { n_layer: 1, ..config.clone() };
    let mut empty = None;
    Params::build(&one, |info, shape| {
        let rule = Rule::of(info.role, shape, true, schedule, schedule.steps);
        if info.role != Role::Bias && rule.is_some_and(|rule| rule.nnz == 0) {
            empty.get_or_insert_with(|| (info.name.clone(), shape));
        }
    });
    match empty {
        None => Ok(()),
        Some((name, [rows, cols])) => {
            let reason =
                format!("is {}; it keeps no entry of `{name}` ({rows} x {cols}) at the end", shown(schedule.pfrac));
            Err(Fault { key: "sparsity.pfrac", reason })
        }
    }
}
