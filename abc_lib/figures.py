"""One function a figure: data in, axes or a figure out.

Images are (C, H, W) tensors with values in [0, 1].
"""

import hashlib
import io
from collections.abc import Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from IPython import get_ipython
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from PIL import Image

from .classes import standard_errors
from .codes import Codebook
from .cost import cost_of
from .errors import BadValue
from .landscape import Landscapes
from .radius import Law, LogRadius
from .recipes import Recipe

PALETTE = sns.color_palette("colorblind")
OURS, PAPERS, ALERT = PALETTE[0], (0.55, 0.55, 0.55), PALETTE[3]
RADIUS_LABEL = "counterfactual radius (Euclidean, 3×256×256)"


def use_style() -> None:
    """The one style of all figures: seaborn's white grid, colours that colour-blind readers can tell apart."""
    sns.set_theme(style="whitegrid", palette="colorblind", context="notebook")
    plt.rcParams.update({"figure.dpi": 110, "savefig.bbox": "tight", "axes.titlesize": "medium", "axes.spines.top": False,
                         "axes.spines.right": False, "figure.constrained_layout.use": True, "legend.frameon": False})
    shell = get_ipython()
    if shell is not None:
        # The backend brings a formatter of its own, but only when it is first asked for.
        plt.close(plt.figure())
        shell.display_formatter.formatters["image/png"].for_type(Figure, palette_png)


def palette_png(figure: Figure) -> bytes:
    """A figure as a PNG of at most 256 colours: a page of them loads in a third of the time, and no eye tells the difference."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", bbox_inches="tight")
    image, small = Image.open(drawn).convert("RGB"), io.BytesIO()
    image.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=3, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


def table(frame: pd.DataFrame, formats: dict[str, str] | None = None) -> HTML:
    """A table for a page: no index, room between columns, ``formats`` by column as in ``"{:.2f}"``, nothing where a number is missing."""
    cells = [{"selector": "th, td", "props": "padding: 0.25em 0.9em; text-align: left; vertical-align: top"}]
    # pandas would draw a random name for the table, and two runs of a page would differ by it
    name = hashlib.sha256(frame.to_csv().encode()).hexdigest()[:8]
    text = frame.style.set_uuid(name).hide(axis="index").format(formats, na_rep="").set_table_styles(cells).to_html()
    # on a phone the table scrolls, not the page
    return HTML(f'<div style="overflow-x: auto">{text}</div>')


def show_image(ax: Axes, image: torch.Tensor, title: str | None = None, frame: object = None) -> None:
    """One image without axes; ``frame`` is the colour of a border."""
    array = image.detach().cpu().float().permute(1, 2, 0).numpy()
    ax.imshow(array.squeeze(-1) if array.shape[-1] == 1 else array, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set(visible=frame is not None, color=frame, linewidth=2.5)
    if title:
        ax.set_title(title, fontsize=9, pad=3)


def landscape_grid(landscapes: Landscapes, row: int, images: torch.Tensor, sources: Sequence[int], columns: int = 8) -> Figure:
    """A sample, framed, and its counterfactuals without each of ``sources``, each with its distance.

    ``images`` (K, C, H, W) are the counterfactuals.
    """
    if len(images) != len(sources):
        raise BadValue(f"{len(images)} images do not go with {len(sources)} sources; give one image for each")
    total = len(sources) + 1
    rows = -(-total // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * 0.95, rows * 1.2), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    axes = axes.flat
    axes[0].set_axis_on()
    show_image(axes[0], landscapes.factual[row], "factual", ALERT)
    for ax, image, source in zip(axes[1:], images, sources):
        ax.set_axis_on()
        show_image(ax, image, f"−{source}: {landscapes.distances[row, source]:.0f}")
    return figure


def radius_gallery(landscapes: Landscapes, rows: Sequence[int]) -> Figure:
    """Samples, the counterfactual farthest from each, and the training image whose removal made it."""
    shown = landscapes.attributed_images is not None
    names = ["sample", "farthest\ncounterfactual"] + (["training image\nremoved"] if shown else [])
    figure, axes = plt.subplots(len(names), len(rows), figsize=(len(rows) * 1.0 + 1.0, len(names) * 1.2), squeeze=False)
    for column, row in enumerate(rows):
        source = landscapes.attributed_sources[row]
        show_image(axes[0, column], landscapes.factual[row], f"#{landscapes.indices[row]}\nr = {landscapes.radii[row]:.1f}")
        show_image(axes[1, column], landscapes.farthest_images[row])
        if shown:
            show_image(axes[2, column], landscapes.attributed_images[row], frame=PALETTE[1])
        axes[-1, column].set_xlabel(f"source {source}", fontsize=8)
    for ax, name in zip(axes[:, 0], names):
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def landscape_curves(landscapes: Landscapes, ax: Axes) -> Axes:
    """Distances of every sample's counterfactuals, from the farthest down, one line a sample."""
    for distances in landscapes.distances:
        ax.plot(np.arange(1, len(distances) + 1), np.sort(distances)[::-1], color=OURS, alpha=0.35, linewidth=1)
    # Only zeros, from unattributable samples, have no place on a logarithmic axis.
    ax.set(xscale="log", yscale="log" if landscapes.distances.any() else "linear",
           xlabel="counterfactuals, farthest first (rank)", ylabel="distance to the sample (Euclidean)")
    return ax


