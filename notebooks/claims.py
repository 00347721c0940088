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
# # The paper's claims, one by one
#
# **Asked:** do the paper's claims hold in the results of this book? **Found:** many do, for small
# networks and mostly the built-in digits; the two that are told most, about the radius, hold for
# placebos as well and depend on the length of training. The counts are below.
#
# Each claim of *Ablation Based Counterfactuals* {cite}`dai2024ablation` in sections 3.1 to 3.6 and
# in appendices A and C, what the paper reports, what the results of this book say, and, behind the
# section, the page that shows them. Every entry in the column *here* is worked out by this page
# from published artefacts. Each verdict follows a rule, which stands beside it and is written down
# in `abc_lib/study/claims/`; evidence is what lies two standard errors from no effect, and without
# it a claim is *undecided*. *Holds for placebos as well*: the same comes out where no source is
# removed ([members that remember](memory.ipynb)). Where a claim could not be tried, it says what it
# needs.

# %% tags=["parameters"]
scale = "laptop"  # the scale of the results; there are none of another yet

# %%
from collections import Counter

import matplotlib.pyplot as plt
from IPython.display import Markdown, display

import abc_lib as abc

claims = abc.claims.claims()
counts = Counter(claim.verdict for claim in claims)
counts

# %% tags=["hide-input"]
abc.figures.use_style()
words = ", ".join(f"{count} *{verdict}*" for verdict, count in counts.items())
lines = [
    f"**{len(claims)} claims:** {words}. Scale *{scale}*: small networks, mostly the built-in "
    "digits.",
    "<details><summary>Where each number comes from</summary>",
    abc.at_hand.published_origin(),
    "</details>",
    "> **Run this page:** `papermill notebooks/claims.ipynb out.ipynb`",
]
display(Markdown("\n\n".join(lines)))

# %% tags=["hide-input"]
display(abc.figures.table(abc.claims.claims_table(claims)))

# %% [markdown]
# ## Where we do not simply agree
#
# A disagreement is a finding about these small ensembles first, and about the paper perhaps. The
# likely reasons stand on the pages: digits are one kind of image where the paper has seven; our
# sets end where the paper's begin; every member here is trained for the same number of steps, so
# that an image of a small set is seen more often ([the radius page](03_radius.ipynb) shows how much
# that alone does); networks are hundreds of times smaller. What would settle each is the same run
# on larger sets, which the notebooks do by parameter.

# %%
differing = [claim for claim in claims if claim.verdict not in ("agrees", "not run")]
{claim.section: claim.verdict for claim in differing}

# %% tags=["hide-input"]
for claim in differing:
    display(
        Markdown(
            f"- **{claim.section}: {claim.claim}** The paper: {claim.paper}. Here: {claim.ours}. "
            f"See [{claim.page}]({claim.page}.html)."
        )
    )

# %% [markdown]
# The claim that most readers remember, radius against training set size, with the paper's points
# and ours. The line through our digits, and the paper's through its 23 ensembles:

# %%
digits = abc.radii.of_family(abc.get_recipe("digits_64", scale))
ours = abc.radii.summaries(digits, scale)
paper = abc.radii.paper_summaries()
our_law, paper_law = abc.radius.fit_law(ours), abc.radius.fit_law(paper)
[vars(law) for law in (our_law, paper_law)]

# %% mystnb={"image": {"alt": "Mean log10 radius against log10 training set size: the paper's 23 ensembles and ours, each with its fitted line."}} tags=["hide-input"]
mnist = abc.radii.of_family(abc.get_recipe("mnist_256", scale))
more = abc.radii.summaries(mnist, scale)
figure, ax = plt.subplots(figsize=(6.8, 4.4))
abc.figures.radius_law(ours + more, paper, ax, our_law, paper_law)
plt.show()

# %% [markdown]
# ## Exercises
#
# 1. Which sections of the paper have the most claims that are not simply agreed with?

# %% tags=["hide-cell"]
Counter(claim.section.split(",")[0] for claim in differing).most_common(3)

# %% [markdown]
# 2. Fit the paper's line to its MNIST ensembles alone. Is it nearer to ours?

# %% tags=["hide-cell"]
abc.radius.fit_law([s for s in paper if s.name.startswith("mnist")]).slope
