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
# What would this image have looked like if that training image had never been there? The definition asks for a model that was trained without it: a **retraining-based counterfactual** (RBC), one more training for every training image. **Ablation-based counterfactuals** (ABC) take members out of an ensemble instead. Both are exact answers, of two kinds of model. Is the cheap kind a fair stand-in for the dear one? This page redoes section 3.2 and appendix C.3 of the paper {cite}`dai2024ablation`, and then asks what the paper does not: how far two *retrainings* agree with each other.

# %% tags=["parameters"]
dataset = "digits_64"  # an ensemble of the registry, its data sources images (digits_64, mnist_384) or classes (mnist_classes)
classes = None  # the ensemble whose sources are classes, computed if need be; None takes the family's if its results are at hand
num_samples = None  # how many samples with landscapes; None takes all that are at hand, or computes 12
num_sources = None  # leave out only the first so many sources by retraining; None takes those at hand, or all
class_samples = None  # samples to classify; None takes those at hand, or the paper's 5,100
metrics = None  # visual metrics, as ["euclidean", "lpips"]; None takes those that need no download
second_seed = 1  # a second retraining with this training seed, and other ensembles, are shown if they are at hand
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
family = recipe.data.family
only_classes = recipe.data.sources == "class"
class_dataset = classes or (dataset if only_classes else f"{family}_classes")
counts = abc.class_run(class_dataset, class_samples, seed, scale, device, recompute, compute=only_classes or classes is not None)
lines = []
if not only_classes:
    # Landscapes are all this page needs of an ensemble; its members are asked for only where there are none.
    ablation = None if recompute else abc.stored_landscapes(dataset, scale)
    if ablation is None or ablation.seed != seed or (num_samples or 0) > len(ablation):
        ablation = abc.run(dataset, num_samples, seed, scale, device, recompute).landscapes
    n = recipe.code.n
    retraining = abc.retraining_run(
        dataset, None if num_samples is None else range(num_samples), None, None if num_sources is None else range(num_sources),
        seed=seed, scale=scale, device=device, recompute=recompute,
    )
    left_out, N = len(retraining.sources), ablation.num_sources
    if left_out < N:
        lines.append(f"**Of the {N:,} retrainings that {dataset} asks for, {left_out:,} were done; the comparisons below are over those {left_out} sources.**")
    lines += [f"**{dataset}**, scale *{scale}*: {recipe.data.size:,} images from {N:,} data sources; {n} members of weight {recipe.code.weight}, "
              f"{recipe.training.steps:,} training steps of batch {recipe.training.batch_size}. " + abc.landscapes_origin(ablation),
              abc.retraining_origin(retraining)]
if counts:
    lines.append(abc.classes_origin(counts))
display(Markdown("\n\n".join(lines)))

# %% tags=["hide-input"]
command = f"papermill notebooks/01_abc_vs_rbc.ipynb out.ipynb -p dataset {dataset}" + ("" if scale == "laptop" else f" -p scale {scale}")
lines = [f"> **Run this page:** `{command}`"]
if counts is None:
    lines += [">", f"> **Class sources** ({class_dataset}): no results at hand; `-p classes {class_dataset}` trains its ensemble and its eleven models."]
display(Markdown("\n".join(lines)))

# %% [markdown]
# ## Whole classes as data sources
#
# An ensemble of six members whose data sources are the ten classes, and eleven models: one trained on everything, ten from whose training set one of the classes was taken out. A classifier that was trained on other images says what the samples show. Black: how often a class comes up with everything in; red: how often it still comes up without it.

# %% mystnb={"image": {"alt": "Bars of how often each class is generated with everything in, black, and without that class, red, by ablation and by retraining."}} tags=["hide-input"]
if counts:
    names = abc.class_names(family)
    abc.figures.class_bars({f"{each.name}, by {each.method}": (each.before, each.after, each.samples) for each in counts}, names)
    plt.show()
    display(abc.figures.table(pd.DataFrame(abc.class_table(counts, names))))
