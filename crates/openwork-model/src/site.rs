//! Named places in the forward pass, and the one hook into them.

use openwork_ops::Matrix;

/// A place inside a block (or after the last one).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SiteKind {
    /// Residual stream entering the block, `[d_model, tokens]`.
    ResidIn,
    /// What the attention reads: after the norm and AbsTopK (with the position channels where concatenated).
    AttnRead,
    /// Queries of all heads, `[n_head · d_head, tokens]`.
    Query,
    /// Keys of all heads.
    Key,
    /// Values of all heads.
    Value,
    /// Output of the softmax average, before the output matrix.
    AttnMix,
    /// What the attention adds to the residual stream.
    AttnWrite,
    /// Residual stream between attention and MLP.
    ResidMid,
    /// What the MLP reads.
    MlpRead,
    /// Neurons, after the nonlinearity and AbsTopK, `[d_mlp, tokens]`.
    Neuron,
    /// What the MLP adds to the residual stream.
    MlpWrite,
    /// Residual stream after the last block, before the final norm (its layer is `n_layer`).
    FinalResid,
    /// What the unembedding reads: after the final norm, `[d_model, readout columns]` (its layer is `n_layer`).
    FinalRead,
}

impl SiteKind {
    /// Every place inside a block, in the order of the forward pass.
    pub const IN_BLOCK: [SiteKind; 11] = [
        SiteKind::ResidIn,
        SiteKind::AttnRead,
        SiteKind::Query,
        SiteKind::Key,
        SiteKind::Value,
        SiteKind::AttnMix,
        SiteKind::AttnWrite,
        SiteKind::ResidMid,
        SiteKind::MlpRead,
        SiteKind::Neuron,
        SiteKind::MlpWrite,
    ];

    /// The hook name of the published code without its layer.
    fn published(self) -> &'static str {
        match self {
            SiteKind::ResidIn => "resid_in",
            SiteKind::AttnRead => "attn.act_in",
            SiteKind::Query => "attn.q",
            SiteKind::Key => "attn.k",
            SiteKind::Value => "attn.v",
            SiteKind::AttnMix => "attn.y",
            SiteKind::AttnWrite => "attn.resid_delta",
            SiteKind::ResidMid => "resid_mid",
            SiteKind::MlpRead => "mlp.act_in",
            SiteKind::Neuron => "mlp.post_act",
            SiteKind::MlpWrite => "mlp.resid_delta",
            SiteKind::FinalResid => "final_resid",
            SiteKind::FinalRead => "final_read",
        }
    }
}

/// A place in the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// Block, from 0.
    pub layer: usize,
    /// Place in it.
    pub kind: SiteKind,
}

impl std::fmt::Display for Site {
    /// The hook name of the published code, such as `2.attn.resid_delta`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            SiteKind::FinalResid | SiteKind::FinalRead => f.write_str(self.kind.published()),
            kind => write!(f, "{}.{}", self.layer, kind.published()),
        }
    }
}

impl std::str::FromStr for Site {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let unknown = || format!("no site is called {name:?}; sites look like 2.attn.resid_delta");
        let (layer, rest) = name.split_once('.').ok_or_else(unknown)?;
        let kind = SiteKind::IN_BLOCK.into_iter().find(|kind| kind.published() == rest).ok_or_else(unknown)?;
        Ok(Site { layer: layer.parse().map_err(|_| unknown())?, kind })
    }
}

/// The only hook into the forward and backward pass: record, ablate, mask, patch. Values are arrays of the device that
/// the pass runs on: matrices on the CPU.
///
/// `forward` sees (and may change) every site's value `[features, tokens]` in order; `backward` sees the
/// gradient with respect to what `forward` left and must turn it into the gradient with respect to what
/// `forward` was given, in the reverse order.
pub trait Tap<A = Matrix> {
    /// Called when the value at `site` is ready.
    fn forward(&mut self, site: Site, value: &mut A) {
        let _ = (site, value);
    }

    /// Whether [`Tap::backward`] looks at gradients. If not, gradients of entries that AbsTopK dropped, which
    /// nothing else reads, need not be computed.
    fn sees_gradients(&self) -> bool {
        true
    }

    /// Called when the gradient at `site` is ready.
    fn backward(&mut self, site: Site, gradient: &mut A) {
        let _ = (site, gradient);
    }
}

/// Changes and records nothing.
pub struct NoTap;

impl<A> Tap<A> for NoTap {
    fn sees_gradients(&self) -> bool {
        false
    }
}

/// Two taps in one pass: the second sees what the first left, and backward the other way round.
impl<A, T: Tap<A>, U: Tap<A>> Tap<A> for (T, U) {
    fn forward(&mut self, site: Site, value: &mut A) {
        self.0.forward(site, value);
        self.1.forward(site, value);
    }

    fn sees_gradients(&self) -> bool {
        self.0.sees_gradients() || self.1.sees_gradients()
    }

    fn backward(&mut self, site: Site, gradient: &mut A) {
        self.1.backward(site, gradient);
        self.0.backward(site, gradient);
    }
}

/// Keeps a copy of the value at every site.
#[derive(Default)]
pub struct Record {
    /// Values in the order of the forward pass.
    pub values: Vec<(Site, Matrix)>,
}

impl Tap for Record {
    fn forward(&mut self, site: Site, value: &mut Matrix) {
        self.values.push((site, value.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_taps_in_one_pass_mirror_each_other() {
        struct Times(i32);
        struct Plus(i32);
        impl Tap<i32> for Times {
            fn forward(&mut self, _: Site, value: &mut i32) {
                *value *= self.0;
            }
            fn backward(&mut self, _: Site, gradient: &mut i32) {
                *gradient *= self.0;
            }
        }
        impl Tap<i32> for Plus {
            fn forward(&mut self, _: Site, value: &mut i32) {
                *value += self.0;
            }
            fn backward(&mut self, _: Site, gradient: &mut i32) {
                *gradient += self.0;
            }
        }
        let site = Site { layer: 0, kind: SiteKind::Neuron };
        let (mut value, mut gradient, mut both) = (1, 1, (Times(3), Plus(4)));
        both.forward(site, &mut value);
        both.backward(site, &mut gradient);
        assert_eq!((value, gradient), (3 + 4, (1 + 4) * 3));
        assert!(Tap::<i32>::sees_gradients(&both));
        assert!(Tap::<i32>::sees_gradients(&(NoTap, Plus(0))) && !Tap::<i32>::sees_gradients(&(NoTap, NoTap)));
    }

    #[test]
    fn names_round_trip() {
        for kind in SiteKind::IN_BLOCK {
            let site = Site { layer: 3, kind };
            assert_eq!(site.to_string().parse(), Ok(site));
        }
        assert!("3.attn.z".parse::<Site>().is_err() && "x.attn.q".parse::<Site>().is_err());
    }
}
