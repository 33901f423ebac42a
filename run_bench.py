"""The command line. Imports nothing heavy until a command needs it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Commands(click.Group):
    """Turns a user's mistake into one line and exit code 2, wherever it is found."""

    def invoke(self, ctx: click.Context) -> Any:
        from harness.errors import BenchError, UserError

        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(2)
        except BenchError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(3)


@click.group(cls=_Commands, context_settings=CONTEXT, invoke_without_command=True)
@click.version_option(package_name="soma-bench")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Measure ways to serve a long conversation: latency, memory, cost and quality.

    \b
    Start here:
      run_bench.py run demo             real models, four methods, tables and plots
      run_bench.py list methods         what can be compared
      run_bench.py show RUN --session ID   read a conversation side by side
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@cli.command()
@click.argument("profile")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Run folder  [default: results/local/<profile>-<hash>]",
)
@click.option(
    "--methods",
    "-m",
    multiple=True,
    metavar="NAME[:ARG=VALUE,...][,NAME...]",
    help="Only these methods.",
)
@click.option("--tasks", "-t", multiple=True, metavar="NAME[,NAME...]", help="Only these tasks.")
@click.option(
    "--limit", type=click.IntRange(min=1), help="The first so many sessions of each task."
)
@click.option("--max-new-tokens", type=click.IntRange(min=1), help="Longest reply in tokens.")
@click.option("--seed", type=int, help="Run under this one seed.")
@click.option(
    "--concurrency", type=click.IntRange(min=1), help="Sessions served at once; 1 is for latency."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any other setting of the profile, e.g. --set generation.temperature=0.7",
)
@click.option(
    "--max-errors",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Stop when more sessions fail.",
)
@click.option(
    "--retry-errors", is_flag=True, help="Serve again the sessions that failed in an earlier start."
)
@click.option("--offline", is_flag=True, help="Never touch the network.")
def run(profile: str, methods: tuple[str, ...], tasks: tuple[str, ...], **options: Any) -> None:
    """Serve PROFILE (a name or a TOML file), score it and report it.

    The same command resumes a run that was interrupted. Exit code: 0 all sessions served, 1 some
    failed, 2 a mistake in what was given, 3 stopped by --max-errors.
    """
    from harness.commands.run import run_profile
    from harness.profile import split_methods

    chosen = tuple(m for text in methods for m in split_methods(text))
    names = tuple(w for text in tasks for w in text.replace(",", " ").split())
    sys.exit(run_profile(profile, methods=chosen, tasks=names, **options))


@cli.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
def score(folder: Path) -> None:
    """Score the replies of RUN (a run folder) anew."""
    from harness.commands.report import score_folder

    score_folder(folder)


@cli.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
def report(folder: Path) -> None:
    """Write the tables, figures and summary of RUN (a run folder) anew."""
    from harness.commands.report import report_folder

    report_folder(folder)


@cli.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--session", required=True, metavar="ID", help="Which session.")
@click.option("--seed", type=int, help="Under which seed, where there are several.")
def show(folder: Path, session: str, seed: int | None) -> None:
    """Read one conversation of RUN side by side: what each method replied, and who served it."""
    from harness.commands.show import show_session

    show_session(folder, session, seed)


@cli.command(name="list")
@click.argument("kind", type=click.Choice(["methods", "tasks", "pairs", "profiles", "scorers"]))
@click.option(
    "--json", "as_json", is_flag=True, help="A JSON list of objects with name and summary."
)
def list_(kind: str, as_json: bool) -> None:
    """What there is of a KIND."""
    from harness.commands.list import list_kind

    click.echo(list_kind(kind, as_json=as_json))


@cli.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="The folders as a JSON object.")
def fetch(name: str, as_json: bool) -> None:
    """Get the models of pair NAME ready: build the embedded ones, download the others."""
    from harness.commands.fetch import fetch_pair

    click.echo(fetch_pair(name, as_json=as_json))


def main() -> None:
    """Entry point of the `soma-bench` console script."""
    cli(prog_name=Path(sys.argv[0]).name)


if __name__ == "__main__":
    main()
