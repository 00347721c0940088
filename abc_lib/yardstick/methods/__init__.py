"""Attribution methods, each a function from a task to scores (S, N).

The sign is the same for all: the higher the score, the more the source helped with the query.
The scale is a method's own, as only ranks count. A row of NaN says that a method has nothing to
say of a query.
"""

from abc_lib.ground.errors import Known
from abc_lib.yardstick.methods import (
    by_curvature,
    by_gradients,
    by_unlearning,
    closed,
    kernels,
    of_members,
    unrolled,
)
from abc_lib.yardstick.methods.base import Method

__all__ = ["METHODS", "Method"]

_KINDS = (kernels, closed, by_gradients, by_curvature, by_unlearning, unrolled, of_members)
METHODS = Known("method", {method.name: method for kind in _KINDS for method in kind.METHODS})
"""by name"""
