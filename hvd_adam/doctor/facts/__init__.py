"""Gathers the facts, once."""

from __future__ import annotations

from hvd_adam.doctor.environment import Environment
from hvd_adam.doctor.facts import machine, mpi
from hvd_adam.doctor.facts.places import Places
from hvd_adam.doctor.facts.software import software
from hvd_adam.doctor.facts.storage import storage
from hvd_adam.doctor.probes import ask

__all__ = ["Places", "gather"]


def gather(places: Places, patience: float = 1.2) -> Environment:
    """Everything that can be known without starting ranks.

    Args:
        places: where to read.
        patience: seconds that other programs have for their answers, all together.
    """
    answers = ask({**mpi.questions(places), **machine.questions(places)}, places.environ, patience)
    return Environment(
        software=software(places),
        mpi=mpi.mpi(places, answers),
        machine=machine.machine(places, answers),
        gpus=machine.gpus(places, answers),
        job=machine.job(places, answers),
        storage=storage(places),
    )
