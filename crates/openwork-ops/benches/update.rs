//! The update of one matrix on one thread, random data: `cargo bench -p openwork-ops --bench update`. Throughput
//! counts parameters; the tests hold the update to the plain one.
//!
//! * `adam`: Adam alone, which is what the rest is measured against: 28 bytes of memory per parameter.
//! * `update`: with top magnitude, projection and decay, in the steady state: as many nonzeros as the step before.
//! * `update_sparse`: with as many nonzeros, and the sparse forms of the weight and its transpose after it.
//! * `update_shrinking`: the same while the number of nonzeros falls, so that the support changes in every step.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput};
use openwork_ops::{Adam, Matrix, Weight, adam_step, adam_step_then};
use openwork_sparse::{Keep, Kept, MinPerUnit, Support, Unit, floor_that_fits, in_order};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// As the program has it: large blocks begin at a line of the cache.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SHAPES: [(usize, usize); 3] = [(256, 1024), (1024, 4096), (2048, 2048)];
const DENSITIES: [(&str, f64); 3] = [("1_4", 0.25), ("1_64", 1.0 / 64.0), ("1_256", 1.0 / 256.0)];
const FLOORS: [(&str, Option<Unit>); 3] =
    [("no floor", None), ("rows", Some(Unit::Row)), ("columns", Some(Unit::Column))];
/// Entries that every unit keeps, where they fit.
const MIN_PER_UNIT: usize = 4;
const DECAY: f32 = 1e-5;

/// A matrix in training.
struct Case {
    weight: Weight,
    /// Taken in turn, so that weights keep moving.
    gradients: [Matrix; 2],
    m: Matrix,
    v: Matrix,
    support: Support,
    nnz: f64,
    unit: Option<Unit>,
    step: u64,
}

fn random(rows: usize, cols: usize, rng: &mut ChaCha8Rng) -> Matrix {
    Matrix::from_shape_simple_fn((rows, cols), || rng.random_range(-1.0..1.0))
}

fn flat(x: &mut Matrix) -> &mut [f32] {
    x.as_slice_mut().expect("row-major")
}

impl Case {
    fn new((rows, cols): (usize, usize), density: f64, unit: Option<Unit>) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut case = Self {
            weight: Weight::new(random(rows, cols, &mut rng)),
            gradients: [random(rows, cols, &mut rng), random(rows, cols, &mut rng)],
            m: Matrix::zeros((rows, cols)),
            v: Matrix::zeros((rows, cols)),
            support: Support::all(rows, cols),
            nnz: density * (rows * cols) as f64,
            unit,
            step: 0,
        };
        (0..10).for_each(|_| case.update_sparse(1.0));
        case
    }

    fn adam(&mut self) -> Adam {
        self.step += 1;
        Adam { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 0.1, step: self.step }
    }

    fn adam_alone(&mut self, w: &mut Matrix) {
        let adam = self.adam();
        let g = self.gradients[self.step as usize % 2].as_slice().expect("row-major");
        adam_step(adam, 1.0, flat(w), g, flat(&mut self.m), flat(&mut self.v));
    }

    fn update_sparse(&mut self, shrink: f64) {
        self.nnz *= shrink;
        let adam = self.adam();
        let Self { weight, gradients, m, v, support, nnz, unit, step } = self;
        let g = &gradients[*step as usize % 2];
        weight.update_on(support, |w, support| update(adam, w, g, m, v, support, *nnz as usize, *unit));
    }

    fn update(&mut self, w: &mut Matrix) {
        let adam = self.adam();
        let Self { gradients, m, v, support, nnz, unit, step, .. } = self;
        update(adam, w, &gradients[*step as usize % 2], m, v, support, *nnz as usize, *unit);
    }
}

#[allow(clippy::too_many_arguments, reason = "the state of one matrix, borrowed field by field")]
fn update(
    adam: Adam,
    w: &mut Matrix,
    g: &Matrix,
    m: &mut Matrix,
    v: &mut Matrix,
    support: &mut Support,
    nnz: usize,
    unit: Option<Unit>,
) -> Kept {
    let (rows, cols) = w.dim();
    let floor = unit.map(|unit| floor_that_fits(rows, cols, nnz, MinPerUnit { unit, count: MIN_PER_UNIT }));
    let keep = Keep { nnz, floor, decay: Some(DECAY) };
    let others = [(g.as_slice().expect("row-major"), flat(m), flat(v))];
    let (kept, _) = support.update(
        flat(w),
        keep,
        rows,
        others,
        |(g, m, v), w, done| {
            adam_step_then(adam, 1.0, w, g, m, v, done);
        },
        &in_order,
    );
    kept
}

fn main() {
    let criterion = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300));
    let mut criterion = criterion.measurement_time(Duration::from_secs(1)).configure_from_args();
    for shape in SHAPES {
        let parameters = Throughput::Elements((shape.0 * shape.1) as u64);
        let mut bench = |name: &str, id: &str, f: &mut dyn FnMut()| {
            let mut group = criterion.benchmark_group(name);
            group.throughput(parameters.clone());
            group.bench_function(BenchmarkId::new(format!("{}x{}", shape.0, shape.1), id), |b| b.iter(&mut *f));
            group.finish();
        };
        let mut case = Case::new(shape, 1.0, None);
        let mut w = case.weight.dense().clone();
        bench("adam", "1", &mut || case.adam_alone(black_box(&mut w)));
        for (density_name, density) in DENSITIES {
            for (floor_name, unit) in FLOORS {
                let id = format!("{density_name} {floor_name}");
                let mut case = Case::new(shape, density, unit);
                let mut w = case.weight.dense().clone();
                bench("update", &id, &mut || case.update(black_box(&mut w)));
                let mut case = Case::new(shape, density, unit);
                bench("update_sparse", &id, &mut || black_box(&mut case).update_sparse(1.0));
                let mut case = Case::new(shape, density, unit);
                bench("update_shrinking", &id, &mut || black_box(&mut case).update_sparse(0.9995));
            }
        }
    }
    criterion.final_summary();
}
