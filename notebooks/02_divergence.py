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
# # What looks alike is not what mattered
#
# There are two ways to say which training image a generated image comes from. **Visual attribution** looks: it names the data source that owns the training image nearest to the sample. **Counterfactual attribution** removes: it names the source without which the sample would have come out most different. This page puts the two side by side (section 3.4 and appendices C.3, C.5 and C.6 of the paper {cite}`dai2024ablation`).
#
# The question is what the nearest training image is worth. If it is what made the sample, then the counterfactual without it should be among the farthest.

# %% tags=["parameters"]
dataset = "digits_1024"  # an ensemble of the registry
num_samples = None  # how many samples with full landscapes; None takes all that are at hand, or computes 12
metrics = None  # visual metrics, as ["euclidean", "lpips"]; None takes those that need no download
flips = False  # True: a mirrored training image counts as the same image
rate_samples = 64  # samples for the false attribution rate
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
images = abc.training_set(result.recipe.data)
metrics = {name: abc.get_metric(name, device).load() for name in metrics or abc.metrics_at_hand()}
first = next(iter(metrics))
display(Markdown(result.origin()))

# %% tags=["hide-input"]
command = f"papermill notebooks/02_divergence.ipynb out.ipynb -p dataset {dataset}" + ("" if scale == "laptop" else f" -p scale {scale}")
absent = [name for name in abc.metric_names() if name not in abc.metrics_at_hand()]
lines = [f"> **Run this page:** `{command}`", ">", f"> **Visual metrics here:** {', '.join(each.label for each in metrics.values())}."]
if absent:
    lines.append(f"> Those that need weights this machine does not have ({', '.join(absent)}) run with `pip install -e '.[perceptual]'` "
                 "and `-y \"metrics: [euclidean, lpips]\"`; the weights are downloaded, or read from the folder that `ABC_WEIGHTS` names.")
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## Samples, their nearest training images, and what became of the samples without them
#
# For each sample: the training image that looks most like it, and the counterfactual in whose making no network took part that had seen this image. The number under each column is the counterfactual's **distance rank**: 0 if removing the image changed the sample least of all sources, 1 if it changed it most.

# %% mystnb={"image": {"alt": "Samples, the training image nearest to each, and the counterfactual without it."}} tags=["hide-input"]
visual = abc.visual_distances(landscapes.factual, images, metrics[first], flips)
nearest = abc.top_visual(visual)[:, 0]
ranks = abc.counterfactual_distance_ranks(landscapes.distances, nearest)
order = np.argsort(visual.min(axis=1), kind="stable")
rows = order[np.unique(np.linspace(0, len(order) - 1, min(6, len(order))).round().astype(int))]
without = [abc.counterfactuals(ensemble, landscapes, row, [nearest[row]])[0] for row in rows]
shown = [abc.attributed_image(images, int(nearest[row]), landscapes.factual[row]) for row in rows]
abc.figures.image_rows(
    {"sample": landscapes.factual[rows], "nearest\ntraining image": images.images[shown], "counterfactual\nwithout it": without},
    [f"#{landscapes.indices[row]}" for row in rows], [f"rank {ranks[row]:.2f}" for row in rows], framed=["nearest\ntraining image"],
)
plt.show()
display(Markdown(f"From the sample with the nearest training image (left) to the one whose nearest is farthest away (right), by {metrics[first].label}."))

# %% [markdown]
# ## How far the counterfactual without the nearest image lies
#
# The same rank for every sample of every ensemble of the family with landscapes at hand: the paper's figure 5, and its figure 12 where other metrics are at hand. If looking alike said nothing about mattering, ranks would spread evenly around one half (dashed line).

# %% mystnb={"image": {"alt": "Strips of the distance rank of the counterfactual without the nearest source, an ensemble a strip, from the smallest training set to the largest."}} tags=["hide-input"]
family = {}
for name in abc.family_of(dataset, scale):
    stored = landscapes if name == dataset else abc.stored_landscapes(name, scale)
    if stored is not None:
        family[name] = (stored, images if name == dataset else abc.training_set(abc.get_recipe(name, scale).data))
