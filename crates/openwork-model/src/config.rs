//! Shape and switches of a model, and the published `beeg_config.json` they are read from.

use openwork_ops::{Activation, NormKind};
use serde_json::{Map, Value, json};

use crate::{Role, Site, SiteKind};

/// Configuration of a weight-sparse transformer (Gao et al. 2025, A.1; `GPTConfig` of the released code).
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Number of tokens.
    pub vocab_size: usize,
    /// Longest sequence.
    pub n_ctx: usize,
    /// Number of blocks.
    pub n_layer: usize,
    /// Heads per block.
    pub n_head: usize,
    /// Channels per head; need not be `d_model / n_head`.
    pub d_head: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Neurons per block.
    pub d_mlp: usize,
    /// Kind of the norms.
    pub norm: NormKind,
    /// True if LayerNorm has a bias (RMSNorm never has).
    pub norm_bias: bool,
    /// True if the four matrices of a block have biases.
    pub linear_bias: bool,
    /// Nonlinearity of the MLP.
    pub activation: Activation,
    /// Sites and fraction of AbsTopK; `None`: nowhere.
    pub act_density: Option<ActDensity>,
    /// Position information.
    pub positions: Positions,
    /// Attention sinks.
    pub sink: bool,
    /// Bigram table.
    pub bigram: Bigram,
    /// True if the unembedding is the embedding.
    pub tied_unembed: bool,
}

/// AbsTopK keeps `⌊fraction · width⌋` entries per token at each of `sites`.
#[derive(Clone, Debug, PartialEq)]
pub struct ActDensity {
    /// The paper's afrac.
    pub fraction: f64,
    /// Sites at which it applies.
    pub sites: Vec<SiteKind>,
}

/// Position information.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// None; the causal mask alone tells positions apart.
    None,
    /// Learned, added to the embedding.
    Added,
    /// Learned channels that every block reads beside the residual stream and none writes.
    Concat {
        /// Number of channels.
        width: usize,
    },
    /// The same with fixed sinusoids.
    Sinusoidal {
        /// Number of channels, half sines and half cosines.
        width: usize,
    },
}

/// The table added to the logits by the current token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bigram {
    /// No table.
    None,
    /// A trained parameter.
    Learned,
    /// A fixed buffer.
    Fixed,
}

/// Reason that a configuration cannot be used.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not JSON, or not an object.
    #[error("the configuration is not a JSON object: {reason}")]
    Json {
        /// Message of the parser.
        reason: String,
    },
    /// A key is missing.
    #[error("the configuration lacks `{key}`")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A key has a value this program does not know.
    #[error("`{key}` is {found}; expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// Values that are accepted.
        expected: &'static str,
    },
}

/// The eight sites of AbsTopK under their published names.
const ACT_SITES: [(&str, SiteKind); 8] = [
    ("attn_in", SiteKind::AttnRead),
    ("attn_q", SiteKind::Query),
    ("attn_k", SiteKind::Key),
    ("attn_v", SiteKind::Value),
    ("attn_out", SiteKind::AttnWrite),
    ("mlp_in", SiteKind::MlpRead),
    ("mlp_neuron", SiteKind::Neuron),
    ("mlp_out", SiteKind::MlpWrite),
];

/// Published keys that say nothing about the function computed.
const NO_EFFECT: [&str; 12] = [
    "dropout",
    "dropout_cat_pos_emb",
    "tokenizer_name",
    "grad_checkpointing",
    "debug_nans",
    "debug_exact_topk",
    "enable_sparse_kernels",
    "sparse_matmul_impl",
    "ignore_dw_grad",
    "flash",
    "rtopk",
    "bigram_table_rank",
];

impl Default for Config {
    /// The published defaults at the smallest sensible size: RMSNorm, GELU, biases, AbsTopK 1/4 at all
    /// eight sites, learned bigram table, no positions, no sink.
    fn default() -> Self {
        Self {
            vocab_size: 2048,
            n_ctx: 256,
            n_layer: 2,
            n_head: 4,
            d_head: 16,
            d_model: 64,
            d_mlp: 256,
            norm: NormKind::Rms,
            norm_bias: true,
            linear_bias: true,
            activation: Activation::Gelu,
            act_density: Some(ActDensity::everywhere(0.25)),
            positions: Positions::None,
            sink: false,
            bigram: Bigram::Learned,
            tied_unembed: false,
        }
    }
}

