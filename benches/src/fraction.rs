//! Densities as people write them.

use std::{fmt, str::FromStr};

/// A fraction of a whole, written `1/64` or `0.25`, that remembers how it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Fraction {
    text: String,
    /// The value, in (0, 1].
    pub value: f64,
}

impl FromStr for Fraction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse::<f64>().ok();
        let value = match text.split_once('/') {
            Some((top, bottom)) => number(top).zip(number(bottom)).map(|(top, bottom)| top / bottom),
            None => number(text),
        };
        match value {
            Some(value) if value > 0.0 && value <= 1.0 => Ok(Self { text: text.trim().into(), value }),
            _ => Err(format!("{text:?} is no fraction; right would be 1, 1/4 or 0.25")),
        }
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_and_nothing_else() {
        let value = |text: &str| text.parse::<Fraction>().map(|f| f.value);
        assert_eq!((value("1/64"), value("0.25"), value("1")), (Ok(1.0 / 64.0), Ok(0.25), Ok(1.0)));
        for wrong in ["0", "2", "1/0", "a", "", "1/2/3", "-1/4"] {
            assert!(value(wrong).unwrap_err().contains("1/4"), "{wrong}");
        }
        assert_eq!("1/64".parse::<Fraction>().unwrap().to_string(), "1/64");
    }
}
