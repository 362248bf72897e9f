"""A warm process that makes one run after the other: importing torch for each would dominate a small study.

    python -m hvd_adam.study.worker FOLDER [ENGINE]          alone, or as ranks under any launcher

Rank 0 reads orders from standard input, a JSON object a line, and answers with lines that begin with `MARK`:

    {"config": ..., "run": DIR}                 all ranks make the run together
    {"apart": [such, ...], "claims": FOLDER}    each rank makes runs by itself, those whose number it is the first to
                                                write there; each says what it begins and ends, and that it is done

When its input ends, all ranks end at once, also in the middle of a run: whoever gave the orders is gone, or wants no
more. FOLDER is the study's, so that a list of processes says what it works for.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from hvd_adam.terminal import complain, flushed

MARK = "\x1ehvd-adam "
_LONGEST = 600  # characters of a reason: mpirun hands on pieces of 4,096 bytes, and would mix longer lines of two ranks


def main() -> None:
    """Works until standard input ends."""
    from hvd_adam.comm import World, init

    world: World = init((sys.argv[2:] or [""])[0] or None)
    orders: queue.Queue[bytes] = queue.Queue()
    if world.rank == 0:
        threading.Thread(target=_read, args=(orders,), daemon=True).start()
        _answer({"ready": True, "ranks": world.size})
    try:
        _work(orders, world)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # ends all ranks, where there are more
        flushed()
        os._exit(1)  # an orderly end would wait for the thread that reads


def _work(orders: queue.Queue[bytes], world: Any) -> None:
    from hvd_adam.optim.agreement import from_root

    while True:
        order = from_root(world, lambda: json.loads(orders.get()))
        if order is None:
            world.close()
            return
        answer = _work_apart(order, world) if "apart" in order else _obey(order, world)
        if world.rank == 0:
            orders.task_done()
            _answer(answer)


def _work_apart(order: dict[str, Any], world: Any) -> dict[str, Any]:
    from hvd_adam.comm.solo import SoloWorld

    alone, done = SoloWorld(), {"done": True}
    if world.device.type == "cuda":
        alone.device = world.device  # whose random state is the one that is set
    for number, one in enumerate(order["apart"]):
        if _is_first(Path(order["claims"]) / str(number)):
            _answer({"begins": number})
            _answer({"ends": number, **_outcome(one, alone)})
    if world.rank:
        _answer(done)
    world.barrier()  # the order is not done before all are
    return done


def _outcome(order: dict[str, Any], alone: Any) -> dict[str, Any]:
    """Of a run of this rank's own: a fault in it is no end of the others'."""
    try:
        return _obey(order, alone)
    except Exception as error:
        text = traceback.format_exc()
        complain(f"a run has failed:\n{text.rstrip()}")  # whole: an answer is short
        return {"failed": f"{type(error).__name__}: {error}\n{text}", "code": 1}


def _is_first(claim: Path) -> bool:
    try:
        claim.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _read(orders: queue.Queue[bytes]) -> None:
    for line in sys.stdin.buffer:
        orders.put(line)
    if orders.unfinished_tasks:
        os._exit(0)  # and the launcher ends the other ranks, which takes it a second
    orders.put(b"null")


def _obey(order: dict[str, Any], world: Any) -> dict[str, Any]:
    from hvd_adam.config import from_plain
    from hvd_adam.errors import HvdAdamError
    from hvd_adam.training.loop import train

    started = time.perf_counter()
    try:
        result = train(from_plain(order["config"]), order["run"], resume=True, world=world)
    except HvdAdamError as error:  # all ranks raise alike, so all of them come here
        return {"failed": str(error), "code": error.exit_code}
    status = result.status if result else ""
    return {"status": status, "seconds": round(time.perf_counter() - started, 3)}


def _answer(content: dict[str, Any]) -> None:
    if "failed" in content:
        content = {**content, "failed": _short(content["failed"])}
    line = f"{MARK}{json.dumps(content, ensure_ascii=False)}\n"
    sys.stdout.flush()
    sys.stdout.buffer.write(line.encode(errors="replace"))
    sys.stdout.buffer.flush()


def _short(reason: str) -> str:
    """Its beginning, which says what is wrong, and its end, which says where."""
    return reason if len(reason) <= _LONGEST else f"{reason[: _LONGEST // 3]}\n[...]\n{reason[-2 * _LONGEST // 3 :]}"


if __name__ == "__main__":
    main()
