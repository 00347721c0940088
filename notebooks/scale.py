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
# # At the scale of millions
#
# **Asked:** what would it take to say for ten thousand, or a hundred million, sources what an image
# depends on? **Found:** members grow with the logarithm of the number of sources, and so does a
# Jacobian; whatever looks at every source in turn grows with their number. A guarantee for one
# named source stays cheap. A full landscape does not, and naming one source among all of them needs
# as many members as there are sources.
#
# Everything here is **counted** from a recipe, as on [the page on cost](cost.ipynb); the network is
# the paper's own for MNIST. Rates of GPUs are assumptions and parameters of this notebook.

# %% tags=["parameters"]
dataset = "mnist_1024"  # whose network, sampler and image size are counted with
gpu_teraflops = 150.0  # 10^12 operations a second that a GPU keeps up; not measured here
gpus = 64  # at once
workers = 1000  # in the simulation of failures
failures = 0.01  # of a worker, an hour

# %%
import matplotlib.pyplot as plt
from IPython.display import Markdown, display

import abc_lib as abc

recipe = abc.get_recipe(dataset, "paper")
sizes = [10**k for k in range(4, 9)]
counts = [abc.scale.scale_of(recipe, N) for N in sizes]
{each.sources: each.members for each in counts}  # members, by sources

# %% [markdown]
# A code of $n$ members and weight $n/2$ has $\binom{n}{n/2}$ codewords. Here there are twice as
# many as sources, so that each has a placebo. One sample's work, unless training is meant:

# %% tags=["hide-input"]
abc.figures.use_style()
command = "papermill notebooks/scale.ipynb out.ipynb -p gpu_teraflops 150"
display(Markdown(f"> **Run this page:** `{command}`"))
form = {f"N = {N:,}": "{:.2g}" for N in sizes}
display(abc.figures.table(abc.scale.scale_table(counts), form))

# %% mystnb={"image": {"alt": "FLOP against the number of sources: landscapes and training at equal exposure rise with N, the rest is nearly flat."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.4, 4.2))
abc.figures.cost_at_scale(counts, ax)
plt.show()

# %% [markdown]
# Two ways of training stand in the table, because the paper's release trains every member on a
# million images whatever $N$ is: then training is flat, and members of a hundred million images
# have seen each of theirs a fiftieth of a time. To see each image 500 times, as members that
# [remember](memory.ipynb) do, costs what grows with $N$.
#
# What it takes in time, on GPUs of the assumed rate:

# %%
rate = gpus * gpu_teraflops * 1e12
small, large = counts[0], counts[-1]
{
    each.sources: abc.cost.time_in_words(each.landscape, rate).replace("\xa0", " ")
    for each in counts
}  # an exact landscape


# %% tags=["hide-input"]
def took(name):
    """What a piece of work takes for the fewest and for the most sources."""
    return " and ".join(abc.cost.time_in_words(getattr(e, name), rate) for e in (small, large))


lines = [
    f"- A **full landscape** of one sample, for {small.sources:,} and {large.sources:,} sources,",
    f"  on {gpus} GPUs: {took('landscape')}.",
    f"- **Screened** by one Jacobian and 64 exact counterfactuals: {took('screened')}; all the",
    f"  distances predicted from the Jacobian are {large.predicted:.1e} operations more. What",
    "  screening misses is on the page on [differential ablation](04_differential.ipynb): it is",
    "  measured up to 1,024 sources only.",
    f"- **One named source**, exactly, with 1,024 placebos beside it: {took('placebos')}.",
    f"- **Training** at 500 views of each image: {took('exposed')}; of a million images a member:",
    f"  {took('training')}.",
    f"- **Kept** of a sample: {large.landscape_bytes / 1e6:,.0f} MB of distances, or a Jacobian of",
    f"  {large.jacobian_bytes / 1e3:,.0f} kB from which all of them are predicted; the code itself",
    f"  is {large.code_bytes / 1e9:,.1f} GB.",
]
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## Which source, of all of them?
#
# A guarantee asks about one source that somebody names. *Which* source asks about all of them, and
# an ensemble of $n$ members has $n - 1$ degrees of freedom: it cannot tell $N \gg n$ sources apart.
# [Signal or chance](06_signal.ipynb) measures how many members it takes until two halves of the
# codes agree to four fifths:

