"""What Tracr's library programs give on all inputs of our programs: writes golden.json beside this file.

Recipe: python3 -m venv v && v/bin/pip install tracr-pypi==1.0.0 && v/bin/python golden.py

Each program maps every sequence x to Tracr's outputs, one for each place. Symbols are letters (sort: their numbers, since
Tracr sorts numbers); fractions are in lowest terms; shuffle-dyck gives 1 or 0 at all places, of which one is kept.
"""

import itertools
import json
import pathlib
from fractions import Fraction

from tracr.compiler import lib
from tracr.rasp import rasp

A = rasp.numerical(rasp.tokens == "a")


def sequences(symbols, n_max):
    return (x for n in range(1, n_max + 1) for x in itertools.product(symbols, repeat=n))


def outputs(program, symbols, n_max, show):
    return {"".join(map(str, x)): show(program(list(x))) for x in sequences(symbols, n_max)}


def words(y):
    return " ".join(map(str, y))


def fractions(y):
    return " ".join(str(Fraction(v).limit_denominator(20)) if v not in (0, 1) else f"{int(v)}/1" for v in y)


golden = {
    "reverse": outputs(lib.make_reverse(rasp.tokens), "abc", 4, words),
    "sort": outputs(lib.make_sort(rasp.tokens, rasp.tokens, max_seq_len=4, min_key=1), [1, 2, 3], 4, words),
    "histogram": outputs(lib.make_hist(), "abc", 4, words),
    "fraction-previous": outputs(lib.make_frac_prevs(A), "ab", 5, fractions),
    "dyck-1": outputs(lib.make_shuffle_dyck(["()"]), "()", 6, lambda y: str(int(y[-1]))),
    "dyck-2": outputs(lib.make_shuffle_dyck(["()", "[]"]), "()[]", 4, lambda y: str(int(y[-1]))),
}
path = pathlib.Path(__file__).with_name("golden.json")
path.write_text(json.dumps({"tracr-pypi": "1.0.0", **golden}, indent=0, sort_keys=True) + "\n")
print({name: len(table) for name, table in golden.items()})
