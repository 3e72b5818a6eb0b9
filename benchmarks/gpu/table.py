"""What was measured on a GPU, as Markdown: models, kernels, compile times, and what has no time."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import report as common
from report import geometric_mean, markdown_table, milliseconds

BEGIN, END = "<!-- bench-gpu: begin -->", "<!-- bench-gpu: end -->"
PEERS = {"eager": "torch", "compile": "torch.compile"}
ERROR_BOUND = 2  # of mlc's f16 error over torch's own
COPYING = 0.25  # a kernel that writes at least this much of its bytes is compared with the rate of copying, else with that of reading

Row = Mapping[str, Any]
Report = Mapping[str, Any]


def median(row: Row, kind: str, mode: str = "warm") -> float | None:
    """Seconds; None without a time."""
    return row["results"].get(kind, {}).get(mode, {}).get("median")


def best_peer(row: Row, mode: str = "warm") -> tuple[str, float] | None:
    """The fastest contestant that is not mlc."""
    times = [(time, kind) for kind in row["results"] if kind != "mlc" and (time := median(row, kind, mode)) is not None]
    return (min(times)[1], min(times)[0]) if times else None


def speedup(row: Row, mode: str = "warm") -> float | None:
    """The fastest peer's time over mlc's; None unless both have one."""
    ours, theirs = median(row, "mlc", mode), best_peer(row, mode)
    return theirs[1] / ours if ours and theirs else None


def roof(row: Row, machine: Mapping[str, Any]) -> tuple[float, str] | None:
    """The least seconds that the measured peaks allow, and which peak: `compute` or `memory`."""
    if not row.get("bytes") or "read" not in machine:
        return None
    rate = machine["copy" if row["kernel"] and row.get("written", 0) >= COPYING * row["bytes"] else "read"]
    return max((row["flops"] / machine[row["dtype"]], "compute"), (row["bytes"] / rate, "memory"))


def brief(row: Row) -> str:
    """One line for the terminal."""
    parts = []
    for kind, result in row["results"].items():
        time = median(row, kind)
        if time is not None:
            parts.append(f"{kind} {milliseconds(time)} ms")
        elif "problem" in result:
            parts.append(f"{kind}: {result['problem'][:160]}")
    ratio = speedup(row)
    return f"{row['name']}: " + ", ".join([*parts, *([row["problem"]] if "problem" in row else []), *([f"{ratio:.2f}x"] if ratio else [])])


def facts(report: Report) -> list[str]:
    """Where, when and with what it was measured."""
    machine, settings = report["machine"], report["settings"]
    lines = [f"{report['date']}, mlc at commit {report['commit']}, target {settings['target']}; at least {settings['runs']} runs of each "
             f"contestant, warm and cold each; cases prepared {settings['jobs']} at once, then timed one by one"]
    if "read" not in machine:
        return [*lines, machine["gpu"]]
    return [*lines, f"{machine['gpu']}, {machine['sms']} SMs, {machine['l2'] >> 20} MiB of L2; driver {machine['driver']}, "
                    f"torch {machine['torch']}, cuDNN {machine['cudnn']}",
            f"measured peaks: copy {machine['copy'] / 1e12:.2f} TB/s (read and written), read {machine['read'] / 1e12:.2f} TB/s; "
            f"library matrix product f16 {machine['f16'] / 1e12:.0f} TFLOP/s, f32 {machine['f32'] / 1e12:.1f} TFLOP/s"]


def means(rows: Sequence[Row]) -> list[str]:
    """A line per group: geometric mean of the fastest peer's time over mlc's, and how often mlc is ahead."""
    lines = []
    for group in dict.fromkeys(row["group"] for row in rows):
        ratios = {row["name"]: ratio for row in rows if row["group"] == group and (ratio := speedup(row)) is not None}
        if ratios:
            slowest = min(ratios, key=lambda name: ratios[name])
            count = sum(row["group"] == group for row in rows)
            mean = geometric_mean(list(ratios.values()))
            lines.append(f"{group}: fastest peer / mlc, geometric mean {mean:.2f} over {len(ratios)} of {count}; "
                         f"mlc ahead in {sum(r > 1 for r in ratios.values())}; least {ratios[slowest]:.2f} ({slowest})")
    return lines


def _cell(row: Row, kind: str, mode: str = "warm", spread: bool = False) -> str:
    result = row["results"].get(kind, {})
    if mode in result:
        times = result[mode]
        tail = f" ({milliseconds(times['p10'])}-{milliseconds(times['p90'])})" if spread else ""
        return milliseconds(times["median"]) + tail
    problem = result.get("problem")
    return "-" if problem is None else "wrong" if "wrong: " in problem else "failed"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def error_ratio(row: Row) -> float | None:
    """The error of mlc's f16 results over that of torch's own, both against f64; None where one is not known.

    Each against the model that it was given, where mlc's, which the exporter wrote, is known to say something else.
    """
    result = row["results"].get("mlc", {})
    ours, own = result.get("error_of_exported", result.get("error")), result.get("own_error")
    return None if row["dtype"] != "f16" or ours is None or own is None else ours / own if own else float("inf") if ours else 1.0


def inaccurate(rows: Iterable[Row]) -> list[str]:
    """A line for each row whose error is beyond the bound."""
    return [f"{row['name']}: mlc's error is {ratio:.1f} times torch's own, the bound is {ERROR_BOUND}"
            for row in rows if (ratio := error_ratio(row)) is not None and ratio > ERROR_BOUND]


def exporters(rows: Iterable[Row]) -> list[str]:
    """A line for each row whose model says something else as exported."""
    return [f"{row['name']}: the exported model itself, computed in f64, differs by {result['exported_error']:.0e} from PyTorch's module "
            f"in f64; mlc's results differ by {result['error_of_exported']:.0e} from it, and the ratio is of that"
            for row in rows if "exported_error" in (result := row["results"].get("mlc", {}))]


def _errors(row: Row) -> list[str]:
    """Both errors, and their ratio, with a mark where it is beyond the bound."""
    ours, own = (row["results"].get("mlc", {}).get(key) for key in ("error", "own_error"))
    ratio = error_ratio(row)
    mark = " !" if ratio is not None and ratio > ERROR_BOUND else ""
    return [f"{_number(ours, '.0e')} / {_number(own, '.0e')}", _number(ratio, ".1f") + mark]


def _roof_cells(row: Row, machine: Mapping[str, Any]) -> list[str]:
    limit, ours = roof(row, machine), median(row, "mlc")
    return ["-", "-"] if limit is None else [f"{milliseconds(limit[0])} {limit[1]}", "-" if not ours else f"{100 * limit[0] / ours:.0f} %"]


def _models(rows: Sequence[Row], machine: Mapping[str, Any]) -> str:
    head = ["case", "mlc ms (p10-p90)", *(f"{name} ms" for name in PEERS.values()), "best torch / mlc", "cold: mlc ms",
            *(f"{name} ms" for name in PEERS.values()), "best torch / mlc", "nodes: mlc", *PEERS.values(), "roof ms", "of roof",
            "error: mlc / torch", f"ratio (! above {ERROR_BOUND})"]
    body = [[row["name"], _cell(row, "mlc", spread=True), *(_cell(row, p) for p in PEERS), _number(speedup(row), ".2f"),
             _cell(row, "mlc", "cold"), *(_cell(row, p, "cold") for p in PEERS), _number(speedup(row, "cold"), ".2f"),
             *(_number(row["results"].get(kind, {}).get("nodes"), "d") for kind in ("mlc", *PEERS)),
             *_roof_cells(row, machine), *_errors(row)] for row in rows]
    return markdown_table(head, body)


def _rate(row: Row, time: float | None, limit: tuple[float, str] | None) -> str:
    if not time:
        return "-"
    computes = limit[1] == "compute" if limit else bool(row.get("flops"))
    return f"{row['flops'] / time / 1e12:.1f} TFLOP/s" if computes else f"{row.get('bytes', 0) / time / 1e12:.2f} TB/s"


def _kernels(rows: Sequence[Row], machine: Mapping[str, Any]) -> str:
    head = ["kernel", "mlc ms (p10-p90)", "rate", "peers ms", "best peer's rate", "best peer / mlc", "cold: mlc ms", "best peer / mlc",
            "roof ms", "of roof", "error: mlc / library", f"ratio (! above {ERROR_BOUND})"]
    body = []
    for row in rows:
        limit, peer = roof(row, machine), best_peer(row)
        peers = ", ".join(f"{kind} {_cell(row, kind)}" for kind in row["results"] if kind not in ("mlc", "f64"))
        body.append([row["name"], _cell(row, "mlc", spread=True), _rate(row, median(row, "mlc"), limit), peers or "-",
                     _rate(row, peer[1] if peer else None, limit), _number(speedup(row), ".2f"), _cell(row, "mlc", "cold"),
                     _number(speedup(row, "cold"), ".2f"), *_roof_cells(row, machine), *_errors(row)])
    return markdown_table(head, body)


def _compile(rows: Iterable[Row]) -> str:
    made = [(row, row["results"]["mlc"]) for row in rows if "compile" in row["results"].get("mlc", {})]
    stages = list(dict.fromkeys(stage for _, result in made for stage in result["stages"]))
    body = [[row["name"], f"{row.get('export', 0):.1f}", f"{result['compile']:.1f}", *(f"{result['stages'].get(s, 0):.1f}" for s in stages),
             _number(row["results"].get("compile", {}).get("first"), ".1f"), _number(result.get("kernels"), "d"),
             _number(result.get("spills"), "d"), _number(result["arena"] / 2**20 if "arena" in result else None, ".1f")]
            for row, result in made]
    return markdown_table(["case", "export s", "mlc s", *stages, "torch.compile s", "kernels", "spilled bytes", "arena MiB"], body)


def profiles(rows: Iterable[Row]) -> str:
    """Where the time of each case goes: mlc's longest kernels."""
    parts = []
    for row in rows:
        if entries := row["results"].get("mlc", {}).get("profile"):
            body = [[e["name"], milliseconds(e["seconds"]), f"{e['launches']}", f"{e['blocks']}", f"{e['threads']}", f"{e['shared']}",
                     ", ".join(e["nodes"])] for e in entries]
            parts.append(f"## {row['name']}: {_cell(row, 'mlc')} ms\n\n"
                         + markdown_table(["kernel", "ms of all launches", "launches", "blocks", "threads", "shared bytes", "nodes"], body))
    return "\n\n".join(parts)


