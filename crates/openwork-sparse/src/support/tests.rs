use ndarray::ArrayView2;
use proptest::prelude::*;

use super::*;
use crate::{floor_that_fits, reference};

fn positions(p: &Pattern) -> Vec<usize> {
    (0..p.rows()).flat_map(|r| p.col_idx()[p.row(r)].iter().map(move |&c| r * p.cols() + c as usize)).collect()
}

/// One step in pieces of `rows` rows from the last to the first, scanned `chunk` entries at a time.
fn step(s: &mut Support, w: &mut [f32], nnz: usize, floor: MinPerUnit, rows: usize, chunk: usize) -> Kept {
    let keep = Keep { nnz, floor: Some(floor), decay: Some(0.25) };
    let computed = |(), w: &mut [f32], done: &mut dyn FnMut(&mut [f32])| w.chunks_mut(chunk).for_each(done);
    let (kept, least) = s.update(w, keep, rows, std::iter::repeat(()), computed, &|n, f| (0..n).rev().for_each(f));
    assert!(w.iter().all(|w| *w == 0.0 || w.is_nan() || w.abs() >= 0.75 * least), "least kept {least}");
    kept
}

/// Random numbers without a generator: enough to make every case different.
fn noise(seed: u64, i: usize) -> f32 {
    let x = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(i as u64).wrapping_mul(0xd1b5_4a32_d192_ed03);
    let x = (x ^ x >> 31).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x >> 40) as f32 / (1 << 23) as f32 - 1.0
}

proptest! {
    // Drifting weights, falling numbers of nonzeros, and now and then a jump that no bracket expects.
    #[test]
    fn keeps_what_sorting_keeps_step_after_step(
        (rows, cols) in (1_usize..40, prop_oneof![1_usize..20, 60_usize..70, 128_usize..140]),
        seed in 0_u64..1 << 40, levels in prop_oneof![Just(0_u32), 1_u32..6], j in 0_usize..10, by_row: bool,
        piece in 1_usize..50, chunk in 1_usize..200, density in 0.01..1.0_f64,
    ) {
        let unit = if by_row { Unit::Row } else { Unit::Column };
        // With levels: few distinct magnitudes, so that ties are the rule; rounding to zero among them.
        let round = |x: f32| if levels == 0 { x } else { (x * levels as f32).round() / levels as f32 };
        let mut w: Vec<f32> = (0..rows * cols).map(|i| noise(seed, i)).collect();
        let mut support = Support::all(rows, cols);
        let mut nnz = (density * w.len() as f64) as usize;
        for t in 0..6_u64 {
            let (drift, scale) = match (seed + t) % 5 {
                0 => (0.5, 3.0),
                1 => (0.05, 0.2),
                _ => (0.01, 1.0),
            };
            for (i, w) in w.iter_mut().enumerate() {
                *w = round((*w + drift * noise(seed ^ (t + 1) << 40, i)) * scale);
            }
            if t == 3 {
                w[0] = f32::NAN;
            }
            let floor = floor_that_fits(rows, cols, nnz, MinPerUnit { unit, count: j });
            let dense = w.clone();
            let expected = reference::top_magnitude(
                ArrayView2::from_shape((rows, cols), &dense).unwrap(), nnz, Some(floor));
            let before = support.pattern();
            let kept = step(&mut support, &mut w, nnz, floor, piece, chunk);
            let after = positions(&support.pattern());
            prop_assert_eq!(&after, &expected);
            let before = positions(&before);
            prop_assert_eq!(kept.entered, after.iter().filter(|i| before.binary_search(i).is_err()).count());
            prop_assert_eq!(kept.changed, after != before);
            prop_assert_eq!(kept.nonzero, w.iter().filter(|&&x| x != 0.0).count());
            for (i, (&w, &x)) in w.iter().zip(&dense).enumerate() {
                let expected = if after.binary_search(&i).is_ok() { x - 0.25 * x } else { 0.0 };
                prop_assert_eq!(w.to_bits(), expected.to_bits());
            }
            nnz -= nnz * (seed as usize % 3) / 20;
        }
    }
}

#[test]
fn masks_and_grows() {
    let mut support = Support::all(3, 70);
    let mut w: Vec<f32> = (0..210).map(|i| noise(1, i)).collect();
    support.mask(&mut w);
    assert!(w.iter().all(|&x| x != 0.0), "all are kept");
    support.project(&mut w, 10, None);
    let kept = positions(&support.pattern());
    let mut x = vec![1.0; 210];
    support.mask(&mut x);
    assert_eq!((0..210).filter(|&i| x[i] != 0.0).collect::<Vec<_>>(), kept);
    support.grow(&Pattern::new(3, 70, vec![0, 1, 1, 3], vec![69, 0, 64]).unwrap());
    let grown = positions(&support.pattern());
    assert!((0..210).all(|i| support.keeps(i / 70, i % 70) == grown.contains(&i)));
    assert!([69, 140, 204].iter().all(|i| grown.contains(i)) && kept.iter().all(|i| grown.contains(i)));
}

#[test]
fn all_entries_again() {
    let mut support = Support::all(3, 70);
    let mut w: Vec<f32> = (0..210).map(|i| noise(1, i)).collect();
    assert_eq!(support.pattern().nnz(), 210);
    assert_eq!(support.project(&mut w, 10, None), Kept { nonzero: 10, entered: 0, changed: true });
    assert_eq!(support.project(&mut w, 10, None), Kept { nonzero: 10, entered: 0, changed: false });
    assert_eq!((support.nnz(), support.keep_all().entered, support.nnz()), (10, 200, 210));
}

#[test]
#[should_panic(expected = "of 6 entries were scanned")]
fn entries_that_are_not_computed_panic() {
    let mut support = Support::all(2, 3);
    let keep = Keep { nnz: 2, floor: None, decay: None };
    support.update(&mut [1.0; 6], keep, 2, [()], |(), w, done| done(&mut w[..4]), &in_order);
}

#[test]
#[should_panic(expected = "2 pieces of 1 rows, 1 of the others")]
fn too_few_others_panic() {
    let mut support = Support::all(2, 3);
    let keep = Keep { nnz: 2, floor: None, decay: None };
    support.update(&mut [1.0; 6], keep, 1, [()], |(), w, done| done(w), &in_order);
}

#[test]
#[should_panic(expected = "the scans are not in order")]
fn scans_out_of_order_panic() {
    let mut support = Support::all(2, 1);
    let scans = [1, 0].map(|row| {
        let mut scan = support.scan(row, None);
        scan.add(&[1.0]);
        scan
    });
    support.select(&[1.0, 1.0], 1, scans.into());
}
