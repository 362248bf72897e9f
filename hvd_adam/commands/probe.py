"""hvd-adam probe."""

from __future__ import annotations

import json

import click


@click.command()
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--seconds", type=float, default=60.0, show_default=True, help="How long to train, about.")
@click.option("--eps", type=float, help="Gradient norm that a study would aim at; the probe's late one by default.")
@click.option("--run", metavar="DIR", help="Where to write; a new folder under runs/NAME/ by default.")
@click.option("--json", "as_json", is_flag=True, help="Print probe.json instead of text.")
def probe(
    config: str, overrides: tuple[str, ...], seconds: float, eps: float | None, run: str | None, as_json: bool
) -> None:
    """Train for a minute as CONFIG says, and predict from the gradients' noise how many workers will pay."""
    from hvd_adam.config import load

    resolved = load(config, overrides)
    from hvd_adam.probe.run import probe as measure
    from hvd_adam.probe.wording import describe
    from hvd_adam.terminal import patient
    from hvd_adam.training.rundir import plain

    findings = measure(resolved, seconds, run, eps, None if as_json else patient(click.echo))
    if findings is not None:
        click.echo(json.dumps(plain(findings.to_plain()), indent=1) if as_json else describe(findings))
