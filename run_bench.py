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
      run_bench.py run demo             real models, every kind of method, tables, plots
      run_bench.py list methods         what can be compared
      run_bench.py show RUN --session ID   read a conversation side by side
      run_bench.py tasks stats planning    what a task's data are like
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
@click.option(
    "--tasks",
    "-t",
    multiple=True,
    metavar="NAME[:ARG=VALUE,...][,NAME...]",
    help="Only these tasks, e.g. jsonl:path=my.jsonl",
)
@click.option(
    "--limit", type=click.IntRange(min=1), help="The first so many sessions of each task."
)
@click.option("--max-new-tokens", type=click.IntRange(min=1), help="Longest reply in tokens.")
@click.option("--seed", type=int, help="Run under this one seed.")
@click.option(
    "--concurrency", type=click.IntRange(min=1), help="Sessions served at once; 1 is for latency."
)
@click.option(
    "--arrival-rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Instead: sessions arrive by themselves, so many a minute on average.",
)
@click.option(
    "--think-time",
    type=click.FloatRange(min=0),
    help="Seconds between a reply and the user's next turn.",
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
@click.option("--offline", is_flag=True, help="Ask no hub; servers that a pair names are asked.")
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Serve in this process, or on the workers of a Ray cluster.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Of ray.  [default: what fits]")
@click.option(
    "--shard",
    metavar="I/N",
    help="Only every N-th session of each task, from the I-th; `merge` joins the N runs.",
)
def run(profile: str, methods: tuple[str, ...], tasks: tuple[str, ...], **options: Any) -> None:
    """Serve PROFILE (a name or a TOML file), score it and report it.

    The same command resumes a run that was interrupted. Exit code: 0 all sessions served, 1 some
    failed, 2 a mistake in what was given, 3 stopped by --max-errors.
    """
    from harness.commands.run import run_profile
    from harness.profile import split_named

    chosen = tuple(m for text in methods for m in split_named(text))
    names = tuple(t for text in tasks for t in split_named(text))
    sys.exit(run_profile(profile, methods=chosen, tasks=names, **options))


@cli.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("runs", metavar="RUN...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--partial", is_flag=True, help="Also when shards or sessions are missing.")
def merge(out: Path, runs: tuple[Path, ...], partial: bool) -> None:
    """Join the shards of one run (see `run --shard`) into the new run folder OUT; report it."""
    from harness.commands.merge import merge_folders

    merge_folders(out, runs, partial=partial)


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
@click.option("--json", "as_json", is_flag=True, help="A JSON object of what is ready and where.")
def fetch(name: str, as_json: bool) -> None:
    """Get NAME ready: the models of a pair, or the files of a dataset.

    \b
    Examples:
      run_bench.py fetch embedded       build the embedded models, check every checksum
      run_bench.py fetch qwen3          download a pair's models
      run_bench.py fetch TASK           download a task's data, where they are published by file

    Models and data are kept in the user's cache (SOMA_BENCH_CACHE sets another folder), and what is
    there is not downloaded again. HF_ENDPOINT names a mirror of the model hub.
    """
    from harness.commands.fetch import fetch_by_name

    click.echo(fetch_by_name(name, as_json=as_json))


@cli.command(name="serve-check")
@click.argument("url")
@click.option("--model", metavar="NAME", help="Which model.  [default: the only one served]")
@click.option(
    "--api-key-env", metavar="VAR", help="The environment variable that holds the server's key."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object and nothing else.")
def serve_check(url: str, model: str | None, api_key_env: str | None, as_json: bool) -> None:
    """Find out what the OpenAI-compatible server at URL can and cannot do for a benchmark.

    URL goes up to and with /v1. About ten small requests are sent, the longest of some 1,500
    tokens: does it stream, count its tokens, tell and take token ids, report and separate what it
    caches, load adapters? Then this machine's client is held to a local server of known timing.
    Every answer comes with what follows from it; the tables of a pair file for it come last.

    
    Examples:
      run_bench.py serve-check http://127.0.0.1:8000/v1
      run_bench.py serve-check https://api.example.com/v1 --model NAME --api-key-env EXAMPLE_KEY

    A key is read from the environment only, and shown nowhere. Exit code: 0 the server can be
    benchmarked, 1 it cannot, 2 a mistake in what was given (address, key or model).
    """
    from harness.commands.serve_check import check_server

    sys.exit(check_server(url, model=model, api_key_env=api_key_env, as_json=as_json))


_path_option = click.option(
    "--path",
    type=click.Path(path_type=Path),
    help="The data: a file, or a folder of files.  [default: what `fetch` brought]",
)
_arg_option = click.option(
    "--arg", "args", multiple=True, metavar="KEY=VALUE", help="Any argument of the task."
)


@cli.group()
def tasks() -> None:
    """Look at the data of a task, check a file of yours, write sessions in other formats.

    NAME is a task of `list tasks`, or path/to/file.py:ClassName.
    """


@tasks.command(name="show")
@click.argument("name")
@click.option("--session", metavar="ID", help="Read this one session.")
@_path_option
@_arg_option
def tasks_show(name: str, session: str | None, path: Path | None, args: tuple[str, ...]) -> None:
    """What task NAME is, its arguments and its first sessions; or one session in full.

    \b
    Examples:
      run_bench.py tasks show planning
      run_bench.py tasks show planning --session planning-camping
      run_bench.py tasks show drift --arg source=maths --arg seed=3
      run_bench.py tasks show jsonl --path my.jsonl
    """
    from harness.commands.tasks_show import show_task, show_task_session

    if session is None:
        show_task(name, path, args)
    else:
        show_task_session(name, path, args, session)


@tasks.command(name="stats")
@click.argument("name")
@_path_option
@_arg_option
@click.option(
    "--pair", default="embedded", show_default=True, help="Whose tokenizer counts (that of F)."
)
@click.option(
    "--tokens/--no-tokens",
    default=None,
    help="Count tokens.  [default: yes, but no with --json]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Also write tables (CSV, Markdown, HTML) and a figure (PNG, PDF) into this folder.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object and nothing else.")
def tasks_stats(name: str, path: Path | None, args: tuple[str, ...], **options: Any) -> None:
    """Count what task NAME holds: sessions, turns, their lengths, languages, what is left out.

    Reads the whole data once, without holding them. The hash over the sessions is the same on every
    machine that reads the same data.

    \b
    Examples:
      run_bench.py tasks stats planning
      run_bench.py tasks stats jsonl --path my.jsonl --out stats
      run_bench.py tasks stats maths --json
    """
    from harness.commands.tasks_stats import show_stats

    show_stats(name, path, args, **options)


@tasks.command(name="context")
@click.argument("name")
@_path_option
@_arg_option
@click.option("--session", metavar="ID", help="Every later turn of this one session.")
@click.option("--limit", type=click.IntRange(min=1), help="The first so many sessions.")
@click.option("--threshold", type=float, help="From which score on a turn depends.")
@click.option(
    "--min-share",
    type=click.FloatRange(0, 1),
    help="How many of its later turns must depend for a session to be kept.",
)
@click.option("--json", "as_json", is_flag=True, help="A JSON list with every turn's score.")
def tasks_context(name: str, path: Path | None, args: tuple[str, ...], **options: Any) -> None:
    """Which sessions of task NAME depend on their context, as the filter of a profile judges them.

    Scores are computed with a small model and kept in the user's cache.

    \b
    Examples:
      run_bench.py tasks context planning --limit 2
      run_bench.py tasks context mt_bench_101 --path mtbench101.jsonl --limit 20 --json
    """
    from harness.commands.tasks_context import show_context

    show_context(name, path, args, **options)


@tasks.command(name="validate")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--form",
    default="auto",
    metavar="NAME",
    help="What form the file is in, where its content shall not decide: sessions, turns_by_id, "
    "messages or conversations.",
)
def tasks_validate(path: Path, form: str) -> None:
    """Check a session file of yours: every mistake with its line and what would be right.

    Exit code: 0 for a file without mistakes, else 1.

    \b
    Example:
      run_bench.py tasks validate my.jsonl
    """
    from harness.commands.tasks_validate import validate_file

    sys.exit(validate_file(path, form))


_FORMS = {"jsonl": "sessions", "soma": "turns_by_id", "openai": "messages"}


@tasks.command(name="export")
@click.argument("name")
@click.option(
    "--format",
    "form",
    required=True,
    type=click.Choice(list(_FORMS)),
    help="jsonl: this project's own; soma: that of SOMA's released code; openai: chat messages.",
)
@_path_option
@_arg_option
@click.option(
    "--out", type=click.Path(path_type=Path), help="The file to write.  [default: standard output]"
)
def tasks_export(
    name: str, form: str, path: Path | None, args: tuple[str, ...], out: Path | None
) -> None:
    """Write the sessions of task NAME in a form that other programs read, and `jsonl` too.

    \b
    Examples:
      run_bench.py tasks export planning --format soma --out planning.json
      run_bench.py tasks export maths --format openai
    """
    from harness.commands.tasks_export import export_task
    from harness.commands.tasks_open import open_task

    export_task(open_task(name, path, args), _FORMS[form], out)


def main() -> None:
    """Entry point of the `soma-bench` console script."""
    cli(prog_name=Path(sys.argv[0]).name)


if __name__ == "__main__":
    main()