impl ActDensity {
    /// All eight sites of the paper.
    pub fn everywhere(fraction: f64) -> Self {
        Self { fraction, sites: ACT_SITES.iter().map(|s| s.1).collect() }
    }
}

impl Config {
    /// Width of what a block reads: the residual stream and any concatenated position channels.
    pub fn d_read(&self) -> usize {
        match self.positions {
            Positions::None | Positions::Added => self.d_model,
            Positions::Concat { width } | Positions::Sinusoidal { width } => self.d_model + width,
        }
    }

    pub(crate) fn norm_has_bias(&self) -> bool {
        self.norm == NormKind::Layer && self.norm_bias
    }

    /// Number of features at a site.
    pub fn width(&self, kind: SiteKind) -> usize {
        match kind {
            SiteKind::ResidIn
            | SiteKind::ResidMid
            | SiteKind::AttnWrite
            | SiteKind::MlpWrite
            | SiteKind::FinalResid
            | SiteKind::FinalRead => self.d_model,
            SiteKind::AttnRead | SiteKind::MlpRead => self.d_read(),
            SiteKind::Query | SiteKind::Key | SiteKind::Value | SiteKind::AttnMix => self.n_head * self.d_head,
            SiteKind::Neuron => self.d_mlp,
        }
    }

    /// True if parameters of this role are trained: buffers and fixed tables are not.
    pub fn is_trained(&self, role: Role) -> bool {
        match role {
            Role::LogitsBias => false,
            Role::Bigram => self.bigram == Bigram::Learned,
            Role::Position => !matches!(self.positions, Positions::Sinusoidal { .. }),
            _ => true,
        }
    }

    /// Every site of the model, in the order of the forward pass.
    pub fn sites(&self) -> Vec<Site> {
        let in_blocks =
            (0..self.n_layer).flat_map(|layer| SiteKind::IN_BLOCK.into_iter().map(move |kind| Site { layer, kind }));
        let after = [SiteKind::FinalResid, SiteKind::FinalRead].map(|kind| Site { layer: self.n_layer, kind });
        in_blocks.chain(after).collect()
    }

    /// Entries AbsTopK keeps at a site; `None` where it does not apply.
    pub fn act_k(&self, kind: SiteKind) -> Option<usize> {
        let density = self.act_density.as_ref()?;
        density.sites.contains(&kind).then(|| (density.fraction * self.width(kind) as f64) as usize)
    }

    /// Reads the published format. Also returns the keys it did not know and ignored.
    ///
    /// # Errors
    /// When the text is no JSON object, lacks a key, or has a value that this crate does not know.
    pub fn from_published(text: &str) -> Result<(Self, Vec<String>), ConfigError> {
        let keys: Map<String, Value> =
            serde_json::from_str(text).map_err(|e| ConfigError::Json { reason: e.to_string() })?;
        let mut r = Reader { keys, read: vec![] };
        let d_model = match r.optional("d_model") {
            Some(_) => r.size("d_model")?,
            None => r.size("n_embd")?,
        };
        let n_head = r.size("n_head")?;
        let act_density = match r.optional("afrac") {
            None => None,
            Some(value) => {
                let fraction = value.as_f64().filter(|f| *f > 0.0);
                let fraction = fraction.ok_or_else(|| bad("afrac", &value, "a positive number or null"))?;
                let sites = match r.optional("afrac_loctypes") {
                    None => ActDensity::everywhere(fraction).sites,
                    Some(Value::String(s)) => act_sites(&s)?,
                    Some(other) => return Err(bad("afrac_loctypes", &other, "names with commas between")),
                };
                // A fraction of 1 or more keeps everything.
                (fraction < 1.0).then_some(ActDensity { fraction, sites })
            }
        };
        let sinusoidal = r.flag("sinusoidal_cat_pos_emb", false)?;
        let positions = match r.optional("d_pos_emb") {
            None => Positions::Added,
            Some(_) => match r.size("d_pos_emb")? {
                width if sinusoidal => Positions::Sinusoidal { width },
                width => Positions::Concat { width },
            },
        };
        let bigram = match (r.flag("enable_bigram_table", false)?, r.flag("learnable_bigram_table", false)?) {
            (false, _) => Bigram::None,
            (true, true) => Bigram::Learned,
            (true, false) => Bigram::Fixed,
        };
        let config = Config {
            vocab_size: r.size("vocab_size")?,
            n_ctx: r.size("block_size")?,
            n_layer: r.size("n_layer")?,
            n_head,
            d_head: if r.optional("d_head").is_some() { r.size("d_head")? } else { d_model / n_head },
            d_model,
            d_mlp: match (r.optional("d_mlp"), r.optional("n_mlp")) {
                (Some(_), _) => r.size("d_mlp")?,
                (None, Some(_)) => r.size("n_mlp")?,
                (None, None) => 4 * d_model,
            },
            norm: r.norm()?,
            norm_bias: r.flag("ln_bias", true)?,
            linear_bias: r.flag("bias", true)?,
            activation: match r.text("activation_type", "gelu")?.as_str() {
                "gelu" => Activation::Gelu,
                "relu" => Activation::Relu,
                other => return Err(bad("activation_type", &json!(other), "gelu or relu")),
            },
            act_density,
            positions,
            sink: r.flag("sink", false)?,
            bigram,
            tied_unembed: r.flag("tied_unembed", false)?,
        };
        match r.text("residual_activation_type", "identity")?.as_str() {
            "identity" => (),
            other => return Err(bad("residual_activation_type", &json!(other), "identity")),
        }
        let ignored = r.keys.keys().filter(|k| !r.read.contains(&k.as_str()) && !NO_EFFECT.contains(&k.as_str()));
        let ignored = ignored.cloned().collect();
        Ok((config, ignored))
    }

