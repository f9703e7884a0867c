//! Values that are not finite: NaN, or beyond the range of f32.
//!
//! Operations hand them on, so that logits tell whether a pass met one; the place is looked for only then.

use std::ops::ControlFlow;

use openwork_ops::Matrix;

use crate::{Model, Site, SiteKind, Tap, Tokens};

/// First value of a pass that is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place} at token {position} of sequence {sequence} (both from 0)")]
pub struct NotFinite {
    /// Value that is not finite.
    pub place: Place,
    /// Sequence of the batch, from 0.
    pub sequence: usize,
    /// Token in its sequence, from 0.
    pub position: usize,
}

/// Value that is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Place {
    /// Attention scores.
    #[error("attention scores of block {layer}, head {head} are not finite (queries and keys are too large)")]
    Scores {
        /// The block, from 0.
        layer: usize,
        /// The head, from 0.
        head: usize,
    },
    /// A feature at a site.
    #[error("feature {feature} of {site} is not finite")]
    Feature {
        /// The site.
        site: Site,
        /// The feature.
        feature: usize,
    },
    /// Logits.
    #[error("logits are not finite")]
    Logits,
}

impl Model {
    /// Checks the logits of a pass over `tokens`, read out at all columns or some: none may be NaN or +∞. (-∞ excludes a
    /// token; only weights that are not finite give it.)
    ///
    /// # Errors
    /// The first value of the pass that is not finite, in the order of the sites: another pass finds it.
    pub fn check_finite(&self, tokens: Tokens<'_>, logits: &Matrix) -> Result<(), NotFinite> {
        if logits.iter().all(|&x| x < f32::INFINITY) {
            return Ok(());
        }
        let mut search = Search { d_head: self.config.d_head, found: None };
        // The tap stops the pass where it finds the value.
        let _ = self.forward_until(tokens, None, &mut search, &mut openwork_ops::Cpu::default());
        let (place, column) = search.found.unwrap_or_else(|| {
            let column = logits.columns().into_iter().position(|c| c.iter().any(|&x| x.is_nan() || x == f32::INFINITY));
            (Place::Logits, column.unwrap_or_default())
        });
        Err(NotFinite { place, sequence: column / tokens.seq_len, position: column % tokens.seq_len })
    }
}

/// Tap that stops at the first value that is not finite.
struct Search {
    d_head: usize,
    /// The value and its column.
    found: Option<(Place, usize)>,
}

impl Tap for Search {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        let by_token = value.columns().into_iter().enumerate();
        let found = by_token
            .flat_map(|(t, column)| column.into_iter().position(|x| !x.is_finite()).map(|feature| (feature, t)));
        let Some((feature, column)) = found.take(1).next() else { return ControlFlow::Continue(()) };
        let place = match site.kind {
            // Queries, keys and values came first, and were finite.
            SiteKind::AttnMix => Place::Scores { layer: site.layer, head: feature / self.d_head },
            _ => Place::Feature { site, feature },
        };
        self.found = Some((place, column));
        ControlFlow::Break(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Activation, Config, NoTap};

    fn model(activation: Activation) -> Model {
        let config = Config {
            vocab_size: 24,
            n_ctx: 8,
            n_layer: 2,
            n_head: 2,
            d_head: 4,
            d_model: 8,
            d_mlp: 16,
            act_density: None,
            activation,
            ..Config::default()
        };
        Model::init(config, 1)
    }

    fn check(model: &Model) -> Result<(), NotFinite> {
        let tokens = [1, 5, 9, 2, 5, 5, 7, 8];
        let tokens = Tokens::new(&tokens, 4);
        model.check_finite(tokens, &model.forward(tokens, None, &mut NoTap).logits)
    }

    #[test]
    fn attention_scores_that_overflow_are_named_by_head_and_token() {
        let mut model = model(Activation::Gelu);
        assert_eq!(check(&model), Ok(()));
        // Queries and keys of head 1 of block 1: rows 4..8 of each.
        model.params.blocks[1].qkv.weight.update(|w| {
            for row in (4..8).chain(12..16) {
                w.row_mut(row).mapv_inplace(|x| x * 1e30);
            }
        });
        let error = check(&model).unwrap_err();
        assert_eq!(error.place, Place::Scores { layer: 1, head: 1 });
        assert_eq!((error.sequence, error.position), (0, 0));
        let text = error.to_string();
        assert!(text.contains("block 1, head 1") && text.contains("token 0 of sequence 0"), "{text}");
    }

    #[test]
    fn sums_that_overflow_are_named_by_site() {
        for activation in [Activation::Gelu, Activation::Relu] {
            let mut model = model(activation);
            // One neuron of block 0 reads infinity minus infinity.
            model.params.blocks[0].fc.weight.update(|w| {
                w.row_mut(3).iter_mut().zip(0..).for_each(|(w, i)| *w = if i % 2 == 0 { 3e38 } else { -3e38 });
            });
            let error = check(&model).unwrap_err();
            let site = Site { layer: 0, kind: SiteKind::Neuron };
            assert_eq!(error.place, Place::Feature { site, feature: 3 }, "{activation:?}");
        }
    }
}