def strips(groups: dict[str, np.ndarray], ax: Axes, label: str, highlight: str | None = None, chance: float | None = None) -> Axes:
    """One horizontal strip of dots over a box for each group of values (figures 5, 7 and 8, top).

    NaN is left out. ``chance`` draws a line where values without any link would centre.
    """
    names = list(groups)
    values = [np.asarray(groups[name], float)[~np.isnan(np.asarray(groups[name], float))] for name in names]
    colours = [ALERT if name == highlight else OURS for name in names]
    boxes = ax.boxplot(values, orientation="horizontal", widths=0.6, showfliers=False, patch_artist=True, positions=range(len(names)))
    for box, colour in zip(boxes["boxes"], colours):
        box.set(facecolor=(*colour, 0.15), edgecolor=colour)
    for median in boxes["medians"]:
        median.set(color="black")
    rng = np.random.default_rng(0)  # where a dot sits across its strip carries no meaning
    for position, (each, colour) in enumerate(zip(values, colours)):
        ax.scatter(each, position + rng.uniform(-0.18, 0.18, len(each)), s=12, color=colour, alpha=0.7, linewidths=0, zorder=3)
    _chance_line(ax, chance)
    ax.set(yticks=range(len(names)), yticklabels=names, xlabel=label)
    ax.invert_yaxis()
    return ax


def violins(groups: dict[str, np.ndarray], ax: Axes, label: str, highlight: str | None = None, chance: float | None = None) -> Axes:
    """One horizontal violin over a box for each group of values (figures 4 and 8, bottom); NaN is left out."""
    names = list(groups)
    values = [np.asarray(groups[name], float)[~np.isnan(np.asarray(groups[name], float))] for name in names]
    # mixed with white: seaborn drops a colour's transparency
    palette = [sns.light_palette(ALERT if name == highlight else OURS, 10)[4] for name in names]
    sns.violinplot(values, orient="h", ax=ax, cut=0, inner=None, linewidth=0.8, density_norm="width", width=0.8, palette=palette,
                   saturation=1)
    boxes = ax.boxplot(values, orientation="horizontal", widths=0.2, patch_artist=True, positions=range(len(names)),
                       flierprops={"marker": ".", "markersize": 2, "markeredgecolor": "0.4", "alpha": 0.4})
    for box in boxes["boxes"]:
        box.set(facecolor="white", edgecolor="0.2")
    for median in boxes["medians"]:
        median.set(color="black")
    _chance_line(ax, chance)
    ax.set(yticks=range(len(names)), yticklabels=names, xlabel=label)
    ax.set_ylim(len(names) - 0.4, -0.6)
    return ax


def _chance_line(ax: Axes, chance: float | None) -> None:
    if chance is not None:
        ax.axvline(chance, color=PAPERS, linestyle="--", linewidth=1.2, zorder=0)


def radius_distribution(groups: dict[str, np.ndarray], ax: Axes, highlight: str | None = None) -> Axes:
    """log10 radii of every sample of each ensemble as strips with boxes (figure 7, left)."""
    return strips({name: np.log10(radii[radii > 0]) for name, radii in groups.items()}, ax, "log10 " + RADIUS_LABEL, highlight)


