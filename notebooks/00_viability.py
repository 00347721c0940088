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
# # Is an ensemble a good generative model?
#
# An ensemble whose members each saw half of the data is an odd thing to sample from: at every step the members' predictions are averaged, though no member was ever trained to be averaged. Before anything is said about counterfactuals, this page checks that such an ensemble draws what a single model draws (section 3.1 and appendix C.1 of the paper {cite}`dai2024ablation`), that it still does when members are switched off, and that its samples are not copies.

# %% tags=["parameters"]
dataset = "digits_1024"  # an ensemble of the registry
count = None  # samples for each FID; None takes the most that are at hand, or computes 1,024
shown = 6  # how many samples to show
compared = 256  # how many samples are held against their nearest training images
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
recipe = abc.get_recipe(dataset, scale)
data, family = recipe.data, recipe.data.family
ensemble = abc.get_ensemble(recipe, device=device, recompute=recompute)
stored = [] if recompute else [each for name in abc.family_of(dataset, scale) for each in abc.stored_fids(name, scale)]
count = count or max((each.fid.count for each in stored if each.name == dataset and each.removed == 0), default=1024)
own = {which: abc.compute_fid(ensemble, which, count, seed=seed, recompute=recompute) for which in ("ensemble", "single", "member")}
features = own["ensemble"].fid.features
stored = [each for each in stored if each.fid.features == features]
removed = sorted((each for each in stored if each.name == dataset and each.which == "ensemble"), key=lambda each: each.removed)
display(Markdown(
    f"**{dataset}**, scale *{scale}*: {data.size:,} images; {ensemble.n} members of weight {recipe.code.weight}, {recipe.training.steps:,} training "
    f"steps of batch {recipe.training.batch_size}. FIDs stand on the features of {'the ' if 'classifier' in features else ''}**{features}** and "
    f"compare {count:,} samples with {own['ensemble'].fid.reference_count:,} images ({own['ensemble'].reference}). " + abc.fids_origin([*own.values(), *stored])
))

# %% tags=["hide-input"]
command = f"papermill notebooks/00_viability.ipynb out.ipynb -p dataset {dataset}" + ("" if scale == "laptop" else f" -p scale {scale}")
display(Markdown(f"> **Run this page:** `{command}`"))

# %% [markdown]
# ## Four ways to draw from the same noise
#
# Every column starts from one exogenous noise. The ensemble; the ensemble without the members that saw the source of the nearest training image, which is a counterfactual; a single model trained on everything; one member alone, which saw half of the data. Below them, framed, the training image nearest to the ensemble's sample, with its Euclidean distance (images scaled to 3×256×256). Where the rows agree, the noise decides what is drawn, together with what all training sets have in common; where they differ, it is which images were trained on.

# %% mystnb={"image": {"alt": "Rows of samples from the same noise: by the ensemble, by the ensemble without one source's members, by a single model, by one member; below, the nearest training images."}} tags=["hide-input"]
images = abc.training_set(data)
noise = ensemble.draw_noise(seed, range(shown))
single = abc.single_model(recipe, device=device)
whole = ensemble.sample(noise)
visual = abc.visual_distances(whole, images)
nearest = abc.top_visual(visual)[:, 0]
rows = {
    "ensemble": whole,
    "without the\nnearest source": ensemble.sample(noise, ensemble.codebook.leave_one_out(nearest)),
    "single model": single.sample(noise, abc.member_weights(ensemble.n, "single")),
    "one member": ensemble.sample(noise, abc.member_weights(ensemble.n, "member")),
    "nearest\ntraining image": images.images[[abc.attributed_image(images, int(source), x) for source, x in zip(nearest, whole)]],
}
abc.figures.image_rows(rows, [f"#{i}" for i in range(shown)], [f"{d:.1f}" for d in visual.min(axis=1)], framed=["nearest\ntraining image"])
plt.show()

# %% [markdown]
# ## The Fréchet distance
#
# Table 3 of the paper and the right panel of its figure 2: the distance between the distribution of samples and that of images that trained nothing, for the ensemble, for a single model trained on the same data, and for one member. Lower is better. The paper's numbers stand on the features of Inception v3. Where the text above names other features, ours compare our own models with one another: the *order* of the three can be held against the paper's, the numbers cannot.

