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
# # Members that remember
#
# **Asked:** does an ablation move a sample because a *source* went, or because *members* went? And
# does the answer change with how often the members saw their images? **Found:** how *far* it moves
# is a matter of the members, at every exposure. *Where to* is a matter of the source as well: a
# sample forgets the image that it lay nearest to when that is left out, the more often the better
# members remember.
#
# The other pages measure how far samples move when the members that saw a source are taken away.
# That number has no control. This page gives it one: take as many members away along a codeword
# **that no source owns**. No source is removed, so whatever moves is chance, a **placebo**. Where
# the real radius is no larger than the placebo radius, the radius says how much half an ensemble
# varies, and nothing about sources.
#
# The authors' members remember single images: at 256 images, leaving out the one that a sample
# lies nearest to always changes which one that is; leaving out a random one changes it half the
# time. Their networks have 97 million parameters and see each image 3,906 times. Members here are
# 300 and 1,000 times smaller. The page asks how near they come, and at which exposure.
#
# The ensembles of the other pages are those of one line here: each member draws 64,000 images,
# whatever $N$ is, as the authors' draw 500,000. Settings are those of their release: predicted
# images are not clipped, and distances are Euclidean after scaling to 3×256×256 by the nearest
# pixel, which is the native distance times 13.856 for MNIST.

# %% tags=["parameters"]
families = ["digits_64", "mnist_256", "fashion_256", "cifar10_500"]  # each by one of its names
dataset = "digits_64"  # the ensemble of the steps that are written out
exposure = 500  # how often its members see each of their images
device = "auto"  # "auto", "cpu", "cuda", "cuda:1", "mps"

# %%
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display

import abc_lib as abc

here = abc.Here(device=device)
recipe = abc.get_recipe(dataset).exposed(exposure)
recipe.network.channels, recipe.training.steps, recipe.exposure

# %% tags=["hide-input"]
abc.figures.use_style()
measured = abc.exposures.at_hand(families)
run = "papermill notebooks/memory.ipynb out.ipynb -p dataset digits_64 -p exposure 500"
display(Markdown(abc.exposures.opening(measured, run)))

# %% [markdown]
# ## A placebo by hand
#
# A code of $n$ members and weight $w$ has $\binom{n}{w}$ codewords, and sources own only some of
# them. Codewords are drawn uniformly, so if sources made no difference, an owned one would be
# exchangeable with one that nobody owns.

# %%
code = abc.draw_codebook(recipe)
free = code.unowned(code.num_sources)
code.words.shape, free.shape, code.words[0], free[0]

# %% [markdown]
# Ablating along a codeword keeps the members that have a 0 there, whether a source owns it or not:

# %%
ablated = (1 - code.words) * code.n / (code.n - code.weight)
assert np.array_equal(ablated, code.leave_one_out())
placebo = (1 - free) * code.n / (code.n - code.weight)
ablated.sum(axis=1)[:3], placebo.sum(axis=1)[:3]

# %% [markdown]
# From these weights on everything is as before: the same members, the same noise, the same
# distance. The members themselves are not published, only what was measured with them, of each
# sample along both kinds of codewords:

# %%
memory = abc.memory.of(recipe, here)
memory.distances.shape, memory.placebos.shape  # samples by sources or placebos

# %%
real, chance = np.log10(memory.radii), np.log10(memory.placebo_radii)
difference = real - chance  # paired: both start from the same noise
error = difference.std(ddof=1) / np.sqrt(len(difference))
np.round([real.mean(), chance.mean(), difference.mean(), error], 3)

# %% [markdown]
# ## The radius and its placebo
#
# Mean log10 radius over samples against exposure; bars are standard errors. The dotted lines are
# placebo radii: definition 1 over as many codewords that no source owns. Grey: the authors'
# ensembles of MNIST at their exposures, each with its number of images.

# %% mystnb={"image": {"alt": "Mean log10 radius against exposure, a line an ensemble, with placebo radii dotted beside it and the authors' ensembles in grey."}} tags=["hide-input"]
kinds = abc.radius.by_kind(measured)
for kind, values in kinds.items():
    figure, ax = plt.subplots(figsize=(6.4, 4.6))
    theirs = abc.exposures.authors_points(kind)
    abc.figures.radii_by_exposure(values, ax, theirs if len(theirs) else None)
    ax.set_title(kind)
    plt.show()

# %%
table = abc.exposures.table(measured)
columns = ["ensemble", "times seen", "mean log10 radius", "placebo"]
abc.figures.table(table[[*columns, "radius less placebo"]])

# %% tags=["hide-input"]
display(Markdown(abc.exposures.placebo_verdict(measured)))

# %% [markdown]
# What the size of the training set and the exposure do to the radius, each by itself, is on the
# page [what the radius follows](law.ipynb).