def image_rows(
    rows: dict[str, torch.Tensor], titles: Sequence[str], notes: Sequence[str] | dict[str, Sequence[str]] = (), framed: Sequence[str] = (),
) -> Figure:
    """Rows of images under each other, a column a sample: ``rows`` maps a row's name to images (K, C, H, W).

    ``titles`` stand above the columns, ``notes`` below them, or below the rows that they are given for by name; rows in
    ``framed`` are training images and get a border.
    """
    columns = len(titles)
    wrong = [name for name, images in rows.items() if len(images) != columns]
    if wrong or columns == 0:
        first = (wrong or list(rows))[0]
        raise BadValue(f"{columns} titles do not go with the images of '{first}'; give one image for each, and at least one")
    under = notes if isinstance(notes, dict) else {list(rows)[-1]: notes}
    figure, axes = plt.subplots(len(rows), columns, figsize=(columns * 1.0 + 1.1, len(rows) * 1.15 + 0.2 * len(under) + 0.1), squeeze=False)
    for line, (name, images) in zip(axes, rows.items()):
        for column, ax in enumerate(line):
            show_image(ax, images[column], titles[column] if ax is axes[0, column] else None, PALETTE[1] if name in framed else None)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        for ax, note in zip(line, under.get(name, ())):
            ax.set_xlabel(note, fontsize=8)
    return figure


_MODELS = {"ensemble": "ensemble", "single": "single model", "member": "one member"}


def fid_curves(tables: dict[str, pd.DataFrame]) -> Figure:
    """FID against training set size, a panel for each of ``tables`` (figure 2, right); ``tables`` maps what the
    distances stand on to a frame with columns images, ensemble, single, member."""
    figure, axes = plt.subplots(1, len(tables), figsize=(4.4 * len(tables), 3.6), squeeze=False)
    for ax, (name, table) in zip(axes.flat, tables.items()):
        for (column, label), marker, colour in zip(_MODELS.items(), "osD", (PALETTE[0], PALETTE[1], PALETTE[2])):
            shown = table[["images", column]].dropna().sort_values("images")
            ax.plot(shown["images"], shown[column], marker=marker, markersize=5, color=colour, label=label)
        ax.set(xscale="log", xlabel="training images", ylabel="FID", title=name)
        ticks = sorted(table["images"].unique())
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=8, rotation=30)
        ax.set_xticks([], minor=True)
        ax.set_ylim(bottom=0)
    axes[0, 0].legend(fontsize=8)
    return figure


def removal_curve(removed: Sequence[int], fids: Sequence[float], counterfactual: int, ax: Axes, others: dict[str, float]) -> Axes:
    """FID of an ensemble without so many of its members; ``counterfactual`` is how many leave with one data source, ``others`` are FIDs to compare with."""
    ax.plot(removed, fids, marker="o", color=OURS)
    ax.axvline(counterfactual, color=PALETTE[1], linestyle=":", linewidth=1.6, label=f"one data source removed: {counterfactual} members")
    for (name, value), style in zip(others.items(), ("--", "-.")):
        ax.axhline(value, color=PAPERS, linestyle=style, linewidth=1.3, label=name)
    ax.set(xlabel="members removed", ylabel="FID", ylim=(0, None))
    ax.legend(fontsize=8)
    return ax


def image_grid(images: torch.Tensor, titles: Sequence[str] = (), columns: int = 12) -> Figure:
    """Images (K, C, H, W) in rows of ``columns``, each under its title if there are any (figure 6, top left)."""
    if len(images) == 0:
        raise BadValue("there is no image to show; give at least one")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * 0.8, rows * (0.98 if titles else 0.82)), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, image, title in zip(axes.flat, images, titles or [None] * len(images)):
        ax.set_axis_on()
        show_image(ax, image, title)
    return figure


