//! Named places in the forward pass, and the one hook into them.

use std::ops::ControlFlow;

use openwork_ops::Matrix;

/// A place inside a block (or after the last one).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SiteKind {
    /// Residual stream entering the block, `[d_model, tokens]`.
    ResidIn,
    /// Input of the attention: after the norm and AbsTopK (with the position channels where concatenated).
    AttnRead,
    /// Queries of all heads, `[n_head · d_head, tokens]`.
    Query,
    /// Keys of all heads.
    Key,
    /// Values of all heads.
    Value,
    /// Output of the softmax average, before the output matrix.
    AttnMix,
    /// Attention's addition to the residual stream.
    AttnWrite,
    /// Residual stream between attention and MLP.
    ResidMid,
    /// Input of the MLP.
    MlpRead,
    /// Neurons, after the nonlinearity and AbsTopK, `[d_mlp, tokens]`.
    Neuron,
    /// The MLP's addition to the residual stream.
    MlpWrite,
    /// Residual stream after the last block, before the final norm (its layer is `n_layer`).
    FinalResid,
    /// Input of the unembedding: after the final norm, `[d_model, readout columns]` (its layer is `n_layer`).
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

    /// Every kind of site, in the order of the forward pass.
    const ALL: [SiteKind; 13] = {
        let [a, b, c, d, e, f, g, h, i, j, k] = Self::IN_BLOCK;
        [a, b, c, d, e, f, g, h, i, j, k, SiteKind::FinalResid, SiteKind::FinalRead]
    };

    /// True if the site comes after the last block.
    pub fn is_final(self) -> bool {
        matches!(self, Self::FinalResid | Self::FinalRead)
    }

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

/// A place in the forward pass. Its text is the layer and the kind, `2.attn.resid_delta`; in a model of four blocks the
/// residual stream after the last is `4.final_resid`. [`Config::sites`](crate::Config::sites) lists those of a model.
///
/// ```
/// let site: openwork_model::Site = "4.final_resid".parse()?;
/// assert_eq!((site.layer, site.to_string().as_str(), site.hook_name().as_str()), (4, "4.final_resid", "final_resid"));
/// # Ok::<(), openwork_model::SiteError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    /// Block, from 0; `n_layer` for the sites after the last block.
    pub layer: usize,
    /// Place in it.
    pub kind: SiteKind,
}

impl Site {
    /// The hook name of the published code: its text, but without the layer after the last block.
    pub fn hook_name(self) -> String {
        if self.kind.is_final() { self.kind.published().to_owned() } else { self.to_string() }
    }
}

impl std::fmt::Display for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.layer, self.kind.published())
    }
}

impl std::str::FromStr for Site {
    type Err = SiteError;

    fn from_str(name: &str) -> Result<Self, SiteError> {
        let unknown = || SiteError { name: name.to_owned() };
        let (layer, rest) = name.split_once('.').ok_or_else(unknown)?;
        let kind = SiteKind::ALL.into_iter().find(|kind| kind.published() == rest).ok_or_else(unknown)?;
        Ok(Site { layer: layer.parse().map_err(|_| unknown())?, kind })
    }
}

/// A text that names no site.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no site is called {name:?}; sites look like 2.attn.resid_delta")]
pub struct SiteError {
    /// The text.
    pub name: String,
}

/// The only hook into the forward and backward pass: record, ablate, mask, patch, stop. Values are arrays of the device
/// that the pass runs on: matrices on the CPU.
///
/// ```
/// # use std::ops::ControlFlow;
/// # use openwork_model::{Config, Matrix, Model, Site, SiteKind, Tap, Tokens};
/// struct MaxNeuron(f32);
/// impl Tap for MaxNeuron {
///     fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
///         if site.kind == SiteKind::Neuron {
///             self.0 = value.iter().fold(self.0, |max, &x| max.max(x));
///         }
///         ControlFlow::Continue(())
///     }
/// }
/// let mut max = MaxNeuron(0.0);
/// Model::init(Config::default(), 0).forward(Tokens::new(&[1, 2, 3], 3), None, &mut max);
/// assert!(max.0 > 0.0);
/// ```
///
/// `forward` sees (and may change) every site's value `[features, tokens]` in order; `backward` sees the
/// gradient with respect to what `forward` left and must turn it into the gradient with respect to what
/// `forward` was given, in the reverse order.
pub trait Tap<A = Matrix> {
    /// Called when the value at `site` is ready. `Break` stops the pass: no later operation runs, no later site is
    /// visited, and there are no logits.
    fn forward(&mut self, site: Site, value: &mut A) -> ControlFlow<()> {
        let _ = (site, value);
        ControlFlow::Continue(())
    }

