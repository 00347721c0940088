"""Every figure draws without a warning, says what its axes are, and shows the numbers it was
given."""

import io

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from matplotlib.patches import FancyArrowPatch  # noqa: E402
from PIL import Image  # noqa: E402

from abc_lib import figures  # noqa: E402
from abc_lib.ground.errors import BadValue  # noqa: E402
from abc_lib.images.registry import get_recipe  # noqa: E402
from abc_lib.images.training_set import training_set  # noqa: E402
from abc_lib.method.code import Codebook  # noqa: E402
from abc_lib.method.landscape import Landscapes  # noqa: E402
from abc_lib.method.radius import Law, LogRadius, fit_law, summarise  # noqa: E402
from abc_lib.results.measures.radii import paper_summaries  # noqa: E402
from abc_lib.study.cost import cost_of  # noqa: E402

pytestmark = pytest.mark.filterwarnings("error")

S, N, KEPT = 3, 20, 4


@pytest.fixture(autouse=True)
def clean():
    with matplotlib.rc_context():
        figures.use_style()
        yield
    plt.close("all")


def landscapes(
    attributed: bool = True, colour: bool = False, distances: np.ndarray | None = None
) -> Landscapes:
    pictures = training_set(get_recipe("digits_64").data).images
    pictures = pictures.expand(-1, 3, -1, -1) if colour else pictures
    if distances is None:
        distances = np.random.default_rng(0).uniform(1, 40, (S, N))
    kept = np.argsort(-distances, axis=1, kind="stable")[:, :KEPT]
    return Landscapes(
        "digits_64",
        "laptop",
        0,
        np.array([4, 7, 9]),
        pictures[:S],
        distances,
        kept,
        pictures[S : S + S * KEPT].reshape(S, KEPT, *pictures.shape[1:]),
        pictures[40 : 40 + S] if attributed else None,
        np.arange(S) if attributed else None,
    )


def draw(figure) -> None:
    """Layout, fonts and limits are worked out only when a figure is drawn."""
    figure.canvas.draw()


def pixels(ax) -> np.ndarray:
    (image,) = ax.get_images()
    return np.asarray(image.get_array())


@pytest.mark.parametrize("colour", [False, True])
def test_show_image_shows_these_pixels_on_a_fixed_grey_scale(colour):
    image = landscapes(colour=colour).factual[0] * 0.5  # not stretched to white
    figure, ax = plt.subplots()
    figures.show_image(ax, image, "title", frame="red")
    draw(figure)
    shown = pixels(ax)
    assert np.allclose(shown, image.permute(1, 2, 0).numpy() if colour else image[0].numpy())
    assert ax.get_images()[0].get_clim() == (0, 1)
    assert ax.get_title() == "title" and len(ax.get_xticks()) == 0
    assert all(spine.get_visible() for spine in ax.spines.values())


@pytest.mark.parametrize("colour", [False, True])
def test_the_grid_shows_the_sample_and_each_counterfactual_with_its_distance(colour):
    found = landscapes(colour=colour)
    sources = [5, 0, 19, 3, 8]
    figure = figures.landscape_grid(
        found, 1, found.kept_images[0][:1].expand(5, -1, -1, -1), sources, columns=4
    )
    draw(figure)
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == ["factual"] + [f"−{s}: {found.distances[1, s]:.0f}" for s in sources]
    assert len(figure.axes) == 8 and sum(bool(ax.get_images()) for ax in figure.axes) == 6
    first = found.factual[1]
    assert np.allclose(pixels(figure.axes[0]), first.permute(1, 2, 0).numpy().squeeze())


