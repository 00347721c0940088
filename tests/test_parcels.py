"""The study on a machine without network: an archive there, parcels back, each checked."""

import io
import subprocess
import sys
import tarfile

import pytest
import torch
from forks import ROOT

from abc_lib.ground.errors import ArtefactError, BadValue, DataMissing
from abc_lib.ground.store import Store

sys.path.insert(0, str(ROOT / "tools"))

import parcels as tool  # noqa: E402
from parcels import PARCEL, Parcels, unpack, write_archive  # noqa: E402


@pytest.fixture
def artefacts(store):
    """Four, two of which fill a parcel of 32 KiB."""
    return [
        store.write(
            "landscape",
            "digits_64-laptop",
            {"recipe": "digits_64-laptop", "number": k},
            {"data.safetensors": {"x": torch.rand(2000)}},
            {"seconds": 1},
        )
        for k in range(4)
    ]


def test_what_comes_back_is_what_was_made(artefacts, store, tmp_path):
    parcels = Parcels(tmp_path / "out")
    published = [store.copy(artefact, "landscape") for artefact in artefacts]
    for artefact in published:
        parcels.add(artefact)
    there = Store(tmp_path / "elsewhere", tmp_path / "repository")
    files = lambda root: {  # noqa: E731
        path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }
    for _ in range(2):
        assert len(unpack(parcels.files, there)) == 4
        assert files(there.published) == files(store.published)
    assert all(path.stat().st_size <= PARCEL for path in parcels.files)


def test_parcels_are_filled_one_after_another(artefacts, tmp_path):
    parcels = Parcels(tmp_path / "out", 32 * 1024)
    places = [parcels.add(artefact).name for artefact in artefacts]
    assert places == ["parcel-000.tar"] * 2 + ["parcel-001.tar"] * 2
    assert all(path.stat().st_size <= 32 * 1024 for path in parcels.files)
    before = [path.read_bytes() for path in parcels.files]
    assert (
        parcels.add(artefacts[0]).name == "parcel-000.tar"
        and [path.read_bytes() for path in parcels.files] == before
    )
    with pytest.raises(BadValue, match="more than the 0.0 MiB of a parcel"):
        Parcels(tmp_path / "small", 1024).add(artefacts[0])


def broken(kind, whole):
    """A parcel with something wrong, from a whole one."""
    contents = {}
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        for info in tar:
            contents[info.name] = tar.extractfile(info).read()
    name = next(name for name in contents if name.endswith("data.safetensors"))
    if kind == "cut short":
        return whole[:4000]
    if kind == "no tar":
        return b"x" * 2000
    if kind == "changed":
        contents[name] = contents[name][:-1] + b"!"
    if kind == "no manifest":
        contents = {name: contents[name]}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for each, data in contents.items():
            info = tarfile.TarInfo(
                {"climbs": "landscape/../" + each.split("/")[-1], "absolute": "/tmp/a/b"}.get(
                    kind, each
                )
            )
            info.size = len(data)
            if kind == "link":
                info.type, info.linkname, info.size, data = tarfile.SYMTYPE, "/etc/passwd", 0, b""
            if kind == "hard link":
                info.type, info.linkname, info.size, data = tarfile.LNKTYPE, "/etc/passwd", 0, b""
            if kind == "device":
                info.type, info.devmajor, info.devminor, info.size = tarfile.CHRTYPE, 1, 5, 0
            if kind == "folder":
                info.type, info.size = tarfile.DIRTYPE, 0
            tar.addfile(info, io.BytesIO(data))
            if kind == "twice":
                tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "kind",
    ["cut short", "no tar", "changed", "no manifest", "climbs", "absolute", "link", "hard link"]
    + ["device", "folder", "twice"],
)
def test_nothing_of_a_broken_parcel_is_unpacked(artefacts, tmp_path, kind, one_line):
    path = Parcels(tmp_path / "out").add(artefacts[0])
    bad = tmp_path / "bad.tar"
    bad.write_bytes(broken(kind, path.read_bytes()))
    there = Store(tmp_path / "elsewhere", tmp_path / "repository")
    with pytest.raises(ArtefactError, match="nothing of it was unpacked") as error:
        unpack([bad], there)
    assert one_line(error) and not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    ("spec", "tensors", "said"),
    [
        ({}, {"x": torch.tensor([1.0, float("nan")])}, "x that are no numbers"),
        ({}, {"x": torch.tensor([float("inf")])}, "x that are no numbers"),
        ({}, {"distances": torch.tensor([1.0, -1.0])}, "negative distances"),
        ({"recipe": "digits_128-laptop"}, {"x": torch.ones(2)}, "is of digits_128-laptop, not of"),
        ({"recipe": "digits_6"}, {"x": torch.ones(2)}, "is of digits_6, not of digits_64-laptop"),
        ({}, b"no tensors", "is refused: it is no safetensors file"),
    ],
)
def test_right_checksums_of_wrong_values_are_refused(
    store, tmp_path, one_line, spec, tensors, said
):
    spec = {"recipe": "digits_64-laptop"} | spec
    poisoned = store.write("landscape", "digits_64-laptop", spec, {"data.safetensors": tensors})
    parcel = Parcels(tmp_path / "out").add(poisoned)
    there = Store(tmp_path / "elsewhere", tmp_path / "repository")
    with pytest.raises(ArtefactError, match="nothing of it was unpacked") as error:
        unpack([parcel], there)
    assert one_line(error) and said in str(error.value)
    assert not (tmp_path / "repository").exists()


