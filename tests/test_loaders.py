"""Families whose images stay in files: CelebA, MetFaces, ArtBench and its landscapes."""

import json

import layouts
import numpy as np
import pytest
import torch
import torch.nn as nn
from PIL import Image

from abc_lib.ground.errors import BadValue, DataCorrupt, DataMissing, UnknownName
from abc_lib.ground.here import Here
from abc_lib.ground.seeds import generator
from abc_lib.ground.store import Store
from abc_lib.images import training_set as datasets
from abc_lib.images.families import artbench as landscapes
from abc_lib.images.files import ImageFiles
from abc_lib.images.training_set import available, load_split, owned_subset, training_set
from abc_lib.method.recipe import SHAPES, Data, image_shape
from abc_lib.metrics.visual import visual_distances
from abc_lib.results.landscapes import attributed_image
from abc_lib.results.run import status

MAKE = {"celeba": layouts.celeba, "metfaces": layouts.metfaces, "artbench": layouts.artbench}
SPLIT = {"celeba": "train", "metfaces": "all", "artbench": "train"}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data folder, and an empty data/raw."""
    monkeypatch.delenv("ABC_ODD_IMAGES", raising=False)
    monkeypatch.setattr(datasets, "data_roots", lambda: [tmp_path / "named", tmp_path / "raw"])
    monkeypatch.setattr(datasets, "RAW", tmp_path / "raw")
    return tmp_path / "named"


@pytest.mark.parametrize("family", MAKE)
def test_a_set_reads_as_images_of_its_shape_with_owners(root, family, one_line):
    assert not available(family, SPLIT[family])
    MAKE[family](root)
    assert available(family, SPLIT[family])
    images, labels, origin = load_split(family, SPLIT[family])
    assert (
        isinstance(images, ImageFiles)
        and images.shape[1:] == SHAPES[family]
        and len(images) == len(labels) == len(images.owners)
    )
    some = images[1:3]
    assert (
        some.dtype == torch.float32
        and some.shape == (2, *images.shape[1:])
        and 0 <= some.min()
        and some.max() <= 1
    )
    assert torch.equal(images[1], some[0]) and torch.equal(
        images[torch.tensor([2, 1])], some.flip(0)
    )
    keep = torch.zeros(len(images), dtype=torch.bool)
    keep[[1, 2]] = True
    assert (
        torch.equal(images[keep], some)
        and torch.equal(images.select(keep)[:], some)
        and len(images.select([])) == 0
    )
    assert torch.equal((images.bytes([1, 2]).float() / 255), some)


@pytest.mark.parametrize("family", MAKE)
def test_a_missing_set_says_what_to_download_and_where_to_put_it(root, family, one_line):
    with pytest.raises(DataMissing) as error:
        load_split(family, SPLIT[family])
    text = str(error.value)
    assert (
        one_line(error)
        and "https://" in text
        and f"{family}/" in text
        and "ABC_DATA" in text
        and str(root.parent / "raw") in text
    )


def test_celeba_is_cropped_in_the_middle_and_scaled_up_for_stable_diffusion(root):
    folder = layouts.celeba(root)
    images, labels, origin = load_split("celeba", "train")
    assert (
        len(images) == 17
        and labels[:5].tolist() == [10, 10, 10, 20, 20]
        and origin == "CelebA train split"
    )
    whole = np.asarray(Image.open(folder / "img_align_celeba" / "000001.jpg"))
    assert np.array_equal(images.bytes(0)[0].permute(1, 2, 0).numpy(), whole[45:173, 25:153])
    assert [len(load_split("celeba", split)[0]) for split in ("valid", "test")] == [1, 4]
    data = Data("celeba", "train", 17, "celebrity", 6)
    assert image_shape(data) == (3, 128, 128) and training_set(data).images.shape == (
        17,
        3,
        128,
        128,
    )
    large = training_set(Data("celeba", "train", 17, "celebrity", 6, space="stable-diffusion"))
    assert large.images.shape == (17, 3, 256, 256)
    small = large.images.scaled(128)[3]
    expected = torch.nn.functional.interpolate(
        small[None], size=(256, 256), mode="bilinear", align_corners=False
    )[0]
    # pixels are rounded to whole grey levels after they are scaled
    assert (large.images[3] - expected).abs().max() < 1.5 / 255


def test_metfaces_are_scaled_down_and_works_without_a_name_are_one_source(root):
    folder = layouts.metfaces(root)
    images, labels, _ = load_split("metfaces", "all")
    # "" < "Gilbert Stuart" < "Goya" < "Rembrandt", and a space at the end makes no other artist
    assert images.owners.tolist() == labels.tolist() == [3, 1, 0, 3, 2, 0]
    expected = Image.open(folder / "images" / "100-00.png").resize(
        (256, 256), Image.Resampling.BILINEAR
    )
    assert np.array_equal(images.bytes(0)[0].permute(1, 2, 0).numpy(), np.asarray(expected))
    found = training_set(Data("metfaces", "all", 6, "artist", 4))
    assert found.sources.tolist() == labels[found.where].tolist()


@pytest.mark.parametrize("layout, table", [("split", False), ("split", True), ("whole", True)])
def test_artbench_knows_styles_and_artists_in_both_layouts(root, layout, table):
    layouts.artbench(root, layout, table)
    images, labels, _ = load_split("artbench", "train")
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    names = [name.split("/")[1].split("_")[0] for name in images.names]
    artists = sorted(set(names))
    assert images.owners.tolist() == [artists.index(name) for name in names] and len(artists) == 4
    assert len(load_split("artbench", "test")[0]) == 1


def test_artbench_may_lie_right_in_the_data_folder(root):
    layouts.artbench(root.parent / "elsewhere")
    (root.parent / "elsewhere" / "artbench").rename(root)
    assert len(load_split("artbench", "train")[0]) == 6


def test_an_owner_that_no_table_and_no_name_tells_is_refused(root, one_line):
    folder = layouts.artbench(root) / "artbench-10-imagefolder-split" / "train" / "realism"
    (folder / "ilya-repin_barge.jpg").rename(folder / "barge.jpg")
    with pytest.raises(DataCorrupt, match="barge.jpg does not begin with its artist") as error:
        load_split("artbench", "train")
    assert one_line(error)


# --- odd files -----------------------------------------------------------------------------------


def grey(path):
    Image.open(path).convert("L").save(path)


def transparent(path):
    image = Image.open(path).convert("RGBA")
    image.save(path, "PNG")


def other_size(path):
    layouts.picture(0, (64, 80)).save(path)


def truncated(path):
    path.write_bytes(path.read_bytes()[:400])


def not_an_image(path):
    path.write_bytes(b"<html>quota exceeded</html>")


def gone(path):
    path.unlink()


@pytest.mark.parametrize(
    "damage, why",
    [
        (grey, "is of mode L, not RGB"),
        (transparent, "is of mode RGBA, not RGB"),
        (other_size, "is 64x80, not 178x218"),
        (truncated, "cannot be read"),
        (not_an_image, "cannot be read"),
        (gone, "lacks 1 of the 17 images"),
    ],
)
def test_an_odd_file_is_named_in_one_line_and_skipped_only_when_asked(
    root, monkeypatch, capsys, one_line, damage, why
):
    path = layouts.celeba(root) / "img_align_celeba" / "000003.jpg"
    damage(path)
    with pytest.raises(DataCorrupt) as error:
        load_split("celeba", "train")[0][:]
    assert (
        one_line(error)
        and path.name in str(error.value)
        and why in str(error.value)
        and "ABC_ODD_IMAGES=skip" in str(error.value)
    )
    capsys.readouterr()
    monkeypatch.setenv("ABC_ODD_IMAGES", "skip")
    images, labels, _ = load_split("celeba", "train")
    assert (
        len(images) == len(labels) == 16
        and "000003.jpg" not in images.names
        and images[:].shape == (16, 3, 128, 128)
    )
    told = capsys.readouterr().out
    assert told.count("\n") == 1 and "1 of 17 images are left out" in told and "000003.jpg" in told


def test_colours_are_converted_when_asked_and_nothing_else_is(root, monkeypatch):
    folder = layouts.celeba(root) / "img_align_celeba"
    grey(folder / "000003.jpg")
    truncated(folder / "000004.jpg")
    monkeypatch.setenv("ABC_ODD_IMAGES", "convert")
    images = load_split("celeba", "train")[0]
    assert (images[2] == images[2][:1]).all()
    with pytest.raises(DataCorrupt, match="000004.jpg .*cannot be read"):
        images[3]
    monkeypatch.setenv("ABC_ODD_IMAGES", "skp")
    with pytest.raises(UnknownName, match="did you mean 'skip'"):
        load_split("celeba", "train")


@pytest.mark.parametrize(
    "family, name, content, said",
    [
        ("celeba", "identity_CelebA.txt", None, "identity_CelebA.txt is missing"),
        ("celeba", "list_eval_partition.txt", "000001.jpg zero\n", "line 1 of"),
        ("celeba", "list_eval_partition.txt", "000001.jpg 0\n", "do not name the same images"),
        ("metfaces", "metfaces.json", None, "metfaces.json is missing"),
        ("metfaces", "metfaces.json", '[{"image_path": 3}]', "is not the list of MetFaces"),
        ("metfaces", "metfaces.json", "[", "is not the list of MetFaces"),
        ("metfaces", "metfaces.json", "[]", "names no image"),
        ("artbench", "ArtBench-10.csv", "a,b\n1,2\n", "has no columns"),
    ],
)
def test_a_broken_list_is_named_in_one_line(root, one_line, family, name, content, said):
    path = MAKE[family](root) / name
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataCorrupt, match=said) as error:
        load_split(family, SPLIT[family])
    assert one_line(error) and name in str(error.value)


def test_a_folder_without_its_images_is_refused(root, one_line):
    folder = layouts.artbench(root, "whole")
    (folder / "ArtBench-10.csv").unlink()
    with pytest.raises(DataCorrupt, match="does not say which split"):
        load_split("artbench", "train")
    for path in (root / "artbench").rglob("*.jpg"):
        path.unlink()
    (folder / "artbench-10-imagefolder").rename(folder / "artbench-10-imagefolder-split")
    with pytest.raises(DataCorrupt, match="holds no images of the train split"):
        load_split("artbench", "train")


# --- training sets -------------------------------------------------------------------------------


def test_a_subset_of_celebrities_has_just_the_images_and_people_asked_for(root):
    layouts.celeba(root)
    found = training_set(Data("celeba", "train", 8, "celebrity", 3))
    assert len(found) == 8 and found.sources.unique().tolist() == [0, 1, 2]
    # a source is one person, and people are numbered in order
    people = [found.labels[found.sources == s].unique().tolist() for s in range(3)]
    assert all(len(each) == 1 for each in people) and people == sorted(people)
    assert torch.equal(load_split("celeba", "train")[1][found.where], found.labels)
    assert len(found.without(1)) == 8 - int((found.sources == 1).sum()) and isinstance(
        found.without(1).images, ImageFiles
    )
    assert (
        found.checksum != found.without(1).checksum
        and found.checksum == training_set(Data("celeba", "train", 8, "celebrity", 3)).checksum
    )
    groups = training_set(Data("celeba", "train", 17, "group", 4))
    assert groups.sources.bincount().tolist() == [5, 4, 4, 4]


@pytest.mark.parametrize("size", [15363, 15365])
def test_512_celebrities_with_the_papers_number_of_images_can_be_drawn(size):
    # as in CelebA: many people have 30 images, a few have more
    rng = np.random.default_rng(0)
    counts = np.concatenate(
        [np.full(2300, 30), np.full(30, 31), rng.integers(1, 30, 5850), [35, 34]]
    )
    owners = torch.from_numpy(rng.permutation(np.repeat(np.arange(len(counts)) * 3 + 1, counts)))
    taken, sources = owned_subset(owners, size, 512, "celebrity", generator("test"))
    assert (
        len(taken) == size
        and torch.equal(taken, taken.unique())
        and sources.bincount().min() >= 30
        and sources.max() == 511
    )
    assert all(len(owners[taken[sources == s]].unique()) == 1 for s in range(0, 512, 37))


def test_numbers_that_do_not_fit_the_owners_are_refused_with_a_remedy(root, one_line):
    layouts.celeba(root)
    for size, people in ((17, 7), (17, 5), (16, 4)):
        with pytest.raises(BadValue, match="recipe.replace") as error:
            training_set(Data("celeba", "train", size, "celebrity", people))
        assert one_line(error)
    with pytest.raises(BadValue, match="cannot be 'artist'"):
        training_set(Data("celeba", "train", 17, "artist", 6))


def test_a_set_in_files_is_attributed_to_like_one_in_memory(root):
    layouts.celeba(root)
    found = training_set(Data("celeba", "train", 17, "celebrity", 6))
    held = datasets.TrainingSet(
        found.images[:], found.labels, found.sources, found.where, found.origin
    )
    samples = held.images[[4, 9]] * 0.9
    assert np.array_equal(visual_distances(samples, found), visual_distances(samples, held))
    for source in range(6):
        assert attributed_image(found, source, samples[0]) == attributed_image(
            held, source, samples[0]
        )


def test_status_says_what_to_download(root, tmp_path):
    found = status("metfaces", here=Here(Store(tmp_path / "cache", None)))
    assert "metfaces/" in found.note and "https://" in found.note and "\n" not in found.note


# --- landscapes ---


def test_landscapes_are_picked_by_both_thresholds():
    cosines = torch.tensor([[0.25, 0.19], [0.249, 0.0], [0.3, 0.2], [0.5, -0.1]])
    assert landscapes.are_landscapes(cosines).tolist() == [True, False, False, True]


class Eye(nn.Module):
    """Embeds an image by its mean colour, the good phrase as red and the bad one as blue."""

    def encode_image(self, images):
        return images.mean(dim=(2, 3)) + torch.tensor([2.0, 2.0, 2.0])

    def encode_text(self, tokens):
        return torch.eye(3)[tokens]


def test_cosines_come_from_the_network_once_and_from_the_cache_then(root, tmp_path):
    layouts.artbench(root)
    files, store, loaded = load_split("artbench", "train")[0], Store(tmp_path / "cache", None), []

    def load(device):
        loaded.append(device)
        return (
            Eye(),
            lambda phrases: torch.tensor([0, 2]) if phrases == list(landscapes.PHRASES) else None,
        )

    here = Here(store, "cpu", progress=False)
    found = landscapes.cosines(files, load, here)
    assert found.shape == (6, 2) and (found.abs() <= 1).all() and len(found.unique()) > 6
    again = landscapes.cosines(files, load, here)
    assert torch.equal(found, again) and len(loaded) == 1
    landscapes.cosines(files.select([0, 1]), load, here)
    assert len(loaded) == 2


def test_the_landscapes_split_is_the_part_of_artbench_that_was_picked(root, monkeypatch):
    layouts.artbench(root)
    values = torch.tensor([[0.3, 0.1], [0.1, 0.1], [0.3, 0.1], [0.26, 0.3], [0.4, 0.0], [0.0, 0.0]])
    monkeypatch.setattr(landscapes, "cosines", lambda files: values)
    images, labels, origin = load_split("artbench", "landscapes")
    whole = load_split("artbench", "train")[0]
    assert (
        images.names == tuple(whole.names[k] for k in (0, 2, 4))
        and labels.tolist() == [0, 0, 1]
        and "OpenCLIP" in origin
    )
    assert len(training_set(Data("artbench", "landscapes", 3, "artist", 3))) == 3


def test_the_real_network_is_built_whole_and_its_weights_are_read_strictly(
    root, monkeypatch, tmp_path, one_line
):
    open_clip = pytest.importorskip("open_clip")
    real = open_clip.create_model
    vision = {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 1, "layers": 1}
    monkeypatch.setattr(
        open_clip,
        "create_model",
        lambda name: real(name, vision_cfg=vision, text_cfg=text, embed_dim=16),
    )
    path = tmp_path / "weights" / "DFN5B-CLIP-ViT-H-14-378" / "open_clip_pytorch_model.bin"
    path.parent.mkdir(parents=True)
    monkeypatch.setenv("ABC_WEIGHTS", str(tmp_path / "weights"))
    torch.save(open_clip.create_model(landscapes.MODEL).state_dict(), path)
    network, tokenizer = landscapes.load_clip(torch.device("cpu"))
    with torch.no_grad():
        assert network.encode_text(tokenizer(list(landscapes.PHRASES))).shape == (2, 16)
    torch.save({"visual.proj": torch.zeros(3)}, path)
    with pytest.raises(DataCorrupt, match="open_clip_pytorch_model.bin") as error:
        landscapes.load_clip(torch.device("cpu"))
    assert one_line(error)


def test_the_list_of_metfaces_is_read_as_it_is_published(root):
    folder = layouts.metfaces(root)
    entries = json.loads((folder / "metfaces.json").read_text())
    (folder / "metfaces.json").write_text(json.dumps(list(reversed(entries))))
    assert load_split("metfaces", "all")[0].names == tuple(each["image_path"] for each in entries)
