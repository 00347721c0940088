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
rows = order[np.unique(np.linspace(0, len(order) - 1, min(6, len(order))).round().astype(int))]
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
# ## The law: figure 7
#
# Figure 7 of the paper puts the mean log10 radius of an ensemble against the size of its training set and draws a least-squares line through 23 ensembles of seven kinds of images. Here are the paper's points and every ensemble of ours that has landscapes, whatever its images, each set of points with its line.

# %% mystnb={"image": {"alt": "Mean log10 radius against log10 training set size: the paper's 23 ensembles and all of ours, by kind of image, each with its fitted line."}} tags=["hide-input"]
paper = abc.paper_summaries()
paper_law = abc.fit_law(paper)
every = abc.summarise_all(abc.all_radii(scale) | radii, scale)
our_law = abc.fit_law(every) if len({s.size for s in every}) > 1 else None
figure, ax = plt.subplots(figsize=(6.8, 4.4))
abc.figures.radius_law(every, paper, ax, our_law, paper_law)
plt.show()

# %% tags=["hide-input"]
families = {}
for s in every:
    families.setdefault(s.name.split("_")[0], []).append(s)


def law_row(which, summaries, law):
    """A fitted line as a row of the table."""
    interval = "" if law is None or np.isnan(law.wide) else f"{law.slope - law.wide:.2f} to {law.slope + law.wide:.2f}"
    numbers = ["", "", "", "", ""] if law is None else [f"{law.slope:.3f}", interval, f"{law.intercept:.2f}", f"{law.r2:.2f}", "" if np.isnan(law.p) else f"{law.p:.2g}"]
    samples = sum(s.count + s.zeros for s in summaries)
    sizes = f"{min(s.size for s in summaries):,} to {max(s.size for s in summaries):,}"
    return [which, len(summaries) if law is None else law.ensembles, samples, sizes, *numbers]


lines = [law_row("the paper, all", paper, paper_law), law_row("ours, all", every, our_law)]
theirs_within = abc.slope_within(paper)
lines.insert(1, law_row("the paper, one slope, a level for each kind", paper, theirs_within))
within = abc.slope_within(every) if any(len({s.size for s in each}) > 1 for each in families.values()) else None
if within is not None and len(families) > 1:
    lines.append(law_row("ours, one slope, a level for each kind", every, within))
if len(families) > 1:
    lines += [law_row(f"ours, {family}", each, abc.fit_law(each) if len({s.size for s in each}) > 1 else None) for family, each in families.items()]
laws = pd.DataFrame(lines, columns=["line through", "ensembles", "samples", "images", "slope", "its 95% interval", "intercept", "R²", "p"])
display(abc.figures.table(laws, {"samples": "{:,}"}))

# %% [markdown]
# ### Does it hold up?

# %% tags=["hide-input"]
verdict = []
slope, theirs = (within, theirs_within) if within is not None else (our_law, paper_law)
if slope is not None:
    if np.isnan(slope.wide):
        near = "two points give no interval, so nearness cannot be judged"
    elif abs(slope.slope - theirs.slope) < slope.wide:
        near = f"its 95% interval, ±{slope.wide:.2f}, contains the paper's {theirs.slope:.2f}, worked out in the same way"
    else:
        near = f"its 95% interval, ±{slope.wide:.2f}, does not reach the paper's {theirs.slope:.2f}, worked out in the same way"
    verdict.append(f"**Radii fall:** {'yes' if slope.slope < 0 else 'no'}. Within a kind of images, a training set ten times as large has radii {10**slope.slope:.2f} times as large here, {10**theirs.slope:.2f} times in the paper.")
    verdict.append(f"**Is the slope near that of the paper?** Ours within kinds is {slope.slope:.3f}; {near}.")
