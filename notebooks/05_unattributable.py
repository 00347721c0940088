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
# # Samples that nothing can be credited with
#
# **Asked:** are there samples that would have come out the same whichever source had been missing?
# **Found:** yes. Some black and white samples equal all of their counterfactuals, and as training
# sets grow more continuous ones come near that.
#
# "Which training image made this?" has an answer only if taking some image away would have changed
# something. The paper {cite}`dai2024ablation` calls a sample **unattributable** if its
# counterfactual radius is zero: whichever single data source had been missing, the very same sample
# would have come out. Each counterfactual is then a certificate of non-attributability, for it
# shows that its source was not needed (section 3.5). Where samples are continuous, equality is too
# much to ask, and a sample is **nearly unattributable** if its radius is under a threshold τ that
# no eye would notice.
#
# This page looks for both kinds, shows what a threshold looks like, and then removes several
# sources at once, where the paper stops at one.

# %% tags=["parameters"]
dataset = "digits_1024"  # an ensemble of the registry whose samples are continuous
binary = None  # one whose samples are black and white; None: the family's, if at hand
num_samples = None  # how many samples with landscapes; None takes all at hand, or computes 12
binary_samples = None  # look for unattributable ones among so many; None: those at hand, or 512
thresholds = [5.0, 10.0, 20.0, 40.0]  # values of tau for the table
seed = 0  # of the exogenous noise
scale = "laptop"  # "laptop", or "paper" for the paper's own networks
device = "auto"  # "auto", "cpu", "cuda", "cuda:1", "mps"
recompute = False  # True passes over published results and computes on this machine

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown, display

import abc_lib as abc

here = abc.Here(device=device)
here = here.anew() if recompute else here
recipe = abc.get_recipe(dataset, scale)
recipe.data

# %%
result = abc.run(dataset, num_samples, seed, scale, here)
ensemble, landscapes = result.ensemble, result.landscapes
landscapes.distances.shape  # samples, sources

# %%
binary_name = binary or f"{recipe.data.family}_binary_190"
discrete = found = None
if binary_name in abc.recipe_names():
    discrete = abc.get_recipe(binary_name, scale)
    found = abc.unattributable.stored(discrete, seed, here)
if binary and (found is None or (binary_samples or 0) > len(found)):
    members = abc.get_ensemble(discrete, here)
    found = abc.unattributable.get(members, binary_samples or 512, seed, here=here)
found and {"samples": len(found), "unattributable": len(found.indices)}

# %% tags=["hide-input"]
abc.figures.use_style()
results, details, notes = [ensemble, landscapes], [result.origin()], []
if found is not None:
    made, code = found.artefact.provenance, discrete.code
    results.append(found)
    details.append(
        f"**{binary_name}**, scale *{scale}*: {discrete.data.size:,} black and white images in "
        f"{found.num_sources} random groups, {code.n} members of weight {code.weight}. "
        f"{len(found):,} samples, computed on {made['hardware']} ({made['time'][:10]}, commit "
        f"{made['commit']})."
    )
elif discrete is not None:
    notes.append(
        f"**Black and white samples** ({binary_name}): no results at hand; `-p binary "
        f"{binary_name}` trains its members and looks for them."
    )
origin = "\n\n".join(details)
display(Markdown(abc.sections.opening("05_unattributable", recipe, results, origin, notes)))

# %% [markdown]
# ## Truly unattributable samples
#
# An ensemble that was trained on black and white images draws black and white samples: a threshold
# at one half is the last step of its sampler. Now a counterfactual can equal its sample pixel for
# pixel. The data sources are 190 random groups of images, and of 20 members each source takes only
# two, so that a member sees about a tenth of the data and a counterfactual keeps eighteen.
#
# What a threshold does can be seen on the continuous ensemble too. Put one on the sample with the
# smallest radius, and on its counterfactuals without the first 20 sources: how many pixels change?

