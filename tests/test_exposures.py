"""What the page on memory says: its rules with evidence for and against, its law against data
made by one."""

import dataclasses
from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

import abc_lib as abc  # noqa: E402
from abc_lib import figures  # noqa: E402
from abc_lib.ground.errors import BadValue  # noqa: E402
from abc_lib.images.registry import DRAWN, family_of, get_recipe  # noqa: E402
from abc_lib.method.attribution import FalseAttribution  # noqa: E402
from abc_lib.method.distance import distance  # noqa: E402
from abc_lib.method.radius import by_kind  # noqa: E402
from abc_lib.results import landscapes  # noqa: E402
from abc_lib.results.placebos.memory import Memory  # noqa: E402
from abc_lib.study import exposures  # noqa: E402
from abc_lib.study.exposures import law, one_variable, remembering  # noqa: E402


def measured(
    name="digits_64", exposure=100.0, gap=0.0, p_nearest=0.5, size=64, S=20, seed=0, log=1.5
):
    """A result whose radii lie ``gap`` above their placebos, in log10, give or take 0.05."""
    rng = np.random.default_rng(seed)
    base = log + rng.normal(0, 0.2, S)
    real = 10 ** (base + gap + rng.normal(0, 0.05, S))
    chance = 10**base
    shape = (S, size)
    p_values = rng.uniform(0.05, 1, shape)
    nearest = rng.integers(size, size=S)
    p_values[np.arange(S), nearest] = p_nearest
    artefact = SimpleNamespace(
        provenance={"time": "2026-11-23T10:00", "hardware": "a machine", "commit": "abc"},
        info={"exposure": exposure, "seconds": 3.0},
        spec={"indices": list(range(S))},
        published=True,
        path=SimpleNamespace(name=f"{name}-{exposure}"),
    )
    spread = rng.uniform(0, 1, shape)
    spread[:, 0] = 1
    return Memory(
        name, "laptop", exposure, spread * real[:, None], spread * chance[:, None],
        p_values, nearest, np.ones((4, 4)), np.ones((4, 4)), np.ones((4, 2)),
        FalseAttribution(100, 0.1, 0.5, 0.2, 0.1, 0.4), {}, artefact,
    )  # fmt: skip


# --- recipes ---


def test_the_authors_design_draws_as_many_images_whatever_the_size():
    for name in ("digits_64", "digits_1024", "mnist_256", "mnist_1024", "fashion_512"):
        training = get_recipe(name).training
        assert training.steps * training.batch_size == DRAWN
    assert get_recipe("mnist_1024").exposure == get_recipe("mnist_256").exposure / 4


@pytest.mark.parametrize("exposure", [0.5, 125, 2000])
def test_a_recipe_sees_its_images_as_often_as_asked(exposure):
    recipe = get_recipe("digits_128").exposed(exposure)
    assert recipe.exposure == pytest.approx(exposure, rel=0.13)
    assert recipe.exposed(10).exposure == pytest.approx(10, rel=0.02)
    assert recipe.exposed(1e-9).training.steps == 1
    assert recipe.sampling.clip is None and recipe.network.predicts == "image"
    assert recipe.code == get_recipe("digits_128").code


@pytest.mark.parametrize("name", ["digits_64", "mnist_1024", "fashion_256", "cifar10_500"])
def test_sets_of_some_single_images_are_of_members_that_remember(name):
    recipe = get_recipe(name)
    assert recipe.network.predicts == recipe.training.weighting == "image"
    assert recipe.sampling.clip is None
    # In colour a training passes through shorter ones.
    colour = name == "cifar10_500"
    assert (recipe.training.schedule == "constant") == (recipe.training.average == 0.1) == colour


@pytest.mark.parametrize("name", ["digits_classes", "mnist_binary_190", "cifar10_50000"])
def test_others_draw_well_what_they_see_seldom(name):
    recipe = get_recipe(name)
    assert recipe.network.predicts == "velocity"
    assert recipe.sampling.clip == recipe.data.factor / 2


def test_designs_are_those_of_two_sizes_or_more():
    tried = [(64, 2000), (256, 500), (512, 500), (512, 125), (64, 77)]
    values = [measured(f"digits_{size}", exposure, size=size) for size, exposure in tried]
    found = exposures.designs(values)
    assert list(found) == ["a fixed number drawn", "each seen 500 times"]
    assert [v.exposure for v in found["a fixed number drawn"]] == [2000, 500]
    assert [v.name for v in found["each seen 500 times"]] == ["digits_256", "digits_512"]
    close = [measured("digits_64", 1000.0), measured("digits_128", 1024.0, size=128)]
    assert list(exposures.designs(close)) == ["each seen 1,000 times"]  # 1,024 is as good as 1,000
    kinds = by_kind([*values, measured("mnist_256")])
    assert {kind: len(group) for kind, group in kinds.items()} == {"digits": 5, "mnist": 1}


