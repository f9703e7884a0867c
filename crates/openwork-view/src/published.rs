//! A published `viz_data.pt`, as released with the sparse models, read into the answers that a page shows.
//!
//! Source: Gao et al. 2025, released data of their viewer. A circuit is kept indices by site; `importances` has losses with single nodes
//! ablated, changes of the loss with single edges ablated, and values of the nodes on prompts of the task. Stored losses are sums over the
//! two sequences of a pair: they are halved here, to nats per sequence. Prompts are padded with token 0 on the right, which is trimmed.

use std::{collections::BTreeMap, path::Path};

use openwork_data::Tokenizer;
use openwork_model::Site;
use openwork_tensor::PtNode;

use crate::{
    View, ViewError,
    ask::{
        Answer, Question, Token,
        catalogue::{Catalogue, CircuitEntry, Mark, ModelEntry},
        effects::Effects,
        examples::{Contexts, Example, Examples},
        graph::{EdgeKind, Graph, GraphEdge, GraphNode, ROWS, Row, kind_name, row_in_block},
        node::{Link, NodePage, words},
        run::{NodeValues, Prompt, Prompts, RunAnswer, TaskPrompt},
    },
};

/// Stored losses over losses per sequence.
const SEQUENCES: f64 = 2.0;
/// Contexts of each kind that are shown.
const SHOWN: usize = 6;

/// A published circuit with its data.
pub(crate) struct Published {
    name: String,
    tokenizer: Option<Tokenizer>,
    nodes: Vec<PublishedNode>,
    /// From, to, and the change of the loss without the edge, nats per sequence.
    edges: Vec<(usize, usize, f64)>,
    contexts: BTreeMap<String, Vec<Contexts>>,
    /// Prompts of the task, those of the first class first.
    prompts: Vec<Vec<u16>>,
    values: BTreeMap<String, Vec<Vec<f32>>>,
    /// Losses of model and circuit, nats per sequence.
    losses: [Option<f64>; 2],
}

struct PublishedNode {
    name: String,
    site: String,
    index: usize,
    /// Loss of the circuit without it, nats per sequence.
    loss: Option<f64>,
}

struct Reader<'a> {
    path: &'a Path,
    tokenizer: Option<&'a Tokenizer>,
}

impl View {
    /// Opens a published `viz_data.pt`. Nothing in the file is run; without a tokenizer tokens are shown by their ids.
    ///
    /// # Errors
    /// When a file cannot be read, or is laid out otherwise.
    pub fn of_published(path: &Path, tokenizer: Option<&Path>) -> Result<Self, ViewError> {
        let tokenizer = tokenizer.map(Tokenizer::load).transpose()?;
        let root = PtNode::open(path)?;
        let published = Reader { path, tokenizer: tokenizer.as_ref() }.read(&root)?;
        Ok(Self { published: Some(Box::new(Published { tokenizer, ..published })), ..Self::default() })
    }
}

