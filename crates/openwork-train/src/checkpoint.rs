//! A training checkpoint: weights, both moments and the step, in one safetensors file written atomically.
//!
//! The position in the data and every later random choice are functions of the recipe's seed and the step,
//! so this is the complete state: a resumed run is bit-identical to one that never stopped.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use openwork_model::{Matrix, Model, Params, Ties, Weight};
use openwork_tensor::{DIGEST_KEY, DigestError, ReadError, Tensor, TensorFile, WriteError};

use crate::{Recipe, Trainer, recipe::canonical_recipe};

const FORMAT: &str = "openwork-checkpoint 2";

/// Reason that a checkpoint could not be written or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// It cannot be written (a full disk, for example); an earlier one is untouched.
    #[error("the checkpoint could not be written; an earlier one is kept")]
    Write(#[from] WriteError),
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its contents are not those that were written.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// It belongs to another run.
    #[error("{} was made with another {what}; resume with the same one, or train into a new folder", path.display())]
    OtherRun {
        /// The file.
        path: PathBuf,
        /// "recipe" or "data set".
        what: &'static str,
    },
    /// Something in it has the wrong form.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Fault that was found.
        reason: String,
    },
}

/// Writes the state of `trainer`.
pub(crate) fn save(path: &Path, trainer: &Trainer, recipe: &Recipe, data: &str) -> Result<(), CheckpointError> {
    let mut tensors = BTreeMap::new();
    let (model, moments) = (trainer.model(), trainer.moments());
    let (m, v) = (moments.0.values(), moments.1.values());
    let infos = Params::<()>::infos(&model.config);
    for (((info, weight), m), v) in infos.iter().zip(model.params.values()).zip(m).zip(v) {
        tensors.insert(format!("weight.{}", info.name), Tensor::from(weight.dense().clone()));
        tensors.insert(format!("moment1.{}", info.name), Tensor::from(m.clone()));
        tensors.insert(format!("moment2.{}", info.name), Tensor::from(v.clone()));
    }
    for (name, tensor) in &tensors {
        openwork_tensor::ensure_finite(tensor, name)
            .map_err(|source| WriteError::NotFinite { path: path.to_owned(), source })?;
    }
    let metadata = [
        ("format", FORMAT.to_owned()),
        ("step", trainer.step_count().to_string()),
        ("recipe", recipe.text.clone()),
        ("data", data.to_owned()),
    ];
    let mut metadata: BTreeMap<_, _> = metadata.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    metadata.insert(DIGEST_KEY.to_owned(), openwork_tensor::digest(&tensors, &metadata));
    Ok(openwork_tensor::write(path, &tensors, &metadata)?)
}

/// Contents of a checkpoint that say what it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Steps done.
    pub step: u64,
    /// Text of the recipe.
    pub recipe: String,
}

/// Checks that a checkpoint holds what was written.
///
/// # Errors
/// It cannot be read, is of another format, or is damaged.
pub fn check_checkpoint(path: &Path) -> Result<CheckpointInfo, CheckpointError> {
    let file = checked(path)?;
    let text = |key: &str| file.metadata().get(key).cloned().unwrap_or_default();
    let damaged = |reason: String| CheckpointError::Damaged { path: path.into(), reason };
    let step = text("step").parse().map_err(|_| damaged(format!("its step is `{}`", text("step"))))?;
    Ok(CheckpointInfo { step, recipe: text("recipe") })
}

/// Opens a checkpoint and compares its contents with the digest in it.
fn checked(path: &Path) -> Result<TensorFile, CheckpointError> {
    let file = TensorFile::open(path)?;
    let found = file.metadata().get("format").cloned().unwrap_or_default();
    if found != FORMAT {
        let reason = format!("its format is `{found}`, expected `{FORMAT}`: train anew into another folder");
        return Err(CheckpointError::Damaged { path: path.into(), reason });
    }
    openwork_tensor::check_digest(&file)?;
    Ok(file)
}

/// Rebuilds the trainer that [`save`] was given.
pub(crate) fn load(path: &Path, recipe: &Recipe, data: &str) -> Result<Trainer, CheckpointError> {
    let file = checked(path)?;
    let damaged = |reason: String| CheckpointError::Damaged { path: path.into(), reason };
    let metadata = |key: &str| file.metadata().get(key).map_or("", String::as_str);
    let other = |what| CheckpointError::OtherRun { path: path.into(), what };
    if canonical_recipe(metadata("recipe")) != Some(recipe.canonical()) {
        return Err(other("recipe"));
    }
    if metadata("data") != data {
        return Err(other("data set"));
    }
    let step = metadata("step").parse().map_err(|_| damaged(format!("its step is `{}`", metadata("step"))))?;
    let tree = |prefix: &str| {
        Params::try_build(&recipe.config, |info, [rows, cols]| {
            let name = format!("{prefix}.{}", info.name);
            let value: Matrix = file.matrix(&name)?;
            match value.dim() == (rows, cols) {
                true => Ok(value),
                false => Err(damaged(format!("`{name}` is {:?}, expected [{rows}, {cols}]", value.dim()))),
            }
        })
    };
    let mut weights = tree("weight")?.into_values().into_iter();
    let params = Params::build(&recipe.config, |_, _| Weight::new(weights.next().expect("same tree")));
    let model = Model { config: recipe.config.clone(), params, ties: Ties::ByIndex };
    let mut trainer = Trainer::new(model, recipe.schedule.clone(), recipe.lanes, recipe.chunk_sequences);
    trainer.resume(step, (tree("moment1")?, tree("moment2")?));
    Ok(trainer)
}
