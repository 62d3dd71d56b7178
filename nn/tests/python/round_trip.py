"""Exchanges parameters with Python as safetensors files, with NumPy or PyTorch.

    python round_trip.py check MODEL EXPECTED   checks that a model saved by nn::save gives the logits in EXPECTED
    python round_trip.py make MODEL EXPECTED    writes a random model for nn::load, inputs and their logits
    python round_trip.py train MODEL EXPECTED   the same with a model trained by PyTorch

It needs the packages safetensors and numpy; `train` needs torch, and `check` also compares with PyTorch if it is
installed. A linear layer is x @ weight + bias with weight [inputs, outputs]; torch.nn.Linear stores the weight
transposed. EXPECTED contains the tensors "inputs" and "logits".
"""

import importlib.util
import sys

import numpy as np
from safetensors.numpy import load_file, save_file


def depth(model):
    """The number of linear layers; nn::mlp names them layers.0, layers.1, ..."""
    return len({name.split(".")[1] for name in model})


def numpy_logits(model, x):
    """The logits of a multi-layer perceptron with ReLU."""
    for k in range(depth(model)):
        x = np.maximum(x, 0) if k > 0 else x
        x = x @ model[f"layers.{k}.weight"] + model[f"layers.{k}.bias"]
    return x


def to_torch(model):
    """The same model in PyTorch."""
    import torch

    modules = []
    for k in range(depth(model)):
        weight, bias = model[f"layers.{k}.weight"], model[f"layers.{k}.bias"]
        linear = torch.nn.Linear(*weight.shape)
        linear.load_state_dict({"weight": torch.from_numpy(weight.T.copy()), "bias": torch.from_numpy(bias)})
        modules += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1])


def from_torch(sequential):
    """The parameters of a PyTorch model, with the names and the layout of nn::mlp."""
    import torch

    linears = [m for m in sequential if isinstance(m, torch.nn.Linear)]
    weights = {f"layers.{k}.weight": m.weight.detach().numpy().T.copy() for k, m in enumerate(linears)}
    return weights | {f"layers.{k}.bias": m.bias.detach().numpy() for k, m in enumerate(linears)}


def check(model, expected):
    model, expected = load_file(model), load_file(expected)
    found = {"NumPy": numpy_logits(model, expected["inputs"])}
    if importlib.util.find_spec("torch"):
        import torch

        found["PyTorch"] = to_torch(model)(torch.from_numpy(expected["inputs"])).detach().numpy()
    passed = True
    for name, logits in found.items():
        difference = np.abs(logits - expected["logits"]).max()
        print(f"maximum difference to {name}: {difference}")
        passed &= logits.shape == expected["logits"].shape and difference < 1e-5
    return 0 if passed else 1


SIZES = [12, 16, 8, 4]


def make(model, expected):
    random = np.random.default_rng(1)
    parameters = {}
    for k, (m, n) in enumerate(zip(SIZES, SIZES[1:])):
        parameters[f"layers.{k}.weight"] = (random.normal(size=(m, n)) / np.sqrt(m)).astype(np.float32)
        parameters[f"layers.{k}.bias"] = random.normal(size=n).astype(np.float32)
    inputs = random.normal(size=(20, SIZES[0])).astype(np.float32)
    save_file(parameters, model)
    save_file({"inputs": inputs, "logits": numpy_logits(parameters, inputs)}, expected)
    return 0


def train(model, expected):
    import torch

    torch.manual_seed(1)
    pairs = zip(SIZES, SIZES[1:])
    sequential = torch.nn.Sequential(*[m for a, b in pairs for m in (torch.nn.Linear(a, b), torch.nn.ReLU())][:-1])
    inputs = torch.randn(200, SIZES[0])
    labels = inputs[:, : SIZES[-1]].argmax(1)
    sgd = torch.optim.SGD(sequential.parameters(), lr=0.3)
    for _ in range(200):
        sgd.zero_grad()
        loss = torch.nn.functional.cross_entropy(sequential(inputs), labels)
        loss.backward()
        sgd.step()
    print(f"loss: {loss.item()}")
    save_file(from_torch(sequential), model)
    save_file({"inputs": inputs[:20].numpy(), "logits": sequential(inputs[:20]).detach().numpy()}, expected)
    return 0


if __name__ == "__main__":
    commands = {"check": check, "make": make, "train": train}
    if len(sys.argv) != 4 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    sys.exit(commands[sys.argv[1]](*sys.argv[2:]))
