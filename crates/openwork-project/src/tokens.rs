//! Tokens of texts: the tokenizer that a path names, and a model's answer to a prompt.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use openwork_data::Tokenizer;
use openwork_model::{Model, NoTap, NotFinite, Tokens};
use openwork_tensor::without_bom;

use crate::{OpenModel, OpenModelError};

/// Tokenizer that a path names.
pub struct FoundTokenizer {
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// Context in tokens of the model that it was named by.
    pub n_ctx: Option<usize>,
}

/// The tokenizer that `path` names: a `tokenizer.json`, a folder with one, or a model with its tokenizer (`given`, else the
/// one beside it).
///
/// # Errors
/// When there is none, or it cannot be used.
pub fn find_tokenizer(path: &Path, given: Option<&Path>) -> Result<FoundTokenizer, OpenModelError> {
    let of_file = |path: &Path| Ok(FoundTokenizer { tokenizer: Tokenizer::load(path)?, n_ctx: None });
    if given.is_none() && is_json(path) {
        return of_file(path);
    }
    match OpenModel::open(path) {
        Ok(open) => Ok(FoundTokenizer { tokenizer: open.tokenizer(given)?, n_ctx: Some(open.model.config.n_ctx) }),
        Err(OpenModelError::NoModel { .. } | OpenModelError::Unfinished { .. })
            if given.is_none() && beside(path).exists() =>
        {
            of_file(&beside(path))
        }
        Err(error) => Err(error),
    }
}

fn beside(dir: &Path) -> PathBuf {
    dir.join("tokenizer.json")
}

/// True for a file that begins as an object of JSON. A model file begins with the length of its header.
fn is_json(path: &Path) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(64).read_to_end(&mut start));
    read.is_ok()
        && path.is_file()
        && without_bom(&start).trim_ascii_start().first() == Some(&b'{')
        && !start.contains(&0)
}

/// A token that may come next.
#[derive(Clone, Debug, PartialEq)]
pub struct NextToken {
    /// The token.
    pub token: u16,
    /// Its probability in the model.
    pub probability: f64,
    /// Its logit.
    pub logit: f32,
}

/// Answer of a model to a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Tokens of the prompt.
    pub tokens: Vec<u16>,
    /// Number of them on the left that the model did not see: they are beyond its context.
    pub unseen: usize,
    /// Probability of every token that was seen but the first, after those before it.
    pub probabilities: Vec<f64>,
    /// Tokens that may come next, the likeliest first, as many as were asked for; ties by index.
    pub next: Vec<NextToken>,
}

impl Answer {
    /// Mean of −ln p over the tokens of the prompt that the model saw after another, in nats; none for a single token.
    pub fn loss_nats(&self) -> Option<f64> {
        let n = self.probabilities.len();
        (n > 0).then(|| -self.probabilities.iter().map(|p| p.ln()).sum::<f64>() / n as f64)
    }
}

/// Runs the model on a prompt; an empty one is the beginning of a document. `top` tokens are named.
///
/// p(t) = exp(logit_t) / Σ_u exp(logit_u) over the tokens of the tokenizer, so that rows of the model beyond it have no
/// part in it.
///
/// # Errors
/// When a value of the model is not finite.
pub fn answer(model: &Model, tokenizer: &Tokenizer, prompt: &str, top: usize) -> Result<Answer, NotFinite> {
    let mut tokens = tokenizer.encode(prompt);
    if tokens.is_empty() {
        tokens.push(tokenizer.end_of_text()); // as before every document
    }
    let unseen = tokens.len().saturating_sub(model.config.n_ctx);
    let seen = &tokens[unseen..];
    let batch = Tokens::new(seen, seen.len());
    let logits = model.forward(batch, None, &mut NoTap).logits;
    model.check_finite(batch, &logits)?;
    let known = tokenizer.vocab_size();
    let column = |position: usize| -> Vec<f32> { logits.column(position).iter().take(known).copied().collect() };
    let after = |position: usize| {
        let logits = column(position);
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&logit| f64::from(logit - most).exp()).sum();
        move |token: u16| f64::from(logits[usize::from(token)] - most).exp() / sum
    };
    let probabilities = seen.windows(2).enumerate().map(|(i, pair)| after(i)(pair[1])).collect();
    let (last, probability) = (column(seen.len() - 1), after(seen.len() - 1));
    let mut order: Vec<u16> = (0..known).map(|token| token as u16).collect();
    order.sort_by(|&a, &b| last[usize::from(b)].total_cmp(&last[usize::from(a)]).then(a.cmp(&b)));
    let next = order.iter().take(top).map(|&token| NextToken {
        token,
        probability: probability(token),
        logit: last[usize::from(token)],
    });
    Ok(Answer { next: next.collect(), unseen, probabilities, tokens })
}

