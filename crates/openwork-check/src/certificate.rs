//! The file, the domain file that it names, and what both mean for a model at hand.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, de::IgnoredAny};
use sha2::{Digest, Sha256};

use crate::{Rejected, model::Model};

/// Two numbers that were computed in f32 and in f64 may part by this much, relative to `1 + |value|`, and a lead of one logit
/// over another that is smaller is a tie. 2⁻²⁴ per operation, over some 30 layers of sums of 1,000 terms whose errors add
/// up as √1,000, is 6e-5 of the logits.
pub const TOLERANCE: f64 = 1e-4;

/// Largest margin above the checker's own, in tolerances, with which a claim may have been counted.
const WRITERS_MARGIN: f64 = 3.0;

/// Largest files, in bytes.
const MOST_BYTES: u64 = 256 << 20;

/// Most inputs.
pub const MOST_INPUTS: usize = 1_000_000;

/// Most multiplications that a check may take: an hour or so.
const MOST_WORK: u64 = 4_000_000_000_000;

/// Most noise symbols of a bound, and most cases that the splits of one input may have.
pub const MOST_SYMBOLS: usize = 1 << 14;
pub const MOST_CASES: usize = 1 << 12;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    #[serde(rename = "format")]
    _format: IgnoredAny,
    model_sha256: String,
    task: String,
    circuit: Vec<String>,
    fills: Fills,
    inputs: DomainName,
    claim: Claim,
}

/// Name of the domain file, which lies beside the certificate, and the hash of its contents.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DomainName {
    file: String,
    sha256: String,
}

/// A domain file: all inputs, and what is right after each.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Domain {
    #[serde(rename = "format")]
    _format: IgnoredAny,
    task: String,
    inputs: Listed,
    answers: Option<Vec<usize>>,
    candidates: Option<Vec<[usize; 2]>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fills {
    Zero,
    Constants(BTreeMap<String, f32>),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Listed {
    Products(Vec<Vec<Vec<usize>>>),
    Prompts(Vec<Vec<usize>>),
}

/// Claim, by kind.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    Exhaustive(Exhaustive),
    Statistical(Statistical),
    Relaxation(Relaxation),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exhaustive {
    pub inputs: usize,
    pub schemes: Vec<Scheme>,
    pub runs: usize,
    pub worst_kl_nats: f64,
    pub worst: Run,
    pub mean_kl_nats: f64,
    pub agreeing: usize,
    pub right: Option<usize>,
    pub model_right: Option<usize>,
}

/// Source of ablation values.
#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Scheme {
    /// Zero.
    Zero,
    /// The constants under `fills`.
    Constants,
    /// The model's run on another input: each of `sources` inputs, spread evenly (all, if as many as inputs).
    Resample { sources: usize },
}

/// One run: which input, under which scheme (by place in the list), with values of which other input.
#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Run {
    pub input: usize,
    pub scheme: usize,
    pub source: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistical {
    pub inputs: usize,
    pub event: Event,
    pub samples: u64,
    pub failures: u64,
    pub confidence: f64,
    pub lower_bound: f64,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The circuit's most likely token is the right one.
    RightAnswer,
    /// The circuit prefers the right one of the input's two candidates.
    RightCandidate,
    /// Circuit and model have the same most likely token.
    SameArgmax,
    /// Circuit and model prefer the same one of the input's two candidates.
    SameCandidate,
}

impl Event {
    /// True if the task judges; else the model does.
    pub fn is_right(self) -> bool {
        matches!(self, Self::RightAnswer | Self::RightCandidate)
    }

    /// True if only the two candidates count.
    pub fn of_candidates(self) -> bool {
        matches!(self, Self::RightCandidate | Self::SameCandidate)
    }

