"""MNIST and Fashion-MNIST: 60,000 training and 10,000 test images, 28x28, grey, ten classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from hvd_adam import data
from hvd_adam.errors import DataError
from hvd_adam.tasks import models
from hvd_adam.tasks.registry import check_choice


class Mnist(models.Classifier):
    """Handwritten digits. Pixels are scaled to [0, 1] and not centred: black is exactly 0.

    So the weights of a softmax at pixels that are black in a whole batch have a gradient of exactly 0.

    Args:
        model: "softmax" (7,850 weights), "mlp" (one hidden layer of 128) or "lenet" (431,080).
    """

    name = "mnist"
    std = (255.0,)

    def __init__(self, model: str = "lenet") -> None:
        check_choice("model", model, ("softmax", "mlp", "lenet"))
        self.architecture = model

    def prepare(self, root: Path) -> None:
        """Reads the four idx files, after comparing their checksums.

        Raises:
            DataError: they are missing or damaged.
        """
        folder = data.verify(self.name, root)
        train, test = (
            (
                read_idx(folder / f"{part}-images-idx3-ubyte")[:, None],
                read_idx(folder / f"{part}-labels-idx1-ubyte").astype(np.int64),
            )
            for part in ("train", "t10k")
        )
        self.hold(train, test)

    def model(self) -> nn.Module:
        """The chosen network with weights drawn from torch's current seed."""
        if self.architecture == "lenet":
            return models.lenet(10)
        return models.classifier(self.architecture, channels=1, side=28, classes=10)


class FashionMnist(Mnist):
    """Articles of clothing, in MNIST's format and with its options."""

    name = "fashion-mnist"


def read_idx(path: Path) -> np.ndarray:
    """An idx file of unsigned bytes: two zeros, 8, the number of axes, each length (big-endian), the bytes.

    Raises:
        DataError: the header or the length is not that of such a file.
    """
    raw = path.read_bytes()
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise _not_idx(path, "its first bytes are not those of an idx file of bytes")
    start = 4 + 4 * raw[3]
    shape = np.frombuffer(raw[4:start], dtype=">i4").astype(int)
    if len(raw) - start != shape.prod():
        raise _not_idx(path, f"its header promises {shape.prod()} bytes, and {len(raw) - start} follow")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy()


def _not_idx(path: Path, why: str) -> DataError:
    return DataError(f"{path} cannot be read", why, "remove it and fetch it again: hvd-adam data get NAME")
