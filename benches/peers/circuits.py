"""Other tools on the zoo of `cargo xtask calibrate --peers`: what each says of a circuit whose truth is known.

  python circuits.py TOOL     TOOL: auto-circuit | circuitkit | rust-circuit

Prints "ready VERSION", then reads lines "FOLDER KEY" from standard input and answers each with one number, or with
"error: REASON". FOLDER holds `model.safetensors` under published names and `case.json`: the circuit's nodes, their
means, prompts, and what we measured. A KEY that begins with "parity" asks how far our numbers are from the same
quantity computed here, as a share of the largest of them; any other is a score of the tool, larger being worse.
"""

import contextlib
import importlib.util
import json
import os
import pathlib
import sys
import tempfile

import numpy as np
import torch
from safetensors import safe_open

EPS = float(np.finfo(np.float32).eps)


def tensors(path):
    """The weights, dense, and the configuration."""
    with safe_open(path, "np") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}
        config = json.loads(file.metadata()["config"])
    for name in [n.removesuffix(".csr.shape") for n in found if n.endswith(".csr.shape")]:
        rows, columns = found.pop(f"{name}.csr.shape")
        starts, values = found.pop(f"{name}.csr.row_ptr"), found.pop(f"{name}.csr.values")
        dense = np.zeros((rows, columns), np.float32)
        dense[np.repeat(np.arange(rows), np.diff(starts)), found.pop(f"{name}.csr.col_idx")] = values
        found[name] = dense
    return {name: torch.tensor(np.array(w)) for name, w in found.items()}, config


