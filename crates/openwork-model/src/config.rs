//! Shape and switches of a model; `published.rs` reads and writes them as the published `beeg_config.json`.

use openwork_ops::{Activation, NormKind};

use crate::{Params, Role, Site, SiteKind};

mod published;

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
    /// AbsTopK would keep nothing.
    #[error("AbsTopK keeps no feature of the {width} at {site}: {fraction:e} of them is less than one")]
    KeepsNothing {
        /// Published name of the site.
        site: &'static str,
        /// Features there.
        width: usize,
        /// Fraction that is kept.
        fraction: f64,
    },
    /// The original code has no such model.
    #[error("the original code cannot load this model: {reason}")]
    NotPublished {
        /// Assertion of the original that fails, and what would hold.
        reason: String,
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
    /// Longest sequence that a configuration may name.
    pub const MOST_CONTEXT: usize = 1 << 20;

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

    /// Checks that a model of this configuration computes something.
    ///
    /// # Errors
    /// AbsTopK keeps no feature at one of its sites, or its fraction is none.
    pub fn check(&self) -> Result<(), ConfigError> {
        if let Some(ActDensity { fraction, .. }) = &self.act_density
            && !(*fraction > 0.0 && *fraction <= 1.0)
        {
            let found = format!("{fraction:?}");
            return Err(ConfigError::Value { key: "afrac", found, expected: "a number above 0 and up to 1, or null" });
        }
        for (site, kind) in ACT_SITES {
            if self.act_k(kind) == Some(0) {
                let fraction = self.act_density.as_ref().map_or(1.0, |density| density.fraction);
                return Err(ConfigError::KeepsNothing { site, width: self.width(kind), fraction });
            }
        }
        Ok(())
    }

    /// Number of parameters, buffers and all, from the sizes alone: nothing of the model's size is allocated.
    pub fn n_parameters(&self) -> u128 {
        let count = |n_layer| -> u128 {
            let sizes =
                Params::build(&Config { n_layer, ..self.clone() }, |_, [rows, cols]| rows as u128 * cols as u128);
            sizes.into_values().into_iter().sum()
        };
        let outside_blocks = count(0);
        outside_blocks + self.n_layer as u128 * (count(1) - outside_blocks)
    }
}
