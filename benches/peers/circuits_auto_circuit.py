"""AutoCircuit's scores of a circuit: edges between heads and MLPs, patched in one pass."""

import importlib.metadata

import torch

from auto_circuit.data import PromptDataLoader, PromptDataset
from auto_circuit.metrics.prune_metrics.answer_diff_percent import measure_answer_diff_percent
from auto_circuit.metrics.prune_metrics.kl_div import measure_kl_div
from auto_circuit.prune import run_circuits
from auto_circuit.types import AblationType, PatchType
from auto_circuit.utils.graph_utils import patchable_model

from circuits import distance

ABLATION = {"resample": AblationType.RESAMPLE, "zero": AblationType.ZERO}


def version():
    return f"{importlib.metadata.version('auto-circuit')} with transformer-lens " + importlib.metadata.version(
        "transformer-lens"
    )


def patchable(case):
    """The model as AutoCircuit wants it. Two of the flags split what heads read, one what they write."""
    model = case.model(use_attn_result=True, use_split_qkv_input=True, use_hook_mlp_in=True)
    return patchable_model(model, factorized=True, slice_output="last_seq", separate_qkv=True)


def data(case, prompts):
    """Batches of prompts of one length, each with a corrupted one as long that has another answer; and the prompts' numbers.
    AutoCircuit averages batches, so that in its logit difference each length counts the same."""
    tokens = lambda i: torch.tensor(case.prompts[i])
    answer = lambda i, side: case.candidates[i][(i + side) % 2].reshape(1)
    batches, numbers = [], []
    for length in sorted({len(case.prompts[i]) for i in prompts}):
        group = [i for i in prompts if len(case.prompts[i]) == length]
        pairs = PromptDataset(
            [tokens(i) for i in group],
            [tokens(case.sources[i]) for i in group],
            [answer(i, 0) for i in group],
            [answer(i, 1) for i in group],
        )
        batches += PromptDataLoader(pairs, seq_len=None, diverge_idx=0, batch_size=len(group), shuffle=False)
        numbers.append(group)
    return batches, numbers


def edges(model, kept):
    """The edges of which `kept(source, destination, q k v or nothing)` is true, in the names of `Case.ends`."""
    name = {"Resid Start": "input", "Resid End": "output"}

    def is_kept(edge):
        part, letter = edge.dest.name, None
        if part[-1] in "QKV":
            part, letter = part[:-2], part[-1].lower()
        return kept(name.get(edge.src.name, edge.src.name), name.get(part, part), letter)

    return {e for e in model.edges if is_kept(e)}


def run(model, batches, kept, ablation):
    scores = model.circuit_prune_scores(edges=kept)
    return run_circuits(model, batches, [len(kept)], scores, PatchType.TREE_PATCH, ABLATION[ablation])


def parity(case, ablation):
    """How far the logit differences are from ours with the same heads and MLPs left out."""
    model, (batches, numbers) = patchable(case), data(case, range(len(case.prompts)))
    (outputs,) = run(model, batches, edges(model, case.edge_between_parts), ablation).values()
    theirs = torch.empty(len(case.prompts))
    for batch, group in zip(batches, numbers):
        candidates = case.candidates[group]
        first, second = (outputs[batch.key].gather(1, candidates[:, side : side + 1]) for side in (0, 1))
        theirs[group] = (first - second)[:, 0]
    return distance(case.ours[f"parts_{ablation}"], theirs)


def measure(case, key):
    """The score that `key` names, larger being worse."""
    what, ablation = key.rsplit(" ", 1)
    if what == "parity parts":
        return parity(case, ablation)
    # A prompt that nothing of its length can corrupt says nothing about resampling.
    model, (batches, _) = patchable(case), data(case, [i for i, s in enumerate(case.sources) if s != i])
    outputs = run(model, batches, edges(model, case.edge_in_circuit(model.wrapped_model)), ablation)
    if what == "difference":
        ((_, percent),) = measure_answer_diff_percent(model, batches, outputs)
        return abs(1 - percent / 100)
    if what == "KL":
        ((_, kl),) = measure_kl_div(model, batches, outputs)
        return kl
    raise ValueError(f"AutoCircuit has no score {key!r}")
