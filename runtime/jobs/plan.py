"""Which image or video goes where: files, folders, patterns, standard streams, and all of them on storage elsewhere."""

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import NamedTuple, TypeVar

from drc_deploy.errors import InputError, UsageError
from drc_deploy.images.animation.reading import begins_animation, is_animation
from drc_deploy.images.finding import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Found, files_below, is_hidden, is_video
from drc_deploy.images.formats import FORMATS, OUTPUT_SUFFIXES
from drc_deploy.runtime.jobs.streams import STREAM
from drc_deploy.runtime.remote.url import Place, Url, is_url, place_of

_log = logging.getLogger(__name__)

_WILDCARDS = "*?["
_KNOWN = f"Known are {', '.join((*IMAGE_SUFFIXES, *VIDEO_SUFFIXES))}."
WRITTEN_VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm")
_ANIMATED_SUFFIXES = tuple(suffix for suffix, kind in FORMATS.items() if kind.animated)
_ANY_VIDEO_SUFFIX = ".mkv"
"""Holds most streams."""
_HEAD_BYTES = 8 << 20
"""Of a file on storage elsewhere, which show two frames where there are two."""


@dataclass(frozen=True, slots=True)
class Job:
    """One image or video to upscale, wherever it is."""

    source: Place | None
    """None is standard input."""
    target: Place | None
    """None is standard output, which gets a PNG."""
    animated: bool = False
    """Whether the source is an animation, and the target holds all of its frames."""

    @property
    def input_name(self) -> str:
        """Name of the input in messages and reports."""
        return "standard input" if self.source is None else str(self.source)

    @property
    def output_name(self) -> str:
        """Name of the output in messages and reports."""
        return "standard output" if self.target is None else str(self.target)

    @property
    def makes_video(self) -> bool:
        """Whether the result is a video: of a video, or of an animation."""
        return self.target is not None and self.target.suffix.lower() in WRITTEN_VIDEO_SUFFIXES

    @property
    def title(self) -> str:
        """The input without its folder."""
        return self.input_name if self.source is None else self.source.name


@dataclass(frozen=True, slots=True)
class UpscaleJob(Job):
    """One of this machine."""

    source: Path | None
    target: Path | None


@dataclass(frozen=True, slots=True)
class RemoteJob(Job):
    """One whose source or target, or both, are on storage elsewhere. It says of animations only which must be one."""


_OneKind = TypeVar("_OneKind", Path, Url)
_Files = tuple[Place, Place]
"""Source and target of a job from file to file."""


@dataclass(frozen=True, slots=True)
class _Tree:
    """Images and videos below a folder, which all go below another one."""

    name: str
    """As the user gave it."""
    folder: Place
    files: Sequence[Place]


class _Naming(NamedTuple):
    """What the names are made of that results get here."""

    label: str
    suffix: str | None
    """Of images, where one is asked for."""

    def suffix_of(self, source: Place) -> str:
        """Return the suffix of a result: animations and videos keep their own where that is written here."""
        if not is_video(source):
            if self.suffix:
                return self.suffix
            return source.suffix if source.suffix.lower() in _ANIMATED_SUFFIXES and _is_animation(source) else ".png"
        return source.suffix if source.suffix.lower() in WRITTEN_VIDEO_SUFFIXES else _ANY_VIDEO_SUFFIX


def _is_animation(source: Place) -> bool:
    if isinstance(source, Path):
        return is_animation(source)
    if source.suffix.lower() == ".png":
        return False  # its result is a PNG in either case
    from drc_deploy.runtime.remote import storage

    return begins_animation(storage.beginning(source, _HEAD_BYTES))


