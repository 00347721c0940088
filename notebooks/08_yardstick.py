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
# # The yardstick
#
# **Asked:** which attribution method says best what a model would do without some of its training
# images? **Found:** that depends on what it is held against. Under the usual truth, models of
# random halves of the data, comparing pixels does as well as the best of gradients on the digits.
# With one source left out, gradients with a good curvature do twice as well. The exact derivative
# through a training foretells that very training again, and little of another.
#
# Methods are usually judged by the *linear datamodelling score*: train dozens of models on random
# halves of the data, and see whether a method's scores, summed over the images that a model saw,
# predict how well it does on a query. Here those models are at hand: every member of an ensemble
# saw a random half of the sources. So five ensembles of the same digits, each with its own code,
# are 70 such models, four of MNIST are 64, and the noise of the truth is measured. Their members
# [remember](memory.ipynb): they predict the image, and saw each one 500 times.

# %% tags=["parameters"]
dataset = "digits_64"  # or "digits_256", "mnist_256"; others need python -m abc_lib yardstick first
exposure = 500  # how often a member saw each of its images
device = "auto"  # "auto", "cpu", "cuda", "cuda:1", "mps"

# %%
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display

import abc_lib as abc

here = abc.Here(device=device)
names = dict.fromkeys([dataset, "digits_64", "digits_256", "mnist_256"])
found = {name: abc.yardstick.find(abc.get_recipe(name).exposed(exposure), here) for name in names}
tables = {name: each.table for name, each in found.items()}
task = found[dataset].task
task.shape, len(task.codebooks)  # queries and sources; codes

# %% tags=["hide-input"]
abc.figures.use_style()
for each in found.values():
    display(Markdown(f"**{each.name}** {abc.yardstick.origin(each)}"))

# %% [markdown]
# ## Truths from one matrix
#
# Show all members a query $x_t = \sqrt{\bar\alpha_t}\,x + \sqrt{1 - \bar\alpha_t}\,\epsilon$ with
# the same noise. Member $i$ errs by $e_i = f_i(x_t) - \epsilon$, and weights $c$ that add up to
# $n$ err by $\sum_i c_i e_i / n$. Their loss is quadratic in $c$: with $G_{ij}$ the mean of
# $e_i \cdot e_j$, it is $c^\top G\, c / n^2$. So one $n \times n$ matrix a query gives the loss of
# every member, of every set of members, and of every ablation.
#
# - **members**: each is a model of half of the sources; scored in each code, then averaged;
# - **sets of members**: so is the mean of half of a code's members, with shares of what they saw;
# - **one left out**: by how much the loss rises when a source is ablated, the mean over codes;
# - **trained again** (`digits_64` only): that rise by retraining without each source, the mean over
#   training seeds;
# - **same chance**: that rise for one member, trained again without each of its sources from the
#   same initial parameters, with the same minibatches and noise;
# - **a class left out**: the same without all images of a class, for groups, where the signal is
#   strong; a method's score of a class is the sum over its sources;
# - **samples moved**, **moved away**: how far a sample moves without a source, and how much farther
#   away from the source's image, the means over the samples that each code makes from one noise.

# %%
G = task.gram[0].mean(axis=0)  # first code, both halves of the noise
code = task.codebooks[0]
c, whole = code.ablation(0), np.ones(code.n)
loss = lambda c: np.einsum("sij,i,j->s", G, c, c) / code.n**2
(loss(c) - loss(whole))[:4].round(5)  # the rise without source 0, of four queries

# %% [markdown]
# Half of the queries are samples of the ensemble and half are images that no member saw. Of both,
# every other one serves to choose a method's damping or width and is not scored.

# %% mystnb={"image": {"alt": "Four samples of the ensemble above four images that no member saw."}} tags=["hide-input"]
rows = {
    "generated": list(task.queries[task.generated][1:9:2]),
    "held out": list(task.queries[~task.generated][1:9:2]),
}
abc.figures.image_rows(rows, [""] * 4)
plt.show()

