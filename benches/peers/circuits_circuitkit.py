"""CircuitKit's scores of a circuit: its first two pillars, over edges between heads and MLPs."""

import importlib.metadata
import logging
import types

import torch

from circuitkit.backends.eap.graph import Graph
from circuitkit.evaluation.evaluate import evaluate_graph
from circuitkit.evaluation.pillars.ablation import Pillar2_Ablation
from circuitkit.evaluation.pillars.causal_patching import Pillar1_CausalPatching

from circuits import distance

logging.disable(logging.WARNING)


def version():
    return f"{importlib.metadata.version('circuitkit')} with transformer-lens " + importlib.metadata.version(
        "transformer-lens"
    )


def hooked(case):
    """The model, and a tokenizer for prompts written as numbers: CircuitKit wants strings."""
    model = case.model(use_attn_result=True, use_split_qkv_input=True, use_hook_mlp_in=True)
    # No token is padding: prompts of one length go together.
    words = lambda rows, **_: [" ".join(str(int(t)) for t in row) for row in rows]
    model.tokenizer = types.SimpleNamespace(pad_token_id=-1, padding_side="right", batch_decode=words)
    model.to_tokens = lambda texts, **_: torch.tensor([[int(t) for t in text.split()] for text in texts])
    return model


def data(case, prompts):
    """Batches of prompts of one length: the prompt, the corrupted one, and its number."""
    text = lambda i: " ".join(map(str, case.prompts[i]))
    lengths = sorted({len(case.prompts[i]) for i in prompts})
    groups = [[i for i in prompts if len(case.prompts[i]) == n] for n in lengths]
    return [([text(i) for i in g], [text(case.sources[i]) for i in g], g) for g in groups]


def graph(model, kept):
    """The edges of which `kept(source, destination, q k v or nothing)` is true, in the names of `Case.ends`."""
    found = Graph.from_model(model)

    def name(node):
        if node.name in ("input", "logits"):
            return {"input": "input", "logits": "output"}[node.name]
        return f"MLP {node.layer}" if node.name[0] == "m" else f"A{node.layer}.{node.head}"

    for edge in found.edges.values():
        edge.in_graph = kept(name(edge.parent), name(edge.child), edge.qkv)
    return found


def differences(case, signed):
    """The metric: logit of one candidate above the other; signed, of the right one."""

    def metric(logits, _clean, lengths, prompts):
        rows, candidates = torch.arange(len(prompts)), case.candidates[prompts]
        last = logits[rows, lengths - 1]
        found = last[rows, candidates[:, 0]] - last[rows, candidates[:, 1]]
        return found * case.sign[prompts] if signed else found

    return metric


def measure(case, key):
    """The score that `key` names, larger being worse."""
    model = hooked(case)
    if key.startswith("parity parts"):
        ablation, batches = key.split()[-1], data(case, range(len(case.prompts)))
        how = {"zero": "zero", "resample": "patching"}[ablation]
        kept = graph(model, case.edge_between_parts)
        found = evaluate_graph(model, kept, batches, differences(case, False), quiet=True, intervention=how)
        theirs = torch.empty(len(case.prompts))
        theirs[[i for batch in batches for i in batch[2]]] = found.float()
        return distance(case.ours[f"parts_{ablation}"], theirs)
    # A prompt that nothing of its length can corrupt says nothing about patching.
    batches = data(case, [i for i, source in enumerate(case.sources) if source != i])
    kept, metric = graph(model, case.edge_in_circuit(model)), differences(case, True)
    if key == "F patching":
        found = Pillar1_CausalPatching.run(model, kept, batches, metric, device="cpu", quiet=True)
    elif key == "F zero":
        found = Pillar2_Ablation.run(model, kept, batches, metric, intervention="zero", device="cpu", quiet=True)
    else:
        raise ValueError(f"CircuitKit has no score {key!r}")
    # It says that a score is invalid by having none.
    return float("nan") if found["score"] is None else 1 - found["score"]
