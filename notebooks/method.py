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
# **Asked:** how can a data source be cut off from a sample without training again? **Found:** train
# an ensemble whose members see different parts of the data, and switch off the members that saw the
# source. This page writes the method down in a few lines, and checks each against the library.
#
# Training data reach a sample through the parameters of a model. If all parameters depend on all
# data, as they do in one network, the only way to cut one data source off is to train again without
# it. {cite:t}`dai2024ablation` rearrange this: split the model into members that see different
# parts of the data, so that for each source some members never saw it. To cut a source off, switch
# off the members that saw it.

# %% tags=["parameters"]
dataset = "digits_64"  # the ensemble of the live example
seed = 0  # of the exogenous noise
sample = 2  # which sample of that noise to follow
scale = "laptop"  # "laptop", or "paper" for the paper's own networks
device = "auto"  # "auto", "cpu", "cuda", "cuda:1", "mps"

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown, display

import abc_lib as abc

recipe = abc.get_recipe(dataset, scale)
ensemble = abc.get_ensemble(recipe, abc.Here(device=device))
recipe.code

# %% tags=["hide-input"]
abc.figures.use_style()
torch.set_num_threads(1)  # small networks are fastest on one thread
source_of_numbers = abc.at_hand.ensemble_origin(ensemble)
display(Markdown(abc.sections.opening("method", recipe, [ensemble], source_of_numbers)))

# %% [markdown]
# ## Who sees what
#
# Each data source $s$ gets a codeword of $n$ bits; member $i$ trains on the sources that have a 1
# in position $i$. Here is the idea with four sources and four members: a row is a source's
# codeword, a column says what a member sees.

# %%
toy = abc.Codebook.draw(n=4, weight=2, num_sources=4, seed=1)
toy.words

# %% [markdown]
# Before and after the first source is removed: each node θ is a member, ε is the exogenous noise,
# *y* is the sample. Pale links carry nothing any more.

# %% mystnb={"image": {"alt": "Arrows from data sources to members to the ensemble; with one source removed, the members that saw it are struck out."}} tags=["hide-input"]
figure, axes = plt.subplots(2, 1, figsize=(6.4, 7))
abc.figures.causal_flow(toy, axes[0])
axes[0].set_title("all members: the factual sample")
abc.figures.causal_flow(toy, axes[1], removed=0)
axes[1].set_title("without $s_1$: its counterfactual")
plt.show()

# %% [markdown]
# Now the code of a real ensemble. The **split** of a member is a column of the codebook: the
# sources that have a 1 there. The library trains member $i$ on just these.

# %%
code = ensemble.codebook
split = [np.flatnonzero(code.words[:, i] == 1) for i in range(code.n)]
assert all(np.array_equal(split[i], code.split(i)) for i in range(code.n))
split[0]

# %% [markdown]
# When a source is removed, does every other source still reach *y* through at least one member? All
# codewords have the same number of ones, so no codeword's ones can cover another's, and the members
# that saw $s$ are never all of those that saw $s'$ (theorem 1). Checked pair by pair: how many of
# the members that saw $s$ did not see $s'$?

# %%
words = code.words.astype(int)
saw_only_first = words.sum(1)[:, None] - words @ words.T
pairs = saw_only_first[~np.eye(code.num_sources, dtype=bool)]
int(pairs.min()), round(float(pairs.mean()), 2)

# %% mystnb={"image": {"alt": "A codebook as a matrix of sources and members, the members that saw the removed source struck out."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(7, 4))
abc.figures.code_matrix(code, ax, removed=3, rows=12)
ax.set_title("The first codewords. Removing source 3 ablates the members in the shaded columns")
plt.show()
display(
    Markdown(
        f"**{dataset}**: {code.num_sources} sources, {code.n} members, codewords of weight "
        f"{code.weight}. When a source is removed, each other source keeps at least {pairs.min()} "
        f"and on average {pairs.mean():.2f} of the {code.weight} members that saw it."
    )
)

