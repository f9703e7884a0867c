//! The tap that scrubs one chunk of prompts.

use std::{collections::BTreeMap, ops::ControlFlow};

use openwork_circuit::NodeSet;
use openwork_model::{Matrix, Site, SiteKind, Tap};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{ScrubPath, ScrubSettings, Sources};
use crate::{
    run::prompts::{Chunk, Recorded, aligned},
    streams::Stream,
};

/// The tap that scrubs. It keeps the residual stream of embedding and kept writes itself, so that every reader can be
/// given other additions to it.
pub(super) struct ScrubTap<'a> {
    recorded: &'a Recorded,
    kept: &'a NodeSet,
    chunk: &'a Chunk,
    draws: Vec<Draws>,
    /// Embedding and kept writes.
    stream: Option<Matrix>,
    /// Last write of kept nodes.
    write: Option<Matrix>,
    /// Places that it changes or keeps account of.
    pub visited: usize,
    /// Record of the draws, for callers that ask for it.
    pub sources: Option<&'a mut BTreeMap<ScrubPath, Vec<usize>>>,
}

/// Draws of the sources of one prompt.
enum Draws {
    PerPath(Box<ChaCha8Rng>),
    Shared(usize),
}

impl Draws {
    /// A prompt and a scrub have their own stream of numbers: neither batches nor threads change them.
    fn new(scrub: usize, prompt: usize, prompts: usize, settings: &ScrubSettings) -> Self {
        let mut rng = Stream::Scrub((scrub * prompts + prompt) as u64).rng(settings.seed);
        match settings.sources {
            Sources::PerPath => Self::PerPath(Box::new(rng)),
            Sources::Shared => Self::Shared(rng.random_range(0..prompts)),
        }
    }

    /// The next source. Drawn whether it is needed or not, so that circuits are compared on the same draws.
    fn next(&mut self, prompts: usize) -> usize {
        match self {
            Self::PerPath(rng) => rng.random_range(0..prompts as u32) as usize,
            Self::Shared(source) => *source,
        }
    }
}

impl<'a> ScrubTap<'a> {
    pub fn new(
        recorded: &'a Recorded,
        kept: &'a NodeSet,
        chunk: &'a Chunk,
        scrub: usize,
        settings: &ScrubSettings,
    ) -> Self {
        let draws = |i| Draws::new(scrub, chunk.first + i, recorded.len(), settings);
        let draws = (0..chunk.columns().count()).map(draws).collect();
        Self { recorded, kept, chunk, draws, stream: None, write: None, visited: 0, sources: None }
    }

    /// For every node of a site that is not kept and every prompt: `change(entry, value of the drawn source)`. `reader` is
    /// who sees the change, if it is not all.
    fn resample(&mut self, site: usize, reader: Option<Site>, value: &mut Matrix, change: impl Fn(&mut f32, f32)) {
        let range = self.recorded.space.sites()[site].1.clone();
        for (columns, draws) in self.chunk.columns().zip(&mut self.draws) {
            let len = columns.len();
            for (index, node) in range.clone().enumerate() {
                let prompt = draws.next(self.recorded.len());
                if self.kept.kept()[node] {
                    continue;
                }
                if let Some(sources) = &mut self.sources {
                    sources.entry(ScrubPath { node, reader }).or_default().push(prompt);
                }
                let source = self.recorded.of(site, index, prompt);
                for (p, column) in columns.clone().enumerate() {
                    change(&mut value[[index, column]], aligned(source, p, len));
                }
            }
        }
    }

    /// Sets the value that this reader of the residual stream sees.
    fn stream(&mut self, site: Site, value: &mut Matrix) {
        let stream = match (self.stream.take(), self.write.take()) {
            // The same two numbers that the model adds, in the same order: all kept is the model bit for bit.
            (Some(stream), Some(write)) => stream + write,
            _ => value.clone(),
        };
        value.assign(&stream);
        self.stream = Some(stream);
        let before = |writer: &Site| match site.kind {
            SiteKind::ResidMid => {
                writer.layer < site.layer || (writer.layer == site.layer && writer.kind == SiteKind::AttnWrite)
            }
            _ => writer.layer < site.layer,
        };
        for (writer, (written, _)) in self.recorded.space.sites().iter().enumerate() {
            if matches!(written.kind, SiteKind::AttnWrite | SiteKind::MlpWrite) && before(written) {
                self.resample(writer, Some(site), value, |entry, source| *entry += source);
            }
        }
    }
}

