"""``python -m abc_lib COMMAND``: list, new, publish, pages, certify, verify, remember, signal,
yardstick, explorer

Every slip ends with one line on standard error and the status 2.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

from abc_lib.exchange import lab
from abc_lib.exchange.certificates import (
    make_certificate,
    read_certificate,
    verify_certificate,
    write_certificate,
)
from abc_lib.exchange.explorer import LOCAL, SHIPPED, SHIPPED_NAMES, build_explorer
from abc_lib.ground.errors import AbcError, BadValue, CertificateRefused
from abc_lib.ground.here import Here
from abc_lib.ground.store import Artefact
from abc_lib.images.registry import get_recipe
from abc_lib.method.recipe import SCALES, Recipe
from abc_lib.results import (
    class_counts,
    comparisons,
    fids,
    jacobians,
    landscapes,
    removals,
    retraining,
    unattributable,
)
from abc_lib.results.placebos import landscapes as placebos
from abc_lib.results.placebos import memory, signal
from abc_lib.results.run import all_statuses
from abc_lib.study.own import new_recipe
from abc_lib.study.pages import execute_pages
from abc_lib.study.plan import Piece, plan_study, study_names
from abc_lib.study.run import estimate_study, run_study, say_at_once
from abc_lib.training.ensembles import get_ensemble, publish_ensemble, require_ensemble
from abc_lib.yardstick import report, table

VARIANT_SAMPLES = 128
"""at most so many samples of ensembles that are there to be compared with only"""
MOST = 10**6
"""of what is counted on the command line; the paper's largest number is 10,240"""
_LONG = 2**63 - 1


def main() -> int:
    """The command line; returns the exit status, see :func:`answer`."""
    parser = argparse.ArgumentParser(prog="python -m abc_lib", description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="laptop")
    commands = parser.add_subparsers(required=True)
    for name, (add_arguments, run) in _COMMANDS.items():
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        add_arguments(command)
        command.set_defaults(run=run)
    return answer(parser)


def answer(parser: argparse.ArgumentParser) -> int:
    """Does what the command line asks for, and returns the exit status.

    That is 0, or 1 for a certificate that is refused, 2 for a slip, 130 for an interrupt.
    """
    try:
        arguments = parser.parse_args()
        arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read along has gone; Python's last flush is not to complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except AbcError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, CertificateRefused) else 2
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


# --- kinds of arguments ---


def _number(
    parser: argparse.ArgumentParser,
    option: str,
    words: str,
    least: int = 0,
    most: int = MOST,
    **more,
) -> None:
    """An option that takes a whole number within bounds."""

    def whole_number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise BadValue(
                f"{option} is {value}; it must be one of the whole numbers from {least} on, up to "
                f"{most}"
            )
        return value

    parser.add_argument(option, type=whole_number, help=words, **more)


def _seed(
    parser: argparse.ArgumentParser, words: str | None = None, default: int | None = 0
) -> None:
    _number(parser, "--seed", words, -_LONG, _LONG, default=default)


def _device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--cluster",
        default="",
        metavar="ADDRESS",
        help="send tasks to a cluster: tcp://host:8786 (Dask) or ray://host:10001 (Ray)",
    )


def _here(arguments: argparse.Namespace) -> Here:
    return Here(device=arguments.device, cluster=arguments.cluster)


def _hours(text: str) -> float:
    hours = float(text)
    if not hours >= 0:
        raise BadValue(f"--hours is {text}; it must be a number from 0 on")
    return hours


def file_to_write(path: Path | str) -> Path:
    """A path at which a file can be put; raises :class:`BadValue` where something else is."""
    path = Path(path)
    if path.exists() and not path.is_file():
        raise BadValue(f"{path} is no plain file; choose another name")
    return path


# --- list ---


def _list(arguments: argparse.Namespace) -> None:
    """every ensemble in the registry, and what can be done with it here"""
    for status in all_statuses(arguments.scale, Here()):
        print(f"{status.name:22} {'yes' if status.runs else 'no ':4} {status.note}")


