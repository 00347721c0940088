"""Retraining-based counterfactuals: one model on everything, one without each source, trained together (2.2, 3.2, C.3).

The models of a recipe start from the same parameters and see the same minibatches, time
steps and noise; nothing but the left-out source's images tells them apart. So a group of
them is trained as one network that carries a model axis: convolutions are grouped, linear
maps are batched products, one Adam over stacked tensors is exactly many Adams, and the
order, the noise and the time embedding are worked out once.

Streams of random numbers are those of the single model that :func:`train_ensemble` calls
``control``: the model on everything is that one, up to rounding (and dropout's masks, where a recipe has it).
"""

from .landscapes import RetrainingLandscapes, find_retraining_landscapes, read_retraining_landscapes, retraining_landscapes
from .models import Retrained, find_retrained, get_retrained, pack_retrained
from .network import StackedNetwork
from .train import FULL, REMOVED, TrainingTogether, models_together, retrained_spec, train_group, train_retrained

__all__ = [
    "FULL", "REMOVED", "Retrained", "RetrainingLandscapes", "StackedNetwork", "TrainingTogether", "find_retrained",
    "find_retraining_landscapes", "get_retrained", "models_together", "pack_retrained", "read_retraining_landscapes",
    "retrained_spec", "retraining_landscapes", "train_group", "train_retrained",
]
