"""PyTorch (eager) and JAX (jit) on the cases of the sweep: `sweep.py torch|jax --threads N --seconds S`.

Reads cases, one a line, from the standard input, and prints a JSON line for each: times, and numbers to compare the results
by. `sweep_torch.py` and `sweep_jax.py` say what the ops are.
"""
import json
import os
import statistics
import sys
import time
import warnings

peer = sys.argv[1]
option = dict(zip(sys.argv[2::2], sys.argv[3::2]))
threads, seconds = int(option.get("--threads", 1)), float(option.get("--seconds", 0.1))
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=" + ("true" if threads > 1 else "false")
warnings.simplefilter("ignore")

import cases  # after the settings above, because the libraries read them when they are loaded

if peer == "torch":
    import sweep_torch as program
else:
    import sweep_jax as program


def measure(case):
    run = program.prepare(case, threads)
    outputs = run()
    if case.mode == "step":
        outputs = run()  # the second loss depends on the first update
    result = {"check": [] if case.family == "random" else cases.check(program.arrays(outputs))}
    del outputs
    start = time.perf_counter()
    while time.perf_counter() - start < seconds / 4:
        run()
    times, start = [], time.perf_counter()
    while time.perf_counter() - start < seconds or len(times) < 3:
        run_start = time.perf_counter()
        run()
        times.append((time.perf_counter() - run_start) * 1e6)
    return {"us": round(statistics.median(times), 3), "min_us": round(min(times), 3), "n": len(times), **result}


for line in sys.stdin:
    [case] = cases.parse(line)
    try:
        result = measure(case)
    except Exception as e:  # the driver reports it and goes on
        result = {"error": f"{type(e).__name__}: {e}".splitlines()[0]}
    print(json.dumps(result), flush=True)
