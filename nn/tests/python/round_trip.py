"""Parameters to and from Python, by safetensors and NumPy (pip install safetensors numpy).

    python round_trip.py check MODEL EXPECTED   a model that was saved by nn::save: are its logits those in EXPECTED?
    python round_trip.py make MODEL EXPECTED    makes a model, inputs and their logits, for nn::load

A linear layer is x @ weight + bias with weight [inputs, outputs]: torch's Linear has it transposed (weight.T there).
EXPECTED holds the tensors "inputs" and "logits".
"""

import sys

import numpy as np
from safetensors.numpy import load_file, save_file


def logits(model, x):
    """A multi-layer perceptron with relu, as nn::mlp names its parameters."""
    layers = sorted({int(name.split(".")[1]) for name in model})
    for k in layers:
        if k > 0:
            x = np.maximum(x, 0)
        x = x @ model[f"layers.{k}.weight"] + model[f"layers.{k}.bias"]
    return x


def check(model, expected):
    expected = load_file(expected)
    found = logits(load_file(model), expected["inputs"])
    difference = np.abs(found - expected["logits"]).max()
    print(f"largest difference: {difference}")
    return 0 if found.shape == expected["logits"].shape and difference < 1e-5 else 1


def make(model, expected):
    random = np.random.default_rng(1)
    sizes = [12, 16, 8, 4]
    parameters = {}
    for k, (m, n) in enumerate(zip(sizes, sizes[1:])):
        parameters[f"layers.{k}.weight"] = (random.normal(size=(m, n)) / np.sqrt(m)).astype(np.float32)
        parameters[f"layers.{k}.bias"] = random.normal(size=n).astype(np.float32)
    inputs = random.normal(size=(20, sizes[0])).astype(np.float32)
    save_file(parameters, model)
    save_file({"inputs": inputs, "logits": logits(parameters, inputs)}, expected)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in ("check", "make"):
        sys.exit(__doc__)
    sys.exit({"check": check, "make": make}[sys.argv[1]](*sys.argv[2:]))