class Case:
    """A plant: its model, the claimed circuit, prompts, and our numbers."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.weights, self.config = tensors(folder / "model.safetensors")
        case = json.loads((folder / "case.json").read_text())
        self.kept = {site: torch.tensor(x, dtype=torch.bool) for site, x in case["kept"].items()}
        self.means = {site: torch.tensor(x, dtype=torch.float32) for site, x in case["means"].items()}
        self.sites = case["sites"]
        self.prompts, self.candidates = case["prompts"], torch.tensor(case["candidates"])
        self.sources, self.ours = case["sources"], case["ours"]
        self.ranking, self.counts, self.scrubs = case["ranking"], case["counts"], case["scrubs"]
        # Prompt 2i continues with the first candidate, 2i + 1 with the second.
        self.sign = torch.tensor([1.0, -1.0]).repeat(len(self.prompts) // 2)

    def model(self, **flags):
        """The model as TransformerLens has it, nothing folded or centred."""
        # Here, so that a Python without it can say so.
        from transformer_lens import HookedTransformer, HookedTransformerConfig

        c, w = self.config, self.weights
        heads, width = c["n_head"], c["d_head"]
        norm = None if c.get("norm") == "none" else "RMS"
        assert norm is None or c["rms_norm"], "models of this zoo have no norm or RMSNorm"
        cfg = HookedTransformerConfig(
            n_layers=c["n_layer"], d_model=c["d_model"], n_ctx=c["block_size"], d_head=width, n_heads=heads,
            d_mlp=c["d_mlp"], d_vocab=c["vocab_size"], act_fn="relu", normalization_type=norm, eps=EPS,
            device="cpu", seed=0, init_weights=False, **flags,
        )
        model = HookedTransformer(cfg)
        split = lambda m: m.reshape(heads, width, -1)
        state = {"embed.W_E": w["transformer.wte.weight"], "pos_embed.W_pos": w["transformer.wpe.weight"]}
        state |= {"unembed.W_U": w["lm_head.weight"].T, "unembed.b_U": w["final_logits_bias"]}
        for layer in range(c["n_layer"]):
            here, there = f"transformer.h.{layer}", f"blocks.{layer}"
            parts = w[f"{here}.attn.c_attn.weight"].chunk(3), w[f"{here}.attn.c_attn.bias"].chunk(3)
            for letter, weight, bias in zip("QKV", *parts):
                state[f"{there}.attn.W_{letter}"] = split(weight).transpose(1, 2)
                state[f"{there}.attn.b_{letter}"] = bias.reshape(heads, width)
            state[f"{there}.attn.W_O"] = split(w[f"{here}.attn.c_proj.weight"].T)
            state[f"{there}.attn.b_O"] = w[f"{here}.attn.c_proj.bias"]
            for name, theirs in (("c_fc", "in"), ("c_proj", "out")):
                state[f"{there}.mlp.W_{theirs}"] = w[f"{here}.mlp.{name}.weight"].T
                state[f"{there}.mlp.b_{theirs}"] = w[f"{here}.mlp.{name}.bias"]
            if norm:
                for n in (1, 2):
                    state[f"{there}.ln{n}.w"] = w[f"{here}.ln_{n}.weight"]
        if norm:
            state["ln_final.w"] = w["transformer.ln_f.weight"]
        missing, unexpected = model.load_state_dict(state, strict=False)
        # Buffers such as the causal mask are no parameters.
        parameters = {name for name, _ in model.named_parameters()}
        assert not parameters & set(missing) and not unexpected, (missing, unexpected)
        return model.eval()

    def padded(self):
        """Prompts to one length: what comes later is causally invisible."""
        longest = max(map(len, self.prompts))
        return torch.tensor([p + [0] * (longest - len(p)) for p in self.prompts])

    def differences(self, logits):
        """Logit of the first candidate above the second, after the last token of every prompt."""
        rows = torch.arange(len(self.prompts))
        last = logits[rows, torch.tensor([len(p) - 1 for p in self.prompts])]
        return last[rows, self.candidates[:, 0]] - last[rows, self.candidates[:, 1]]

    def place(self, model, site):
        """The module whose output our site is. Norms are modules of their own: after the gain, as ours."""
        layer, at = site.split(".", 1)
        block = model.blocks[int(layer)]
        return {
            "attn.act_in": block.ln1, "attn.q": block.attn.hook_q, "attn.k": block.attn.hook_k,
            "attn.v": block.attn.hook_v, "attn.resid_delta": block.hook_attn_out, "mlp.act_in": block.ln2,
            "mlp.post_act": block.mlp.hook_post, "mlp.resid_delta": block.hook_mlp_out,
        }[at]

    def ablated(self, model, kept, fill):
        """Logit differences with every node that is not kept replaced by its fill, by hooks."""
        fired = []

        def hook(site):
            def replace(_module, _input, value):
                fired.append(site)
                shape = value.shape[-2:] if site.split(".")[-1] in "qkv" else value.shape[-1:]
                return torch.where(kept[site].reshape(shape), value, fill[site].reshape(shape))
            return replace

        handles = [self.place(model, site).register_forward_hook(hook(site)) for site, _ in self.sites]
        with torch.no_grad():
            logits = model(self.padded())
        for handle in handles:
            handle.remove()
        # A hook that does nothing is the commonest fault of such code.
        assert set(fired) == set(self.kept), f"only {len(set(fired))} of {len(self.kept)} hooks fired"
        return self.differences(logits)

    def ends(self, model):
        """What each end of an edge between heads and MLPs writes to and reads from the residual stream through nodes of
        the circuit: masks over its channels. An edge is in the circuit where the two meet."""
        heads, width = self.config["n_head"], self.config["d_head"]
        writes = {"input": (model.W_E != 0).any(0) | (model.W_pos != 0).any(0)}
        reads = {"output": (model.W_U != 0).any(1)}
        for layer, block in enumerate(model.blocks):
            kept = {site.split(".", 1)[1]: k for site, k in self.kept.items() if site.startswith(f"{layer}.")}
            channels = {at: kept[f"attn.{at}"].reshape(heads, width) for at in "qkv"}
            for head in range(heads):
                name = f"A{layer}.{head}"
                out = block.attn.W_O[head][channels["v"][head]]
                writes[name] = kept["attn.resid_delta"] & (out != 0).any(0)
                for at in "qkv":
                    weights = getattr(block.attn, f"W_{at.upper()}")[head][:, channels[at][head]]
                    reads[name, at] = kept["attn.act_in"] & (weights != 0).any(1)
            neurons = kept["mlp.post_act"]
            writes[f"MLP {layer}"] = kept["mlp.resid_delta"] & (block.mlp.W_out[neurons] != 0).any(0)
            reads[f"MLP {layer}"] = kept["mlp.act_in"] & (block.mlp.W_in[:, neurons] != 0).any(1)
        return writes, reads

    def edge_in_circuit(self, model):
        """Tells edges of the circuit from others."""
        writes, reads = self.ends(model)
        return lambda source, to, letter: bool((writes[source] & reads[(to, letter) if letter else to]).any())

    def edge_between_parts(self, source, to, _letter):
        """Whether both ends have a node of the circuit: what our numbers about heads and MLPs keep."""
        kept = {"input", "output", *self.ours["parts"]}
        return source in kept and to in kept

    def first(self, count):
        """The first nodes of the ranking, as masks by site."""
        flat = torch.zeros(len(self.ranking), dtype=torch.bool)
        flat[self.ranking[:count]] = True
        return dict(zip([s for s, _ in self.sites], flat.split([n for _, n in self.sites])))

    def faithfulness(self, model):
        """The Mechanistic Interpretability Benchmark's F, CPR and CMD over its sizes, from its definition."""
        metric = lambda kept: float((self.ablated(model, kept, self.means) * self.sign).double().mean())
        nothing, whole = metric(self.first(0)), metric(self.first(len(self.ranking)))
        f = np.array([(metric(self.first(k)) - nothing) / (whole - nothing) for _, k in self.counts])
        shares = np.array([share for share, _ in self.counts])
        return f, area(f, shares), area(np.abs(1 - f), shares)