def plan_jobs(inputs: Sequence[str], output: str | None, label: str, suffix: str | None = None) -> list[Job]:
    """Decide where each image and each video goes.

    A file ``in.png`` goes to ``in_x4.png`` next to it, where ``x4`` is the ``label``, or to ``output``: a file when
    that has the suffix of such a result and there is one input, else a folder. A folder goes to ``FOLDER_x4``, or to
    ``output``, with its tree kept. A pattern such as ``FOLDER/**/*.jpg`` means what it matches and goes where its
    folder would; a name with such characters that exists is a name. ``-`` is standard input, and standard output as
    ``output``. ``suffix`` takes the place of ``.png`` in the names that are made here, which is else ``.gif`` or
    ``.webp`` for animations of these kinds. An animation goes into a video too, as ``output``. Each name may
    be a URL.

    Raises:
        InputError: a folder without images and videos, or a pattern that matches none.
        UsageError: ``output`` is no folder and no name of an image, one of another format than ``suffix``, or the input
            folder; two results, or a result and an input, would be one file; a standard stream goes together with
            files; an input has no name.
    """
    if "" in inputs:
        raise UsageError("an input has an empty name.", "Look at the variable that should hold it.")
    into, several = None if output is None else place_of(output), len(inputs) > 1
    if isinstance(into, Url) and into.over_http:
        raise UsageError(
            f"{into} cannot be written: HTTP only reads.", "Give -o a file, a folder or an s3:// or gs:// URL."
        )
    _check_suffix(into, suffix)
    if STREAM in inputs or output == STREAM:
        return [_stream_job(inputs, output, into)]
    naming = _Naming(label, suffix)
    jobs: list[_Files] = []
    for name in inputs:
        source = place_of(name)
        tree = _tree_of(name, source)
        if tree is not None:
            jobs += _tree_jobs(tree, _tree_target(tree, into, label, several=several), naming)
        else:
            jobs.append((source, _file_target(source, into, naming, alone=not several)))
    jobs = _with_distinct_targets(list(dict.fromkeys(jobs)))
    _refuse_clashes(jobs)
    return [_job(source, target) for source, target in jobs]


def _job(source: Place | None, target: Place | None) -> Job:
    if isinstance(source, Url) or isinstance(target, Url):
        job = RemoteJob(source, target)
        return replace(job, animated=job.makes_video and source is not None and not is_video(source))
    return file_job(source, target) if source and target else UpscaleJob(source, target)


def file_job(source: Path, target: Path) -> UpscaleJob:
    """Return the job from a file to a file."""
    kept = (*_ANIMATED_SUFFIXES, *WRITTEN_VIDEO_SUFFIXES)
    return UpscaleJob(source, target, target.suffix.lower() in kept and not is_video(source) and is_animation(source))


def _is_folder(place: Place) -> bool:
    if isinstance(place, Path):
        return os.path.isdir(place)
    from drc_deploy.runtime.remote import storage

    return storage.is_folder(place)


def _check_suffix(output: Place | None, suffix: str | None) -> None:
    """Refuse a format and the name of a file of another one."""
    if suffix is None or output is None or _is_folder(output):
        return
    named = FORMATS.get(output.suffix.lower())
    if str(output) == STREAM or named not in (None, FORMATS[suffix]):
        raise UsageError(
            f"the output {output} is a {'PNG' if named is None else named.name}, and --format asks for "
            f"{FORMATS[suffix].name}.",
            "Leave out --format, or give -o a folder.",
        )


def _stream_job(inputs: Sequence[str], output: str | None, into: Place | None) -> Job:
    first = place_of(inputs[0])
    if len(inputs) > 1 or is_video(first) or _tree_of(inputs[0], first) is not None:
        raise UsageError(
            "a standard stream holds one image.", "Give one image together with `-`, or write to a folder."
        )
    source = None if inputs[0] == STREAM else first
    if output == STREAM:
        return _job(source, None)
    if into is None or _is_folder(into) or into.suffix.lower() not in OUTPUT_SUFFIXES:
        raise UsageError(
            "an image from standard input has no name that the result could get.",
            "Give one, such as -o out.png, or -o - for standard output.",
        )
    return _job(source, into)


def _file_target(source: Place, output: Place | None, naming: _Naming, *, alone: bool) -> Place:
    if isinstance(source, Url):
        _check_names_file(source, next_to=output is None)
    if output is None:
        return source.with_name(_result_name(source, naming))
    if not output.suffix or _is_folder(output):
        return output / _result_name(source, naming)
    what, suffixes = ("video", WRITTEN_VIDEO_SUFFIXES) if is_video(source) else ("image", OUTPUT_SUFFIXES)
    suffix = output.suffix.lower()
    if alone and (suffix in suffixes or (suffix in WRITTEN_VIDEO_SUFFIXES and _may_be_animation(source))):
        return output
    if not alone:
        raise UsageError(f"there are several inputs, and {output} is the name of one file.", "Give a folder with -o.")
    raise UsageError(
        f"the result is one {what}, and a {suffix} is none that is written here.",
        f"End it in one of {', '.join(suffixes)}, or make the folder first.",
    )