# --- the law ---


def test_the_law_is_that_of_which_the_data_were_made():
    values = [
        measured("x_1", E, size=N, seed=N, log=-0.5 + 0.2 * np.log10(N) + 0.6 * np.log10(E))
        for N in (64, 256, 1024)
        for E in (100.0, 400.0, 1600.0)
    ]
    line = law.fit(values)
    assert line.size_interval[0] < 0.2 < line.size_interval[1]
    assert line.exposure_interval[0] < 0.6 < line.exposure_interval[1]
    assert line.by_size == pytest.approx(0.2, abs=0.15) and line.r2 > 0.8
    assert (line.ensembles, line.samples) == (9, 20)
    axes = [[1, np.log10(v.distances.shape[1]), np.log10(v.exposure)] for v in values]
    means = [np.log10(v.radii).mean() for v in values]
    by_hand = np.linalg.lstsq(np.array(axes), np.array(means), rcond=None)[0]
    assert [line.level, line.by_size, line.by_exposure] == pytest.approx(by_hand.tolist())


def test_what_a_law_tells_is_tried_without_each_ensemble():
    corners = [(N, E) for N in (64, 256, 1024) for E in (100.0, 400.0, 1600.0)]

    def made(N, E, log, by_size=0.0):
        log += by_size * np.log10(N) + 0.6 * np.log10(E)
        return measured("x_1", E, size=N, seed=1, log=log)

    sure = law.fit([made(N, E, 0.0, -0.5) for N, E in corners])
    assert len(sure.without_one) == 9
    # The same noise everywhere and no seed: every subset gives the law of which they were made.
    assert all(other.by_size == pytest.approx(sure.by_size, abs=0.05) for other in sure.without_one)
    said = law.told_verdict({"x": sure})
    assert "size (-0.50) is told from zero, whichever ensemble is left out" in said
    assert said.count("whichever") == 2

    # All that speaks for a size is one ensemble.
    values = [made(N, E, -0.6 if (N, E) == (1024, 1600.0) else 0.0) for N, E in corners]
    single = law.fit(values, spread=0.02)
    assert single.size_interval[1] < 0
    assert "size (-0.17) is told from zero, but not in 1 of 9 fits" in law.told_verdict(
        {"x": single, "y": None}
    )
    flat = law.fit([made(N, E, 0.0) for N, E in corners], spread=0.02)
    assert "size (0.00) is not told from zero" in law.told_verdict({"x": flat}).replace(
        "-0.00", "0.00"
    )
    four = law.fit([made(N, E, 0.0, -0.5) for N, E in corners[:2] + corners[3:5]])
    assert four.without_one == () and "just as many" in law.told_verdict({"x": four})
    assert "enough" in law.told_verdict({"x": None})
    table = law.table({"x": sure, "y": four}, {})
    assert table["b without one"].tolist() == ["-0.50 to -0.50", ""]


def test_a_design_in_which_size_and_exposure_go_together_has_no_law():
    values = [measured("x_1", 64_000 / N, size=N) for N in (64, 128, 256, 512)]
    with pytest.raises(BadValue, match="vary apart"):
        law.fit(values)
    assert law.fit_or_none(values) is None
    assert "none has" in law.table({"x": None}, {"x": None}).iloc[0, 0]


def test_slopes_are_those_of_each_design_by_themselves():
    tried = [(64, 500.0, 0.0), (256, 500.0, -0.3), (1024, 500.0, -0.3), (64, 125.0, 0.1)]
    values = [measured(f"digits_{N}", E, size=N, seed=1, log=log) for N, E, log in tried]
    row = law.slopes_table({"digits": values}).iloc[0]
    assert (row["design"], row["sizes"]) == ("each seen 500 times", "64, 256, 1,024")
    logs = np.array([np.log10(value.radii) for value in values[:3]])
    by_hand = np.polyfit(np.log10([64, 256, 1024]), logs, 1)[0]
    assert float(row["slope"].split(" ")[0]) == pytest.approx(by_hand.mean(), abs=6e-4)
    assert float(row["slope"].split(" ")[2]) == pytest.approx(
        by_hand.std(ddof=1) / np.sqrt(len(by_hand)), abs=6e-4
    )
    assert "no design" in law.slopes_table({"digits": values[:1]}).iloc[0, 0]


