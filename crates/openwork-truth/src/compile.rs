//! The programs in the language of the [`Builder`].

use openwork_circuit::NodeSet;
use openwork_model::Model;

use crate::{
    Built, Input, Options, Program,
    builder::{Builder, Variable},
    program::BOS,
};

/// A program as a model.
#[derive(Clone)]
pub struct Compiled {
    /// The program.
    pub program: Program,
    /// Its weights.
    pub model: Model,
    /// Id of every token by logical number.
    pub ids: Vec<u16>,
    /// Tokens by id.
    pub vocabulary: Vec<String>,
    /// The program's nodes: those that are true on all inputs under zero or under mean ablation (a test holds it to
    /// [`Truth`](crate::Truth)).
    pub circuit: NodeSet,
}

/// A prompt and the right next token, by id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prompt {
    /// The prompt.
    pub tokens: Vec<u16>,
    /// The token that should follow.
    pub answer: u16,
}

impl Compiled {
    /// The model of a program.
    pub fn new(program: Program, options: &Options) -> Self {
        Self::of(program, program.write(), options)
    }

    /// The model of a program that knows a second word for every symbol; [`Compiled::in_other_words`] uses them.
    pub fn with_synonyms(program: Program, options: &Options) -> Self {
        let mut builder = program.write();
        builder.synonyms(1..1 + program.symbols().len());
        Self::of(program, builder, options)
    }

    fn of(program: Program, builder: Builder, options: &Options) -> Self {
        let built = builder.build(options);
        let circuit = builder.nodes(&built, &builder.parts());
        let Built { model, ids, .. } = built;
        let mut vocabulary = vec![String::new(); ids.len()];
        let synonyms = program.symbols().iter().map(|s| format!("{s}'"));
        for (name, &id) in program.vocabulary().into_iter().chain(synonyms).zip(&ids) {
            vocabulary[usize::from(id)] = name;
        }
        Self { program, model, ids, vocabulary, circuit }
    }

    /// An input as the model reads it.
    pub fn prompt(&self, input: &Input) -> Prompt {
        let tokens = self.program.prompt(input).into_iter().map(|t| self.ids[t]).collect();
        Prompt { tokens, answer: self.ids[self.program.interpret(input)] }
    }

    /// The prompt with the second word for every symbol.
    ///
    /// # Panics
    /// When the model knows none.
    pub fn in_other_words(&self, prompt: &Prompt) -> Prompt {
        let (symbols, first) = (1..1 + self.program.symbols().len(), self.program.vocabulary().len());
        let word = |id: &u16| match symbols.clone().position(|s| self.ids[s] == *id) {
            Some(symbol) => self.ids[first + symbol],
            None => *id,
        };
        Prompt { tokens: prompt.tokens.iter().map(word).collect(), answer: prompt.answer }
    }

    /// All prompts of the given lengths of x.
    pub fn prompts(&self, lengths: std::ops::RangeInclusive<usize>) -> Vec<Prompt> {
        self.program.inputs(lengths).iter().map(|input| self.prompt(input)).collect()
    }

    /// All prompts that the model is built for.
    pub fn domain(&self) -> Vec<Prompt> {
        self.prompts(self.program.n_min()..=self.program.n_max())
    }

    /// The token before every prompt.
    pub fn bos(&self) -> u16 {
        self.ids[BOS]
    }
}

/// Classes that most programs read: symbols by class, the class after them being BOS; and questions by class.
struct Inputs {
    symbols_and_start: Variable,
    symbols: Variable,
    start: Variable,
    questions: Variable,
}

impl Program {
    /// The program in the language of the builder.
    pub fn write(self) -> Builder {
        let mut b = Builder::new(self.vocabulary().len(), self.n_ctx());
        match self {
            Self::Reverse => self.reverse(&mut b),
            Self::Sort => self.sort(&mut b),
            Self::Histogram => self.histogram(&mut b),
            Self::FractionPrevious => self.fraction_previous(&mut b),
            Self::Dyck1 | Self::Dyck2 | Self::Dyck3 => self.dyck(&mut b),
            Self::Palindrome => self.palindrome(&mut b),
            Self::Induction => self.induction(&mut b),
            Self::MostFrequent => self.most_frequent(&mut b),
            Self::QuoteClosing => self.quote_closing(&mut b),
        }
        b
    }

    fn symbols_of(self, b: &mut Builder) -> Variable {
        let n = self.symbols().len();
        b.tokens(n, |t| (1..=n).contains(&t).then(|| t - 1))
    }

    fn questions_of(self, b: &mut Builder) -> Variable {
        let (n, first) = (self.n_questions(), self.first_question());
        b.tokens(n, |t| (first..first + n).contains(&t).then(|| t - first))
    }

