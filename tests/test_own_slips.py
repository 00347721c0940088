"""Odd and hostile files, and bad recipes: a line each, and nothing crashes or is half written."""

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from test_own import TINY, drawn

from abc_lib.images import registry
from abc_lib.images.own.folder import look_at
from abc_lib.images.own.pictures import LARGEST, open_picture
from abc_lib.study.command import main

PICTURE = drawn(5, (120, 90))


@pytest.fixture(autouse=True)
def no_files_of_other_tests(monkeypatch):
    """Names that a file brought are this test's alone."""
    monkeypatch.setattr(registry, "_OWN", {})


def encoded(kind: str, image: Image.Image = PICTURE, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def deep(bits_type, kind: str) -> bytes:
    """A grey picture with 16 bits a pixel."""
    grey = np.asarray(PICTURE.convert("L")).astype(np.uint16) * 257
    return encoded(kind, Image.fromarray(grey.astype(bits_type)))


def with_alpha() -> Image.Image:
    image = PICTURE.convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    return image


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    return encoded("JPEG", exif=exif)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that says it has so many pixels; they compress to next to nothing."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    chunks = [png_chunk(b"IHDR", head), png_chunk(b"IDAT", rows), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def swollen() -> bytes:
    """A PNG with a text that unpacks to a hundred times what Pillow reads."""
    info = PngImagePlugin.PngInfo()
    info.add_text("swollen", "a" * (PngImagePlugin.MAX_TEXT_CHUNK * 100), zip=True)
    return encoded("PNG", pnginfo=info)


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("picture.png", encoded("PNG"))
    return buffer.getvalue()


def broken_checksum() -> bytes:
    data = bytearray(encoded("PNG"))
    at = data.index(b"IDAT") + 40
    data[at] ^= 0xFF
    return bytes(data)


TAKEN = {
    "plain.jpg": encoded("JPEG"),
    "progressive.jpg": encoded("JPEG", progressive=True),
    "grey.jpg": encoded("JPEG", PICTURE.convert("L")),
    "cmyk.jpg": encoded("JPEG", PICTURE.convert("CMYK")),
    "turned.jpg": turned(),
    "plain.png": encoded("PNG"),
    "sixteen bits.png": deep(np.uint16, "PNG"),
    "see-through.png": encoded("PNG", with_alpha()),
    "grey see-through.png": encoded("PNG", with_alpha().convert("LA")),
    "palette.png": encoded("PNG", PICTURE.quantize(16), transparency=0),
    "one bit.png": encoded("PNG", PICTURE.convert("1")),
    "frames.png": encoded("PNG", save_all=True, append_images=[PICTURE.rotate(90)]),
    "plain.webp": encoded("WEBP"),
    "frames.webp": encoded("WEBP", save_all=True, append_images=[PICTURE.rotate(90)]),
    "frames.gif": encoded("GIF", save_all=True, append_images=[PICTURE.rotate(90)]),
    "plain.bmp": encoded("BMP"),
    "frames.tiff": encoded("TIFF", save_all=True, append_images=[PICTURE.rotate(90)]),
    "sixteen bits.tif": deep(np.uint16, "TIFF"),
    "a png by content.jpg": encoded("PNG"),
    "lab.tif": encoded("TIFF", Image.new("LAB", (40, 40))),
    "no ending": encoded("PNG"),
    "LOUD.JPG": encoded("JPEG"),
    "图片 صورة 🖼.png": encoded("PNG"),
    "two\nlines.png": encoded("PNG"),
    "quo\"ted'; rm -rf $HOME.png": encoded("PNG"),
    "below/and/below/that.png": encoded("PNG"),
}
REFUSED = {
    "empty.jpg": (b"", "is empty"),
    "notes.txt": (b"what was painted when", "is no JPEG"),
    "page.jpg": (b"<html><body>404</body></html>", "is no JPEG"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no JPEG"),
    "programme.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no JPEG"),
    "paper.pdf": (b"%PDF-1.4\n", "is no JPEG"),
    "packed.zip": (zipped(), "is no JPEG"),
    "cut.jpg": (encoded("JPEG")[:900], "is broken"),
    "cut.png": (encoded("PNG")[:600], "is broken"),
    "cut.gif": (encoded("GIF")[:2000], "is broken"),
    "cut.webp": (encoded("WEBP")[:200], "is "),
    "checksum.png": (broken_checksum(), "is broken"),
    "noise.jpg": (b"\xff\xd8\xff\xe0" + bytes(range(256)) * 4, "is"),
    "bomb.png": (png_of_size(60_000, 60_000), "more pixels than Pillow decodes safely"),
    "half a bomb.png": (png_of_size(10_000, 9_500), "more pixels than Pillow decodes safely"),
    "swollen.png": (swollen(), "is broken"),
    "dot.png": (encoded("PNG", PICTURE.resize((4, 4))), "too small"),
    "strip.png": (encoded("PNG", PICTURE.resize((900, 20))), "a strip and no picture"),
    "floats.tif": (deep(np.float32, "TIFF"), "floating point"),
    "32 bits.tif": (encoded("TIFF", Image.new("I", (40, 40), 10**6)), "more than 16 bits"),
}


def links(folder: Path) -> dict[str, str]:
    """What is no file at all, and why it is not taken."""
    (folder / "nowhere.png").symlink_to(folder / "gone.png")
    (folder / "itself.png").symlink_to(folder / "itself.png")
    (folder / "up").symlink_to(folder.parent)
    os.mkfifo(folder / "pipe.png")
    with open(folder / "huge.jpg", "wb") as file:
        file.truncate(LARGEST + 1)
    return {
        "nowhere.png": "leads nowhere",
        "itself.png": "is broken",
        "up": "is a folder that is a link",
        "pipe.png": "is not a plain file",
        "huge.jpg": "more than the",
    }


@pytest.fixture
def odd_folder(tmp_path):
    """Two good pictures of two people, and everything odd in the folder of one of them."""
    for k, who in enumerate(("a", "b")):
        (tmp_path / "odd" / who).mkdir(parents=True)
        drawn(50 + k).save(tmp_path / "odd" / who / "good.png")
    folder = tmp_path / "odd" / "a"
    for name, content in TAKEN.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for name, (content, _) in REFUSED.items():
        (folder / name).write_bytes(content)
    (folder / ".hidden").write_bytes(b"not looked at")
    (folder / os.fsdecode(b"bytes \xff.png")).write_bytes(encoded("PNG"))
    return tmp_path / "odd"


def test_odd_files_are_taken_or_refused_with_a_reason(odd_folder, one_line):
    why = {name: reason for name, (_, reason) in REFUSED.items()} | links(odd_folder / "a")
    (odd_folder / "nobody's.png").write_bytes(encoded("PNG"))
    assert len(TAKEN) + len(why) + 2 >= 50
    look = look_at(odd_folder)
    taken = {picture.name for picture in look.pictures}
    odd = os.fsdecode(b"a/bytes \xff.png")
    assert taken == {f"a/{name}" for name in TAKEN} | {"a/good.png", "b/good.png", odd}
    refused = dict(look.refused)
    assert refused.pop("nobody's.png") == "lies in no subfolder, so it is nobody's"
    assert refused.keys() == {f"a/{name}" for name in why}
    for name, reason in why.items():
        assert reason in refused[f"a/{name}"] and one_line(refused[f"a/{name}"]), name


def test_odd_files_are_told_of_in_a_line_each_kind(odd_folder, argv, capsys, monkeypatch):
    links(odd_folder / "a")
    for name in TAKEN.keys() - {"two\nlines.png"}:
        (odd_folder / "a" / name).unlink()
    monkeypatch.chdir(odd_folder.parent)
    argv("new", "odd", "-o", "odd.toml", "--sources", "file", "--device", "cpu")
    assert main() == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "4 pictures of 4 sources are taken"
    assert "look alike (1.00) in different sources: a/bytes ?.png and a/two?lines.png" in said
    told = " ".join(line for line in said if line.startswith("not taken, "))
    assert all(kind in told for kind in ("is empty", "Pillow decodes safely", "leads nowhere"))
    assert (odd_folder.parent / "odd.toml").is_file() and (odd_folder.parent / "odd.png").is_file()
    argv("certify", "odd.toml", "--sample", "0")
    assert main() == 2 and "trained on this machine" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["plain.png", "plain.webp", "plain.bmp", "frames.gif"])
