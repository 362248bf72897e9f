"""Which options of the averaging go together, and with how many ranks."""

from __future__ import annotations

import math

from torch.nn import Parameter

from hvd_adam.errors import ConfigError

DETERMINISM = ("default", "exact")


def check_options(workers: int, ranks: int, accumulation: int, determinism: str, wire: str | None, noise: int) -> None:
    """Raises ConfigError where these do not go together, or not with the number of ranks."""
    if workers < 1 or workers % ranks:
        fewer = max(n for n in range(1, ranks + 1) if workers % n == 0) if workers > 0 else 1
        raise ConfigError(
            f"workers: {workers}, started on {ranks} ranks",
            "each rank plays workers / ranks workers, and that is not a whole number above zero",
            f"start {fewer} rank{'s' if fewer > 1 else ''}, or set workers to {max(1, -(-workers // ranks)) * ranks}",
        )
    if accumulation < 1:
        raise ConfigError(f"accumulation: {accumulation}", "a worker makes at least one pass", "set it to 1")
    if determinism not in DETERMINISM:
        raise ConfigError(f"determinism: {determinism}", "there is no such mode", f"say {' or '.join(DETERMINISM)}")
    if wire not in (None, "fp16"):
        raise ConfigError(f"wire: {wire}", "gradients travel as they are, or as fp16", "say fp16, or leave it out")
    if wire and determinism == "exact":
        raise ConfigError("wire: fp16 with determinism: exact", "half precision sums depend on order", "leave one out")
    if noise < 0 or (noise and workers < 2):
        raise ConfigError(
            f"noise_every: {noise}, workers: {workers}",
            "the noise scale compares each worker's gradient with the average of at least 2, every so many steps",
            "set workers to 2 or more (one rank can play them all), or noise_every to 0",
        )


def check_sizes(clip_norm: float | None, bucket_mb: float) -> None:
    """Raises ConfigError unless both are above zero, or clip_norm is None, and a bucket is finite."""
    if clip_norm is not None and not clip_norm > 0:
        raise ConfigError(f"clip_norm: {clip_norm}", "a gradient is clipped to a norm above zero", "None does not clip")
    if not 0 < bucket_mb < math.inf:
        raise ConfigError(
            f"bucket_mb: {bucket_mb}", "a bucket holds something, and it ends", "bucket_mb: 4 is the default, in MiB"
        )


def check_parameters(parameters: list[Parameter], scaled: bool) -> None:
    """Raises ConfigError where there is nothing to average, a parameter is not real, or too short for a GradScaler."""
    if not parameters:
        raise ConfigError(
            "an optimizer without a parameter that requires a gradient",
            "there is nothing to average",
            "wrap it after the model's parameters have been unfrozen",
        )
    for parameter in parameters:
        if parameter.is_complex():
            raise ConfigError(
                f"a complex parameter of shape {tuple(parameter.shape)}",
                "buckets, norms and Adam's moments are real",
                "use torch.view_as_real",
            )
        if scaled and parameter.dtype.itemsize < 4:
            raise ConfigError(
                f"a GradScaler with a parameter in {str(parameter.dtype).removeprefix('torch.')}",
                "it scales the half precision gradients that autocast makes of float32 parameters",
                "keep the parameters in float32, or leave the scaler out",
            )