def _result_name(source: Place, naming: _Naming) -> str:
    return f"{source.stem}_{naming.label}{naming.suffix_of(source)}"


def _may_be_animation(source: Place) -> bool:
    return isinstance(source, Url) or is_animation(source)  # the former is known when it has been fetched


def _check_names_file(url: Url, *, next_to: bool) -> None:
    """Refuse a URL that cannot be a file, or that no result can lie next to.

    Raises:
        UsageError: it is one.
    """
    if not url.name:
        hint = "Give the URL of a file. HTTP lists no folders." if url.over_http else "Give a bucket that is there."
        raise UsageError(f"{url} names no file.", hint)
    if next_to and url.over_http:
        raise UsageError(
            f"no result can be written next to {url}: HTTP only reads.", "Give a file or a folder with -o."
        )


def _tree_of(name: str, place: Place) -> _Tree | None:
    """Return the files that the name of a folder or a pattern stands for; None for the name of a file."""
    if isinstance(place, Url):
        return _tree_there(place)
    return _tree(str(place) if is_url(name) else name)


def _tree(name: str) -> _Tree | None:
    if os.path.isdir(name):  # Path's own raises for a name that is too long
        return _found_tree(name, Path(name), files_below(Path(name)), f"{name} holds no images or videos.")
    if os.path.lexists(name) or not any(character in name for character in _WILDCARDS):
        return None
    return _matches(name)


def _matches(pattern: str) -> _Tree:
    """Return the files that match a pattern, and all in the folders that do, as a shell would have named them."""
    parts = Path(os.path.expanduser(pattern)).parts
    fixed = next(index for index, part in enumerate(parts) if any(character in part for character in _WILDCARDS))
    folder = Path(*parts[:fixed])
    if ".." in parts[fixed:]:
        raise UsageError(f"{pattern} leaves the folder that it is about.", "Put `..` before the first wildcard only.")
    files: set[Path] = set()
    try:
        for path in folder.glob(str(Path(*parts[fixed:]))):
            if not _is_hidden_below(folder, path, parts[fixed:]):
                files.update(files_below(path) if path.is_dir() else [path])
    except ValueError as error:
        raise UsageError(f"{pattern} is not a pattern: {error}.", "Use ** only as a whole folder name.") from error
    return _found_tree(pattern, folder, files, f"no image or video matches {pattern}.")


def _tree_there(url: Url) -> _Tree | None:
    from drc_deploy.runtime.remote import storage

    if storage.is_folder(url):
        files = _visible_there(str(url), url, storage.files_below(url), ())
        return _found_tree(str(url), url, files, f"{url} holds no images or videos.")
    wild = next((index for index, character in enumerate(url.rest) if character in _WILDCARDS), None)
    if wild is None or url.over_http or storage.is_file(url):
        return None
    fixed, _, _ = url.rest[:wild].rpartition("/")
    folder, pattern = Url(url.scheme, fixed), url.rest.removeprefix(fixed).removeprefix("/")
    files = _visible_there(str(url), folder, storage.matches(folder, pattern), pattern.split("/"))
    return _found_tree(str(url), folder, files, f"no image or video matches {url}.")


def _visible_there(name: str, folder: Url, files: Sequence[Url], parts: Sequence[str]) -> list[Url]:
    """Return files below ``folder`` in no hidden folder but one that a pattern's ``parts`` name.

    Keys with ``..`` are names to storage, and lead out of the folder of results on a disk: none is taken, which is
    noted.
    """
    kept = [file for file in files if not {".", ".."} & set(file.rest.removeprefix(folder.rest).split("/"))]
    if left_out := len(files) - len(kept):
        are, their = ("files are", "their names") if left_out > 1 else ("file is", "its name")
        _log.warning("%s: %d %s left out: `.` or `..` is a part of %s.", name, left_out, are, their)
    return [file for file in kept if not _is_hidden(file.relative_to(folder).parts[:-1], parts)]


def _is_hidden_below(folder: Path, path: Path, parts: Sequence[str]) -> bool:
    """Return whether ``path`` lies in a hidden folder below ``folder`` that none of a pattern's ``parts`` names."""
    return _is_hidden(path.relative_to(folder).parts[: None if path.is_dir() else -1], parts)


def _is_hidden(between: Sequence[str], parts: Sequence[str]) -> bool:
    named = [part for part in parts if is_hidden(part)]
    return any(is_hidden(name) and not any(fnmatch(name, part) for part in named) for name in between)