# %%
smallest = int(landscapes.indices[landscapes.radii.argmin()])
noise = ensemble.draw_noise(seed, [smallest])
factual = ensemble.sample(noise) > 0.5
weights = ensemble.codebook.leave_one_out(range(min(20, ensemble.codebook.num_sources)))
counterfactuals = ensemble.sample(noise[[0] * len(weights)], weights) > 0.5
(counterfactuals != factual).flatten(1).sum(1).tolist()

# %% [markdown]
# Whether two samples are equal must not hang on the machine. Before the threshold a pixel is known
# to about 10⁻⁵ in single precision; where one comes within 10⁻³ of the threshold, both trajectories
# are computed again in double precision. Samples are dropped as soon as one counterfactual differs,
# so that most cost a few counterfactuals and not 190. There is no placebo here: the 190 sources own
# every codeword of weight 2 of 20, so no two members can go without a source. Of all samples, the
# share that are unattributable, with its 95% interval:

# %%
found and (len(found.indices) / len(found), found.interval())

# %% mystnb={"image": {"alt": "Black and white samples that equal every one of their counterfactuals."}} tags=["hide-input"]
if found is None:
    display(Markdown("No results at hand; see *Run this page* above."))
else:
    (low, high), info = found.interval(), found.artefact.info
    share = len(found.indices) / len(found)
    spared = 1 - info["counterfactuals"] / (len(found) * found.num_sources)
    sixteen = ", whose images have sixteen times as many pixels to differ in"
    display(
        Markdown(
            f"**{len(found.indices):,} of {len(found):,} samples ({share:.2%}; 95% interval "
            f"{low:.2%} to {high:.2%}) equal all {found.num_sources} of their counterfactuals.** "
            "The paper found 14 of 3,731 (0.38%) for MNIST"
            f"{sixteen if recipe.data.family == 'digits' else ''}. "
            f"{int(found.undecided.sum())} samples could not be decided. "
            f"{info['counterfactuals']:,} counterfactuals were computed, {spared:.0%} fewer than "
            f"there are; {info['in_float64']:,} of them again in double precision."
        )
    )
    if len(found.indices):
        chosen = found.indices[:24]
        abc.figures.image_grid(found.factual[chosen], [f"#{i}" for i in chosen])
        plt.show()

# %% [markdown]
# A *witness* is the first source whose counterfactual differs. How many sources had to be tried for
# those samples that have one?

# %%
if found is not None:
    tried = found.tested[found.witness >= 0]
    print({k: f"{np.mean(tried <= k):.0%}" for k in (1, 2, 4, 8, 16)})

# %% mystnb={"image": {"alt": "Black and white samples that some counterfactual changes."}} tags=["hide-input"]
if found is not None:
    text = "For comparison, samples of the same ensemble that some counterfactual changes:"
    display(Markdown(text))
    refuted = np.flatnonzero(found.witness >= 0)[:8]
    abc.figures.image_grid(found.factual[refuted], [f"#{i}" for i in refuted])
    plt.show()
    text = f"Of the samples that some counterfactual changes, {np.mean(tried <= 1):.0%} are "
    text += f"changed by the first that is tried, {np.mean(tried <= 8):.0%} by one of the first "
    text += "eight."
    display(Markdown(text))

# %% mystnb={"image": {"alt": "Histogram of the counterfactual radii of black and white samples, zero among them."}} tags=["hide-input"]
zero = discrete and abc.landscapes.stored(discrete)
if zero is not None:
    figure, ax = plt.subplots(figsize=(6.4, 3))
    ax.hist(zero.radii, bins=16, color=abc.figures.OURS, alpha=0.8)
    ax.set(xlabel=abc.figures.RADIUS_LABEL, ylabel="samples")
    number = int((zero.radii == 0).sum())
    ax.set_title(f"{binary_name}: {len(zero)} samples, {number} with radius 0")
    plt.show()
    display(Markdown(abc.landscapes.origin(zero)))

# %% [markdown]
# ## What does a radius look like?
#
# Samples of the continuous ensemble from the smallest radius to the largest, each with its farthest
# counterfactual: the image that comes out when the one source is missing that matters most (figure
# 6 of the paper, bottom). Where would you put τ?

