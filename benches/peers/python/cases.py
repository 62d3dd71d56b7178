"""The list of cases of the sweep (`../cases.txt`): how it is read, and the numbers that the inputs are filled with.

`benches::sweep` (Rust) does the same. The driver imports this too, so numpy is imported only where it is needed.
"""
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod
from pathlib import Path

LIST = Path(__file__).resolve().parent.parent / "cases.txt"
WEIGHT_SEED = 100  # of the weights of the outputs; the inputs have the seeds 0, 1, ..


@dataclass
class Input:
    shape: tuple
    layout: str  # "", "t", "s" or "r"
    values: tuple  # (low, high), or an integer n for 0 to n - 1, or "bool"
    is_constant: bool
    dtype: str

    def stored(self):
        """The shape of the array as it is stored."""
        *front, last = self.shape
        if self.layout == "t":
            return (*front[:-1], last, front[-1])
        return (*front, {"": last, "s": 2 * last, "r": last + 24}[self.layout])

    def has_gradient(self):
        return not self.is_constant and self.dtype in ("f32", "f64")


@dataclass
class Case:
    family: str
    op: str
    dtype: str
    mode: str
    inputs: list
    params: dict
    name: str

    def __str__(self):
        return f"{self.family} {self.name}"

    def ints(self, key):
        """A list of axes or sizes, or None."""
        text = self.params.get(key)
        return text and tuple(int(n) for n in text.replace("x", ",").split(","))

    def number(self, key, default=0.0):
        return float(self.params.get(key, default))


def all_cases():
    return [case for line in LIST.read_text().splitlines() for case in parse(line)]


def parse(line):
    """The cases of a line: all combinations of its ops, types and modes."""
    fields = line.split("#")[0].split()
    if not fields:
        return []
    family, ops, dtypes, modes, *rest = fields
    inputs = [field for field in rest if "=" not in field and field != "-"]
    params = dict(field.split("=", 1) for field in rest if "=" in field)
    return [
        Case(family, op, dtype, mode, [parse_input(field, dtype) for field in inputs], params, " ".join([op, dtype, mode, *rest]))
        for op, dtype, mode in product(ops.split(","), dtypes.split(","), modes.split(","))
    ]


def parse_input(field, dtype):
    """`SHAPE[.LAYOUT][@VALUES][!]`"""
    is_constant = field.endswith("!")
    place, _, values = field.rstrip("!").partition("@")
    shape, _, layout = place.partition(".")
    shape = tuple(int(n) for n in shape.split("x"))
    if not values:
        values = {"bool": "bool", "i64": "<100"}.get(dtype, "-1..1")
    if values == "bool":
        return Input(shape, layout, values, is_constant, "bool")
    if values.startswith("<"):
        return Input(shape, layout, int(values[1:]), is_constant, "i64")
    low, high = values.split("..")
    return Input(shape, layout, (float(low), float(high)), is_constant, dtype)


@lru_cache(8)  # cases that follow each other often have the same inputs
def array(shape, dtype, values, seed):
    """An input as a numpy array. It is shared: to be copied by who changes it."""
    import numpy as np

    index = np.arange(prod(shape), dtype=np.uint32)
    h = index * np.uint32(0x9E3779B1) + np.uint32(seed * 0x85EBCA77 & 0xFFFFFFFF)
    h = (h ^ (h >> 16)) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * np.uint32(0xC2B2AE35)
    h ^= h >> 16  # the finalizer of MurmurHash3
    if values == "bool":
        made = h >> 31 == 1
    elif isinstance(values, int):
        made = (h % values).astype(np.int64)
    else:
        low, high = values
        made = (low + (high - low) * ((h >> 8) / (1 << 24))).astype({"f32": np.float32, "f64": np.float64}[dtype])
    made = made.reshape(shape)
    made.flags.writeable = False
    return made


def check(outputs):
    """Two numbers for each output, by which the results of several libraries are compared: a weighted sum of its elements, and
    that of their absolute values."""
    import numpy as np

    sums = []
    for output in outputs:
        x = np.asarray(output).astype(np.float64).ravel()
        weights = np.arange(x.size) % 1009 / 1009 + 0.5
        sums.append([float(weights @ x), float(weights @ np.abs(x))])
    return sums
