"""``drc-deploy upscale``."""

import dataclasses
from pathlib import Path

import click

from drc_deploy.cli import options
from drc_deploy.errors import DrcDeployError


@click.command(short_help="Upscale images with an engine.")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...", type=click.Path(path_type=Path))
@click.option("--engine", help="A .plan, .onnx or checkpoint, or a name.  [default: the newest in --workdir]")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File or folder.  [default: INPUT_x4.png]")
@click.option("--overwrite", is_flag=True, help="Write over files that exist.")
@click.option("--tile", type=click.IntRange(1), help="Largest side of a tile in input pixels.")
@click.option("--overlap", type=click.IntRange(0), help="Context around each tile in input pixels.")
@options.threads_option
@options.workdir_option
@options.json_option
def command(
    inputs: tuple[Path, ...],
    engine: str | None,
    output: Path | None,
    overwrite: bool,
    tile: int | None,
    overlap: int | None,
    threads: int | None,
    workdir: Path,
    as_json: bool,
) -> None:
    """Upscale images, or folders of images, of any size.

    Grey and RGB, with and without transparency, 8 and 16 bit; colour profiles are kept. INPUT is PNG, JPEG, WebP, TIFF
    or BMP. A file in.png becomes in_x4.png beside it, a folder FOLDER becomes FOLDER_x4; nothing is written over.
    """
    from drc_deploy.locate import find_engine
    from drc_deploy.runtime.jobs import newest_engine, plan_jobs, run_jobs
    from drc_deploy.runtime.upscaler import Upscaler

    path = find_engine(engine, workdir) if engine else newest_engine(workdir)
    if not engine:
        click.echo(f"Using the newest engine: {path}", err=True)
    with Upscaler.open(path, tile=tile, overlap=overlap, threads=threads) as upscaler:
        jobs = plan_jobs(inputs, output, upscaler.info.scale)
        finished, failed = run_jobs(upscaler, jobs, overwrite=overwrite)
        result = {
            "files": [dataclasses.asdict(item) for item in finished],
            "failed": [dataclasses.asdict(item) for item in failed],
            "engine": str(path),
            "device": upscaler.device,
        }
    lines = [f"{item.output}  {item.width}x{item.height}  {item.seconds:.1f} s" for item in finished]
    if as_json or lines:
        options.emit(result, as_json=as_json, text="\n".join(lines))
    if len(jobs) == 1 and failed:
        raise DrcDeployError(failed[0].error, failed[0].hint)
    for item in failed:
        click.echo(f"Failed: {item.error} {item.hint}", err=True)
    if failed:
        raise DrcDeployError(f"{len(failed)} of {len(jobs)} images could not be upscaled.", "See above.")
