//! Every operation on a GPU, held to that of the CPU: on the simulator, and on a GPU where there is one. Without one that
//! part is skipped, aloud, unless OPENWORK_REQUIRE_GPU is set: then it fails.

use ndarray::Array2;
use openwork_cuda::{AdamConstants, Array, Gpu, Mask, Operand, Parameter, Parameters, Selection, Shape};
use openwork_cuda_sim::Simulator;
use openwork_ops::{
    Activation, ActivationDtype, Attention, Cpu, Cuda, CudaGradient, Engine, Gradient, Matrix, NormKind, Ties, Weight,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The simulator with as much shared memory as a GPU has and with little, so that every kernel has its turn; and the GPU
/// of this machine.
fn gpus() -> Vec<Gpu> {
    let mut gpus: Vec<Gpu> = [227 << 10, 1200, 300].map(|shared| Simulator::gpu(shared, 3, 2)).into();
    match Gpu::open(0) {
        Ok(gpu) => gpus.push(gpu),
        Err(error) => {
            assert!(std::env::var_os("OPENWORK_REQUIRE_GPU").is_none(), "{error}");
            println!("skipped on a GPU: {error}");
        }
    }
    gpus
}

fn random(rows: usize, cols: usize, seed: u64) -> Matrix {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_simple_fn((rows, cols), || rng.random_range(-1.0..1.0))
}

fn up(gpu: &Gpu, x: &Matrix) -> Array {
    Array::upload(gpu, [x.nrows(), x.ncols()], x.as_slice().unwrap())
}

#[track_caller]
fn down(x: &Array) -> Matrix {
    let [rows, cols] = x.shape();
    Matrix::from_shape_vec((rows, cols), x.download().unwrap()).unwrap()
}

/// Equal to `terms` roundings of numbers of the size of the largest.
#[track_caller]
fn close(a: &Matrix, b: &Matrix, terms: usize) {
    assert_eq!(a.dim(), b.dim());
    let largest = b.iter().fold(1.0_f32, |m, x| m.max(x.abs()));
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= 4.0 * f32::EPSILON * terms as f32 * largest, "{a} {b}");
    }
}

/// Parameters on a GPU, sparse where `sparse` says so.
fn parameters(gpu: &Gpu, weights: &[&Matrix], sparse: &[bool]) -> Parameters {
    let shape = |w: &&Matrix| Shape { rows: w.nrows(), cols: w.ncols(), room: w.len() };
    let mut all = Parameters::new(gpu, &weights.iter().map(shape).collect::<Vec<_>>());
    weights.iter().enumerate().for_each(|(i, w)| all.set_weights(i, w.as_slice().unwrap()));
    let nonzeros: Vec<usize> = weights.iter().map(|w| w.iter().filter(|&&x| x != 0.0).count()).collect();
    all.build_sparse(&nonzeros, sparse);
    all
}

fn gradient(parameter: Parameter, at_nonzeros: bool) -> CudaGradient {
    CudaGradient { parameter, at_nonzeros }
}

/// The gradient of a parameter.
fn gradient_of(all: &Parameters, number: usize) -> Matrix {
    let [rows, cols] = all.get(number).shape();
    Matrix::from_shape_vec((rows, cols), all.gradient(number).unwrap()).unwrap()
}

fn sparse(rows: usize, cols: usize, density: f32) -> Matrix {
    let (w, keep) = (random(rows, cols, 1), random(rows, cols, 7));
    Matrix::from_shape_fn((rows, cols), |at| if keep[at].abs() < density { w[at] } else { 0.0 })
}

#[test]
fn linear_layers() {
    for gpu in gpus() {
        for (rows, cols, tokens) in [(1, 1, 5), (24, 13, 37), (70, 33, 130)] {
            for density in [0.0, 0.05, 0.3, 1.0] {
                for dtype in [ActivationDtype::F32, ActivationDtype::Bf16] {
                    layer(&gpu, &sparse(rows, cols, density), tokens, dtype);
                }
            }
        }
    }
}