#[cfg(test)]
mod tests {
    use openwork_data::Programs;
    use openwork_model::Config;

    use super::*;

    fn tokenizer() -> Tokenizer {
        Tokenizer::train(Programs::new(1).take(100), 300).unwrap()
    }

    #[test]
    fn probabilities_of_the_answer_add_up_over_the_tokenizer() {
        let tokenizer = tokenizer();
        // More rows than the tokenizer has tokens, and a context shorter than the prompt.
        let model = Model::init(Config { vocab_size: 320, n_layer: 1, n_ctx: 8, ..Config::default() }, 3);
        let found = answer(&model, &tokenizer, "print(\"a\") # and more of it\n", usize::MAX).unwrap();
        assert_eq!(found.next.len(), 300);
        assert_eq!((found.unseen, found.probabilities.len()), (found.tokens.len() - 8, 7));
        let sum: f64 = found.next.iter().map(|next| next.probability).sum();
        // 300 terms, each with a rounding of an f32 difference of logits.
        assert!((sum - 1.0).abs() < 300.0 * f64::from(f32::EPSILON), "{sum}");
        assert!(found.next.is_sorted_by(|a, b| a.logit >= b.logit));
        let again = answer(&model, &tokenizer, "print(\"a\") # and more of it\n", 3).unwrap();
        assert_eq!(again.next, found.next[..3]);
        assert!(found.loss_nats().unwrap() > 0.0);
        let empty = answer(&model, &tokenizer, "", 1).unwrap();
        assert_eq!((empty.loss_nats(), empty.tokens), (None, vec![299]));
    }

    #[test]
    fn a_model_that_gives_no_numbers_has_no_answer() {
        let mut model = Model::init(Config { vocab_size: 320, n_layer: 1, n_ctx: 8, ..Config::default() }, 3);
        model.params.values_mut().into_iter().next().unwrap().update(|values| values.fill(f32::NAN));
        assert!(answer(&model, &tokenizer(), "a", 1).is_err());
    }

    #[test]
    fn a_path_names_a_tokenizer_by_file_folder_or_model() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let tokenizer = tokenizer();
        let model = Model::init(Config { vocab_size: 300, n_layer: 1, n_ctx: 8, ..Config::default() }, 3);
        model.save(dir.join("model.safetensors"), &Default::default()).unwrap();
        let none = find_tokenizer(dir, None).err().unwrap();
        assert!(matches!(none, OpenModelError::NoTokenizer { .. }), "{none}");
        tokenizer.save(&dir.join("tokenizer.json")).unwrap();
        for (path, n_ctx) in [("", Some(8)), ("model.safetensors", Some(8)), ("tokenizer.json", None)] {
            let found = find_tokenizer(&dir.join(path), None).unwrap();
            assert_eq!((found.tokenizer.sha256(), found.n_ctx), (tokenizer.sha256(), n_ctx));
        }
        std::fs::remove_file(dir.join("model.safetensors")).unwrap();
        assert_eq!(find_tokenizer(dir, None).unwrap().n_ctx, None);
        assert!(find_tokenizer(&dir.join("nowhere"), None).is_err());
    }
}
