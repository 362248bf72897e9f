"""Data sets on disk: fetched once, resumed, checked by checksum, put in place in one step.

Training only reads: a compute node has no internet, and a thousand ranks must not all download.
A set may lie in torchvision's folders, so that one that is already there is used as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from hvd_adam.data_sources import DATASETS, Dataset, Layout, Progress, Report, SourceFailed, md5_of
from hvd_adam.errors import ConfigError, DataError
from hvd_adam.files import there


def data_root() -> Path:
    """$HVD_ADAM_DATA, or ~/.cache/hvd_adam/data."""
    return below_home(os.environ.get("HVD_ADAM_DATA") or "~/.cache/hvd_adam/data")


def below_home(path: str) -> Path:
    """The path, a ~ at its beginning replaced.

    Raises:
        ConfigError: nobody knows which folder that is, as for a user without an entry and without HOME.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            f"{path}: {error}",
            "data lies there, and ~ stands for a home folder that this system does not know",
            "write the whole path: data: /DIR in the config, or export HVD_ADAM_DATA=/DIR",
        ) from error


def names() -> list[str]:
    """The sets that can be fetched."""
    return list(DATASETS)


def present(name: str, root: Path | None = None) -> bool:
    """Whether all files of a set are there, by name alone: quick, no checksums."""
    folder = _root(root)
    return any(
        all(os.path.isfile(folder / layout.folder / file) for file in layout.checks) for layout in _known(name).layouts
    )


def verify(name: str, root: Path | None = None) -> Path:
    """The folder that holds the set, every checksum compared.

    Raises:
        DataError: files missing, damaged or unreadable; the cure names the command that fetches them.
        ConfigError: there is no set of this name.
    """
    dataset, root = _known(name), _root(root)
    faults: list[str] = []
    for layout in dataset.layouts:
        wrong = _wrong_files(root / layout.folder, layout.checks)
        if not wrong:
            return root / layout.folder
        if there(root / layout.folder):
            faults.append(f"{root / layout.folder}: {', '.join(wrong)}")
    unreadable = any(" cannot be read " in fault for fault in faults)
    raise DataError(
        f"{name}: {'; '.join(faults)}" if faults else f"{name}: no data under {root}",
        "training reads only data that is complete and whose checksums agree, and never downloads",
        f"{'let this user read the files, or ' if unreadable else ''}run: {_command(name, root)}",
    )


def get(name: str, root: Path | None = None, report: Report | None = None) -> Path:
    """Fetches a set unless it is already there, and returns the folder that holds it.

    What was fetched before an interruption is kept and used. A second caller waits for the first.
    A file appears under its name only when it is whole and its checksum agrees.

    Args:
        name: one of `names()`.
        root: folder of all sets; `data_root()` where None.
        report: is called with a line for each thing that happens.

    Raises:
        DataError: no source delivered, or the folder cannot be written.
        ConfigError: there is no set of this name.
    """
    dataset, root = _known(name), _root(root)
    say = Progress(report or (lambda line: None))
    if folder := _whole(name, root):  # also where this user may not write
        say(f"{name}: already in {folder}, checksums agree")
        return folder
    with _writable(root), _lock(root, name, say):
        if folder := _whole(name, root):  # fetched by another meanwhile
            say(f"{name}: already in {folder}, checksums agree")
            return folder
        work = root / ".partial" / name
        work.mkdir(parents=True, exist_ok=True)
        folder = _from_any_source(dataset, root, work, say)
        shutil.rmtree(work)
    say(f"{name}: in {folder}, checksums agree")
    return folder


