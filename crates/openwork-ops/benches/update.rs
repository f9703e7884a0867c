//! The update of one weight matrix in the steady state: Adam, top magnitude with and without a floor per unit,
//! decay. `cargo bench -p openwork-ops --bench update`.
//!
//! First every case is compared with Adam followed by the reference selection. Then criterion times a few of
//! them, and a summary times all of them by turns with what they are to be judged by: Adam alone, which moves 28
//! bytes per parameter and is the floor, and Adam followed by [`top_magnitude`] and a projection, each a pass of
//! its own. Nanoseconds per parameter, medians with p10–p90; one thread.
//!
//! Steady state: the gradient changes every step, so that weights and threshold move; each step asks for as many
//! nonzeros as the last one, or 0.05 % fewer ("fewer"). Weights, gradient and both moments of the largest matrix
//! are 64 MiB, more than the caches hold; those of a small one fit.
//!
//! "sparse form" is what a sparse weight needs on top of the update: its values in order, and where the support
//! changed its pattern and the transposed one.

use std::{hint::black_box, time::Instant};

use criterion::{Criterion, Throughput};
use ndarray::ArrayView2;
use openwork_ops::{Adam, Matrix, adam_step, adam_step_then};
use openwork_sparse::{Csr, Kept, MinPerUnit, Support, Unit, floor_that_fits, reference, top_magnitude};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SHAPES: [(usize, usize); 3] = [(256, 1024), (1024, 4096), (2048, 2048)];
const DENSITIES: [(&str, f64); 4] = [("1", 1.0), ("1/4", 0.25), ("1/64", 1.0 / 64.0), ("1/256", 1.0 / 256.0)];
const FLOORS: [(&str, Option<Unit>); 3] = [("none", None), ("rows", Some(Unit::Row)), ("columns", Some(Unit::Column))];
/// Entries that every unit keeps, where they fit.
const MIN_PER_UNIT: usize = 4;
const DECAY: f32 = 1e-5;
const SAMPLES: usize = 21;
const SAMPLE_US: f64 = 3000.0;

/// A matrix in training.
struct Case {
    w: Matrix,
    gradients: [Matrix; 2],
    m: Matrix,
    v: Matrix,
    density: f64,
    unit: Option<Unit>,
    support: Support,
    csr: Option<Csr>,
    step: u64,
    shrink: bool,
}

fn random(rows: usize, cols: usize, rng: &mut ChaCha8Rng) -> Matrix {
    Matrix::from_shape_simple_fn((rows, cols), || rng.random_range(-1.0..1.0))
}

