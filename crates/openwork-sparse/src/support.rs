//! The support of one matrix (the entries that it keeps), step after step.

use std::{
    ops::{Add, Range},
    sync::{Mutex, PoisonError},
};

use pulp::{Simd, WithSimd};

use crate::{
    MinPerUnit, Pattern, Unit,
    select::{BLOCK, Cuts, Scan, bits, magnitude, ones},
    simd::dispatch,
};

/// The entries that one `[rows, cols]` matrix keeps, and what makes the next selection cheap: the threshold of
/// the last one.
///
/// A step is [`Support::update`]: every piece of the matrix is scanned as it is computed, the threshold is found from the
/// scans, and every piece is projected. The entries kept are exactly those that
/// [`top_magnitude`](crate::top_magnitude) keeps, whatever the last threshold and however the matrix is cut into pieces.
///
/// Floor: the scan adds no memory traffic to the pass that computes the weights; the projection reads and writes
/// them once more, 8 bytes per entry. Together with Adam that is 36 bytes per entry, beside the 28 of Adam alone.
#[derive(Clone, Debug)]
pub struct Support {
    rows: usize,
    cols: usize,
    /// One bit per entry, every row in whole words; none where all entries are kept.
    words: Option<Vec<u64>>,
    /// Last threshold, bits of a magnitude.
    threshold: Option<u32>,
    /// Magnitudes among which the next threshold is looked for.
    bracket: Range<u32>,
}

/// Counts of a projection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Entries that are not zero. Fewer than asked for where the matrix has not that many.
    pub nonzero: usize,
    /// Entries kept that were not before.
    pub entered: usize,
    /// True if any entry entered or left.
    pub changed: bool,
}

impl Add for Kept {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            nonzero: self.nonzero + other.nonzero,
            entered: self.entered + other.entered,
            changed: self.changed || other.changed,
        }
    }
}

/// Number of entries to keep, and what happens to them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keep {
    /// Entries that stay: those of largest magnitude, ties to the lower row-major index.
    pub nnz: usize,
    /// Entries that every unit keeps, first of all.
    pub floor: Option<MinPerUnit>,
    /// Entries that stay become `w − decay · w`.
    pub decay: Option<f32>,
}

/// Pieces of a matrix to work on, each by one thread: `for_each(n, f)` calls `f` with every number below `n` once, in any
/// order. [`in_order`] does so on the calling thread.
pub type ForEach<'a> = &'a dyn Fn(usize, &(dyn Fn(usize) + Sync));

/// Calls `f(0)`, `f(1)`, … `f(n − 1)`.
pub fn in_order(n: usize, f: &(dyn Fn(usize) + Sync)) {
    (0..n).for_each(f);
}

/// Some rows of a support.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    first_row: usize,
    words: &'a mut [u64],
}

impl Support {
    /// Widest bracket, and narrowest, relative to the threshold.
    const SPREAD: (f32, f32) = (1.0 / 64.0, 0.5);

    /// All entries.
    ///
    /// # Panics
    /// When the matrix has 2³² entries or more.
    pub fn all(rows: usize, cols: usize) -> Self {
        assert!(u32::try_from(rows * cols).is_ok(), "support: [{rows}, {cols}] has more entries than 32 bits count");
        Self { rows, cols, words: None, threshold: None, bracket: 0..0 }
    }

    /// Rows of a piece for [`Support::update`] that keeps a thread busy: at least 2¹⁶ entries, and 32 rows, because a
    /// floor per column is a little work per piece.
    pub fn rows_of_a_piece(&self) -> usize {
        (1_usize << 16).div_ceil(self.cols.max(1)).max(32).min(self.rows.max(1))
    }

