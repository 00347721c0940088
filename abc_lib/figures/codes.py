"""Codes, and who reaches the sample through whom (figure 1)."""

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from abc_lib.figures.style import ALERT, LABEL, OURS, PALETTE
from abc_lib.method.code import Codebook


def code_matrix(codebook: Codebook, ax: Axes, removed: int | None = None, rows: int = 16) -> Axes:
    """The first codewords as a matrix, sources down and members across; the members that ``removed`` takes away are struck."""
    words = codebook.words[:rows]
    ax.imshow(
        words,
        cmap=sns.light_palette(OURS, as_cmap=True),
        vmin=0,
        vmax=1.4,
        aspect="auto",
        interpolation="nearest",
    )
    for (y, x), bit in np.ndenumerate(words):
        ax.text(
            x,
            y,
            str(bit),
            ha="center",
            va="center",
            fontsize=LABEL,
            color="black" if bit else "0.6",
        )
    if removed is not None:
        for member in np.flatnonzero(~codebook.survivors(removed)):
            ax.axvspan(member - 0.5, member + 0.5, color=ALERT, alpha=0.25)
        ax.add_patch(
            plt.Rectangle(
                (-0.5, removed - 0.5), codebook.n, 1, fill=False, edgecolor=ALERT, linewidth=2
            )
        )
    ax.set(
        xticks=range(codebook.n), yticks=range(len(words)), xlabel="member", ylabel="data source"
    )
    ax.grid(False)
    return ax


def causal_flow(codebook: Codebook, ax: Axes, removed: int | None = None) -> Axes:
    """Figure 1's idea for a small code: sources, the members that saw them, the ensemble, the sample.

    With ``removed``, the ablated members and every link through them are drawn pale.
    """
    N, n = codebook.num_sources, codebook.n
    alive = np.ones(n, bool) if removed is None else codebook.survivors(removed)
    centre = lambda count: np.linspace(0.5 + 0.45, 0.5 - 0.45, count) if count > 1 else [0.5]  # noqa: E731
    sources = [(0.0, y) for y in centre(N)]
    members = [(1.0, y) for y in centre(n)]
    model, sample = (2.0, 0.5), (3.0, 0.5)

    def link(a, b, on, broken=False):
        ax.add_patch(
            FancyArrowPatch(
                a,
                b,
                arrowstyle="-|>",
                mutation_scale=9,
                shrinkA=14,
                shrinkB=14,
                color=ALERT if broken else "0.25" if on else "0.85",
                linestyle=":" if broken else "-",
                linewidth=1.1,
                zorder=1,
            )
        )

    def node(at, text, on=True, colour=OURS):
        ax.add_patch(
            FancyBboxPatch(
                (at[0] - 0.17, at[1] - 0.05),
                0.34,
                0.1,
                boxstyle="round,pad=0.01,rounding_size=0.03",
                facecolor=(*colour, 0.25) if on else "0.97",
                edgecolor=colour if on else "0.8",
                zorder=2,
            )
        )
        ax.text(
            *at,
            text,
            ha="center",
            va="center",
            fontsize=LABEL,
            color="black" if on else "0.65",
            zorder=3,
        )

    for s, i in zip(*np.nonzero(codebook.words)):
        link(sources[s], members[i], alive[i])
    for i, at in enumerate(members):
        link(at, model, alive[i], broken=not alive[i])
        node(at, f"$\\theta_{{{i + 1}}}$", alive[i])
    link(model, sample, True)
    link((2.0, 0.9), model, True)
    for s, at in enumerate(sources):
        node(
            at, f"$s_{{{s + 1}}}$", bool((codebook.words[s].astype(bool) & alive).any()), PALETTE[1]
        )
    node(model, "mean")
    node(sample, "$y$", colour=PALETTE[2])
    node((2.0, 0.9), "$\\varepsilon$", colour=PALETTE[4])
    ax.set(xlim=(-0.3, 3.3), ylim=(-0.08, 1.08))
    ax.set_axis_off()
    return ax
