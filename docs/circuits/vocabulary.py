#!/usr/bin/env python3
"""Query, key and value of the `with_as` circuit for every token of the vocabulary, in the model that comes with the program.

    python3 docs/circuits/vocabulary.py models/quickstart-localised

Block 0 reads the current token alone (no positions), so these tables are complete: they hold for every prompt. A token draws
attention from `")` when query times key over 4 exceeds the sink's logit; it moves the answer when its value is not 0 as well.
"""

import json
import sys

import numpy as np

from predict import Watched

model = Watched(f"{sys.argv[1]}/model.safetensors")
vocabulary = json.load(open(f"{sys.argv[1]}/tokenizer.json"))["model"]["vocab"]
names = ["0.attn.q[21]", "0.attn.k[21]", "0.attn.v[25]"]
table = np.zeros((len(vocabulary), 3))
for token in vocabulary.values():
    model.seen = []
    model.logits(np.array([token]))
    table[token] = np.hstack(model.seen)[-1][[model.number(name) for name in names]]
text = {i: t for t, i in vocabulary.items()}
sink = float(model.get("transformer.h.0.attn.attn_imp.sink_logit")[1])
query = table[vocabulary['")'], 0]
print(f'sink {sink:.2f}, query of ") {query:.2f}, second largest query of another kind {np.sort(table[:, 0])[-3]:.2f}')
print("token       query    key  value   score above the sink")
for token in np.argsort(-table[:, 1])[:20]:
    q, k, v = table[token]
    print(f"{text[token]:10} {q:6.2f} {k:6.2f} {v:6.2f}   {query * k / 4 - sink:+.2f}")
above = query * table[:, 1] / 4 > sink
print(f"{above.sum()} of {len(table)} tokens score above the sink; of these with a value above 2:", [text[t] for t in np.flatnonzero(above & (table[:, 2] > 2))])
