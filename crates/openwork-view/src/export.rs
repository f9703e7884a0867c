//! A view as one file that needs no server: the page with the answers to the questions that it asks.

use std::{io::Write, path::Path};

use serde::Serialize;

use crate::{
    View, ViewError,
    ask::{
        Answer, Question,
        back::{BacktraceQuestion, Effect, Of},
        run::{Prompt, RunQuestion},
    },
    page::page,
};

/// Nodes of a circuit whose pages an exported page holds at most: a page of a large circuit would have hundreds of megabytes.
const NODES: usize = 200;
/// Causes that are shown in an exported backtrace, as in a live one.
const BACKTRACE: (usize, f64) = (4, 0.04);

/// An answer, or the reason that there is none.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Kept {
    Answer(Box<Answer>),
    Error(String),
}

/// A question with its answer.
#[derive(Serialize)]
struct Entry {
    question: Question,
    #[serde(flatten)]
    kept: Kept,
}

/// Writes the page of a view to one file, atomically.
///
/// # Errors
/// When the file cannot be written.
pub fn export(view: &View, path: &Path) -> Result<(), ViewError> {
    let html = exported(view);
    openwork_tensor::write_atomic(path, |w| w.write_all(html.as_bytes()))
        .map_err(|source| ViewError::Io { path: path.to_owned(), source })
}

/// The page of a view with its answers, as HTML: everything but other prompts, edits and labels.
pub fn exported(view: &View) -> String {
    if let Some(published) = &view.published {
        let entry = |question: Question| Entry { kept: kept(view.answer(&question)), question };
        let entries: Vec<Entry> = published.questions().into_iter().map(entry).collect();
        return page(Some(&serde_json::to_string(&entries).expect("plain values")));
    }
    let all = 0..view.circuits.len();
    let mut questions = vec![Question::Catalogue {}];
    questions.extend((0..view.runs.len()).map(|run| Question::Curves { run }));
    questions.extend(all.clone().flat_map(|circuit| of_circuit(view, circuit)));
    questions.extend(all.clone().flat_map(|first| all.clone().map(move |second| Question::Compare { first, second })));
    let entry = |question: Question| Entry { kept: kept(view.answer(&question)), question };
    let mut entries: Vec<Entry> = questions.into_iter().map(entry).collect();
    entries.extend(all.flat_map(|circuit| examples(view, circuit)));
    page(Some(&serde_json::to_string(&entries).expect("plain values")))
}

fn kept(answer: Result<Answer, ViewError>) -> Kept {
    match answer {
        Ok(answer) => Kept::Answer(Box::new(answer)),
        Err(error) => Kept::Error(error.words()),
    }
}

/// Contexts of the nodes of a circuit, by one pass over the sample.
fn examples(view: &View, circuit: usize) -> Vec<Entry> {
    let nodes: Vec<_> = view.circuits[circuit].file().circuit.nodes().nodes().take(NODES).collect();
    let question = |node: String| Question::Examples { circuit, node };
    match view.examples_of(circuit, &nodes) {
        Ok(all) => {
            let entry = |one: crate::ask::examples::Examples| Entry {
                question: question(one.node.clone()),
                kept: kept(Ok(Answer::Examples(one))),
            };
            all.into_iter().map(entry).collect()
        }
        Err(error) => {
            let entry = |node: &openwork_circuit::Node| Entry {
                question: question(node.to_string()),
                kept: Kept::Error(error.words()),
            };
            nodes.iter().map(entry).collect()
        }
    }
}

/// Questions about a circuit, contexts of its nodes aside.
fn of_circuit(view: &View, circuit: usize) -> Vec<Question> {
    let mut questions = vec![
        Question::Graph { circuit },
        Question::Effects { circuit },
        Question::Prompts { circuit },
        Question::Verdict { circuit },
        Question::Replay { circuit },
    ];
    let nodes = view.circuits[circuit].file();
    let nodes = nodes.circuit.nodes().nodes().take(NODES);
    questions.extend(nodes.map(|node| Question::Node { circuit, node: node.to_string() }));
    let Ok(prompts) = view.prompts(circuit) else { return questions };
    for prompt in prompts.prompts {
        let ids: Vec<u16> = prompt.tokens.iter().map(|token| token.id).collect();
        let position = ids.len() - 1;
        let tokens = Prompt::Tokens(ids);
        questions.push(Question::Run(RunQuestion { circuit, prompt: tokens.clone(), edits: vec![] }));
        let (depth, share) = BACKTRACE;
        for of in [&prompt.right, &prompt.wrong].into_iter().flatten().map(|token| Of::Logit(token.id)) {
            let (prompt, edits, effect) = (tokens.clone(), vec![], Effect::None);
            let question = BacktraceQuestion { circuit, prompt, edits, of, position, depth, share, effect };
            questions.push(Question::Backtrace(question));
        }
    }
    questions
}
