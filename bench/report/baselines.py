"""The quality of bicubic upscaling that two reports share."""

from drc_deploy.bench.measure.quality import Quality
from drc_deploy.bench.report.records import Report

Scored = tuple[str, float]


def shared_baselines(before: Report, after: Report) -> dict[int, tuple[list[Scored], list[Scored]]]:
    """Return for each scale of both reports the images with the PSNR of bicubic upscaling, to four digits."""
    sides = ({item.scale: _scored(item.quality) for item in report.baselines} for report in (before, after))
    first, second = sides
    return {scale: (first[scale], second[scale]) for scale in sorted(first.keys() & second.keys())}


def _scored(quality: Quality) -> list[Scored]:
    return [(row.image, round(row.psnr_y or 0, 4)) for row in quality.rows]
