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
# # Ablation beside retraining
#
# **Asked:** is ablation a fair stand-in for training again without an image? **Found:** for whole
# classes both take away about as much. For single images they hardly agree, and two retrainings
# hardly agree with each other.
#
# What would this image have looked like if that training image had never been there? The definition
# asks for a model that was trained without it: a **retraining-based counterfactual** (RBC), one
# more training for every training image. **Ablation-based counterfactuals** (ABC) take members out
# of an ensemble instead. Both are exact answers, of two kinds of model. Is the cheap kind a fair
# stand-in for the dear one? This page redoes section 3.2 and appendix C.3 of the paper
# {cite}`dai2024ablation`, and then asks what the paper does not: how far two *retrainings* agree
# with each other.

# %% tags=["parameters"]
dataset = "digits_64"  # its sources images (digits_64, mnist_384) or classes (mnist_classes)
classes = None  # whose sources are classes, computed if need be; None: the family's, if at hand
num_samples = None  # how many samples with landscapes; None takes all at hand, or computes 12
num_sources = None  # retrain without the first so many only; None takes those at hand, or all
class_samples = None  # samples to classify; None takes those at hand, or the paper's 5,100
metrics = None  # visual metrics, as ["euclidean", "lpips"]; None: those that need no download
second_seed = 1  # a second retraining, and other ensembles, of this seed are shown if at hand
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
by_image = recipe.data.sources != "class"
class_dataset = classes or (f"{recipe.data.family}_classes" if by_image else dataset)
class_recipe = abc.get_recipe(class_dataset, scale)
wanted = not by_image or classes is not None
counts = abc.class_counts.get(class_recipe, class_samples, seed, wanted, here)
{count.method: count.counts.shape for count in counts or []}  # models, classes

# %%
ablation = retraining = None
if by_image:
    ablation = abc.landscapes.stored(recipe, here)
    if ablation is None or ablation.seed != seed or (num_samples or 0) > len(ablation):
        ablation = abc.run(dataset, num_samples, seed, scale, here).landscapes
    some = None if num_samples is None else range(num_samples)
    left_out = None if num_sources is None else range(num_sources)
    retraining = abc.retraining.run(recipe, some, sources=left_out, seed=seed, here=here)
by_image and {"ablation": ablation.distances.shape, "retraining": retraining.distances.shape}

# %% tags=["hide-input"]
abc.figures.use_style()
results, details, notes = list(counts or []), [], []
if by_image:
    results += [ablation, retraining]
    details.append(abc.landscapes.origin(ablation))
    details.append(abc.retraining.origin(retraining))
    steps, batch = recipe.training.steps, recipe.training.batch_size
    notes.append(f"Each member: {steps:,} training steps of batch {batch}.")
    left_out, N = len(retraining.sources), ablation.num_sources
    if left_out < N:
        notes.append(
            f"**Of the {N:,} retrainings that {dataset} asks for, {left_out:,} were done; the "
            f"comparisons below are over those {left_out} sources.**"
        )
if counts:
    details.append(abc.class_counts.origin(counts))
else:
    notes.append(
        f"**Class sources** ({class_dataset}): no results at hand; `-p classes {class_dataset}` "
        "trains its ensemble and its eleven models."
    )
origin = "\n\n".join(details)
display(Markdown(abc.sections.opening("01_abc_vs_rbc", recipe, results, origin, notes)))

# %% [markdown]
# ## Whole classes as data sources
#
# An ensemble of six members whose data sources are the ten classes, and eleven models: one trained
# on everything, ten from whose training set one of the classes was taken out. The code says which
# members never saw a class; ablating the others takes the class away.

# %%
code = abc.draw_codebook(class_recipe)
code.words[2], code.ablation(2)  # who saw class 2, and the weights without it

# %% [markdown]
# A classifier that was trained on other images says what the samples show. The share of its
# frequency that a class keeps on average when it is removed:

# %%
kept = {count.method: count.after.sum() / count.before.sum() for count in counts or []}
{method: f"{share:.0%}" for method, share in kept.items()}

# %% [markdown]
# Black: how often a class comes up with everything in; red: how often it still comes up without it.

