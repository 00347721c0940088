"""``python -m abc_lib list`` and ``python -m abc_lib publish NAME ...``"""

import argparse
import sys

from .comparison import compare_counterfactuals
from .differential import compute_jacobians
from .errors import AbcError
from .landscape import compute_landscapes
from .recipes import SCALES, get_recipe
from .runs import all_statuses
from .spaces import bind, get_autoencoder
from .store import Store
from .training import get_ensemble, pack_ensemble, train_ensemble


def _switches(steps: int) -> list[int]:
    """The numbers of tangent steps that published comparisons try: 1, 5, 10, ..., 50 of a sampler's 50."""
    return sorted({max(1, round(steps * share / 10)) for share in (0, *range(1, 11))})


def _list(arguments: argparse.Namespace) -> None:
    for status in all_statuses(arguments.scale):
        print(f"{status.name:22} {'yes' if status.runs else 'no ':4} {status.note}")


def _publish(arguments: argparse.Namespace) -> None:
    store = Store()
    for name in arguments.names:
        recipe = bind(get_recipe(name, arguments.scale), store)
        packed = store.find("ensemble", recipe.label, recipe.model_spec)
        if packed is None:
            artefacts = train_ensemble(recipe, store, arguments.device)
            recipe = bind(recipe, store)
            if recipe.data.space == "basic":
                # Without it nobody could look at a sample.
                print(f"{recipe.label}: {store.copy(get_autoencoder(recipe, store).artefact, 'autoencoder').path}")
            packed = pack_ensemble(recipe, artefacts, store)
        print(f"{recipe.label}: {packed.path}")
        if arguments.samples or arguments.jacobians or arguments.compare:
            ensemble = get_ensemble(recipe, store, arguments.device)
        if arguments.samples:
            landscapes = compute_landscapes(ensemble, range(arguments.samples), arguments.seed, store)
            print(f"{recipe.label}: {store.copy(landscapes, 'landscape').path}")
        if arguments.jacobians:
            jacobians = compute_jacobians(ensemble, range(arguments.jacobians), arguments.seed, store)
            print(f"{recipe.label}: {store.copy(jacobians, 'jacobian').path}")
        # The first samples with switches, the rest without: hybrids cost several times what a landscape costs.
        hybrids = min(arguments.hybrids, arguments.compare)
        for indices, switches in ((range(hybrids), _switches(recipe.sampling.steps)), (range(hybrids, arguments.compare), ())):
            if len(indices):
                comparison = compare_counterfactuals(ensemble, indices, None, switches, arguments.seed, store)
                print(f"{recipe.label}: {store.copy(comparison.artefact, 'comparison').path}")


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m abc_lib", description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="laptop")
    commands = parser.add_subparsers(required=True)
    listing = commands.add_parser("list", help="every ensemble in the registry, and what can be done with it here")
    listing.set_defaults(run=_list)
    publish = commands.add_parser("publish", help="train ensembles, compute landscapes, put both into data/published")
    publish.add_argument("names", nargs="+")
    publish.add_argument("--samples", type=int, default=24, help="samples with full landscapes (0: the ensemble only)")
    publish.add_argument("--jacobians", type=int, default=0, help="samples with a Jacobian")
    publish.add_argument("--compare", type=int, default=0, help="samples whose counterfactuals are compared with the predicted ones")
    publish.add_argument("--hybrids", type=int, default=0, help="how many of those are computed as hybrids as well")
    publish.add_argument("--seed", type=int, default=0)
    publish.add_argument("--device", default="auto")
    publish.set_defaults(run=_publish)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except AbcError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