    fn inputs_of(self, b: &mut Builder) -> Inputs {
        let n = self.symbols().len();
        let symbols_and_start = b.tokens(n + 1, |t| if t == BOS { Some(n) } else { (t <= n).then(|| t - 1) });
        let (symbols, start) = (symbols_and_start.classes(0..n), symbols_and_start.classes(n..n + 1));
        Inputs { symbols, start, symbols_and_start, questions: self.questions_of(b) }
    }

    /// Symbols are answered by their own tokens.
    fn answer_symbols(self, b: &mut Builder, symbols: &Variable) {
        (0..symbols.size()).for_each(|s| b.output(1 + s, symbols.channel(s)));
    }

    /// `answers[i]` is answered by the i-th answer token.
    fn answer(self, b: &mut Builder, answers: &Variable) {
        (0..answers.size()).for_each(|a| b.output(self.first_answer() + a, answers.channel(a)));
    }

    /// Positions: this place − 1 − question; and the value there.
    fn reverse(self, b: &mut Builder) {
        let (symbols, questions, places) = (self.symbols_of(b), self.questions_of(b), b.positions());
        let target = b.variable(self.n_max() + 1);
        for here in 2..self.n_ctx() {
            for question in 0..here - 1 {
                let to = (target.channel(here - 1 - question), 1.0);
                b.both(places.channel(here), questions.channel(question), &[to]);
            }
        }
        let found = b.aggregate(&target, &places, |q, k| q == k && q > 0, &symbols);
        self.answer_symbols(b, &found);
    }

    /// By counting: the i-th smallest is the first symbol s for which at least i elements are at most s.
    fn sort(self, b: &mut Builder) {
        let Inputs { symbols_and_start, symbols, start, questions } = self.inputs_of(b);
        let n = symbols.size();
        let asked = b.tokens(1, |t| (t >= self.first_question()).then_some(0));
        let widths: Vec<Variable> =
            (0..n - 1).map(|s| b.selector_width(&asked, &symbols_and_start, |_, k| k <= s || k == n, &start)).collect();
        let answer = b.variable(n);
        for (s, width) in widths.iter().enumerate() {
            for question in 0..self.n_max() {
                // Enough are question + 1, whose width is 1/(question + 2); one fewer has 1/(question + 1).
                let (few, enough) = (1.0 / (question as f32 + 1.0), 1.0 / (question as f32 + 2.0));
                let step = (-(few + enough) / 2.0, (few - enough) / 2.0);
                let writes = [(answer.channel(s), 1.0), (answer.channel(s + 1), -1.0)];
                b.step(&[(width.channel(0), -1.0)], step, Some(questions.channel(question)), &writes);
            }
        }
        // At least i are at most the last symbol.
        b.any(&[asked.channel(0)], &[(answer.channel(n - 1), 1.0)]);
        self.answer_symbols(b, &answer);
    }

    /// Fetch the symbol asked for; count its like.
    fn histogram(self, b: &mut Builder) {
        let Inputs { symbols_and_start, symbols, start, questions } = self.inputs_of(b);
        let (places, n) = (b.positions(), symbols.size());
        let fetched = b.aggregate(&questions, &places, |q, k| k == q + 1, &symbols);
        let width = b.selector_width(&fetched, &symbols_and_start, |q, k| k == q || k == n, &start);
        let answer = b.variable(self.n_max());
        // Widths ascend as counts descend, from n_max to 1.
        let count = |i: usize| self.n_max() - i;
        let values: Vec<f32> = (0..self.n_max()).map(|i| 1.0 / (1 + count(i)) as f32).collect();
        b.classify(width.channel(0), &values, |i| answer.channel(count(i) - 1));
        self.answer(b, &answer);
    }

    /// The mean of "is a" over the places up to the one asked for.
    fn fraction_previous(self, b: &mut Builder) {
        let (questions, places) = (self.questions_of(b), b.positions());
        let is_a = b.tokens(1, |t| (t == 1).then_some(0));
        let fraction = b.aggregate(&questions, &places, |q, k| (1..=q + 1).contains(&k), &is_a);
        let values: Vec<f32> = self.fractions().iter().map(|&(k, i)| k as f32 / i as f32).collect();
        let answer = b.variable(values.len());
        b.classify(fraction.channel(0), &values, |i| answer.channel(i));
        self.answer(b, &answer);
    }

