use std::collections::BTreeSet;

use ndarray::Array2;
use openwork_cuda_sim::{Arg, launch};
use openwork_ops::{Adam, AdamConstants, adam_step};
use openwork_sparse::{Csr, MinPerUnit, Unit, floor_that_fits, top_magnitude};

use crate::{config, random, vec};

/// Entries that a block works on, as in `kernels/update.cu`.
const PIECE: usize = 4096;
/// Words of a segment.
const WORDS: usize = 16;
const DECAY: f32 = 0.125;

/// A parameter of the test.
struct Parameter {
    w: Array2<f32>,
    wanted: usize,
    floor: Option<MinPerUnit>,
    decays: bool,
    sparse: bool,
}

/// Parameters side by side, as the kernels want them.
struct Flat {
    segments: Vec<[u32; WORDS]>,
    block_segment: Vec<u32>,
    w: Vec<f32>,
    units: usize,
    candidates: usize,
    rows: usize,
    cols: usize,
    nonzeros: usize,
    words: usize,
}

impl Flat {
    fn new(parameters: &[Parameter], room: usize) -> Self {
        let mut flat = Self {
            segments: vec![],
            block_segment: vec![],
            w: vec![],
            units: 0,
            candidates: 0,
            rows: 0,
            cols: 0,
            nonzeros: 0,
            words: 0,
        };
        for (i, p) in parameters.iter().enumerate() {
            let (rows, cols) = p.w.dim();
            let (unit, per_unit) = match p.floor {
                None => (0, 0),
                Some(floor) => (if floor.unit == Unit::Row { 1 } else { 2 }, floor.count),
            };
            let numbers = [
                flat.w.len(),
                rows,
                cols,
                flat.block_segment.len(),
                p.wanted,
                unit,
                per_unit,
                flat.units,
                flat.candidates,
                room,
                usize::from(p.decays),
                usize::from(p.sparse),
                flat.rows,
                flat.cols,
                flat.nonzeros,
                flat.words,
            ];
            flat.segments.push(numbers.map(|n| n as u32));
            flat.block_segment.extend(vec![i as u32; (rows * cols).div_ceil(PIECE)]);
            flat.w.extend(vec(&p.w));
            flat.units += if unit == 1 { rows } else { cols };
            flat.candidates += room;
            flat.rows += rows + 1;
            flat.cols += cols + 1;
            flat.nonzeros += rows * cols;
            flat.words += (rows * cols).div_ceil(32);
        }
        flat
    }
}

fn parameters(seed: u64) -> Vec<Parameter> {
    let parameter = |rows, cols, wanted, floor: Option<(Unit, usize)>, decays, sparse| {
        // Many equal magnitudes, so that ties are the rule.
        let w = random(rows, cols, seed + rows as u64).mapv(|x| (x * 40.0).round() / 8.0);
        let floor = floor.map(|(unit, count)| floor_that_fits(rows, cols, wanted, MinPerUnit { unit, count }));
        Parameter { w, wanted, floor: floor.filter(|floor| floor.count > 0), decays, sparse }
    };
    vec![
        parameter(70, 90, 700, Some((Unit::Row, 4)), true, true),
        parameter(1, 37, 37, None, false, false),
        parameter(33, 40, 200, Some((Unit::Column, 3)), true, true),
        parameter(64, 100, 1600, None, false, true),
        parameter(20, 30, 60, Some((Unit::Row, 8)), true, false),
    ]
}