# --- training seeds ---


def trained_again(seed_sd, sample_sd, ensembles=40, T=4, S=20):
    """Ensembles that were trained T times; a seed moves all samples, and each by itself."""
    rng, groups = np.random.default_rng(7), []
    for _ in range(ensembles):
        base = 1.7 + rng.normal(0, 0.2, S)
        moved = rng.normal(0, seed_sd, (T, 1)) + rng.normal(0, sample_sd, (T, S))
        values = [measured(S=S) for _ in range(T)]
        radii = 10 ** (base + moved)
        groups.append(
            law.Trainings(
                tuple(
                    dataclasses.replace(value, distances=np.outer(row, np.ones(64)))
                    for value, row in zip(values, radii)
                )
            )
        )
    return groups


@pytest.mark.parametrize("seed_sd, sample_sd", [(0.1, 0.2), (0.05, 0.0), (0.0, 0.3)])
def test_what_a_seed_adds_is_told_from_what_few_samples_do(seed_sd, sample_sd):
    whole, own = law.spread_of(trained_again(seed_sd, sample_sd))
    assert whole**2 == pytest.approx(seed_sd**2 + sample_sd**2 / 20, rel=0.3)
    assert own**2 == pytest.approx(seed_sd**2, rel=0.3, abs=0 if seed_sd else 1.5e-3)


def test_without_a_second_training_nothing_is_known_of_seeds():
    assert law.spread_of([]) == (0, 0)
    assert law.trainings([measured("digits_128", exposure=77.0)]) == []
    assert "not known" in law.trainings_verdict([], [measured()])
    assert "none was trained" in law.trainings_table([]).iloc[0, 0]


def test_a_seed_that_moves_radii_as_much_as_size_does_is_told_from_one_that_does_not():
    apart = [measured(log=level) for level in (1.4, 1.6, 1.8)]
    little, much = trained_again(0.02, 0.0), trained_again(0.3, 0.0)
    assert "seed matters little" in law.trainings_verdict(little, apart)
    assert "as much as" in law.trainings_verdict(much, apart)
    row = law.trainings_table(little[:1]).iloc[0]
    assert len(row["mean log10 radius"].split(", ")) == 4


def test_intervals_of_the_law_grow_with_what_a_seed_would_change():
    corners = [(N, E) for N in (64, 256) for E in (100.0, 400.0)]
    values = [measured("x_1", E, size=N, seed=1, log=np.log10(E)) for N, E in corners]
    width = lambda line: line.size_interval[1] - line.size_interval[0]  # noqa: E731
    exact, loose = (law.fit(values, spread=spread) for spread in (0.0, 0.2))
    # Four corners: b is half of a difference of means of two over log10 4.
    assert width(loose) ** 2 - width(exact) ** 2 == pytest.approx(
        (2 * 1.96 * 0.2 / np.log10(4)) ** 2, rel=0.15
    )
    assert loose.by_size == exact.by_size


# --- rules, with evidence for and against ---


def test_radii_above_their_placebos_are_told_from_those_that_are_not():
    chance = [measured(seed=k) for k in range(10)]
    assert "hardly a source" in exposures.placebo_verdict(chance)
    real = [measured(gap=0.2, seed=k) for k in range(10)]
    said = exposures.placebo_verdict(real)
    assert said.startswith("**10 of 10") and "hardly" not in said
    below = exposures.placebo_verdict([measured(gap=-0.2, seed=k) for k in range(10)])
    assert below.startswith("**0 of 10") and "10 lie below" in below


def test_a_source_is_found_only_where_chance_would_not_find_as_many():
    assert "In none" in exposures.p_verdict([measured(exposure=E) for E in (100.0, 400.0)])
    some = [measured(exposure=100.0), measured(exposure=400.0, p_nearest=0.01)]
    assert "In 1 of 2 ensembles**, from 400 views" in exposures.p_verdict(some)
    late = [*some, measured(exposure=900.0)]
    assert "not in 1 others" in exposures.p_verdict(late)


def test_two_standard_errors_make_a_sign():
    values = np.array([1.0, 2, 3, 4])
    assert exposures.differs(values) == 1 and exposures.differs(-values) == -1
    assert exposures.differs(values - values.mean()) == 0


