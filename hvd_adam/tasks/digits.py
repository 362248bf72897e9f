"""Handwritten digits, 1,797 images of 8 x 8 (scikit-learn's load_digits): bundled, needs no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hvd_adam.errors import ConfigError
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
        """Reads the images that scikit-learn brings; `root` is not looked at."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = np.random.default_rng(seed_for("split", 0)).permutation(len(digits.target))
        images = digits.images[order].astype(np.uint8)[:, None]
        labels = digits.target[order].astype(np.int64)
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
