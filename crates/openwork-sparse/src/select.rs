//! Exact selection of the largest entries out of one pass over the matrix.
//!
//! The pass ([`Scan`]) counts what is surely kept and gathers what may be, by a bracket around the threshold
//! of the step before. The rank is then found among those few ([`Cuts::find`]). Where the bracket misses, a
//! radix selection over the bits of |w| finds it in three more passes.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::{MinPerUnit, Unit, simd::dispatch};

/// Entries handled at once: one word of a [`Support`](crate::Support).
pub(crate) const BLOCK: usize = 64;
/// Entries per vector when the largest of a unit are kept sorted.
const LANES: usize = 16;

/// Bits of |x|; their unsigned order is the order of magnitudes (NaN above all).
#[inline(always)]
pub(crate) fn magnitude(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// One bit per flag.
#[inline(always)]
pub(crate) fn bits(flags: &[bool; BLOCK]) -> u64 {
    // Halves, because vectors of constants to choose from are then half as wide.
    let half = |flags: &[bool]| (0..32).zip(flags).fold(0_u32, |word, (i, &flag)| word | if flag { 1 << i } else { 0 });
    let (low, high) = flags.split_at(BLOCK / 2);
    u64::from(half(high)) << 32 | u64::from(half(low))
}

/// The set bits of a word, from the lowest.
#[inline(always)]
pub(crate) fn ones(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize);
        word &= word.wrapping_sub(1);
        bit
    })
}

/// Result of one pass over a piece of a matrix, for the selection: see [`Support::scan`](crate::Support::scan).
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    bracket: Range<u32>,
    /// Entries seen, by row-major index.
    seen: Range<u32>,
    /// Number of entries from `bracket.end` on.
    above: usize,
    /// Entries inside the bracket.
    candidates: Vec<Key>,
    best: Option<Best>,
}

/// [`Scan::add`] with the widest vector instructions of this machine. A struct and not a closure, because only
/// what is inlined is compiled for them.
struct AddToScan<'a> {
    scan: &'a mut Scan,
    w: &'a [f32],
}

impl WithSimd for AddToScan<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        if !self.scan.bracket.is_empty() {
            self.scan.gather(self.w);
        }
        if let Some(best) = &mut self.scan.best {
            best.add(self.w);
        }
    }
}

/// Magnitude and, reversed, row-major index: larger keys are kept first.
type Key = u64;

impl Scan {
    pub(crate) fn new(bracket: Range<u32>, cols: usize, first: usize, floor: Option<MinPerUnit>) -> Self {
        let best = floor.filter(|f| f.count > 0).map(|f| Best::new(f, cols));
        Self { bracket, seen: first as u32..first as u32, above: 0, candidates: Vec::new(), best }
    }

    /// Takes the next entries of the piece, in row-major order and any number at a time; a few hundred to a
    /// few thousand, so that they are still in the cache of whoever computed them.
    pub fn add(&mut self, w: &[f32]) {
        dispatch(AddToScan { scan: self, w });
        self.seen.end += w.len() as u32;
    }

    #[inline(always)]
    fn gather(&mut self, w: &[f32]) {
        let Range { start: low, end: high } = self.bracket;
        let (blocks, rest) = w.as_chunks::<BLOCK>();
        let mut at = self.seen.end;
        for block in blocks {
            let (mut from_low, mut from_high) = (0_u32, 0_u32);
            for &x in block {
                from_low += u32::from(magnitude(x) >= low);
                from_high += u32::from(magnitude(x) >= high);
            }
            self.above += from_high as usize;
            if from_low > from_high {
                let within = bits(&block.map(|x| (low..high).contains(&magnitude(x))));
                self.candidates.extend(ones(within).map(|i| key(magnitude(block[i]), at + i as u32)));
            }
            at += BLOCK as u32;
        }
        for (&x, i) in rest.iter().zip(at..) {
            let m = magnitude(x);
            self.above += usize::from(m >= high);
            if self.bracket.contains(&m) {
                self.candidates.push(key(m, i));
            }
        }
    }

    /// Joins the scan of the next piece.
    pub(crate) fn append(&mut self, next: Self) {
        assert!(self.seen.end == next.seen.start, "select: the scans are not in order");
        self.seen.end = next.seen.end;
        self.above += next.above;
        self.candidates.extend(next.candidates);
        if let (Some(best), Some(next)) = (&mut self.best, next.best) {
            best.append(next);
        }
    }
}

