"""``drc-deploy data``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drc_deploy.cli.options import emit, json_option
from drc_deploy.cli.training_options import NameOrFile, option
from drc_deploy.printing import say
from drc_deploy.train.degradation.settings import NAMES

if TYPE_CHECKING:
    from drc_deploy.train.data.prepare import Prepared


@click.group(name="data")
def command() -> None:
    """Prepare photographs for training, and degraded images for tests."""


@command.command(name="prepare", short_help="Decode folders of images once, into a store.")
@click.argument(
    "folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@click.option(
    "-o",
    "--output",
    "store",
    metavar="STORE",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the store.",
)
@option(
    "--lr",
    type=click.Choice(["made", "paired"]),
    default="made",
    help="Make LR images when training (bicubic), or store those next to the HR folders.",
)
@option(
    "--min-side",
    metavar="PIXELS",
    type=click.IntRange(1),
    default=96,
    help="Smallest height and width of a photograph.",
)
@click.option("--restart", is_flag=True, help="Replace the store that is there.")
@json_option
def prepare_command(folders: tuple[Path, ...], store: Path, as_json: bool, **options: Any) -> None:
    """Decode folders of images once, into a store that training maps into memory.

    Searches each DIR recursively for images of every format that `upscale` reads. Where it holds folders named HR
    or *_HR (DIV2K, Flickr2K, DF2K and benchmark layouts), only their images are photographs. STORE appears when it
    is complete; an interrupted run leaves nothing behind.
    """
    from drc_deploy.train.data.prepare import PrepareOptions, prepare

    prepared = prepare(folders, store, PrepareOptions(**options))
    for reason in prepared.index.skipped:
        say(f"Skipped: {reason}", err=True)
    summary = _summary(store, prepared)
    emit(summary, as_json=as_json, text=_text(summary))


def _summary(store: Path, prepared: "Prepared") -> dict[str, Any]:
    index = prepared.index
    return {
        "store": str(store),
        "made": prepared.made,
        "images": len(index.entries),
        "megapixels": round(sum(entry.hr.height * entry.hr.width for entry in index.entries) / 1e6, 2),
        "lr_factors": sorted({factor for entry in index.entries for factor, _ in entry.lr}),
        "bytes": index.size,
        "sha256": index.sha256,
        "skipped": list(index.skipped),
    }


def _text(summary: dict[str, Any]) -> str:
    paired = "".join(f", LR x{factor}" for factor in summary["lr_factors"])
    return (
        f"{'Wrote' if summary['made'] else 'Nothing to do: these photographs are already in'} {summary['store']}\n"
        f"{summary['images']} images, {summary['megapixels']} megapixels{paired}, {summary['bytes']} bytes\n"
        f"{len(summary['skipped'])} skipped\n"
        f"Next: drc-deploy train --model drn_xs --data {summary['store']}"
    )


@command.command(name="degrade", short_help="Make a benchmark set of degraded images.")
@click.argument("folder", metavar="HR_DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "-o",
    "--output",
    "target",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the set.",
)
@click.option(
    "--degradation",
    type=NameOrFile(NAMES),
    metavar="NAME|FILE",
    required=True,
    help=f"What is done to the images: {', '.join(NAMES)}, or a TOML file.",
)
@option("--scale", type=click.IntRange(2, 16), default=4, help="How much smaller LR images are.")
@option("--seed", default=1, help="Seed of kernels, noise and JPEG.")
@click.option("--restart", is_flag=True, help="Replace the set that is there.")
@json_option
def degrade_command(folder: Path, target: Path, as_json: bool, **options: Any) -> None:
    """Make a benchmark set of degraded images, for `eval`, `bench` and --eval.

    HR_DIR holds images, or a folder HR of them. DIR is made with HR/, LRx4/ at x4, the blur kernel of each image, and
    a record of all settings. It is for one scale, and appears when it is complete.
    """
    from drc_deploy.train.degradation.benchmark_set import SetOptions, make_set

    made = SetOptions(**options)
    record = make_set(folder, target, made)
    kernels = f", {made.kernel_folder}/" if (target / made.kernel_folder).is_dir() else ""
    text = f"Wrote {target}: {len(record['images'])} images in HR/, {made.lr_folder}/{kernels}; {made.record}\n"
    if made.degradation == "div2krk":
        text += "It is a stand-in for DIV2KRK: kernels are drawn by the same rule, the images are others.\n"
    text += f"Next: drc-deploy eval {'drn_e' if made.scale == 4 else f'bicubic --scale {made.scale}'} --data {target}"
    emit({"folder": str(target), **record}, as_json=as_json, text=text)