impl Reader<'_> {
    fn wrong(&self, place: impl Into<String>, expected: &'static str) -> ViewError {
        ViewError::Layout { path: self.path.to_owned(), place: place.into(), expected }
    }

    fn field<'n>(&self, node: &'n PtNode, place: &str, key: &str) -> Result<&'n PtNode, ViewError> {
        node.get(key).ok_or_else(|| self.wrong(format!("{place}{key}"), "an entry of this name"))
    }

    fn read(&self, root: &PtNode) -> Result<Published, ViewError> {
        // Some files have the settings of the pruning beside the circuit.
        let circuit = self.field(root, "", "circuit_data")?;
        let circuit = circuit.items().first().unwrap_or(circuit);
        let importances = self.field(root, "", "importances")?;
        let halved = |key: &str| importances.get(key).and_then(PtNode::number).map(|loss| loss / SEQUENCES);
        let mut nodes = vec![];
        for (site, kept) in circuit.entries() {
            let PtNode::Text(site) = site else { return Err(self.wrong("circuit_data", "names of sites as keys")) };
            let indices = self.indices(kept, &format!("circuit_data.{site}"))?;
            let losses = importances.get("ch_interv_losses").and_then(|all| all.get(site));
            for (i, &index) in indices.iter().enumerate() {
                let loss = losses.and_then(|losses| loss_of(losses, i, index, indices.len()));
                let name = format!("{site}[{index}]");
                nodes.push(PublishedNode { name, site: site.clone(), index, loss: loss.map(|loss| loss / SEQUENCES) });
            }
        }
        if nodes.is_empty() {
            return Err(self.wrong("circuit_data", "kept indices by site"));
        }
        nodes.sort_by_key(|node| (place(&node.site), node.site.clone(), node.index));
        let edges = self.edges(importances, &nodes)?;
        let (prompts, values) = self.task_samples(importances, &nodes)?;
        let name = self.path.ancestors().skip(1).take(3).filter_map(Path::file_name).last();
        Ok(Published {
            name: name.unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned(),
            tokenizer: None,
            contexts: self.contexts(root, &nodes)?,
            edges,
            prompts,
            values,
            losses: [halved("loss"), halved("interv_loss")],
            nodes,
        })
    }

    fn indices(&self, node: &PtNode, place: &str) -> Result<Vec<usize>, ViewError> {
        let wrong = || self.wrong(place, "a list of whole numbers");
        let whole = |x: f64| (x >= 0.0 && x.fract() == 0.0 && x < 1e9).then_some(x as usize);
        node.numbers().and_then(|numbers| numbers.into_iter().map(whole).collect()).ok_or_else(wrong)
    }

    /// Entries of `pair_data`: a matrix of sources and targets, both by index, and the two sites. A last source `bias` is no node.
    fn edges(&self, importances: &PtNode, nodes: &[PublishedNode]) -> Result<Vec<(usize, usize, f64)>, ViewError> {
        let number: BTreeMap<(&str, usize), usize> =
            nodes.iter().enumerate().map(|(i, node)| ((node.site.as_str(), node.index), i)).collect();
        let Some(pairs) = importances.get("pair_data") else { return Ok(vec![]) };
        let of_list = pairs.items().iter();
        let entries: Vec<&PtNode> = of_list.chain(pairs.entries().iter().map(|(_, entry)| entry)).collect();
        let mut edges = vec![];
        for (k, entry) in entries.into_iter().enumerate() {
            let place = format!("importances.pair_data.{k}");
            let [matrix, sources, targets, sites] = entry.items() else {
                return Err(self.wrong(place, "a matrix, its sources, its targets and their two sites"));
            };
            let [PtNode::Text(from_site), PtNode::Text(to_site)] = sites.items() else {
                return Err(self.wrong(format!("{place}.3"), "the names of two sites"));
            };
            // A last source that is a text is the bias.
            let last_is_text = matches!(sources.items().last(), Some(PtNode::Text(_)));
            let own = match last_is_text {
                true => PtNode::List(sources.items()[..sources.items().len() - 1].to_vec()),
                false => sources.clone(),
            };
            let sources = self.indices(&own, &format!("{place}.1"))?;
            let targets = self.indices(targets, &format!("{place}.2"))?;
            let rows = sources.len() + usize::from(last_is_text);
            let values = matrix.numbers().filter(|values| values.len() == rows * targets.len());
            let values = values
                .ok_or_else(|| self.wrong(format!("{place}.0"), "a row for each source, a column for each target"))?;
            for (i, &source) in sources.iter().enumerate() {
                for (j, &target) in targets.iter().enumerate() {
                    let delta = values[i * targets.len() + j];
                    let ends = (number.get(&(from_site, source)), number.get(&(to_site, target)));
                    if let ((Some(&from), Some(&to)), true) = (ends, delta != 0.0 && delta.is_finite()) {
                        edges.push((from, to, delta / SEQUENCES));
                    }
                }
            }
        }
        Ok(edges)
    }

    #[allow(clippy::type_complexity, reason = "prompts, and values by node")]
    fn task_samples(
        &self,
        importances: &PtNode,
        nodes: &[PublishedNode],
    ) -> Result<(Vec<Vec<u16>>, BTreeMap<String, Vec<Vec<f32>>>), ViewError> {
        let Some([tokens, values, ..]) = importances.get("task_samples").map(PtNode::items) else {
            return Ok((vec![], BTreeMap::new()));
        };
        let place = "importances.task_samples.0";
        let PtNode::Tensor(tensor) = tokens else { return Err(self.wrong(place, "tokens, a row for each prompt")) };
        let &[count, length] = tensor.shape() else { return Err(self.wrong(place, "tokens, a row for each prompt")) };
        let all = self.tokens(tokens, place)?;
        let rows = (0..count).map(|i| &all[i * length..(i + 1) * length]);
        // Padding is token 0 on the right.
        let prompts: Vec<Vec<u16>> = rows
            .map(|row| row[..row.iter().rposition(|&token| token != 0).map_or(0, |last| last + 1)].to_vec())
            .collect();
        let mut by_node = BTreeMap::new();
        for node in nodes {
            let entries = values.get(&node.site).map_or(&[][..], PtNode::entries);
            let own = entries.iter().find(|(key, _)| key.number() == Some(node.index as f64));
            let Some(numbers) = own.and_then(|(_, acts)| acts.numbers()).filter(|all| all.len() == count * length)
            else {
                continue;
            };
            let row = |(i, prompt): (usize, &Vec<u16>)| {
                numbers[i * length..i * length + prompt.len()].iter().map(|&x| x as f32).collect()
            };
            by_node.insert(node.name.clone(), prompts.iter().enumerate().map(row).collect());
        }
        Ok((prompts, by_node))
    }

    fn tokens(&self, node: &PtNode, place: &str) -> Result<Vec<u16>, ViewError> {
        let token = |index: usize| u16::try_from(index).map_err(|_| self.wrong(place, "ids of tokens below 65536"));
        self.indices(node, place)?.into_iter().map(token).collect()
    }

    fn texts(&self, tokens: &[u16]) -> Vec<Token> {
        texts(self.tokenizer, tokens)
    }

    /// Contexts of nodes by quantile: `{site: {index: {quantile: [bottom, top]}}}`, of tokens, values and a position each.
    fn contexts(&self, root: &PtNode, nodes: &[PublishedNode]) -> Result<BTreeMap<String, Vec<Contexts>>, ViewError> {
        let mut all = BTreeMap::new();
        let Some(samples) = root.get("samples") else { return Ok(all) };
        for node in nodes {
            let entries = samples.get(&node.site).map_or(&[][..], PtNode::entries);
            let Some((_, quantiles)) = entries.iter().find(|(key, _)| key.number() == Some(node.index as f64)) else {
                continue;
            };
            let mut lists = vec![];
            for (quantile, ends) in quantiles.entries() {
                let Some(quantile) = quantile.number() else { continue };
                for (end, words) in ends.items().iter().zip(["Smallest", "Largest"]).rev() {
                    let place = format!("samples.{}.{quantile}", node.name);
                    let examples = end.items().iter().take(SHOWN).enumerate();
                    let examples =
                        examples.map(|(k, example)| self.example(k, example, &place)).collect::<Result<_, _>>()?;
                    lists.push(Contexts { title: format!("{words} at quantile {quantile}"), examples });
                }
            }
            all.insert(node.name.clone(), lists);
        }
        Ok(all)
    }

    fn example(&self, window: usize, node: &PtNode, place: &str) -> Result<Example, ViewError> {
        let wrong = || self.wrong(place, "tokens, values and a position");
        let [tokens, values, position] = node.items() else { return Err(wrong()) };
        let tokens = self.tokens(tokens, place)?;
        let values = values.numbers().ok_or_else(wrong)?;
        let length = tokens.len().min(values.len());
        let position = position.number().filter(|&at| at >= 0.0 && (at as usize) < length).ok_or_else(wrong)? as usize;
        let values = values[..length].iter().map(|&x| x as f32).collect();
        Ok(Example { window, position, at: position, tokens: self.texts(&tokens[..length]), values })
    }
}

