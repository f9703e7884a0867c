//! Large sets of nodes that turn answers, cut down to small ones: a search for nodes that do something only together.
//!
//! A random half of all nodes contains any two or three that matter together with a fair chance, whatever their slopes. Where
//! such a set turns answers, parts of it are given back as long as it still does (delta debugging, Zeller and Hildebrandt
//! 2002): about `2 k log₂(n / k)` runs lead from n nodes to the k that matter.

use rand::RngExt;

use super::Adversary;
use crate::methods::random_sets::shuffle;

/// Fraction of answers that a set must turn to be cut down.
const TURNED: f64 = 0.1;

/// Shares of the live nodes outside that random sets have, and sets of each.
const SHARES: [f64; 5] = [0.75, 0.5, 0.25, 0.125, 0.0625];
const OF_EACH: usize = 4;

impl Adversary<'_> {
    /// Looks for small sets that turn answers, which later attacks may use: cuts down random sets, and all nodes outside but
    /// each of some groups. Ends at `small` nodes, or after the runs of its effort. False if time ran out.
    pub fn search_sets(&mut self, groups: &[Vec<usize>], small: f64) -> bool {
        let mut runs = 0;
        let mut broken: Vec<Vec<usize>> = vec![];
        for set in self.starts(groups) {
            if (self.out_of_time)() {
                return false;
            }
            runs += 1;
            if self.turns(&set) {
                broken.push(set);
            }
        }
        // Small ones first: they take fewest runs.
        broken.sort_by_key(Vec::len);
        for mut set in broken {
            shuffle(&mut set, &mut self.rng);
            let Some(found) = self.cut_down(set, &mut runs) else { return false };
            let smallest = found.len() as f64;
            self.small_sets.push(found);
            if smallest <= small || runs >= self.effort.runs {
                break;
            }
        }
        true
    }

    fn starts(&mut self, groups: &[Vec<usize>]) -> Vec<Vec<usize>> {
        let but = |group: &Vec<usize>| self.live.iter().copied().filter(|n| !group.contains(n)).collect::<Vec<_>>();
        let mut starts: Vec<Vec<usize>> = groups.iter().map(but).collect();
        for share in SHARES {
            for _ in 0..OF_EACH {
                starts.push(self.live.iter().copied().filter(|_| self.rng.random_bool(share)).collect());
            }
        }
        starts.retain(|set| !set.is_empty());
        starts
    }

    fn turns(&self, set: &[usize]) -> bool {
        self.effect(&self.ablating(set)).turned >= TURNED
    }

    /// The set without parts that are not needed to turn answers: halves first, then smaller parts, down to single nodes or
    /// to the end of the runs. `None` if time ran out.
    fn cut_down(&self, mut set: Vec<usize>, runs: &mut usize) -> Option<Vec<usize>> {
        let mut parts = 2;
        'smaller: while set.len() > 1 && *runs < self.effort.runs {
            let size = set.len().div_ceil(parts);
            for first in (0..set.len()).step_by(size) {
                if (self.out_of_time)() {
                    return None;
                }
                let rest: Vec<usize> =
                    set[..first].iter().chain(&set[(first + size).min(set.len())..]).copied().collect();
                *runs += 1;
                if self.turns(&rest) {
                    set = rest;
                    parts = (parts - 1).max(2);
                    continue 'smaller;
                }
            }
            if size == 1 {
                break;
            }
            parts = (2 * parts).min(set.len());
        }
        Some(set)
    }
}
