"""What a picture is: drawn twice, for wide and for narrow pages, with the numbers behind it as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hvd_adam.study.analysis import CellResult, Series
from hvd_adam.study.figures import whole
from hvd_adam.study.pictures.canvas import Canvas
from hvd_adam.study.verdict import one_local_batch
from hvd_adam.terminal import plural

WIDE, NARROW = (560, 350), (340, 310)

Table = tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        name: of its file, without ending.
        note: what is drawn, and how sure it is.
        alt: what one sees, in words.
        draw: from a size in pixels to the drawn canvas.
        table: head and rows: the numbers that are drawn.
    """

    name: str
    title: str
    note: str
    alt: str
    draw: Callable[[tuple[int, int]], Canvas]
    table: Table

    @property
    def html(self) -> str:
        """Both drawings; the page shows the one that fits."""
        wide, narrow = (self.draw(size).svg(False, self.alt, css) for size, css in ((WIDE, "wide"), (NARROW, "narrow")))
        return wide + narrow

    @property
    def file(self) -> str:
        """A file of its own."""
        return self.draw(WIDE).svg(True, self.alt)


def shades(number: int) -> list[float]:
    """Opacities from light to full: cells in the order of their batch."""
    return [0.35 + 0.65 * i / max(number - 1, 1) for i in range(number)]


def said(series: Series, cell: CellResult) -> str:
    """A cell in few words: its workers, or its batch, or its name where neither tells cells apart."""
    if one_local_batch(series) or series.axis == "workers":
        short = plural(cell.cell.workers, "worker")
    else:
        short = f"batch {whole(cell.cell.batch)}"
    twins = [one for one in series.cells if (one.cell.workers, one.cell.batch) == (cell.cell.workers, cell.cell.batch)]
    return short if len(twins) == 1 else cell.cell.name


def briefly(series: Series, cells: Sequence[CellResult]) -> tuple[list[str], str]:
    """Names that fit beside a line, and what they count; where cells differ in more, whole names and ""."""
    names = [said(series, cell) for cell in cells]
    kinds = {
        name.rstrip("s").split()[0] if name.startswith("batch") else name.split()[-1].rstrip("s") for name in names
    }
    if kinds <= {"worker"}:
        return [name.split()[0] for name in names], "workers"
    if kinds <= {"batch"}:
        return [name.split()[-1] for name in names], "batch"
    return names, ""


def ticks(series: Series) -> tuple[list[float], Callable[[float], str], str]:
    """Where the cells lie on the axis, how a tick is written, and the axis's name."""
    places = sorted({series.position(cell.cell) for cell in series.cells})
    if series.axis == "workers":
        return [float(place) for place in places], whole, "workers"
    if not one_local_batch(series):
        return [float(place) for place in places], whole, "batch (samples a step)"
    workers = {cell.cell.batch: cell.cell.workers for cell in series.cells}
    return (
        [float(place) for place in places],
        lambda at: f"{whole(workers[int(at)])}\n{whole(at)}",
        "workers, batch below",
    )


def rows_of(
    cells: Sequence[CellResult], series: Series, *columns: Callable[[CellResult], str]
) -> tuple[tuple[str, ...], ...]:
    """A table's rows: the cell's name, then a column each."""
    return tuple((said(series, cell), *(column(cell) for column in columns)) for cell in cells)