    /// Writes the published format; [`Config::from_published`] reads it back unchanged, except that
    /// [`Positions::None`] has no published form of its own: it is written as a position embedding (of
    /// zeros), and told apart by the weights.
    pub fn to_published(&self) -> String {
        let d_pos = match self.positions {
            Positions::None | Positions::Added => None,
            Positions::Concat { width } | Positions::Sinusoidal { width } => Some(width),
        };
        let sites = self.act_density.as_ref().map(|a| {
            let name = |kind: &SiteKind| ACT_SITES.iter().find(|s| s.1 == *kind).expect("an AbsTopK site").0;
            a.sites.iter().map(name).collect::<Vec<_>>().join(",")
        });
        let mut value = json!({
            "block_size": self.n_ctx,
            "vocab_size": self.vocab_size,
            "n_layer": self.n_layer,
            "n_head": self.n_head,
            "d_head": self.d_head,
            "d_model": self.d_model,
            "d_mlp": self.d_mlp,
            "dropout": 0.0,
            "bias": self.linear_bias,
            "ln_bias": self.norm_bias,
            "rms_norm": self.norm == NormKind::Rms,
            "residual_activation_type": "identity",
            "activation_type": match self.activation { Activation::Gelu => "gelu", Activation::Relu => "relu" },
            "afrac": self.act_density.as_ref().map(|a| a.fraction),
            "afrac_loctypes": sites.unwrap_or_else(|| ACT_SITES.map(|s| s.0).join(",")),
            "tied_unembed": self.tied_unembed,
            "tokenizer_name": "tinypython_2k",
            "enable_bigram_table": self.bigram != Bigram::None,
            "learnable_bigram_table": self.bigram == Bigram::Learned,
            "d_pos_emb": d_pos,
            "dropout_cat_pos_emb": false,
            "sinusoidal_cat_pos_emb": matches!(self.positions, Positions::Sinusoidal { .. }),
            "grad_checkpointing": false,
            "debug_nans": false,
            "enable_sparse_kernels": false,
            "flash": true,
            "sink": self.sink,
        });
        if self.norm == NormKind::None {
            // A key of our own: the published format knows two norms only.
            value["norm"] = json!("none");
        }
        serde_json::to_string_pretty(&value).expect("plain values")
    }
}

fn act_sites(names: &str) -> Result<Vec<SiteKind>, ConfigError> {
    let one = |name: &str| {
        let site = ACT_SITES.iter().find(|s| s.0 == name.trim());
        site.map(|s| s.1).ok_or_else(|| {
            bad(
                "afrac_loctypes",
                &json!(name),
                "attn_in, attn_q, attn_k, attn_v, attn_out, mlp_in, mlp_neuron, mlp_out",
            )
        })
    };
    names.split(',').filter(|n| !n.trim().is_empty()).map(one).collect()
}

