#!/usr/bin/env python3
"""Recomputes the figures of a verdict from files alone, in float64, with NumPy and nothing of Openwork.

    python3 docs/recompute.py RUN CIRCUIT

RUN is the folder of a run (model.safetensors, means.safetensors), CIRCUIT a circuit file beside whose NAME.verdict.json lies
NAME.pairs.json. Task loss, accuracy, agreement with the model, KL and top token are computed on the held-out pairs, of the model,
of the circuit under mean and zero ablation, of nothing kept and of all but the circuit, and compared with the verdict's table
of runs. Exit code 0 if they agree to 1e-3, 1 if they do not.

Circuits that leave out edges run in the model without those weights; so they do here.
"""

import hashlib
import json
import math
import struct
import sys

import numpy as np

KINDS = ["attn.act_in", "attn.q", "attn.k", "attn.v", "attn.resid_delta", "mlp.act_in", "mlp.post_act", "mlp.resid_delta"]
DENSITY_NAMES = ["attn_in", "attn_q", "attn_k", "attn_v", "attn_out", "mlp_in", "mlp_neuron", "mlp_out"]
DTYPES = {"F32": "<f4", "F16": "<f2", "I64": "<i8", "U16": "<u2"}
TIE = 1e-3  # log odds nearer to zero are a tie and count half


def safetensors(path):
    """Metadata and arrays of a file."""
    data = open(path, "rb").read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    arrays = {}
    for name, info in header.items():
        start, end = (8 + length + offset for offset in info["data_offsets"])
        arrays[name] = np.frombuffer(data[start:end], DTYPES[info["dtype"]]).reshape(info["shape"])
    return metadata, arrays