# --- tables ---


def test_a_row_has_the_paired_difference_and_its_error():
    value = measured(gap=0.1)
    row = exposures.table([value]).iloc[0]
    gap = np.log10(value.radii) - np.log10(value.placebo_radii)
    error = gap.std(ddof=1) / 20**0.5
    assert row["radius less placebo"] == f"{gap.mean():.3f} ± {error:.3f}"
    assert row["unchanged without nearest"] == "0.10" and row["times seen"] == "100"


def test_the_authors_points_lie_at_their_exposures():
    points = exposures.authors_points("mnist").set_index("ensemble")
    assert points.loc["mnist_256", "exposure"] == pytest.approx(3906.25)
    assert points.loc["mnist_256", "without nearest"] == 0
    assert points.loc["mnist_1024", "without nearest"] == pytest.approx(0.08)
    assert points.loc["mnist_256", "mean"] == pytest.approx(2.015, abs=5e-4)
    assert len(exposures.authors_points("digits")) == 0


def test_a_page_without_results_says_how_to_get_them():
    with pytest.raises(BadValue, match="abc_lib remember first"):
        exposures.opening([], "x")


# --- figures ---


@pytest.fixture
def ax():
    figures.use_style()
    figure, ax = plt.subplots()
    yield ax
    figure.canvas.draw()
    plt.close("all")


@pytest.mark.filterwarnings("error")
def test_radii_are_drawn_beside_their_placebos_at_their_exposures(ax):
    values = [measured("digits_64", E, gap=0.3) for E in (100.0, 400.0)]
    figures.radii_by_exposure([*values, measured("digits_128", 100.0)], ax)
    drawn = {tuple(round(float(y), 6) for y in line.get_ydata()) for line in ax.lines}
    for which in ("radii", "placebo_radii"):
        means = tuple(round(float(np.log10(getattr(v, which)).mean()), 6) for v in values)
        assert means in drawn
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels[:1] == ["placebo codewords"] or labels[-1] == "placebo codewords"
    assert {"digits_64", "digits_128"} < set(labels)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["100", "400"]


@pytest.mark.filterwarnings("error")
def test_attribution_stands_beside_the_authors(ax):
    values = [measured("mnist_256", E) for E in (125.0, 500.0)]
    figures.attribution_by_exposure(values, ax, exposures.authors_points("mnist"))
    labels = {text.get_text() for text in ax.get_legend().get_texts()}
    assert {"authors, nearest", "authors, another", "mnist_256, nearest"} < labels
    shares = [list(line.get_ydata()) for line in ax.lines]
    assert [0.1, 0.1] in shares and [0.5, 0.5] in shares


@pytest.mark.filterwarnings("error")
def test_uniform_p_values_lie_on_the_diagonal(ax):
    figures.p_value_shares({"uniform": np.arange(1, 101) / 100}, ax)
    step = ax.lines[0]
    assert np.allclose(step.get_xdata(), step.get_ydata(), atol=0.011)


# --- levelling off, and one variable ---


def at(exposure, log, name="digits_64", size=64, ratio=None):
    value = measured(name, exposure, size=size, log=log)
    return dataclasses.replace(value, ratios=np.full((4, 2), 1.0 if ratio is None else ratio))


def test_a_radius_that_stops_growing_levels_off_and_one_that_grows_does_not():
    stops = [at(125, 1.5), at(500, 1.9), at(2000, 1.91)]
    grows = [at(125, 1.5), at(500, 1.9), at(2000, 2.3)]
    flat = [at(125, 1.5), at(500, 1.5), at(2000, 1.5)]
    assert "radius levels off** in digits_64" in law.levelling_verdict(stops)
    assert "still grows** in digits_64" in law.levelling_verdict(grows)
    assert "Undecided** in digits_64" in law.levelling_verdict(flat)  # it never grew
    assert "nothing can be said" in law.levelling_verdict(stops[:2])
    table = law.levelling_table(stops)
    assert list(table["times seen"]) == ["125 to 500", "500 to 2,000"]
    assert table["log10 radius, a doubling"].iloc[0].startswith("0.200")


