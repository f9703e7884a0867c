"""Writes the checkpoints beside this file. Run: python make.py (PyTorch 2.15 wrote the ones kept here).

Numbers are chosen so that the tests can state them without reading anything else.
"""

import os
from collections import OrderedDict
from pathlib import Path

import torch

here = Path(__file__).parent


def save(name, value, **options):
    torch.save(value, here / f"{name}.pt", **options)


count = lambda *shape: torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)

# A plain state dict, as nn.Module.state_dict() returns it (with its _metadata).
layer = torch.nn.Linear(3, 2)
layer.weight.data = count(2, 3)
layer.bias.data = torch.tensor([-1.5, 0.25])
save("plain", layer.state_dict())
save("protocol4", layer.state_dict(), pickle_protocol=4)

# A training checkpoint: nested, with settings, an optimizer's lists, and one dictionary under two names.
inner = OrderedDict(w=count(2, 2))
save("nested", {
    "model": {"blocks": [{"w": count(2)}, {"w": count(3)}], "tied": inner, "also_tied": inner},
    "optimizer": {"state": {0: {"exp_avg": count(1), "step": torch.tensor(7.0)}},
                  "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0], "foreach": None}]},
    "step": 7, "big": 2**40, "huge": 2**100, "negative": -5, "name": "run", "raw": b"\x00\x01",
    "size": torch.Size([2, 3]), "device": torch.device("cpu"), "dtype": torch.bfloat16,
})

# Every kind that can be read, with the bits that are easily lost; and some that cannot.
bits = lambda kind, width, *values: torch.tensor(values, dtype=width).view(kind)
save("kinds", {
    "f32": bits(torch.float32, torch.int32, 0x7FA00001, -0x80000000, 0x00000001, 0x3F800000),
    "f16": bits(torch.float16, torch.int16, 0x7C01, -0x8000, 0x0001, 0x3C00),
    "bf16": bits(torch.bfloat16, torch.int16, 0x7F81, -0x8000, 0x0001, 0x3F80),
    "i64": torch.tensor([-(2**63), -1, 0, 2**63 - 1]),
    "u16": torch.tensor([0, 1, 65535], dtype=torch.uint16),
    "f64": torch.tensor([1.0], dtype=torch.float64), "mask": torch.tensor([True, False]),
    "f8": torch.tensor([1.0]).to(torch.float8_e4m3fn),
})

# Views: several tensors in one storage, in other orders.
base = count(4, 6)
save("views", {
    "base": base, "transposed": base.T, "rows": base[1:3], "columns": base[:, 2:5], "every_other": base[::2, ::3],
    "permuted": count(2, 3, 4).permute(2, 0, 1), "scalar": base[3, 5], "empty": base[:0], "empty_columns": base[:, :0],
})

save("parameter", {"p": torch.nn.Parameter(count(2, 2)), "frozen": torch.nn.Parameter(count(2), requires_grad=False)})
save("bare", count(3))

# Files that have to be refused.
class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/openwork-was-here",)


save("evil", {"w": count(2), "x": Evil()})
save("module", layer)
save("legacy", layer.state_dict(), _use_new_zipfile_serialization=False)
save("expanded", {"w": torch.zeros(1).expand(1 << 40)})
save("negated", {"w": torch.view_as_complex(count(2, 2)).conj().imag})
cycle = {"w": count(2)}
cycle["self"] = cycle
save("cycle", cycle)
