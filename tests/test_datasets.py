"""Images and their sources, and what happens when files are missing or not what they say."""

import gzip
import hashlib
import io
import os
import struct
import zipfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image
from sklearn.datasets import load_digits

from abc_lib.ground.errors import BadValue, DataCorrupt, DataMissing, UnknownName
from abc_lib.images import families, registry
from abc_lib.images import training_set as datasets
from abc_lib.images.families import FAMILIES, look_for_families, mnist
from abc_lib.images.registry import get_recipe, recipe_names
from abc_lib.images.training_set import available, load_split, training_set
from abc_lib.method.recipe import SHAPES, Data, image_shape
from abc_lib.method.space import to_images, to_model


def digits(size: int, **changes) -> Data:
    return Data("digits", "ensemble", **{"size": size, "num_sources": size} | changes)


# --- digits, which every machine has ---------------------------------------------------------


def test_digits_are_scikit_learns_with_white_at_255():
    images, labels, origin = load_split("digits", "ensemble")
    assert (
        images.dtype == torch.uint8
        and images.shape == (1024, 1, 8, 8)
        and labels.dtype == torch.int64
    )
    assert images.min() == 0 and images.max() == 255 and "digits" in origin
    levels = (
        np.rint(image * 255 / 16).astype(np.uint8).tobytes() for image in load_digits().images
    )
    known = dict(zip(levels, load_digits().target))
    assert all(known[image.numpy().tobytes()] == label for image, label in zip(images, labels))


def test_the_halves_of_the_digits_are_disjoint_and_whole():
    halves = [load_split("digits", split)[0] for split in ("ensemble", "held out")]
    assert [len(half) for half in halves] == [1024, 773]
    pictures = sorted(image.numpy().tobytes() for half in halves for image in half)
    everything = sorted(
        np.rint(image * 255 / 16).astype(np.uint8).tobytes() for image in load_digits().images
    )
    assert pictures == everything
    # together they are the whole set, and no picture of the one half is in the other
    assert not set(x.numpy().tobytes() for x in halves[0]) & set(
        x.numpy().tobytes() for x in halves[1]
    )


def test_a_training_set_holds_scaled_images_of_the_split_it_names():
    found, (images, labels, origin) = training_set(digits(50)), load_split("digits", "ensemble")
    assert (
        found.images.dtype == torch.float32
        and found.images.shape == (50, 1, 8, 8)
        and len(found) == 50
    )
    assert found.images.min() == 0 and found.images.max() == 1
    assert torch.equal((found.images * 255).round().byte(), images[found.where])
    assert torch.equal(found.labels, labels[found.where]) and found.origin == origin
    assert len(set(found.where.tolist())) == 50


def test_single_images_are_sources_in_their_order():
    assert training_set(digits(50)).sources.tolist() == list(range(50))


def test_smaller_sets_are_nested_in_larger_ones():
    small, large = (
        training_set(get_recipe("digits_64").data),
        training_set(get_recipe("digits_256").data),
    )
    assert torch.equal(small.where, large.where[:64]) and torch.equal(
        small.images, large.images[:64]
    )


def test_another_subset_seed_picks_other_images_and_the_same_seed_the_same():
    one, two = training_set(digits(50)), training_set(digits(50, subset_seed=1))
    assert set(one.where.tolist()) != set(two.where.tolist())
    assert torch.equal(one.where, training_set(digits(50)).where)


def test_class_sources_are_the_labels():
    found = training_set(digits(400, sources="class", num_sources=10))
    assert torch.equal(found.sources, found.labels) and len(found.sources.unique()) == 10


@pytest.mark.parametrize("size, groups", [(100, 7), (96, 96), (64, 1)])
def test_group_sizes_differ_by_one_at_most(size, groups):
    counts = training_set(digits(size, sources="group", num_sources=groups)).sources.bincount()
    assert len(counts) == groups and counts.sum() == size and counts.max() - counts.min() <= 1


def test_groups_are_mixed_not_sorted_by_class():
    found = training_set(digits(1000, sources="group", num_sources=4))
    assert all(len(found.labels[found.sources == group].unique()) == 10 for group in range(4))