def mosaic(first: torch.Tensor, images: torch.Tensor, columns: int | None = None) -> Figure:
    """Many images (K, C, H, W) as one picture, row by row, after a framed ``first`` (C, H, W); about square by default (appendix D.3)."""
    tiles = torch.cat([first[None], images]).float()
    columns = columns or int(np.ceil(np.sqrt(len(tiles))))
    lines = -(-len(tiles) // columns)
    gap = max(1, tiles.shape[-1] // 8)
    height, width = tiles.shape[-2] + gap, tiles.shape[-1] + gap
    canvas = torch.ones(tiles.shape[1], lines * height + gap, columns * width + gap)
    for k, tile in enumerate(tiles):
        y, x = gap + k // columns * height, gap + k % columns * width
        canvas[:, y : y + tile.shape[-2], x : x + tile.shape[-1]] = tile
    side = min(9.0, 0.55 * columns + 0.4)
    figure, ax = plt.subplots(figsize=(side, side * lines / columns))
    show_image(ax, canvas)
    ax.add_patch(Rectangle((gap - 1, gap - 1), width - gap + 1, height - gap + 1, fill=False, edgecolor=ALERT, linewidth=2.5))
    return figure


def below_threshold(groups: dict[str, np.ndarray], ax: Axes, label: str = RADIUS_LABEL) -> Axes:
    """The share of each group's samples whose radius is below tau, against tau (3.5)."""
    colours = sns.color_palette("viridis", len(groups))
    for (name, radii), colour in zip(groups.items(), colours):
        radii = np.sort(radii)
        # below tau, not at it: the curve steps up just after each radius
        ax.step([0, *radii, radii[-1] * 1.05], [0, *np.arange(1, len(radii) + 1) / len(radii), 1], where="post", color=colour, label=f"{name} ({len(radii)})")
    ax.set(xlabel=f"τ: {label}", ylabel="share of samples with a radius below τ", ylim=(0, 1.02), xlim=(0, None))
    ax.legend(fontsize=8, title="ensemble (samples)", title_fontsize=8)
    return ax


def removal_growth(tables: dict[str, pd.DataFrame]) -> Figure:
    """How far removing k sources at once moves samples, a panel for each of ``tables``, which are those of :meth:`Removals.by_size`."""
    figure, axes = plt.subplots(1, len(tables), figsize=(4.6 * len(tables), 3.8), squeeze=False)
    for ax, (name, table) in zip(axes.flat, tables.items()):
        for column, words, marker, colour in (("radius", "farthest of the sets", "o", ALERT), ("mean", "mean of the sets", "s", OURS)):
            ax.errorbar(table["k"], table[column], 1.96 * table[f"{column}_error"], marker=marker, markersize=5, color=colour, capsize=3, label=words)
        ax.set(xlabel="sources removed at once (members left, mean)", ylabel="distance to the sample (Euclidean)", title=name, ylim=(0, None))
        ax.set_xticks(table["k"], [f"{k}\n({left:.1f})" for k, left in zip(table["k"], table["survivors"])], fontsize=9)
    axes[0, 0].legend(fontsize=8)
    return figure


def class_bars(panels: dict[str, tuple[np.ndarray, np.ndarray, int]], names: Sequence[str]) -> Figure:
    """How often each class is generated with (dark) and without it (red), a panel a method (figure 3).

    ``panels`` maps a title to frequencies (K,) before and after, and the number of samples
    they were counted in; bars carry 95% intervals.
    """
    figure, axes = plt.subplots(len(panels), 1, figsize=(6.6, 2.3 * len(panels)), sharex=True, sharey=True, squeeze=False)
    x = np.arange(len(names))
    for ax, (title, (before, after, samples)) in zip(axes[:, 0], panels.items()):
        for offset, values, colour, label in ((-0.2, before, "0.25", "all classes"), (0.2, after, ALERT, "without this class")):
            errors = 1.96 * standard_errors(values, samples)
            # an interval that reaches below zero is cut there
            ax.bar(x + offset, values, 0.38, yerr=[np.minimum(errors, values), errors], color=colour, label=label,
                   error_kw={"elinewidth": 0.8, "capsize": 1.5})
        ax.set(title=title, ylabel="frequency", xticks=x)
        ax.grid(axis="x", visible=False)
    axes[-1, 0].set_xticks(x, names, rotation=0 if max(map(len, names)) < 3 else 40, ha="center" if max(map(len, names)) < 3 else "right")
    axes[-1, 0].set_xlabel("class")
    axes[0, 0].legend(fontsize=8, ncols=2)
    return figure


def class_changes(panels: dict[str, np.ndarray], names: Sequence[str]) -> Figure:
    """What removing a class (row) does to the frequency of every class (column), in points of percent, a panel a method."""
    reach = max(float(np.abs(each).max()) for each in panels.values()) * 100
    figure, axes = plt.subplots(1, len(panels), figsize=(1 + 3.6 * len(panels), 3.6), sharey=True, squeeze=False)
    for ax, (title, change) in zip(axes[0], panels.items()):
        drawn = ax.imshow(100 * change, cmap="PuOr", vmin=-reach, vmax=reach)
        ax.set(title=title, xticks=range(len(names)), yticks=range(len(names)), xlabel="class seen in the samples")
        ax.set_xticklabels(names, rotation=0 if max(map(len, names)) < 3 else 60)
        ax.set_yticklabels(names)
        ax.grid(False)
    axes[0, 0].set_ylabel("class removed")
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="change in points of percent")
    return figure


def meeting_matrices(panels: dict[str, pd.DataFrame]) -> Figure:
    """For each pair of attributions the share of samples whose suspects meet, a panel a k (figure 10)."""
    size = max(len(each) for each in panels.values())
    # under each other: side by side the numbers would be too small to read
    figure, axes = plt.subplots(len(panels), 1, figsize=(2.8 + 0.46 * size, (2.2 + 0.34 * size) * len(panels)), squeeze=False)
    for ax, (title, shares) in zip(axes[:, 0], panels.items()):
        ax.imshow(shares.to_numpy(), cmap="cividis", vmin=0, vmax=1)
        for (y, x), value in np.ndenumerate(shares.to_numpy()):
            ax.text(x, y, f"{100 * value:.0f}", ha="center", va="center", fontsize=7, color="white" if value < 0.6 else "black")
        ax.set(title=title, xticks=range(len(shares)), yticks=range(len(shares)))
        ax.set_aspect("auto")
        ax.set_xticklabels(shares.columns, rotation=40, ha="right", fontsize=8)
        ax.set_yticklabels(shares.index, fontsize=8)
        ax.grid(False)
    return figure


def jacobian_images(factual: torch.Tensor, jacobian: torch.Tensor, columns: int = 8) -> Figure:
    """A sample (C, H, W) and the columns of its Jacobian (n, C, H, W): what more weight on each member would change."""
    maps = jacobian.mean(dim=1).numpy()
    reach = float(np.abs(maps).max()) or 1.0
    rows = -(-(len(maps) + 1) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * 0.95 + 0.8, rows * 1.15), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    axes[0, 0].set_axis_on()
    show_image(axes[0, 0], factual, "sample", ALERT)
    for member, (ax, each) in enumerate(zip(axes.flat[1:], maps)):
        drawn = ax.imshow(each, cmap="PuOr", vmin=-reach, vmax=reach, interpolation="nearest")
        ax.set_title(f"member {member}", fontsize=8, pad=3)
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="change of brightness\nper unit of weight")
    return figure


