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
# # What the radius follows
#
# **Asked:** the paper finds that counterfactual radii shrink as training sets grow. Is it the
# *number* of images that does it, or how *often* members see each of them? **Found:** both. Of
# digits and of MNIST the radius falls with the number where each image is seen equally often, and
# grows with how often, whichever ensemble is left out of the fit; five ensembles of Fashion-MNIST
# tell neither for certain. Of digits and MNIST it follows what members remember of their images
# more closely than size and exposure together. One curve of memory for all kinds of images was not
# found.
#
# The ensembles are those of the page [members that remember](memory.ipynb), which also says that
# their radii are no larger than those of placebos. So the law of the radius is a law of how
# differently two halves of an ensemble draw the same sample.

# %% tags=["parameters"]
families = ["digits_64", "mnist_256", "fashion_256", "cifar10_500"]  # each by one of its names

# %%
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display

import abc_lib as abc

# %% tags=["hide-input"]
abc.figures.use_style()
measured = abc.exposures.at_hand(families)
run = "papermill notebooks/law.ipynb out.ipynb"
display(Markdown(abc.exposures.opening(measured, run)))

# %%
kinds = abc.radius.by_kind(measured)
{kind: len(values) for kind, values in kinds.items()}  # ensembles of a kind of image

# %% [markdown]
# ## Size and exposure
#
# The paper's law is a line through mean log10 radii over log10 $N$. But its members see an image
# the less often the more images there are: 500,000 draws shared by $N/2$ images. Two variables,
# then: $\log_{10} r = a + b \log_{10} N + c \log_{10} E$, with $E$ the exposure.
#
# Each line of the figures is one design: the same number drawn, as the authors do, or every image
# seen equally often. Placebo radii are dotted, the authors' ensembles grey.

# %% mystnb={"image": {"alt": "Mean log10 radius against training set size: a line for the authors' design, one for each exposure, placebo radii dotted, and the authors' ensembles in grey."}} tags=["hide-input"]
for kind, values in kinds.items():
    designs, theirs = abc.exposures.designs(values), abc.exposures.authors_points(kind)
    if designs:
        figure, ax = plt.subplots(figsize=(6.4, 4.6))
        abc.figures.radii_by_size(designs, ax, theirs if len(theirs) else None)
        ax.set_title(kind)
        plt.show()

# %% [markdown]
# The law of one kind of image, by least squares over its ensembles:

# %%
values = max(kinds.values(), key=len)
axes = [[1, np.log10(v.size), np.log10(v.exposure)] for v in values]
means = [np.log10(v.radii).mean() for v in values]
(a, b, c), *_ = np.linalg.lstsq(np.array(axes), np.array(means))
values[0].name.split("_")[0], np.round([a, b, c], 2)

# %% [markdown]
# By how much would other samples and other training seeds change that? Intervals draw samples anew,
# with the same noise in all ensembles, and training seeds, of which some ensembles have several.
# They know nothing of ensembles that do not lie on the law. So the table also says between which
# ends an exponent lies when each of the ensembles is left out in turn.

# %%
again = abc.law.trainings(measured)  # ensembles that were trained more than once
total, spread = abc.law.spread_of(again)  # of log10 radii: all, and beyond samples
laws = {kind: abc.law.fit_or_none(values, spread=spread) for kind, values in kinds.items()}
placebo_laws = {
    kind: abc.law.fit_or_none(values, placebo=True, spread=spread) for kind, values in kinds.items()
}
round(total, 3), round(spread, 3)

# %% tags=["hide-input"]
display(abc.figures.table(abc.law.table(laws, placebo_laws)))
display(Markdown(abc.law.told_verdict(laws)))

# %% [markdown]
# Along the authors' design $N E$ is constant, so a law of size alone has the slope $b - c$ there.
# Is the slope the same at every exposure, as the law has it? Within each design, paired over
# samples:

# %% tags=["hide-input"]
display(abc.figures.table(abc.law.slopes_table(kinds)))