    /// At every place, whether more was closed than opened so far; at the question, whether that ever was, or all in all more
    /// was opened.
    fn dyck(self, b: &mut Builder) {
        let (questions, places) = (self.questions_of(b), b.positions());
        let kinds = self.symbols().len() / 2;
        let bracket = |t: usize, kind: usize| match t {
            t if t == 1 + 2 * kind => 1.0,
            t if t == 2 + 2 * kind => -1.0,
            // The question closes two: without this, looking at everything would do for the last question, because nothing
            // but brackets would count, and which places it looks at would not matter.
            t if t >= self.first_question() => -2.0,
            _ => 0.0,
        };
        let values = b.token_numbers(kinds, bracket);
        let balance = b.average(&values);
        let up_to = |q: usize, k: usize| (1..=q + 1).contains(&k);
        let total = b.aggregate(&questions, &places, up_to, &values);
        let negative = b.variable(1);
        // Means over at most n_ctx places: a difference of one bracket is at least that.
        let half = 0.5 / self.n_ctx() as f32;
        for kind in 0..kinds {
            b.step(&[(balance.channel(kind), -1.0)], (half, half), None, &[(negative.channel(0), 1.0)]);
        }
        // With one kind of bracket the first time is at an odd place.
        let looks = |q: usize, k: usize| up_to(q, k) && (kinds > 1 || k % 2 == 1);
        let ever = b.aggregate(&questions, &places, looks, &negative);
        let answer = b.variable(2);
        let no = [(answer.channel(0), 2.0)];
        b.step(&[(ever.channel(0), 1.0)], (half, half), None, &no);
        (0..kinds).for_each(|kind| b.step(&[(total.channel(kind), 1.0)], (half, half), None, &no));
        b.constant(answer.channel(1), 1.0);
        self.answer(b, &answer);
    }

    /// The i-th symbol from the front and from the back, for every i; whether any two differ. Each two that do are seen twice.
    fn palindrome(self, b: &mut Builder) {
        let (symbols, places) = (self.symbols_of(b), b.positions());
        let asked = b.tokens(1, |t| (t == self.first_question()).then_some(0));
        let wrong = b.variable(1);
        for i in 1..=self.n_max() {
            let front = b.aggregate(&asked, &places, |_, k| k == i, &symbols);
            let back = b.aggregate(&places, &places, |q, k| k > 0 && k + i == q, &symbols);
            for s in 0..symbols.size() {
                // Shut where there is no i-th symbol, because the question stands at its place or before.
                let shut = (0..=i).map(|place| (places.channel(place), -4.0));
                let reads: Vec<_> =
                    [(front.channel(s), 1.0), (back.channel(s), -1.0)].into_iter().chain(shut).collect();
                b.relu(&reads, 0.0, &[(wrong.channel(0), 1.0)]);
            }
        }
        let answer = b.variable(2);
        b.step(&[(wrong.channel(0), 1.0)], (0.5, 0.5), None, &[(answer.channel(0), 2.0)]);
        b.constant(answer.channel(1), 1.0);
        self.answer(b, &answer);
    }

    /// The symbol one place before, at every place; then what stands where that is the present symbol. Between the two, neurons
    /// drop symbols that are not there for certain: a blurred look back would still find the right place, so that it would
    /// take several ablated nodes to see that each matters.
    fn induction(self, b: &mut Builder) {
        let (symbols, places) = (self.symbols_of(b), b.positions());
        // Before the first symbol is none, and no input has what it looks for right before its end.
        let looks = |q: usize, k: usize| k + 1 == q && (2..self.n_max()).contains(&q);
        let previous = b.aggregate(&places, &places, looks, &symbols);
        let certain = b.variable(symbols.size());
        for s in 0..symbols.size() {
            b.relu(&[(previous.channel(s), 20.0)], -19.0, &[(certain.channel(s), 1.0)]);
        }
        let found = b.aggregate(&symbols, &certain, |q, k| q == k, &symbols);
        self.answer_symbols(b, &found);
    }

    /// Fractions of the symbols, compared two by two; a symbol's logit is the number of comparisons it wins.
    fn most_frequent(self, b: &mut Builder) {
        let symbols = self.symbols_of(b);
        let asked = b.tokens(1, |t| (t == self.first_question()).then_some(0));
        let fractions = b.aggregate(&asked, &symbols, |_, _| true, &symbols);
        let wins = b.variable(symbols.size());
        let half = 0.5 / self.n_max() as f32;
        for low in 0..symbols.size() {
            for high in low + 1..symbols.size() {
                let difference = [(fractions.channel(low), 1.0), (fractions.channel(high), -1.0)];
                b.constant(wins.channel(high), 1.0);
                b.step(&difference, (-half, half), None, &[(wins.channel(low), 1.0), (wins.channel(high), -1.0)]);
            }
        }
        self.answer_symbols(b, &wins);
    }

    /// A neuron finds quotation marks, a head fetches which one it was (as in the circuit of Gao et al. 2025, §3.1).
    fn quote_closing(self, b: &mut Builder) {
        let quotes = b.tokens(2, |t| (1..=2).contains(&t).then(|| t - 1));
        let always = b.tokens(1, |_| Some(0));
        let is_quote = b.variable(1);
        b.any(&[quotes.channel(0), quotes.channel(1)], &[(is_quote.channel(0), 1.0)]);
        let found = b.aggregate(&always, &is_quote, |_, _| true, &quotes);
        self.answer_symbols(b, &found);
    }
}