def predicted_distances(predicted: np.ndarray, exact: np.ndarray, ax: Axes) -> Axes:
    """Predicted over exact distances of one sample's counterfactuals (N,), with the diagonal."""
    ax.scatter(exact, predicted, s=9, color=OURS, alpha=0.6, linewidths=0)
    top = 1.05 * max(predicted.max(), exact.max())
    ax.plot([0, top], [0, top], color=PAPERS, linestyle="--", linewidth=1)
    ax.set(xlim=(0, top), ylim=(0, top), xlabel="exact distance (Euclidean)", ylabel="predicted distance", aspect="equal")
    return ax


def screening_curves(shares: dict[str, np.ndarray], ax: Axes) -> Axes:
    """The screened radius as a share of the radius over k: for each ensemble (S, N), the median, and the lowest sample as a dotted line."""
    for (name, share), colour in zip(shares.items(), cycle(PALETTE)):
        k = np.arange(1, share.shape[1] + 1)
        ax.plot(k, np.median(share, axis=0), color=colour, label=name)
        ax.plot(k, share.min(axis=0), color=colour, linestyle=":", linewidth=1)
    ax.axhline(0.99, color=PAPERS, linestyle="--", linewidth=1)
    ax.set(xscale="log", xlabel="k, counterfactuals computed exactly", ylabel="screened radius / radius", ylim=(None, 1.01))
    ax.legend(fontsize=8, title="median (dotted: lowest sample)", title_fontsize=8, loc="lower right")
    return ax


