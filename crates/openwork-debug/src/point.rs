//! Points of an execution, and the quantities that have a value there.

use std::fmt;

use openwork_circuit::Node;
use openwork_model::{Config, Site};
use serde::{Serialize, Serializer};

/// A place in the order of the forward pass: a site, or the logits after the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A site of the model.
    Site(Site),
    /// The logits, after every site.
    Logits,
}

impl Place {
    /// Every place of a model, in the order of the forward pass.
    pub fn all(config: &Config) -> Vec<Self> {
        config.sites().into_iter().map(Self::Site).chain([Self::Logits]).collect()
    }

    /// Block of the place; `n_layer` after the last block.
    pub fn layer(self, config: &Config) -> usize {
        match self {
            Self::Site(site) => site.layer,
            Self::Logits => config.n_layer,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Site(site) => site.fmt(f),
            Self::Logits => f.write_str("logits"),
        }
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A point of an execution: the value at `place` of the token at `position` is ready. Points are ordered by place, then by
/// position, as the pass computes them. Its text is `1.attn.q@5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    /// Site or logits.
    pub place: Place,
    /// Position of the token, from 0.
    pub position: usize,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.place, self.position)
    }
}

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Side of a query-key product from which it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScoreSide {
    /// Channels of the query, each times the key's channel.
    Query,
    /// Channels of the key, each times the query's channel.
    Key,
}

/// A number that a pass has at every position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantity {
    /// A feature of any site.
    Node(Node),
    /// The logit of a token.
    Logit(u16),
    /// The logit of the first token less that of the second.
    Lead(u16, u16),
    /// The attention score `q · k / √d_head` of a head between the query at the position and the key at `key`.
    Score {
        /// Block.
        layer: usize,
        /// Head.
        head: usize,
        /// Position of the key.
        key: usize,
        /// Side that its causes are on.
        side: ScoreSide,
    },
}

impl Quantity {
    /// Place at which the quantity is ready.
    pub fn place(self) -> Place {
        match self {
            Self::Node(node) => Place::Site(node.site),
            Self::Logit(_) | Self::Lead(..) => Place::Logits,
            Self::Score { layer, .. } => Place::Site(Site { layer, kind: openwork_model::SiteKind::Key }),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(node) => node.fmt(f),
            Self::Logit(token) => write!(f, "logit(#{token})"),
            Self::Lead(first, second) => write!(f, "logit(#{first}) - logit(#{second})"),
            Self::Score { layer, head, key, side } => {
                let side = match side {
                    ScoreSide::Query => "by query",
                    ScoreSide::Key => "by key",
                };
                write!(f, "{layer}.head.{head} score of key {key} {side}")
            }
        }
    }
}

/// A quantity at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The quantity.
    pub quantity: Quantity,
    /// Position of the token, from 0.
    pub position: usize,
}

impl Target {
    /// A node at a position.
    pub fn node(node: Node, position: usize) -> Self {
        Self { quantity: Quantity::Node(node), position }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.quantity {
            Quantity::Lead(..) => write!(f, "({})@{}", self.quantity, self.position),
            _ => write!(f, "{}@{}", self.quantity, self.position),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
