"""hvd-adam predict."""

from __future__ import annotations

import click

_ABOVE_ZERO = click.FloatRange(min=0, min_open=True)


@click.command()
@click.argument("probe", required=False, type=click.Path(readable=False))
@click.option("--sigma", type=float, help="Root of the total variance of one sample's gradient.")
@click.option("--eps", type=float, help="Gradient norm to reach.")
@click.option("--theta", type=float, help="theta of Theorem 17's schedule (1 - theta/T).  [default: 1]")
@click.option("--alpha", type=_ABOVE_ZERO, help="alpha of Theorem 17's schedule (alpha/sqrt(T)).  [default: 1]")
@click.option("--beta", type=click.FloatRange(0, 1, max_open=True), help="beta.  [default: 0.9]")
@click.option("--d", "dim", type=click.IntRange(min=1), help="Number of variables.")
@click.option("--lipschitz", type=_ABOVE_ZERO, help="L: Lipschitz constant of the gradient.")
@click.option("--gradient-bound", type=_ABOVE_ZERO, help="G: root of the bound on E||g||^2.")
@click.option("--gap", type=_ABOVE_ZERO, help="f(x_1) - f*.")
@click.option("--local-batch", type=click.IntRange(min=1), help="Samples of one worker a step.  [default: 1]")
@click.option("--workers-to", type=click.IntRange(min=1), help="Largest number of workers in the table.")
@click.option("--known", metavar="S:T", help="A measured point: T steps at a batch of S samples.")
@click.option(
    "--plot",
    metavar="FILE",
    type=click.Path(dir_okay=False, readable=False),
    help="Draw the curve: .svg, .png or .pdf.",
)
@click.option("--json", "as_json", is_flag=True, help="Numbers as JSON.")
def predict(probe: str | None, plot: str | None, as_json: bool, **given: object) -> None:
    """Predict steps against batch, and how many workers pay: from PROBE (a probe's folder), or from --sigma and --eps.

    With --d, --lipschitz, --gradient-bound and --gap, or a probe, Theorem 17's bound is inverted too.
    """
    import json

    from hvd_adam.probe.outlook import curve, outlook, to_plain

    prediction = outlook(probe, given)
    if plot:
        from hvd_adam.probe.picture import draw

        draw(prediction, plot)
    click.echo(json.dumps(to_plain(prediction), indent=1) if as_json else curve(prediction))
    if plot and not as_json:
        click.echo(f"picture: {plot}")