# %%
order = np.argsort(landscapes.radii)
rows = abc.sections.spread(order, 6)
landscapes.radii[rows].round(1)

# %% mystnb={"image": {"alt": "Samples from the smallest radius to the largest, each with its farthest counterfactual and the training image removed."}} tags=["hide-input"]
abc.figures.radius_gallery(landscapes, rows)
plt.show()

# %% [markdown]
# The share of samples below each τ, for every ensemble of the family whose landscapes are at hand.
# As training sets grow, curves move to the left. Dotted, the same for **placebo radii**: as many
# members go along codewords that no source owns. Where the dotted curve lies on its twin, a sample
# is below τ because half of the members agree about it, and not because no source matters.

# %%
family = abc.sections.family_landscapes(landscapes)
shares = {
    name: [float(np.mean(each.radii < tau)) for tau in thresholds] for name, each in family.items()
}
shares

# %% mystnb={"image": {"alt": "The share of samples with a radius below tau against tau, a curve an ensemble, and dotted the same for placebo radii."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(6.8, 4))
chance = {name: abc.placebos.stored(abc.get_recipe(name, scale)) for name in family}
chance = {name: each.distances.max(1) for name, each in chance.items() if each is not None}
abc.figures.below_threshold(
    {name: each.radii for name, each in family.items()}, ax, placebos=chance
)
plt.show()
table = pd.DataFrame(
    {"ensemble": name, "images": abc.get_recipe(name, scale).data.size, "samples": len(each)}
    | {f"τ = {tau:g}": f"{share:.0%}" for tau, share in zip(thresholds, shares[name])}
    for name, each in family.items()
)
display(abc.figures.table(table, {"images": "{:,}"}))

# %% [markdown]
# ### By another metric
#
# The threshold depends on the metric. The same samples, measured by the distance between the
# features of the classifier that was trained here: of each sample the eight counterfactuals that
# lie farthest in Euclidean distance were kept, and the largest feature distance among them is
# shown. The radius in this metric is at least that.

# %%
metrics = abc.classifier.family_metrics(recipe.data.family, here=abc.Here(device="cpu"))
others = [metric for metric in metrics if metric.name != "euclidean"]
at_hand = {name: abc.landscapes.stored(abc.get_recipe(name, scale)) for name in family}
farthest = {
    (metric.label, name): abc.landscapes.kept_radii(each, metric)
    for metric in others
    for name, each in at_hand.items()
    if each is not None
}
{key: round(float(np.median(radii)), 2) for key, radii in farthest.items()}

# %% mystnb={"image": {"alt": "The same shares with distances between features of a classifier."}} tags=["hide-input"]
if others:
    size = (6.8, 4 * len(others))
    figure, axes = plt.subplots(len(others), 1, figsize=size, squeeze=False)
    for ax, metric in zip(axes.flat, others):
        curves = {name: radii for (label, name), radii in farthest.items() if label == metric.label}
        abc.figures.below_threshold(curves, ax, f"{metric.label}, farthest of those kept")
    plt.show()
else:
    display(Markdown("Only the Euclidean metric is at hand here."))

# %% [markdown]
# ## A certificate
#
# A claim about a sample should not have to be believed. A **certificate** is a file with everything
# that it takes to check one: recipe, code, hashes of the members, noise, and for each source the
# distance of the counterfactual without it. Below τ, it states that the sample is nearly
# unattributable. It also says where the radius lies among placebos: how far the sample moves along
# codewords that no source owns. Whoever gets it can have any part made again:
#
# ```
# python -m abc_lib certify digits_1024 --sample 0 --tau 40 -o certificate.json
# python -m abc_lib verify certificate.json
# ```
#
# Here is the sample with the smallest radius on this page, certified and checked just now for four
# of its counterfactuals, drawn at random.