def test_the_variable_that_made_the_radii_foretells_them():
    rng = np.random.default_rng(0)
    by_memory, by_size = [], []
    for size in (64, 128, 256, 512):
        for exposure in (125, 500, 2000):
            ratio = float(rng.uniform(0.2, 0.9))
            name = f"digits_{size}"
            by_memory.append(at(exposure, 2.1 - 0.5 * ratio, name, size, ratio))
            log = 2 - 0.2 * np.log10(size) + 0.1 * np.log10(exposure)
            by_size.append(at(exposure, log, name, size, ratio))
    assert "What members remember foretells" in one_variable.within_verdict({"a": by_memory})
    assert "Size and exposure foretell" in one_variable.within_verdict({"a": by_size})
    assert "Too few" in one_variable.within_verdict({"a": by_size[:2]})
    for values, best in ((by_memory, "what members remember"), (by_size, "size and exposure")):
        table = one_variable.within_table(values).set_index("foretold by").iloc[:, 0]
        assert table.astype(float).idxmin() == best
    assert len(one_variable.within_table(by_size[:2])) == 1


def on_a_curve(kind, unit, size, exposures_of, noise=0.0, time="2026-11-01", by_size=False):
    """Ensembles of a family whose radii, over ``unit``, follow what members remember, or not."""
    rng, values = np.random.default_rng(len(kind) + size), []
    for exposure in exposures_of:
        ratio = float(rng.uniform(0.2, 0.95))
        mean = -0.1 - 0.5 * ratio**2 + rng.normal(0, noise)
        if by_size:
            mean = -0.1 * np.log10(size) + 0.15 * np.log10(exposure) - 0.6
        value = at(exposure, 0.0, f"{kind}_{size}", size, ratio)
        # exactly this mean, whatever the samples
        off = unit + mean - np.log10(value.radii).mean()
        origin = SimpleNamespace(**vars(value.artefact) | {"provenance": {"time": time}})
        values.append(dataclasses.replace(
            value, distances=value.distances * 10**off, artefact=origin
        ))  # fmt: skip
    return values


def families(**more):
    """Two families of nine ensembles, in units of their own."""
    units = {"digits": 2.1, "mnist": 1.8}
    kinds = {
        kind: [
            value
            for size in sizes
            for value in on_a_curve(kind, units[kind], size, (125, 500, 2000), **more)
        ]
        for kind, sizes in (("digits", (64, 128, 1024)), ("mnist", (256, 512, 2048)))
    }
    return kinds, units


def test_one_curve_is_found_where_there_is_one_and_not_where_there_is_none():
    kinds, units = families(noise=0.01)
    assert one_variable.across_verdict(kinds, units) == (
        "**One curve holds**: each of digits and mnist is foretold by the others."
    )
    table = one_variable.across_table(kinds, units).set_index("family")
    assert (table["by memory"].astype(float) < 0.03).all()
    # The units differ by 0.3, which is what a curve without them misses.
    plain = table["by memory, no unit"].astype(float)
    assert np.allclose(plain, 0.3, atol=0.05)
    wrong = one_variable.across_verdict(kinds, {"digits": 2.1, "mnist": 2.1})
    assert wrong == "**No one curve for all**: the others do not foretell digits and mnist."
    assert "No one curve" in one_variable.across_verdict(*families(by_size=True))
    few = {"digits": kinds["digits"], "mnist": kinds["mnist"][:2]}
    assert "Too few" in one_variable.across_verdict(few, units)
    assert "Too few" in one_variable.across_verdict(kinds, {"digits": 2.1})


def test_what_was_measured_later_is_foretold_by_what_was_before():
    kinds, units = families(noise=0.01)
    said = one_variable.foretold_verdict(kinds, units)
    assert said == "No ensemble was measured after the rule was written."
    assert "none was" in one_variable.foretold_table(kinds, units).iloc[0, 0]
    new = on_a_curve("digits", 2.1, 256, (125, 500), time="2027-01-01")
    kinds["digits"] += new
    table = one_variable.foretold_table(kinds, units)
    assert table["ensemble"].tolist() == ["digits_256"] * 2
    said = np.array(table["foretold by what members remember"], dtype=float)
    assert np.allclose(said, [np.log10(value.radii).mean() for value in new], atol=0.02)
    assert "foretold them better" in one_variable.foretold_verdict(kinds, units)
    kinds["fashion"] = on_a_curve("fashion", 2.0, 256, (125,), time="2027-01-01")
    first = one_variable.before(kinds)
    assert {kind: len(values) for kind, values in first.items()} == {"digits": 9, "mnist": 9}
    # A family of which nothing was known has a unit of its own, which may be the wrong one.
    kinds["fashion"] = on_a_curve("fashion", 2.0, 256, (125, 500), time="2027-01-01")
    said = one_variable.foretold_verdict(kinds, units | {"fashion": 2.2})
    assert "Of fashion it knew nothing: its ensembles lie -0.198 from the curve" in said
    # Against it: the law is one of size and exposure.
    kinds, units = families(by_size=True)
    kinds["digits"] += on_a_curve("digits", 2.1, 256, (125,), time="2027-01-01", by_size=True)
    assert "did not foretell" in one_variable.foretold_verdict(kinds, units)


