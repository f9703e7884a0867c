//! Splitting the box of coefficients: what holds on both halves holds on the whole, and bounds of halves are tighter.

use super::{
    super::{about::About, claim::Split},
    walk::{Freedom, Ranges, Scales, Weights},
};

/// Symbols of the largest coefficients are tried; the best of them is split.
const TRIED: usize = 4;

/// Most splits of an input: readers of JSON refuse to go deeper than some 120 levels.
const MOST: usize = 100;

/// Margin that has to be bounded.
pub(super) struct Question<'a> {
    pub about: &'a About<'a>,
    pub weights: &'a Weights<'a>,
    pub prompt: &'a [u16],
    pub answer: usize,
    pub rivals: &'a [usize],
    pub most_symbols: usize,
    pub frozen: Option<&'a Scales>,
}

/// A box, its bound, and what may be worth splitting.
struct Leaf {
    ranges: Ranges,
    bound: f64,
    candidates: Vec<(usize, usize)>,
    /// Index of its place in the tree: the split above, and whether it is the upper half.
    place: Option<(usize, bool)>,
}

/// A split in a list: what it splits, and which entries split its halves further.
struct Entry {
    what: (usize, usize),
    at: f64,
    halves: [Option<usize>; 2],
}

/// The bound, after at most `splits` (and [`MOST`]) splits of whichever box has the lowest; stops once all are above zero, or when no
/// split helps.
pub(super) fn bound(question: &Question<'_>, splits: usize) -> (f64, Option<Split>) {
    let mut leaves = vec![question.leaf(Ranges::new(), None)];
    let mut entries: Vec<Entry> = Vec::new();
    for _ in 0..splits.min(MOST) {
        let lowest = (0..leaves.len()).fold(0, |low, i| if leaves[i].bound < leaves[low].bound { i } else { low });
        if leaves[lowest].bound > 0.0 {
            break;
        }
        let Some((entry, halves)) = question.best_split(&leaves[lowest], entries.len()) else { break };
        if let Some((above, upper)) = leaves[lowest].place {
            entries[above].halves[usize::from(upper)] = Some(entries.len());
        }
        entries.push(entry);
        leaves.swap_remove(lowest);
        leaves.extend(halves);
    }
    let bound = leaves.iter().map(|leaf| leaf.bound).fold(f64::INFINITY, f64::min);
    let space = question.about.circuit.space();
    let name = |node| space.node(node).to_string();
    (bound, (!entries.is_empty()).then(|| tree(&entries, 0, &name)))
}

fn tree(entries: &[Entry], i: usize, name: &dyn Fn(usize) -> String) -> Split {
    let half = |half: Option<usize>| half.map(|i| Box::new(tree(entries, i, name)));
    let Entry { what: (node, token), at, halves: [below, above] } = entries[i];
    Split { node: name(node), token, at, below: half(below), above: half(above) }
}

impl Question<'_> {
    fn leaf(&self, ranges: Ranges, place: Option<(usize, bool)>) -> Leaf {
        let (kept, most_symbols, frozen) = (self.about.circuit.kept(), self.most_symbols, self.frozen);
        let outcome = self.weights.propagate(self.prompt, Freedom { kept, ranges: &ranges, most_symbols, frozen });
        let token = *self.prompt.last().expect("a prompt has tokens");
        let margins = self.rivals.iter().map(|&rival| self.weights.margin(&outcome, token, self.answer, rival));
        let Some(worst) = margins.reduce(|a, b| if b.bound < a.bound { b } else { a }) else {
            return Leaf { ranges, bound: f64::INFINITY, candidates: vec![], place };
        };
        let origins = worst.shared.iter().zip(&outcome.origins);
        let mut origins: Vec<(f64, (usize, usize))> = origins.filter_map(|(a, o)| o.map(|o| (a.abs(), o))).collect();
        origins.retain(|o| o.0 > 0.0);
        origins.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        Leaf { ranges, bound: worst.bound, candidates: origins.into_iter().map(|o| o.1).take(TRIED).collect(), place }
    }

    /// The split whose worse half is best, if that is better than the whole.
    fn best_split(&self, leaf: &Leaf, number: usize) -> Option<(Entry, [Leaf; 2])> {
        let halves = |&what: &(usize, usize)| {
            let (low, high) = *leaf.ranges.get(&what).unwrap_or(&(0.0, 1.0));
            let at = (low + high) / 2.0;
            let half = |range, upper| {
                let mut ranges = leaf.ranges.clone();
                ranges.insert(what, range);
                self.leaf(ranges, Some((number, upper)))
            };
            (Entry { what, at, halves: [None, None] }, [half((low, at), false), half((at, high), true)])
        };
        let worse = |halves: &[Leaf; 2]| halves[0].bound.min(halves[1].bound);
        let best = leaf.candidates.iter().map(halves).reduce(|a, b| if worse(&b.1) > worse(&a.1) { b } else { a })?;
        (worse(&best.1) > leaf.bound).then_some(best)
    }
}
