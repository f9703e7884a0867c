"""Causal scrubbing as its authors wrote it: rust-circuit scrubs with the sources that we drew, and with its own.

The hypothesis is the one that every circuit makes, *nothing outside it matters*, as a correspondence of rust-circuit:
the root stands for the model on the prompt itself, and every path on which a node outside the circuit enters is a leaf
with inputs of its own. The expression below has each such node as a part with a name, so that matchers can tell paths.
"""

import functools
import importlib.metadata
import itertools
import math

import attrs
import rust_circuit as rc
import torch
from rust_circuit.causal_scrubbing.dataset import Dataset
from rust_circuit.causal_scrubbing.experiment import Experiment, ExperimentEvalSettings
from rust_circuit.causal_scrubbing.hypothesis import (
    Correspondence,
    ExactSampler,
    FixedOtherSampler,
    InterpNode,
    UncondSampler,
    corr_root_matcher,
)

from circuits import EPS, distance

# Reader, concatenation of its parts, part.
DEPTH = 3
# Runs of other prompts that the loss of knowing nothing is a mean of: each costs next to nothing.
RESAMPLED = 16
# Single precision, of losses of some nats.
ROUNDING = 1e-5
EVALUATION = ExperimentEvalSettings(device_dtype="cpu", optimize=False)


def version():
    return importlib.metadata.version("rust_circuit")


def array(value, name):
    # In double precision the distance is our rounding alone.
    return rc.Array(value.double(), name)


def inputs(case):
    """All prompts as rows of one length, aligned at the last token as our sources are. Before a prompt stands its first
    token over and over, which sees only itself: sources that are shorter repeat what they hold there."""
    longest = max(map(len, case.prompts))
    starts = torch.tensor([longest - len(p) for p in case.prompts])
    tokens = torch.tensor([p[:1] * (longest - len(p)) + p for p in case.prompts])
    places = torch.arange(longest)
    positions = (places - starts[:, None]).clamp(min=0)
    embedded = case.weights["transformer.wte.weight"][tokens] + case.weights["transformer.wpe.weight"][positions]
    to, of = places[:, None], places
    sees = (of <= to) & ((of >= starts[:, None, None]) | (of == to))
    mask = torch.zeros(sees.shape).masked_fill(~sees, -torch.inf)
    return Dataset({"embedded": array(embedded, "embedded"), "mask": array(mask, "mask")})


class Expression:
    """The model on one prompt: its logits after the last token."""

    def __init__(self, case):
        self.case, self.dataset, c, w = case, inputs(case), case.config, case.weights
        self.embedded, mask = (rc.Array(self.dataset.arrs[name].value[0], name) for name in ("embedded", "mask"))
        # Names of the nodes outside the circuit, by site; the sites whose writes a reader sums.
        self.out, self.readers = {}, {}
        writes = {}
        for layer in range(c["n_layer"]):
            here = f"transformer.h.{layer}"
            read = self.norm(self.stream(writes, f"{layer}.resid_in"), f"{here}.ln_1.weight")
            read = self.parts(read, f"{layer}.attn.act_in")
            qkv = zip("qkv", w[f"{here}.attn.c_attn.weight"].chunk(3), w[f"{here}.attn.c_attn.bias"].chunk(3))
            q, k, v = (self.parts(linear(read, weight, bias), f"{layer}.attn.{at}") for at, weight, bias in qkv)
            mix = rc.Concat(*[self.head(h, q, k, v, mask) for h in range(c["n_head"])], axis=1)
            self.write(writes, mix, f"{layer}.attn.resid_delta", f"{here}.attn.c_proj")
            read = self.norm(self.stream(writes, f"{layer}.resid_mid"), f"{here}.ln_2.weight")
            read = self.parts(read, f"{layer}.mlp.act_in")
            neurons = apply("relu", linear(read, w[f"{here}.mlp.c_fc.weight"], w[f"{here}.mlp.c_fc.bias"]))
            neurons = self.parts(neurons, f"{layer}.mlp.post_act")
            self.write(writes, neurons, f"{layer}.mlp.resid_delta", f"{here}.mlp.c_proj")
        final = self.norm(self.stream(writes, "final_resid"), "transformer.ln_f.weight")
        last = rc.Index(final, [slice(-1, None)])
        self.logits = linear(last, w["lm_head.weight"], w["final_logits_bias"])

    def parts(self, value, site):
        """A value of which every node outside the circuit is a part of its own."""
        pieces = []
        self.out[site] = []
        own_name = lambda i: None if self.case.kept[site][i] else f"{site} {i}"
        for name, run in itertools.groupby(range(value.shape[1]), own_name):
            indices = list(run)
            self.out[site] += [name] if name else []
            pieces.append(rc.Index(value, [slice(None), slice(indices[0], indices[-1] + 1)], name=name))
        return rc.Concat(*pieces, axis=1)

    def write(self, writes, x, site, weights):
        weight, bias = (self.case.weights[f"{weights}.{kind}"] for kind in ("weight", "bias"))
        writes[site] = self.parts(linear(x, weight, bias), site)

    def stream(self, writes, reader):
        """The residual stream as one place reads it."""
        self.readers[reader] = list(writes)
        return rc.Add(self.embedded, *writes.values(), name=reader)

    def norm(self, x, gain):
        if self.case.config.get("norm") == "none":
            return x
        size = array(torch.tensor(1 / self.case.config["d_model"]), "1 / width")
        mean = rc.Einsum.from_einsum_string("tc,tc,->t", x, x, size)
        scale = apply("rsqrt", rc.Add(mean, array(torch.tensor(EPS), "eps")))
        return rc.Einsum.from_einsum_string("tc,t,c->tc", x, scale, array(self.case.weights[gain], gain))

    def head(self, head, q, k, v, mask):
        width = self.case.config["d_head"]
        q, k, v = (rc.Index(x, [slice(None), slice(head * width, (head + 1) * width)]) for x in (q, k, v))
        root = array(torch.tensor(width**-0.5), "1 / root of width")
        scores = rc.Add(rc.Einsum.from_einsum_string("td,sd,->ts", q, k, root), mask)
        return rc.Einsum.from_einsum_string("ts,sd->td", apply("softmax", scores), v)

    def paths(self):
        """Every path on which a node outside the circuit enters, by the place that reads it (of writes only) and its
        name. What lies above is the circuit's."""
        out = {name for names in self.out.values() for name in names}
        written = {site for sites in self.readers.values() for site in sites}
        within = lambda name: corr_root_matcher.chain(rc.restrict(name, term_early_at=out - {name}))
        for reader, sites in self.readers.items():
            for name in itertools.chain(*(self.out[site] for site in sites)):
                yield (reader, name), within(reader).chain(rc.restrict(name, end_depth=DEPTH))
        for name in itertools.chain(*(names for site, names in self.out.items() if site not in written)):
            yield (None, name), within(name)

    def scrubbed(self, sampler, seed=0):
        """Logit differences of all prompts in one scrub, every path having the inputs of `sampler(reader, name)`."""
        root, corr = InterpNode(ExactSampler(), "root", other_inputs_sampler=ExactSampler()), Correspondence()
        corr.add(root, corr_root_matcher)
        for path, matcher in self.paths():
            # What only nodes outside the circuit read does not reach the output.
            if matcher.are_any_found(self.logits):
                corr.add(root.make_descendant(sampler(*path), " of ".join(map(str, path))), matcher)
        return self.evaluated(corr, seed)

    def evaluated(self, corr, seed=0):
        scrubbed = Experiment(self.logits, self.dataset, corr, random_seed=seed).scrub(self.dataset, treeify=False)
        # Below a leaf all parts of a value are of one run: joined again they cost nothing.
        whole = rc.Matcher(rc.Concat).update(scrubbed.circuit, lambda parts: rc.concat_elim_split(parts) or parts)
        logits = attrs.evolve(scrubbed, circuit=whole).evaluate(EVALUATION)[:, 0]
        # They keep every tensor alive: gigabytes after some scrubs.
        rc.clear_module_circuit_caches()
        first, second = (logits.gather(1, self.case.candidates[:, [side]])[:, 0] for side in (0, 1))
        return first - second

    def resampled(self, seed):
        """The hypothesis that nothing matters at all: what the model says of another prompt."""
        corr = Correspondence()
        corr.add(InterpNode(UncondSampler(), "root"), corr_root_matcher)
        return self.evaluated(corr, seed)