else:
    display(Markdown(f"Not at hand for {class_dataset}."))

# %% tags=["hide-input"]
if counts:
    lines = []
    for each in counts:
        share = each.after.sum() / each.before.sum()
        raised = [names[k] for k in np.flatnonzero(each.after > each.before)]
        lines.append(f"- By {each.method} a removed class keeps on average {share:.0%} of its frequency. "
                     + (f"It comes up *more* often after it was removed for: {', '.join(raised)}." if raised else "None comes up more often than before."))
    fall = [each.before - each.after for each in counts]
    link = np.corrcoef([each.before for each in counts])[0, 1]
    lines.append(f"- Over the classes, the frequencies of the ensemble and of the single model correlate with {link:.2f}, and how much each falls when it is "
                 f"removed with {np.corrcoef(fall)[0, 1]:.2f}.")
    error = 1 - counts[0].artefact.info["accuracy"]
    lines.append(f"- What is left of a class need not be that class: the classifier is wrong on {error:.1%} of real images, and a model that never saw a class "
                 "still draws what lies between the others.")
    text = ("The paper reports that distributions and diminishment are comparable for MNIST and Fashion-MNIST, and remarks that pullovers seem to come up more "
            "often after retraining without them, likely because pullovers, dresses and shirts look alike at this resolution. ")
    if family == "fashion":
        k = names.index("pullover")
        text += " ".join(f"Here, by {each.method}: {each.before[k]:.1%} with pullovers in the training set, {each.after[k]:.1%} without." for each in counts)
    else:
        text += "Whether that comes back is a question to `-p dataset fashion_classes`; the list below says whether any class here does the same."
    display(Markdown(text + "\n\n" + "\n".join(lines)))

# %% [markdown]
# Where does a removed class go? Each row removes one class; the colours say which classes gain from it.

# %% mystnb={"image": {"alt": "Two matrices, by ablation and by retraining: how removing each class changes the frequency of every class."}} tags=["hide-input"]
if counts:
    abc.figures.class_changes({f"by {each.method}": each.change() for each in counts}, names)
    plt.show()
    off = ~np.eye(len(names), dtype=bool)
    link = np.corrcoef([each.change()[off] for each in counts])[0, 1]
    display(Markdown(f"Off the diagonal the two maps correlate with {link:.2f}: " + (
        "both methods agree on what takes a removed class's place." if link > 0.5 else "they agree little on what takes a removed class's place.")))

# %% [markdown]
# ## Single images as data sources
#
# Now every training image is a source of its own: for each there is a counterfactual by ablation, and one by a model trained without it (that image replaced by an all-black one, everything else the same to the last random number). Both start from the same exogenous noise.

# %% mystnb={"image": {"alt": "Samples of ensemble and single model from the same noise, each with its farthest counterfactual and the image removed for it."}} tags=["hide-input"]
if only_classes:
    display(Markdown("This page was run on classes only."))
else:
    rows = np.linspace(0, len(ablation) - 1, min(6, len(ablation))).round().astype(int)
    rows = [row for row in rows if ablation.indices[row] in retraining.indices]
    again = [int(np.flatnonzero(retraining.indices == ablation.indices[row])[0]) for row in rows]
    shown = {"ensemble": ablation.factual[rows], "farthest\nby ablation": ablation.farthest_images[rows], "single model": retraining.factual[again]}
    if retraining.kept_images.shape[1]:
        shown["farthest\nby retraining"] = retraining.farthest_images[again]
    abc.figures.image_rows(shown, [f"#{ablation.indices[row]}" for row in rows], [f"{ablation.radii[row]:.1f} | {retraining.radii[r]:.1f}" for row, r in zip(rows, again)])
    plt.show()
    pairs = abc.same_noise(ablation, retraining)
    display(Markdown(
        "Below: the radius by ablation and by retraining. From the same noise the ensemble and the single model make samples that lie "
        f"{np.median(pairs.same):.1f} apart (median), from other noise {np.median(pairs.other):.1f}: "
        + ("mostly the same picture, so asking both for the same counterfactual makes sense." if np.median(pairs.same) < 0.6 * np.median(pairs.other)
           else "not the same picture, so their counterfactuals are about different samples, and can only agree so far.")
    ))

