//! The published pair: `beeg_config.json` and `final_model.pt`, as the original's `load_model` reads it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::{Path, PathBuf},
};

use openwork_ops::Matrix;
use openwork_tensor::{Dtype, PtFile, Tensor, TensorFile};

use crate::{
    Bigram, Config, LoadError, Model, Params, Positions, SaveError,
    checkpoint::{CONFIG, POSITIONS, as_published, assemble},
};

/// Published names of the embedding and the unembedding: every state dict has one of them at least.
const EMBED: &str = "transformer.wte.weight";
const UNEMBED: &str = "lm_head.weight";

impl Model {
    /// Reads the published pair in `dir`: `beeg_config.json` and `final_model.pt` or `final_model.safetensors`. Also returns
    /// a notice, in words, for everything that it took off, rounded or ignored. `allow_not_finite` takes weights that are
    /// NaN or infinite.
    ///
    /// # Errors
    /// When a file cannot be read, or a tensor is missing or does not fit the configuration.
    pub fn import(dir: impl AsRef<Path>, allow_not_finite: bool) -> Result<(Self, Vec<String>), LoadError> {
        let dir = dir.as_ref();
        let config_path = dir.join(CONFIG);
        let text = openwork_tensor::read_text(&config_path)
            .map_err(|source| LoadError::Io { path: config_path.clone(), source })?;
        let (config, unknown) =
            Config::from_published(&text).map_err(|source| LoadError::Config { path: config_path, source })?;
        let mut notices: Vec<String> =
            unknown.into_iter().map(|key| format!("configuration key `{key}` is unknown and ignored")).collect();

        let weights = StateDict::open(dir)?;
        let prefix = weights.prefix()?;
        let tied = config.tied_unembed;
        let model = assemble(&weights.path, config, allow_not_finite, |name, _| {
            // Writers drop either of two tensors that are shared.
            let name = if tied && name == EMBED && !weights.has(&prefix, EMBED) { UNEMBED } else { name };
            weights.tensor(&prefix, name)
        })?;
        if tied
            && weights.has(&prefix, EMBED)
            && weights.tensor(&prefix, UNEMBED)?.is_some_and(|unembed| {
                unembed.to_f32().is_none_or(|unembed| unembed != model.params.embed.dense().view().into_dyn())
            })
        {
            return Err(LoadError::NotTied { path: weights.path });
        }
        notices.extend(weights.notices(&prefix, &model)?);
        Ok((model, notices))
    }

    /// Writes `beeg_config.json` and `final_model.pt` (all tensors dense, published names) into `dir`, as the original's
    /// `load_model` reads them. Models with attention sinks want its `flash=True`.
    ///
    /// # Errors
    /// When the original has no such model, or a file cannot be written.
    pub fn export(&self, dir: impl AsRef<Path>) -> Result<(), SaveError> {
        let dir = dir.as_ref();
        let config = self.config.to_exported().map_err(SaveError::Config)?;
        std::fs::create_dir_all(dir).map_err(|source| SaveError::Io { path: dir.into(), source })?;
        let mut tensors: BTreeMap<String, Tensor> = Params::<()>::infos(&self.config)
            .into_iter()
            .zip(self.params.values())
            .map(|(info, weight)| (info.name.clone(), as_published(&info, weight.dense())))
            .collect();
        if self.config.tied_unembed {
            // The original loads both, the unembedding last.
            tensors.insert(UNEMBED.into(), self.params.embed.dense().clone().into());
        }
        if self.config.positions == Positions::None {
            // The original always has a position embedding here; zeros are "none".
            let zeros = Matrix::zeros((self.config.n_ctx, self.config.d_model));
            tensors.insert(POSITIONS.into(), zeros.into());
        }
        openwork_tensor::write_pt(dir.join("final_model.pt"), &tensors)?;
        let path = dir.join(CONFIG);
        openwork_tensor::write_atomic(&path, |w| writeln!(w, "{config}"))
            .map_err(|source| SaveError::Io { path, source })
    }
}

/// Tensors of a published folder.
struct StateDict {
    path: PathBuf,
    file: File,
    names: Vec<String>,
}

enum File {
    Pt(PtFile),
    Safetensors(TensorFile),
}

impl StateDict {
    fn open(dir: &Path) -> Result<Self, LoadError> {
        let safetensors = dir.join("final_model.safetensors");
        if safetensors.exists() {
            let file = TensorFile::open(&safetensors)?;
            let names = file.names().map(str::to_owned).collect();
            return Ok(Self { path: safetensors, file: File::Safetensors(file), names });
        }
        let path = dir.join("final_model.pt");
        let file = PtFile::open(&path)?;
        let names = file.names().map(str::to_owned).collect();
        Ok(Self { path, file: File::Pt(file), names })
    }

