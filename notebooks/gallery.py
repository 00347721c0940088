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
# Appendix D of the paper {cite}`dai2024ablation`, for one training set: samples with the data sources that they are attributed to (D.1), samples with what they look like and what happens without that (D.2), and one whole landscape (D.3). Every counterfactual below was sampled while this page was made.

# %% tags=["parameters"]
dataset = "digits_256"  # an ensemble of the registry
num_samples = 6  # how many samples to show
seed = 0  # of the exogenous noise
scale = "laptop"  # "laptop", or "paper" for the paper's own networks
device = "auto"  # "auto", "cpu", "cuda", "cuda:1", "mps"
recompute = False  # True passes over published results and computes on this machine

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display

import abc_lib as abc

abc.figures.use_style()
result = abc.run(dataset, None, seed, scale, device, recompute)
ensemble, landscapes = result.ensemble, result.landscapes
display(Markdown(result.origin()))

# %% tags=["hide-input"]
command = f"papermill notebooks/gallery.ipynb out.ipynb -p dataset {dataset}" + ("" if scale == "laptop" else f" -p scale {scale}")
display(Markdown(f"> **Run this page:** `{command}`"))

# %% [markdown]
# ## What samples are attributed to
#
# Samples from the smallest radius to the largest. Below each, framed, an image of the source whose removal changes it most, then of the second, and so on; the number is how far the sample moves without that source (Euclidean, 3×256×256). Where a source has several images, the one nearest to the sample is shown.

# %% mystnb={"image": {"alt": "Samples and, below each, the four training images whose removal changes it most."}} tags=["hide-input"]
order = np.argsort(landscapes.radii)
rows = order[np.unique(np.linspace(0, len(order) - 1, min(num_samples, len(order))).round().astype(int))]
samples = landscapes.factual[rows]
images = abc.training_set(result.recipe.data)
owned = lambda sources: images.images[[abc.attributed_image(images, int(s), x) for s, x in zip(sources, samples)]]  # noqa: E731
ranked = np.argsort(-landscapes.distances[rows], axis=1, kind="stable")
titles = [f"#{landscapes.indices[row]}" for row in rows]
names = [f"{words}\nsource" for words in ("farthest", "second", "third", "fourth")]
moved = lambda sources: [f"{landscapes.distances[row, s]:.1f}" for row, s in zip(rows, sources)]  # noqa: E731
abc.figures.image_rows({"sample": samples} | {name: owned(ranked[:, k]) for k, name in enumerate(names)}, titles,
                       {name: moved(ranked[:, k]) for k, name in enumerate(names)}, framed=names)
plt.show()

# %% [markdown]
# ## What samples look like, and what happens without that
#
# For each sample: the training image nearest to it, by pixels and by every other metric at hand, and the counterfactual without that image's source; then the source that the sample is counterfactually attributed to, and the counterfactual without that. Numbers under counterfactuals say how far they lie from the sample. If looking like a sample were the same as having caused it, the counterfactual without the look-alike would be the one that differs most.

# %% mystnb={"image": {"alt": "Samples with the training images nearest to them, the one they are counterfactually attributed to, and the counterfactuals without each."}} tags=["hide-input"]
noise = ensemble.draw_noise(seed, landscapes.indices[rows])
named = {f"nearest by\n{metric.name}": abc.top_visual(abc.visual_distances(samples, images, metric))[:, 0]
         for metric in abc.family_metrics(result.recipe.data.family, device="cpu")}
named["counterfactually\nattributed"] = ranked[:, 0]
shown, notes = {"sample": samples}, {}
for name, sources in named.items():
    without = f"without that\n({name.splitlines()[-1]})"
    shown |= {name: owned(sources), without: ensemble.sample(noise, ensemble.codebook.leave_one_out(sources))}
    notes[without] = moved(sources)
abc.figures.image_rows(shown, titles, notes, framed=list(named))
plt.show()

# %% [markdown]
# ## A whole landscape
#
# Every counterfactual of one sample, from the farthest to the nearest, row by row; the sample itself comes first, framed. It is the sample with the median radius of those above.

# %% mystnb={"image": {"alt": "A sample, framed, and all of its counterfactuals as small images from the farthest to the nearest."}} tags=["hide-input"]
row = int(order[len(order) // 2])
sources = np.argsort(-landscapes.distances[row], kind="stable")
every = abc.counterfactuals(ensemble, landscapes, row, sources)
abc.figures.mosaic(landscapes.factual[row], every)
plt.show()
share = np.mean(landscapes.distances[row] < landscapes.radii[row] / 2)
display(Markdown(
    f"Sample #{landscapes.indices[row]} of {dataset} and its {len(sources):,} counterfactuals. The farthest lies {landscapes.radii[row]:.1f} away (source {sources[0]}), the median one "
    f"{np.median(landscapes.distances[row]):.1f}; {share:.0%} of them lie less than half as far as the farthest."))

# %% [markdown]
# In the {doc}`explorer <explorer>`, the same can be looked at image by image.
