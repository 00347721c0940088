"""Fetches the runtime of the lab's page into the cache, with npm, and checks it.

    python tools/lab_runtime.py

Three files of the package onnxruntime-web, 14 MB. `make book` calls it; where npm or the registry
is missing, the book is built without them, and the page says so.
"""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from abc_lib.exchange.lab.build import FILES, RUNTIME
from abc_lib.ground.paths import cache_root

SHA256 = dict(
    zip(
        FILES,
        (
            "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81",
            "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
            "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
        ),
        strict=True,
    )
)


def sound(folder: Path) -> bool:
    """Whether every file is there and is the one that was pinned."""
    return all(
        (folder / name).is_file()
        and hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        for name, digest in SHA256.items()
    )


def main() -> str:
    """What was done, or why not, in a line."""
    folder = cache_root() / RUNTIME
    if sound(folder):
        return f"{folder} is there"
    if shutil.which("npm") is None:
        return "the lab's runtime is not fetched: npm is not installed"
    name, _, version = RUNTIME.rpartition("-")
    with tempfile.TemporaryDirectory() as temporary:
        asked = subprocess.run(
            ["npm", "pack", "--silent", f"{name}@{version}"],
            cwd=temporary,
            capture_output=True,
            text=True,
        )
        packed = next(Path(temporary).glob("*.tgz"), None)
        if asked.returncode or packed is None:
            return f"the lab's runtime is not fetched: npm could not get {name}@{version}"
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(packed) as archive:
            for wanted in FILES:
                part = archive.extractfile(f"package/dist/{wanted}")
                data = part.read() if part else b""
                if hashlib.sha256(data).hexdigest() != SHA256[wanted]:
                    return f"the lab's runtime is refused: {wanted} is not the file that was pinned"
                new = folder / f".{wanted}.new"
                new.write_bytes(data)
                new.replace(folder / wanted)
    return f"{folder} is there"


if __name__ == "__main__":
    print(main())
