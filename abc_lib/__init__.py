"""Ablation based counterfactuals of diffusion ensembles, exactly and on your own machine.

What a first page needs has a name of its own (``abc.get_ensemble``, ``abc.distance``); the
rest stands in namespaces, one a topic, with the same verbs everywhere: ``find``, ``get``,
``stored``, ``publish``, ``origin`` (``abc.landscapes.get``, ``abc.fids.stored``). Nothing is
loaded before it is used.
"""

import importlib

_NAMES = {
    "ground.errors": (
        "AbcError ArtefactError BadValue CertificateRefused DataCorrupt DataMissing NoSurvivors "
        "NotAvailable UnknownName"
    ),
    "ground.here": "Here",
    "ground.store": "Store",
    "method.recipe": "Recipe",
    "images.registry": "get_recipe recipe_names family_of",
    "images.training_set": "TrainingSet training_set",
    "method.code": "Codebook draw_codebook",
    "method.diffusion": "ExogenousNoise denoise",
    "method.network": "build_network",
    "method.ensemble": "Ensemble",
    "training.ensembles": "find_ensemble get_ensemble",
    "method.distance": "distance",
    "method.landscape": "Landscapes",
    "method.differential": "Jacobians",
    "method.radius": "counterfactual_radius",
    "results.run": "Run run",
}
_NAMESPACES = {
    "landscapes": "results.landscapes",
    "jacobians": "results.jacobians",
    "comparisons": "results.comparisons",
    "retraining": "results.retraining",
    "class_counts": "results.class_counts",
    "fids": "results.fids",
    "unattributable": "results.unattributable",
    "removals": "results.removals",
    "memory": "results.placebos.memory",
    "placebos": "results.placebos.landscapes",
    "evidence": "results.placebos.evidence",
    "signal": "results.placebos.signal",
    "imitation": "results.placebos.imitation",
    "retrained_evidence": "results.placebos.retrained",
    "radii": "results.measures.radii",
    "agreement": "results.measures.agreement",
    "looks": "results.measures.looks",
    "significance": "results.measures.significance",
    "at_hand": "results.run",
    "recipe_file": "images.recipe_file",
    "code": "method.code",
    "diffusion": "method.diffusion",
    "differential": "method.differential",
    "radius": "method.radius",
    "attribution": "results.measures.attributions",
    "metrics": "metrics",
    "members": "training.members",
    "ensembles": "training.ensembles",
    "retrained": "training.retrained",
    "classifier": "training.classifier",
    "paper": "ground.paper",
    "figures": "figures",
    "yardstick": "yardstick",
    "exchange": "exchange",
    "certificates": "exchange.certificates",
    "lab": "exchange.lab",
    "explorer": "exchange.explorer",
    "study": "study",
    "sections": "study.sections",
    "exposures": "study.exposures",
    "remembering": "study.exposures.remembering",
    "law": "study.exposures.law",
    "one_variable": "study.exposures.one_variable",
    "designs": "study.signals.designs",
    "signals": "study.signals",
    "audit": "study.audit",
    "claims": "study.claims",
    "cost": "study.cost",
    "scale": "study.cost.scale",
    "speed": "study.speed",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

__all__ = [*_HOMES, *_NAMESPACES]


def __getattr__(name: str):
    if name in _NAMESPACES:
        found = importlib.import_module(f"{__name__}.{_NAMESPACES[name]}")
    elif name in _HOMES:
        found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
