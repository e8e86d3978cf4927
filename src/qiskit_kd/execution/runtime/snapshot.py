# SPDX-License-Identifier: Apache-2.0
"""Snapshots of devices as the service knows them today; see `execution.snapshots`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from qiskit_kd.errors import ConfigError, StorageError
from qiskit_kd.execution.runtime.device import LEAST_BUSY, open_device, secrets_of
from qiskit_kd.execution.runtime.errors import service_errors
from qiskit_kd.execution.schema import RuntimeOptions
from qiskit_kd.execution.snapshots import save_snapshot


@dataclass(frozen=True)
class Taken:
    """A snapshot that was written: where, of which device, of what size and calibration."""

    file: Path
    device: str
    num_qubits: int
    calibrated: str | None


def account_of(
    device: str,
    *,
    backend: str | None = None,
    account: str | None = None,
    instance: str | None = None,
) -> RuntimeOptions:
    """How a device is reached.

    Args:
        device: Its name.
        backend: An entry of kind `runtime` of the backend file; its account, instance and address.
        account: Name of a saved account; None for that of the environment, or the default one.
        instance: Name or CRN of an instance.

    Raises:
        ConfigError: If both an entry and an account are named, or the entry is no device's.
    """
    from qiskit_kd.execution.backends import load_backend

    given = {"account": account, "instance": instance}
    settings: dict[str, Any] = {name: one for name, one in given.items() if one is not None}
    if backend is not None:
        if settings:
            raise ConfigError(
                "an entry of the backend file names its own account",
                got=f"the entry {backend!r} and {' and '.join(settings)}",
                remedy="Leave one of them out.",
            )
        options = load_backend(backend).options
        if not isinstance(options, RuntimeOptions):
            raise ConfigError(
                "a snapshot is of a device",
                got=f"{backend!r} of kind {options.kind!r}",
                expected="an entry of kind 'runtime'",
            )
        settings = options.model_dump()
    try:
        return RuntimeOptions.model_validate({**settings, "kind": "runtime", "device": device})
    except ValidationError as error:
        said = error.errors(include_url=False)[0].get("ctx", {}).get("error")
        nameless = ConfigError("a device has a name", got=repr(device), expected="such as ibm_fez")
        raise (said if isinstance(said, ConfigError) else nameless) from None


def take_snapshot(
    options: RuntimeOptions, file: str | Path | None = None, *, force: bool = False
) -> Taken:
    """Write the gates and the calibration of a device to a file; runs nothing, costs nothing.

    Args:
        options: The device, and the account that knows it.
        file: The file; None for `DEVICE.json` in the working directory.
        force: Overwrite the file if it exists.

    Raises:
        ConfigError: If the device has no calibration, or the file exists.
        ExecutionError: See `open_device`.
    """
    if options.device == "aer":
        raise ConfigError(
            "a snapshot is of a device with gates and a calibration",
            got="'aer'",
            remedy="Name a device such as ibm_fez or fake_torino.",
        )
    path = Path(file or f"{options.device}.json")
    if file is not None or options.device != LEAST_BUSY:
        _check_free(path, force=force)
    device = open_device(options)
    if file is None and options.device == LEAST_BUSY:
        path = Path(f"{device.name}.json")
        _check_free(path, force=force)
    with service_errors(secrets=() if device.service is None else secrets_of(device.service)):
        save_snapshot(device.backend, path)
    return Taken(path, device.name, device.num_qubits, device.calibrated)


def _check_free(path: Path, *, force: bool) -> None:
    if path.is_dir():
        remedy = "Name a file in it."
        raise StorageError("a snapshot is a file", got=f"the folder {path}", remedy=remedy)
    if path.exists() and not force:
        raise ConfigError(
            "the file exists already",
            got=str(path),
            remedy="Studies know a snapshot by its content: name another file, or overwrite it "
            "with --force.",
        )
