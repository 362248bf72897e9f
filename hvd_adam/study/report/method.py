"""How the figures are found, and what they assume: one page."""

from __future__ import annotations

from hvd_adam.study.analysis import Analysis
from hvd_adam.study.linearity import EXCESS
from hvd_adam.study.report.blocks import Block, Heading, Text

_TEXT = (
    "Steps to the target. A run meets the target at the first look at which it holds, so its number of steps T is "
    "known to lie between two looks. Looks lie on one geometric grid of steps in every cell, factor "
    "{resolution:g} apart: a coarse grid widens all cells alike and does not tilt the slope. A run whose budget "
    "ended first is right-censored: T is larger than its last step. A run that diverged has no T: it counts in "
    "the share of runs that reach, and in nothing else.",
    "Model. log T is normal about a mean of its own for each cell, with one spread for all cells. Likelihoods use "
    "the interval in which T lies, never a point in it. Intervals are profile likelihoods against an F threshold "
    "that allows for few seeds; without censoring they are Student's t intervals. How often they cover, by "
    "simulation: docs/validity.md.",
    "Fit. Both assumptions on the noise of log T are tested on randomised quantile residuals (Dunn and Smyth 1996): "
    "that they are normal (Shapiro and Wilk), and that cells have one spread (Brown and Forsythe). Both tests err on "
    "the side of silence. Where either rejects at 1 % the verdict says so; docs/validity.md shows what intervals "
    "cover when the model is wrong in known ways.",
    "Slope. The least-squares slope of the cells' mean log T on log batch, all cells counting alike. -1 is linear "
    "speed-up: twice the batch, half the steps. It describes the cells that were run and no others, and on a "
    "curve it is an average.",
    "Linear up to. The largest batch that needs at most {excess} % more samples than the pooled start. The start "
    "is the first third of the cells, two at least where there are three, so that no single noisy point anchors "
    "the ideal line. The interval's lower end is the largest batch that is shown to pass, its upper end the last "
    "that is not shown to fail.",
    "Critical batch. B_crit of S = S_min (1 + B_crit / batch), McCandlish et al. 2018 (arXiv 1812.06162), given "
    "only where the cells do not contradict that curve at 5 %. At B_crit a run needs twice S_min. No other use of "
    "the word is made here.",
    "Regions. Perfect scaling, diminishing returns and maximal parallelism, Shallue et al. 2019 (JMLR 20:112), by the "
    "same curve: the first ends where a batch needs {excess} % more samples than the smallest ones, at B_crit / 5; the "
    "last begins where it needs {excess} % more steps than the largest ones, at 5 B_crit. Their intervals are "
    "B_crit's. A border that no batch of the study lies beyond was not seen, and is the curve's alone.",
    "Noise scale and elbow. tr Sigma / |gradient|^2 from the squared norms of each worker's gradient and of their "
    "mean, measured while the runs went on; numerator and denominator are averaged over the second half of the "
    "runs and divided once. The elbow, where T is twice its value at an endless batch, was found between 0.3 and "
    "5 times that scale (docs/theory.md). That range comes from problems with a known answer and is no interval.",
    "Seconds. Phases are timed on rank 0 and hold for the machine and the ranks of this study. Workers that share "
    "a rank take turns: the steps are those of as many nodes, the seconds are not.",
    "Picked learning rates. Where they are tuned, a wrong pick moves all seeds of a cell, so the tuning is repeated on "
    "resampled tuning seeds; the spread of log T that this gives joins the error of slope, range, samples and critical "
    "batch in squares, and the test of the hyperbola allows for it.",
    "Theory mode. There is no number of steps at which a run meets the target: each run is one horizon. The criterion "
    "at its end is fitted against log T on the horizons about the target and inverted; slope and range rest on these "
    "T. Runs of one seed draw the same samples at all horizons and batches, so that errors are counted by seed: "
    "Student's t with one degree of freedom fewer than there are seeds.",
    "What was fixed beforehand: the target, the budget, the seeds and the looks, in the study file. Learning "
    "rates follow the rule that the file names; where they are tuned, the seeds that pick are not the seeds that "
    "report.",
)


def method(made: Analysis) -> list[Block]:
    """The page."""
    excess = f"{100 * (EXCESS - 1):.0f}"
    said = [text.format(resolution=made.study.resolution, excess=excess) for text in _TEXT]
    return [Heading("Method and assumptions"), Text(said)]