/// Place of a site in the order of the forward pass; sites that are not those of nodes come last.
fn place(site: &str) -> usize {
    let known = |site: Site| openwork_circuit::NodeSpace::KINDS.contains(&site.kind);
    match site.parse::<Site>() {
        Ok(site) if known(site) => site.layer * ROWS.len() + row_in_block(site.kind),
        _ => usize::MAX,
    }
}

/// Loss without a node: of a dictionary by index, of a list that has the kept nodes, or of one that has all.
fn loss_of(losses: &PtNode, number: usize, index: usize, kept: usize) -> Option<f64> {
    if let PtNode::Dict(entries) = losses {
        return entries.iter().find(|(key, _)| key.number() == Some(index as f64))?.1.number();
    }
    let numbers = losses.numbers()?;
    numbers.get(if numbers.len() == kept { number } else { index }).copied()
}

fn texts(tokenizer: Option<&Tokenizer>, tokens: &[u16]) -> Vec<Token> {
    let text = |id: u16| tokenizer.map_or_else(|| format!("#{id}"), |tokenizer| tokenizer.decode(&[id]));
    tokens.iter().map(|&id| Token { id, text: text(id) }).collect()
}

impl Published {
    /// Answers a question, as far as the file has it.
    pub fn answer(&self, question: &Question) -> Result<Answer, ViewError> {
        Ok(match question {
            Question::Catalogue {} => Answer::Catalogue(self.catalogue()),
            Question::Graph { circuit: 0 } => Answer::Graph(self.graph()),
            Question::Effects { circuit: 0 } => Answer::Effects(self.effects()),
            Question::Node { circuit: 0, node } => Answer::Node(Box::new(self.node(node)?)),
            Question::Examples { circuit: 0, node } => Answer::Examples(self.examples(node)?),
            Question::Prompts { circuit: 0 } => Answer::Prompts(self.prompts()),
            Question::Run(run) if run.edits.is_empty() => Answer::Run(Box::new(self.run(&run.prompt)?)),
            _ => return Err(ViewError::NotPublished),
        })
    }

