"""What the comparisons share: a clock, turns, peak memory, counted operations.

A comparison is a module with a function ``compare(options)`` that returns what it found,
ready for JSON; ``rows`` are lines of the table, ours beside another way to get the same
numbers. Each module runs by itself, and ``run.py`` runs them all.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

import abc_lib as abc
from abc_lib.ground.devices import available_cores
from abc_lib.ground.store import provenance
from abc_lib.ground.tasks import run_tasks

DEFAULT_THREADS = torch.get_num_threads()
"""what PyTorch takes when nobody says anything, read before anybody does"""


@dataclass(frozen=True)
class Options:
    """How to measure: where, and whether only to see that everything runs."""

    device: str = "cpu"
    quick: bool = False
    rounds: int = 0
    """0 leaves it to the comparison"""

    @property
    def on_cpu(self) -> bool:
        """Whether threads and processes are a matter at all."""
        return torch.device(self.device).type == "cpu"

    @property
    def jobs(self) -> int | None:
        """Tasks side by side, as the library chooses; one in a quick run, which waits for none."""
        return 1 if self.quick else None

    def here(self, jobs: int | None = None, cache: str | None = None) -> abc.Here:
        """The device without progress bars, by request with an empty cache of its own."""
        store = abc.Store() if cache is None else abc.Store(Path(cache), None)
        return abc.Here(store, self.device, jobs=jobs, progress=False)

    @property
    def processes(self) -> int:
        """How many processes that makes."""
        return available_cores() if self.on_cpu and not self.quick else 1

    def how_many(self, usual: int) -> int:
        """Rounds to take."""
        return self.rounds or (1 if self.quick else usual)


def say(text: str) -> None:
    """A line for who waits."""
    print(text, flush=True)


def ensemble_of(name: str, options: Options) -> abc.Ensemble:
    """A published ensemble on the device; with a short sampler where it is only to run."""
    ensemble = abc.get_ensemble(abc.get_recipe(name), options.here())
    return with_steps(ensemble, 3) if options.quick else ensemble


def with_steps(ensemble: abc.Ensemble, steps: int) -> abc.Ensemble:
    """The same members with a sampler of so many steps."""
    return abc.Ensemble(
        ensemble.recipe.replace(sampling={"steps": steps}),
        ensemble.codebook,
        ensemble.members,
        ensemble.identity,
    )


# --- time ---


def clock(device: torch.device | str, cores: int | None) -> float:
    """Seconds on the wall; of one thread alone the processor's, which others do not lengthen."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time() if cores == 1 else time.perf_counter()


