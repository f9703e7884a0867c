//! The published `beeg_config.json`: the original's `GPTConfig` (circuit_sparsity/inference/gpt.py), key by key.

use openwork_ops::{Activation, NormKind};
use serde_json::{Map, Value, json};

use super::{ACT_SITES, ActDensity, Bigram, Config, ConfigError, Positions};
use crate::SiteKind;

/// Sites of AbsTopK where a configuration names none: the original's default.
const DEFAULT_ACT_SITES: &str = "attn_in,attn_out,mlp_in,mlp_out";

/// Published keys that do not change the function that a model computes, with the reason.
const NO_EFFECT: [(&str, &str); 16] = [
    ("dropout", "is off when a model runs"),
    ("dropout_cat_pos_emb", "is off when a model runs"),
    ("tokenizer_name", "names the tokenizer, which is given beside the model"),
    ("grad_checkpointing", "trades time for memory in training"),
    ("debug_nans", "adds assertions"),
    ("debug_exact_topk", "chooses a kernel of training"),
    ("enable_sparse_kernels", "chooses a kernel"),
    ("sparse_matmul_impl", "chooses a kernel"),
    ("afrac_approx", "chooses a kernel of training"),
    ("rtopk", "chooses a kernel of training"),
    ("ignore_dw_grad", "is about gradients"),
    ("flash", "chooses a kernel; an argument of the original's `load_model` overrides it"),
    ("bigram_table_rank", "is taken out by the original's `load_model`"),
    ("pfrac", "is about training"),
    ("expansion_factor", "is about training"),
    ("expansion_factor_mlp", "is about training"),
];

impl Config {
    /// Reads the published format, with the defaults of the original's `GPTConfig` for keys that are not there. Also returns
    /// the keys it did not know and ignored.
    ///
    /// # Errors
    /// When the text is no JSON object, lacks a key without a default, or has a value that this crate does not know.
    pub fn from_published(text: &str) -> Result<(Self, Vec<String>), ConfigError> {
        let json = |e: serde_json::Error| ConfigError::Json { reason: e.to_string() };
        let keys: Map<String, Value> =
            openwork_tensor::parse_json(text).and_then(serde_json::from_value).map_err(json)?;
        let mut r = Reader { keys, read: vec![] };
        let d_model = match r.optional("d_model") {
            Some(_) => r.size("d_model")?,
            None => r.size("n_embd")?,
        };
        let n_head = r.size("n_head")?;
        let bigram = match (r.flag("enable_bigram_table", false)?, r.flag("learnable_bigram_table", false)?) {
            (false, _) => Bigram::None,
            (true, true) => Bigram::Learned,
            (true, false) => Bigram::Fixed,
        };
        let config = Config {
            vocab_size: r.vocabulary()?,
            n_ctx: r.context()?,
            n_layer: r.size("n_layer")?,
            n_head,
            d_head: r.d_head(d_model, n_head)?,
            d_model,
            d_mlp: r.d_mlp(d_model)?,
            norm: r.norm()?,
            norm_bias: r.flag("ln_bias", true)?,
            linear_bias: r.flag("bias", true)?,
            activation: match r.text("activation_type", "gelu")?.as_str() {
                "gelu" => Activation::Gelu,
                "relu" => Activation::Relu,
                other => return Err(bad("activation_type", &json!(other), "gelu or relu")),
            },
            act_density: r.act_density()?,
            positions: r.positions()?,
            sink: r.flag("sink", false)?,
            bigram,
            tied_unembed: r.flag("tied_unembed", true)?,
        };
        match r.text("residual_activation_type", "identity")?.as_str() {
            "identity" => (),
            other => return Err(bad("residual_activation_type", &json!(other), "identity")),
        }
        if r.flag("use_tied_aux_matrix", false)? {
            return Err(bad("use_tied_aux_matrix", &json!(true), "false: the original's `load_model` refuses it, too"));
        }
        config.check()?;
        let known = |key: &str| r.read.contains(&key) || NO_EFFECT.iter().any(|(name, _)| *name == key);
        let ignored = r.keys.keys().filter(|key| !known(key)).cloned().collect();
        Ok((config, ignored))
    }