def test_the_gallery_names_samples_radii_and_sources():
    found = landscapes()
    figure = figures.radius_gallery(found, [2, 0])
    draw(figure)
    axes = np.array(figure.axes).reshape(3, 2)
    assert [ax.get_title() for ax in axes[0]] == [
        f"#9\nr = {found.radii[2]:.1f}",
        f"#4\nr = {found.radii[0]:.1f}",
    ]
    assert [ax.get_xlabel() for ax in axes[-1]] == [
        f"source {found.distances[row].argmax()}" for row in (2, 0)
    ]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == [
        "sample",
        "farthest\ncounterfactual",
        "training image\nremoved",
    ]
    for column, row in enumerate((2, 0)):
        for line, image in enumerate(
            (found.factual[row], found.kept_images[row, 0], found.attributed_images[row])
        ):
            assert np.allclose(pixels(axes[line, column]), image[0].numpy())


def test_the_gallery_does_without_training_images():
    figure = figures.radius_gallery(landscapes(attributed=False), [0, 1, 2])
    draw(figure)
    assert len(figure.axes) == 6


def test_curves_fall_from_the_radius():
    found = landscapes()
    figure, ax = plt.subplots()
    assert figures.landscape_curves(found, ax) is ax
    draw(figure)
    assert len(ax.lines) == S and ax.get_xlabel() and ax.get_ylabel()
    for line, distances in zip(ax.lines, found.distances):
        assert line.get_ydata().tolist() == sorted(
            distances, reverse=True
        ) and line.get_xdata().tolist() == list(range(1, N + 1))


def test_curves_of_an_unattributable_sample_are_drawn_too():
    distances = np.random.default_rng(0).uniform(1, 40, (S, N))
    distances[1] = 0
    figure, ax = plt.subplots()
    figures.landscape_curves(landscapes(distances=distances), ax)
    draw(figure)


def test_curves_of_unattributable_samples_only_are_drawn_without_a_warning():
    figure, ax = plt.subplots()
    figures.landscape_curves(landscapes(distances=np.zeros((S, N))), ax)
    draw(figure)


def test_the_distribution_has_a_strip_for_each_ensemble_with_every_radius():
    rng = np.random.default_rng(0)
    groups = {
        name: 10 ** rng.normal(mean, 0.2, 12)
        for name, mean in (("digits_64", 2.0), ("digits_128", 1.8))
    }
    figure, ax = plt.subplots()
    figures.radius_distribution(groups, ax, highlight="digits_128")
    draw(figure)
    assert [t.get_text() for t in ax.get_yticklabels()] == list(
        groups
    ) and ax.get_xlabel().startswith("log10")
    dots = [np.sort(c.get_offsets()[:, 0]) for c in ax.collections]
    assert all(
        np.allclose(d, np.sort(np.log10(values)))
        for d, values in zip(dots, groups.values(), strict=True)
    )
    first, second = (c.get_facecolor()[0][:3] for c in ax.collections)
    assert tuple(second) == pytest.approx(figures.ALERT) and tuple(first) == pytest.approx(
        figures.OURS
    )


def test_the_distribution_bears_radii_of_zero_even_only_zeros():
    figure, ax = plt.subplots()
    figures.radius_distribution({"some": np.array([0, 10.0, 20.0]), "none": np.zeros(4)}, ax)
    draw(figure)
    assert [len(c.get_offsets()) for c in ax.collections] == [2, 0]


def test_the_law_shows_both_sets_of_points_and_both_lines():
    ours = [
        summarise(f"digits_{k}", k, np.array([m, 1.2 * m]))
        for k, m in ((64, 60), (256, 45), (1024, 30))
    ]
    ours.append(LogRadius("mnist_256", 256, 1, 0, 1.7, float("nan")))
    paper = paper_summaries()
    figure, ax = plt.subplots()
    our_law, paper_law = fit_law(ours), fit_law(paper)
    figures.radius_law(ours, paper, ax, our_law, paper_law)
    draw(figure)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert (
        any("paper's 23" in text for text in labels)
        and "ours: digits" in labels
        and "ours: mnist" in labels
    )
    for law in (our_law, paper_law):
        assert any(f"slope {law.slope:.2f}, $R^2$ {law.r2:.2f}" in text for text in labels)
    assert (
        ax.get_xscale() == "log"
        and "training set size" in ax.get_xlabel()
        and "radius" in ax.get_ylabel()
    )
    dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
    ends = {tuple(line.get_xdata()): line.get_ydata() for line in dashed}
    assert ends[64.0, 1024.0] == pytest.approx(
        [np.log10(our_law.radius_at(64)), np.log10(our_law.radius_at(1024))]
    )
    assert ends[256.0, 162770.0] == pytest.approx(
        [np.log10(paper_law.radius_at(256)), np.log10(paper_law.radius_at(162770))]
    )


