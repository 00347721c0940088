"""Landscapes for other programs: they read back equal; what is hostile is refused in a line."""

import dataclasses
import io
import json
import os
import tarfile
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from abc_lib.exchange import archive as archives
from abc_lib.exchange.arrays import read_npz, write_npz
from abc_lib.exchange.mosaic import decode_mosaic, encode_mosaic, grid, to_bytes
from abc_lib.exchange.tables import DistanceTable, read_parquet, write_parquet
from abc_lib.exchange.universe import (
    Universe,
    make_universe,
    read_universe,
    universe_landscapes,
    write_universe,
)
from abc_lib.ground.errors import ArtefactError, BadValue
from abc_lib.ground.here import Here
from abc_lib.ground.store import Store
from abc_lib.method.distance import distance
from abc_lib.method.landscape import Landscapes, counterfactuals
from abc_lib.results.landscapes import compute as compute_landscapes
from abc_lib.results.landscapes import read as read_landscapes

FEW = settings(max_examples=25, deadline=None)


def pixels(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def universe(N=3, G=2, generated=(1, 4, 5), trained=(3, 2, 3), counts=None, seed=0):
    counts = [1] * N if counts is None else counts
    owners = torch.repeat_interleave(torch.arange(N), torch.tensor(counts))
    return Universe(
        pixels(G, *generated, seed=seed),
        pixels(N, G, *generated, seed=seed + 1),
        pixels(len(owners), *trained, seed=seed + 2),
        owners,
    )


def same(a, b):
    return all(
        torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(Universe)
    )


def members(path):
    """A tar's members as (name, bytes)."""
    with tarfile.open(path) as tar:
        return [(member.name, tar.extractfile(member).read()) for member in tar]


def pack(path, entries, **options):
    """A tar of (name, bytes) or of ready TarInfo objects with bytes."""
    with tarfile.open(path, "w", **options) as tar:
        for name, data in entries:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(data) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(data))
    return path


def png(array, mode=None):
    buffer = io.BytesIO()
    Image.fromarray(array, mode).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def sound(tmp_path):
    """A sound archive, and its members to be tampered with."""
    path = tmp_path / "sound.ctf"
    write_universe(universe(), path)
    return path, members(path)


# --- mosaics ---


def test_grey_levels_are_the_nearest():
    assert to_bytes(torch.tensor([0, 0.4 / 255, 0.6 / 255, 0.5, 254.6 / 255, 1])).tolist() == [
        0,
        0,
        1,
        128,
        255,
        255,
    ]
    every = torch.arange(256)
    assert torch.equal(to_bytes(every.float() / 255), every.to(torch.uint8))


@pytest.mark.parametrize(
    "wrong",
    [torch.tensor([1.01]), torch.tensor([-0.01]), torch.tensor([float("nan")]), torch.tensor([1])],
)
def test_what_has_no_grey_level_is_refused(wrong):
    with pytest.raises(BadValue):
        to_bytes(wrong)


@FEW
@given(
    count=st.integers(1, 12),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_mosaics_read_back_equal(count, channels, height, width, seed):
    images = pixels(count, channels, height, width, seed=seed)
    assert torch.equal(
        decode_mosaic(encode_mosaic(images), count, (channels, height, width), "it"), images
    )


@given(st.integers(1, 5000))
def test_a_grid_holds_its_tiles_without_an_empty_row(count):
    rows, columns = grid(count)
    assert (rows - 1) * columns < count <= rows * columns and rows <= columns


def test_tiles_lie_row_by_row():
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 1, 2, 3).contiguous()
    large = np.asarray(Image.open(io.BytesIO(encode_mosaic(images))))
    assert large.shape == (4, 9)
    assert large[::2, ::3].tolist() == [[0, 1, 2], [3, 4, 0]]


def test_a_mosaic_larger_than_pillow_opens_is_neither_written_nor_read(monkeypatch, one_line):
    images = pixels(4, 1, 8, 8)
    data = encode_mosaic(images)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(BadValue, match="fewer samples"):
        encode_mosaic(images)
    with pytest.raises(ArtefactError, match="safely opened") as error:
        decode_mosaic(data, 4, (1, 8, 8), "it")
    assert one_line(error)