# --- publish ---


def study_arguments(parser: argparse.ArgumentParser) -> None:
    """What the study can be told: which ensembles, how many samples, how long, on what."""
    parser.add_argument("names", nargs="*", help="ensembles (default: the study's)")
    parser.add_argument(
        "--hours",
        type=_hours,
        help="a time budget for the study; what it does not suffice for is left out",
    )
    _number(parser, "--samples", "samples with full landscapes (0: the ensemble only)", default=24)
    _seed(parser)
    _device(parser)


def study_pieces(arguments: argparse.Namespace) -> list[Piece]:
    """The plan that :func:`study_arguments` asks for."""
    names = arguments.names or study_names()
    recipes = [get_recipe(name, arguments.scale) for name in names]
    return plan_study(recipes, arguments.samples, arguments.seed)


def _publish_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Without names, or with --hours or --plan, the study: what tells most first, up to "
        "--samples samples each. Otherwise what the options ask for, of each name."
    )
    study_arguments(parser)
    parser.add_argument(
        "--plan",
        action="store_true",
        help="do nothing; say what is at hand, and how long each piece that is missing would take "
        "on this machine",
    )
    for option, words in {
        "--jacobians": "samples with a Jacobian",
        "--compare": "samples whose counterfactuals are compared with the predicted ones",
        "--hybrids": "how many of those are computed as hybrids as well",
        "--retraining": "samples with landscapes by retraining: a model for every source left out",
        "--classes": "samples to classify, where sources are classes (the paper: 5100)",
        "--fids": "samples for FIDs of the ensemble, a single model and a member (paper: 10240)",
        "--unattributable": "among how many samples to look for unattributable ones, where samples "
        "are black and white",
        "--sets": "samples from which several sources are removed at once",
    }.items():
        _number(parser, option, words, default=0, metavar="COUNT")
    _number(
        parser,
        "--removed",
        "FIDs of the ensemble without K members, too",
        least=1,
        nargs="*",
        default=[],
        metavar="K",
    )
    _number(parser, "--left-out", "leave out only the first so many sources by retraining", least=1)
    _number(
        parser,
        "--again",
        "also retrain, and train ensembles of other members, with this training seed",
        -_LONG,
        _LONG,
        metavar="SEED",
    )
    parser.add_argument(
        "--without-members",
        action="store_true",
        help="leave the ensemble itself in the cache: results alone may be small",
    )


def _publish(arguments: argparse.Namespace) -> None:
    """train ensembles, compute landscapes, put both into data/published"""
    here = _here(arguments)
    if arguments.plan:
        estimate_study(study_pieces(arguments), here=here)
    elif arguments.hours is not None or not arguments.names:
        run_study(study_pieces(arguments), arguments.hours, here=here)
    else:
        recipes = [get_recipe(name, arguments.scale) for name in arguments.names]
        for recipe in recipes:
            _require(recipe, arguments)
        for recipe in recipes:
            for made in _results(recipe, arguments, here):
                for artefact in made if isinstance(made, list) else [made]:
                    say_at_once(f"{recipe.label}: {artefact.path}")


def _require(recipe: Recipe, asked: argparse.Namespace) -> None:
    """Raises :class:`BadValue` for what this ensemble cannot give, before anything is trained."""
    n, N = recipe.code.n, recipe.data.num_sources
    if asked.classes and recipe.data.sources != "class":
        raise BadValue(f"--classes is for data sources that are classes; {recipe.name} has others")
    if asked.unattributable and not recipe.data.binarise:
        raise BadValue(
            f"--unattributable is for samples that are black and white; those of {recipe.name} "
            "are not"
        )
    if (asked.left_out or 0) > N:
        raise BadValue(f"--left-out is {asked.left_out}, but {recipe.name} has {N} sources")
    if max(asked.removed, default=0) >= n:
        raise BadValue(f"--removed must leave some of the {n} members of {recipe.name}")