fn layer(gpu: &Gpu, w: &Matrix, tokens: usize, dtype: ActivationDtype) {
    let (rows, cols) = w.dim();
    let (b, x, dy) = (random(rows, 1, 2), random(cols, tokens, 3), random(rows, tokens, 4));
    let mut cpu = Cpu::new(dtype);
    let (weight, bias) = (Weight::new(w.clone()), Weight::new(b.clone()));
    let kept = Engine::keep(&mut cpu, x.clone());
    let mut y = Matrix::zeros((rows, tokens));
    let [mut dw, mut db] = [(rows, cols), (rows, 1)].map(Gradient::zeros);
    Engine::linear(&mut cpu, &weight, Some(&bias), &kept, &mut y);
    let dx = Engine::linear_backward(&mut cpu, &weight, &dy, &kept, Some((&mut dw, Some(&mut db))));
    for is_sparse in [false, true] {
        for at_nonzeros in [false, is_sparse] {
            let all = parameters(gpu, &[w, &b], &[is_sparse, false]);
            let mut device = Cuda::new(gpu.clone(), dtype);
            let kept = device.keep(up(gpu, &x));
            let mut out = device.array([rows, tokens]);
            device.linear(&all.get(0), Some(&all.get(1)), &kept, &mut out);
            assert_eq!(down(&out), y, "the same bits");
            let [mut dw_there, mut db_there] = [gradient(all.get(0), at_nonzeros), gradient(all.get(1), false)];
            let gradients = Some((&mut dw_there, Some(&mut db_there)));
            let out = device.linear_backward(&all.get(0), &up(gpu, &dy), &kept, gradients);
            assert_eq!(down(&out), dx, "the same bits");
            let wanted = |at: (usize, usize)| !at_nonzeros || w[at] != 0.0;
            let expected = Matrix::from_shape_fn(w.dim(), |at| if wanted(at) { dw.dense()[at] } else { 0.0 });
            close(&gradient_of(&all, 0), &expected, tokens);
            close(&gradient_of(&all, 1), db.dense(), tokens);
        }
    }
}

#[test]
fn norms_and_abs_top_k() {
    for gpu in gpus() {
        for (kind, features, tokens) in
            [(NormKind::Rms, 1, 7), (NormKind::Rms, 40, 130), (NormKind::Layer, 19, 33), (NormKind::Rms, 300, 9)]
        {
            let (x, gain, bias) = (random(features, tokens, 1), random(features, 1, 2), random(features, 1, 3));
            let dy = random(features, tokens, 4);
            let with_bias = kind == NormKind::Layer;
            let k = features.div_ceil(4);
            let mut cpu = Cpu::default();
            let weights = [Weight::new(gain.clone()), Weight::new(bias.clone())];
            let cpu_bias = with_bias.then_some(&weights[1]);
            let (y, (), kept) = cpu.norm_abs_top_k((kind, &weights[0], cpu_bias), (k, Ties::ByIndex), &x);
            let mut masked = dy.clone();
            Engine::abs_top_k_backward(&mut cpu, &kept, &mut masked);
            let mut dx = random(features, tokens, 5);
            let start = dx.clone();
            let [mut dgain, mut dbias] = [(); 2].map(|()| Gradient::zeros((features, 1)));
            let gradients = Some((&mut dgain, with_bias.then_some(&mut dbias)));
            Engine::norm_backward(&mut cpu, kind, &weights[0], &x, &(), &masked, &mut dx, gradients);

            let all = parameters(&gpu, &[&gain, &bias], &[false; 2]);
            let mut device = Cuda::new(gpu.clone(), ActivationDtype::F32);
            let [gain, bias] = [0, 1].map(|i| all.get(i));
            let x = up(&gpu, &x);
            let norm = (kind, &gain, with_bias.then_some(&bias));
            let (out, statistics, kept) = device.norm_abs_top_k(norm, (k, Ties::ByIndex), &x);
            close(&down(&out), &y, features);
            let mut out = up(&gpu, &dy);
            device.abs_top_k_backward(&kept, &mut out);
            assert_eq!(down(&out), masked);
            let mut into = up(&gpu, &start);
            let [mut dg, mut db] = [&gain, &bias].map(|p| gradient(p.clone(), false));
            let gradients = Some((&mut dg, with_bias.then_some(&mut db)));
            device.norm_backward(kind, &gain, &x, &statistics, &out, &mut into, gradients);
            close(&down(&into), &dx, 4 * features);
            close(&gradient_of(&all, 0), dgain.dense(), tokens);
            close(&gradient_of(&all, 1), dbias.dense(), tokens);
        }
    }
}