# %% tags=["hide-input"]
table = abc.fid_table([*own.values(), *stored]).dropna(subset=["fid_ensemble"])
names = {"name": "trained on", "fid_ensemble": "ensemble", "fid_single": "single model", "fid_member": "one member",
         "paper_ensemble": "paper: ensemble", "paper_single": "paper: single model", "paper_member": "paper: one member"}
named = table.rename(columns=names).dropna(axis="columns", how="all").drop(columns="features")
display(abc.figures.table(named, {"images": "{:,}", "samples": "{:,}"} | {column: lambda value: "" if np.isnan(value) else f"{value:.2f}" for column in named.columns[3:]}))

# %% mystnb={"image": {"alt": "FID against training set size for ensemble, single model and one member: ours on the left, the paper's on the right."}} tags=["hide-input"]
per_count = table.groupby("samples").size()
common = max(per_count.index, key=lambda samples: (per_count[samples], samples))  # a distance falls with the number of samples, so a curve takes one number
ours = table[table["samples"] == common].rename(columns={f"fid_{which}": which for which in own})
theirs = "mnist" if family == "digits" else family
panels = {f"{features},\n{common:,} samples": ours}
if len(curve := abc.paper_fid_curve(theirs)):
    panels[f"paper, {theirs}: Inception v3,\n10,240 samples"] = curve
abc.figures.fid_curves(panels)
plt.show()
words = {"ensemble": "ensemble", "single": "single model", "member": "one member"}
inline = lambda values: " < ".join(f"{words[which]} {values[which]:.2f}" for which in sorted(words, key=values.get))  # noqa: E731
text = f"**{dataset}**, {count:,} samples, best first: {inline({which: each.value for which, each in own.items()})}."
if len(rows := table[(table["name"] == dataset) & table["paper_ensemble"].notna()]):
    text += f" The paper's order: {inline({which: rows.iloc[0][f'paper_{which}'] for which in words})}."
display(Markdown(text))

# %% [markdown]
# ## How many members can go?
#
# A counterfactual is drawn from what is left of an ensemble: without one data source, about half of the members. Does that cost quality? The members below were taken out in one random order, so each ensemble contains the next.

# %% mystnb={"image": {"alt": "FID of the ensemble against the number of members removed, with the single model's FID as a line; then samples with none, some and all but one of the members removed."}} tags=["hide-input"]
at_count = {}
for each in removed:
    at_count.setdefault(each.fid.count, {})[each.removed] = each
