"""The classifier of appendix B.5: a ResNet trained normally, then against an adversary.

It says which class a sample shows (3.2), and its features are a visual metric and a
stand-in for Inception's where those weights cannot be had. ``paper`` is the paper's own
setting; ``laptop`` is a slimmer ResNet, fewer epochs and a shorter attack, in minutes on one
core. The digits are not in the paper.
"""

from abc_lib.training.classifier.recipe import ClassifierRecipe, classifier_recipe
from abc_lib.training.classifier.train import classifier_data, get_classifier, train_classifier
from abc_lib.training.classifier.values import (
    Classifier,
    classifier_metric,
    classifier_table,
    family_metrics,
    find_classifier,
)

__all__ = [
    "Classifier",
    "ClassifierRecipe",
    "classifier_data",
    "classifier_metric",
    "classifier_recipe",
    "classifier_table",
    "family_metrics",
    "find_classifier",
    "get_classifier",
    "train_classifier",
]