    /// Computes new values of `w`, row-major, and keeps what `keep` says of them. The matrix goes through in pieces of
    /// `rows` rows (the last may have fewer), one of `others` to each: `compute(other, piece, done)` computes a piece and
    /// calls `done` with each part of it, from the first entry to the last, as soon as it is computed and still in the
    /// cache. Returns counts, and a magnitude below which no entry is kept.
    ///
    /// # Panics
    /// When `w` is not of this shape, `others` are not as many as there are pieces, `compute` leaves entries out,
    /// `keep.nnz` exceeds the entries, or the floor alone needs more than `keep.nnz`.
    #[track_caller]
    pub fn update<T: Send>(
        &mut self,
        w: &mut [f32],
        keep: Keep,
        rows: usize,
        others: impl IntoIterator<Item = T>,
        compute: impl Fn(T, &mut [f32], &mut dyn FnMut(&mut [f32])) + Sync,
        for_each: ForEach<'_>,
    ) -> (Kept, f32) {
        let piece = (rows * self.cols).max(1);
        let pieces = w.len().div_ceil(piece);
        let scan = |i: usize| self.scan(i * rows, keep.floor);
        let work: Vec<_> = w
            .chunks_mut(piece)
            .zip(others)
            .enumerate()
            .map(|(i, (w, other))| Mutex::new((w, Some(other), scan(i))))
            .collect();
        assert!(work.len() == pieces, "update: {} pieces of {rows} rows, {} of the others", pieces, work.len());
        for_each(pieces, &|i| {
            let (w, other, scan) = &mut *work[i].lock().unwrap_or_else(PoisonError::into_inner);
            let other = other.take().expect("every piece is computed once");
            compute(other, w, &mut |done| scan.add(done));
        });
        let scans = work.into_iter().map(|done| done.into_inner().unwrap_or_else(PoisonError::into_inner).2);
        let scans = scans.collect();
        let cuts = self.select(w, keep.nnz, scans);
        let parts = self.parts(rows).into_iter().zip(w.chunks_mut(piece));
        let parts: Vec<_> = parts.map(|part| Mutex::new((Some(part), Kept::default()))).collect();
        for_each(pieces, &|i| {
            let (part, kept) = &mut *parts[i].lock().unwrap_or_else(PoisonError::into_inner);
            let (part, w) = part.take().expect("every piece is projected once");
            *kept = cuts.project(part, w, keep.decay);
        });
        let kept = parts.into_iter().map(|done| done.into_inner().unwrap_or_else(PoisonError::into_inner).1);
        (kept.fold(Kept::default(), Kept::add), cuts.least_kept())
    }

    /// Starts the pass over the piece of the matrix that begins with row `first_row`; it must hold whole rows.
    fn scan(&self, first_row: usize, floor: Option<MinPerUnit>) -> Scan {
        let floor = floor.map(|f| f.clamped(self.rows, self.cols));
        Scan::new(self.bracket.clone(), self.cols, first_row * self.cols, floor)
    }

    /// The cuts that keep the `nnz` largest magnitudes of `w`, ties to the lower row-major index, those that
    /// the floor forces in first. `scans` are those of all pieces of `w`, in order, with the same floor.
    ///
    /// # Panics
    /// When `w` is not of this shape or not wholly scanned, `nnz` exceeds its entries, or the floor alone needs
    /// more than `nnz`.
    #[track_caller]
    fn select(&mut self, w: &[f32], nnz: usize, scans: Vec<Scan>) -> Cuts {
        let (rows, cols) = (self.rows, self.cols);
        assert!(w.len() == rows * cols, "select: {} values for a [{rows}, {cols}] matrix", w.len());
        assert!(nnz <= w.len(), "top_magnitude: {nnz} entries asked of a [{rows}, {cols}] matrix");
        let joined = scans.into_iter().reduce(|mut all, next| {
            all.append(next);
            all
        });
        let cuts = Cuts::find(w, cols, nnz, joined.unwrap_or_else(|| self.scan(0, None)));
        self.aim(cuts.global.threshold);
        cuts
    }

    /// Chooses the bracket around `threshold` by how far it moved.
    fn aim(&mut self, threshold: u32) {
        let value = f32::from_bits(threshold);
        if value.is_finite() && value > 0.0 {
            let moved = self.threshold.map_or(Self::SPREAD.1 / 4.0, |last| (value / f32::from_bits(last) - 1.0).abs());
            let spread = (3.0 * moved).clamp(Self::SPREAD.0, Self::SPREAD.1);
            self.bracket = (value * (1.0 - spread)).to_bits()..(value * (1.0 + spread)).to_bits().max(threshold + 1);
            self.threshold = Some(threshold);
        } else {
            (self.bracket, self.threshold) = (0..0, None);
        }
    }

