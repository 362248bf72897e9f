"""Found first by every Python of a test's job: makes its training slow while the test wants to interrupt it.

TEST_HOLD: a file; while it is there, TEST_PAUSE seconds pass, which cost no core, before each step, and
TEST_EVALUATION_PAUSE seconds in each round of an evaluation. TEST_STALL, as in "1:23:data": rank 1 stands still in step
23 while it is there, in its data, in backward, or (stop) all of it by SIGSTOP.
"""

import os
import signal
import sys
import time

if "TEST_HOLD" in os.environ and sys.argv[0] != "-c":
    import torch

    from hvd_adam.optim.averaging import DistributedOptimizer
    from hvd_adam.training import loop
    from hvd_adam.training.loop import _Trainer

    passes, reduce = _Trainer._passes, DistributedOptimizer.reduce_over_workers

    def pause(name):
        if os.path.exists(os.environ["TEST_HOLD"]):
            time.sleep(float(os.environ.get(name, 0)))

    rank, at, where = (os.environ.get("TEST_STALL") or "-1:0:").split(":")
    batches, backward = loop.batches, torch.Tensor.backward
    now = {"step": 0, "rank": -1}

    def stands(place):
        return (str(now["rank"]), str(now["step"]), place) == (rank, at, where) and os.path.exists(
            os.environ["TEST_HOLD"]
        )

    def slow_passes(self, step):
        now.update(step=step, rank=self.world.rank)
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

    loop.batches, torch.Tensor.backward = stalled_batches, stalled_backward
    _Trainer._passes, DistributedOptimizer.reduce_over_workers = slow_passes, slow_reduce
