"""``python -m abc_lib list``, ``publish [NAME ...]``, ``pages``, ``archive``, ``unpack``, ``certify NAME --sample I``, ``verify FILE`` and ``explorer [NAME ...]``"""

import argparse
import sys

from abc_lib.exchange.certificates.file import read_certificate, write_certificate
from abc_lib.exchange.certificates.make import make_certificate
from abc_lib.exchange.certificates.verify import verify_certificate
from abc_lib.exchange.explorer.build import LOCAL, SHIPPED, SHIPPED_NAMES, build_explorer
from abc_lib.ground.devices import resolve_device
from abc_lib.ground.errors import AbcError, CertificateRefused
from abc_lib.ground.store import Artefact, Store
from abc_lib.images.latents import bind
from abc_lib.images.registry import get_recipe
from abc_lib.method.recipe import SCALES
from abc_lib.results.landscapes import compute_landscapes, find_landscapes, read_landscapes
from abc_lib.results.run import all_statuses
from abc_lib.study.pages import execute_pages
from abc_lib.study.parcels import Parcels, unpack, write_archive
from abc_lib.study.plan import plan_study
from abc_lib.study.publish import (
    publish_classes,
    publish_comparisons,
    publish_ensemble,
    publish_fids,
    publish_jacobians,
    publish_landscapes,
    publish_removals,
    publish_retraining,
    publish_unattributable,
    publish_variants,
)
from abc_lib.study.run import estimate_study, run_study
from abc_lib.training.members import get_ensemble, require_ensemble

VARIANT_SAMPLES = 128
"""at most so many samples of ensembles that are there to be compared with only"""


def _list(arguments: argparse.Namespace) -> None:
    for status in all_statuses(arguments.scale):
        print(f"{status.name:22} {'yes' if status.runs else 'no ':4} {status.note}")


def _study(arguments: argparse.Namespace) -> None:
    pieces = plan_study(arguments.names or None, arguments.samples, arguments.scale, arguments.seed)
    if arguments.plan:
        estimate_study(pieces, Store(), arguments.device, lambda line: print(line, flush=True))
        return
    parcels = Parcels(arguments.parcels) if arguments.parcels else None
    run_study(
        pieces,
        arguments.hours,
        Store(),
        arguments.device,
        parcels,
        lambda line: print(line, flush=True),
    )


def _publish(arguments: argparse.Namespace) -> None:
    if arguments.hours is not None or arguments.plan or not arguments.names:
        return _study(arguments)
    store, seed, device = Store(), arguments.seed, arguments.device
    for name in arguments.names:
        recipe = get_recipe(name, arguments.scale)

        def say(artefacts: Artefact | list[Artefact], label: str = recipe.label) -> None:
            for artefact in artefacts if isinstance(artefacts, list) else [artefacts]:
                print(f"{label}: {artefact.path}", flush=True)

        if not arguments.without_members:
            say(publish_ensemble(recipe, store, device))
        recipe = bind(recipe, store)
        if arguments.classes:
            say(publish_classes(recipe, arguments.classes, seed, store, device))
        if arguments.fids:
            say(publish_fids(recipe, arguments.fids, arguments.removed, seed, store, device))
        if (
            arguments.samples
            or arguments.jacobians
            or arguments.compare
            or arguments.unattributable
            or arguments.sets
        ):
            ensemble = get_ensemble(recipe, store, device)
        if arguments.samples:
            say(publish_landscapes(ensemble, arguments.samples, seed, store))
        if arguments.unattributable:
            say(publish_unattributable(ensemble, arguments.unattributable, seed, store))
        if arguments.sets:
            say(publish_removals(ensemble, arguments.sets, seed, store))
        if arguments.jacobians:
            say(publish_jacobians(ensemble, arguments.jacobians, seed, store))
        if arguments.compare:
            say(publish_comparisons(ensemble, arguments.compare, arguments.hybrids, seed, store))
        sources = None if arguments.left_out is None else range(arguments.left_out)
        if arguments.retraining:
            say(publish_retraining(recipe, arguments.retraining, sources, seed, store, device))
        if arguments.again is not None:
            if arguments.retraining:
                say(
                    publish_retraining(
                        recipe, arguments.retraining, sources, seed, store, device, arguments.again
                    )
                )
            say(
                publish_variants(
                    recipe,
                    min(arguments.samples, VARIANT_SAMPLES),
                    arguments.again,
                    seed,
                    store,
                    device,
                )
            )