@pytest.mark.parametrize(
    "data, message",
    [
        (digits(1025), "1024 images, fewer than the 1025"),
        (digits(50, num_sources=49), "names 49 sources, but its 50 images have 50"),
        (digits(50, sources="class", num_sources=11), "names 11 sources"),
        (digits(50, sources="artist"), "cannot be 'artist'"),
        (digits(50, sources="group", num_sources=51), "names 51 sources"),
    ],
)
def test_a_recipe_that_does_not_fit_its_images_is_refused(data, message):
    with pytest.raises(BadValue, match=message):
        training_set(data)


@pytest.mark.parametrize(
    "size, changes",
    [(0, {}), (-5, {"num_sources": 1019}), (50, {"sources": "group", "num_sources": 0})],
)
def test_sizes_below_one_are_refused(size, changes):
    with pytest.raises(BadValue):
        training_set(digits(size, **changes))


def test_unknown_families_and_splits_are_named():
    with pytest.raises(UnknownName, match="unknown data family 'mnits'; did you mean 'mnist'"):
        load_split("mnits", "train")
    with pytest.raises(UnknownName, match="unknown split of digits 'train'"):
        load_split("digits", "train")


def test_of_sources_and_without_are_complements_that_keep_numbers():
    found = training_set(digits(60, sources="group", num_sources=6))
    some, rest = found.of_sources([4]), found.without(4)
    assert (
        (some.sources == 4).all()
        and len(some) == 10
        and not (rest.sources == 4).any()
        and len(rest) == 50
    )
    assert rest.sources.unique().tolist() == [0, 1, 2, 3, 5]
    for part in (some, rest):
        place = {int(w): k for k, w in enumerate(found.where)}
        positions = [place[int(w)] for w in part.where]
        assert positions == sorted(positions)
        assert torch.equal(part.images, found.images[positions]) and torch.equal(
            part.labels, found.labels[positions]
        )
    assert found.of_sources(np.array([5, 0])).sources.unique().tolist() == [0, 5]
    assert len(found.of_sources([])) == 0


def test_the_checksum_tells_images_sources_and_order_apart():
    found = training_set(digits(20))
    same = training_set(digits(20))
    assert found.checksum == same.checksum and len(found.checksum) == 64
    same.images[3, 0, 2, 2] += 1 / 255
    assert same.checksum != found.checksum
    assert found.without(3).checksum != found.checksum
    assert training_set(digits(20, sources="group", num_sources=2)).checksum != found.checksum
    assert found.of_sources([1, 2]).checksum != found.of_sources([1, 3]).checksum


def test_a_changed_training_set_does_not_change_the_next_one():
    first = training_set(digits(1024))
    before = first.images.clone()
    first.images.zero_()
    first.labels.zero_()
    assert (
        torch.equal(training_set(digits(1024)).images, before)
        and training_set(digits(1024)).labels.any()
    )


@pytest.mark.parametrize(
    "name, low, high", [("digits_64", -1, 1), ("mnist_256", -1, 1), ("cifar10_500", -2, 2)]
)
def test_to_model_has_the_papers_range_and_to_images_undoes_it(name, low, high):
    data = get_recipe(name).data
    x = torch.linspace(0, 1, 101)
    assert to_model(x, data).min() == low and to_model(x, data).max() == high
    assert torch.allclose(to_images(to_model(x, data), data), x, atol=1e-6)


def test_to_images_clips_to_what_can_be_shown():
    shown = to_images(torch.tensor([-9.0, 9.0]), get_recipe("digits_64").data)
    assert shown.tolist() == [0, 1]


def test_binarised_images_are_black_or_white_and_each_is_there_once(monkeypatch):
    images = torch.zeros(7, 1, 8, 8, dtype=torch.uint8)
    images[0, 0, 0, 0], images[1, 0, 0, 0] = 128, 255  # the same above one half
    images[2, 0, 0, 0], images[3, 0, 0, 0] = 127, 10  # the same, all black
    images[4, 0, 1, 1], images[5, 0, 7, 7], images[6, 0, 3, 3] = 200, 200, 128
    monkeypatch.setattr(
        datasets, "load_split", lambda family, split: (images, torch.arange(7), "made up")
    )
    found = training_set(Data("digits", "ensemble", 5, num_sources=5, binarise=True))
    assert set(found.images.unique().tolist()) == {0, 1}
    assert len({image.numpy().tobytes() for image in found.images}) == 5
    assert (
        {0, 1} & set(found.where.tolist())
        and {2, 3} & set(found.where.tolist())
        and {4, 5, 6} < set(found.where.tolist())
    )
    assert torch.equal(found.labels, found.where)
    with pytest.raises(BadValue, match="has 5 images, fewer than the 6"):
        training_set(Data("digits", "ensemble", 6, num_sources=6, binarise=True))


