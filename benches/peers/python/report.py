"""The results of the sweep as tables and pictures."""
import datetime
import json
import re
from html import escape
from math import exp, log, log2, log10, prod
from pathlib import Path

from cases import all_cases
from peers import machine, versions

TOLERANCE = {"f32": 2e-4, "f64": 1e-9}
MEMORY_BOUND = ("arith", "reduce", "move")  # the families that are compared with a plain copy


class Results:
    """The measurements: a file with one JSON line each, of which the last one for the same thing counts."""

    def __init__(self, file):
        self.file = Path(file)
        self.found = {}
        if self.file.exists():
            for line in self.file.read_text().splitlines():
                row = json.loads(line)
                self.found[row["case"], row["threads"], row["peer"]] = row

    def get(self, case, threads, peer):
        row = self.found.get((case, threads, peer), {})
        return row if "us" in row else None

    def has(self, case, threads, peer):
        return self.get(case, threads, peer) is not None

    def add(self, case, threads, peer, result):
        row = {"case": case, "threads": threads, "peer": peer, **result}
        self.found[case, threads, peer] = row
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")


def machine_limits(case, ours):
    """What the machine is to be measured at, to compare this case with it."""
    if case.family in MEMORY_BOUND and ours:
        return [f"machine copy {2 ** round(log2(max(ours['bytes'], 4096)))}"]
    return [f"machine fma {case.dtype}"] if flop(case) else []


def flop(case):
    """The additions and multiplications of a matrix product, or 0 for other cases."""
    if case.family != "product" or case.op not in ("matmul", "einsum"):
        return 0
    a, b = (i.shape for i in case.inputs)
    if case.op == "einsum":
        letters = case.params["spec"].replace(",", "").split("->")[0]
        count = prod(dict(zip(letters, a + b)).values())
    else:
        count = prod(a) * (b[-1] if len(b) > 1 else 1)
    return 2 * count * (3 if case.mode == "grad" else 1)


def share_of_machine(case, ours, results, threads):
    """Ours in percent of what the machine can do at most, as text."""
    for limit in machine_limits(case, ours):
        best = results.get(limit, threads, "ours")
        if best and "gflops" in best:
            rate = flop(case) / ours["us"] / 1e3
            return f"{rate:.1f} GFLOP/s, {100 * rate / best['gflops']:.0f} %"
        if best:
            rate = ours["bytes"] / ours["us"] / 1e3
            return f"{rate:.1f} GB/s, {100 * rate / (best['bytes'] / best['us'] / 1e3):.0f} %"
    return ""


def write(results, out, peers, by):
    """`sweep.md` and the pictures in a directory; prints the summary. `by` says which times count."""
    measured = [c for c in all_cases() if any(key[0] == str(c) for key in results.found)]
    threads = sorted({key[1] for key in results.found}, key=int)
    title = f"{datetime.date.today()}, {machine()}; {by} times in µs\n\n{versions(peers)}\n"
    summary, tables = [title], []
    for n in threads:
        rows = [Row(case, n, results, peers, by) for case in measured]
        rows = [row for row in rows if row.times]
        summary.append(families(rows, n, peers) + problems(rows))
        tables.append(table(rows, n, peers))
        (out / f"sweep-{n}.svg").write_text(picture([r for r in rows if r.ratio], n))
    (out / "sweep.md").write_text("# Sweep\n\n" + "\n".join(summary + tables))
    print("\n".join(summary))
    print(f"Wrote {out}/sweep.md and pictures.")


class Row:
    """The results of one case with one number of threads."""

    def __init__(self, case, threads, results, peers, by):
        self.case = case
        found = {peer: results.found.get((str(case), threads, peer)) for peer in peers}
        self.errors = {peer: row["error"] for peer, row in found.items() if row and "error" in row}
        key = {"median": "us", "minimum": "min_us"}[by]
        self.times = {peer: row[key] for peer, row in found.items() if row and "us" in row}
        others = [time for peer, time in self.times.items() if peer != "ours"]
        self.ratio = self.times["ours"] / min(others) if others and "ours" in self.times else None
        ours = results.get(str(case), threads, "ours")
        self.share = share_of_machine(case, {**ours, "us": ours[key]}, results, threads) if ours else ""
        checks = {peer: row["check"] for peer, row in found.items() if row and "us" in row}
        self.differs = [peer for peer in checks if "ours" in checks and self.is_other(checks["ours"], checks[peer])]

    def is_other(self, a, b):
        """Whether the values of two peers differ by more than rounding."""
        dtypes = {self.case.dtype, self.case.params.get("to")}
        tolerance = TOLERANCE["f32" if "f32" in dtypes else "f64"]
        near = lambda x, y, scale: type(x) is type(y) is float and abs(x - y) <= tolerance * scale  # noqa: E731
        return len(a) != len(b) or not all(
            near(x, y, s + t) and near(s, t, s + t) for (x, s), (y, t) in zip(a, b))


def mean(ratios):
    return exp(sum(map(log, ratios)) / len(ratios)) if ratios else float("nan")


