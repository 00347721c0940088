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
# **Asked:** what did the results in this book take, and what would they take you: on a laptop, on
# one GPU, on a cluster? **Found:** the digits are a matter of minutes, the paper's ensembles one of
# GPU days; training dominates, and ablation saves all but a few of the trainings that retraining
# needs.
#
# Work is **counted**: how often a member is evaluated on an image follows from a recipe, and so do
# the floating point operations of one evaluation. Time is a count divided by a rate. The rate of
# the machine that made this book was [measured](speed.ipynb), with nothing else running; those of
# other machines are assumptions, named below, and parameters of this notebook.

# %% tags=["parameters"]
samples = 20  # landscapes of each ensemble, in the tables of what it would take
laptop_cores = 8  # a laptop: so many cores like the measured ones
gpu_teraflops = 20.0  # 10^12 operations a second that a GPU keeps up here; not measured
cluster_gpus = 64  # such GPUs at once; members and landscapes need not wait for each other

# %%
import matplotlib.pyplot as plt
from IPython.display import Markdown, display

import abc_lib as abc

measured = abc.speed.read_benchmarks("cpu")
rates = abc.cost.sustained("cpu")
{work: f"{rate / 1e9:,.0f} GFLOP/s" for work, rate in rates.items()}

# %% tags=["hide-input"]
abc.figures.use_style()
machine = measured["machine"]
made = measured["comparisons"]["landscapes"]["made"]
words = "; ".join(f"{work} {rate / 1e9:,.0f} GFLOP/s" for work, rate in rates.items())
display(
    Markdown(
        f"Rates: {machine['hardware']}, all {machine['cores']} cores, torch "
        f"{machine['packages']['torch']}, {made['time'][:10]}, commit {made['commit']}: {words}. "
        "Larger networks reach more of what a processor can do."
    )
)
command = "papermill notebooks/cost.ipynb out.ipynb -p gpu_teraflops 20"
display(Markdown(f"> **Run this page:** `{command}`"))

# %% [markdown]
# ## Counting
#
# A landscape of $N$ counterfactuals takes $T$ denoising steps of the $n - w$ members that survive,
# for each source, and $T$ steps of all $n$ for the sample itself. By hand, and as the library
# counts:

# %%
recipe = abc.get_recipe("digits_256")
n, w, N = recipe.code.n, recipe.code.weight, recipe.data.num_sources
by_hand = recipe.sampling.steps * (n + N * (n - w))
cost = abc.cost.cost_of(recipe)
assert by_hand == cost.landscape
by_hand, abc.cost.time_in_words(by_hand * cost.flop, rates["landscapes, digits"])

# %% [markdown]
# The same counterfactuals by retraining: one model for each source left out, and one with all. How
# many times as much work is that, landscapes included?

# %%
ablation = cost.members + samples * cost.landscape
retraining = cost.retraining + samples * cost.retrained_landscape
round(retraining / ablation, 1)

# %% [markdown]
# ## What the published results took
#
# `hours` is what the run itself noted, by the clock. These machines are shared, and ran other work
# beside it, so it is an upper bound. The column beside it is the count over the measured rate: what
# the same takes there on both cores undisturbed.

# %% tags=["hide-input"]
table = abc.cost.published_costs()
forms = {"number": "{:,}", "evaluations": "{:,.0f}", "PFLOP": "{:.4f}", "hours": "{:.2f}"}
display(abc.figures.table(table, forms))
training = table.loc[table["what"] == "members", "PFLOP"].sum()
display(
    Markdown(
        f"In all {table['PFLOP'].sum():.2f} PFLOP (10¹⁵ operations) in the lines above, "
        f"{training:.2f} of them to train members. Where members are trained but not published, no "
        "hours are known. Retrained models, classifiers, FIDs and comparisons are not in the table."
    )
)

# %% [markdown]
# ## What it would take you
#
# For each ensemble: training its members, one landscape, and how long both take for `samples`
# landscapes. The last column says how many times as much work the same landscapes are by
# retraining, with one model for each source left out: the reason for ablation. The rates, in
# operations a second:

# %%
measured_rate = rates["landscapes, mnist"]
machines = {
    "here": measured_rate,
    f"a laptop, {laptop_cores} cores": measured_rate * laptop_cores / machine["cores"],
    "one GPU": gpu_teraflops * 1e12,
    f"{cluster_gpus} GPUs": cluster_gpus * gpu_teraflops * 1e12,
}
{name: f"{rate:.1e}" for name, rate in machines.items()}