/// All the launches after Adam, twice with brackets from the first time; checked each time.
#[test]
fn what_stays_and_where_it_is_are_those_of_the_cpu() {
    // Room for all candidates, and so little that the whole parameter has to be gone through.
    for room in [PIECE * 2, 3] {
        let mut bracket: Option<Vec<u64>> = None;
        for seed in [1, 2] {
            let parameters = parameters(seed);
            let flat = Flat::new(&parameters, room);
            let n = parameters.len();
            let blocks = flat.block_segment.len();
            // At first a bracket around everything.
            let mut brackets = bracket.take().unwrap_or_else(|| [0, 1 << 63].repeat(n));
            let mut keys = vec![0_u64; flat.units];
            let widest = parameters.iter().map(|p| p.w.nrows().max(p.w.ncols())).max().unwrap();
            let mut args = [Arg::read(&flat.segments), Arg::read(&flat.w), Arg::update(&mut keys)];
            launch("unit_keys", config([widest.div_ceil(8), n], 256), &mut args).unwrap();
            let (mut counts, mut candidates) = (vec![0_u32; 2 * n], vec![0_u64; flat.candidates]);
            let mut args = [
                Arg::read(&flat.segments),
                Arg::read(&flat.block_segment),
                Arg::read(&flat.w),
                Arg::Null,
                Arg::read(&keys),
                Arg::read(&brackets),
                Arg::update(&mut counts),
                Arg::scratch(&mut candidates),
            ];
            launch("count_candidates", config([blocks, 1], 256), &mut args).unwrap();
            let mut threshold = vec![0_u64; n];
            let mut args = [
                Arg::read(&flat.segments),
                Arg::read(&flat.w),
                Arg::Null,
                Arg::read(&keys),
                Arg::update(&mut brackets),
                Arg::update(&mut counts),
                Arg::read(&candidates),
                Arg::write(&mut threshold),
            ];
            launch("select_threshold", config([n, 1], 1024), &mut args).unwrap();
            assert!(parameters.iter().zip(counts.chunks(2)).all(|(p, c)| p.wanted == p.w.len() || c == [0, 0]));
            let mut w = flat.w.clone();
            // Every third entry was nonzero before.
            let was: Vec<u32> = (0..flat.words as u32).map(|word| 0x4924_9249 << (word % 3)).collect();
            let [mut m, mut v] = [vec![1.0_f32; w.len()], vec![2.0_f32; w.len()]];
            let mut report = vec![0_u32; 2 * n];
            // Moments are forgotten in the second round.
            let forget = seed == 2;
            let (mut row_ptr, mut col_ptr) = (vec![0_u32; flat.rows], vec![0_u32; flat.cols]);
            let mut args = [
                Arg::read(&flat.segments),
                Arg::read(&flat.block_segment),
                Arg::read(&keys),
                Arg::read(&threshold),
                Arg::read(&was),
                Arg::update(&mut w),
                Arg::update(&mut m),
                Arg::update(&mut v),
                Arg::update(&mut row_ptr),
                Arg::update(&mut col_ptr),
                Arg::update(&mut report),
                Arg::F32(DECAY),
                Arg::U32(u32::from(forget)),
            ];
            launch("project", config([blocks, 1], 256), &mut args).unwrap();
            let mut args = [Arg::read(&flat.segments), Arg::update(&mut row_ptr), Arg::update(&mut col_ptr)];
            launch("sum_counts", config([n, 2], 1024), &mut args).unwrap();
            let [mut pairs, mut col_pairs] = [(); 2].map(|()| vec![[0_u32; 2]; flat.nonzeros]);
            for (kernel, rows_of_a_block, ptr, pairs) in
                [("fill_rows", 8, &row_ptr, &mut pairs), ("fill_columns", 256, &col_ptr, &mut col_pairs)]
            {
                let mut args = [Arg::read(&flat.segments), Arg::read(&w), Arg::read(ptr), Arg::update(pairs)];
                launch(kernel, config([widest.div_ceil(rows_of_a_block), n], 256), &mut args).unwrap();
            }
            let [mut row_order, mut col_order] = [vec![0_u32; flat.rows], vec![0_u32; flat.cols]];
            let mut args = [
                Arg::read(&flat.segments),
                Arg::read(&row_ptr),
                Arg::read(&col_ptr),
                Arg::scratch(&mut row_order),
                Arg::scratch(&mut col_order),
            ];
            launch("order_lines", config([n, 2], 1024), &mut args).unwrap();
            for (i, (p, s)) in parameters.iter().zip(&flat.segments).enumerate() {
                let (first, len, selects) = (s[0] as usize, p.w.len(), p.wanted < p.w.len());
                let mut expected = p.w.clone();
                if selects {
                    top_magnitude(p.w.view(), p.wanted, p.floor).project(&mut expected);
                }
                if p.decays {
                    expected.mapv_inplace(|x| x - DECAY * x);
                }
                assert_eq!(w[first..][..len], vec(&expected), "room {room}, seed {seed}");
                let nonzero = |i: &usize| expected.as_slice().unwrap()[*i] != 0.0;
                let new = |i: &usize| selects && was[s[15] as usize + i / 32] >> (i % 32) & 1 == 0;
                let entered = (0..len).filter(nonzero).filter(new).count();
                assert_eq!(report[2 * i..][..2], [(0..len).filter(nonzero).count() as u32, entered as u32]);
                for j in 0..len {
                    let forgotten = forget && selects && !nonzero(&j);
                    assert_eq!([m[first + j], v[first + j]], if forgotten { [0.0, 0.0] } else { [1.0, 2.0] });
                }
                if p.sparse {
                    let forms = [
                        (expected.clone(), &row_ptr, s[12], &pairs, &row_order),
                        (expected.t().as_standard_layout().to_owned(), &col_ptr, s[13], &col_pairs, &col_order),
                    ];
                    for (expected, ptr, first, pairs, order) in forms {
                        let expected = Csr::from_dense(expected.view());
                        let pattern = expected.pattern();
                        let ptr = &ptr[first as usize..][..=pattern.rows()];
                        assert_eq!(ptr, pattern.row_ptr());
                        let nonzeros = pattern.col_idx().iter().zip(expected.values()).map(|(&c, w)| [c, w.to_bits()]);
                        assert_eq!(pairs[s[14] as usize..][..pattern.nnz()], nonzeros.collect::<Vec<_>>());
                        let order = &order[first as usize..][..pattern.rows()];
                        assert!(
                            order.iter().copied().collect::<BTreeSet<_>>().into_iter().eq(0..pattern.rows() as u32)
                        );
                        let lengths: Vec<usize> = order.iter().map(|&r| pattern.row(r as usize).len()).collect();
                        assert!(lengths.is_sorted_by(|a, b| a >= b), "the longest first");
                    }
                }
            }
            bracket = Some(brackets);
        }
    }
}

