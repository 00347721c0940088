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
# A diffusion model makes an image from noise. Which of its training images does that image depend on? The paper's answer {cite}`dai2024ablation` is an experiment rather than a guess: leave a data source out, start again from the same noise, and look at what comes out instead. All such counterfactuals of one sample are its **landscape**, and the largest distance from the sample to any of them is its **counterfactual radius** (definition 1). A sample with a small radius would have come out much the same whichever single source had been missing, so no single source can be credited with it.
#
# This page computes landscapes and radii (sections 3.5 and 3.6) for one training set, then shows how the radius changes with the size of the training set.

# %% tags=["parameters"]
dataset = "digits_256"  # an ensemble of the registry: see the table at the end
num_samples = None  # how many samples; None takes all that are published, or computes 12
seed = 0  # of the exogenous noise
scale = "laptop"  # "laptop", or "paper" for the paper's own networks
device = "auto"  # "auto", "cpu", "cuda", "cuda:1", "mps"
recompute = False  # True passes over published results and computes on this machine

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

import abc_lib as abc

abc.figures.use_style()
result = abc.run(dataset, num_samples, seed, scale, device, recompute)
ensemble, landscapes = result.ensemble, result.landscapes
display(Markdown(result.origin()))

# %% tags=["hide-input"]
command = f"papermill notebooks/03_radius.ipynb out.ipynb -p dataset {dataset}" + ("" if scale == "laptop" else f" -p scale {scale}")
display(Markdown(f"> **Run this page:** `{command}`"))

# %% [markdown]
# ## A landscape
#
# Below is one sample, framed, followed by some of its counterfactuals. Each was sampled just now from the sample's own noise by the members that never saw the source whose number it bears. They are spread evenly over the ranks, from the farthest to the nearest; the number after the colon is the distance.

