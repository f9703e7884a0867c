//! Hand-built models with one thing wrong: for each a circuit that looks right to some check and is not, and the true one.
//!
//! All do the *cue task*: a prompt is BOS and fillers, one of which is replaced by a cue, `+` or `-`; the next token is `yes`
//! or `no`. A head that looks for cues fetches the sign, ±1 (0 at fillers, so that its mean is 0 in balanced text), neurons
//! write it where the unembedding reads it:
//!
//! `sign → head → x → ReLU(x), ReLU(−x) → yes, no`.
//!
//! `outside` has those whose flaw lies in nodes outside the circuit that say nothing on most inputs, `contrast` those of circuits that
//! claim which of two prompts gets which answer, and not where the threshold lies.
//!
//! After the cases of Gao et al. 2025, Wang et al. 2022 (backup and negative heads) and Drori 2026 (norms, roles, nodes that
//! cancel).

mod contrast;
mod outside;
mod size;

use openwork_circuit::{Node, NodeSet};
use openwork_model::{NormKind, Site, SiteKind};

use crate::{Builder, Built, Channel, LOGIT, Noise, Options, Parts, Variable};

/// Kind of pathology.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pathology {
    /// Nothing.
    Honest,
    /// Two heads fetch the same; either will do. The circuit has one.
    Backup,
    /// A second head works against the first. The circuit leaves it out and is surer than the model.
    NegativeHead,
    /// Two neurons outside the circuit write the same with opposite signs: taken out together nothing happens.
    CancellingPair,
    /// The circuit has one of eight neurons that carry the answer; without all else the final norm amplifies it eightfold.
    NormCheat,
    /// One head finds the cue by what it is, one looks at the first place. The circuit has the second.
    PositionalShortcut,
    /// The neurons live on a constant that another node brings. The circuit leaves it out, its mean does as well.
    MeanOnly,
    /// With all else in place, the neuron that fires for `+` in the circuit fires for `-`, and the other way round; what is
    /// left out corrects the answer.
    RoleSwap,
    /// Two paths that share nothing; either will do. The circuit is one.
    TwoCircuits,
    /// The unembedding reads the cue, at the last place, past all nodes.
    DirectPath,
    /// Two cues: `yes` where the first kind is `+` and the second `-`. Nothing is wrong; two variables to be mistaken.
    TwoVariables,
    /// Neurons in the circuit that write a twentieth to a fifth of the answer each, and together nothing.
    LiveJunk(LiveJunk),
    /// A second path that the circuit leaves out carries a share of the answer.
    FaintPath,
    /// Hundreds of neurons in the circuit write where nobody reads.
    Crowd,
    /// Nothing: hundreds of neurons share the answer.
    Large,
    /// A token that is no candidate would be likelier than both, but for neurons that the circuit leaves out.
    ThirdToken,
    /// Parts outside the circuit speak against the answer, and other nodes outside, the guards, keep them quiet: without all
    /// guards the answer turns, without some of them nothing happens.
    Guard(Guards),
    /// So many neurons outside the circuit write the same, half of them with the opposite sign.
    CancellingGroup(usize),
    /// A node of the circuit that others outside turn round: in the model it means the opposite of what it means in the circuit.
    OpposedWrite,
    /// A head outside the circuit looks for a rare token, and neurons turn the answer where it is.
    RareToken,
    /// Two cues that agree in all data. The circuit follows one; in the model, neurons outside make the answer follow the other
    /// where they differ.
    Companion {
        /// True if the circuit follows the second kind of cue and the model the first.
        second: bool,
    },
    /// So many neurons outside the circuit set the threshold between the two answers.
    Threshold {
        /// Neurons.
        nodes: usize,
    },
    /// As [`Pathology::PositionalShortcut`], beside such a threshold.
    ContrastByPlace,
    /// A neuron of the circuit moves the answer by what the last filler is, and one outside undoes it.
    VaryingOffset,
    /// Of the two neurons, for `+` and for `-`, the circuit has the first.
    HalfCue,
}

/// Way in which live nodes add nothing in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LiveJunk {
    /// Pairs of neurons with opposite weights.
    Pairs,
    /// Groups of neurons whose weights add up to zero.
    ZeroSum,
    /// Groups of neurons whose weights add up to a 250th of the answer's.
    TinySum,
    /// Two heads that fetch the same, each with neurons of its own, of opposite weights.
    Heads,
}