#[test]
fn adam_is_that_of_the_cpu() {
    let parameters = parameters(1);
    let flat = Flat::new(&parameters, 1);
    let blocks = flat.block_segment.len();
    let gradient: Vec<f32> = parameters.iter().flat_map(|p| vec(&random(p.w.nrows(), p.w.ncols(), 9))).collect();
    let mut partial = vec![0.0_f32; blocks];
    let mut args =
        [Arg::read(&flat.segments), Arg::read(&flat.block_segment), Arg::read(&gradient), Arg::write(&mut partial)];
    launch("square_sums", config([blocks, 1], 256), &mut args).unwrap();
    let mut scalar = [0.0_f32; 2];
    let entries = gradient.len() as f32;
    let mut args =
        [Arg::read(&partial), Arg::write(&mut scalar), Arg::U32(blocks as u32), Arg::F32(entries), Arg::F32(1e-5)];
    launch("gradient_scale", config([1, 1], 256), &mut args).unwrap();
    let rms = (gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>() / gradient.len() as f64).sqrt();
    assert!((f64::from(scalar[0]) / rms - 1.0).abs() < 1e-6 && (scalar[1] * (scalar[0] + 1e-5) - 1.0).abs() < 1e-6);

    let settings = Adam { lr: 0.01, beta1: 0.9, beta2: 0.95, eps: 0.1, step: 3 };
    let [mut m, mut v] = [3, 4].map(|seed| vec(&random(1, gradient.len(), seed).mapv(f32::abs)));
    let (mut w, mut w_expected, mut m_expected, mut v_expected) =
        (flat.w.clone(), flat.w.clone(), m.clone(), v.clone());
    adam_step(settings, scalar[1], &mut w_expected, &gradient, &mut m_expected, &mut v_expected);
    let AdamConstants { beta1, beta2, rate, root, eps } = settings.constants();
    let mut was = vec![0_u32; flat.words];
    let mut args = [
        Arg::read(&flat.segments),
        Arg::read(&flat.block_segment),
        Arg::read(&scalar),
        Arg::read(&gradient),
        Arg::update(&mut w),
        Arg::update(&mut m),
        Arg::update(&mut v),
        Arg::write(&mut was),
        Arg::F32(beta1),
        Arg::F32(beta2),
        Arg::F32(rate),
        Arg::F32(root),
        Arg::F32(eps),
    ];
    launch("adam", config([blocks, 1], 256), &mut args).unwrap();
    assert_eq!((w, m, v), (w_expected, m_expected, v_expected));
    for s in &flat.segments {
        for i in 0..(s[1] * s[2]) as usize {
            let nonzero = flat.w[s[0] as usize + i] != 0.0;
            assert_eq!(was[s[15] as usize + i / 32] >> (i % 32) & 1 == 1, nonzero);
        }
    }
}

