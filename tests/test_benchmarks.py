"""The benchmarks run, their ways agree, and what they write is whole; never how fast it is."""

import dataclasses
import importlib
import json
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

import abc_lib as abc  # noqa: E402
from abc_lib import figures  # noqa: E402
from abc_lib.ground.errors import ArtefactError  # noqa: E402
from abc_lib.study import speed as benchmarks  # noqa: E402

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
ROW = {
    "name",
    "what",
    "unit",
    "other",
    "cores",
    "ratios",
    "ratio",
    "lowest",
    "highest",
    "ways",
    "matrix_product",
    "difference",
    "tolerance",
}
WAY = {
    "seconds",
    "median",
    "evaluations_per_second",
    "flops_per_second",
    "share",
    "memory",
    "processes",
}


@pytest.fixture(autouse=True)
def findable(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture
def quick():
    return importlib.import_module("measuring").Options(quick=True)


@pytest.fixture
def small_members(trained, monkeypatch):
    """What a quick run takes for a published ensemble is the tiny one.

    `test_the_one_command_runs_everything` does it with one that was published.
    """
    measuring = importlib.import_module("measuring")
    for name in ("landscapes", "jacobians", "backends"):
        monkeypatch.setattr(
            importlib.import_module(name),
            "ensemble_of",
            lambda name, options: measuring.with_steps(trained.ensemble, 3),
        )


def check_rows(found: dict, rounds: int = 1) -> None:
    assert found["rows"]
    for row in found["rows"]:
        assert set(row) - {"ensemble"} == ROW
        assert len(row["ratios"]) == len(row["matrix_product"]) == rounds
        assert row["lowest"] <= row["ratio"] <= row["highest"]
        assert 0 <= row["difference"] <= row["tolerance"] < 0.1
        for way in row["ways"].values():
            assert set(way) == WAY and len(way["seconds"]) == rounds
            assert all(
                isinstance(way[key], (int, float)) and np.isfinite(way[key]) and way[key] > 0
                for key in WAY - {"seconds", "memory"}
            )
        ours = row["ways"]["ours"]
        assert isinstance(ours["memory"], int) and ours["memory"] >= 0
        # what is derived fits what was measured
        assert ours["share"] == pytest.approx(
            ours["flops_per_second"] / np.median(row["matrix_product"])
        )
        assert row["ratios"][0] == pytest.approx(
            row["ways"]["other"]["seconds"][0] / ours["seconds"][0]
        )


@pytest.mark.parametrize("name", ["landscapes", "jacobians", "training", "retraining", "backends"])
def test_each_comparison_runs_and_both_ways_agree(name, quick, small_members):
    if name == "backends":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    found = importlib.import_module(name).compare(quick)
    check_rows(found)
    json.dumps(found, allow_nan=False)


def test_landscapes_are_compared_in_more_rounds(quick, small_members):
    check_rows(
        importlib.import_module("landscapes").compare(dataclasses.replace(quick, rounds=2)),
        rounds=2,
    )


def test_scaling_covers_its_grid_and_fits_it(quick):
    found = importlib.import_module("scaling").compare(quick)
    assert {(p["N"], p["n"], p["side"]) for p in found["points"]} == set(
        importlib.import_module("scaling").grid(quick)
    )
    assert set(found["fit"]["exponents"]) == {"N", "n", "pixels"}
    json.dumps(found, allow_nan=False)


def law(N: float, n: float, pixels: float) -> dict:
    points = [
        {
            "N": a,
            "n": b,
            "side": s,
            "pixels": s * s,
            "seconds": 0.01 * a**N * b**n * (s * s) ** pixels,
        }
        for a in (32, 64, 128)
        for b in (8, 12)
        for s in (8, 16)
    ]
    return {"points": points, "fit": importlib.import_module("scaling").fit(points)}


def test_a_known_law_is_found_again():
    fit = law(1.0, 1.5, 0.8)["fit"]
    assert fit["exponents"] == pytest.approx({"N": 1.0, "n": 1.5, "pixels": 0.8})
    assert fit["constant"] == pytest.approx(0.01) and fit["r2"] == pytest.approx(1)
    assert max(fit["errors"].values()) < 1e-6


def test_grids_have_enough_codewords_and_all_factors():
    module = importlib.import_module("scaling")
    options = importlib.import_module("measuring").Options
    for device in ("cpu", "cuda"):
        points = np.array(module.grid(options(device=device)))
        assert all(len(set(column)) >= 3 for column in points.T)


@pytest.mark.filterwarnings("error")
def test_the_scaling_figure_shows_every_point_and_the_exponents():
    found = law(1.0, 1.5, 0.8)
    figure = figures.scaling_curves(found["points"], found["fit"])
    figure.canvas.draw()
    axes = figure.get_axes()
    assert len(axes) == 4
    for ax, exponent in zip(axes, ("1.00", "1.50", "0.80", None)):
        dots = [line for line in ax.get_lines() if line.get_marker() == "o"]
        assert sum(len(line.get_xdata()) for line in dots) == len(found["points"])
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        assert exponent is None or any(label.startswith(f"fitted: {exponent}") for label in labels)
        assert ax.get_xlabel() and ax.get_ylabel()
    plt.close(figure)


def test_screening_reads_what_is_stored(quick):
    found = importlib.import_module("screening").compare(quick)
    assert found["screened"]
    for line in found["screened"]:
        assert (
            0 < line["lowest"] <= line["median"] <= 1
            and line["cost"] > line["k"] / line["num_sources"]
        )
    for line in found["hybrids"]:
        assert line["cost"] > 0 and line["largest"] >= line["median"] >= 0


def test_the_price_of_a_jacobian_is_what_hybrids_pay_for_all_steps(tiny, trained):
    from abc_lib.results.comparisons import hybrid_cost

    cost = importlib.import_module("screening").jacobian_cost(
        tiny, trained.ensemble.codebook.num_sources
    )
    assert cost == pytest.approx(hybrid_cost(trained.ensemble, tiny.sampling.steps))


def test_operations_are_counted():
    measuring = importlib.import_module("measuring")
    recipe = abc.get_recipe("digits_64")
    batch = recipe.training.batch_size
    ensemble = abc.get_ensemble(recipe, abc.Here(device="cpu", progress=False))
    forward = measuring.evaluation_flops(ensemble)
    # the largest convolutions alone: 24 to 24 and 48 to 24 channels, 3x3 taps, 4x4 patches
    assert forward > 2 * 16 * 9 * (24 * 24 * 5 + 48 * 24 * 2)
    # backward is twice forward, but for the first layer
    assert (
        2.5 * batch * forward < measuring.step_flops(recipe, ensemble.shape) < 3.1 * batch * forward
    )


def _allocate(megabytes: int) -> None:
    np.ones(megabytes * 2**17)


@pytest.mark.slow
def test_peak_memory_is_that_of_a_fresh_process():
    measuring = importlib.import_module("measuring")
    small, large = (measuring._child_memory(_allocate, megabytes) for megabytes in (1, 400))
    assert 350 * 2**20 < large - small < 450 * 2**20
    assert measuring._child_memory(sys.exit, 3) is None


def test_ways_that_disagree_are_not_compared(quick):
    measuring = importlib.import_module("measuring")
    ways = {"ours": lambda: (1, 1.0), "straightforward": lambda: (1, 1.5)}
    for tolerance in (0.1, float("nan")):
        with pytest.raises(SystemExit, match="they do not compute the same"):
            measuring.in_turns(ways, lambda a, b: abs(a - b), tolerance, quick, 1, 1)
    assert (
        len(measuring.in_turns(ways, lambda a, b: abs(a - b), 0.6, quick, 3, 1).seconds["ours"])
        == 3
    )


def test_work_of_other_processes_is_timed_on_the_wall(quick, monkeypatch):
    """The processor's time of this process knows nothing of them."""
    measuring = importlib.import_module("measuring")
    monkeypatch.setattr(measuring.time, "process_time", lambda: 0.0)
    ways = {"ours": lambda: (1, None)}
    alone, beside, threaded = (
        measuring.in_turns(ways, lambda a, b: 0.0, 1.0, quick, 1, *how)
        for how in ((1,), (1, 2), (2,))
    )
    assert alone.seconds["ours"] == [0.0] and alone.cores == 1
    assert beside.seconds["ours"][0] > 0 and beside.cores == threaded.cores == 2


@pytest.fixture
def finished(quick, small_members, tmp_path):
    """A file as ``run.py`` writes it, with the parts that are quick to get."""
    run = importlib.import_module("run")
    path = tmp_path / "cpu.json"
    run.run(quick, ("screening",), path)
    return run, path


def test_a_second_run_keeps_the_other_parts_only_of_this_machine(finished, quick):
    run, path = finished
    run.run(quick, ("landscapes",), path)
    content = json.loads(path.read_text())
    assert set(content["comparisons"]) == {"landscapes", "screening"}
    assert all(
        {"time", "commit", "hardware", "seconds"} <= set(part["made"])
        for part in content["comparisons"].values()
    )
    assert {"cores", "threads", "hardware", "packages", "commit", "time"} <= set(content["machine"])
    path.write_text(json.dumps(content | {"machine": content["machine"] | {"hardware": "another"}}))
    run.run(quick, ("screening",), path)
    assert set(json.loads(path.read_text())["comparisons"]) == {"screening"}
    assert not list(path.parent.glob("*.tmp"))


def test_the_library_reads_what_was_written(finished, quick, monkeypatch):
    run, path = finished
    monkeypatch.setattr(benchmarks, "FOLDER", path.parent)
    run.run(quick, ("landscapes",), path)
    found = benchmarks.read_benchmarks("cpu")
    table = benchmarks.benchmark_table(found)
    assert len(table) == len(found["comparisons"]["landscapes"]["rows"])
    assert table["times faster"].str.contains(" to ").all()
    rates = benchmarks.rates_table(found)
    assert len(rates) == len(table) and rates["share"].str.fullmatch(r"\d+% \| \d+%").all()
    part = found["comparisons"]["screening"]
    assert len(benchmarks.screening_table(found)) == len(part["screened"] + part["hybrids"])
    assert benchmarks.read_benchmarks("cuda") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"machine": {}}'])