    /// Beginning of the names of the model's tensors: nothing, or what `torch.compile` (`_orig_mod.`), data-parallel
    /// training (`module.`) or a training script (`model.`) put before them.
    fn prefix(&self) -> Result<String, LoadError> {
        let before = |end: &'static str| self.names.iter().filter_map(move |name| name.strip_suffix(end));
        let prefixes: BTreeSet<&str> = before(EMBED).chain(before(UNEMBED)).collect();
        let mut found = prefixes.iter().map(|&prefix| prefix.to_owned());
        match (found.next(), prefixes.len()) {
            (None, _) => Err(LoadError::NoModel { path: self.path.clone(), names: self.names.clone() }),
            // The plain name sorts first, and is what the original loads.
            (Some(prefix), 1) => Ok(prefix),
            (Some(prefix), _) if prefix.is_empty() => Ok(prefix),
            (Some(prefix), _) => {
                let prefixes = [prefix].into_iter().chain(found).collect();
                Err(LoadError::SeveralModels { path: self.path.clone(), prefixes })
            }
        }
    }

    fn has(&self, prefix: &str, name: &str) -> bool {
        self.names.iter().any(|found| found.strip_prefix(prefix) == Some(name))
    }

    fn tensor(&self, prefix: &str, name: &str) -> Result<Option<Tensor>, LoadError> {
        if !self.has(prefix, name) {
            return Ok(None);
        }
        let name = format!("{prefix}{name}");
        Ok(Some(match &self.file {
            File::Pt(file) => file.tensor(&name)?,
            File::Safetensors(file) => file.tensor(&name)?,
        }))
    }

    /// Everything in the file that is not in the model as it lies there.
    fn notices(&self, prefix: &str, model: &Model) -> Result<Vec<String>, LoadError> {
        let path = self.path.display();
        let mut notices = vec![];
        if !prefix.is_empty() {
            notices.push(format!("`{prefix}` is taken off the names of the tensors in {path}"));
        }
        let infos = Params::<()>::infos(&model.config);
        let mut known: BTreeSet<String> = infos.into_iter().map(|info| format!("{prefix}{}", info.name)).collect();
        if model.config.tied_unembed {
            known.insert(format!("{prefix}{UNEMBED}"));
        }
        let (known, others): (Vec<&String>, Vec<&String>) = self.names.iter().partition(|name| known.contains(*name));
        let rounded = known.iter().map(|name| self.tensor("", name)).collect::<Result<Vec<_>, _>>()?;
        let rounded = rounded.iter().flatten().filter(|tensor| tensor.dtype() == Dtype::F64).count();
        if rounded > 0 {
            notices.push(format!("{rounded} tensors in {path} have 64-bit floats and are rounded to 32 bits"));
        }
        let contradicts = of_another_configuration(&model.config);
        let own = |name: &&String| name.strip_prefix(prefix).is_some_and(&contradicts);
        let names: Vec<String> = others.iter().copied().filter(own).cloned().collect();
        if !names.is_empty() {
            return Err(LoadError::Contradicts { path: self.path.clone(), names });
        }
        if !others.is_empty() {
            let shown: Vec<String> = others.iter().take(5).map(|name| format!("`{name}`")).collect();
            let more = if others.len() > 5 { ", .." } else { "" };
            notices.push(format!(
                "{} tensors in {path} have no place in this model and are ignored: {}{more}",
                others.len(),
                shown.join(", ")
            ));
        }
        if let File::Pt(file) = &self.file {
            notices.extend(file.skipped().iter().map(|name| {
                format!("a dictionary `{name}` in {path} has keys that are neither text nor numbers; they are skipped")
            }));
        }
        Ok(notices)
    }
}

/// The names of tensors that models of the same kind have under some configuration, in any number of layers.
fn of_another_configuration(config: &Config) -> impl Fn(&str) -> bool {
    let in_any_layer = |name: &str| match name.strip_prefix("transformer.h.").and_then(|rest| rest.split_once('.')) {
        Some((layer, tail)) if layer.bytes().all(|b| b.is_ascii_digit()) => format!("transformer.h.*.{tail}"),
        _ => name.to_owned(),
    };
    let all = |positions| Config {
        n_layer: 1,
        norm_bias: true,
        linear_bias: true,
        positions,
        sink: true,
        bigram: Bigram::Learned,
        tied_unembed: false,
        ..config.clone()
    };
    let positions = [Positions::Added, Positions::Concat { width: 1 }];
    let infos = positions.into_iter().flat_map(move |positions| Params::<()>::infos(&all(positions)));
    let names: BTreeSet<String> = infos.map(|info| in_any_layer(&info.name)).collect();
    move |name| names.contains(&in_any_layer(name))
}

#[cfg(test)]
mod tests;
