# SPDX-License-Identifier: Apache-2.0
"""The command line: argument parsing only. Everything heavy is imported inside a command.

Exit status: 0 done, 1 storage or execution failed, 2 configuration or usage, an account or device
that cannot be had, 3 refused for money, 4 some tasks failed, 130 interrupted. With `--json`, one
JSON object is the last thing on stdout; progress and errors go to stderr.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qiskit_kd.errors import (
    AccountError,
    BudgetError,
    DeviceError,
    ExecutionError,
    QiskitKDError,
    QuotaError,
    ResourceError,
    StorageError,
)

if TYPE_CHECKING:
    from qiskit_kd.experiment.result import StudyResult
    from qiskit_kd.experiment.runner import Watcher
    from qiskit_kd.experiment.spending import Outlook

FAILED, USAGE, REFUSED, PARTIAL, INTERRUPTED = 1, 2, 3, 4, 130

app = typer.Typer(
    help="Knowledge distillation between classical and quantum networks, native to Qiskit.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
circuits_app = typer.Typer(help="Published circuit files.", no_args_is_help=True)
app.add_typer(circuits_app, name="circuits")

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        help="A Python file of yours that registers students, losses or data; it is executed.",
    ),
]
Experiment = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped one.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings, e.g. training.epochs=20."),
]
Seeds = Annotated[int | None, typer.Option(min=1, help="Number of paired seeds.")]
Preset = Annotated[str | None, typer.Option(help="One of the file's presets.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object at the end.")]
Ids = list[str] | None


def main() -> None:
    """Console entry point."""
    app()


def _command(to: typer.Typer = app, name: str | None = None) -> Callable[..., Callable[..., None]]:
    """Make a command with `--debug`; without it, errors of this package are a block on stderr."""

    def made(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(*args: Any, debug: bool, **kwargs: Any) -> None:
            try:
                with _terminable(), _plain_warnings():
                    command(*args, **kwargs)
            except (QiskitKDError, KeyboardInterrupt) as error:
                if debug:
                    raise
                interrupted = isinstance(error, KeyboardInterrupt)
                _note("interrupted" if interrupted else f"error: {error}")
                raise typer.Exit(_status_of(error)) from None

        known = inspect.signature(command, eval_str=True)
        kind = inspect.Parameter.KEYWORD_ONLY
        option = inspect.Parameter("debug", kind, default=False, annotation=Debug)
        parameters = [*known.parameters.values(), option]
        run.__signature__ = known.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        to.command(name)(run)
        return run

    return made


def _note(text: str) -> None:
    typer.echo(f"qkd: {text}", err=True)


def _status_of(error: QiskitKDError | KeyboardInterrupt) -> int:
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, BudgetError | QuotaError):
        return REFUSED
    asked = isinstance(error, AccountError | DeviceError)  # for what cannot be had
    machine = isinstance(error, StorageError | ExecutionError | ResourceError)
    return FAILED if machine and not asked else USAGE


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM as Ctrl-C, so that batch systems get the same orderly stop."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@_command()
def run(
    experiment: Experiment,
    overrides: Overrides = None,
    *,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the study; runs/NAME if left out.")
    ] = None,
    seeds: Seeds = None,
    preset: Preset = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Worker processes; one per core if left out, one for a remote device."
        ),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="What each device may charge at most.")
    ] = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Run an experiment: does what is missing, so running again resumes.

    On a device it says first what that will cost; without a budget nothing is sent. Budgets of its
    own files are asked about on a terminal; elsewhere --budget or QKD_BUDGET_SECONDS allows them.
    """
    from qiskit_kd.experiment.loading import find_experiment
    from qiskit_kd.experiment.spending import allowing, at_entry
    from qiskit_kd.experiment.study import Study
    from qiskit_kd.registry import add_plugins

    add_plugins(plugin or ())
    find_experiment(experiment)  # not the folder of a study, which `Study.load` would take
    study = Study.load(experiment, overrides or (), preset=preset, seeds=seeds)
    talks = sys.stdin.isatty() and sys.stderr.isatty()
    ask = functools.partial(typer.confirm, err=True) if talks else None
    folder = Path("runs") / study.config.name if out is None else out
    try:
        with (
            allowing(study.config, budget, ask),
            at_entry(study.config, experiment),
            _progress() as watch,
            _plain_warnings(),
        ):
            result = study.run(folder, workers=workers, watch=watch, announce=_announce)
    except KeyboardInterrupt:
        _note(
            f"interrupted; finished rows are kept in {folder}. Run the same command again to go on."
        )
        with suppress(QiskitKDError):
            from qiskit_kd.experiment.jobs import under_way

            if text := under_way(folder):
                _note(text)
        raise typer.Exit(INTERRUPTED) from None
    _show(result, folder, as_json=as_json)