def families(rows, threads, peers):
    """The ratios of the families: of ours to the best of the others."""
    lines = [f"## Summary, {threads} thread{'s' * (threads != '1')}", "",
             "The time of `ours` divided by that of the fastest other peer.", "",
             "| family | cases | geometric mean | slower | slower than 1.3 | worst |", "|---|---|---|---|---|---|"]
    names = list(dict.fromkeys(row.case.family for row in rows))
    for name in [*names, "**all**"]:
        ratios = [row.ratio for row in rows if row.ratio and name in (row.case.family, "**all**")]
        if not ratios:
            continue
        share = lambda limit: f"{100 * sum(r > limit for r in ratios) / len(ratios):.0f} %"  # noqa: E731
        lines.append(f"| {name} | {len(ratios)} | {mean(ratios):.2f} | {share(1)} | {share(1.3)} | {max(ratios):.2f} |")
    for peer in peers:
        ratios = [row.times["ours"] / row.times[peer] for row in rows if peer in row.times and "ours" in row.times]
        if peer != "ours" and ratios:
            lines.append(f"\nGeometric mean of `ours` to {peer} alone: {mean(ratios):.2f} ({len(ratios)} cases)")
    worst = sorted((row for row in rows if row.ratio), key=lambda row: -row.ratio)[:20]
    lines += ["", "The slowest: " + "; ".join(f"`{row.case.name}` {row.ratio:.1f}" for row in worst)]
    return "\n".join(lines) + "\n"


def problems(rows):
    """What failed, and whose values differ."""
    lines = [f"- {peer} failed on `{row.case.name}`: {error}" for row in rows for peer, error in row.errors.items()]
    lines += [f"- the values of {', '.join(row.differs)} and ours differ: `{row.case.name}`" for row in rows if row.differs]
    return "\n" + "\n".join(lines) + "\n" if lines else ""


def table(rows, threads, peers):
    lines = [f"## All cases, {threads} thread{'s' * (threads != '1')}", "",
             "The last column: bytes that must be read and written, to those of a plain copy of the same size; or the arithmetic "
             "rate, to fused multiply-adds in registers.", "",
             "| family | case | " + " | ".join(peers) + " | ours / best | of the machine |", "|---" * (len(peers) + 4) + "|"]
    for row in rows:
        times = [f"{row.times[peer]:,.1f}" if peer in row.times else "–" for peer in peers]
        ratio = f"{row.ratio:.2f}" if row.ratio else "–"
        lines.append(f"| {row.case.family} | `{row.case.name}` | {' | '.join(times)} | {ratio} | {row.share} |")
    return "\n".join(lines) + "\n"


HEIGHT, LABEL, PLOT, COLUMNS = 10, 250, 190, 3


def picture(rows, threads):
    """A bar for each case, from 1 to its ratio on a logarithmic scale, in columns."""
    if not rows:
        return "<svg xmlns='http://www.w3.org/2000/svg'/>\n"
    lines = []  # what is drawn, from top to bottom: headings and rows
    for family in dict.fromkeys(row.case.family for row in rows):
        group = sorted((row for row in rows if row.case.family == family), key=lambda row: -row.ratio)
        lines += [f"{family}: {mean([row.ratio for row in group]):.2f}", *group]
    low = min(0.1, min(row.ratio for row in rows))
    high = max(10, max(row.ratio for row in rows))
    at = lambda ratio: LABEL + PLOT * log10(ratio / low) / log10(high / low)  # noqa: E731
    per_column = -(-len(lines) // COLUMNS)
    width, height = COLUMNS * (LABEL + PLOT + 40), per_column * HEIGHT + 60
    title = f"Time of ours / time of the fastest other peer, {threads} thread{'s' * (threads != '1')}: "
    ratios = [row.ratio for row in rows]
    title += f"geometric mean {mean(ratios):.2f}, {sum(r > 1 for r in ratios)} of {len(ratios)} cases slower"
    svg = [f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' font-family='sans-serif' font-size='8'>",
           "<rect width='100%' height='100%' fill='white'/>",
           f"<text x='10' y='20' font-size='14'>{escape(title)}</text>"]
    for column in range(COLUMNS):
        part = lines[column * per_column:(column + 1) * per_column]
        svg.append(f"<g transform='translate({column * (LABEL + PLOT + 40)} 50)'>")
        svg += grid(low, high, at, len(part) * HEIGHT)
        for k, line in enumerate(part):
            svg.append(heading(line, k) if isinstance(line, str) else bar(line, k, at))
        svg.append("</g>")
    return "\n".join([*svg, "</svg>"]) + "\n"


def grid(low, high, at, height):
    marks = [m * 10.0**e for e in range(-4, 5) for m in (1, 3) if low <= m * 10.0**e <= high]
    for mark in marks:
        color = "black" if mark == 1 else "#ddd"
        yield f"<line x1='{at(mark):.1f}' x2='{at(mark):.1f}' y1='-4' y2='{height}' stroke='{color}' stroke-width='0.7'/>"
        yield f"<text x='{at(mark):.1f}' y='-7' text-anchor='middle'>{mark:g}</text>"


def heading(text, k):
    return f"<text x='8' y='{k * HEIGHT + 8}' font-weight='bold' font-size='10'>{escape(text)}</text>"


def bar(row, k, at):
    x, y, one = at(row.ratio), k * HEIGHT, at(1)
    color = "#2a9d5c" if row.ratio <= 1 else "#e9a03b" if row.ratio <= 1.3 else "#d1495b"
    label = re.sub(r"@[^ !]*|!", "", row.case.name)
    label = label if len(label) < 60 else label[:58] + ".."
    times = ", ".join(f"{peer} {time:,.1f} µs" for peer, time in row.times.items())
    return (
        f"<g><title>{escape(row.case.name)}: {row.ratio:.2f} ({escape(times)})</title>"
        f"<text x='{LABEL - 5}' y='{y + 8}' text-anchor='end'>{escape(label)}</text>"
        f"<rect x='{min(x, one):.1f}' y='{y + 2}' width='{abs(x - one) + 0.5:.1f}' height='{HEIGHT - 3}' fill='{color}'/>"
        f"<text x='{max(x, one) + 3:.1f}' y='{y + 8}' fill='#555'>{row.ratio:.2f}</text></g>")
