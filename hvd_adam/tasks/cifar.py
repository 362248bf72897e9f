"""CIFAR-10 and CIFAR-100: 50,000 training and 10,000 test images, 32x32, in colour."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hvd_adam import data
from hvd_adam.tasks import models
from hvd_adam.tasks.registry import check_flag

Images = tuple[np.ndarray, np.ndarray]


class Cifar10(models.Classifier):
    """Ten classes of 6,000 images.

    Args:
        model: a torchvision classifier by name; a ResNet gets the stem for small images.
        augment: training images are moved by up to 4 pixels (black comes in at the border) and mirrored half the time.

    Raises:
        ConfigError: torchvision has no such classifier.
    """

    name = "cifar10"
    classes = 10
    mean = (125.3, 123.0, 113.9)
    std = (63.0, 62.1, 66.7)

    def __init__(self, model: str = "resnet18", augment: bool = True) -> None:
        models.check_classifier(model)
        check_flag("augment", augment)
        self.architecture, self.augment = model, augment

    def prepare(self, root: Path) -> None:
        """Reads the binary or the Python files, after comparing their checksums.

        Raises:
            DataError: they are missing or damaged.
        """
        folder = data.verify(self.name, root)
        if folder.name.endswith("-bin"):
            parts = [_records(folder / f"data_batch_{k}.bin") for k in range(1, 6)]
            test = _records(folder / "test_batch.bin")
        else:
            parts = [_pickled(folder / f"data_batch_{k}", "labels") for k in range(1, 6)]
            test = _pickled(folder / "test_batch", "labels")
        self.hold((np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])), test)

    def model(self) -> nn.Module:
        """The chosen network with weights drawn from torch's current seed."""
        network = models.named_classifier(self.architecture, self.classes, small_images=True)
        return models.checked(network, self.architecture, 32)

    def augmented(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Moves and mirrors, where the task was made with augment."""
        if not self.augment:
            return images
        return models.flipped(models.shifted(images, 4, generator), generator)


class Cifar100(Cifar10):
    """A hundred classes of 600 images, with CIFAR-10's options."""

    name = "cifar100"
    classes = 100
    mean = (129.3, 124.1, 112.4)
    std = (68.2, 65.4, 70.4)

    def prepare(self, root: Path) -> None:
        """Reads the two Python files, after comparing their checksums.

        Raises:
            DataError: they are missing or damaged.
        """
        folder = data.verify(self.name, root)
        self.hold(_pickled(folder / "train", "fine_labels"), _pickled(folder / "test", "fine_labels"))


def _records(path: Path) -> Images:
    """One byte of label, then 3 x 32 x 32 bytes, for each image."""
    rows = np.fromfile(path, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].astype(np.int64)


def _pickled(path: Path, labels: str) -> Images:
    """The published Python files; a pickle can run code, so only files whose checksum agreed come here."""
    with path.open("rb") as stream:
        batch = pickle.load(stream, encoding="latin1")
    return batch["data"].reshape(-1, 3, 32, 32), np.asarray(batch[labels], np.int64)