def _pages(arguments: argparse.Namespace) -> None:
    execute_pages(arguments.pages or None)


def _archive(arguments: argparse.Namespace) -> None:
    print(write_archive(arguments.file, arguments.families, arguments.wheels))


def _unpack(arguments: argparse.Namespace) -> None:
    for artefact in unpack(arguments.files):
        print(artefact.path)


def _certify(arguments: argparse.Namespace) -> None:
    store = Store()
    recipe = bind(get_recipe(arguments.name, arguments.scale), store)
    device = resolve_device(arguments.device)
    ensemble = require_ensemble(recipe, store)
    landscapes = find_landscapes(ensemble, arguments.seed, store)
    if landscapes is None or arguments.sample not in landscapes.indices:
        landscapes = read_landscapes(
            compute_landscapes(ensemble.to(device), [arguments.sample], arguments.seed, store)
        )
    certificate = make_certificate(ensemble, landscapes, arguments.sample, arguments.tau)
    path = arguments.output or f"{recipe.label}-{arguments.sample}.json"
    write_certificate(certificate, path)
    print(
        f"{path}: {certificate.statement or f'radius {certificate.radius:.6g} over {len(certificate.distances)} sources'}"
    )


def _sources(text: str) -> str | int:
    return text if text == "all" else int(text)


def _verify(arguments: argparse.Namespace) -> None:
    certificate = read_certificate(arguments.file)
    options = {} if arguments.tolerance is None else {"tolerance": arguments.tolerance}
    print(
        verify_certificate(
            certificate,
            arguments.sources,
            seed=arguments.seed,
            store=Store(),
            device=arguments.device,
            **options,
        )
    )


def _explorer(arguments: argparse.Namespace) -> None:
    recipes = [get_recipe(name, arguments.scale) for name in arguments.names or SHIPPED_NAMES]
    folder = arguments.output or (LOCAL if arguments.names else SHIPPED)
    folder = build_explorer(
        recipes,
        folder,
        arguments.samples,
        store=Store(),
        seed=arguments.seed,
        device=arguments.device,
    )
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(
        f"{folder}: {', '.join(recipe.label for recipe in recipes)}, {size / 1024:,.0f} KiB; open {folder / 'index.html'} in a browser"
    )