def test_a_file_that_is_not_whole_is_refused(text, tmp_path, monkeypatch, one_line):
    monkeypatch.setattr(benchmarks, "FOLDER", tmp_path)
    (tmp_path / "cpu.json").write_text(text)
    with pytest.raises(ArtefactError) as error:
        benchmarks.read_benchmarks("cpu")
    assert one_line(error)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_is_published_was_really_measured(device):
    found = benchmarks.read_benchmarks(device)
    if found is None:
        pytest.skip("not measured yet")
    assert set(found["comparisons"]) == set(importlib.import_module("run").COMPARISONS)
    for part in found["comparisons"].values():
        assert (
            not part["made"]["quick"] and part["made"]["hardware"] == found["machine"]["hardware"]
        )
    for row in benchmarks.benchmark_table(found).to_dict("records"):
        assert row["times faster"]
    seconds = sum(part["made"]["seconds"] for part in found["comparisons"].values())
    assert 0 < seconds < 50 * 60  # what the command promises; of the shipped file, not of this run


def test_an_unknown_comparison_is_one_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run.py", "--only", "landscape", "--device", "cpu"])
    with pytest.raises(
        SystemExit, match="^unknown comparison 'landscape'; did you mean 'landscapes'"
    ):
        importlib.import_module("run").main()