impl Case {
    fn new((rows, cols): (usize, usize), density: f64, unit: Option<Unit>, shrink: bool) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut case = Self {
            w: random(rows, cols, &mut rng),
            gradients: [random(rows, cols, &mut rng), random(rows, cols, &mut rng)],
            m: Matrix::zeros((rows, cols)),
            v: Matrix::zeros((rows, cols)),
            density,
            unit,
            support: Support::all(rows, cols),
            csr: None,
            step: 0,
            shrink,
        };
        for _ in 0..10 {
            case.update(None);
        }
        case
    }

    /// Nonzeros asked for.
    fn nnz(&self) -> usize {
        let full = self.density * self.w.len() as f64;
        (if self.shrink { full * 0.9995_f64.powi(self.step as i32) } else { full }) as usize
    }

    fn floor(&self) -> Option<MinPerUnit> {
        let (rows, cols) = self.w.dim();
        let asked = |unit| MinPerUnit { unit, count: MIN_PER_UNIT };
        self.unit.map(|unit| floor_that_fits(rows, cols, self.nnz(), asked(unit)))
    }

    fn adam(&mut self) -> Adam {
        self.step += 1;
        Adam { lr: 1e-3, beta1: 0.9, beta2: 0.95, eps: 0.1, step: self.step }
    }

    fn adam_alone(&mut self) {
        let adam = self.adam();
        let g = &self.gradients[self.step as usize % 2];
        adam_step(adam, 1.0, flat(&mut self.w), g.as_slice().unwrap(), flat(&mut self.m), flat(&mut self.v));
    }

    fn update(&mut self, values: Option<&mut Vec<f32>>) -> Kept {
        let adam = self.adam();
        let (nnz, floor, rows) = (self.nnz(), self.floor(), self.w.nrows());
        let g = self.gradients[self.step as usize % 2].as_slice().unwrap();
        let (w, m, v) = (flat(&mut self.w), flat(&mut self.m), flat(&mut self.v));
        if nnz >= w.len() {
            adam_step_then(adam, 1.0, w, g, m, v, |w| w.iter_mut().for_each(|w| *w -= DECAY * *w));
            return Kept::default();
        }
        let mut scan = self.support.scan(0, floor);
        adam_step_then(adam, 1.0, w, g, m, v, |w| scan.add(w));
        let cuts = self.support.select(w, nnz, vec![scan]);
        let part = self.support.parts(rows).remove(0);
        cuts.project(part, w, Some(DECAY), values)
    }

    fn update_with_sparse_form(&mut self) {
        let mut values = Vec::with_capacity(self.nnz());
        let kept = self.update(Some(&mut values));
        if self.nnz() < self.w.len() {
            let pattern = match &self.csr {
                Some(csr) if !kept.changed => csr.pattern().clone(),
                _ => {
                    let pattern = self.support.pattern();
                    black_box(pattern.transpose());
                    pattern.into()
                }
            };
            self.csr = Some(Csr::new(pattern, values));
        }
    }

    /// One pass after the other.
    fn passes(&mut self) {
        self.adam_alone();
        if self.nnz() < self.w.len() {
            top_magnitude(self.w.view(), self.nnz(), self.floor()).project(&mut self.w);
        }
        self.w.mapv_inplace(|w| w - DECAY * w);
    }

    /// A few steps beside Adam and sorting.
    fn check(mut self) {
        for _ in 0..3 {
            let mut dense = self.w.clone();
            let (mut m, mut v, step) = (self.m.clone(), self.v.clone(), self.step);
            let g = self.gradients[(step + 1) as usize % 2].as_slice().unwrap().to_vec();
            adam_step(self.adam(), 1.0, flat(&mut dense), &g, flat(&mut m), flat(&mut v));
            self.step = step;
            self.update(None);
            let mut expected = vec![0.0; dense.len()];
            let view: ArrayView2<'_, f32> = dense.view();
            for i in reference::top_magnitude(view, self.nnz(), self.floor()) {
                let w = dense.as_slice().unwrap()[i];
                expected[i] = w - DECAY * w;
            }
            assert!(self.w.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}

fn flat(x: &mut Matrix) -> &mut [f32] {
    x.as_slice_mut().expect("row-major")
}

/// Sorted samples.
struct Samples(Vec<f64>);

impl Samples {
    fn at(&self, quantile: f64) -> f64 {
        self.0[((self.0.len() - 1) as f64 * quantile).round() as usize]
    }
}

/// Times all of `runs` by turns: nanoseconds per parameter.
fn time(parameters: usize, runs: &mut [&mut dyn FnMut()]) -> Vec<Samples> {
    let once = |run: &mut dyn FnMut(), calls: usize| {
        let start = Instant::now();
        (0..calls).for_each(|_| run());
        start.elapsed().as_secs_f64() * 1e9 / (calls * parameters) as f64
    };
    let calls: Vec<usize> = runs
        .iter_mut()
        .map(|run| (SAMPLE_US * 1e3 / (once(*run, 2) * parameters as f64)).ceil().max(1.0) as usize)
        .collect();
    let mut samples: Vec<Samples> = runs.iter().map(|_| Samples(Vec::new())).collect();
    for _ in 0..SAMPLES {
        for ((run, &calls), samples) in runs.iter_mut().zip(&calls).zip(&mut samples) {
            samples.0.push(once(*run, calls));
        }
    }
    samples.iter_mut().for_each(|s| s.0.sort_by(f64::total_cmp));
    samples
}

fn summary() -> f64 {
    println!("\nns per parameter, median (p10-p90)");
    let mut worst = 0.0_f64;
    for shape in SHAPES {
        let parameters = shape.0 * shape.1;
        for (label, density) in DENSITIES {
            for (floor, unit) in FLOORS {
                if density == 1.0 && unit.is_some() {
                    continue;
                }
                let case = |shrink| Case::new(shape, density, unit, shrink);
                let (mut alone, mut same, mut fewer) = (case(false), case(false), case(true));
                let (mut form, mut passes) = (case(true), case(false));
                let samples = time(
                    parameters,
                    &mut [
                        &mut || black_box(&mut alone).adam_alone(),
                        &mut || _ = black_box(&mut same).update(None),
                        &mut || _ = black_box(&mut fewer).update(None),
                        &mut || black_box(&mut form).update_with_sparse_form(),
                        &mut || black_box(&mut passes).passes(),
                    ],
                );
                let name = format!("update_{}x{}_{label}_floor_{floor}", shape.0, shape.1);
                print!("{name:40}");
                for (label, s) in ["adam", "same nnz", "fewer", "sparse form", "passes"].iter().zip(&samples) {
                    print!("  {label} {:.2} ({:.2}-{:.2})", s.at(0.5), s.at(0.1), s.at(0.9));
                }
                println!("\nMETRIC {name} {:.3} ns_per_parameter", samples[1].at(0.5));
                worst = worst.max(samples[1].at(0.5));
            }
        }
    }
    worst
}

fn criterion_cases(criterion: &mut Criterion) {
    for shape in SHAPES {
        let mut group = criterion.benchmark_group(format!("update_{}x{}", shape.0, shape.1));
        group.throughput(Throughput::Elements((shape.0 * shape.1) as u64));
        let mut case = Case::new(shape, 1.0 / 64.0, Some(Unit::Row), false);
        group.bench_function("adam alone", |b| b.iter(|| black_box(&mut case).adam_alone()));
        for (floor, unit) in FLOORS {
            let mut case = Case::new(shape, 1.0 / 64.0, unit, false);
            group.bench_function(format!("1/64, floor {floor}"), |b| b.iter(|| black_box(&mut case).update(None)));
        }
        group.finish();
    }
}

fn main() {
    for shape in [(64, 256), (100, 130)] {
        for (_, density) in DENSITIES {
            for (_, unit) in FLOORS {
                Case::new(shape, density, unit, false).check();
                Case::new(shape, density, unit, true).check();
            }
        }
    }
    println!("every update agrees with the reference");
    let short = std::time::Duration::from_millis(500);
    let criterion = Criterion::default().sample_size(20).warm_up_time(short).measurement_time(2 * short);
    let mut criterion = criterion.configure_from_args();
    criterion_cases(&mut criterion);
    criterion.final_summary();
    // `cargo bench -- --test` only wants to know that everything runs.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    println!("\nMETRIC worst_update {:.3} ns_per_parameter", summary());
}
