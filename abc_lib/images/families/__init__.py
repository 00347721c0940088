"""One file a family of images, which nobody else knows of: where it lies, how it is read.

A file here that makes a ``FAMILY``, or several ``FAMILIES``, is found by looking into this folder,
so adding or removing a file adds or removes them. What their images look like is told to
``abc_lib.method.recipe``.
"""

import importlib
import pkgutil

from abc_lib.ground.errors import Known
from abc_lib.images.family import Family
from abc_lib.method.recipe import SCALED, SHAPES


def look_for_families(path=__path__) -> dict[str, Family]:
    """The families whose files lie in a folder of this package, by name.

    Asked for one that is not there, the table raises :class:`UnknownName` with the closest.
    """
    modules = [
        importlib.import_module(f"{__name__}.{module.name}")
        for module in pkgutil.iter_modules(path)
    ]
    families = [module.FAMILY for module in modules if hasattr(module, "FAMILY")]
    families += [each for module in modules for each in getattr(module, "FAMILIES", ())]
    return Known("data family", {family.name: family for family in families})


FAMILIES = look_for_families()

for _family in FAMILIES.values():
    SHAPES[_family.name] = _family.shape
    SCALED.update({(_family.name, space): shape for space, shape in _family.scaled.items()})
