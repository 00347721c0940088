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
# # The counterfactual radius
#
# **Asked:** how much does a generated image depend on the one training image that matters most to
# it? **Found:** the larger the training set, the less; but how long a model was trained counts
# about as much.
#
# A diffusion model makes an image from noise. Which of its training images does that image depend
# on? The paper's answer {cite}`dai2024ablation` is an experiment rather than a guess: leave a data
# source out, start again from the same noise, and look at what comes out instead. All such
# counterfactuals of one sample are its **landscape**, and the largest distance from the sample to
# any of them is its **counterfactual radius** (definition 1). A sample with a small radius would
# have come out much the same whichever single source had been missing, so no single source can be
# credited with it.
#
# This page computes landscapes and radii (sections 3.5 and 3.6) for one training set, then shows
# how the radius changes with the size of the training set.

# %% tags=["parameters"]
dataset = "digits_256"  # an ensemble of the registry: see the table at the end
num_samples = None  # how many samples; None takes all that are published, or computes 12
seed = 0  # of the exogenous noise
scale = "laptop"  # "laptop", or "paper" for the paper's own networks
device = "auto"  # "auto", "cpu", "cuda", "cuda:1", "mps"
cluster = ""  # "tcp://host:8786" (Dask), "ray://host:10001"; "" is what ABC_CLUSTER says, or none
recompute = False  # True passes over published results and computes on this machine

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

import abc_lib as abc

here = abc.Here(device=device, cluster=cluster)
here = here.anew() if recompute else here
recipe = abc.get_recipe(dataset, scale)
recipe.data

# %%
result = abc.run(dataset, num_samples, seed, scale, here)
ensemble, landscapes = result.ensemble, result.landscapes
landscapes.distances.shape  # samples, sources

# %% tags=["hide-input"]
abc.figures.use_style()
results = [ensemble, landscapes]
display(Markdown(abc.sections.opening("03_radius", recipe, results, result.origin())))

# %% [markdown]
# ## A landscape by hand
#
# Take the sample with the median radius. Its exogenous noise is a value; from it the ensemble makes
# the sample.

