"""Networks, the augmentations of small images, and what every classifier has in common."""

from __future__ import annotations

import difflib

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from hvd_adam.errors import ConfigError


def classifier(
    name: str, *, channels: int, side: int, classes: int, batch_norm: bool = False, dropout: float = 0.0
) -> nn.Module:
    """softmax, mlp or convnet for images of shape (channels, side, side).

    Raises:
        ConfigError: an unknown name.
    """
    inputs = channels * side * side
    if name == "softmax":
        return nn.Sequential(nn.Flatten(), nn.Linear(inputs, classes))
    if name == "mlp":
        return nn.Sequential(
            nn.Flatten(), nn.Linear(inputs, 128), nn.ReLU(), nn.Dropout(dropout), nn.Linear(128, classes)
        )
    if name == "convnet":
        return _convnet(channels, side, classes, batch_norm, dropout)
    raise ConfigError(f"model: {name}", "there is no such model", "choose softmax, mlp or convnet")


def _convnet(channels: int, side: int, classes: int, batch_norm: bool, dropout: float) -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in ((channels, 32), (32, 64)):
        layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
        layers += [nn.BatchNorm2d(outputs)] if batch_norm else []
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Flatten(), nn.Dropout(dropout), nn.Linear(64 * (side // 4) ** 2, classes)]
    return nn.Sequential(*layers)


def like_model(model: nn.Module, value: Tensor) -> Tensor:
    """A float tensor in the dtype and on the device of the model's parameters; others only move."""
    parameter = next(model.parameters())
    return value.to(parameter) if value.is_floating_point() else value.to(parameter.device)


class Classifier:
    """Loss and measures of a classifier whose samples are held in memory as arrays.

    A subclass calls `hold` in `prepare` with uint8 images (n, channels, height, width) and int64 labels;
    `mean` and `std`, a value a channel in raw pixels, make floats of them.
    """

    name: str = ""
    target: str = "accuracy"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    train_size: int = 0
    test_size: int = 0

    def hold(self, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> None:
        """Keeps the two sets, and learns their sizes."""
        self._train, self._test = train, test
        self._mean, self._std = (torch.tensor(value).view(1, -1, 1, 1) for value in (self.mean, self.std))
        self.train_size, self.test_size = len(train[1]), len(test[1])

    def batch(self, indices: np.ndarray, generator: torch.Generator, train: bool) -> tuple[Tensor, ...]:
        """Normalised images (b, c, h, w) in torch's default dtype, and int64 labels (b,)."""
        images, labels = self._train if train else self._test
        raw = torch.from_numpy(images[indices])
        if train:
            raw = self.augmented(raw, generator)
        return (raw - self._mean) / self._std, torch.from_numpy(labels[indices])

    def augmented(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The raw training images as they are; a subclass may change them, drawing from `generator`."""
        return images

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Mean cross-entropy in nats."""
        images, labels = (like_model(model, part) for part in batch)
        return functional.cross_entropy(model(images), labels)

    def measures(self, model: nn.Module, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Sums over the batch: "loss", the cross-entropies, and "accuracy", how many are right."""
        images, labels = (like_model(model, part) for part in batch)
        scores = model(images)
        return {
            "loss": functional.cross_entropy(scores, labels, reduction="sum"),
            "accuracy": (scores.argmax(1) == labels).sum(),
        }


def lenet(classes: int = 10) -> nn.Module:
    """LeNet as Caffe lays it out, for 28x28 grey images: 20 and 50 filters, 500 units; 431,080 weights."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(50 * 4 * 4, 500),
        nn.ReLU(),
        nn.Linear(500, classes),
    )


def check_classifier(name: str) -> None:
    """Raises ConfigError unless torchvision has a classifier of this name."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=3) or ["resnet18", "vgg11_bn", "mobilenet_v2"]
        raise ConfigError(
            f"model: {name}", "there is no classifier of this name in torchvision", f"for instance {', '.join(near)}"
        )


def named_classifier(name: str, classes: int, small_images: bool) -> nn.Module:
    """A torchvision classifier with new weights.

    Args:
        name: for instance "resnet18".
        classes: number of outputs.
        small_images: for a ResNet, a 3x3 stem of stride 1 without pooling, as usual for 32x32 images.
    """
    from torchvision import models

    check_classifier(name)
    # these two return auxiliary scores beside the main ones, which a plain loss does not take
    extra = {"init_weights": True, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    network = models.get_model(name, weights=None, num_classes=classes, **extra)
    if small_images and isinstance(network, models.ResNet):
        network.conv1 = nn.Conv2d(3, network.conv1.out_channels, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.maxpool = nn.Identity()
    return network


def checked(network: nn.Module, name: str, side: int) -> nn.Module:
    """The network, which has looked at an image of (3, side, side).

    Raises:
        ConfigError: it does not take images of this size.
    """
    network.eval()
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, side, side))
    except (RuntimeError, ValueError, AssertionError) as error:
        why = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"model: {name} on images of {side} x {side}",
            f"it does not take them: {why}",
            "choose one that does, such as resnet18, or larger images where the task has a size",
        ) from error
    return network.train()


def shifted(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Each image moved by up to `pixels` both ways: a random crop of the image in a frame of zeros."""
    count, channels, height, width = images.shape
    padded = functional.pad(images, (pixels,) * 4)
    offsets = torch.randint(0, 2 * pixels + 1, (2, count, 1), generator=generator)
    rows = (offsets[0] + torch.arange(height))[:, None, :, None]
    columns = (offsets[1] + torch.arange(width))[:, None, None, :]
    samples, planes = torch.arange(count)[:, None, None, None], torch.arange(channels)[None, :, None, None]
    return padded[samples, planes, rows, columns]


def flipped(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image mirrored left to right with probability 1/2."""
    mirror = torch.randint(0, 2, (len(images), 1, 1, 1), generator=generator).bool()
    return torch.where(mirror, images.flip(-1), images)
