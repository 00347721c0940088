"""What things cost, counted and timed."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abc_lib.figures.style import ALERT, OURS, PALETTE, PAPERS, count_ticks, stacked


def cost_by_sources(costs: dict[int, object], samples: int, ax: Axes) -> Axes:
    """FLOP of training and of ``samples`` landscapes over the number of sources, by ablation and by
    retraining.

    ``costs`` has the :class:`abc_lib.study.cost.Cost` of an ensemble by its number of sources.
    """
    sources = sorted(costs)
    costs = [costs[N] for N in sources]
    retraining = [c.flop * (c.retraining + samples * c.retrained_landscape) for c in costs]
    ablation = [c.flop * (c.members + samples * c.landscape) for c in costs]
    label = "by retraining: a model for each source"
    ax.plot(sources, retraining, color=ALERT, marker="s", label=label)
    ax.plot(sources, ablation, color=OURS, marker="o", label="by ablation: one ensemble")
    ax.set(xscale="log", yscale="log", xlabel="data sources N")
    ax.set_ylabel(f"FLOP, training and {samples} landscapes")
    count_ticks(ax, sources)
    ax.legend()
    return ax


def cost_at_scale(scales: Sequence, ax: Axes) -> Axes:
    """FLOP of each piece of work over the number of sources.

    ``scales`` are :class:`abc_lib.study.cost.scale.Scale` of rising numbers of sources.
    """
    sources = [each.sources for each in scales]
    pieces = {
        "training, 500 views of each image": ("exposed", ALERT, "-"),
        "training, a million images a member": ("training", ALERT, "--"),
        "exact landscape of a sample": ("landscape", OURS, "-"),
        "1,024 placebos": ("placebos", OURS, "--"),
        "Jacobian and 64 exact counterfactuals": ("screened", PALETTE[2], "-"),
        "all distances predicted": ("predicted", PAPERS, "-"),
    }
    for label, (name, colour, style) in pieces.items():
        flop = [getattr(each, name) for each in scales]
        ax.plot(sources, flop, color=colour, linestyle=style, marker="o", markersize=4, label=label)
    ax.set(xscale="log", yscale="log", xlabel="data sources N", ylabel="FLOP")
    ax.legend(fontsize="small", loc="upper left", bbox_to_anchor=(0, -0.18), ncols=2)
    return ax


def useful_share(rates: Sequence[float], shares: dict[str, Sequence[float]], ax: Axes) -> Axes:
    """The share of workers' time that counted against failures, a curve a checkpoint's interval."""
    for (name, values), marker in zip(shares.items(), "os^"):
        ax.plot(rates[: len(values)], values, marker=marker, markersize=4, label=name)
    ax.set(xscale="log", ylim=(0, 1.02), xlabel="failures of a worker, an hour")
    ax.set_ylabel("useful share of workers' time")
    ax.legend(title="checkpoint")
    return ax


def scaling_curves(points: Sequence[dict], fit: dict) -> Figure:
    """How a landscape's time grows: against sources, members and pixels, and against what appendix
    A.3 says it is proportional to.

    ``points`` have ``N``, ``n``, ``side``, ``pixels`` and ``seconds``; ``fit`` has ``constant``,
    ``exponents`` and ``errors`` of a power law. In the first three panels the fitted effect of the
    other two factors is divided out, so that a perfect law is a straight line.
    """
    names = {"N": "data sources N", "n": "members n", "pixels": "pixels of an image"}
    powers = fit["exponents"]
    seconds = np.array([p["seconds"] for p in points])
    values = {key: np.array([p[key] for p in points], dtype=float) for key in names}
    typical = {key: np.exp(np.log(v).mean()) for key, v in values.items()}
    middle = fit["constant"] * np.prod([typical[key] ** powers[key] for key in names])
    sides = np.array([p["side"] for p in points])
    paper = {"color": PAPERS, "linestyle": "--", "linewidth": 1.2}
    figure, axes = stacked(4, 6.2, 3.5)

    def dots(ax, x, y):
        for side, colour in zip(np.unique(sides), cycle(PALETTE)):
            at = sides == side
            style = {"color": colour, "markersize": 4, "alpha": 0.7}
            ax.plot(x[at], y[at], "o", label=f"{side}×{side}", **style)

    for ax, (key, name) in zip(axes, names.items()):
        others = [k for k in names if k != key]
        rest = np.prod([(values[k] / typical[k]) ** powers[k] for k in others], axis=0)
        dots(ax, values[key], seconds / rest)
        x = np.array([values[key].min(), values[key].max()])
        fitted = f"fitted: {powers[key]:.2f} ± {2 * fit['errors'][key]:.2f}"
        law = middle * (x / typical[key]) ** powers[key]
        ax.plot(x, law, color="black", linewidth=1, label=fitted)
        proportional = "in proportion" if key == "pixels" else "A.3: 1"
        ax.plot(x, middle * x / typical[key], label=proportional, **paper)
        ax.set(xscale="log", yscale="log", xlabel=name, ylabel="seconds, the rest divided out")
        count_ticks(ax, np.unique(values[key]).astype(int))
        ax.legend()
    ax = axes[3]
    product = np.prod(list(values.values()), axis=0)
    dots(ax, product, seconds)
    x = np.array([product.min(), product.max()])
    ax.plot(x, x * np.exp(np.log(seconds / product).mean()), label="A.3: in proportion", **paper)
    ax.set(xscale="log", yscale="log", xlabel="N × n × pixels", ylabel="seconds for a landscape")
    ax.legend()
    return figure
