//! The loader of models and the checker against each other on damaged and doctored files: both read the same network or
//! both refuse, or a certificate would be about another network than the one that runs.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use openwork_model::{ActDensity, Bigram, Config, Model, NoTap, NormKind, Positions, SiteKind, Tokens};
use rand::{RngExt, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use crate::{random_model, rng};

/// A safetensors file, taken apart.
#[derive(Clone)]
struct Parts {
    metadata: Map<String, Value>,
    /// Name, type, shape and bytes of every tensor.
    tensors: Vec<(String, String, Vec<u64>, Vec<u8>)>,
}

impl Parts {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let Value::Object(mut header) = serde_json::from_slice(&bytes[8..8 + length]).unwrap() else { panic!() };
        let Some(Value::Object(metadata)) = header.remove("__metadata__") else { panic!("metadata") };
        let data = &bytes[8 + length..];
        let tensor = |(name, info): (String, Value)| {
            let number = |v: &Value| v.as_u64().unwrap();
            let [from, to] = [0, 1].map(|i| number(&info["data_offsets"][i]) as usize);
            let shape = info["shape"].as_array().unwrap().iter().map(number).collect();
            (name, info["dtype"].as_str().unwrap().to_owned(), shape, data[from..to].to_vec())
        };
        Self { metadata, tensors: header.into_iter().map(tensor).collect() }
    }

    fn write(&self, path: &Path) {
        let (mut header, mut data) = (Map::new(), Vec::new());
        header.insert("__metadata__".into(), Value::Object(self.metadata.clone()));
        for (name, dtype, shape, bytes) in &self.tensors {
            let from = data.len();
            data.extend(bytes);
            header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [from, data.len()]}));
        }
        let mut header = serde_json::to_vec(&header).unwrap();
        header.resize(header.len().next_multiple_of(8), b' ');
        let length = (header.len() as u64).to_le_bytes();
        std::fs::write(path, [&length[..], &header, &data].concat()).unwrap();
    }

    /// True if a weight is so large that its square, which norms take, overflows f32: the network as it runs is another one than in
    /// exact arithmetic, whoever reads it.
    fn overflows(&self) -> bool {
        let is_large = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap()).abs() > 1e12;
        self.tensors.iter().any(|(_, dtype, _, bytes)| dtype == "F32" && bytes.chunks_exact(4).any(is_large))
    }

    /// Changes an entry of the configuration.
    fn configure(&mut self, change: impl FnOnce(&mut Map<String, Value>)) {
        let Value::Object(mut config) = serde_json::from_str(self.metadata["config"].as_str().unwrap()).unwrap() else {
            panic!("a configuration");
        };
        change(&mut config);
        self.metadata.insert("config".into(), Value::Object(config).to_string().into());
    }

    /// One random change.
    fn mutate(&mut self, rng: &mut ChaCha8Rng) {
        let at = rng.random_range(0..self.tensors.len());
        let other = self.tensors[rng.random_range(0..self.tensors.len())].clone();
        match rng.random_range(0..14) {
            0 => drop(self.tensors.remove(at)),
            1 => self.tensors[at].0 += ["2", ".csr.values", ".bias", ""][rng.random_range(0..4)],
            2 => self.tensors.push((format!("{}.csr.shape", other.0), other.1, other.2, other.3)),
            3 => self.tensors.push((other.0.replace(".h.0.", ".h.00."), other.1, other.2, other.3)),
            4 => {
                let bare = other.0.split(".csr.").next().unwrap().to_owned();
                self.tensors.push((bare, "F32".into(), vec![other.3.len() as u64 / 4], other.3));
            }
            5 => {
                self.tensors[at].1 = ["F32", "F16", "BF16", "I64", "U16", "F64", "I32"].choose(rng).unwrap().to_string()
            }
            6 => self.tensors[at].2.reverse(),
            7 => self.tensors[at].2.push(1),
            8 => {
                let bytes = &mut self.tensors[at].3;
                if !bytes.is_empty() {
                    let i = rng.random_range(0..bytes.len());
                    bytes[i] = rng.random_range(0..=255);
                }
            }
            9 => {
                let bytes = &mut self.tensors[at].3;
                if bytes.len() >= 4 {
                    let i = rng.random_range(0..bytes.len() / 4) * 4;
                    let value = [f32::NAN, f32::INFINITY, 1e30, -0.0, 0.0][rng.random_range(0..5)];
                    bytes[i..i + 4].copy_from_slice(&value.to_le_bytes());
                }
            }
            10 => self.configure(|config| {
                let keys: Vec<String> = config.keys().cloned().collect();
                config.remove(keys.choose(rng).unwrap());
            }),
            11 | 12 => self.configure(|config| {
                let keys: Vec<String> = config.keys().cloned().collect();
                let values = [
                    json!(null),
                    json!(true),
                    json!(false),
                    json!(0),
                    json!(1),
                    json!(2),
                    json!(3),
                    json!(-1),
                    json!(0.5),
                    json!(1.5),
                    json!(1_u64 << 40),
                    json!("gelu"),
                    json!("relu"),
                    json!("identity"),
                    json!(""),
                    json!("attn_in,mlp_neuron"),
                    json!("none"),
                    json!({}),
                ];
                config.insert(keys.choose(rng).unwrap().clone(), values.choose(rng).unwrap().clone());
            }),
            _ => self.configure(|config| {
                let keys =
                    ["afrac", "afrac_loctypes", "tied_unembed", "sink", "norm", "n_mlp", "n_embd", "extra", "ln_bias"];
                config.insert(
                    (*keys.choose(rng).unwrap()).into(),
                    [json!(null), json!(true), json!(0.3), json!(""), json!(7)][rng.random_range(0..5)].clone(),
                );
            }),
        }
    }
}