alone = {family: abc.fit_law(each) for family, each in families.items() if len({s.size for s in each}) > 2}
if len(families) > 1 and alone:
    verdict.append("**Kind by kind:** " + "; ".join(
        f"{family} {law.slope:.3f}, with an interval of ±{law.wide:.2f} that {'contains' if abs(law.slope - paper_law.slope) < law.wide else 'does not contain'} the paper's {paper_law.slope:.2f}"
        for family, law in alone.items()) + ".")
gaps = {family: float(np.mean([s.mean - paper_law.intercept - paper_law.slope * np.log10(s.size) for s in each])) for family, each in families.items()}
verdict.append("**Does the level agree?** At their own sizes, our radii are on average " + ", ".join(f"{10**gap:.2f} ({family})" for family, gap in gaps.items()) + " times what the paper's line gives.")
same = {s.name: s for s in paper}
shared = [(s, same[s.name]) for s in every if s.name in same]
if shared:
    verdict.append("**The same training sets:** mean log10 radius " + "; ".join(f"{mine.name} {mine.mean:.2f} (sd {mine.sd:.2f}, {mine.count} samples), in the paper {theirs.mean:.2f} ({theirs.sd:.2f}, {theirs.count})" for mine, theirs in shared) + ".")
if our_law is not None:
    verdict.append(f"**Far out:** drawn on to 10⁸ images, the paper's line gives a radius of {paper_law.radius_at(1e8):.1f}, ours through all points {our_law.radius_at(1e8):.2g}; no line reaches so far beyond {max(s.size for s in every):,} images with any authority.")
display(Markdown("\n".join(f"- {line}" for line in verdict)))

# %% [markdown]
# What differs, side by side. The sets that both have differ in the network, the members, the training and the number of samples; the metric is the same, Euclidean distance scaled to 3×256×256. The paper does not say for how many steps it trained; those of our recipes at its scale are our choice.

# %% tags=["hide-input"]
count = {s.name: s.count + s.zeros for s in every}
names = [name for name in (*dict.fromkeys([dataset, *(mine.name for mine, _ in shared)]),) if name in abc.recipe_names()][:4]
sides = []
for name in names:
    for where in dict.fromkeys(["paper", scale]):
        recipe = abc.get_recipe(name, where)
        seen = recipe.training.steps * recipe.training.batch_size / (recipe.data.size * recipe.code.weight / recipe.code.n)
        samples = count.get(name, 0) if where == scale else same[name].count if name in same else 0
        sides.append([name, where, abc.cost_of(recipe).parameters / 1e6, recipe.code.n, recipe.training.steps, recipe.training.batch_size, seen, samples or "none"])
differ = pd.DataFrame(sides, columns=["ensemble", "scale", "million parameters", "members", "training steps", "batch", "times an image is seen", "samples"])
display(abc.figures.table(differ, {"million parameters": "{:.2f}", "training steps": "{:,}", "times an image is seen": "{:,.0f}"}))

# %% [markdown]
# How should these pull? Removing half of fewer members should move their mean further and make radii larger. Small networks that are trained for less should hold on to single images less, which makes radii smaller. And every member here is trained for the same number of steps, so an image of a small set is seen many more times than one of a large set, which should make our line steeper. The same training set at both scales would settle it, and is [a matter of GPU days](cost.ipynb). On the digits, one difference at a time can be tried on a CPU: the same samples' noise, and one thing changed. (How good the digits are that members draw after 250 steps was not measured; what is compared here is how much of a sample hangs on one image.)

# %% tags=["hide-input"]
changes = [
    ("digits_256", "", {}), ("digits_256", "22 members, as in the paper", {"code": {"n": 22, "weight": 11}}),
    ("digits_256", "trained four times as long", {"training": {"steps": 4000}}), ("digits_256", "networks twice as wide", {"network": {"channels": (32, 32)}}),
    ("digits_64", "", {}), ("digits_64", "trained a quarter as long", {"training": {"steps": 250}}),
]
found = {}
for name, change, replaced in changes:
    recipe = abc.get_recipe(name).replace(**replaced) if replaced else abc.get_recipe(name)
    stored = abc.stored_landscapes(recipe)
    if stored is not None:
        log = np.log10(stored.radii[stored.indices < 16])  # the samples, by their noise, that all of them have
        seen = recipe.training.steps * recipe.training.batch_size / (recipe.data.size * recipe.code.weight / recipe.code.n)
        found[name, change] = (log, seen, stored.artefacts, abc.cost_of(recipe).parameters)
