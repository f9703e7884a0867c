"""PyTorch's operations on a GPU, as peers of `cargo xtask bench kernels --device cuda`.

  python gpu.py OP ROWS COLS TOKENS DENSITY

OP: dense-bf16 | dense-tf32 | dense-fp32 (torch.matmul, cuBLAS), csr (torch.sparse CSR @ dense, cuSPARSE), topk (AbsTopK
by torch.topk and scatter, ROWS features). Operands are column blocks of tokens, as PyTorch lays them out best: X [COLS,
TOKENS] for products, [TOKENS, ROWS] for topk.

Prints "ready VERSION", then reads one line per measurement and answers it with the seconds of one call, by CUDA events,
after everything has been driven out of the second cache.
"""

import sys

import torch


def main():
    op = sys.argv[1]
    rows, cols, tokens = map(int, sys.argv[2:5])
    density = float(sys.argv[5])
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = op == "dense-tf32"
    kind = torch.bfloat16 if op == "dense-bf16" else torch.float32
    if op == "topk":
        x = torch.randn(tokens, rows, device="cuda")
        k = max(1, int(density * rows))

        def call():
            keep = torch.topk(x.abs(), k, dim=-1, sorted=False).indices
            return x * torch.zeros_like(x).scatter_(-1, keep, 1.0)
    else:
        w = torch.randn(rows, cols, device="cuda")
        w = w * (torch.rand(rows, cols, device="cuda") < density)
        x = torch.randn(cols, tokens, device="cuda").to(kind)
        y = torch.empty(rows, tokens, device="cuda", dtype=kind)
        if op == "csr":
            w = w.to_sparse_csr()
            call = lambda: torch.addmm(y, w, x, beta=0, out=y)
        else:
            w = w.to(kind)
            call = lambda: torch.matmul(w, x, out=y)
    flush = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")

    def sample():
        flush.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3

    with torch.no_grad():
        for _ in range(3):
            sample()
        print("ready", torch.__version__, torch.cuda.get_device_name(), flush=True)
        for _ in sys.stdin:
            print(sample(), flush=True)


if __name__ == "__main__":
    main()
