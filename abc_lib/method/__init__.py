"""The paper's method as arithmetic, to be read in an afternoon (2.1 to 2.4, 3.2 to 3.6).

A recipe fixes an ensemble, a code says who trains on what, members denoise exogenous noise,
ablation is a choice of weights. Nothing here knows where results are kept, how work is spread
over cores, or where images come from.
"""