if any(change for _, change in found):
    tried = pd.DataFrame([
        [name, change or "as published", parameters / 1e3, seen, len(log), log.mean(), log.std(ddof=1) / np.sqrt(len(log)), 10 ** (log.mean() - found[name, ""][0].mean())]
        for (name, change), (log, seen, _, parameters) in found.items()],
        columns=["ensemble", "change", "thousand parameters", "times an image is seen", "samples", "mean log10 radius", "standard error", "radii, times those as published"])
    display(abc.figures.table(tried, {"thousand parameters": "{:,.0f}", "times an image is seen": "{:,.0f}", "mean log10 radius": "{:.3f}", "standard error": "{:.3f}", "radii, times those as published": "{:.2f}"}))
    slopes = []
    for small, large in ((("digits_64", ""), ("digits_256", "")), (("digits_64", "trained a quarter as long"), ("digits_256", "")),
                         (("digits_64", ""), ("digits_256", "trained four times as long"))):
        if small in found and large in found:
            (one, often, *_), (other, as_often, *_) = found[small], found[large]
            error = np.hypot(*(each.std(ddof=1) / np.sqrt(len(each)) for each in (one, other))) / np.log10(4)
            how = f"an image is seen {often:,.0f} times in both" if abs(often - as_often) < 1 else f"an image is seen {often:,.0f} times in the small set and {as_often:,.0f} times in the large one, as published"
            slopes.append(f"- {(other.mean() - one.mean()) / np.log10(4):+.2f} (standard error {error:.2f}) where {how};")
    display(Markdown("The slope between 64 and 256 digits, from the lines above:\n\n" + "\n".join(slopes)))
    published, longer = found["digits_256", ""][0], found.get(("digits_256", "trained four times as long"))
    if longer is not None and ("digits_64", "") in found:
        trained, larger = longer[0].mean() - published.mean(), published.mean() - found["digits_64", ""][0].mean()
        display(Markdown(
            f"Four times the training moves the mean log10 radius of 256 digits by {trained:+.2f}; four times the training set, at the same number of steps, moves it by {larger:+.2f}. "
            + ("The two are of a size: here the radius follows how often a member sees an image, and a slope over sets that are all trained for the same number of steps "
               "is in good part that. A law of the radius needs to say how long its models were trained. The paper does not say it; ours are trained for the same number of steps within each kind."
               if 0.5 < -trained / larger < 2 else "The size of the training set does not act through training alone.")))
    lines = []
    for (name, change), (log, _, _, parameters) in found.items():
        if change in ("22 members, as in the paper", "networks twice as wide"):
            before = found[name, ""][0]
            moved, error = log.mean() - before.mean(), np.hypot(*(each.std(ddof=1) / np.sqrt(len(each)) for each in (log, before)))
            lines.append(f"- {change}: {moved:+.2f} (standard error {error:.2f}), " + ("more than chance would do;" if abs(moved) > 2 * error else "no more than chance might do;"))
    if lines:
        display(Markdown("The other changes to 256 digits, in mean log10 radius:\n\n" + "\n".join(lines)))
    made = {each.provenance["commit"] for (_, change), (_, _, artefacts, _) in found.items() if change for each in artefacts}
    display(Markdown(f"The changed ensembles: {len(found) - 2} published sets of 16 landscapes, commit {', '.join(sorted(made))}; their members are not published."))
else:
    display(Markdown("No results at hand."))

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
