"""Differential ablation: Jacobians, predictions, and what they spare (figure 8)."""

from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from abc_lib.figures.images import show_image
from abc_lib.figures.style import ALERT, LABEL, OURS, PALETTE, PAPERS


def jacobian_images(factual: torch.Tensor, jacobian: torch.Tensor, columns: int = 6) -> Figure:
    """A sample (C, H, W) and the columns of its Jacobian (n, C, H, W): what more weight on each
    member would change."""
    maps = jacobian.mean(dim=1).numpy()
    reach = float(np.abs(maps).max()) or 1.0
    rows = -(-(len(maps) + 1) // columns)
    size = (columns * 0.95 + 0.8, rows * 1.15)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    axes[0, 0].set_axis_on()
    show_image(axes[0, 0], factual, "sample", ALERT)
    for member, (ax, values) in enumerate(zip(axes.flat[1:], maps)):
        drawn = ax.imshow(values, cmap="PuOr", vmin=-reach, vmax=reach, interpolation="nearest")
        ax.set_title(f"member {member}", fontsize=LABEL, pad=3)
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="change of brightness\nper unit of weight")
    return figure


def predicted_distances(predicted: np.ndarray, exact: np.ndarray, ax: Axes) -> Axes:
    """Predicted over exact distances of one sample's counterfactuals (N,), with the diagonal."""
    ax.scatter(exact, predicted, s=9, color=OURS, alpha=0.6, linewidths=0)
    top = 1.05 * max(predicted.max(), exact.max())
    ax.plot([0, top], [0, top], color=PAPERS, linestyle="--", linewidth=1)
    ax.set(xlabel="exact distance (Euclidean)", ylabel="predicted distance")
    ax.set(xlim=(0, top), ylim=(0, top), aspect="equal")
    return ax


def screening_curves(shares: dict[str, np.ndarray], ax: Axes) -> Axes:
    """The screened radius as a share of the radius over k: for each ensemble (S, N), the median,
    and the lowest sample as a dotted line."""
    for (name, share), colour in zip(shares.items(), cycle(PALETTE)):
        k = np.arange(1, share.shape[1] + 1)
        ax.plot(k, np.median(share, axis=0), color=colour, label=name)
        ax.plot(k, share.min(axis=0), color=colour, linestyle=":", linewidth=1)
    ax.axhline(0.99, color=PAPERS, linestyle="--", linewidth=1)
    ax.set(xlabel="k, counterfactuals computed exactly", ylabel="screened radius / radius")
    ax.set(xscale="log", ylim=(None, 1.01))
    ax.legend(title="median (dotted: lowest sample)", loc="lower right")
    return ax


def hybrid_errors(
    errors: dict[str, tuple[np.ndarray, np.ndarray]], ax: Axes, label: str, steps: int
) -> Axes:
    """Errors over the number of tangent steps: by ensemble ``(switches (J,), errors (J, M))``.

    The median, and a band from it to the 95th percentile.
    """
    styles = zip(cycle(PALETTE), cycle("osD^v"))
    for (name, (switches, values)), (colour, marker) in zip(errors.items(), styles):
        # an error of exactly zero has no place on a logarithmic axis
        middle = np.maximum(np.median(values, axis=1), 1e-8)
        high = np.maximum(np.quantile(values, 0.95, axis=1), 1e-8)
        ax.plot(switches, middle, color=colour, marker=marker, markersize=4, label=name)
        ax.fill_between(switches, middle, high, color=colour, alpha=0.15, linewidth=0)
    ax.axhline(0.01, color=PAPERS, linestyle="--", linewidth=1)
    ax.set(yscale="log", xlabel=f"steps carried by tangents, of {steps}", ylabel=label)
    ax.legend(title="median, band to 95%")
    return ax
