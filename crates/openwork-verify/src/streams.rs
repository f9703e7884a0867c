//! Random streams: the numbers of a seed's ChaCha8 that each use draws from.
//!
//! A generator is determined by a seed and the number of a stream. Uses whose draws are compared have streams of their own.
//! Other uses may share numbers: they draw different things (pairs, nodes, prompts, coefficients) that no result sets beside
//! each other. The tests list which.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A use of random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Resamples of pairs.
    Bootstrap,
    /// Selection pairs on which optimal constants are learned.
    OptimalConstants,
    /// Coefficients at which the gradient of partial ablation is checked.
    GradientCheck,
    /// Permutations of an independence test.
    Permutations,
    /// Bases and sources of a hypothesis.
    Hypothesis,
    /// Sources of one prompt in one scrub, numbered `scrub · prompts + prompt`.
    Scrub(u64),
    /// Inputs and coefficients of one sample of a certificate; the numbers are part of the certificate's format.
    CertificateSample(u64),
    /// One random node set, by its number.
    RandomSet(u64),
    /// Source prompt of one sequence under resampling.
    Source {
        /// Number of the sequence in its split.
        sequence: u64,
        /// True if it is one of the same template.
        same_template: bool,
    },
    /// Knock-outs.
    Knockouts,
    /// Exchanged tokens of inputs.
    WorstInputs,
    /// Initial mask of a rival.
    Rival,
    /// One random node set that is attacked, by its number.
    AttackedSet(u64),
    /// One random node set whose completeness is measured, by its number.
    CompletenessSet(u64),
    /// Random starts and sets of an adversary.
    Adversary,
    /// Places in which tokens are tried.
    RareTokens,
    /// Orders in which nodes take the model's values.
    Interchange,
    /// One random node set that is ablated beside a circuit of several tasks, by its number.
    DissociationSet(u64),
    /// Nodes and edges of a large circuit that are asked whether they are needed, and contexts in which they are.
    Minimality,
}

impl Stream {
    /// The generator of this use under a seed.
    pub fn rng(self, seed: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(self.number());
        rng
    }

    /// Number of the stream.
    pub fn number(self) -> u64 {
        match self {
            Self::Bootstrap | Self::OptimalConstants | Self::GradientCheck | Self::Permutations | Self::Hypothesis => 0,
            Self::Scrub(number) | Self::CertificateSample(number) => number,
            Self::RandomSet(number) => 1 + number,
            Self::Source { sequence, same_template } => (1 << 40) + 2 * sequence + u64::from(same_template),
            Self::Knockouts => 1 << 41,
            Self::WorstInputs => 1 << 42,
            Self::DissociationSet(number) => (1 << 42) + number,
            Self::Rival => 1 << 43,
            Self::AttackedSet(number) => (1 << 44) + number,
            Self::CompletenessSet(number) => (1 << 45) + number,
            Self::Interchange => 1 << 46,
            Self::Minimality => 1 << 47,
            Self::Adversary => 1 << 48,
            Self::RareTokens => 1 << 49,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    /// Most numbers that a numbered use takes: no split has as many sequences, no report as many sets.
    const MOST: u64 = 1 << 32;

    /// Uses whose results are never combined with those of another scope.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Scope {
        /// Draws that a verdict compares: random sets, searches, and the prompts that they are made on.
        Verdict,
        /// A draw of pairs that every interval of a table shares. Resampling pairs says nothing about which nodes are drawn.
        Bootstrap,
        /// Training of constants.
        Constants,
        /// A self-check, which passes or ends the run.
        GradientCheck,
        /// An independence test, which is only reported.
        Permutations,
        /// Tests of a hypothesis.
        Hypothesis,
        /// Causal scrubbing.
        Scrub,
        /// A certificate: its generator has another kind of key, see the next test.
        Certificate,
        /// A dissociation, which is a run of its own.
        Dissociation,
    }

    /// Scope and numbers of a use. The match makes whoever adds a stream come here.
    fn numbers(stream: Stream) -> (Scope, Range<u64>) {
        let first = stream.number();
        let (scope, count) = match stream {
            Stream::Bootstrap => (Scope::Bootstrap, 1),
            Stream::OptimalConstants => (Scope::Constants, 1),
            Stream::GradientCheck => (Scope::GradientCheck, 1),
            Stream::Permutations => (Scope::Permutations, 1),
            Stream::Hypothesis => (Scope::Hypothesis, 1),
            Stream::Scrub(_) => (Scope::Scrub, MOST),
            Stream::CertificateSample(_) => (Scope::Certificate, MOST),
            Stream::DissociationSet(_) => (Scope::Dissociation, MOST),
            Stream::Source { .. } => (Scope::Verdict, 2 * MOST),
            Stream::RandomSet(_) | Stream::AttackedSet(_) | Stream::CompletenessSet(_) => (Scope::Verdict, MOST),
            Stream::Knockouts | Stream::WorstInputs | Stream::Rival | Stream::Interchange => (Scope::Verdict, 1),
            Stream::Minimality | Stream::Adversary | Stream::RareTokens => (Scope::Verdict, 1),
        };
        (scope, first..first + count)
    }

    const ALL: [Stream; 19] = [
        Stream::Bootstrap,
        Stream::OptimalConstants,
        Stream::GradientCheck,
        Stream::Permutations,
        Stream::Hypothesis,
        Stream::Scrub(0),
        Stream::CertificateSample(0),
        Stream::RandomSet(0),
        Stream::Source { sequence: 0, same_template: false },
        Stream::Knockouts,
        Stream::WorstInputs,
        Stream::Rival,
        Stream::AttackedSet(0),
        Stream::CompletenessSet(0),
        Stream::Interchange,
        Stream::DissociationSet(0),
        Stream::Minimality,
        Stream::Adversary,
        Stream::RareTokens,
    ];

    #[test]
    fn no_stream_is_used_twice_within_a_scope() {
        for (i, a) in ALL.iter().enumerate() {
            for b in &ALL[i + 1..] {
                assert_ne!(std::mem::discriminant(a), std::mem::discriminant(b), "{a:?} is listed twice");
                let ((of_a, a_numbers), (of_b, b_numbers)) = (numbers(*a), numbers(*b));
                let apart = a_numbers.end <= b_numbers.start || b_numbers.end <= a_numbers.start;
                assert!(of_a != of_b || apart, "{a:?} and {b:?} share numbers of {of_a:?}");
            }
        }
    }

    #[test]
    fn numbers_stay_what_seeds_of_written_reports_mean() {
        let numbers = ALL.map(Stream::number);
        let powers = |power: u32| 1_u64 << power;
        assert_eq!(numbers[..8], [0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(numbers[8..], [40, 41, 42, 43, 44, 45, 46, 42, 47, 48, 49].map(powers));
        assert_eq!(Stream::Source { sequence: 3, same_template: true }.number(), (1 << 40) + 7);
        assert_eq!([Stream::RandomSet(4), Stream::Scrub(4)].map(Stream::number), [5, 4]);
    }
}