def area(y, x):
    """By trapezoids."""
    return float(((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum())


def distance(ours, theirs):
    """The largest difference as a share of the largest number: single precision rounds to a share of what is summed,
    and what is summed is of the size of the logits, not of their difference."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max() / max(1.0, np.abs(ours).max()))


def parity(case, key):
    """How far our numbers are from a masked run by hooks; nothing where it is a tool that must answer."""
    if key not in ("parity model", "parity zero", "parity mean", "parity faithfulness"):
        return None
    model = case.model()
    if key == "parity model":
        with torch.no_grad():
            return distance(case.ours["model"], case.differences(model(case.padded())))
    if key in ("parity zero", "parity mean"):
        fill = case.means if key == "parity mean" else {site: torch.zeros_like(m) for site, m in case.means.items()}
        return distance(case.ours[key.split()[1]], case.ablated(model, case.kept, fill))
    if case.ours["faithfulness"] is None:
        return 0.0
    f, cpr, cmd = case.faithfulness(model)
    return distance(case.ours["faithfulness"] + case.ours["areas"], [*f, cpr, cmd])


def main():
    tool = sys.argv[1]
    # Tools print to standard output and leave logs in the current folder; a line of theirs among the answers would shift
    # every answer after it.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    elsewhere = tempfile.TemporaryDirectory()
    os.chdir(elsewhere.name)
    torch.manual_seed(0)
    # Models this small are done before a second thread has begun.
    torch.set_num_threads(1)
    package = tool.replace("-", "_")
    if importlib.util.find_spec(package) is None:
        print(f"{sys.executable} has no {tool}", file=answers, flush=True)
        return
    peer = importlib.import_module(f"circuits_{package}")
    print("ready", peer.version(), file=answers, flush=True)
    loaded = (None, None)
    for line in sys.stdin:
        folder, key = line.rstrip("\n").split("\t")
        try:
            if loaded[0] != folder:
                loaded = folder, Case(folder)
            # Progress bars of tools, thousands of them.
            with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
                found = parity(loaded[1], key)
                found = peer.measure(loaded[1], key) if found is None else found
            print(found, file=answers, flush=True)
        except Exception as error:  # the asker decides what a failure means
            print("error:", " ".join(f"{type(error).__name__}: {error}".split()), file=answers, flush=True)


if __name__ == "__main__":
    main()