# %% mystnb={"image": {"alt": "Bars of how often each class is generated with everything in, black, and without that class, red, by ablation and by retraining."}} tags=["hide-input"]
names = abc.class_counts.class_names(recipe.data.family)
if counts:
    panels = {}
    for count in counts:
        both = np.stack([count.before, count.after])
        errors = abc.class_counts.standard_errors(both, count.samples)
        panels[f"{count.name}, by {count.method}"] = (*both, errors)
    abc.figures.class_bars(panels, names)
    plt.show()
    display(abc.figures.table(pd.DataFrame(abc.class_counts.class_table(counts, names))))
else:
    display(Markdown(f"Not at hand for {class_dataset}."))

# %% [markdown]
# The paper reports that distributions and diminishment are comparable for MNIST and Fashion-MNIST,
# and remarks that pullovers seem to come up more often after retraining without them, likely
# because pullovers, dresses and shirts look alike at this resolution. The list below says whether
# any class does so here, and of `-p dataset fashion_classes` what becomes of pullovers.

# %% tags=["hide-input"]
lines = []
for count in counts or []:
    raised = [names[k] for k in np.flatnonzero(count.after > count.before)]
    more = f"It comes up *more* often after it was removed for: {', '.join(raised)}."
    line = f"- By {count.method} a removed class keeps on average {kept[count.method]:.0%} of its "
    line += f"frequency. {more if raised else 'None comes up more often than before.'}"
    if "pullover" in names:
        k = names.index("pullover")
        line += f" Here, by {count.method}: {count.before[k]:.1%} with pullovers in the training "
        line += f"set, {count.after[k]:.1%} without."
    lines.append(line)
if counts:
    before = np.corrcoef([count.before for count in counts])[0, 1]
    fall = np.corrcoef([count.before - count.after for count in counts])[0, 1]
    wrong = 1 - counts[0].artefact.info["accuracy"]
    lines += [
        "- Over the classes, the frequencies of the ensemble and of the single model correlate "
        f"with {before:.2f}, and how much each falls when it is removed with {fall:.2f}.",
        "- What is left of a class need not be that class: the classifier is wrong on "
        f"{wrong:.1%} of real images, and a model that never saw a class still draws what lies "
        "between the others.",
    ]
if counts:
    display(Markdown("\n".join(lines)))

# %% [markdown]
# Where does a removed class go? The change of every class's frequency (columns) when a class is
# removed (rows), for the first three, in points of percent:

# %%
changes = {count.method: count.change() for count in counts or []}
{method: (100 * change[:3]).round(1) for method, change in changes.items()}

# %% [markdown]
# Each row removes one class; the colours say which classes gain from it.

# %% mystnb={"image": {"alt": "Two matrices, by ablation and by retraining: how removing each class changes the frequency of every class."}} tags=["hide-input"]
if counts:
    abc.figures.class_changes({f"by {method}": change for method, change in changes.items()}, names)
    plt.show()
    off = ~np.eye(len(names), dtype=bool)
    link = np.corrcoef([change[off] for change in changes.values()])[0, 1]
    agree = "both methods agree" if link > 0.5 else "they agree little"
    text = f"Off the diagonal the two maps correlate with {link:.2f}: {agree} on what takes a "
    display(Markdown(f"{text}removed class's place."))

# %% [markdown]
# ## Single images as data sources
#
# Now every training image is a source of its own: for each there is a counterfactual by ablation,
# and one by a model trained without it (that image replaced by an all-black one, everything else
# the same to the last random number). Both start from the same exogenous noise. Do the ensemble and
# the single model draw the same pictures from it? The distance between their samples, from the same
# noise and from other noise:

# %%
if by_image:
    pairs = abc.agreement.same_noise(ablation, retraining)
    same, other = np.median(pairs.same), np.median(pairs.other)
    print(f"same noise {same:.1f}, other noise {other:.1f}")

