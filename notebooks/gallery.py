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
# # Gallery
#
# **Asked:** what do samples, what they are attributed to, and their counterfactuals look like?
# **Found:** look. Appendix D of the paper {cite}`dai2024ablation`, for one training set: samples
# with the data sources that they are attributed to (D.1), samples with what they look like and what
# happens without that (D.2), and one whole landscape (D.3). Every counterfactual below was sampled
# while this page was made.

# %% tags=["parameters"]
dataset = "digits_256"  # an ensemble of the registry
num_samples = 6  # how many samples to show
seed = 0  # of the exogenous noise
scale = "laptop"  # "laptop", or "paper" for the paper's own networks
device = "auto"  # "auto", "cpu", "cuda", "cuda:1", "mps"
recompute = False  # True passes over published results and computes on this machine

# %%
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display

import abc_lib as abc

here = abc.Here(device=device)
here = here.anew() if recompute else here
result = abc.run(dataset, None, seed, scale, here)
ensemble, landscapes = result.ensemble, result.landscapes
landscapes.distances.shape  # samples, sources

# %% tags=["hide-input"]
abc.figures.use_style()
results = [ensemble, landscapes]
top = abc.sections.opening("gallery", result.recipe, results, result.origin())
display(Markdown(top))

# %% [markdown]
# ## What samples are attributed to
#
# Samples from the smallest radius to the largest; for each, the four sources whose removal changes
# it most, and how far it moves without the first:

# %%
order = np.argsort(landscapes.radii)
rows = abc.sections.spread(order, num_samples)
samples = landscapes.factual[rows]
ranked = abc.attribution.top_counterfactual(landscapes.distances[rows], 4)
ranked, landscapes.radii[rows].round(1)

# %% [markdown]
# Below each sample, framed, an image of the source whose removal changes it most, then of the
# second, and so on; the number is how far the sample moves without that source (Euclidean,
# 3×256×256). Where a source has several images, the one nearest to the sample is shown.

# %% mystnb={"image": {"alt": "Samples and, below each, the four training images whose removal changes it most."}} tags=["hide-input"]
images = abc.training_set(result.recipe.data)


def owned(sources):
    """The training images of sources, one a sample, as shown below it."""
    pairs = zip(sources, samples)
    return images.images[[abc.landscapes.attributed_image(images, int(s), x) for s, x in pairs]]


def moved(sources):
    """How far each sample moves without its source, as text."""
    return [f"{landscapes.distances[row, source]:.1f}" for row, source in zip(rows, sources)]


titles = [f"#{landscapes.indices[row]}" for row in rows]
names = [f"{words}\nsource" for words in ("farthest", "second", "third", "fourth")]
columns = dict(zip(names, ranked.T))
shown = {"sample": samples} | {name: owned(sources) for name, sources in columns.items()}
notes = {name: moved(sources) for name, sources in columns.items()}
abc.figures.image_rows(shown, titles, notes, framed=names)
plt.show()

# %% [markdown]
# ## What samples look like, and what happens without that
#
# For each sample: the training image nearest to it, by pixels and by every other metric at hand;
# then the source that the sample is counterfactually attributed to.

# %%
metrics = abc.classifier.family_metrics(result.recipe.data.family, here=abc.Here(device="cpu"))
named = {}
for metric in metrics:
    visual = abc.attribution.visual_distances(samples, images, metric)
    named[f"nearest by\n{metric.name}"] = visual.argmin(axis=1)
named["counterfactually\nattributed"] = ranked[:, 0]
named

# %% [markdown]
# And the counterfactuals without each, from the samples' own noise:

# %%
noise = ensemble.draw_noise(seed, landscapes.indices[rows])
without = {
    name: ensemble.sample(noise, ensemble.codebook.leave_one_out(sources))
    for name, sources in named.items()
}
{name: abc.distance(samples, drawn).numpy().round(1) for name, drawn in without.items()}

# %% [markdown]
# Numbers under counterfactuals say how far they lie from the sample. If looking like a sample were
# the same as having caused it, the counterfactual without the look-alike would be the one that
# differs most.

# %% mystnb={"image": {"alt": "Samples with the training images nearest to them, the one they are counterfactually attributed to, and the counterfactuals without each."}} tags=["hide-input"]
shown, notes = {"sample": samples}, {}
for name, sources in named.items():
    below = f"without that\n({name.splitlines()[-1]})"
    shown |= {name: owned(sources), below: without[name]}
    notes[below] = moved(sources)
abc.figures.image_rows(shown, titles, notes, framed=list(named))
plt.show()

# %% [markdown]
# ## A whole landscape
#
# Every counterfactual of one sample, from the farthest to the nearest, row by row; the sample
# itself comes first, framed. It is the sample with the median radius of those above.

# %%
row = int(order[len(order) // 2])
sources = np.argsort(-landscapes.distances[row], kind="stable")
every = abc.landscapes.counterfactuals(ensemble, landscapes, row, sources)
every.shape

# %% mystnb={"image": {"alt": "A sample, framed, and all of its counterfactuals as small images from the farthest to the nearest."}} tags=["hide-input"]
abc.figures.mosaic(landscapes.factual[row], every)
plt.show()
distances, radius = landscapes.distances[row], landscapes.radii[row]
display(
    Markdown(
        f"Sample #{landscapes.indices[row]} of {dataset} and its {len(sources):,} counterfactuals. "
        f"The farthest lies {radius:.1f} away (source {sources[0]}), the median one "
        f"{np.median(distances):.1f}; {np.mean(distances < radius / 2):.0%} of them lie less than "
        "half as far as the farthest."
    )
)

# %% [markdown]
# In the {doc}`explorer <explorer>`, the same can be looked at image by image.
#
# ## Exercises
#
# 1. Which two of the counterfactuals shown last are most alike, and do their sources share a
#    codeword almost?

# %% tags=["hide-cell"]
apart = abc.distance(every[:64, None], every[None, :64]).fill_diagonal_(np.inf)
first, second = divmod(int(apart.argmin()), len(apart))
words = ensemble.codebook.words[sources[[first, second]]]
float(apart.min()), int((words[0] & words[1]).sum()), ensemble.codebook.weight

# %% [markdown]
# 2. Is the source that matters most to a sample of the sample's own class? Compare the labels of
#    the attributed images with your eyes' judgement.

# %% tags=["hide-cell"]
labels = landscapes.attributed_labels
None if labels is None else dict(zip(landscapes.indices[rows].tolist(), labels[rows].tolist()))
