"""Found first by every Python of a test's job: makes its training slow while the test wants to interrupt it.

TEST_HOLD: a file; while it is there, TEST_PAUSE seconds pass, which cost no core, before each step, and
TEST_EVALUATION_PAUSE seconds in each round of an evaluation.
"""

import os
import sys
import time

if "TEST_HOLD" in os.environ and sys.argv[0] != "-c":
    from hvd_adam.optim.averaging import DistributedOptimizer
    from hvd_adam.training.loop import _Trainer

    passes, reduce = _Trainer._passes, DistributedOptimizer.reduce_over_workers

    def pause(name):
        if os.path.exists(os.environ["TEST_HOLD"]):
            time.sleep(float(os.environ.get(name, 0)))

    def slow_passes(self, step):
        pause("TEST_PAUSE")
        return passes(self, step)

    def slow_reduce(self, values):
        pause("TEST_EVALUATION_PAUSE")
        return reduce(self, values)

    _Trainer._passes, DistributedOptimizer.reduce_over_workers = slow_passes, slow_reduce