@pytest.mark.parametrize(
    "array, hint",
    [
        (np.zeros((8, 9), np.uint8), "no mosaic"),
        (np.zeros((4, 4), np.uint8), "no mosaic"),
        (np.zeros((40, 40), np.uint8), "no mosaic"),
        (np.zeros((8, 8), np.uint16), "8-bit"),
        (np.zeros((8, 8, 4), np.uint8), "8-bit"),
        (np.zeros((8, 8), bool), "8-bit"),
        (np.arange(192, dtype=np.uint8).reshape(8, 8, 3), "in colour"),
    ],
)
def test_pictures_that_are_no_mosaic_are_refused(array, hint, one_line):
    with pytest.raises(ArtefactError, match=hint) as error:
        decode_mosaic(png(array), 3, (1, 4, 4), "it")
    assert one_line(error) and str(error.value).startswith("it is refused")


def test_grey_stored_in_colour_is_grey():
    grey = pixels(8, 8).numpy()
    found = decode_mosaic(png(np.repeat(grey[..., None], 3, axis=2)), 1, (1, 8, 8), "it")
    assert np.array_equal(found[0, 0], grey)


# --- universes ---


@settings(max_examples=15, deadline=None)
@given(
    N=st.integers(1, 6),
    G=st.integers(1, 5),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_universes_read_back_equal_and_twice_the_same_bytes(
    tmp_path_factory, N, G, channels, height, width, seed
):
    path = tmp_path_factory.mktemp("ctf") / "a.ctf"
    written = universe(N, G, (channels, height, width), (4 - channels, width, height), seed=seed)
    write_universe(written, path)
    before = path.read_bytes()
    assert same(read_universe(path), written)
    write_universe(written, path)
    assert path.read_bytes() == before and os.listdir(path.parent) == ["a.ctf"]


def test_an_archive_has_the_formats_members_and_keys(sound):
    _, entries = sound
    assert [name for name, _ in entries] == [
        "config.json",
        "factual.png",
        "leave_0_out.png",
        "leave_1_out.png",
        "leave_2_out.png",
        "training_set.png",
    ]
    assert json.loads(entries[0][1]) == {
        "Format": "ONEFILE",
        "TrainingUnits": 3,
        "NumberGenerated": 2,
        "TrainHeight": 2,
        "TrainWidth": 3,
        "TrainChannel": 3,
        "GenHeight": 4,
        "GenWidth": 5,
        "GenChannel": 1,
    }


def per_source(counts, first=0, **changes):
    """The other variant, made by hand: numbers from ``first`` on, members in any order."""
    made = universe(len(counts), counts=counts)
    config = {
        "Format": "FOLDERS",
        "TrainingUnits": len(counts),
        "NumberGenerated": 2,
        "TrainHeight": 2,
        "TrainWidth": 3,
        "TrainChannel": 3,
        "GenHeight": 4,
        "GenWidth": 5,
        "GenChannel": 1,
    } | changes
    entries = [
        (f"train_{i + first}_{count}.png", encode_mosaic(made.training[made.training_sources == i]))
        for i, count in enumerate(counts)
    ]
    entries += [
        (f"leave_{i + first}_out.png", encode_mosaic(each))
        for i, each in enumerate(made.counterfactuals)
    ]
    return made, [
        *entries[::-1],
        ("factual.png", encode_mosaic(made.factual)),
        ("config.json", json.dumps(config).encode()),
    ]


@pytest.mark.parametrize("first", [0, 1])
def test_the_variant_with_a_file_a_source_is_read(tmp_path, first):
    # From 10 on, the order of names is not that of numbers.
    made, entries = per_source([2, 1, 5] + [1] * 9, first)
    assert same(read_universe(pack(tmp_path / "a.ctf", entries)), made)


def test_what_tar_itself_writes_is_read(tmp_path, sound):
    """Names that begin with ./, the folder itself, times and owners in other headers."""
    path, entries = sound
    folder = tarfile.TarInfo("./")
    folder.type = tarfile.DIRTYPE
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        infos = [tarfile.TarInfo("./" + name) for name, _ in entries]
        for info in infos:
            info.mtime, info.uname = 1.5, "someone"
        packed = pack(
            tmp_path / "a.ctf",
            [(folder, b""), *zip(infos, (data for _, data in entries))],
            format=form,
        )
        assert same(read_universe(packed), read_universe(path))


def test_onefile_cannot_say_that_a_source_owns_several(tmp_path):
    with pytest.raises(BadValue, match="one training image a source"):
        write_universe(universe(counts=[1, 2, 1]), tmp_path / "a.ctf")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"factual": pixels(2, 1, 4, 4)},
        {"counterfactuals": pixels(3, 1, 4, 5)},
        {"training": pixels(3, 2, 2, 3)},
        {"training_sources": torch.tensor([0, 2, 1])},
        {"training_sources": torch.tensor([0, 0, 1])},
        {"factual": torch.zeros(2, 1, 4, 5)},
        {"training_sources": torch.arange(3.0)},
    ],
)
def test_a_universe_that_does_not_fit_together_is_refused(change):
    with pytest.raises(BadValue):
        dataclasses.replace(universe(), **change)


