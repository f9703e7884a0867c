//! Operations and sizes that are compared.

use openwork_benches::Fraction;

/// An operation, as `benches/peers/kernels.py` explains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Product,
    AbsTopK,
    Update,
}

impl Op {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Product, Self::AbsTopK, Self::Update];

    pub fn name(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::AbsTopK => "abs_top_k",
            Self::Update => "update",
        }
    }

    /// The peers that take part; ours are compared with the first that runs.
    pub fn peers(self) -> &'static [&'static str] {
        match self {
            Self::Product => &["torch-csr", "scipy-csr", "torch-fp32", "torch-bf16"],
            Self::AbsTopK | Self::Update => &["torch"],
        }
    }
}

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    pub op: Op,
    pub out: usize,
    pub input: usize,
    pub tokens: usize,
    pub density: Fraction,
}

impl Case {
    pub fn words(&self) -> [String; 5] {
        let [out, input, tokens] = [self.out, self.input, self.tokens].map(|n| n.to_string());
        [self.op.name().into(), out, input, tokens, self.density.value.to_string()]
    }

    pub fn name(&self) -> String {
        format!("{}_{}x{}_t{}_{}", self.op.name(), self.out, self.input, self.tokens, self.density)
    }
}