#[inline(always)]
fn key(magnitude: u32, index: u32) -> Key {
    u64::from(magnitude) << 32 | u64::from(!index)
}

/// The largest magnitudes of every unit and the first that is not among them, which tells whether there are
/// more ties than places. Every vector of entries goes through a chain of maxima and minima.
#[derive(Clone, Debug)]
struct Best {
    floor: MinPerUnit,
    cols: usize,
    /// Column of the next entry.
    col: usize,
    /// Falling levels for every lane: of the present row, or of each vector of columns one after the other.
    held: Vec<[u32; LANES]>,
    /// Falling levels of every finished row.
    done: Vec<u32>,
}

impl Best {
    fn new(floor: MinPerUnit, cols: usize) -> Self {
        let vectors = if floor.unit == Unit::Row { 1 } else { cols.div_ceil(LANES) };
        Self { floor, cols, col: 0, held: vec![[0; LANES]; vectors * (floor.count + 1)], done: Vec::new() }
    }

    fn levels(&self) -> usize {
        self.floor.count + 1
    }

    #[inline(always)]
    fn add(&mut self, mut w: &[f32]) {
        while !w.is_empty() {
            let (segment, rest) = w.split_at(w.len().min(self.cols - self.col));
            match self.floor.unit {
                Unit::Row => self.add_to_row(segment),
                Unit::Column => self.add_to_columns(segment),
            }
            w = rest;
        }
    }

    #[inline(always)]
    fn add_to_row(&mut self, segment: &[f32]) {
        let (vectors, rest) = segment.as_chunks::<LANES>();
        insert_all(&mut self.held, vectors);
        if !rest.is_empty() {
            insert(&mut self.held, padded(rest, 0));
        }
        self.col += segment.len();
        if self.col == self.cols {
            merge_lanes(&mut self.held);
            self.done.extend(self.held.iter().map(|level| level[0]));
            self.held.fill([0; LANES]);
            self.col = 0;
        }
    }

    #[inline(always)]
    fn add_to_columns(&mut self, segment: &[f32]) {
        let levels = self.levels();
        let lane = self.col % LANES;
        // Up to the next whole vector of columns.
        let (head, body) = segment.split_at(((LANES - lane) % LANES).min(segment.len()));
        if !head.is_empty() {
            let at = self.col / LANES * levels;
            insert(&mut self.held[at..at + levels], padded(head, lane));
        }
        let (vectors, rest) = body.as_chunks::<LANES>();
        let at = (self.col + head.len()) / LANES * levels;
        let mut held = self.held[at..].chunks_exact_mut(levels);
        for (x, held) in vectors.iter().zip(&mut held) {
            insert(held, x.map(magnitude));
        }
        if !rest.is_empty() {
            insert(held.next().expect("columns are padded to whole vectors"), padded(rest, 0));
        }
        self.col = (self.col + segment.len()) % self.cols;
    }

    fn append(&mut self, next: Self) {
        let levels = self.levels();
        self.done.extend(next.done);
        if self.floor.unit == Unit::Column {
            for (held, next) in self.held.chunks_exact_mut(levels).zip(next.held.chunks_exact(levels)) {
                for (k, &x) in next.iter().enumerate() {
                    insert(&mut held[k..], x);
                }
            }
        }
    }

    /// Level `level` of unit `unit`.
    fn at(&self, unit: usize, level: usize) -> u32 {
        match self.floor.unit {
            Unit::Row => self.done[unit * self.levels() + level],
            Unit::Column => self.held[unit / LANES * self.levels() + level][unit % LANES],
        }
    }

    fn units(&self) -> usize {
        match self.floor.unit {
            Unit::Row => self.done.len() / self.levels(),
            Unit::Column => self.cols,
        }
    }
}

/// Zeros where there are no entries: they never displace anything.
#[inline(always)]
fn padded(w: &[f32], lane: usize) -> [u32; LANES] {
    let mut x = [0; LANES];
    x[lane..].iter_mut().zip(w).for_each(|(x, &w)| *x = magnitude(w));
    x
}

