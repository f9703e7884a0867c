"""PyTorch's and SciPy's kernels, as peers of `cargo xtask bench kernels`.

  python kernels.py THREADS

Prints "ready VERSIONS". Every line read from standard input names what to time; the answer is the seconds of one call,
or "error: " and why there is none:

  CONTESTANT OP OUT IN TOKENS DENSITY

  product    y [OUT, TOKENS] = W [OUT, IN] x [IN, TOKENS], W of DENSITY at random places
               torch-csr   torch.addmm on a CSR matrix with 32-bit indices, into a y that is already there
               scipy-csr   csr_array @ x, on one thread
               torch-fp32, torch-bf16   torch.mm on the dense matrix, into a y that is already there
  abs_top_k  the fraction DENSITY of largest magnitudes of x [TOKENS, IN] stays
               torch       topk, a mask, and the product with it
  update     one step of a parameter [OUT, IN], of which the fraction DENSITY stays
               torch       fused Adam, then NumPy's partition for the k-th magnitude

A case is prepared, checked and warmed up, untimed, when it is first named; naming another op or shape forgets it. From
4,096 tokens on, calls take turns over as many operands as do not fit in a cache.
"""

import sys
import time
import warnings

import numpy as np
import torch

from step import project, top_fraction

# The least time of a sample, and the bytes that streaming operands take together.
SAMPLE_S, STREAMED, STREAMING_TOKENS = 4e-3, 1 << 27, 4096


def copies(rows, tokens, size=4):
    """How many operands of [rows, tokens] calls take turns over."""
    return max(1, min(64, STREAMED // (rows * tokens * size))) if tokens >= STREAMING_TOKENS else 1


def product(contestant, out, inp, tokens, density):
    keep = torch.zeros(out * inp, dtype=torch.bool)
    keep[torch.randperm(out * inp)[: int(density * out * inp)]] = True
    w = torch.randn(out, inp) * keep.view(out, inp)
    n = copies(out + inp, tokens)
    xs, ys = [torch.randn(inp, tokens) for _ in range(n)], [torch.empty(out, tokens) for _ in range(n)]
    expected, tolerance = w.double() @ xs[0][:, :64].double(), 1e-4
    if contestant == "torch-csr":
        csr = w.to_sparse_csr()
        csr = torch.sparse_csr_tensor(csr.crow_indices().int(), csr.col_indices().int(), csr.values(), w.shape)
        call = lambda i: torch.addmm(ys[i % n], csr, xs[i % n], beta=0, out=ys[i % n])
    elif contestant == "scipy-csr":
        from scipy.sparse import csr_array

        csr = csr_array(w.numpy())
        arrays = [x.numpy() for x in xs]
        call = lambda i: torch.from_numpy(csr @ arrays[i % n])
    elif contestant in ("torch-fp32", "torch-bf16"):
        if contestant == "torch-bf16":
            w, xs, ys = w.bfloat16(), [x.bfloat16() for x in xs], [y.bfloat16() for y in ys]
            tolerance = 2e-2
        call = lambda i: torch.mm(w, xs[i % n], out=ys[i % n])
    else:
        raise ValueError(f"product knows no contestant {contestant}")
    error = (call(0)[:, :64].double() - expected).abs().max() / expected.abs().max().clamp(min=1e-30)
    if error > tolerance:
        raise ValueError(f"{contestant} is off by {float(error):.1e} of the largest entry")
    return call


def abs_top_k(contestant, out, inp, tokens, density):
    n = copies(2 * inp, tokens)
    xs = [torch.randn(tokens, inp) for _ in range(n)]
    return lambda i: top_fraction(xs[i % n], density)


def update(contestant, out, inp, tokens, density):
    w = torch.nn.Parameter(torch.randn(out, inp))
    w.grad = torch.randn(out, inp)
    adam = torch.optim.Adam([w], lr=1e-3, betas=(0.9, 0.95), eps=0.1, fused=True)

    def call(_):
        adam.step()
        project([w], density)

    return call


OPS = {"product": product, "abs_top_k": abs_top_k, "update": update}


class Case:
    """A contestant and the calls that a sample takes."""

    def __init__(self, words):
        contestant, op, *shape, density = words
        if op not in OPS:
            raise ValueError(f"there is no op {op}")
        self.call, self.done, self.calls = OPS[op](contestant, *map(int, shape), float(density)), 0, 1
        self.sample()
        self.calls = max(1, round(SAMPLE_S / min(self.sample() for _ in range(3))))

    def sample(self):
        start = time.perf_counter()
        for i in range(self.done, self.done + self.calls):
            self.call(i)
        self.done += self.calls
        return (time.perf_counter() - start) / self.calls


def main():
    # CSR is called a beta in every session.
    warnings.filterwarnings("ignore", message="Sparse")
    torch.set_num_threads(int(sys.argv[1]))
    torch.manual_seed(0)
    try:
        import scipy

        versions = f"{torch.__version__} numpy {np.__version__} scipy {scipy.__version__}"
    except ImportError:
        versions = f"{torch.__version__} numpy {np.__version__}"
    print("ready", versions, flush=True)
    shape, cases = None, {}
    for line in sys.stdin:
        words = line.split()
        try:
            if shape != words[1:]:
                shape, cases = words[1:], {}
            if words[0] not in cases:
                cases[words[0]] = Case(words)
            print(cases[words[0]].sample(), flush=True)
        except Exception as error:
            print(f"error: {type(error).__name__}: {error}".replace("\n", " "), flush=True)


if __name__ == "__main__":
    with torch.no_grad():
        main()
