"""The command tree. Importing it imports typer and nothing heavy: commands import what they need when they run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli import (
    agents,
    audiences,
    audit,
    callbacks,
    calls,
    context,
    costs,
    deals,
    doctor,
    erase,
    explain,
    init,
    integrations,
    numbers,
    pools,
    recordings,
    report,
    retention,
    routing,
    rules,
    service,
    tickets,
    tokens,
    verify,
    webhooks,
)

app = typer.Typer(
    name="dialmark",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(asked: bool) -> None:
    if asked:
        from gateway import __version__

        print(f"dialmark {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True)
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Configuration file, for any command; may stand behind it too.", metavar="PATH"),
    ] = None,
) -> None:
    """Dialmark: a call-tracking gateway on Asterisk.

    \b
    Every listing takes --format table|json|csv, every command --help.
    Exit codes: 0 all is well, 1 a problem was found, 2 wrong arguments.
    """
    if config is not None:
        # Commands read the variable themselves when the option does not stand behind them.
        os.environ[context.CONFIG_VARIABLE] = str(config)


app.command(short_help="Prepare this machine: settings, secrets, Asterisk.")(init.init)
app.command(short_help="Run the daemon.")(service.run)
app.command(short_help="Check the configuration.")(service.check)
app.command(short_help="Ask the daemon how it is; for monitoring.")(service.health)
app.command(short_help="Examine everything around the daemon.")(doctor.doctor)
app.command(short_help="Put a routing file in force.")(routing.apply)
app.add_typer(routing.app, name="routing")
app.add_typer(rules.app, name="rules")
app.command(short_help="Show the way a call would take, and why.")(explain.explain)
app.add_typer(calls.app, name="calls")
app.add_typer(agents.app, name="agents")
app.add_typer(callbacks.app, name="callbacks")
app.add_typer(tickets.app, name="tickets")
app.add_typer(numbers.app, name="numbers")
app.add_typer(pools.app, name="pools")
app.add_typer(recordings.app, name="recordings")
app.add_typer(report.app, name="report")
app.add_typer(deals.app, name="deals")
app.add_typer(costs.spend, name="spend")
app.add_typer(costs.wages, name="wages")
app.add_typer(retention.app, name="retention")
app.command()(erase.erase)
app.add_typer(audiences.app, name="audiences")
app.add_typer(audit.app, name="audit")
app.add_typer(tokens.app, name="token")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(integrations.app, name="integrations")
app.command(short_help="Prove that every call is one record.")(verify.verify)
app.command(short_help="Make records from the journal again.")(verify.replay)
