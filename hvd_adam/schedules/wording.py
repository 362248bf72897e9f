"""How a schedule says itself as text that the grammar reads back."""

from __future__ import annotations


def number_text(value: float) -> str:
    """A number as the grammar reads it back: the shortest that gives the same float."""
    text = repr(value).removesuffix(".0")
    return f"({text})" if text.startswith("-") else text


def power_text(base: str, exponent: float) -> str:
    special = {1.0: base, 0.5: f"sqrt({base})"}
    return special.get(exponent, f"{base}^{number_text(exponent)}")
