"""What is trained: models, data sets, synthetic problems, and which worker sees which sample."""

from hvd_adam.tasks.registry import Task, get
from hvd_adam.tasks.samplers import Sampler

__all__ = ["Sampler", "Task", "get"]
