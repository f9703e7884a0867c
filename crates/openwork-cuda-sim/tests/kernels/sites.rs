use openwork_cuda_sim::{Arg, Config, launch};

use crate::{close, random, vec};

fn grid(blocks: [usize; 2]) -> Config {
    crate::config(blocks, 256)
}

#[test]
fn columns_are_gathered_and_scattered() {
    let (features, tokens, stride) = (5, 200, 256);
    let x = random(features, stride, 1);
    let columns: Vec<u32> = (0..tokens as u32).filter(|t| t % 7 != 6).collect();
    let mut y = vec![0.0_f32; features * stride];
    let sizes = [columns.len(), stride, stride].map(|n| n as u32);
    let numbers = vec(&x);
    let mut args = vec![Arg::read(&numbers), Arg::read(&columns), Arg::write(&mut y)];
    args.extend(sizes.map(Arg::U32));
    launch("gather_columns", grid([1, features]), &mut args).unwrap();
    let expected = |f: usize, j: usize| columns.get(j).map_or(0.0, |&c| x[[f, c as usize]]);
    assert!((0..features * stride).all(|i| y[i] == expected(i / stride, i % stride)));

    let mut dx = vec![0.0_f32; features * stride];
    let mut args = vec![Arg::read(&y), Arg::read(&columns), Arg::update(&mut dx)];
    args.extend(sizes.map(Arg::U32));
    launch("scatter_columns", grid([1, features]), &mut args).unwrap();
    let expected = |f: usize, t: usize| if columns.contains(&(t as u32)) { x[[f, t]] } else { 0.0 };
    assert!((0..features * stride).all(|i| dx[i] == expected(i / stride, i % stride)));
}

#[test]
fn masks_put_means_in_and_have_the_gradient_of_their_gates() {
    let (features, tokens, stride) = (6, 200, 256);
    let (x, dy) = (random(features, stride, 1), random(features, stride, 2));
    let (keep, mean) = ([1_u8, 0, 1, 0, 0, 1], vec(&random(features, 1, 3)));
    let (mut value, mut deviation) = (vec(&x), vec![0.0_f32; features * stride]);
    let mut args = [
        Arg::update(&mut value),
        Arg::write(&mut deviation),
        Arg::read(&keep),
        Arg::read(&mean),
        Arg::U32(stride as u32),
    ];
    launch("ablate", grid([1, features]), &mut args).unwrap();
    for (i, (value, deviation)) in value.iter().zip(&deviation).enumerate() {
        let (f, x) = (i / stride, x[[i / stride, i % stride]]);
        assert_eq!(*value, if keep[f] == 1 { x } else { mean[f] });
        assert_eq!(*deviation, x - mean[f]);
    }
    let (mut dx, mut gates) = (vec(&dy), vec![0.25_f32; features]);
    let mut args = [
        Arg::update(&mut dx),
        Arg::read(&deviation),
        Arg::read(&keep),
        Arg::update(&mut gates),
        Arg::U32(tokens as u32),
        Arg::U32(stride as u32),
    ];
    launch("ablate_backward", grid([features, 1]), &mut args).unwrap();
    let dot = |f: usize| (0..tokens).map(|t| dy[[f, t]] * deviation[f * stride + t]).sum::<f32>();
    close("gates", &gates, &(0..features).map(|f| 0.25 + dot(f)).collect::<Vec<_>>(), tokens as f32);
    for (i, dx) in dx.iter().enumerate().filter(|(i, _)| i % stride < tokens) {
        assert_eq!(*dx, if keep[i / stride] == 1 { dy[[i / stride, i % stride]] } else { 0.0 });
    }
}

#[test]
fn rows_that_are_not_zero_are_marked() {
    let (features, tokens, stride) = (4, 300, 384);
    let mut x = vec![0.0_f32; features * stride];
    // One at the end, one behind the last token, and one that was marked before.
    (x[stride + tokens - 1], x[2 * stride + tokens]) = (-0.5, 1.0);
    let mut active = [0_u32, 0, 0, 1];
    let mut args = [Arg::read(&x), Arg::update(&mut active), Arg::U32(tokens as u32), Arg::U32(stride as u32)];
    launch("mark_active", grid([features, 1]), &mut args).unwrap();
    assert_eq!(active, [0, 1, 0, 1]);
}
