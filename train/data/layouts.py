"""Which files of a folder are photographs to train on, and which LR images belong to them.

A folder named ``HR`` or ``*_HR`` makes its tree a data set such as DIV2K, Flickr2K, DF2K or a benchmark: only its HR
folders hold photographs then. The LR images of ``DIV2K_train_HR/0001.png`` lie next to that folder, for example as
``DIV2K_train_LR_bicubic/X4/0001x4.png``; those of ``HR/baby.png`` as ``LRx4/baby.png``. In a tree without such names
every image is a photograph.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from drc_deploy.images.finding import find_images, is_hidden, list_images, walk

_HR_NAME = re.compile(r"(?P<set>|.*_)HR", re.IGNORECASE)
_LR_NAME = re.compile(r"(.*_)?LR(_.*|x\d.*)?", re.IGNORECASE)
_HELD_OUT_NAME = re.compile(r"(.*_)?(valid|val|test)_HR", re.IGNORECASE)
_FACTOR = re.compile(r"_?x(\d+)", re.IGNORECASE)
_PLAIN_KINDS = ("", "bicubic")
"""Names of the usual reduction; ``unknown``, ``sym`` and others give way to them."""


@dataclass(frozen=True, slots=True)
class PhotographFiles:
    """The files of one photograph."""

    name: str
    """Path of the HR image below the folder that the user gave."""
    hr: Path
    lr: tuple[tuple[int, Path], ...] = ()
    """Reduction factor and file of each LR image, smallest factor first."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What was found, and a sentence for all that was left out."""

    found: tuple[PhotographFiles, ...]
    skipped: tuple[str, ...]


def find_sources(folders: Sequence[Path], *, paired: bool) -> Sources:
    """Find the photographs of ``folders`` in a fixed order, each file once.

    Args:
        folders: Searched recursively.
        paired: Whether each photograph needs the LR images of its data set; one without them is left out.
    """
    found: dict[Path, PhotographFiles] = {}
    skipped: list[str] = []
    for folder in folders:
        photographs, left_out = _photographs_below(folder)
        skipped += [*left_out, *_not_searched(folder)]
        for hr_folder, paths in photographs.items():
            sources = [PhotographFiles(path.relative_to(folder).as_posix(), path) for path in paths]
            if paired:
                pairing = _Pairing(hr_folder)
                sources = pairing.match(sources)
                skipped += pairing.skipped
            for source in sources:
                found.setdefault(source.hr.resolve(), source)
    return Sources(tuple(found.values()), tuple(skipped))


def _not_searched(root: Path) -> list[str]:
    """Return a sentence for each folder below ``root`` that is closed to us or a link, which could lead in circles."""
    sentences: list[str] = []

    def closed(error: OSError) -> None:
        sentences.append(f"{error.filename} cannot be searched: {error.strerror}.")

    for parent, folders, _ in walk(root, onerror=closed):
        links = [folder for name in folders if (folder := Path(parent, name)).is_symlink()]
        sentences += [f"{link} is a link to a folder, which is not followed." for link in links]
    return sorted(sentences)


def _photographs_below(root: Path) -> tuple[dict[Path, list[Path]], list[str]]:
    """Return the photographs by HR folder, without such folders all of them by the root; and what was left out."""
    searched, skipped = find_images(root), []
    images = searched.files
    if left_out := searched.left_out(str(root)):
        skipped.append(left_out)
    photographs: dict[Path, list[Path]] = defaultdict(list)
    outside = []
    for image in images:
        folder = _named_folder(root, image)
        if folder is None:
            outside.append(image)
        elif _HR_NAME.fullmatch(folder.name):
            photographs[folder].append(image)
    if not photographs:
        return {root: images}, skipped
    for folder in [folder for folder in photographs if _HELD_OUT_NAME.fullmatch(folder.name)]:
        held_out = photographs.pop(folder)
        skipped.append(f"{folder} is for validation or tests: its {len(held_out)} images are left out.")
    if outside:
        skipped.append(f"{root} has HR folders; {len(outside)} images lie elsewhere, as {outside[0]}.")
    return photographs, skipped


def _named_folder(root: Path, image: Path) -> Path | None:
    """Return the nearest folder above ``image`` and below ``root`` whose name says HR or LR."""
    for folder in image.parents[: len(image.relative_to(root).parts) - 1]:
        if _HR_NAME.fullmatch(folder.name) or _LR_NAME.fullmatch(folder.name):
            return folder
    return None


class _Pairing:
    """The LR images that belong to one HR folder."""

    def __init__(self, hr_folder: Path) -> None:
        self.skipped: list[str] = []
        self._hr_folder = hr_folder
        self._folders: dict[int, Path] = {}
        self._files: dict[int, dict[str, Path]] = {}
        for factor, folder in _lr_folders(hr_folder):
            if factor in self._folders:
                used = self._folders[factor]
                self.skipped.append(f"{folder} is not used: {used} holds the LR images of the same factor.")
                continue
            self._folders[factor] = folder
            self._files[factor] = {_stem_below(folder, path): path for path in reversed(list_images(folder))}

    def match(self, sources: list[PhotographFiles]) -> list[PhotographFiles]:
        """Add their LR images to ``sources``; those that lack one are left out."""
        if not self._files:
            self.skipped.append(f"{self._hr_folder} has no LR folders: its {len(sources)} images are left out.")
            return []
        return [matched for source in sources if (matched := self._match_one(source))]

    def _match_one(self, source: PhotographFiles) -> PhotographFiles | None:
        stem = _stem_below(self._hr_folder, source.hr)
        lr = []
        for factor, files in sorted(self._files.items()):
            path = files.get(stem) or files.get(f"{stem}x{factor}")
            if path is None:
                self.skipped.append(f"{source.hr} has no LR image in {self._folders[factor]}.")
                return None
            lr.append((factor, path))
        return replace(source, lr=tuple(lr))


def _stem_below(folder: Path, path: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _lr_folders(hr_folder: Path) -> list[tuple[int, Path]]:
    """Return factor and path of the LR folders next to ``hr_folder``, the usual kinds first."""
    hr_folder = hr_folder.absolute()  # a folder given as `.` has neither name nor siblings
    named = _HR_NAME.fullmatch(hr_folder.name)
    if not named:
        return []
    start = f"{named['set']}LR".lower()
    found = []
    for sibling in _folders_in(hr_folder.parent):
        if not (sibling.name.lower().startswith(start) and _LR_NAME.fullmatch(sibling.name)):
            continue
        rest = sibling.name[len(start) :]
        kind = _FACTOR.sub("", rest, count=1).strip("_").lower()
        for candidate in (sibling,) if _FACTOR.search(rest) else _folders_in(sibling):
            factor = _FACTOR.search(rest) or _FACTOR.fullmatch(candidate.name)
            if factor and _is_power_of_two(int(factor[1])):
                found.append((kind not in _PLAIN_KINDS, int(factor[1]), candidate))
    return [(factor, folder) for _, factor, folder in sorted(found)]


def _folders_in(folder: Path) -> list[Path]:
    # glob("*/") gives files too in Python 3.10
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name))


def _is_power_of_two(factor: int) -> bool:
    return factor > 1 and factor & (factor - 1) == 0