# %% mystnb={"image": {"alt": "Samples of ensemble and single model from the same noise, each with its farthest counterfactual and the image removed for it."}} tags=["hide-input"]
if by_image:
    rows = [
        row
        for row in abc.sections.spread(range(len(ablation)), 6)
        if ablation.indices[row] in retraining.indices
    ]
    again = [int(np.flatnonzero(retraining.indices == ablation.indices[r])[0]) for r in rows]
    shown = {
        "ensemble": ablation.factual[rows],
        "farthest\nby ablation": ablation.farthest_images[rows],
        "single model": retraining.factual[again],
    }
    if retraining.kept_images.shape[1]:
        shown["farthest\nby retraining"] = retraining.farthest_images[again]
    radii = zip(ablation.radii[rows], retraining.radii[again])
    titles = [f"#{ablation.indices[row]}" for row in rows]
    abc.figures.image_rows(shown, titles, [f"{a:.1f} | {b:.1f}" for a, b in radii])
    plt.show()
    text = (
        "mostly the same picture, so asking both for the same counterfactual makes sense."
        if same < 0.6 * other
        else "not the same picture, so their counterfactuals are about different samples, and can "
        "only agree so far."
    )
    text = (
        "Below: the radius by ablation and by retraining. From the same noise the ensemble and the "
        f"single model make samples that lie {same:.1f} apart (median), from other noise "
        f"{other:.1f}: {text}"
    )
else:
    text = "This page was run on classes only."
display(Markdown(text))

# %% [markdown]
# ### Visual attribution beside each
#
# Table 4 of the paper: take the k images that look most like a sample, and the k whose removal
# changes it most. In how many samples have the two lists one in common? A third way of removal is
# **differential ablation**, [predicted from Jacobians](04_differential):

# %%
if by_image:
    jacobians = abc.jacobians.stored(recipe, here)
    if jacobians is None or jacobians.seed != seed:
        ensemble = abc.get_ensemble(recipe, here)
        jacobians = abc.jacobians.get(ensemble, ablation.indices[:12], seed, here)
    predicted = abc.agreement.predicted_landscapes(jacobians, abc.draw_codebook(recipe))
    print(predicted.distances.shape)

# %% [markdown]
# By ablation and by retraining the lists are of different models, so each is held against its own
# samples, over the sources that were left out by retraining:

# %%
if by_image:
    images = abc.training_set(recipe.data)
    visual, methods = {}, abc.sections.over_left_out(ablation, retraining, predicted)
    at_hand = [abc.metrics.get_metric(name, device).load() for name in metrics or []]
    at_hand = at_hand or abc.classifier.family_metrics(recipe.data.family, scale, here)
    for method, (samples, distances) in methods.items():
        for metric in at_hand:
            looks = abc.attribution.visual_distances(samples, images, metric)
            visual[method, metric.name] = looks[:, np.sort(retraining.sources)]
        print(method, len(samples), "samples", distances.shape[1], "sources")

# %% [markdown]
# *By chance* is what two random lists would give, with its standard deviation.

# %% tags=["hide-input"]
if by_image:
    ks = [k for k in (1, 3, 8) if 2 * k <= len(retraining.sources)]
    labels = {metric.name: metric.label for metric in at_hand}
    display(abc.figures.table(abc.sections.lists_table(methods, visual, labels, ks)))
    which, table = abc.sections.paper_lists_table(dataset)
    than = " than here" if len(retraining.sources) < 384 else ""
    text = f"The paper's table 4, {which} (384 sources, so chance is lower{than}):"
    display(Markdown(text), abc.figures.table(table))