# %% [markdown]
# ## The table
#
# All scores have one sign: the higher, the more a source helped. Gradients are exact and of all
# parameters, so that influence needs no projection; they are averaged over four members. The
# *local score* is a model in closed form, each pixel of which sees a patch; it forgets a source
# exactly. *Unlearning* takes a step up a query's loss, and looks whose losses rise with it. *Loss
# covariance* asks whether members that do well on a query do well on a source.
#
# Intervals are over queries and codes. A star: of a hundred relabellings of the members at most
# five do as well. The *ceiling* is what a perfect method would reach, given the noise of the truth:
# of the draws for members and their sets, of codes (even against odd) for one left out, of training
# seeds for trained again. Differential ablation and loss covariance are made from the truth's own
# losses, noise included, so they can exceed the ceiling: they say how far such an answer goes, not
# how well one does without counterfactuals.

# %%
abc.figures.table(abc.yardstick.beside(tables))  # truth: members; held-out queries

# %% [markdown]
# Of each set alone, with what the methods cost. *Controls* is what 95% of the relabellings stay
# below, *p* how many of them do as well. *s* are seconds on one core, gradients that methods share
# counted for each; *MiB* is what a method held at its peak beyond models and shared gradients.

# %% tags=["hide-cell"]
for name, table in tables.items():
    display(Markdown(f"**{name}**, members, held-out queries"))
    display(abc.figures.table(abc.yardstick.shown(table)))

# %% mystnb={"image": {"alt": "Scores of each method with their intervals under the truth of members, generated and held-out queries apart, beside what controls reach and the ceiling."}} tags=["hide-input"]
mine = tables[dataset].query("truth == 'members'")
panels = {queries: mine[mine["queries"] == queries] for queries in ("held out", "generated")}
abc.figures.method_scores(panels, "linear datamodelling score")
plt.show()

# %% [markdown]
# How far a sample moves by ablation, and which way it came (Journey-TRAK), is known of samples
# only, so these methods stand in the panel of generated queries alone.
#
# ## What is it worth?
#
# Seconds on one core, shared gradients counted for each method that uses them; methods made from
# the truth's own losses or from counterfactuals are left out.

# %% mystnb={"image": {"alt": "Score over ceiling against seconds for each method without counterfactuals, with a line through those that no cheaper method beats."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.4, 5.6))
abc.figures.score_by_cost(abc.yardstick.costs(tables[dataset]), ax)
plt.show()

# %% tags=["hide-input"]
display(Markdown(abc.yardstick.cost_verdict(tables)))

# %% [markdown]
# ## Is the ranking the same under every truth?

# %%
wide = abc.yardstick.compare_truths(tables[dataset])  # shares of the ceiling, held-out queries
titled = wide.rename(columns=abc.yardstick.TITLES)
abc.figures.table(titled.map("{:.2f}".format).reset_index())

# %% tags=["hide-input"]
display(Markdown(f"**{dataset}**, rank correlations of the methods' scores under two truths"))
display(abc.figures.table(abc.yardstick.ranking_table(tables[dataset])))
display(Markdown(abc.yardstick.ranking_verdict(tables)))
display(Markdown(abc.yardstick.published_verdict(tables)))

# %% [markdown]
# ### Which queries does every method fail on?
#
# The highest score of any method without counterfactuals, query by query; shown are the lowest.

# %%
hard = abc.yardstick.hardest(found[dataset])
hard.head(3).round(2)

# %% mystnb={"image": {"alt": "The eight held-out queries on which the best method is worst, with its score."}} tags=["hide-input"]
worst = hard.head(8)
titles = [f"{best:.2f}" for best in worst["best"]]
abc.figures.image_rows({"hardest": list(task.queries[worst["query"].to_list()])}, titles)
plt.show()
told = {name: each for name, each in found.items() if each.by_query is not None}
display(Markdown(abc.yardstick.hardest_verdict(told)))

