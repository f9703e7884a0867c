use openwork_cuda_sim::{Arg, Config, launch};
use openwork_ops::{Attention, Cpu, Gradient, Matrix, Weight, attention, attention_backward};

use crate::{close, random, vec};

/// Threads that share a query: forward, and the two kernels of backward.
fn parts(d_head: usize) -> [usize; 3] {
    match d_head {
        64 => [2, 4, 4],
        32 => [1, 2, 2],
        _ => [1, 1, 1],
    }
}

#[test]
fn attention_and_its_gradients_are_those_of_the_cpu() {
    for (n_head, d_head, seq_len, sequences, with_sink) in
        [(2, 8, 5, 3, true), (1, 16, 70, 2, false), (2, 16, 100, 1, true), (1, 32, 40, 1, true), (1, 64, 67, 1, true)]
    {
        let shape = Attention { n_head, d_head, seq_len };
        let tokens = seq_len * sequences;
        let [q, k, v, dy] = [1, 2, 3, 4].map(|seed| random(n_head * d_head, tokens, seed) * 2.0);
        let sink = with_sink.then(|| random(n_head, 1, 5));
        let sink_weight = sink.clone().map(Weight::new);
        let mut expected = Matrix::zeros(q.dim());
        let mut cpu = Cpu::default();
        let log_sum_expected = attention(shape, &q, &k, &v, sink_weight.as_ref(), &mut expected, &mut cpu);
        let (q_vec, k_vec, v_vec, dy_vec) = (vec(&q), vec(&k), vec(&v), vec(&dy));
        let sink_vec = sink.as_ref().map(vec);
        let sink_arg = || sink_vec.as_ref().map_or(Arg::Null, |sink| Arg::read(sink));
        let grid = |parts: usize| Config {
            grid: [seq_len.div_ceil(64 / parts) as u32, n_head as u32, sequences as u32],
            block: [64, 1, 1],
            shared: 0,
        };
        let sizes = || [Arg::U32(seq_len as u32), Arg::U32(tokens as u32)];
        let (mut y, mut log_sum) = (vec![0.0_f32; q.len()], vec![0.0_f32; n_head * tokens]);
        let [seq_len_arg, stride_arg] = sizes();
        let mut args = [
            Arg::read(&q_vec),
            Arg::read(&k_vec),
            Arg::read(&v_vec),
            sink_arg(),
            Arg::write(&mut y),
            Arg::write(&mut log_sum),
            seq_len_arg,
            stride_arg,
        ];
        let [forward, queries, keys] = parts(d_head);
        launch(&format!("attention_{d_head}"), grid(forward), &mut args).unwrap();
        let terms = (3 * d_head + 16) as f32;
        close("y", &y, &vec(&expected), terms);
        close("log_sum", &log_sum, &vec(&log_sum_expected), terms);

        let mut inner = vec![0.0_f32; n_head * tokens];
        let mut args = [
            Arg::read(&y),
            Arg::read(&dy_vec),
            Arg::write(&mut inner),
            Arg::U32(d_head as u32),
            Arg::U32(tokens as u32),
            Arg::U32(tokens as u32),
        ];
        let config = Config { grid: [tokens.div_ceil(256) as u32, n_head as u32, 1], block: [256, 1, 1], shared: 0 };
        launch("attention_inner", config, &mut args).unwrap();
        let (mut dq, mut dk, mut dv) = (Matrix::zeros(q.dim()), Matrix::zeros(q.dim()), Matrix::zeros(q.dim()));
        let mut dsink = Gradient::zeros((n_head, 1));
        attention_backward(
            shape,
            (&q, &k, &v),
            sink_weight.as_ref(),
            &expected,
            &log_sum_expected,
            &dy,
            (&mut dq, &mut dk, &mut dv),
            Some(&mut dsink),
            [None, None],
            &mut cpu,
        );
        let [mut dq_found, mut dk_found, mut dv_found] = [(); 3].map(|()| vec![0.0_f32; q.len()]);
        let inputs = || {
            [
                Arg::read(&q_vec),
                Arg::read(&k_vec),
                Arg::read(&v_vec),
                Arg::read(&dy_vec),
                Arg::read(&log_sum),
                Arg::read(&inner),
            ]
        };
        let mut args: Vec<Arg<'_>> = inputs().into_iter().chain([Arg::write(&mut dq_found)]).chain(sizes()).collect();
        launch(&format!("attention_backward_queries_{d_head}"), grid(queries), &mut args).unwrap();
        let outputs = [Arg::write(&mut dk_found), Arg::write(&mut dv_found)];
        let mut args: Vec<Arg<'_>> = inputs().into_iter().chain(outputs).chain(sizes()).collect();
        launch(&format!("attention_backward_keys_{d_head}"), grid(keys), &mut args).unwrap();
        let terms = (seq_len + 4 * d_head + 16) as f32;
        close("dq", &dq_found, &vec(&dq), terms);
        close("dk", &dk_found, &vec(&dk), terms);
        close("dv", &dv_found, &vec(&dv), terms);
        if let Some(sink) = &sink_vec {
            let mut found = vec![0.0_f32; n_head];
            let mut args = [
                Arg::read(sink),
                Arg::read(&log_sum),
                Arg::read(&inner),
                Arg::update(&mut found),
                Arg::U32(tokens as u32),
                Arg::U32(tokens as u32),
            ];
            let config = Config { grid: [n_head as u32, 1, 1], block: [256, 1, 1], shared: 0 };
            launch("attention_sink_gradient", config, &mut args).unwrap();
            close("dsink", &found, dsink.values(), terms * 4.0);
        }
    }
}
