"""The training run, from top to bottom."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any, Callable

from hvd_adam.comm import World, init
from hvd_adam.comm.placement import settle
from hvd_adam.config import RunConfig
from hvd_adam.errors import ConfigError, RunError
from hvd_adam.optim.agreement import from_root
from hvd_adam.optim.averaging import DistributedOptimizer
from hvd_adam.optim.outcome import Outcome
from hvd_adam.training import checkpoint
from hvd_adam.training.batches import autocast, batches
from hvd_adam.training.checkpoint_writer import CheckpointWriter
from hvd_adam.training.condition import condition_line
from hvd_adam.training.evaluation import evaluate, running_mean
from hvd_adam.training.heartbeat import Heartbeat
from hvd_adam.training.launch_facts import agree_before_step_1, launch_facts, place
from hvd_adam.training.preemption import StopRequest
from hvd_adam.training.preparation import (
    Parts,
    average,
    check_ranks,
    check_task,
    load_optimizer_state,
    load_weights,
    optimizer_state,
    prepare,
    set_threads,
    unknown_measure,
)
from hvd_adam.training.progress import Follow
from hvd_adam.training.result import PHASES, Result, finished
from hvd_adam.training.run_lock import held
from hvd_adam.training.rundir import FINISHED, keep_config, open_run, save_weights, write_environment, write_json
from hvd_adam.training.trace import Trace, cut_back


def train(
    config: RunConfig,
    run: str | None,
    resume: bool,
    say: Callable[[str], None] | None = None,
    stop: StopRequest | None = None,
    world: World | None = None,
    follow: Follow | None = None,
) -> Result | None:
    """Trains as `config` says, on all ranks; the result on rank 0, None elsewhere.

    Args:
        run: the run directory; None makes one under runs/.
        resume: go on from the newest checkpoint, where there is one.
        say: takes each line of progress, on rank 0.
        stop: the flag that signals raise.
        world: one that is open, and stays open: for a process that makes many runs.
        follow: is told of each step, on rank 0.

    Raises:
        HvdAdamError: see the class of each; all ranks raise alike where all can know.
    """
    stop = stop or StopRequest()
    task = check_task(config)
    mine = world is None
    world = world or init(config.engine)
    check_ranks(config, world)
    set_threads(config, world.local_size)
    parts = prepare(config, task, world.device)
    agree_before_step_1(world, config, parts.steps)
    path = open_run(world, config, run, resume)
    with held(world, path):
        keep_config(world, path, config)
        result = from_root(world, lambda: finished(path, parts.steps, config.max_seconds))
        if result is None:  # one that has ended stays as it is, its trace as well
            shown = (say, follow) if world.rank == 0 else (None, None)
            result = _Trainer(config, world, parts, path, resume, stop, *shown).run()
    if mine:
        world.close()
    return result if world.rank == 0 else None


class _Trainer:
    def __init__(
        self,
        config: RunConfig,
        world: World,
        parts: Parts,
        path: Path,
        resume: bool,
        stop: StopRequest,
        say: Callable[[str], None] | None,
        follow: Follow | None,
    ) -> None:
        self.config, self.world, self.path, self.resume = config, world, path, resume
        self.stop, self.say, self.follow = stop, say, follow
        self.parts, self.task, self.model, self.steps = parts, parts.task, parts.model, parts.steps
        self.result = Result(path, target=parts.task.target, ranks=world.size, workers=config.workers)
        saved = checkpoint.load_newest(world, path / "checkpoints", config)
        if saved:
            self._restore(saved)
        self.optimizer: DistributedOptimizer = average(config, world, parts)
        if saved:
            self.optimizer.load_averaging_state(saved["averaging"])
        self.start = self.saved_at = self.result.step
        self.reached = self.result.has_reached(self.config)
        self.due = bool(saved and saved.get("evaluation_due"))  # the evaluation of this step is still to be made
        self.trace = self._open_trace()
        self.writer = None if world.rank else CheckpointWriter(path / "checkpoints", config, self.trace.sync)
        self.stall: float | None = None  # seconds that the last checkpoint took from the step

    def run(self) -> Result:
        """Steps from where the run stands to the end, or to a stop that some rank was asked for."""
        self.heart = Heartbeat(self.path, self.world.rank, self.world.host, self.config.stall_limit)
        self.optimizer.tell = self.heart.at
        try:
            self._announce()
            evaluations = set(self.config.evaluate.steps(self.steps))
            if self.due or (self.start == 0 and 0 in evaluations):
                self._evaluate(self.start, None)
            if not self.due:
                self._steps(evaluations)
            self.result.status, self.result.ended_by = self._ending()
        except BaseException:
            status = "interrupted" if self.result.status == "running" else self.result.status
            self.heart.stop(status)
            self._close(status)
            raise
        self.heart.stop(self.result.status)
        from_root(self.world, lambda: self._close(self.result.status))
        return self.result

    def _steps(self, evaluations: set[int]) -> None:
        for step in range(self.start + 1, self.steps + 1):
            if self.reached:
                return
            self.heart.step = step
            self.heart.alive()
            rates = self.parts.adam.rates()[0]
            spent = self._passes(step)
            self.heart.at("wait")
            outcome = self.optimizer.step(stop=self.stop.flag or self._out_of_time())
            self.optimizer.zero_grad()
            self._record(step, spent, outcome, rates)
            ends = outcome.stop_asked or step == self.steps
            if ends:  # before the evaluation: one that fails, or that the end of the job cuts off, costs no step
                self.due = step in evaluations
                self._save(step, last=True)
            if step in evaluations:
                self._evaluate(step, outcome.loss, hurry=outcome.stop_asked and self.config.max_seconds is None)
            if ends:
                return
            ends = self.due or self.reached
            if ends or self._is_due(step):
                self._save(step, last=ends)
            if ends:
                return

    def _out_of_time(self) -> bool:
        """Rank 0's clock decides for all, through the flag that rides the step."""
        limit = self.config.max_seconds
        return limit is not None and self.world.rank == 0 and sum(self.result.seconds.values()) >= limit

    def _ending(self) -> tuple[str, str]:
        if self.due:
            return "stopped", "signal"
        if self.reached:
            return "done", "target"
        if self.result.step == self.steps:
            return "done", "steps"
        return ("done", "time") if self._out_of_time() and not self.stop.flag else ("stopped", "signal")

    def _passes(self, step: int) -> dict[str, float]:
        """Forward and backward of this rank's workers; the seconds of each phase."""
        spent = dict.fromkeys(PHASES, 0.0)
        heart = self.heart
        for worker in self.optimizer.workers(step):
            then = self._now()
            heart.at("data")
            for batch in batches(self.config, self.world, self.parts, step, worker):
                now = self._now()
                spent["data"] += now - then
                heart.at("forward")
                with autocast(self.config, self.world):
                    loss = self.task.loss(self.model, batch)
                then, now = now, self._now()
                spent["forward"] += now - then
                heart.at("backward")
                loss.backward()
                then, now = now, self._now()
                spent["backward"] += now - then
                self.optimizer.add(loss.detach(), self.config.local_batch)
                heart.at("data")
                then = self._now()
        return spent

    def _now(self) -> float:
        settle(self.world.device)
        return time.perf_counter()

    def _record(self, step: int, spent: dict[str, float], outcome: Outcome, rates: Any) -> None:
        result = self.result
        spent["wait"], spent["step"] = outcome.wait_seconds, outcome.step_seconds
        spent["backward"] -= outcome.wait_in_backward
        for phase in PHASES:
            result.seconds[phase] += spent[phase]
        self.heart.seconds = result.seconds
        result.step, result.samples = step, result.samples + outcome.samples
        result.skipped += outcome.skipped
        result.in_a_row = result.in_a_row + 1 if outcome.skipped and not outcome.overflowed else 0
        self.trace.write(
            "step", step=step, samples=result.samples, seconds=self._rounded(spent),
            loss=outcome.loss, grad_norm=outcome.grad_norm, lr=rates.lr, beta1=rates.beta1, beta2=rates.beta2,
            skipped=outcome.skipped, **_noise(outcome),
        )  # fmt: skip
        if self.follow:
            self.follow(step, self.steps, outcome.loss, outcome.samples / sum(spent.values()))
        if result.in_a_row >= self.config.skip_nonfinite.stop_after:
            result.status, result.ended_by = "failed", "diverged"
            raise RunError(
                f"{result.in_a_row} steps in a row had a gradient that is not finite, the last at step {step}",
                "the run has diverged, or its data holds a NaN",
                "lower the learning rate, set clip_norm, or look at the data",
            )

    def _rounded(self, spent: dict[str, float]) -> dict[str, float]:
        """For the trace; with what the checkpoint after the step before has cost, where there was one."""
        stall, self.stall = self.stall, None
        return {k: round(v, 6) for k, v in [*spent.items(), *([("checkpoint", stall)] if stall is not None else [])]}

    def _evaluate(self, step: int, loss: float | None, hurry: bool = False) -> None:
        """Measures; asked to stop, before (`hurry`) or meanwhile, it leaves that to the next launch: `due`."""
        self.heart.at("evaluation")
        started = time.perf_counter()
        how = self.config.evaluate
        with autocast(self.config, self.world):
            measures = None if hurry else evaluate(
                self.task, self.model, self.optimizer,
                how.chunk, how.train, self._asked, how.test, failing=partial(self._keep, step),
            )  # fmt: skip
        self.due = measures is None
        if measures is None:
            return
        evaluations = [*self.result.evaluations, (step, measures)]
        if "gradient_norm" in measures:
            measures["mean_gradient_norm"] = running_mean([(t, found["gradient_norm"]) for t, found in evaluations])
        if not set(measures) >= {target.measure for target in self.config.until}:
            self._keep(step)
            raise self._unknown_measure(measures)
        self.result.evaluations, self.result.measures = evaluations, measures
        self.reached = self.result.has_reached(self.config)
        seconds = round(time.perf_counter() - started, 6)
        self.trace.write("eval", step=step, samples=self.result.samples, seconds=seconds, **measures)
        if self.say:
            shown = "  ".join(f"{name} {value:.4g}" for name, value in measures.items())
            training = "" if loss is None else f"  training loss {loss:.4g}"
            share = f" (first {how.test:,} of {self.task.test_size:,})" if how.test else ""
            self.say(f"step {step}/{self.steps}{training}  test{share} {shown}")

    def _keep(self, step: int) -> None:
        """All ranks together: an evaluation that fails, as in a task of one's own, costs no step.

        They wait for rank 0 to have written, since the first that raises ends the job.
        """
        if self.saved_at == step:
            return
        self.due = True
        if from_root(self.world, lambda: self._save(step, last=True)) and self.say:
            self.say(f"step {step} is saved; --resume goes on with its evaluation")

    def _asked(self) -> bool:
        """Looked at in each round of an evaluation: a sign of life."""
        self.heart.alive()
        return self.stop.flag

    def _unknown_measure(self, measures: dict[str, float]) -> ConfigError:
        wrong = next(target for target in self.config.until if target.measure not in measures)
        return unknown_measure(wrong, self.config.task.name, measures)

    def _is_due(self, step: int) -> bool:
        every = self.config.checkpoint.every
        return every is not None and step % every == 0

    def _save(self, step: int, last: bool) -> bool:
        """Rank 0 writes beside the training, at once where it is to end; the next line of the trace has the stall.

        Returns:
            False where it is known by now that nothing was written.
        """
        self.saved_at = step
        if self.writer is None:
            return True
        content = {
            "model": self.model.state_dict(),
            "optimizer": optimizer_state(self.parts),
            "averaging": self.optimizer.averaging_state(),
            "evaluation_due": self.due,
            **self.result.to_checkpoint(),
        }
        if not last:
            self.stall = self.writer.save(step, content)
            return True
        written = self.writer.save_now(step, content)
        if not written and self.say:
            self.say(f"step {step} could not be saved: the next start goes on from an older one, or anew")
        return written

    def _restore(self, saved: dict[str, Any]) -> None:
        load_weights(self.model, saved["model"])
        load_optimizer_state(self.parts, saved["optimizer"])
        self.result.restore(saved)

    def _open_trace(self) -> Trace:
        facts = launch_facts(self.world, self.config)
        file = self.path / "trace.jsonl"

        def make_room() -> None:
            cut_back(file, self.start, evaluated=not self.due)
            write_environment(self.path, {**facts, "resumed_from": self.start})

        from_root(self.world, make_room)
        return Trace(
            None if self.world.rank else file,
            steps=self.steps,
            target=self.task.target,
            train_size=self.task.train_size,
            test_size=self.task.test_size,
            test_measured=self.config.evaluate.test or self.task.test_size,
            **facts,
        )

    def _announce(self) -> None:
        if self.say:
            config, member = self.config, self.config.member()
            self.say(
                f"{config.task.name}: {config.workers} workers x {config.local_batch * config.accumulation} samples on "
                f"{self.world.size} rank{'s' if self.world.size > 1 else ''} ({place(self.world)}), "
                f"{self.steps} steps, {config.precision}, determinism {config.determinism}"
            )
            self.say(
                f"{member.name}: lr {member.alpha} (as written, whatever the number of workers), "
                f"beta1 {member.beta}, beta2 {member.theta}"
            )
            judgement = condition_line(config, self.steps)
            if judgement:
                self.say(judgement)
            if self.start:
                self.say(f"goes on from the checkpoint of step {self.start}")
            elif self.resume:
                self.say(f"starts at step 0: there is no checkpoint in {self.path}")

    def _close(self, status: str) -> None:
        """Rank 0 writes what came of the run. What the disk does not take makes it a failed one, to be resumed."""
        if self.writer is None:
            return
        self.writer.finish()
        refusal: RunError | None = None
        for write in (self._write_weights, self._end_trace, self._write_result):
            try:
                write("failed" if refusal else status)
            except RunError as error:
                refusal = refusal or error
        if refusal:
            raise refusal

    def _write_weights(self, status: str) -> None:
        if status == "done":
            save_weights(self.path, self.model)

    def _end_trace(self, status: str) -> None:
        self.trace.write("end", step=self.result.step, status=status)
        self.trace.close()

    def _write_result(self, status: str) -> None:
        write_json(self.path / FINISHED, self.result.to_plain(self.config, self.steps, status))


def _noise(outcome: Outcome) -> dict[str, float]:
    return {} if outcome.worker_square is None else {"worker_square": outcome.worker_square}
