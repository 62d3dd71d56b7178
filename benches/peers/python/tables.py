"""Compares the example `train` with scikit-learn's MLPClassifier and MLPRegressor on five tables.

    pip install scikit-learn palmerpenguins vega_datasets
    cargo build --release --example train
    python benches/peers/python/tables.py target/release/examples/train

The tables come with these packages: iris, digits and diabetes (scikit-learn, BSD), penguins (palmerpenguins, CC0) with
categories and missing values, cars (vega_datasets, BSD) with categories and missing values. Both sides get the same
random four fifths to train on, and are measured on the rest; the numbers are means over three such splits, since one
is a matter of luck by a few samples. Both use their defaults. scikit-learn needs numbers: categories are one-hot, and
missing numbers are the median. The times are those of `fit` there, and of the whole program with reading, printing and
saving here: on the clock, and of processors, which is less a matter of what else runs.
"""

import csv
import json
import pathlib
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import palmerpenguins
import vega_datasets
from sklearn import datasets
from sklearn.neural_network import MLPClassifier, MLPRegressor


class Clock:
    """The wall-clock time and the processor time, of this process and of those that it has waited for."""

    def __init__(self):
        self.began = self.now()

    @staticmethod
    def now():
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return time.perf_counter(), sum(u.ru_utime + u.ru_stime for u in used)

    def passed(self):
        return [now - began for now, began in zip(self.now(), self.began)]


def tables():
    """Name, header, rows, target, and whether it is a classification."""
    for name, target in [("iris", "species"), ("digits", "digit"), ("diabetes", "progression")]:
        data = getattr(datasets, "load_" + name)()
        labels = [repr(float(y)) for y in data.target] if name == "diabetes" else [str(data.target_names[y]) for y in data.target]
        rows = [[repr(float(v)) for v in x] + [y] for x, y in zip(data.data, labels)]
        yield name, [*map(str, data.feature_names), target], rows, target, name != "diabetes"
    path = pathlib.Path(palmerpenguins.__file__).parent / "data" / "penguins.csv"
    header, *rows = csv.reader(path.open())
    yield "penguins", header, rows, "species", True
    cars = json.loads((pathlib.Path(vega_datasets.__file__).parent / "_data" / "cars.json").read_text())
    header = [k for k in cars[0] if k != "Name"]
    rows = [["" if car[k] is None else str(car[k]) for k in header] for car in cars if car["Miles_per_Gallon"] is not None]
    yield "cars", header, rows, "Miles_per_Gallon", False


def numeric(header, train, test, target):
    """The inputs as scikit-learn needs them."""
    columns = []
    for at, name in enumerate(header):
        if name == target:
            continue
        cells = [row[at] for row in train]
        known = [c for c in cells if c not in ("", "NA")]
        try:
            median = statistics.median(map(float, known))
            columns.append(lambda row, at=at, m=median: [m if row[at] in ("", "NA") else float(row[at])])
        except ValueError:
            values = sorted(set(cells))
            columns.append(lambda row, at=at, vs=values: [float(row[at] == v) for v in vs])
    encode = lambda rows: [[x for column in columns for x in column(row)] for row in rows]
    return encode(train), encode(test)


def peer(header, train, test, target, is_classification):
    x, x_test = numeric(header, train, test, target)
    at = header.index(target)
    read = str if is_classification else float
    y, y_test = [read(row[at]) for row in train], [read(row[at]) for row in test]
    model = (MLPClassifier if is_classification else MLPRegressor)(random_state=0)
    began = Clock()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged after 200 epochs
        model.fit(x, y)
    seconds = began.passed()
    return model.score(x_test, y_test), *seconds


def ours(program, folder, header, train, test, target, is_classification):
    for name, rows in [("train", train), ("test", test)]:
        with open(folder / f"{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
    began = Clock()
    arguments = ["--data", folder / "train.csv", "--target", target, "--save", folder / "model"]
    subprocess.run([program, *arguments], check=True, stdout=subprocess.DEVNULL)
    seconds = began.passed()
    evaluate = [program, "evaluate", "--json", "--model", folder / "model", "--data", folder / "test.csv"]
    found = json.loads(subprocess.run(evaluate, check=True, stdout=subprocess.PIPE).stdout)
    return found["accuracy" if is_classification else "r_squared"], *seconds


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    print("| table | measure | train | scikit-learn | seconds of train | of scikit-learn | processor seconds of train | of scikit-learn |\n|---|---|---|---|---|---|---|---|")
    for name, header, rows, target, is_classification in tables():
        results = []
        for seed in range(3):
            shuffled = list(rows)
            random.Random(seed).shuffle(shuffled)
            cut = len(shuffled) * 4 // 5
            parts = header, shuffled[:cut], shuffled[cut:], target, is_classification
            with tempfile.TemporaryDirectory() as folder:
                own = ours(program, pathlib.Path(folder), *parts)
            results.append(own + peer(*parts))
        score, seconds, processor, their_score, their_seconds, their_processor = map(statistics.mean, zip(*results))
        measure = "accuracy" if is_classification else "R²"
        print(f"| {name} | {measure} | {score:.3f} | {their_score:.3f} | {seconds:.2f} | {their_seconds:.2f} | {processor:.2f} | {their_processor:.2f} |", flush=True)


if __name__ == "__main__":
    main()