# %% [markdown]
# Where images are seen 125 times, which members hardly remember, the number of images seems to
# matter less than at 500 views, of digits and of MNIST. The table was made after the numbers were
# seen, so that is an observation, to be tried on other ensembles.
#
# How far apart do trainings lie?

# %% tags=["hide-input"]
display(abc.figures.table(abc.law.trainings_table(again)))
display(Markdown(abc.law.trainings_verdict(again, measured)))

# %% [markdown]
# Does the radius level off with training? How much it grows a doubling of the exposure, from the
# same noise before and after:

# %% tags=["hide-input"]
display(abc.figures.table(abc.law.levelling_table(measured)))
display(Markdown(abc.law.levelling_verdict(measured)))

# %% [markdown]
# ## One variable behind both?
#
# The same radii against what members remember: by how much nearer the samples of a member alone
# lie to an image that it saw than to any other.

# %% mystnb={"image": {"alt": "Mean log10 radius against the ratio of distances to own and other images, a line an ensemble."}} tags=["hide-input"]
for kind, values in kinds.items():
    if len(values) > 2:
        figure, ax = plt.subplots(figsize=(6.4, 4))
        abc.figures.radii_by_memory(values, ax)
        ax.set_title(kind)
        plt.show()
        display(abc.figures.table(abc.one_variable.within_table(values)))

# %% [markdown]
# The tables say how far the mean log10 radius of an ensemble lies from what a fit to the other
# ensembles foretells.

# %% tags=["hide-input"]
display(Markdown(abc.one_variable.within_verdict(kinds)))

# %% [markdown]
# These are few ensembles; but a longer training and a smaller set do to the radius what they do to
# memory, and an ensemble that remembers more has the larger radius.

# %% [markdown]
# ## One curve for all families?
#
# A radius of digits and one of MNIST are in the same unit, but images of the two do not lie equally
# far apart. So let the unit be how far two samples of a family lie from each other: at 0 a
# counterfactual is as far from its sample as another sample would be. Over what members remember,
# digits and MNIST then lie on one curve. Fashion-MNIST, which was measured later, lies below it:

# %% mystnb={"image": {"alt": "Mean log10 radius over the distance of two samples against the ratio of distances to own and other images, a colour a family, with a curve fitted to those measured first."}} tags=["hide-input"]
apart = abc.one_variable.units(families)
points, curve = abc.one_variable.curve_points(kinds, apart)
figure, ax = plt.subplots(figsize=(6.4, 4.4))
abc.figures.one_curve(points, curve, ax)
plt.show()

# %% [markdown]
# Full marks are the first 23 ensembles, at which the unit was found, and the curve is fitted to
# them. Does one family follow from the other? The table leaves each out of the fit in turn.

# %% tags=["hide-input"]
first = abc.one_variable.before(kinds)
display(abc.figures.table(abc.one_variable.across_table(first, apart)))
display(Markdown(abc.one_variable.across_verdict(first, apart)))

# %% [markdown]
# An idea that was found by looking at numbers says little of them. The rules were written then, and
# what was measured later tests them:

# %% tags=["hide-input"]
display(abc.figures.table(abc.one_variable.foretold_table(kinds, apart)))
display(Markdown(abc.one_variable.foretold_verdict(kinds, apart)))

# %% [markdown]
# And each family from the others, with all that is known now:

# %% tags=["hide-input"]
display(abc.figures.table(abc.one_variable.across_table(kinds, apart)))
display(Markdown(abc.one_variable.across_verdict(kinds, apart)))

# %% [markdown]
# So the idea did not survive. Radii of Fashion-MNIST are too small for it, by a factor that hardly
# depends on the exposure: there the unit is wrong. Two samples of clothes may lie far apart in what
# every member knows, such as how dark a kind of clothes is; that was not tested. And where members
# of `digits_64` nearly repeat their images, at 8,000 views, a parabola turns while the radius goes
# on growing: there the form is wrong. A unit and a form that hold for three families are still to
# be found.
#
# Nothing in this is about sources: placebo radii, being as large, lie where the radii do. It says
# what a radius measures: how differently two halves of an ensemble draw the same sample, which
# grows with what each remembers of its own images.
