//! Models on disk: our own file, and the published pair of `beeg_config.json` and a state dict.
//!
//! Our file is an ordinary safetensors file under the published tensor names; sparse matrices are in the
//! CSR encoding of `openwork-tensor`, the configuration is in the metadata key `config`.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

use ndarray::Ix2;
use openwork_ops::{Matrix, Ties, Weight};
use openwork_tensor::{CsrTensor, PtFile, Tensor, TensorFile};

use crate::{Config, ConfigError, Model, ParamInfo, Params, Positions, Role};

/// Value of the metadata key `format`.
const FORMAT: &str = "openwork-model 1";

/// Published name of the position embedding.
pub(crate) const POSITIONS: &str = "transformer.wpe.weight";

/// A model read from disk.
pub struct Loaded {
    /// The model.
    pub model: Model,
    /// Metadata of the file other than its format and configuration.
    pub metadata: BTreeMap<String, String>,
    /// Hash of the model by content ([`Model::sha256`]).
    pub sha256: String,
}

/// Reason that a model could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The safetensors file is damaged or lacks a tensor.
    #[error(transparent)]
    Tensor(#[from] openwork_tensor::ReadError),
    /// The PyTorch checkpoint is damaged or holds something else than plain tensors.
    #[error(transparent)]
    Pt(#[from] openwork_tensor::PtError),
    /// The configuration cannot be used.
    #[error("{}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Fault that was found.
        source: ConfigError,
    },
    /// Not a model file of ours.
    #[error("{} is not an Openwork model: its metadata says format {}, expected `{FORMAT}`; \
             a published checkpoint folder goes through `openwork import`", path.display(), found.as_deref().unwrap_or("none"))]
    Format {
        /// The file.
        path: PathBuf,
        /// The format it names.
        found: Option<String>,
    },
    /// A tensor is missing.
    #[error("{} has no tensor `{name}`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor does not fit the configuration.
    #[error("tensor `{name}` in {} is {found:?}, the configuration asks for {expected:?}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape the configuration asks for.
        expected: Vec<usize>,
    },
    /// A tensor holds NaN or infinity.
    #[error("tensor `{name}` in {} has values that are not finite", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
}

/// Reason that a model could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The tensors.
    #[error(transparent)]
    Tensor(#[from] openwork_tensor::WriteError),
    /// Another file.
    #[error("cannot write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
}

impl Model {
    /// Writes the model to one file, atomically. `metadata` travels along (the tokenizer's hash, for example).
    ///
    /// # Errors
    /// When the file cannot be written; an earlier one at `path` stays.
    pub fn save(&self, path: impl AsRef<Path>, metadata: &BTreeMap<String, String>) -> Result<(), SaveError> {
        let (mut dense, mut sparse) = (BTreeMap::new(), BTreeMap::new());
        for (info, weight) in Params::<()>::infos(&self.config).into_iter().zip(self.params.values()) {
            match weight.csr() {
                Some(_) => drop(sparse.insert(info.name, CsrTensor::from_dense(weight.dense().view()))),
                None => drop(dense.insert(info.name.clone(), as_published(&info, weight.dense()))),
            }
        }
        let mut metadata = metadata.clone();
        metadata.insert("format".into(), FORMAT.into());
        metadata.insert("config".into(), self.config.to_published());
        Ok(openwork_tensor::write_with_csr(path, &dense, &sparse, &metadata)?)
    }

    /// Reads a model that [`Model::save`] wrote.
    ///
    /// # Errors
    /// When the file cannot be read, is not such a file, or has a tensor that does not fit its configuration or holds NaN
    /// or infinity.
    pub fn load(path: impl AsRef<Path>) -> Result<Loaded, LoadError> {
        let path = path.as_ref();
        let file = TensorFile::open(path)?;
        let mut metadata = file.metadata().clone();
        let found = metadata.remove("format");
        if found.as_deref() != Some(FORMAT) {
            return Err(LoadError::Format { path: path.into(), found });
        }
        let config = metadata.remove("config").unwrap_or_default();
        let (config, _) =
            Config::from_published(&config).map_err(|source| LoadError::Config { path: path.into(), source })?;
        let model = assemble(path, config, |name| {
            Ok(match (file.is_csr(name), file.contains(name)) {
                (true, _) => Some(Tensor::from(file.csr(name)?.to_dense())),
                (false, true) => Some(file.tensor(name)?),
                (false, false) => None,
            })
        })?;
        Ok(Loaded { sha256: model.sha256(), model, metadata })
    }