def _results(
    recipe: Recipe, asked: argparse.Namespace, here: Here
) -> Iterator[Artefact | list[Artefact]]:
    """What is asked for of one ensemble, published one after another."""
    seed = asked.seed
    if not asked.without_members:
        yield publish_ensemble(recipe, here)
    if asked.classes:
        yield class_counts.publish(recipe, asked.classes, seed, here)
    if asked.fids:
        yield fids.publish(recipe, asked.fids, asked.removed, seed, here)
    by_sample: list[tuple[int, Callable]] = [
        (asked.samples, landscapes.publish),
        (asked.unattributable, unattributable.publish),
        (asked.sets, removals.publish),
        (asked.jacobians, jacobians.publish),
    ]
    if asked.compare or any(samples for samples, _ in by_sample):
        ensemble = get_ensemble(recipe, here)
    for samples, publish in by_sample:
        if samples:
            yield publish(ensemble, samples, seed, here=here)
    if asked.compare:
        yield comparisons.publish(ensemble, asked.compare, asked.hybrids, seed, here)
    if asked.retraining:
        sources = None if asked.left_out is None else range(asked.left_out)
        for training_seed in [None] if asked.again is None else [None, asked.again]:
            yield retraining.publish(recipe, asked.retraining, sources, seed, training_seed, here)
    if asked.again is not None:
        # Other members, with the same code and with another; those ensembles stay in the cache.
        for code_seed in (recipe.code.seed, asked.again):
            other = recipe.replace(training={"seed": asked.again}, code={"seed": code_seed})
            samples = min(asked.samples, VARIANT_SAMPLES)
            yield landscapes.publish(get_ensemble(other, here), samples, seed, here)


# --- pages ---


def _pages_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pages", nargs="*", help="the book's pages, as 03_radius_mnist_1024 (default: all)"
    )


def _pages(arguments: argparse.Namespace) -> None:
    """execute the notebooks into the book"""
    execute_pages(arguments.pages or None)


# --- lab ---


