"""Writes the explorer's folder, whole or not at all, and reads it back."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import matplotlib
from matplotlib.colors import to_hex

from abc_lib.exchange.explorer.content import script, show_ensemble
from abc_lib.ground.errors import ArtefactError, BadValue, positive_int
from abc_lib.ground.here import Here
from abc_lib.ground.paths import ROOT
from abc_lib.ground.store import provenance
from abc_lib.images.registry import get_recipe
from abc_lib.method.recipe import Recipe

FORMAT = 1
SHIPPED = ROOT / "book" / "_extra" / "explorer"
"""what the book shows, and git tracks"""
LOCAL = ROOT / "book" / "_extra" / "explorer_local"
"""what the book shows besides on this machine; git ignores it"""
SHIPPED_NAMES = ("digits_64", "digits_256")

_PAGE = Path(__file__).parent / "page"
# Cividis grows evenly in lightness and looks the same to most of the colour-blind.
_COLOURS = [to_hex(matplotlib.colormaps["cividis"](i / 16)) for i in range(17)]


def build_explorer(
    recipes: Iterable[Recipe] | None = None,
    folder: Path | str = SHIPPED,
    num_samples: int = 8,
    seed: int = 0,
    here: Here | None = None,
) -> Path:
    """Writes a folder with the explorer of some ensembles; its ``index.html`` opens in a browser.

    For each ensemble, by default the shipped ones, it shows samples 0 .. ``num_samples`` - 1
    with their distances (Euclidean, images scaled to 3x256x256) from published landscapes
    or this machine's, counterfactual images made again from the members and held against
    those distances, and visual ranks by the Euclidean distance (3.2). Images are rounded
    to 8 bits, distances to four decimals. What is computed is kept in the cache, so that a
    stopped build goes on; an explorer that was in the folder is replaced at the very end.

    Raises :class:`BadValue` for no ensembles or repeated ones, for sources that are not
    single images and for images of a downloaded data set in a place that git tracks,
    :class:`NotAvailable` for an ensemble without members, :class:`ArtefactError` where
    the folder holds something else, cannot be written, or distances do not fit.
    """
    recipes = [get_recipe(name) for name in SHIPPED_NAMES] if recipes is None else list(recipes)
    labels = [recipe.label for recipe in recipes]
    if not recipes or len(set(labels)) != len(labels):
        raise BadValue(
            f"an explorer is of different ensembles, at least one, not of {labels}; name each once"
        )
    positive_int("num_samples", num_samples)
    folder, here = Path(os.path.abspath(folder)), here or Here()
    _require_place(folder, recipes)
    shown = [show_ensemble(recipe, range(num_samples), seed, here) for recipe in recipes]

    made = provenance(here.device)
    built = f"Page built {made['time'][:10]}, commit {made['commit']}."
    entries = [part.entry | {"origin": f"{part.entry['origin']} {built}"} for part in shown]
    files = {path.name: path.read_bytes() for path in sorted(_PAGE.iterdir()) if path.is_file()}
    for part in shown:
        files |= part.files
    files["data.js"] = script({"format": FORMAT, "colours": _COLOURS, "ensembles": entries})
    manifest = {
        "format": FORMAT,
        "kind": "explorer",
        "provenance": made,
        "scales": sorted({recipe.scale for recipe in recipes}),
        "seed": seed,
        "ensembles": {part.entry["folder"]: part.artefacts for part in shown},
        "files": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()
        },
    }
    # last, so that a folder with a manifest has everything else
    files["manifest.json"] = (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
    _write(folder, files)
    return folder


def verify_explorer(folder: Path | str) -> dict:
    """The manifest of an explorer that is whole.

    Raises :class:`ArtefactError` naming the first file that is not as it was written.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        if manifest["kind"] != "explorer" or manifest["format"] != FORMAT:
            raise ValueError
        listed = {
            name: (entry["bytes"], entry["sha256"]) for name, entry in manifest["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ArtefactError(
            f"{folder} is no explorer of this version (its manifest.json is missing or is another "
            "one's); build it with python -m abc_lib explorer"
        ) from None
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    there.remove("manifest.json")
    for name in sorted(there | set(listed)):
        data = (folder / name).read_bytes() if name in there else b""
        if listed.get(name) != (len(data), hashlib.sha256(data).hexdigest()):
            raise ArtefactError(
                f"{folder / name} is not as it was written; build the explorer again with "
                "python -m abc_lib explorer"
            )
    return manifest


# --- where it may be written ---


def _tracked(folder: Path) -> bool:
    """Whether files written to a folder would be offered to git."""
    folder = folder.resolve()
    if ROOT not in (folder, *folder.parents):
        return False
    if LOCAL in (folder, *folder.parents):
        return False
    with contextlib.suppress(OSError):
        asked = subprocess.run(
            ["git", "-C", str(ROOT), "check-ignore", "-q", str(folder / "data.js")],
            capture_output=True,
        )
        return asked.returncode != 0
    return True


def _require_place(folder: Path, recipes: list[Recipe]) -> None:
    downloaded = [recipe.name for recipe in recipes if recipe.data.family != "digits"]
    if downloaded and _tracked(folder):
        raise BadValue(
            f"images of {downloaded[0]} are not to be put into the repository, and git would track "
            f"{folder}; write to {LOCAL.relative_to(ROOT)}, which the book's page looks into as "
            "well, or outside of it"
        )
    if folder.is_dir() and any(folder.iterdir()):
        try:
            kind = json.loads((folder / "manifest.json").read_bytes())["kind"]
        except (OSError, ValueError, KeyError, TypeError):
            kind = None
        if kind != "explorer":
            raise ArtefactError(
                f"{folder} holds something other than an explorer; choose a new folder, or empty "
                "this one"
            )
    elif folder.exists() and not folder.is_dir():
        raise ArtefactError(f"{folder} is a file; choose a folder")


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A temporary folder on the same disk, gone afterwards whatever happened."""
    temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(folder: Path, files: dict[str, bytes]) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _beside(folder) as temporary:
            new, old = temporary / "new", temporary / "old"
            for name, data in files.items():
                path = new / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with open(path, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            # No folder is renamed over a full one: for an instant there is none, never half.
            if folder.is_dir():
                os.rename(folder, old)
            try:
                os.rename(new, folder)
            except BaseException:
                if old.is_dir():
                    os.rename(old, folder)
                raise
    except OSError as error:
        raise ArtefactError(
            f"{folder} cannot be written ({error.strerror or error}); choose a place that has room "
            "and can be written"
        ) from None
