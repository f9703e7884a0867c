//! Models on disk: our own file, and what it has in common with the published one (`exchange.rs`).
//!
//! Our file is an ordinary safetensors file under the published tensor names; sparse matrices are in the
//! CSR encoding of `openwork-tensor`, the configuration is in the metadata key `config`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ndarray::Ix2;
use openwork_ops::{Matrix, Ties, Weight};
use openwork_tensor::{CsrTensor, Tensor, TensorFile, WriteError, ensure_finite, f16};

use crate::{Config, ConfigError, Model, ParamInfo, Params, Positions, Role};

/// Value of the metadata key `format`.
const FORMAT: &str = "openwork-model 1";

/// Metadata of a model file whose weights may be NaN or infinite, because somebody asked for that: key and value.
pub const WITH_NOT_FINITE: (&str, &str) = ("not_finite", "allowed");

/// Metadata of a model file: hash of the model by content.
const OWN_SHA256: &str = "model_sha256";

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
    /// True if the file records this hash, so that damage to it would have been noticed.
    pub hash_recorded: bool,
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
    #[error(
        "tensor `{name}` in {} holds {value} at {index:?}; `openwork import --allow-not-finite` takes such weights, which \
         seldom mean anything", path.display()
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Index of the first such value.
        index: Vec<usize>,
        /// The value.
        value: f32,
    },
    /// The model is not the one that was written.
    #[error("{} is damaged: it holds model {found}, and records {recorded}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Hash that is recorded.
        recorded: String,
        /// Hash of what is there.
        found: String,
    },
    /// A weight stands twice in the file.
    #[error("tensor `{name}` in {} stands there in two forms, dense and sparse; keep one", path.display())]
    TwoForms {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor of a model file is none of the model's.
    #[error("tensor `{name}` in {} has no place in the model that its configuration describes", path.display())]
    NoPlace {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// No tensor of the file has a name of a model's.
    #[error(
        "{} has no tensor whose name ends in `transformer.wte.weight`, so that it holds no model of the published code; \
         the first of its {} names are {}", path.display(), names.len(), first(names)
    )]
    NoModel {
        /// The file.
        path: PathBuf,
        /// Names in the file.
        names: Vec<String>,
    },
    /// The configuration says that the model has none of these tensors.
    #[error(
        "{} has {}, and by {CONFIG} the model has no such tensors: correct the configuration, or save the weights without them",
        path.display(), first(names)
    )]
    Contradicts {
        /// The file.
        path: PathBuf,
        /// Names in the file.
        names: Vec<String>,
    },
    /// Names of tensors begin in several ways.
    #[error(
        "{} holds several models, whose names begin with {}; save one of them alone", path.display(), first(prefixes)
    )]
    SeveralModels {
        /// The file.
        path: PathBuf,
        /// Beginnings of names.
        prefixes: Vec<String>,
    },
    /// The unembedding is not there, and the configuration says that it is not the embedding.
    #[error(
        "{} has no tensor `lm_head.weight`. Writers drop one of two tensors that are shared: if the model is tied, set \
         \"tied_unembed\": true in {CONFIG}", path.display()
    )]
    Tied {
        /// The file.
        path: PathBuf,
    },
    /// The unembedding is said to be the embedding, and is not.
    #[error(
        "{}: `lm_head.weight` differs from `transformer.wte.weight`, and {CONFIG} says \"tied_unembed\": true (which is the \
         default); set it to false if the model is not tied", path.display()
    )]
    NotTied {
        /// The file.
        path: PathBuf,
    },
}

/// Ends of the names of the four arrays of a sparse matrix.
const ARRAYS: [&str; 4] = [".csr.shape", ".csr.row_ptr", ".csr.col_idx", ".csr.values"];

/// The published configuration's file name.
pub(crate) const CONFIG: &str = "beeg_config.json";

/// A few names.
fn first(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    shown.join(", ") + if names.len() > SHOWN { ", .." } else { "" }
}

