"""The explorer in a browser: what a user sees by pointing, clicking, touching and typing."""

import functools
import http.server
import json
import shutil
import threading

import numpy as np
import pytest
import torch
from chromium import Chromium

from abc_lib.exchange.explorer.build import SHIPPED, build_explorer
from abc_lib.exchange.mosaic import decode_mosaic, to_bytes
from abc_lib.ground.here import Here
from abc_lib.ground.store import Store
from abc_lib.images.registry import get_recipe
from abc_lib.images.training_set import training_set
from abc_lib.method.distance import distance
from abc_lib.method.landscape import counterfactuals
from abc_lib.results.landscapes import stored as stored_landscapes
from abc_lib.results.placebos import landscapes as placebos
from abc_lib.training.ensembles import find_ensemble

PAGE = SHIPPED / "index.html"
URL = PAGE.as_uri()
DONE = "document.querySelector('.abc-mosaic')?.getAttribute('aria-busy') === 'false'"
LINE = "document.querySelector('.abc-line').textContent"
ORDER = "[...document.querySelectorAll('.abc-tile')].map(e => +e.dataset.source)"
PINNED = (
    "[...document.querySelectorAll('.abc-tile[aria-selected=true]')].map(e => +e.dataset.source)"
)
FOCUSED = "+(document.activeElement.dataset.source ?? -1)"


@pytest.fixture(scope="module")
def chromium():
    browser = Chromium()
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Published landscapes, by name."""
    return functools.cache(
        lambda name: stored_landscapes(
            get_recipe(name), here=Here(Store(tmp_path_factory.mktemp("cache")))
        )
    )


def opened(chromium, url=URL, **options):
    chromium.page(url, **options).wait(DONE)
    return chromium


def tile(source):
    return f".abc-tile[data-source='{source}']"


def moved(chromium):
    """The distance that the line of text tells, which has two decimals."""
    return pytest.approx(float(chromium.run(LINE).split("moves by ")[1].split(". ")[0]), abs=0.0051)


def shown(chromium, name, side=8):
    """The pixels of one of the panel's pictures, as a screenshot has them, (1, 8, 8) in 8 bits."""
    picture = np.asarray(chromium.picture(f".abc-{name} .abc-image")).astype(int)
    height, width, _ = picture.shape
    rows, columns = (
        ((np.arange(side) + 0.5) * height / side).astype(int),
        ((np.arange(side) + 0.5) * width / side).astype(int),
    )
    seen = picture[rows][:, columns]
    assert (seen == seen[..., :1]).all()
    return seen[None, ..., 0]


def close(seen, expected, levels=0):
    assert np.abs(seen - expected.numpy().astype(int)).max() <= levels


# --- pointing and clicking ---


def test_pointing_at_an_image_shows_the_counterfactual_without_it(chromium, published):
    page, landscapes = opened(chromium), published("digits_64")
    chance = np.round(placebos.stored(get_recipe("digits_64")).distances[0], 4)
    files, images = SHIPPED / "digits_64-laptop", training_set(get_recipe("digits_64").data)
    sprite = decode_mosaic((files / "0000.png").read_bytes(), 64, (1, 8, 8), "0000.png")
    for source in (0, 17, 63):
        page.hover(tile(source))
        page.wait(f"{LINE}.startsWith('Source {source},')")
        close(shown(page, "without"), sprite[source])
        close(shown(page, "training"), to_bytes(images.images)[source])
        close(shown(page, "factual"), to_bytes(landscapes.factual)[0])
        text = page.run(LINE)
        farther = int((landscapes.distances[0] > landscapes.distances[0, source]).sum())
        nearer = (
            distance(landscapes.factual[:1], images.images)
            .argsort(stable=True)
            .tolist()
            .index(source)
        )
        assert f"label {images.labels[source]}:" in text and landscapes.distances[
            0, source
        ] == moved(page)
        assert (
            f"Counterfactual rank {farther + 1} of 64" in text
            and f"visual rank {nearer + 1} of 64" in text
        )
        far = int((chance >= landscapes.distances[0, source]).sum())
        assert f"Chance: {far} of 64 placebos" in text
    # what is on the screen is what the members give
    ensemble = find_ensemble(
        get_recipe("digits_64"), here=Here(Store(landscapes.artefacts[0].path.parent / "none"))
    )
    close(
        shown(page, "without"),
        to_bytes(counterfactuals(ensemble, landscapes, 0, [63]))[0],
        levels=8,
    )
    assert page.errors() == []


def test_the_first_thing_shown_is_the_farthest_counterfactual(chromium, published):
    assert (
        opened(chromium)
        .run(LINE)
        .startswith(f"Source {published('digits_64').attributed_sources[0]},")
    )


