"""Writes the golden fixtures beside this file, in the layout of the original implementation's fixtures.

An independent PyTorch implementation of the weight-sparse transformer and its training step, written from
the description in Gao et al. 2025 (arXiv 2511.13653); gradients come from autograd. Run once with
  python3 -m pip install torch==2.15.0 numpy safetensors && python3 tests/golden/make.py
and commit what it writes. Everything is float32 on one CPU thread with fixed seeds.
"""

import json
import math
import pathlib

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
SITES = "attn_in,attn_q,attn_k,attn_v,attn_out,mlp_in,mlp_neuron,mlp_out"


def config(**changes):
    base = dict(
        block_size=24, vocab_size=50, n_layer=2, n_head=3, d_head=4, d_model=24, d_mlp=72, dropout=0.0,
        bias=True, ln_bias=True, rms_norm=True, residual_activation_type="identity", activation_type="gelu",
        afrac=0.25, afrac_loctypes=SITES, tied_unembed=False, tokenizer_name="tinypython_2k",
        enable_bigram_table=True, learnable_bigram_table=True, d_pos_emb=None,
        sinusoidal_cat_pos_emb=False, dropout_cat_pos_emb=False, flash=True, sink=False,
    )
    return base | changes


def init(c, seed):
    """Weights of order one everywhere, so that no term can hide."""
    g = torch.Generator().manual_seed(seed)
    p = {}

    def new(name, *shape, scale=None, shift=0.0):
        scale = shape[-1] ** -0.5 if scale is None else scale
        p[name] = torch.randn(*shape, generator=g) * scale + shift

    def norm(name, n):
        new(f"{name}.weight", n, scale=0.3, shift=1.0)
        if not c["rms_norm"] and c["ln_bias"]:
            new(f"{name}.bias", n, scale=0.2)

    def linear(name, out, inp):
        new(f"{name}.weight", out, inp)
        if c["bias"]:
            new(f"{name}.bias", out, scale=0.2)

    d, v, pos, attn = c["d_model"], c["vocab_size"], c["d_pos_emb"], c["n_head"] * c["d_head"]
    new("transformer.wte.weight", v, d, scale=1.0)
    if c["sinusoidal_cat_pos_emb"]:
        half = pos // 2
        period = torch.logspace(math.log10(4), math.log10(c["block_size"]), half, dtype=torch.float64)
        angle = 2 * math.pi * torch.arange(c["block_size"], dtype=torch.float64)[:, None] / period
        p["transformer.wpe.weight"] = torch.cat([angle.sin(), angle.cos()], 1).float()
    else:
        new("transformer.wpe.weight", c["block_size"], pos or d, scale=0.5)
    for l in range(c["n_layer"]):
        h = f"transformer.h.{l}"
        norm(f"{h}.ln_1", d)
        linear(f"{h}.attn.c_attn", 3 * attn, d + (pos or 0))
        if c["sink"]:
            new(f"{h}.attn.attn_imp.sink_logit", c["n_head"], scale=1.0)
        linear(f"{h}.attn.c_proj", d, attn)
        norm(f"{h}.ln_2", d)
        linear(f"{h}.mlp.c_fc", c["d_mlp"], d + (pos or 0))
        linear(f"{h}.mlp.c_proj", d, c["d_mlp"])
        if pos:
            norm(f"{h}.ln_p1", pos)
            norm(f"{h}.ln_p2", pos)
    norm("transformer.ln_f", d)
    if not c["tied_unembed"]:
        new("lm_head.weight", v, d)
    if c["enable_bigram_table"]:
        new("bigram_table", v, v, scale=0.5)
    new("final_logits_bias", v, scale=0.2)
    return p