# --- families ---


FOLDER = Path(families.__path__[0])
# Own pictures are four families of one file, one a shape: tests/test_own.py.
FILES = sorted(path.stem for path in FOLDER.glob("[!_]*.py") if path.stem != "folder")


def test_a_family_is_a_file_and_a_file_a_family():
    own = [name for name in FAMILIES if name.startswith("folder_")]
    assert sorted(FAMILIES) == sorted([*FILES, *own]) == sorted(look_for_families())
    assert len(FILES) == 9 and len(own) == 4


@pytest.mark.parametrize("name", FILES)
def test_a_family_says_all_that_others_ask_for(name):
    family = FAMILIES[name]
    assert family.name == name and len(set(family.splits)) == len(family.splits) > 0
    assert SHAPES[name] == family.shape and family.shape[0] in (1, 3)
    assert not family.unseen or family.unseen in family.splits
    # what is not built in is downloaded, or it is said what to fetch
    assert (not family.folder) == (not family.torchvision and not family.remedy)
    assert not (family.torchvision and family.remedy)
    if family.torchvision:
        assert hasattr(torchvision.datasets, family.torchvision)
    for space, shape in family.scaled.items():
        data = Data(name, family.splits[0], 5, space=space)
        assert image_shape(data) == shape != image_shape(Data(name, family.splits[0], 5))


@pytest.mark.parametrize("name", ["celeba", "metfaces", "artbench"])
def test_nobody_else_knows_of_a_family_that_never_ran_here(name):
    library = FOLDER.parent.parent
    knows = [
        path.relative_to(library)
        for path in library.rglob("*.py")
        if name in path.read_text().lower() and path.parent != FOLDER
    ]
    assert knows == []


NEW = """
import torch
from abc_lib.images.family import Family

def load(root, split):
    return torch.arange(12).reshape(3, 1, 2, 2).to(torch.uint8), torch.arange(3), "made up"

FAMILY = Family("dots", "Dots", (1, 2, 2), ("all",), lambda root, split: True, load, unseen="all")
"""


def test_a_file_that_is_added_is_a_family(tmp_path, monkeypatch):
    (tmp_path / "dots.py").write_text(NEW)
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    found = look_for_families(families.__path__)
    assert set(found) == {*FAMILIES, "dots"}
    assert datasets.FAMILIES is FAMILIES
    monkeypatch.setitem(FAMILIES, "dots", found["dots"])
    assert available("dots", "all") and load_split("dots", "all")[2] == "made up"
    images = training_set(Data("dots", "all", 2, num_sources=2))
    assert images.images.shape == (2, 1, 2, 2)
    with pytest.raises(UnknownName, match="split of dots"):
        load_split("dots", "train")


@pytest.mark.parametrize("name", FILES)
def test_a_family_that_is_taken_away_takes_its_ensembles_along(name, monkeypatch):
    split = FAMILIES[name].splits[0]
    monkeypatch.delitem(FAMILIES, name)
    left = {ensemble for ensemble, _ in registry._registry()}
    assert left == {each for each in recipe_names() if get_recipe(each).data.family != name}
    with pytest.raises(UnknownName, match=f"unknown data family '{name}'"):
        load_split(name, split)


# --- files ---


