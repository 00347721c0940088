"""Training sets and who owns their images: one loader a family, latents, autoencoders, and the registry of named ensembles (B.1 to B.4).

A family is looked for in the folder that ``ABC_DATA`` names, then in ``data/raw``; what can be downloaded then is.
Latents are computed once and kept.
"""
