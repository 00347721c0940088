"""Members, models without a source, and the classifier: trained, resumed, found again (B.2, B.5).

The same recipe gives the same bits on the same CPU, however often the work was interrupted.
What is trained is an artefact that names its recipe and its images.
"""
