//! The hypothesis file, in TOML.

use std::path::Path;

use openwork_circuit::{Node, NodeSpace};
use openwork_expression::{Language, LanguageError};
use openwork_model::Config;
use serde::Deserialize;

use super::{AnswerError, ExpressionError, Hypothesis, HypothesisError, Tokens, Variable, VariableError};

/// Most variables of a hypothesis: each is evaluated on every prompt.
const MOST_VARIABLES: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Toml {
    name: String,
    #[serde(default)]
    description: String,
    variable: Vec<TomlVariable>,
    answer: String,
    candidates: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TomlVariable {
    name: String,
    value: String,
    nodes: Vec<String>,
    at: Tokens,
}

impl Hypothesis {
    /// Reads a hypothesis about a model of this configuration.
    pub fn load(path: &Path, config: &Config) -> Result<Self, HypothesisError> {
        let text =
            openwork_tensor::read_text(path).map_err(|source| HypothesisError::Io { path: path.into(), source })?;
        Self::parse(&text, &path.display().to_string(), config)
    }

    /// The same from the text of a file; `file` is what errors call it.
    pub fn parse(text: &str, file: &str, config: &Config) -> Result<Self, HypothesisError> {
        let wrong = |reason: String| HypothesisError::Format { file: file.into(), reason };
        let toml: Toml = toml::from_str(text).map_err(|e| wrong(e.to_string().trim_end().to_owned()))?;
        if toml.variable.is_empty() {
            return Err(HypothesisError::NoVariables { file: file.into() });
        }
        let (language, space) = (Language::new(), NodeSpace::new(config));
        if toml.variable.len() > MOST_VARIABLES {
            let found = toml.variable.len();
            return Err(wrong(format!("it has {found} variables, at most {MOST_VARIABLES} are tested")));
        }
        let names: Vec<String> = toml.variable.iter().map(|v| v.name.clone()).collect();
        let mut variables: Vec<Variable> = Vec::new();
        for given in toml.variable {
            let name = given.name.clone();
            let wrong = |reason| HypothesisError::Variable { file: file.into(), variable: name, reason };
            variables.push(variable(given, &variables, &names, &language, &space).map_err(wrong)?);
        }
        let wrong = |reason: AnswerError| HypothesisError::Answer { file: file.into(), reason };
        for used in names_used(&language, &toml.answer).map_err(|e| wrong(e.into()))? {
            if used == "tokens" {
                return Err(wrong(AnswerError::UsesTokens));
            }
            if !names.contains(&used) && !language.is_known(&used) {
                return Err(wrong(AnswerError::Unknown { used, known: names.join(", ") }));
            }
        }
        if toml.candidates.as_ref().is_some_and(|c| c.len() < 2) {
            return Err(wrong(AnswerError::FewCandidates));
        }
        Ok(Self {
            file: file.into(),
            name: toml.name,
            description: toml.description,
            variables,
            answer: toml.answer,
            candidates: toml.candidates,
        })
    }
}

/// Checks one variable; `above` are those before it and `names` those of all.
fn variable(
    given: TomlVariable,
    above: &[Variable],
    names: &[String],
    language: &Language,
    space: &NodeSpace,
) -> Result<Variable, VariableError> {
    let name = &given.name;
    let identifier = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !identifier || language.is_known(name) {
        return Err(VariableError::Name);
    }
    if above.iter().any(|v| v.name == *name) {
        return Err(VariableError::Repeated);
    }
    for used in names_used(language, &given.value)? {
        if names.contains(&used) && !above.iter().any(|v| v.name == used) {
            return Err(VariableError::NotAbove { used });
        }
        if !names.contains(&used) && !language.is_known(&used) {
            let above = above.iter().map(|v| v.name.as_str());
            return Err(VariableError::Unknown { used, known: known(above) });
        }
    }
    if given.nodes.is_empty() {
        return Err(VariableError::NoNodes);
    }
    let mut nodes = Vec::new();
    for text in &given.nodes {
        let node = text.parse::<Node>().map_err(|e| VariableError::NotANode { message: e.to_string() })?;
        space.find(node)?;
        let owner = above.iter().find(|v| v.nodes.contains(&node)).map(|v| v.name.as_str());
        if let Some(owner) = owner.or(nodes.contains(&node).then_some(name)) {
            return Err(VariableError::Taken { node: node.to_string(), owner: owner.into() });
        }
        nodes.push(node);
    }
    Ok(Variable { name: given.name, value: given.value, nodes, at: given.at })
}

/// Names that a value may use, in words.
fn known<'a>(above: impl Iterator<Item = &'a str>) -> String {
    ["tokens"].into_iter().chain(above).collect::<Vec<_>>().join(", ")
}