#[test]
fn attention() {
    for gpu in gpus() {
        for (n_head, d_head, seq_len, sequences, with_sink) in
            [(2, 8, 5, 3, true), (1, 16, 70, 2, false), (2, 32, 33, 1, true), (1, 64, 67, 1, true)]
        {
            let shape = Attention { n_head, d_head, seq_len };
            let (channels, tokens) = (n_head * d_head, seq_len * sequences);
            let qkv = [1, 2, 3].map(|seed| random(channels, tokens, seed));
            let (dy, sink) = (random(channels, tokens, 4), random(n_head, 1, 5));
            let mut cpu = Cpu::default();
            let weight = Weight::new(sink.clone());
            let cpu_sink = with_sink.then_some(&weight);
            let mut y = Matrix::zeros((channels, tokens));
            let log_sum = Engine::attention(&mut cpu, shape, &qkv, cpu_sink, &mut y);
            let mut dsink = Gradient::zeros((n_head, 1));
            let kept = Engine::keep(&mut cpu, y.clone());
            let wanted = with_sink.then_some(&mut dsink);
            let expected =
                Engine::attention_backward(&mut cpu, shape, &qkv, cpu_sink, &kept, &log_sum, &dy, wanted, [None; 2]);

            let all = parameters(&gpu, &[&sink], &[false]);
            let mut device = Cuda::new(gpu.clone(), ActivationDtype::F32);
            let (parameter, on_gpu) = (all.get(0), qkv.each_ref().map(|x| up(&gpu, x)));
            let gpu_sink = with_sink.then_some(&parameter);
            let mut out = device.array([channels, tokens]);
            let log_sums = device.attention(shape, &on_gpu, gpu_sink, &mut out);
            close(&down(&out), &y, seq_len + d_head);
            close(&down(&log_sums), &log_sum, seq_len + d_head);
            let kept = device.keep(out);
            let mut dsink_on_gpu = gradient(parameter.clone(), false);
            let wanted = with_sink.then_some(&mut dsink_on_gpu);
            let dy = up(&gpu, &dy);
            let found = device.attention_backward(shape, &on_gpu, gpu_sink, &kept, &log_sums, &dy, wanted, [None; 2]);
            for (found, expected) in found.iter().zip(&expected) {
                close(&down(found), expected, 4 * (seq_len + d_head));
            }
            close(&gradient_of(&all, 0), dsink.dense(), 4 * tokens);
        }
    }
}

#[test]
fn tables_and_columns() {
    for gpu in gpus() {
        let (vocabulary, features, seq_len, tokens) = (11, 37, 7, 35);
        let (table, positions) = (random(vocabulary, features, 1), random(seq_len, features, 2));
        let square = random(vocabulary, vocabulary, 3);
        let ids: Vec<u16> = (0..tokens as u16).map(|t| t * 7 % 11).collect();
        let columns: Vec<usize> = (0..tokens).filter(|t| t % seq_len != 6).collect();
        let (dx, dlogits) = (random(features, tokens, 4), random(vocabulary, tokens, 5));
        let all = parameters(&gpu, &[&table, &positions, &square], &[false; 3]);
        let [mut dtable, mut dposition, mut dsquare] = [0, 1, 2].map(|i| gradient(all.get(i), false));
        let mut device = Cuda::new(gpu.clone(), ActivationDtype::F32);
        let on_gpu = device.tokens(&ids, vocabulary);
        let mut x = device.array([features, tokens]);
        device.embed(&all.get(0), &on_gpu, &mut x);
        device.position(&all.get(1), seq_len, &mut x);
        let mut logits = up(&gpu, &dlogits);
        device.bigram(&all.get(2), &on_gpu, &mut logits);
        let selection = device.columns(&columns, tokens);
        let read = device.gather(&x, &selection);
        let mut back = x.copy();
        device.scatter(&read, &selection, &mut back);
        let (dx_on_gpu, dlogits_on_gpu) = (up(&gpu, &dx), up(&gpu, &dlogits));
        device.embed_backward(&dx_on_gpu, &on_gpu, &mut dtable);
        device.position_backward(&dx_on_gpu, seq_len, &mut dposition);
        device.bigram_backward(&dlogits_on_gpu, &on_gpu, &mut dsquare);

        let mut cpu = Cpu::default();
        let [table, positions, square] = [table, positions, square].map(Weight::new);
        let [mut dt, mut dp, mut ds] = [&table, &positions, &square].map(|w| Gradient::zeros(w.dense().dim()));
        let mut expected = Matrix::zeros((features, tokens));
        Engine::embed(&mut cpu, &table, &ids, &mut expected);
        Engine::position(&mut cpu, &positions, seq_len, &mut expected);
        assert_eq!(down(&x), expected);
        let mut whole = expected.clone();
        let selection = Engine::columns(&mut cpu, &columns, tokens);
        let expected = cpu.gather(&expected, &selection);
        assert_eq!(down(&read), expected);
        Engine::scatter(&mut cpu, &expected, &selection, &mut whole);
        assert_eq!(down(&back), whole);
        let mut expected = dlogits.clone();
        Engine::bigram(&mut cpu, &square, &ids, &mut expected);
        assert_eq!(down(&logits), expected);
        Engine::embed_backward(&mut cpu, &dx, &ids, &mut dt);
        Engine::position_backward(&mut cpu, &dx, seq_len, &mut dp);
        Engine::bigram_backward(&mut cpu, &dlogits, &ids, &mut ds);
        for (i, expected) in [dt, dp, ds].iter().enumerate() {
            assert_eq!(gradient_of(&all, i), *expected.dense(), "table {i}");
        }
    }
}