@contextmanager
def threads_set(threads: int | None):
    """PyTorch on so many threads within; None leaves them."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def matrix_product(options: Options, cores: int | None, repeats: int = 3) -> float:
    """FLOP/s of ``torch.mm`` on large square float32 matrices on so many cores, best of some."""
    side = 128 if options.quick else 2048 if options.on_cpu else 8192
    a, b = torch.randn(2, side, side, device=options.device)
    best = float("inf")
    with threads_set(cores):
        for turn in range(repeats + 1):
            start = clock(options.device, cores)
            torch.mm(a, b)
            if turn:  # the first warms up
                best = min(best, clock(options.device, cores) - start)
    return 2 * side**3 / max(best, 1e-9)


@dataclass
class Turns:
    """Some ways that took turns, round by round, and how far they were apart.

    ``seconds`` are a unit's, ``products`` FLOP/s of the matrix product.
    """

    cores: int | None
    seconds: dict[str, list[float]] = field(default_factory=dict)
    products: list[float] = field(default_factory=list)
    difference: float = 0.0


def doing(units: int, function: Callable, *arguments) -> Callable[[], tuple[int, object]]:
    """A way for :func:`in_turns`: one call that does so many units."""
    return lambda: (units, function(*arguments))


def in_turns(
    ways: dict[str, Callable[[], tuple[int, object]]],
    apart: Callable[[object, object], float],
    tolerance: float,
    options: Options,
    rounds: int,
    threads: int | None,
    processes: int = 1,
) -> Turns:
    """Runs each way once a round, after a matrix product.

    A way returns how many units it did and what came out. Within, PyTorch has so many
    ``threads``, None on a GPU; ``processes`` is how many a way may start.

    ``ours`` is compared with each other way by ``apart``; raises where they do not agree,
    for then there is nothing to compare.
    """
    cores = None if threads is None else max(threads, processes)
    turns = Turns(cores, {name: [] for name in ways})
    with threads_set(threads):
        for _ in range(rounds):
            turns.products.append(matrix_product(options, cores))
            results = {}
            for name, way in ways.items():
                start = clock(options.device, cores)
                units, results[name] = way()
                turns.seconds[name].append((clock(options.device, cores) - start) / units)
            for name in ways:
                difference = apart(results["ours"], results[name])
                if not difference <= tolerance:
                    raise SystemExit(
                        f"ours and {name} differ by {difference:.2e}, more than {tolerance:.0e}: "
                        "they do not compute the same"
                    )
                turns.difference = max(turns.difference, difference)
            taken = [f"{way} {1e3 * values[-1]:.2f} ms" for way, values in turns.seconds.items()]
            say(f"    {', '.join(taken)}")
    return turns


def warm_workers(options: Options) -> None:
    """Starts the worker processes and their imports, which a long computation does once."""
    if options.processes == 1:
        return
    cores = available_cores()
    for _ in run_tasks(
        _warm,
        [()] * (2 * cores),
        2 * cores,
        torch.device("cpu"),
        abc.Here(device="cpu", progress=False),
        total=2 * cores,
        description="",
        unit="",
    ):
        pass


def _warm() -> None:
    # a network's first use loads libraries
    abc.build_network(abc.get_recipe("digits_64").network, (1, 8, 8), 0)
    time.sleep(0.2)  # long enough for every worker to get one


# --- memory ---


def _memory() -> tuple[int, int]:
    """Bytes that this process holds now, and the most that it ever held."""
    try:
        # unlike ru_maxrss it starts anew with a new program
        lines = dict(
            line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines()
        )
        return tuple(int(lines[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
    except (OSError, KeyError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
            1 if sys.platform == "darwin" else 1024
        )
        return peak, peak


def _added(function: Callable, arguments: tuple, threads: int | None) -> int:
    # Libraries are no part of it, and some of them are loaded by the first network only.
    abc.build_network(abc.get_recipe("digits_64").network, (1, 8, 8), 0)
    with threads_set(threads):
        before, _ = _memory()
        function(*arguments)
        return max(0, _memory()[1] - before)


def _in_child(queue, *work) -> None:
    queue.put(_added(*work))


def peak_memory(
    options: Options, function: Callable, *arguments, threads: int | None = 1
) -> int | None:
    """The most memory that ``function`` adds to a fresh process with all libraries in it.

    On a GPU it is the most that PyTorch held there. None if the child did not come back. A
    quick run asks this very process.
    """
    if not options.on_cpu:
        torch.cuda.reset_peak_memory_stats(options.device)
        function(*arguments)
        return torch.cuda.max_memory_allocated(options.device)
    if options.quick:
        return _added(function, arguments, threads)
    return _child_memory(function, *arguments, threads=threads)


def _child_memory(function: Callable, *arguments, threads: int | None = 1) -> int | None:
    context = multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(queue, function, arguments, threads))
    child.start()
    child.join()
    return queue.get() if child.exitcode == 0 else None


# --- operations ---


def evaluation_flops(ensemble: abc.Ensemble) -> int:
    """Floating point operations of one network on one state; multiply and add count as two."""
    x = torch.zeros(1, *ensemble.shape, device=ensemble.device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        ensemble.members[0](x, torch.zeros(1, dtype=torch.int64, device=ensemble.device))
    return counter.get_total_flops()


def step_flops(recipe: abc.Recipe, shape: tuple[int, int, int]) -> int:
    """Those of one training step of one network: forward and backward of a minibatch."""
    batch = recipe.training.batch_size
    network = abc.build_network(recipe.network, shape, 0, recipe.diffusion)
    with FlopCounterMode(display=False) as counter:
        network(
            torch.zeros(batch, *shape), torch.zeros(batch, dtype=torch.int64)
        ).square().mean().backward()
    return counter.get_total_flops()


# --- a line of the table ---


@dataclass
class Work:
    """What a way does for one unit, and in how many processes; memory in bytes, of each of them."""

    evaluations: float
    flops: float
    memory: int | None = None
    processes: int = 1


def row(
    name: str,
    what: str,
    unit: str,
    turns: Turns,
    work: dict[str, Work],
    tolerance: float,
    other: str = "straightforward",
) -> dict:
    """One line: how many times as long as ours the ``other`` way takes, and what each reaches."""
    ratios = [b / a for a, b in zip(turns.seconds["ours"], turns.seconds[other])]
    product = statistics.median(turns.products)
    ways = {}
    for key, way in (("ours", "ours"), ("other", other)):
        median = statistics.median(turns.seconds[way])
        rate = work[way].flops / median
        ways[key] = {
            "seconds": turns.seconds[way],
            "median": median,
            "evaluations_per_second": work[way].evaluations / median,
            "flops_per_second": rate,
            "share": rate / product,
            "memory": work[way].memory,
            "processes": work[way].processes,
        }
    return {
        "name": name,
        "what": what,
        "unit": unit,
        "other": other,
        "cores": turns.cores,
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "ways": ways,
        "matrix_product": turns.products,
        "difference": turns.difference,
        "tolerance": tolerance,
    }


def machine(options: Options) -> dict:
    """What the numbers were measured on, when, and from which commit."""
    made = provenance(options.device)
    return {
        "device": options.device,
        "cores": available_cores(),
        "threads": DEFAULT_THREADS,
        **made,
        "tf32_convolutions": None if options.on_cpu else torch.backends.cudnn.allow_tf32,
        "quick": options.quick,
    }


def show(found: dict) -> None:
    """The lines of the table, each as a paragraph: a terminal is narrower than the table."""
    part = {"comparisons": {"": found}}
    for ratio, rates in zip(
        abc.speed.benchmark_table(part).to_dict("records"),
        abc.speed.rates_table(part).to_dict("records"),
    ):
        say(f"\n{ratio.pop('comparison')}")
        for key, value in (ratio | rates).items():
            if key != "comparison":
                say(f"  {key:30} {value}")


def main(compare: Callable[[Options], dict], doc: str) -> None:
    """Runs one comparison by itself and prints what it found."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    found = compare(options_of(parser.parse_args()))
    show(found)
    for key in found.keys() - {"rows"}:
        say(f"\n{key}: {json.dumps(found[key], indent=1)}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that all have."""
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--rounds", type=int, default=0, help="how often the ways take turns")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: see that everything runs, measure nothing"
    )


def options_of(arguments: argparse.Namespace) -> Options:
    """The options as a value."""
    return Options(str(abc.Here(device=arguments.device).device), arguments.quick, arguments.rounds)