    fn name(self) -> &'static str {
        match self {
            Self::RightAnswer => "right_answer",
            Self::RightCandidate => "right_candidate",
            Self::SameArgmax => "same_argmax",
            Self::SameCandidate => "same_candidate",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relaxation {
    pub inputs: usize,
    /// Tokens that the model's answer is compared with.
    pub rivals: Rivals,
    /// True if the scales of norms are those of the model's run.
    pub frozen_norms: bool,
    /// Most noise symbols of a linear form; what comes later is lumped together.
    pub symbols: usize,
    /// The token whose lead is bounded on every input: the right one where the domain declares it, else the model's.
    pub answers: Vec<usize>,
    /// Lower bound of the margin of every input; `null` where there is none.
    pub bounds: Vec<Option<f64>>,
    /// Splits of the coefficients of every input into cases; `null` where they are not.
    pub splits: Vec<Option<Split>>,
    pub certified: usize,
    pub least_bound: Option<f64>,
}

/// Two cases: the coefficient of a node at a token is below or above a number; each may be split further.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    pub node: String,
    pub token: usize,
    pub at: f64,
    pub below: Option<Box<Split>>,
    pub above: Option<Box<Split>>,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Rivals {
    /// Every other token.
    AllTokens,
    /// The other one of the input's two candidates.
    OtherCandidate,
}

/// Subject of a certificate, made ready for a model.
pub struct Case {
    /// Kept or not, by node number.
    pub kept: Vec<bool>,
    /// Ablation values by node number.
    pub fill: Vec<f64>,
    pub has_constants: bool,
    inputs: Vec<Vec<Vec<usize>>>,
    pub answers: Option<Vec<usize>>,
    pub candidates: Option<Vec<[usize; 2]>>,
    /// Hash of inputs, answers and candidates.
    domain_sha256: String,
    model_sha256: String,
    /// Subject of the statement, in words and by hash.
    pub subject: String,
}

/// Text of a file, if it is not larger than any certificate.
fn text_of(path: &Path) -> Result<String, Rejected> {
    let unreadable = |reason: String| Rejected::Unreadable { path: path.into(), reason };
    let bytes = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?.len();
    if bytes > MOST_BYTES {
        return Err(unreadable(format!("it has {bytes} bytes, and the checker reads {MOST_BYTES} at most")));
    }
    std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))
}

/// Format of a file, whatever else is in it.
#[derive(Deserialize)]
struct Format {
    format: String,
}

/// A file of one format.
fn read<T: serde::de::DeserializeOwned>(path: &Path, expected: &str) -> Result<T, Rejected> {
    let unreadable = |reason: String| Rejected::Unreadable { path: path.into(), reason };
    let text = text_of(path)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text); // a byte order mark
    let Format { format } = serde_json::from_str(text).map_err(|e| unreadable(e.to_string()))?;
    if format != expected {
        return Err(unreadable(format!("its format is {format:?}, expected {expected:?}")));
    }
    serde_json::from_str(text).map_err(|e| unreadable(e.to_string()))
}

impl Certificate {
    /// Reads a certificate and the domain file beside it, and checks what can be checked without running anything.
    pub fn open(path: &Path, model: &Model) -> Result<(Case, Claim), Rejected> {
        let certificate: Self = read(path, "openwork-certificate 2")?;
        if certificate.model_sha256 != model.sha256 {
            return Err(Rejected::OtherModel { expected: certificate.model_sha256, found: model.sha256.clone() });
        }
        let name = &certificate.inputs.file;
        let plain = !name.is_empty() && !name.contains(['/', '\\', ':']) && name != "." && name != "..";
        if !plain {
            return Err(malformed("inputs", format!("{name:?} is no name of a file beside the certificate")));
        }
        let domain: Domain = read(&path.with_file_name(name), "openwork-domain 1")?;
        certificate.resolve(domain, model)
    }