# %% [markdown]
# With half the bits set there are $\binom{n}{n/2}$ codewords, so the number of members only has to
# grow with the logarithm of the number of sources (appendix A.2):

# %%
sizes = [10, 100, 1_000, 10_000, 100_000, 1_000_000, 10**9]
members = [abc.code.smallest_sufficient_n(size) for size in sizes]
table = pd.DataFrame({"data sources": sizes, "members that suffice": members})
abc.figures.table(table, {"data sources": "{:,}"})

# %% [markdown]
# ## One model from many
#
# Each member is a small diffusion model: given a noisy image and a time, it predicts the noise in
# it {cite}`ho2020denoising`. The ensemble predicts the mean. Writing weights $c \in \mathbb{R}^n$,
#
# $$ (f \cdot c)(x) = \sum_{i=1}^{n} f_i(x)\,\frac{c_i}{n}, $$
#
# the whole ensemble is $c = (1, \dots, 1)$, and an ablated one has zeros for the members that are
# switched off and $n / \text{survivors}$ for the rest. The source removed here is the one that
# matters most to the sample, where its landscape is at hand:

# %%
landscapes = abc.landscapes.stored(recipe)
source = 0 if landscapes is None else int(landscapes.attributed_sources[sample])
survives = code.words[source] == 0
c = survives * code.n / survives.sum()
assert np.array_equal(c, code.ablation(source))
c

# %% tags=["hide-input"]
ablated = ", ".join(map(str, np.flatnonzero(c == 0)))
display(
    Markdown(
        f"Follow sample {sample} of seed {seed}, with and without source {source}. Members "
        f"{ablated} saw it and are ablated; the weights are *c* = "
        f"({', '.join(f'{w:g}' for w in c)})."
    )
)

# %% [markdown]
# **Exogenous noise** $\varepsilon$ is all the chance there is: the initial noise, and what is added
# at each denoising step. It is a value: with the same $\varepsilon$ and another $c$, nothing
# differs but the members. Denoising visits these times $t$; next to them, which share
# $\bar\alpha_t$ of an image is left there:

# %%
noise = ensemble.draw_noise(seed, [sample]).to(ensemble.device)
stride = recipe.diffusion.train_steps // recipe.sampling.steps
times = list(range(recipe.diffusion.train_steps - stride, -1, -stride))
share_left = abc.diffusion.alphas_cumprod(recipe.diffusion).double()
{t: round(float(share_left[t]), 4) for t in times[::10]}

# %% [markdown]
# The mean $f \cdot c$ of what the members predict, by hand and by the library:


# %%
def mean(x, t):
    time = torch.full((len(x),), t, device=x.device)
    return sum(f(x, time) * weight / code.n for f, weight in zip(ensemble.members, c))


with torch.inference_mode():
    by_hand = mean(noise.initial, times[0])
    by_library = ensemble.predict(noise.initial, times[0], ensemble.weights(c, 1))
assert torch.allclose(by_hand, by_library, atol=1e-5)
float((by_hand - by_library).abs().max())

# %% [markdown]
# A **denoising step** goes from time $t$ to an earlier one. Let $a$ and $b$ be the shares of the
# image that are left at the two. The predicted noise says what the image would be, $x_0$; the next
# state is a weighted mean of $x$ and $x_0$, and new noise $z$ {cite}`ho2020denoising`.


# %%
def step(x, eps, t, before, z):
    a, b = share_left[t], share_left[before] if before >= 0 else torch.tensor(1.0)
    x0 = (x - (1 - a).sqrt() * eps) / a.sqrt()
    if recipe.sampling.clip is not None:
        x0 = x0.clamp(-recipe.sampling.clip, recipe.sampling.clip)
    kept = b.sqrt() * (1 - a / b) / (1 - a) * x0 + (a / b).sqrt() * (1 - b) / (1 - a) * x
    return kept + ((1 - b) / (1 - a) * (1 - a / b)).sqrt() * z


first = step(noise.initial, by_hand, times[0], times[1], noise.steps[0])
float(abc.distance(noise.initial, first))