# %% [markdown]
# ### One source, or one class, left out
#
# With one source left out, the rank correlation runs over sources, and what an ensemble says of
# them is a function of its $n$ members. So the chance of their codewords is in it, which no method
# can know that does not look at the code; the mean over codes holds less of it, and the ceiling
# says how much is left, see [Signal or chance](06_signal.ipynb). Retraining has no code, but the
# chance of its seeds; its controls are scores in another order.

# %% tags=["hide-input"]
alone = ("leave_one_out", "retrained", "same_chance", "classes")
for truth in alone:
    display(Markdown(f"**{abc.yardstick.TITLES[truth]}**, held-out queries"))
    display(abc.figures.table(abc.yardstick.beside(tables, truth)))

# %% [markdown]
# Of each set alone; *top 1* and *top 8* say which share of the sources that matter most a method
# finds.

# %% tags=["hide-cell"]
for name, table in tables.items():
    for truth in alone:
        if truth in found[name].task.truths:
            title = found[name].task.truths[truth].title
            display(Markdown(f"**{name}**, {title}, held-out queries"))
            display(abc.figures.table(abc.yardstick.shown(table, truth)))

# %% [markdown]
# *Unrolled* is the exact derivative of a loss in the weight of each source, through the training of
# the first member (of longer trainings, through the last steps): what influence functions
# approximate. It belongs to one training with its chance. The truths of members and of training
# again have another chance in every model.

# %% tags=["hide-input"]
display(Markdown(abc.yardstick.unrolled_verdict(tables)))

# %% [markdown]
# It knows nothing of sources that the first member did not see, half of them, and gives them 0. How
# much of that is due to this? The softmax kernel, told as little, on the same queries:

# %%
seen = task.words[0, :, 0] == 1  # by the first member of the first code
scores = abc.yardstick.METHODS["softmax kernel"].scores(task)
half = np.where(seen, scores - scores[:, seen].mean(axis=1, keepdims=True), 0)
asked = np.flatnonzero(~task.tuning & ~task.generated)
truths = [task.truths[name] for name in ("members", "retrained") if name in task.truths]
{truth.title: float(truth.score(half, asked).mean().round(2)) for truth in truths}

# %% [markdown]
# ### How far samples move
#
# A landscape is of distances, not of losses. Twelve samples, moved by every code. One code's
# distances are mostly chance of its codewords, see the page [Signal or chance](06_signal.ipynb),
# and the ceiling says what five leave of it.

# %% tags=["hide-input"]
moves = ("moved", "away")
for truth in moves:
    display(Markdown(f"**{abc.yardstick.TITLES[truth]}**"))
    display(abc.figures.table(abc.yardstick.beside(tables, truth, "generated")))
display(Markdown(abc.yardstick.radius_verdict(tables)))

# %% [markdown]
# Of each set alone; the last column says which share of a code's counterfactual radius is found by
# trying exactly the eight sources that a method names first.

# %% tags=["hide-cell"]
for name, table in tables.items():
    for truth in moves:
        if truth in found[name].task.truths:
            title = found[name].task.truths[truth].title
            display(Markdown(f"**{name}**, {title}"))
            display(abc.figures.table(abc.yardstick.shown(table, truth, "generated")))

# %% [markdown]
# ## Damping, draws, projection
#
# Gradient methods have three dials. *Damping* is chosen above with queries that are not scored. A
# gradient is a mean over *Monte Carlo draws* of time and noise, ten above. And where gradients are
# too long to keep, they are *projected* at random; here they are exact. Each dial is turned alone,
# in two methods; over draws and projections the damping is chosen anew.

# %% mystnb={"image": {"alt": "Scores of TRAK-like and D-TRAK-like over damping, Monte Carlo draws and size of the projection, with intervals, beside the softmax kernel's score."}} tags=["hide-input"]
held = "queries == 'held out'"
kernel = tables[dataset].query(f"{held} and truth == 'members' and method == 'softmax kernel'")
other = "softmax kernel", kernel["score"].item()
abc.figures.score_sweeps(found[dataset].sweeps.query(held), other, "score")
plt.show()