# %% [markdown]
# ### Visual attribution beside each
#
# Table 4 of the paper: take the k images that look most like a sample, and the k whose removal changes it most. In how many samples have the two lists one in common? *By chance* is what two random lists would give, with its standard deviation. By ablation and by retraining the lists are of different models, so each is held against its own samples.

# %% tags=["hide-input"]
if not only_classes:
    images = abc.training_set(recipe.data)
    metrics = [abc.get_metric(name, device).load() for name in metrics] if metrics else abc.family_metrics(family, scale, device=device)
    predicted = None if recompute else abc.stored_jacobians(dataset, scale)
    if predicted is None or predicted.seed != seed:
        predicted = abc.get_jacobians(abc.get_ensemble(recipe, device=device, recompute=recompute), ablation.indices[:12], seed)
    predicted = abc.predicted_landscapes(predicted, abc.draw_codebook(recipe))
    sources = np.sort(retraining.sources)
    # each method's samples and their distances, over the sources that were left out
    methods = {}
    for method, each, factual in (("ablation", ablation, ablation.factual), ("retraining", retraining, retraining.factual), ("differential", predicted, None)):
        samples, _, (distances, _) = abc.in_common([each, retraining])
        owner = retraining if method == "retraining" else ablation
        rows = [int(np.flatnonzero(owner.indices == i)[0]) for i in samples if i in owner.indices]
        keep = np.isin(samples, owner.indices)
        methods[method] = (owner.factual[rows], distances[keep])
    visual = {(method, metric.name): abc.visual_distances(factual, images, metric)[:, sources]
              for method, (factual, _) in methods.items() for metric in metrics}
    ks = [k for k in (1, 3, 8) if 2 * k <= len(sources)]
    labels = {metric.name: metric.label for metric in metrics}
    table = []
    papers = abc.paper_intersections(dataset)
    reference = papers or abc.paper_intersections("mnist_384")
    for method, (factual, distances) in methods.items():
        for k in ks:
            row = {"counterfactuals by": method, "k": k, "samples": len(distances)}
            for name in labels:
                met = abc.top_k_intersections(visual[method, name], distances, k)
                row[labels[name]] = f"{met.count} ({met.count / met.samples:.0%})"
            row["by chance"] = f"{met.expected:.0f} ± {met.sd:.0f} ({met.chance:.0%})"
            table.append(row)
    display(abc.figures.table(pd.DataFrame(table)))
    of = dataset if papers else "mnist_384"
    beside = pd.DataFrame([{"counterfactuals by": method, "k": 8, "samples": 1024} | {name: f"{value} ({value / 1024:.0%})" for name, value in row.items()}
                           | {"by chance": "160 ± 12 (16%)"} for method, row in reference.items()])
    display(Markdown(f"The paper's table 4, {of} (384 sources, so chance is lower" + (" than here" if len(sources) < 384 else "") + "):"))
    display(abc.figures.table(beside))

# %% tags=["hide-input"]
if not only_classes:
    # Where chance already fills most samples, a difference has no room.
    first, k = metrics[0].name, max(k for k in ks if abc.intersection_chance(len(sources), k) < 0.5)
    found = {method: abc.top_k_intersections(visual[method, first], distances, k) for method, (_, distances) in methods.items()}
    shares = {method: met.count / met.samples for method, met in found.items()}
    gap = shares["retraining"] - shares["ablation"]
    error = np.sqrt(sum(shares[method] * (1 - shares[method]) / found[method].samples for method in ("ablation", "retraining")))
    apart = abs(gap) / max(error, 1e-9)
    display(Markdown(
        f"With k = {k} and {labels[first]}: ablation {shares['ablation']:.0%}, retraining {shares['retraining']:.0%}, differential ablation "
        f"{shares['differential']:.0%}, chance {found['ablation'].chance:.0%}. All three "
        + ("lie above chance, as in the paper. " if max(met.p for met in found.values()) < 0.01
           else "do not lie clearly above chance. ")
        + f"Ablation and retraining differ by {100 * abs(gap):.0f} points, {apart:.1f} standard errors: "
        + ("comparable, which is what the paper finds. " if apart < 2 else
           f"the lists of {'retraining' if gap > 0 else 'ablation'} agree more with visual ones, where the paper finds the two comparable. ")
        + ("Differential ablation is closer to visual attribution than ablation is, as in the paper." if shares["differential"] > 1.2 * shares["ablation"]
           else "The paper finds differential ablation far closer to visual attribution; here it is not.")
    ))