# %% mystnb={"image": {"alt": "A sample, framed, and forty of its counterfactuals with their distances, from the farthest to the nearest."}} tags=["hide-input"]
row = int(np.argsort(landscapes.radii)[len(landscapes) // 2])  # the sample with the median radius
ranked = np.argsort(-landscapes.distances[row], kind="stable")
sources = ranked[np.unique(np.linspace(0, landscapes.num_sources - 1, min(39, landscapes.num_sources)).round().astype(int))]
images = abc.counterfactuals(ensemble, landscapes, row, sources)
abc.figures.landscape_grid(landscapes, row, images, sources)
plt.show()

# %% [markdown]
# The distances of all counterfactuals, sorted from the farthest down, one line a sample:

# %% mystnb={"image": {"alt": "Distances of all counterfactuals of each sample, sorted from the farthest down, on logarithmic axes."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6, 3.6))
abc.figures.landscape_curves(landscapes, ax)
ax.set_title(f"{dataset}: {len(landscapes)} landscapes of {landscapes.num_sources:,} counterfactuals")
plt.show()
typical = float(np.median(landscapes.radii / np.median(landscapes.distances, axis=1)))
display(Markdown(f"In the typical sample the farthest counterfactual lies {typical:.1f} times as far away as the median one."))

# %% [markdown]
# ## The radius of each sample
#
# For each sample: the counterfactual that lies farthest from it, and the training image whose removal made it. Distances are Euclidean on images with values in [0, 1], scaled to 3×256×256 so that data sets compare, as in the paper's figure 7. They run from the smallest radius to the largest.

# %% mystnb={"image": {"alt": "Samples from the smallest radius to the largest, each with its farthest counterfactual and the training image removed."}} tags=["hide-input"]
order = np.argsort(landscapes.radii)
rows = order[np.unique(np.linspace(0, len(order) - 1, min(8, len(order))).round().astype(int))]
abc.figures.radius_gallery(landscapes, rows)
plt.show()
if landscapes.attributed_images is None:
    display(Markdown("The training images are not on this machine, so they are not shown; set `ABC_DATA` to the folder that holds them."))

# %% [markdown]
# Does the training image removed resemble the sample? The paper finds that it often does where the training set is small (section 3.3), and that the link is lost as training sets grow (section 3.4). Judge for yourself.

# %% [markdown]
# ## The radius and the size of the training set
#
# The same for every ensemble of the family whose landscapes are at hand. Each dot is a sample.

# %% mystnb={"image": {"alt": "Strips of log10 radii, an ensemble a strip, by training set size."}} tags=["hide-input"]
radii = abc.family_radii(dataset, scale)
radii[dataset] = landscapes.radii
radii = {name: radii[name] for name in abc.family_of(dataset, scale) if name in radii}
figure, ax = plt.subplots(figsize=(6.4, 0.9 + 0.55 * len(radii)))
abc.figures.radius_distribution(radii, ax, highlight=dataset)
plt.show()

# %% tags=["hide-input"]
ours = abc.summarise_all(radii, scale)
means = pd.DataFrame(
    [(s.name, s.size, s.count + s.zeros, s.mean, s.sd, 10**s.mean, s.zeros) for s in ours],
    columns=["ensemble", "images", "samples", "mean log10 radius", "sd", "radius at the mean", "radius zero"],
)
display(abc.figures.table(means, {"images": "{:,}", "mean log10 radius": "{:.3f}", "sd": "{:.3f}", "radius at the mean": "{:.1f}"}))

# %% [markdown]
# Figure 7 of the paper puts the mean log10 radius of an ensemble against the size of its training set. Here are the paper's 23 ensembles and ours, with a least-squares line through each.

# %% mystnb={"image": {"alt": "Mean log10 radius against log10 training set size: the paper's 23 ensembles and ours, each with its fitted line."}} tags=["hide-input"]
paper = abc.paper_summaries()
paper_law = abc.fit_law(paper)
our_law = abc.fit_law(ours) if len({s.size for s in ours}) > 1 else None
others = [] if dataset.startswith("digits") else abc.summarise_all(abc.family_radii("digits_256", scale), scale)
figure, ax = plt.subplots(figsize=(6.8, 4.4))
abc.figures.radius_law(ours + others, paper, ax, our_law, paper_law)
plt.show()

# %% tags=["hide-input"]
family = dataset.split("_")[0]


def describe(law):
    """A fitted line in a sentence's worth of numbers."""
    p = "" if np.isnan(law.p) else f", p = {law.p:.2g}"
    return f"slope {law.slope:.3f}, intercept {law.intercept:.3f}, R² {law.r2:.2f}{p}, from {law.ensembles} ensembles"


lines = [f"- **The paper:** {describe(paper_law)}. At 10⁸ images the line gives a radius of {paper_law.radius_at(1e8):.1f}."]
if our_law is None:
    lines.append(f"- **Ours, {family}:** landscapes of only one training set size are at hand, so there is no line to fit.")
else:
    means = [s.mean for s in sorted(ours, key=lambda s: s.size)]
    falls = all(a > b for a, b in zip(means, means[1:]))
    how = "falls at every step" if falls else "does not fall at every step" if means[-1] < means[0] else "does not fall"
    lines.append(
        f"- **Ours, {family}, {scale} scale:** {describe(our_law)}. From {min(s.size for s in ours):,} to "
        f"{max(s.size for s in ours):,} images the mean log10 radius goes from {means[0]:.3f} to {means[-1]:.3f}; it {how}. "
        f"Drawn on to 10⁸ images, far outside what was measured, the line would give a radius of {our_law.radius_at(1e8):.2g}."
    )
    steeper = "steeper" if our_law.slope < paper_law.slope else "shallower"
    lines.append(
        f"- Our line is {steeper} than the paper's. It covers {min(s.size for s in ours):,} to {max(s.size for s in ours):,} images of one "
        f"kind where the paper's covers {min(s.size for s in paper):,} to {max(s.size for s in paper):,} images of seven, and every member "
        f"of ours is trained for the same {result.recipe.training.steps:,} steps, so that an image of a small set is seen many more "
        "times than one of a large set. Both are likely reasons; which one weighs more is not settled here."
    )
same = {s.name: s for s in paper}.get(dataset)
if same is not None:
    mine = {s.name: s for s in ours}[dataset]
    lines.append(
        f"- **{dataset}, theirs and ours:** {same.mean:.2f} (sd {same.sd:.2f}, {same.count} samples) in the paper, "
        f"{mine.mean:.2f} (sd {mine.sd:.2f}, {mine.count} samples) here."
    )
if scale == "laptop":
    size = abc.num_parameters(ensemble.members[0]) / 1e6
    lines.append(
        f"- The levels need not agree either. Our ensembles have {ensemble.n} members where the paper's have 22 or 24: removing half of "
        f"fewer members moves their mean further, which should make radii larger. Our networks have {size:.2g} million parameters "
        "where the paper's have about 100, and are trained for less, so that they hold on to single images less, which should make "
        "radii smaller. Neither effect has been measured by itself here."
    )
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## Checked here
#
# Numbers on this page that were published earlier are not taken on trust. A few samples and their farthest counterfactuals are made again, from noise, by the members at hand, and their distances compared with the stored ones. On another kind of processor the last digits differ.

# %% tags=["hide-input"]
checks = abc.regenerate(ensemble, landscapes, rows[:: max(1, len(rows) // 4)])
shown = pd.DataFrame(
    [(c.index, c.source, c.stored, c.now, c.difference) for c in checks],
    columns=["sample", "source removed", "stored radius", "computed now", "difference"],
)
display(abc.figures.table(shown, {"stored radius": "{:.4f}", "computed now": "{:.4f}", "difference": "{:.1e}"}))

# %% [markdown]
# ## Other training sets
#
# Every name below can be given as `dataset`. What is not published is computed, and what cannot run here says why.

# %% tags=["hide-input"]
statuses = pd.DataFrame([(s.note, "yes" if s.runs else "no", s.name) for s in abc.all_statuses(scale)], columns=["because", "runs here", "ensembles"])
grouped = statuses.groupby(["because", "runs here"], sort=False)["ensembles"].agg(", ".join).reset_index()
display(abc.figures.table(grouped[["ensembles", "runs here", "because"]]))