impl Tap for ScrubTap<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        match site.kind {
            SiteKind::ResidIn | SiteKind::ResidMid | SiteKind::FinalResid => self.stream(site, value),
            SiteKind::AttnWrite | SiteKind::MlpWrite => {
                // Every reader adds what others wrote from sources of its own.
                let range = self.kept.space().range(site).expect("writes are nodes");
                for (mut row, node) in value.rows_mut().into_iter().zip(range) {
                    if !self.kept.kept()[node] {
                        row.fill(0.0);
                    }
                }
                self.write = Some(value.clone());
            }
            SiteKind::AttnMix | SiteKind::FinalRead => return ControlFlow::Continue(()),
            _ => {
                let index = self.recorded.site(site).expect("the rest are nodes");
                self.resample(index, None, value, |entry, source| *entry = source);
            }
        }
        self.visited += 1;
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use openwork_circuit::NodeSpace;
    use openwork_model::{Config, Model, Record};

    use super::*;
    use crate::run::prompts::chunks;

    /// The source of every path, by prompt.
    type Drawn = BTreeMap<ScrubPath, Vec<usize>>;

    fn model() -> Model {
        let shape = Config { vocab_size: 20, n_ctx: 8, n_layer: 2, d_model: 16, d_mlp: 32, ..Config::default() };
        // No zeros of AbsTopK, which all sources would share.
        let config = Config { act_density: None, ..shape };
        let mut model = Model::init(config, 2);
        // Writes as large as embeddings, so that none is lost in rounding.
        model.params.values_mut().into_iter().for_each(|w| w.update(|w| *w *= 4.0));
        model
    }

    /// Prompts of five tokens, of which the first `scrubbed` are run.
    fn run(model: &Model, kept: &NodeSet, sources: Sources, scrubbed: usize) -> (Recorded, Record, Drawn) {
        let prompts: Vec<Vec<u16>> =
            (0..7_u16).map(|n| (0..5).map(|t| (3 * t * (n + 1) + 5 * n) % 20).collect()).collect();
        let prompts: Vec<&[u16]> = prompts.iter().map(Vec::as_slice).collect();
        let recorded = Recorded::new(model, &prompts);
        let settings = ScrubSettings { sources, ..ScrubSettings::default() };
        let chunk = chunks(&prompts[..scrubbed]).remove(0);
        let mut drawn = Drawn::new();
        // A scrub and what every place then held.
        let mut both = (ScrubTap::new(&recorded, kept, &chunk, 0, &settings), Record::default());
        both.0.sources = Some(&mut drawn);
        chunk.log_probs(model, &mut both);
        let record = both.1;
        (recorded, record, drawn)
    }

    fn at(record: &Record, layer: usize, kind: SiteKind) -> &Matrix {
        &record.values.iter().find(|(site, _)| *site == Site { layer, kind }).unwrap().1
    }

    #[test]
    fn every_place_is_the_sum_of_kept_and_borrowed_values_from_the_sources_that_it_names() {
        let model = model();
        let space = NodeSpace::new(&model.config);
        let kept = NodeSet::of(space.clone(), (0..space.len()).filter(|n| n % 3 == 0));
        let is_write = |site: &Site| matches!(site.kind, SiteKind::AttnWrite | SiteKind::MlpWrite);
        for sources in [Sources::Shared, Sources::PerPath] {
            let (recorded, record, drawn) = run(&model, &kept, sources, 4);
            assert!(drawn.keys().all(|path| !kept.kept()[path.node]));
            for prompt in 0..4 {
                let of_prompt: BTreeSet<usize> = drawn.values().map(|s| s[prompt]).collect();
                assert_eq!(of_prompt.len() == 1, sources == Sources::Shared, "{of_prompt:?}");
            }
            let borrowed = |site: usize, row, node, reader, prompt: usize, token: usize| {
                recorded.of(site, row, drawn[&ScrubPath { node, reader }][prompt])[token]
            };
            for (prompt, token) in (0..4).flat_map(|prompt| (0..5).map(move |token| (prompt, token))) {
                let column = 5 * prompt + token;
                for (index, (site, range)) in space.sites().iter().enumerate().filter(|(_, (site, _))| !is_write(site))
                {
                    for (row, node) in range.clone().enumerate().filter(|(_, node)| !kept.kept()[*node]) {
                        let expected = borrowed(index, row, node, None, prompt, token);
                        assert_eq!(at(&record, site.layer, site.kind)[[row, column]], expected, "{}", space.node(node));
                    }
                }
                for channel in 0..16 {
                    let readers = [
                        (0, SiteKind::ResidMid),
                        (1, SiteKind::ResidIn),
                        (1, SiteKind::ResidMid),
                        (2, SiteKind::FinalResid),
                    ];
                    for (writers, (layer, place)) in (1..).zip(readers) {
                        let reader = Site { layer, kind: place };
                        let mut expected = at(&record, 0, SiteKind::ResidIn)[[channel, column]];
                        let writes = space.sites().iter().enumerate().filter(|(_, (site, _))| is_write(site));
                        for (index, (site, range)) in writes.take(writers) {
                            let node = range.start + channel;
                            expected += if kept.kept()[node] {
                                at(&record, site.layer, site.kind)[[channel, column]]
                            } else {
                                borrowed(index, channel, node, Some(reader), prompt, token)
                            };
                        }
                        let found = at(&record, layer, place)[[channel, column]];
                        // Four sums of numbers of at most some tens.
                        assert!((found - expected).abs() < 1e-4, "{reader}: {found} {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_reader_and_writer_has_a_source_of_its_own() {
        let model = model();
        let (recorded, record, _) = run(&model, &NodeSet::empty(NodeSpace::new(&model.config)), Sources::PerPath, 1);
        let writer = |layer, kind| recorded.site(Site { layer, kind }).unwrap();
        let written = |site: usize, channel: usize, source: usize| recorded.of(site, channel, source)[4];
        let embedded = |channel: usize| at(&record, 0, SiteKind::ResidIn)[[channel, 4]];
        // One writer: which source did each channel get, at the reader in the middle of the first block?
        let (attention, mlp) = (writer(0, SiteKind::AttnWrite), writer(0, SiteKind::MlpWrite));
        let source_of = |channel: usize| {
            let rest = at(&record, 0, SiteKind::ResidMid)[[channel, 4]] - embedded(channel);
            (0..7).find(|&s| (written(attention, channel, s) - rest).abs() < 1e-5)
        };
        let middle: Vec<usize> = (0..16).map(|c| source_of(c).expect("one of the sources")).collect();
        assert!(middle.iter().collect::<BTreeSet<_>>().len() > 3, "channels have their own: {middle:?}");
        // Two writers, at the next reader: a pair of sources explains the sum, mostly not one for both, and the
        // attention's is not the one of the reader before.
        let pairs_of = |channel: usize| -> Vec<(usize, usize)> {
            let rest = at(&record, 1, SiteKind::ResidIn)[[channel, 4]] - embedded(channel);
            let sum = |a: usize, m: usize| written(attention, channel, a) + written(mlp, channel, m);
            let all = (0..7).flat_map(|a| (0..7).map(move |m| (a, m)));
            all.filter(|&(a, m)| (sum(a, m) - rest).abs() < 1e-5).collect()
        };
        let next: Vec<Vec<(usize, usize)>> = (0..16).map(pairs_of).collect();
        assert!(next.iter().all(|pairs| !pairs.is_empty()));
        let apart = next.iter().filter(|pairs| pairs.iter().all(|(a, m)| a != m)).count();
        let anew = next.iter().zip(&middle).filter(|(pairs, before)| pairs.iter().all(|(a, _)| a != *before)).count();
        // By chance six of seven: 14 of 16 in the mean.
        assert!(apart > 8 && anew > 8, "{apart} {anew} {next:?}");
    }
}