/// Puts every lane of `x` in its place among the falling levels; the smallest falls out.
#[inline(always)]
fn insert(held: &mut [[u32; LANES]], mut x: [u32; LANES]) {
    for level in held {
        for l in 0..LANES {
            (level[l], x[l]) = (level[l].max(x[l]), level[l].min(x[l]));
        }
    }
}

/// [`insert`] for many vectors; the levels, unless there are too many, stay in registers.
#[inline(always)]
fn insert_all(held: &mut [[u32; LANES]], vectors: &[[f32; LANES]]) {
    #[inline(always)]
    fn fixed<const LEVELS: usize>(held: &mut [[u32; LANES]], vectors: &[[f32; LANES]]) {
        let held: &mut [_; LEVELS] = held.try_into().expect("chosen by length");
        let mut levels = *held;
        for x in vectors {
            insert(&mut levels, x.map(magnitude));
        }
        *held = levels;
    }
    match held.len() {
        2 => fixed::<2>(held, vectors),
        3 => fixed::<3>(held, vectors),
        4 => fixed::<4>(held, vectors),
        5 => fixed::<5>(held, vectors),
        6 => fixed::<6>(held, vectors),
        7 => fixed::<7>(held, vectors),
        8 => fixed::<8>(held, vectors),
        9 => fixed::<9>(held, vectors),
        _ => vectors.iter().for_each(|x| insert(held, x.map(magnitude))),
    }
}

/// Leaves the largest of all lanes in the first one.
#[inline(always)]
fn merge_lanes(held: &mut [[u32; LANES]]) {
    for half in [8, 4, 2, 1] {
        for k in 0..held.len() {
            let mut x = [0; LANES];
            x[..half].copy_from_slice(&held[k][half..2 * half]);
            // The upper lane's k larger ones are in already, so this one lands at level k or below.
            insert(&mut held[k..], x);
        }
    }
}

/// Thresholds of a selection: an entry that reaches that of the matrix or of its unit is kept. Of the entries equal to
/// a threshold only those up to some index are.
#[derive(Clone, Debug)]
pub(crate) struct Cuts {
    pub(crate) cols: usize,
    pub(crate) global: Cut,
    pub(crate) floor: Option<FloorCuts>,
}

/// Entries above `threshold`, and those equal to it up to the row-major index `last`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub threshold: u32,
    pub last: u32,
}

impl Cut {
    const NOTHING: Self = Self { threshold: u32::MAX, last: u32::MAX };

    /// The least magnitude that is kept at index `i`.
    #[inline(always)]
    pub fn at(self, i: u32) -> u32 {
        self.threshold + u32::from(i > self.last)
    }
}

/// One cut per unit.
#[derive(Clone, Debug)]
pub(crate) struct FloorCuts {
    pub unit: Unit,
    pub thresholds: Vec<u32>,
    pub last: Vec<u32>,
    /// Units in which not all entries equal to the threshold are kept.
    pub ragged: Vec<u32>,
}

impl FloorCuts {
    #[inline(always)]
    pub fn at(&self, unit: usize, i: u32) -> u32 {
        Cut { threshold: self.thresholds[unit], last: self.last[unit] }.at(i)
    }

    #[inline(always)]
    fn forces(&self, cols: usize, magnitude: u32, i: u32) -> bool {
        let unit = match self.unit {
            Unit::Row => i as usize / cols,
            Unit::Column => i as usize % cols,
        };
        magnitude >= self.at(unit, i)
    }

    fn new(best: &Best, w: &[f32]) -> Self {
        let (count, cols) = (best.floor.count, best.cols);
        let thresholds: Vec<u32> = (0..best.units()).map(|u| best.at(u, count - 1)).collect();
        let mut last = vec![u32::MAX; thresholds.len()];
        // Unit and how many entries equal to its threshold it keeps.
        let mut ties: Vec<(usize, usize)> = Vec::new();
        for (u, &threshold) in thresholds.iter().enumerate() {
            if best.at(u, count) == threshold {
                ties.push((u, (0..count).filter(|&level| best.at(u, level) == threshold).count()));
            }
        }
        let ragged = ties.iter().map(|&(u, _)| u as u32).collect();
        let mut meet = |(u, places): &mut (usize, usize), i: usize| {
            if *places > 0 && magnitude(w[i]) == thresholds[*u] {
                *places -= 1;
                if *places == 0 {
                    last[*u] = i as u32;
                }
            }
        };
        match best.floor.unit {
            Unit::Row => ties.iter_mut().for_each(|tie| (tie.0 * cols..(tie.0 + 1) * cols).for_each(|i| meet(tie, i))),
            Unit::Column if ties.is_empty() => (),
            Unit::Column => {
                for row in (0..w.len()).step_by(cols) {
                    ties.iter_mut().for_each(|tie| meet(tie, row + tie.0));
                }
            }
        }
        Self { unit: best.floor.unit, thresholds, last, ragged }
    }
}

