"""``drc-deploy data``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from drc_deploy.cli.options import emit, json_option
from drc_deploy.cli.training_options import option

if TYPE_CHECKING:
    from drc_deploy.train.data.prepare import Prepared


@click.group(name="data")
def command() -> None:
    """Prepare photographs for training."""


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

    Searches each DIR recursively for PNG, JPEG, WebP, TIFF and BMP files. Where it holds folders named HR or *_HR
    (DIV2K, Flickr2K, DF2K and benchmark layouts), only their images are photographs. STORE appears when it is
    complete; an interrupted run leaves nothing behind.
    """
    from drc_deploy.train.data.prepare import PrepareOptions, prepare

    prepared = prepare(folders, store, PrepareOptions(**options))
    for reason in prepared.index.skipped:
        click.echo(f"Skipped: {reason}", err=True)
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