class Model:
    def __init__(self, path):
        metadata, self.arrays = safetensors(path)
        c = self.config = json.loads(metadata["config"])
        self.d = c.get("d_model") or c["n_embd"]
        self.layers, self.heads = c["n_layer"], c["n_head"]
        self.d_head = c.get("d_head") or self.d // self.heads
        self.attn = self.heads * self.d_head
        self.mlp = c.get("d_mlp") or c.get("n_mlp") or 4 * self.d
        self.beside = c.get("d_pos_emb") or 0
        read = self.d + self.beside
        self.widths = [read, self.attn, self.attn, self.attn, self.d, read, self.mlp, self.d]
        self.nodes = self.layers * sum(self.widths)
        self.eps = float(np.finfo(np.float32).eps) if c.get("rms_norm") else 1e-5
        self.weights = {}

    def first(self, layer, kind):
        return layer * sum(self.widths) + sum(self.widths[:kind])

    def has(self, name):
        return name in self.arrays or name + ".csr.shape" in self.arrays

    def get(self, name):
        if name not in self.weights:
            if name in self.arrays:
                self.weights[name] = self.arrays[name].astype(np.float64)
            else:
                part = lambda end: self.arrays[f"{name}.csr.{end}"]
                rows, cols = (int(x) for x in part("shape"))
                matrix = np.zeros((rows, cols))
                row = np.repeat(np.arange(rows), np.diff(part("row_ptr").astype(np.int64)))
                matrix[row, part("col_idx").astype(np.int64)] = part("values")
                self.weights[name] = matrix
        return self.weights[name]

    def norm(self, name, x):
        if self.config.get("norm") == "none":
            return self.get(name + ".weight") * x
        if not self.config.get("rms_norm"):
            x = x - x.mean(-1, keepdims=True)
        y = self.get(name + ".weight") * x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps)
        return y + self.get(name + ".bias") if self.has(name + ".bias") else y

    def linear(self, name, x):
        y = x @ self.get(name + ".weight").T
        return y + self.get(name + ".bias") if self.has(name + ".bias") else y

    def top_k(self, kind, x):
        fraction, sites = self.config.get("afrac"), self.config.get("afrac_loctypes")
        if fraction is None or fraction >= 1:
            return x
        sites = "attn_in,attn_out,mlp_in,mlp_out" if sites is None else sites
        if DENSITY_NAMES[kind] not in [site.strip() for site in sites.split(",")]:
            return x
        k, out = int(fraction * x.shape[-1]), np.zeros_like(x)
        for t in range(x.shape[0]):
            kept = np.argsort(-np.abs(x[t]), kind="stable")[:k]
            out[t, kept] = x[t, kept]
        return out

    def logits(self, tokens, keep=None, value=None):
        """Logits at the last token; nodes that are not kept have a constant value."""

        def site(layer, kind, x):
            x = self.top_k(kind, x)
            if keep is None:
                return x
            at = slice(self.first(layer, kind), self.first(layer, kind) + self.widths[kind])
            return np.where(keep[at], x, value[at])

        n = len(tokens)
        x = self.get("transformer.wte.weight")[tokens].copy()
        beside = np.zeros((n, 0))
        if self.has("transformer.wpe.weight"):
            positions = self.get("transformer.wpe.weight")[:n]
            if self.beside:
                beside = positions
            else:
                x += positions
        causal = np.tril(np.ones((n, n), bool))
        for layer in range(self.layers):
            at = f"transformer.h.{layer}."

            def read(norm, norm_of_positions):
                h = self.norm(at + norm, x)
                return np.hstack([h, self.norm(at + norm_of_positions, beside)]) if self.beside else h

            h = site(layer, 0, read("ln_1", "ln_p1"))
            qkv = self.linear(at + "attn.c_attn", h)
            q, k, v = (site(layer, 1 + i, qkv[:, i * self.attn : (i + 1) * self.attn]) for i in range(3))
            mixed = np.zeros((n, self.attn))
            for head in range(self.heads):
                rows = slice(head * self.d_head, (head + 1) * self.d_head)
                scores = np.where(causal, q[:, rows] @ k[:, rows].T / math.sqrt(self.d_head), -np.inf)
                sink = -np.inf
                if self.has(at + "attn.attn_imp.sink_logit"):
                    sink = self.get(at + "attn.attn_imp.sink_logit")[head]
                largest = np.maximum(scores.max(1), sink)[:, None]
                weights = np.exp(scores - largest)
                mixed[:, rows] = weights / (weights.sum(1, keepdims=True) + np.exp(sink - largest)) @ v[:, rows]
            x = x + site(layer, 4, self.linear(at + "attn.c_proj", mixed))
            h = site(layer, 5, read("ln_2", "ln_p2"))
            z = self.linear(at + "mlp.c_fc", h)
            relu = self.config.get("activation_type") == "relu"
            a = np.maximum(z, 0) if relu else z * 0.5 * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))
            x = x + site(layer, 7, self.linear(at + "mlp.c_proj", site(layer, 6, a)))
        table = "transformer.wte.weight" if self.config.get("tied_unembed") else "lm_head.weight"
        out = self.get(table) @ self.norm("transformer.ln_f", x[-1:])[0]
        if self.has("final_logits_bias"):
            out = out + self.get("final_logits_bias")
        if self.config.get("enable_bigram_table"):
            out = out + self.get("bigram_table")[tokens[-1]]
        return out

    def number(self, name):
        """Number of the node of a name such as 2.mlp.post_act[118]."""
        site, index = name.rstrip("]").split("[")
        layer, kind = site.split(".", 1)
        return self.first(int(layer), KINDS.index(kind)) + int(index)

    def without(self, circuit, keep):
        """The model without the weights between kept nodes that the circuit leaves out."""
        if circuit.get("edges") is None:
            return self
        own = {(self.number(e["from"]), self.number(e["to"])) for e in circuit["edges"]}
        matrices = [("attn.c_attn", 0, 1), ("attn.c_proj", 3, 4), ("mlp.c_fc", 5, 6), ("mlp.c_proj", 6, 7)]
        masked = Model.__new__(Model)
        masked.__dict__.update(self.__dict__, weights=dict(self.weights))
        for layer in range(self.layers):
            for name, source, target in matrices:
                weight = self.get(f"transformer.h.{layer}.{name}.weight").copy()
                for row, column in zip(*np.nonzero(weight)):
                    start, end = self.first(layer, source) + column, self.first(layer, target) + row
                    if keep[start] and keep[end] and (start, end) not in own:
                        weight[row, column] = 0
                masked.weights[f"transformer.h.{layer}.{name}.weight"] = weight
        return masked


