"""What the paper measures, as artefacts that are found, computed, read and published in one way
(3.1 to 3.6, appendix C).

Each file is one kind of result; ``kind`` is the life that they share.
Nothing here draws figures or writes sentences beyond a result's origin.
"""
