# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # How fast, and against what
#
# **Asked:** how long do things take here, and how does that compare with the way in which a
# competent reader would write the same from the paper? **Found:** the table below; the gain is in
# batches, in first steps that are shared, and in members that need not be evaluated.
#
# The paper's landscapes took from a few minutes to a few days on fifteen GPUs (appendix B.7
# {cite}`dai2024ablation`). The straightforward ways are kept in the folder `benchmarks`, one file
# for each, to be read and run. Ours and theirs take turns within one run, so that both meet the
# same machine in the same mood, and their results are compared: where they did not agree, there
# would be no line in the table.
#
# Everything below was measured by one command and read from the file that it wrote. Times of
# another machine will differ; the ratios should differ less.

# %% tags=["parameters"]
devices = ["cpu", "cuda"]  # whose measurements to show, in this order

# %%
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown, display

import abc_lib as abc

measured = {device: abc.speed.read_benchmarks(device) for device in devices}
{device: found and list(found["comparisons"]) for device, found in measured.items()}

# %% tags=["hide-input"]
abc.figures.use_style()
command = "`make bench`, then `papermill notebooks/speed.ipynb out.ipynb`"
display(Markdown(f"> **Run this page:** {command}"))

# %% tags=["hide-input"]
for device, found in measured.items():
    title = {"cpu": "On a CPU", "cuda": "On a GPU"}[device]
    if found is None:
        command = "make bench" if device == "cpu" else "make bench BENCH='--device cuda'"
        kind = "nothing but a CPU" if device == "cpu" else "a GPU"
        text = f"Not measured yet. On a machine with {kind}, this measures it: `{command}`"
        display(Markdown(f"## {title}\n\n{text}"))
        continue
    machine, parts = found["machine"], list(found["comparisons"].values())
    commits = sorted({part["made"]["commit"] for part in parts})
    dates = sorted({part["made"]["time"][:10] for part in parts})
    minutes = sum(part["made"]["seconds"] for part in parts) / 60
    threads = f", {machine['cores']} cores, {machine['threads']} threads by default"
    text = (
        f"{machine['hardware']}{threads if device == 'cpu' else ''}; torch "
        f"{machine['packages']['torch']}; {' and '.join(dates)}; commit {', '.join(commits)}; "
        f"{minutes:.0f} minutes in all."
    )
    display(Markdown(f"## {title}\n\n{text}"))
    table = abc.speed.benchmark_table(found)
    if len(table):
        display(abc.figures.table(table))
        display(Markdown("What both reach; of two values the first is ours."))
        display(abc.figures.table(abc.speed.rates_table(found)))
    pages = [page for part in parts for page in part.get("pages", [])]
    if pages:
        text = "From an empty cache to the last cell of the radius notebook, Python's own start "
        lines = [
            f"- `{page['dataset']}`: {', '.join(f'{s:.0f} s' for s in page['seconds'])}"
            for page in pages
        ]
        display(Markdown(f"{text}included:\n\n" + "\n".join(lines)))

# %% [markdown]
# ## What each line compares
#
# A ratio is the time of the other way divided by ours; it is the median over the rounds of one run,
# with the lowest and the highest in brackets. A *network* is one member evaluated on one state (in
# training, forward and backward). With one core, time is that of the processor, which other
# programs do not lengthen; else it is time on the wall. Operations are counted, not estimated, a
# multiplication and an addition as two; the *share* sets them against what a large float32 matrix
# product reached in the same run on as many cores. Networks as small as these are far from being
# one large product, so the share says how much could be left to gain at most. Peak memory is the
# most that the work added to a process with all libraries in it; on a GPU it is the most that
# PyTorch held there.

# %%
rows = [
    row
    for found in measured.values()
    if found
    for part in found["comparisons"].values()
    for row in part.get("rows", [])
]
{f"{row['name']} against {row['other']}": round(row["ratio"], 1) for row in rows}

# %% tags=["hide-input"]
explained = {f"{row['name']} against {row['other']}": row for row in rows}
table = pd.DataFrame(
    {
        "comparison": name,
        "what it does": row["what"],
        "largest difference of results": (
            f"{row['difference']:.0e} (at most {row['tolerance']:.0e})"
        ),
    }
    for name, row in explained.items()
)
if len(table):
    display(abc.figures.table(table))

# %% [markdown]
# ## Less work instead of faster work
#
# [Differential ablation](04_differential.ipynb) says where the radius is likely to be found, and
# carries counterfactuals through the first steps together. That is not exact, so it is an option,
# and this is what it gives for which part of the network evaluations of an exact landscape, the
# Jacobian included:

# %% tags=["hide-input"]
first = next((found for found in measured.values() if found), None)
if first is not None:
    display(abc.figures.table(abc.speed.screening_table(first)))

# %% [markdown]
# ## How the time grows
#
# Appendix A.3 of the paper: one landscape takes time of order $N \log(N)\, t$, where $N$ is the
# number of data sources, $t$ the time of sampling one model, and $\log(N)$ stands for the members
# $n$ of the ensemble. So the time should be proportional to $N$ and to $n$, and grow with the image
# as the network does. Below, landscapes of small untrained ensembles were timed over a grid; the
# exponents are fitted by least squares on logarithms.

# %%
scaled = {
    device: found["comparisons"]["scaling"]
    for device, found in measured.items()
    if found and "scaling" in found["comparisons"]
}
{device: part["fit"]["exponents"] for device, part in scaled.items()}

# %% mystnb={"image": {"alt": "Time of a landscape against sources, members and pixels, with fitted lines close to proportional ones."}} tags=["hide-input"]
for device, part in scaled.items():
    figure = abc.figures.scaling_curves(part["points"], part["fit"])
    hardware = measured[device]["machine"]["hardware"]
    figure.suptitle(f"{hardware}{', one thread' if part['threads'] else ''}", fontsize=12)
    plt.show()
    fit, error = part["fit"]["exponents"], part["fit"]["errors"]
    # the straight line of a power law is itself only a description
    near = [what for what, k in (("sources", "N"), ("members", "n")) if abs(fit[k] - 1) <= 0.1]
    text = [
        "neither within 0.1 of A.3's",
        f"of these only the exponent of {''.join(near[:1])} is within 0.1 of A.3's",
        "both as A.3 says",
    ][len(near)]
    display(
        Markdown(
            f"The time grows as $N^{{{fit['N']:.2f}}}$ and $n^{{{fit['n']:.2f}}}$ (two standard "
            f"errors: {2 * error['N']:.2f} and {2 * error['n']:.2f}), {text}, and as the number of "
            f"pixels to the power of {fit['pixels']:.2f}; $R^2$ is {part['fit']['r2']:.3f} over "
            f"{len(part['points'])} ensembles."
        )
    )

# %% [markdown]
# ## Exercises
#
# 1. By the fitted exponents, how much longer does a landscape take with four times the sources and
#    two more members for every eight?

# %% tags=["hide-cell"]
{
    device: 4 ** part["fit"]["exponents"]["N"] * 1.25 ** part["fit"]["exponents"]["n"]
    for device, part in scaled.items()
}

# %% [markdown]
# 2. Which comparison gained most, and which least?

# %% tags=["hide-cell"]
ordered = sorted(rows, key=lambda row: row["ratio"])
[(row["name"], row["other"], round(row["ratio"], 1)) for row in ordered[:1] + ordered[-1:]]