def swap(entries, name, data):
    return [(n, data if n == name else d) for n, d in entries]


def config_with(**changes):
    def tamper(entries):
        config = json.loads(entries[0][1]) | changes
        return swap(
            entries,
            "config.json",
            json.dumps({k: v for k, v in config.items() if v is not None}).encode(),
        )

    return tamper


def special(name, kind, target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return lambda entries: [*entries, (member, b"")]


TAMPERED = {
    "climbs out": lambda e: [*e, ("../evil.png", b"x")],
    "climbs out inside": lambda e: [*e, ("a/../../evil.png", b"x")],
    "absolute": lambda e: [*e, ("/etc/evil.png", b"x")],
    "absolute on Windows": lambda e: [*e, ("C:\\evil.png", b"x")],
    "folder": lambda e: [*e, ("deep/leave_0_out.png", b"x")],
    "line break": lambda e: [*e, ("leave_\n_out.png", b"x")],
    "symbolic link": special("leave_9_out.png", tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": special("leave_9_out.png", tarfile.LNKTYPE, "factual.png"),
    "device": special("leave_9_out.png", tarfile.CHRTYPE),
    "pipe": special("leave_9_out.png", tarfile.FIFOTYPE),
    "directory": special("leave_9_out.png", tarfile.DIRTYPE),
    "twice": lambda e: [*e, e[1]],
    "twice by another name": lambda e: [*e, ("./factual.png", e[1][1])],
    "same source twice": lambda e: [*e, ("leave_01_out.png", e[2][1])],
    "unknown member": lambda e: [*e, ("readme.txt", b"x")],
    "not a number": lambda e: [*e, ("leave_one_out.png", e[2][1])],
    "not an ASCII number": lambda e: [*e, ("leave_\u0663_out.png", e[2][1])],
    "one source too many": lambda e: [*e, ("leave_3_out.png", e[2][1])],
    "source missing": lambda e: [x for x in e if x[0] != "leave_1_out.png"],
    "factual missing": lambda e: [x for x in e if x[0] != "factual.png"],
    "training set missing": lambda e: [x for x in e if x[0] != "training_set.png"],
    "config missing": lambda e: e[1:],
    "config not JSON": lambda e: swap(e, "config.json", b"{"),
    "config a list": lambda e: swap(e, "config.json", b"[]"),
    "config deep": lambda e: swap(e, "config.json", b"[" * 60_000),
    "config long": lambda e: swap(e, "config.json", e[0][1] + b" " * 70_000),
    "config key twice": lambda e: swap(
        e, "config.json", e[0][1].replace(b"{", b'{"GenWidth": 5,', 1)
    ),
    "key missing": config_with(GenWidth=None),
    "key unknown": config_with(Extra=1),
    "truth value": config_with(GenChannel=True),
    "text": config_with(TrainingUnits="3"),
    "fraction": config_with(NumberGenerated=2.0),
    "zero": config_with(GenHeight=0),
    "negative": config_with(TrainWidth=-3),
    "two channels": config_with(TrainChannel=2),
    "billions": config_with(TrainingUnits=10**9),
    "format a number": config_with(Format=1),
    "more memory than there is": config_with(NumberGenerated=65_536, GenHeight=4096, GenWidth=4096),
    "other tiles": config_with(GenWidth=4),
    "more tiles": config_with(NumberGenerated=9),
    "not a PNG": lambda e: swap(e, "leave_1_out.png", b"GIF89a"),
    "half a PNG": lambda e: swap(e, "leave_1_out.png", e[3][1][:-30]),
    "PNG with changed pixels": lambda e: swap(
        e, "leave_1_out.png", e[3][1][:50] + bytes([e[3][1][50] ^ 255]) + e[3][1][51:]
    ),
    "large PNG": lambda e: swap(e, "factual.png", e[1][1] + b"\0" * 100_000),
    "bomb": lambda e: swap(e, "leave_1_out.png", bomb()),
}


def bomb():
    """A PNG of a kilobyte that says that it has 2^60 pixels."""

    def chunk(kind, data):
        return (
            len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        )

    header = (2**30).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100_000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED)
def test_hostile_and_malformed_archives_are_refused_in_a_line(
    tmp_path, sound, tamper, one_line, monkeypatch
):
    path = pack(tmp_path / "bad.ctf", tamper(sound[1]))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtefactError, match="refused") as error:
        read_universe(path)
    assert one_line(error) and len(str(error.value)) < 500
    assert sorted(os.listdir(tmp_path)) == ["bad.ctf", "sound.ctf"]