    fn resolve(self, domain: Domain, model: &Model) -> Result<(Case, Claim), Rejected> {
        let Domain { task, inputs, answers, candidates, .. } = domain;
        if task != self.task {
            return Err(malformed("task", format!("it is {:?}, and the domain file is about {task:?}", self.task)));
        }
        let node = |name: &String| {
            model.node(name).ok_or_else(|| malformed("circuit", format!("the model has no node {name:?}")))
        };
        let mut kept = vec![false; model.nodes()];
        for name in &self.circuit {
            if std::mem::replace(&mut kept[node(name)?], true) {
                return Err(malformed("circuit", format!("{name} is listed twice")));
            }
        }
        let mut fill = vec![0.0; kept.len()];
        let has_constants = matches!(self.fills, Fills::Constants(_));
        if let Fills::Constants(constants) = &self.fills {
            let ablated = kept.iter().filter(|&&k| !k).count();
            if constants.len() != ablated {
                return Err(malformed("fills", format!("{} constants for {ablated} ablated nodes", constants.len())));
            }
            for (name, &value) in constants {
                let node = node(name)?;
                if kept[node] || !value.is_finite() {
                    return Err(malformed("fills", format!("{name} is kept, or its constant not finite")));
                }
                fill[node] = f64::from(value);
            }
        }
        let inputs = match inputs {
            Listed::Products(products) => products,
            Listed::Prompts(prompts) => {
                prompts.into_iter().map(|prompt| prompt.into_iter().map(|t| vec![t]).collect()).collect()
            }
        };
        let domain_sha256 = domain_sha256(&inputs, answers.as_deref(), candidates.as_deref());
        if domain_sha256 != self.inputs.sha256 {
            let (claimed, found) = (self.inputs.sha256, domain_sha256);
            return Err(Rejected::Claim { claim: "sha256", claimed, found });
        }
        let (model_sha256, subject) = (model.sha256.clone(), String::new());
        let case =
            Case { kept, fill, has_constants, inputs, answers, candidates, domain_sha256, model_sha256, subject };
        case.check_tokens(model)?;
        distinct(&case.inputs)?;
        let subject = case.words(model, &self.task, &self.inputs.file);
        Ok((Case { subject, ..case }, self.claim))
    }
}

/// SHA-256 of numbers, little-endian in 8 bytes each: of every product the number of its positions, and of every position the
/// number of its tokens and these; then of the answers 0, or 1 and these; then of the candidates 0, or 1 and these. Lists come
/// after their length.
fn domain_sha256(inputs: &[Vec<Vec<usize>>], answers: Option<&[usize]>, candidates: Option<&[[usize; 2]]>) -> String {
    let mut hash = Sha256::new();
    let mut push = |n: usize| hash.update((n as u64).to_le_bytes());
    push(inputs.len());
    for product in inputs {
        push(product.len());
        for tokens in product {
            push(tokens.len());
            tokens.iter().for_each(|&t| push(t));
        }
    }
    for list in [answers.map(<[_]>::to_vec), candidates.map(<[_]>::concat)] {
        push(usize::from(list.is_some()));
        list.into_iter().for_each(|list| {
            push(list.len());
            list.into_iter().for_each(&mut push);
        });
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A part of the certificate that makes no sense.
pub fn malformed(part: &'static str, reason: String) -> Rejected {
    Rejected::Malformed { part, reason }
}

/// Products must not share prompts, nor may a prompt be listed twice: some would count twice.
fn distinct(products: &[Vec<Vec<usize>>]) -> Result<(), Rejected> {
    let twice = |tokens: &Vec<usize>| tokens.iter().enumerate().any(|(i, t)| tokens[..i].contains(t));
    if products.iter().flatten().any(twice) {
        return Err(malformed("inputs", "a token is listed twice at a position".into()));
    }
    let single = |product: &Vec<Vec<usize>>| product.iter().all(|tokens| tokens.len() == 1);
    let mut prompts: Vec<(&Vec<Vec<usize>>, usize)> =
        products.iter().enumerate().filter(|(_, p)| single(p)).map(|(i, p)| (p, i)).collect();
    prompts.sort();
    if let Some(pair) = prompts.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(malformed("inputs", format!("prompt {} is prompt {} again", pair[1].1, pair[0].1)));
    }
    let meets = |a: &Vec<Vec<usize>>, b: &Vec<Vec<usize>>| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.iter().any(|t| b.contains(t)))
    };
    let wide: Vec<usize> = (0..products.len()).filter(|&i| !single(&products[i])).collect();
    if wide.len().saturating_mul(products.len()) > MOST_INPUTS {
        return Err(malformed("inputs", format!("{} products are more than can be compared", wide.len())));
    }
    for &i in &wide {
        if let Some(j) = (0..products.len()).find(|&j| j != i && meets(&products[i], &products[j])) {
            return Err(malformed("inputs", format!("product {i} shares prompts with product {j}")));
        }
    }
    Ok(())
}