def test_a_click_pins_and_the_next_lets_go(chromium):
    page = opened(chromium)
    page.click(tile(5))
    assert page.run(PINNED) == [5] and page.run(LINE).endswith("Pinned.")
    page.hover(tile(9))
    assert page.run(LINE).startswith("Source 5,")
    page.click(tile(9))
    assert page.run(PINNED) == [9] and page.run(LINE).startswith("Source 9,")
    page.click(tile(9))
    assert page.run(PINNED) == [] and "Pinned" not in page.run(LINE)
    page.hover(tile(11))
    assert page.run(LINE).startswith("Source 11,")


def test_colours_follow_the_distances(chromium, published):
    page, distances = opened(chromium), published("digits_64").distances[0]
    colours = page.run(
        "[...document.querySelectorAll('.abc-tile')].map(e => getComputedStyle(e).backgroundColor)"
        ".map(colour => colour.match(/[0-9]+/g).map(Number))"
    )
    light = np.array(colours) @ [0.2126, 0.7152, 0.0722]
    order = np.argsort(distances)
    assert (np.diff(light[order]) >= -1.5).all() and light[order[-1]] - light[order[0]] > 100
    assert colours[order[-1]] == [254, 232, 56]
    ticks = page.run("[...document.querySelectorAll('.abc-ticks span')].map(e => +e.textContent)")
    assert ticks[0] == 0 and ticks[2] == pytest.approx(distances.max(), abs=0.006)
    assert "Euclidean distance, images scaled to 3x256x256" in page.run(
        "document.querySelector('.abc-legend').textContent"
    )


# --- sorting, samples, data sets ---


def test_sorting_puts_the_images_in_the_order_of_their_ranks(chromium, published):
    page, landscapes = opened(chromium), published("digits_64")
    images = training_set(get_recipe("digits_64").data).images
    assert page.run(ORDER) == list(range(64))
    page.choose("#abc-order", "counterfactual")
    assert page.run(ORDER) == np.argsort(-landscapes.distances[0], kind="stable").tolist()
    page.click(tile(page.run(ORDER)[6]))
    assert "Counterfactual rank 7 of 64" in page.run(LINE)
    page.choose("#abc-order", "visual")
    assert page.run(ORDER) == distance(landscapes.factual[:1], images).argsort(stable=True).tolist()
    page.choose("#abc-order", "training")
    assert page.run(ORDER) == list(range(64))


def test_choosing_a_sample_keeps_order_and_pin_and_loads_its_own_images(chromium, published):
    page, landscapes = opened(chromium), published("digits_64")
    page.choose("#abc-order", "counterfactual")
    page.click(tile(3))
    assert (
        page.run("performance.getEntriesByType('resource').filter(e => /0004/.test(e.name)).length")
        == 0
    )
    page.click(".abc-samples label:nth-of-type(5) input")
    page.wait(f"{DONE} && document.querySelector('.abc-factual').textContent === 'Sample 4'")
    assert page.run(ORDER) == np.argsort(-landscapes.distances[4], kind="stable").tolist()
    assert page.run(PINNED) == [3] and landscapes.distances[4, 3] == moved(page)
    close(shown(page, "factual"), to_bytes(landscapes.factual)[4])
    close(
        shown(page, "without"),
        decode_mosaic((SHIPPED / "digits_64-laptop/0004.png").read_bytes(), 64, (1, 8, 8), "")[3],
    )


def test_choosing_another_data_set_shows_all_of_it(chromium, published):
    page, landscapes = opened(chromium), published("digits_256")
    assert page.run(
        "[...document.querySelectorAll('#abc-ensemble option')]"
        ".map(e => e.textContent.split(' ')[0])"
    ) == ["digits_64", "digits_256"]
    page.click(tile(3))
    # from under the pointer, where another image will be
    page.hover("h1")
    page.choose("#abc-ensemble", "1")
    page.wait(f"document.querySelectorAll('.abc-tile').length === 256 && {DONE}")
    assert page.run(PINNED) == [] and page.run(LINE).startswith(
        f"Source {landscapes.attributed_sources[0]},"
    )
    assert "digits_256" in page.run("document.querySelector('.abc-origin').textContent")
    page.hover(tile(200))
    assert landscapes.distances[0, 200] == moved(page) and "of 256" in page.run(LINE)
    close(
        shown(page, "without"),
        decode_mosaic((SHIPPED / "digits_256-laptop/0000.png").read_bytes(), 256, (1, 8, 8), "")[
            200
        ],
    )
    assert page.errors() == []


