"""What screening and hybrid landscapes give, and for how much of the work of an exact landscape.

From stored landscapes, Jacobians and comparisons: nothing is computed again. Costs are
network evaluations as a share of those of the exact landscapes, a tangent counted as one.

    python benchmarks/screening.py
"""

import numpy as np
from measuring import Options, main, say

import abc_lib as abc

ENSEMBLES = ("digits_1024", "mnist_1024")


def jacobian_cost(recipe: abc.Recipe, num_sources: int) -> float:
    """A Jacobian's network evaluations as a share of those of an exact landscape."""
    n, steps = recipe.code.n, recipe.sampling.steps
    return n * (1 + (steps - 1) * (1 + n)) / (num_sources * (n - recipe.code.weight) * steps)


def screened(name: str, predicted: abc.at_hand.Predictions) -> list[dict]:
    """The screened radius as a share of the radius.

    It is for N / 20 exact counterfactuals, and for as many as fit into a twentieth of the
    evaluations when the Jacobian has to be paid, too.
    """
    N = predicted.exact.shape[1]
    bounds = abc.differential.screening_bounds(predicted.predicted, predicted.exact)
    rows = bounds[:, -1] > 0
    jacobian, twentieth = jacobian_cost(abc.get_recipe(name), N), max(1, N // 20)
    result = []
    for k in [twentieth] + [k for k in [int((0.05 - jacobian) * N)] if k > 0]:
        share = bounds[rows, k - 1] / bounds[rows, -1]
        result.append(
            {
                "ensemble": name,
                "num_sources": N,
                "samples": int(rows.sum()),
                "k": k,
                "cost": k / N + jacobian,
                "median": float(np.median(share)),
                "mean": float(share.mean()),
                "lowest": float(share.min()),
                "at_least_99": float((share >= 0.99).mean()),
            }
        )
    return result


def hybrids(name: str, compared: abc.comparisons.Comparison) -> list[dict]:
    """Errors of hybrid counterfactuals, by the number of tangent steps.

    They are a part of the exact distances, and of the radii.
    """
    result, exact = [], compared.exact
    for row, switch in enumerate(compared.switches.tolist()):
        errors = (compared.errors[row] / exact)[exact > 0]
        radius = np.abs(compared.hybrid[row].max(axis=1) / exact.max(axis=1) - 1)
        result.append(
            {
                "ensemble": name,
                "num_sources": len(compared.sources),
                "samples": len(compared),
                "switch": switch,
                "steps": abc.get_recipe(name).sampling.steps,
                "cost": float(compared.costs[row]),
                "median": float(np.median(errors)),
                "largest": float(errors.max()),
                "radius": float(radius.max()),
            }
        )
    return result


def compare(options: Options) -> dict:
    """The largest ensembles; in a quick run those that have anything at hand."""
    predicted = abc.at_hand.stored_predictions()
    names = predicted if options.quick else [name for name in ENSEMBLES if name in predicted]
    for name in set(ENSEMBLES) - set(predicted):
        say(f"  no landscapes with Jacobians of {name} are at hand: it is left out")
    return {
        "screened": [line for name in names for line in screened(name, predicted[name])],
        "hybrids": [
            line
            for name in ENSEMBLES
            for compared in abc.comparisons.stored(abc.get_recipe(name))
            if len(compared.switches)
            for line in hybrids(name, compared)
        ],
    }


if __name__ == "__main__":
    main(compare, __doc__)
