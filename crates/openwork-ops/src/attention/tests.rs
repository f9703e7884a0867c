use super::*;
use crate::{
    check::{close, gradient, random},
    reference,
};

#[test]
fn matches_the_reference_and_finite_differences() {
    for (n_head, d_head, seq_len, sequences, with_sink) in [
        (1, 1, 1, 1, false),
        (2, 3, 5, 2, true),
        (2, 4, 9, 1, false),
        (1, 2, 70, 1, true),
        (1, 2, 300, 1, true),
        (1, 3, 270, 1, false),
    ] {
        let shape = Attention { n_head, d_head, seq_len };
        let dim = (n_head * d_head, seq_len * sequences);
        let inputs: Vec<Matrix> = (0..3).map(|i| random(dim.0, dim.1, i) * 3.0).collect();
        let (q, k, v) = (&inputs[0], &inputs[1], &inputs[2]);
        let sink = with_sink.then(|| Weight::new(random(n_head, 1, 5)));
        let mut y = Matrix::zeros(dim);
        let log_sum = attention(shape, q, k, v, sink.as_ref(), &mut y, &mut Cpu::default());
        let exact = inputs.iter().map(|x| x.mapv(f64::from)).collect::<Vec<_>>();
        let sink_exact = sink.as_ref().map(|s| s.dense().mapv(f64::from));
        let plain = |q: &_, k: &_, v: &_, s: Option<&_>| reference::attention(shape, q, k, v, s);
        close(&y, &plain(&exact[0], &exact[1], &exact[2], sink_exact.as_ref()), (3 * d_head + 8) as f64);

        let dy = random(dim.0, dim.1, 9);
        let (mut dq, mut dk, mut dv) = (Matrix::ones(dim), Matrix::ones(dim), Matrix::ones(dim));
        let mut dsink = Gradient::zeros((n_head, 1));
        attention_backward(
            shape,
            (q, k, v),
            sink.as_ref(),
            &y,
            &log_sum,
            &dy,
            (&mut dq, &mut dk, &mut dv),
            Some(&mut dsink),
            [None, None],
            &mut Cpu::default(),
        );
        gradient(&dq, &exact[0], &dy, |q| plain(q, &exact[1], &exact[2], sink_exact.as_ref()));
        gradient(&dk, &exact[1], &dy, |k| plain(&exact[0], k, &exact[2], sink_exact.as_ref()));
        gradient(&dv, &exact[2], &dy, |v| plain(&exact[0], &exact[1], v, sink_exact.as_ref()));
        if let Some(s) = &sink_exact {
            gradient(dsink.dense(), s, &dy, |s| plain(&exact[0], &exact[1], &exact[2], Some(s)));
        }
    }
}

#[test]
fn a_score_that_is_not_finite_is_seen_by_the_queries_that_meet_it_and_by_no_other() {
    let shape = Attention { n_head: 2, d_head: 3, seq_len: 40 };
    let dim = (6, 80);
    let run = |q: &Matrix, k: &Matrix| {
        let mut y = Matrix::zeros(dim);
        let log_sum = attention(shape, q, k, &random(6, 80, 3), None, &mut y, &mut Cpu::default());
        (y, log_sum)
    };
    let [q, k] = [1, 2].map(|seed| random(6, 80, seed));
    let (plain, _) = run(&q, &k);
    // Key 57 of head 1 (place 17 of the second sequence) meets queries that are large enough to overflow.
    for (value, factor) in [(1e30, 1e20), (f32::INFINITY, 1.0), (f32::NAN, 1.0), (-1e30, 1e20)] {
        let (mut q, mut k) = (q.clone(), k.clone());
        k[[4, 57]] = value;
        q.row_mut(4).mapv_inplace(|x| (x.abs() + 0.1) * factor);
        let (y, log_sum) = run(&q, &k);
        for (row, y) in y.rows().into_iter().enumerate() {
            for t in 0..80 {
                let meets = row >= 3 && (57..80).contains(&t);
                assert_eq!(y[t].is_nan(), meets, "{value}: row {row}, token {t}: {}", y[t]);
                assert!(row >= 3 || y[t] == plain[[row, t]]);
            }
        }
        assert_eq!(log_sum.iter().filter(|l| l.is_nan()).count(), 23);
    }
    // Far from all others and still finite.
    let far = run(&q.mapv(|x| x * 1e18), &k.mapv(|x| x * 1e18)).0;
    assert!(far.iter().all(|y| y.is_finite()));
}
