"""What things cost, counted and timed."""

from collections.abc import Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abc_lib.figures.style import ALERT, OURS, PALETTE, PAPERS


def cost_by_sources(costs: dict[int, object], samples: int, ax: Axes) -> Axes:
    """FLOP of training and of ``samples`` landscapes over the number of sources, by ablation and by retraining.

    ``costs`` has the :class:`abc_lib.study.cost.Cost` of an ensemble by its number of sources.
    """
    sources = sorted(costs)
    costs = [costs[N] for N in sources]
    for label, colour, marker, count in (
        (
            "by retraining: a model for each source",
            ALERT,
            "s",
            lambda c: c.retraining + samples * c.retrained_landscape,
        ),
        ("by ablation: one ensemble", OURS, "o", lambda c: c.members + samples * c.landscape),
    ):
        ax.plot(
            sources, [count(c) * c.flop for c in costs], color=colour, marker=marker, label=label
        )
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="data sources N",
        ylabel=f"FLOP, training and {samples} landscapes",
    )
    ax.set_xticks(sources, [f"{N:,}" for N in sources])
    ax.set_xticks([], minor=True)
    ax.legend()
    return ax


def scaling_curves(points: Sequence[dict], fit: dict) -> Figure:
    """How a landscape's time grows: against sources, members and pixels, and against what appendix A.3 says it is proportional to.

    ``points`` have ``N``, ``n``, ``side``, ``pixels`` and ``seconds``; ``fit`` has ``constant``, ``exponents`` and ``errors`` of a power law. In the
    first three panels the fitted effect of the other two factors is divided out, so that a perfect law is a straight line.
    """
    names = {"N": "data sources N", "n": "members n", "pixels": "pixels of an image"}
    seconds = np.array([p["seconds"] for p in points])
    values = {key: np.array([p[key] for p in points], dtype=float) for key in names}
    sides = np.array([p["side"] for p in points])
    colours = {side: colour for side, colour in zip(sorted(set(sides.tolist())), cycle(PALETTE))}
    figure, axes = plt.subplots(4, 1, figsize=(6.2, 14))
    for ax, (key, name) in zip(axes.flat, names.items()):
        exponent = fit["exponents"][key]
        typical = {k: np.exp(np.log(v).mean()) for k, v in values.items()}
        rest = np.prod(
            [(values[k] / typical[k]) ** fit["exponents"][k] for k in names if k != key], axis=0
        )
        for side, colour in colours.items():
            ax.plot(
                values[key][sides == side],
                (seconds / rest)[sides == side],
                "o",
                color=colour,
                markersize=4,
                alpha=0.7,
                label=f"{side}×{side}",
            )
        x = np.array([values[key].min(), values[key].max()])
        middle = fit["constant"] * np.prod([typical[k] ** fit["exponents"][k] for k in names])
        ax.plot(
            x,
            middle * (x / typical[key]) ** exponent,
            color="black",
            linewidth=1,
            label=f"fitted: {exponent:.2f} ± {2 * fit['errors'][key]:.2f}",
        )
        ax.plot(
            x,
            middle * x / typical[key],
            color=PAPERS,
            linestyle="--",
            linewidth=1.2,
            label="in proportion" if key == "pixels" else "A.3: 1",
        )
        ax.set(xscale="log", yscale="log", xlabel=name, ylabel="seconds, the rest divided out")
        ticks = np.unique(values[key]).astype(int)
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.set_xticks([], minor=True)
        ax.legend()
    ax, product = axes[3], np.prod(list(values.values()), axis=0)
    for side, colour in colours.items():
        ax.plot(
            product[sides == side],
            seconds[sides == side],
            "o",
            color=colour,
            markersize=4,
            alpha=0.7,
            label=f"{side}×{side}",
        )
    x = np.array([product.min(), product.max()])
    ax.plot(
        x,
        x * np.exp(np.log(seconds / product).mean()),
        color=PAPERS,
        linestyle="--",
        linewidth=1.2,
        label="A.3: in proportion",
    )
    ax.set(xscale="log", yscale="log", xlabel="N × n × pixels", ylabel="seconds for a landscape")
    ax.legend()
    return figure
