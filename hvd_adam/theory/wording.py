"""Orders and germs as text."""

from __future__ import annotations

from fractions import Fraction

from hvd_adam.theory.bands import Band
from hvd_adam.theory.growth import Growth, rate_order
from hvd_adam.theory.orders import Number, Order


def exponent_text(value: Number) -> str:
    """A short decimal, or the fraction where that is exact and a decimal is not.

    >>> exponent_text(Fraction(-1, 6)), exponent_text(Fraction(1, 4))
    ('-1/6', '0.25')
    """
    short = f"{float(value):.6g}"
    if isinstance(value, Fraction) and Fraction(short) != value and value.denominator < 1000:
        return str(value)
    return short


def order_text(order: Order, variable: str) -> str:
    """The order as a product of powers.

    >>> order_text(Order(a=Fraction(-1, 4), b=Fraction(1, 2)), "T")
    'T^-0.25 (log T)^0.5'
    """
    parts = []
    if order.fast:
        p, k = order.fast[0]
        base = variable if p == 1 else f"{variable}^{exponent_text(p)}"
        parts.append(f"exp({float(k):.4g} {base})")
    for base, exponent in ((variable, order.a), (f"log {variable}", order.b), (f"log log {variable}", order.d)):
        if exponent != 0:
            bracketed = f"({base})" if " " in base and exponent != 1 else base
            parts.append(bracketed if exponent == 1 else f"{bracketed}^{exponent_text(exponent)}")
    return " ".join(parts) or "a constant"


def rate_text(growth: Growth) -> str:
    """The order of E||grad f(x_tau)|| by Theorem 2; "" where algebra does not tell."""
    order = rate_order(growth)
    return order_text(order, "T") if order else ""


def limit_text(band: Band, variable: str) -> str:
    """The order of a band's upper end."""
    return "0" if band.high.is_zero else order_text(band.high.size, variable)
