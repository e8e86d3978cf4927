# SPDX-License-Identifier: Apache-2.0
"""What a user does to single jobs of a study: fetch a result, cancel a job, give one up."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qiskit_kd.errors import ConfigError, StorageError, UnknownNameError
from qiskit_kd.experiment.devices import DEVICE, JOURNAL
from qiskit_kd.experiment.spending import devices_of, jobs_of, spent_of
from qiskit_kd.experiment.store import FILE, Store

if TYPE_CHECKING:
    from qiskit_kd.execution.runtime.client import Client
    from qiskit_kd.execution.runtime.journal import Journal
    from qiskit_kd.execution.runtime.serialization import JobRecord
    from qiskit_kd.experiment.study import Study


def listing(
    path: Path, **acts: Sequence[str]
) -> tuple[list[str], list[Mapping[str, Any]], Mapping[str, Any]]:
    """What `manage` says, then the jobs as `jobs_of` has them and their cost as `spent_of` has it.

    Args:
        path: The folder of a study, a journal, or a folder that holds only that.
        **acts: See `manage`.

    Raises:
        StorageError: If there is neither, or it is damaged; else see `manage`.
    """
    from qiskit_kd.experiment.study import Study

    journal = _bare_journal(path)
    if journal is None and not path.is_dir():
        Store(path)  # says what is wrong
    study = Study.load(path) if journal is None else None
    said = manage(study, journal or path / JOURNAL, **acts) if any(acts.values()) else []
    if study is not None:
        result = study.result()
        return said, list(result.jobs), result.spent
    found: list[Mapping[str, Any]] = [*jobs_of(journal or path)]
    return said, found, spent_of(found)


def _bare_journal(path: Path) -> Path | None:
    """The journal that a path names itself, or that lies alone in a folder; None for a study's."""
    from qiskit_kd.execution.runtime.journal import JOURNAL as PLAIN

    if path.is_dir():
        alone = [path / name for name in (JOURNAL, PLAIN) if (path / name).is_file()]
        return None if Store.begun(path) or not alone else alone[0]
    if not path.is_file() or path.name == FILE:
        return None
    with path.open("rb") as file:
        if file.read(16) != b"SQLite format 3\0":  # SQLite would make one of a file this short
            raise StorageError(
                "jobs are those of a study or of a journal",
                got=f"{path}, no SQLite database",
                expected=f"the folder of a study, or {JOURNAL}",
            )
    return path


def manage(study: Study | None, path: Path, **acts: Sequence[str]) -> list[str]:
    """Fetch, cancel and give up jobs; nothing is sent.

    Args:
        study: The study whose devices are asked; None for those of the backend file.
        path: The journal.
        **acts: Ids of jobs to `fetch`, whose results are to be kept now, as far as they have any;
            to `cancel`, that are not to be run; and ids, or tags where the id is unknown, to
            `forget`: the next run sends them again, and they are charged again. What they have
            cost so far still counts.

    Returns:
        A sentence for each job.

    Raises:
        UnknownNameError: If the journal has no such job; nothing was done then.
        ConfigError: If a job has ended, or its entry is no longer a device of the study.
        AccountError, DeviceError, TransientError, JobError: What the service says.
    """
    from qiskit_kd.execution.runtime.journal import Journal
    from qiskit_kd.execution.schema import TAG_PREFIX

    if not path.is_file():
        raise UnknownNameError.of(
            "job", next(name for names in acts.values() for name in names), ()
        )
    with Journal(path) as journal:
        asked = []
        for act, names in acts.items():
            for name in names:
                tag = name.removeprefix(TAG_PREFIX)
                found = journal.jobs("job_id = ? OR tag = ?", name, tag)
                if not found:
                    known = [job.job_id or TAG_PREFIX + job.tag for job in journal.jobs()]
                    raise UnknownNameError.of("job", name, known)
                asked.append((_ACTS[act], found[0]))
        return [act(study, journal, record) for act, record in asked]


