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
# "Which training image made this?" has an answer only if taking some image away would have changed something. The paper {cite}`dai2024ablation` calls a sample **unattributable** if its counterfactual radius is zero: whichever single data source had been missing, the very same sample would have come out. Each counterfactual is then a certificate of non-attributability, for it shows that its source was not needed (section 3.5). Where samples are continuous, equality is too much to ask, and a sample is **nearly unattributable** if its radius is under a threshold τ that no eye would notice.
#
# This page looks for both kinds, shows what a threshold looks like, and then removes several sources at once, where the paper stops at one.

# %% tags=["parameters"]
dataset = "digits_1024"  # an ensemble of the registry whose samples are continuous
binary = None  # an ensemble whose samples are black and white; None takes the family's if its results are at hand
num_samples = None  # how many samples with landscapes; None takes all that are at hand, or computes 12
binary_samples = None  # among how many samples to look for unattributable ones; None takes those at hand, or 512
thresholds = [5.0, 10.0, 20.0, 40.0]  # values of tau for the table
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
recipe, ensemble, landscapes = result.recipe, result.ensemble, result.landscapes
family = recipe.data.family
binary_name = binary or f"{family}_binary_190"
exists = binary_name in abc.recipe_names()
found = abc.stored_unattributable(binary_name, scale, seed) if exists and not recompute else None
if binary and (found is None or (binary_samples or 0) > len(found)):
    found = abc.find_unattributable(abc.get_ensemble(abc.get_recipe(binary, scale), device=device, recompute=recompute), binary_samples or 512, seed)
lines = [result.origin()]
if found is not None:
    made, code = found.artefact.provenance, abc.get_recipe(binary_name, scale).code
    lines.append(
        f"**{binary_name}**, scale *{scale}*: {abc.get_recipe(binary_name, scale).data.size:,} black and white images in {found.num_sources} random groups, "
        f"{code.n} members of weight {code.weight}. {len(found):,} samples, computed on {made['hardware']} ({made['time'][:10]}, commit {made['commit']})."
    )
display(Markdown("\n\n".join(lines)))

# %% tags=["hide-input"]
command = f"papermill notebooks/05_unattributable.ipynb out.ipynb -p dataset {dataset}" + ("" if scale == "laptop" else f" -p scale {scale}")
lines = [f"> **Run this page:** `{command}`"]
if found is None and exists:
    lines += [">", f"> **Black and white samples** ({binary_name}): no results at hand; `-p binary {binary_name}` trains its members and looks for them."]
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## Truly unattributable samples
#
# An ensemble that was trained on black and white images draws black and white samples: a threshold at one half is the last step of its sampler. Now a counterfactual can equal its sample pixel for pixel. The data sources are 190 random groups of images, and of 20 members each source takes only two, so that a member sees about a tenth of the data and a counterfactual keeps eighteen.
#
# Whether two samples are equal must not hang on the machine. Before the threshold a pixel is known to about 10⁻⁵ in single precision; where one comes within 10⁻³ of the threshold, both trajectories are computed again in double precision. Samples are dropped as soon as one counterfactual differs, so that most cost a few counterfactuals and not 190.

# %% mystnb={"image": {"alt": "Black and white samples that equal every one of their counterfactuals."}} tags=["hide-input"]
if found is None:
    display(Markdown("No results at hand; see *Run this page* above."))
else:
    low, high = found.interval()
    spared = 1 - found.artefact.info["counterfactuals"] / (len(found) * found.num_sources)
    display(Markdown(
        f"**{len(found.indices):,} of {len(found):,} samples ({len(found.indices) / len(found):.2%}; 95% interval {low:.2%} to {high:.2%}) equal all {found.num_sources} of their "
        f"counterfactuals.** The paper found 14 of 3,731 (0.38%) for MNIST"
        + (", whose images have sixteen times as many pixels to differ in. " if family == "digits" else ". ")
        + f"{int(found.undecided.sum())} samples could not be decided. "
        f"{found.artefact.info['counterfactuals']:,} counterfactuals were computed, {spared:.0%} fewer than there are; {found.artefact.info['in_float64']:,} of them again in double precision."))
    if len(found.indices):
        chosen = found.indices[:24]
        abc.figures.image_grid(found.factual[chosen], [f"#{i}" for i in chosen])
        plt.show()

