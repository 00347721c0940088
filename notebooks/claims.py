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
# Each claim of *Ablation Based Counterfactuals* {cite}`dai2024ablation` in sections 3.1 to 3.6 and in appendices A and C, what the paper reports, what the results of this book say, and, behind the section, the page that shows them. Every entry in the column *here* is worked out by this page from published artefacts. Each verdict follows a rule written down in `abc_lib/claims.py`; where a claim could not be tried, it says what it needs.

# %% tags=["parameters"]
scale = "laptop"  # the scale of the results; there are none of another yet

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
from IPython.display import Markdown, display

import abc_lib as abc

abc.figures.use_style()
found = abc.claims()
counts = {verdict: sum(claim.verdict == verdict for claim in found) for verdict in dict.fromkeys(claim.verdict for claim in found)}
display(Markdown(f"**{len(found)} claims:** " + ", ".join(f"{count} *{verdict}*" for verdict, count in counts.items()) + f". Scale *{scale}*: small networks, mostly the built-in digits."))
display(Markdown(abc.published_origin()))
display(Markdown("> **Run this page:** `papermill notebooks/claims.ipynb out.ipynb`"))

# %% tags=["hide-input"]
display(abc.figures.table(abc.claims_table(found)))

# %% [markdown]
# ## Where we disagree
#
# A disagreement is a finding about these small ensembles first, and about the paper perhaps. The likely reasons stand on the pages: digits are one kind of image where the paper has seven; our sets end where the paper's begin; every member here is trained for the same number of steps, so that an image of a small set is seen more often ([the radius page](03_radius.ipynb) shows how much that alone does); networks are hundreds of times smaller. What would settle each is the same run on larger sets, which the notebooks do by parameter.

# %% tags=["hide-input"]
for claim in found:
    if claim.verdict in ("disagrees", "agrees in part"):
        display(Markdown(f"- **{claim.section}: {claim.claim}** The paper: {claim.paper}. Here: {claim.ours}. See [{claim.page}]({claim.page}.html)."))

# %% [markdown]
# The claim that most readers remember, radius against training set size, with the paper's points and ours:

# %% mystnb={"image": {"alt": "Mean log10 radius against log10 training set size: the paper's 23 ensembles and ours, each with its fitted line."}} tags=["hide-input"]
ours = abc.summarise_all(abc.family_radii("digits_64", scale), scale)
more = abc.summarise_all(abc.family_radii("mnist_256", scale), scale)
paper = abc.paper_summaries()
figure, ax = plt.subplots(figsize=(6.8, 4.4))
abc.figures.radius_law(ours + more, paper, ax, abc.fit_law(ours), abc.fit_law(paper))
plt.show()
