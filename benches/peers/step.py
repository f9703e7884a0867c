"""PyTorch's training step of the published algorithm, as a peer of `cargo xtask bench step`.

Weight-sparse transformers are trained today as dense ones: dense products, AbsTopK by topk and scatter, and after
Adam a top-k of every matrix that zeroes the rest (Gao et al. 2025, arXiv 2511.13653, and its released code). Written
from that description, with what makes PyTorch fast: fused attention, fused Adam, no Python loop over tokens.

  python step.py D_MODEL LAYERS DENSITY THREADS VARIANT     VARIANT: fp32 | bf16 | compile

Reads one line per measurement from standard input and answers it with the seconds one step took.
"""

import math
import sys
import time

import torch
import torch.nn.functional as F

VOCAB, CONTEXT, SEQUENCES, D_HEAD, ACT_DENSITY = 2048, 256, 16, 16, 0.25


def top(x):
    """AbsTopK: the k largest magnitudes of every token stay."""
    k = int(ACT_DENSITY * x.shape[-1])
    keep = torch.topk(x.abs(), k, dim=-1, sorted=False).indices
    return torch.zeros_like(x).scatter(-1, keep, x.gather(-1, keep))


class Model(torch.nn.Module):
    def __init__(self, d, layers):
        super().__init__()
        new = lambda *shape: torch.nn.Parameter(torch.randn(*shape) * shape[-1] ** -0.5)
        self.embed, self.unembed = new(VOCAB, d), new(VOCAB, d)
        self.bigram = torch.nn.Parameter(torch.zeros(VOCAB, VOCAB))
        self.gain = torch.nn.Parameter(torch.ones(2 * layers + 1, d))
        self.blocks = torch.nn.ModuleList()
        for _ in range(layers):
            block = torch.nn.Module()
            for name, out, inp in (("qkv", 3 * d, d), ("out", d, d), ("fc", 4 * d, d), ("proj", d, 4 * d)):
                setattr(block, name, torch.nn.Linear(inp, out))
            self.blocks.append(block)

    def forward(self, tokens):
        batch, n = tokens.shape
        d = self.embed.shape[1]
        heads = lambda a: a.view(batch, n, d // D_HEAD, D_HEAD).transpose(1, 2)
        norm = lambda x, i: F.rms_norm(x, (d,), self.gain[i])
        x = self.embed[tokens]
        for i, b in enumerate(self.blocks):
            q, k, v = (heads(top(a)) for a in b.qkv(top(norm(x, 2 * i))).split(d, -1))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, n, d)
            x = x + top(b.out(y))
            x = x + top(b.proj(top(F.gelu(b.fc(top(norm(x, 2 * i + 1)))))))
        logits = F.linear(norm(x, -1), self.unembed)
        return logits + F.embedding(tokens, self.bigram, padding_idx=VOCAB - 1)


def main():
    d, layers, density, threads, variant = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = Model(d, layers)
    forward = torch.compile(model) if variant == "compile" else model
    parameters = list(model.parameters())
    matrices = [model.embed, model.unembed] + [getattr(b, m).weight for b in model.blocks for m in ("qkv", "out", "fc", "proj")]
    adam = torch.optim.Adam(parameters, lr=1e-3, betas=(0.9, 0.95), eps=0.1, fused=True)
    generator = torch.Generator().manual_seed(1)

    def project():
        for w in matrices:
            keep = int(density * w.numel())
            if keep == w.numel():
                continue
            indices = torch.topk(w.abs().flatten(), keep, sorted=False).indices
            mask = torch.zeros(w.numel(), dtype=torch.bool)
            mask[indices] = True
            w.mul_(mask.view_as(w))

    def step():
        tokens = torch.randint(0, VOCAB, (SEQUENCES, CONTEXT), generator=generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=variant == "bf16"):
            logits = forward(tokens)
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten())
        adam.zero_grad()
        loss.backward()
        with torch.no_grad():
            square = sum(p.grad.square().sum() for p in parameters)
            rms = math.sqrt(float(square) / sum(p.numel() for p in parameters))
            for p in parameters:
                p.grad.mul_(1 / (rms + 1e-5))
            adam.step()
            project()
            for w in matrices:
                w.mul_(1 - 1e-4)
        return float(loss.detach())

    with torch.no_grad():
        project()
    step()
    print("ready", torch.__version__, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        loss = step()
        seconds = time.perf_counter() - start
        assert math.isfinite(loss)
        print(seconds, flush=True)


if __name__ == "__main__":
    main()
