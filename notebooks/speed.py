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
# The paper's landscapes took from a few minutes to a few days on fifteen GPUs (appendix B.7 {cite}`dai2024ablation`). This page says how long things take here, and how that compares with the way in which a competent reader would write the same from the paper. Those straightforward ways are kept in the folder `benchmarks`, one file for each, to be read and run. Ours and theirs take turns within one run, so that both meet the same machine in the same mood, and their results are compared: where they did not agree, there would be no line in the table.
#
# Everything below was measured by one command and read from the file that it wrote. Times of another machine will differ; the ratios should differ less.

# %% tags=["parameters"]
devices = ["cpu", "cuda"]  # whose measurements to show, in this order

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown, display

import abc_lib as abc

abc.figures.use_style()
found = {device: abc.read_benchmarks(device) for device in devices}
titles = {"cpu": "On a CPU", "cuda": "On a GPU"}
display(Markdown("> **Run this page:** `make bench`, then `papermill notebooks/speed.ipynb out.ipynb`"))

# %% tags=["hide-input"]
for device, each in found.items():
    lines = [f"## {titles[device]}"]
    if each is None:
        command = "make bench" if device == "cpu" else "make bench BENCH='--device cuda'"
        lines.append(f"Not measured yet. On a machine with {'nothing but a CPU' if device == 'cpu' else 'a GPU'}, this measures it: `{command}`")
        display(Markdown("\n\n".join(lines)))
        continue
    machine, parts = each["machine"], each["comparisons"]
    commits = sorted({part["made"]["commit"] for part in parts.values()})
    dates = sorted({part["made"]["time"][:10] for part in parts.values()})
    minutes = sum(part["made"]["seconds"] for part in parts.values()) / 60
    threads = f", {machine['cores']} cores, {machine['threads']} threads by default" if device == "cpu" else ""
    lines.append(
        f"{machine['hardware']}{threads}; torch {machine['packages']['torch']}; {' and '.join(dates)}; commit {', '.join(commits)}; "
        f"{minutes:.0f} minutes in all."
    )
    display(Markdown("\n\n".join(lines)))
    rows = abc.benchmark_table(each)
    if len(rows):
        display(abc.figures.table(rows))
        display(Markdown("What both reach; of two values the first is ours."))
        display(abc.figures.table(abc.rates_table(each)))
    pages = [page for part in parts.values() for page in part.get("pages", [])]
    if pages:
        display(Markdown("From an empty cache to the last cell of the radius notebook, Python's own start included:\n\n" + "\n".join(
            f"- `{page['dataset']}`: {', '.join(f'{seconds:.0f} s' for seconds in page['seconds'])}" for page in pages)))

# %% [markdown]
# ## What each line compares
#
# A ratio is the time of the other way divided by ours; it is the median over the rounds of one run, with the lowest and the highest in brackets. A *network* is one member evaluated on one state (in training, forward and backward). With one core, time is that of the processor, which other programs do not lengthen; else it is time on the wall. Operations are counted, not estimated, a multiplication and an addition as two; the *share* sets them against what a large float32 matrix product reached in the same run on as many cores. Networks as small as these are far from being one large product, so the share says how much could be left to gain at most. Peak memory is the most that the work added to a process with all libraries in it; on a GPU it is the most that PyTorch held there.

# %% tags=["hide-input"]
rows = {f"{row['name']} against {row['other']}": row
        for each in found.values() if each for part in each["comparisons"].values() for row in part.get("rows", [])}
explained = pd.DataFrame([(name, row["what"], f"{row['difference']:.0e} (at most {row['tolerance']:.0e})") for name, row in rows.items()],
                         columns=["comparison", "what it does", "largest difference of results"])
if len(explained):
    display(abc.figures.table(explained))

# %% [markdown]
# ## Less work instead of faster work
#
# [Differential ablation](04_differential.ipynb) says where the radius is likely to be found, and carries counterfactuals through the first steps together. That is not exact, so it is an option, and this is what it gives for which part of the network evaluations of an exact landscape, the Jacobian included:

# %% tags=["hide-input"]
for each in [each for each in found.values() if each][:1]:
    display(abc.figures.table(abc.screening_table(each)))

# %% [markdown]
# ## How the time grows
#
# Appendix A.3 of the paper: one landscape takes time of order $N \log(N)\, t$, where $N$ is the number of data sources, $t$ the time of sampling one model, and $\log(N)$ stands for the members $n$ of the ensemble. So the time should be proportional to $N$ and to $n$, and grow with the image as the network does. Below, landscapes of small untrained ensembles were timed over a grid; the exponents are fitted by least squares on logarithms.

# %% mystnb={"image": {"alt": "Time of a landscape against sources, members and pixels, with fitted lines close to proportional ones."}} tags=["hide-input"]
for device, each in found.items():
    if each is None or "scaling" not in each["comparisons"]:
        continue
    part = each["comparisons"]["scaling"]
    figure = abc.figures.scaling_curves(part["points"], part["fit"])
    figure.suptitle(f"{each['machine']['hardware']}{', one thread' if part['threads'] else ''}", fontsize=12)
    plt.show()
    fit, errors = part["fit"]["exponents"], part["fit"]["errors"]
    # the straight line of a power law is itself only a description
    one = [name for name, key in (("sources", "N"), ("members", "n")) if abs(fit[key] - 1) <= 0.1]
    text = "both as A.3 says" if len(one) == 2 else f"of these only the exponent of {one[0]} is within 0.1 of A.3's" if one else "neither within 0.1 of A.3's"
    display(Markdown(
        f"The time grows as $N^{{{fit['N']:.2f}}}$ and $n^{{{fit['n']:.2f}}}$ (two standard errors: {2 * errors['N']:.2f} and {2 * errors['n']:.2f}), {text}, "
        f"and as the number of pixels to the power of {fit['pixels']:.2f}; $R^2$ is {part['fit']['r2']:.3f} over {len(part['points'])} ensembles."
    ))
