"""Handwritten digits, 1,797 images of 8 x 8 (scikit-learn's load_digits): bundled, needs no download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hvd_adam.errors import ConfigError, DataError
from hvd_adam.randomness import seed_for
from hvd_adam.tasks import models
from hvd_adam.tasks.registry import check_choice, check_flag, check_range

TEST_SHARE = 0.2


class Digits(models.Classifier):
    """Ten classes; 1,438 images to train on, 359 to test, split once and for all.

    Args:
        model: softmax, mlp or convnet.
        batch_norm: batch normalisation after each convolution; convnet only.
        dropout: probability 0 <= p < 1 of dropping a hidden unit; convnet and mlp.
        augment: shifts each training image by up to one pixel in both directions.

    Raises:
        ConfigError: a value out of its range, or an option that this model does not have.
    """

    name = "digits"
    mean, std = (4.88,), (6.02,)  # of the pixels, which go from 0 to 16

    def __init__(
        self, model: str = "convnet", batch_norm: bool = False, dropout: float = 0.0, augment: bool = False
    ) -> None:
        check_choice("model", model, ("softmax", "mlp", "convnet"))
        check_flag("batch_norm", batch_norm)
        check_flag("augment", augment)
        check_range("dropout", dropout, 0, 0.999)
        if (batch_norm and model != "convnet") or (dropout and model == "softmax"):
            raise ConfigError(
                f"model: {model} with batch_norm: {batch_norm}, dropout: {dropout}",
                "the convnet takes both, the mlp dropout, softmax neither",
                "remove them, or set model: convnet",
            )
        self.architecture, self.batch_norm, self.dropout, self.augment = model, batch_norm, dropout, augment

    def prepare(self, root: Path) -> None:
        """Reads the images that scikit-learn brings; `root` is not looked at.

        Raises:
            DataError: it has none.
        """
        pixels, labels = _read()
        order = np.random.default_rng(seed_for("split", 0)).permutation(len(labels))
        images, labels = pixels[order][:, None], labels[order]
        test = round(TEST_SHARE * len(order))
        self.hold((images[test:], labels[test:]), (images[:test], labels[:test]))

    def model(self) -> nn.Module:
        """The chosen network with weights drawn from torch's current seed."""
        return models.classifier(
            self.architecture, channels=1, side=8, classes=10, batch_norm=self.batch_norm, dropout=self.dropout
        )

    def augmented(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Moves the images, where the task was made with augment."""
        return models.shifted(images, 1, generator) if self.augment else images


def _read() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (1797, 8, 8) of 0 to 16, uint8, and labels (1797,), int64, as scikit-learn's load_digits gives them.

    Its file is read without it: importing it would take most of a second of every start.
    """
    package = find_spec("sklearn")
    file = Path(package.origin).parent / "datasets/data/digits.csv.gz" if package and package.origin else None
    if file is None or not file.is_file():
        raise DataError(
            f"no file of digits: {file}" if file else "scikit-learn is not installed",
            "the images of digits come with it",
            "pip install 'scikit-learn >= 1.3, < 2'",
        )
    table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    return table[:, :-1].reshape(-1, 8, 8).astype(np.uint8), table[:, -1]
