//! Identity of a model: a hash of its configuration and weights, whatever file or encoding they lie in.

use std::{collections::BTreeMap, fmt::Write as _};

use openwork_tensor::{canonical_json, sha256_bytes};

use crate::{Matrix, Model, Params, checkpoint::POSITIONS};

impl Model {
    /// Hash of the model by content, in lower-case hexadecimal: the name that means, circuits, verdicts and certificates
    /// give it. Files of the same configuration and weights have the same hash, whether tensors are dense or sparse there.
    ///
    /// It is the SHA-256 of these lines, each with a line feed: `config JSON`, the published configuration as JSON with
    /// sorted keys and without spaces; then for every tensor, in the order of their published names,
    /// `tensor NAME DIM .. HASH`, with the SHA-256 of its nonzero entries in row-major order: position (u64) and value
    /// (f32), both little-endian. A position embedding of zeros has no line: [`Model::export`] writes one for models
    /// without positions.
    pub fn sha256(&self) -> String {
        let config = canonical_json(&self.config.to_published()).expect("a configuration is JSON");
        let infos = Params::<()>::infos(&self.config);
        let tensors: BTreeMap<String, String> = infos
            .into_iter()
            .zip(self.params.values())
            .filter(|(info, weight)| info.name != POSITIONS || weight.dense().iter().any(|&x| x != 0.0))
            .map(|(info, weight)| {
                let (rows, cols) = weight.dense().dim();
                let shape = if info.n_dim == 1 { rows.to_string() } else { format!("{rows} {cols}") };
                (info.name, format!("{shape} {}", nonzeros_sha256(weight.dense())))
            })
            .collect();
        let mut text = format!("config {config}\n");
        for (name, rest) in tensors {
            writeln!(text, "tensor {name} {rest}").expect("a String can be written to");
        }
        sha256_bytes(text.as_bytes())
    }
}

fn nonzeros_sha256(value: &Matrix) -> String {
    let mut bytes = Vec::new();
    for (position, x) in value.iter().enumerate().filter(|(_, x)| **x != 0.0) {
        bytes.extend((position as u64).to_le_bytes());
        bytes.extend(x.to_le_bytes());
    }
    sha256_bytes(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Positions};

    fn model(positions: Positions) -> Model {
        let config = Config { vocab_size: 24, n_ctx: 8, n_layer: 1, positions, ..Config::default() };
        let mut model = Model::init(config, 1);
        // Few enough nonzeros for the sparse encoding, and a zero with a sign, which that does not keep.
        model.params.blocks[0].fc.weight.update(|w| {
            w.iter_mut().skip(1).for_each(|x| *x = 0.0);
            w[[3, 3]] = -0.0;
        });
        assert!(model.params.blocks[0].fc.weight.csr().is_some());
        model
    }

    #[test]
    fn saving_exporting_and_importing_keep_the_hash() {
        for positions in [Positions::None, Positions::Added, Positions::Concat { width: 4 }] {
            let (dir, model) = (tempfile::tempdir().unwrap(), model(positions));
            let path = dir.path().join("model.safetensors");
            model.save(&path, &BTreeMap::from([("tokenizer_sha256".to_owned(), "abc".to_owned())])).unwrap();
            assert_eq!(Model::load(&path).unwrap().sha256, model.sha256());
            // Dense, in another file, with the configuration beside it.
            let published = dir.path().join("published");
            model.export(&published).unwrap();
            let (imported, notices) = Model::import(&published, false).unwrap();
            assert_eq!((imported.sha256(), notices), (model.sha256(), vec![]));
            // And saved again.
            imported.save(&path, &BTreeMap::new()).unwrap();
            assert_eq!(Model::load(&path).unwrap().sha256, model.sha256());
        }
    }

    #[test]
    fn another_weight_place_or_setting_is_another_model() {
        let model = model(Positions::None);
        let mut hashes = vec![model.sha256()];
        let mut change = |f: &dyn Fn(&mut Model)| {
            let mut other = model.clone();
            f(&mut other);
            hashes.push(other.sha256());
        };
        change(&|m| m.params.blocks[0].fc.weight.update(|w| w[[0, 0]] += 0.5));
        change(&|m| m.params.blocks[0].fc.weight.update(|w| w.swap([0, 0], [0, 1])));
        change(&|m| m.params.embed.update(|w| w[[0, 0]] = 0.0));
        change(&|m| m.config.act_density = None);
        let distinct: std::collections::BTreeSet<&String> = hashes.iter().collect();
        assert_eq!(distinct.len(), 5);
    }
}
