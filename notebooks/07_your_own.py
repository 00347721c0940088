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
# # Whom does it imitate?
#
# **Asked:** of all whose pictures a model learned from, whom does a sample imitate, and would it
# still if they had not been among them? **Found:** whoever is left out is
# hardly imitated any more, and switching off as many members without leaving anybody out does not
# do that. But a judge that knows every real picture may be blind to imitations: it has to be tried
# on samples whose makers are known.
#
# The other pages follow the paper. This one takes a training set whose sources are people with
# several pictures each, and goes the whole way: from the pictures to an ensemble, a sample, its
# counterfactuals beside placebos, an audit of imitation, and a certificate.
#
# It runs on your own pictures, too, by `-p dataset`, where every source has two or more. By default
# the people are made up: 24 programmes, each with a motif, a palette and a stroke of its
# own. So the truth about who paints how is known, nothing is downloaded, and every picture is the
# same on every machine.

# %% tags=["parameters"]
dataset = "made_24"  # an ensemble whose sources have two pictures or more each
num_samples = 4  # samples with landscapes, computed now where they are not at hand
sample = 0  # the sample that is looked at closely, one of them
seed = 0  # of the exogenous noise
scale = "laptop"  # "laptop", or "paper" for the paper's own networks
device = "auto"  # "auto", "cpu", "cuda", "cuda:1", "mps"

# %%
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display

import abc_lib as abc

here = abc.Here(device=device, progress=False)
recipe = abc.get_recipe(dataset, scale)
images = abc.training_set(recipe.data)
recipe.data

# %% [markdown]
# ## A contact sheet
#
# Look at your pictures before anything is trained. Three of each of the first sources:

# %% mystnb={"image": {"alt": "Three training pictures of each of the first eight sources."}}
first = np.arange(min(8, recipe.data.num_sources))
rows = [np.flatnonzero(images.sources == source)[:3] for source in first]
many = min(len(row) for row in rows)
sheet = {str(k + 1): images.images[[row[k] for row in rows]] for k in range(many)}
abc.figures.use_style()
abc.figures.image_rows(sheet, [f"source {j}" for j in first])
plt.show()

# %% [markdown]
# ## The code
#
# Who trains on what: a source is seen by the members that have a 1 in its codeword, and leaving it
# out switches these members off.

# %%
code = abc.draw_codebook(recipe)
free = code.unowned(10_000)
code.words.shape, code.weight, len(free)  # sources and members; seen by; codewords left over

# %% mystnb={"image": {"alt": "The first codewords as a matrix, with the members that saw source 2 struck out."}}
figure, ax = plt.subplots(figsize=(5.2, 4.2))
abc.figures.code_matrix(code, ax, removed=2)
plt.show()

# %% [markdown]
# ## Training
#
# Every member is a small network that sees its half of the sources, each picture as often as
# *exposure* says. The members of `made_24` come with the repository; those of another training set
# are trained here, and training can be stopped and gone on with.

# %%
ensemble = abc.get_ensemble(recipe, here)
round(recipe.exposure), recipe.training.steps, ensemble.n

# %%
result = abc.run(dataset, num_samples, seed, scale, here)
landscapes = result.landscapes
audit = abc.imitation.stored(recipe, here)
audit = abc.imitation.get(ensemble, seed=seed, here=here) if audit is None else audit
audit.own.shape  # judges, samples, sources

# %% tags=["hide-input"]
details = f"{result.origin()} {abc.imitation.origin(audit)}"
made = [ensemble, landscapes, audit]
display(Markdown(abc.sections.opening("07_your_own", recipe, made, details)))

# %% [markdown]
# ## Samples
#
# From new noise. Under each is the source that a judge names who has learned to tell the training
# pictures apart (more on judges below).

# %%
noise = ensemble.draw_noise(seed, range(16))
samples = ensemble.sample(noise).clamp(0, 1)
best = audit.judge()
judges = abc.imitation.Judges(images)
told = judges.name(samples)[judges.names.index(audit.judges[best])]

# %% mystnb={"image": {"alt": "Sixteen samples, each with the number of the source that the judge names."}}
abc.figures.image_grid(samples, [f"like {source}" for source in told])
plt.show()

# %% [markdown]
# ## One sample without each source, and its placebos
#
# The landscape of one sample: how far it moves when each source is left out. Beside it, how far it
# moves along codewords **that no source owns**, which take as many members and nobody's pictures.

# %%
row = int(np.flatnonzero(landscapes.indices == sample)[0])
words = abc.evidence.owned_and_free(code, recipe.data.num_sources)
one = ensemble.draw_noise(seed, [sample])
factual, there = abc.evidence.without(ensemble, one, words, 64)
N = recipe.data.num_sources
moved = abc.distance(there, factual).numpy()
assert np.allclose(moved[:N], landscapes.distances[row], rtol=1e-3)
(
    round(float(moved[:N].max()), 1),
    round(float(moved[N:].max()), 1),
)  # farthest source, farthest placebo