@pytest.mark.parametrize(
    "kind, hint",
    [
        ("climbs out", "climbs out"),
        ("absolute", "absolute path"),
        ("symbolic link", "not a plain file"),
        ("twice", "two members 'factual.png'"),
        ("source missing", "leave of source 1 is missing"),
        ("not a number", "'leave_one_out.png'"),
        ("key unknown", "Extra"),
        ("truth value", "GenChannel"),
        ("other tiles", "factual.png|leave_"),
        ("same source twice", "'leave_01_out.png' and 'leave_1_out.png'"),
    ],
)
def test_a_refusal_names_what_is_wrong(tmp_path, sound, kind, hint):
    with pytest.raises(ArtefactError, match=hint):
        read_universe(pack(tmp_path / "bad.ctf", TAMPERED[kind](sound[1])))


def test_the_other_variant_is_held_to_its_counts(tmp_path, one_line):
    _, entries = per_source([2, 1])
    renamed = {
        "more than there are": ("train_0_9.png", "no mosaic"),
        "none": ("train_0_0.png", "announces no image"),
        "no count": ("train_0_.png", "not named"),
        "billions": ("train_0_999999999.png", "memory"),
    }
    for name, hint in renamed.values():
        with pytest.raises(ArtefactError, match=hint) as error:
            read_universe(
                pack(
                    tmp_path / "bad.ctf",
                    [(name if n == "train_0_2.png" else n, d) for n, d in entries],
                )
            )
        assert one_line(error)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_an_archive_cut_short_is_refused_unless_only_its_padding_is_gone(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cut")
    write_universe(universe(), folder / "a.ctf")
    raw = (folder / "a.ctf").read_bytes()
    (folder / "b.ctf").write_bytes(raw[: data.draw(st.integers(0, len(raw) - 1))])
    try:
        found = read_universe(folder / "b.ctf")
    except ArtefactError as error:
        assert "\n" not in str(error)
    else:
        assert same(found, universe()) and not any(raw[(folder / "b.ctf").stat().st_size :])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_archive_is_refused_or_still_a_universe(tmp_path_factory, data):
    """Never another exception, whatever byte is changed."""
    folder = tmp_path_factory.mktemp("bits")
    write_universe(universe(), folder / "a.ctf")
    raw = bytearray((folder / "a.ctf").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    (folder / "a.ctf").write_bytes(raw)
    try:
        assert isinstance(read_universe(folder / "a.ctf"), Universe)
    except ArtefactError as error:
        assert "\n" not in str(error)


def test_headers_cannot_be_used_to_fill_the_memory(tmp_path, monkeypatch):
    member = tarfile.TarInfo("config.json")
    member.pax_headers = {"comment": "x" * 200_000}
    with pytest.raises(ArtefactError, match="header"):
        read_universe(pack(tmp_path / "a.ctf", [(member, b"{}")], format=tarfile.PAX_FORMAT))
    monkeypatch.setattr(archives, "MOST_MEMBERS", 20)
    with pytest.raises(ArtefactError, match="more than 20 members"):
        read_universe(pack(tmp_path / "b.ctf", [(f"leave_{i}_out.png", b"") for i in range(21)]))


def test_a_compressed_archive_is_refused(tmp_path, sound):
    with tarfile.open(tmp_path / "a.ctf", "w:gz") as tar:
        tar.add(sound[0], "config.json")
    with pytest.raises(ArtefactError, match="unpacked first"):
        read_universe(tmp_path / "a.ctf")


@pytest.mark.parametrize("read", [read_universe, read_parquet, read_npz])
def test_what_is_no_file_is_refused(tmp_path, read, one_line):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("no such format\n" * 100)
    for name in ("pipe", "empty", "text", "absent", "."):
        with pytest.raises(ArtefactError) as error:
            read(tmp_path / name)
        assert one_line(error)


@pytest.mark.parametrize("write", ["universe", "parquet", "npz"])
def test_a_full_disk_leaves_what_was_there(tmp_path, write, monkeypatch, one_line):
    path = tmp_path / "it"
    path.write_bytes(b"before")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtefactError, match="No space left") as error:
        {
            "universe": lambda: write_universe(universe(), path),
            "parquet": lambda: write_parquet(table(), path),
            "npz": lambda: write_npz(landscapes(), path),
        }[write]()
    assert one_line(error) and path.read_bytes() == b"before" and os.listdir(tmp_path) == ["it"]


# --- from a landscape ---


@pytest.fixture(scope="module")
def computed(trained, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("computed"), None)
    return read_landscapes(
        compute_landscapes(trained.ensemble, [0, 3], here=Here(store, jobs=1, progress=False))
    )


def test_a_universe_holds_every_counterfactual_of_a_sample(trained, computed, store, tmp_path):
    made = make_universe(trained.ensemble, computed, here=Here(store, jobs=1, progress=False))
    assert made.counterfactuals.shape == (12, 2, 1, 8, 8)
    for row in range(2):
        now = counterfactuals(trained.ensemble, computed, row, range(12))
        off = (made.counterfactuals[:, row].float() / 255 - now).abs().max()
        assert off <= 0.5 / 255 + 1e-5
    assert torch.equal(made.training.float() / 255, trained.images.images)
    write_universe(made, tmp_path / "a.ctf")
    found = universe_landscapes(read_universe(tmp_path / "a.ctf"), "tiny", keep=3)
    # 8 bits: at most half a level in every pixel of both images
    bound = float(distance(torch.zeros(1, 8, 8), torch.full((1, 8, 8), 1 / 255))) + 1e-6
    assert np.abs(found.distances - computed.distances).max() <= bound
    assert (
        found.kept_images.shape == (2, 3, 1, 8, 8)
        and not found.published
        and found.scale == "imported"
    )
    again = distance(found.kept_images, found.factual[:, None]).numpy()
    assert (
        again == pytest.approx(np.take_along_axis(found.distances, found.kept_sources, axis=1))
        and (np.diff(again) <= 1e-9).all()
    )


def test_images_that_were_kept_are_not_computed_again(trained, store, monkeypatch):
    kept = read_landscapes(
        compute_landscapes(
            trained.ensemble, [5], all_images=True, here=Here(store, jobs=1, progress=False)
        )
    )

    def refuse(*_, **__):
        raise AssertionError("computed again")

    monkeypatch.setattr("abc_lib.exchange.universe.compute_landscapes", refuse)
    assert make_universe(trained.ensemble, kept).factual.shape == (1, 1, 8, 8)


def test_a_landscape_of_another_ensemble_is_refused(trained, computed):
    with pytest.raises(BadValue, match="not those of this ensemble"):
        make_universe(dataclasses.replace(trained.ensemble, identity="0" * 16), computed)
    with pytest.raises(BadValue, match="rows"):
        make_universe(trained.ensemble, computed, rows=[2])


# --- tables ---


def table(S=2, N=3, seed=0):
    return DistanceTable(
        "some",
        "laptop",
        7,
        np.arange(S)[::-1].astype(np.int64) * 5,
        np.random.default_rng(seed).random((S, N)),
    )


TABLES = st.builds(
    lambda distances, seed, steps, first: DistanceTable(
        "some_64", "laptop", seed, np.arange(first + len(distances), first, -1), distances, steps
    ),
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.floats(0, 1e300),
    ),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 50),
    st.integers(0, 10**12),
)