def hybrid_errors(errors: dict[str, tuple[np.ndarray, np.ndarray]], ax: Axes, label: str, steps: int) -> Axes:
    """Errors over the number of tangent steps: for each ensemble ``(switches (J,), errors (J, M))``.

    The median, and a band from it to the 95th percentile.
    """
    for (name, (switches, each)), colour, marker in zip(errors.items(), cycle(PALETTE), cycle("osD^v")):
        # an error of exactly zero has no place on a logarithmic axis
        middle, high = np.maximum(np.median(each, axis=1), 1e-8), np.maximum(np.quantile(each, 0.95, axis=1), 1e-8)
        ax.plot(switches, middle, color=colour, marker=marker, markersize=4, label=name)
        ax.fill_between(switches, middle, high, color=colour, alpha=0.15, linewidth=0)
    ax.axhline(0.01, color=PAPERS, linestyle="--", linewidth=1)
    ax.set(yscale="log", xlabel=f"steps carried by tangents, of {steps}", ylabel=label)
    ax.legend(fontsize=8, title="median, band to 95%", title_fontsize=8)
    return ax


def radius_law(
    ours: Sequence[LogRadius], paper: Sequence[LogRadius], ax: Axes, our_law: Law | None = None, paper_law: Law | None = None,
) -> Axes:
    """Mean log10 radius over training set size, bars of one standard deviation, with fitted lines (figure 7, right)."""

    def points(summaries, colour, marker, label, **style):
        ax.errorbar([s.size for s in summaries], [s.mean for s in summaries],
                    yerr=[0 if np.isnan(s.sd) else s.sd for s in summaries],
                    fmt=marker, color=colour, label=label, capsize=2, elinewidth=1, **style)

    points(paper, PAPERS, "o", "the paper's 23 ensembles", markersize=4, alpha=0.8)
    families: dict[str, list[LogRadius]] = {}
    for summary in ours:
        families.setdefault(summary.name.split("_")[0], []).append(summary)
    for (family, summaries), marker, k in zip(families.items(), cycle("sD^vPX"), cycle((0, 3, 2, 4, 1, 5, 6, 8, 9))):
        points(summaries, PALETTE[k], marker, f"ours: {family}", markersize=6)
    for law, members, colour, name in ((paper_law, paper, PAPERS, "paper"), (our_law, ours, OURS, "ours")):
        if law is not None:
            sizes = np.array([min(s.size for s in members), max(s.size for s in members)], dtype=float)
            ax.plot(sizes, law.intercept + law.slope * np.log10(sizes), color=colour, linestyle="--", linewidth=1.5,
                    label=f"{name}: slope {law.slope:.2f}, $R^2$ {law.r2:.2f}")
    ax.set(xscale="log", xlabel="training set size (images)", ylabel="mean log10 counterfactual radius")
    ax.legend(fontsize=8)
    return ax


def cost_by_sources(recipes: Sequence[Recipe], samples: int, ax: Axes) -> Axes:
    """FLOP of training and of ``samples`` landscapes over the number of sources, by ablation and by retraining."""
    recipes = sorted(recipes, key=lambda recipe: recipe.data.num_sources)
    costs, sources = [cost_of(recipe) for recipe in recipes], [recipe.data.num_sources for recipe in recipes]
    for label, colour, marker, count in (("by retraining: a model for each source", ALERT, "s", lambda c: c.retraining + samples * c.retrained_landscape),
                                         ("by ablation: one ensemble", OURS, "o", lambda c: c.members + samples * c.landscape)):
        ax.plot(sources, [count(c) * c.flop for c in costs], color=colour, marker=marker, label=label)
    ax.set(xscale="log", yscale="log", xlabel="data sources N", ylabel=f"FLOP, training and {samples} landscapes")
    ax.set_xticks(sources, [f"{N:,}" for N in sources])
    ax.set_xticks([], minor=True)
    ax.legend(fontsize=8)
    return ax