/// Reason that a model could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError {
    /// The tensors.
    #[error(transparent)]
    Tensor(#[from] openwork_tensor::WriteError),
    /// The configuration makes no model, or none that the original code has.
    #[error("the model cannot be written")]
    Config(#[source] ConfigError),
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
    /// A bigram table all of whose values are half-precision numbers ([`Model::round_bigram`]) takes two bytes a value.
    ///
    /// # Errors
    /// When the file cannot be written, or holds what [`Model::load`] would refuse: weights that are not finite (unless
    /// `metadata` has [`WITH_NOT_FINITE`]), or a configuration without sense. An earlier one at `path` stays.
    pub fn save(&self, path: impl AsRef<Path>, metadata: &BTreeMap<String, String>) -> Result<(), SaveError> {
        let (mut dense, mut sparse) = (BTreeMap::new(), BTreeMap::new());
        for (info, weight) in Params::<()>::infos(&self.config).into_iter().zip(self.params.values()) {
            match weight.csr() {
                Some(_) => drop(sparse.insert(info.name, CsrTensor::from_dense(weight.dense().view()))),
                None => {
                    let tensor = as_published(&info, weight.dense());
                    let tensor = if info.role == Role::Bigram { in_half_if_exact(tensor) } else { tensor };
                    dense.insert(info.name, tensor);
                }
            }
        }
        let mut metadata = metadata.clone();
        let (path, config) = (path.as_ref(), self.config.to_published());
        self.config.check().and_then(|()| Config::from_published(&config).map(drop)).map_err(SaveError::Config)?;
        if !allows_not_finite(&metadata) {
            for (name, tensor) in &dense {
                ensure_finite(tensor, name)
                    .map_err(|source| WriteError::NotFinite { path: path.to_owned(), source })?;
            }
            if let Some((name, tensor)) = sparse.iter().find(|(_, tensor)| !tensor.values.iter().all(|x| x.is_finite()))
            {
                let values = Tensor::from(ndarray::Array1::from(tensor.values.clone()));
                ensure_finite(&values, name)
                    .map_err(|source| WriteError::NotFinite { path: path.to_owned(), source })?;
            }
        }
        metadata.insert("format".into(), FORMAT.into());
        metadata.insert("config".into(), config);
        metadata.insert(OWN_SHA256.into(), self.sha256());
        Ok(openwork_tensor::write_with_csr(path, &dense, &sparse, &metadata)?)
    }

    /// Rounds the bigram table to half precision (IEEE binary16, to nearest, ties to even): vocab × vocab values, most of a small
    /// model's file, which [`Model::save`] then writes in half as many bytes. Another model, with another hash.
    pub fn round_bigram(&mut self) {
        if let Some(table) = &mut self.params.bigram {
            table.update(|values| values.mapv_inplace(|x| f16::from_f32(x).to_f32()));
        }
    }

    /// Reads a model that [`Model::save`] wrote.
    ///
    /// # Errors
    /// When the file cannot be read, is not such a file, or has a tensor that does not fit its configuration, or holds NaN
    /// or infinity and is not marked [`WITH_NOT_FINITE`].
    pub fn load(path: impl AsRef<Path>) -> Result<Loaded, LoadError> {
        let path = path.as_ref();
        let file = TensorFile::open(path)?;
        let mut metadata = file.metadata().clone();
        let found = metadata.remove("format");
        if found.as_deref() != Some(FORMAT) {
            return Err(LoadError::Format { path: path.into(), found });
        }
        let recorded = metadata.remove(OWN_SHA256);
        let config = metadata.remove("config").unwrap_or_default();
        let (config, _) =
            Config::from_published(&config).map_err(|source| LoadError::Config { path: path.into(), source })?;
        let allow_not_finite = allows_not_finite(&metadata);
        let model = assemble(path, config, allow_not_finite, |name, expected| {
            let sparse = ARRAYS.iter().any(|end| file.contains(&format!("{name}{end}")));
            Ok(match (sparse, file.contains(name)) {
                (true, true) => return Err(LoadError::TwoForms { path: path.into(), name: name.into() }),
                (true, false) => {
                    // A few bytes can claim any number of columns: compared before they are filled with zeros.
                    let sparse = file.csr(name)?;
                    let found = vec![sparse.rows, sparse.cols];
                    if found != expected {
                        let (name, expected) = (name.into(), expected.to_vec());
                        return Err(LoadError::Shape { path: path.into(), name, found, expected });
                    }
                    Some(Tensor::from(sparse.to_dense()))
                }
                (false, true) => Some(file.tensor(name)?),
                (false, false) => None,
            })
        })?;
        let infos = Params::<()>::infos(&model.config);
        let own = |name: &str| {
            let is_part = |end: &str| end.is_empty() || ARRAYS.contains(&end);
            infos.iter().any(|info| name.strip_prefix(&info.name).is_some_and(is_part))
        };
        if let Some(name) = file.names().find(|name| !own(name)) {
            return Err(LoadError::NoPlace { path: path.into(), name: name.into() });
        }
        let sha256 = model.sha256();
        let hash_recorded = recorded.is_some();
        match recorded {
            Some(recorded) if recorded != sha256 => {
                Err(LoadError::Damaged { path: path.into(), recorded, found: sha256 })
            }
            _ => Ok(Loaded { sha256, model, metadata, hash_recorded }),
        }
    }
}

/// True if somebody asked for weights that are not finite.
fn allows_not_finite(metadata: &BTreeMap<String, String>) -> bool {
    metadata.get(WITH_NOT_FINITE.0).is_some_and(|value| value == WITH_NOT_FINITE.1)
}

/// A vector has one dimension in the published files.
pub(crate) fn as_published(info: &ParamInfo, value: &Matrix) -> Tensor {
    match info.n_dim {
        1 => value.column(0).to_owned().into(),
        _ => value.clone().into(),
    }
}

/// The same numbers in half precision, where every one is one.
fn in_half_if_exact(tensor: Tensor) -> Tensor {
    match &tensor {
        Tensor::F32(values) if values.iter().all(|&x| f16::from_f32(x).to_f32().to_bits() == x.to_bits()) => {
            values.mapv(f16::from_f32).into()
        }
        _ => tensor,
    }
}

/// Builds a model from named tensors; `get` is told the shape that the configuration asks for, and returns `None` for a
/// tensor that is not there.
pub(crate) fn assemble(
    path: &Path,
    mut config: Config,
    allow_not_finite: bool,
    get: impl Fn(&str, &[usize]) -> Result<Option<Tensor>, LoadError>,
) -> Result<Model, LoadError> {
    if config.positions == Positions::Added && get(POSITIONS, &[config.n_ctx, config.d_model])?.is_none() {
        config.positions = Positions::None;
    }
    let params = Params::try_build(&config, |info, [rows, cols]| {
        let name = || info.name.clone();
        let expected = if info.n_dim == 1 { vec![rows] } else { vec![rows, cols] };
        let Some(tensor) = get(&info.name, &expected)? else {
            // The published loader adds a missing logits bias, and older files have none.
            return match info.role {
                Role::LogitsBias => Ok(Weight::new(Matrix::zeros((rows, cols)))),
                Role::Unembed => Err(LoadError::Tied { path: path.into() }),
                _ => Err(LoadError::Missing { path: path.into(), name: name() }),
            };
        };
        let found = tensor.shape().to_vec();
        let value = tensor.to_f32().filter(|_| found == expected).ok_or_else(|| LoadError::Shape {
            path: path.into(),
            name: name(),
            found: found.clone(),
            expected: expected.clone(),
        })?;
        if !allow_not_finite && let Some((index, value)) = value.indexed_iter().find(|(_, x)| !x.is_finite()) {
            let index = ndarray::Dimension::slice(&index).to_vec();
            return Err(LoadError::NotFinite { path: path.into(), name: name(), index, value: *value });
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
            // A bit of a weight: still a sound file, and another model.
            let mut bytes = std::fs::read(&path).unwrap();
            let last = bytes.len() - 40;
            bytes[last] ^= 1;
            let damaged = dir.path().join("damaged.safetensors");
            std::fs::write(&damaged, bytes).unwrap();
            assert!(Model::load(&damaged).is_err());

            let out = dir.path().join("published");
            model.export(&out).unwrap();
            let (imported, notices) = Model::import(&out, false).unwrap();
            assert_eq!(notices, Vec::<String>::new());
            if model.config.positions != Positions::None {
                same(&imported, &model);
            }
            let forward = |m: &Model| m.forward(crate::Tokens::new(&[1, 5, 9, 2], 4), None, &mut crate::NoTap).logits;
            assert_eq!(forward(&imported), forward(&model));
        }
    }

    #[test]
    fn a_rounded_bigram_table_takes_half_the_bytes_and_is_read_exactly() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { bigram: Bigram::Learned, vocab_size: 64, ..small() };
        let mut model = Model::init(config, 1);
        let mut rng = 1_u32;
        model.params.bigram.as_mut().unwrap().update(|table| {
            table.mapv_inplace(|_| {
                rng = rng.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (rng >> 8) as f32 / 1e6 - 8.0
            });
        });
        let size = |model: &Model| {
            let path = dir.path().join("model.safetensors");
            model.save(&path, &BTreeMap::new()).unwrap();
            same(&Model::load(&path).unwrap().model, model);
            std::fs::metadata(&path).unwrap().len()
        };
        let before = size(&model);
        let mut rounded = model.clone();
        rounded.round_bigram();
        assert_ne!(rounded.sha256(), model.sha256());
        assert!(before - size(&rounded) >= 64 * 64 * 2, "two bytes a value less");
        let [a, b] = [&model, &rounded].map(|model| model.params.bigram.as_ref().unwrap().dense().clone());
        // Ten bits of fraction: off by at most 2^-11 of the value.
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= a.abs() / 2048.0 + 1e-7));
        let again = rounded.sha256();
        rounded.round_bigram();
        assert_eq!(rounded.sha256(), again);
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
        let error = Model::import(&out, false).err().unwrap().to_string();
        assert!(error.contains("mlp.c_fc.weight") && error.contains("[16, 8]") && error.contains("[17, 8]"), "{error}");
    }
}