@FEW
@given(TABLES)
def test_parquet_reads_back_equal(tmp_path_factory, written):
    path = tmp_path_factory.mktemp("parquet") / "a.parquet"
    write_parquet(written, path)
    found = read_parquet(path)
    for field in dataclasses.fields(DistanceTable):
        assert np.array_equal(getattr(found, field.name), getattr(written, field.name)), field.name


def test_a_landscapes_table_is_plain(tmp_path, computed):
    import pandas as pd

    write_parquet(computed, tmp_path / "a.parquet")
    frame = pd.read_parquet(tmp_path / "a.parquet")
    assert list(frame.columns) == ["sample", "source", "distance", "rank"] and len(frame) == 24
    first = frame[frame["rank"] == 1]
    assert (
        first["sample"].tolist() == [0, 3]
        and first["source"].tolist() == computed.attributed_sources.tolist()
    )
    assert np.array_equal(first["distance"], computed.radii) and np.array_equal(
        read_parquet(tmp_path / "a.parquet").radii, computed.radii
    )


def test_equal_distances_are_ranked_by_source():
    made = dataclasses.replace(table(1, 4), distances=np.array([[1.0, 2.0, 1.0, 2.0]]))
    assert made.ranks.tolist() == [[3, 1, 4, 2]]


def frames(change):
    """The table's Parquet with its columns changed."""

    def make(path):
        write_parquet(table(), path)
        found = pq.read_table(path)
        pq.write_table(change(found), path)

    return make


