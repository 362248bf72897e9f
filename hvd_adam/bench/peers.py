"""One training step, as we make it and as others do: what each peer is, and in which surroundings it runs.

A peer is built once on every rank of its own job, and then gives a function that makes one step.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hvd_adam.bench.names import BARE, EXACT, OURS, PARTS
from hvd_adam.bench.workloads import Workload, loss_of

Batch = tuple[Tensor, Tensor]
Step = Callable[[], None]
PIECE = 4 << 20  # bytes of one piece of a raw exchange


@dataclass(frozen=True)
class Peer:
    """A way to take a training step.

    Attributes:
        what: in a few words, for the table.
        build: (model, batch) -> the step; called on every rank.
        needs: packages without which it is left out.
        imports: modules that its users' scripts import beside torch; ours set the environment of the process.
        environ: variables of its job.
        group: the kind of torch's process group that it wants.
        refuses: precisions that it cannot average.
    """

    what: str
    build: Callable[[nn.Module, Batch], Step]
    needs: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    refuses: tuple[str, ...] = ()

    def why_not(self, dtype: str) -> str:
        """Why it is left out; nothing where it can run."""
        missing = [name for name in self.needs if find_spec(name) is None]
        if missing:
            return f"{', '.join(missing)} is not installed"
        if self.group and not dist.is_available():
            return "this torch is built without torch.distributed"
        if self.group == "mpi" and not dist.is_mpi_available():
            return "this torch is built without MPI"
        return f"it does not average {dtype}" if dtype in self.refuses else ""


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
    memory = torch.zeros(sum(p.numel() for p in parameters), dtype=parameters[0].dtype)
    piece_size = PIECE // memory.itemsize
    optimizer = torch.optim.Adam(parameters, fused=True)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        _forward_backward(model, batch)
        for piece in memory.split(piece_size):
            world.wait(world.start_allreduce(piece, "bench"))
        optimizer.step()

    return step


def _ours(engine: str, **options: Any) -> Callable[[nn.Module, Batch], Step]:
    def build(model: nn.Module, batch: Batch) -> Step:
        import hvd_adam

        world = hvd_adam.init(engine)
        inner = hvd_adam.GenericAdam(model.parameters())
        optimizer = hvd_adam.DistributedOptimizer(inner, world, model=model, share_weights=True, **options)

        def step() -> None:
            loss = loss_of(model, batch)
            loss.backward()
            optimizer.add(loss, len(batch[1]))
            optimizer.step()
            optimizer.zero_grad()

        return step

    return build


def ours_with_workers(load: Workload) -> Callable[[int], None]:
    """Return what makes one step of ours with so many workers a rank, each with a batch of its own."""
    import hvd_adam

    world = hvd_adam.init("horovod")
    held: dict[int, tuple[nn.Module, Any, list[Batch]]] = {}  # of one number at a time

    def act(workers: int) -> None:
        if workers not in held:
            held.clear()
            gc.collect()  # the model before and its optimizer know each other
            model = load.build()
            inner = hvd_adam.GenericAdam(model.parameters())
            optimizer = hvd_adam.DistributedOptimizer(
                inner, world, model=model, workers=workers * world.size, share_weights=True
            )
            held[workers] = (model, optimizer, [load.batch(load.samples) for _ in range(workers)])
        model, optimizer, batches = held[workers]
        for _, batch in zip(optimizer.workers(1), batches, strict=True):
            loss = loss_of(model, batch)
            loss.backward()
            optimizer.add(loss, len(batch[1]))
        optimizer.step()
        optimizer.zero_grad()

    return act


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


_TUNED = {"HOROVOD_CYCLE_TIME": "0.5", "HOROVOD_FUSION_THRESHOLD": str(4 << 20)}
_BF16 = ("bfloat16",)
_OURS: Any = {"needs": ("horovod",), "imports": ("hvd_adam.optim.averaging", "hvd_adam.comm.horovod")}
_HOROVOD: Any = {"needs": ("horovod",), "imports": ("horovod.torch",), "refuses": _BF16}
_OVER_MPI: Any = {"needs": ("mpi4py",), "imports": ("hvd_adam.optim.averaging", "hvd_adam.comm.mpi")}

PEERS: dict[str, Peer] = {
    OURS: Peer("ours, as `hvd-adam train` has it", _ours("horovod"), **_OURS),
    "hvd_adam-horovod": Peer(
        "ours, all sums by Horovod", _ours("horovod"), environ={"HVD_ADAM_SUMS": "horovod"}, **_OURS
    ),
    "hvd_adam-mpi": Peer("ours over plain MPI", _ours("mpi"), environ={"HVD_ADAM_SUMS": "mpi"}, **_OVER_MPI),
    EXACT: Peer("ours, exact mode", _ours("horovod", determinism="exact"), **_OURS),
    "hvd_adam-fp16": Peer("ours, fp16 on the wire", _ours("horovod", wire="fp16"), **_OURS),
    BARE: Peer("forward and backward alone", _bare),
    PARTS: Peer(
        "bare + raw exchange + fused step, one after the other",
        _parts,
        environ={"HVD_ADAM_SUMS": "mpi"},
        refuses=_BF16,
        **_OVER_MPI,
    ),
    "horovod": Peer("stock Horovod, torch's default Adam", _horovod(False), **_HOROVOD),
    "horovod-fused": Peer("stock Horovod, fused Adam", _horovod(True), **_HOROVOD),
    "horovod-tuned": Peer("the same, cycle and fusion tuned", _horovod(True), environ=_TUNED, **_HOROVOD),
    "ddp": Peer("DDP over gloo, torch's default Adam", _ddp(False), group="gloo"),
    "ddp-fused": Peer("DDP over gloo, fused Adam", _ddp(True), group="gloo"),
    "ddp-mpi": Peer("DDP over MPI, fused Adam", _ddp(True), group="mpi"),
}