#[test]
fn nonlinearities_sums_and_losses() {
    for gpu in gpus() {
        let (rows, tokens) = (21, 150);
        let (x, dy) = (random(rows, tokens, 1).mapv(|x| 4.0 * x), random(rows, tokens, 2));
        let (mut cpu, mut device) = (Cpu::default(), Cuda::new(gpu.clone(), ActivationDtype::F32));
        for f in [Activation::Gelu, Activation::Relu] {
            let (mut slope, mut y) = (x.clone(), Matrix::zeros((rows, tokens)));
            Engine::activate(&mut cpu, f, &mut slope, &mut y);
            let mut dx = dy.clone();
            Engine::activate_backward(&mut cpu, &slope, &mut dx);
            Engine::residual(&mut cpu, &mut y, &dx);
            let (mut slope, mut out, mut back) = (up(&gpu, &x), device.array([rows, tokens]), up(&gpu, &dy));
            device.activate(f, &mut slope, &mut out);
            device.activate_backward(&slope, &mut back);
            device.residual(&mut out, &back);
            // Exponentials of two libraries.
            close(&down(&out), &y, 8);
        }
        let targets: Vec<u16> = (0..tokens as u16).map(|t| t * 5 % rows as u16).collect();
        let (mut expected, mut logits) = (x.clone(), up(&gpu, &x));
        let losses = Engine::cross_entropy(&mut cpu, &mut expected, &targets, 0.5);
        let found = device.cross_entropy(&mut logits, &targets, 0.5).download().unwrap();
        let line = |x: Vec<f32>| Matrix::from_shape_vec((1, tokens), x).unwrap();
        close(&line(found), &line(losses), rows);
        close(&down(&logits), &expected, rows);
    }
}

#[test]
fn masks_of_nodes() {
    for gpu in gpus() {
        let (features, tokens) = (6, 140);
        let (x, dy, mean) = (random(features, tokens, 1), random(features, tokens, 2), random(features, 1, 3));
        let keep = [true, false, true, false, false, true];
        let mask = Mask::new(&gpu, &keep, mean.as_slice().unwrap());
        let (mut value, mut dx, mut gates) = (up(&gpu, &x), up(&gpu, &dy), gpu.zeros::<f32>(features));
        let deviation = mask.ablate(&mut value);
        mask.ablate_backward(&deviation, &mut dx, &mut gates);
        let expected = |f: usize, t: usize| if keep[f] { x[[f, t]] } else { mean[[f, 0]] };
        assert_eq!(down(&value), Matrix::from_shape_fn(x.dim(), |(f, t)| expected(f, t)));
        assert_eq!(down(&dx), Matrix::from_shape_fn(x.dim(), |(f, t)| if keep[f] { dy[[f, t]] } else { 0.0 }));
        let gate = |f: usize| (0..tokens).map(|t| dy[[f, t]] * (x[[f, t]] - mean[[f, 0]])).sum();
        let gates = Matrix::from_shape_vec((features, 1), gates.download().unwrap()).unwrap();
        close(&gates, &Matrix::from_shape_fn((features, 1), |(f, _)| gate(f)), tokens);
    }
}

#[test]
fn a_selection_may_keep_nothing() {
    for gpu in gpus() {
        let mut all = parameters(&gpu, &[&random(4, 4, 1)], &[false]);
        let nothing = Selection { wanted: 0, floor: None, decays: false, trained: true };
        let adam = AdamConstants { beta1: 0.9, beta2: 0.95, rate: 0.1, root: 1.0, eps: 0.1 };
        assert_eq!(all.gradient_rms(16, 1e-5), Ok(0.0));
        all.update(adam, 0.0, &[nothing], &[false], false);
        assert_eq!(all.weights(0).unwrap(), vec![0.0; 16]);
        assert_eq!(all.outcomes().unwrap()[0].nonzero, 0);
    }
}

#[test]
#[should_panic(expected = "linear: W [2, 3], x [4, 1], y [2, 1]")]
fn shape_mismatch_panics() {
    let gpu = Simulator::gpu(1 << 16, 1, 0);
    let all = parameters(&gpu, &[&random(2, 3, 1)], &[false]);
    let x = Array::zeros(&gpu, [4, 1]);
    openwork_cuda::linear(&all.get(0), None, Operand::F32(&x), &mut Array::zeros(&gpu, [2, 1]));
}