impl Cuts {
    /// Keeps the `nnz` largest of `w`, of which `scan` is the scan, those forced by the floor first.
    #[track_caller]
    pub(crate) fn find(w: &[f32], cols: usize, nnz: usize, scan: Scan) -> Self {
        assert!(scan.seen == (0..w.len() as u32), "select: {:?} of {} entries were scanned", scan.seen, w.len());
        let best = scan.best.as_ref();
        let n_forced = best.map_or(0, |b| b.units() * b.floor.count);
        assert!(n_forced <= nnz, "top_magnitude: the floor needs {n_forced} entries, {nnz} are allowed");
        let floor = best.map(|best| FloorCuts::new(best, w));
        let free = |m, i| !floor.as_ref().is_some_and(|f| f.forces(cols, m, i));
        let global = match nnz - n_forced {
            0 => Cut::NOTHING,
            k => {
                // What the floor keeps anyway has no rank.
                let forced_above = best.map_or(0, |b| {
                    let places = (0..b.units()).flat_map(|u| (0..b.floor.count).map(move |level| (u, level)));
                    places.filter(|&(u, level)| b.at(u, level) >= scan.bracket.end).count()
                });
                let above = scan.above - forced_above.min(scan.above);
                let mut keys = scan.candidates;
                keys.retain(|&key| free((key >> 32) as u32, !(key as u32)));
                match k.checked_sub(above + 1) {
                    Some(rank) if rank < keys.len() && !scan.bracket.is_empty() => {
                        let (_, &mut key, _) = keys.select_nth_unstable_by(rank, |a, b| b.cmp(a));
                        Cut { threshold: (key >> 32) as u32, last: !(key as u32) }
                    }
                    _ => by_radix(w, cols, k, floor.as_ref()),
                }
            }
        };
        Self { cols, global, floor }
    }
}

/// The cut that keeps the `k` largest of the entries that `floor` does not force in.
fn by_radix(w: &[f32], cols: usize, k: usize, floor: Option<&FloorCuts>) -> Cut {
    let mut keys: Vec<u32> = w.iter().map(|&x| magnitude(x)).collect();
    if let Some(floor) = floor {
        for (r, row) in keys.chunks_exact_mut(cols).enumerate() {
            for (c, key) in row.iter_mut().enumerate() {
                let unit = if floor.unit == Unit::Row { r } else { c };
                if *key >= floor.at(unit, (r * cols + c) as u32) {
                    *key = NO_KEY;
                }
            }
        }
    }
    let (threshold, ties) = kth_largest(&keys, k);
    let mut equal = (0..).zip(&keys).filter(|&(_, &key)| key == threshold);
    Cut { threshold, last: equal.nth(ties - 1).expect("there are k keys").0 }
}

/// Not a magnitude, and of no rank.
const NO_KEY: u32 = u32::MAX;

/// The k-th largest key (k ≥ 1) and how many of the keys equal to it belong to the k largest.
fn kth_largest(keys: &[u32], mut k: usize) -> (u32, usize) {
    const BITS: [u32; 3] = [11, 10, 10]; // 31 bits, most significant first; NO_KEY has the one above
    let (mut prefix, mut shift) = (0_u32, 31);
    for bits in BITS {
        shift -= bits;
        let mut count = vec![0_usize; 1 << bits];
        for &key in keys {
            if key >> (shift + bits) == prefix {
                count[(key >> shift) as usize & ((1 << bits) - 1)] += 1;
            }
        }
        let mut digit = count.len() - 1;
        while count[digit] < k {
            k -= count[digit];
            digit -= 1;
        }
        prefix = prefix << bits | digit as u32;
    }
    (prefix, k)
}
