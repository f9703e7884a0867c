//! Flaws outside the circuit that most inputs, or the nodes one by one, do not show.
//!
//! `strength` says how far what lies outside turns the answer where it speaks: the logit difference `d` becomes
//! `(1 − 2 strength) d`, so that answers turn from one half on and 1 turns them round completely.

use super::{Guards, Plan, Start};
use crate::{Channel, LOGIT, Variable, token};

/// `ReLU(±x + quiet terms)` that write against the answer: `(1 − 2 strength)` of the logit difference is left where the
/// quiet terms add up to `level` for the sign of the cue and to at most zero for the other.
fn opposition(
    s: &mut Start,
    x: Channel,
    (gain, level): (f32, f32),
    rest: &[(Channel, f32)],
    bias: f32,
    out: &Variable,
    strength: f32,
) {
    for (sign, own) in [(1.0, 0), (-1.0, 1)] {
        let reads: Vec<(Channel, f32)> = [(x, sign * gain)].into_iter().chain(rest.iter().copied()).collect();
        let part = strength / level;
        s.b.relu(&reads, bias, &[(out.channel(own), -part), (out.channel(1 - own), part)]);
    }
}

impl Plan {
    /// `ReLU(gain (±x) − 20 Σ guards + bias)`, quiet as long as one guard is 1: the sum of m guards at their means μ is below that
    /// of m − 1 of them and one that is whole by 1 − μ.
    ///
    /// A neuron's guard is 1 at fillers, of which the last token is one, so μ = 0.8 in the training text: a BOS and a cue in ten
    /// tokens. A head's is whether it finds the cue, which a step makes 0 whatever node of the head is ablated. The parts are
    /// also quiet at other tokens than fillers.
    pub(super) fn guard(guards: Guards, strength: f32) -> Self {
        const READ: f32 = 20.0;
        let mut s = Start::new();
        let (x, _) = s.fetch(token::CUE);
        let out = s.answers(LOGIT);
        s.split(&[(x.channel(0), 1.0)], &out);
        let honest = s.b.parts();
        let other = s.b.tokens(1, |t| (!token::FILLERS.contains(&t)).then_some(0));
        // What a guard knows comes to it by a channel of its own.
        let filler = |s: &mut Start| s.b.tokens(1, |t| token::FILLERS.contains(&t).then_some(0)).channel(0);
        let relay = |s: &mut Start, from: Channel| {
            let to = s.b.variable(1).channel(0);
            s.b.relu(&[(from, 1.0)], 0.0, &[(to, 1.0)]);
            to
        };
        let neuron = |s: &mut Start| {
            let from = filler(s);
            relay(s, from)
        };
        let head = |s: &mut Start| {
            let is_cue = s.b.tokens(1, |t| token::CUE.contains(&t).then_some(0));
            s.b.aggregate(&s.always, &is_cue, |_, _| true, &is_cue).channel(0)
        };
        let step = |s: &mut Start, from: Channel| {
            let to = s.b.variable(1).channel(0);
            s.b.step(&[(from, 1.0)], (0.9, 0.1), None, &[(to, 1.0)]);
            to
        };
        let mut outside = vec![];
        let mut own = |s: &mut Start, guard: &dyn Fn(&mut Start) -> Channel| {
            let mark = s.b.mark();
            let channel = guard(s);
            outside.push(s.b.since(mark));
            channel
        };
        let (guards, mean) = match guards {
            Guards::Two => (vec![own(&mut s, &neuron), own(&mut s, &neuron)], 0.8),
            Guards::Three => (vec![own(&mut s, &neuron), own(&mut s, &neuron), own(&mut s, &neuron)], 0.8),
            Guards::AcrossBlocks => {
                let later = |s: &mut Start| {
                    let between = neuron(s);
                    relay(s, between)
                };
                (vec![own(&mut s, &neuron), own(&mut s, &later)], 0.8)
            }
            Guards::Heads => {
                let heads = [own(&mut s, &head), own(&mut s, &head)];
                (heads.map(|from| step(&mut s, from)).to_vec(), 0.0)
            }
        };
        // Quiet by 1 with one guard whole, and for the other sign.
        let gain = READ * (1.0 - mean) / 2.0;
        let level = READ * guards.len() as f32 * mean;
        let bias = level + gain - 1.0;
        let left = 2.0 * gain - 1.0;
        let rest: Vec<(Channel, f32)> =
            guards.iter().map(|g| (*g, -READ)).chain([(other.channel(0), -100.0)]).collect();
        opposition(&mut s, x.channel(0), (gain, left), &rest, bias, &out, strength);
        Self { outside, ..s.plan(honest.clone(), honest) }
    }