def _lab_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", help="ensembles (default: the book's)")
    parser.add_argument("-o", "--output", help="the folder to write (default: the book's)")
    _number(parser, "--samples", "samples of each ensemble", 1, 256, default=8)
    _seed(parser)


def _lab(arguments: argparse.Namespace) -> None:
    """write ensembles for the browser, where members sample with and without sources"""
    names = list(dict.fromkeys(arguments.names)) or list(lab.SHIPPED_NAMES)
    if arguments.names and not arguments.output:
        raise BadValue("the book has its own lab; give the folder for another one with -o")
    recipes = [get_recipe(name, arguments.scale) for name in names]
    folder = lab.build_lab(
        recipes, arguments.output or lab.SHIPPED, arguments.samples, arguments.seed
    )
    print(f"{folder}: {', '.join(names)}; serve it with python -m http.server --directory {folder}")


# --- certify and verify ---


def _certify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name")
    # as a landscape's table numbers them
    _number(parser, "--sample", "the sample's number", most=2**31 - 1, required=True)
    parser.add_argument(
        "--tau", type=float, help="state that the sample is nearly unattributable: radius below TAU"
    )
    parser.add_argument(
        "-o", "--output", help="the file to write (default: NAME-SCALE-SAMPLE.json)"
    )
    _seed(parser)
    _device(parser)


def _certify(arguments: argparse.Namespace) -> None:
    """write a certificate of one sample's counterfactual distances"""
    here, sample, seed = _here(arguments), arguments.sample, arguments.seed
    recipe = get_recipe(arguments.name, arguments.scale)
    path = file_to_write(arguments.output or f"{recipe.label}-{sample}.json")
    ensemble = require_ensemble(recipe, here).to(here.device)
    stored = landscapes.find(ensemble, seed, here=here)
    if stored is None or sample not in stored.indices:
        stored = landscapes.read(landscapes.compute(ensemble, [sample], seed, here=here))
    chance = placebos.get(ensemble, [sample], seed, here) if placebos.has_any(ensemble) else None
    certificate = make_certificate(ensemble, stored, sample, arguments.tau, chance)
    write_certificate(certificate, path)
    radius = f"radius {certificate.radius:.6g} over {len(certificate.distances)} sources"
    print(f"{path}: {certificate.statement or radius}")


def _sources(text: str) -> str | int:
    return text if text == "all" else int(text)


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file")
    parser.add_argument(
        "--sources",
        type=_sources,
        default="all",
        metavar="all|K",
        help="all counterfactuals, or K drawn at random",
    )
    _seed(parser, "what to draw them with (default: unforeseeable)", default=None)
    parser.add_argument(
        "--tolerance",
        type=float,
        help="how far a distance may be from the certificate's (default: 0.01)",
    )
    _device(parser)


def _verify(arguments: argparse.Namespace) -> None:
    """check a certificate by making again what it says; status 1 if it is refused"""
    certificate = read_certificate(arguments.file)
    options = {} if arguments.tolerance is None else {"tolerance": arguments.tolerance}
    here = _here(arguments)
    print(
        verify_certificate(
            certificate, arguments.sources, seed=arguments.seed, here=here, **options
        )
    )


# --- remember ---


def _remember_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+")
    parser.add_argument(
        "--exposures",
        nargs="+",
        type=_exposure,
        default=[None],
        metavar="TIMES|authors",
        help="how often a member sees each of its images (default: the authors' design, in which "
        "a fixed number of images is drawn)",
    )
    _number(parser, "--trainings", "trainings, each with a seed of its own", least=1, default=1)
    _number(parser, "--samples", "samples with landscapes", least=2, default=memory.SAMPLES)
    _seed(parser)
    _device(parser)


def _exposure(text: str) -> float | None:
    if text == "authors":
        return None
    times = float(text)
    if not 0 < times <= MOST:
        raise BadValue(f"--exposures has {text}; an image is seen more than 0 times, up to {MOST}")
    return times


def _remember(arguments: argparse.Namespace) -> None:
    """train members that remember and publish what they do, not the members themselves"""
    here = _here(arguments)
    for name, seed in product(arguments.names, range(arguments.trainings)):
        one = get_recipe(name).replace(training={"seed": seed})
        exposures = sorted({times or one.exposure for times in arguments.exposures}, reverse=True)
        # The longest training first: it passes through the others where its rate is constant.
        shorter = exposures[1:] if one.training.schedule == "constant" else ()
        for times in exposures:
            made = one.exposed(times), arguments.samples, arguments.seed, here, shorter
            for artefact in memory.publish(*made):
                print(artefact.path, flush=True)


# --- signal ---


def _signal_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+")
    _number(parser, "--codes", "codes, each with members of its own", least=2, default=16)
    _number(parser, "--exposure", "how often a member sees an image", least=1, default=500)
    _number(parser, "--samples", "samples with landscapes", least=2, default=16)
    _seed(parser)
    _device(parser)


def _signal(arguments: argparse.Namespace) -> None:
    """train several codes and publish what they say together, not their members"""
    here = _here(arguments)
    for name in arguments.names:
        recipe = get_recipe(name).exposed(arguments.exposure)
        samples = range(arguments.samples)
        found = signal.get(recipe, arguments.codes, samples, arguments.seed, here)
        for artefact in signal.publish(found, here):
            print(artefact.path)


# --- yardstick ---


def _yardstick_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name")
    parser.add_argument(
        "--scores",
        metavar="FILE",
        help="a .npy or .parquet file of scores, a row for each query, a column for each source; "
        "the higher a score, the more the source helped",
    )
    _number(parser, "--exposure", "how often a member sees an image", least=1, default=500)
    parser.add_argument(
        "--publish",
        action="store_true",
        help="measure the methods here first, and publish that; what is missing is trained",
    )
    _number(parser, "--codes", "codes to measure on", least=1, default=table.CODES)
    _number(parser, "--retrained", "times to train without each source", least=0, default=0)
    _number(parser, "--classes", "times to train without each class", least=0, default=0)
    _number(parser, "--queries", "generated and as many held out", least=2, default=table.QUERIES)
    alone = "sources without which the first member is trained again by the same chance"
    _number(parser, "--alone", alone, least=0, default=0)
    parser.add_argument("--skip", nargs="+", default=[], metavar="METHOD", help="not measured")
    parser.add_argument("--no-sweeps", action="store_true", help="turn no dial of methods")
    _number(parser, "--moving", "samples that every code moves", least=0, default=table.MOVING)
    _device(parser)


def _yardstick(arguments: argparse.Namespace) -> None:
    """hold attribution methods, or a file of scores, against exact counterfactuals"""
    here, recipe = _here(arguments), get_recipe(arguments.name).exposed(arguments.exposure)
    if arguments.publish:
        made = table.get(
            recipe,
            arguments.codes,
            seeds=arguments.retrained,
            class_seeds=arguments.classes,
            moving=arguments.moving,
            alone=arguments.alone,
            queries=arguments.queries,
            swept=not arguments.no_sweeps,
            skipped=arguments.skip,
            here=here,
        )
        table.publish(made, here)
    found = report.find(recipe, here)
    scored = report.score_file(found, arguments.scores) if arguments.scores else found.table
    print(report.as_text(scored))


# --- explorer ---


def _explorer_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names", nargs="*", help=f"ensembles (default: {' '.join(SHIPPED_NAMES)}, into the book)"
    )
    parser.add_argument(
        "-o",
        "--output",
        help="the folder to write (default with names: book/_extra/explorer_local, which git "
        "ignores)",
    )
    _number(parser, "--samples", "how many samples of each ensemble", least=1, default=8)
    _seed(parser)
    _device(parser)


