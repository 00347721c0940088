"""One function a figure: data in, axes or a figure out.

Colours, sizes and words are the same on every page, for narrow screens and for those who do not see
them alike. Nothing here computes or reads a result.
"""

from abc_lib.figures.codes import causal_flow, code_matrix
from abc_lib.figures.cost import cost_at_scale, cost_by_sources, scaling_curves, useful_share
from abc_lib.figures.differential import (
    hybrid_errors,
    jacobian_images,
    predicted_distances,
    screening_curves,
)
from abc_lib.figures.exposures import (
    attribution_by_exposure,
    attribution_by_size,
    frontier,
    one_curve,
    radii_by_exposure,
    radii_by_memory,
    radii_by_size,
    samples_and_nearest,
)
from abc_lib.figures.groups import strips, violins
from abc_lib.figures.images import image_grid, image_rows, mosaic, show_image
from abc_lib.figures.landscapes import landscape_curves, landscape_grid, radius_gallery
from abc_lib.figures.placebos import (
    named_shares,
    p_value_shares,
    placebo_radii,
    power_curves,
    reliability_curves,
)
from abc_lib.figures.quality import (
    fid_curves,
    method_scores,
    removal_curve,
    score_by_cost,
    score_sweeps,
)
from abc_lib.figures.radius import below_threshold, radius_distribution, radius_law, removal_growth
from abc_lib.figures.retraining import class_bars, class_changes, meeting_matrices
from abc_lib.figures.style import (
    ALERT,
    OURS,
    PALETTE,
    PAPERS,
    RADIUS_LABEL,
    palette_png,
    table,
    use_style,
)

__all__ = [
    "use_style",
    "table",
    "palette_png",
    "ALERT",
    "OURS",
    "PALETTE",
    "PAPERS",
    "RADIUS_LABEL",
    "show_image",
    "image_rows",
    "image_grid",
    "mosaic",
    "strips",
    "violins",
    "code_matrix",
    "causal_flow",
    "fid_curves",
    "method_scores",
    "score_by_cost",
    "score_sweeps",
    "removal_curve",
    "class_bars",
    "class_changes",
    "meeting_matrices",
    "landscape_grid",
    "landscape_curves",
    "radius_gallery",
    "radius_distribution",
    "radius_law",
    "below_threshold",
    "removal_growth",
    "radii_by_exposure",
    "radii_by_memory",
    "radii_by_size",
    "attribution_by_exposure",
    "attribution_by_size",
    "frontier",
    "one_curve",
    "samples_and_nearest",
    "named_shares",
    "p_value_shares",
    "placebo_radii",
    "power_curves",
    "reliability_curves",
    "jacobian_images",
    "predicted_distances",
    "screening_curves",
    "hybrid_errors",
    "cost_at_scale",
    "cost_by_sources",
    "scaling_curves",
    "useful_share",
]
