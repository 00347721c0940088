"""The lab in a browser: its samples are the library's, and it stays alive whatever is broken."""

import functools
import http.server
import importlib.util
import json
import random
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from chromium import Chromium

from abc_lib.exchange.lab import SHIPPED, SHIPPED_NAMES, build_lab
from abc_lib.exchange.lab.build import DRAWS, FILES, RUNTIME
from abc_lib.ground.errors import AbcError, ArtefactError, BadValue, NotAvailable
from abc_lib.ground.here import Here
from abc_lib.ground.paths import PUBLISHED, ROOT
from abc_lib.images.registry import get_recipe
from abc_lib.method.distance import distance
from abc_lib.training.ensembles import find_ensemble, get_ensemble

LINE = "document.querySelector('.lab-line').textContent"
BUSY = "document.getElementById('abc-lab')?.getAttribute('aria-busy')"
STOPPED = "document.querySelector('.lab-stopped')?.textContent"
# Pages may load what lies beside them, and nothing else.
POLICY = "default-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' data:"
COMMITTED = json.loads((SHIPPED / "lab.json").read_text())


def extension(name, path):
    """A module outside of the package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    """The runtime's folder: as fetched before, or with npm; where neither is, tests skip."""
    tool = extension("lab_runtime", "tools/lab_runtime.py")
    kept = ROOT / "data" / "cache" / RUNTIME
    if not tool.sound(kept):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ABC_CACHE", str(tmp_path_factory.mktemp("runtime")))
            said, kept = tool.main(), tool.cache_root() / RUNTIME
        if not tool.sound(kept):
            pytest.skip(said)
    return kept


@pytest.fixture(scope="module")
def lab(runtime, tmp_path_factory):
    """The lab that ships, as the book has it: with members and the runtime."""
    folder = tmp_path_factory.mktemp("lab") / "lab"
    shutil.copytree(SHIPPED, folder)
    for entry in COMMITTED["ensembles"]:
        shutil.copy(PUBLISHED / entry["members"] / "members.safetensors", folder / entry["folder"])
    shutil.copytree(runtime, folder / "ort")
    return folder


@pytest.fixture(scope="module")
def chromium():
    browser = Chromium()
    yield browser
    browser.close()


@pytest.fixture
def served(chromium):
    """Serves a folder and opens its page; the paths asked for are kept."""
    servers = []

    def serve(folder, fragment="", **options):
        asked = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            def end_headers(self):
                self.send_header("Content-Security-Policy", POLICY)
                super().end_headers()

            def log_message(self, *words):
                asked.append(str(words))

        handler = functools.partial(Handler, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        chromium.page(f"http://127.0.0.1:{server.server_port}/{fragment}", **options)
        return SimpleNamespace(page=chromium, asked=asked)

    yield serve
    for server in servers:
        server.shutdown()


def settled(page, seconds=60):
    """Waits until nothing is loaded or drawn any more, and reads the line."""
    page.wait(f"{BUSY} === 'false' || {STOPPED}", seconds)
    return page.run(LINE)


def drawn(page, fragment):
    """What the page draws of a link: images (2, pixels) in single precision, and the distance."""
    return page.run(f"""new Promise((resolve) => {{
        document.getElementById("abc-lab").addEventListener("lab-drawn", ({{detail}}) =>
            resolve([[...detail.images], detail.moved, detail.took]), {{once: true}});
        location.hash = {json.dumps(fragment)};
    }})""")


@functools.cache
def members_of(name):
    """A published ensemble."""
    return get_ensemble(get_recipe(name), Here(device="cpu"))


def choices(name, count, seed):
    """Random samples with one to three sources out, as many of them as leave a member."""
    ensemble, draw = members_of(name), random.Random(seed)
    while count:
        sample = draw.randrange(DRAWS)
        sources = draw.sample(range(ensemble.codebook.num_sources), draw.choice((1, 1, 2, 3)))
        out = torch.as_tensor(ensemble.codebook.words[sources]).bool().any(0)
        if not out.all():
            count -= 1
            yield sample, sources, out


def agree(page, name, count, seed):
    """The page against the library: the largest difference of a pixel."""
    ensemble, chosen, worst = members_of(name), [*choices(name, count, seed)], 0.0
    left = torch.stack([~out for *_, out in chosen]).float()
    left *= ensemble.n / left.sum(1, keepdim=True)
    noise = ensemble.draw_noise(0, [sample for sample, *_ in chosen])
    pairs = zip(ensemble.sample(noise), ensemble.sample(noise, left), strict=True)
    for (sample, sources, _), expected in zip(chosen, map(torch.stack, pairs), strict=True):
        images, moved, _ = drawn(page, f"e={name}&s={sample}&x={','.join(map(str, sources))}&m=")
        worst = max(worst, float((torch.tensor(images) - expected.flatten()).abs().max()))
        assert moved == pytest.approx(float(distance(expected[:1], expected[1:])), abs=0.01)
        assert not torch.equal(expected[0], expected[1])
    return worst


# --- its samples are the library's ---


def test_counterfactuals_are_those_of_the_library(served, lab):
    page = served(lab, "#e=digits_64").page
    settled(page)
    assert agree(page, "digits_64", 3, 1) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count"), [("digits_64", 60), ("digits_256", 30), ("mnist_1024", 10)]
)
def test_a_hundred_counterfactuals_are_those_of_the_library(served, lab, name, count):
    page = served(lab, f"#e={name}").page
    settled(page, 120)
    assert agree(page, name, count, 2) < 1e-3


