//! Circuits of the wrong size, and what a circuit leaves out that hardly shows.

use super::{LiveJunk, Plan, Start, token};
use crate::{Channel, LOGIT, Variable};

/// Neurons of live junk at full strength, beside the dozen nodes of the path.
const JUNK: usize = 18;
/// Idle neurons at full strength, and neurons that share the answer.
const MANY: usize = 400;
/// Logit of the third token at full strength, where nothing holds it down.
const LOUD: f32 = 60.0;

impl Start {
    /// The honest path, and the fetched sign and the logits that it goes between.
    fn open_path(&mut self) -> (Channel, Variable) {
        let (x, _) = self.fetch(token::CUE);
        let out = self.answers(LOGIT);
        self.split(&[(x.channel(0), 1.0)], &out);
        (x.channel(0), out)
    }

    /// `weight · ReLU(±x)` to the logit of one answer.
    fn add(&mut self, x: Channel, side: usize, out: &Variable, weight: f32) {
        self.b.relu(&[(x, [1.0, -1.0][side])], 0.0, &[(out.channel(side), weight)]);
    }
}

impl Plan {
    /// `strength` is the share of [`JUNK`] neurons; of heads, there are two, and it says how much their neurons write.
    pub(super) fn live_junk(way: LiveJunk, strength: f32) -> Self {
        let mut s = Start::new();
        let (x, out) = s.open_path();
        let truth = s.b.parts();
        if way == LiveJunk::Heads {
            for sign in [1.0, -1.0] {
                let (own, _) = s.fetch(token::CUE);
                (0..2).for_each(|side| s.add(own.channel(0), side, &out, sign * (0.05 + 0.15 * strength)));
            }
        } else {
            let n = ((JUNK as f32 * strength / 2.0).round() as usize).max(2);
            let weights = way.weights(n);
            (0..2).for_each(|side| weights.iter().for_each(|&w| s.add(x, side, &out, w)));
        }
        let all = s.b.parts();
        s.plan(all, truth)
    }

    /// `strength` is the share of the lead that the second path carries.
    pub(super) fn faint_path(strength: f32) -> Self {
        let mut s = Start::new();
        s.path(LOGIT * (1.0 - strength));
        let first = s.b.parts();
        s.path(LOGIT * strength);
        let both = s.b.parts();
        s.plan(first, both)
    }

    /// `strength` is the share of [`MANY`] idle neurons. They read the sign that is fetched.
    pub(super) fn crowd(strength: f32) -> Self {
        let mut s = Start::new();
        let (x, _) = s.open_path();
        let truth = s.b.parts();
        let idle = s.b.variable(1);
        for i in 0..(MANY as f32 * strength) as usize {
            s.b.relu(&[(x, [1.0, -1.0][i % 2])], 0.0, &[(idle.channel(0), 1.0)]);
        }
        let all = s.b.parts();
        s.plan(all, truth)
    }

    /// Each of [`MANY`] neurons writes as much as the others.
    pub(super) fn large() -> Self {
        let mut s = Start::new();
        let (x, _) = s.fetch(token::CUE);
        let out = s.answers(LOGIT);
        for i in 0..MANY {
            s.add(x.channel(0), i % 2, &out, 2.0 / MANY as f32);
        }
        s.all()
    }

    /// The third token has the logit [`LOUD`] · `strength` everywhere, past all nodes, and neurons that fire where a cue was found
    /// take it away. The circuit leaves those out; their mean is less than what it takes.
    pub(super) fn third_token(strength: f32) -> Self {
        let mut s = Start::new();
        let (x, _) = s.open_path();
        let path = s.b.parts();
        let found = s.b.variable(1);
        for sign in [1.0, -1.0] {
            s.b.relu(&[(x, sign)], 0.0, &[(found.channel(0), 1.0)]);
        }
        s.b.output_times(token::SECOND_CUE[0], s.always.channel(0), LOUD * strength);
        s.b.output_times(token::SECOND_CUE[0], found.channel(0), -LOUD * strength);
        let truth = s.b.parts();
        s.plan(path, truth)
    }
}

impl LiveJunk {
    /// Weights of `n` neurons, in parts of the answer's own.
    fn weights(self, n: usize) -> Vec<f32> {
        // 0.05 to 0.2, spread evenly by the golden ratio.
        let size = |i: usize| 0.05 + 0.15 * (0.618_034 * i as f32).fract();
        match self {
            Self::Pairs | Self::Heads => (0..n / 2 * 2).map(|i| [1.0, -1.0][i % 2] * size(i / 2)).collect(),
            Self::ZeroSum | Self::TinySum => {
                let mut weights: Vec<f32> = (0..n - 1).map(|i| [1.0, -1.0][i % 2] * size(i)).collect();
                let sum = if self == Self::TinySum { 0.004 } else { 0.0 };
                weights.push(sum - weights.iter().sum::<f32>());
                weights
            }
        }
    }
}
