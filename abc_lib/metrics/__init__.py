"""Distances between images beyond the plain one: perceptual metrics and the Fréchet distance between sets (B.6, C.1).

Networks are read from where their weights lie, or downloaded when they are first asked for.
What a metric says of samples and training images is visual attribution's business.
"""
