#!/usr/bin/env python3
"""Values of the nodes of the quickstart's circuit for `with_as`, in the model and in the circuit alone. See tutorial.md.

    python3 docs/nodes.py [TOKEN..]

TOKEN are token ids of a prompt. Without them, ranges over the held-out pairs of the circuit's verdict are printed.
"""

import json
import math
import sys

import numpy as np

from recompute import Model, safetensors

run, out = "runs/quickstart/run", "runs/quickstart/run/circuits/with_as"
circuit, pairs = json.load(open(out + ".json")), json.load(open(out + ".pairs.json"))["held_out"]
nodes = [f"{site}[{i}]" for site, indices in circuit["nodes"].items() for i in indices]


class Watched(Model):
    keep = None  # all nodes; else the kept ones, the others at their means

    def top_k(self, kind, x):
        layer = len(self.seen) // 8
        x, at = super().top_k(kind, x), self.first(layer, kind)
        if self.keep is not None:
            x = np.where(self.keep[at : at + self.widths[kind]], x, self.means[at : at + self.widths[kind]])
        self.seen.append(x)
        return x

    def run(self, tokens):
        """Logit of " as" above " if", value of every node at every token, attention of head 1 of the last token."""
        self.seen = []
        z = self.logits(np.array(tokens))
        values = np.hstack(self.seen)
        q, k = (x[:, 16:32] for x in self.seen[1:3])
        e = np.exp(q[-1] @ k.T / 4)
        sink = math.exp(self.get("transformer.h.0.attn.attn_imp.sink_logit")[1])
        return z[582] - z[310], values, e / (e.sum() + sink)


model, alone = Watched(run + "/model.safetensors"), Watched(run + "/model.safetensors")
alone.keep, alone.means = np.zeros(model.nodes, bool), safetensors(run + "/means.safetensors")[1]["means"]
alone.keep[[model.number(n) for n in nodes]] = True
written = model.number("0.attn.resid_delta[66]")
if sys.argv[1:]:  # token ids
    for m in (model, alone):
        lead, values, attention = m.run([int(i) for i in sys.argv[1:]])
        print("model" if m is model else "circuit", f"lead {lead:+.2f}  attention", *np.round(attention, 3))
        for n in nodes:
            print(f"  {n:24}", *(f"{x:6.2f}" for x in values[:, m.number(n)]))
else:
    for side in ("positive", "negative"):
        rows = []
        for pair in pairs:
            (lead, values, attention), (lead_alone, values_alone, _) = model.run(pair[side]), alone.run(pair[side])
            at = max(i for i, t in enumerate(pair[side]) if t == 543) - (1 if side == "positive" else 2)
            rows.append([lead, lead_alone, attention[at], values[-1, written], values_alone[-1, written]])
        names = ["lead", "lead, circuit", "attention to cue", "0.attn.resid_delta[66]", "the same, circuit"]
        for name, x in zip(names, zip(*rows)):
            print(f"{side} {name:22} {min(x):7.3f} to {max(x):7.3f}, median {np.median(x):7.3f}, n {len(x)}")