    /// Reads the published pair: `beeg_config.json` and `final_model.pt` (or `final_model.safetensors`, as
    /// [`Model::export`] writes) in `dir`. Also returns a notice, in words, for every key and tensor that it ignored.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn import(dir: impl AsRef<Path>) -> Result<(Self, Vec<String>), LoadError> {
        let dir = dir.as_ref();
        let config_path = dir.join("beeg_config.json");
        let text = openwork_tensor::read_text(&config_path)
            .map_err(|source| LoadError::Io { path: config_path.clone(), source })?;
        let (config, unknown) =
            Config::from_published(&text).map_err(|source| LoadError::Config { path: config_path, source })?;
        let mut notices: Vec<String> =
            unknown.into_iter().map(|key| format!("configuration key `{key}` is unknown and ignored")).collect();

        let exported = dir.join("final_model.safetensors");
        let (path, names, model);
        if exported.exists() {
            let file = TensorFile::open(&exported)?;
            names = file.names().map(str::to_owned).collect::<Vec<_>>();
            model =
                assemble(
                    &exported,
                    config,
                    |name| {
                        if file.contains(name) { Ok(Some(file.tensor(name)?)) } else { Ok(None) }
                    },
                )?;
            path = exported;
        } else {
            path = dir.join("final_model.pt");
            let file = PtFile::open(&path)?;
            names = file.names().map(|n| n.to_string()).collect::<Vec<_>>();
            model = assemble(&path, config, |name| match names.iter().any(|n| n == name) {
                true => Ok(Some(file.tensor(name)?)),
                false => Ok(None),
            })?;
        }
        let known: Vec<String> = Params::<()>::infos(&model.config).into_iter().map(|i| i.name).collect();
        for name in names.iter().filter(|n| !known.contains(n)) {
            notices.push(format!("tensor `{name}` in {} has no place in this model and is ignored", path.display()));
        }
        Ok((model, notices))
    }

    /// Writes `beeg_config.json` and `final_model.safetensors` (all tensors dense, published names) into `dir`:
    /// `model.load_state_dict(safetensors.torch.load_file(..), strict=False)` loads them into the original code.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn export(&self, dir: impl AsRef<Path>) -> Result<(), SaveError> {
        let dir = dir.as_ref();
        std::fs::create_dir_all(dir).map_err(|source| SaveError::Io { path: dir.into(), source })?;
        let mut tensors: BTreeMap<String, Tensor> = Params::<()>::infos(&self.config)
            .into_iter()
            .zip(self.params.values())
            .map(|(info, weight)| (info.name.clone(), as_published(&info, weight.dense())))
            .collect();
        if self.config.positions == Positions::None {
            // The original always has a position embedding here; zeros are "none".
            let zeros = Matrix::zeros((self.config.n_ctx, self.config.d_model));
            tensors.insert(POSITIONS.into(), zeros.into());
        }
        openwork_tensor::write(dir.join("final_model.safetensors"), &tensors, &BTreeMap::new())?;
        let path = dir.join("beeg_config.json");
        openwork_tensor::write_atomic(&path, |w| writeln!(w, "{}", self.config.to_published()))
            .map_err(|source| SaveError::Io { path, source })
    }
}

/// A vector has one dimension in the published files.
fn as_published(info: &ParamInfo, value: &Matrix) -> Tensor {
    match info.n_dim {
        1 => value.column(0).to_owned().into(),
        _ => value.clone().into(),
    }
}