def test_the_curve_is_a_fit_to_what_was_before_and_later_marks_are_open(ax):
    kinds, units = families()
    kinds["digits"] += on_a_curve("digits", 2.1, 256, (125,), time="2027-01-01", by_size=True)
    points, curve = one_variable.curve_points(kinds, units)
    assert np.allclose(curve, [-0.1, 0, -0.5], atol=1e-9)
    assert points["later"].sum() == 1 and len(points) == 19
    late = {"digits": kinds["digits"][-1:]}
    assert one_variable.curve_points(late, units)[1] is None
    assert "Too few" in one_variable.foretold_verdict(late, units)
    figures.one_curve(points, curve, ax)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["digits", "digits, measured later", "mnist"]
    open_marks = [one.lines[0].get_markerfacecolor() == "white" for one in ax.containers]
    assert open_marks == [False, True, False]


def test_a_unit_is_the_distance_of_samples_of_stored_landscapes():
    found = one_variable.units(["digits_64", "mnist_256", "cifar10_500"])
    assert list(found) == ["digits", "mnist"]
    logs = []
    for name in family_of("mnist_256"):
        stored = landscapes.stored(get_recipe(name))
        if stored is not None:
            x = stored.factual.double()
            pairs = [
                float(distance(x[i : i + 1], x[j : j + 1])) for i in range(len(x)) for j in range(i)
            ]
            logs.append(np.log10(np.mean(pairs)))
    assert found["mnist"] == pytest.approx(np.mean(logs), abs=1e-5)


def test_figures_of_memory_show_every_ensemble():
    values = [at(125, 1.5), at(500, 1.9), at(125, 1.4, "digits_128", 128)]
    _, axes = plt.subplots(2)
    figures.radii_by_memory(values, axes[0])
    figures.radii_by_exposure(values, axes[1], exposures.authors_points("mnist"))
    words = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert words == ["digits_64", "digits_128"]
    assert "authors, by size" in [text.get_text() for text in axes[1].get_legend().get_texts()]
    plt.close("all")


def test_authors_whose_training_is_not_known_are_lines_without_an_exposure():
    values = [at(64, 1.5, "cifar10_500", 500), at(1024, 1.9, "cifar10_500", 500)]
    theirs = exposures.authors_points("cifar10")
    assert theirs["exposure"].isna().all() and len(theirs) == 2
    _, axes = plt.subplots(2)
    figures.radii_by_exposure(values, axes[0], theirs)
    figures.attribution_by_exposure(values, axes[1], theirs)
    labels = [ax.get_legend_handles_labels()[1] for ax in axes]
    assert "authors, cifar10_500" in labels[0] and "authors, by size" not in labels[0]
    assert {"authors, nearest", "authors, another"} <= set(labels[1])
    heights = [line.get_ydata()[0] for line in axes[0].lines if line.get_linestyle() == "--"]
    assert heights == [theirs["mean"][0]]
    assert exposures.authors_table(values)["times seen"].iloc[0] == "1,024; theirs unknown"
    plt.close("all")


def test_pictures_are_shown_above_their_nearest_images():
    value = at(500, 1.9)
    with pytest.raises(BadValue, match="measure it again"):
        figures.samples_and_nearest(value)
    rng = np.random.default_rng(0)
    names = "ensemble", "ensemble nearest", "member", "member nearest"
    kept = {name: rng.uniform(size=(4, 3, 8, 8)) for name in names}
    figure = figures.samples_and_nearest(dataclasses.replace(value, pictures=kept))
    shown = [ax.images[0].get_array() for ax in figure.axes]
    assert len(shown) == 16
    for row, name in enumerate(names):
        for column in range(4):
            expected = kept[name][column].transpose(1, 2, 0)
            assert np.allclose(shown[4 * row + column], expected)
    plt.close("all")