# %% [markdown]
# The same the other way round (figure 9): how similar, among all sources, is the one whose removal changed the sample most? 0 is the most similar of all, 1 the least; without any link, ranks would spread evenly around one half (dashed).

# %% mystnb={"image": {"alt": "Violins of the visual similarity rank of the top counterfactual source, by ablation, differential ablation and retraining."}} tags=["hide-input"]
if not only_classes:
    figure, axes = plt.subplots(len(metrics), 1, figsize=(6.6, 0.8 + 1.9 * len(metrics)), squeeze=False)
    for ax, metric in zip(axes[:, 0], metrics):
        ranks = {method: abc.visual_similarity_ranks(visual[method, metric.name], abc.top_counterfactual(distances)[:, 0])
                 for method, (_, distances) in methods.items()}
        abc.figures.violins(ranks, ax, "visual similarity rank of the top counterfactual source", chance=0.5)
        ax.set(title=f"similarity by {metric.label}", xlim=(-0.02, 1.02))
    plt.show()
    display(Markdown("Mean ranks by " + labels[first] + ": " + ", ".join(
        f"{method} {abc.visual_similarity_ranks(visual[method, first], abc.top_counterfactual(distances)[:, 0]).mean():.2f}"
        for method, (_, distances) in methods.items()) + ". In the paper ablation and retraining are alike here, and differential ablation names images that are much more similar."))

# %% [markdown]
# ## Do ablation and retraining agree with each other?
#
# Visual attribution is a detour. Take a sample's landscape by ablation and its landscape by retraining, and correlate them over the sources: does the image whose removal matters to the ensemble matter to the single model? And since no answer can agree with retraining better than retraining agrees with itself, take a second set of models that differ from the first in nothing but the seed of their training. The same for ablation: an ensemble of other members with the same code, and one with another code as well.

# %% tags=["hide-input"]
if not only_classes:
    landscapes = {"ablation": ablation, "differential": predicted, "retraining": retraining}
    variants = {
        "retraining, other seed": abc.find_retraining_landscapes(recipe, second_seed, seed=seed),
        "ablation, other members": abc.stored_landscapes(recipe.replace(training={"seed": second_seed}), scale),
        "ablation, other members and code": abc.stored_landscapes(recipe.replace(training={"seed": second_seed}, code={"seed": second_seed}), scale),
    }
    absent = [name for name, each in variants.items() if each is None]
    landscapes |= {name: each for name, each in variants.items() if each is not None and each.seed == seed}
    wanted = [pair for pair in (
        ("ablation", "retraining"), ("retraining", "retraining, other seed"), ("ablation", "ablation, other members"),
        ("ablation", "ablation, other members and code"), ("ablation", "retraining, other seed"), ("differential", "retraining"),
        ("ablation", "differential"),
    ) if all(name in landscapes for name in pair)]
    agreements = {}
    for a, b in wanted:
        _, _, (x, y, _) = abc.in_common([landscapes[a], landscapes[b], retraining])
        agreements[f"{a} – {b}"] = abc.agreement(x, y)
    display(abc.figures.table(abc.agreement_table(agreements)))
    if absent:
        display(Markdown(f"Not at hand for {dataset}: {', '.join(absent)}."))