@pytest.mark.slow
def test_the_one_command_runs_everything(tmp_path):
    path = tmp_path / "cpu.json"
    done = subprocess.run(
        [
            sys.executable,
            str(FOLDER / "run.py"),
            "--quick",
            "--device",
            "cpu",
            "--output",
            str(path),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    content = json.loads(path.read_text())
    assert list(content["comparisons"]) == list(importlib.import_module("run").COMPARISONS)
    (page,) = content["comparisons"]["radius_page"]["pages"]
    assert len(page["seconds"]) == 1 and page["seconds"][0] > 0
    assert "times faster" in done.stdout and "share  " in done.stdout and str(path) in done.stdout


@pytest.mark.slow
def test_candidates_are_measured_as_whole_ensembles(quick, tmp_path, monkeypatch):
    monkeypatch.setenv("ABC_CACHE", str(tmp_path))
    (row,) = importlib.import_module("frontier").compare(quick)["ensembles"]
    ensemble = abc.get_ensemble(abc.get_recipe("digits_64").exposed(1))
    assert row["candidate"] == "chosen" and row["times"] == [1.0] and row["cpu_seconds"] > 0
    assert row["radii"] == abc.landscapes.get(ensemble, 2).radii.tolist()


@pytest.mark.slow
def test_blocks_go_to_worker_processes():
    """As in a real run: what a worker needs must reach it."""
    code = (
        "import landscapes as l; from measuring import Options; "
        "case = l.setting('digits_64', Options(quick=True), 2); l.MEMORY = 2**25; "
        "a, b = (l.ours(*case, range(4), jobs) for jobs in (1, 2)); print(l.apart(a, b))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout) < 1e-5