# %% tags=["hide-input"]
numbers = {
    "sources": "{:,}",
    "MFLOP an evaluation": "{:,.1f}",
    "training, PFLOP": "{:,.3g}",
    "a landscape, PFLOP": "{:,.3g}",
    "retraining": "{:,.0f} ×",
}
small = abc.study.study_names()
few = {name: rate for name, rate in machines.items() if "GPUs" not in name}
share = rates["landscapes, digits"] / measured_rate
display(Markdown(f"### Laptop scale, {samples} landscapes each"))
display(abc.figures.table(abc.cost.outlook(small, "laptop", samples, few, share), numbers))


# %% tags=["hide-input"]
def has_results(name):
    """Whether landscapes, class counts or unattributable samples of an ensemble are at hand."""
    recipe = abc.get_recipe(name)
    if recipe.data.sources == "class":
        return abc.class_counts.get(recipe, None, 0, False) is not None
    if recipe.data.binarise and abc.unattributable.stored(recipe) is not None:
        return True
    return abc.landscapes.stored(recipe) is not None


missing = [name for name in small if not has_results(name)]
if missing:
    text = f"**Not run yet**, for want of time on the machines at hand: {', '.join(missing)}."
    if abc.cost.published_costs("paper").empty:
        text += " Nothing has been run at the paper's scale, which needs a GPU."
    display(Markdown(text))

# %% tags=["hide-input"]
large = [name for name in abc.recipe_names() if not name.startswith("digits")]
many = {name: rate for name, rate in machines.items() if name != "here"}
numbers |= {"MFLOP an evaluation": "{:,.0f}", "training, PFLOP": "{:,.0f}"}
numbers |= {"a landscape, PFLOP": "{:,.2f}"}
display(Markdown(f"### The paper's scale, {samples} landscapes each"))
display(abc.figures.table(abc.cost.outlook(large, "paper", samples, many), numbers))

# %% [markdown]
# An autoencoder's decoding is not counted. Training dominates until landscapes are many or training
# sets large: an ensemble is trained once, and every further sample costs only its landscape.
#
# The paper trained on seven Titan RTX and eight GTX 1080 Ti. It reports a few hours for a model of
# MNIST and a few days for one of ArtBench, and a few minutes to a few days for a landscape of 256
# to 50,000 counterfactuals (appendix B.7 {cite}`dai2024ablation`). It does not say for how many
# steps; those of our recipes at its scale are our choice. Held against the count, with the rate
# assumed above:

# %% tags=["hide-input"]
gpu, lines = gpu_teraflops * 1e12, []
for name, theirs in (("mnist_256", "a few hours"), ("artbench", "a few days")):
    recipe = abc.get_recipe(name, "paper")
    cost = abc.cost.cost_of(recipe)
    flop = cost.members * cost.flop / recipe.code.n
    time = abc.cost.time_in_words(flop, gpu)
    lines.append(f"- one member of {name}: {flop / 1e15:,.0f} PFLOP, {time} (the paper: {theirs});")
which = "a few days, of how many GPUs it does not say"
for name, theirs in (("mnist_256", "a few minutes"), ("cifar10_50000", which)):
    cost = abc.cost.cost_of(abc.get_recipe(name, "paper"))
    flop = cost.landscape * cost.flop
    time = abc.cost.time_in_words(flop, gpu)
    line = f"- one landscape of {name}: {flop / 1e15:,.1f} PFLOP, {time} (the paper: {theirs})."
    lines.append(line)
display(Markdown("\n".join(lines)))

# %% [markdown]
# Training and 100 landscapes against the number of data sources, by the recipes of MNIST at the
# paper's scale, 22 members each. An ensemble needs a number of members that grows with the
# logarithm of the number of sources; retraining needs one more model for every source.

# %% mystnb={"image": {"alt": "Floating point operations against the number of data sources: a nearly flat line for ablation and a steep one for retraining."}} tags=["hide-input"]
names = [name for name in abc.family_of("mnist_256", "paper") if name != "mnist_384"]
recipes = [abc.get_recipe(name, "paper") for name in names]
costs = {recipe.data.num_sources: abc.cost.cost_of(recipe) for recipe in recipes}
figure, ax = plt.subplots(figsize=(6.4, 4))
abc.figures.cost_by_sources(costs, 100, ax)
plt.show()

# %% [markdown]
# ## Your machine
#
# This says what is at hand and how long each missing piece would take where you are, from a
# measurement of about a second; with `--hours 8` in place of `--plan` it does what fits into a
# night, most informative first.
#
# ```
# python -m abc_lib publish --plan
# python -m abc_lib --scale paper publish mnist_256 --plan
# ```
#
# ## Exercises
#
# 1. How many landscapes of `digits_256` cost as much as training its members?

# %% tags=["hide-cell"]
cost = abc.cost.cost_of(abc.get_recipe("digits_256"))
cost.members / cost.landscape

# %% [markdown]
# 2. A Jacobian stands in for a whole landscape. What part of the work is it?

# %% tags=["hide-cell"]
cost.jacobian / cost.landscape
