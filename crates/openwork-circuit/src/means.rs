//! Mean activation of every node over training data: the values of mean ablation.
//!
//! Source: Gao et al. 2025, §2.2: the mean over the *pretraining* distribution, over all tokens. Means over
//! the task's own prompts would leak the task.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path};

use openwork_model::{Matrix, Model, Site, Tap, Tokens};
use openwork_tensor::{Tensor, TensorFile, WriteError, ensure_finite};
use rayon::prelude::*;

use crate::NodeSpace;

const FORMAT: &str = "openwork-means 2";

/// Mean value of every node, the data that it is taken over, and in sequences of which length.
#[derive(Clone, Debug, PartialEq)]
pub struct Means {
    values: Vec<f32>,
    n_tokens: u64,
    data_sha256: String,
    seq_len: usize,
}

/// Errors of reading means.
#[derive(Debug, thiserror::Error)]
pub enum MeansError {
    /// The file.
    #[error(transparent)]
    Read(#[from] openwork_tensor::ReadError),
    /// The file is not a means file or belongs to another model.
    #[error("{path} does not hold this model's means: {reason}")]
    Other {
        /// The file.
        path: String,
        /// The fault.
        reason: String,
    },
}

impl Means {
    /// Means over `tokens`, whole sequences of `seq_len`. Sums are f64 and added in a fixed order.
    pub fn compute(model: &Model, tokens: &[u16], seq_len: usize) -> Self {
        let space = NodeSpace::new(&model.config);
        let sums: Vec<Vec<f64>> = tokens
            .par_chunks(seq_len)
            .map(|sequence| {
                let mut tap = Sum { space: &space, sums: vec![0.0; space.len()] };
                model.forward(Tokens::new(sequence, seq_len), Some(&[0]), &mut tap);
                tap.sums
            })
            .collect();
        let mut total = vec![0.0; space.len()];
        for sums in sums {
            total.iter_mut().zip(sums).for_each(|(t, s)| *t += s);
        }
        let n_tokens = tokens.len() as u64;
        let values = total.into_iter().map(|t| (t / n_tokens as f64) as f32).collect();
        Self { values, n_tokens, seq_len, data_sha256: data_sha256(tokens, seq_len) }
    }

    /// Mean of every node by number.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Tokens the means are taken over.
    pub fn n_tokens(&self) -> u64 {
        self.n_tokens
    }

    /// Hash of the data that they are taken over ([`data_sha256`]).
    pub fn data_sha256(&self) -> &str {
        &self.data_sha256
    }

    /// Tokens of a sequence that they are taken over.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// SHA-256 of the values: the means hash of circuit files.
    pub fn sha256(&self) -> String {
        let bytes: Vec<u8> = self.values.iter().flat_map(|v| v.to_le_bytes()).collect();
        openwork_tensor::sha256_bytes(&bytes)
    }

    /// Writes the means of the model with this hash, atomically.
    ///
    /// # Errors
    /// When the file cannot be written, or a mean is not finite.
    pub fn save(&self, path: &Path, model_sha256: &str) -> Result<(), WriteError> {
        let means = Tensor::from(ndarray::Array1::from(self.values.clone()));
        ensure_finite(&means, "means").map_err(|source| WriteError::NotFinite { path: path.to_owned(), source })?;
        let tensors = BTreeMap::from([("means".to_owned(), means)]);
        let metadata = [
            ("format", FORMAT.to_owned()),
            ("model_sha256", model_sha256.to_owned()),
            ("n_tokens", self.n_tokens.to_string()),
            ("data_sha256", self.data_sha256.clone()),
            ("seq_len", self.seq_len.to_string()),
            ("means_sha256", self.sha256()),
        ];
        openwork_tensor::write(path, &tensors, &metadata.map(|(k, v)| (k.to_owned(), v)).into())
    }

    /// Reads the means of the model with this hash.
    pub fn load(path: &Path, model: &Model, model_sha256: &str) -> Result<Self, MeansError> {
        let file = TensorFile::open(path)?;
        let other = |reason: String| MeansError::Other { path: path.display().to_string(), reason };
        let metadata = |key: &str| file.metadata().get(key).map_or("", String::as_str);
        if metadata("format") != FORMAT {
            let found = metadata("format");
            return Err(other(format!(
                "its format is {found:?}, expected {FORMAT:?}; without the file they are taken again"
            )));
        }
        if metadata("model_sha256") != model_sha256 {
            return Err(other(format!("they were taken on model {}", metadata("model_sha256"))));
        }
        let values: Vec<f32> = file.f32("means")?.into_iter().collect();
        let expected = NodeSpace::new(&model.config).len();
        if values.len() != expected || !values.iter().all(|v| v.is_finite()) {
            return Err(other(format!("{} values, expected {expected} finite ones", values.len())));
        }
        let n_tokens = metadata("n_tokens").parse().map_err(|_| other("no token count".into()))?;
        let data_sha256 = metadata("data_sha256").to_owned();
        let seq_len = metadata("seq_len").parse().map_err(|_| other("its sequence length is no number".into()))?;
        let means = Self { values, n_tokens, seq_len, data_sha256 };
        match metadata("means_sha256") {
            recorded if recorded == means.sha256() => Ok(means),
            recorded => {
                Err(other(format!("they are damaged: SHA-256 {}, and the file records {recorded}", means.sha256())))
            }
        }
    }
}

/// SHA-256 of tokens and the length of their sequences, each a little-endian number of 2 and of 8 bytes.
pub fn data_sha256(tokens: &[u16], seq_len: usize) -> String {
    let bytes: Vec<u8> = tokens.iter().flat_map(|t| t.to_le_bytes()).chain((seq_len as u64).to_le_bytes()).collect();
    openwork_tensor::sha256_bytes(&bytes)
}

struct Sum<'a> {
    space: &'a NodeSpace,
    sums: Vec<f64>,
}

impl Tap for Sum<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        let Some(range) = self.space.range(site) else { return ControlFlow::Continue(()) };
        for (sum, row) in self.sums[range].iter_mut().zip(value.rows()) {
            *sum += row.iter().map(|&x| f64::from(x)).sum::<f64>();
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use openwork_model::{Config, Record};

    use super::*;

    #[test]
    fn means_match_recorded_values_and_survive_the_file() {
        let model = Model::init(Config { vocab_size: 40, ..Config::default() }, 1);
        let tokens: Vec<u16> = (0..60).map(|t| t * t % 40).collect();
        let means = Means::compute(&model, &tokens, 20);
        let mut record = Record::default();
        model.forward(Tokens::new(&tokens, 20), None, &mut record);
        let space = NodeSpace::new(&model.config);
        for (site, value) in &record.values {
            let Some(range) = space.range(*site) else { continue };
            for (mean, row) in means.values()[range].iter().zip(value.rows()) {
                assert!((mean - row.mean().unwrap()).abs() < 1e-6, "{site}");
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("means.safetensors");
        means.save(&path, "abc").unwrap();
        assert_eq!(Means::load(&path, &model, "abc").unwrap(), means);
        assert_eq!(means.data_sha256(), data_sha256(&tokens, 20));
        assert_ne!(means.data_sha256(), data_sha256(&tokens, 10));
        assert!(Means::load(&path, &model, "abd").unwrap_err().to_string().contains("model abc"));
    }
}
