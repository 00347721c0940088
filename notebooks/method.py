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
# # The method
#
# Training data reach a sample through the parameters of a model. If all parameters depend on all data, as they do in one network, the only way to cut one data source off is to train again without it. {cite:t}`dai2024ablation` rearrange this: split the model into members that see different parts of the data, so that for each source some members never saw it. To cut a source off, switch off the members that saw it.

# %% tags=["parameters"]
dataset = "digits_64"  # the ensemble of the live example
seed = 0  # of the exogenous noise
sample = 2  # which sample of that noise to follow
scale = "laptop"
device = "auto"

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display

import abc_lib as abc

abc.figures.use_style()
recipe = abc.get_recipe(dataset, scale)
ensemble = abc.get_ensemble(recipe, device=device)
display(Markdown(abc.ensemble_origin(ensemble)))
display(Markdown(f"> **Run this page:** `papermill notebooks/method.ipynb out.ipynb -p dataset {dataset}`"))

# %% [markdown]
# ## Who sees what
#
# Each data source $s$ gets a codeword of $n$ bits; member $i$ trains on the sources that have a 1 in position $i$. Here is the idea with four sources and four members, before and after the first source is removed. Each node θ is a member, ε is the exogenous noise, *y* is the sample. Pale links carry nothing any more.

# %% mystnb={"image": {"alt": "Arrows from data sources to members to the ensemble; with one source removed, the members that saw it are struck out."}} tags=["hide-input"]
toy = abc.Codebook.draw(n=4, weight=2, num_sources=4, seed=1)
figure, axes = plt.subplots(2, 1, figsize=(6.4, 7))
abc.figures.causal_flow(toy, axes[0])
axes[0].set_title("all members: the factual sample")
abc.figures.causal_flow(toy, axes[1], removed=0)
axes[1].set_title("without $s_1$: its counterfactual")
plt.show()

# %% [markdown]
# Every other source still reaches *y* through at least one member. That is no accident. All codewords have the same number of ones, so no codeword's ones can cover another's, and the members that saw $s$ are never all of those that saw $s'$ (theorem 1). Let us check it on the code of a real ensemble, pair by pair.

# %% tags=["hide-input"]
code = ensemble.codebook
words = code.words.astype(int)
seen_without = words.sum(1)[:, None] - words @ words.T  # |S(s) \ S(s')| for every pair
others = seen_without[~np.eye(len(words), dtype=bool)]
display(Markdown(
    f"**{dataset}**: {code.num_sources} sources, {code.n} members, codewords of weight {code.weight}. When a source is removed, each other "
    f"source keeps at least {others.min()} and on average {others.mean():.2f} of the {code.weight} members that saw it."
))

# %% mystnb={"image": {"alt": "A codebook as a matrix of sources and members, the members that saw the removed source struck out."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(7, 4))
abc.figures.code_matrix(code, ax, removed=3, rows=12)
ax.set_title("The first codewords. Removing source 3 ablates the members in the shaded columns")
plt.show()

# %% [markdown]
# With half the bits set there are $\binom{n}{n/2}$ codewords, so the number of members only has to grow with the logarithm of the number of sources (appendix A.2):

# %% tags=["hide-input"]
sizes = [10, 100, 1_000, 10_000, 100_000, 1_000_000, 10**9]
display(abc.figures.table(pd.DataFrame({"data sources": [f"{N:,}" for N in sizes], "members that suffice": [abc.smallest_sufficient_n(N) for N in sizes]})))

# %% [markdown]
# ## One model from many
#
# Each member is a small diffusion model: given a noisy image and a time, it predicts the noise in it {cite}`ho2020denoising`. The ensemble predicts the mean. Writing weights $c \in \mathbb{R}^n$,
#
# $$ (f \cdot c)(x) = \sum_{i=1}^{n} f_i(x)\,\frac{c_i}{n}, $$
#
# the whole ensemble is $c = (1, \dots, 1)$, and an ablated one has zeros for the members that are switched off and $n / \text{survivors}$ for the rest. A sample is $\mathcal{G}(f \cdot c, \varepsilon)$: denoising in 50 steps, from the exogenous noise $\varepsilon$, which holds the initial noise and all that is added on the way. Chance is a value here. With the same $\varepsilon$ and another $c$, nothing differs but the members.

# %% tags=["hide-input"]
noise = ensemble.draw_noise(seed, [sample])
landscapes = abc.stored_landscapes(dataset, scale)
source = 0 if landscapes is None else int(landscapes.attributed_sources[sample])  # the one that matters most, where that is known
weights = code.ablation(source)
display(Markdown(
    f"Follow sample {sample} of seed {seed}, with and without source {source}. Members {', '.join(map(str, np.flatnonzero(weights == 0)))} "
    f"saw it and are ablated; the weights are *c* = ({', '.join(f'{w:g}' for w in weights)})."
))

# %% mystnb={"image": {"alt": "The denoising of a sample and, below, of its counterfactual from the same noise, step by step."}} tags=["hide-input"]
factual, counterfactual = (ensemble.trajectory(noise, c)[:, 0] for c in (None, weights))
steps = [0, 15, 30, 40, 45, 50]
figure, axes = plt.subplots(2, len(steps), figsize=(len(steps) * 1.05, 2.6))
for ax, k in zip(axes[0], steps):
    abc.figures.show_image(ax, factual[k], f"step {k}")
for ax, k in zip(axes[1], steps):
    abc.figures.show_image(ax, counterfactual[k])
axes[0, 0].set_ylabel("factual", rotation=0, ha="right", va="center", fontsize=10)
axes[1, 0].set_ylabel(f"without {source}", rotation=0, ha="right", va="center", fontsize=10)
plt.show()

# %% [markdown]
# The two start from the same noise and stay close for a long time; what the removed source contributed decides between them only as the image takes shape. The distance between the two trajectories, step by step:

# %% mystnb={"image": {"alt": "The distance between the two trajectories at each denoising step: near nothing for most of the way, then growing."}} tags=["hide-input"]
apart = [float(abc.distance(a, b)) for a, b in zip(factual, counterfactual)]
figure, ax = plt.subplots(figsize=(6, 3))
ax.plot(range(len(apart)), apart, marker="o", markersize=3)
ax.set(xlabel="denoising step", ylabel="distance (Euclidean, 3×256×256)", title=f"Sample {sample} of {dataset}, with and without source {source}")
plt.show()

# %% [markdown]
# ## Exact means exact
#
# An ablated member has no way left to influence the result. To see that, throw the ablated members away altogether, build a new ensemble from the survivors alone, take their plain mean, and sample from the same noise.

# %% tags=["hide-input"]
alive = np.flatnonzero(code.survivors(source))


def mean_of_survivors(k, x, t):
    """The arithmetic mean of the noise that the surviving members predict."""
    times = torch.full((len(x),), t, device=x.device)
    return torch.stack([ensemble.members[i](x, times) for i in alive]).mean(0)


with torch.inference_mode(), abc.one_thread():  # small networks are fastest on one thread
    by_hand = abc.denoise(mean_of_survivors, noise.to(ensemble.device), recipe.diffusion, recipe.sampling)
by_ablation = ensemble.denoise(noise, weights)
difference = float((by_hand - by_ablation).abs().max())
display(Markdown(f"Largest difference of any pixel: {difference:.1e}, in units where black is −1 and white is 1: rounding, in a different order of summation."))

# %% [markdown]
# Doing this for every source gives the sample's [landscape, and its radius](03_radius.ipynb).
