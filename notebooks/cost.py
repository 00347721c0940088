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
# # What it costs
#
# What did the results in this book take, and what would they take you: on a laptop, on one GPU, on a cluster? Work is **counted**: how often a member is evaluated on an image follows from a recipe, and so do the floating point operations of one evaluation. Time is a count divided by a rate. The rate of the machine that made this book was [measured](speed.ipynb), with nothing else running; those of other machines are assumptions, named below, and parameters of this notebook.

# %% tags=["parameters"]
samples = 20  # landscapes of each ensemble, in the tables of what it would take
laptop_cores = 8  # a laptop: so many cores like the measured ones
gpu_teraflops = 20.0  # 10^12 floating point operations a second that a GPU keeps up on these networks; not measured here
cluster_gpus = 64  # such GPUs at once; members, and landscapes of different samples, need not wait for each other

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
from IPython.display import Markdown, display

import abc_lib as abc

abc.figures.use_style()
measured, rates = abc.read_benchmarks("cpu"), abc.sustained("cpu")
machine = measured["machine"]
made = measured["comparisons"]["landscapes"]["made"]
display(Markdown(
    f"Rates: {machine['hardware']}, all {machine['cores']} cores, torch {machine['packages']['torch']}, {made['time'][:10]}, commit {made['commit']}: "
    + "; ".join(f"{what} {rate / 1e9:,.0f} GFLOP/s" for what, rate in rates.items()) + ". Larger networks reach more of what a processor can do."))
display(Markdown("> **Run this page:** `papermill notebooks/cost.ipynb out.ipynb -p gpu_teraflops 20`"))

# %% [markdown]
# ## What the published results took
#
# `hours` is what the run itself noted, by the clock. These machines are shared, and ran other work beside it, so it is an upper bound. The column beside it is the count over the measured rate: what the same takes there on both cores undisturbed.

# %% tags=["hide-input"]
table = abc.published_costs()
display(abc.figures.table(table, {"number": "{:,}", "evaluations": "{:,.0f}", "PFLOP": "{:.4f}", "hours": "{:.2f}"}))
display(Markdown(f"In all {table['PFLOP'].sum():.2f} PFLOP (10¹⁵ operations) in the lines above, {table.loc[table['what'] == 'members', 'PFLOP'].sum():.2f} of them to train members. "
                 "Where members are trained but not published, no hours are known. Retrained models, classifiers, FIDs and comparisons are not in the table."))

# %% [markdown]
# ## What it would take you
#
# For each ensemble: training its members, one landscape, and how long both take for `samples` landscapes. The last column says how many times as much work the same landscapes are by retraining, with one model for each source left out: the reason for ablation.

# %% tags=["hide-input"]
here = rates["landscapes, mnist"]
machines = {"here": here, f"a laptop, {laptop_cores} cores": here * laptop_cores / machine["cores"], "one GPU": gpu_teraflops * 1e12,
            f"{cluster_gpus} GPUs": cluster_gpus * gpu_teraflops * 1e12}
share = rates["landscapes, digits"] / rates["landscapes, mnist"]
numbers = {"sources": "{:,}", "MFLOP an evaluation": "{:,.1f}", "training, PFLOP": "{:,.3g}", "a landscape, PFLOP": "{:,.3g}", "retraining": "{:,.0f} ×"}
small = abc.study_names()
display(Markdown(f"### Laptop scale, {samples} landscapes each"))
display(abc.figures.table(abc.outlook(small, "laptop", samples, {name: rate for name, rate in machines.items() if "GPUs" not in name}, share), numbers))

# %% tags=["hide-input"]


def has_results(name):
    """Whether landscapes of an ensemble, counts of its classes or its unattributable samples are at hand."""
    recipe = abc.get_recipe(name)
    if recipe.data.sources == "class":
        return abc.class_run(name, compute=False) is not None
    return abc.stored_landscapes(name) is not None or (recipe.data.binarise and abc.stored_unattributable(name) is not None)


missing = [name for name in small if not has_results(name)]
if missing:
    display(Markdown(f"**Not run yet**, for want of time on the machines at hand: {', '.join(missing)}."
                     + (" Nothing has been run at the paper's scale, which needs a GPU." if abc.published_costs("paper").empty else "")))

# %% tags=["hide-input"]
large = [name for name in abc.recipe_names() if not name.startswith("digits")]
display(Markdown(f"### The paper's scale, {samples} landscapes each"))
display(abc.figures.table(abc.outlook(large, "paper", samples, {name: rate for name, rate in machines.items() if name != "here"}), numbers | {"MFLOP an evaluation": "{:,.0f}", "training, PFLOP": "{:,.0f}", "a landscape, PFLOP": "{:,.2f}"}))

# %% [markdown]
# An autoencoder's decoding is not counted. Training dominates until landscapes are many or training sets large: an ensemble is trained once, and every further sample costs only its landscape.
#
# The paper trained on seven Titan RTX and eight GTX 1080 Ti. It reports a few hours for a model of MNIST and a few days for one of ArtBench, and a few minutes to a few days for a landscape of 256 to 50,000 counterfactuals (appendix B.7 {cite}`dai2024ablation`). It does not say for how many steps; those of our recipes at its scale are our choice. Held against the count, with the rate assumed above:

# %% tags=["hide-input"]
gpu, lines = gpu_teraflops * 1e12, []
for name, theirs in (("mnist_256", "a few hours"), ("artbench", "a few days")):
    recipe = abc.get_recipe(name, "paper")
    cost = abc.cost_of(recipe)
    lines.append(f"- one member of {name}: {cost.members * cost.flop / recipe.code.n / 1e15:,.0f} PFLOP, {abc.time_in_words(cost.members * cost.flop / recipe.code.n, gpu)} (the paper: {theirs});")
for name, theirs in (("mnist_256", "a few minutes"), ("cifar10_50000", "a few days")):
    cost = abc.cost_of(abc.get_recipe(name, "paper"))
    lines.append(f"- one landscape of {name}: {cost.landscape * cost.flop / 1e15:,.1f} PFLOP, {abc.time_in_words(cost.landscape * cost.flop, gpu)} (the paper: {theirs}{', of how many GPUs it does not say' if name.startswith('cifar') else ''}).")
display(Markdown("\n".join(lines)))

# %% [markdown]
# Training and 100 landscapes against the number of data sources, by the recipes of MNIST at the paper's scale, 22 members each. An ensemble needs a number of members that grows with the logarithm of the number of sources; retraining needs one more model for every source.

# %% mystnb={"image": {"alt": "Floating point operations against the number of data sources: a nearly flat line for ablation and a steep one for retraining."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.4, 4))
paper_recipes = [abc.get_recipe(name, "paper") for name in abc.family_of("mnist_256", "paper") if name != "mnist_384"]
abc.figures.cost_by_sources({recipe.data.num_sources: abc.cost_of(recipe) for recipe in paper_recipes}, 100, ax)
plt.show()

# %% [markdown]
# ## Your machine
#
# This says what is at hand and how long each missing piece would take where you are, from a measurement of about a second; with `--hours 8` in place of `--plan` it does what fits into a night, most informative first.
#
# ```
# python -m abc_lib publish --plan
# python -m abc_lib --scale paper publish mnist_256 --plan
# ```
