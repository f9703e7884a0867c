"""Compares two quickstart runs: python3 compare.py BEFORE AFTER (folders with run/ in them).

Tensors are compared bit for bit, logs line by line but for the speed, circuits and verdicts number by number. Hashes and
names of fields differ between format versions and are not compared; every other difference is printed.
"""

import json
import struct
import sys
from collections import Counter
from pathlib import Path


def tensors(path):
    """Dtype, shape and bytes of every tensor of a safetensors file."""
    data = path.read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + n])
    header.pop("__metadata__", None)
    start = 8 + n
    return {
        name: (t["dtype"], t["shape"], data[start + t["data_offsets"][0] : start + t["data_offsets"][1]])
        for name, t in header.items()
    }


def log(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line.pop("tokens_per_second")
    return lines


def numbers(value):
    """Every number below `value`, counted."""
    found = Counter()
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return found
    if isinstance(value, (int, float)):
        return Counter([float(value)])
    for part in value.values() if isinstance(value, dict) else value:
        found += numbers(part)
    return found


def compare(name, before, after):
    same = before == after
    print(f"{'same' if same else 'DIFFERS':8} {name}")
    if not same and isinstance(before, Counter):
        print(f"         only before: {sorted((before - after).elements())[:20]}")
        print(f"         only after:  {sorted((after - before).elements())[:20]}")
    elif not same and isinstance(before, list) and len(before) == len(after):
        pairs = [(a, b) for a, b in zip(before, after) if a != b]
        print(f"         {len(pairs)} of {len(before)} differ, for example")
        for a, b in pairs[:3]:
            print(f"         before: {str(a)[:300]}\n         after:  {str(b)[:300]}")
    elif not same:
        print(f"         before: {str(before)[:300]}\n         after:  {str(after)[:300]}")
    return same


def main(before, after):
    results = []

    def check(name, a, b):
        results.append(compare(name, a, b))

    for file in ["model.safetensors", "checkpoint.safetensors", "means.safetensors"]:
        a, b = tensors(before / "run" / file), tensors(after / "run" / file)
        check(f"{file}: {len(a)} tensors, bit for bit", a, b)
    check("log.jsonl, every step", log(before / "run/log.jsonl"), log(after / "run/log.jsonl"))
    for circuit in sorted((before / "run/circuits").glob("*.json")):
        a = json.loads(circuit.read_text())
        b = json.loads((after / "run/circuits" / circuit.name).read_text())
        if not circuit.name.endswith(".verdict.json"):
            for key in ["task", "nodes", "edges", "calibration", "target_loss_nats", "loss_nats", "seed"]:
                check(f"{circuit.name}: {key}", a[key], b[key])
            continue
        check(f"{circuit.name}: controls", numbers(a["controls"]), numbers(b["controls"]))
        a, b = a["report"], b["report"]
        kind = lambda verdict: verdict if isinstance(verdict, str) else next(iter(verdict))
        check(f"{circuit.name}: verdict", kind(a["verdict"]), kind(b["verdict"]))
        check(f"{circuit.name}: level reached", a["rung"], b["level_reached"])
        checks = lambda report: [(c["level"], c["role"], c["status"]) for c in report["checks"]]
        check(f"{circuit.name}: {len(a['checks'])} checks (level, role, status)", checks(a), checks(b))
        explanations = lambda report: [c["explanation"] for c in report["checks"]]
        check(f"{circuit.name}: explanations of checks", explanations(a), explanations(b))
        for key in ["verdict", "checks", "matrix", "random_sets", "curves", "findings", "size", "settings"]:
            check(f"{circuit.name}: numbers of {key}", numbers(a[key]), numbers(b[key]))
    print(f"{results.count(True)} of {len(results)} comparisons are the same")


main(Path(sys.argv[1]), Path(sys.argv[2]))