@pytest.fixture
def roots(tmp_path, monkeypatch):
    """An empty ABC_DATA, an empty data/raw, and no network."""
    named, raw = tmp_path / "named", tmp_path / "raw"
    named.mkdir()
    monkeypatch.setattr(datasets, "data_roots", lambda: [named, raw])
    monkeypatch.setattr(datasets, "RAW", raw)

    def refuse(*_, **__):
        raise URLError("no route to host")

    for module in ("mnist", "cifar"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.download_and_extract_archive", refuse)
    return named


def idx(array: np.ndarray) -> bytes:
    return (
        struct.pack(">HBB", 0, 8, array.ndim)
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.astype(np.uint8).tobytes()
    )


@pytest.fixture
def small_mnist(roots, monkeypatch):
    """Thirty images and labels under the names of MNIST's test split, and their MD5 expected."""
    rng = np.random.default_rng(0)
    arrays = {"images": rng.integers(0, 256, (30, 28, 28)), "labels": np.arange(30) % 10}
    for kind, array in arrays.items():
        monkeypatch.setitem(mnist.MD5, f"t10k-{kind}", hashlib.md5(idx(array)).hexdigest())
    return arrays


def put_mnist(folder: Path, arrays: dict, zipped: bool = True) -> None:
    folder.mkdir(parents=True)
    for kind, rank in (("images", 3), ("labels", 1)):
        name, raw = f"t10k-{kind}-idx{rank}-ubyte", idx(arrays[kind])
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(raw))
        else:
            (folder / name).write_bytes(raw)


@pytest.mark.parametrize(
    "place, zipped", [("mnist", True), ("mnist", False), ("MNIST/raw", True), ("MNIST/raw", False)]
)
def test_idx_files_are_found_in_both_layouts_zipped_or_not(roots, small_mnist, place, zipped):
    put_mnist(roots / place, small_mnist, zipped)
    assert available("mnist", "test")
    images, labels, origin = load_split("mnist", "test")
    assert (
        images.shape == (30, *SHAPES["mnist"])
        and labels.tolist() == small_mnist["labels"].tolist()
        and "MNIST test" in origin
    )
    # two black pixels on every side (B.1)
    assert np.array_equal(images[:, 0, 2:-2, 2:-2].numpy(), small_mnist["images"])
    border = images.clone()
    border[:, :, 2:-2, 2:-2] = 0
    assert not border.any()


def test_the_named_folder_comes_before_data_raw(roots, small_mnist):
    put_mnist(roots.parent / "raw" / "mnist", small_mnist)
    put_mnist(roots / "mnist", small_mnist)
    next((roots / "mnist").glob("*labels*")).write_bytes(b"not gzip")
    with pytest.raises(DataCorrupt, match="named"):
        load_split("mnist", "test")


def truncate_gzip(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip_bit_in_gzip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)


def another_image(path: Path) -> None:
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[-1] ^= 1
    path.write_bytes(gzip.compress(bytes(raw)))


def not_gzip(path: Path) -> None:
    path.write_bytes(b"<html>404</html>")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage", [truncate_gzip, flip_bit_in_gzip, another_image, not_gzip, empty]
)
@pytest.mark.parametrize("kind", ["images", "labels"])
def test_a_damaged_idx_file_is_refused_by_name(roots, small_mnist, damage, kind):
    put_mnist(roots / "mnist", small_mnist)
    path = next((roots / "mnist").glob(f"*{kind}*"))
    damage(path)
    with pytest.raises(DataCorrupt) as error:
        load_split("mnist", "test")
    assert (
        str(path) in str(error.value)
        and "fresh copy" in str(error.value)
        and "\n" not in str(error.value)
    )