def test_formats_show_the_same_picture(name, tmp_path):
    (tmp_path / name).write_bytes(TAKEN[name])
    image, size = open_picture(tmp_path / name)
    apart = np.abs(np.asarray(image).astype(int) - np.asarray(PICTURE).astype(int))
    assert size == PICTURE.size and image.mode == "RGB" and apart.mean() < 8


def test_pixels_mean_what_the_file_says(tmp_path):
    def pixels(name):
        (tmp_path / "one").write_bytes(TAKEN[name])
        return np.asarray(open_picture(tmp_path / "one")[0]).astype(int)

    grey = np.asarray(PICTURE.convert("L"))[..., None]
    for name in ("sixteen bits.png", "sixteen bits.tif"):
        assert (pixels(name) == grey).all()
    assert (pixels("see-through.png") == 255).all()
    assert (pixels("grey see-through.png") == 255).all()
    # one way of many that is wrong: as if orientation were not there
    assert pixels("turned.jpg").shape == (120, 90, 3)
    upright = np.asarray(PICTURE.transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert np.abs(pixels("turned.jpg") - upright).mean() < 12
    assert np.abs(pixels("cmyk.jpg") - np.asarray(PICTURE)).mean() < 12


# --- bad recipes ---

GOOD = TINY.format(name="odd")
BAD = {
    "not TOML": ("= = =", "is not TOML"),
    "not text": (b"\xff\xfe\x00", "is not TOML"),
    "a key twice": (GOOD + "[code]\nn = 4\n", "is not TOML"),
    "no name": (GOOD.replace('name = "odd"', ""), "name is None"),
    "a path for a name": (GOOD.replace('name = "odd"', 'name = "../odd"'), "name is '../odd'"),
    "another's name": (GOOD.replace('name = "odd"', 'name = "digits_64"'), "another ensemble's"),
    "an unknown scale": ('scale = "huge"\n' + GOOD, "scale is 'huge'"),
    "an unknown table": (GOOD + "[sampler]\n", "unknown key 'sampler'"),
    "a slip in a key": (GOOD.replace("steps = 4\nbatch", "step = 4\nbatch"), "'training.step'"),
    "no folder": (GOOD.replace('path = "odd"', 'path = "even"'), "is no folder"),
    "a file for a folder": (GOOD.replace('path = "odd"', 'path = "odd.toml"'), "is no folder"),
    "no path": (GOOD.replace('path = "odd"', ""), "folder.path is missing"),
    "a number for a path": (GOOD.replace('path = "odd"', "path = 3"), "folder.path is 3"),
    "an odd size": (GOOD.replace("[code]", "size = 48\n[code]"), "folder.size is 48"),
    "a text for a size": (GOOD.replace("[code]", 'size = "32"\n[code]'), "folder.size is '32'"),
    "a word for colour": (GOOD.replace("[code]", 'colour = "yes"\n[code]'), "folder.colour"),
    "duplicates forgotten": (GOOD.replace("[code]", 'duplicates = "forget"\n[code]'), "duplicates"),
    "no such CSV": (GOOD.replace("[code]", 'sources = "who.csv"\n[code]'), "cannot be read"),
    "a family as well": (GOOD + '[data]\nfamily = "mnist"\n', "data.family follows"),
    "latents": (GOOD + '[data]\nspace = "basic"\n', "data.space"),
    "no members": (GOOD.replace("n = 4", "n = 0"), "code.n is 0"),
    "half a member": (GOOD.replace("n = 4", "n = 4.5"), "code.n is 4.5"),
    "true members": (GOOD.replace("n = 4", "n = true"), "code.n is True"),
    "all members": (GOOD.replace("weight = 2", "weight = 4"), "code.weight 4 of 4"),
    "too few codewords": (GOOD.replace("n = 4\nweight = 2", "n = 2\nweight = 1"), "2 codewords"),
    "members that see nothing": (GOOD.replace("n = 4\nweight = 2", "n = 9\nweight = 1"), "seed"),
    "no channels": (GOOD.replace("[8]", "[]"), "network"),
    "a text of channels": (GOOD.replace("[8]", '["8"]'), "network.channels is '8'"),
    "groups that do not divide": (GOOD.replace("groups = 4", "groups = 3"), "network"),
    "patches too large": (GOOD.replace("patch = 8", "patch = 5"), "network"),
    "an unknown target": (GOOD.replace('"image"', '"future"'), "network.predicts"),
    "no steps": (GOOD.replace("steps = 4\nbatch", "steps = 0\nbatch"), "training.steps is 0"),
    "endless steps": (GOOD.replace("steps = 4\nbatch", "steps = 10000000000\nbatch"), "steps"),
    "an infinite rate": (GOOD.replace("batch_size", "learning_rate = inf\nbatch_size"), "rate"),
    "an unknown schedule": (GOOD.replace("batch_size", 'schedule = "up"\nbatch_size'), "schedule"),
    "more steps than times": (GOOD.replace("steps = 4\n", "steps = 2000\n"), "sampling.steps"),
    "a table for a number": (GOOD.replace("[sampling]\nsteps = 4", "[sampling.steps]"), "steps is"),
    "a number for a table": ("sampling = 3\n" + GOOD.split("[sampling]")[0], "sampling is 3"),
    "a false clip": (GOOD + "clip = false\n", "sampling.clip is False"),
    "a family without its size": ('name = "x"\n[data]\nfamily = "mnist"\nsplit = "test"\n'
                                  "[code]\nn = 4\nweight = 2\n[network]\nchannels = [8]\n"
                                  "[training]\nsteps = 1\n", "data.size is missing"),
}  # fmt: skip


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    for k, who in enumerate(("a", "b", "c")):
        (folder / "odd" / who).mkdir(parents=True)
        for i in range(2):
            drawn(60 + 2 * k + i).save(folder / "odd" / who / f"{i}.png")
    return folder


@pytest.mark.parametrize("what", BAD)
def test_a_bad_recipe_is_one_line_and_leaves_nothing(what, people, argv, capsys, one_line):
    content, words = BAD[what]
    path = people / "odd.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = sorted(people.rglob("*"))
    argv("certify", str(path), "--sample", "0", "-o", str(people / "certificate.json"))
    assert main() == 2
    error = capsys.readouterr().err.strip()
    assert one_line(error) and str(path) in error and words in error, error
    assert sorted(people.rglob("*")) == before


def test_the_good_recipe_that_the_bad_ones_come_from_is_good(people):
    (people / "odd.toml").write_text(GOOD, encoding="utf-8")
    assert registry.get_recipe(str(people / "odd.toml")).data.num_sources == 3


@pytest.mark.parametrize(
    "rows, words",
    [
        ("", "no columns file and source"),
        ("file,owner\na/0.png,x\n", "no columns file and source"),
        ("file,source\na/0.png,\n", "line 2 of"),
        ("file,source\na/7.png,x\n", "names a/7.png, which is not in the folder"),
        ("file,source\na/0.png,x\nb/0.png,x\n", "1 source"),
        ('file,source\n"a/0.png,x\n', "cannot be read as a CSV file"),
    ],
)
def test_a_bad_table_of_sources_is_one_line(rows, words, people, argv, capsys, one_line):
    (people / "who.csv").write_text(rows, encoding="utf-8")
    output = people / "new.toml"
    argv("new", str(people / "odd"), "-o", str(output), "--sources", str(people / "who.csv"))
    assert main() == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in error and not output.exists() and not output.with_suffix(".png").exists()


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["nothing"], "is no folder"),
        (["odd", "-o", "odd.txt"], "let it end with .toml"),
        (["odd", "-o", "no/such/place.toml"], "is no folder to write"),
        (["empty"], "0 sources"),
        (["odd/a"], "is there already"),
    ],
)
def test_new_refuses_in_one_line(arguments, words, people, argv, capsys, monkeypatch):
    monkeypatch.chdir(people)
    (people / "empty").mkdir(exist_ok=True)
    (people / "a.toml").write_text("mine")
    argv("new", *arguments)
    assert main() == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and words in error
    assert (people / "a.toml").read_text() == "mine"