impl Case {
    fn check_tokens(&self, model: &Model) -> Result<(), Rejected> {
        let empty = |product: &Vec<Vec<usize>>| product.is_empty() || product.iter().any(Vec::is_empty);
        if self.inputs.is_empty() || self.inputs.iter().any(empty) {
            return Err(malformed("inputs", "there are none, or a position has no token".into()));
        }
        if let Some(long) = self.inputs.iter().find(|p| p.len() > model.n_ctx) {
            return Err(malformed("inputs", format!("{} tokens, the model takes {}", long.len(), model.n_ctx)));
        }
        let n = self.inputs.iter().try_fold(0_usize, |n, input| n.checked_add(Self::size(input)?));
        if n.is_none_or(|n| n > MOST_INPUTS) {
            return Err(malformed("inputs", format!("there are more than {MOST_INPUTS}, the most that are checked")));
        }
        let tokens = self.inputs.iter().flatten().flatten().chain(self.answers.iter().flatten());
        let mut tokens = tokens.chain(self.candidates.iter().flatten().flatten());
        if let Some(token) = tokens.find(|&&t| t >= model.vocab) {
            return Err(malformed("inputs", format!("token {token} is outside the vocabulary of {}", model.vocab)));
        }
        let lengths = [self.answers.as_ref().map(Vec::len), self.candidates.as_ref().map(Vec::len)];
        if let Some(n) = lengths.into_iter().flatten().find(|&n| n != self.len()) {
            return Err(malformed("answers", format!("{n} answers or pairs of candidates, {} inputs", self.len())));
        }
        if self.candidates.iter().flatten().any(|[a, b]| a == b) {
            return Err(malformed("candidates", "the two of an input are one token".into()));
        }
        if let (Some(answers), Some(candidates)) = (&self.answers, &self.candidates)
            && answers.iter().zip(candidates).any(|(answer, pair)| !pair.contains(answer))
        {
            return Err(malformed("answers", "one is neither of its input's candidates".into()));
        }
        Ok(())
    }

    /// Subject of the statement: model, circuit, ablation values, task and inputs.
    fn words(&self, model: &Model, task: &str, file: &str) -> String {
        let (nodes, all) = (self.kept.iter().filter(|&&k| k).count(), self.kept.len());
        let which = match nodes {
            0 => "the empty circuit, which keeps no node".to_owned(),
            n if n == all => "the circuit of all nodes, which is the model itself".to_owned(),
            n => format!("the circuit of {n} of {all} nodes and {} edges", model.edges(&self.kept)),
        };
        let fills = match self.has_constants {
            true => format!("the constants {}", self.fills_sha256()),
            false => "zero".to_owned(),
        };
        let (answers, candidates) = (self.answers.is_some(), self.candidates.is_some());
        let judge = match (answers, candidates) {
            (true, true) => "the right one of two candidates after each",
            (true, false) => "the right answer after each",
            (false, true) => "two candidates after each and no right answers: the model judges",
            (false, false) => "no right answers: the model judges",
        };
        format!(
            "task {task:?}; {which} (SHA-256 {}) of model {}, ablated nodes at {fills}; {} distinct inputs of {file} \
             (SHA-256 {}), which declares {judge}",
            self.circuit_sha256(),
            self.model_sha256,
            self.len(),
            self.domain_sha256
        )
    }

    /// SHA-256 of a byte for every node, 1 where it is kept and 0 where not.
    fn circuit_sha256(&self) -> String {
        hex(&Sha256::digest(self.kept.iter().map(|&k| u8::from(k)).collect::<Vec<_>>()))
    }

    /// SHA-256 of the ablation values of the nodes that are not kept, in order, each an f32, little-endian.
    fn fills_sha256(&self) -> String {
        let ablated = self.fill.iter().zip(&self.kept).filter(|(_, kept)| !**kept);
        hex(&Sha256::digest(ablated.flat_map(|(&x, _)| (x as f32).to_le_bytes()).collect::<Vec<_>>()))
    }

