//! The high-level model that a hypothesis is: prompt to variables to answer, with variables forced to other values.

use std::collections::BTreeMap;

use openwork_expression::{Expression, Language, Value};

use super::{AnswerError, EvaluationError, Hypothesis, HypothesisError, Prompts};
use crate::run::measures::argmax;

/// A hypothesis ready to be evaluated.
pub(super) struct HighLevel<'a> {
    pub hypothesis: &'a Hypothesis,
    language: &'a Language,
    variables: Vec<Expression<'a, 'static>>,
    answer: Expression<'a, 'static>,
}

impl<'a> HighLevel<'a> {
    pub fn new(language: &'a Language, hypothesis: &'a Hypothesis) -> Self {
        let compile = |text: &str| language.compile(text).expect("checked when it was read");
        let variables = hypothesis.variables.iter().map(|v| compile(&v.value)).collect();
        Self { hypothesis, language, variables, answer: compile(&hypothesis.answer) }
    }

    /// Values of the variables on a prompt, where some are `forced`.
    pub fn values(&self, prompt: &[String], forced: &[Option<Value>]) -> Result<Vec<Value>, HypothesisError> {
        let tokens: Value = prompt.iter().map(String::as_str).collect();
        let mut context = BTreeMap::from([("tokens".to_owned(), tokens)]);
        let mut values = Vec::new();
        for ((variable, expression), forced) in self.hypothesis.variables.iter().zip(&self.variables).zip(forced) {
            let what = || format!("variable {}", variable.name);
            let value = match forced {
                Some(value) => value.clone(),
                None => self.evaluate(expression, &context, what, prompt)?,
            };
            context.insert(variable.name.clone(), value.clone());
            values.push(value);
        }
        Ok(values)
    }

    /// Text of the answer that follows from the variables.
    pub fn answer(&self, prompt: &[String], values: &[Value]) -> Result<String, HypothesisError> {
        let names = self.hypothesis.variables.iter().map(|v| v.name.clone());
        let context = names.zip(values.iter().cloned()).collect();
        Ok(self.evaluate(&self.answer, &context, || "answer".into(), prompt)?.to_string())
    }

    fn evaluate(
        &self,
        expression: &Expression<'_, '_>,
        context: &BTreeMap<String, Value>,
        what: impl Fn() -> String,
        prompt: &[String],
    ) -> Result<Value, HypothesisError> {
        match self.language.evaluate(expression, Value::from_object(context.clone())) {
            Ok(value) if !value.is_undefined() => Ok(value),
            Ok(_) => Err(self.fails(what(), prompt, EvaluationError::Missing)),
            Err(error) => Err(self.fails(what(), prompt, EvaluationError::Failed { message: error.to_string() })),
        }
    }

    /// The error that an expression fails on a prompt.
    pub fn fails(&self, what: String, prompt: &[String], reason: EvaluationError) -> HypothesisError {
        HypothesisError::Evaluation {
            file: self.hypothesis.file.clone(),
            what,
            prompt: openwork_tensor::quoted_list(prompt),
            reason,
        }
    }
}

/// The tokens that can be answers. Tokens of one text count as one.
pub(super) struct Answers {
    ids: BTreeMap<String, u16>,
    texts: BTreeMap<u16, String>,
    /// The first token of the same text, by token.
    first: Vec<u16>,
    /// True if only some tokens are candidates.
    few: bool,
}

impl Answers {
    pub fn new(hypothesis: &Hypothesis, vocab_size: usize, prompts: Prompts<'_>) -> Result<Self, HypothesisError> {
        let mut ids: BTreeMap<String, u16> = BTreeMap::new();
        let first = (0..vocab_size).map(|t| *ids.entry((prompts.text)(t as u16)).or_insert(t as u16)).collect();
        if let Some(candidates) = &hypothesis.candidates {
            if let Some(unknown) = candidates.iter().find(|c| !ids.contains_key(*c)) {
                let reason = AnswerError::NotAToken { candidate: unknown.clone() };
                return Err(HypothesisError::Answer { file: hypothesis.file.clone(), reason });
            }
            ids.retain(|text, _| candidates.contains(text));
        }
        let texts = ids.iter().map(|(text, id)| (*id, text.clone())).collect();
        Ok(Self { ids, texts, first, few: hypothesis.candidates.is_some() })
    }

    /// The likeliest.
    pub fn of(&self, log_probs: &[f32]) -> u16 {
        if !self.few {
            return self.first[argmax(log_probs)];
        }
        let ids: Vec<u16> = self.texts.keys().copied().collect();
        let values: Vec<f32> = ids.iter().map(|&id| log_probs[usize::from(id)]).collect();
        ids[argmax(&values)]
    }

    pub fn id(&self, text: &str) -> Result<u16, EvaluationError> {
        self.ids.get(text).copied().ok_or_else(|| match self.few {
            true => EvaluationError::NotACandidate { text: text.into() },
            false => EvaluationError::NotAToken { text: text.into() },
        })
    }

    pub fn text(&self, id: u16) -> String {
        self.texts[&id].clone()
    }
}