# %% mystnb={"image": {"alt": "Black and white samples that some counterfactual changes."}} tags=["hide-input"]
if found is not None:
    display(Markdown("For comparison, samples of the same ensemble that some counterfactual changes:"))
    refuted = np.flatnonzero(found.witness >= 0)[:8]
    abc.figures.image_grid(found.factual[refuted], [f"#{i}" for i in refuted])
    plt.show()
    late = np.bincount(found.tested[found.witness >= 0], minlength=found.num_sources + 1)
    gone = np.cumsum(late) / max(1, late.sum())
    display(Markdown(f"Of the samples that some counterfactual changes, {gone[1]:.0%} are changed by the first that is tried, {gone[8]:.0%} by one of the first eight."))

# %% mystnb={"image": {"alt": "Histogram of the counterfactual radii of black and white samples, zero among them."}} tags=["hide-input"]
discrete = abc.stored_landscapes(binary_name, scale) if exists else None
if discrete is not None:
    figure, ax = plt.subplots(figsize=(6.4, 3))
    ax.hist(discrete.radii, bins=16, color=abc.figures.OURS, alpha=0.8)
    ax.set(xlabel=abc.figures.RADIUS_LABEL, ylabel="samples", title=f"{binary_name}: {len(discrete)} samples, {int((discrete.radii == 0).sum())} with radius 0")
    plt.show()
    display(Markdown(abc.landscapes_origin(discrete)))

# %% [markdown]
# ## What does a radius look like?
#
# Samples of the continuous ensemble from the smallest radius to the largest, each with its farthest counterfactual: the image that comes out when the one source is missing that matters most (figure 6 of the paper, bottom). Where would you put τ?

# %% mystnb={"image": {"alt": "Samples from the smallest radius to the largest, each with its farthest counterfactual and the training image removed."}} tags=["hide-input"]
order = np.argsort(landscapes.radii)
rows = order[np.unique(np.linspace(0, len(order) - 1, min(6, len(order))).round().astype(int))]
abc.figures.radius_gallery(landscapes, rows)
plt.show()

# %% [markdown]
# The share of samples below each τ, for every ensemble of the family whose landscapes are at hand. As training sets grow, curves move to the left: more samples depend on no single source.

# %% mystnb={"image": {"alt": "The share of samples with a radius below tau against tau, a curve an ensemble."}} tags=["hide-input"]
radii = abc.family_radii(dataset, scale)
radii[dataset] = landscapes.radii
radii = {name: radii[name] for name in abc.family_of(dataset, scale) if name in radii}
figure, ax = plt.subplots(figsize=(6.8, 4))
abc.figures.below_threshold(radii, ax)
plt.show()
table = pd.DataFrame([
    {"ensemble": name, "images": abc.get_recipe(name, scale).data.size, "samples": len(values)} | {f"τ = {tau:g}": (values < tau).mean() for tau in thresholds}
    for name, values in radii.items()])
display(abc.figures.table(table, {"images": "{:,}"} | {f"τ = {tau:g}": "{:.0%}" for tau in thresholds}))

# %% [markdown]
# ### By another metric
#
# The threshold depends on the metric. The same samples, measured by the distance between the features of the classifier that was trained here: of each sample the eight counterfactuals that lie farthest in Euclidean distance were kept, and the largest feature distance among them is shown. The radius in this metric is at least that.

# %% mystnb={"image": {"alt": "The same shares with distances between features of a classifier."}} tags=["hide-input"]
metrics = abc.family_metrics(family, device="cpu")
others = [metric for metric in metrics if metric.name != "euclidean"]
if others:
    figure, axes = plt.subplots(len(others), 1, figsize=(6.8, 4 * len(others)), squeeze=False)
    at_hand = {name: abc.stored_landscapes(name, scale) for name in radii}
    for ax, metric in zip(axes.flat, others):
        abc.figures.below_threshold({name: abc.kept_radii(each, metric) for name, each in at_hand.items() if each is not None}, ax,
                                    f"{metric.label}, farthest of those kept")
    plt.show()
else:
    display(Markdown("Only the Euclidean metric is at hand here."))