def test_the_law_draws_without_lines_and_with_an_ensemble_of_zeros():
    figure, ax = plt.subplots()
    figures.radius_law(
        [summarise("digits_64", 64, [0, 0]), summarise("digits_128", 128, [3, 4])],
        paper_summaries(),
        ax,
    )
    draw(figure)
    assert not [line for line in ax.lines if line.get_linestyle() == "--"]


def test_the_law_drops_no_family():
    families = [
        "digits",
        "mnist",
        "fashion",
        "cifar10",
        "cifar100",
        "celeba",
        "metfaces",
        "landscapes",
        "artbench",
    ]
    figure, ax = plt.subplots()
    figures.radius_law(
        [LogRadius(f"{name}_1", 100, 5, 0, 2.0, 0.1) for name in families],
        paper_summaries(),
        ax,
        Law(-0.2, 2.4, 0.8, 0.01, 9),
    )
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert [name for name in families if f"ours: {name}" not in labels] == []


def test_the_code_matrix_shows_the_words_and_strikes_the_members_that_go():
    book = Codebook.draw(6, 3, 20, 0)
    figure, ax = plt.subplots()
    figures.code_matrix(book, ax, removed=2, rows=8)
    draw(figure)
    assert np.array_equal(pixels(ax), book.words[:8])
    assert [int(text.get_text()) for text in ax.texts] == book.words[:8].ravel().tolist()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("member", "data source")
    struck = {round(p.get_x() + 0.5) for p in ax.patches if p.get_width() == 1}
    assert struck == set(np.flatnonzero(book.words[2]))


def test_the_code_matrix_without_a_removal_strikes_nothing():
    figure, ax = plt.subplots()
    figures.code_matrix(Codebook.draw(4, 2, 3, 0), ax)
    draw(figure)
    assert len(ax.patches) == 0 and pixels(ax).shape == (3, 4)


def test_the_flow_has_an_arrow_for_every_sight_and_breaks_those_of_removed_members():
    book = Codebook.draw(4, 2, 6, 0)
    for removed in (None, 3):
        figure, ax = plt.subplots()
        figures.causal_flow(book, ax, removed)
        draw(figure)
        arrows = [p for p in ax.patches if isinstance(p, FancyArrowPatch)]
        assert len(arrows) == 6 * 2 + 4 + 2  # sights, members, noise in and sample out
        assert sum(arrow.get_linestyle() in (":", "dotted") for arrow in arrows) == (
            0 if removed is None else 2
        )
        words = [text.get_text() for text in ax.texts]
        assert (
            words.count("mean") == 1
            and sum("theta" in w for w in words) == 4
            and sum("s_" in w for w in words) == 6
        )
        plt.close(figure)


def test_a_figure_takes_a_tensor_that_needs_gradients():
    figure, ax = plt.subplots()
    figures.show_image(ax, torch.rand(1, 8, 8, requires_grad=True))
    draw(figure)


GROUPS = {"a": np.array([0.1, 0.2, np.nan, 0.9]), "b": np.array([0.5, 0.7])}


def test_strips_show_every_value_and_leave_out_nan():
    figure, ax = plt.subplots()
    figures.strips(GROUPS, ax, "rank", highlight="b", chance=0.5)
    draw(figure)
    dots = [collection.get_offsets()[:, 0].tolist() for collection in ax.collections]
    assert dots == [[0.1, 0.2, 0.9], [0.5, 0.7]]
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "a",
        "b",
    ] and ax.get_xlabel() == "rank"
    assert any(
        list(line.get_xdata()) == [0.5, 0.5] and line.get_linestyle() == "--" for line in ax.lines
    )


