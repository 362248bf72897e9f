"""Images of one's own: a folder for each class, under train/ and test/ (or val/)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hvd_adam.errors import DataError
from hvd_adam.files import there
from hvd_adam.randomness import seed_for
from hvd_adam.tasks import models
from hvd_adam.tasks.registry import check_flag, check_integer, check_text

MEAN, STD = (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)


class Folder(models.Classifier):
    """ROOT/PATH/train/CLASS/*.jpg and ROOT/PATH/test/CLASS/*.jpg, read image by image as they are asked for.

    Args:
        path: folder below the data root, or an absolute path.
        model: a torchvision classifier by name.
        size: images are scaled so that the shorter side fits, cut to the middle square of this many
            pixels, >= 8. Below 65, a ResNet gets the stem for small images.
        augment: training images are moved by up to size/8 pixels and mirrored half the time.

    Raises:
        ConfigError: torchvision has no such classifier, or size is out of range.
    """

    name = "folder"
    mean, std = MEAN, STD

    def __init__(self, path: str = "folder", model: str = "resnet18", size: int = 224, augment: bool = True) -> None:
        models.check_classifier(model)
        check_text("path", path)
        check_integer("size", size, 8)
        check_flag("augment", augment)
        self.path, self.architecture, self.size, self.augment = path, model, size, augment
        self.classes: list[str] = []
        self._sets: dict[bool, Any] = {}

    def prepare(self, root: Path) -> None:
        """Lists the images; both parts must have the same classes.

        Raises:
            DataError: a part is missing, empty or unreadable, or the parts name other classes.
        """
        base = Path(root) / self.path
        test = base / "test" if there(base / "test") else base / "val"
        self._sets = {True: _listed(base / "train"), False: _listed(test)}
        self.classes = self._sets[True].classes
        if self._sets[False].classes != self.classes:
            odd = sorted(set(self.classes) ^ set(self._sets[False].classes))
            raise DataError(
                f"{base}: {', '.join(odd[:5])} in one part only",
                "training and test images must have the same classes",
                "give each class a folder in both parts",
            )
        self.train_size, self.test_size = len(self._sets[True]), len(self._sets[False])
        # listed class by class, of which the first N, `evaluate.test`, would be one
        self._test_order = np.random.default_rng(seed_for("split", 0)).permutation(self.test_size)

    def model(self) -> nn.Module:
        """The chosen network with weights drawn from torch's current seed."""
        network = models.named_classifier(self.architecture, len(self.classes), small_images=self.size <= 64)
        return models.checked(network, self.architecture, self.size)

    def batch(self, indices: np.ndarray, generator: torch.Generator, train: bool) -> tuple[Tensor, ...]:
        """Normalised images (b, 3, size, size) in torch's default dtype, and int64 labels (b,)."""
        samples = [self._sets[train].samples[int(i)] for i in (indices if train else self._test_order[indices])]
        pixels = torch.stack([_square(Path(path), self.size) for path, _ in samples])
        if train and self.augment:
            pixels = models.flipped(models.shifted(pixels, self.size // 8, generator), generator)
        pixels = (pixels - torch.tensor(MEAN).view(-1, 1, 1)) / torch.tensor(STD).view(-1, 1, 1)
        return pixels, torch.tensor([label for _, label in samples])


def _listed(folder: Path) -> Any:
    from torchvision.datasets import ImageFolder

    try:
        return ImageFolder(str(folder))
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{folder}: {error}",
            "the images are read from there, a folder for each class",
            "set path in the task's options, or data: to the folder above it",
        ) from error


def _square(path: Path, size: int) -> Tensor:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            pixels = np.array(ImageOps.fit(image.convert("RGB"), (size, size)))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: {error}", "the image cannot be decoded", "replace the file or take it out of its folder"
        ) from error
    return torch.from_numpy(pixels).permute(2, 0, 1)
