"""The images of a run, and the sizes they are brought to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drc_deploy.locate import sample_images
from drc_deploy.pairs import PairSource, Photograph, find_pairs


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Where the images for quality come from: a folder of pairs, or the photographs that ship with the package."""

    data: Path | None
    lr_folder: str | None
    """Folder of LR images inside ``data``; None means ``LRx`` and the scale."""

    @property
    def description(self) -> str:
        """Say where they come from."""
        if self.data is not None:
            return str(self.data)
        return f"photographs that ship with drc-deploy: {', '.join(path.stem for path in sample_images())}"

    @property
    def lr_made_by(self) -> str:
        """Say how the LR images came to be."""
        if self.data is not None:
            return f"files in {self.lr_folder}/" if self.lr_folder else "files in LRx and the scale, such as LRx4/"
        return "bicubic reduction with antialiasing, as MATLAB's imresize"

    def sources(self, scale: int) -> Sequence[PairSource]:
        """Return the pairs for a scale.

        Raises:
            InputError: the folder has no usable pairs.
        """
        if self.data is not None:
            return find_pairs(self.data, self.lr_folder or f"LRx{scale}", scale)
        return [Photograph(path) for path in sample_images()]