# %% tags=["hide-input"]
if by_image:
    first = at_hand[0].name
    met = abc.sections.lists_meet(methods, visual, first, ks)
    share = {method: each.count / each.samples for method, each in met.items()}
    two = ("ablation", "retraining")
    gap = share["retraining"] - share["ablation"]
    error = sum(share[m] * (1 - share[m]) / met[m].samples for m in two) ** 0.5
    apart = abs(gap) / max(error, 1e-9)
    above = max(each.p for each in met.values()) < 0.01
    text = (
        f"With k = {met['ablation'].k} and {labels[first]}: ablation {share['ablation']:.0%}, "
        f"retraining {share['retraining']:.0%}, differential ablation "
        f"{share['differential']:.0%}, chance {met['ablation'].chance:.0%}. All three "
        f"{'lie above chance, as in the paper' if above else 'do not lie clearly above chance'}. "
        f"Ablation and retraining differ by {100 * abs(gap):.0f} points, {apart:.1f} standard "
        "errors: "
    )
    if min(each.p for each in met.values()) >= 0.01:
        text += "where none lies above chance, there is nothing to compare. "
    elif apart >= 2:
        text += f"the lists of {two[gap > 0]} agree more with visual ones, where the paper finds "
        text += "the two comparable. "
    elif abs(gap) + 2 * error < 0.1:
        text += "comparable, which is what the paper finds. "
    else:
        text += "too few samples to say whether they are comparable, as the paper finds. "
    gain = share["differential"] - share["ablation"]
    spread = sum(share[m] * (1 - share[m]) / met[m].samples for m in ("differential", "ablation"))
    text += (
        "Differential ablation is closer to visual attribution than ablation is, as in the paper."
        if gain > 2 * spread**0.5
        else "The paper finds differential ablation far closer to visual attribution; here that "
        "does not show."
    )
    display(Markdown(text))

# %% [markdown]
# The same the other way round (figure 9): how similar, among all sources, is the one whose removal
# changed the sample most? 0 is the most similar of all, 1 the least; without any link, ranks would
# spread evenly around one half (dashed). Means by the first metric:

# %%
if by_image:
    ranks = {}
    for (method, metric), looks in visual.items():
        top = abc.attribution.top_counterfactual(methods[method][1])[:, 0]
        ranks[method, metric] = abc.attribution.visual_similarity_ranks(looks, top)
    print({method: f"{ranks[method, first].mean():.2f}" for method in methods})

# %% mystnb={"image": {"alt": "Violins of the visual similarity rank of the top counterfactual source, by ablation, differential ablation and retraining."}} tags=["hide-input"]
if by_image:
    size = (6.6, 0.8 + 1.9 * len(at_hand))
    figure, axes = plt.subplots(len(at_hand), 1, figsize=size, squeeze=False)
    label = "visual similarity rank of the top counterfactual source"
    for ax, metric in zip(axes[:, 0], at_hand):
        shown = {method: ranks[method, metric.name] for method in methods}
        abc.figures.violins(shown, ax, label, chance=0.5)
        ax.set(title=f"similarity by {metric.label}", xlim=(-0.02, 1.02))
    plt.show()
    words = ", ".join(f"{method} {ranks[method, first].mean():.2f}" for method in methods)
    text = f"Mean ranks by {labels[first]}: {words}. In the paper ablation and retraining are "
    text += "alike here, and differential ablation names images that are much more similar."
    display(Markdown(text))

# %% [markdown]
# ## Do ablation and retraining agree with each other?
#
# Visual attribution is a detour. Take a sample's landscape by ablation and its landscape by
# retraining, and correlate them over the sources: does the image whose removal matters to the
# ensemble matter to the single model? Spearman's correlation for the first samples, and the mean:

# %%
if by_image:
    samples, sources, (a, b) = abc.agreement.in_common([ablation, retraining])
    correlations = abc.differential.rank_correlations(a, b)
    print(correlations[:6].round(2), correlations.mean().round(2))

# %% [markdown]
# Since no answer can agree with retraining better than retraining agrees with itself, take a second
# set of models that differ from the first in nothing but the seed of their training. The same for
# ablation: an ensemble of other members with the same code, and one with another code as well.

# %%
if by_image:
    other = recipe.replace(training={"seed": second_seed})
    recoded = other.replace(code={"seed": second_seed})
    variants = {
        "retraining, other seed": abc.retraining.stored(recipe, second_seed, seed=seed),
        "ablation, other members": abc.landscapes.stored(other),
        "ablation, other members and code": abc.landscapes.stored(recoded),
    }
    print({name: found is not None for name, found in variants.items()})