def test_the_longest_trained_of_ours_stands_beside_the_authors():
    values = [at(125, 1.5, "mnist_256", 256), at(500, 1.9, "mnist_256", 256), at(500, 1.9)]
    table = exposures.authors_table(values)
    assert len(table) == 1 and table["times seen"].iloc[0] == "500; theirs 3,906"
    theirs = exposures.authors_points("mnist").set_index("ensemble").loc["mnist_256"]
    logs = np.log10(values[1].radii)
    assert float(table["less theirs"].iloc[0]) == pytest.approx(
        logs.mean() - theirs["mean"], abs=1e-3
    )
    assert "none" in exposures.authors_table(values[2:])["ensemble"].iloc[0]


def test_figures_by_size_have_a_line_a_design_and_the_authors_beside_it():
    values = [measured(f"digits_{size}", 500, size=size) for size in (64, 256)]
    values += [measured("digits_64", 2000), measured("digits_128", 1000, size=128)]
    designs, theirs = exposures.designs(values), exposures.authors_points("mnist")
    for draw, name in (
        (figures.radii_by_size, "mean log10 counterfactual radius"),
        (figures.attribution_by_size, "share of samples that keep it"),
    ):
        _, ax = plt.subplots()
        draw(designs, ax, theirs)
        _, labels = ax.get_legend_handles_labels()
        assert {*designs, "authors"} <= set(labels) and ax.get_ylabel() == name
        _, alone = plt.subplots()
        draw(designs, alone)
        assert "authors" not in alone.get_legend_handles_labels()[1]
        drawn = [line.get_xdata() for line in alone.lines if len(line.get_xdata())]
        assert any(np.array_equal(xs, [64, 128, 256]) for xs in drawn)  # a fixed number drawn
    plt.close("all")


def test_cost_is_steps_times_what_a_member_s_step_takes_and_lies_on_the_axis():
    values = [at(125, 1.5, "mnist_256", 256), at(500, 1.9, "mnist_256", 256), at(500, 1.9)]
    row = {"name": "training", "ensemble": "mnist_256", "cores": 2}
    row |= {"ways": {"ours": {"median": 0.005}}}
    bench = {"comparisons": {"training": {"rows": [row]}}}
    hours = [remembering.core_hours(value, bench) for value in values]
    assert hours[:2] == pytest.approx([0.01 * steps * 16 / 3600 for steps in (1000, 4000)])
    # Fashion-MNIST has images of the same size and the same network.
    assert remembering.core_hours(at(500, 1.9, "fashion_256", 256), bench) == hours[1]
    # The digits were not measured, nor is anything without benchmarks.
    assert np.isnan(hours[2]) and np.isnan(remembering.core_hours(values[0], None))
    table = remembering.frontier_table(values, bench)
    assert table["core-hours"].tolist() == ["0.04", "0.18", "not measured"]
    _, axes = plt.subplots(2, 1)
    figures.frontier(values[:2], hours[:2], axes, exposures.authors_points("mnist"))
    drawn = axes[0].containers[0].lines[0]
    assert np.allclose(drawn.get_xdata(), hours[:2])
    words = [text.get_text() for text in axes[1].get_legend().get_texts()]
    assert words == ["authors, same set", "mnist_256"]
    plt.close("all")


# --- networks that were tried ---

STEP = {"name": "training", "ensemble": "mnist_256", "cores": 1}
BENCH = {"comparisons": {"training": {"rows": [STEP | {"ways": {"ours": {"median": 0.01}}}]}}}


def chosen_line(exposures_of=(125, 500, 2000)):
    """The chosen network: of the same 20 samples, 0.2 more in log10 radius each fourfold exposure,
    a tenth less of the samples that keep their nearest image.
    """
    values = [at(E, 1.5 + 0.2 * k, "mnist_256", 256) for k, E in enumerate(exposures_of)]
    rate = values[0].attribution
    return [
        dataclasses.replace(value, attribution=dataclasses.replace(rate, again=0.4 - 0.1 * k))
        for k, value in enumerate(values)
    ]


def tried(words, line, times=1.0, log=0.0, kept=0.35, exposure=250.0):
    """A candidate ``log`` above the line at 250 views, whose samples keep their nearest image."""
    rng = np.random.default_rng(3)
    logs = np.mean([np.log10(value.radii[:8]) for value in line[:2]], axis=0)
    rate = vars(dataclasses.replace(line[0].attribution, again=kept))
    return {
        "ensemble": "mnist_256", "candidate": words, "parameters": 1000, "exposure": exposure,
        "radii": (10 ** (logs + log + rng.normal(0, 0.01, 8))).tolist(), "ratio": 0.5,
        "false_attribution": rate, "times": [times] * 3, "cpu_seconds": 1.0,
    }  # fmt: skip


