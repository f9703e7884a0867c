//! The parameter tree: weights, gradients, moments and patterns all have this shape.

use crate::{Config, Positions};

/// One value per parameter tensor of a model.
#[derive(Clone, Debug)]
pub struct Params<P> {
    /// Token embedding, `[vocab, d_model]`.
    pub embed: P,
    /// Position embedding, `[n_ctx, d_model or position channels]`.
    pub position: Option<P>,
    /// Blocks, first to last.
    pub blocks: Vec<Block<P>>,
    /// Norm before the unembedding.
    pub final_norm: Norm<P>,
    /// `[vocab, d_model]`; absent where tied to the embedding.
    pub unembed: Option<P>,
    /// Bigram table, `[vocab (current token), vocab (logit)]`.
    pub bigram: Option<P>,
    /// Added to the logits, `[vocab, 1]`; a buffer that is not trained.
    pub logits_bias: P,
}

/// One transformer block.
#[derive(Clone, Debug)]
pub struct Block<P> {
    /// Norm before the attention.
    pub attn_norm: Norm<P>,
    /// Norm of the concatenated position channels before the attention.
    pub attn_pos_norm: Option<Norm<P>>,
    /// Queries, keys and values, `[3 · n_head · d_head, d_read]`.
    pub qkv: Linear<P>,
    /// Logit of the attention sink, `[n_head, 1]`.
    pub sink: Option<P>,
    /// Attention output, `[d_model, n_head · d_head]`.
    pub attn_out: Linear<P>,
    /// Norm before the MLP.
    pub mlp_norm: Norm<P>,
    /// Norm of the concatenated position channels before the MLP.
    pub mlp_pos_norm: Option<Norm<P>>,
    /// Into the neurons, `[d_mlp, d_read]`.
    pub fc: Linear<P>,
    /// Out of the neurons, `[d_model, d_mlp]`.
    pub proj: Linear<P>,
}

/// Gain and bias of a norm, `[n, 1]` each.
#[derive(Clone, Debug)]
pub struct Norm<P> {
    /// Factor per feature.
    pub gain: P,
    /// Offset per feature (LayerNorm only).
    pub bias: Option<P>,
}

/// Weight `[out, in]` and bias `[out, 1]`.
#[derive(Clone, Debug)]
pub struct Linear<P> {
    /// The matrix.
    pub weight: P,
    /// The bias.
    pub bias: Option<P>,
}

/// Role of a parameter: decides how it is sparsified, decayed and initialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Token embedding.
    Embed,
    /// Added or concatenated position embedding.
    Position,
    /// Queries, keys, values.
    Qkv,
    /// Attention output matrix.
    AttnOut,
    /// Matrix into the neurons.
    Fc,
    /// Matrix out of the neurons.
    Proj,
    /// Bias of a linear layer.
    Bias,
    /// Gain of a norm.
    NormGain,
    /// Bias of a norm.
    NormBias,
    /// Attention sink logits.
    Sink,
    /// Unembedding.
    Unembed,
    /// Bigram table.
    Bigram,
    /// Constant logits bias.
    LogitsBias,
}

/// Name and role of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamInfo {
    /// Name in the published state dict, such as `transformer.h.0.attn.c_attn.weight`.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Number of dimensions in the state dict: 2 for matrices, 1 for vectors (`[n, 1]` here).
    pub n_dim: usize,
}

impl<P> Params<P> {
    /// Builds a tree by calling `f(info, [rows, cols])` for every parameter that `config` has, in the
    /// fixed order that [`Params::values`] also has.
    pub fn build(config: &Config, mut f: impl FnMut(&ParamInfo, [usize; 2]) -> P) -> Self {
        Self::try_build(config, |info, shape| Ok::<_, std::convert::Infallible>(f(info, shape)))
            .unwrap_or_else(|never| match never {})
    }