# --- what a reader does ---


def test_pressing_takes_out_and_the_link_keeps_it(served, lab):
    site = served(lab)
    page, words = site.page, COMMITTED["ensembles"][0]["words"]
    assert "Press training images" in settled(page)
    page.click(".lab-training button:nth-child(6)")
    page.wait(f"{LINE}.includes('By chance')", 60)
    seen = sum(map(int, words[5]))
    line = page.run(LINE)
    assert line.startswith(f"Without image 5: {14 - seen} of 14 members are left")
    assert f"of 32 other sets of {seen} members" in line
    off = page.run("[...document.querySelectorAll('.lab-off')].map(e => +e.textContent)")
    assert off == [i for i, bit in enumerate(words[5]) if bit == "1"]
    # a member that is still there, by hand and by the keyboard
    left = words[5].index("0")
    page.run(f"document.querySelectorAll('.lab-member')[{left}].focus()")
    page.press("Enter")
    page.wait(f"{LINE}.includes('{13 - seen} of 14 members')", 60)
    settled(page)
    assert page.run("location.hash") == f"#e=digits_64&s=0&x=5&m={left}"
    # the arrows go from one image to the next
    page.run("document.querySelectorAll('.lab-training button')[5].focus()")
    page.press("ArrowRight")
    assert "image 6," in page.run("document.activeElement.getAttribute('aria-label')")
    page.click(".lab-back")
    page.wait(f"{LINE}.startsWith('Sample 0 by all 14 members')", 60)
    page.click(".lab-new")
    page.wait(f"/^Sample [0-9]+ by all/.test({LINE}) && !{LINE}.startsWith('Sample 0')", 60)
    assert page.errors() == []
    # nothing was asked of any other place: that is forbidden here, and would be an error
    assert not any("404" in each for each in site.asked)


def test_the_slider_goes_back_to_the_noise(served, lab):
    page = served(lab, "#e=digits_64&s=1&x=3").page
    settled(page)
    grey = "[...document.querySelector('.lab-canvas').getContext('2d').getImageData(0,0,8,8).data]"
    last = page.run(grey)
    page.run("""(() => { const e = document.querySelector('.lab-slider'); e.value = 0;
        e.dispatchEvent(new Event('input')); })()""")
    ensemble = members_of("digits_64")
    data = ensemble.recipe.data
    first = (ensemble.draw_noise(0, [1]).initial[0] / data.factor + data.shift).clamp(0, 1)
    seen = np.array(page.run(grey)).reshape(64, 4)[:, 0]
    assert np.abs(seen - 255 * first.flatten().numpy()).max() <= 1
    assert page.run(grey) != last


def test_when_nobody_is_left_it_says_so(served, lab):
    words = COMMITTED["ensembles"][0]["words"]
    gone = [0]
    while not all(any(words[s][i] == "1" for s in gone) for i in range(14)):
        gone.append(gone[-1] + 1)
    page = served(lab, f"#e=digits_64&s=0&x={','.join(map(str, gone))}").page
    page.wait(f"document.querySelector('.lab-line') && {LINE}.includes('No member is left')", 60)
    assert page.errors() == []


def test_a_phone_is_wide_enough(served, lab):
    page = served(lab, "#e=digits_256", width=390, height=800, touch=True, dark=True).page
    settled(page)
    assert page.run("document.documentElement.scrollWidth") <= 390
    page.tap(".lab-training button:nth-child(2)")
    page.wait(f"{LINE}.startsWith('Without image 1')", 60)


# --- what is broken gives a line ---


@pytest.mark.parametrize(
    ("name", "keep", "said"),
    [
        ("lab.json", 0, "could not be loaded"),
        ("lab.json", 0.5, "could not be loaded"),
        ("lab.json", None, "lab.json is missing"),
        ("digits_64-laptop/graph.onnx", 0.5, "graph.onnx is not the file"),
        ("digits_64-laptop/graph.onnx", None, "graph.onnx is missing"),
        ("digits_64-laptop/members.safetensors", 0, "members.safetensors is not the file"),
        ("digits_64-laptop/members.safetensors", -1, "members.safetensors is not the file"),
        ("digits_64-laptop/members.safetensors", None, "members.safetensors is missing"),
        ("ort/ort.wasm.min.js", None, "python tools/lab_runtime.py"),
        ("ort/ort-wasm-simd-threaded.wasm", 0.5, "could not be loaded"),
        ("worker.js", None, "cannot run here"),
    ],
)
def test_a_broken_file_gives_a_line(served, lab, tmp_path, name, keep, said):
    shutil.copytree(lab, tmp_path / "lab", copy_function=shutil.copy)
    path = tmp_path / "lab" / name
    data = path.read_bytes()
    if keep is None:
        path.unlink()
    elif keep < 0:  # one bit
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        path.write_bytes(data[: int(keep * len(data))])
    page = served(tmp_path / "lab", "#e=digits_64").page
    text = page.wait(STOPPED, 60)
    assert said in text
    assert "computed before" in page.run("document.getElementById('abc-lab').textContent")


