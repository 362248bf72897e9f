"""A verdict as text: a screen for people, and a line for logs."""

from __future__ import annotations

import textwrap

from hvd_adam.theory.verdict import STATEMENTS, Clause, State, Verdict

WIDTH = 80
_INDENT = 10
LIMITS = (
    "sufficient, not necessary: what fails may well train. Assumed: A1 f bounded below, A2 grad f Lipschitz, "
    "A3 g unbiased, A4 E|g|^2 bounded, A5 its variance too"
)


def screen(verdict: Verdict, title: str, breaks: str = "") -> str:
    """The whole report, about 24 lines of 80 characters.

    Args:
        title: what was asked, for instance "adam, lr 0.001".
        breaks: what the loss at hand visibly does to the assumptions.
    """
    lines = [_cut(f"Will it converge?  {title}, T = {verdict.steps}")]
    for name, text in (("alpha_t", verdict.alpha), ("theta_t", verdict.theta), ("beta_t", verdict.beta)):
        lines.append(_cut(f"  {name:8}{text}"))
    lines += ["", headline(verdict)]
    lines.append(f"  {'clause of Corollary 9':50}{'verdict':11}evidence")
    lines += [_row(clause) for clause in verdict.clauses]
    lines.append("")
    lines += finding(verdict)
    if verdict.bound:
        bound = verdict.bound
        said = (
            f"T = {bound.steps:g}: E|grad f| <= sqrt({bound.start:.3g} C + {bound.ratio:.3g} C'); {_constant(verdict)}"
        )
        lines += entry("bound", said)
    if verdict.notes:
        lines += entry("note", "; ".join(verdict.notes))
    lines += entry("limits", LIMITS + (f"; {breaks}" if breaks else "") + ".")
    return "\n".join(lines)


def finding(verdict: Verdict) -> list[str]:
    """Why, what to change, and the rate, as lines."""
    lines = entry("why", why(verdict))
    if verdict.repair:
        lines += entry("change", f"{verdict.repair.text} ({verdict.repair.evidence})")
    if verdict.rate and verdict.holds:
        lines += entry("rate", f"E|grad f(x_tau)| = O({verdict.rate}), tau uniform on 1..T")
    return lines


def headline(verdict: Verdict) -> str:
    """The verdict in one line."""
    numbers = ", ".join(str(c.number) for c in verdict.failing)
    which = f"clause{'s' if len(verdict.failing) > 1 else ''} {numbers}"
    if verdict.holds:
        if verdict.is_proved:
            return "CONVERGES: the sufficient condition holds (proved)."
        return "HOLDS AS FAR AS LOOKED: numeric evidence, no proof."
    if verdict.state is State.VIOLATED:
        kind = "proved" if verdict.is_proved else "numeric"
        return f"NOT SHOWN TO CONVERGE: the condition is violated ({kind}), {which}."
    return f"NOT SHOWN TO CONVERGE: undecided, {which}."


def line(verdict: Verdict) -> str:
    """The verdict for a log: one line."""
    if verdict.holds:
        kind = "proved" if verdict.is_proved else "numeric"
        rate = f", rate T {verdict.rate}".replace("rate T T", "rate T") if verdict.rate else ""
        return f"condition: holds ({kind}){rate}"
    change = f"; change: {verdict.repair.text}" if verdict.repair else ""
    return f"condition: {verdict.state.value}, {why(verdict)}{change}; see hvd-adam check"


def why(verdict: Verdict) -> str:
    """The first clause that fails with its finding, or what the positive verdict rests on."""
    failing = verdict.failing
    if failing:
        clause = failing[0]
        after = f"; holds from t = {clause.resumes}" if clause.resumes else ""
        only = f" at t = {clause.first} only" if clause.resumes and clause.resumes - 1 == clause.first else ""
        return f"clause {clause.number}{only}: {clause.says}{after}"
    return f"{verdict.clauses[2].says}; {verdict.clauses[3].says}"


def _constant(verdict: Verdict) -> str:
    constant = verdict.constant
    if constant is None:
        return "C_0 unknown"
    said = f"C_0 = {constant.value:.4g}"
    return said if constant.evidence.is_proof else f"{said} (numeric {constant.evidence.text})"


def _row(clause: Clause) -> str:
    evidence = clause.evidence
    kind = "proved" if evidence.is_proof else f"numeric{'' if evidence.far is None else f', {evidence.far:.0e}'}"
    return f"  {clause.number} {STATEMENTS[clause.number]:48}{clause.state.value:11}{kind}"


def entry(name: str, text: str) -> list[str]:
    """A named paragraph of a screen."""
    wrapped = textwrap.wrap(text, WIDTH - _INDENT, break_long_words=True)
    return [f"  {name if i == 0 else '':{_INDENT - 2}}{part}" for i, part in enumerate(wrapped)]


def _cut(text: str) -> str:
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."