    /// True if [`Tap::backward`] looks at gradients. If not, gradients of entries that AbsTopK dropped, which
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

/// Two taps in one pass: the second sees the values that the first left, and backward the other way round. Where the
/// first stops the pass, the second does not see that site.
impl<A, T: Tap<A>, U: Tap<A>> Tap<A> for (T, U) {
    fn forward(&mut self, site: Site, value: &mut A) -> ControlFlow<()> {
        self.0.forward(site, value)?;
        self.1.forward(site, value)
    }

    fn sees_gradients(&self) -> bool {
        self.0.sees_gradients() || self.1.sees_gradients()
    }

    fn backward(&mut self, site: Site, gradient: &mut A) {
        self.1.backward(site, gradient);
        self.0.backward(site, gradient);
    }
}

/// The recorder of activations: a tap that keeps a copy of the value at every site, or at the sites of some kinds.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Values `[features, tokens]` in the order of the forward pass.
    pub values: Vec<(Site, Matrix)>,
    /// Kinds that are recorded; all where there is none.
    kinds: Option<Vec<SiteKind>>,
}

impl Record {
    /// Records sites of these kinds alone.
    pub fn of_kinds(kinds: &[SiteKind]) -> Self {
        Self { values: vec![], kinds: Some(kinds.to_vec()) }
    }

    /// The value at a site; `None` if it was not recorded.
    pub fn at(&self, site: Site) -> Option<&Matrix> {
        self.values.iter().find(|(s, _)| *s == site).map(|(_, value)| value)
    }

    /// The record of a batch whose token t has the values of token `columns[t]` of this one.
    pub fn rearranged(&self, columns: &[usize]) -> Self {
        let take = |(site, value): &(Site, Matrix)| (*site, value.select(ndarray::Axis(1), columns));
        Self { values: self.values.iter().map(take).collect(), kinds: self.kinds.clone() }
    }
}

impl Tap for Record {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        if self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&site.kind)) {
            self.values.push((site, value.clone()));
        }
        ControlFlow::Continue(())
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
            fn forward(&mut self, _: Site, value: &mut i32) -> ControlFlow<()> {
                *value *= self.0;
                ControlFlow::Continue(())
            }
            fn backward(&mut self, _: Site, gradient: &mut i32) {
                *gradient *= self.0;
            }
        }
        impl Tap<i32> for Plus {
            fn forward(&mut self, _: Site, value: &mut i32) -> ControlFlow<()> {
                *value += self.0;
                if *value > 100 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
            fn backward(&mut self, _: Site, gradient: &mut i32) {
                *gradient += self.0;
            }
        }
        let site = Site { layer: 0, kind: SiteKind::Neuron };
        let (mut value, mut gradient, mut both) = (1, 1, (Times(3), Plus(4)));
        assert!(both.forward(site, &mut value).is_continue());
        both.backward(site, &mut gradient);
        assert_eq!((value, gradient), (3 + 4, (1 + 4) * 3));
        // The first of two stops the pass before the second sees the value, and the second stops it as well.
        let mut large = 100;
        assert!((Plus(1), Times(3)).forward(site, &mut large).is_break());
        assert_eq!(large, 101);
        assert!((Times(3), Plus(4)).forward(site, &mut large).is_break());
        assert_eq!(large, 3 * 101 + 4);
        assert!(Tap::<i32>::sees_gradients(&both));
        assert!(Tap::<i32>::sees_gradients(&(NoTap, Plus(0))) && !Tap::<i32>::sees_gradients(&(NoTap, NoTap)));
    }

    #[test]
    fn every_site_of_a_model_reads_back_and_the_order_is_that_of_the_pass() {
        let sites = crate::Config { n_layer: 3, ..crate::Config::default() }.sites();
        assert_eq!(sites.len(), 3 * 11 + 2);
        assert!(sites.is_sorted());
        for site in &sites {
            assert_eq!(site.to_string().parse(), Ok(*site));
        }
        assert_eq!(sites[33].to_string(), "3.final_resid");
        assert_eq!((sites[33].hook_name().as_str(), sites[11].hook_name().as_str()), ("final_resid", "1.resid_in"));
        for name in ["3.attn.z", "x.attn.q", "final_resid", "-1.final_read", ""] {
            assert_eq!(name.parse::<Site>(), Err(SiteError { name: name.into() }));
        }
    }
}
