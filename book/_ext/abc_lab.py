"""Puts beside the lab's page what is not committed twice: members, and the runtime if it is there.

Members are the published ensembles' own files. The runtime is what ``tools/lab_runtime.py`` put
into the cache; without it the page says so.
"""

import json
import shutil
from pathlib import Path

from sphinx.application import Sphinx

from abc_lib.exchange.lab.build import copy_runtime
from abc_lib.ground.paths import PUBLISHED


def copy_members(app: Sphinx, failed: Exception | None) -> None:
    """After an HTML build."""
    lab = Path(app.outdir) / "lab"
    if failed or not (lab / "lab.json").is_file():
        return
    for entry in json.loads((lab / "lab.json").read_text(encoding="utf-8"))["ensembles"]:
        members = PUBLISHED / entry["members"] / "members.safetensors"
        if members.is_file():
            shutil.copyfile(members, lab / entry["folder"] / members.name)
    copy_runtime(lab)


def setup(app: Sphinx) -> dict:
    """Tells Sphinx."""
    app.connect("build-finished", copy_members)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