impl LiveJunk {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Pairs, Self::ZeroSum, Self::TinySum, Self::Heads];
}

/// Guards of [`Pathology::Guard`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Guards {
    /// Two neurons of one block.
    Two,
    /// Three neurons of one block.
    Three,
    /// Two neurons of different blocks.
    AcrossBlocks,
    /// Two heads.
    Heads,
}

/// Logical numbers of the tokens of the cue task.
pub mod token {
    /// Cues of the first kind: for `yes` and for `no`.
    pub const CUE: [usize; 2] = [1, 2];
    /// Answers.
    pub const ANSWER: [usize; 2] = [3, 4];
    /// Fillers; the first half are 1 in models that tell fillers apart.
    pub const FILLERS: std::ops::Range<usize> = 5..15;
    /// Cues of the second kind.
    pub const SECOND_CUE: [usize; 2] = [15, 16];
    /// Number of tokens.
    pub const COUNT: usize = 17;
    /// The rare token, one more, of models that look for it.
    pub const RARE: usize = COUNT;
}

/// Longest prompt of the cue task.
pub const CUE_CONTEXT: usize = 10;

/// A hand-built model.
pub struct HandBuilt {
    /// The weights, and where things lie.
    pub built: Built,
    /// The circuit that is claimed.
    pub circuit: NodeSet,
    /// All that takes part in the answer.
    pub truth: NodeSet,
    /// High-level variables.
    pub variables: Vec<Carrier>,
    /// Parts outside the circuit that do something together: guards, and the two halves of a group that cancels.
    pub outside: Vec<NodeSet>,
}

/// A high-level variable, true or false, and the nodes said to carry it at the last token.
#[derive(Clone, Debug, PartialEq)]
pub struct Carrier {
    /// Its value on the prompt.
    pub name: &'static str,
    /// It is true where this token (by id) is in the prompt.
    pub token: u16,
    /// The nodes.
    pub nodes: NodeSet,
}

/// A place in a block, by logical channel.
type Place = (usize, SiteKind, Channel);

/// A program and what is claimed of it.
struct Plan {
    builder: Builder,
    circuit: Parts,
    truth: Parts,
    /// Nodes that the circuit's parts read and the circuit leaves out.
    without: Vec<Place>,
    /// Variables: name, logical token, nodes of residual channels, and neurons.
    variables: Vec<(&'static str, usize, Vec<Place>, Parts)>,
    outside: Vec<Parts>,
}

impl HandBuilt {
    /// The model. `strength` in (0, 1] is how bad it is: of the backup, the cancelling pair, the constant …
    pub fn new(pathology: Pathology, strength: f32, options: &Options) -> Self {
        let plan = Plan::new(pathology, strength, options.noise);
        let mut built = plan.builder.build(options);
        if pathology == Pathology::NormCheat {
            equal_norms(&mut built);
        }
        let space = openwork_circuit::NodeSpace::new(&built.model.config);
        let node = |&(layer, kind, channel): &Place| {
            space
                .number(Node { site: Site { layer, kind }, index: built.channel(channel) })
                .expect("a node of the model")
        };
        let numbers = |set: &NodeSet| (0..space.len()).filter(|&n| set.kept()[n]).collect::<Vec<_>>();
        let without: Vec<usize> = plan.without.iter().map(node).collect();
        let circuit = numbers(&plan.builder.nodes(&built, &plan.circuit)).into_iter().filter(|n| !without.contains(n));
        let neurons = |parts: &Parts| {
            let nodes = numbers(&plan.builder.nodes(&built, parts));
            nodes.into_iter().filter(|&n| space.node(n).site.kind == SiteKind::Neuron).collect::<Vec<_>>()
        };
        let variable = |(name, token, places, parts): &(&'static str, usize, Vec<Place>, Parts)| {
            let nodes = NodeSet::of(space.clone(), places.iter().map(node).chain(neurons(parts)));
            Carrier { name, token: built.ids[*token], nodes }
        };
        Self {
            circuit: NodeSet::of(space.clone(), circuit),
            truth: plan.builder.nodes(&built, &plan.truth),
            variables: plan.variables.iter().map(variable).collect(),
            outside: plan.outside.iter().map(|parts| plan.builder.nodes(&built, parts)).collect(),
            built,
        }
    }
}

/// Turns RMSNorm on. A channel that nobody reads gives every token a root mean square of 1, so that norms before attention
/// change nothing.
fn equal_norms(built: &mut Built) {
    built.model.config.norm = NormKind::Rms;
    let d_model = built.model.config.d_model;
    let ballast = built.channel(Channel(0));
    built.model.params.embed.update(|w| {
        for mut token in w.rows_mut() {
            token[ballast] = 0.0;
            token[ballast] = (d_model as f32 - token.iter().map(|x| x * x).sum::<f32>()).sqrt();
        }
    });
}

/// The beginning of most plans.
struct Start {
    b: Builder,
    always: Variable,
}

impl Start {
    fn new() -> Self {
        Self::with_tokens(token::COUNT)
    }