    /// Questions that have an answer.
    pub fn questions(&self) -> Vec<Question> {
        let circuit = 0;
        let mut all = vec![
            Question::Catalogue {},
            Question::Graph { circuit },
            Question::Effects { circuit },
            Question::Prompts { circuit },
        ];
        for PublishedNode { name, .. } in &self.nodes {
            all.push(Question::Node { circuit, node: name.clone() });
            all.push(Question::Examples { circuit, node: name.clone() });
        }
        let run = |tokens: &Vec<u16>| crate::ask::run::RunQuestion {
            circuit,
            prompt: Prompt::Tokens(tokens.clone()),
            edits: vec![],
        };
        all.extend(self.prompts.iter().map(|tokens| Question::Run(run(tokens))));
        all
    }

    fn catalogue(&self) -> Catalogue {
        let layers =
            self.nodes.iter().filter_map(|node| node.site.parse::<Site>().ok()).map(|site| site.layer + 1).max();
        let losses =
            |what: &str, loss: Option<f64>| loss.map(|loss| format!("loss of the {what} {loss:.4} nats per sequence"));
        let [model, circuit] = self.losses;
        let entry = CircuitEntry {
            model: 0,
            name: self.name.clone(),
            task: self.name.clone(),
            description: None,
            size: [self.nodes.len(), self.edges.len()],
            claim: String::new(),
            loss: circuit,
            mark: Mark::None,
            verdict: "it is a published circuit: no verdict of this program is about it".into(),
            level: None,
        };
        let model_entry = ModelEntry {
            name: "published viz_data.pt".into(),
            hash: String::new(),
            layers: layers.unwrap_or(0),
            channels: 0,
            heads: [0, 0],
            neurons: 0,
            vocabulary: 0,
            context: 0,
            nonzero: [0, 0],
            means: false,
            sample: false,
        };
        Catalogue {
            models: vec![model_entry],
            circuits: vec![entry],
            runs: vec![],
            first: Some(0),
            notices: [losses("model", model), losses("circuit", circuit)].into_iter().flatten().collect(),
            published: true,
        }
    }

    fn graph(&self) -> Graph {
        let mut rows: Vec<usize> = self.nodes.iter().map(|node| place(&node.site)).collect();
        rows.sort_unstable();
        rows.dedup();
        let node = |node: &PublishedNode| GraphNode {
            name: node.name.clone(),
            row: rows.binary_search(&place(&node.site)).expect("every node has a row"),
            kind: node.site.parse::<Site>().map_or("read", |site| kind_name(site.kind)),
            head: None,
            index: node.index,
            label: None,
            note: None,
            worth: None,
            mean_magnitude: None,
        };
        let edge = |&(from, to, _): &(usize, usize, f64)| GraphEdge {
            from,
            to,
            kind: EdgeKind::Weight,
            weight: None,
            carried: None,
        };
        let top = self
            .nodes
            .iter()
            .filter_map(|node| node.site.parse::<Site>().ok())
            .map(|site| site.layer + 1)
            .max()
            .unwrap_or(0);
        let row = |&row: &usize| match row {
            usize::MAX => Row { layer: top, name: "other sites" },
            row => Row { layer: row / ROWS.len(), name: ROWS[row % ROWS.len()] },
        };
        Graph {
            name: self.name.clone(),
            rows: rows.iter().map(row).collect(),
            nodes: self.nodes.iter().map(node).collect(),
            edges: self.edges.iter().map(edge).collect(),
            groups: vec![],
            carried_over: None,
        }
    }