    /// Key of the sampling of a statistical claim: SHA-256 of all that it is about, a line each. Numbers of samples and confidence
    /// are no part of it: they would be knobs to search a lucky sample with.
    pub fn key(&self, event: Event) -> [u8; 32] {
        let fills = if self.has_constants { self.fills_sha256() } else { "zero".into() };
        let text = format!(
            "openwork-certificate 2\nmodel {}\ncircuit {}\nfills {fills}\ninputs {}\nevent {}\n",
            self.model_sha256,
            self.circuit_sha256(),
            self.domain_sha256,
            event.name()
        );
        Sha256::digest(text.as_bytes()).into()
    }

    /// Fails if runs of a model, each over the longest input, take more work than a check may.
    pub fn demand_work(&self, model: &Model, runs: u64) -> Result<(), Rejected> {
        let longest = self.inputs.iter().map(Vec::len).max().unwrap_or(0) as u64;
        let work = u128::from(runs) * u128::from(longest) * u128::from(model.work());
        match work > u128::from(MOST_WORK) {
            true => Err(Rejected::TooMuch { work, most: MOST_WORK }),
            false => Ok(()),
        }
    }

    fn size(product: &[Vec<usize>]) -> Option<usize> {
        product.iter().try_fold(1_usize, |n, tokens| n.checked_mul(tokens.len()))
    }

    /// Number of inputs.
    pub fn len(&self) -> usize {
        self.inputs.iter().filter_map(|product| Self::size(product)).sum()
    }

    /// Input of a number: product after product, the last position fastest.
    pub fn input(&self, mut number: usize) -> Vec<usize> {
        for product in &self.inputs {
            let mut size = Self::size(product).expect("it was counted");
            if number >= size {
                number -= size;
                continue;
            }
            let digit = |tokens: &Vec<usize>| {
                size /= tokens.len();
                tokens[number / size % tokens.len()]
            };
            return product.iter().map(digit).collect();
        }
        panic!("an input beyond the last")
    }

    /// True if two numbers are the same up to the tolerance.
    pub fn close(&self, claimed: f64, found: f64) -> bool {
        (claimed - found).abs() <= TOLERANCE * (1.0 + found.abs())
    }
}

/// Lead below which a logit of these does not lead: what is smaller may be rounding.
pub fn tie(logits: &[f64]) -> f64 {
    TOLERANCE * (1.0 + logits.iter().fold(0.0_f64, |m, l| m.max(l.abs())))
}

/// Counts of what is so beyond any tie, and of what is so with the margin that a writer leaves.
#[derive(Default)]
pub struct Count {
    sure: u64,
    clear: u64,
}

impl Count {
    /// Adds a case: whether it is so, and the leads it hangs on, with the logits that they are among.
    pub fn add(&mut self, is_so: bool, leads: &[(f64, &[f64])]) {
        let beyond = |ties: f64| is_so && leads.iter().all(|(lead, logits)| *lead > ties * tie(logits));
        self.sure += u64::from(beyond(1.0));
        self.clear += u64::from(beyond(WRITERS_MARGIN));
    }

    /// Fails unless a claimed count is one that an honest writer can come to: no tie counts as being so.
    pub fn demand(&self, claim: &'static str, claimed: u64) -> Result<(), Rejected> {
        let Self { sure, clear } = *self;
        let ties = sure - clear;
        let found = if ties == 0 { sure.to_string() } else { format!("{clear}, and {ties} that are nearly ties") };
        demand((clear..=sure).contains(&claimed), claim, claimed, found)
    }
}

/// Index of the largest entry, the first of equal ones, and how far it is above the next.
pub fn argmax(x: &[f64]) -> (usize, f64) {
    let first = (0..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best });
    let next = (0..x.len()).filter(|&i| i != first).fold(f64::NEG_INFINITY, |m, i| m.max(x[i]));
    (first, x[first] - next)
}

/// Fails with the claim's name unless `holds`.
pub fn demand(
    holds: bool,
    claim: &'static str,
    claimed: impl std::fmt::Display,
    found: impl std::fmt::Display,
) -> Result<(), Rejected> {
    match holds {
        true => Ok(()),
        false => Err(Rejected::Claim { claim, claimed: claimed.to_string(), found: found.to_string() }),
    }
}