# %%
row = int(np.argsort(landscapes.radii)[len(landscapes) // 2])
index = int(landscapes.indices[row])
noise = ensemble.draw_noise(seed, [index])
factual = ensemble.sample(noise)
index, factual.shape

# %% [markdown]
# Leave one source out: ablate the members that saw it, and start again from the same noise. The
# distance is Euclidean, on images with values in [0, 1], scaled to 3×256×256 so that data sets
# compare, as in the paper's figure 7.

# %%
c = ensemble.codebook.ablation(0)
counterfactual = ensemble.sample(noise, c)
float(abc.distance(factual, counterfactual))

# %% [markdown]
# Do that for each source, or for 256 evenly chosen ones where there are more. Row $s$ of the
# weights removes source $s$ alone, and every counterfactual starts from the same noise, repeated.

# %%
sources = np.arange(0, recipe.data.num_sources, max(1, recipe.data.num_sources // 256))
weights = ensemble.codebook.leave_one_out(sources)
counterfactuals = ensemble.sample(noise[[0] * len(sources)], weights)
distances = abc.distance(factual, counterfactuals).numpy()
np.sort(distances)[::-1][:5].round(2)

# %% [markdown]
# The largest is the radius (definition 1). The stored landscape of this sample says the same:

# %%
stored = landscapes.distances[row, sources]
radius = abc.counterfactual_radius(distances)
assert np.allclose(distances, stored, atol=0.01)
assert np.isclose(radius, abc.counterfactual_radius(stored), atol=0.01)
float(radius), float(np.abs(distances - stored).max())

# %% [markdown]
# Below is the sample, framed, followed by some of its counterfactuals. Each was sampled just now
# from the sample's own noise by the members that never saw the source whose number it bears. They
# are spread evenly over the ranks, from the farthest to the nearest; the number after the colon is
# the distance.

# %% mystnb={"image": {"alt": "A sample, framed, and forty of its counterfactuals with their distances, from the farthest to the nearest."}} tags=["hide-input"]
ranked = np.argsort(-landscapes.distances[row], kind="stable")
shown = abc.sections.spread(ranked, 39)
images = abc.landscapes.counterfactuals(ensemble, landscapes, row, shown)
abc.figures.landscape_grid(landscapes, row, images, shown)
plt.show()

# %% [markdown]
# How far does the farthest counterfactual stand out from the median one, in each sample?

# %%
ratios = landscapes.radii / np.median(landscapes.distances, axis=1)
typical = float(np.median(ratios))
typical

# %% [markdown]
# The distances of all counterfactuals, sorted from the farthest down, one line a sample:

# %% mystnb={"image": {"alt": "Distances of all counterfactuals of each sample, sorted from the farthest down, on logarithmic axes."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6, 3.6))
abc.figures.landscape_curves(landscapes, ax)
number = f"{len(landscapes)} landscapes of {landscapes.num_sources:,} counterfactuals"
ax.set_title(f"{dataset}: {number}")
plt.show()
display(
    Markdown(
        f"In the typical sample the farthest counterfactual lies {typical:.1f} times as far away "
        "as the median one."
    )
)

# %% [markdown]
# ## The radius of each sample
#
# For each sample: the counterfactual that lies farthest from it, and the training image whose
# removal made it. They run from the smallest radius to the largest.

# %%
order = np.argsort(landscapes.radii)
rows = abc.sections.spread(order, 6)
landscapes.radii[rows].round(1)

# %% mystnb={"image": {"alt": "Samples from the smallest radius to the largest, each with its farthest counterfactual and the training image removed."}} tags=["hide-input"]
abc.figures.radius_gallery(landscapes, rows)
plt.show()
if landscapes.attributed_images is None:
    display(
        Markdown(
            "The training images are not on this machine, so they are not shown; set `ABC_DATA` to "
            "the folder that holds them."
        )
    )

# %% [markdown]
# Does the training image removed resemble the sample? The paper finds that it often does where the
# training set is small (section 3.3), and that the link is lost as training sets grow (section
# 3.4). Judge for yourself.

# %% [markdown]
# ## The radius and the size of the training set
#
# The same for every ensemble of the family whose landscapes are at hand. Each dot is a sample.

# %%
family = abc.sections.family_landscapes(landscapes)
radii = {name: found.radii for name, found in family.items()}
ours = abc.radii.summaries(radii, scale)
{s.name: round(s.mean, 3) for s in ours}  # mean log10 radius

# %% mystnb={"image": {"alt": "Strips of log10 radii, an ensemble a strip, by training set size."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.4, 0.9 + 0.55 * len(radii)))
abc.figures.radius_distribution(radii, ax, highlight=dataset)
plt.show()
means = pd.DataFrame(
    [(s.name, s.size, s.count + s.zeros, s.mean, s.sd, 10**s.mean, s.zeros) for s in ours],
    columns="ensemble,images,samples,mean log10 radius,sd,radius at the mean,radius zero".split(
        ","
    ),
)
forms = {"images": "{:,}", "mean log10 radius": "{:.3f}", "sd": "{:.3f}"}
display(abc.figures.table(means, forms | {"radius at the mean": "{:.1f}"}))

# %% [markdown]
# ## The law: figure 7
#
# Figure 7 of the paper puts the mean log10 radius of an ensemble against the size of its training
# set and draws a least-squares line through 23 ensembles of seven kinds of images. The paper's
# line, from the authors' published radii:

# %%
paper = abc.radii.paper_summaries()
paper_law = abc.radius.fit_law(paper)
vars(paper_law)

# %% [markdown]
# Ours, through every ensemble that has landscapes, whatever its images; the lower slope lets each
# kind of images have a level of its own. The circles are **placebos**, to which the page comes
# below: as many members go, and no source with them.

# %%
every = abc.radii.summaries(abc.radii.of_all(scale) | radii, scale)
our_law = abc.sections.law_of(every)  # fit_law, or None with one size
[law and vars(law) for law in (our_law, abc.sections.law_within(every))]

# %% mystnb={"image": {"alt": "Mean log10 radius against log10 training set size: the paper's 23 ensembles and all of ours, by kind of image, each with its fitted line, and our placebos as circles around our points."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.8, 4.4))
placebos = abc.signals.placebo_points(radii | abc.radii.of_all(scale), scale)
abc.figures.radius_law(every, paper, ax, our_law, paper_law, placebos)
plt.show()
display(abc.figures.table(abc.sections.law_table(every, paper)))

# %% [markdown]
# ### Does it hold up?

# %% tags=["hide-input"]
lines = abc.sections.law_lines(every, paper)
display(Markdown("\n".join(f"- {line}" for line in lines)))

# %% [markdown]
# ### Is it the source? A placebo
#
# Removing a source removes half of the members. How far does a sample move when as many go along a
# codeword that **no source owns**? Of the same samples, from the same noise, over as many
# codewords:

# %%
book = abc.draw_codebook(recipe)
free = book.unowned(4)  # codewords that nobody owns: no source goes with these members
1 - free  # the members that stay

# %% tags=["hide-input"]
display(abc.figures.table(abc.signals.published_placebos(scale)))
display(Markdown(abc.signals.published_verdict(scale)))

# %% [markdown]
# So the law above is one of how much members vary, and of how that depends on size and training,
# before it is one of sources. What size and training do apart from each other, where members are
# made to remember, is on the page [what the radius follows](law.ipynb); which sources can be named
# all the same, on [signal or chance](06_signal.ipynb).
#
# ### The settings
#
# What differs, side by side. The sets that both have differ in the network, the members, the
# training and the number of samples; the metric is the same, Euclidean distance scaled to
# 3×256×256. The paper does not say for how many steps it trained. The authors' later release does
# for MNIST and its like, some 3,900 of batch 128 whatever $N$ is, and our recipes at its scale
# follow; those of other images are our guess.

# %% tags=["hide-input"]
shared = [s.name for s in every if s.name in {theirs.name for theirs in paper}]
names = [name for name in dict.fromkeys([dataset, *shared]) if name in abc.recipe_names()][:4]
display(abc.figures.table(abc.sections.setting_table(names, every, paper, scale)))

# %% [markdown]
# How should these pull? Removing half of fewer members should move their mean further and make
# radii larger. Small networks that are trained for less should hold on to single images less, which
# makes radii smaller. And every member here is trained for the same number of steps, so an image of
# a small set is seen many more times than one of a large set, which should make our line steeper.
# The same training set at both scales would settle it, and is [a matter of GPU days](cost.ipynb).
#
# ### Size and exposure apart
#
# Members here, like the paper's, draw a fixed number of images whatever $N$ is, so that an image of
# a small set is seen many more times than one of a large set. What does size do where every image
# is seen equally often? The same ensembles, trained for longer and shorter (the page
# [members that remember](memory.ipynb) has each of them):

# %%
start = abc.family_of(dataset, scale)[0]
measured = abc.exposures.at_hand([start])
designs = abc.exposures.designs(measured)
_, spread = abc.law.spread_of(abc.law.trainings(measured))  # of training seeds
law = abc.law.fit_or_none(measured, spread=spread)  # log10 r = a + b log10 N + c log10 E
law and [round(x, 2) for x in (law.by_size, *law.size_interval)]  # b, its 95% interval

# %% mystnb={"image": {"alt": "Mean log10 radius against training set size: a line for the authors' design, one for each exposure, placebo radii dotted, and the authors' ensembles in grey."}} tags=["hide-input"]
if designs:
    theirs = abc.exposures.authors_points(recipe.data.family)
    figure, ax = plt.subplots(figsize=(6.4, 4.6))
    abc.figures.radii_by_size(designs, ax, theirs if len(theirs) else None)
    plt.show()
    placebo = abc.law.fit_or_none(measured, placebo=True, spread=spread)
    both = {recipe.data.family: law}, {recipe.data.family: placebo}
    display(abc.figures.table(abc.law.table(*both)))
    display(Markdown(abc.law.told_verdict(both[0])))
    display(Markdown(abc.law.levelling_verdict(measured)))
else:
    display(Markdown(f"No ensemble of the family of {dataset} was trained at several exposures."))

# %% [markdown]
# In the authors' design $N E$ is constant, so that a law of size alone has the slope $b - c$ there:
# the line above holds both, what more images do and what less training on each of them does.
#
# ### Does the attributed image matter?
#
# A radius says how far a sample moves, not that the image which was left out is to blame. Leave out
# the image that a sample lies nearest to, or another one at random: how often does the sample stay
# nearest to the same image? Where the two lines part, the nearest image itself matters.

# %% mystnb={"image": {"alt": "Share of samples that stay nearest to the same image without it and without another, against training set size, beside the authors'."}} tags=["hide-input"]
if designs:
    figure, ax = plt.subplots(figsize=(6.4, 4.6))
    abc.figures.attribution_by_size(designs, ax, theirs if len(theirs) else None)
    plt.show()

# %% [markdown]
# ## Checked here
#
# Numbers on this page that were published earlier are not taken on trust. A few samples and their
# farthest counterfactuals are made again, from noise, by the members at hand, and their distances
# compared with the stored ones. On another kind of processor the last digits differ.

# %%
checks = abc.landscapes.regenerate(ensemble, landscapes, rows[:: max(1, len(rows) // 4)])
frame = pd.DataFrame([(c.index, c.source, c.stored, c.now, c.difference) for c in checks])
frame.columns = ["sample", "source removed", "stored radius", "computed now", "difference"]
numbers = {"stored radius": "{:.4f}", "computed now": "{:.4f}", "difference": "{:.1e}"}
abc.figures.table(frame, numbers)

# %% [markdown]
# ## Other training sets
#
# Every name below can be given as `dataset`. What is not published is computed, and what cannot run
# here says why.

# %% tags=["hide-input"]
display(abc.figures.table(abc.sections.status_table(scale)))

# %% [markdown]
# ## Exercises
#
# 1. How far apart are the two farthest counterfactuals of the sample from each other? Is it more or
#    less than their distance to the sample?

# %% tags=["hide-cell"]
first, second = counterfactuals[np.argsort(-distances)[:2]]
float(abc.distance(first, second)), np.sort(distances)[::-1][:2].round(2)

# %% [markdown]
# 2. Remove the two sources together that matter most one by one. Does the sample move further?
#    (Members that saw either go; with some pairs none is left.)

# %% tags=["hide-cell"]
pair = sources[np.argsort(-distances)[:2]]
try:
    both = ensemble.sample(noise, ensemble.codebook.ablation(pair))
    print(ensemble.codebook.survivors(pair).sum(), round(float(abc.distance(factual, both)), 1))
except abc.NoSurvivors as error:
    print(error)

# %% [markdown]
# 3. What radius does each line expect of a million images? Of how many images does the paper's line
#    expect half the radius of 1,000?

# %% tags=["hide-cell"]
half = 1000 * 0.5 ** (1 / paper_law.slope)
paper_law.radius_at(1e6), our_law and our_law.radius_at(1e6), half