def found(*rows):
    return {"comparisons": {"frontier": {"ensembles": list(rows)}}}


def test_a_candidate_stands_beside_the_chosen_network_at_its_own_cost():
    line = chosen_line()
    rows = found(tried("twice the cost", line, 2.0), tried("chosen", line))
    same, dear = remembering.candidates(rows, line, BENCH)
    assert (same.words, dear.words) == ("chosen", "twice the cost")
    hours = [remembering.core_hours(value, BENCH) for value in line]
    # 250 views lie half way between 125 and 500 in the logarithm, 500 of the chosen at its end.
    assert same.hours == pytest.approx((hours[0] * hours[1]) ** 0.5) and dear.hours == hours[1]
    assert np.allclose(dear.line, np.log10(line[1].radii[:8]))
    assert dear.line_kept == pytest.approx(0.3)
    assert same.line_kept == pytest.approx(0.35) and abs(same.forgets) < 1e-9
    gap = np.log10(rows["comparisons"]["frontier"]["ensembles"][0]["radii"])
    gap = gap - np.log10(line[1].radii[:8])
    assert dear.farther == pytest.approx(gap.mean() / (gap.std(ddof=1) / 8**0.5))
    assert dear.forgets == pytest.approx(-0.05 / (2 * 0.325 * 0.675 / 100) ** 0.5)
    table = remembering.candidates_table([same, dear])
    assert table["core-hours"].tolist() == [f"{hours[0] * 2:.2f}", f"{hours[1]:.2f}"]
    points = remembering.candidate_points([same, dear])
    assert points["words"].tolist() == ["twice the cost"]
    assert points["hours"].tolist() == [hours[1]] and points["kept"].tolist() == [0.35]


def test_candidates_are_judged_by_radius_and_forgetting_together():
    line = chosen_line()

    def said(*rows):
        return remembering.candidates_verdict(
            remembering.candidates(found(tried("chosen", line), *rows), line, BENCH)
        )

    assert said(tried("a", line, log=0.2, kept=0.34)) == "**Farther for its time:** a."
    assert said(tried("a", line, log=-0.2, kept=0.36)) == "**Less far for its time:** a."
    assert "**Farther for its time:** a." in said(tried("a", line, log=0.005, kept=0.1))
    # A larger radius of samples that forget less says nothing.
    assert "**Undecided:** a." == said(tried("a", line, log=0.2, kept=0.5))
    off = remembering.candidates(found(tried("chosen", line, log=0.3)), line, BENCH)
    assert "does not hold" in remembering.candidates_verdict(off)
    assert "No candidate" in remembering.candidates_verdict([])


def test_without_a_line_or_measurements_nothing_is_compared():
    line = chosen_line()
    assert remembering.candidates(None, line, BENCH) == []
    assert remembering.candidates(found(tried("chosen", line)), line[:1], BENCH) == []
    assert remembering.candidates(found(tried("chosen", line)), line, None) == []
    assert "none was" in remembering.candidates_table([]).iloc[0, 0]
    assert len(remembering.candidate_points([])) == 0


def test_the_published_search_holds_the_chosen_network_against_itself():
    measurements = abc.speed.read_benchmarks("networks"), abc.exposures.at_hand(["mnist_256"])
    published = remembering.candidates(*measurements, abc.speed.read_benchmarks())
    (same,) = [one for one in published if one.words == "chosen"]
    assert same.verdict == "undecided" and len(published) == 7
    assert "does not hold" not in remembering.candidates_verdict(published)


def test_what_was_tried_is_drawn_without_a_line():
    line = chosen_line()
    rows = found(tried("wider", line, 2.0, log=0.1), tried("chosen", line))
    points = remembering.candidate_points(remembering.candidates(rows, line, BENCH))
    _, axes = plt.subplots(2, 1)
    hours = [remembering.core_hours(value, BENCH) for value in line]
    figures.frontier(line, hours, axes, exposures.authors_points("mnist"), points)
    words = [text.get_text() for text in axes[1].get_legend().get_texts()]
    assert words == ["authors, same set", "mnist_256", "wider"]
    marks = axes[0].containers[1].lines[0]
    assert marks.get_linestyle() == "None" and marks.get_xdata() == points["hours"].tolist()
    plt.close("all")