def test_violins_show_medians_and_leave_out_nan():
    figure, ax = plt.subplots()
    figures.violins(GROUPS, ax, "rank", highlight="a")
    draw(figure)
    black = [list(line.get_xdata()) for line in ax.lines if line.get_color() == "black"]
    medians = [x for x in black if len(set(x)) == 1]
    assert [0.2, 0.2] in medians and [0.6, 0.6] in medians
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]


def test_image_rows_put_each_row_under_the_other_and_frame_training_images():
    pictures = landscapes().factual
    figure = figures.image_rows(
        {"one": pictures, "two": pictures.flip(0)}, ["x", "y", "z"], ["1", "2", "3"], framed=["two"]
    )
    draw(figure)
    axes = np.array(figure.axes).reshape(2, 3)
    assert [ax.get_title() for ax in axes[0]] == ["x", "y", "z"] and [
        ax.get_xlabel() for ax in axes[1]
    ] == ["1", "2", "3"]
    assert np.array_equal(pixels(axes[1, 0]), pictures[2, 0].numpy())
    assert axes[1, 0].spines["left"].get_visible() and not axes[0, 0].spines["left"].get_visible()


def test_image_rows_bear_notes_below_any_row():
    pictures = landscapes().factual
    figure = figures.image_rows(
        {"one": pictures, "two": pictures, "three": pictures},
        ["x", "y", "z"],
        {"one": ["1", "2", "3"], "three": ["7", "8", "9"]},
    )
    texts = np.array([ax.get_xlabel() for ax in figure.axes]).reshape(3, 3).tolist()
    assert texts == [["1", "2", "3"], ["", "", ""], ["7", "8", "9"]]


@pytest.mark.parametrize("titles", [["x"], []])
def test_image_rows_of_another_number_are_an_error(titles, one_line):
    with pytest.raises(BadValue) as error:
        figures.image_rows({"one": landscapes().factual}, titles)
    assert one_line(error)


def test_jacobian_images_share_one_scale_around_zero():
    jacobian = torch.zeros(5, 1, 8, 8)
    jacobian[3, 0, 2, 2] = -0.4
    figure = figures.jacobian_images(landscapes().factual[0], jacobian)
    draw(figure)
    maps = [ax for ax in figure.axes if ax.get_title().startswith("member")]
    assert [ax.get_title() for ax in maps] == [f"member {k}" for k in range(5)]
    assert all(ax.get_images()[0].get_clim() == pytest.approx((-0.4, 0.4)) for ax in maps)
    assert float(pixels(maps[3])[2, 2]) == pytest.approx(-0.4)


def test_predicted_distances_are_drawn_over_exact_ones():
    figure, ax = plt.subplots()
    figures.predicted_distances(np.array([1.0, 3.0]), np.array([2.0, 4.0]), ax)
    draw(figure)
    assert ax.collections[0].get_offsets().tolist() == [[2, 1], [4, 3]]
    assert "exact" in ax.get_xlabel() and "predicted" in ax.get_ylabel()