def credit(d):
    return np.where(np.abs(d) < TIE, 0.5, (d > 0).astype(float))


def main(run, circuit_path):
    stem = circuit_path.removesuffix(".json")
    circuit, verdict = json.load(open(circuit_path)), json.load(open(stem + ".verdict.json"))
    raw = open(stem + ".pairs.json", "rb").read()
    if hashlib.sha256(raw).hexdigest() != verdict["pairs_sha256"]:
        sys.exit("the pairs are not those of the verdict: their SHA-256 differs")
    pairs = json.loads(raw)["held_out"]
    model = Model(f"{run}/model.safetensors")
    means = safetensors(f"{run}/means.safetensors")[1]["means"].astype(np.float64)
    keep = np.zeros(model.nodes, bool)
    for site, indices in circuit["nodes"].items():
        keep[[model.number(f"{site}[{i}]") for i in indices]] = True
    masked, zeros = model.without(circuit, keep), np.zeros_like(means)
    runs = {
        ("model", None): (model, None, None),
        ("circuit", "mean"): (masked, keep, means),
        ("circuit", "zero"): (masked, keep, zeros),
        ("nothing", "mean"): (model, np.zeros_like(keep), means),
        ("all_but_circuit", "mean"): (model, ~keep, means),
    }
    cells = {
        (cell["kept"], (cell["ablation"] or {}).get("value")): cell
        for cell in verdict["report"]["matrix"]
        if cell["split"] == "held_out" and (cell["ablation"] or {}).get("norms", "free") == "free"
    }
    sides = [(pair[side], pair["answer"], pair["alternative"]) for pair in pairs for side in ("positive", "negative")]
    sign = np.where(np.arange(len(sides)) % 2 == 0, 1.0, -1.0)
    log_softmax = lambda z: z - z.max() - math.log(np.exp(z - z.max()).sum())
    context, reference, worst = model.config["block_size"], None, 0.0
    for key, (network, kept, value) in runs.items():
        if key not in cells:
            continue
        logits = [network.logits(np.array(tokens[-context:]), kept, value) for tokens, _, _ in sides]
        d = np.array([z[answer] - z[alternative] for z, (_, answer, alternative) in zip(logits, sides)])
        log_probs = [log_softmax(z) for z in logits]
        reference = reference or (d, log_probs)
        cell = cells[key]
        calibrated = cell["calibration"]["scale"] * d + cell["calibration"]["shift"]
        kl = [float(np.sum(np.exp(p) * (p - q))) for p, q in zip(reference[1], log_probs)]
        own = {
            "loss": np.logaddexp(0, -sign * calibrated).mean(),
            "loss_uncalibrated": np.logaddexp(0, -sign * d).mean(),
            "accuracy": credit(sign * calibrated).mean(),
            "agreement": (1 - np.abs(credit(calibrated) - credit(reference[0]))).mean(),
            "kl": np.mean(kl),
            "agreement_vocabulary": np.mean([p.argmax() == q.argmax() for p, q in zip(reference[1], log_probs)]),
        }
        for what, ours in own.items():
            theirs = cell[what]["mean"]
            worst = max(worst, abs(ours - theirs) / max(1.0, abs(theirs)))
            print(f"{key[0]:16} {key[1] or '':5} {what:20} here {ours:10.6f}  verdict {theirs:10.6f}")
    print(f"largest difference {worst:.1e}: {'as the verdict says' if worst <= 1e-3 else 'NOT as the verdict says'}")
    return int(worst > 1e-3)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
