"""Shared by the scripts `compare` and `sweep`: which peers there are, whether they can run, and on what."""
import os
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
RUST = ["ours", "burn", "candle", "dfdx", "raskr"]
PYTHON = ["torch", "jax"]
PYTHON_EXE = os.environ.get("PEERS_PYTHON", "python3")


def skip(what, why):
    print(f"skipped {what}: {why}", file=sys.stderr, flush=True)


def available(peers):
    """The peers that can be built or imported."""
    found = []
    for peer in peers:
        if peer in RUST:
            command = ["cargo", "build", "--release", "--quiet", "-p", f"peer-{peer}"]
        else:
            command = [PYTHON_EXE, "-c", f"import numpy, {peer}"]
        try:
            result = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
            problem = (result.stderr.strip().splitlines() or ["it failed"])[-1] if result.returncode else None
        except OSError as e:
            problem = str(e)
        if problem:
            skip(peer, problem)
        else:
            found.append(peer)
    return found


def program(peer, script):
    """The command that runs a peer; `script` is the name of the script of those in Python."""
    return [str(HERE / f"target/release/peer-{peer}")] if peer in RUST else [PYTHON_EXE, str(HERE / "python" / script), peer]


def limits(threads):
    """The arguments for a process that may use so many threads, on as many cores."""
    cores = sorted(os.sched_getaffinity(0))[: int(threads)]
    environment = dict(os.environ, RAYON_NUM_THREADS=str(threads))
    return {"env": environment, "preexec_fn": lambda: os.sched_setaffinity(0, cores)}


def machine():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
        flags = next(line for line in lines if line.startswith("flags"))
    except (OSError, StopIteration):
        cpu, flags = platform.processor() or platform.machine(), ""
    vector = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "no AVX2"
    return f"{cpu}, {os.cpu_count()} cores, {vector}"


def versions(peers):
    """The versions of the peers, from the lock file and the interpreter."""
    names = {"burn": "burn", "candle": "candle-core", "dfdx": "dfdx", "raskr": "autograd"}
    lock, found = (HERE / "Cargo.lock").read_text().split("[[package]]"), []
    for peer in peers:
        if peer in names:
            for package in lock:
                if f'name = "{names[peer]}"\n' in package and "source" in package:
                    found.append(f"{peer} {package.split('version = ')[1].splitlines()[0].strip(chr(34))}")
        elif peer in PYTHON:
            code = f"import {peer}; print({peer}.__version__)"
            version = subprocess.run([PYTHON_EXE, "-c", code], capture_output=True, text=True).stdout.strip()
            found.append(f"{peer} {version}")
    return "Versions: " + ", ".join(found)