def stage(name: str, root: Path | None, local: Path, report: Report | None = None) -> Path:
    """Copies a set to a disk of this node, once, and returns the root to read from.

    All ranks of a node may call it together: the first copies, the others wait for it. A set that is
    not fetched by name (bundled, synthetic, a folder of one's own) is left where it is: `root` comes back.

    Raises:
        DataError: the set is not whole under `root`, or `local` cannot be written.
    """
    source_root, local = _root(root), Path(local)
    if name not in DATASETS:
        return source_root
    say = report or (lambda line: None)
    if _whole(name, local):
        return local
    with _writable(local), _lock(local, name, say):
        if _whole(name, local):
            return local
        folder = verify(name, source_root)
        layout = next(la for la in DATASETS[name].layouts if source_root / la.folder == folder)
        say(f"{name}: copying {folder} to {local}")
        work = local / ".partial" / name
        work.mkdir(parents=True, exist_ok=True)
        for file in layout.checks:
            shutil.copyfile(folder / file, work / file)
        try:
            _put_in_place(name, work, local, layout)
        except SourceFailed as failure:
            raise DataError(
                f"{name}: copied to {local}, and {failure}",
                "what was read there is not what was written",
                "look at that disk, or leave out stage",
            ) from failure
        shutil.rmtree(work)
    return local


# The steps of get.


def _whole(name: str, root: Path) -> Path | None:
    """The folder below `root` that holds the whole set; None where none does."""
    with contextlib.suppress(DataError):
        return verify(name, root)
    return None


def _from_any_source(dataset: Dataset, root: Path, work: Path, say: Progress) -> Path:
    reasons = []
    for source, layout in dataset.sources:
        say(f"{dataset.name}: from {source.title}")
        try:
            return _put_in_place(dataset.name, source.fill(work, layout.checks, say), root, layout)
        except SourceFailed as failure:
            say(f"{dataset.name}: {source.title}: {failure}")
            reasons.append(f"{source.title}: {failure}")
    raise DataError(
        f"{dataset.name}: no source delivered it ({'; '.join(reasons)})",
        "each was tried in turn; what has arrived is kept, and the next call goes on from there",
        f"run {_command(dataset.name, root)} where there is a network, or copy the files to "
        f"{root / dataset.layouts[0].folder} by hand",
    )


def _put_in_place(name: str, filled: Path, root: Path, layout: Layout) -> Path:
    wrong = _wrong_files(filled, layout.checks)
    if wrong:
        for file in layout.checks:
            (filled / file).unlink(missing_ok=True)
        raise SourceFailed(f"after fetching, {', '.join(wrong)}")
    folder = root / layout.folder
    folder.mkdir(parents=True, exist_ok=True)
    for file in layout.checks:
        with (filled / file).open("rb") as written:
            os.fsync(written.fileno())
        os.replace(filled / file, folder / file)
    return folder


def _wrong_files(folder: Path, checks: Mapping[str, str]) -> list[str]:
    """What is wrong, file by file: "NAME is missing", "NAME has another checksum"; empty where nothing is."""
    wrong = []
    for file, expected in checks.items():
        try:
            found = md5_of(folder / file)
        except FileNotFoundError:
            wrong.append(f"{file} is missing")
        except OSError as error:
            wrong.append(f"{file} cannot be read ({error.strerror})")
        else:
            if found != expected:
                wrong.append(f"{file} has another checksum (md5 {found}, not {expected})")
    return wrong


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise DataError(
            f"{folder}: {error.strerror or error}",
            "the data is written there",
            "choose a folder that you may write, with room: --root DIR, or export HVD_ADAM_DATA=DIR",
        ) from error


@contextlib.contextmanager
def _lock(root: Path, name: str, say: Report) -> Iterator[None]:
    with (root / f".{name}.lock").open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name}: another process is at it; waiting")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _root(root: Path | None) -> Path:
    return data_root() if root is None else Path(root)


def _command(name: str, root: Path) -> str:
    return f"hvd-adam data get {name}" + ("" if root == data_root() else f" --root {root}")


def _known(name: str) -> Dataset:
    if name not in DATASETS:
        raise ConfigError(
            f"data: {name}",
            "there is no set of this name to fetch (digits is bundled, synthetic tasks need none)",
            f"choose one of {', '.join(DATASETS)}",
        )
    return DATASETS[name]
