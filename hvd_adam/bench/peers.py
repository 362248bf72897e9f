"""One training step, as we make it and as others do: what each peer is, and in which surroundings it runs.

A peer is built once on every rank of its own job, and then gives a function that makes one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from hvd_adam.bench.workloads import loss_of

Batch = tuple[Tensor, Tensor]
Step = Callable[[], None]
PIECE = 1 << 20  # float32 numbers of one piece of a raw exchange: 4 MB


@dataclass(frozen=True)
class Peer:
    """A way to take a training step.

    Attributes:
        what: in a few words, for the table.
        build: (model, batch) -> the step; called on every rank.
        needs: packages without which it is left out.
        environ: variables of its job.
        gloo: it wants torch's process group.
    """

    what: str
    build: Callable[[nn.Module, Batch], Step]
    needs: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    gloo: bool = False

    @property
    def missing(self) -> tuple[str, ...]:
        """The packages that are not installed."""
        return tuple(name for name in self.needs if find_spec(name) is None)


def _forward_backward(model: nn.Module, batch: Batch) -> None:
    loss_of(model, batch).backward()


def _bare(model: nn.Module, batch: Batch) -> Step:
    def step() -> None:
        model.zero_grad(set_to_none=True)
        _forward_backward(model, batch)

    return step


def _parts(model: nn.Module, batch: Batch) -> Step:
    """Compute, then one raw exchange of all gradients, then one fused pass: nothing overlaps."""
    from hvd_adam.comm import init

    world = init("mpi")
    parameters = list(model.parameters())
    memory = torch.zeros(sum(p.numel() for p in parameters))
    optimizer = torch.optim.Adam(parameters, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        _forward_backward(model, batch)
        for piece in memory.split(PIECE):
            world.wait(world.start_allreduce(piece, "bench"))
        optimizer.step()

    return step


def _ours(engine: str, **options: Any) -> Callable[[nn.Module, Batch], Step]:
    def build(model: nn.Module, batch: Batch) -> Step:
        import hvd_adam

        world = hvd_adam.init(engine)
        inner = hvd_adam.GenericAdam(model.parameters())
        optimizer = hvd_adam.DistributedOptimizer(inner, world, model=model, **options)

        def step() -> None:
            loss = loss_of(model, batch)
            loss.backward()
            optimizer.add(loss, len(batch[1]))
            optimizer.step()
            optimizer.zero_grad()

        return step

    return build


def _horovod(fused: bool) -> Callable[[nn.Module, Batch], Step]:
    def build(model: nn.Module, batch: Batch) -> Step:
        import horovod.torch as hvd

        hvd.init()
        hvd.broadcast_parameters(model.state_dict(), root_rank=0)
        adam = torch.optim.Adam(model.parameters(), fused=fused or None)
        return _plain(model, batch, hvd.DistributedOptimizer(adam, named_parameters=model.named_parameters()))

    return build


def _ddp(fused: bool) -> Callable[[nn.Module, Batch], Step]:
    def build(model: nn.Module, batch: Batch) -> Step:
        from torch.nn.parallel import DistributedDataParallel

        parallel = DistributedDataParallel(model)
        return _plain(parallel, batch, torch.optim.Adam(model.parameters(), fused=fused or None))

    return build


def _plain(model: nn.Module, batch: Batch, optimizer: Any) -> Step:
    def step() -> None:
        optimizer.zero_grad()
        _forward_backward(model, batch)
        optimizer.step()

    return step


OURS, BARE, PARTS = "hvd_adam", "bare", "parts"
_TUNED = {"HOROVOD_CYCLE_TIME": "0.5", "HOROVOD_FUSION_THRESHOLD": str(4 << 20)}

PEERS: dict[str, Peer] = {
    OURS: Peer("ours over Horovod, the default", _ours("horovod"), ("horovod",)),
    "hvd_adam-mpi": Peer("ours over plain MPI", _ours("mpi"), ("mpi4py",)),
    "hvd_adam-exact": Peer("ours, exact mode", _ours("horovod", determinism="exact"), ("horovod",)),
    BARE: Peer("forward and backward alone", _bare),
    PARTS: Peer("bare + raw exchange + fused step, one after the other", _parts, ("mpi4py",)),
    "horovod": Peer("stock Horovod, torch's default Adam", _horovod(False), ("horovod",)),
    "horovod-fused": Peer("stock Horovod, fused Adam", _horovod(True), ("horovod",)),
    "horovod-tuned": Peer("the same, cycle and fusion tuned", _horovod(True), ("horovod",), _TUNED),
    "ddp": Peer("DDP over gloo, torch's default Adam", _ddp(False), gloo=True),
    "ddp-fused": Peer("DDP over gloo, fused Adam", _ddp(True), gloo=True),
}