# %% tags=["hide-input"]
display(abc.figures.table(abc.designs.sets_table(abc.designs.known())))
years = abc.cost.time_in_words(large.training / large.members * large.sources, rate)
text = (
    f"With one member a source, which is less than what was needed there, {large.sources:,} "
    f"sources need as many members: at a million images each {years} on {gpus} GPUs. What is left "
    "at such sizes are groups, such as artists or sites, of which there are thousands, or "
    "questions about single sources."
)
display(Markdown(text))

# %% [markdown]
# ## A thousand workers, some of which fail
#
# Members, and blocks of landscapes, need not wait for each other: they go to
# [a cluster](https://github.com/dask/distributed) as tasks. A simulation says what failures cost.
# A worker fails at random, is back a minute later, and its task goes on elsewhere from its last
# checkpoint. Four thousand tasks of six hours:

# %%
six = 6 * 3600.0
plans = {
    "no failures": {},
    "no checkpoints": {"failures": failures},
    "a checkpoint an hour": {"failures": failures, "checkpoint": 3600.0},
    "a checkpoint a minute": {"failures": failures, "checkpoint": 60.0},
}
done = {name: abc.scale.simulate(4 * workers, six, workers, **plan) for name, plan in plans.items()}
{name: (round(each.hours, 1), each.failures) for name, each in done.items()}  # hours, failures

# %% mystnb={"image": {"alt": "Useful share of the workers' time against failures, with checkpoints every minute, every hour and never."}} tags=["hide-input"]
rates = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3]
every = {"every minute": 60.0, "every hour": 3600.0, "never": float("inf")}
useful = {
    name: [
        abc.scale.simulate(4 * workers, six, workers, each, checkpoint=seconds).useful
        for each in rates
        if each < 0.1 or name != "never"
    ]
    for name, seconds in every.items()
}
figure, ax = plt.subplots(figsize=(6, 3.8))
abc.figures.useful_share(rates, useful, ax)
plt.show()

# %% [markdown]
# Is the simulation any good? The same number of tasks, which wait for a second each, on Dask
# workers of the machine that made this book; the last run had a worker killed on the way:

# %% tags=["hide-input"]
import pandas as pd

measured = (abc.speed.read_benchmarks("cpu") or {"comparisons": {}})["comparisons"]
runs = measured.get("scheduling", {"runs": []})["runs"]
table = pd.DataFrame(
    {
        "workers": run["workers"],
        "a worker killed": "yes" if run["killed"] else "no",
        "tasks": f"{run['tasks']} of {run['each']:g} s",
        "measured": f"{run['measured']:.2f} s",
        "simulated, no failures": f"{run['simulated']:.2f} s",
        "the engine adds": f"{run['measured'] / run['simulated'] - 1:.1%}",
    }
    for run in runs
)
display(abc.figures.table(table))
if runs:
    made = measured["scheduling"]["made"]
    display(Markdown(f"{made['hardware']}, {made['time'][:10]}, commit {made['commit']}."))

# %% [markdown]
# ## Exercises
#
# 1. How many members does a code need for all eight billion people, each with a placebo?
# 2. At which rate of failures is half of the workers' time lost, with a checkpoint an hour?

# %% tags=["hide-cell"]
abc.scale.members_for(8 * 10**9)

# %% tags=["hide-cell"]
hourly = {r: abc.scale.simulate(workers, six, workers, r, checkpoint=3600.0).useful for r in rates}
{r: round(share, 2) for r, share in hourly.items()}
