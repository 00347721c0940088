"""Ablation based counterfactuals of diffusion ensembles, exactly and on your own machine.

The names below are what notebooks use, in the order that data flows: recipe, images
and sources, code, members, ensemble, sample, landscape, radius, figure.
"""

from .errors import (
    AbcError,
    ArtefactError,
    BadValue,
    DataCorrupt,
    DataMissing,
    NoSurvivors,
    NotAvailable,
    UnknownName,
)
from .recipes import Recipe, family_of, get_recipe, recipe_names
from .datasets import TrainingSet, load_split, training_set
from .codes import Codebook, smallest_sufficient_n
from .models import build_network, num_parameters
from .diffusion import ExogenousNoise, denoise, sampler_steps
from .store import Artefact, Store
from .tasks import one_thread
from .ensemble import Ensemble, resolve_device
from .training import draw_codebook, get_ensemble, train_ensemble
from .metrics import euclidean
from .landscape import Landscapes, compute_landscapes, counterfactuals, get_landscapes, read_all_images, regenerate
from .radius import Law, LogRadius, counterfactual_radius, fit_law, paper_radii, paper_summaries, summarise
from .runs import Run, all_statuses, family_radii, landscapes_origin, run, status, stored_landscapes, summarise_all
from . import figures

__all__ = [
    "AbcError",
    "ArtefactError",
    "BadValue",
    "DataCorrupt",
    "DataMissing",
    "NoSurvivors",
    "NotAvailable",
    "UnknownName",
    "Recipe",
    "family_of",
    "get_recipe",
    "recipe_names",
    "TrainingSet",
    "load_split",
    "training_set",
    "Codebook",
    "smallest_sufficient_n",
    "build_network",
    "num_parameters",
    "ExogenousNoise",
    "denoise",
    "sampler_steps",
    "Artefact",
    "Store",
    "one_thread",
    "Ensemble",
    "resolve_device",
    "draw_codebook",
    "get_ensemble",
    "train_ensemble",
    "euclidean",
    "Landscapes",
    "compute_landscapes",
    "counterfactuals",
    "get_landscapes",
    "read_all_images",
    "regenerate",
    "Law",
    "LogRadius",
    "counterfactual_radius",
    "fit_law",
    "paper_radii",
    "paper_summaries",
    "summarise",
    "Run",
    "all_statuses",
    "family_radii",
    "landscapes_origin",
    "run",
    "status",
    "stored_landscapes",
    "summarise_all",
    "figures",
]