distances = {(name, key): abc.visual_distances(stored.factual, owned, metric, flips)
             for name, (stored, owned) in family.items() for key, metric in metrics.items()}
ranks = {(name, key): abc.counterfactual_distance_ranks(family[name][0].distances, abc.top_visual(each)[:, 0])
         for (name, key), each in distances.items()}
figure, axes = plt.subplots(len(metrics), 1, figsize=(6.6, (0.9 + 0.5 * len(family)) * len(metrics)), squeeze=False)
for ax, (key, metric) in zip(axes[:, 0], metrics.items()):
    abc.figures.strips({name: ranks[name, key] for name in family}, ax, "distance rank of the counterfactual without the nearest source", dataset, 0.5)
    ax.set(xlim=(-0.02, 1.02), title=f"nearest by {metric.label}")
plt.show()

# %% tags=["hide-input"]
table = pd.DataFrame(
    [(name, key, len(values), float(np.median(values)), float(np.mean(values)), float(np.mean(values >= 0.9)),
      float(np.mean(values == 1))) for (name, key), values in ranks.items()],
    columns=["ensemble", "nearest by", "samples", "median rank", "mean rank", "rank 0.9 or more", "the farthest of all"],
)
display(abc.figures.table(table, {"median rank": "{:.2f}", "mean rank": "{:.2f}", "rank 0.9 or more": "{:.0%}", "the farthest of all": "{:.0%}"}))

# %% tags=["hide-input"]
means = [float(np.mean(ranks[name, first])) for name in family]
samples = min(len(stored) for stored, _ in family.values())
lines = [f"By chance one sample in ten would have a rank of 0.9 or more. With {samples} samples the mean of even ranks would "
         f"stray from one half by {1 / np.sqrt(12 * samples):.2f} (one standard deviation)."]
if len(means) > 1:
    small, large = list(family)[0], list(family)[-1]
    high = all(mean > 0.5 + 2 / np.sqrt(12 * samples) for mean in means)
    trend = "falls" if means[-1] < means[0] else "does not fall"
    lines.append(f"From {small} to {large} the mean rank goes from {means[0]:.2f} to {means[-1]:.2f}: it {trend}. The paper finds ranks that are "
                 "high for small training sets and become ever more even as training sets grow.")
    lines.append("All our means lie well above one half: the nearest image is still more than a chance pick at these sizes."
                 if high else "Not all our means are clear of one half.")
display(Markdown(" ".join(lines)))

# %% [markdown]
# ## Do the two lists of suspects meet?
#
# Take the k sources that look most alike and the k whose removal changes most. In how many samples do the two lists have a source in common (table 4 of the paper does this with k = 8)? *By chance* is the exact expectation for two lists drawn without repetition, with its standard deviation, and *p* the probability of as many or more by chance. *Removal, predicted* ranks the counterfactuals by differential ablation instead of computing them ([the page after next](04_differential)), as section 3.3 does.

# %% tags=["hide-input"]
found, totals = [], {"exact": 0, "predicted": 0}
for name, (stored, _) in family.items():
    jacobians = abc.stored_jacobians(name, scale)
    guessed = None
    if jacobians is not None and jacobians.seed == stored.seed and set(stored.indices) <= set(jacobians.indices):
        guessed = jacobians.only(stored.indices).landscape(abc.draw_codebook(abc.get_recipe(name, scale)))
    for key in metrics:
        for k in (1, 3, 8):
            met = abc.top_k_intersections(distances[name, key], stored.distances, k)
            row = [name, key, k, met.samples, f"{met.count} (p = {met.p:.1g})"]
            if guessed is not None:
                also = abc.top_k_intersections(distances[name, key], guessed, k)
                row.append(f"{also.count} (p = {also.p:.1g})")
                if k == 8 and key == first:
                    totals["exact"] += met.count
                    totals["predicted"] += also.count
            else:
                row.append("no Jacobians at hand")
            found.append((*row, f"{met.expected:.1f} ± {met.sd:.1f}"))
table = pd.DataFrame(found, columns=["ensemble", "look by", "k", "samples", "removal, exact", "removal, predicted", "by chance"])
display(abc.figures.table(table[table.k != 3] if len(family) > 3 else table))

