"""One picture of a run: how Adam grows with the number of leaves, and how close large leaves come to the limit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.algorithms import FEW
from benchmarks.results import Results
from benchmarks.trees import large_leaves

__all__ = ["draw"]

COLOURS = {
    "mlax packed": "#b3123f",
    "mlax": "#e8590c",
    "Optax": "#1864ab",
    "Equinox": "#339af0",
    "flax.nnx": "#2b8a3e",
    "MLX": "#862e9c",
    "PyTorch fused": "#5c3c00",
    "PyTorch foreach": "#b08900",
    "identity": "#868e96",
}
LABELS = {"identity": "call that does nothing"}


def draw(results: Results, path: Path) -> None:
    """Draw the results of the areas steps and optimizers into a PNG file."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    style: Any = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.titlesize": 10,
    }
    with plt.rc_context(style):
        engine = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15, wspace=0.04, hspace=0.06)
        figure, axes = plt.subplots(2, 2, figsize=(12, 8.6), layout=engine)
        _growth(axes[0, 0], results, "step", "One step of Adam")
        _growth(axes[0, 1], results, "first call", "From nothing to the end of the first step")
        _large(axes[1, 0], results)
        _limits(axes[1, 1], results)
        figure.supxlabel(
            f"{results.date[:10]}, {results.device}, {results.machine}, {results.effort} run; float32; "
            "medians of interleaved rounds, with quartiles",
            fontsize=8,
            color="#666666",
            x=0.01,
            ha="left",
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
        plt.close(figure)


def _growth(axis: Any, results: Results, quantity: str, title: str) -> None:
    """Draw a line for each candidate over the number of leaves of 1 kB, its name at its end."""
    sizes = {
        int(case.split(" ")[0].replace(",", "")): case
        for case in results.cases("steps")
        if case.endswith("x 1 kB, float32")
    }
    if not sizes:
        return
    ends, right = dict[str, float](), max(sizes)
    for candidate, colour in COLOURS.items():
        points = [
            (count, one.spread)
            for count, case in sizes.items()
            if (one := results.find("steps", case, candidate, quantity))
        ]
        if not points:
            continue
        counts = [count for count, _ in points]
        medians = [spread.median for _, spread in points]
        ours = candidate.startswith("mlax")
        axis.plot(
            counts,
            medians,
            color=colour,
            linewidth=2.4 if ours else 1.3,
            linestyle=":" if candidate == "identity" else "-",
            marker="o",
            markersize=3.5,
            zorder=3 if ours else 2,
        )
        axis.fill_between(
            counts,
            [spread.low for _, spread in points],
            [spread.high for _, spread in points],
            color=colour,
            alpha=0.12,
            linewidth=0,
        )
        ends[candidate] = (
            medians[-1] * right / counts[-1]
        )  # a line that ends earlier is extrapolated
    axis.set(xscale="log", yscale="log", title=title, xlabel="leaves of 1 kB")
    axis.yaxis.set_major_formatter(_seconds)
    axis.xaxis.set_major_formatter(_count)
    axis.grid(visible=True, which="major", color="#e9ecef", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.minorticks_off()
    low, high = axis.get_ylim()
    labels = _apart(ends, gap=(high / low) ** 0.05)
    axis.set_ylim(low, max(high, 1.3 * max(labels.values())))
    for candidate, y in labels.items():
        axis.annotate(
            LABELS.get(candidate, candidate),
            (right, ends[candidate]),
            xytext=(right * 1.25, y),
            color=COLOURS[candidate],
            fontweight="bold" if candidate.startswith("mlax") else "normal",
            va="center",
            fontsize=8.5,
            annotation_clip=False,
        )
    axis.set_xlim(0.8 * min(sizes), right * 9)
    axis.set_xticks(list(sizes))


def _apart(ends: Mapping[str, float], gap: float) -> dict[str, float]:
    """Return heights for labels on a logarithmic axis, in the order of the line ends and at least a factor apart."""
    names = sorted(ends, key=lambda name: ends[name])
    logs = np.log([ends[name] for name in names])
    step = np.log(gap)
    for _ in range(200):  # push neighbours apart until none are too close
        close = np.diff(logs) < step - 1e-9
        if not close.any():
            break
        for i in np.flatnonzero(close):
            middle = (logs[i] + logs[i + 1]) / 2
            logs[i], logs[i + 1] = middle - step / 2, middle + step / 2
    return {name: float(np.exp(y)) for name, y in zip(names, logs, strict=True)}


def _large(axis: Any, results: Results) -> None:
    """Draw a bar for each candidate on 64 leaves of 1 MB, and a line for the limit of the memory."""
    tree = large_leaves()
    found = {
        candidate: one.spread
        for candidate in COLOURS
        if candidate != "identity"
        and (one := results.find("steps", tree.case, candidate, "step")) is not None
    }
    names = sorted(found, key=lambda name: -found[name].median)
    for row, name in enumerate(names):
        spread = found[name]
        axis.barh(row, spread.median, height=0.62, color=COLOURS[name])
        axis.plot([spread.low, spread.high], [row, row], color="#212529", linewidth=1)
        axis.annotate(
            f"{1e3 * spread.median:.1f} ms",
            (max(spread.high, spread.median), row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
        )
    axis.set_yticks(range(len(names)), names)
    axis.tick_params(axis="y", length=0)
    axis.set(title=f"One step of Adam, {tree.name}")
    axis.set_xlim(0, axis.get_xlim()[1] * 1.12)
    axis.xaxis.set_major_formatter(_seconds)
    axis.grid(visible=True, axis="x", color="#e9ecef", linewidth=0.8)
    axis.set_axisbelow(True)
    seconds = _least_seconds(results, f"Adam, {tree.name}")
    if seconds is not None and names:
        axis.axvline(seconds, color="#212529", linewidth=1, linestyle="--")
        axis.annotate(
            f"the memory's limit, {1e3 * seconds:.1f} ms",
            (seconds, len(names) - 0.45),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=8.5,
        )
        axis.set_ylim(-0.6, len(names) - 0.1)


def _least_seconds(results: Results, case: str) -> float | None:
    """Return the time of a step at the memory bandwidth that was measured interleaved with that optimizer."""
    step = results.find("optimizers", case, "mlax", "step")
    share = results.find("optimizers", case, "mlax", "of the memory's limit")
    return step.spread.median * share.spread.median if step and share else None


def _limits(axis: Any, results: Results) -> None:
    """Draw the share of the memory bandwidth that some optimizers use."""
    cases = [case for case in results.cases("optimizers") if case.split(",")[0] in FEW][::-1]
    for row, case in enumerate(cases):
        for name, offset in (("mlax", 0.19), ("Optax", -0.19)):
            one = results.find("optimizers", case, name, "of the memory's limit")
            assert one is not None
            axis.barh(row + offset, one.spread.median, height=0.34, color=COLOURS[name])
            axis.plot([one.spread.low, one.spread.high], [row + offset] * 2, color="#212529", lw=1)
            axis.annotate(
                f"{name} {one.spread.median:.0%}",
                (max(one.spread.high, one.spread.median), row + offset),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8.5,
                color=COLOURS[name],
            )
    axis.set_yticks(range(len(cases)), [case.split(",")[0] for case in cases])
    axis.tick_params(axis="y", length=0)
    axis.set(title=f"Share of the memory's bandwidth, {large_leaves().name}")
    axis.set_xlabel("bytes that have to be moved, per second; 100 % is a = b + s * c in place")
    axis.axvline(1, color="#212529", linewidth=1, linestyle="--")
    axis.set_xlim(0, max(1.12, axis.get_xlim()[1] * 1.1))
    axis.xaxis.set_major_formatter(_percent)
    axis.grid(visible=True, axis="x", color="#e9ecef", linewidth=0.8)
    axis.set_axisbelow(True)


def _seconds(value: float, _: object) -> str:
    """Return a tick's label."""
    for scale, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if value >= 0.999 * scale:
            return f"{value / scale:g} {unit}"
    return f"{value:g}"


def _count(value: float, _: object) -> str:
    return f"{value:,.0f}"


def _percent(value: float, _: object) -> str:
    return f"{value:.0%}"
