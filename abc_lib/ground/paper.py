"""The numbers that the paper published, as tables (``data/paper``)."""

import pandas as pd

from abc_lib.ground.paths import PAPER


def paper_intersections(training_set: str) -> dict[str, dict[str, int]]:
    """Table 4 of the paper: by method and visual metric, in how many of 1,024 samples the top 8
    met; empty for sets it has no numbers for.
    """
    table = pd.read_csv(PAPER / "top8_intersections.csv").set_index(["training_set", "method"])
    rows = table[table.index.get_level_values(0) == training_set]
    return {
        method: {metric: int(value) for metric, value in row.items()}
        for (_, method), row in rows.iterrows()
    }


def paper_fids() -> pd.DataFrame:
    """The paper's FIDs (table 3), on Inception's features: columns ensemble, ensemble_fid,
    single_model_fid, member_fid.
    """
    return pd.read_csv(PAPER / "fid.csv")


def paper_radii() -> pd.DataFrame:
    """The paper's published radii: columns ensemble, training_set_size, landscape_size,
    log10_radius.
    """
    return pd.read_csv(PAPER / "radii.csv")