def test_screening_curves_are_the_median_and_the_lowest():
    figure, ax = plt.subplots()
    figures.screening_curves({"a": np.array([[0.5, 1.0], [0.7, 1.0], [0.9, 1.0]])}, ax)
    draw(figure)
    assert [list(line.get_ydata()) for line in ax.lines[:2]] == [[0.7, 1.0], [0.5, 1.0]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a"]


def test_hybrid_errors_of_zero_stay_on_the_axis():
    figure, ax = plt.subplots()
    figures.hybrid_errors(
        {"a": (np.array([1, 25]), np.array([[0.0, 0.0, 0.0], [0.01, 0.02, 0.03]]))}, ax, "error", 50
    )
    draw(figure)
    assert list(ax.lines[0].get_ydata()) == [1e-8, 0.02] and "of 50" in ax.get_xlabel()


def test_class_bars_are_the_frequencies_with_intervals_that_stop_at_zero():
    before = np.array([0.1, 0.4, 0.5])
    after = np.array([0.0, 0.01, 0.2])
    errors = np.array([[0.03, 0.049, 0.05], [0.0, 0.01, 0.04]])
    figure = figures.class_bars(
        {"by ablation": (before, after, errors), "by retraining": (after, before, errors[::-1])},
        ["a", "b", "c"],
    )
    figure.canvas.draw()
    first, second = figure.axes
    assert [bar.get_height() for bar in first.patches] == [*before, *after]
    assert [bar.get_height() for bar in second.patches] == [*after, *before]
    assert (first.get_title(), second.get_title(), second.get_xlabel(), first.get_ylabel()) == (
        "by ablation",
        "by retraining",
        "class",
        "frequency",
    )
    ends = np.concatenate(
        [
            segment[:, 1]
            for container in first.containers
            if hasattr(container, "errorbar") and container.errorbar
            for segment in container.errorbar[2][0].get_segments()
        ]
    )
    assert ends.min() == 0 and ends.max() == pytest.approx(0.5 + 1.96 * 0.05)
    assert [label.get_text() for label in second.get_xticklabels()] == ["a", "b", "c"]


def test_class_changes_share_one_scale_around_zero():
    change = np.array([[-0.1, 0.02], [0.03, -0.3]])
    figure = figures.class_changes({"by ablation": change, "by retraining": change / 2}, ["0", "1"])
    figure.canvas.draw()
    left, right = (ax.images[0] for ax in figure.axes[:2])
    assert left.get_clim() == right.get_clim() == (-30, 30)
    np.testing.assert_allclose(right.get_array(), 50 * change)
    assert (
        figure.axes[0].get_ylabel() == "class removed"
        and figure.axes[0].get_xlabel() == "class seen in the samples"
    )


def test_meeting_matrices_write_each_share():
    shares = pd.DataFrame(
        {"ablation": {"ablation": 1.0, "looks": 0.25}, "looks": {"ablation": 0.25, "looks": 1.0}}
    )
    figure = figures.meeting_matrices({"k = 1": shares, "k = 3": shares})
    figure.canvas.draw()
    for ax, title in zip(figure.axes, ("k = 1", "k = 3")):
        assert ax.get_title() == title and [text.get_text() for text in ax.texts] == [
            "100",
            "25",
            "25",
            "100",
        ]
        assert [label.get_text() for label in ax.get_xticklabels()] == ["ablation", "looks"]


def test_an_image_grid_has_a_place_for_each_image(one_line):
    pictures = landscapes().factual
    figure = figures.image_grid(torch.cat([pictures] * 5), [f"#{k}" for k in range(15)], columns=12)
    shown = [ax for ax in figure.axes if ax.images]
    assert len(figure.axes) == 24 and len(shown) == 15 and shown[14].get_title() == "#14"
    np.testing.assert_array_equal(shown[4].images[0].get_array(), pictures[1, 0])
    figure.canvas.draw()
    with pytest.raises(BadValue, match="no image to show") as error:
        figures.image_grid(pictures[:0])
    assert one_line(error)


@pytest.mark.parametrize("colour", [False, True])
def test_a_mosaic_holds_the_first_image_and_then_all_others(colour):
    pictures = landscapes(colour=colour).factual
    figure = figures.mosaic(pictures[0], pictures, columns=2)
    (ax,) = figure.axes
    canvas = np.asarray(ax.images[0].get_array())
    assert canvas.shape[:2] == (2 * 9 + 1, 2 * 9 + 1)
    tile = lambda y, x: canvas[1 + 9 * y : 9 + 9 * y, 1 + 9 * x : 9 + 9 * x]  # noqa: E731
    for place, image in (((0, 0), 0), ((0, 1), 0), ((1, 0), 1), ((1, 1), 2)):
        np.testing.assert_array_equal(
            tile(*place), pictures[image].permute(1, 2, 0).numpy().squeeze()
        )
    assert len(ax.patches) == 1
    figure.canvas.draw()


def test_shares_below_a_threshold_step_up_at_each_radius():
    figure, ax = plt.subplots()
    figures.below_threshold({"a": np.array([3.0, 1.0, 2.0, 0.0]), "b": np.array([5.0])}, ax)
    x, y = ax.lines[0].get_data()
    below = lambda tau: y[np.searchsorted(x, tau, side="right") - 1]  # noqa: E731
    assert [below(tau) for tau in (0.5, 1.5, 2.5, 3.1)] == [0.25, 0.5, 0.75, 1]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "a (4)",
        "b (1)",
    ] and "τ" in ax.get_xlabel()


