use openwork_cuda_sim::{Arg, launch};
use openwork_ops::cross_entropy;

use crate::{config, random, vec};

#[test]
fn losses_and_gradients_are_those_of_the_cpu() {
    for (vocabulary, tokens, stride) in [(3, 32, 32), (70, 41, 64)] {
        let logits = random(vocabulary, tokens, 1) * 8.0;
        let targets: Vec<u16> = (0..tokens).map(|t| (t * 5 % vocabulary) as u16).collect();
        let factor = 1.0 / tokens as f32;
        let mut padded: Vec<f32> = vec![7.0; vocabulary * stride];
        for (to, from) in padded.chunks_mut(stride).zip(logits.rows()) {
            to.iter_mut().zip(from).for_each(|(to, &from)| *to = from);
        }
        let mut losses = vec![0.0_f32; tokens];
        let mut args = [
            Arg::update(&mut padded),
            Arg::read(&targets),
            Arg::write(&mut losses),
            Arg::U32(vocabulary as u32),
            Arg::U32(tokens as u32),
            Arg::U32(stride as u32),
            Arg::F32(factor),
        ];
        launch("cross_entropy", config([stride / 32, 1], 1024), &mut args).unwrap();
        let mut expected = logits.clone();
        let expected_losses = cross_entropy(&mut expected, &targets, factor);
        for (a, b) in losses.iter().zip(&expected_losses) {
            assert!((a - b).abs() < 16.0 * 8.0 * f32::EPSILON, "{a} {b}");
        }
        for (found, expected) in padded.chunks(stride).zip(vec(&expected).chunks(tokens)) {
            for (a, b) in found.iter().zip(expected) {
                // Probabilities to a few ulp of a sum of `vocabulary` terms.
                assert!((a - b).abs() <= f32::EPSILON * factor * (vocabulary as f32 + 64.0), "{a} {b}");
            }
            assert!(found[tokens..].iter().all(|&x| x == 0.0));
        }
    }
}
