//! Reads a model file: safetensors with the configuration in its metadata, sparse matrices as four arrays.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Reason that a model file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The system cannot read the file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file is not safetensors.
    #[error(transparent)]
    Header(#[from] safetensors::SafeTensorError),
    /// The file has another format, or none.
    #[error("its metadata does not say format \"openwork-model 1\"")]
    Format,
    /// There is no configuration.
    #[error("its metadata has no `config`")]
    NoConfig,
    /// The configuration is not JSON.
    #[error("its configuration: {0}")]
    Config(#[from] serde_json::Error),
    /// A size is missing or out of range.
    #[error("its configuration needs a positive whole number `{key}`")]
    Size { key: String },
    /// An entry of the configuration has a value that the checker does not know.
    #[error("`{key}` is {found}, expected {expected}")]
    Entry { key: &'static str, found: String, expected: &'static str },
    /// The residual stream has an activation.
    #[error("`residual_activation_type` is not identity")]
    ResidualActivation,
    /// The density of activations is no fraction.
    #[error("`afrac` is not a number above 0 and up to 1 that keeps an entry at every site")]
    Density,
    /// A tensor is missing.
    #[error("it has no tensor `{name}`")]
    NoTensor { name: String },
    /// A tensor has another shape or type, or numbers that are not finite.
    #[error("tensor `{name}` is not a matrix of {rows} x {cols} finite f32")]
    Tensor { name: String, rows: usize, cols: usize },
    /// A tensor is there twice, as dense numbers and as nonzeros.
    #[error("tensor `{name}` is there in two forms, dense and sparse: which of them is meant?")]
    TwoForms { name: String },
    /// The file records another hash than its contents have.
    #[error("it is damaged: it holds model {found}, and records {recorded}")]
    Damaged { recorded: String, found: String },
    /// A tensor has no place in the model.
    #[error("tensor `{name}` has no place in a model of this configuration")]
    NoPlace { name: String },
    /// The file is larger than any model that can be checked.
    #[error("it has {bytes} bytes, and the checker reads {most} at most")]
    TooLarge { bytes: u64, most: u64 },
    /// A tensor is neither a vector nor a matrix.
    #[error("tensor `{name}` has {count} dimensions")]
    Dimensions { name: String, count: usize },
}

/// A matrix as the nonzeros of its rows.
pub struct Sparse(pub Vec<Vec<(usize, f64)>>);

/// Weights and bias of a linear layer.
pub struct Linear {
    pub weight: Sparse,
    pub bias: Option<Vec<f64>>,
}

/// Gain and bias of a norm.
pub struct Norm {
    pub gain: Vec<f64>,
    pub bias: Option<Vec<f64>>,
}

pub struct Block {
    pub attn_norm: Norm,
    pub attn_pos_norm: Option<Norm>,
    pub qkv: Linear,
    pub sink: Option<Vec<f64>>,
    pub attn_out: Linear,
    pub mlp_norm: Norm,
    pub mlp_pos_norm: Option<Norm>,
    pub fc: Linear,
    pub proj: Linear,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum NormKind {
    /// x / √(mean x² + 2⁻²³)
    Rms,
    /// (x − mean) / √(variance + 1e-5)
    Layer,
    /// x
    None,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Activation {
    /// x Φ(x)
    Gelu,
    /// max(x, 0)
    Relu,
}

/// The eight kinds of node, in the order of a block, as nodes name them and as `afrac_loctypes` does.
pub const KINDS: [(&str, &str); 8] = [
    ("attn.act_in", "attn_in"),
    ("attn.q", "attn_q"),
    ("attn.k", "attn_k"),
    ("attn.v", "attn_v"),
    ("attn.resid_delta", "attn_out"),
    ("mlp.act_in", "mlp_in"),
    ("mlp.post_act", "mlp_neuron"),
    ("mlp.resid_delta", "mlp_out"),
];

/// A model in f64.
pub struct Model {
    pub sha256: String,
    pub vocab: usize,
    pub n_ctx: usize,
    pub n_head: usize,
    pub d_head: usize,
    pub norm: NormKind,
    pub activation: Activation,
    /// Width of every kind of node.
    pub widths: [usize; 8],
    /// Number of entries that AbsTopK keeps at every kind of node.
    pub top_k: [Option<usize>; 8],
    /// Token embeddings, a row a token.
    pub embed: Sparse,
    /// Position vectors, a row a position, and whether they are added (else they lie beside the stream).
    pub position: Option<(Sparse, bool)>,
    pub blocks: Vec<Block>,
    pub final_norm: Norm,
    /// `None`: the embedding.
    pub unembed: Option<Sparse>,
    pub bigram: Option<Sparse>,
    pub logits_bias: Option<Vec<f64>>,
}

impl Model {
    /// Width of the residual stream.
    pub fn d_model(&self) -> usize {
        self.widths[4]
    }

    /// Number of the first node of a kind in a layer; nodes are numbered in the order of the forward pass.
    pub fn first_node(&self, layer: usize, kind: usize) -> usize {
        layer * self.widths.iter().sum::<usize>() + self.widths[..kind].iter().sum::<usize>()
    }

    /// Number of nodes.
    pub fn nodes(&self) -> usize {
        self.first_node(self.blocks.len(), 0)
    }

    /// Number of a node by its name, such as `2.mlp.post_act[118]`.
    pub fn node(&self, name: &str) -> Option<usize> {
        let (site, index) = name.strip_suffix(']')?.split_once('[')?;
        let (layer, kind) = site.split_once('.')?;
        let (layer, index): (usize, usize) = (layer.parse().ok()?, index.parse().ok()?);
        let kind = KINDS.iter().position(|k| k.0 == kind)?;
        (layer < self.blocks.len() && index < self.widths[kind]).then(|| self.first_node(layer, kind) + index)
    }

    /// Nonzero weights between the nodes of a circuit: its edges, of each block those of the four matrices.
    pub fn edges(&self, kept: &[bool]) -> usize {
        let count = |w: &Sparse, first_row: usize, (from, to): (usize, usize), rows: usize| {
            let row = |r: usize| w.0[first_row + r].iter().filter(|e| e.1 != 0.0 && kept[from + e.0]).count();
            (0..rows).filter(|&r| kept[to + r]).map(row).sum::<usize>()
        };
        let of_block = |(layer, block): (usize, &Block)| {
            let at = |kind: usize| self.first_node(layer, kind);
            let width = self.widths[1];
            let qkv = |part: usize| count(&block.qkv.weight, part * width, (at(0), at(1 + part)), width);
            (0..3).map(qkv).sum::<usize>()
                + count(&block.attn_out.weight, 0, (at(3), at(4)), self.widths[4])
                + count(&block.fc.weight, 0, (at(5), at(6)), self.widths[6])
                + count(&block.proj.weight, 0, (at(6), at(7)), self.widths[7])
        };
        self.blocks.iter().enumerate().map(of_block).sum()
    }

    /// Multiplications that one token of a forward pass takes, about.
    pub fn work(&self) -> u64 {
        let nonzeros = |w: &Sparse| w.0.iter().map(Vec::len).sum::<usize>();
        let block =
            |b: &Block| [&b.qkv, &b.attn_out, &b.fc, &b.proj].iter().map(|l| nonzeros(&l.weight)).sum::<usize>();
        let table = self.unembed.as_ref().unwrap_or(&self.embed);
        let attention = 2 * self.widths[1] * self.n_ctx * self.blocks.len();
        (self.blocks.iter().map(block).sum::<usize>() + nonzeros(table) + self.nodes() + attention) as u64
    }

    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, ModelError> {
        let bytes = std::fs::metadata(path)?.len();
        if bytes > MOST_BYTES {
            return Err(ModelError::TooLarge { bytes, most: MOST_BYTES });
        }
        let bytes = std::fs::read(path)?;
        let (_, header) = SafeTensors::read_metadata(&bytes)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        if metadata.get("format").map(String::as_str) != Some("openwork-model 1") {
            return Err(ModelError::Format);
        }
        let file = SafeTensors::deserialize(&bytes)?;
        let config = metadata.get("config").ok_or(ModelError::NoConfig)?;
        let model = build(&file, config)?;
        let sha256 = content_sha256(&file, config)?;
        match metadata.get("model_sha256") {
            Some(recorded) if *recorded != sha256 => {
                Err(ModelError::Damaged { recorded: recorded.clone(), found: sha256 })
            }
            _ => Ok(Self { sha256, ..model }),
        }
    }
}

/// Largest model file, in bytes: a network of this size takes days to check.
const MOST_BYTES: u64 = 4 << 30;

/// Most weights of a model, dense ones, that a configuration may ask for.
const MOST_WEIGHTS: usize = 1 << 30;

/// Keys of the configuration, with the defaults of absent ones.
struct Config(Map<String, Value>);

impl Config {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|v| !v.is_null())
    }

    fn size(&self, key: &str) -> Result<usize, ModelError> {
        let size = self.get(key).and_then(Value::as_u64).filter(|&n| n > 0 && n < 1 << 31);
        size.map(|n| n as usize).ok_or_else(|| ModelError::Size { key: key.into() })
    }

    fn flag(&self, key: &'static str, default: bool) -> Result<bool, ModelError> {
        let wrong = |v: &Value| ModelError::Entry { key, found: v.to_string(), expected: "a boolean" };
        self.get(key).map_or(Ok(default), |v| v.as_bool().ok_or_else(|| wrong(v)))
    }

    fn text(&self, key: &'static str, default: &'static str) -> Result<&str, ModelError> {
        let wrong = |v: &Value| ModelError::Entry { key, found: v.to_string(), expected: "a text" };
        self.get(key).map_or(Ok(default), |v| v.as_str().ok_or_else(|| wrong(v)))
    }

    /// A size that has a limit of its own.
    fn size_up_to(&self, key: &'static str, most: usize, expected: &'static str) -> Result<usize, ModelError> {
        let size = self.size(key)?;
        let found = size.to_string();
        if size <= most { Ok(size) } else { Err(ModelError::Entry { key, found, expected }) }
    }

    fn d_head(&self, d: usize, n_head: usize) -> Result<usize, ModelError> {
        if self.get("d_head").is_some() {
            return self.size("d_head");
        }
        let (found, expected) = (n_head.to_string(), "a divisor of d_model where there is no `d_head`");
        if d.is_multiple_of(n_head) {
            Ok(d / n_head)
        } else {
            Err(ModelError::Entry { key: "n_head", found, expected })
        }
    }

    fn d_mlp(&self, d: usize) -> Result<usize, ModelError> {
        match (self.get("d_mlp"), self.get("n_mlp")) {
            (Some(new), Some(old)) if new != old => {
                let (found, expected) = (old.to_string(), "the value of `d_mlp`, or no such key");
                Err(ModelError::Entry { key: "n_mlp", found, expected })
            }
            (Some(_), _) => self.size("d_mlp"),
            (None, Some(_)) => self.size("n_mlp"),
            (None, None) => Ok(4 * d),
        }
    }

    fn norm(&self) -> Result<NormKind, ModelError> {
        match (self.get("norm"), self.flag("rms_norm", false)?) {
            (None, true) => Ok(NormKind::Rms),
            (None, false) => Ok(NormKind::Layer),
            (Some(Value::String(s)), false) if s == "none" => Ok(NormKind::None),
            (Some(other), _) => {
                let (found, expected) = (other.to_string(), "none, and `rms_norm` not true");
                Err(ModelError::Entry { key: "norm", found, expected })
            }
        }
    }

    fn activation(&self) -> Result<Activation, ModelError> {
        match self.text("activation_type", "gelu")? {
            "gelu" => Ok(Activation::Gelu),
            "relu" => Ok(Activation::Relu),
            other => {
                let (found, expected) = (format!("{other:?}"), "gelu or relu");
                Err(ModelError::Entry { key: "activation_type", found, expected })
            }
        }
    }

    /// Number of entries that AbsTopK keeps at every kind of node.
    fn top_k(&self, widths: [usize; 8]) -> Result<[Option<usize>; 8], ModelError> {
        let names = self.text("afrac_loctypes", "attn_in,attn_out,mlp_in,mlp_out")?;
        let Some(fraction) = self.get("afrac") else { return Ok([None; 8]) };
        let fraction = fraction.as_f64().filter(|f| *f > 0.0 && *f <= 1.0).ok_or(ModelError::Density)?;
        let mut top_k = [None; 8];
        for name in names.split(',').filter(|name| !name.is_empty()) {
            let (found, expected) = (format!("{name:?}"), "names of sites with commas between");
            let kind = KINDS.iter().position(|kind| kind.1 == name);
            let kind = kind.ok_or(ModelError::Entry { key: "afrac_loctypes", found, expected })?;
            if fraction < 1.0 {
                let kept = (fraction * widths[kind] as f64) as usize;
                top_k[kind] = Some(kept).filter(|&k| k > 0).ok_or(ModelError::Density).map(Some)?;
            }
        }
        Ok(top_k)
    }

    /// Refuses what would make another function of the weights.
    fn check_others(&self) -> Result<(), ModelError> {
        self.flag("learnable_bigram_table", false)?;
        self.flag("sinusoidal_cat_pos_emb", false)?;
        if self.text("residual_activation_type", "identity")? != "identity" {
            return Err(ModelError::ResidualActivation);
        }
        match self.flag("use_tied_aux_matrix", false)? {
            false => Ok(()),
            true => {
                let (found, expected) = ("true".into(), "false");
                Err(ModelError::Entry { key: "use_tied_aux_matrix", found, expected })
            }
        }
    }
}

/// Name of the position embedding.
const POSITIONS: &str = "transformer.wpe.weight";

fn build(file: &SafeTensors<'_>, config: &str) -> Result<Model, ModelError> {
    let c = Config(serde_json::from_str(config)?);
    one_form_each(file)?;
    let d = c.size(if c.get("d_model").is_some() { "d_model" } else { "n_embd" })?;
    let vocab = c.size_up_to("vocab_size", 1 << 16, "at most 65536")?;
    let n_ctx = c.size_up_to("block_size", 1 << 20, "at most 1048576")?;
    let n_head = c.size("n_head")?;
    let (d_head, d_mlp) = (c.d_head(d, n_head)?, c.d_mlp(d)?);
    let (norm, activation) = (c.norm()?, c.activation()?);
    c.check_others()?;
    let beside = if c.get("d_pos_emb").is_some() { c.size("d_pos_emb")? } else { 0 };
    let (read, attn) = (d + beside, n_head * d_head);
    let widths = [read, attn, attn, attn, d, read, d_mlp, d];
    let top_k = c.top_k(widths)?;
    let linear_bias = c.flag("bias", true)?;
    let norm_bias = c.flag("ln_bias", true)? && norm == NormKind::Layer;
    let make_norm = |name: &str, width| {
        let bias = if norm_bias { Some(vector(file, &format!("{name}.bias"), width)?) } else { None };
        Ok::<_, ModelError>(Norm { gain: vector(file, &format!("{name}.weight"), width)?, bias })
    };
    let make_linear = |name: &str, rows, cols| {
        let bias = if linear_bias { Some(vector(file, &format!("{name}.bias"), rows)?) } else { None };
        Ok::<_, ModelError>(Linear { weight: matrix(file, &format!("{name}.weight"), rows, cols)?, bias })
    };
    let pos_norm = |name: &str| if beside > 0 { make_norm(name, beside).map(Some) } else { Ok(None) };
    let n_layer = c.size("n_layer")?;
    let block_weights = widths.iter().try_fold(0_usize, |sum, w| sum.checked_add(w.checked_mul(read)?));
    let weights = block_weights.and_then(|w| w.checked_mul(n_layer)?.checked_add(vocab.checked_mul(d)?));
    if weights.is_none_or(|w| w > MOST_WEIGHTS) {
        return Err(ModelError::Size { key: "n_layer".into() });
    }
    let mut blocks = Vec::new();
    for layer in 0..n_layer {
        let name = |rest: &str| format!("transformer.h.{layer}.{rest}");
        blocks.push(Block {
            attn_norm: make_norm(&name("ln_1"), d)?,
            attn_pos_norm: pos_norm(&name("ln_p1"))?,
            qkv: make_linear(&name("attn.c_attn"), 3 * attn, read)?,
            sink: match c.flag("sink", false)? {
                true => Some(vector(file, &name("attn.attn_imp.sink_logit"), n_head)?),
                false => None,
            },
            attn_out: make_linear(&name("attn.c_proj"), d, attn)?,
            mlp_norm: make_norm(&name("ln_2"), d)?,
            mlp_pos_norm: pos_norm(&name("ln_p2"))?,
            fc: make_linear(&name("mlp.c_fc"), d_mlp, read)?,
            proj: make_linear(&name("mlp.c_proj"), d, d_mlp)?,
        });
    }
    // Added position vectors are optional: a model without positions has none. So is the bias of the logits.
    let has = |name: &str| file.tensor(name).is_ok() || file.tensor(&format!("{name}.csr.shape")).is_ok();
    let position = match (beside, has(POSITIONS)) {
        (0, false) => None,
        (0, true) => Some((matrix(file, POSITIONS, n_ctx, d)?, true)),
        (width, _) => Some((matrix(file, POSITIONS, n_ctx, width)?, false)),
    };
    let table =
        |there: bool, name: &str, cols| if there { matrix(file, name, vocab, cols).map(Some) } else { Ok(None) };
    let logits_bias = has("final_logits_bias").then(|| vector(file, "final_logits_bias", vocab)).transpose()?;
    let model = Model {
        sha256: String::new(),
        vocab,
        n_ctx,
        n_head,
        d_head,
        norm,
        activation,
        widths,
        top_k,
        embed: matrix(file, "transformer.wte.weight", vocab, d)?,
        position,
        blocks,
        final_norm: make_norm("transformer.ln_f", d)?,
        unembed: table(!c.flag("tied_unembed", true)?, "lm_head.weight", d)?,
        bigram: table(c.flag("enable_bigram_table", false)?, "bigram_table", vocab)?,
        logits_bias,
    };
    match names(file).into_iter().find(|name| !has_place(&model, name)) {
        Some(name) => Err(ModelError::NoPlace { name }),
        None => Ok(model),
    }
}

/// Ends of the names of the four arrays of a sparse matrix.
const ARRAYS: [&str; 4] = [".csr.shape", ".csr.row_ptr", ".csr.col_idx", ".csr.values"];

/// Names of the tensors, a sparse matrix as one.
fn names(file: &SafeTensors<'_>) -> BTreeSet<String> {
    let bare = |name: &str| ARRAYS.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned();
    file.names().into_iter().map(bare).collect()
}

/// A weight that is in the file in two forms would mean two things.
fn one_form_each(file: &SafeTensors<'_>) -> Result<(), ModelError> {
    let there = |name: &str| file.tensor(name).is_ok();
    let twice = |name: &String| there(name) && ARRAYS.iter().any(|end| there(&format!("{name}{end}")));
    match names(file).into_iter().find(twice) {
        Some(name) => Err(ModelError::TwoForms { name }),
        None => Ok(()),
    }
}

/// True if a tensor of this name is a part of the model.
fn has_place(model: &Model, name: &str) -> bool {
    let norm = |n: &Norm, at: &str, name: &str| {
        name.strip_prefix(at).is_some_and(|part| part == ".weight" || (part == ".bias" && n.bias.is_some()))
    };
    let linear = |l: &Linear, at: &str, name: &str| {
        name.strip_prefix(at).is_some_and(|part| part == ".weight" || (part == ".bias" && l.bias.is_some()))
    };
    if let Some((layer, rest)) = name.strip_prefix("transformer.h.").and_then(|name| name.split_once('.')) {
        let block = layer.parse::<usize>().ok().filter(|l| l.to_string() == layer).and_then(|l| model.blocks.get(l));
        let Some(block) = block else { return false };
        return norm(&block.attn_norm, "ln_1", rest)
            || block.attn_pos_norm.as_ref().is_some_and(|n| norm(n, "ln_p1", rest))
            || linear(&block.qkv, "attn.c_attn", rest)
            || (rest == "attn.attn_imp.sink_logit" && block.sink.is_some())
            || linear(&block.attn_out, "attn.c_proj", rest)
            || norm(&block.mlp_norm, "ln_2", rest)
            || block.mlp_pos_norm.as_ref().is_some_and(|n| norm(n, "ln_p2", rest))
            || linear(&block.fc, "mlp.c_fc", rest)
            || linear(&block.proj, "mlp.c_proj", rest);
    }
    match name {
        "transformer.wte.weight" => true,
        POSITIONS => model.position.is_some(),
        "lm_head.weight" => model.unembed.is_some(),
        "bigram_table" => model.bigram.is_some(),
        "final_logits_bias" => model.logits_bias.is_some(),
        other => norm(&model.final_norm, "transformer.ln_f", other),
    }
}

/// Hash of a model by content: SHA-256 of the lines `config JSON` (sorted keys, no spaces) and, by name,
/// `tensor NAME DIM .. HASH`, each with a line feed; the hash of a tensor is that of its nonzeros in row-major order,
/// position (u64) and value (f32), little-endian. A position embedding of zeros has no line.
fn content_sha256(file: &SafeTensors<'_>, config: &str) -> Result<String, ModelError> {
    // No value of a configuration is an object.
    let sorted: BTreeMap<String, Value> = serde_json::from_str(config)?;
    let mut text = format!("config {}\n", serde_json::to_string(&sorted)?);
    let mut names: Vec<&str> = file.names().into_iter().collect();
    names.sort_by_key(|name| name.strip_suffix(".csr.shape").unwrap_or(name));
    for name in names {
        let (name, shape) = match name.strip_suffix(".csr.shape") {
            Some(name) => (
                name,
                numbers(file.tensor(&format!("{name}.csr.shape")).expect("listed").data(), |b| {
                    i64::from_le_bytes(b) as usize
                }),
            ),
            None if name.contains(".csr.") => continue,
            None => (name, file.tensor(name).expect("listed").shape().to_vec()),
        };
        let (rows, cols) = match shape[..] {
            [rows] => (rows, 0),
            [rows, cols] => (rows, cols),
            _ => return Err(ModelError::Dimensions { name: name.into(), count: shape.len() }),
        };
        let mut bytes = Vec::new();
        for (row, entries) in matrix(file, name, rows, cols)?.0.iter().enumerate() {
            for &(column, value) in entries {
                bytes.extend(((row * cols.max(1) + column) as u64).to_le_bytes());
                // Read from f32, so that nothing is rounded.
                bytes.extend((value as f32).to_le_bytes());
            }
        }
        // Exported models have position embeddings of zeros in place of none.
        if name == POSITIONS && bytes.is_empty() {
            continue;
        }
        let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
        text.push_str(&format!("tensor {name} {} {}\n", dims.join(" "), hex(&bytes)));
    }
    Ok(hex(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A vector of a given length, with every number finite.
fn vector(file: &SafeTensors<'_>, name: &str, len: usize) -> Result<Vec<f64>, ModelError> {
    let wide = matrix(file, name, len, 0)?;
    Ok(wide.0.iter().map(|row| row.first().map_or(0.0, |e| e.1)).collect())
}

/// A matrix of a given shape, dense or sparse in the file; `cols` 0 asks for a vector.
fn matrix(file: &SafeTensors<'_>, name: &str, rows: usize, cols: usize) -> Result<Sparse, ModelError> {
    let part = |end: &str| {
        file.tensor(&format!("{name}{end}")).map_err(|_| ModelError::NoTensor { name: format!("{name}{end}") })
    };
    let wrong = || ModelError::Tensor { name: name.into(), rows, cols };
    let finite = |values: Vec<f64>| if values.iter().all(|x| x.is_finite()) { Ok(values) } else { Err(wrong()) };
    if let Ok(dense) = file.tensor(name) {
        let shape = if cols == 0 { vec![rows] } else { vec![rows, cols] };
        if dense.shape() != shape {
            return Err(wrong());
        }
        let values = match dense.dtype() {
            Dtype::F32 => numbers(dense.data(), |b| f64::from(f32::from_le_bytes(b))),
            Dtype::F16 => numbers(dense.data(), |b| half(u16::from_le_bytes(b))),
            _ => return Err(wrong()),
        };
        let values = finite(values)?;
        let nonzeros = |row: &[f64]| row.iter().copied().enumerate().filter(|e| e.1 != 0.0).collect();
        return Ok(Sparse(values.chunks_exact(cols.max(1)).map(nonzeros).collect()));
    }
    // Each array has one type: columns are U16 where there are at most 65536 of them.
    let array = |end: &str, dtype: Dtype| {
        let array = part(end)?;
        let fits = array.dtype() == dtype && array.shape().len() == 1;
        if fits { Ok(array) } else { Err(wrong()) }
    };
    let wide = |end: &str| -> Result<Vec<usize>, ModelError> {
        let list = numbers(array(end, Dtype::I64)?.data(), i64::from_le_bytes);
        list.into_iter().map(|i| usize::try_from(i).map_err(|_| wrong())).collect()
    };
    let (shape, starts) = (wide(".csr.shape")?, wide(".csr.row_ptr")?);
    let columns = match cols.max(1) > 1 << 16 {
        true => wide(".csr.col_idx")?,
        false => numbers(array(".csr.col_idx", Dtype::U16)?.data(), |b| usize::from(u16::from_le_bytes(b))),
    };
    let values = array(".csr.values", Dtype::F32)?;
    let values = finite(numbers(values.data(), |b| f64::from(f32::from_le_bytes(b))))?;
    let rising = starts.windows(2).all(|w| w[0] <= w[1]);
    let ends = starts.first() == Some(&0) && starts.last() == Some(&values.len()) && starts.len() == rows + 1;
    // A row is written with rising columns; a column listed twice would mean two things.
    let ordered = |w: &[usize]| columns[w[0]..w[1]].windows(2).all(|c| c[0] < c[1]);
    let fits = columns.len() == values.len() && columns.iter().all(|&c| c < cols.max(1));
    if shape != [rows, cols.max(1)] || !rising || !ends || !fits || !starts.windows(2).all(ordered) {
        return Err(wrong());
    }
    let row = |w: &[usize]| (w[0]..w[1]).map(|i| (columns[i], values[i])).collect();
    Ok(Sparse(starts.windows(2).map(row).collect()))
}

/// An IEEE half-precision number: a sign, five bits of exponent, ten of fraction.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff) / 1024.0);
    let size = match exponent {
        0 => fraction * 2_f64.powi(-14),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1.0 + fraction) * 2_f64.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -size } else { size }
}

fn numbers<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.chunks_exact(N).map(|b| read(b.try_into().expect("chunks of this size"))).collect()
}

#[cfg(test)]
mod tests {
    use super::half;

    #[test]
    fn every_half_precision_number_is_that_of_the_library() {
        for bits in 0..=u16::MAX {
            let expected = f64::from(openwork_tensor::f16::from_bits(bits).to_f32());
            assert!(
                half(bits).to_bits() == expected.to_bits() || (half(bits).is_nan() && expected.is_nan()),
                "{bits:#x}"
            );
        }
    }
}