    fn with_tokens(count: usize) -> Self {
        let mut b = Builder::new(count, CUE_CONTEXT);
        // Channel 0 is nobody's; `equal_norms` fills it.
        b.variable(1);
        let always = b.tokens(1, |_| Some(0));
        Self { b, always }
    }

    /// A head that fetches the sign of a cue, from channels of its own, and that sign at each place.
    fn fetch(&mut self, cue: [usize; 2]) -> (Variable, Variable) {
        let is_cue = self.b.tokens(1, |t| cue.contains(&t).then_some(0));
        let sign = self.sign(cue);
        (self.b.aggregate(&self.always, &is_cue, |_, _| true, &sign), sign)
    }

    fn sign(&mut self, cue: [usize; 2]) -> Variable {
        self.b.token_numbers(1, |t, _| if t == cue[0] { 1.0 } else { -f32::from(u8::from(t == cue[1])) })
    }

    /// `ReLU(±x)` to the channels of the answers.
    fn split(&mut self, x: &[(Channel, f32)], out: &Variable) {
        let minus: Vec<(Channel, f32)> = x.iter().map(|(c, a)| (*c, -a)).collect();
        self.b.relu(x, 0.0, &[(out.channel(0), 1.0)]);
        self.b.relu(&minus, 0.0, &[(out.channel(1), 1.0)]);
    }

    /// The same with `x` cut to ±1, and 0 up to ±0.1: what leaks from places that a head does not select, 1e-8, would still have
    /// the right sign.
    fn saturate(&mut self, x: &[(Channel, f32)], out: &Variable) {
        let minus: Vec<(Channel, f32)> = x.iter().map(|(c, a)| (*c, -a)).collect();
        self.b.step(x, (0.55, 0.9), None, &[(out.channel(0), 1.0)]);
        self.b.step(&minus, (0.55, 0.9), None, &[(out.channel(1), 1.0)]);
    }

    /// A variable of two channels, of which each is the logit of an answer.
    fn answers(&mut self, weight: f32) -> Variable {
        let out = self.b.variable(2);
        (0..2).for_each(|i| self.b.output_times(token::ANSWER[i], out.channel(i), weight));
        out
    }

    /// The honest path.
    fn path(&mut self, weight: f32) -> Variable {
        let (x, _) = self.fetch(token::CUE);
        let out = self.answers(weight);
        self.split(&[(x.channel(0), 1.0)], &out);
        out
    }

    fn plan(self, circuit: Parts, truth: Parts) -> Plan {
        Plan { builder: self.b, circuit, truth, without: vec![], variables: vec![], outside: vec![] }
    }

    fn all(self) -> Plan {
        let parts = self.b.parts();
        self.plan(parts.clone(), parts)
    }
}

impl Plan {
    fn new(pathology: Pathology, strength: f32, noise: Noise) -> Self {
        match pathology {
            Pathology::Honest => {
                let mut s = Start::new();
                s.path(LOGIT);
                s.all()
            }
            Pathology::Backup => Self::two_heads(strength, true),
            Pathology::NegativeHead => Self::two_heads(-strength, false),
            Pathology::CancellingPair => Self::cancelling_pair(strength),
            Pathology::NormCheat => Self::norm_cheat(strength, noise),
            Pathology::PositionalShortcut => Self::positional_shortcut(),
            Pathology::MeanOnly => Self::mean_only(strength),
            Pathology::RoleSwap => Self::role_swap(strength),
            Pathology::TwoCircuits => {
                let mut s = Start::new();
                s.path(LOGIT);
                let first = s.b.parts();
                s.path(LOGIT * strength);
                let both = s.b.parts();
                s.plan(first, both)
            }
            Pathology::DirectPath => {
                let mut s = Start::new();
                s.path(LOGIT);
                let sign = s.sign(token::CUE);
                s.b.output_times(token::ANSWER[0], sign.channel(0), LOGIT);
                s.b.output_times(token::ANSWER[1], sign.channel(0), -LOGIT);
                s.all()
            }
            Pathology::TwoVariables => Self::two_variables(),
            Pathology::LiveJunk(way) => Self::live_junk(way, strength),
            Pathology::FaintPath => Self::faint_path(strength),
            Pathology::Crowd => Self::crowd(strength),
            Pathology::Large => Self::large(),
            Pathology::ThirdToken => Self::third_token(strength),
            Pathology::Guard(guards) => Self::guard(guards, strength),
            Pathology::CancellingGroup(neurons) => Self::cancelling_group(neurons, strength),
            Pathology::OpposedWrite => Self::opposed_write(strength),
            Pathology::RareToken => Self::rare_token(strength),
            Pathology::Companion { second } => Self::companion(second, strength),
            Pathology::Threshold { nodes } => Self::threshold(nodes, strength),
            Pathology::ContrastByPlace => Self::contrast_by_place(),
            Pathology::VaryingOffset => Self::varying_offset(strength),
            Pathology::HalfCue => Self::half_cue(strength),
        }
    }