# %% tags=["hide-input"]
if by_image:
    landscapes = {"ablation": ablation, "differential": predicted, "retraining": retraining}
    landscapes |= {name: x for name, x in variants.items() if x is not None and x.seed == seed}
    wanted = [
        ("ablation", "retraining"),
        ("retraining", "retraining, other seed"),
        ("ablation", "ablation, other members"),
        ("ablation", "ablation, other members and code"),
        ("ablation", "retraining, other seed"),
        ("differential", "retraining"),
        ("ablation", "differential"),
    ]
    agreements = {}
    for a, b in wanted:
        if a in landscapes and b in landscapes:
            _, _, (x, y, _) = abc.agreement.in_common([landscapes[a], landscapes[b], retraining])
            agreements[f"{a} – {b}"] = abc.agreement.agreement(x, y)
    display(abc.figures.table(abc.agreement.agreement_table(agreements)))
    absent = [name for name, found in variants.items() if found is None]
    if absent:
        display(Markdown(f"Not at hand for {dataset}: {', '.join(absent)}."))

# %% mystnb={"image": {"alt": "Violins of rank correlations between pairs of landscapes: ablation, retraining, other seeds, members and codes."}} tags=["hide-input"]
if by_image:
    figure, ax = plt.subplots(figsize=(6.8, 0.8 + 0.55 * len(agreements)))
    shown = {name: each.correlations for name, each in agreements.items()}
    label = "rank correlation over sources, a value a sample"
    abc.figures.violins(shown, ax, label, "ablation – retraining", chance=0.0)
    plt.show()
    display(Markdown(" ".join(abc.sections.agreement_lines(agreements))))

# %% [markdown]
# ## Every attribution against every other
#
# The paper's figure 10: for each pair of attributions, in how many of a hundred samples do their
# lists meet? *Visual* lists are of the ensemble's samples; *visual, model* of the single model's.
# With k = 1 and three of them:

# %%
if by_image:
    samples, sources, (a, b) = abc.agreement.in_common([ablation, retraining])
    rows = [np.searchsorted(found.indices, samples) for found in (ablation, retraining)]
    looks = abc.attribution.visual_distances(ablation.factual[rows[0]], images)[:, sources]
    lists = {"visual": np.argsort(looks)[:, :1]}
    lists |= {"ablation": np.argsort(-a)[:, :1], "retraining": np.argsort(-b)[:, :1]}
    display(abc.agreement.meeting_matrix(lists, len(sources)).round(2))

# %% mystnb={"image": {"alt": "Matrices of how often the top lists of every two attributions have a source in common."}} tags=["hide-input"]
if by_image:
    order = sorted(landscapes, key=lambda name: name == "retraining, other seed")
    found = [landscapes[name] for name in order]
    samples, sources, distances = abc.agreement.in_common([*found, retraining])
    looks = {}
    for what, model in (("", ablation), (", model", retraining)):
        rows = [int(np.flatnonzero(model.indices == i)[0]) for i in samples]
        for metric in at_hand:
            seen = abc.attribution.visual_distances(model.factual[rows], images, metric)
            looks[f"visual, {metric.name}{what}"] = seen[:, sources]
    panels = {}
    for k in ks:
        tops = abc.agreement.top_sources(looks, dict(zip(order, distances)), k)
        chance = abc.attribution.intersection_chance(len(sources), k)
        title = f"k = {k} (chance {chance:.0%})"
        panels[title] = abc.agreement.meeting_matrix(tops, len(sources))
    abc.figures.meeting_matrices(panels)
    plt.show()
    display(Markdown(f"Percent of {len(samples)} samples; {len(sources)} sources."))

# %% [markdown]
# ## Exercises
#
# 1. Which class loses most of its frequency by each method, and which least?

# %% tags=["hide-cell"]
for count in counts or []:
    share = count.after / count.before
    print(count.method, "most:", share.argmin(), "least:", share.argmax())  # class numbers

# %% [markdown]
# 2. Do the radii by ablation and by retraining go together, over samples?

# %% tags=["hide-cell"]
if by_image:
    _, _, (a, b) = abc.agreement.in_common([ablation, retraining])
    print(pd.Series(a.max(axis=1)).corr(pd.Series(b.max(axis=1)), method="spearman"))
