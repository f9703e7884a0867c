use ndarray::Array2;
use openwork_cuda_sim::{Arg, launch};
use openwork_ops::{Matrix, NormKind, Weight, norm, norm_backward};

use crate::{close, config, random, vec};

#[test]
fn norms_and_their_gradients_are_those_of_the_cpu() {
    for (kind, features, tokens) in
        [(NormKind::Rms, 1, 32), (NormKind::Rms, 37, 64), (NormKind::Layer, 40, 32), (NormKind::Layer, 7, 96)]
    {
        let layer = u32::from(kind == NormKind::Layer);
        let (x, dy) = (random(features, tokens, 1) * 3.0, random(features, tokens, 2));
        let (gain, bias) = (random(features, 1, 3), random(features, 1, 4));
        let (gain_weight, bias_weight) = (Weight::new(gain.clone()), Weight::new(bias.clone()));
        let mut expected = Matrix::zeros(x.dim());
        norm(kind, &gain_weight, Some(&bias_weight), &x, &mut expected);
        let (x_vec, gain_vec, bias_vec, dy_vec) = (vec(&x), vec(&gain), vec(&bias), vec(&dy));
        let (mut y, mut mean, mut scale) = (vec![0.0_f32; x.len()], vec![0.0_f32; tokens], vec![0.0_f32; tokens]);
        let sizes = [Arg::U32(features as u32), Arg::U32(tokens as u32)];
        let [features_arg, stride_arg] = sizes;
        let mut args = [
            Arg::read(&x_vec),
            Arg::read(&gain_vec),
            Arg::read(&bias_vec),
            Arg::write(&mut y),
            Arg::write(&mut mean),
            Arg::write(&mut scale),
            features_arg,
            stride_arg,
            Arg::F32(kind.eps()),
            Arg::U32(layer),
        ];
        launch("norm_forward", config([tokens / 32, 1], 256), &mut args).unwrap();
        close("norm_forward", &y, &vec(&expected), features as f32 + 4.0);

        let mut expected = random(features, tokens, 5);
        let mut dx = vec(&expected);
        let (mut dgain, mut dbias) = (Array2::ones((features, 1)), Array2::ones((features, 1)));
        norm_backward(kind, &gain_weight, &x, &dy, &mut expected, Some(&mut dgain), Some(&mut dbias));
        let mut args = [
            Arg::read(&x_vec),
            Arg::read(&gain_vec),
            Arg::read(&dy_vec),
            Arg::read(&mean),
            Arg::read(&scale),
            Arg::update(&mut dx),
            Arg::U32(features as u32),
            Arg::U32(tokens as u32),
            Arg::U32(layer),
        ];
        launch("norm_backward", config([tokens / 32, 1], 256), &mut args).unwrap();
        close("norm_backward", &dx, &vec(&expected), features as f32 + 8.0);
        let (mut dgain_found, mut dbias_found) = (vec![1.0_f32; features], vec![1.0_f32; features]);
        let mut args = [
            Arg::read(&x_vec),
            Arg::read(&dy_vec),
            Arg::read(&mean),
            Arg::read(&scale),
            Arg::update(&mut dgain_found),
            Arg::update(&mut dbias_found),
            Arg::U32(tokens as u32),
            Arg::U32(tokens as u32),
        ];
        launch("norm_gain_gradient", config([features, 1], 256), &mut args).unwrap();
        close("dgain", &dgain_found, &vec(&dgain), tokens as f32);
        close("dbias", &dbias_found, &vec(&dbias), tokens as f32);
        let mut sums = vec![1.0_f32; features];
        let mut args = [Arg::read(&dy_vec), Arg::update(&mut sums), Arg::U32(tokens as u32), Arg::U32(tokens as u32)];
        launch("add_row_sums", config([features, 1], 256), &mut args).unwrap();
        close("add_row_sums", &sums, &vec(&dbias), tokens as f32);
    }
}