# %% [markdown]
# A **sample** is $\mathcal{G}(f \cdot c, \varepsilon)$: such steps, from the initial noise down to
# $t = 0$. The whole sampler by hand, and how far its image lies from the library's:

# %%
x = noise.initial
with torch.inference_mode():
    for k, t in enumerate(times):
        z = noise.steps[k] if t > 0 else torch.zeros_like(x)  # the last step adds none
        x = step(x, mean(x, t), t, t - stride, z)
by_hand = ensemble.space.to_images(x).cpu()
by_library = ensemble.sample(noise, c)
assert torch.allclose(by_hand, by_library, atol=1e-4)
float(abc.distance(by_hand, by_library))

# %% [markdown]
# Now with and without the source, from the same noise, step by step:

# %%
factual = ensemble.trajectory(noise)[:, 0]
counterfactual = ensemble.trajectory(noise, c)[:, 0]
apart = abc.distance(factual, counterfactual)
apart[::10].numpy().round(2)

# %% mystnb={"image": {"alt": "The denoising of a sample and, below, of its counterfactual from the same noise, step by step."}} tags=["hide-input"]
shown = [0, 15, 30, 40, 45, 50]
rows = {"factual": factual[shown], f"without {source}": counterfactual[shown]}
abc.figures.image_rows(rows, [f"step {k}" for k in shown])
plt.show()

# %% [markdown]
# The two start from the same noise and stay close for a long time; what the removed source
# contributed decides between them only as the image takes shape. The distance between the two
# trajectories, step by step:

# %% mystnb={"image": {"alt": "The distance between the two trajectories at each denoising step: near nothing for most of the way, then growing."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6, 3))
ax.plot(range(len(apart)), apart, marker="o", markersize=3)
ax.set(xlabel="denoising step", ylabel="distance (Euclidean, 3×256×256)")
ax.set_title(f"Sample {sample} of {dataset}, with and without source {source}")
plt.show()

# %% [markdown]
# ## Exact means exact
#
# An ablated member has no way left to influence the result. To see that, throw the ablated members
# away altogether, build a new model from the survivors alone, take their plain mean, and sample
# from the same noise.

# %%
alive = [ensemble.members[i] for i in np.flatnonzero(code.survivors(source))]


def mean_of_survivors(k, x, t):
    times = torch.full((len(x),), t, device=x.device)
    return torch.stack([member(x, times) for member in alive]).mean(0)


with torch.inference_mode():
    alone = abc.denoise(mean_of_survivors, noise, recipe.diffusion, recipe.sampling)
difference = float((alone - ensemble.denoise(noise, c)).abs().max())
difference

# %% tags=["hide-input"]
display(
    Markdown(
        f"Largest difference of any pixel: {difference:.1e}, in units where black is −1 and white "
        "is 1: rounding, in a different order of summation."
    )
)

# %% [markdown]
# Doing this for every source gives the sample's [landscape, and its radius](03_radius.ipynb).
#
# ## Exercises
#
# 1. Remove sources 0 and 1 of the toy code together, then 0 and 3. Which members are left?

# %% tags=["hide-cell"]
for pair in ([0, 1], [0, 3]):
    try:
        print(pair, "leaves members", np.flatnonzero(toy.survivors(pair)))
    except abc.NoSurvivors as error:
        print(pair, "leaves nobody:", error)

# %% [markdown]
# 2. How far from the sample does one member alone draw, with $c_i = n$ for it and 0 for the others?
#    Try each member.

# %% tags=["hide-cell"]
whole = ensemble.sample(noise)
alone = [ensemble.sample(noise, code.n * np.eye(code.n)[i]) for i in range(code.n)]
np.array([float(abc.distance(whole, image)) for image in alone]).round(1)

# %% [markdown]
# 3. Is the order of the two important: denoise, then average the members' images? Compare that
#    image with the ensemble's sample.

# %% tags=["hide-cell"]
average = torch.stack(alone).mean(0)
float(abc.distance(whole, average))