fn bad(key: &'static str, found: &Value, expected: &'static str) -> ConfigError {
    ConfigError::Value { key, found: found.to_string(), expected }
}

/// Takes keys out of the published object and remembers which.
struct Reader {
    keys: Map<String, Value>,
    read: Vec<&'static str>,
}

impl Reader {
    /// The value of a key that is present and not null.
    fn optional(&mut self, key: &'static str) -> Option<Value> {
        self.read.push(key);
        self.keys.get(key).filter(|v| !v.is_null()).cloned()
    }

    /// A positive size below 2³¹.
    fn size(&mut self, key: &'static str) -> Result<usize, ConfigError> {
        let value = self.optional(key).ok_or(ConfigError::Missing { key })?;
        let size = value.as_u64().filter(|&n| n > 0 && n < 1 << 31);
        size.map(|n| n as usize).ok_or_else(|| bad(key, &value, "a positive whole number"))
    }

    fn flag(&mut self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        self.optional(key).map_or(Ok(default), |v| v.as_bool().ok_or_else(|| bad(key, &v, "true or false")))
    }

    /// `rms_norm` tells the published norms apart; our own key `norm` says that there is none.
    fn norm(&mut self) -> Result<NormKind, ConfigError> {
        let rms = self.flag("rms_norm", false)?;
        match self.optional("norm") {
            None => Ok(if rms { NormKind::Rms } else { NormKind::Layer }),
            Some(Value::String(s)) if s == "none" && !rms => Ok(NormKind::None),
            Some(other) if rms => Err(bad("norm", &other, "no such key beside `rms_norm` = true")),
            Some(other) => Err(bad("norm", &other, "none (leave the key out for the norms `rms_norm` tells apart)")),
        }
    }

    fn text(&mut self, key: &'static str, default: &str) -> Result<String, ConfigError> {
        self.optional(key)
            .map_or(Ok(default.to_owned()), |v| v.as_str().map(str::to_owned).ok_or_else(|| bad(key, &v, "a string")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_names_what_it_ignores() {
        let config = Config {
            positions: Positions::Sinusoidal { width: 8 },
            act_density: Some(ActDensity { fraction: 0.125, sites: vec![SiteKind::AttnRead, SiteKind::Value] }),
            norm: NormKind::Layer,
            activation: Activation::Relu,
            bigram: Bigram::Fixed,
            tied_unembed: true,
            sink: true,
            d_head: 5,
            ..Config::default()
        };
        let text = config.to_published();
        assert_eq!(Config::from_published(&text), Ok((config, vec![])));
        let without = Config { norm: NormKind::None, positions: Positions::Added, ..Config::default() };
        assert_eq!(Config::from_published(&without.to_published()), Ok((without, vec![])));
        assert!(!text.contains("\"norm\""), "published norms are written as published");
        let text = text.replacen('{', "{\"pfrac\": 0.25, \"novel\": 1,", 1);
        assert_eq!(Config::from_published(&text).unwrap().1, ["novel", "pfrac"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let text = Config::default().to_published();
        let error = |from: &str, to: &str| Config::from_published(&text.replacen(from, to, 1)).unwrap_err().to_string();
        assert_eq!(error("\"n_layer\"", "\"layers\""), "the configuration lacks `n_layer`");
        assert_eq!(error("\"gelu\"", "\"swish\""), "`activation_type` is \"swish\"; expected gelu or relu");
        assert_eq!(error("\"n_head\": 4", "\"n_head\": -4"), "`n_head` is -4; expected a positive whole number");
        let norm = |name: &str| error("\"rms_norm\": true", &format!("\"rms_norm\": false, \"norm\": {name}"));
        assert!(norm("\"no\"").starts_with("`norm` is \"no\"; expected none (leave"));
        assert!(error("\"rms_norm\"", "\"norm\": \"none\", \"rms_norm\"").contains("beside `rms_norm`"));
        assert!(error("attn_in,", "attn_ni,").starts_with("`afrac_loctypes` is \"attn_ni\""));
        assert!(error("\"identity\"", "\"relu\"").starts_with("`residual_activation_type`"));
    }
}
