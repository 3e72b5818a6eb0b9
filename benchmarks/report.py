"""What was measured, as a table on the terminal and as a section of a page."""

import importlib.util
import math
from argparse import ArgumentTypeError
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- bench-cpu: begin -->", "<!-- bench-cpu: end -->"
NAMES = {"mlc": "mlc", "ort": "ONNX Runtime", "torch": "PyTorch", "torch.compile": "torch.compile"}
HEADLINE = ("resnet50", "mobilenet_v2", "bert", "gpt2", "vit_b16", "lstm")
QUIET = 0.05  # of the cores: more than this busy with other work makes a row doubtful

Row = Mapping[str, Any]
Report = Mapping[str, Any]


def ratio(row: Row, peer: str) -> float | None:
    """A peer's time over mlc's; None unless both have one."""
    ours, theirs = (row["results"].get(kind, {}).get("median") for kind in ("mlc", peer))
    return theirs / ours if ours and theirs else None


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive numbers, at least one."""
    return math.exp(sum(map(math.log, values)) / len(values))


def means(rows: Sequence[Row], peers: Sequence[str]) -> list[str]:
    """A line per group of cases: geometric means of the ratios, and of how many cases."""
    groups = {"headline models": [r for r in rows if r["name"] in HEADLINE], "all models": [r for r in rows if not r["kernel"]],
              "kernels": [r for r in rows if r["kernel"]]}
    if len(groups["all models"]) == len(groups["headline models"]):
        del groups["all models"]
    lines = []
    for group, members in groups.items():
        parts = []
        for peer in peers:
            ratios = [x for row in members if (x := ratio(row, peer)) is not None]
            if ratios:
                parts.append(f"{NAMES[peer]} {geometric_mean(ratios):.2f} (of {len(ratios)})")
        if parts:
            lines.append(f"{group}, geometric mean of peer time / mlc time: {', '.join(parts)}")
    return lines


def header(peers: Sequence[str]) -> list[str]:
    """Of the table of times."""
    times, ratios = [f"{NAMES[p]} ms" for p in peers], [f"{NAMES[p]} / mlc" for p in peers]
    return ["case", "mlc ms (p10-p90)", *times, *ratios, "GFLOP", "MB", "roof ms", "of roof", "error"]


def cells(row: Row, peers: Sequence[str]) -> list[str]:
    """One row of the table of times."""
    ours = row["results"]["mlc"]
    roof, median = row.get("roof"), ours.get("median")
    ratios = [ratio(row, p) for p in peers]
    return [row["name"] + (" *" if row["busy"] > QUIET else ""),
            _time(ours, spread=True), *(_time(row["results"].get(p, {})) for p in peers),
            *("-" if x is None else f"{x:.2f}" for x in ratios),
            "-" if roof is None else f"{roof['flops'] / 1e9:.2f}", "-" if roof is None else f"{roof['bytes'] / 1e6:.1f}",
            "-" if roof is None else f"{milliseconds(roof['seconds'])} {roof['bound']}",
            "-" if roof is None or not median else f"{100 * roof['seconds'] / median:.0f} %",
            "-" if "error" not in ours else f"{ours['error']:.0e}"]


def compile_table(rows: Sequence[Row], peers: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of mlc's compile times, stage by stage, beside the time that a peer takes until it is ready."""
    beside = [(peer, key) for peer, key in (("ort", "load"), ("torch.compile", "first")) if peer in peers]
    made = [(row["name"], row["results"]["mlc"], row["results"]) for row in rows if "cold" in row["results"]["mlc"]]
    stages = list(dict.fromkeys(stage for _, r, _ in made for stage in r["cold"]["stages"]))
    body = [[name, f"{r['cold']['load']:.2f}", *(f"{r['cold']['stages'].get(s, 0.0):.2f}" for s in stages),
             f"{r['load']:.2f}" if r.get("hit") else "-",
             *(f"{peer[key]:.2f}" if key in (peer := results.get(kind, {})) else "-" for kind, key in beside),
             f"{r['cold']['kernels']}", f"{r['cold']['launches']}"] for name, r, results in made]
    return ["case", "cold s", *stages, "cached s", *(f"{NAMES[kind]} s" for kind, _ in beside), "kernels", "launches"], body


def milliseconds(seconds: float) -> str:
    """To three digits or so."""
    return f"{1000 * seconds:.{2 if seconds >= 1e-3 else 3}f}"


