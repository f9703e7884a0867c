use openwork_model::*;
use openwork_train::*;
fn main() {
    let name = std::env::args().nth(1).unwrap();
    let n: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
    let r = Recipe::parse(SHIPPED.iter().find(|s| s.0 == name).unwrap().1).unwrap();
    let mut s = r.schedule.clone();
    let late = std::env::args().nth(3).is_some();
    if late {
        s.anneal_start = 0.;
        s.anneal_stop = 0.0;
        s.warmup_steps = 0.;
    }
    let mut t = Trainer::new(Model::init(r.config.clone(), 0), s, r.lanes);
    for i in 0..n {
        let b: Vec<u16> =
            (0..r.batch_sequences * r.config.n_ctx).map(|k| ((k as u64 * 2654435761 + i * 97) % 2039) as u16).collect();
        let x = t.step(&b, r.config.n_ctx, r.chunk_sequences);
        println!(
            "{} {:.3} {:.2}s {:.0} tok/s l0 {}",
            i,
            x.loss_nats,
            x.seconds,
            x.tokens as f64 / x.seconds,
            x.sparsity.l0
        );
    }
}