    /// Two heads fetch the sign; neurons read the first and `strength` times the second.
    fn two_heads(strength: f32, saturate: bool) -> Self {
        let mut s = Start::new();
        let (first, _) = s.fetch(token::CUE);
        let one = s.b.parts();
        let (second, _) = s.fetch(token::CUE);
        let (mark, out) = (s.b.mark(), s.answers(LOGIT));
        let x = [(first.channel(0), 1.0), (second.channel(0), strength)];
        if saturate {
            s.saturate(&x, &out)
        } else {
            s.split(&x, &out)
        }
        let (circuit, truth) = (one.and(&s.b.since(mark)), s.b.parts());
        s.plan(circuit, truth)
    }

    /// A function of the last token, written to `yes` by two neurons with opposite signs, 1.5 · `strength` times what the
    /// answer writes there.
    fn cancelling_pair(strength: f32) -> Self {
        let mut s = Start::new();
        let out = s.path(LOGIT);
        let honest = s.b.parts();
        let half = token::FILLERS.start + token::FILLERS.len() / 2;
        let kind = s.b.token_numbers(1, |t, _| f32::from(u8::from((token::FILLERS.start..half).contains(&t))));
        for sign in [1.0, -1.0] {
            s.b.relu(&[(kind.channel(0), 1.0)], 0.0, &[(out.channel(0), 3.0 * sign * strength)]);
        }
        s.plan(honest.clone(), honest)
    }

    /// Eight pairs of neurons carry the sign into one channel, of which the circuit has `copies`; other neurons write so much
    /// elsewhere that the norm makes of the circuit's signal, alone, what it makes of the whole signal in the model.
    ///
    /// With e² = d_model + 1 the squared length of token and fetched sign, and a² = d_model / e² from the norm before the
    /// neurons: signal over norm is `k / √(e² + a² k²)` in the circuit and `8 / √(e² + a² (64 + B²))` in the model, equal for
    /// `B² = e² (64 − k²) / (k² a²)`.
    fn norm_cheat(strength: f32, noise: Noise) -> Self {
        const COPIES: usize = 8;
        let copies = ((COPIES as f32 * (1.0 - strength)).round() as usize).max(1);
        let mut s = Start::new();
        let (x, _) = s.fetch(token::CUE);
        let signal = s.b.variable(1);
        let mut parts = s.b.parts();
        for copy in 0..COPIES {
            let mark = s.b.mark();
            for sign in [1.0, -1.0] {
                s.b.relu(&[(x.channel(0), sign)], 0.0, &[(signal.channel(0), sign)]);
            }
            if copy < copies {
                parts = parts.and(&s.b.since(mark));
            }
        }
        let truth = s.b.parts();
        let half = token::FILLERS.start + token::FILLERS.len() / 2;
        let filler = |t: usize| if token::FILLERS.contains(&t) { if t < half { 1.0 } else { -1.0 } } else { 0.0 };
        let kind = s.b.token_numbers(1, |t, _| filler(t));
        let bulk = s.b.variable(1);
        let own = s.b.n_channels();
        let d_model = (own + noise.count(own)) as f32;
        let (all, kept) = ((COPIES * COPIES) as f32, (copies * copies) as f32);
        let size = ((d_model + 1.0).powi(2) / d_model * (all - kept) / kept).sqrt();
        for sign in [1.0, -1.0] {
            s.b.relu(&[(kind.channel(0), sign)], 0.0, &[(bulk.channel(0), sign * size)]);
        }
        // Of the normalised signal, which is k / √((e² + a² k²) / d_model), LOGIT is made.
        let normalised = (kept / ((d_model + 1.0 + kept * d_model / (d_model + 1.0)) / d_model)).sqrt();
        s.b.output_times(token::ANSWER[0], signal.channel(0), LOGIT / normalised);
        s.b.output_times(token::ANSWER[1], signal.channel(0), -LOGIT / normalised);
        s.plan(parts, truth)
    }

