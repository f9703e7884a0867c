"""PyTorch's training step of the published algorithm, as a peer of `cargo xtask bench step`.

Weight-sparse transformers are trained today as dense ones: dense products, AbsTopK by topk, and after Adam a top-k of
every matrix that zeroes the rest (Gao et al. 2025, arXiv 2511.13653, and its released code). Written from that
description, with what makes PyTorch fast on a CPU: fused attention, fused Adam, masks outside of autograd, no copy of
the logits, and NumPy's vectorised partition for the k-th magnitude of a matrix (several times as fast as torch.topk).
The variant topk takes torch.topk there, as is published.

  python step.py D_MODEL LAYERS SEQUENCES DENSITY THREADS VARIANT [DEVICE]     VARIANT: fp32 | topk | bf16 | compile

DEVICE is cpu or cuda. On a GPU every variant takes torch.topk: there is no faster way there.

Prints "ready VERSION", then reads one line per measurement from standard input and answers it with the seconds that
one step took.
"""

import math
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

VOCAB, CONTEXT, D_HEAD, ACT_DENSITY = 2048, 256, 16, 0.25


def top_fraction(x, fraction):
    """AbsTopK: the largest magnitudes of every token stay."""
    with torch.no_grad():
        keep = torch.topk(x.abs(), int(fraction * x.shape[-1]), dim=-1, sorted=False).indices
        mask = torch.zeros_like(x).scatter_(-1, keep, 1.0)
    return x * mask


def top(x):
    return top_fraction(x, ACT_DENSITY)


def project(matrices, density):
    """Zeroes all but the largest magnitudes of each matrix, by a threshold."""
    for w in matrices:
        drop = w.numel() - int(density * w.numel())
        if drop > 0:
            magnitude = w.abs()
            w.mul_(magnitude >= float(np.partition(magnitude.view(-1).numpy(), drop)[drop]))


def project_topk(matrices, density):
    """The same by places."""
    for w in matrices:
        keep = torch.topk(w.abs().view(-1), int(density * w.numel()), sorted=False).indices
        w.mul_(torch.zeros_like(w).view(-1).scatter_(0, keep, 1.0).view_as(w))


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
        x = F.embedding(tokens, self.embed)
        for i, b in enumerate(self.blocks):
            q, k, v = (heads(top(a)) for a in b.qkv(top(norm(x, 2 * i))).split(d, -1))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(batch, n, d)
            x = x + top(b.out(y))
            x = x + top(b.proj(top(F.gelu(b.fc(top(norm(x, 2 * i + 1)))))))
        logits = F.linear(norm(x, -1), self.unembed)
        return logits + F.embedding(tokens, self.bigram)


def main():
    d, layers, sequences = map(int, sys.argv[1:4])
    density, threads, variant = float(sys.argv[4]), int(sys.argv[5]), sys.argv[6]
    device = sys.argv[7] if len(sys.argv) > 7 else "cpu"
    by_place = variant == "topk" or device != "cpu"
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = Model(d, layers).to(device)
    forward = torch.compile(model) if variant == "compile" else model
    parameters = list(model.parameters())
    size = sum(p.numel() for p in parameters)
    matrices = [model.embed, model.unembed]
    matrices += [getattr(b, m).weight for b in model.blocks for m in ("qkv", "out", "fc", "proj")]
    adam = torch.optim.Adam(parameters, lr=1e-3, betas=(0.9, 0.95), eps=0.1, fused=True)
    generator = torch.Generator().manual_seed(1)

    def step(tokens):
        # The last token of a sequence predicts nothing.
        targets = F.pad(tokens[:, 1:], (0, 1), value=-100)
        with torch.autocast(device, torch.bfloat16, enabled=variant == "bf16"):
            logits = forward(tokens)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())
        adam.zero_grad()
        loss.backward()
        with torch.no_grad():
            gradients = [p.grad for p in parameters]
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            torch._foreach_mul_(gradients, 1 / (float(norm) / math.sqrt(size) + 1e-5))
            adam.step()
            if density < 1:
                (project_topk if by_place else project)(matrices, density)
            torch._foreach_mul_(matrices, 1 - 1e-4)
        return float(loss.detach())

    def batch():
        return torch.randint(0, VOCAB, (sequences, CONTEXT), generator=generator).to(device)

    with torch.no_grad():
        (project_topk if by_place else project)(matrices, density)
    # The second step is the first whose memory has been in use before.
    for _ in range(2):
        step(batch())
    print("ready", torch.__version__, flush=True)
    for _ in sys.stdin:
        tokens = batch()
        start = time.perf_counter()
        # Reading the loss waits for everything before it; the update comes after.
        loss = step(tokens)
        if device != "cpu":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        assert math.isfinite(loss)
        print(seconds, flush=True)


if __name__ == "__main__":
    main()
