"""Training sets and who owns their images (B.1 to B.4).

One file a family, latents and their autoencoders, and the registry of named ensembles. A family
is looked for in the folder that ``ABC_DATA`` names, then in ``data/raw``; what can be downloaded
then is. Latents are computed once and kept.
"""
