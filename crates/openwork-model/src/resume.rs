//! The rest of a forward pass from a site on.

use std::ops::ControlFlow;

use openwork_ops::{Cpu, Engine, Matrix};

use crate::{
    Model, Record, Site, SiteKind, Tap, Tokens,
    forward::{BlockPass, QKV, gather, visit, whole},
};

/// State of a forward pass at a site: the values that the rest of the pass depends on, beside the tokens.
/// [`PassState::sites`] lists them; all are as the tap left them.
#[derive(Clone, Debug)]
pub struct PassState<A = Matrix> {
    site: Site,
    /// One for each of [`PassState::sites`].
    values: Vec<A>,
}

/// A state that lacks a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("resuming a pass at {site} needs the value at {missing}, which was not recorded")]
pub struct StateError {
    /// Site to resume at.
    pub site: Site,
    /// Site whose value is missing.
    pub missing: Site,
}

impl<A> PassState<A> {
    /// The state at `site` from its values: `value_at` is called for each of [`PassState::sites`].
    ///
    /// # Errors
    /// When `value_at` has none.
    pub fn new(site: Site, mut value_at: impl FnMut(Site) -> Option<A>) -> Result<Self, StateError> {
        let values = Self::sites(site).into_iter().map(|missing| value_at(missing).ok_or(StateError { site, missing }));
        Ok(Self { site, values: values.collect::<Result<_, _>>()? })
    }

    /// Sites whose values make up the state at `site`: that site first; queries, keys and values together; and the
    /// residual stream that the block will add to.
    pub fn sites(site: Site) -> Vec<Site> {
        use SiteKind::*;
        let stream = if site.kind < ResidMid { ResidIn } else { ResidMid };
        let others = QKV.into_iter().filter(|&kind| kind != site.kind);
        let kinds: Vec<SiteKind> = match site.kind {
            ResidIn | ResidMid | FinalResid | FinalRead => vec![site.kind],
            Query | Key | Value => [site.kind].into_iter().chain(others).chain([stream]).collect(),
            AttnRead | AttnMix | AttnWrite | MlpRead | Neuron | MlpWrite => vec![site.kind, stream],
        };
        kinds.into_iter().map(|kind| Site { kind, ..site }).collect()
    }

    /// Site to resume at.
    pub fn site(&self) -> Site {
        self.site
    }

    /// The value there, to look at.
    pub fn value(&self) -> &A {
        &self.values[0]
    }

    /// The value there, to change.
    pub fn value_mut(&mut self) -> &mut A {
        &mut self.values[0]
    }
}

impl Record {
    /// The state at `site` of the pass that was recorded.
    ///
    /// # Errors
    /// When the pass did not come that far.
    pub fn state(&self, site: Site) -> Result<PassState, StateError> {
        PassState::new(site, |site| self.at(site).cloned())
    }
}

impl Model {
    /// Logits `[vocab, columns]` of a forward pass that is resumed: only the operations after the site of `state` run,
    /// and `tap` sees the sites that they compute (of queries, keys and values, which are given together, none).
    ///
    /// If `state` is that of a pass over `tokens` with the columns `readout`, unchanged, the logits are bit for bit
    /// those of [`Model::forward`]; with a changed value, those of a pass whose tap makes that change.
    ///
    /// ```
    /// # use openwork_model::{Config, Model, NoTap, Record, Tokens};
    /// # let model = Model::init(Config { vocab_size: 16, ..Config::default() }, 0);
    /// # let tokens = Tokens::new(&[1, 2, 3], 3);
    /// let mut record = Record::default();
    /// let logits = model.forward(tokens, None, &mut record).logits;
    /// let mut state = record.state("1.mlp.post_act".parse()?)?;
    /// assert_eq!(model.resume(tokens, None, state.clone(), &mut NoTap), logits);
    /// state.value_mut().row_mut(7).fill(5.0); // neuron 7 of block 1
    /// assert_ne!(model.resume(tokens, None, state, &mut NoTap), logits);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// As [`Model::forward`]; and when the model has no such site, or a value does not have the shape of its site.
    #[track_caller]
    pub fn resume(&self, tokens: Tokens<'_>, readout: Option<&[usize]>, state: PassState, tap: &mut dyn Tap) -> Matrix {
        whole(self.resume_until(tokens, readout, state, tap, &mut Cpu::default()))
    }
}