def under_way(folder: Path) -> str:
    """Which jobs of a study may still run, and how to cancel them; "" where there are none."""
    from qiskit_kd.execution.runtime.journal import Journal

    path = folder / JOURNAL
    if not path.is_file():
        return ""
    with Journal(path) as journal:
        # Jobs that this machine plays have ended with the process that ran them.
        found = journal.jobs(
            "state IN ('intent', 'sent') AND device != 'aer' AND device NOT LIKE 'fake~_%' "
            "ESCAPE '~'"
        )
    ids = [job.job_id for job in found if job.job_id]
    text = []
    if ids:
        words = ["qkd", "jobs", str(folder)]
        words += [word for job_id in ids for word in ("--cancel", job_id)]
        text.append(
            f"{_counted(len(ids))} still queued or running at the service: {', '.join(ids)}. Run "
            f"the same command again to go on with them, or cancel them: {shlex.join(words)}"
        )
    if unknown := len(found) - len(ids):
        text.append(f"{_counted(unknown)} perhaps sent: the next run finds out.")
    return " ".join(text)


def _counted(jobs: int) -> str:
    return "1 job is" if jobs == 1 else f"{jobs} jobs are"


def _reached(study: Study | None, record: JobRecord) -> tuple[str, Client]:
    """A job's id, and a client of the device that ran it, as the study's entry reaches it."""
    from qiskit_kd.execution.backends import list_backends
    from qiskit_kd.execution.runtime.session import open_client

    if record.job_id is None:
        raise ConfigError(
            "a job is fetched or cancelled by its id",
            got="one whose id is not known",
            remedy="Run the study again: it is looked for by its tag.",
        )
    known = list_backends().values() if study is None else devices_of(study.config)
    entries: dict[str, Any] = {one.name: one.options for one in known if one.kind == DEVICE}
    if record.backend not in entries:
        raise ConfigError(
            "a job is reached by the entry that sent it",
            got=f"no device {record.backend!r}",
            expected=", ".join(entries) or "an entry of a device",
            remedy="Name the backend file of then in QISKIT_KD_BACKENDS.",
        )
    options = entries[record.backend].model_copy(update={"device": record.device})
    return record.job_id, open_client(options)


def _fetch(study: Study | None, journal: Journal, record: JobRecord) -> str:
    from qiskit_kd.execution.runtime.jobs import refetch

    job_id, client = _reached(study, record)
    state = client.state(job_id)
    if state.status != "done":
        reason = f": {state.reason}" if state.reason else ""
        return f"{job_id} is {state.status} at the service{reason}; nothing was fetched"
    refetch(client, journal, record, state)
    return f"{job_id}: its result is kept"


def _cancel(study: Study | None, journal: Journal, record: JobRecord) -> str:
    job_id, client = _reached(study, record)
    if record.state != "sent":
        return f"{job_id} has ended ({record.state}): there is nothing to cancel"
    begun = client.state(job_id).status != "queued"
    client.cancel(job_id)
    state = client.state(job_id)
    if state.status == "done":
        return f"{job_id} had ended before: run the study again, and its result is fetched"
    seconds = state.seconds
    if seconds is None:  # one that ran is charged, by how much is said later
        seconds = record.estimate if begun else 0.0
    journal.ended(record.key, job_id, status="cancelled", reason="by its user", seconds=seconds)
    return f"{job_id} is cancelled; the next run sends it again"


def _forget(study: Study | None, journal: Journal, record: JobRecord) -> str:
    del study  # the service is not asked: it may have forgotten the job itself
    if record.job_id is None:
        journal.resend(record.tag)
        return f"{record.tag} is taken as never sent; the next run looks for it, then sends it"
    journal.forget(record.key, record.job_id)
    return f"{record.job_id} is given up; the next run sends it again, at a price"


_ACTS = {"fetch": _fetch, "cancel": _cancel, "forget": _forget}