def test_a_bomb_is_refused_before_it_grows(tmp_path, one_line):
    # sparse files: a kilobyte each in the parcel, sixteen million bytes once they are read
    many = bytearray()
    for k in range(40):
        info = tarfile.TarInfo(f"landscape/a-{k}/b")
        raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        raw[156:157] = b"S"
        raw[386:398], raw[398:410] = b"%011o\0" % 0, b"%011o\0" % 0  # one hole
        raw[483:495] = b"%011o\0" % (16 * 2**20)  # its real size
        raw[148:156] = b" " * 8
        raw[148:156] = b"%06o\0 " % sum(raw)
        many += raw
    path = tmp_path / "bomb.tar"
    path.write_bytes(bytes(many) + b"\0" * 1024)
    with tarfile.open(path) as tar:
        assert sum(info.size for info in tar) == 40 * 16 * 2**20
    with pytest.raises(ArtefactError, match="more than a parcel may") as error:
        unpack([path], Store(tmp_path / "elsewhere", tmp_path / "repository"))
    assert one_line(error) and not (tmp_path / "repository").exists()


@pytest.mark.slow
def test_an_archive_is_enough_to_run_the_study_elsewhere(tmp_path, one_line):
    path = write_archive(tmp_path / "there.tar.gz", ["digits"])
    assert path.stat().st_size < 8 * 2**20
    with tarfile.open(path) as tar:
        assert not any("__pycache__" in name or "/." in name for name in tar.getnames())
        tar.extractall(tmp_path / "machine", filter="data")
    place = tmp_path / "machine" / "abc"

    def call(*words):
        return subprocess.run(
            [sys.executable, "tools/parcels.py", *words],
            cwd=place,
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin", "ABC_CACHE": str(tmp_path / "c"), "HOME": str(tmp_path)},
        )

    asked = call("publish", "out", *"digits_64 --hours 0 --samples 1 --device cpu".split())
    assert asked.returncode == 0, asked.stderr[-2000:]
    assert asked.stdout.startswith("digits_64-laptop: members: left out (needs about ")
    # what was unpacked is no checkout of git, and is packed again all the same
    asked = call("archive", "again.tar.gz")
    assert (asked.returncode, asked.stderr) == (0, "")
    with tarfile.open(path) as one, tarfile.open(place / "again.tar.gz") as other:
        assert sorted(one.getnames()) == sorted(other.getnames())


def test_an_archive_that_cannot_travel_is_not_written(tmp_path, one_line):
    with pytest.raises(BadValue, match="let fewer data sets travel") as error:
        write_archive(tmp_path / "large.tar.gz", limit=1000)
    assert one_line(error)
    with pytest.raises(BadValue, match="do not travel"):
        write_archive(tmp_path / "large.tar.gz", ["stl10"])
    with pytest.raises(BadValue, match="absent.whl is not a file"):
        write_archive(tmp_path / "large.tar.gz", (), ["absent.whl"])
    assert not list(tmp_path.iterdir())


def test_an_archive_takes_data_sets_along(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"labels")
    monkeypatch.setattr(tool, "data_roots", lambda: [tmp_path / "data"])
    wheel = tmp_path / "diffusers-1-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    with tarfile.open(write_archive(tmp_path / "there.tar.gz", ["mnist"], [wheel])) as tar:
        assert tar.extractfile("abc/data/raw/mnist/t10k-labels-idx1-ubyte.gz").read() == b"labels"
        assert tar.extractfile(f"abc/wheels/{wheel.name}").read() == b"wheel"
        names = tar.getnames()
    assert "abc/abc_lib/__init__.py" in names and not any(
        name.startswith("abc/data/published/landscape") for name in names
    )
    with pytest.raises(DataMissing, match="fashion/ into the folder that ABC_DATA names"):
        write_archive(tmp_path / "there.tar.gz", ["fashion"])


@pytest.mark.parametrize(
    "words, hint",
    [
        ("archive /dev/null", "no plain file"),
        ("archive folder", "no plain file"),
        ("archive absent/there.tar.gz", "cannot be written"),
        ("archive there.tar.gz stl10", "do not travel"),
        ("archive there.tar.gz --wheels absent.whl folder", "absent.whl is not a file"),
        ("archive there.tar.gz --wheels folder", "folder is not a file"),
        ("unpack absent.tar", "cannot be read"),
        ("unpack folder", "not a plain file"),
        ("unpack /dev/null", "not a plain file"),
        ("unpack text", "no parcel"),
        ("publish text digits_64 --hours 0", "cannot be a folder"),
        ("publish /dev/null digits_64 --hours 0", "cannot be a folder"),
        ("publish folder digits_65 --hours 0", "unknown ensemble"),
        ("publish folder digits_64 --hours -1", "--hours is -1"),
        ("publish folder digits_64 --hours nan", "--hours is nan"),
        ("publish folder digits_64 --hours 0 --samples 0", "samples is 0"),
        ("publish folder digits_64 --hours 0 --device abacus", "unknown device"),
    ],
)
def test_slips_end_with_status_2_and_a_line(
    words, hint, tmp_path, monkeypatch, capsys, argv, one_line
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("no parcel\n")
    argv(*words.split())
    assert tool.main() == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: ") and hint in shown.err
    assert shown.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "text"]
