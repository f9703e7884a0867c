//! The update of all parameters: Adam, what stays, decay, and the sparse forms.

use super::{EVERYTHING, Parameters};
use crate::{Arg, Buffer, Gpu, GpuError, kernel};

/// Entries that a block works on, as in `kernels/update.cu`.
const PIECE: usize = 4096;
/// Words of a segment, as there.
const WORDS: usize = 16;
/// Entries that a unit may be asked to keep.
pub const MOST_PER_UNIT: usize = 8;

/// Threads of most kernels of an update, and of those that have a block for a parameter.
const THREADS: usize = 256;

type Segment = [u32; WORDS];

/// Entries that every row or every column of a matrix keeps: at most [`MOST_PER_UNIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// So many of every row.
    PerRow(usize),
    /// So many of every column.
    PerColumn(usize),
}

/// The update of one parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Entries that stay: those of largest magnitude.
    pub wanted: usize,
    /// Entries that every row or column keeps, the largest of its own.
    pub floor: Option<Floor>,
    /// True if the entries that stay decay.
    pub decays: bool,
    /// True if it is trained at all.
    pub trained: bool,
}

/// Constants of one Adam step on every device: `w ← w − rate · m / (√v / root + ε)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConstants {
    /// Decay of the first moment, β₁.
    pub beta1: f32,
    /// Decay of the second moment, β₂.
    pub beta2: f32,
    /// Learning rate over `1 − β₁ᵗ`.
    pub rate: f32,
    /// `√(1 − β₂ᵗ)`.
    pub root: f32,
    /// Added to the root of the second moment, ε.
    pub eps: f32,
}

/// Result of an update of one parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Entries that are not zero.
    pub nonzero: usize,
    /// Of those, the ones that were zero before.
    pub entered: usize,
    /// The least magnitude that stayed, before decay; 0 where all stay.
    pub least: f32,
}

impl Parameters {
    /// Root mean square of the gradient over `entries` of them, and what gradients are multiplied with in the update:
    /// `1 / (rms + eps)`. The gradient of everything else is zero.
    ///
    /// # Errors
    /// The first error of the device.
    #[allow(unsafe_code)]
    pub fn gradient_rms(&mut self, entries: usize, eps: f32) -> Result<f32, GpuError> {
        let table = Table::new(&self.gpu, self, |_| Selection::KEEP);
        let partial = self.gpu.buffer::<f32>(table.blocks);
        let args = [table.segments.all(), table.block_segment.all(), self.flat.gradient.all(), partial.all()];
        // SAFETY: a block for every piece of every parameter, which `partial` has a place for each of.
        unsafe { self.gpu.launch(&kernel::SQUARE_SUMS, [table.blocks, 1, 1], 0, &args) };
        let args =
            [partial.all(), self.scalar.all(), Arg::U32(table.blocks as u32), Arg::F32(entries as f32), Arg::F32(eps)];
        // SAFETY: reads as many sums as there are blocks, and writes two numbers.
        unsafe { self.gpu.launch(&kernel::GRADIENT_SCALE, [1, 1, 1], 0, &args) };
        Ok(self.scalar.download()?[0])
    }

    /// In gradients of nonzeros alone: makes the gradient of zero weights zero, in the parameters for which `restrict`
    /// says so.
    pub fn mask_gradients(&mut self, restrict: &[bool]) {
        // A selection says that the kernel has something to do.
        let none = Selection { wanted: 0, ..Selection::KEEP };
        let table = Table::new(&self.gpu, self, |i| if restrict[i] { none } else { Selection::KEEP });
        self.mask_gradient(&table, Arg::Pointer(0));
    }

    /// Gradients of zero weights that stay: those that reach `threshold`, a number for every parameter; none without.
    #[allow(unsafe_code)]
    fn mask_gradient(&self, table: &Table, threshold: Arg) {
        let flat = &self.flat;
        let args = [table.segments.all(), table.block_segment.all(), threshold, flat.w.all(), flat.gradient.all()];
        // SAFETY: segments lie within the flat arrays, and have a threshold each or none has, as the kernel's header says.
        unsafe { self.gpu.launch(&kernel::MASK_GRADIENT, [table.blocks, 1, 1], 0, &args) };
    }

    /// Takes the smallest nonzeros of parameters out, until as many stay as `stay` says, and makes the gradient of zero
    /// weights zero, but for the `grow` largest: those that the next update moves off zero. Moments of what left
    /// become zero. Nothing happens where `stay` has no entry.
    ///
    /// # Panics
    /// When an entry of `stay` or `grow` is no selection among the parameter's entries.
    pub fn move_nonzeros(&mut self, stay: &[Option<Selection>], grow: &[usize]) {
        let table = Table::new(&self.gpu, self, |i| Selection { decays: false, ..stay[i].unwrap_or(Selection::KEEP) });
        let everything = self.gpu.upload(&EVERYTHING.repeat(self.shapes.len()));
        self.select(&table, &self.flat.w, None, &everything);
        self.project(&table, 0.0, true);
        let grown = Table::new(&self.gpu, self, |i| match stay[i] {
            Some(_) => Selection { wanted: grow[i], ..Selection::KEEP },
            None => Selection::KEEP,
        });
        everything.upload(&EVERYTHING.repeat(self.shapes.len()));
        self.select(&grown, &self.flat.gradient, Some(&self.flat.w), &everything);
        self.mask_gradient(&grown, self.threshold.all());
    }