/// Builds a model from named tensors; `get` returns `None` for a tensor that is not there.
fn assemble(
    path: &Path,
    mut config: Config,
    get: impl Fn(&str) -> Result<Option<Tensor>, LoadError>,
) -> Result<Model, LoadError> {
    if config.positions == Positions::Added && get(POSITIONS)?.is_none() {
        config.positions = Positions::None;
    }
    let params = Params::try_build(&config, |info, [rows, cols]| {
        let name = || info.name.clone();
        let Some(tensor) = get(&info.name)? else {
            // The published loader adds a missing logits bias, and older files have none.
            return match info.role {
                Role::LogitsBias => Ok(Weight::new(Matrix::zeros((rows, cols)))),
                _ => Err(LoadError::Missing { path: path.into(), name: name() }),
            };
        };
        let found = tensor.shape().to_vec();
        let expected = if info.n_dim == 1 { vec![rows] } else { vec![rows, cols] };
        let value = tensor.to_f32().filter(|_| found == expected).ok_or_else(|| LoadError::Shape {
            path: path.into(),
            name: name(),
            found: found.clone(),
            expected: expected.clone(),
        })?;
        if !value.iter().all(|x| x.is_finite()) {
            return Err(LoadError::NotFinite { path: path.into(), name: name() });
        }
        let value = value.into_shape_with_order((rows, cols)).expect("checked above");
        Ok(Weight::new(value.into_dimensionality::<Ix2>().expect("two dimensions")))
    })?;
    Ok(Model { config, params, ties: Ties::ByIndex })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ActDensity, Bigram};

    fn small() -> Config {
        Config {
            vocab_size: 24,
            n_ctx: 8,
            n_layer: 1,
            n_head: 2,
            d_head: 4,
            d_model: 8,
            d_mlp: 16,
            ..Config::default()
        }
    }

    fn same(a: &Model, b: &Model) {
        assert_eq!(a.config, b.config);
        for (a, b) in a.params.values().into_iter().zip(b.params.values()) {
            assert_eq!(a.dense(), b.dense());
        }
    }

    #[test]
    fn save_load_export_import_are_exact() {
        let dir = tempfile::tempdir().unwrap();
        let everything = Config {
            positions: Positions::Concat { width: 4 },
            norm: crate::NormKind::Layer,
            sink: true,
            bigram: Bigram::Fixed,
            act_density: Some(ActDensity::everywhere(0.5)),
            tied_unembed: true,
            ..small()
        };
        for config in [small(), everything] {
            let mut model = Model::init(config, 1);
            model.params.blocks[0].fc.weight.update(|w| w.iter_mut().skip(1).step_by(2).for_each(|x| *x = 0.0));
            model.params.blocks[0].proj.weight.update(|w| w.slice_mut(ndarray::s![.., 2..]).fill(0.0));
            assert!(model.params.blocks[0].proj.weight.csr().is_some());
            let path = dir.path().join("model.safetensors");
            let metadata = BTreeMap::from([("tokenizer_sha256".to_owned(), "abc".to_owned())]);
            model.save(&path, &metadata).unwrap();
            let loaded = Model::load(&path).unwrap();
            assert_eq!(loaded.metadata, metadata);
            same(&loaded.model, &model);

            let out = dir.path().join("published");
            model.export(&out).unwrap();
            let (imported, notices) = Model::import(&out).unwrap();
            assert_eq!(notices, Vec::<String>::new());
            if model.config.positions != Positions::None {
                same(&imported, &model);
            }
            let forward = |m: &Model| m.forward(crate::Tokens::new(&[1, 5, 9, 2], 4), None, &mut crate::NoTap).logits;
            assert_eq!(forward(&imported), forward(&model));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other.safetensors");
        openwork_tensor::write(&path, &BTreeMap::new(), &BTreeMap::new()).unwrap();
        assert!(Model::load(&path).err().unwrap().to_string().contains("is not an Openwork model"));

        let out = dir.path().join("published");
        Model::init(small(), 1).export(&out).unwrap();
        let config = std::fs::read_to_string(out.join("beeg_config.json")).unwrap();
        std::fs::write(out.join("beeg_config.json"), config.replace("\"d_mlp\": 16", "\"d_mlp\": 17")).unwrap();
        let error = Model::import(&out).err().unwrap().to_string();
        assert!(error.contains("mlp.c_fc.weight") && error.contains("[16, 8]") && error.contains("[17, 8]"), "{error}");
    }
}