def main() -> int:
    """The command line; returns the exit status: 0, 1 for a certificate that is refused, 2 for a slip, 130 for an interrupt."""
    parser = argparse.ArgumentParser(prog="python -m abc_lib", description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="laptop")
    commands = parser.add_subparsers(required=True)
    listing = commands.add_parser(
        "list", help="every ensemble in the registry, and what can be done with it here"
    )
    listing.set_defaults(run=_list)
    publish = commands.add_parser(
        "publish",
        help="train ensembles, compute landscapes, put both into data/published",
        description="Without names, or with --hours or --plan, the study: what tells most first, up to --samples samples each. "
        "Otherwise what the options ask for, of each name.",
    )
    publish.add_argument("names", nargs="*")
    publish.add_argument(
        "--hours",
        type=float,
        help="a time budget for the study; what it does not suffice for is left out",
    )
    publish.add_argument(
        "--plan",
        action="store_true",
        help="do nothing; say what is at hand, and how long each piece that is missing would take on this machine",
    )
    publish.add_argument(
        "--parcels",
        metavar="FOLDER",
        help="put what the study makes into tar files of under 16 MiB as well",
    )
    publish.add_argument(
        "--samples",
        type=int,
        default=24,
        help="samples with full landscapes (0: the ensemble only)",
    )
    publish.add_argument("--jacobians", type=int, default=0, help="samples with a Jacobian")
    publish.add_argument(
        "--compare",
        type=int,
        default=0,
        help="samples whose counterfactuals are compared with the predicted ones",
    )
    publish.add_argument(
        "--hybrids", type=int, default=0, help="how many of those are computed as hybrids as well"
    )
    publish.add_argument(
        "--retraining",
        type=int,
        default=0,
        help="samples with landscapes by retraining: a model for every source left out",
    )
    publish.add_argument(
        "--left-out", type=int, help="leave out only the first so many sources by retraining"
    )
    publish.add_argument(
        "--again",
        type=int,
        metavar="SEED",
        help="also retrain, and train ensembles of other members, with this training seed",
    )
    publish.add_argument(
        "--classes",
        type=int,
        default=0,
        help="samples to classify, where the data sources are classes (the paper: 5100)",
    )
    publish.add_argument(
        "--fids",
        type=int,
        default=0,
        metavar="COUNT",
        help="samples for FIDs of the ensemble, a single model and one member (the paper: 10240)",
    )
    publish.add_argument(
        "--removed",
        type=int,
        nargs="*",
        default=[],
        metavar="K",
        help="FIDs of the ensemble without K members, too",
    )
    publish.add_argument(
        "--unattributable",
        type=int,
        default=0,
        metavar="COUNT",
        help="among how many samples to look for unattributable ones, where samples are black and white",
    )
    publish.add_argument(
        "--sets",
        type=int,
        default=0,
        metavar="SAMPLES",
        help="samples from which several sources are removed at once",
    )
    publish.add_argument(
        "--without-members",
        action="store_true",
        help="leave the ensemble itself in the cache: results alone may be small",
    )
    publish.add_argument("--seed", type=int, default=0)
    publish.add_argument("--device", default="auto")
    publish.set_defaults(run=_publish)
    pages = commands.add_parser("pages", help="execute the notebooks into the book")
    pages.add_argument(
        "pages", nargs="*", help="the book's pages, as 03_radius_mnist_1024 (default: all)"
    )
    pages.set_defaults(run=_pages)
    archive = commands.add_parser(
        "archive", help="write one file with all that the study needs on a machine without network"
    )
    archive.add_argument("file")
    archive.add_argument("families", nargs="*", help="data sets that travel along, as mnist")
    archive.add_argument(
        "--wheels", nargs="*", default=[], metavar="FILE", help="packages that the machine lacks"
    )
    archive.set_defaults(run=_archive)
    unpacking = commands.add_parser(
        "unpack", help="put the results in parcels into data/published, each checked first"
    )
    unpacking.add_argument("files", nargs="+")
    unpacking.set_defaults(run=_unpack)
    certify = commands.add_parser(
        "certify", help="write a certificate of one sample's counterfactual distances"
    )
    certify.add_argument("name")
    certify.add_argument("--sample", type=int, required=True, help="the sample's number")
    certify.add_argument(
        "--tau", type=float, help="state that the sample is nearly unattributable: radius below TAU"
    )
    certify.add_argument(
        "-o", "--output", help="the file to write (default: NAME-SCALE-SAMPLE.json)"
    )
    certify.add_argument("--seed", type=int, default=0)
    certify.add_argument("--device", default="auto")
    certify.set_defaults(run=_certify)
    verify = commands.add_parser(
        "verify", help="check a certificate by making again what it says; status 1 if it is refused"
    )
    verify.add_argument("file")
    verify.add_argument(
        "--sources",
        type=_sources,
        default="all",
        metavar="all|K",
        help="all counterfactuals, or K drawn at random",
    )
    verify.add_argument("--seed", type=int, help="what to draw them with (default: unforeseeable)")
    verify.add_argument(
        "--tolerance",
        type=float,
        help="how far a distance may be from the certificate's (default: 0.01)",
    )
    verify.add_argument("--device", default="auto")
    verify.set_defaults(run=_verify)
    explorer = commands.add_parser(
        "explorer", help="write a page to look at landscapes image by image in a browser"
    )
    explorer.add_argument(
        "names", nargs="*", help=f"ensembles (default: {' '.join(SHIPPED_NAMES)}, into the book)"
    )
    explorer.add_argument(
        "-o",
        "--output",
        help="the folder to write (default with names: book/_extra/explorer_local, which git ignores)",
    )
    explorer.add_argument(
        "--samples", type=int, default=8, help="how many samples of each ensemble"
    )
    explorer.add_argument("--seed", type=int, default=0)
    explorer.add_argument("--device", default="auto")
    explorer.set_defaults(run=_explorer)
    arguments = parser.parse_args()
    try:
        arguments.run(arguments)
    except AbcError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, CertificateRefused) else 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