/// Weights that grow are those whose gradients are the largest among zero weights.
#[test]
fn gradients_stay_at_nonzeros_and_where_weights_grow() {
    let parameters = parameters(1);
    let mut flat = Flat::new(&parameters, 16);
    let (n, blocks) = (parameters.len(), flat.block_segment.len());
    // Four in five weights are zero; no floors here.
    flat.w.iter_mut().enumerate().filter(|(i, _)| i % 5 != 0).for_each(|(_, w)| *w = 0.0);
    let gradient: Vec<f32> = parameters.iter().flat_map(|p| vec(&random(p.w.nrows(), p.w.ncols(), 9))).collect();
    let grow = 7;
    for (s, p) in flat.segments.iter_mut().zip(&parameters) {
        (s[4], s[5]) = (if p.wanted < p.w.len() { grow } else { p.w.len() as u32 }, 0);
    }
    let (keys, mut brackets) = (vec![0_u64; flat.units], [0_u64, 1 << 63].repeat(n));
    let (mut counts, mut candidates) = (vec![0_u32; 2 * n], vec![0_u64; flat.candidates]);
    let mut args = [
        Arg::read(&flat.segments),
        Arg::read(&flat.block_segment),
        Arg::read(&gradient),
        Arg::read(&flat.w),
        Arg::read(&keys),
        Arg::read(&brackets),
        Arg::update(&mut counts),
        Arg::scratch(&mut candidates),
    ];
    launch("count_candidates", config([blocks, 1], 256), &mut args).unwrap();
    let mut threshold = vec![0_u64; n];
    let mut args = [
        Arg::read(&flat.segments),
        Arg::read(&gradient),
        Arg::read(&flat.w),
        Arg::read(&keys),
        Arg::update(&mut brackets),
        Arg::update(&mut counts),
        Arg::read(&candidates),
        Arg::write(&mut threshold),
    ];
    launch("select_threshold", config([n, 1], 1024), &mut args).unwrap();
    for with_threshold in [true, false] {
        let mut masked = gradient.clone();
        let mut args = [
            Arg::read(&flat.segments),
            Arg::read(&flat.block_segment),
            if with_threshold { Arg::read(&threshold) } else { Arg::Null },
            Arg::read(&flat.w),
            Arg::update(&mut masked),
        ];
        launch("mask_gradient", config([blocks, 1], 256), &mut args).unwrap();
        for (s, p) in flat.segments.iter().zip(&parameters) {
            let range = s[0] as usize..s[0] as usize + p.w.len();
            let (w, gradient) = (&flat.w[range.clone()], &gradient[range.clone()]);
            let mut offered: Vec<f32> = (0..w.len()).filter(|&i| w[i] == 0.0).map(|i| gradient[i].abs()).collect();
            offered.sort_by(|a, b| b.total_cmp(a));
            let least = if with_threshold { offered[grow as usize - 1] } else { f32::INFINITY };
            for (i, masked) in masked[range].iter().enumerate() {
                let stays = p.wanted == p.w.len() || w[i] != 0.0 || gradient[i].abs() >= least;
                assert_eq!(*masked, if stays { gradient[i] } else { 0.0 });
            }
        }
    }
}