def forward(c, p, tokens, acts=None):
    acts = {} if acts is None else acts

    def top(x, site):
        if c["afrac"] is None or site not in c["afrac_loctypes"].split(","):
            return x
        k = int(c["afrac"] * x.shape[-1])
        keep = torch.topk(x.abs(), k, dim=-1).indices
        return x * torch.zeros_like(x).scatter(-1, keep, 1.0)

    def see(name, x):
        acts[name] = x
        return x

    def norm(x, name):
        if c["rms_norm"]:
            return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + torch.finfo(x.dtype).eps) * p[f"{name}.weight"]
        return F.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p.get(f"{name}.bias"), 1e-5)

    def linear(x, name):
        return F.linear(x, p[f"{name}.weight"], p.get(f"{name}.bias"))

    batch, time = tokens.shape
    heads, width = c["n_head"], c["d_head"]
    x = p["transformer.wte.weight"][tokens]
    pos = None
    if c["d_pos_emb"]:
        pos = p["transformer.wpe.weight"][:time].expand(batch, time, -1)
    elif "transformer.wpe.weight" in p:
        x = x + p["transformer.wpe.weight"][:time]

    def read(x, name, pos_name):
        y = norm(x, name)
        return y if pos is None else torch.cat([y, norm(pos, pos_name)], -1)

    causal = torch.ones(time, time).tril().bool()
    for l in range(c["n_layer"]):
        h = f"transformer.h.{l}"
        x = see(f"{l}.resid_in", x)
        y = see(f"{l}.attn.act_in", top(read(x, f"{h}.ln_1", f"{h}.ln_p1"), "attn_in"))
        q, k, v = linear(y, f"{h}.attn.c_attn").split(heads * width, -1)
        q = see(f"{l}.attn.q", top(q, "attn_q"))
        k = see(f"{l}.attn.k", top(k, "attn_k"))
        v = see(f"{l}.attn.v", top(v, "attn_v"))
        q, k, v = (a.view(batch, time, heads, width).transpose(1, 2) for a in (q, k, v))
        scores = (q @ k.transpose(-1, -2) / math.sqrt(width)).masked_fill(~causal, -torch.inf)
        if c["sink"]:
            sink = p[f"{h}.attn.attn_imp.sink_logit"].view(1, heads, 1, 1).expand(batch, heads, time, 1)
            weights = torch.cat([scores, sink], -1).softmax(-1)[..., :-1]
        else:
            weights = scores.softmax(-1)
        y = see(f"{l}.attn.y", (weights @ v).transpose(1, 2).reshape(batch, time, -1))
        x = x + see(f"{l}.attn.resid_delta", top(linear(y, f"{h}.attn.c_proj"), "attn_out"))
        x = see(f"{l}.resid_mid", x)
        y = see(f"{l}.mlp.act_in", top(read(x, f"{h}.ln_2", f"{h}.ln_p2"), "mlp_in"))
        y = linear(y, f"{h}.mlp.c_fc")
        y = F.gelu(y) if c["activation_type"] == "gelu" else F.relu(y)
        y = see(f"{l}.mlp.post_act", top(y, "mlp_neuron"))
        x = x + see(f"{l}.mlp.resid_delta", top(linear(y, f"{h}.mlp.c_proj"), "mlp_out"))
    x = see("final_resid", x)
    out = p["transformer.wte.weight" if c["tied_unembed"] else "lm_head.weight"]
    logits = F.linear(norm(x, "transformer.ln_f"), out)
    if c["enable_bigram_table"]:
        # A negative padding index wraps around: the last token's row takes no gradient.
        logits = logits + F.embedding(tokens, p["bigram_table"], padding_idx=-1)
    return logits + p["final_logits_bias"]


def frozen(c, name):
    return (
        name == "final_logits_bias"
        or (name == "bigram_table" and not c["learnable_bigram_table"])
        or (name == "transformer.wpe.weight" and c["sinusoidal_cat_pos_emb"])
    )


def one_pass(name, c, seed, batch=2, time=20):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    p = init(c, seed)
    g = torch.Generator().manual_seed(seed + 1)
    tokens = torch.randint(0, c["vocab_size"], (batch, time), generator=g)
    targets = torch.randint(0, c["vocab_size"], (batch, time), generator=g)
    for key, value in p.items():
        value.requires_grad_(not frozen(c, key))
    acts = {}
    logits = forward(c, p, tokens, acts)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss.backward()
    expected = {"tokens": tokens, "targets": targets, "logits": logits, "loss": loss.view(1)}
    expected |= {f"act.{k}": v for k, v in acts.items()}
    expected |= {f"grad.{k}": v.grad for k, v in p.items() if v.grad is not None}
    weights = {k: v.detach().contiguous() for k, v in p.items()}
    save_file({k: v.detach().contiguous() for k, v in expected.items()}, folder / "expected.safetensors")
    torch.save(weights, folder / "final_model.pt")
    (folder / "beeg_config.json").write_text(json.dumps(c, indent=1) + "\n")


