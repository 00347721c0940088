"""Codes, and who reaches the sample through whom (figure 1)."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from abc_lib.figures.style import ALERT, CENTRED, OURS, PALETTE
from abc_lib.method.code import Codebook


def code_matrix(codebook: Codebook, ax: Axes, removed: int | None = None, rows: int = 16) -> Axes:
    """The first codewords as a matrix, sources down and members across.

    The members that ``removed`` takes away are struck.
    """
    words = codebook.words[:rows]
    blue = sns.light_palette(OURS, as_cmap=True)
    ax.imshow(words, cmap=blue, vmin=0, vmax=1.4, aspect="auto", interpolation="nearest")
    for (y, x), bit in np.ndenumerate(words):
        ax.text(x, y, str(bit), color="black" if bit else "0.6", **CENTRED)
    if removed is not None:
        for member in np.flatnonzero(~codebook.survivors(removed)):
            ax.axvspan(member - 0.5, member + 0.5, color=ALERT, alpha=0.25)
        corner = (-0.5, removed - 0.5)
        ax.add_patch(plt.Rectangle(corner, codebook.n, 1, fill=False, edgecolor=ALERT, linewidth=2))
    ax.set(xticks=range(codebook.n), yticks=range(len(words)))
    ax.set(xlabel="member", ylabel="data source")
    ax.grid(False)
    return ax


def causal_flow(codebook: Codebook, ax: Axes, removed: int | None = None) -> Axes:
    """Figure 1's idea for a small code: sources, the members that saw them, the ensemble, the
    sample.

    With ``removed``, the ablated members and every link through them are drawn pale.
    """
    N, n = codebook.num_sources, codebook.n
    alive = np.ones(n, bool) if removed is None else codebook.survivors(removed)
    sources = [(0.0, y) for y in _heights(N)]
    members = [(1.0, y) for y in _heights(n)]
    noise = (2.0, 0.9)
    model = (2.0, 0.5)
    sample = (3.0, 0.5)
    for s, i in zip(*np.nonzero(codebook.words)):
        _link(ax, sources[s], members[i], alive[i])
    for i, at in enumerate(members):
        _link(ax, at, model, alive[i], broken=not alive[i])
        _node(ax, at, f"$\\theta_{{{i + 1}}}$", OURS, alive[i])
    _link(ax, model, sample)
    _link(ax, noise, model)
    for s, at in enumerate(sources):
        reaches = bool((codebook.words[s].astype(bool) & alive).any())
        _node(ax, at, f"$s_{{{s + 1}}}$", PALETTE[1], reaches)
    _node(ax, model, "mean", OURS)
    _node(ax, sample, "$y$", PALETTE[2])
    _node(ax, noise, "$\\varepsilon$", PALETTE[4])
    ax.set(xlim=(-0.3, 3.3), ylim=(-0.08, 1.08))
    ax.set_axis_off()
    return ax


def _heights(count: int) -> np.ndarray | list[float]:
    return np.linspace(0.5 + 0.45, 0.5 - 0.45, count) if count > 1 else [0.5]


def _link(ax: Axes, start, end, on: bool = True, broken: bool = False) -> None:
    arrow = FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=9, shrinkA=14, shrinkB=14, linewidth=1.1
    )
    arrow.set(color=ALERT if broken else "0.25" if on else "0.85", zorder=1)
    arrow.set_linestyle(":" if broken else "-")
    ax.add_patch(arrow)


def _node(ax: Axes, at, text: str, colour, on: bool = True) -> None:
    corner = (at[0] - 0.17, at[1] - 0.05)
    box = FancyBboxPatch(corner, 0.34, 0.1, boxstyle="round,pad=0.01,rounding_size=0.03", zorder=2)
    box.set(facecolor=(*colour, 0.25) if on else "0.97", edgecolor=colour if on else "0.8")
    ax.add_patch(box)
    ax.text(*at, text, color="black" if on else "0.65", zorder=3, **CENTRED)
