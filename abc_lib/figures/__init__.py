"""One function a figure: data in, axes or a figure out.

Colours, sizes and words are the same on every page, for narrow screens and for those who do not see them alike.
Nothing here computes or reads a result.
"""

from .codes import causal_flow, code_matrix
from .cost import cost_by_sources, scaling_curves
from .differential import hybrid_errors, jacobian_images, predicted_distances, screening_curves
from .groups import strips, violins
from .images import image_grid, image_rows, mosaic, show_image
from .landscapes import landscape_curves, landscape_grid, radius_gallery
from .quality import fid_curves, removal_curve
from .radius import below_threshold, radius_distribution, radius_law, removal_growth
from .retraining import class_bars, class_changes, meeting_matrices
from .style import ALERT, OURS, PALETTE, PAPERS, RADIUS_LABEL, palette_png, table, use_style

__all__ = [
    "ALERT",
    "OURS",
    "PALETTE",
    "PAPERS",
    "RADIUS_LABEL",
    "below_threshold",
    "causal_flow",
    "class_bars",
    "class_changes",
    "code_matrix",
    "cost_by_sources",
    "fid_curves",
    "hybrid_errors",
    "image_grid",
    "image_rows",
    "jacobian_images",
    "landscape_curves",
    "landscape_grid",
    "meeting_matrices",
    "mosaic",
    "palette_png",
    "predicted_distances",
    "radius_distribution",
    "radius_gallery",
    "radius_law",
    "removal_curve",
    "removal_growth",
    "scaling_curves",
    "screening_curves",
    "show_image",
    "strips",
    "table",
    "use_style",
    "violins",
]