# %% [markdown]
# ## A certificate
#
# A claim about a sample should not have to be believed. A **certificate** is a file with everything that it takes to check one: recipe, code, hashes of the members, noise, and for each source the distance of the counterfactual without it. Below τ, it states that the sample is nearly unattributable. Whoever gets it can have any part made again:
#
# ```
# python -m abc_lib certify digits_1024 --sample 0 --tau 40 -o certificate.json
# python -m abc_lib verify certificate.json
# ```
#
# Here is the sample with the smallest radius on this page, certified and checked just now for four of its counterfactuals, drawn at random.

# %% tags=["hide-input"]
row = int(landscapes.radii.argmin())
tau = float(np.ceil(landscapes.radii[row] + 1))
certificate = abc.make_certificate(ensemble, landscapes, int(landscapes.indices[row]), tau)
report = abc.verify_certificate(certificate, 4, device=device, progress=False)
display(Markdown(f"> {certificate.content['statement']}"))
print(report)

# %% [markdown]
# ## Several sources at once
#
# Remove k sources together, and every member that saw any of them goes. Which sets can be removed is a matter of the code. A code of weight w promises that k sources leave a member where k·w < n, whatever the codewords: it is *k-cover-free* there. The usual codes of weight n/2 promise k = 1 and nothing more; what else can be removed is luck. A light code such as weight 2 of 20 promises nine, at the price of members that each see a tenth of the data. A whole class of images, some hundred sources, is out of reach of both; {doc}`ensembles whose sources are classes <01_abc_vs_rbc>` are made for that.

# %% tags=["hide-input"]
names = [dataset] + ([binary_name] if found is not None else []) + [name for name in (f"{family}_classes",) if name in abc.recipe_names()]
lines = []
for name in names:
    book = abc.draw_codebook(abc.get_recipe(name, scale))
    sizes = [k for k in (1, 2, 3, 4, 5, 6, 9, 10, 12, 102) if k <= book.num_sources]
    for each in abc.survivor_table(book, sizes).to_dict("records"):
        if each["k"] <= 4 or each["removable"] > 0 or each["k"] == sizes[-1]:
            lines.append({"code of": name, "sources": book.num_sources, "n": book.n, "weight": book.weight, "promised k": abc.promised_k(book.n, book.weight), **each})
table = pd.DataFrame(lines).rename(columns={"removable": "sets with a survivor", "least": "members left: least", "mean": "mean", "most": "most"})
display(abc.figures.table(table, {"sources": "{:,}", "sets with a survivor": "{:.1%}", "mean": "{:.1f}"}))

# %% [markdown]
# How far do samples move? For each k, random sets of k sources that leave at least one member; the same samples and sets throughout. Two things grow with k: what is taken away, and how few members are left to take a mean of.

# %% mystnb={"image": {"alt": "Distance to the sample against how many sources are removed at once: mean of the sets and farthest of them."}} tags=["hide-input"]
removals = {}
for name in names[:2]:
    stored = None if recompute else abc.stored_removals(name, scale, seed)
    if stored is None and name == dataset:
        stored = abc.compute_removals(ensemble, landscapes.indices[:8], abc.removal_sets(ensemble, 16), seed)
    if stored is not None:
        removals[name] = stored
tables = {name: each.by_size() for name, each in removals.items()}
abc.figures.removal_growth({f"{name}: {len(removals[name].indices)} samples": each for name, each in tables.items()})
plt.show()
for name, each in tables.items():
    made, last = removals[name].artefact, each.iloc[-1]
    display(Markdown(
        f"**{name}:** from k = 1 to k = {last['k']:.0f} the mean distance goes from {each.iloc[0]['mean']:.1f} to {last['mean']:.1f}, that of the farthest of "
        f"{' to '.join(dict.fromkeys(str(int(each['sets'].agg(f))) for f in ('min', 'max')))} sets from {each.iloc[0]['radius']:.1f} to {last['radius']:.1f}; bars are 95% intervals over samples. "
        f"{'Published with this repository' if made.published else 'From this machine'}, computed on {made.provenance['hardware']} ({made.provenance['time'][:10]}, commit {made.provenance['commit']})."))

# %% [markdown]
# ## Look for yourself
#
# The {doc}`gallery <gallery>` shows samples with what they are attributed to and whole landscapes; in the {doc}`explorer <explorer>` any training image can be taken away.
