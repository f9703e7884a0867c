//! The residual stream as a sum: embedding, positions, and the writes of earlier layers.

use std::fmt;

use openwork_circuit::Node;
use openwork_model::{Model, Positions, Site, SiteKind};

use crate::Trace;

/// A summand of the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StreamSource {
    /// Embedding of the token.
    Embedding,
    /// Position embedding that is added to it.
    Position,
    /// A write of attention or MLP.
    Write(Site),
    /// Amount that edits added to the stream at a site.
    Edit(Site),
}

impl fmt::Display for StreamSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedding => f.write_str("the embedding"),
            Self::Position => f.write_str("the position embedding"),
            Self::Write(site) => site.fmt(f),
            Self::Edit(site) => write!(f, "an edit of {site}"),
        }
    }
}

/// Residual stream at a site of it and a position of a trace.
pub(crate) struct Stream<'a> {
    model: &'a Model,
    trace: &'a Trace,
    position: usize,
    sources: Vec<StreamSource>,
}

impl<'a> Stream<'a> {
    /// The stream at `site`, which is one of the stream itself.
    pub fn new(model: &'a Model, trace: &'a Trace, site: Site, position: usize) -> Self {
        let config = &model.config;
        let mut sources = vec![StreamSource::Embedding];
        if config.positions == Positions::Added {
            sources.push(StreamSource::Position);
        }
        for earlier in config.sites().into_iter().filter(|earlier| *earlier <= site) {
            match earlier.kind {
                SiteKind::AttnWrite | SiteKind::MlpWrite => sources.push(StreamSource::Write(earlier)),
                SiteKind::ResidIn | SiteKind::ResidMid | SiteKind::FinalResid
                    if trace.given_at(earlier, position).next().is_some() =>
                {
                    sources.push(StreamSource::Edit(earlier));
                }
                _ => (),
            }
        }
        Self { model, trace, position, sources }
    }

    /// Summands, in the order in which they are added.
    pub fn sources(&self) -> &[StreamSource] {
        &self.sources
    }

    /// Feature `feature` of a summand.
    pub fn value(&self, source: StreamSource, feature: usize) -> f64 {
        let params = &self.model.params;
        f64::from(match source {
            StreamSource::Embedding => params.embed.dense()[[usize::from(self.trace.tokens()[self.position]), feature]],
            StreamSource::Position => {
                params.position.as_ref().expect("the tree follows the configuration").dense()[[self.position, feature]]
            }
            StreamSource::Write(site) => self.trace.value(Node { site, index: feature }, self.position),
            StreamSource::Edit(site) => {
                let node = Node { site, index: feature };
                let given = self.trace.given(node, self.position);
                given.map_or(0.0, |given| self.trace.value(node, self.position) - given)
            }
        })
    }
}