impl<W> Model<W> {
    /// [`Model::resume`] on the device and in the memory of `engine`, with a tap that may stop the pass.
    ///
    /// # Panics
    /// As [`Model::resume`], except that the tap may stop the pass.
    #[track_caller]
    pub fn resume_until<E: Engine<Weight = W>>(
        &self,
        tokens: Tokens<'_>,
        readout: Option<&[usize]>,
        state: PassState<E::Array>,
        tap: &mut dyn Tap<E::Array>,
        engine: &mut E,
    ) -> ControlFlow<Site, E::Array> {
        let (n, seq_len) = (tokens.ids.len(), tokens.seq_len);
        let columns = readout.map_or(n, <[usize]>::len);
        self.check_state::<E>(&state, n, columns);
        let readout = readout.map(|columns| self.readout(tokens, columns, engine));
        let tokens = self.checked(tokens, engine);
        let Site { layer, kind } = state.site;
        let mut values = state.values;
        let x = match kind {
            SiteKind::FinalRead => {
                let tokens = readout.as_ref().map_or(&tokens, |readout| &readout.tokens);
                let final_read = engine.keep(values.swap_remove(0));
                return ControlFlow::Continue(self.logits(&final_read, columns, tokens, engine));
            }
            SiteKind::FinalResid => values.swap_remove(0),
            _ => {
                let position = self.position_channels(n, seq_len, engine);
                let position = position.as_ref();
                let kept = Default::default();
                let block = BlockPass { model: self, layer, n, seq_len, position, tap, engine, kept };
                let mut x = block.resume(Stage::new(kind, values))?;
                for layer in layer + 1..self.config.n_layer {
                    let kept = Default::default();
                    BlockPass { model: self, layer, n, seq_len, position, tap, engine, kept }.run(&mut x)?;
                }
                visit(tap, Site { layer: self.config.n_layer, kind: SiteKind::FinalResid }, &mut x)?;
                x
            }
        };
        let final_resid = gather(x, readout.as_ref(), engine);
        let (logits, _) = self.head(final_resid, readout, &tokens, tap, engine)?;
        ControlFlow::Continue(logits)
    }

    /// Panics where the model has no such site or a value has another shape.
    #[track_caller]
    fn check_state<E: Engine<Weight = W>>(&self, state: &PassState<E::Array>, n: usize, columns: usize) {
        let (site, n_layer) = (state.site, self.config.n_layer);
        let exists = if site.kind.is_final() { site.layer == n_layer } else { site.layer < n_layer };
        assert!(exists, "resume: a model of {n_layer} blocks has no site {site}");
        for (at, value) in PassState::<E::Array>::sites(site).into_iter().zip(&state.values) {
            let expected = [self.config.width(at.kind), if at.kind == SiteKind::FinalRead { columns } else { n }];
            let found = E::shape(value);
            assert!(found == expected, "resume: the value at {at} is {found:?} but the pass has {expected:?} there");
        }
    }
}

/// State of a pass within a block: the residual stream that the block adds to, and the values at the latest sites.
enum Stage<A> {
    ResidIn(A),
    AttnRead(A, A),
    Qkv(A, [A; 3]),
    AttnMix(A, A),
    AttnWrite(A, A),
    ResidMid(A),
    MlpRead(A, A),
    Neuron(A, A),
    MlpWrite(A, A),
}

impl<A> Stage<A> {
    /// From the values of [`PassState::sites`].
    fn new(kind: SiteKind, values: Vec<A>) -> Self {
        let mut values = values.into_iter();
        let mut next = || values.next().expect("a value for each site");
        let value = next();
        match kind {
            SiteKind::ResidIn => Self::ResidIn(value),
            SiteKind::ResidMid => Self::ResidMid(value),
            SiteKind::Query | SiteKind::Key | SiteKind::Value => {
                let (first, second) = (next(), next());
                let qkv = match kind {
                    SiteKind::Query => [value, first, second],
                    SiteKind::Key => [first, value, second],
                    _ => [first, second, value],
                };
                Self::Qkv(next(), qkv)
            }
            SiteKind::AttnRead => Self::AttnRead(next(), value),
            SiteKind::AttnMix => Self::AttnMix(next(), value),
            SiteKind::AttnWrite => Self::AttnWrite(next(), value),
            SiteKind::MlpRead => Self::MlpRead(next(), value),
            SiteKind::Neuron => Self::Neuron(next(), value),
            SiteKind::MlpWrite => Self::MlpWrite(next(), value),
            SiteKind::FinalResid | SiteKind::FinalRead => unreachable!("{kind:?} is after the blocks"),
        }
    }
}

impl<W, E: Engine<Weight = W>> BlockPass<'_, W, E> {
    /// The rest of the block; returns the residual stream after it.
    fn resume(mut self, mut stage: Stage<E::Array>) -> ControlFlow<Site, E::Array> {
        loop {
            stage = match stage {
                Stage::ResidIn(x) => {
                    let (read, _) = self.attn_read(&x)?;
                    Stage::AttnRead(x, read)
                }
                Stage::AttnRead(x, read) => {
                    let read = self.engine.keep(read);
                    Stage::Qkv(x, self.qkv(&read)?)
                }
                Stage::Qkv(x, qkv) => Stage::AttnMix(x, self.mix(&qkv)?.0),
                Stage::AttnMix(x, mix) => {
                    let mix = self.engine.keep(mix);
                    Stage::AttnWrite(x, self.attn_write(&mix)?)
                }
                Stage::AttnWrite(mut x, write) => {
                    self.add(&mut x, write);
                    self.site(SiteKind::ResidMid, &mut x)?;
                    Stage::ResidMid(x)
                }
                Stage::ResidMid(x) => {
                    let (read, _) = self.mlp_read(&x)?;
                    Stage::MlpRead(x, read)
                }
                Stage::MlpRead(x, read) => {
                    let read = self.engine.keep(read);
                    Stage::Neuron(x, self.neurons(&read)?.0)
                }
                Stage::Neuron(x, neuron) => {
                    let neuron = self.engine.keep(neuron);
                    Stage::MlpWrite(x, self.mlp_write(&neuron)?)
                }
                Stage::MlpWrite(mut x, write) => {
                    self.add(&mut x, write);
                    return ControlFlow::Continue(x);
                }
            }
        }
    }
}