/// Logits of a file by the loader and by the checker; an error where it refuses.
fn both(path: &Path, prompt: &[u16]) -> [Result<Vec<f64>, String>; 2] {
    let quiet = |name: &str, f: &mut dyn FnMut() -> Result<Vec<f64>, String>| {
        catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| panic!("{name} panics"))
    };
    let loaded = quiet("the loader", &mut || {
        let causes =
            |e: openwork_model::LoadError| format!("{e} {:?}", std::error::Error::source(&e).map(ToString::to_string));
        let model = Model::load(path).map_err(causes)?.model;
        let fits =
            prompt.len() <= model.config.n_ctx && prompt.iter().all(|&t| usize::from(t) < model.config.vocab_size);
        if !fits {
            return Err("the prompt".into());
        }
        let pass = model.forward(Tokens::new(prompt, prompt.len()), Some(&[prompt.len() - 1]), &mut NoTap);
        Ok(pass.logits.column(0).iter().map(|&x| f64::from(x)).collect())
    });
    let wide: Vec<usize> = prompt.iter().map(|&t| usize::from(t)).collect();
    let checked = quiet("the checker", &mut || openwork_check::logits(path, &wide, &[]).map_err(|e| e.to_string()));
    [loaded, checked]
}

/// True if two sets of logits are one network's, up to rounding; what overflows f32 says nothing.
fn same(a: &[f64], b: &[f64]) -> bool {
    let size = b.iter().fold(1.0_f64, |m, x| m.max(x.abs()));
    a.len() == b.len() && (size > 1e6 || a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-3 * size || !a.is_finite()))
}

#[test]
fn loader_and_checker_read_the_same_network_or_both_refuse() {
    let config = |positions, norm, act_density, tied_unembed| Config {
        vocab_size: 7,
        n_ctx: 4,
        n_layer: 2,
        n_head: 2,
        d_head: 2,
        d_model: 6,
        d_mlp: 5,
        positions,
        norm,
        act_density,
        bigram: if tied_unembed { Bigram::None } else { Bigram::Learned },
        sink: !tied_unembed,
        tied_unembed,
        ..Config::default()
    };
    let some = ActDensity { fraction: 0.5, sites: vec![SiteKind::AttnRead, SiteKind::Neuron] };
    let configs = [
        config(Positions::Added, NormKind::Rms, Some(some), false),
        config(Positions::Concat { width: 3 }, NormKind::Layer, Some(ActDensity::everywhere(0.5)), false),
        config(Positions::None, NormKind::None, None, true),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let mut rng = rng(11);
    let (mut read, mut refused, mut differ) = (0, 0, Vec::new());
    for config in configs {
        let mut model = random_model(config, &mut rng);
        // A matrix that is written sparse.
        model.params.blocks[0].proj.weight.update(|w| w.slice_mut(ndarray::s![1.., ..]).fill(0.0));
        model.save(&path, &BTreeMap::new()).unwrap();
        let whole = Parts::read(&path);
        let [Ok(a), Ok(b)] = both(&path, &[1, 5, 2]) else { panic!("the whole file is read") };
        assert!(same(&a, &b));
        for case in 0..700 {
            let mut parts = whole.clone();
            // The recorded hash would refuse nearly all of them; a forger leaves it out.
            parts.metadata.retain(|key, _| key == "format" || key == "config");
            (0..rng.random_range(1..3)).for_each(|_| parts.mutate(&mut rng));
            parts.write(&path);
            match both(&path, &[1, 5, 2]) {
                [Ok(loaded), Ok(checked)] => {
                    if !parts.overflows() && !same(&loaded, &checked) {
                        differ.push(format!("case {case}: {loaded:?}, {checked:?}\n{:?}", parts.metadata));
                    }
                    read += 1;
                }
                [Err(_), Err(_)] => refused += 1,
                [Ok(_), Err(e)] => {
                    differ.push(format!("case {case}: only the checker refuses: {e}\n{:?}", parts.metadata))
                }
                [Err(e), Ok(_)] => {
                    differ.push(format!("case {case}: only the loader refuses: {e}\n{:?}", parts.metadata))
                }
            }
        }
    }
    assert!(differ.is_empty(), "{} differences:\n{}", differ.len(), differ.join("\n"));
    assert!(read > 200 && refused > 500, "{read} were read and {refused} refused");
}

#[test]
fn a_weight_in_two_forms_and_a_tensor_without_a_place_are_refused_by_both() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let config = Config { vocab_size: 7, n_ctx: 4, n_layer: 1, d_model: 8, d_mlp: 8, ..Config::default() };
    let mut model = random_model(config, &mut rng(3));
    model.params.blocks[0].proj.weight.update(|w| w.slice_mut(ndarray::s![1.., ..]).fill(0.0));
    model.save(&path, &BTreeMap::new()).unwrap();
    let whole = Parts::read(&path);
    let name = "transformer.h.0.mlp.c_proj.weight";
    assert!(whole.tensors.iter().any(|t| t.0 == format!("{name}.csr.values")), "it is written sparse");
    let (mut twice, mut stray) = (whole.clone(), whole);
    twice.tensors.push((name.into(), "F32".into(), vec![8, 8], vec![0; 256]));
    stray.tensors.push(("transformer.h.0.attn.extra".into(), "F32".into(), vec![1], vec![0; 4]));
    for (parts, words) in [(twice, "two forms"), (stray, "no place")] {
        parts.write(&path);
        for said in both(&path, &[1, 2]) {
            assert!(said.as_ref().is_err_and(|e| e.contains(words)), "{words}: {said:?}");
        }
    }
}