# %%
row = int(landscapes.radii.argmin())
tau = float(np.ceil(landscapes.radii[row] + 1))
index = int(landscapes.indices[row])
known = abc.placebos.stored(recipe, here)
certificate = abc.certificates.make_certificate(ensemble, landscapes, index, tau, known)
quiet = abc.Here(device=device, progress=False)
print(abc.certificates.verify_certificate(certificate, 4, here=quiet))

# %% tags=["hide-input"]
display(Markdown(f"> {certificate.content['statement']}"))

# %% [markdown]
# ## Several sources at once
#
# Remove k sources together, and every member that saw any of them goes. Which sets can be removed
# is a matter of the code. A code of weight w promises that k sources leave a member where k·w < n,
# whatever the codewords: it is *k-cover-free* there. The usual codes of weight n/2 promise k = 1
# and nothing more; what else can be removed is luck:

# %%
code = ensemble.codebook
left = []
for k in range(1, 7):
    try:
        left.append(int(code.survivors(range(k)).sum()))
    except abc.NoSurvivors:
        left.append(0)
left, abc.removals.promised_k(code.n, code.weight)  # members left without sources 0 .. k - 1

# %% [markdown]
# A light code such as weight 2 of 20 promises nine, at the price of members that each see a tenth
# of the data. A whole class of images, some hundred sources, is out of reach of both;
# {doc}`ensembles whose sources are classes <01_abc_vs_rbc>` are made for that.

# %% tags=["hide-input"]
names = [dataset] + ([binary_name] if found is not None else [])
names += [name for name in (f"{recipe.data.family}_classes",) if name in abc.recipe_names()]
display(abc.figures.table(abc.sections.promise_table(names, scale)))

# %% [markdown]
# How far do samples move? For each k, random sets of k sources that leave at least one member; the
# same samples and sets throughout. Two things grow with k: what is taken away, and how few members
# are left to take a mean of.

# %%
removals = {}
for name in names[:2]:
    stored = abc.removals.stored(abc.get_recipe(name, scale), seed, here)
    if stored is None and name == dataset:
        sets = abc.removals.sets(ensemble, 16)
        stored = abc.removals.get(ensemble, landscapes.indices[:8], sets, seed, here)
    if stored is not None:
        removals[name] = stored
tables = {name: each.by_size() for name, each in removals.items()}
tables[dataset].round(2)

# %% mystnb={"image": {"alt": "Distance to the sample against how many sources are removed at once: mean of the sets and farthest of them."}} tags=["hide-input"]
lines = {f"{name}: {len(removals[name].indices)} samples": each for name, each in tables.items()}
abc.figures.removal_growth(lines)
plt.show()
for name, each in tables.items():
    first, last = each.iloc[0], each.iloc[-1]
    made = removals[name].artefact
    whose = "Published with this repository" if made.published else "From this machine"
    sets = " to ".join(dict.fromkeys([f"{each['sets'].min():.0f}", f"{each['sets'].max():.0f}"]))
    display(
        Markdown(
            f"**{name}:** from k = 1 to k = {last['k']:.0f} the mean distance goes from "
            f"{first['mean']:.1f} to {last['mean']:.1f}, that of the farthest of {sets} sets from "
            f"{first['radius']:.1f} to {last['radius']:.1f}; bars are 95% intervals over samples. "
            f"{whose}, computed on {made.provenance['hardware']} "
            f"({made.provenance['time'][:10]}, commit {made.provenance['commit']})."
        )
    )

# %% [markdown]
# ## Look for yourself
#
# The {doc}`gallery <gallery>` shows samples with what they are attributed to and whole landscapes;
# in the {doc}`explorer <explorer>` any training image can be taken away.
#
# ## Exercises
#
# 1. Which τ would make half of the samples of this page nearly unattributable? And of the smallest
#    training set of the family?

# %% tags=["hide-cell"]
{name: round(float(np.median(each.radii)), 1) for name, each in family.items()}

# %% [markdown]
# 2. A code of how many members of weight 3 promises that any five sources can be removed together?

# %% tags=["hide-cell"]
n = next(n for n in range(4, 100) if abc.removals.promised_k(n, 3) >= 5)
n, abc.removals.promised_k(n, 3)