    /// Changes of the loss without a part, nats per sequence.
    fn effects(&self) -> Effects {
        let loss = self.losses[1];
        Effects {
            loss,
            pairs: self.prompts.len() / 2,
            nodes: self.nodes.iter().map(|node| node.loss.zip(loss).map(|(without, loss)| without - loss)).collect(),
            edges: self.edges.iter().map(|edge| edge.2).collect(),
        }
    }

    fn find(&self, name: &str) -> Result<(usize, &PublishedNode), ViewError> {
        let found = self.nodes.iter().enumerate().find(|(_, node)| node.name == name);
        found.ok_or(ViewError::NotPublished)
    }

    fn node(&self, name: &str) -> Result<NodePage, ViewError> {
        let (number, node) = self.find(name)?;
        let site = node.site.parse::<Site>().ok();
        let link = |other: usize, delta: f64| Link {
            node: self.nodes[other].name.clone(),
            label: None,
            weight: delta as f32,
            in_circuit: true,
        };
        let sorted = |mut links: Vec<Link>| {
            links.sort_by(|a, b| b.weight.abs().total_cmp(&a.weight.abs()));
            links
        };
        let inputs = self.edges.iter().filter(|edge| edge.1 == number).map(|edge| link(edge.0, edge.2)).collect();
        let outputs = self.edges.iter().filter(|edge| edge.0 == number).map(|edge| link(edge.1, edge.2)).collect();
        Ok(NodePage {
            name: node.name.clone(),
            layer: site.map_or(0, |site| site.layer),
            kind: site.map_or("read", |site| kind_name(site.kind)),
            head: None,
            site: site.map_or("Channel of the residual stream.", |site| words(site.kind)),
            in_circuit: true,
            label: None,
            groups: vec![],
            mean: None,
            worth: None,
            links: "effect",
            inputs: sorted(inputs),
            outputs: sorted(outputs),
            channel: vec![],
        })
    }

    fn examples(&self, name: &str) -> Result<Examples, ViewError> {
        self.find(name)?;
        let lists = self.contexts.get(name).cloned().unwrap_or_default();
        let all = || lists.iter().flat_map(|list| &list.examples);
        let values = || all().flat_map(|example| example.values.iter().copied());
        Ok(Examples {
            node: name.to_owned(),
            // The file has contexts, and says not over which data they are the largest.
            read: [0, 0],
            active: 0,
            largest: values().map(f32::abs).fold(0.0, f32::max),
            lists,
        })
    }

    fn prompts(&self) -> Prompts {
        // The first half is one class, and prompt i belongs to prompt i + half.
        let half = self.prompts.len() / 2;
        let prompt = |(i, tokens): (usize, &Vec<u16>)| TaskPrompt {
            pair: if i < half { i } else { i - half },
            positive: i < half,
            tokens: texts(self.tokenizer.as_ref(), tokens),
            right: None,
            wrong: None,
        };
        Prompts { task: self.name.clone(), prompts: self.prompts.iter().enumerate().map(prompt).collect() }
    }

    fn run(&self, prompt: &Prompt) -> Result<RunAnswer, ViewError> {
        let Prompt::Tokens(tokens) = prompt else { return Err(ViewError::NotPublished) };
        let number = self.prompts.iter().position(|other| other == tokens).ok_or(ViewError::NotPublished)?;
        let values = |node: &PublishedNode| {
            let values = self.values.get(&node.name)?[number].clone();
            Some(NodeValues { node: node.name.clone(), values, before: None })
        };
        Ok(RunAnswer {
            tokens: texts(self.tokenizer.as_ref(), tokens),
            answers: vec![vec![]; tokens.len()],
            unedited: None,
            alone: None,
            values: self.nodes.iter().filter_map(values).collect(),
        })
    }
}