    /// Writes the configuration for the original's `load_model`, which pops two keys more than its `GPTConfig` has.
    ///
    /// # Errors
    /// [`ConfigError::NotPublished`]: an assertion of the original fails.
    pub fn to_exported(&self) -> Result<String, ConfigError> {
        let refused = |reason: String| Err(ConfigError::NotPublished { reason });
        let Config { d_model, n_head, .. } = *self;
        if !d_model.is_multiple_of(n_head) {
            return refused(format!("it asserts d_model % n_head == 0, and they are {d_model} and {n_head}"));
        }
        if self.norm == NormKind::None {
            return refused("it has RMSNorm and LayerNorm, and this model has no norms".into());
        }
        let mut keys: Map<String, Value> = serde_json::from_str(&self.to_published()).expect("an object");
        for popped in ["bigram_table_rank", "pfrac"] {
            keys.insert(popped.into(), Value::Null);
        }
        Ok(serde_json::to_string_pretty(&keys).expect("plain values"))
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

/// Sites by name. The original compares names as they are, blanks and all, and passes over those it does not know; here
/// those are refused.
fn act_sites(names: &str) -> Result<Vec<SiteKind>, ConfigError> {
    let one = |name: &str| {
        let site = ACT_SITES.iter().find(|s| s.0 == name);
        site.map(|s| s.1).ok_or_else(|| {
            bad(
                "afrac_loctypes",
                &json!(name),
                "names without blanks: attn_in, attn_q, attn_k, attn_v, attn_out, mlp_in, mlp_neuron, mlp_out",
            )
        })
    };
    names.split(',').filter(|n| !n.is_empty()).map(one).collect()
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
        size.map(|n| n as usize).ok_or_else(|| bad(key, &value, "a positive whole number below 2147483648"))
    }

    /// Longest sequence; where positions have no parameters, nothing else in a file bounds it.
    fn context(&mut self) -> Result<usize, ConfigError> {
        let size = self.size("block_size")?;
        let fits = size <= Config::MOST_CONTEXT;
        if fits { Ok(size) } else { Err(bad("block_size", &json!(size), "at most 1048576")) }
    }

    /// Tokens are 16 bits wide.
    fn vocabulary(&mut self) -> Result<usize, ConfigError> {
        let size = self.size("vocab_size")?;
        let fits = size <= 1 << 16;
        if fits { Ok(size) } else { Err(bad("vocab_size", &json!(size), "at most 65536: tokens are 16 bits wide")) }
    }

    fn d_head(&mut self, d_model: usize, n_head: usize) -> Result<usize, ConfigError> {
        if self.optional("d_head").is_some() {
            return self.size("d_head");
        }
        match d_model.is_multiple_of(n_head) {
            true => Ok(d_model / n_head),
            false => Err(bad("n_head", &json!(n_head), "a divisor of d_model where there is no `d_head`")),
        }
    }

    /// `n_mlp` is an older name of `d_mlp`.
    fn d_mlp(&mut self, d_model: usize) -> Result<usize, ConfigError> {
        match (self.optional("d_mlp"), self.optional("n_mlp")) {
            (Some(new), Some(old)) if new != old => Err(bad("n_mlp", &old, "the value of `d_mlp`, or no such key")),
            (Some(_), _) => self.size("d_mlp"),
            (None, Some(_)) => self.size("n_mlp"),
            (None, None) => Ok(4 * d_model),
        }
    }

    fn act_density(&mut self) -> Result<Option<ActDensity>, ConfigError> {
        let sites = match self.optional("afrac_loctypes") {
            None => DEFAULT_ACT_SITES.to_owned(),
            Some(Value::String(s)) => s,
            Some(other) => return Err(bad("afrac_loctypes", &other, "names with commas between")),
        };
        let Some(value) = self.optional("afrac") else { return Ok(None) };
        let fraction = value.as_f64().filter(|f| *f > 0.0 && *f <= 1.0);
        let fraction = fraction.ok_or_else(|| bad("afrac", &value, "a number above 0 and up to 1, or null"))?;
        let sites = act_sites(&sites)?;
        // A fraction of 1 keeps everything.
        Ok((fraction < 1.0).then_some(ActDensity { fraction, sites }))
    }

    fn positions(&mut self) -> Result<Positions, ConfigError> {
        let sinusoidal = self.flag("sinusoidal_cat_pos_emb", false)?;
        Ok(match self.optional("d_pos_emb") {
            None => Positions::Added,
            Some(_) => match self.size("d_pos_emb")? {
                width if sinusoidal => Positions::Sinusoidal { width },
                width => Positions::Concat { width },
            },
        })
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
mod tests;
