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
# # A landscape from one derivative
#
# An ensemble predicts noise as $f \cdot c = \sum_i f_i c_i / n$, and removing a data source is a choice of the weights $c$. So a sample is a function of $c$, and near the whole ensemble, $c = u = (1, \dots, 1)$, that function has a derivative. **Differential ablation** (section 2.4 of the paper {cite}`dai2024ablation`) is its first-order expansion,
#
# $$\mathcal{G}(f \cdot c, \varepsilon) \approx \mathcal{G}(f \cdot u, \varepsilon) + J\,(c - u),$$
#
# where column $i$ of the Jacobian $J$ says how each pixel of the finished image would change if member $i$ counted for a little more. It takes one pass through the sampler with $n$ tangents, and then all $N$ counterfactuals of the sample are one matrix product.
#
# This page asks how good the prediction is (appendix C.2, figure 8), what it attributes samples to (section 3.3, figure 4), and two things that the paper does not ask: how few exact counterfactuals it takes to find the radius when the prediction says where to look, and how far tangents can carry a counterfactual before it has to be computed.

# %% tags=["parameters"]
dataset = "digits_1024"  # an ensemble of the registry
num_samples = None  # how many samples with full landscapes; None takes all that are at hand, or computes 12
num_jacobians = None  # how many samples to attribute; None takes all Jacobians at hand, or those of the landscapes
compare_samples = 2  # how many samples to compare pixel by pixel if nothing is at hand
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
ensemble, landscapes, steps = result.ensemble, result.landscapes, result.recipe.sampling.steps
stored = None if recompute else abc.stored_jacobians(dataset, scale)
wanted = set(landscapes.indices.tolist()) | set(range(num_jacobians or 0))
if num_jacobians is None and stored is not None and stored.seed == seed:
    wanted |= set(stored.indices.tolist())
jacobians = abc.get_jacobians(ensemble, sorted(wanted), seed, recompute=recompute)
both = abc.predictions(landscapes, jacobians, ensemble.codebook)
display(Markdown(result.origin() + " " + abc.jacobians_origin(jacobians)))

# %% tags=["hide-input"]
command = f"papermill notebooks/04_differential.ipynb out.ipynb -p dataset {dataset}" + ("" if scale == "laptop" else f" -p scale {scale}")
display(Markdown(f"> **Run this page:** `{command}`"))

# %% [markdown]
# ## A Jacobian
#
# One sample and the columns of its Jacobian, an image for each member: where more weight on that member would make the sample brighter (purple) or darker (orange).

