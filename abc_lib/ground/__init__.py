"""What everything stands on: errors, seeds, paths, files, devices, digests, the store of artefacts
and the tasks that fill it.

Nothing here knows of diffusion models or of the paper. Whatever is computed once and believed later
goes through this room. Other rooms import from it; it imports from none.
"""