def column(name, values):
    return frames(
        lambda t: t.set_column(
            t.schema.names.index(name),
            t.schema.field(name),
            pa.array(values, t.schema.field(name).type),
        )
    )


@pytest.mark.parametrize(
    "make, hint",
    [
        (frames(lambda t: t.drop_columns("rank")), "columns"),
        (frames(lambda t: t.append_column("more", pa.array([1] * 6))), "columns"),
        (frames(lambda t: t.replace_schema_metadata({})), "metadata"),
        (frames(lambda t: t.replace_schema_metadata({b"abc_lib": b"[]"})), "metadata"),
        (frames(lambda t: t.slice(0, 5)), "every source"),
        (frames(lambda t: t.slice(0, 0)), "every source"),
        (frames(lambda t: t.take([1, 0, 2, 3, 4, 5])), "every source"),
        (column("distance", [1.0, 2.0, float("nan"), 1.0, 1.0, 1.0]), "finite"),
        (column("distance", [1.0, 2.0, -3.0, 1.0, 1.0, 1.0]), "finite"),
        (column("distance", [None, 2.0, 3.0, 1.0, 1.0, 1.0]), "missing"),
        (column("rank", [1, 1, 1, 1, 1, 1]), "ranks"),
        (column("sample", [-1, -1, -1, 0, 0, 0]), "whole numbers"),
    ],
)
def test_tables_that_are_no_landscape_are_refused(tmp_path, make, hint, one_line):
    make(tmp_path / "a.parquet")
    with pytest.raises(ArtefactError, match=hint) as error:
        read_parquet(tmp_path / "a.parquet")
    assert one_line(error)


def test_many_rows_in_few_bytes_are_refused_before_they_are_read(tmp_path):
    large = DistanceTable("some", "laptop", 0, np.arange(100), np.zeros((100, 1000)))
    write_parquet(large, tmp_path / "a.parquet")
    # Ranks and sources take some room; the three others next to none.
    assert (tmp_path / "a.parquet").stat().st_size < 10**6
    with pytest.raises(ArtefactError, match="memory"):
        read_parquet(tmp_path / "a.parquet", memory="1MB")
    assert len(read_parquet(tmp_path / "a.parquet", memory="4MB").indices) == 100


# --- arrays ---