# %% mystnb={"image": {"alt": "Violins of rank correlations between pairs of landscapes: ablation, retraining, other seeds, members and codes."}} tags=["hide-input"]
if not only_classes:
    figure, ax = plt.subplots(figsize=(6.8, 0.8 + 0.55 * len(agreements)))
    abc.figures.violins({name: each.correlations for name, each in agreements.items()}, ax, "rank correlation over sources, a value a sample",
                        "ablation – retraining", chance=0.0)
    plt.show()

# %% tags=["hide-input"]
if not only_classes:
    mean, low, high = agreements["ablation – retraining"].interval()
    lines = [f"Ablation and retraining correlate with {mean:.2f} ({low:.2f} to {high:.2f}) over the sources of a sample."]
    floor = agreements.get("retraining – retraining, other seed")
    if floor is not None:
        own, below, above = floor.interval()
        lines.append(f"Two retrainings that differ in their seed alone correlate with {own:.2f} ({below:.2f} to {above:.2f}).")
        if own < 0.3:
            lines.append("So most of what a retrained landscape shows is the chance of that training: which source matters most to a sample is hardly a property "
                         "of the training set alone, and a single retraining is no ground truth that another method could be held against.")
        tops = [(each.tops[1].count / each.tops[1].samples) for each in (floor, agreements["ablation – retraining"])]
        lines.append(f"What two retrainings share above all is the top: the farthest source is the same in {tops[0]:.0%} of the samples, where chance gives "
                     f"{floor.tops[1].chance:.0%}; for ablation and retraining it is the same in {tops[1]:.0%}.")
        if mean >= below:
            lines.append("Ablation agrees with retraining no worse than retraining does with itself.")
        else:
            lines.append(f"Ablation agrees with retraining less than retraining does with itself, by {own - mean:.2f}.")
    other = agreements.get("ablation – ablation, other members and code")
    if other is not None:
        lines.append(f"Ablation with other members and another code agrees with itself to {other.interval()[0]:.2f}"
                     + (f", with other members and the same code to {agreements['ablation – ablation, other members'].interval()[0]:.2f}"
                        if "ablation – ablation, other members" in agreements else "") + ".")
        same = agreements.get("ablation – ablation, other members")
        if same is not None and same.interval()[0] > other.interval()[0] + 0.2:
            lines.append("So most of an ablated landscape at this size is the code's: which members go with a source decides how far its counterfactual lies, more than what "
                         "the source shows. Whoever attributes a sample to a source should ask more than one code.")
    display(Markdown(" ".join(lines)))

# %% [markdown]
# ## Every attribution against every other
#
# The paper's figure 10: for each pair of attributions, in how many of a hundred samples do their lists meet? *Visual* lists are of the ensemble's samples; *visual, model* of the single model's.

# %% mystnb={"image": {"alt": "Matrices of how often the top lists of every two attributions have a source in common."}} tags=["hide-input"]
if not only_classes:
    names = [name for name in landscapes if name != "retraining, other seed"] + ["retraining, other seed"] * ("retraining, other seed" in landscapes)
    samples, common, distances = abc.in_common([landscapes[name] for name in names] + [retraining])
    rows = {id(each): [int(np.flatnonzero(each.indices == i)[0]) for i in samples] for each in (ablation, retraining)}
    look = {f"visual, {metric.name}": abc.visual_distances(ablation.factual[rows[id(ablation)]], images, metric)[:, common] for metric in metrics}
    look |= {f"visual, {metric.name}, model": abc.visual_distances(retraining.factual[rows[id(retraining)]], images, metric)[:, common] for metric in metrics}
    panels = {}
    for k in ks:
        tops = abc.top_sources(look, dict(zip(names, distances)), k)
        panels[f"k = {k} (chance {abc.intersection_chance(len(common), k):.0%})"] = abc.meeting_matrix(tops, len(common))
    abc.figures.meeting_matrices(panels)
    plt.show()
    display(Markdown(f"Percent of {len(samples)} samples; {len(common)} sources."))