    /// Adam with the gradient as [`Parameters::gradient_rms`] scales it, the selection of every parameter, decay of
    /// what stays, and the sparse forms of those for which `sparse` asks. With `forget`, moments of what is zero after
    /// a selection become zero: gradients of nonzeros alone.
    ///
    /// # Panics
    /// When a sparse form has too little room.
    #[allow(unsafe_code)]
    pub fn update(&mut self, adam: AdamConstants, decay: f32, selections: &[Selection], sparse: &[bool], forget: bool) {
        self.set_sparse(sparse, selections);
        let table = Table::new(&self.gpu, self, |i| selections[i]);
        let AdamConstants { beta1, beta2, rate, root, eps } = adam;
        let flat = self.flat.clone();
        let args = [
            table.segments.all(),
            table.block_segment.all(),
            self.scalar.all(),
            flat.gradient.all(),
            flat.w.all(),
            flat.m.all(),
            flat.v.all(),
            self.was.all(),
            Arg::F32(beta1),
            Arg::F32(beta2),
            Arg::F32(rate),
            Arg::F32(root),
            Arg::F32(eps),
        ];
        // SAFETY: segments lie within the flat arrays, which are as long as each other, and their bits within `was`.
        unsafe { self.gpu.launch(&kernel::ADAM, [table.blocks, 1, 1], 0, &args) };
        self.select(&table, &flat.w, None, &self.bracket);
        self.project(&table, decay, forget);
        self.fill(&table);
    }

    /// Builds the sparse forms of those parameters for which `sparse` asks, from the weights as they are.
    ///
    /// # Panics
    /// When there are more nonzeros than a form has room for, as `nonzeros` counts them.
    pub fn build_sparse(&mut self, nonzeros: &[usize], sparse: &[bool]) {
        let kept = |i: usize| Selection { wanted: nonzeros[i], ..Selection::KEEP };
        self.set_sparse(sparse, &(0..self.shapes.len()).map(kept).collect::<Vec<_>>());
        let table = Table::new(&self.gpu, self, |_| Selection::KEEP);
        self.was.fill_zero();
        self.project(&table, 0.0, false);
        self.fill(&table);
    }

    #[track_caller]
    fn set_sparse(&mut self, sparse: &[bool], selections: &[Selection]) {
        for (i, (&sparse, selection)) in sparse.iter().zip(selections).enumerate() {
            assert!(!sparse || selection.wanted <= self.shapes[i].room, "parameter {i} has room for fewer nonzeros");
            self.sparse[i] = sparse;
        }
    }

    /// Finds the threshold of every parameter among the numbers in `x`, but for those where `taken` is not zero.
    #[allow(unsafe_code)]
    fn select(&self, table: &Table, x: &Buffer<f32>, taken: Option<&Buffer<f32>>, bracket: &Buffer<u64>) {
        let n = self.shapes.len();
        if table.floors {
            let args = [table.segments.all(), x.all(), self.unit_keys.all()];
            // SAFETY: a warp for every row and a thread for every column of the largest parameter; the keys of units lie
            // within `unit_keys`.
            unsafe {
                self.gpu.launch(
                    &kernel::UNIT_KEYS,
                    [table.rows.div_ceil(8).max(table.cols.div_ceil(THREADS)), n, 1],
                    0,
                    &args,
                )
            };
        }
        let taken = taken.map_or(Arg::Pointer(0), Buffer::all);
        let args = [
            table.segments.all(),
            table.block_segment.all(),
            x.all(),
            taken,
            self.unit_keys.all(),
            bracket.all(),
            self.counts.all(),
            self.candidates.all(),
        ];
        // SAFETY: a block for every piece; counts are zero, which the kernel below leaves them; candidates lie within
        // the room of their segment.
        unsafe { self.gpu.launch(&kernel::COUNT_CANDIDATES, [table.blocks, 1, 1], 0, &args) };
        let args = [
            table.segments.all(),
            x.all(),
            taken,
            self.unit_keys.all(),
            bracket.all(),
            self.counts.all(),
            self.candidates.all(),
            self.threshold.all(),
        ];
        // SAFETY: a block for every segment, each of which has two numbers in bracket and counts and a threshold.
        unsafe { self.gpu.launch(&kernel::SELECT_THRESHOLD, [n, 1, 1], 0, &args) };
    }