def code_matrix(codebook: Codebook, ax: Axes, removed: int | None = None, rows: int = 16) -> Axes:
    """The first codewords as a matrix, sources down and members across; the members that ``removed`` takes away are struck."""
    words = codebook.words[:rows]
    ax.imshow(words, cmap=sns.light_palette(OURS, as_cmap=True), vmin=0, vmax=1.4, aspect="auto", interpolation="nearest")
    for (y, x), bit in np.ndenumerate(words):
        ax.text(x, y, str(bit), ha="center", va="center", fontsize=8, color="black" if bit else "0.6")
    if removed is not None:
        for member in np.flatnonzero(~codebook.survivors(removed)):
            ax.axvspan(member - 0.5, member + 0.5, color=ALERT, alpha=0.25)
        ax.add_patch(plt.Rectangle((-0.5, removed - 0.5), codebook.n, 1, fill=False, edgecolor=ALERT, linewidth=2))
    ax.set(xticks=range(codebook.n), yticks=range(len(words)), xlabel="member", ylabel="data source")
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
        ax.add_patch(FancyArrowPatch(a, b, arrowstyle="-|>", mutation_scale=9, shrinkA=14, shrinkB=14,
                                     color=ALERT if broken else "0.25" if on else "0.85", linestyle=":" if broken else "-",
                                     linewidth=1.1, zorder=1))

    def node(at, text, on=True, colour=OURS):
        ax.add_patch(FancyBboxPatch((at[0] - 0.17, at[1] - 0.05), 0.34, 0.1, boxstyle="round,pad=0.01,rounding_size=0.03",
                                    facecolor=(*colour, 0.25) if on else "0.97", edgecolor=colour if on else "0.8", zorder=2))
        ax.text(*at, text, ha="center", va="center", fontsize=9, color="black" if on else "0.65", zorder=3)

    for s, i in zip(*np.nonzero(codebook.words)):
        link(sources[s], members[i], alive[i])
    for i, at in enumerate(members):
        link(at, model, alive[i], broken=not alive[i])
        node(at, f"$\\theta_{{{i + 1}}}$", alive[i])
    link(model, sample, True)
    link((2.0, 0.9), model, True)
    for s, at in enumerate(sources):
        node(at, f"$s_{{{s + 1}}}$", bool((codebook.words[s].astype(bool) & alive).any()), PALETTE[1])
    node(model, "mean")
    node(sample, "$y$", colour=PALETTE[2])
    node((2.0, 0.9), "$\\varepsilon$", colour=PALETTE[4])
    ax.set(xlim=(-0.3, 3.3), ylim=(-0.08, 1.08))
    ax.set_axis_off()
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
    figure, axes = plt.subplots(2, 2, figsize=(8.6, 6.4))
    for ax, (key, name) in zip(axes.flat, names.items()):
        exponent = fit["exponents"][key]
        typical = {k: np.exp(np.log(v).mean()) for k, v in values.items()}
        rest = np.prod([(values[k] / typical[k]) ** fit["exponents"][k] for k in names if k != key], axis=0)
        for side, colour in colours.items():
            ax.plot(values[key][sides == side], (seconds / rest)[sides == side], "o", color=colour, markersize=4, alpha=0.7, label=f"{side}×{side}")
        x = np.array([values[key].min(), values[key].max()])
        middle = fit["constant"] * np.prod([typical[k] ** fit["exponents"][k] for k in names])
        ax.plot(x, middle * (x / typical[key]) ** exponent, color="black", linewidth=1, label=f"fitted: {exponent:.2f} ± {2 * fit['errors'][key]:.2f}")
        ax.plot(x, middle * x / typical[key], color=PAPERS, linestyle="--", linewidth=1.2, label="in proportion" if key == "pixels" else "A.3: 1")
        ax.set(xscale="log", yscale="log", xlabel=name, ylabel="seconds, the rest divided out")
        ticks = np.unique(values[key]).astype(int)
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.set_xticks([], minor=True)
        ax.legend(fontsize=7)
    ax, product = axes[1, 1], np.prod(list(values.values()), axis=0)
    for side, colour in colours.items():
        ax.plot(product[sides == side], seconds[sides == side], "o", color=colour, markersize=4, alpha=0.7, label=f"{side}×{side}")
    x = np.array([product.min(), product.max()])
    ax.plot(x, x * np.exp(np.log(seconds / product).mean()), color=PAPERS, linestyle="--", linewidth=1.2, label="A.3: in proportion")
    ax.set(xscale="log", yscale="log", xlabel="N × n × pixels", ylabel="seconds for a landscape")
    ax.legend(fontsize=7)
    return figure
