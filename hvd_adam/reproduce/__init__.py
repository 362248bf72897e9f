"""The paper's figures and claims, made again: one module a figure, one for pictures, one for the page in docs."""

from hvd_adam.reproduce.report import Report, Statement, Table

NAMES = ("figure-1", "figure-4", "reddi", "speedup-law")

__all__ = ["NAMES", "Report", "Statement", "Table"]