def test_a_page_opened_from_the_disk_says_how_to_serve_it(chromium, lab):
    page = chromium.page((lab / "index.html").as_uri())
    assert "python -m http.server" in page.wait(STOPPED)


# --- what is written ---


def test_what_ships_is_what_the_library_says():
    for path in (ROOT / "abc_lib" / "exchange" / "lab" / "page").iterdir():
        assert (SHIPPED / path.name).read_bytes() == path.read_bytes(), "python -m abc_lib lab"
    assert [entry["name"] for entry in COMMITTED["ensembles"]] == [*SHIPPED_NAMES]
    for entry in COMMITTED["ensembles"]:
        ensemble = find_ensemble(get_recipe(entry["name"]), Here(device="cpu"))
        assert entry["words"] == ["".join(map(str, w)) for w in ensemble.codebook.words.tolist()]
        assert PUBLISHED / entry["members"] == ensemble.artefact.path
        names = [name for name, _ in entry["parameters"]]
        sizes = {name: p.numel() for name, p in ensemble.members[0].named_parameters()}
        assert dict(entry["parameters"]) == sizes and len(set(names)) == len(names)
        # pictures that are downloaded are not the book's to show
        shown = (SHIPPED / entry["folder"] / "training.png").is_file()
        assert shown == entry["name"].startswith("digits") == (entry["grid"] is not None)


@pytest.mark.slow
def test_a_lab_of_ones_own_is_served_as_it_is(served, runtime, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    monkeypatch.setenv("ABC_CACHE", str(runtime.parent))
    build_lab([get_recipe("digits_256")], tmp_path / "lab", 3)
    page = served(tmp_path / "lab").page
    assert settled(page).startswith("Sample 0 by all 14 members")
    assert agree(page, "digits_256", 3, 3) < 1e-3


def test_members_that_are_not_packed_are_refused(tiny, trained, tmp_path, one_line):
    with pytest.raises(BadValue, match="publish them") as caught:
        build_lab([tiny], tmp_path, 2, here=Here(trained.store, "cpu", jobs=1, progress=False))
    assert one_line(caught) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("recipe", "samples", "error"),
    [
        (lambda: get_recipe("fashion_classes"), 4, BadValue),
        (lambda: get_recipe("celeba_sd_512"), 4, BadValue),
        (lambda: get_recipe("digits_64"), 0, AbcError),
        (lambda: get_recipe("digits_64"), DRAWS + 1, BadValue),
        (lambda: get_recipe("fashion_256"), 4, NotAvailable),
    ],
)
def test_what_cannot_be_shown_is_refused_in_a_line(recipe, samples, error, tmp_path, one_line):
    with pytest.raises(error) as caught:
        build_lab([recipe()], tmp_path / "lab", samples)
    assert one_line(caught) and not (tmp_path / "lab").exists()


def test_a_file_in_the_place_of_the_folder_is_kept(tmp_path, one_line):
    (tmp_path / "lab").write_text("mine")
    with pytest.raises(ArtefactError) as caught:
        build_lab([get_recipe("digits_64")], tmp_path / "lab")
    assert one_line(caught) and (tmp_path / "lab").read_text() == "mine"


# --- in the book ---


def test_the_book_puts_members_and_the_runtime_beside_the_page(tmp_path, monkeypatch):
    copied = extension("abc_lab", "book/_ext/abc_lab.py")
    shutil.copytree(SHIPPED, tmp_path / "lab")
    monkeypatch.setenv("ABC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / RUNTIME).mkdir(parents=True)
    copied.copy_members(SimpleNamespace(outdir=tmp_path), None)
    for entry in COMMITTED["ensembles"]:
        there = tmp_path / "lab" / entry["folder"] / "members.safetensors"
        assert there.read_bytes() == (PUBLISHED / entry["members"] / there.name).read_bytes()
    # half a runtime is none
    assert not (tmp_path / "lab" / "ort").exists()
    for name in FILES:
        (tmp_path / "cache" / RUNTIME / name).write_text(name)
    copied.copy_members(SimpleNamespace(outdir=tmp_path), None)
    assert {path.name for path in (tmp_path / "lab" / "ort").iterdir()} == {*FILES}


def test_the_book_loads_the_page_and_its_extension():
    text = (ROOT / "_config.yml").read_text()
    assert "abc_lab: _ext\n" in text and "- abc_lab\n" in text
    assert "- file: lab\n" in (ROOT / "_toc.yml").read_text()
    page = (ROOT / "book" / "lab.md").read_text()
    assert 'data-folder="lab"' in page and 'src="lab/lab.js"' in page


def test_without_npm_the_book_is_still_built(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "lab_runtime.py")],
        env={"PATH": "/nowhere", "ABC_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "npm is not installed" in done.stdout
    assert done.stderr == "" and list(tmp_path.iterdir()) == []
