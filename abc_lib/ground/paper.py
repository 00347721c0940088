"""The numbers that the authors published, as tables: the paper's, and a later release's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abc_lib.ground.paths import PAPER

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["radii", "fids", "intersections", "false_attribution", "classifiers"]


def _table(name: str) -> pd.DataFrame:
    import pandas as pd

    return pd.read_csv(PAPER / name)


def radii() -> pd.DataFrame:
    """The radii of all samples (figure 7).

    Columns ensemble, training_set_size, landscape_size, log10_radius; a row a sample.
    """
    return _table("radii.csv")


def fids() -> pd.DataFrame:
    """FIDs on Inception's features (table 3).

    Columns ensemble, ensemble_fid, single_model_fid, member_fid; a row an ensemble.
    """
    return _table("fid.csv")


def intersections(training_set: str) -> dict[str, dict[str, int]]:
    """In how many of 1,024 samples the top 8 met (table 4), by method and visual metric.

    Empty for sets that the paper has no numbers for.
    """
    table = _table("top8_intersections.csv").set_index(["training_set", "method"])
    rows = table[table.index.get_level_values(0) == training_set]
    return {
        method: {metric: int(value) for metric, value in row.items()}
        for (_, method), row in rows.iterrows()
    }


def false_attribution() -> pd.DataFrame:
    """How often visual attribution stays the same when an image is left out (later release).

    Columns metric, ensemble, images (of the growing sets alone), samples, and of so many samples
    unchanged_without_nearest and unchanged_without_random: the same training image is named
    although the nearest, or a random one, was left out.
    """
    return _table("false_attribution.csv")


def classifiers() -> pd.DataFrame:
    """Accuracy of the classifiers on the test split, clean and under attack (B.5).

    Columns family, accuracy, adversarial_accuracy, as printed.
    """
    return _table("classifier.csv")