# %% tags=["hide-input"]
for sweep in ("damping", "draws", "projection"):
    display(abc.figures.table(abc.yardstick.swept(found[dataset].sweeps, sweep)))
display(Markdown(abc.yardstick.sweep_verdict(found)))

# %% [markdown]
# ## Remove what a method names first
#
# Ablate the $k$ sources that a method puts first for a query, all at once: every member that saw
# one of them goes. Fewer members do worse whoever they are. So beside the rise of the loss stands,
# in brackets, the mean rise with as many members gone but others; a star marks what exceeds 95% of
# a hundred orders of the members. With half of the members for each source, hardly any are left
# beyond $k = 3$; pairs of a code and a query with none left are not counted. *Random* names real
# sources, too, and now and then one that matters, so it may pass.

# %%
removal = found[dataset].removal.query("queries == 'held out' and method == 'softmax kernel'")
removal[["k", "left", "asked", "answered", "rise", "low", "high", "control", "p"]].round(3)

# %% tags=["hide-input"]
removals = {name: each.removal for name, each in found.items()}
display(Markdown(f"**{dataset}**, rise of the loss on held-out queries"))
display(abc.figures.table(abc.yardstick.removed(removals[dataset])))
display(Markdown(abc.yardstick.removal_verdict(removals)))

# %% tags=["hide-cell"]
for name, removal in removals.items():
    if name != dataset:
        display(Markdown(f"**{name}**, rise of the loss on held-out queries"))
        display(abc.figures.table(abc.yardstick.removed(removal)))

# %% [markdown]
# ## Advice
#
# Sentences that rules choose from the tables, first under the truth of members, then with one
# source left out, by ablation and by training again, then without a class.

# %% tags=["hide-input"]
truths = {
    "Members": ["members"],
    "One source left out": ["leave_one_out", "retrained"],
    "A class left out": ["classes"],
}
for title, some in truths.items():
    display(Markdown(f"**{title}**"))
    display(Markdown("\n".join(f"- {each}" for each in abc.yardstick.advice(tables, some))))

# %% [markdown]
# ## Join the table
#
# A method is whatever gives a number for each query and source. Save the numbers, and score them:
# no member, no gradient and no GPU is needed.

# %%
queries, sources = task.queries.flatten(1), task.sources.flatten(1)
unit = lambda x: x / x.norm(dim=1, keepdim=True)
scores = (unit(queries) @ unit(sources).T) ** 8  # your method
np.save("mine.npy", scores.numpy())
joined = abc.yardstick.score_file(found[dataset], "mine.npy")
display(abc.figures.table(abc.yardstick.shown(joined.assign(needs="images", seconds=0))))

# %% tags=["hide-cell"]
from pathlib import Path

Path("mine.npy").unlink()

# %% [markdown]
# `python -m abc_lib yardstick digits_64 --scores mine.npy` prints the same for every truth. A tool
# with a score of its own, such as dattri, takes the truth as values and indices: losses of models,
# and the sources that each was trained on.

# %%
losses, seen = task.truths["members"].models()
losses.shape, [len(each) for each in seen][:4]

# %% [markdown]
# ## Exercises
#
# 1. Which power in place of 8 does best on the queries for tuning, and what does it reach on the
#    others?
# 2. What does a method reach that knows the losses of members, but only of the first half of the
#    noise?

# %% tags=["hide-cell"]
# 1: chosen where it is not scored
powers = {p: ((unit(queries) @ unit(sources).T) ** p).numpy() for p in (1, 2, 4, 8, 16, 32, 64)}
best, rest = task.choose(powers), np.flatnonzero(~task.tuning)
next(p for p in powers if powers[p] is best), task.truths["members"].score(best, rest).mean()

# %% tags=["hide-cell"]
# 2: the smallest scores that explain the first half; this is what the ceiling foretells
truth = task.truths["members"]
known = truth.halves[0, 0] @ np.linalg.pinv(truth.design[0]).T
truth.score(known, rest)[0].mean(), truth.ceiling(rest)  # of the first code
