"""Writes viz_data.pt: a small file in the layout of the published viewer's data, with known content.

    python3 make.py

Needs nothing but Python: torch.save's format is a zip with a pickle and raw storages, and stand-ins for torch's
names give the pickle the same opcodes. Same bytes every time.
"""

import io
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path


def stand_in(name, **members):
    module = sys.modules.setdefault(name, types.ModuleType(name))
    for key, value in members.items():
        value.__module__ = name
        value.__qualname__ = value.__name__ = key
        setattr(module, key, value)


class FloatStorage:
    pass


class LongStorage:
    pass


def _rebuild_tensor_v2(*_arguments):
    raise RuntimeError("only its name is written")


stand_in("torch", FloatStorage=FloatStorage, LongStorage=LongStorage)
stand_in("torch._utils", _rebuild_tensor_v2=_rebuild_tensor_v2)


class Storage:
    def __init__(self, kind, values):
        self.kind, self.values = kind, values


class Tensor:
    def __init__(self, kind, values, shape):
        self.storage, self.shape = Storage(kind, values), shape

    def __reduce__(self):
        strides, step = [], 1
        for length in reversed(self.shape):
            strides.insert(0, step)
            step *= length
        arguments = (self.storage, 0, tuple(self.shape), tuple(strides), False, {})
        return _rebuild_tensor_v2, arguments


def floats(values, *shape):
    return Tensor(FloatStorage, values, shape or (len(values),))


def longs(values, *shape):
    return Tensor(LongStorage, values, shape or (len(values),))


class Pickler(pickle.Pickler):
    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.storages = []

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        self.storages.append(value)
        return ("storage", value.kind, str(len(self.storages) - 1), "cpu", len(value.values))


def save(path, value):
    body = io.BytesIO()
    pickler = Pickler(body)
    pickler.dump(value)
    entries = {"viz_data/data.pkl": body.getvalue(), "viz_data/byteorder": b"little"}
    for i, storage in enumerate(pickler.storages):
        form = "<%df" if storage.kind is FloatStorage else "<%dq"
        entries[f"viz_data/data/{i}"] = struct.pack(form % len(storage.values), *storage.values)
    entries["viz_data/version"] = b"3\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name), data)


# Four prompts of two classes, padded with token 0 on the right to five tokens; token 0 within a prompt is no padding.
PROMPTS = [5, 6, 7, 0, 0, 5, 0, 8, 9, 0, 5, 6, 17, 0, 0, 5, 0, 18, 9, 0]


def context(start, value):
    return (longs([start, start + 1, start + 2]), floats([0.0, value, -value / 2]), 1)


save(
    Path(__file__).parent / "viz_data.pt",
    {
        "circuit_data": (
            {"0.mlp.act_in": longs([3, 40]), "0.mlp.post_act": longs([7]), "0.mlp.resid_delta": longs([11]), "final_resid": longs([11])},
            {"k": 4},
        ),
        "samples": {
            "0.mlp.post_act": {7: {0.001: [[context(20, -3.0)], [context(30, 4.0)]], 0.5: [[context(40, -0.5)], [context(50, 0.25)]]}},
        },
        "importances": {
            "ch_interv_losses": {"0.mlp.act_in": floats([0.5, 0.25]), "0.mlp.post_act": {7: 1.25}, "0.mlp.resid_delta": floats([0.75])},
            "layer_interv_losses": {"0.mlp.post_act": 1.5},
            "interv_loss": 0.25,
            "loss": 0.125,
            "pair_data": [
                # Rows are sources, the last of which is the bias.
                [floats([0.5, 0.0, 0.125], 3, 1), [3, 40, "bias"], [7], ("0.mlp.act_in", "0.mlp.post_act")],
                [floats([-0.25], 1, 1), longs([7]), longs([11]), ("0.mlp.post_act", "0.mlp.resid_delta")],
            ],
            "task_samples": (longs(PROMPTS, 4, 5), {"0.mlp.post_act": {7: floats([i / 4 for i in range(20)], 4, 5)}}),
        },
        "all_loss": [(8, 0.5), (16, 0.25)],
        "num_total_nodes": 5,
        "prune_config": {"target_loss": 0.15, "verbose": True, "note": None},
    },
)