def problems(rows: Iterable[Row]) -> list[str]:
    """A line for every contestant or case without a time."""
    return [f"{row['name']}: {kind}: {problem}" for row in rows
            for kind, problem in ((None, row.get("problem")), *((k, r.get("problem")) for k, r in row["results"].items())) if problem]


def markdown(report: Report) -> str:
    """The generated section of the page."""
    rows, machine = report["rows"], report["machine"]
    parts = ["\n".join(f"- {line}" for line in facts(report)), "\n".join(f"- **{line}**" for line in means(rows))]
    groups: list[tuple[str, list[Row], Callable[..., str]]] = [
        ("Models", [row for row in rows if not row["kernel"]], _models), ("Kernels", [row for row in rows if row["kernel"]], _kernels)]
    for title, some, render in groups:
        if some:
            parts += [f"### {title}", render(some, machine)]
    if lines := exporters(rows):
        parts += ["### Models that the exporter changed", "\n".join(f"- {line}" for line in lines)]
    if lines := inaccurate(rows):
        parts += ["### Less accurate than allowed", "\n".join(f"- {line}" for line in lines)]
    parts += ["### Compile time", _compile(rows)]
    if lines := problems(rows):
        parts += ["### Without a time", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(part for part in parts if part)


def merged(reports: Sequence[Report]) -> dict[str, Any]:
    """Several runs as one; of a case measured twice the later counts. Raises ValueError if they are of different devices."""
    devices = {report["machine"]["gpu"] for report in reports}
    if len(devices) > 1:
        raise ValueError(f"these are measurements of different devices: {', '.join(sorted(devices))}")
    rows = {row["name"]: row for report in reports for row in report["rows"]}
    return {**reports[-1], "rows": list(rows.values())}


def page(text: str) -> Path:
    """A page that results can be put into, as the type of an argument."""
    return common.page(text, BEGIN, END)


def insert(page: Path, section: str) -> None:
    """Replaces the GPU section of a page."""
    common.insert(page, section, BEGIN, END)
