//! Questions of a page and their answers, one function for each. A question and its answer are JSON; an exported page holds the
//! answers to the questions that it can ask.

pub mod back;
pub mod catalogue;
pub mod compare;
pub mod effects;
pub mod examples;
pub mod graph;
pub mod label;
pub mod node;
pub mod run;
pub mod verdict;

use serde::{Deserialize, Serialize};

use crate::{View, ViewError};

/// Question of a page. Models, circuits and runs are named by their numbers in the catalogue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Question {
    /// Everything that was opened.
    Catalogue {},
    /// The graph of a circuit.
    Graph {
        /// The circuit.
        circuit: usize,
    },
    /// Effects of ablating each part of a circuit.
    Effects {
        /// The circuit.
        circuit: usize,
    },
    /// A node of the model of a circuit.
    Node {
        /// The circuit.
        circuit: usize,
        /// The node.
        node: String,
    },
    /// Contexts of the training data on which a node is large, drawn, or hardly active.
    Examples {
        /// The circuit whose model has the node.
        circuit: usize,
        /// The node.
        node: String,
    },
    /// Prompts of a circuit's task.
    Prompts {
        /// The circuit.
        circuit: usize,
    },
    /// A run on a prompt.
    Run(run::RunQuestion),
    /// The causes of a value.
    Backtrace(back::BacktraceQuestion),
    /// The verdict on a circuit.
    Verdict {
        /// The circuit.
        circuit: usize,
    },
    /// The counter-example of a verdict, run again.
    Replay {
        /// The circuit.
        circuit: usize,
    },
    /// The curves of a run.
    Curves {
        /// The run.
        run: usize,
    },
    /// Two circuits beside each other.
    Compare {
        /// One circuit.
        first: usize,
        /// The other.
        second: usize,
    },
    /// A label is given to a node, and saved to the circuit file.
    Label(label::LabelQuestion),
}

/// Answer to a question.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Answer {
    /// Everything that was opened.
    Catalogue(catalogue::Catalogue),
    /// A graph.
    Graph(graph::Graph),
    /// Effects.
    Effects(effects::Effects),
    /// A node.
    Node(Box<node::NodePage>),
    /// Contexts of a node.
    Examples(examples::Examples),
    /// Prompts of a task.
    Prompts(run::Prompts),
    /// A run.
    Run(Box<run::RunAnswer>),
    /// Causes of a value.
    Backtrace(Box<back::BacktraceAnswer>),
    /// A verdict.
    Verdict(Box<verdict::VerdictPage>),
    /// A counter-example that was run again.
    Replay(verdict::ReplayAnswer),
    /// Curves.
    Curves(catalogue::Curves),
    /// Two circuits.
    Compare(compare::Comparison),
    /// The label as it was saved.
    Label(label::LabelAnswer),
}

impl View {
    /// Answers a question.
    ///
    /// # Errors
    /// When it names something that was not opened, or asks what lies not beside the model.
    pub fn answer(&self, question: &Question) -> Result<Answer, ViewError> {
        if let Some(published) = &self.published {
            return published.answer(question);
        }
        Ok(match question {
            Question::Catalogue {} => Answer::Catalogue(self.catalogue()),
            Question::Graph { circuit } => Answer::Graph(self.graph(*circuit)?),
            Question::Effects { circuit } => Answer::Effects(self.effects(*circuit)?),
            Question::Node { circuit, node } => Answer::Node(Box::new(self.node(*circuit, node)?)),
            Question::Examples { circuit, node } => Answer::Examples(self.examples(*circuit, node)?),
            Question::Prompts { circuit } => Answer::Prompts(self.prompts(*circuit)?),
            Question::Run(run) => Answer::Run(Box::new(self.run(run)?)),
            Question::Backtrace(back) => Answer::Backtrace(Box::new(self.backtrace(back)?)),
            Question::Verdict { circuit } => Answer::Verdict(Box::new(self.verdict(*circuit)?)),
            Question::Replay { circuit } => Answer::Replay(self.replay(*circuit)?),
            Question::Curves { run } => Answer::Curves(self.curves(*run)?),
            Question::Compare { first, second } => Answer::Compare(self.compare(*first, *second)?),
            Question::Label(label) => Answer::Label(self.label(label)?),
        })
    }
}

/// A token with its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Token {
    /// Its id.
    pub id: u16,
    /// Its text.
    pub text: String,
}

impl crate::open::OpenedModel {
    /// Tokens with their texts.
    pub(crate) fn texts(&self, tokens: &[u16]) -> Vec<Token> {
        tokens.iter().map(|&id| Token { id, text: self.tokenizer.decode(&[id]) }).collect()
    }

    /// The node of a name, which the model has.
    pub(crate) fn parse_node(&self, name: &str) -> Result<openwork_circuit::Node, ViewError> {
        let node = name.parse()?;
        self.space.find(node)?;
        Ok(node)
    }
}