def _time(result: Mapping[str, Any], spread: bool = False) -> str:
    if "median" in result:
        return milliseconds(result["median"]) + (f" ({milliseconds(result['p10'])}-{milliseconds(result['p90'])})" if spread else "")
    problem = result.get("problem")
    return "-" if problem is None else "wrong" if problem.startswith("wrong") else "failed"


def problems(rows: Sequence[Row]) -> list[str]:
    """A line for every contestant without a time."""
    return [f"{row['name']}: {NAMES[kind]}: {result['problem']}"
            for row in rows for kind, result in row["results"].items() if "problem" in result]


def facts(report: Report) -> list[str]:
    """Where, when and with what it was measured."""
    machine, settings = report["machine"], report["settings"]
    noisy = [row["name"] for row in report["rows"] if row["busy"] > QUIET]
    rates = machine["bandwidths"]
    return [
        f"{report['date']}, mlc at commit {report['commit']}, target {machine['target']}",
        f"{machine['cpu']}, {settings['threads']} threads on cores {','.join(map(str, machine['cores']))}; Linux {machine['kernel']}",
        ", ".join(f"{NAMES[kind]} {version}" for kind, version in report["versions"].items()),
        f"measured peaks: {machine['flops'] / 1e9:.0f} GFLOP/s (f32 multiply-adds in registers); "
        + ", ".join(f"{rate / 1e9:.0f} GB/s at {size >> 20} MiB" for size, rate in rates),
        f"{settings['rounds']} rounds of {settings['turn']} s each; ONNX style {settings['style']}, batch 1, float32",
        *([f"not measured, for want of the exported model: {', '.join(report['skipped'])}"] if report["skipped"] else []),
        "other work on the cores before each case: "
        + (f"more than {QUIET:.0%} before the cases marked *" if noisy else f"at most {max(r['busy'] for r in report['rows']):.0%}"),
    ]


def show(report: Report) -> None:
    """Prints everything."""
    rows, peers = report["rows"], report["peers"]
    _print_table(header(peers), [cells(row, peers) for row in rows])
    _print_table(*compile_table(rows, peers))
    print(*facts(report), *problems(rows), *means(rows, peers), sep="\n")


def _print_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> None:
    """With rich if it is installed, else in aligned columns."""
    if importlib.util.find_spec("rich"):
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD)
        for i, title in enumerate(head):
            table.add_column(title, justify="right" if i else "left")
        for row in body:
            table.add_row(*row)
        console = Console()
        if not console.is_terminal:  # a file has no width: without one the columns would be folded to 80
            console = Console(width=240)
        console.print(table)
        return
    widths = [max(len(row[i]) for row in (head, *body)) for i in range(len(head))]
    for row in (head, *body):
        print("  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))))


def markdown(report: Report) -> str:
    """The generated section of the page."""
    rows, peers = report["rows"], report["peers"]
    parts = ["\n".join(f"- {line}" for line in facts(report)), "\n".join(f"- **{line}**" for line in means(rows, peers))]
    for title, some in (("Models", [r for r in rows if not r["kernel"]]), ("Kernels", [r for r in rows if r["kernel"]])):
        if some:
            parts += [f"### {title}", markdown_table(header(peers), [cells(row, peers) for row in some])]
    parts += ["### Compile time", markdown_table(*compile_table(rows, peers))]
    if lines := problems(rows):
        parts += ["### Without a time", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(parts)


def markdown_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """With its first column to the left, the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *[[c.replace("|", "\\|").replace("*", "\\*") for c in row] for row in body]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _around(page: Path, begin: str, end: str) -> tuple[str, str]:
    """What stands before and behind the markers of a page. Raises ValueError if it does not have both, in order, or cannot be read."""
    try:
        before, found, rest = page.read_text().partition(begin)
    except OSError as error:
        raise ValueError(f"{page} cannot be read: {error.strerror}") from None
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} lacks the lines {begin} and {end}, between which the results go")
    return before, after


def page(text: str, begin: str = BEGIN, end: str = END) -> Path:
    """A page with both markers, as the type of an argument: told before anything is measured."""
    try:
        _around(Path(text), begin, end)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    return Path(text)


def insert(page: Path, section: str, begin: str = BEGIN, end: str = END) -> None:
    """Replaces what stands between the markers of a page. Raises ValueError if it does not have both, in order, or cannot be read."""
    before, after = _around(page, begin, end)
    page.write_text(f"{before}{begin}\n\n{section}\n\n{end}{after}")
