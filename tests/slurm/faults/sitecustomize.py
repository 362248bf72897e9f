"""Found first by every Python of a test's job: makes its training slow while the test wants to interrupt it.

TEST_HOLD: a file; while it is there, TEST_PAUSE seconds pass, which cost no core, before each step, and
TEST_EVALUATION_PAUSE seconds in each round of an evaluation. TEST_STALL, as in "1:23:data": rank 1 stands still in step
23 while it is there, in its data, in backward, or (stop) all of it by SIGSTOP. TEST_EVENTS: a file to which rank 0
writes when it begins and ends a step, an evaluation, a checkpoint's write, which takes TEST_WRITE seconds more.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

if "TEST_HOLD" in os.environ and sys.argv[0] != "-c":
    import torch

    from hvd_adam.optim.averaging import DistributedOptimizer
    from hvd_adam.training import checkpoint, loop
    from hvd_adam.training.loop import _Trainer

    passes, reduce = _Trainer._passes, DistributedOptimizer.reduce_over_workers

    def pause(name):
        if os.path.exists(os.environ["TEST_HOLD"]):
            time.sleep(float(os.environ.get(name, 0)))

    def tell(what, edge, step):
        if "TEST_EVENTS" in os.environ:
            line = json.dumps({"what": what, "edge": edge, "step": step, "time": time.time(), "pid": os.getpid()})
            with open(os.environ["TEST_EVENTS"], "a") as file:
                file.write(line + "\n")

    rank, at, where = (os.environ.get("TEST_STALL") or "-1:0:").split(":")
    batches, backward = loop.batches, torch.Tensor.backward
    now = {"step": 0, "rank": -1}

    def stands(place):
        return (str(now["rank"]), str(now["step"]), place) == (rank, at, where) and os.path.exists(
            os.environ["TEST_HOLD"]
        )

    def slow_passes(self, step):
        now.update(step=step, rank=self.world.rank)
        if not self.world.rank:
            tell("step", "begin", step)
        pause("TEST_PAUSE")
        if stands("stop"):
            os.kill(os.getpid(), signal.SIGSTOP)
        return passes(self, step)

    def stalled_batches(*arguments):
        for batch in batches(*arguments):
            while stands("data"):
                time.sleep(0.1)
            yield batch

    def stalled_backward(self, *arguments, **more):
        while stands("backward"):
            time.sleep(0.1)
        return backward(self, *arguments, **more)

    def slow_reduce(self, values):
        pause("TEST_EVALUATION_PAUSE")
        return reduce(self, values)

    evaluate, record, save, sync_names = _Trainer._evaluate, _Trainer._record, checkpoint.save, checkpoint._sync_names
    open_path = Path.open

    def told_record(self, step, *arguments):
        record(self, step, *arguments)
        if not self.world.rank:
            tell("step", "end", step)

    def told_evaluate(self, step, *arguments, **more):
        if self.world.rank:
            return evaluate(self, step, *arguments, **more)
        tell("evaluation", "begin", step)
        evaluate(self, step, *arguments, **more)
        tell("evaluation", "end", step)

    class Slowly:
        """A file that takes its bytes in ten pieces."""

        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            size = -(-len(data) // 10)
            for start in range(0, len(data), size):
                self.file.write(data[start : start + size])
                self.file.flush()
                pause("TEST_WRITE")

    def slow_open(self, mode="r", *arguments, **more):
        file = open_path(self, mode, *arguments, **more)
        return Slowly(file) if mode == "wb" and self.name.endswith(".new") else file

    def told_save(folder, step, *arguments):
        tell("write", "begin", step)
        path = save(folder, step, *arguments)
        tell("write", "end", step)
        return path

    def slow_names(folder):
        pause("TEST_WRITE")  # the new file has its name, the one before the last is not yet removed
        return sync_names(folder)

    if "TEST_EVENTS" in os.environ:
        _Trainer._evaluate, _Trainer._record, Path.open = told_evaluate, told_record, slow_open
        checkpoint.save, checkpoint._sync_names = told_save, slow_names
    loop.batches, torch.Tensor.backward = stalled_batches, stalled_backward
    _Trainer._passes, DistributedOptimizer.reduce_over_workers = slow_passes, slow_reduce
