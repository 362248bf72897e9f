"""Which options of the averaging go together, and with how many ranks."""

from __future__ import annotations

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