    /// The support in parts of `rows` rows, to be projected onto in parallel.
    fn parts(&mut self, rows: usize) -> Vec<Part<'_>> {
        let words = self.words.get_or_insert_with(|| all_words(self.rows, self.cols));
        let parts = words.chunks_mut((rows * self.cols.div_ceil(BLOCK)).max(1)).enumerate();
        parts.map(|(i, words)| Part { first_row: i * rows, words }).collect()
    }

    /// Keeps all entries; [`Kept::nonzero`] is left 0, because it takes the weights to count.
    pub fn keep_all(&mut self) -> Kept {
        let entered = self.rows * self.cols - self.nnz();
        *self = Self::all(self.rows, self.cols);
        Kept { nonzero: 0, entered, changed: entered > 0 }
    }

    /// True if the entry at row `r` and column `c` is kept.
    pub fn keeps(&self, r: usize, c: usize) -> bool {
        let bit = |words: &Vec<u64>| words[r * self.cols.div_ceil(BLOCK) + c / BLOCK] >> (c % BLOCK) & 1 == 1;
        self.words.as_ref().is_none_or(bit)
    }

    /// Number of entries kept.
    pub fn nnz(&self) -> usize {
        match &self.words {
            Some(words) => words.iter().map(|w| w.count_ones() as usize).sum(),
            None => self.rows * self.cols,
        }
    }

    /// Keeps the `nnz` largest magnitudes of `w`, with the floor, and sets the others to zero.
    ///
    /// # Panics
    /// As [`Support::update`].
    #[track_caller]
    pub fn project(&mut self, w: &mut [f32], nnz: usize, floor: Option<MinPerUnit>) -> Kept {
        let mut scan = self.scan(0, floor);
        scan.add(w);
        let cuts = self.select(w, nnz, vec![scan]);
        let parts = self.parts(self.rows);
        parts.into_iter().map(|part| cuts.project(part, w, None)).fold(Kept::default(), Kept::add)
    }

    /// Sets the entries of `x`, row-major and of this shape, that are not kept to zero.
    ///
    /// # Panics
    /// When `x` has another number of entries.
    #[track_caller]
    pub fn mask(&self, x: &mut [f32]) {
        assert!(
            x.len() == self.rows * self.cols,
            "mask: {} values for a [{}, {}] matrix",
            x.len(),
            self.rows,
            self.cols
        );
        let Some(words) = &self.words else { return };
        let words = words.chunks_exact(self.cols.div_ceil(BLOCK).max(1));
        for (x, words) in x.chunks_exact_mut(self.cols.max(1)).zip(words) {
            for (x, &word) in x.chunks_mut(BLOCK).zip(words) {
                for (i, x) in x.iter_mut().enumerate() {
                    *x = if word >> i & 1 == 1 { *x } else { 0.0 };
                }
            }
        }
    }

    /// Keeps the positions of `pattern` as well.
    ///
    /// # Panics
    /// When the shapes differ.
    #[track_caller]
    pub fn grow(&mut self, pattern: &Pattern) {
        assert!((pattern.rows(), pattern.cols()) == (self.rows, self.cols), "grow: the pattern has another shape");
        let Some(words) = &mut self.words else { return };
        let per_row = self.cols.div_ceil(BLOCK);
        for r in 0..self.rows {
            for &c in &pattern.col_idx()[pattern.row(r)] {
                words[r * per_row + c as usize / BLOCK] |= 1 << (c as usize % BLOCK);
            }
        }
    }

    /// Positions of the entries kept. Worth building anew only where [`Kept::changed`].
    pub fn pattern(&self) -> Pattern {
        let all;
        let words = match &self.words {
            Some(words) => words,
            None => {
                all = all_words(self.rows, self.cols);
                &all
            }
        };
        let per_row = self.cols.div_ceil(BLOCK);
        let mut row_ptr = Vec::with_capacity(self.rows + 1);
        let mut col_idx = Vec::with_capacity(self.nnz());
        row_ptr.push(0);
        for r in 0..self.rows {
            for (i, &word) in words[r * per_row..(r + 1) * per_row].iter().enumerate() {
                col_idx.extend(ones(word).map(|bit| (i * BLOCK + bit) as u32));
            }
            row_ptr.push(col_idx.len() as u32);
        }
        Pattern::new(self.rows, self.cols, row_ptr, col_idx).expect("bits were visited in order")
    }
}

/// Bits of all entries, none for the padding of rows to whole words.
fn all_words(rows: usize, cols: usize) -> Vec<u64> {
    let mut row = vec![u64::MAX; cols.div_ceil(BLOCK)];
    if let (Some(last), tail @ 1..) = (row.last_mut(), cols % BLOCK) {
        *last = (1 << tail) - 1;
    }
    row.repeat(rows)
}

/// [`Cuts::project`] with the widest vector instructions of this machine.
struct Project<'a> {
    cuts: &'a Cuts,
    part: Part<'a>,
    w: &'a mut [f32],
    decay: Option<f32>,
}