    fn positional_shortcut() -> Self {
        let mut s = Start::new();
        let (found, sign) = s.fetch(token::CUE);
        let places = s.b.positions();
        let mark = s.b.mark();
        let first = s.b.aggregate(&s.always, &places, |_, k| k == 1, &sign);
        let out = s.answers(LOGIT);
        s.saturate(&[(found.channel(0), 1.0), (first.channel(0), 1.0)], &out);
        let (circuit, truth) = (s.b.since(mark), s.b.parts());
        s.plan(circuit, truth)
    }

    /// `ReLU(±x + c − c)` with c = 5 · `strength`, of which the positive one comes from a node that the circuit leaves out.
    fn mean_only(strength: f32) -> Self {
        let c = 5.0 * strength;
        let mut s = Start::new();
        let constant = s.b.tokens(1, |_| Some(0)).channel(0);
        let (x, _) = s.fetch(token::CUE);
        let out = s.answers(LOGIT);
        for (i, sign) in [1.0, -1.0].into_iter().enumerate() {
            s.b.relu(&[(x.channel(0), sign), (constant, c)], -c, &[(out.channel(i), 1.0)]);
        }
        Self { without: vec![(0, SiteKind::MlpRead, constant)], ..s.all() }
    }

    /// Two neurons `ReLU(±(x − 2 s x'))` write ± into a channel, where x = x' is the sign, fetched twice; two others write ±2 s
    /// x' there. The circuit leaves x' out: it writes x, the model (1 − 2 s) x + 2 s x'.
    fn role_swap(strength: f32) -> Self {
        let s2 = 2.0 * strength;
        let mut s = Start::new();
        let (x, _) = s.fetch(token::CUE);
        let one = s.b.parts();
        let (other, _) = s.fetch(token::CUE);
        let signal = s.b.variable(1).channel(0);
        let mut neurons = vec![];
        for sign in [1.0, -1.0] {
            let mark = s.b.mark();
            s.b.relu(&[(x.channel(0), sign), (other.channel(0), -sign * s2)], 0.0, &[(signal, sign)]);
            neurons.push(s.b.since(mark));
        }
        for sign in [1.0, -1.0] {
            s.b.relu(&[(other.channel(0), sign)], 0.0, &[(signal, sign * s2)]);
        }
        s.b.output_times(token::ANSWER[0], signal, LOGIT);
        s.b.output_times(token::ANSWER[1], signal, -LOGIT);
        let (circuit, truth) = (one.and(&neurons[0]).and(&neurons[1]), s.b.parts());
        let [plus, minus] = [neurons[0].clone(), neurons[1].clone()];
        let variables =
            vec![("the cue is +", token::CUE[0], vec![], plus), ("the cue is -", token::CUE[1], vec![], minus)];
        Self { variables, ..s.plan(circuit, truth) }
    }

    fn two_variables() -> Self {
        let mut s = Start::new();
        let (a, _) = s.fetch(token::CUE);
        let (b, _) = s.fetch(token::SECOND_CUE);
        let (a, b) = (a.channel(0), b.channel(0));
        let out = s.answers(LOGIT);
        // 1 where a = 1 and b = −1; `no` unless.
        let yes = [(out.channel(0), 1.0), (out.channel(1), -1.0)];
        s.b.relu(&[(a, 1.0), (b, -1.0)], -1.0, &yes);
        s.b.any(&[s.always.channel(0)], &[(out.channel(1), 1.0)]);
        let carries = |name, token, channel| (name, token, vec![(0, SiteKind::AttnWrite, channel)], Parts::default());
        let variables = vec![
            carries("the first cue is +", token::CUE[0], a),
            carries("the second cue is +", token::SECOND_CUE[0], b),
        ];
        Self { variables, ..s.all() }
    }
}