# %% tags=["hide-input"]
exact, replaced = abc.intersection_chance(384, 8), abc.intersection_chance(384, 8, replacement=True)
lines = []
if totals["predicted"]:
    lines.append(
        f"The paper finds predicted lists far closer to visual ones than exact lists are: for mnist_384 they meet in 838 of 1,024 samples, the exact "
        f"ones in 272. Here, with k = 8, predicted lists meet the visual ones in {totals['predicted']} samples and exact ones in {totals['exact']}: "
        + ("we do not see that gap. " if totals["predicted"] < 1.5 * max(1, totals["exact"]) else "the same way round. ")
        + "Where a prediction ranks counterfactuals nearly as they are, as ours mostly do, the two cannot differ by much."
    )
lines.append(
    f"A remark on chance: the paper's table 4 gives 158.73 ± 11.58 for 1,024 samples, 384 sources and k = 8. That is the level for one list "
    f"drawn with repetition, {1024 * replaced:.2f} ± {np.sqrt(1024 * replaced * (1 - replaced)):.2f}; without repetition, as the top 8 of a "
    f"ranking are, it is {1024 * exact:.2f} ± {np.sqrt(1024 * exact * (1 - exact)):.2f}. Nothing hangs on the difference."
)
display(Markdown("\n\n".join(lines)))

# %% [markdown]
# ## Does visual attribution change its mind?
#
# A test that needs no second opinion, from the authors' earlier work {cite}`dai2023training`: remove the source that visual attribution named, sample again, and ask visual attribution once more. If it names the same source, which now cannot have had any part in the image, it was wrong. The **false attribution rate** is the share of samples where that happens, divided by the same share when another source, drawn at random, is removed instead: 0 if removing the named source always changes the verdict, 1 if it matters no more than removing any other.

# %% tags=["hide-input"]
found = []
for name, (stored, owned) in family.items():
    recipe = abc.get_recipe(name, scale)
    members = ensemble if name == dataset else abc.find_ensemble(recipe, abc.Store())
    if members is None:
        continue
    members.to(abc.resolve_device(device))
    rates = abc.false_attribution_rates(members, range(rate_samples), owned, list(metrics.values()), flips, seed, progress=False)
    found += [(name, key, rate.samples, rate.again, rate.instead, rate.ratio, f"{rate.low:.2f} to {rate.high:.2f}")
              for key, rate in zip(metrics, rates)]
table = pd.DataFrame(found, columns=["ensemble", "visual metric", "samples", "same without it", "same without another", "false attribution rate", "95% interval"])
display(abc.figures.table(table, {"same without it": "{:.0%}", "same without another": "{:.0%}", "false attribution rate": "{:.2f}"}))

# %% tags=["hide-input"]
rates = table["false attribution rate"].tolist()
if len(rates) > 1:
    how = f"from {min(rates):.2f} to {max(rates):.2f} along the family" if max(rates) - min(rates) > 0.005 else f"{rates[0]:.2f} throughout the family"
else:
    how = f"{rates[0]:.2f}"
display(Markdown(
    f"Computed just now, with the members at hand. The rate is {how}: in that share of the cases in which the verdict would have stayed "
    "anyway, visual attribution goes on naming a source that no longer had any part in the image."
))

# %% [markdown]
# ## The radius by other metrics
#
# The counterfactual radius is a largest distance, so it depends on what one measures with (appendix C.6, figure 13). For the Euclidean distance this is the subject of [the radius page](03_radius).

# %% mystnb={"image": {"alt": "Strips of counterfactual radii by each metric at hand."}} tags=["hide-input"]
radii = {metric.label: landscapes.radii if key == "euclidean" else abc.metric_radii(ensemble, landscapes, metric) for key, metric in metrics.items()}
figure, axes = plt.subplots(len(radii), 1, figsize=(6.4, 1.5 * len(radii)), squeeze=False)
for ax, (label, values) in zip(axes[:, 0], radii.items()):
    abc.figures.strips({dataset: values}, ax, f"counterfactual radius, {label}", dataset)
plt.show()
if len(radii) == 1:
    display(Markdown("Only the Euclidean distance is at hand here; each further metric adds a panel."))