# %% mystnb={"image": {"alt": "A sample, the four counterfactuals that lie farthest from it, and its four farthest placebos."}} tags=["hide-input"]
rows, notes = {}, {}
for name, part in (("source gone", range(N)), ("placebo", range(N, len(moved)))):
    order = sorted(part, key=lambda k: -moved[k])[:4]
    rows[name] = [factual[0], *there[order]]
    label = [f"#{k}" if k < N else "" for k in order]
    notes[name] = ["", *(f"{mark} {moved[k]:.1f}".strip() for mark, k in zip(label, order))]
abc.figures.image_rows(rows, ["sample", *["farthest"] * 4], notes)
plt.show()

# %% [markdown]
# ## Which sources matter, by more than chance?
#
# The rank of a source among the placebos is a p-value ([signal or chance](06_signal)): uniform if
# sources make no difference. Three statistics of every sample of the audit and every source: how
# far it moved; how much farther *away* from the source's pictures it came to lie; how far it moved
# *against* the direction of their mean. Where a curve follows the diagonal, one code cannot name a
# single source of a single sample; the audit below asks about all samples together.

# %%
names = list(abc.evidence.STATISTICS)
least = 1 / (audit.free.shape[2] + 1)
{name: float((p < 0.05).mean().round(3)) for name, p in zip(names, audit.p_values)}, round(least, 3)

# %% mystnb={"image": {"alt": "Distribution functions of p-values of all sources and samples for three statistics, beside the diagonal of chance."}}
groups = {abc.signals.WORDS[name]: p for name, p in zip(names, audit.p_values)}
figure, ax = plt.subplots(figsize=(5.6, 4))
abc.figures.p_value_shares(groups, ax)
plt.show()

# %% [markdown]
# ## Judges, and what they count
#
# A judge is a classifier that learned on the training pictures: by the nearest mean of a source's
# pictures or by a linear rule, on pixels, on the colours that a picture has, or on the features of
# an ImageNet network. A judge can be asked two things whose answers are known: real pictures that
# it did not learn on, and samples of a **member alone**, which can only imitate whom it saw. The
# second matters more, because samples are not as sharp as pictures:

# %%
display(abc.figures.table(abc.audit.alone_table(audit)))

# %% [markdown]
# From here on the judge counts that does best there; the others stand beside it.
#
# Then the count. For each source: for how many samples does the judge name it where it is left out,
# and for how many where as many members go along a placebo? Along placebos all sources together are
# named once a sample. If leaving a source out did nothing, the sum would be 1 there, too.

# %%
whole = abc.imitation.total(audit)
round(whole.ablated, 3), whole.placebo, round(whole.p, 4)

# %%
display(abc.figures.table(abc.audit.judge_table(audit)))
display(Markdown(abc.audit.verdict(audit)))

# %% [markdown]
# Source by source:

# %% mystnb={"image": {"alt": "For every source the share of samples named for it, with all sources in, along placebos and without the source."}}
each = abc.imitation.shares(audit)
figure, ax = plt.subplots(figsize=(6, 0.24 * len(each) + 1.2))
values = [np.array([getattr(one, key) for one in each]) for key in ("taken", "placebo", "ablated")]
abc.figures.named_shares(*values, [f"{j}" for j in range(len(each))], ax)
plt.show()

# %% [markdown]
# Where the samples of one who is left out go: who is named more often then, in points of percent of
# the samples, against placebos. The diagonal is what a source itself loses.

# %% mystnb={"image": {"alt": "Matrix of the change in how often each source is named when each source is left out."}}
table = abc.imitation.gains(audit)
numbers = [str(j) if j % 4 == 0 else "" for j in range(len(table))]
abc.figures.class_changes({audit.judges[best]: table}, numbers, "source")
plt.show()
display(Markdown(abc.audit.likeness_verdict(audit)))

# %% [markdown]
# ## Is the judge to be believed?
#
# Nobody who is left has seen a source that was left out, so names of it that remain are errors of
# the judge. How many it should make is known from two sides: as often as it takes real pictures by
# others for the source's, or as often as it names a source for a member that never saw it.

# %%
display(abc.figures.table(abc.audit.truth_table(audit)))

# %% [markdown]
# ## A certificate
#
# For a sample that somebody asks about: a file that says how far every counterfactual lies, with
# the hashes of members, code and noise, and how far as many placebos lie. Whoever has the members
# can make any part of it again.

# %%
chance = abc.placebos.get(ensemble, [sample], seed, here)
certificate = abc.certificates.make_certificate(ensemble, landscapes, sample, None, chance)
print(abc.certificates.verify_certificate(certificate, 2, here=here))

# %% [markdown]
# ## Exercises
#
# 1. By how much does the answer depend on the judge? Ask the worst one.
# 2. Whose pictures does the sample above owe most to, by p-value?

# %% tags=["hide-cell"]
# 1: the judge that does worst on samples of members alone
worst = audit.judges[int(audit.saw.mean(axis=1).argmin())]
worst, abc.imitation.total(audit, worst).ablated

# %% tags=["hide-cell"]
# 2: the three smallest p-values of the sample, moved away
away = audit.p_values[names.index("away"), sample]
[(int(j), round(float(away[j]), 3)) for j in np.argsort(away, kind="stable")[:3]]
