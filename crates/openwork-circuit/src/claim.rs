//! The claim that a circuit makes of the model's answers.

use serde::{Deserialize, Serialize};

/// Claim of a circuit. Every pair has two prompts and two candidates, and `d` is the logit difference of the candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// It produces the model's answer, the sign of `d`, threshold included.
    #[default]
    Answer,
    /// It decides which of the two prompts of a pair gets which answer: `d` up to a shift that is common to all prompts. The
    /// weaker claim.
    Contrast,
}

impl Claim {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Answer, Self::Contrast];

    /// The claim in a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Self::Answer => "it produces the model's answer, threshold included",
            Self::Contrast => {
                "it decides which of the two prompts of a pair gets which answer, up to a shift of the logit difference that is \
                 common to all prompts; it does not claim the model's answer"
            }
        }
    }
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Answer => "answer",
            Self::Contrast => "contrast",
        })
    }
}

impl std::str::FromStr for Claim {
    type Err = UnknownClaim;

    fn from_str(name: &str) -> Result<Self, UnknownClaim> {
        let found = Self::ALL.into_iter().find(|claim| claim.to_string() == name);
        found.ok_or_else(|| UnknownClaim { name: name.to_owned() })
    }
}

/// A name that is no claim's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no claim {name:?}: a circuit claims the answer or the contrast")]
pub struct UnknownClaim {
    /// The name.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for claim in Claim::ALL {
            assert_eq!(claim.to_string().parse(), Ok(claim));
            assert_eq!(serde_json::to_value(claim).unwrap(), claim.to_string());
        }
        assert_eq!(Claim::default(), Claim::Answer);
        let error = "contrasts".parse::<Claim>().unwrap_err().to_string();
        assert!(error.contains("\"contrasts\""), "{error}");
    }
}
