//! Place of a tensor, checked against its storage, and copying it out.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use ndarray::{ArrayD, IxDyn};

use super::PtProblem;
use super::kind::Kind;
use super::pickle::Pickle;
use super::value::View;
use crate::element::{self, Element};
use crate::source::Source;

/// A tensor checked against its storage: strides and offset count elements.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) kind: Kind,
    storage: Range<u64>,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Located {
    pub(super) fn new(
        name: &str,
        pickle: &Pickle,
        view: &View,
        storages: &BTreeMap<&str, Range<u64>>,
    ) -> Result<Self, PtProblem> {
        let name = || name.to_owned();
        let (storage, kind) = (pickle.storage_of(view), view.kind);
        let (shape, strides): (Vec<_>, Vec<_>) = pickle.axes(view).unzip();
        let entry = storages.get(&*storage.key);
        let entry =
            entry.ok_or_else(|| PtProblem::MissingStorage { name: name(), storage: storage.key.to_string() })?;
        let unit = storage.kind.map_or(1, |kind| kind.size);
        let (expected, found) = (storage.len.saturating_mul(unit), entry.end - entry.start);
        if expected != found {
            return Err(PtProblem::StorageLength { name: name(), expected, found });
        }
        let stored = found / kind.size;
        let past = || PtProblem::PastStorage { name: name() };
        if shape.contains(&0) {
            // Nothing is stored, so offset and strides say nothing. The other axes still have to be sane.
            let mut others = shape.iter().filter(|&&n| n != 0);
            others.try_fold(1u64, |p, &n| p.checked_mul(n)).filter(|&n| n <= isize::MAX as u64).ok_or_else(past)?;
        } else {
            let count = shape.iter().try_fold(1u64, |p, &n| p.checked_mul(n));
            if count.is_none_or(|n| n > stored) {
                let expanded = strides.contains(&0);
                return Err(match expanded {
                    true => PtProblem::Expanded { name: name() },
                    false => past(),
                });
            }
            let mut axes = shape.iter().zip(&strides);
            axes.try_fold(view.offset, |last, (n, stride)| last.checked_add((n - 1).checked_mul(*stride)?))
                .filter(|&last| last < stored)
                .ok_or_else(past)?;
        }
        // All of these are now below the storage's length, or of no consequence.
        let narrow = |sizes: &[u64]| sizes.iter().map(|&n| n as usize).collect();
        Ok(Self {
            kind,
            storage: entry.clone(),
            offset: view.offset as usize,
            shape: narrow(&shape),
            strides: narrow(&strides),
        })
    }

    /// Bytes of its elements.
    pub(super) fn bytes(&self) -> u64 {
        self.shape.iter().product::<usize>() as u64 * self.kind.size
    }

    /// Copies the elements out in row-major order.
    pub(super) fn gather<T: Element>(&self, source: &Source) -> io::Result<ArrayD<T>> {
        let count: usize = match self.shape.contains(&0) {
            true => 0,
            false => self.shape.iter().product(),
        };
        let data = if count == 0 {
            Vec::new()
        } else {
            // From the first element to the last; both were checked against the storage.
            let last: usize = self.shape.iter().zip(&self.strides).map(|(n, stride)| (n - 1) * stride).sum();
            let start = self.storage.start + (self.offset * T::SIZE) as u64;
            let stored = element::read(source, start, last + 1)?;
            if self.is_row_major() { stored } else { self.gather_strided(&stored, count) }
        };
        Ok(ArrayD::from_shape_vec(IxDyn(&self.shape), data).expect("shape was checked on opening"))
    }

    fn is_row_major(&self) -> bool {
        let mut expected = 1;
        let axes = self.shape.iter().zip(&self.strides).rev();
        for (&n, &stride) in axes {
            if n != 1 && stride != expected {
                return false;
            }
            expected *= n;
        }
        true
    }

    fn gather_strided<T: Element>(&self, stored: &[T], count: usize) -> Vec<T> {
        let mut data = Vec::with_capacity(count);
        let mut index = vec![0; self.shape.len()];
        let mut at = 0;
        for _ in 0..count {
            data.push(stored[at]);
            // Step the last axis; where it is at its end, go back to its start and step the one before.
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    at += self.strides[axis];
                    break;
                }
                at -= (self.shape[axis] - 1) * self.strides[axis];
                index[axis] = 0;
            }
        }
        data
    }
}