def test_growth_with_removed_sources_shows_means_and_farthest():
    table = pd.DataFrame(
        {
            "k": [1, 2],
            "sets": 8,
            "survivors": [7.0, 3.5],
            "mean": [2.0, 3.0],
            "mean_error": 0.1,
            "radius": [4.0, 6.0],
            "radius_error": 0.2,
        }
    )
    figure = figures.removal_growth({"one": table, "two": table})
    assert [ax.get_title() for ax in figure.axes] == ["one", "two"]
    farthest, mean = (each.lines[0].get_ydata().tolist() for each in figure.axes[0].containers)
    assert (farthest, mean) == ([4, 6], [2, 3])
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["1\n(7.0)", "2\n(3.5)"]


def test_fid_curves_have_a_panel_a_table_and_a_line_a_model():
    table = pd.DataFrame(
        {"images": [64, 128], "ensemble": [3.0, 2.0], "single": [2.5, np.nan], "member": [4.0, 3.0]}
    )
    figure = figures.fid_curves({"ours": table, "theirs": table})
    assert [ax.get_title() for ax in figure.axes] == ["ours", "theirs"]
    assert [line.get_ydata().tolist() for line in figure.axes[1].lines] == [[3, 2], [2.5], [4, 3]]
    assert all(ax.get_ylim()[0] == 0 for ax in figure.axes)


def test_the_removal_curve_marks_a_counterfactual_and_what_it_compares_with():
    figure, ax = plt.subplots()
    figures.removal_curve([0, 1, 3], [2.0, 2.1, 4.0], 2, ax, {"single model": 3.0})
    assert ax.lines[0].get_ydata().tolist() == [2.0, 2.1, 4.0] and ax.lines[1].get_xdata()[0] == 2
    assert "one data source removed: 2 members" in [
        t.get_text() for t in ax.get_legend().get_texts()
    ]


def test_a_page_has_figures_of_256_colours_that_look_the_same():
    figure, ax = plt.subplots()
    ax.imshow(np.linspace(-1, 1, 64 * 64).reshape(64, 64), cmap="RdBu")
    ax.plot([0, 60], [0, 60], color=figures.ALERT)
    image = Image.open(io.BytesIO(figures.palette_png(figure)))
    full = io.BytesIO()
    figure.savefig(full, format="png", bbox_inches="tight")
    before = np.asarray(Image.open(full).convert("RGB")).astype(int)
    assert image.mode == "P" and len(image.getcolors()) <= 256
    difference = np.abs(np.asarray(image.convert("RGB")).astype(int) - before)
    assert difference.mean() < 2 and np.quantile(difference, 0.999) < 32


def test_costs_are_drawn_as_counted():
    recipes, (_, ax) = (
        [get_recipe(name, "paper") for name in ("mnist_512", "mnist_256")],
        plt.subplots(),
    )
    figures.cost_by_sources(
        {recipe.data.num_sources: cost_of(recipe) for recipe in recipes}, 100, ax
    )
    retraining, ablation = ax.lines
    cost = cost_of(recipes[1])
    assert retraining.get_xdata().tolist() == ablation.get_xdata().tolist() == [256, 512]
    assert (
        ablation.get_ydata()[0]
        == (cost.members + 100 * cost.landscape) * cost.flop
        < retraining.get_ydata()[0]
    )
    assert ax.get_xlabel() and ax.get_ylabel() and len(ax.get_legend().texts) == 2


