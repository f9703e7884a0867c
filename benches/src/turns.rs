//! Fair comparisons on a machine that does other things too.

use std::{thread, time::Duration};

use anyhow::Result;

/// Before a sample: threads of the one before may still wait for work by spinning.
const PAUSE: Duration = Duration::from_millis(20);

/// Something that can be timed again and again.
pub struct Contestant<'a> {
    /// Its name in tables and files.
    pub name: String,
    sample: Box<dyn FnMut() -> Result<f64> + 'a>,
}

impl<'a> Contestant<'a> {
    /// `sample` takes one sample and returns its seconds.
    pub fn new(name: impl Into<String>, sample: impl FnMut() -> Result<f64> + 'a) -> Self {
        Self { name: name.into(), sample: Box::new(sample) }
    }
}

/// A contestant's times.
#[derive(Clone, Debug, PartialEq)]
pub struct Samples {
    /// Its name.
    pub name: String,
    /// Seconds by round.
    pub seconds: Vec<f64>,
}

impl Samples {
    /// Speed as a multiple of that of `other`, round by round.
    pub fn speedups(&self, other: &Self) -> Vec<f64> {
        self.seconds.iter().zip(&other.seconds).map(|(mine, theirs)| theirs / mine).collect()
    }
}

/// Every contestant once a round, one at a time; each round starts with the next one. A contestant that
/// fails is left out, said aloud.
pub fn take_turns(mut contestants: Vec<Contestant<'_>>, rounds: usize) -> Vec<Samples> {
    let mut times: Vec<Option<Vec<f64>>> = vec![Some(Vec::new()); contestants.len()];
    for round in 0..rounds {
        for turn in 0..contestants.len() {
            let at = (round + turn) % contestants.len();
            let Some(seconds) = &mut times[at] else { continue };
            thread::sleep(PAUSE);
            match (contestants[at].sample)() {
                Ok(sample) => seconds.push(sample),
                Err(error) => {
                    println!("{} left out: {error:#}", contestants[at].name);
                    times[at] = None;
                }
            }
        }
    }
    let named = contestants.into_iter().zip(times);
    named.filter_map(|(contestant, seconds)| Some(Samples { name: contestant.name, seconds: seconds? })).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn all_have_their_turn_and_failures_do_not_stop_the_others() {
        let order = RefCell::new(String::new());
        let contestant = |name: &'static str, seconds: f64| {
            let order = &order;
            Contestant::new(name, move || {
                order.borrow_mut().push_str(name);
                anyhow::ensure!(seconds > 0.0, "broken");
                Ok(seconds)
            })
        };
        let samples = take_turns(vec![contestant("a", 1.0), contestant("b", 0.0), contestant("c", 4.0)], 3);
        assert_eq!(*order.borrow(), "abc".to_owned() + "ca" + "ca");
        assert_eq!(samples.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(samples[0].speedups(&samples[1]), [4.0; 3]);
    }
}