impl WithSimd for Project<'_> {
    type Output = Kept;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Kept {
        match self.decay {
            Some(decay) => self.cuts.project_rows(self.part, self.w, |w| w - decay * w),
            None => self.cuts.project_rows(self.part, self.w, |w| w),
        }
    }
}

impl Cuts {
    /// No entry of smaller magnitude is kept.
    fn least_kept(&self) -> f32 {
        let floors = self.floor.iter().flat_map(|f| f.thresholds.iter().copied());
        f32::from_bits(floors.fold(self.global.threshold, u32::min))
    }

    /// Sets everything in the rows `w` of `part` that is not kept to zero, and with `decay` turns the rest into
    /// `w − decay · w`. `part` then holds what is kept.
    ///
    /// # Panics
    /// When `part` and `w` differ in their number of rows.
    #[track_caller]
    fn project(&self, part: Part<'_>, w: &mut [f32], decay: Option<f32>) -> Kept {
        let per_row = self.cols.div_ceil(BLOCK);
        assert!(w.len() * per_row == part.words.len() * self.cols, "project: the part has other rows than w");
        dispatch(Project { cuts: self, part, w, decay })
    }

    #[inline(always)]
    fn project_rows(&self, part: Part<'_>, w: &mut [f32], decay: impl Fn(f32) -> f32) -> Kept {
        let cols = self.cols;
        // Thresholds per column: of columns that are units, and of rows with several.
        let mut columns = vec![u32::MAX; cols];
        let by_column = self.floor.as_ref().filter(|f| f.unit == Unit::Column);
        let by_row = self.floor.as_ref().filter(|f| f.unit == Unit::Row);
        if let Some(floor) = by_column {
            columns.copy_from_slice(&floor.thresholds);
        }
        let mut mixed = Vec::new();
        let mut kept = Kept::default();
        let words = part.words.chunks_exact_mut(cols.div_ceil(BLOCK).max(1));
        for ((r, w), words) in (part.first_row..).zip(w.chunks_exact_mut(cols.max(1))).zip(words) {
            let first = (r * cols) as u32;
            let last = first + cols as u32 - 1;
            if let Some(floor) = by_column {
                for &c in &floor.ragged {
                    columns[c as usize] = floor.at(c as usize, first + c);
                }
            }
            let threshold = |i| self.global.at(i).min(by_row.map_or(u32::MAX, |f| f.at(r, i)));
            if threshold(first) == threshold(last) {
                kept = kept + project_row(w, words, threshold(first), &columns, &decay);
            } else {
                mixed.clear();
                mixed.extend((first..=last).zip(&columns).map(|(i, &t)| threshold(i).min(t)));
                kept = kept + project_row(w, words, u32::MAX, &mixed, &decay);
            }
        }
        kept
    }
}

/// Keeps what reaches both of its thresholds' minimum.
#[inline(always)]
fn project_row(w: &mut [f32], words: &mut [u64], threshold: u32, columns: &[u32], decay: &impl Fn(f32) -> f32) -> Kept {
    let mut kept = Kept::default();
    let (blocks, rest) = w.as_chunks_mut::<BLOCK>();
    let (thresholds, rest_thresholds) = columns.as_chunks::<BLOCK>();
    for ((w, columns), word) in blocks.iter_mut().zip(thresholds).zip(&mut *words) {
        project_block(w, word, threshold, columns, decay, &mut kept);
    }
    if !rest.is_empty() {
        project_block(rest, &mut words[blocks.len()], threshold, rest_thresholds, decay, &mut kept);
    }
    kept
}

/// Up to 64 entries.
#[inline(always)]
fn project_block(
    w: &mut [f32],
    word: &mut u64,
    threshold: u32,
    columns: &[u32],
    decay: &impl Fn(f32) -> f32,
    kept: &mut Kept,
) {
    let mut flags = [false; BLOCK];
    let mut nonzero = 0_u32;
    for ((w, &column), flag) in w.iter_mut().zip(columns).zip(&mut flags) {
        let keep = magnitude(*w) >= threshold.min(column);
        *w = if keep { decay(*w) } else { 0.0 };
        *flag = keep;
        nonzero += u32::from(*w != 0.0);
    }
    let new = bits(&flags);
    kept.nonzero += nonzero as usize;
    kept.entered += (new & !*word).count_ones() as usize;
    kept.changed |= new != *word;
    *word = new;
}

#[cfg(test)]
mod tests;