def test_scores_of_methods_stand_on_a_line_each_below_their_ceiling():
    table = pd.DataFrame(
        {
            "method": ["one", "two"],
            "score": [0.2, 0.6],
            "low": [0.1, 0.5],
            "high": [0.4, 0.7],
            "chance": [0.15, 0.2],
            "ceiling": [0.9, 0.9],
        }
    )
    figure = figures.method_scores({"all": table, "first": table[:1]}, "score")
    first, second = figure.axes
    assert [text.get_text() for text in first.get_yticklabels()] == ["two", "one"][::-1]
    (points,) = first.containers
    assert points[0].get_xdata().tolist() == [0.2, 0.6]
    assert points[0].get_ydata().tolist() == [1, 0]
    (ends,) = points[2]
    assert np.allclose(ends.get_segments()[0][:, 0], [0.1, 0.4])
    assert second.containers[0][0].get_ydata().tolist() == [1]
    assert second.get_xlabel() == "score" and not first.get_xlabel()


def test_scores_stand_over_what_was_swept_beside_a_method_that_knows_none_of_it():
    rows = [
        (method, sweep, value, 0.5, 0.4, 0.6)
        for method in ("one", "two")
        for sweep, values in {"damping": (0.1, 1), "draws": (1, 40), "projection": (0, 64)}.items()
        for value in values
    ]
    sweeps = pd.DataFrame(rows, columns=["method", "sweep", "value", "score", "low", "high"])
    figure = figures.score_sweeps(sweeps, ("other", 0.7), "score")
    damping, draws, projection = figure.axes
    assert [len(ax.containers) for ax in figure.axes] == [2, 2, 2]
    # No projection has no place on a logarithmic axis; the exact score is among the draws.
    assert projection.containers[0][0].get_xdata().tolist() == [64]
    assert [text.get_text() for text in draws.get_xticklabels()] == ["1", "40"]
    assert {text.get_text() for text in projection.get_legend().texts} == {"one", "two", "other"}
    assert all(ax.get_xlabel() and ax.get_ylabel() == "score" for ax in figure.axes)


def test_scores_stand_over_costs_and_a_line_joins_those_that_no_cheaper_one_beats():
    table = pd.DataFrame({"method": list("abc"), "seconds": [0.1, 1, 9], "share": [0.2, 0.1, 0.6]})
    table = table.assign(
        low=table["share"] - 0.1, high=table["share"] + 0.1, best=[True, False, True]
    )
    ax = figures.score_by_cost(table, plt.subplots()[1])
    (front,) = [line for line in ax.lines if line.get_label().startswith("no cheaper")]
    assert front.get_xdata().tolist() == [0.1, 9] and front.get_ydata().tolist() == [0.2, 0.6]
    assert len(ax.get_legend().texts) == 4 and ax.get_xscale() == "log"
    assert ax.get_xlabel() and ax.get_ylabel()


def test_a_number_and_its_error_stay_on_one_line_of_a_table_and_so_do_intervals():
    frame = pd.DataFrame({"mean": ["1.2 ± 0.1", None], "slope": ["-1 (-2 to -0.5)", "up to 3"]})
    text = figures.table(frame).data
    assert "-1 (-2\u00a0to\u00a0-0.5)" in text and "up to 3" in text
    assert "1.2\u00a0±\u00a00.1" in text and text == figures.table(frame.copy()).data
    assert "None" not in text and "nan" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((2, 0.9632265781178277), "(2, 0.9632)"),
        ({"a": np.float64(126.49134810637916)}, "{'a': 126.5}"),
        ([1.0, 0.25, -0.022, 3], "[1.0, 0.25, -0.022, 3]"),
        (31798.494123001834, "31798"),
        (2.384185791015625e-07, "2.384e-07"),
        ((float("nan"), -float("inf")), "(nan, -inf)"),
    ],
)
def test_numbers_that_end_a_cell_have_four_digits(value, text):
    from IPython.core.formatters import PlainTextFormatter

    formatter = PlainTextFormatter()
    for kind in figures.style.NUMBERS:
        formatter.for_type(kind, figures.style.few_digits)
    assert formatter(value) == text
