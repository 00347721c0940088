"""Ablation based counterfactuals of diffusion ensembles, exactly and on your own machine."""