def test_a_truncated_plain_idx_file_is_refused(roots, small_mnist):
    put_mnist(roots / "mnist", small_mnist, zipped=False)
    path = next((roots / "mnist").glob("*images*"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataCorrupt, match="MD5"):
        load_split("mnist", "test")


def test_a_damaged_file_can_be_replaced_in_the_same_session(roots, small_mnist):
    put_mnist(roots / "mnist", small_mnist)
    path = next((roots / "mnist").glob("*images*"))
    sound = path.read_bytes()
    path.write_bytes(sound[:100])
    with pytest.raises(DataCorrupt):
        load_split("mnist", "test")
    path.write_bytes(sound)
    assert len(load_split("mnist", "test")[0]) == 30


@pytest.mark.parametrize(
    "family, split",
    [("mnist", "test"), ("fashion", "train"), ("cifar10", "train"), ("cifar100", "test")],
)
def test_no_data_and_no_network_name_the_three_remedies_in_one_line(roots, family, split):
    assert not available(family, split)
    with pytest.raises(DataMissing) as error:
        load_split(family, split)
    text = str(error.value)
    assert "\n" not in text
    assert "ABC_DATA" in text and str(roots.parent / "raw") in text and "network" in text


@pytest.mark.parametrize("family", ["mnist", "cifar10"])
def test_the_reason_of_a_failed_download_is_told(roots, family):
    with pytest.raises(DataMissing, match="no route to host"):
        load_split(family, "test")


@pytest.mark.parametrize(
    "family, folders",
    [
        ("mnist", ["mnist/"]),
        ("fashion", ["fashion/"]),
        ("cifar10", ["cifar-10-batches-py", "cifar10_jpeg"]),
        ("cifar100", ["cifar-100-python", "cifar100_jpeg"]),
    ],
)
def test_the_folder_that_the_remedy_names_is_one_that_is_looked_in(roots, family, folders):
    with pytest.raises(DataMissing) as error:
        load_split(family, "test")
    assert any(folder in str(error.value) for folder in folders)


def test_half_of_a_data_set_is_not_at_hand(roots, small_mnist):
    put_mnist(roots / "mnist", small_mnist)
    next((roots / "mnist").glob("*labels*")).unlink()
    assert not available("mnist", "test")  # loading it would start a download
    with pytest.raises(DataMissing):
        load_split("mnist", "test")


def jpeg(seed: int, size: tuple[int, int] = (32, 32)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(
        buffer, "JPEG"
    )
    return buffer.getvalue()


CLASSES = ("airplane", "bird", "truck")


def put_jpegs(
    root: Path, members: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED
) -> Path:
    path = root / "cifar10_jpeg" / "test.zip"
    path.parent.mkdir()
    if members is None:
        members = {
            f"{name}/{k}.jpg": jpeg(10 * c + k) for c, name in enumerate(CLASSES) for k in range(3)
        }
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_zip_of_jpegs_loads_and_says_what_it_is(roots):
    put_jpegs(roots)
    assert available("cifar10", "test")
    images, labels, origin = load_split("cifar10", "test")
    assert images.dtype == torch.uint8 and images.shape == (9, 3, 32, 32)
    assert labels.dtype == torch.int64 and labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert "JPEG copy" in origin and "not the original" in origin
    expected = np.asarray(Image.open(io.BytesIO(jpeg(11)))).transpose(2, 0, 1)
    assert np.array_equal(images[4].numpy(), expected)


def test_a_training_set_from_jpegs_carries_the_note(roots):
    put_jpegs(roots)
    assert "JPEG copy" in training_set(Data("cifar10", "test", 5, num_sources=5)).origin


def test_other_files_in_the_zip_are_passed_over(roots):
    put_jpegs(
        roots,
        {"README.txt": b"hello", "airplane/0.JPEG": jpeg(0), "bird/": b"", "bird/1.jpg": jpeg(1)},
    )
    assert load_split("cifar10", "test")[1].tolist() == [0, 1]


def test_grey_jpegs_become_three_channels(roots):
    buffer = io.BytesIO()
    Image.new("L", (32, 32), 77).save(buffer, "JPEG")
    put_jpegs(roots, {"bird/0.jpg": buffer.getvalue()})
    assert load_split("cifar10", "test")[0].unique().tolist() == [77]


@pytest.mark.parametrize(
    "members, said",
    [
        ({"a/0.jpg": jpeg(0, (30, 34))}, "a/0.jpg"),
        ({"a/0.png": b"x", "notes.txt": b"y"}, "no JPEG"),
        ({}, "no JPEG"),
        ({"a/0.jpg": b"this is not a picture"}, "test.zip"),
        ({"a/0.jpg": jpeg(0)[:200]}, "test.zip"),
        ({"a/0.jpg": b""}, "test.zip"),
    ],
    ids=["wrong size", "no JPEG", "empty zip", "not an image", "truncated image", "empty image"],
)
def test_a_zip_with_the_wrong_content_is_refused_by_name(roots, members, said):
    path = put_jpegs(roots, members)
    with pytest.raises(DataCorrupt) as error:
        load_split("cifar10", "test")
    text = str(error.value)
    assert str(path) in text and said in text and "replace" in text and "\n" not in text


def test_a_broken_image_is_named(roots):
    put_jpegs(roots, {"a/0.jpg": jpeg(0), "a/1.jpg": b"this is not a picture"})
    with pytest.raises(DataCorrupt, match="a/1.jpg"):
        load_split("cifar10", "test")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def flip_stored_byte(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[300] ^= 255
    path.write_bytes(raw)


def no_zip(path: Path) -> None:
    path.write_bytes(b"<html>404</html>")


@pytest.mark.parametrize("damage", [cut, flip_stored_byte, no_zip, empty])
def test_a_broken_zip_is_refused_by_name(roots, damage):
    path = put_jpegs(roots)
    damage(path)
    with pytest.raises(DataCorrupt) as error:
        load_split("cifar10", "test")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_zip_with_a_damaged_compressed_stream_is_refused(roots):
    path = put_jpegs(roots, compression=zipfile.ZIP_DEFLATED)
    raw = bytearray(path.read_bytes())
    start = 30 + len("airplane/0.jpg")  # behind the first local header
    raw[start : start + 20] = b"\xff" * 20
    path.write_bytes(raw)
    with pytest.raises(DataCorrupt):
        load_split("cifar10", "test")


def test_an_unknown_compression_is_refused(roots):
    path = put_jpegs(roots)
    raw = bytearray(path.read_bytes())
    place = raw.index(b"PK\x01\x02") + 10  # compression method in the central directory
    raw[place : place + 2] = struct.pack("<H", 77)
    path.write_bytes(raw)
    with pytest.raises(DataCorrupt):
        load_split("cifar10", "test")


def test_one_folder_more_in_the_zip_never_makes_everything_one_class(roots):
    put_jpegs(roots, {f"test/{name}/{k}.jpg": jpeg(k) for name in CLASSES for k in range(2)})
    try:
        labels = load_split("cifar10", "test")[1]
    except DataCorrupt:
        return
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_torchvisions_cifar_folder_with_wrong_files_is_refused(roots):
    (roots / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataCorrupt, match="cifar-10-batches-py fails torchvision's checksums"):
        load_split("cifar10", "train")


# --- the real files, where there are some --------------------------------------------------------


@pytest.fixture
def real(monkeypatch):
    named = os.environ.get("ABC_DATA_TEST") or os.environ.get("ABC_DATA")
    if not named:
        pytest.skip(
            "set ABC_DATA_TEST (or ABC_DATA) to a folder with mnist/, fashion/ and cifar10_jpeg/ "
            "to test the real files"
        )
    monkeypatch.setattr(datasets, "data_roots", lambda: [Path(named)])
    return lambda family: (
        (available(family, "train") and available(family, "test"))
        or pytest.skip(f"{named} has no {family}")
    )


@pytest.mark.parametrize(
    "family, first", [("mnist", [7, 2, 1, 0, 4]), ("fashion", [9, 2, 1, 1, 6])]
)
def test_the_real_test_splits_are_in_their_original_order(real, family, first):
    real(family)
    images, labels, _ = load_split(family, "test")
    assert images.shape == (10_000, 1, 32, 32) and labels[:5].tolist() == first
    if family == "mnist":  # Fashion-MNIST's classes are of one size, MNIST's are not
        assert labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert len(training_set(get_recipe(f"{family}_384").data)) == 384
    assert training_set(get_recipe(f"{family}_classes").data).sources.unique().tolist() == list(
        range(10)
    )


def test_binarised_mnist_has_as_many_images_as_the_paper_says(real):
    real("mnist")
    data = get_recipe("mnist_binary_190").data
    found = training_set(data)
    assert len(found) == 59_984 and found.sources.max() == 189
    with pytest.raises(BadValue, match="has 59984 images"):
        training_set(get_recipe("mnist_binary_190").replace(data={"size": 59_985}).data)


def test_real_cifar_has_ten_even_classes(real):
    real("cifar10")
    images, labels, _ = load_split("cifar10", "test")
    assert images.shape == (10_000, 3, 32, 32) and labels.bincount().tolist() == [1000] * 10
