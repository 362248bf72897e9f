"""Averages gradients over workers and ranks, bucket by bucket, while backward goes on.

    for worker in optimizer.workers(step):       # this rank's share of the workers, in turn
        loss = ...
        loss.backward()                          # buckets leave as they fill
        optimizer.add(loss, samples)
    outcome = optimizer.step()                   # average, clip, decide, step

Ranks match sums by the order of their start, so buckets leave in one fixed order, whatever order gradients come in.
What a step must also know (loss, samples, who has a gradient, who asks to stop, batch-norm buffers) rides at the end
of the last bucket, and every rank decides from the same numbers. There is no further collective, but that the ranks
of a machine meet where they divide the step.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Iterator
from weakref import WeakMethod

import torch
from torch import Tensor

from hvd_adam.comm.placement import set_seed
from hvd_adam.comm.protocol import Handle, World
from hvd_adam.optim import refusals
from hvd_adam.optim.agreement import start_equal
from hvd_adam.optim.buckets import HOOKS, LARGEST, LOSS, PRESENCE, SAMPLES, SQUARES, STOP, Bucket, lay_out
from hvd_adam.optim.divided import divide
from hvd_adam.optim.filling import Filling
from hvd_adam.optim.kept import keep
from hvd_adam.optim.mean import Mean, has_hooks
from hvd_adam.optim.module_buffers import ModuleBuffers
from hvd_adam.optim.options import check_options, check_parameters, check_sizes
from hvd_adam.optim.outcome import Outcome
from hvd_adam.optim.own_gradients import OwnGradients
from hvd_adam.optim.tree import SubtreeSums, start_sum_over_workers, sum_of_values
from hvd_adam.optim.wire import HalfWire
from hvd_adam.randomness import seed_for


class DistributedOptimizer:
    """Wraps any torch optimizer; gradients are the mean over all workers.

    Args:
        optimizer: the optimizer that takes the step.
        world: from `hvd_adam.init()`.
        model: its floating buffers (batch norm) are averaged over workers, and all its weights and buffers, frozen
            ones too, start equal on all ranks; None leaves alone what is not the optimizer's.
        workers: the algorithm's s, a multiple of the number of ranks; None is one a rank.
        accumulation: backward passes of each worker in a step; their mean counts.
        clip_norm: largest Euclidean norm of the averaged gradient; None does not clip.
        bucket_mb: size of a bucket in MiB.
        wire: "fp16" halves what travels; see `wire.HalfWire`. None sends gradients as they are.
        skip_nonfinite: all ranks leave out a step whose averaged gradient is not finite.
        determinism: "exact" sums over workers in one fixed order: equal bit for bit on any number of
            ranks that divides workers. "default" is the plain allreduce.
        seed: torch's random state inside `workers()` depends on (seed, step, worker).
        scaler: a torch.amp.GradScaler whose `scale` the losses went through; gradients are unscaled after
            they were averaged, so that all ranks skip the same steps, and its scale adapts by itself.
        check_every: compares parameter hashes every so many steps, and names a rank that drifted.
        noise_every: every so many steps also measures `Outcome.worker_square`, for the noise scale; such
            a step starts no bucket during backward. 0 never does.
        share_weights: ranks of one machine that divide the step have their weights in one memory, unless `check_every`
            compares them. For a loop in which nothing else changes them, not by way of `.data` either: what one rank
            writes there, all have. Load before the wrapping. Large gradients of one backward pass a rank are then
            summed where autograd left them, and are none after the step; the optimizer's hooks see means.

    Ranks of one machine may divide GenericAdam's step (`divided.divide`): the weights then lie in other memory than
    before, and the moments in one for all of them, which its own `step` is not to be called on beside this one's.
    Gradients of parameters below 32 bits are float32 from backward to the step, `p.grad` as well.
    `tell`, a function that may be set, hears "wait" and "backward" where a sum is made inside of backward.

    Raises:
        ConfigError: workers not a multiple of ranks, nothing to train, or an option out of its range.
        RunError: the ranks' models differ, or how they are to be held.
    """

    _loss: float | Tensor  # over this worker's passes; a tensor on a GPU
    _samples: int
    _step_supports_amp_scaling = True  # makes GradScaler.step set these two
    grad_scale = found_inf = property(None, lambda self, value: refusals.refuse_scaler_around())

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        world: World,
        *,
        model: torch.nn.Module | None = None,
        workers: int | None = None,
        accumulation: int = 1,
        clip_norm: float | None = None,
        bucket_mb: float = 4.0,
        wire: str | None = None,
        skip_nonfinite: bool = True,
        determinism: str = "default",
        seed: int = 0,
        scaler: Any = None,
        check_every: int = 0,
        noise_every: int = 0,
        share_weights: bool = False,
    ) -> None:
        self.optimizer, self.world = optimizer, world
        self.worker_count = world.size if workers is None else workers
        check_options(self.worker_count, world.size, accumulation, determinism, wire, noise_every)
        check_sizes(clip_norm, bucket_mb)
        share = self.worker_count // world.size
        self.workers_here = range(world.rank * share, (world.rank + 1) * share)
        self.accumulation, self.seed = accumulation, seed
        self.noise_every, self.exact = noise_every, determinism == "exact"
        self._parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        check_parameters(self._parameters, scaled=scaler is not None)
        share_weights = share_weights and not check_every
        options = {
            "bucket_mb": bucket_mb, "share_weights": share_weights, "workers": self.worker_count,
            "accumulation": accumulation, "determinism": determinism, "wire": wire, "noise_every": noise_every,
            "a scaler": scaler is not None, "clip_norm": clip_norm and float(clip_norm),
            "skip_nonfinite": skip_nonfinite, "check_every": check_every,
        }  # fmt: skip
        weights = start_equal(world, self._parameters, optimizer, model, options)
        self._buffers = ModuleBuffers(model, self.worker_count, accumulation)
        divided = divide(optimizer, self._parameters, world, share_weights)
        summed_once = share * accumulation == 1 and not (self.exact or wire or scaler is not None or noise_every)
        self._kept = keep(divided if summed_once else None, self._parameters, world)
        self._layout = lay_out(
            self._parameters,
            world.zeros,
            bucket_bytes=int(bucket_mb * 2**20),
            extra=PRESENCE + len(self._parameters) + self._buffers.size,
            multiple=world.size if self.exact else 1,
            alone=wire is not None,
            riders=self._buffers.widest or torch.float32,
            without=self._kept,
        )
        self._filling = Filling(self._parameters, self._layout, self._kept)
        self._own = OwnGradients(self._layout)
        parts = self.worker_count * accumulation
        self._wire = HalfWire(self._layout.buckets[:-1], world.zeros, parts) if wire else None
        self._mean = Mean(
            optimizer,
            self._parameters,
            self._layout,
            self._kept,
            divided,
            world,
            parts=parts,
            clip_norm=clip_norm,
            must_skip=skip_nonfinite or wire is not None or scaler is not None,
            scaler=scaler,
            exact=self.exact,
            compared=weights,
            check_every=check_every,
        )
        self._sums = SubtreeSums(self.worker_count, self.workers_here.start, self.workers_here.stop)
        self._worker: int | None = None
        self._number = {id(parameter): i for i, parameter in enumerate(self._parameters)}
        came = WeakMethod(self._gradient_came)  # torch never frees what a hook holds
        for parameter in self._parameters:
            parameter.register_post_accumulate_grad_hook(lambda parameter: (method := came()) and method(parameter))
        self._steps_taken = 0
        self.tell: Callable[[str], None] = lambda phase: None
        self._reset()

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The wrapped optimizer's groups."""
        return self.optimizer.param_groups

    @property
    def bucket_count(self) -> int:
        """Collectives a step: one a bucket, two in exact mode where an allreduce does not add in its order."""
        return len(self._layout.buckets)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clears the gradients, as torch's zero_grad does; zeros take memory of their own."""
        for parameter in self._parameters:
            parameter.grad = None if set_to_none or parameter.grad is None else torch.zeros_like(parameter)

    def state_dict(self) -> dict[str, Any]:
        """The wrapped optimizer's, and beside it what the averaging remembers."""
        return {**self.optimizer.state_dict(), "averaging": self.averaging_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave, here or of the optimizer without the averaging."""
        self.optimizer.load_state_dict({key: value for key, value in state.items() if key != "averaging"})
        self._buffers.keep()  # the model's may have been loaded, too
        if "averaging" in state:
            self.load_averaging_state(state["averaging"])

    def averaging_state(self) -> dict[str, Any]:
        """What the averaging itself must remember across a restart."""
        return {"steps_taken": self._steps_taken, "wire": self._wire.state() if self._wire else None}

    def load_averaging_state(self, state: dict[str, Any]) -> None:
        """Takes over what `averaging_state` gave."""
        self._steps_taken = state["steps_taken"]
        if self._wire and state["wire"]:
            self._wire.load(state["wire"])

    def workers(self, step: int) -> Iterator[int]:
        """This rank's workers of step t >= 1, in turn; inside, torch's random state is that worker's own.

        Called once more before `step`, it begins the step anew, where nothing has left and no gradient is there.
        """
        if self._worker is not None and not self._launched and all(p.grad is None for p in self._parameters):
            self._buffers.rewind()
            self._sums.forget()
            self._reset()
        for worker in self.workers_here:
            if self._worker is None:
                self._buffers.keep()
            else:
                self._close_worker(last=False)
                self._buffers.rewind()
            self._worker = worker
            set_seed(self._parameters[0].device, seed_for("worker", self.seed, step, worker))
            yield worker

    def add(self, loss: Tensor, samples: int) -> None:
        """Counts the (mean) loss of one backward pass, and the samples behind it."""
        own = loss.item() if loss.device.type == "cpu" else loss.detach().double()  # a GPU is not waited for
        self._loss = self._loss + own / self.accumulation
        self._samples += samples

    def step(self, stop: bool = False) -> Outcome:
        """Averages what has not left yet, then clips, decides and steps: the same on every rank.

        Args:
            stop: this rank was asked to stop; every rank learns of it in `Outcome.stop_asked`.

        Raises:
            RunError: gradients were changed while they travelled, those of the step before remain, or a
                parameter came to the optimizer after it was wrapped.
            ConfigError: a closure instead of `stop`.
        """
        if callable(stop):
            refusals.refuse_closure()
        refusals.refuse_newcomers(self.optimizer, self._number)
        apart = self.exact or self._buffers.size > 0 or self.noise_every > 0
        refusals.refuse_missing_workers(self._workers_done, self.workers_here, self._passes // self.accumulation, apart)
        self._close_worker(last=True, stop=stop)
        self._mean.begin(self._steps_taken + 1)
        started = time.perf_counter()
        self._launch_up_to(len(self._layout.buckets))
        for bucket, handle in self._in_flight:
            self._arrive(bucket, handle)
        riders = self._layout.riders.tolist()
        present = {number for number in range(len(self._parameters)) if riders[PRESENCE + number] > 0}
        self._mean.add_kept(present)
        arrived, in_backward = time.perf_counter(), self._waited
        norm, skipped = self._mean.take(present, hooked=riders[HOOKS] > 0)
        overflowed = self._wire is not None and self._wire.learn(skipped, riders[LARGEST])
        squares = riders[SQUARES] / self.worker_count if self._measured else None
        means = self._layout.riders[PRESENCE + len(self._parameters) :]
        self._buffers.rewind() if skipped else self._buffers.take_mean(means)
        self._mean.step(skipped)
        self._steps_taken += not skipped
        self._filling.end()
        self._reset()
        return Outcome(
            loss=riders[LOSS] / self.worker_count,
            samples=round(riders[SAMPLES]),
            grad_norm=norm,
            skipped=skipped,
            stop_asked=riders[STOP] > 0,
            wait_seconds=in_backward + arrived - started,
            wait_in_backward=in_backward,
            step_seconds=time.perf_counter() - arrived,
            worker_square=squares,
            overflowed=overflowed,
        )

    def reduce_over_workers(self, values: list[Tensor]) -> Tensor:
        """The sum over all workers of one-dimensional float64 tensors, one for each worker of this rank."""
        return sum_of_values(self.world, self.worker_count, values, self.exact)

    # What happens during backward

    def _reset(self) -> None:
        self._worker = None
        self._workers_done = 0
        self._passes = 0  # backward passes of this worker that have ended
        self._pass_watched = False
        self._loss, self._samples = 0.0, 0
        self._filling.reset()
        self._ready = [0] * len(self._layout.buckets)
        self._launched = 0
        self._waited = 0.0  # seconds, inside of backward
        self._in_flight: list[tuple[Bucket, Handle]] = []
        self._buffers.keep()
        self._own.forget()

    @property
    def _measured(self) -> bool:
        """The step under way measures each worker's own gradient."""
        return self.noise_every > 0 and self._steps_taken % self.noise_every == 0

    def _gradient_came(self, parameter: Tensor) -> None:
        if not self._pass_watched:
            self._pass_watched = True
            torch.autograd.Variable._execution_engine.queue_callback(self._pass_ended)
        if parameter.grad is not None and parameter.grad.is_sparse:
            refusals.refuse_sparse(parameter)
        number = self._number[id(parameter)]
        if number in self._kept:
            if self._workers_done:
                refusals.refuse_late(parameter, self.accumulation)
            return self._kept.came(number)
        bucket = self._layout.bucket_of[number]
        if bucket.index < self._launched:
            refusals.refuse_late(parameter, self.accumulation)
        self._filling.take(number)
        self.world.progress()
        last = self._workers_done == len(self.workers_here) - 1 and self._passes >= self.accumulation - 1
        if last and not self.exact and not self._measured:
            self._ready[bucket.index] += 1
            ready, buckets = self._launched, self._layout.buckets
            while ready < len(buckets) - 1 and self._ready[ready] == len(buckets[ready].views):
                ready += 1
            if ready > self._launched:
                self._launch_in_backward(ready)

    def _launch_in_backward(self, end: int) -> None:
        """Sums that go on beside backward are started here; others are made here, and that is no work of backward."""
        self.tell("wait")
        started = time.perf_counter()
        self._launch_up_to(end)
        self._waited += time.perf_counter() - started
        self.tell("backward")

    def _pass_ended(self) -> None:
        self._passes += 1
        self._pass_watched = False

    def _close_worker(self, last: bool, stop: bool = False) -> None:
        """Ends one worker: takes in gradients set by hand, writes its riders, merges it into the tree."""
        if not last and self._workers_done + 1 == len(self.workers_here):
            refusals.refuse_other_workers(self._workers_done + 2, self.workers_here)
        self._filling.sweep(self._launched, last)
        touched = self._filling.touched
        slots = self._layout.riders
        riders = slots if self.exact or self._workers_done == 0 else torch.zeros_like(slots)
        numbers = [float(i - PRESENCE in touched) for i in range(PRESENCE + len(self._parameters))]
        numbers[SAMPLES], numbers[STOP], numbers[HOOKS] = self._samples, float(stop), float(has_hooks(self.optimizer))
        riders[: len(numbers)] = torch.tensor(numbers, dtype=riders.dtype)
        riders[LOSS] = self._loss
        if self._measured:
            riders[SQUARES] = self._own.square(touched) / (self.accumulation * self._mean.loss_scale) ** 2
        self._buffers.write(riders[PRESENCE + len(self._parameters) :])
        if riders is not slots:
            slots.add_(riders)
        if self.exact:
            self._keep_for_the_tree()
        elif not last:
            self._filling.let_go()
        self._workers_done += 1
        self._loss, self._samples, self._passes = 0.0, 0, 0
        self._filling.touched = set()
        if self._measured and not last:
            self._own.remember(self._filling.filled)

    def _keep_for_the_tree(self) -> None:
        for number in set(range(len(self._parameters))) - self._filling.touched:
            self._layout.bucket_of[number].views[number].zero_()
        assert self._worker is not None or len(self.workers_here) == 1
        worker = self.workers_here[self._workers_done]
        alone = len(self.workers_here) == 1
        vectors = [b.flat if alone else b.flat.clone() for b in self._layout.buckets]
        self._sums.push(worker, vectors)
        if not alone:
            self._filling.filled = set()
            self.zero_grad()

    # What happens to a bucket

    def _launch_up_to(self, end: int) -> None:
        nodes = self._sums.pop() if self.exact else []
        for bucket in self._layout.buckets[self._launched : end]:
            name, flat = f"hvd_adam.{bucket.index}", bucket.flat
            bucket.left_at = None if self.world.takes_changes(flat) and not self._wire else bucket.version
            if self.exact:
                mine = [vectors[bucket.index] for vectors in nodes]
                handle = start_sum_over_workers(self.world, self.worker_count, mine, name, out=flat)
            elif self._wire and bucket.views:
                handle = self.world.start_allreduce(self._wire.pack(bucket), name)
            else:
                if self._wire:
                    self._layout.riders[LARGEST] = self._wire.largest()
                handle = self.world.start_allreduce(flat, name, self._mean.finish(bucket))
            self._in_flight.append((bucket, handle))
            self._launched = bucket.index + 1

    def _arrive(self, bucket: Bucket, handle: Handle) -> None:
        square = self.world.wait(handle)
        if self._wire and bucket.views:
            self._wire.unpack(bucket)
        whole = self.exact or (self._wire and bucket.views)
        self._mean.arrived_whole(bucket) if whole else self._mean.arrived(bucket, square)