def test_the_last_choice_wins_however_fast_they_come(chromium, published):
    page, landscapes = opened(chromium), published("digits_64")
    page.run("""for (const row of [1, 2, 3, 4, 5, 6, 7, 2]) {
        const e = document.querySelectorAll('.abc-samples input')[row]; e.checked = true;
        e.dispatchEvent(new Event('change', {bubbles: true})); }""")
    page.wait(f"{DONE} && document.querySelector('.abc-factual').textContent === 'Sample 2'")
    page.hover(tile(8))
    assert page.run(LINE).startswith("Source 8,") and landscapes.distances[2, 8] == moved(page)


# --- without a mouse ---


def test_the_keyboard_reaches_and_does_everything(chromium):
    page = opened(chromium)
    page.choose("#abc-order", "counterfactual")
    order = page.run(ORDER)
    page.run("document.querySelector('.abc-samples input:checked').focus()")
    page.press("Tab")
    assert page.run(FOCUSED) == order[0], "the mosaic is one stop of the tab key"
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.run("parseFloat(getComputedStyle(document.activeElement).outlineWidth)") >= 2
    columns = page.run(
        "[...document.querySelectorAll('.abc-tile')]"
        ".filter((e, i, all) => e.offsetTop === all[0].offsetTop).length"
    )
    for key, position in [
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("ArrowDown", 1 + columns),
        ("ArrowUp", 1),
        ("ArrowUp", 1),
        ("End", 63),
        ("ArrowRight", 63),
        ("ArrowDown", 63),
        ("Home", 0),
        ("ArrowLeft", 0),
        ("ArrowDown", columns),
    ]:
        page.press(key)
        assert page.run(FOCUSED) == order[position], key
        assert page.run(LINE).startswith(f"Source {order[position]},")
    page.press("Enter")
    assert page.run(PINNED) == [order[columns]]
    page.press("ArrowRight")
    assert page.run(FOCUSED) == order[columns + 1] and page.run(LINE).startswith(
        f"Source {order[columns]},"
    )
    page.press(" ")
    assert page.run(PINNED) == [order[columns + 1]]
    page.press("ArrowRight")
    page.press("Escape")
    assert page.run(PINNED) == [] and page.run(LINE).startswith(f"Source {order[columns + 2]},")
    assert page.run("document.querySelectorAll('.abc-tile[tabindex=\"0\"]').length") == 1


def test_it_can_be_heard(chromium, published):
    page, landscapes = opened(chromium), published("digits_64")
    assert page.run("document.querySelector('.abc-line').getAttribute('aria-live')") == "polite"
    assert page.run("document.querySelector('.abc-mosaic').getAttribute('role')") == "listbox"
    nodes = [
        node
        for node in (page.call("Accessibility.getFullAXTree")["nodes"])
        if not node.get("ignored")
    ]
    named = {(node["role"]["value"], node.get("name", {}).get("value")) for node in nodes}
    assert (
        "option",
        f"source 12, label {training_set(get_recipe('digits_64').data).labels[12]}, "
        f"distance {landscapes.distances[0, 12]:.2f}",
    ) in named
    assert ("radio", f"sample 3, counterfactual radius {landscapes.radii[3]:.2f}") in named
    assert {
        ("combobox", "Data set"),
        ("combobox", "Sort by"),
        ("listbox", "Training set of digits_64, 64 images"),
    } <= named
    assert {name for role, name in named if role in ("image", "img")} >= {"Sample 0"}


@pytest.mark.parametrize("name", [0, 1])
@pytest.mark.parametrize("width", [390, 320])
def test_on_a_phone_nothing_sticks_out_and_touch_selects(chromium, name, width):
    page = opened(chromium, width=width, height=844, touch=True)
    page.choose("#abc-ensemble", str(name))
    page.wait(f"document.querySelectorAll('.abc-tile').length === {(64, 256)[name]} && {DONE}")
    assert page.run("document.documentElement.scrollWidth") <= width
    right = page.run(
        "Math.max(...[...document.querySelectorAll('#abc-explorer *')]"
        ".map(e => e.getBoundingClientRect().right))"
    )
    assert right <= width
    panel, mosaic = (
        page.run(f"document.querySelector('{s}').getBoundingClientRect().toJSON()")
        for s in (".abc-panel", ".abc-mosaic")
    )
    assert panel["left"] == mosaic["left"] and panel["bottom"] <= mosaic["top"]
    for source in (50, 2):
        page.tap(tile(source))
        page.wait(f"{LINE}.startsWith('Source {source},')")
        assert page.run(PINNED) == [source]
        # the answer is in view where the finger is
        box = page.run("document.querySelector('.abc-without').getBoundingClientRect().toJSON()")
        assert box["top"] >= 0 and box["bottom"] <= 844