def landscapes(S=2, N=4, K=2, image=(1, 3, 2), shown=True, seed=0, name="some_64"):
    rng = np.random.default_rng(seed)
    drawn = lambda *shape: torch.from_numpy(rng.random(shape, dtype=np.float32))  # noqa: E731
    return Landscapes(
        name,
        "laptop",
        seed - 5,
        np.arange(S),
        drawn(S, *image),
        rng.random((S, N)),
        rng.integers(0, N, (S, K)),
        drawn(S, K, *image),
        drawn(S, *image) if shown else None,
        rng.integers(0, 10, S) if shown else None,
        [],
        seed,
    )


@FEW
@given(
    S=st.integers(1, 4),
    N=st.integers(1, 5),
    K=st.integers(1, 4),
    shown=st.booleans(),
    seed=st.integers(0, 99),
    name=st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20),
)
def test_arrays_read_back_equal(tmp_path_factory, S, N, K, shown, seed, name):
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    written = landscapes(S, N, K, shown=shown, seed=seed, name=name)
    write_npz(written, path)
    found = read_npz(path)
    for field in dataclasses.fields(Landscapes):
        a, b = getattr(found, field.name), getattr(written, field.name)
        assert type(a) is type(b) and np.array_equal(a, b), field.name


def test_numpy_itself_reads_the_arrays_without_pickle(tmp_path, computed):
    write_npz(computed, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert (
            np.array_equal(found["distances"], computed.distances)
            and str(found["name"]) == "digits_64"
        )
        assert np.array_equal(found["kept_images"], computed.kept_images)


def saved(path, **changes):
    write_npz(landscapes(), path)
    with np.load(path) as found:
        arrays = {**found, **changes}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})


@pytest.mark.parametrize(
    "changes, hint",
    [
        ({"factual": None}, "factual"),
        ({"more": np.zeros(1)}, "more"),
        ({"attributed_labels": None}, "attributed_labels"),
        ({"distances": np.zeros((2, 4), np.float32)}, "distances"),
        ({"distances": np.full((2, 4), np.nan)}, "finite"),
        ({"distances": np.zeros((3, 4))}, "does not fit"),
        ({"kept_sources": np.full((2, 2), 4)}, "0..3"),
        ({"indices": np.array([1, 1])}, "different"),
        ({"seed": np.array(1.5)}, "seed"),
        ({"name": np.array(["a", "b"])}, "name"),
        ({"name": np.array("x" * 300)}, "name"),
        ({"metric": np.array("miles")}, "miles"),
        ({"factual": np.zeros((2, 1, 0, 2), np.float32)}, "does not fit"),
        ({"name": np.array({"a": 1}, dtype=object)}, "name"),
    ],
)
def test_arrays_that_are_no_landscape_are_refused(tmp_path, changes, hint, one_line):
    saved(tmp_path / "a.npz", **changes)
    with pytest.raises(ArtefactError, match=hint) as error:
        read_npz(tmp_path / "a.npz")
    assert one_line(error)


def rezipped(path, change):
    write_npz(landscapes(), path)
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in change(entries):
            archive.writestr(name, data)


def twice(entries):
    return [*entries, entries[0]]


def announced(entries):
    """An array that says that it is enormous."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2**40)}
    )
    return [
        (name, header.getvalue() if name == "distances.npy" else data) for name, data in entries
    ]


def longer(entries):
    return [(name, data + b"more" if name == "distances.npy" else data) for name, data in entries]


def shorter(entries):
    return [(name, data[:-1] if name == "distances.npy" else data) for name, data in entries]


def negative(entries):
    """An array that says that it is less than nothing: to read -1 bytes is to read all."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (-1, 4)}
    )
    return [
        (name, header.getvalue() if name == "distances.npy" else data) for name, data in entries
    ]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "change, hint",
    [
        (twice, "twice"),
        (announced, "memory"),
        (longer, "as long as"),
        (shorter, "as long as"),
        (negative, "distances"),
    ],
)
def test_zip_archives_that_lie_are_refused(tmp_path, change, hint, one_line):
    rezipped(tmp_path / "a.npz", change)
    with pytest.raises(ArtefactError, match=hint) as error:
        read_npz(tmp_path / "a.npz")
    assert one_line(error)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damaged_arrays_are_refused_or_still_a_landscape(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bits") / "a.npz"
    write_npz(landscapes(), path)
    raw = bytearray(path.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(raw)
    try:
        assert isinstance(read_npz(path), Landscapes)
    except ArtefactError as error:
        assert "\n" not in str(error)