def _explorer(arguments: argparse.Namespace) -> None:
    """write a page to look at landscapes image by image in a browser"""
    recipes = [get_recipe(name, arguments.scale) for name in arguments.names or SHIPPED_NAMES]
    folder = arguments.output or (LOCAL if arguments.names else SHIPPED)
    here = _here(arguments)
    folder = build_explorer(recipes, folder, arguments.samples, arguments.seed, here)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(
        f"{folder}: {', '.join(recipe.label for recipe in recipes)}, {size / 1024:,.0f} KiB; open "
        f"{folder / 'index.html'} in a browser"
    )


# --- new ---


def _new_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", help="the folder that holds the pictures")
    parser.add_argument("-o", "--output", help="the recipe to write (default: FOLDER.toml)")
    parser.add_argument(
        "--sources",
        metavar="folder|file|CSV",
        help="whose a picture is: its subfolder's, its own, or as a CSV file with the columns "
        "file and source says (default: folder, where two have pictures; else file)",
    )
    _device(parser)


def _new(arguments: argparse.Namespace) -> None:
    """look at a folder of own pictures and write a recipe for it"""
    here = Here(device=arguments.device)
    output = arguments.output or f"{Path(arguments.folder).resolve().name}.toml"
    print(new_recipe(arguments.folder, output, arguments.sources, here))


_COMMANDS = {
    "list": (lambda parser: None, _list),
    "new": (_new_arguments, _new),
    "publish": (_publish_arguments, _publish),
    "pages": (_pages_arguments, _pages),
    "lab": (_lab_arguments, _lab),
    "certify": (_certify_arguments, _certify),
    "verify": (_verify_arguments, _verify),
    "remember": (_remember_arguments, _remember),
    "signal": (_signal_arguments, _signal),
    "yardstick": (_yardstick_arguments, _yardstick),
    "explorer": (_explorer_arguments, _explorer),
}