def trajectory(name, c, seed, steps=30, batch=6, time=20, lr=0.05, wd=0.1, ef=3.0, pfrac=1.0, j=1, warmup=2.0):
    """The published step: normalised gradient, Adam, top magnitude with a floor, then decay."""
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    p = {k: v * (1 if v.ndim == 1 else 0.5) for k, v in init(c, seed).items()}
    p["transformer.wpe.weight"].zero_()
    p["final_logits_bias"].zero_()
    tensors = {f"init.{k}": v.clone() for k, v in p.items()}
    trained = [k for k in p if k not in ("transformer.wpe.weight", "final_logits_bias")]
    for k in trained:
        p[k].requires_grad_()
    adam = torch.optim.Adam([p[k] for k in trained], lr=lr, betas=(0.9, 0.95), eps=0.1)
    g = torch.Generator().manual_seed(seed + 1)
    start = torch.randint(0, c["vocab_size"], (steps, batch, 1), generator=g)
    stride = torch.randint(1, 4, (steps, batch, 1), generator=g)
    tokens = (start + stride * torch.arange(time)) % c["vocab_size"]
    t0, t1, log = 2.0, steps / 2, []
    for t in range(steps):
        now = ef * ef + (pfrac - ef * ef) * min(max((t - t0) / (t1 - t0), 0.0), 1.0)
        rate = lr * min(t / warmup, 1 - (t - warmup) / (steps - warmup)) * math.sqrt(pfrac / now)
        logits = forward(c, p, tokens[t])
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[t][:, 1:].flatten())
        adam.zero_grad()
        loss.backward()
        square = sum(p[k].grad.double().square().sum() for k in trained)
        rms = float((square / sum(p[k].numel() for k in trained)).sqrt())
        with torch.no_grad():
            for k in trained:
                p[k].grad /= rms + 1e-5
            adam.param_groups[0]["lr"] = rate
            adam.step()
            nnz = 0
            for k in trained:
                w = p[k]
                if w.ndim == 1 or k == "bigram_table":
                    continue
                if ".h." in k:
                    keep, score = int(now / ef / ef * w.numel()), w.abs().clone()
                    dim = 0 if "c_proj" in k else 1
                    floor = min(j, keep // w.shape[1 - dim])
                    if floor:
                        score.scatter_(dim, w.abs().topk(floor, dim=dim).indices, 1e10)
                else:
                    adjusted = pfrac + (ef - pfrac) * (now - pfrac) / (ef * ef - pfrac)
                    keep, score = int(adjusted / ef * w.numel()), w.abs()
                mask = torch.zeros(w.numel())
                mask[score.flatten().topk(keep).indices] = 1
                w *= mask.view_as(w)
                w -= wd * rate * w
                nnz += int((w != 0).sum())
        log.append(dict(loss=float(loss), lr=rate, pfrac=now, grad_rms=rms, nnz=nnz))
        if t + 1 in (1, 2, 5, 10, steps):
            tensors |= {f"step{t + 1}.{k}": v.detach().clone() for k, v in p.items()}
    settings = dict(
        steps=steps, batch_sequences=batch, sequence_length=time, peak_lr=lr, betas=[0.9, 0.95], eps=0.1,
        weight_decay=wd, warmup_steps=warmup, expansion_factor=ef, pfrac=pfrac, anneal_start_step=t0,
        anneal_stop_step=t1, min_alive=j, trained_positional_embedding=False, log=log,
    )
    save_file(tensors | {"tokens": tokens}, folder / "trajectory.safetensors")
    (folder / "trajectory.json").write_text(json.dumps(settings, indent=1) + "\n")
    (folder / "beeg_config.json").write_text(json.dumps(c, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    one_pass("layernorm-tied", config(rms_norm=False, tied_unembed=True, d_head=5, novel_key=1), 1)
    one_pass("sinusoid-fixed-bigram", config(
        sinusoidal_cat_pos_emb=True, d_pos_emb=8, learnable_bigram_table=False, sink=True, n_layer=1), 2)
    one_pass("some-sites-no-bias", config(
        afrac=0.5, afrac_loctypes="attn_in,attn_out,mlp_in,mlp_out,mlp_neuron,attn_v", bias=False,
        enable_bigram_table=False), 3)
    trajectory("train-30", config(d_pos_emb=None), 4)
