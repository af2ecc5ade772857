"""Draws a report as one HTML page: the figures, and plots as SVG inside it; nothing is fetched from anywhere."""

import html
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

Plot = Callable[[Axes], object]

_INK, _PALE = "#1c2733", "#8a97a5"
_COLOURS: Final[Mapping[str, str]] = {
    "hub intake": "#1f5fa8",
    "hub dispatch returns reconcile": "#4f9bd9",
    "hub receipts": "#9cc9ee",
    "postgresql": "#3d8b5f",
    "rabbitmq": "#e08a2e",
    "agencies": "#b9b2a6",
}
_TIERS: Final = {
    "ministry-province": "Ministries, provinces",
    "department-district": "Departments, districts",
    "commune": "Communes",
}
_WAYS: Final = {
    "shovel": "RabbitMQ's shovel, which checks nothing (messages; ours: deliveries)",
    "naive_three_publishes": "aio-pika, three publishes, no check, no ledger",
    "naive_cc": "aio-pika, one publish with CC, no check, no ledger",
    "faststream": "FastStream, parse and forward",
    "postgresql_rows": "the ledger's rows alone, nothing else (PostgreSQL)",
    "verifications": "signatures verified on one core, nothing else",
}
_STYLE: Final = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "Segoe UI", "Noto Sans", sans-serif; color: #1c2733; background: #f4f6f8; margin: 0; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 28px; margin: 0 0 4px; } h2 { font-size: 20px; margin: 40px 0 8px; }
p { max-width: 74ch; margin: 6px 0; } .pale { color: #5b6875; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 20px 0; }
.tile, figure, table { background: #fff; border: 1px solid #dde3e9; border-radius: 8px; }
.tile { padding: 12px 16px; } .tile b { display: block; font-size: 26px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.good b { color: #2b7a4b; } .bad b { color: #b3261e; }
figure { margin: 12px 0; padding: 12px; } figure svg { width: 100%; height: auto; display: block; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 12px; } .pair figure { margin: 0; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-variant-numeric: tabular-nums; margin: 8px 0; overflow: hidden; }
th, td { padding: 6px 14px; text-align: right; border-bottom: 1px solid #eef1f4; } tr:last-child td { border-bottom: 0; }
th:first-child, td:first-child { text-align: left; } th { background: #eef2f6; font-weight: 600; }
.scroll { overflow-x: auto; }
"""


def page(report: Mapping[str, Any]) -> str:
    """Draw the page of a report."""
    run = report["run"]
    parts = [
        f"<h1>{run['documents']:,} documents, {run['deliveries']:,} deliveries</h1>",
        _about(report),
        _tiles(run),
        "<h2>The table of 2019, counted from the ledger</h2>",
        _table_of_2019(report),
        "<h2>The run</h2>",
        _over_time(report),
        "<h2>Where the CPU goes</h2>",
        _cpu(report),
        "<h2>Does anything grow?</h2>",
        "<p>Early: the deliveries from 25 to 50 of each hundred. Late: those from 65 to 90.</p>"
        if report["growth"]
        else "<p>Too short to say.</p>",
        _growth(report["growth"]),
        "<h2>Beside others on the same machine</h2>",
        _others(report),
        "<h2>Each loop of the hub by itself</h2>" if report["loops"] else "",
        _loops(report["loops"]),
    ]
    body = "\n".join(parts)
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Trục: benchmark</title>"
        "<meta name='viewport' content='width=device-width'>"
        f"<style>{_STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )


def _about(report: Mapping[str, Any]) -> str:
    on = report["machine"]
    return (
        f"<p class='pale'>Whole path, nothing switched off: agencies, broker, database and hub together on {on['cores']} cores"
        f" ({html.escape(on['processor'])}, {on['memory_gib']} GiB), Python {on['python']}, commit {on['commit']},"
        f" {report['made_at'].replace('T', ' ')}. Load of the machine before: {on['load_before']}.</p>"
    )


def _tiles(run: Mapping[str, Any]) -> str:
    delay = run["to_arrival_ms"]
    clean = run["audit"] and run["finished"] and not run["twice"]
    tiles = [
        ("documents a second", f"{run['documents_per_s']:,.0f}", ""),
        ("deliveries a second", f"{run['deliveries_per_s']:,.0f}", ""),
        *((f"ms to arrival, {name.replace('_', '.')}", f"{value:,.0f}", "") for name, value in delay.items()),
        ("CPU seconds", f"{run['cpu_s']:,.0f}", ""),
        ("audit; all arrived, once", "clean" if clean else "NOT CLEAN", "good" if clean else "bad"),
    ]
    shown = "".join(f"<div class='tile {kind}'><b>{value}</b>{name}</div>" for name, value, kind in tiles)
    return f"<div class='tiles'>{shown}</div>"


def _table_of_2019(report: Mapping[str, Any]) -> str:
    counted, source = report["ledger"]["stats"]["tiers"], report["source"]
    rows = [
        [name, source[tier]["sent"], source[tier]["received"], counted[tier]["sent"], counted[tier]["received"]]
        for tier, name in _TIERS.items()
    ]
    total = [sum(row[column] for row in rows) for column in range(1, 5)]
    head = ["", "sent, 2019", "received, 2019", "sent, here", "received, here"]
    note = (
        "<p>Left what the axis published for 12 March to 30 September 2019, right what <code>truc stats show</code>"
        f" counts after this run of {report['share']:.4g} of it.</p>"
    )
    return note + _table(head, [[row[0], *(f"{value:,}" for value in row[1:])] for row in [*rows, ["In all", *total]]])


def _over_time(report: Mapping[str, Any]) -> str:
    samples, ledger, delays = report["samples"], report["ledger"], report["delays"]

    def rates(axes: Axes) -> None:
        for name, colour in (("deliveries", "#e08a2e"), ("documents", "#1f5fa8")):
            axes.plot(
                [row["at_s"] for row in ledger[name]], [row["per_s"] for row in ledger[name]], color=colour, label=name
            )
        axes.set_ylim(bottom=0)

    def delay(axes: Axes) -> None:
        for name, colour in (("p99", "#b3261e"), ("p95", "#e08a2e"), ("p50", "#1f5fa8")):
            axes.plot([row["at_s"] for row in delays], [row[name] for row in delays], color=colour, label=name)
        axes.set_ylim(bottom=0)

    def cores(axes: Axes) -> None:
        at = [sample["at_s"] for sample in samples]
        used = {name: _slope(samples, name) for name in _present(samples, "cpu_s")}
        axes.stackplot(at[1:], *used.values(), labels=used, colors=[_colour(name) for name in used])

    return (
        "<div class='pair'>"
        + _figure("Accepted documents and signed receipts, a second", rates)
        + _figure("From submission to arrival, ms", delay)
        + _figure("Cores in use", cores)
        + _figure("Memory (PSS), MiB", _lines_of(samples, "memory_mib"))
        + _figure("Written, MiB so far", _lines_of(samples, "written_mib"))
        + _figure("On disk, MiB", _lines_of(samples, "disk_mib"))
        + "</div>"
    )


def _slope(samples: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [
        max(0.0, (new["cpu_s"].get(name, 0.0) - old["cpu_s"].get(name, 0.0)) / max(0.01, new["at_s"] - old["at_s"]))
        for old, new in pairwise(samples)
    ]


def _lines_of(samples: Sequence[Mapping[str, Any]], figure: str) -> Plot:
    def plot(axes: Axes) -> None:
        for name in _present(samples, figure):
            points = [(sample["at_s"], sample[figure][name]) for sample in samples if name in sample[figure]]
            axes.plot(*zip(*points, strict=True), color=_colour(name), label=name)
        axes.set_ylim(bottom=0)

    return plot


def _present(samples: Sequence[Mapping[str, Any]], figure: str) -> list[str]:
    seen = {name for sample in samples for name, value in sample[figure].items() if value > 0.1}
    return [*(name for name in _COLOURS if name in seen), *sorted(seen - set(_COLOURS))]


def _colour(name: str) -> str:
    return _COLOURS.get(name, _PALE)


def _cpu(report: Mapping[str, Any]) -> str:
    us = {name: report["run"]["cpu_us_per_document"].get(name, 0) for name in _COLOURS}

    def bars(axes: Axes) -> None:
        names = list(reversed(us))
        axes.barh(names, [us[name] for name in names], color=[_colour(name) for name in names])
        for index, name in enumerate(names):
            axes.text(us[name], index, f" {us[name]:,}", va="center", color=_INK)
        axes.margins(x=0.12)
        axes.grid(visible=False, axis="y")

    rows = []
    for process, steps in report["steps"].items():
        cost = us.get(f"hub {process.replace(',', ' ')}", 0)
        rows += [
            [f"{process}: {step}", f"{share:.0%}", f"{share * cost:,.0f}"]
            for step, share in steps.items()
            if share >= 0.01
        ]
    note = (
        "<p>Stacks of the hub's processes, sampled while they hold Python's lock: the arithmetic of signatures, for which"
        " the lock is let go in part, costs more than its share here (<code>make bench-core</code> has it in full).</p>"
    )
    table = (
        note + _table(["process of the hub: step", "share", "µs a document"], rows)
        if rows
        else "<p>Stacks were not sampled.</p>"
    )
    return _figure("CPU by process, µs a document", bars, x="", wide=True, legend=False) + table


def _growth(growth: Mapping[str, Mapping[str, float]]) -> str:
    rows = [
        [
            name,
            f"{of['early']:,.1f}",
            f"{of['late']:,.1f}",
            _change(of["early"], of["late"]),
        ]
        for name, of in growth.items()
    ]
    return _table(["", "early", "late", "change"], rows) if rows else ""


def _change(before: float, after: float) -> str:
    return f"{after / before - 1:+.0%}" if before else "–"


def _others(report: Mapping[str, Any]) -> str:
    ratios, rounds = report["ratios"], report["rounds"]
    if not rounds:
        return "<p>Not compared.</p>"

    def bars(axes: Axes) -> None:
        names = list(reversed(ratios))
        middle = [ratios[name]["middle"] for name in names]
        least = [ratios[name]["middle"] - ratios[name]["least"] for name in names]
        most = [ratios[name]["most"] - ratios[name]["middle"] for name in names]
        axes.barh(
            [name.replace("_", " ") for name in names],
            middle,
            xerr=[least, most],
            color="#4f9bd9",
            ecolor=_INK,
            capsize=3,
        )
        axes.axvline(1, color="#b3261e", linewidth=1)
        axes.grid(visible=False, axis="y")

    rows = [
        [
            _WAYS.get(name, name),
            ", ".join(f"{pair['others_per_s'][name]:,}" for pair in rounds),
            f"{of['middle']:.3f}",
            f"{of['least']:.3f} – {of['most']:.3f}",
        ]
        for name, of in ratios.items()
    ]
    ours = ", ".join(f"{pair['ours']['documents_per_s']:,.0f}" for pair in rounds)
    return (
        f"<p>The whole path, agencies included, made {ours} documents a second in {len(rounds)} round(s); each other way moved"
        " the same kind of message in the same round. Above 1 the whole path is faster.</p>"
        + _figure("Ours to theirs: middle, least and greatest of the rounds", bars, x="", wide=True, legend=False)
        + _table(["the other way", "a second, by round", "ours : theirs", "range"], rows)
    )


def _loops(loops: Mapping[str, Any]) -> str:
    rows = [
        [name, f"{of['per_s']:,}", ", ".join(f"{process} {us:,}" for process, us in of["cpu_us"].items())]
        for name, of in loops.items()
        if isinstance(of, Mapping)
    ]
    return _table(["its work prepared", "items a second", "CPU, µs an item"], rows) if rows else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class='scroll'><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"


def _figure(title: str, plot: Plot, *, x: str = "seconds", wide: bool = False, legend: bool = True) -> str:
    with mpl.rc_context(_LOOK | {"svg.hashsalt": title}):
        figure = Figure(figsize=(10.4, 2.9) if wide else (5.2, 3.2), layout="constrained")
        axes = figure.subplots()
        plot(axes)
        axes.set_title(title, loc="left")
        axes.set_xlabel(x)
        for value in (axes.xaxis, axes.yaxis):
            if isinstance(value.get_major_formatter(), mpl.ticker.ScalarFormatter):
                value.set_major_formatter(FuncFormatter(lambda number, _: f"{number:,g}"))
        if legend and axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside lower center", ncols=3, frameon=False)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    drawing = out.getvalue()
    return (
        f"<figure>{re.sub(r'<metadata>.*?</metadata>', '', drawing[drawing.index('<svg') :], flags=re.DOTALL)}</figure>"
    )


_LOOK: Final[dict[str, Any]] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.edgecolor": "#c8d0d8",
    "axes.labelcolor": _PALE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8ecf0",
    "xtick.color": _PALE,
    "ytick.color": _PALE,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "lines.linewidth": 1.6,
}