def _found_tree(name: str, folder: _OneKind, files: Iterable[_OneKind], nothing: str) -> _Tree:
    """Return images and videos among ``files``, with a note of what is left out; ``nothing`` is the error without any.

    Raises:
        InputError: there is none.
    """
    found = Found.among(files, videos=True)
    left_out = found.left_out(name)
    if not found.files:
        raise InputError(nothing, f"{left_out} {_KNOWN}".lstrip())
    if left_out:
        _log.warning(left_out)
    return _Tree(name, folder, found.files)


def _tree_target(tree: _Tree, output: Place | None, label: str, *, several: bool) -> Place:
    # `.` and `..` have no name of their own.
    folder = tree.folder if tree.folder.name not in ("", "..") else tree.folder.resolve()
    if output is None:
        if not folder.name:
            raise UsageError(f"there is no place next to {folder} for the results.", "Give a folder with -o.")
        return folder.with_name(f"{folder.name}_{label}")
    if output.suffix.lower() in (*OUTPUT_SUFFIXES, *WRITTEN_VIDEO_SUFFIXES) and not _is_folder(output):
        raise UsageError(f"{output} is the name of one file.", f"Give a folder with -o for those of {tree.name}.")
    return output / folder.name if several else output


def _tree_jobs(tree: _Tree, into: Place, naming: _Naming) -> list[_Files]:
    whole, inside = tree.folder.resolve(), into.resolve()
    if inside == whole:
        raise UsageError(f"{tree.folder} is where the inputs come from.", "Give another folder with -o.")
    files = tree.files
    if whole in inside.parents:
        # A second run must not take the results of the first for inputs.
        files = [path for path in files if inside not in path.resolve().parents]
    if not files:
        raise InputError(f"{tree.name} holds nothing but results.", "Give another folder.")
    return [(path, into / _below(path, tree.folder).with_suffix(naming.suffix_of(path))) for path in files]


def _below(path: Place, folder: Place) -> PurePath:
    return path.relative_to(folder)  # type: ignore[arg-type]  # both are of one kind


def _with_distinct_targets(jobs: list[_Files]) -> list[_Files]:
    """Add the suffix to the names of ``a.jpg`` and ``a.png`` where both would become ``a.png``."""
    count = Counter(target for _, target in jobs)
    return [
        (source, target if count[target] == 1 else target.with_stem(f"{target.stem}_{source.suffix[1:]}"))
        for source, target in jobs
    ]


def _refuse_clashes(jobs: Sequence[_Files]) -> None:
    """Refuse jobs that would write over each other's result or input, which --overwrite does not mean."""
    sources = {_real(source): source for source, _ in jobs}
    earlier: dict[str, Place] = {}
    for source, target in jobs:
        real = _real(target)
        if real in earlier:
            raise UsageError(
                f"{earlier[real]} and {source} would both become {target}.",
                "Upscale them one after the other, each with its own -o.",
            )
        if sources.get(real, source) != source:
            raise UsageError(
                f"the result of {source} would replace {target}, which is an input too.",
                "Give another folder with -o.",
            )
        earlier[real] = source
    _refuse_names_of_one_case([(source, target) for source, target in jobs if isinstance(source, Url)])


def _refuse_names_of_one_case(jobs: Sequence[_Files]) -> None:
    """Refuse results that a disk would write over each other, where storage keeps their sources apart by case."""
    earlier: dict[str, Place] = {}
    for source, target in jobs:
        if isinstance(target, Path):
            other = earlier.setdefault(os.path.realpath(target).casefold(), source)
            if other != source and _folds_case(target):
                raise UsageError(
                    f"the disk of {target} takes it for another result: {other} and {source} differ in case only.",
                    "Upscale them one after the other, each with its own -o.",
                )


def _folds_case(target: Path) -> bool:
    """Return whether the disk takes names that differ in case only for one; False where that cannot be found out."""
    folder = next(folder for folder in target.absolute().parents if folder.exists())
    try:
        with tempfile.NamedTemporaryFile(prefix=".aA", dir=folder) as file:
            return os.path.exists(Path(file.name).with_name(Path(file.name).name.swapcase()))
    except OSError:  # writing will say why
        return False


def _real(place: Place) -> str:
    return os.path.realpath(place) if isinstance(place, Path) else place.full
