"""PyTorch (eager) and JAX (jit) on the benchmark workloads: `peer.py torch|jax WORKLOAD --threads N --seconds S`.

Prints one JSON line, like the Rust peers. Exit status 3: the workload is not implemented for this peer.
"""
import json
import os
import resource
import statistics
import sys
import time

peer, workload = sys.argv[1:3]
option = dict(zip(sys.argv[3::2], sys.argv[4::2]))
threads, seconds = int(option.get("--threads", 1)), float(option.get("--seconds", 2))
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=" + ("true" if threads > 1 else "false")

import numpy as np  # after the settings above, because the libraries read them when they are loaded

WIDTHS = {"mlp_small": [784, 128, 10], "mlp_large": [784, 512, 512, 10], "infer_one": [784, 128, 10]}
BATCH = {"mlp_small": 64, "mlp_large": 128, "infer_one": 1}
REPEATS = {"scalar_chain": 1_000, "deep_chain": 200_000}
random = np.random.default_rng(1)


def noise(*shape, scale=1.0):
    return (random.uniform(-scale, scale, shape)).astype(np.float32)


def labels(count):
    return np.arange(count) * 7 % 10


def torch_run():
    import torch
    from torch import nn

    torch.set_num_threads(threads)

    def leaf(array):
        return torch.from_numpy(array).requires_grad_()

    def gradient_of(function, *leaves):
        def run():
            for x in leaves:
                x.grad = None
            function().backward()

        return run

    if workload in WIDTHS:
        widths, batch = WIDTHS[workload], BATCH[workload]
        layers = [m for i, o in zip(widths, widths[1:]) for m in (nn.Linear(i, o), nn.ReLU())][:-1]
        model, x = nn.Sequential(*layers), torch.from_numpy(noise(batch, widths[0]))
        if workload == "infer_one":
            return torch.inference_mode()(lambda: model(x))
        y, sgd = torch.from_numpy(labels(batch)), torch.optim.SGD(model.parameters(), lr=0.1)

        def step():
            sgd.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            sgd.step()

        return step
    if workload == "elementwise":
        x = leaf(noise(1_000_000))
        return gradient_of(lambda: torch.sigmoid(torch.tanh(x) * x + torch.exp(-x)).sum(), x)
    if workload == "branches":
        x, weights = torch.from_numpy(noise(128, 256)), [leaf(noise(256, 256, scale=0.05)) for _ in range(64)]
        return gradient_of(lambda: sum(torch.tanh(x @ w).sum() for w in weights), *weights)
    if workload in REPEATS:
        x = torch.tensor(0.5, requires_grad=True)

        def chain():
            y = x
            for _ in range(REPEATS[workload]):
                y = y * x + x
            return y

        return gradient_of(chain, x)
    return None


def jax_run():
    import jax
    import jax.numpy as jnp

    def forward(params, x):
        for w, b in params[:-1]:
            x = jax.nn.relu(x @ w + b)
        w, b = params[-1]
        return x @ w + b

    if workload in WIDTHS:
        widths, batch = WIDTHS[workload], BATCH[workload]
        params = [(jnp.asarray(noise(i, o, scale=0.05)), jnp.zeros(o)) for i, o in zip(widths, widths[1:])]
        x, y = jnp.asarray(noise(batch, widths[0])), jnp.asarray(labels(batch))
        if workload == "infer_one":
            infer = jax.jit(forward)
            return lambda: infer(params, x).block_until_ready()

        def loss(params):
            return -jnp.take_along_axis(jax.nn.log_softmax(forward(params, x)), y[:, None], 1).mean()

        def update(params):
            value, grads = jax.value_and_grad(loss)(params)
            return value, jax.tree.map(lambda p, d: p - 0.1 * d, params, grads)

        update = jax.jit(update, donate_argnums=0)
        state = [params]

        def step():
            value, state[0] = update(state[0])
            jax.block_until_ready((value, state[0]))

        return step
    if workload == "elementwise":
        x = jnp.asarray(noise(1_000_000))
        gradient = jax.jit(jax.value_and_grad(lambda x: jax.nn.sigmoid(jnp.tanh(x) * x + jnp.exp(-x)).sum()))
        return lambda: jax.block_until_ready(gradient(x))
    if workload == "branches":
        x, weights = jnp.asarray(noise(128, 256)), [jnp.asarray(noise(256, 256, scale=0.05)) for _ in range(64)]
        gradient = jax.jit(jax.value_and_grad(lambda ws: sum(jnp.tanh(x @ w).sum() for w in ws)))
        return lambda: jax.block_until_ready(gradient(weights))
    if workload == "scalar_chain":  # traced in each run, since the other peers also build the graph in each run

        def chain(x):
            y = x
            for _ in range(REPEATS[workload]):
                y = y * x + x
            return y

        return lambda: jax.grad(chain)(0.5).block_until_ready()
    return None


run = {"torch": torch_run, "jax": jax_run}[peer]()
if run is None:
    sys.exit(3)
start = time.perf_counter()
while time.perf_counter() - start < seconds / 4:
    run()
times, start = [], time.perf_counter()
while time.perf_counter() - start < seconds or len(times) < 3:
    run_start = time.perf_counter()
    run()
    times.append((time.perf_counter() - run_start) * 1e6)
print(json.dumps({
    "peer": peer, "workload": workload, "threads": threads, "median_us": round(statistics.median(times), 2),
    "min_us": round(min(times), 2), "n": len(times),
    "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
}))