/// The names that an expression uses, functions included.
fn names_used(language: &Language, text: &str) -> Result<Vec<String>, ExpressionError> {
    // What is too long to be read is too long to be shown.
    let shown = || text.chars().take(80).collect::<String>();
    let wrong = |e: LanguageError| ExpressionError { text: shown(), message: e.to_string() };
    let expression = language.compile(text).map_err(wrong)?;
    let mut names: Vec<String> = expression.undeclared_variables(false).into_iter().collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "sign"
        answer = "'yes' if sign == '+' else 'no'"
        candidates = ["yes", "no"]
        [[variable]]
        name = "sign"
        value = "last_of(tokens, ['+', '-'])"
        nodes = ["0.attn.v[0]", "1.mlp.post_act[3]"]
        at = "last"
        [[variable]]
        name = "other"
        value = "not sign"
        nodes = ["0.attn.v[1]"]
        at = "all"
    "#;

    #[test]
    fn a_good_file_is_read() {
        let hypothesis = Hypothesis::parse(GOOD, "h.toml", &Config::default()).unwrap();
        assert_eq!((hypothesis.name.as_str(), hypothesis.variables.len()), ("sign", 2));
        assert_eq!(hypothesis.variables[0].nodes[1].to_string(), "1.mlp.post_act[3]");
        assert_eq!(hypothesis.variables[1].at, Tokens::All);
        let missing = Hypothesis::load(Path::new("no such file.toml"), &Config::default()).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read no such file.toml");
    }

    #[test]
    fn every_fault_names_the_file_and_what_would_be_right() {
        let cases = [
            ("name = \"sign\"\n        answer", "answer", "missing field `name`"),
            ("at = \"last\"", "at = \"first\"", "unknown variant `first`, expected `last` or `all`"),
            ("at = \"last\"", "at = \"last\"\nweight = 1", "unknown field `weight`"),
            (
                "0.attn.v[0]",
                "0.attn.v[64]",
                "variable sign: the model has no node 0.attn.v[64]: 0.attn.v has nodes 0 to 63",
            ),
            ("0.attn.v[0]", "2.attn.v[0]", "variable sign: the model has no node 2.attn.v[0]"),
            ("0.attn.v[0]", "0.attn.v", "nodes look like"),
            ("[\"0.attn.v[1]\"]", "[]", "variable other: it has no nodes"),
            ("[\"0.attn.v[1]\"]", "[\"0.attn.v[0]\"]", "variable other: 0.attn.v[0] is named by sign already"),
            ("1.mlp.post_act[3]", "0.attn.v[0]", "variable sign: 0.attn.v[0] is named by sign already"),
            ("last_of(tokens, ['+', '-'])", "other", "variable sign: its value uses other, which is not above it"),
            ("\"not sign\"", "\"not other\"", "variable other: its value uses other, which is not above it"),
            ("not sign", "not sgn", "variable other: its value uses \"sgn\"; it may use tokens, sign and functions"),
            ("not sign", "not (", "variable other: \"not (\" is not an expression"),
            ("name = \"other\"", "name = \"sign\"", "variable sign: there are two of this name"),
            ("name = \"other\"", "name = \"count\"", "variable count: its name must be"),
            ("if sign", "if sgn", "answer: it uses \"sgn\"; there are sign, other"),
            ("if sign", "if tokens", "answer: it uses tokens"),
            ("[\"yes\", \"no\"]", "[\"yes\"]", "answer: candidates must be two"),
        ];
        for (from, to, expected) in cases {
            assert!(GOOD.contains(from), "{from}");
            let text = GOOD.replacen(from, to, 1);
            let error = Hypothesis::parse(&text, "h.toml", &Config::default()).unwrap_err().to_string();
            assert!(error.starts_with("h.toml") && error.contains(expected), "{error}, expected {expected}");
        }
        let none = "name = \"n\"\nanswer = \"1\"\nvariable = []";
        assert!(
            Hypothesis::parse(none, "h.toml", &Config::default()).unwrap_err().to_string().contains("[[variable]]")
        );
    }
}
