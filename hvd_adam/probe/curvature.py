"""The largest curvature at a point, by Lanczos' iteration with Hessian-vector products over all workers.

One product a round, as in power iteration, which needs more rounds: its error shrinks by the ratio of two
neighbouring eigenvalues a round.
"""

from __future__ import annotations

import math
from typing import Callable, Iterator

import numpy as np
import torch
from scipy.linalg import eigvalsh_tridiagonal
from torch import Tensor

from hvd_adam.comm import World
from hvd_adam.comm.placement import set_seed
from hvd_adam.config import RunConfig
from hvd_adam.optim.averaging import DistributedOptimizer
from hvd_adam.probe.findings import Curvature
from hvd_adam.randomness import seed_for
from hvd_adam.training.batches import batches
from hvd_adam.training.preparation import Parts

SAMPLES = 512  # that a Hessian-vector product is a mean over, at least
ROUNDS = 40
TOLERANCE = 0.005
WHOLE = 1e-5


class CurvatureMeter:
    """Measures L = ||H|| at the weights as they stand, over the samples of the steps to come.

    The loss is that of training, with dropout's masks held fixed. Every rank makes the same number of
    rounds: what they sum also says whether somebody's time is up.
    """

    def __init__(self, config: RunConfig, world: World, parts: Parts, optimizer: DistributedOptimizer) -> None:
        self._config, self._world, self._parts, self._optimizer = config, world, parts, optimizer
        self._weights = [p for p in parts.model.parameters() if p.requires_grad]
        self._ahead = max(1, math.ceil(SAMPLES / config.global_batch)) if parts.task.train_size else 1

    def measure(self, step: int, out_of_time: Callable[[], bool]) -> Curvature:
        """L after `step` steps; buffers such as batch norm's stand afterwards as they stood before."""
        kept = [buffer.clone() for buffer in self._parts.model.buffers()]
        rounds: list[tuple[float, bool]] = []
        why = ""
        try:
            for found in self._lanczos(step, out_of_time):
                rounds.append(found)
        except RuntimeError as error:
            why = str(error).splitlines()[0]
        finally:
            for buffer, old in zip(self._parts.model.buffers(), kept, strict=True):
                buffer.copy_(old)
        samples = self._ahead * self._config.global_batch
        value, settled = (None, False) if why else rounds[-1]
        return Curvature(step, value, samples, len(rounds), settled, why)

    def _lanczos(self, step: int, out_of_time: Callable[[], bool]) -> Iterator[tuple[float, bool]]:
        """The largest |Ritz value| after 1, 2, ... products, and whether it has settled.

        Three vectors are kept and none is orthogonalised again: that costs copies of values that have been
        found, and leaves the largest as it is.
        """
        diagonal: list[float] = []
        beside: list[float] = []
        values: list[float] = []
        before, vector = torch.zeros(()), self._start()
        vector /= vector.norm()
        for _ in range(ROUNDS):
            product, late = self._product(step, vector, out_of_time())
            diagonal.append(float(product @ vector))
            product -= diagonal[-1] * vector + (beside[-1] if beside else 0.0) * before
            rest = float(product.norm())
            if not np.isfinite([diagonal[-1], rest]).all():
                raise RuntimeError("a second derivative that is not finite")
            if diagonal[-1] == rest == 0:  # torch gives zeros, not an error, past a once_differentiable function
                raise RuntimeError("the second derivative is 0: the loss is linear in the weights, or has none")
            values.append(float(np.abs(eigvalsh_tridiagonal(diagonal, beside)).max()))
            whole = rest <= WHOLE * values[-1]  # the vectors so far span all that H makes of them
            settled = whole or _agree(values)
            yield values[-1], settled
            if late or settled:
                return
            beside.append(rest)
            before, vector = vector, product / rest

    def _start(self) -> Tensor:
        generator = torch.Generator().manual_seed(seed_for("curvature", self._config.seed))
        length = sum(weight.numel() for weight in self._weights)
        return torch.randn(length, generator=generator, dtype=torch.float64).to(self._weights[0])

    def _product(self, step: int, vector: Tensor, late: bool) -> tuple[Tensor, bool]:
        """H v, H the mean over all workers and batches, and whether a rank is late."""
        total = torch.zeros(vector.numel() + 1, dtype=vector.dtype, device=vector.device)
        total[-1] = float(late)
        passes = self._ahead * self._config.workers * self._config.accumulation
        for worker in self._optimizer.workers_here:
            for t in range(step + 1, step + 1 + self._ahead):
                set_seed(self._world.device, seed_for("curvature", self._config.seed, t, worker))
                for batch in batches(self._config, self._world, self._parts, t, worker):
                    total[:-1] += self._of_batch(batch, vector) / passes
        self._world.wait(self._world.start_allreduce(total, "hvd_adam.curvature"))
        return total[:-1].clone(), bool(total[-1] > 0)

    def _of_batch(self, batch: tuple[Tensor, ...], vector: Tensor) -> Tensor:
        loss = self._parts.task.loss(self._parts.model, batch)
        slopes = torch.autograd.grad(loss, self._weights, create_graph=True, materialize_grads=True)
        along = torch.cat([slope.reshape(-1) for slope in slopes]) @ vector
        if not along.requires_grad:  # linear in every weight
            return torch.zeros_like(vector)
        products = torch.autograd.grad(along, self._weights, materialize_grads=True)
        return torch.cat([product.reshape(-1) for product in products])


def _agree(values: list[float]) -> bool:
    """The last three differ by no more than the tolerance."""
    return len(values) > 2 and max(values[-3:]) - min(values[-3:]) <= TOLERANCE * values[-1]