fullest = max(at_count, key=lambda c: (len(at_count[c]), c), default=None)
series = at_count.get(fullest, {})
if len(series) < 3:
    fullest, steps = min(count, 512), sorted({0, 1, ensemble.n // 4, ensemble.n - recipe.code.weight, 3 * ensemble.n // 4, ensemble.n - 1})
    options = {"count": fullest, "seed": seed, "recompute": recompute}
    series = {k: abc.compute_fid(ensemble, removed=k, **options) for k in steps}
others = {f"single model: {each.value:.2f}": each.value for each in [own["single"], *stored] if each.name == dataset and each.which == "single" and each.fid.count == fullest}
figure, ax = plt.subplots(figsize=(6.2, 3.6))
abc.figures.removal_curve(list(series), [each.value for each in series.values()], recipe.code.weight, ax, others)
ax.set_ylabel(f"FID ({features}, {fullest:,} samples)")
plt.show()
strip = {f"{k} removed": series[k].images[:shown] for k in series if k in (0, recipe.code.weight, ensemble.n - 1)}
if all(len(x) == shown for x in strip.values()):
    abc.figures.image_rows(strip, [f"#{i}" for i in range(shown)])
    plt.show()

# %% [markdown]
# ## Are the samples copies?
#
# If a model repeated its training images, attribution would be a search for the nearest one. Below, how far samples lie from the nearest training image, and how far *real* images that the model never saw lie from it. A sample is no copy if it is about as far from the training set as new images are.

# %% mystnb={"image": {"alt": "Violins of the distance to the nearest training image, for unseen real images and for samples of ensemble, single model and one member."}} tags=["hide-input"]
noise = ensemble.draw_noise(seed, range(compared))
unseen, origin = abc.unseen_images(data, compared, seed)
drawn = {
    "real, unseen": unseen,
    "ensemble": ensemble.sample(noise),
    "single model": single.sample(noise, abc.member_weights(ensemble.n, "single")),
    "one member": ensemble.sample(noise, abc.member_weights(ensemble.n, "member")),
}
distances = {name: abc.visual_distances(x, images).min(axis=1) for name, x in drawn.items()}
figure, ax = plt.subplots(figsize=(7, 3.2))
abc.figures.violins(distances, ax, "Euclidean distance to the nearest training image (3×256×256)", "real, unseen")
plt.show()
lines = [f"| {name} | {np.median(d):.1f} | {d.min():.1f} | {np.mean(d < np.quantile(distances['real, unseen'], 0.05)):.0%} |" for name, d in distances.items()]
display(Markdown(f"{compared} images of each kind; unseen real images from {origin}.\n\n| | median | least | nearer than 95% of unseen images are |\n|---|---|---|---|\n" + "\n".join(lines)))

# %% [markdown]
# ## What the numbers rest on: classifiers and autoencoders
#
# The classifiers of appendix B.5, whose features the distances above stand on where Inception's weights are not at hand, and which count classes on the page about {doc}`retraining <01_abc_vs_rbc>`. They are trained on images that no ensemble of their family saw. The adversary (PGD, Euclidean) moves an image by at most the radius.

# %% tags=["hide-input"]
classifiers = abc.classifier_table().rename(columns={
    "training_images": "trained on", "validation_images": "on images", "adversarial_accuracy": "attacked", "attacked_images": "on images ",
    "paper_accuracy": "paper: accuracy", "paper_adversarial_accuracy": "paper: attacked"})
percent = lambda value: "" if np.isnan(value) else f"{value:.1%}"  # noqa: E731
display(abc.figures.table(classifiers, {"accuracy": percent, "attacked": percent, "paper: accuracy": percent, "paper: attacked": percent,
                                        "radius": "{:g}", "trained on": "{:,}", "on images": "{:,}", "on images ": "{:,}"}))

# %% [markdown]
# Ensembles of CelebA, MetFaces and ArtBench live in the latents of an autoencoder (B.1, B.4). Their images cannot be had everywhere, so the latent path is shown on MNIST: the basic autoencoder of appendix B.4, fitted to one channel and trained on the split that no ensemble sees, and an ensemble in its latents. Distances are always those of decoded images.

# %% mystnb={"image": {"alt": "Samples of an ensemble that lives in latents, of its single model and of one of its members."}} tags=["hide-input"]
latent = {name: fids for name in abc.recipe_names() if abc.get_recipe(name, scale).data.space != "pixel" and (fids := abc.stored_fids(name, scale))}
for name, fids in latent.items():
    most = max(each.fid.count for each in fids)
    fids = {each.which: each for each in fids if each.fid.count == most and each.removed == 0}
    autoencoder = abc.get_autoencoder(abc.get_recipe(name, scale), abc.Store())
    info = autoencoder.artefact.info if autoencoder.artefact else {}
    display(Markdown(
        f"**{name}**, scale *{scale}*: {abc.get_recipe(name, scale).data.size:,} images, states of shape {'×'.join(map(str, abc.state_shape(abc.get_recipe(name, scale).data)))}. "
        + (f"The autoencoder returns images with a root mean squared error of {info['rmse']:.4f} on pixels in [0, 1] ({info['images']:,} images, {info['origin']}). " if info else "")
        + f"FIDs of {most:,} samples ({next(iter(fids.values())).fid.features}): " + ", ".join(f"{which} {each.value:.2f}" for which, each in fids.items()) + ". " + abc.fids_origin(list(fids.values()))))
    abc.figures.image_rows({{"single": "single model", "member": "one member"}.get(which, which): each.images[:shown] for which, each in fids.items()}, [f"#{i}" for i in range(shown)])
    plt.show()
if not latent:
    display(Markdown("No results of a latent ensemble are at hand; `python -m abc_lib publish mnist_ba_256` computes them."))
