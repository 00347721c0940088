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
# # Networks that remember
#
# **Asked:** which network and training remember single images for the least time on two processor
# cores? **Found:** a small U-Net on large patches that predicts the image rather than the velocity,
# in batches of 16. Whole ensembles of networks near it, wider, deeper or on other patches, are not
# told from it; what it remembers follows from how long it is trained.
#
# The ensembles are those of the page [members that remember](memory.ipynb). Time is in core-hours
# of training, all members of an ensemble together.

# %% tags=["parameters"]
families = ["digits_64", "mnist_256", "fashion_256", "cifar10_500"]  # each by one of its names

# %%
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display

import abc_lib as abc

# %% tags=["hide-input"]
abc.figures.use_style()
measured = abc.exposures.at_hand(families)
run = "papermill notebooks/networks.ipynb out.ipynb"
display(Markdown(abc.exposures.opening(measured, run)))

# %% [markdown]
# ## What it costs to remember
#
# Core-hours of training, from the time of a member's step that [the speed page](speed.ipynb)
# measured, against how far that goes: larger radii, and samples that forget an image which is left
# out. Dashed: the authors' ensemble of the same set, some 30 hours of a GPU.

# %% mystnb={"image": {"alt": "Mean log10 radius, and below it the share of samples that keep their nearest image without it, against core-hours of training, a line an ensemble, with the authors' values dashed."}} tags=["hide-input"]
bench, kinds = abc.speed.read_benchmarks("cpu"), abc.radius.by_kind(measured)
for kind, values in kinds.items():
    hours = [abc.remembering.core_hours(value, bench) for value in values]
    if np.isfinite(hours).all():
        figure, axes = plt.subplots(2, 1, figsize=(6.4, 6.4), sharex=True)
        abc.figures.frontier(values, hours, axes, abc.exposures.authors_points(kind))
        axes[0].set_title(kind)
        plt.show()

# %% tags=["hide-input"]
display(abc.figures.table(abc.remembering.frontier_table(measured, bench)))

# %% [markdown]
# ## Which network remembers for its time
#
# The line is the chosen network at several exposures; the marks are others, every image seen 250
# times: whole ensembles of the same code, sampled from the same noise. What each costs was measured
# in turns with the chosen one. A mark above the line on top and below it at the bottom comes
# farther for its time; one that is cheaper than the whole line is held against its cheapest point.
# Marks are means of 8 samples and the line of 20; the table holds the same 8 against each other.

# %% mystnb={"image": {"alt": "Mean log10 radius, and below it the share of samples that keep their nearest image without it, against core-hours: the chosen network as a line, others as marks."}} tags=["hide-input"]
found = abc.speed.read_benchmarks("networks")
tried = abc.remembering.candidates(found, measured, bench)
for name in dict.fromkeys(one.ensemble for one in tried):
    line = [value for value in measured if value.name == name]
    hours = [abc.remembering.core_hours(value, bench) for value in line]
    theirs = abc.exposures.authors_points(name.split("_")[0])
    points = abc.remembering.candidate_points(one for one in tried if one.ensemble == name)
    figure, axes = plt.subplots(2, 1, figsize=(6.4, 6.4), sharex=True)
    abc.figures.frontier(line, hours, axes, theirs, points)
    plt.show()

# %% tags=["hide-input"]
display(abc.figures.table(abc.remembering.candidates_table(tried)))
display(Markdown(abc.remembering.candidates_verdict(tried)))

# %% [markdown]
# Before that, more candidates were compared by what two members of each know, trained in lockstep
# on one core, every image seen equally often. The line *chosen* is what `abc.get_recipe` gives.

# %% tags=["hide-input"]
display(abc.figures.table(abc.remembering.search_table(found)))

# %% [markdown]
# What matters most is that the network predicts the image rather than the velocity; then batches of
# 16. Wide networks on large patches separate own images from others earliest. One training seed
# each: differences of a few per cent are chance.
#
# Members here are those of a learning rate that falls to zero, so each exposure wants a training of
# its own. With a constant rate a long training passes through all shorter ones, but its members are
# noisy, and know their images less well. A running average over the last tenth of the steps (of a
# width that grows with them, {cite}`karras2024analyzing`) makes up for it: at the whole exposure
# and at a quarter of it such members know their own images as well as those of a falling rate.
# Colour is trained so: `python -m abc_lib remember cifar10_500 --exposures 64 authors 512` trains
# once.
