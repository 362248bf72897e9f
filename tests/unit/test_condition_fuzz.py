"""Random and mutated expressions: a verdict or a ConfigError, no code run, in bounded time.

A few hundred here; 5,000 with HVD_ADAM_CAMPAIGN=1, which also holds each to a second of processor time.
"""

from __future__ import annotations

import os
import sys
import time
import warnings

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hvd_adam.errors import ConfigError
from hvd_adam.theory.condition import check
from hvd_adam.theory.report import screen

CAMPAIGN = bool(os.environ.get("HVD_ADAM_CAMPAIGN"))
RUNS_CODE = {"exec", "compile", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect"}

check(alpha="0.1*cos(t)", beta=0.9, theta="1 - 0.5/T")  # imports what it needs
watching: list[str] | None = None


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if watching is not None and event in RUNS_CODE:
        origin = getattr(arguments[0], "co_filename", "") if event == "exec" else ""
        watching.append(f"{event} {origin}")


sys.addaudithook(_watch)

numbers = st.one_of(
    st.sampled_from(["0", "1", "2", "0.1", "0.5", "0.999", "1e-3", "1e3", "1e300", "1e-300", "pi"]),
    st.floats(0, 100, allow_nan=False).map(lambda x: f"{x:.3g}"),
)
atoms = st.one_of(numbers, st.just("t"), st.just("t"), st.just("T"))


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "^"]), inner).map(lambda x: f"({x[0]}{x[1]}{x[2]})"),
        st.tuples(st.sampled_from(["sqrt", "exp", "log", "cos"]), inner).map(lambda x: f"{x[0]}({x[1]})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda x: f"{x[0]}({x[1]}, {x[2]})"),
        inner.map(lambda x: f"-{x}"),
    )


expressions = st.recursive(atoms, _larger, max_leaves=8)
plausible = st.sampled_from(
    ["0.1/sqrt(t)", "1 - 0.5/t", "1 - 0.9/max(t, 10)^0.7", "0.1*(1 + cos(pi*t/T))", "0.001/T^0.5", "0.9*0.99^t"]
)
noise = st.text("()+-*/^,.tT019 e_sqrtlogminaxcp'\"[]{}\\;=\n\u00e9\u0663\x00", max_size=3)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """An expression with a piece cut out and something else put there, or repeated many times."""
    text = draw(st.one_of(expressions, plausible))
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 3)))
    times = draw(st.sampled_from([1, 1, 1, 1, 2, 50, 3000]))
    return text[:start] + draw(noise) * times + text[end:]


anything = st.one_of(expressions, plausible, mutated())


@settings(
    max_examples=5000 if CAMPAIGN else 200, deadline=None, derandomize=not CAMPAIGN, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(
    alpha=anything,
    theta=anything,
    beta=st.one_of(st.just("0.9"), anything),
    steps=st.sampled_from([1, 7, 10**5, 10**12]),
)
def test_any_text_gets_a_verdict_or_a_message(alpha, theta, beta, steps):
    global watching
    watching, started = [], time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            verdict = check(alpha=alpha, beta=beta, theta=theta, steps=steps)
            assert screen(verdict, "random")
    except ConfigError as error:
        assert len(str(error)) < 1000
    finally:
        events, watching = watching, None
    assert not events
    if CAMPAIGN:
        assert time.process_time() - started < 1.0, (alpha, theta, beta, steps)