def linear(x, weight, bias):
    return rc.Add(rc.Einsum.from_einsum_string("tc,oc->to", x, array(weight, "weight")), array(bias, "bias"))


def apply(function, x):
    return rc.GeneralFunction.new_by_name(x, spec_name=function)


def distance_of_scrubs(case):
    """How far the logit differences of scrubs are from ours, with the sources that we drew."""
    model, found = Expression(case), []
    for scrub in case.scrubs:
        sources = {(reader, f"{site} {index}"): drawn for reader, site, index, drawn in scrub["sources"]}
        # Every path has a source of ours, and every source of ours a path.
        assert sources.keys() == {path for path, _ in model.paths()}, "our paths and those of the expression differ"
        given = lambda *path: FixedOtherSampler(model.dataset[torch.tensor(sources[path])])
        found += model.scrubbed(given).tolist()
    return distance([d for scrub in case.scrubs for d in scrub["differences"]], found)


@functools.lru_cache(maxsize=1)
def losses(case):
    """Task losses of every prompt: of the circuit, in as many scrubs as we ran, with sources that rust-circuit draws; of
    the model; and of the hypothesis that nothing matters."""
    model, seeds = Expression(case), range(len(case.scrubs))
    scrubbed = [model.scrubbed(lambda *_: UncondSampler(), seed) for seed in seeds]
    nothing = [model.resampled(seed) for seed in range(RESAMPLED)]
    return [mean_loss(case, runs) for runs in (scrubbed, [model.scrubbed(lambda *_: ExactSampler())], nothing)]


def mean_loss(case, runs):
    """−log p(right | two candidates) of every prompt, its mean over runs."""
    return torch.nn.functional.softplus(-torch.stack(runs) * case.sign).mean(0)


def measure(case, key):
    """The number that `key` names; of scores the larger is the worse."""
    if key == "parity expression":
        return distance(case.ours["model"], Expression(case).scrubbed(lambda *_: ExactSampler()))
    if key == "parity scrubbed":
        return distance_of_scrubs(case)
    scrubbed, whole, nothing = losses(case)
    if key == "loss":
        known = float(nothing.mean() - whole.mean())
        # A model that knows nothing has nothing to recover.
        return float(scrubbed.mean() - whole.mean()) / known if known > 0 else math.nan
    if key == "expectation":
        apart = scrubbed - mean_loss(case, [torch.tensor(s["differences"]) for s in case.scrubs])
        # Prompts have sources of their own, so that their differences are independent. Where scrubbing changes nothing
        # only rounding is left of them.
        if float(apart.abs().max()) <= ROUNDING:
            return 0.0
        return float(apart.mean().abs() / (apart.std() / math.sqrt(len(apart))))
    raise ValueError(f"rust-circuit has no number {key!r}")
