"""The one style of all figures and tables."""

import hashlib
import io
import re
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython import get_ipython
from IPython.display import HTML
from IPython.lib.pretty import RepresentationPrinter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

PALETTE = sns.color_palette("colorblind")
OURS = PALETTE[0]
PAPERS = (0.55, 0.55, 0.55)
ALERT = PALETTE[3]
LABEL = 10
"""Points of the smallest text. No figure is wider than some seven inches, so that on a phone, where
it is drawn half as large, all text can be read."""
CENTRED = {"ha": "center", "va": "center", "fontsize": LABEL}
"""Small text that is centred on its place."""
BESIDE = {"rotation": 0, "ha": "right", "va": "center", "fontsize": LABEL}
"""The label of a row of images."""
NUMBERS = float, np.float64, np.float32
"""what is shown with four digits where a cell ends with it"""
RADIUS_LABEL = "counterfactual radius (Euclidean, 3×256×256)"


def use_style() -> None:
    """The one style of all figures: seaborn's white grid, colours that colour-blind readers can
    tell apart. In a notebook numbers that end a cell are shown with four digits."""
    sns.set_theme(style="whitegrid", palette="colorblind", context="notebook")
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.bbox": "tight",
            "axes.titlesize": "medium",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.constrained_layout.use": True,
            "legend.frameon": False,
            "legend.fontsize": LABEL,
            "legend.title_fontsize": LABEL,
        }
    )
    shell = get_ipython()
    if shell is not None:
        # The backend brings a formatter of its own, but only when it is first asked for.
        plt.close(plt.figure())
        formatters = shell.display_formatter.formatters
        formatters["image/png"].for_type(Figure, palette_png)
        for kind in NUMBERS:
            formatters["text/plain"].for_type(kind, few_digits)


def few_digits(x: float, printer: RepresentationPrinter, _cycle: bool) -> None:
    """A number with four digits where it has more: a reader of a page compares no more of them."""
    whole = repr(float(x))
    printer.text(whole if len(whole) <= 6 else f"{x:.4g}" if abs(x) < 1e4 else f"{x:.0f}")


def palette_png(figure: Figure) -> bytes:
    """A figure as a PNG of at most 256 colours: a page of them loads in a third of the time, and no
    eye tells the difference."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", bbox_inches="tight")
    image = Image.open(drawn).convert("RGB")
    small = io.BytesIO()
    image.quantize(256, method=Image.Quantize.MEDIANCUT, kmeans=3, dither=Image.Dither.NONE).save(
        small, "PNG", optimize=True
    )
    return small.getvalue()


def stacked(count: int, width: float, height: float, **options) -> tuple[Figure, np.ndarray]:
    """A figure of so many panels, each ``width`` by ``height`` inches, and its axes: they stand
    under each other, because side by side their text would be too small on a phone."""
    size = (width, height * count)
    figure, axes = plt.subplots(count, 1, figsize=size, squeeze=False, **options)
    return figure, axes[:, 0]


def count_ticks(ax: Axes, ticks: Sequence[int], **text) -> None:
    """Ticks of a logarithmic axis at these numbers alone, written out."""
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks], **text)
    ax.set_xticks([], minor=True)


def table(frame: pd.DataFrame, formats: dict[str, str] | None = None) -> HTML:
    """A table for a page: no index, room between columns, nothing where a number is missing,
    and on one line what belongs together, a number and its error or the ends of an interval.

    ``formats`` are by column, as in ``"{:.2f}"``.
    """
    cells = {
        "selector": "th, td",
        "props": "padding: 0.25em 0.9em; text-align: left; vertical-align: top",
    }
    # pandas would draw a random name for the table, and two runs of a page would differ by it
    name = hashlib.sha256(frame.to_csv().encode()).hexdigest()[:8]
    shown = frame.style.set_uuid(name).hide(axis="index").format(formats, na_rep="")
    # on a phone the table scrolls, not the page
    text = shown.set_table_styles([cells]).to_html()
    text = re.sub(r"(?<=\d) (±|to) (?=[-\d])", "\u00a0\\1\u00a0", text)
    return HTML(f'<div style="overflow-x: auto">{text}</div>')