    /// [`Params::build`] with a function that may fail; stops at the first error.
    ///
    /// # Errors
    /// The first error of `f`.
    pub fn try_build<E>(config: &Config, mut f: impl FnMut(&ParamInfo, [usize; 2]) -> Result<P, E>) -> Result<Self, E> {
        use Role::*;
        let Config { vocab_size: v, d_model: d, d_mlp, n_head, .. } = *config;
        let (d_read, d_attn) = (config.d_read(), config.n_head * config.d_head);
        // `cols` 0 stands for a vector.
        let mut new = |name: String, role, rows: usize, cols: usize| {
            let n_dim = if cols == 0 { 1 } else { 2 };
            f(&ParamInfo { name, role, n_dim }, [rows, cols.max(1)])
        };
        macro_rules! norm {
            ($name:expr, $width:expr) => {
                Norm {
                    gain: new(format!("{}.weight", $name), NormGain, $width, 0)?,
                    bias: match config.norm_has_bias() {
                        true => Some(new(format!("{}.bias", $name), NormBias, $width, 0)?),
                        false => None,
                    },
                }
            };
        }
        macro_rules! linear {
            ($name:expr, $role:expr, $out:expr, $input:expr) => {
                Linear {
                    weight: new(format!("{}.weight", $name), $role, $out, $input)?,
                    bias: match config.linear_bias {
                        true => Some(new(format!("{}.bias", $name), Bias, $out, 0)?),
                        false => None,
                    },
                }
            };
        }
        let embed = new("transformer.wte.weight".into(), Embed, v, d)?;
        let position_width = match config.positions {
            Positions::None => None,
            Positions::Added => Some(d),
            Positions::Concat { width } | Positions::Sinusoidal { width } => Some(width),
        };
        let position = match position_width {
            Some(width) => Some(new("transformer.wpe.weight".into(), Position, config.n_ctx, width)?),
            None => None,
        };
        let concat = d_read - d;
        // Grows: a file may claim any number of blocks, and the first that it lacks ends this.
        let mut blocks = Vec::new();
        for l in 0..config.n_layer {
            let h = format!("transformer.h.{l}");
            blocks.push(Block {
                attn_norm: norm!(format!("{h}.ln_1"), d),
                attn_pos_norm: if concat > 0 { Some(norm!(format!("{h}.ln_p1"), concat)) } else { None },
                qkv: linear!(format!("{h}.attn.c_attn"), Qkv, 3 * d_attn, d_read),
                sink: match config.sink {
                    true => Some(new(format!("{h}.attn.attn_imp.sink_logit"), Sink, n_head, 0)?),
                    false => None,
                },
                attn_out: linear!(format!("{h}.attn.c_proj"), AttnOut, d, d_attn),
                mlp_norm: norm!(format!("{h}.ln_2"), d),
                mlp_pos_norm: if concat > 0 { Some(norm!(format!("{h}.ln_p2"), concat)) } else { None },
                fc: linear!(format!("{h}.mlp.c_fc"), Fc, d_mlp, d_read),
                proj: linear!(format!("{h}.mlp.c_proj"), Proj, d, d_mlp),
            });
        }
        let final_norm = norm!("transformer.ln_f", d);
        let unembed = match config.tied_unembed {
            true => None,
            false => Some(new("lm_head.weight".into(), Unembed, v, d)?),
        };
        let bigram = match config.bigram {
            crate::Bigram::None => None,
            crate::Bigram::Learned | crate::Bigram::Fixed => Some(new("bigram_table".into(), Bigram, v, v)?),
        };
        let logits_bias = new("final_logits_bias".into(), LogitsBias, v, 0)?;
        Ok(Self { embed, position, blocks, final_norm, unembed, bigram, logits_bias })
    }

    /// Every parameter's name and role, in the order of [`Params::values`].
    pub fn infos(config: &Config) -> Vec<ParamInfo> {
        Params::build(config, |info, _| info.clone()).into_values()
    }
}

/// The walk over a tree, written once for owned, shared and exclusive access: `$iter` is `into_iter`,
/// `iter` or `iter_mut`, and `$borrow` the matching borrow of a field.
macro_rules! walk {
    ($tree:expr, $iter:ident $(, $($borrow:tt)+)?) => {{
        let mut out = Vec::new();
        macro_rules! pair {
            ($first:expr, $second:expr) => {
                out.push($first);
                out.extend($second.$iter());
            };
        }
        let tree = $tree;
        out.push($($($borrow)+)? tree.embed);
        out.extend(tree.position.$iter());
        for b in tree.blocks.$iter() {
            pair!($($($borrow)+)? b.attn_norm.gain, b.attn_norm.bias);
            for n in b.attn_pos_norm.$iter() {
                pair!($($($borrow)+)? n.gain, n.bias);
            }
            pair!($($($borrow)+)? b.qkv.weight, b.qkv.bias);
            out.extend(b.sink.$iter());
            pair!($($($borrow)+)? b.attn_out.weight, b.attn_out.bias);
            pair!($($($borrow)+)? b.mlp_norm.gain, b.mlp_norm.bias);
            for n in b.mlp_pos_norm.$iter() {
                pair!($($($borrow)+)? n.gain, n.bias);
            }
            pair!($($($borrow)+)? b.fc.weight, b.fc.bias);
            pair!($($($borrow)+)? b.proj.weight, b.proj.bias);
        }
        pair!($($($borrow)+)? tree.final_norm.gain, tree.final_norm.bias);
        out.extend(tree.unembed.$iter());
        out.extend(tree.bigram.$iter());
        out.push($($($borrow)+)? tree.logits_bias);
        out
    }};
}

impl<P> Params<P> {
    /// Every parameter, in the order of [`Params::build`].
    pub fn values(&self) -> Vec<&P> {
        walk!(self, iter, &)
    }

    /// Every parameter, to change, in the order of [`Params::build`].
    pub fn values_mut(&mut self) -> Vec<&mut P> {
        walk!(self, iter_mut, &mut)
    }

    /// Every parameter by value, in the order of [`Params::build`].
    pub fn into_values(self) -> Vec<P> {
        walk!(self, into_iter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_has_the_order_of_the_builder() {
        let everything = Config {
            n_layer: 2,
            positions: Positions::Concat { width: 4 },
            norm: crate::NormKind::Layer,
            sink: true,
            ..Config::default()
        };
        for config in [Config::default(), everything] {
            let mut names = Vec::new();
            let mut tree = Params::build(&config, |info, _| {
                names.push(info.name.clone());
                info.name.clone()
            });
            assert_eq!(tree.values(), names.iter().collect::<Vec<_>>());
            assert_eq!(tree.values_mut().len(), names.len());
            assert_eq!(tree.into_values(), names);
        }
    }
}