@_command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder that `qkd run` wrote.")],
    *,
    out: Annotated[
        Path | None, typer.Option(help="Where to write it; the study's folder if left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the report of a study again, from its rows."""
    from qiskit_kd.experiment.store import Store
    from qiskit_kd.experiment.study import Study

    if not folder.is_dir():
        Store(folder)  # says what is wrong
    _show(Study.load(folder).result(), folder if out is None else out, as_json=as_json)


@_command()
def export(
    folder: Annotated[Path, typer.Argument(help="Folder that `qkd run` wrote.")],
    *,
    to: Annotated[Path, typer.Option(help="Folder to write.")],
    student: Annotated[str | None, typer.Option(help="One of its students.")] = None,
    variant: Annotated[str | None, typer.Option(help="One of its variants.")] = None,
    seed: Annotated[int | None, typer.Option(help="One of its seeds.")] = None,
    backend: Annotated[
        str | None, typer.Option(help="An entry of `backends.yaml` to transpile for, too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the best trained student of a study as plain Qiskit; needs none of this package."""
    from qiskit_kd.interop import export_study

    found = export_study(folder, to, student=student, variant=variant, seed=seed, backend=backend)
    if as_json:
        typer.echo(json.dumps(found))
        return
    chosen = ", ".join(f"{key} {found[key]}" for key in ("student", "variant", "seed"))
    typer.echo(f"wrote {found['folder']}: {chosen}; README.md there says the rest")


@_command()
def estimate(
    experiment: Experiment,
    overrides: Overrides = None,
    *,
    backend: Annotated[
        str | None,
        typer.Option(help="A device of `backends.yaml`; those the experiment uses if left out."),
    ] = None,
    seeds: Seeds = None,
    preset: Preset = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """Say what an experiment will cost on a quantum processor; sends nothing."""
    from qiskit_kd.experiment.cost import estimate
    from qiskit_kd.experiment.loading import find_experiment, load
    from qiskit_kd.experiment.spending import at_entry
    from qiskit_kd.registry import add_plugins

    add_plugins(plugin or ())
    config = load(find_experiment(experiment), overrides or (), preset=preset, seeds=seeds)
    with at_entry(config, experiment, backend):
        found = estimate(config, backend)
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
        return
    from qiskit_kd.report.costs import price_text  # and with it what draws

    typer.echo(price_text(found))


@_command()
def snapshot(
    device: Annotated[str, typer.Argument(help="A device of your account, or fake_torino.")],
    file: Annotated[
        Path | None, typer.Argument(help="The file to write; DEVICE.json if left out.")
    ] = None,
    *,
    backend: Annotated[
        str | None,
        typer.Option(help="An entry of `backends.yaml` that says which account to use."),
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="Name of a saved account; the default one if left out.")
    ] = None,
    instance: Annotated[str | None, typer.Option(help="Name or CRN of an instance.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the gates and the calibration of a device to a file; runs nothing, costs nothing.

    Noise can then be that of the device, on any machine: `noise: {device: DEVICE}`.
    """
    from qiskit_kd.execution.runtime.snapshot import account_of, take_snapshot
    from qiskit_kd.experiment.spending import at_entry

    options = account_of(device, backend=backend, account=account, instance=instance)
    with at_entry(backend=backend):
        taken = take_snapshot(options, file, force=force)
    facts = {"file": str(taken.file), "device": taken.device, "qubits": taken.num_qubits}
    facts |= {"calibrated": taken.calibrated}
    date = "calibration unknown" if taken.calibrated is None else f"calibrated {taken.calibrated}"
    text = f"wrote {taken.file}: {taken.device}, {taken.num_qubits} qubits, {date}"
    typer.echo(json.dumps(facts) if as_json else text)


@_command()
def jobs(
    folder: Annotated[Path, typer.Argument(help="Folder that `qkd run` wrote, or a journal.")],
    *,
    fetch: Annotated[Ids, typer.Option(metavar="ID", help="Fetch and keep a job's result.")] = None,
    cancel: Annotated[Ids, typer.Option(metavar="ID", help="Cancel a job at the service.")] = None,
    forget: Annotated[
        Ids, typer.Option(metavar="ID", help="Give a job up: it is paid for again.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the jobs of a study on devices: ids, what became of them, what they cost."""
    from qiskit_kd.experiment.jobs import listing
    from qiskit_kd.report.costs import jobs_text

    acts = {"fetch": fetch or (), "cancel": cancel or (), "forget": forget or ()}
    said, found, spent = listing(folder, **acts)
    for line in said:
        _note(line)
    facts = {"jobs": found, "usage": spent}
    typer.echo(json.dumps(facts) if as_json else jobs_text(found, spent))


@_command()
def backends(*, as_json: AsJson = False) -> None:
    """List the backends that `backends.yaml` names."""
    from qiskit_kd.execution.backends import backends_path, list_backends

    entries = {name: backend.shown() for name, backend in list_backends().items()}
    if as_json:
        typer.echo(json.dumps({"file": str(backends_path()), "backends": entries}))
        return
    hidden = ("name", "source")
    lines = {
        name: ", ".join(f"{k} {v}" for k, v in facts.items() if k not in hidden and v is not None)
        for name, facts in entries.items()
    }
    _listed(f"from {backends_path()}", lines)


def _listed(title: str, lines: Mapping[str, str]) -> None:
    typer.echo(title)
    width = max(map(len, lines))
    for name, text in lines.items():
        typer.echo(f"  {name:<{width}}  {text}")


@_command(circuits_app, "export")
def export_circuits(
    folder: Annotated[Path, typer.Argument(help="Where to write them.")] = Path("circuits"),
) -> None:
    """Write the published circuits as OpenQASM 3 and QPY, with their manifest."""
    from qiskit_kd.circuits.library import export

    typer.echo(f"wrote {export(folder)}")


@_command(circuits_app, "verify")
def verify_circuits(
    folder: Annotated[Path, typer.Argument(help="Where they are.")] = Path("circuits"),
) -> None:
    """Check published circuits against their manifest and against freshly built ones."""
    from qiskit_kd.circuits.library import verify

    found = verify(folder)
    typer.echo(
        f"{len(found.names)} circuits in {folder} are what their generators make "
        f"(largest deviation {found.deviation:.1e})"
    )


@_command()
def doctor(*, as_json: AsJson = False) -> None:
    """Show versions, torch, data, backends and saved IBM accounts (never tokens)."""
    from qiskit_kd.experiment.doctor import examine

    findings = examine()
    if as_json:
        typer.echo(json.dumps(findings))
        return
    for section, facts in findings.items():
        _listed(section, facts)


@_command()
def init(
    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("experiment.yaml"),
) -> None:
    """Write a small experiment with every key explained."""
    from qiskit_kd.experiment.loading import write_template

    path = write_template(file)
    typer.echo(f"wrote {path}; try: qkd run {path} --preset quick")


def _show(result: StudyResult, folder: Path, *, as_json: bool) -> None:
    """Report, table, verdict, failures; raises Exit(4) when tasks are missing."""
    page: Path | None = None
    if result.rows:
        from qiskit_kd import report

        page = report.write(result, folder)
        if not as_json:
            typer.echo(report.terminal_table(result))  # begins with the verdict
    if not as_json:
        typer.echo(f"report: {page}" if page else "no finished rows, no report")
    for failure in list(result.failures.values())[:5]:
        _note(f"failed: {failure['label']}: {failure['error']}")
    if result.missing:
        more = "; their tracebacks are in study.db" if result.failures else ""
        _note(f"{result.missing} tasks have no row{more}. Run again to retry.")
    if as_json:
        facts = {"experiment": result.name, "rows": len(result.rows)}
        facts |= {"report": None if page is None else str(page), "table": result.table}
        facts |= {"comparisons": result.comparisons, "usage": result.spent}
        typer.echo(json.dumps(facts))
    if result.missing:
        raise typer.Exit(PARTIAL)


def _announce(outlook: Outlook) -> None:
    """What a study is about to cost, on stderr, before anything is sent."""
    from qiskit_kd.report.costs import price_text

    typer.echo(price_text(outlook.estimate, brief=True), err=True)
    said = [
        f"{name}: {seconds:.1f} s of that are spent already"
        for name, seconds in outlook.spent.items()
    ]
    if outlook.local:
        said.append("this machine plays the device: nothing is charged")
    elif outlook.workers == 1:
        said.append("one worker: IBM's free plan takes three pending jobs (--workers for more)")
    for text in (*said, *(f"warning: {text}" for text in outlook.warnings)):
        _note(text)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings as one line for people, without the place in the code; the same one once."""
    shown: set[str] = set()

    def show(message: Warning | str, *_: object) -> None:
        if str(message) not in shown:
            shown.add(str(message))
            _note(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield


@contextmanager
def _progress() -> Iterator[Watcher]:
    """A bar on a terminal; elsewhere a line now and then."""
    if not sys.stderr.isatty():
        logging.basicConfig(level=logging.WARNING, format="qkd: %(message)s", stream=sys.stderr)
        shown = -1

        def say(done: int, failed: int, total: int, _: str) -> None:
            nonlocal shown
            tenth = 10 * (done + failed) // max(total, 1)
            if tenth > shown:
                shown = tenth
                note = f", {failed} failed" if failed else ""
                _note(f"{done} of {total} tasks done{note}")

        yield say
        return
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.TextColumn("tasks"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeRemainingColumn(),
        rich.TextColumn("{task.description}"),
    )
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("starting workers", total=None)

        def tell(done: int, failed: int, total: int, label: str) -> None:
            note = f"[red]{failed} failed[/] " if failed else ""
            progress.update(bar, completed=done + failed, total=total, description=f"{note}{label}")

        yield tell


if __name__ == "__main__":
    main()