    #[allow(unsafe_code)]
    fn project(&self, table: &Table, decay: f32, forget: bool) {
        let flat = &self.flat;
        flat.row_ptr.fill_zero();
        flat.col_ptr.fill_zero();
        self.report.fill_zero();
        let args = [
            table.segments.all(),
            table.block_segment.all(),
            self.unit_keys.all(),
            self.threshold.all(),
            self.was.all(),
            flat.w.all(),
            flat.m.all(),
            flat.v.all(),
            flat.row_ptr.all(),
            flat.col_ptr.all(),
            self.report.all(),
            Arg::F32(decay),
            Arg::U32(u32::from(forget)),
        ];
        // SAFETY: segments lie within the flat arrays; lines are counted within theirs, which are zero.
        unsafe { self.gpu.launch(&kernel::PROJECT, [table.blocks, 1, 1], 0, &args) };
    }

    /// The sparse forms, whose lines have been counted.
    #[allow(unsafe_code)]
    fn fill(&self, table: &Table) {
        if !self.sparse.contains(&true) {
            return;
        }
        let (flat, n, segments) = (&self.flat, self.shapes.len(), table.segments.all());
        let args = [segments, flat.row_ptr.all(), flat.col_ptr.all()];
        // SAFETY: a block for the rows and one for the columns of every segment, whose lines have a place each and one
        // for the end.
        unsafe { self.gpu.launch(&kernel::SUM_COUNTS, [n, 2, 1], 0, &args) };
        let args = [segments, flat.w.all(), flat.row_ptr.all(), flat.pairs.all()];
        // SAFETY: a warp for every row of the largest parameter; nonzeros fit the room that `set_sparse` checked.
        unsafe { self.gpu.launch(&kernel::FILL_ROWS, [table.rows.div_ceil(8), n, 1], 0, &args) };
        let args = [segments, flat.w.all(), flat.col_ptr.all(), flat.col_pairs.all()];
        // SAFETY: a thread for every column of the largest parameter; otherwise as above.
        unsafe { self.gpu.launch(&kernel::FILL_COLUMNS, [table.cols.div_ceil(THREADS), n, 1], 0, &args) };
        let args = [segments, flat.row_ptr.all(), flat.col_ptr.all(), flat.row_order.all(), flat.col_order.all()];
        // SAFETY: a block for the rows and one for the columns of every segment; orders have a place for every line.
        unsafe { self.gpu.launch(&kernel::ORDER_LINES, [n, 2, 1], 0, &args) };
    }

    /// Outcomes of the last update, one for every parameter.
    ///
    /// # Errors
    /// The first error of the device.
    pub fn outcomes(&self) -> Result<Vec<Outcome>, GpuError> {
        let (report, threshold) = (self.report.download()?, self.threshold.download()?);
        let outcome = |(counts, key): (&[u32], u64)| Outcome {
            nonzero: counts[0] as usize,
            entered: counts[1] as usize,
            least: f32::from_bits((key >> 32) as u32 & 0x7fff_ffff),
        };
        Ok(report.chunks_exact(2).zip(threshold).map(outcome).collect())
    }
}

impl Selection {
    /// Everything stays as it is.
    const KEEP: Self = Self { wanted: usize::MAX, floor: None, decays: false, trained: true };
}

/// The parameters in the form that the kernels of an update read.
struct Table {
    segments: Buffer<Segment>,
    /// The parameter of every block.
    block_segment: Buffer<u32>,
    blocks: usize,
    /// Of the largest parameter.
    rows: usize,
    cols: usize,
    floors: bool,
}

impl Table {
    fn new(gpu: &Gpu, all: &Parameters, selection: impl Fn(usize) -> Selection) -> Self {
        let (mut segments, mut block_segment, mut floors) = (Vec::new(), Vec::new(), false);
        for (i, (shape, place)) in all.shapes.iter().zip(&all.places).enumerate() {
            let s = selection(i);
            let len = shape.rows * shape.cols;
            let (unit, per_unit) = match s.floor.filter(|_| s.wanted < len) {
                None | Some(Floor::PerRow(0) | Floor::PerColumn(0)) => (0, 0),
                Some(Floor::PerRow(count)) => (1, count),
                Some(Floor::PerColumn(count)) => (2, count),
            };
            assert!(per_unit <= MOST_PER_UNIT, "a unit keeps at most {MOST_PER_UNIT} entries, not {per_unit}");
            floors |= unit > 0;
            let numbers = [
                place.entry,
                shape.rows,
                shape.cols,
                block_segment.len(),
                s.wanted.min(len),
                unit,
                per_unit,
                place.unit,
                place.candidate,
                place.candidates,
                usize::from(s.decays),
                usize::from(all.sparse[i]),
                place.row,
                place.col,
                place.nonzero,
                place.word,
            ];
            segments.push(numbers.map(|n| u32::try_from(n).expect("fewer than 2^32 entries")));
            if s.trained {
                block_segment.extend(vec![i as u32; len.div_ceil(PIECE)]);
            }
        }
        Self {
            segments: gpu.upload(&segments),
            blocks: block_segment.len(),
            block_segment: gpu.upload(&block_segment),
            rows: all.shapes.iter().map(|s| s.rows).max().unwrap_or(1),
            cols: all.shapes.iter().map(|s| s.cols).max().unwrap_or(1),
            floors,
        }
    }
}