def test_on_a_desktop_the_panel_stands_beside_the_mosaic(chromium):
    page = opened(chromium, width=1200)
    panel, mosaic = (
        page.run(f"document.querySelector('{s}').getBoundingClientRect().toJSON()")
        for s in (".abc-panel", ".abc-mosaic")
    )
    assert (
        panel["left"] >= mosaic["right"]
        and page.run("document.documentElement.scrollWidth") <= 1200
    )


def test_text_is_readable_in_the_dark(chromium):
    for dark in (False, True):
        page = opened(chromium, dark=dark)
        light = page.run("""[['.abc-line', 'color'], ['.abc-panel', 'backgroundColor']]
            .map(([s, what]) => getComputedStyle(document.querySelector(s))[what]
            .match(/[0-9.]+/g).slice(0, 3).map(Number).reduce((a, b) => a + b) / 3)""")
        assert (light[0] > 200 and light[1] < 60) if dark else (light[0] < 60 and light[1] > 200)


# --- where the files lie ---


def test_it_works_from_a_server_too(chromium, published):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=str(SHIPPED))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            page = opened(chromium, f"http://127.0.0.1:{server.server_address[1]}/index.html")
            page.hover(tile(17))
            assert page.run(LINE).startswith("Source 17,") and published("digits_64").distances[
                0, 17
            ] == moved(page)
            # all that comes from elsewhere is the icon that browsers ask for by themselves
            assert [error for error in page.errors() if "404" not in error] == []
            assert all(
                f":{server.server_address[1]}/" in url
                for url in page.run("performance.getEntriesByType('resource').map(e => e.name)")
            )
            assert page.run("performance.now()") < 20_000
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def book(trained, tmp_path_factory):
    """A page as the book has it, beside what ships and an explorer of this machine."""
    folder = tmp_path_factory.mktemp("book")
    shutil.copytree(SHIPPED, folder / "explorer")
    shutil.copytree(trained.store.cache, folder / "cache")
    build_explorer(
        [trained.recipe],
        folder / "explorer_local",
        2,
        here=Here(Store(folder / "cache", None), "cpu", jobs=1, progress=False),
    )
    (folder / "explorer.html").write_text(
        '<!DOCTYPE html><link rel="stylesheet" href="explorer/explorer.css">'
        '<div id="abc-explorer" data-folders="explorer explorer_local"></div>'
        '<script src="explorer/explorer.js" defer></script>'
    )
    return folder


def test_this_machines_own_ensembles_join_those_that_ship(chromium, book):
    page = opened(chromium, (book / "explorer.html").as_uri())
    assert page.run("document.querySelectorAll('#abc-ensemble option').length") == 3
    page.choose("#abc-ensemble", "2")
    page.wait(f"document.querySelectorAll('.abc-tile').length === 12 && {DONE}")
    page.hover(tile(7))
    page.wait(f"{LINE}.startsWith('Source 7,')")
    sprite = decode_mosaic(
        (book / "explorer_local/digits_64-laptop/0000.png").read_bytes(), 12, (1, 8, 8), ""
    )
    close(shown(page, "without"), sprite[7])
    assert len(torch.unique(sprite.flatten(1), dim=0)) > 6 and page.errors() == []


def test_without_local_ones_the_rest_is_shown_and_without_any_the_page_says_so(
    chromium, book, tmp_path
):
    shutil.copytree(book / "explorer", tmp_path / "explorer")
    shutil.copy(book / "explorer.html", tmp_path)
    page = opened(chromium, (tmp_path / "explorer.html").as_uri())
    assert page.run("document.querySelectorAll('#abc-ensemble option').length") == 2
    (tmp_path / "explorer" / "digits_64-laptop" / "0001.js").unlink()
    page.click(".abc-samples label:nth-of-type(2) input")
    page.wait(
        f"{LINE}.includes('could not be loaded') && {LINE}.includes('python -m abc_lib explorer')"
    )
    (tmp_path / "explorer" / "data.js").unlink()
    page.page((tmp_path / "explorer.html").as_uri())
    page.wait(
        "document.getElementById('abc-explorer')?.textContent"
        ".includes('python -m abc_lib explorer')"
    )


def test_the_book_has_the_page_in_its_contents():
    text = (SHIPPED.parents[1] / "explorer.md").read_text()
    assert (
        'data-folders="explorer explorer_local"' in text
        and 'src="explorer/explorer.js"' in text
        and 'href="explorer/explorer.css"' in text
    )
    assert "- file: explorer\n" in (SHIPPED.parents[1] / "_toc.yml").read_text()
    assert json.loads((SHIPPED / "manifest.json").read_text())["kind"] == "explorer"
