//! Ranges of numbers on the command line: every option that is a number has one of these as its parser.

use std::{
    fmt::{Display, LowerExp},
    str::FromStr,
    time::Duration,
};

/// A number that an option can be.
pub trait Number: FromStr + PartialOrd + Copy + Display + LowerExp + Send + Sync + 'static {
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// The largest finite one.
    const MOST: Self;
    /// Word for it in messages.
    const WORD: &'static str;
}

macro_rules! number {
    ($($t:ty, $zero:literal, $one:literal, $word:literal;)*) => {$(
        impl Number for $t {
            const ZERO: Self = $zero;
            const ONE: Self = $one;
            const MOST: Self = Self::MAX;
            const WORD: &'static str = $word;
        }
    )*};
}
number! {
    f32, 0.0, 1.0, "number";
    f64, 0.0, 1.0, "number";
    u8, 0, 1, "whole number";
    u64, 0, 1, "whole number";
    usize, 0, 1, "whole number";
}

/// Parser of the numbers for which `contains` holds; `expected` says in words which those are. NaN and infinity are in no
/// range.
fn parser<T: Number>(
    expected: String,
    contains: impl Fn(T) -> bool + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| match text.parse() {
        Ok(number) if number <= T::MOST && contains(number) => Ok(number),
        Ok(number) if contains(number) => Err(format!("it is too large: expected {expected}, at most {:e}", T::MOST)),
        _ => Err(format!("expected {expected}")),
    }
}

/// Numbers above 0.
pub fn positive<T: Number>() -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    parser(format!("a {} above 0", T::WORD), |x| x > T::ZERO)
}

/// 0 and numbers above.
pub fn not_negative<T: Number>() -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    at_least(T::ZERO)
}

/// `least` and numbers above.
pub fn at_least<T: Number>(least: T) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    parser(format!("a {} of at least {least}", T::WORD), move |x| x >= least)
}

/// Numbers from `least` to `most`, both included.
pub fn between<T: Number>(least: T, most: T) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    parser(format!("a {} from {least} to {most}", T::WORD), move |x| x >= least && x <= most)
}

/// Numbers above 0, up to `most`.
pub fn up_to<T: Number>(most: T) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    parser(format!("a {} above 0, at most {most}", T::WORD), move |x| x > T::ZERO && x <= most)
}

/// Parts of a whole: from 0 to below 1.
pub fn fraction<T: Number>() -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    parser(format!("a {} from 0 to below 1", T::WORD), |x| x >= T::ZERO && x < T::ONE)
}

/// Seeds: any number of 64 bits.
pub fn seed(text: &str) -> Result<u64, String> {
    at_least(0)(text)
}

/// Times such as `90s` or `10m`, up to a year.
pub fn duration(text: &str) -> Result<Duration, String> {
    const MOST: Duration = Duration::from_hours(365 * 24);
    let expected = || "expected a time of at most a year, such as 90s or 10m".to_owned();
    humantime::parse_duration(text).ok().filter(|&time| time <= MOST).ok_or_else(expected)
}