# %% mystnb={"image": {"alt": "The derivative of a sample by the weight of each member, as images from blue to red."}} tags=["hide-input"]
fit = abc.rank_correlations(both.predicted, both.exact)
row = int(np.argsort(fit)[len(fit) // 2])  # the sample that is predicted as well as the median one
position = int(np.flatnonzero(jacobians.indices == both.indices[row])[0])
abc.figures.jacobian_images(jacobians.factual[position], jacobians.jacobians[position])
plt.show()

# %% [markdown]
# ## Predicted and exact counterfactuals
#
# The same sample without some of its sources, from the farthest counterfactual to the nearest: sampled anew by the members that are left, and predicted by the product of the Jacobian and the change of weights. The number is the distance to the sample.

# %% mystnb={"image": {"alt": "A sample, its exact counterfactuals, and those predicted from the derivative."}} tags=["hide-input"]
ranked = np.argsort(-both.exact[row], kind="stable")
sources = ranked[np.unique(np.linspace(0, len(ranked) - 1, min(6, len(ranked))).round().astype(int))]
exact = abc.counterfactuals(ensemble, landscapes, int(np.flatnonzero(landscapes.indices == both.indices[row])[0]), sources)
predicted = jacobians.predict(position, ensemble.codebook.leave_one_out(sources)).clamp(0, 1)
abc.figures.image_rows(
    {"sample": jacobians.factual[position].expand(len(sources), -1, -1, -1), "exact": exact, "predicted": predicted},
    [f"−{source}" for source in sources],
    [f"{a:.1f}\n(pred. {b:.1f})" for a, b in zip(both.exact[row, sources], both.predicted[row, sources])],
)
plt.show()

# %% mystnb={"image": {"alt": "Predicted against exact distances of all counterfactuals of one sample."}} tags=["hide-input"]
figure, ax = plt.subplots(figsize=(4.4, 4.2))
abc.figures.predicted_distances(both.predicted[row], both.exact[row], ax)
ax.set_title(f"{dataset}, sample {both.indices[row]}: rank correlation {fit[row]:.3f}")
plt.show()

# %% [markdown]
# ## Does it put the counterfactuals in the right order?
#
# Spearman's rank correlation of predicted and exact distances over all sources, one dot a sample, for every ensemble whose landscapes and Jacobians are at hand (figure 8, top).

# %% mystnb={"image": {"alt": "Strips of the rank correlation of predicted and exact distances, an ensemble a strip."}} tags=["hide-input"]
everything = abc.stored_predictions(scale) | {dataset: both}
everything = {name: everything[name] for name in abc.recipe_names() if name in everything}
fits = {name: abc.rank_correlations(each.predicted, each.exact) for name, each in everything.items()}
figure, ax = plt.subplots(figsize=(6.6, 1.1 + 0.5 * len(fits)))
abc.figures.strips(fits, ax, "rank correlation of predicted and exact distances", dataset)
plt.show()
ratio = {name: np.median(each.predicted / each.exact) for name, each in everything.items() if (each.exact > 0).all()}
table = pd.DataFrame(
    [(name, each.exact.shape[1], len(fits[name]), float(np.nanmedian(fits[name])), float(np.nanmin(fits[name])), ratio.get(name, float("nan")))
     for name, each in everything.items()],
    columns=["ensemble", "sources", "samples", "median rank correlation", "lowest", "median predicted / exact distance"],
)
display(abc.figures.table(table, {"sources": "{:,}", "median rank correlation": "{:.3f}", "lowest": "{:.3f}",
                                  "median predicted / exact distance": "{:.2f}"}))

# %% [markdown]
# ## Does it change the right pixels?
#
# For each counterfactual: the correlation, over pixels, of the change that really happened and the change that was predicted (figure 8, bottom).

# %% mystnb={"image": {"alt": "Violins of the pixel correlation of predicted and exact change, an ensemble a violin."}} tags=["hide-input"]
compared = {name: abc.stored_comparisons(name, scale) for name in everything}
if not compared[dataset] or recompute:
    compared[dataset] = [abc.compare_counterfactuals(ensemble, landscapes.indices[:compare_samples], seed=seed, recompute=recompute)]
compared = {name: found for name, found in compared.items() if found}
pixels = {name: np.concatenate([each.pixel_correlations.reshape(-1) for each in found]) for name, found in compared.items()}
figure, ax = plt.subplots(figsize=(6.6, 1.1 + 0.6 * len(pixels)))
abc.figures.violins(pixels, ax, "correlation of exact and predicted change over pixels", dataset)
plt.show()
table = pd.DataFrame(
    [(name, sum(map(len, compared[name])), len(values), float(np.nanmedian(values)), float(np.nanmean(values > 0.9)), int(np.isnan(values).sum()))
     for name, values in pixels.items()],
    columns=["ensemble", "samples", "counterfactuals", "median correlation", "above 0.9", "without any change"],
)
display(abc.figures.table(table, {"counterfactuals": "{:,}", "median correlation": "{:.3f}", "above 0.9": "{:.0%}"}))
display(Markdown(abc.comparisons_origin(compared[dataset])))

# %% tags=["hide-input"]
medians = {name: float(np.nanmedian(values)) for name, values in fits.items()}
sets = {name: abc.get_recipe(name, scale).data.size for name in medians}
family = [name for name in abc.family_of(dataset, scale) if name in medians]
lines = [f"In the median sample of {dataset} the rank correlation is {medians[dataset]:.3f}, in its median counterfactual the correlation over "
         f"pixels {float(np.nanmedian(pixels[dataset])):.3f}."]
if len(family) > 1:
    better = medians[family[-1]] > medians[family[0]]
    lines.append(
        f"The prediction is {'better' if better else 'not better'} for the largest training set of the family than for the smallest "
        f"({medians[family[-1]]:.3f} for {family[-1]}, {medians[family[0]]:.3f} for {family[0]})"
        + (": where radii are smaller, counterfactuals lie closer to the sample, and a straight line goes less wrong." if better else ".")
    )
display(Markdown(" ".join(lines)))

# %% [markdown]
# ## What it attributes samples to
#
# Section 3.3 attributes each sample to the source whose predicted counterfactual lies farthest. Here are samples beside the training image of that source, with its **visual similarity rank**: 0 if no source has an image that looks more like the sample, 1 if every other one has.

# %% mystnb={"image": {"alt": "Samples and the training images that differential ablation attributes them to."}} tags=["hide-input"]
images = abc.training_set(result.recipe.data)
landscape = jacobians.landscape(ensemble.codebook)
top = abc.top_counterfactual(landscape)[:, 0]
visual = abc.visual_distances(jacobians.factual, images)
similarity = abc.visual_similarity_ranks(visual, top)
rows = np.unique(np.linspace(0, len(jacobians) - 1, min(6, len(jacobians))).round().astype(int))
shown = [abc.attributed_image(images, int(top[each]), jacobians.factual[each]) for each in rows]
abc.figures.image_rows(
    {"sample": jacobians.factual[rows], "attributed\ntraining image": images.images[shown]},
    [f"#{jacobians.indices[each]}" for each in rows], [f"rank {similarity[each]:.2f}" for each in rows], framed=["attributed\ntraining image"],
)
plt.show()

# %% [markdown]
# The same rank for all samples with a Jacobian, across the family (figure 4). The dashed line is where ranks would centre if the attributed image looked like any other.

# %% mystnb={"image": {"alt": "Violins of the visual similarity rank of the attributed source, by training set size."}} tags=["hide-input"]
groups = {}
for name in abc.family_of(dataset, scale):
    found = jacobians if name == dataset else abc.stored_jacobians(name, scale)
    if found is not None:
        recipe = abc.get_recipe(name, scale)
        chosen = abc.top_counterfactual(found.landscape(abc.draw_codebook(recipe)))[:, 0]
        groups[name] = abc.visual_similarity_ranks(abc.visual_distances(found.factual, abc.training_set(recipe.data)), chosen)
figure, ax = plt.subplots(figsize=(6.6, 1.1 + 0.6 * len(groups)))
abc.figures.violins(groups, ax, "visual similarity rank of the attributed source (0: most similar)", dataset, 0.5)
plt.show()
table = pd.DataFrame(
    [(name, len(values), float(np.median(values)), float(np.mean(values)), float(np.mean(values <= 0.1)), float(np.mean(values == 0)))
     for name, values in groups.items()],
    columns=["ensemble", "samples", "median rank", "mean rank", "rank 0.1 or less", "the most similar of all"],
)
display(abc.figures.table(table, {"median rank": "{:.2f}", "mean rank": "{:.2f}", "rank 0.1 or less": "{:.0%}", "the most similar of all": "{:.0%}"}))

# %% [markdown]
# By chance one sample in ten would have a rank of 0.1 or less. In the paper attributed images look similar where training sets are small, and less so the larger they get; [the digits](04_differential) show the same.

# %% [markdown]
# ## The radius from a few exact counterfactuals
#
# The radius is one number, the largest of $N$ distances, and the prediction says where to look for it. So rank the sources by predicted distance, compute only the first $k$ counterfactuals exactly, and take the largest: this **screened radius** can only be too small, and is the radius when $k = N$. Below, against $k$, on landscapes that are known in full.

# %% mystnb={"image": {"alt": "How much of the radius is found against how many counterfactuals are computed exactly."}} tags=["hide-input"]
bounds = {name: abc.screening_bounds(each.predicted, each.exact) for name, each in everything.items()}
figure, ax = plt.subplots(figsize=(6.4, 4))
abc.figures.screening_curves({name: each / each[:, -1:] for name, each in bounds.items() if (each[:, -1] > 0).all()}, ax)
plt.show()
sizes = {name: [abc.screening_sizes(each.predicted, each.exact, share) for share in (0.9, 0.99, 1.0)] for name, each in everything.items()}
table = pd.DataFrame(
    [(name, each.exact.shape[1], len(each.indices), *(f"{np.median(k):.0f} ({k.max()})" for k in sizes[name]),
      float(np.mean(bounds[name][:, max(1, each.exact.shape[1] // 20) - 1] / bounds[name][:, -1])))
     for name, each in everything.items()],
    columns=["ensemble", "N", "samples", "k for 90%", "for 99%", "for 100%", "mean share at k = N / 20"],
)
display(abc.figures.table(table, {"N": "{:,}", "mean share at k = N / 20": "{:.2%}"}))
display(Markdown("Medians over samples, the most that any sample needed in brackets."))

# %% [markdown]
# Done now, for samples of which no landscape was ever computed, with the members at hand: the bound from 1, 4 and 16 exact counterfactuals.

# %% tags=["hide-input"]
unknown = [index for index in jacobians.indices if index not in set(landscapes.indices.tolist())][:6]
some = jacobians.only(unknown or landscapes.indices[:6])
k = min(16, ensemble.codebook.num_sources)
screened = abc.screened_radius(ensemble, some, k, progress=False)
table = pd.DataFrame(
    [(int(index), float(distances[0]), float(distances[: min(4, k)].max()), float(distances.max()), int(sources[distances.argmax()]))
     for index, sources, distances in zip(screened.indices, screened.sources, screened.distances)],
    columns=["sample", "k = 1", f"k = {min(4, k)}", f"k = {k}", "farthest source so far"],
)
display(abc.figures.table(table, dict.fromkeys(table.columns[1:4], "{:.2f}")))

# %% [markdown]
# ## How far tangents can carry a counterfactual
#
# A sampler starts in noise. Early on, all counterfactuals of a sample are nearly in the same place, and the straight-line prediction is nearly exact; they part late. So let the tangents carry all of them through the first $j$ steps, put each counterfactual where the tangents say it is, and compute only the remaining steps for each. At $j = 0$ such a **hybrid landscape** is the exact one.

# %% mystnb={"image": {"alt": "Errors of hybrid landscapes and of their radii against the number of steps that tangents carry."}} tags=["hide-input"]
hybrids = {name: each for name, found in compared.items() for each in found if len(each.switches)}
if hybrids:
    figure, axes = plt.subplots(2, 1, figsize=(6.4, 7.4))
    abc.figures.hybrid_errors({name: (each.switches, (each.errors / each.exact).reshape(len(each.switches), -1)) for name, each in hybrids.items()},
                              axes[0], "error / exact distance, every counterfactual", steps)
    radius = {name: np.abs(each.hybrid.max(axis=2) / each.exact.max(axis=1) - 1) for name, each in hybrids.items()}
    abc.figures.hybrid_errors({name: (each.switches, radius[name]) for name, each in hybrids.items()}, axes[1], "error / radius, every sample", steps)
    plt.show()
    found = []
    for name, each in hybrids.items():
        relative, off = each.errors / each.exact, np.abs(each.hybrid.max(axis=2) / each.exact.max(axis=1) - 1)
        found += [(name, int(j), float(each.costs[k]), float(np.median(relative[k])), float(np.quantile(relative[k], 0.95)), float(relative[k].max()),
                   float(off[k].max())) for k, j in enumerate(each.switches)]
    table = pd.DataFrame(found, columns=["ensemble", "j", "cost", "median error", "95% below", "largest error", "largest error of a radius"])
    worth = table[table.j.isin([steps * 4 // 10, steps // 2, steps * 6 // 10, steps * 8 // 10, steps])]
    display(abc.figures.table(worth, {"cost": "{:.0%}", **dict.fromkeys(table.columns[3:], "{:.2%}")}))
    display(Markdown(
        "The error of a counterfactual is its distance to the exact one, as a share of the exact one's distance to the sample. *Cost* counts network "
        "evaluations, a tangent as one, as a share of those of the exact landscape. " + abc.comparisons_origin(list(hybrids.values()))
    ))
else:
    display(Markdown("No hybrid landscapes are at hand at this scale; `abc.compare_counterfactuals(..., switches=[...])` computes them."))

# %% tags=["hide-input"]
if hybrids:
    lines, worst = [], {}
    for j in (steps * 4 // 10, steps // 2):
        at = table[table.j == j]
        if len(at):
            worst[j] = float(at["largest error"].max())
            lines.append(f"Carried through {j} of the {steps} steps, no counterfactual of any of these ensembles is off by more than {worst[j]:.1%} of "
                         f"its distance and no radius by more than {float(at['largest error of a radius'].max()):.2%}, at "
                         f"{float(at['cost'].min()):.0%} to {float(at['cost'].max()):.0%} of the cost.")
    if worst:
        pays = min(worst.values()) < 0.01
        lines.append(
            f"So it is an option, `abc.get_landscapes(ensemble, samples, tangent_steps={min(worst)})`. Results are exact unless it is asked for, and "
            "hybrid landscapes are never mixed with exact ones. The fewer sources there are, the less it saves: the tangents cost the same for any number."
            if pays else "That is too much for an option that replaces the exact landscape."
        )
        display(Markdown(f"**{'It pays.' if pays else 'It does not pay.'}** " + " ".join(lines)))

# %% [markdown]
# ## Checked here
#
# Some of the Jacobians above are worked out again now, and compared with a difference quotient that knows nothing of derivatives: the sample with one member's weight moved up and down a little.

# %% tags=["hide-input"]
some = jacobians.only(jacobians.indices[:2])
noise = ensemble.draw_noise(seed, some.indices)
_, again = ensemble.differentiate(noise)
step, member = 0.02, 0
c = np.ones((2, ensemble.n)) + step * np.eye(ensemble.n)[member] * np.array([[1], [-1]])
up, down = (ensemble.sample(noise, each) for each in c)
quotient = (up - down) / (2 * step)
table = pd.DataFrame(
    [(int(index), float((again[k] - some.jacobians[k]).norm() / some.jacobians[k].norm()),
      float(np.corrcoef(quotient[k].flatten(), some.jacobians[k, member].flatten())[0, 1])) for k, index in enumerate(some.indices)],
    columns=["sample", "stored and new Jacobian, relative difference", f"correlation with a difference quotient, member {member}"],
)
display(abc.figures.table(table, {table.columns[1]: "{:.0e}", table.columns[2]: "{:.4f}"}))
