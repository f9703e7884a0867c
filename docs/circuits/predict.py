#!/usr/bin/env python3
"""Answers of a model and of its circuit alone on the held-out pairs of a verdict, after a change of the prompts.

    python3 docs/circuits/predict.py MODEL CIRCUIT [--first IDS] [--before-last-line IDS] [--nodes]

MODEL is a folder with model.safetensors and means.safetensors, CIRCUIT a circuit file beside whose verdict lies NAME.pairs.json.
IDS are token ids with commas between them (`openwork tokenize`): put first, or before the last line. Prints for either side of the pairs
the share of right answers and the lead (logit of the positive side's answer above the other; of the circuit calibrated), with 95 %
intervals of Clopper and Pearson; the share of prompts on which model and circuit agree, as it is and after the common shift of the circuit's leads that suits best (the claim
of a contrast); with --nodes the median of every node at the
last token, in the model.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from recompute import Model, safetensors


def beta_quantile(p, a, b):
    """Quantile of the beta distribution with whole a and b, by bisection on the binomial tail."""
    n = a + b - 1
    tail = lambda x: sum(math.comb(n, k) * x**k * (1 - x) ** (n - k) for k in range(a, n + 1))
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) < p else (low, middle)
    return low


def share(right):
    k, n = int(right.sum()), len(right)
    low = 0.0 if k == 0 else beta_quantile(0.025, k, n - k + 1)
    high = 1.0 if k == n else beta_quantile(0.975, k + 1, n - k)
    return f"{k} of {n} = {k / n:.3f} [{low:.3f}, {high:.3f}]"


class Watched(Model):
    def top_k(self, kind, x):
        x = super().top_k(kind, x)
        self.seen.append(x)
        return x


def changed(tokens, args, newlines):
    tokens = list(tokens)
    at = max((i + 1 for i, t in enumerate(tokens) if t in newlines), default=0)
    tokens = tokens[:at] + args.before_last_line + tokens[at:]
    return args.first + tokens


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ids = lambda text: [int(i) for i in text.split(",")]
    parser.add_argument("model")
    parser.add_argument("circuit")
    parser.add_argument("--first", type=ids, default=[])
    parser.add_argument("--before-last-line", type=ids, default=[])
    parser.add_argument("--nodes", action="store_true")
    args = parser.parse_args()
    circuit = json.load(open(args.circuit))
    pairs = json.load(open(args.circuit.removesuffix(".json") + ".pairs.json"))["held_out"]
    vocabulary = json.load(open(f"{args.model}/tokenizer.json"))["model"]["vocab"]
    newlines = {i for text, i in vocabulary.items() if "\u010a" in text}  # byte-level BPE writes a line feed so
    model = Watched(f"{args.model}/model.safetensors")
    means = safetensors(f"{args.model}/means.safetensors")[1]["means"].astype(np.float64)
    names = [f"{site}[{i}]" for site, indices in circuit["nodes"].items() for i in indices]
    keep = np.zeros(model.nodes, bool)
    keep[[model.number(name) for name in names]] = True
    alone = model.without(circuit, keep)
    scale, shift = circuit["calibration"]["scale"], circuit["calibration"]["shift"]
    all_leads, all_alone = [], []
    for side, sign in (("positive", 1), ("negative", -1)):
        leads, leads_alone, values = [], [], []
        for pair in pairs:
            tokens = changed(pair[side], args, newlines)
            if len(tokens) > model.config["block_size"]:
                sys.exit(f"{len(tokens)} tokens are more than the context of {model.config['block_size']}")
            model.seen = alone.seen = []
            z = model.logits(np.array(tokens))
            values.append(np.hstack(model.seen)[-1])
            leads.append(z[pair["answer"]] - z[pair["alternative"]])
            model.seen = alone.seen = []
            z = alone.logits(np.array(tokens), keep, means)
            leads_alone.append(scale * (z[pair["answer"]] - z[pair["alternative"]]) + shift)
        leads, leads_alone = np.array(leads), np.array(leads_alone)
        all_leads.append(leads)
        all_alone.append(leads_alone)
        for what, x in (("model", leads), ("circuit alone", leads_alone)):
            low, middle, high = np.quantile(x, [0.1, 0.5, 0.9])
            print(f"{side:8} {what:13} right {share(sign * x > 0):34} lead {low:+.2f} {middle:+.2f} {high:+.2f} (10, 50, 90 %)")
        if args.nodes:
            for name in names:
                low, middle, high = np.quantile([v[model.number(name)] for v in values], [0.1, 0.5, 0.9])
                print(f"           {name:24} {low:+8.3f} {middle:+8.3f} {high:+8.3f}")
    answers, alone = np.concatenate(all_leads) > 0, np.concatenate(all_alone)
    ends = np.sort(alone)
    shifts = [0.0, *(-(ends[1:] + ends[:-1]) / 2), 1 - ends[0], -1 - ends[-1]]
    best = max(shifts, key=lambda shift: ((alone + shift > 0) == answers).sum())
    print(f"model and circuit agree on {share(answers == (alone > 0))}; after a shift of {best:+.2f} on {share(answers == (alone + best > 0))}")


if __name__ == "__main__":
    main()