# %% [markdown]
# ## What members remember
#
# A member's squared error on images that it saw, beside that on images that it did not, at the
# times [200, 400), where the noisy image still tells which image it was made from; and by how much
# nearer the samples of a member alone lie to an image that it saw than to any other (the median of
# the ratio of distances: 1 if it remembers nothing, 0 if it repeats).

# %% tags=["hide-input"]
columns = ["ensemble", "times seen", "loss, own images", "loss, others", "own over others"]
display(abc.figures.table(table[columns]))

# %% [markdown]
# What does that look like? Samples of one ensemble a family, where pictures of any were kept: of
# all members together, whose mean predicts, and of the first member alone, from other noise.
# Below each is the training image that it lies nearest to, in a border.

# %% mystnb={"image": {"alt": "Eight samples of an ensemble and eight of one of its members, each above the training image that it lies nearest to."}} tags=["hide-input"]
for values in kinds.values():
    pictured = [value for value in values if value.pictures]
    for value in pictured[-1:]:
        abc.figures.samples_and_nearest(value)
        plt.suptitle(f"{value.name}, each image seen {value.exposure:,.0f} times", y=1.06)
        plt.show()

# %% [markdown]
# ## Does the nearest image matter?
#
# Take away the training image that a sample lies nearest to, or another one at random. How often
# is the sample still nearest to the same image? If members remember, taking the nearest one away
# must change it far more often. Grey: the authors' ensembles, at their exposures; bars are 95%.

# %% mystnb={"image": {"alt": "Share of samples that stay nearest to the same image without it and without another image, against exposure, beside the authors'."}} tags=["hide-input"]
for kind, values in kinds.items():
    theirs = abc.exposures.authors_points(kind)
    figure, ax = plt.subplots(figsize=(6.4, 5))
    abc.figures.attribution_by_exposure(values, ax, theirs if len(theirs) else None)
    ax.set_title(kind)
    plt.show()

# %% tags=["hide-input"]
columns = ["ensemble", "times seen", "unchanged without nearest", "without another"]
display(abc.figures.table(table[columns]))

# %% [markdown]
# How near does the longest training here come to the authors', whose members see an image more
# often still and have several hundred times as many parameters?

# %% tags=["hide-input"]
display(abc.figures.table(abc.exposures.authors_table(measured)))

# %% [markdown]
# Which network comes how near for its time is on the page [networks that remember](networks.ipynb).

# %% [markdown]
# ## A p-value for every source
#
# The distance says how far a sample moved, not where to. A sample that owes something to an image
# should move *away from it*: let the statistic be how much farther from the source's image the
# counterfactual lies than the sample does. Its rank among the placebo codewords is a randomisation
# p-value, exact because codewords are drawn uniformly: uniform if the source makes no difference.

# %%
nearest = abc.exposures.nearest_p(memory)
share = float((memory.p_values < 0.05).mean())
share, float((nearest < 0.05).mean()), np.sort(nearest)[:5].round(3)

# %% mystnb={"image": {"alt": "Distribution functions of p-values of all sources and of the nearest source, beside the diagonal of uniform ones."}} tags=["hide-input"]
for values in kinds.values():
    longest = max(values, key=lambda value: value.exposure)
    figure, ax = plt.subplots(figsize=(5.6, 4))
    groups = {"all sources": longest.p_values}
    groups["the source of the nearest image"] = abc.exposures.nearest_p(longest)
    abc.figures.p_value_shares(groups, ax)
    ax.set_title(f"{longest.name}, each image seen {longest.exposure:,.0f} times")
    plt.show()

# %% tags=["hide-input"]
columns = ["ensemble", "times seen", "p < 0.05, all sources", "p < 0.05, nearest"]
display(abc.figures.table(table[columns]))
display(Markdown(abc.exposures.p_verdict(measured)))

# %% [markdown]
# ## Colour is not there yet
#
# `cifar10_500` has members of 0.9 million parameters, three times those of MNIST, and every image
# is mirrored in half of its views, as in the paper. The pictures above are of its longest training:
# patches in the colours of photographs, in which nobody would name a thing. Members tell their own
# images from others, but their samples hardly lie nearer to them, which digits and MNIST passed at
# fewer views. The authors gave a colour ensemble some 300 hours of a GPU, ten times as many as one
# of MNIST. What the tables say of its radii and placebos holds for ensembles of such samples, and
# for no photograph.
#
# ## Exercises
#
# 1. Which share of all sources has a p-value below 0.01, and which would chance give?
# 2. Is the source whose removal moves a sample farthest the one with the smallest p-value?

# %% tags=["hide-cell"]
# 1: chance gives about 1%, if there are placebos enough to reach it
least = 1 / (memory.placebos.shape[1] + 1)
least, float((memory.p_values < 0.01).mean())

# %% tags=["hide-cell"]
# 2: compare positions, sample by sample
farthest, surest = memory.distances.argmax(axis=1), memory.p_values.argmin(axis=1)
float((farthest == surest).mean()), 1 / memory.distances.shape[1]