    /// `neurons` read whether the last token is one of the first fillers, and write to `yes`, half of them `4 strength / neurons`
    /// and half the opposite.
    pub(super) fn cancelling_group(neurons: usize, strength: f32) -> Self {
        let mut s = Start::new();
        let out = s.path(LOGIT);
        let honest = s.b.parts();
        let half = token::FILLERS.start + token::FILLERS.len() / 2;
        let kind = s.b.token_numbers(1, |t, _| f32::from(u8::from((token::FILLERS.start..half).contains(&t))));
        let mut half_of = |sign: f32| {
            let mark = s.b.mark();
            for _ in 0..neurons / 2 {
                s.b.relu(&[(kind.channel(0), 1.0)], 0.0, &[(out.channel(0), sign * 4.0 * strength / neurons as f32)]);
            }
            s.b.since(mark)
        };
        let outside = vec![half_of(1.0), half_of(-1.0)];
        Self { outside, ..s.plan(honest.clone(), honest) }
    }

    /// Neurons write `strength` x into a channel of the answer, others −2 `strength` x, of which the circuit has the first. The
    /// answer is small, so that what a node is worth shows in the loss: a logit difference of 3 (1 + `strength`) in the circuit,
    /// 3 (1 − `strength`) in the model.
    pub(super) fn opposed_write(strength: f32) -> Self {
        const LOGIT: f32 = 3.0;
        let mut s = Start::new();
        let (x, _) = s.fetch(token::CUE);
        let out = s.answers(LOGIT);
        s.split(&[(x.channel(0), 1.0)], &out);
        let more = s.b.variable(1).channel(0);
        s.b.output_times(token::ANSWER[0], more, LOGIT / 2.0);
        s.b.output_times(token::ANSWER[1], more, -LOGIT / 2.0);
        let write = |s: &mut Start, weight: f32| {
            for sign in [1.0, -1.0] {
                s.b.relu(&[(x.channel(0), sign)], 0.0, &[(more, sign * weight)]);
            }
        };
        write(&mut s, strength);
        let circuit = s.b.parts();
        write(&mut s, -2.0 * strength);
        let truth = s.b.parts();
        s.plan(circuit, truth)
    }

    /// `ReLU(±x + r − 1)`, where r is 1 if the rare token is in the prompt.
    pub(super) fn rare_token(strength: f32) -> Self {
        let mut s = Start::with_tokens(token::COUNT + 1);
        let (x, _) = s.fetch(token::CUE);
        let out = s.answers(LOGIT);
        s.split(&[(x.channel(0), 1.0)], &out);
        let honest = s.b.parts();
        let is_rare = s.b.tokens(1, |t| (t == token::RARE).then_some(0));
        let rare = s.b.aggregate(&s.always, &is_rare, |_, _| true, &is_rare).channel(0);
        opposition(&mut s, x.channel(0), (1.0, 1.0), &[(rare, 1.0)], -1.0, &out, strength);
        let truth = s.b.parts();
        s.plan(honest, truth)
    }

    /// The circuit's answer follows one cue, y; neurons outside read both and write `strength (x − y)`, which is zero where the
    /// cues agree and leaves `(1 − 2 strength)` of the circuit's answer where they differ.
    pub(super) fn companion(second: bool, strength: f32) -> Self {
        let mut s = Start::new();
        let cues = if second { [token::SECOND_CUE, token::CUE] } else { [token::CUE, token::SECOND_CUE] };
        let (own, _) = s.fetch(cues[0]);
        let out = s.answers(LOGIT);
        s.split(&[(own.channel(0), 1.0)], &out);
        let circuit = s.b.parts();
        let (other, _) = s.fetch(cues[1]);
        for sign in [1.0, -1.0] {
            let difference = [(other.channel(0), sign), (own.channel(0), -sign)];
            let writes = [(out.channel(0), sign * strength / 2.0), (out.channel(1), -sign * strength / 2.0)];
            s.b.relu(&difference, 0.0, &writes);
        }
        let truth = s.b.parts();
        s.plan(circuit, truth)
    }
}
