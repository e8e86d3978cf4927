# SPDX-License-Identifier: Apache-2.0
"""The device behind a runtime entry of `backends.yaml`: opened once, asked often."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from operator import attrgetter
from typing import Any

from qiskit.circuit import CONTROL_FLOW_OP_NAMES
from qiskit.providers import BackendV2
from qiskit.transpiler import Target

from qiskit_kd.errors import DeviceError, UnknownNameError
from qiskit_kd.execution.compiled import CompiledCircuit
from qiskit_kd.execution.runtime.consent import check_addresses
from qiskit_kd.execution.runtime.errors import service_errors
from qiskit_kd.execution.schema import RuntimeOptions
from qiskit_kd.execution.transpiling import check_width

DEFAULT_REP_DELAY = 250e-6
"""Seconds that most of IBM's devices wait between executions."""
_FRACTIONAL = {"rx", "rzz"}
_FITS = attrgetter("fits")
_OF_TARGETS = ["description", "num_qubits", "dt", "granularity", "min_length", "pulse_alignment"]
_OF_TARGETS += ["acquire_alignment", "qubit_properties", "concurrent_measurements"]
_BY_VALUE = {"rzz", *CONTROL_FLOW_OP_NAMES}  # may hold gates whose angles are limited
LEAST_BUSY = "least_busy"
"""Instead of a name: the device with the shortest queue."""


@dataclass(frozen=True)
class Device:
    """A device that runs circuits.

    Args:
        name: Its name at the service, or `fake_torino`, `aer`.
        backend: Its backend, with target.
        service: The account it was opened with; None where jobs run in this process.
        local: Whether jobs run in this process.
    """

    name: str
    backend: BackendV2 = field(repr=False)
    service: Any = field(repr=False)
    local: bool

    @property
    def target(self) -> Target:
        """Gates, couplings, errors and durations."""
        return self.backend.target

    @property
    def num_qubits(self) -> int:
        """Qubits of the device."""
        return int(self.backend.num_qubits)

    @property
    def rep_delay(self) -> float:
        """Seconds between executions where a job does not say otherwise."""
        found = getattr(self._configuration(), "default_rep_delay", None)
        return DEFAULT_REP_DELAY if found is None else float(found)

    @property
    def rep_delay_range(self) -> tuple[float, float] | None:
        """Seconds between executions that a job may ask for; None if unknown."""
        found = getattr(self._configuration(), "rep_delay_range", None)
        return None if not found else (float(found[0]), float(found[-1]))

    @property
    def calibrated(self) -> str | None:
        """ISO date of its calibration, or None if unknown."""
        properties = getattr(self.backend, "properties", None)
        if not callable(properties):
            return None
        with service_errors():
            date = getattr(properties(), "last_update_date", None)
        return None if date is None else str(date.isoformat())

    @property
    def account(self) -> str:
        """A digest of the account that is charged, whichever instance or key; empty if local."""
        if self.service is None:
            return ""
        with service_errors(secrets=secrets_of(self.service)):
            instance = str(self.service.active_instance() or "")
            held = self.service.active_account() or {}
        found = re.search(r":a/([^:]+):", instance)  # of a CRN: all its instances share it
        whose = found[1] if found else str(held.get("token", ""))
        return hashlib.sha256(whose.encode()).hexdigest()[:16]

    def check_width(self, num_qubits: int) -> None:
        """Refuse a circuit of more qubits than the device has, with a DeviceError."""
        check_width(num_qubits, most=self.num_qubits, device=self.name, error=DeviceError)

    def check_pubs(self, pubs: Sequence[Any], compiled: Sequence[CompiledCircuit] = ()) -> None:
        """Refuse what the device cannot run: the service would find out when it has charged for it.

        Args:
            pubs: Coerced PUBs.
            compiled: The circuit of each; one that fits is not looked at again.

        Raises:
            DeviceError: If a circuit is wider than the device, has gates or couplings that the
                device lacks, or an RZZ angle outside of 0 to pi/2.
        """
        from qiskit_ibm_runtime.exceptions import IBMInputValueError
        from qiskit_ibm_runtime.utils.validations import validate_isa_circuits, validate_rzz_pubs

        if compiled and all(map(_FITS, compiled)):
            return
        compiled = compiled or [CompiledCircuit(pub.circuit) for pub in pubs]
        fresh = [both for both in zip(pubs, compiled, strict=True) if not both[1].fits]
        for pub, _ in fresh:
            self.check_width(pub.circuit.num_qubits)
        try:
            validate_isa_circuits([pub.circuit for pub, _ in fresh], self.target)
        except IBMInputValueError as error:
            said = str(error.message).split(" Circuits that do not match")[0]
            raise DeviceError(
                "circuits consist of gates that the device has, where it has them",
                got=said,
                expected=f"circuits for {self.name!r}",
                remedy="Transpile them with the backend's own pass_manager().",
            ) from None
        try:
            validate_rzz_pubs([pub for pub, _ in fresh])
        except IBMInputValueError as error:
            raise DeviceError(
                "an RZZ gate of a device turns by 0 to pi/2",
                got=str(error.message),
                remedy="Leave fractional_gates false while training: steps of a gradient leave that"
                " range.",
            ) from None
        for pub, one in fresh:
            one.fits = _BY_VALUE.isdisjoint(pub.circuit.count_ops())

    def check_rep_delay(self, seconds: float | None) -> None:
        """Refuse a delay that the device does not offer, with a DeviceError."""
        bounds = self.rep_delay_range
        if seconds is not None and bounds is not None:
            low, high = bounds
            if not low <= seconds <= high:
                raise DeviceError(
                    "rep_delay lies in the range of the device",
                    got=f"{seconds:g} s",
                    expected=f"{low:g} to {high:g} s on {self.name!r}",
                )

    def _configuration(self) -> Any:
        found = getattr(self.backend, "configuration", None)
        return found() if callable(found) else found


def open_device(options: RuntimeOptions) -> Device:
    """The device that an entry of kind `runtime` names; the same object for the same question.

    Raises:
        AccountError: If there is no account, the service does not accept it, or its token would go
            where its user does not allow it.
        DeviceError: If there is no such device; near names are listed.
        TransientError: If the service cannot be reached.
    """
    check_addresses(options)
    return _open(options.model_dump_json(include=_PLACE), environment())


_PLACE = {"kind", "device", "account", "instance", "channel", "url", "proxies", "fractional_gates"}
"""Settings that a device depends on: entries that differ in others share one."""


def environment() -> str:
    """A digest of what names an account outside of files: by the next call it may be another."""
    variables = sorted((k, v) for k, v in os.environ.items() if k.startswith("QISKIT_IBM_"))
    return hashlib.sha256(repr(variables).encode()).hexdigest()  # no token in a cache


@lru_cache(maxsize=16)
def _open(settings: str, environment: str) -> Device:
    del environment  # a part of the question
    options = RuntimeOptions.model_validate(json.loads(settings))
    return _local(options) if options.local else _remote(options)


def _local(options: RuntimeOptions) -> Device:
    if options.device == "aer":
        from qiskit_aer import AerSimulator

        return Device("aer", AerSimulator(method="automatic"), None, True)
    from qiskit_kd.execution.noise_sources import fake_device

    try:
        backend = fake_device(options.device)
    except UnknownNameError as error:
        raise DeviceError(str(error)) from None
    if not options.fractional_gates:  # as the service does; a fake shows all gates it knows
        backend._target = _without_fractional_gates(backend.target)  # noqa: SLF001
    return Device(options.device, backend, None, True)


def _without_fractional_gates(target: Target) -> Target:
    """The target without RX and RZZ, which IBM calls fractional; itself where it has neither."""
    if not _FRACTIONAL & set(target.operation_names):
        return target
    kept = Target(**{name: getattr(target, name) for name in _OF_TARGETS})
    for name in target.operation_names:
        gate = target.operation_from_name(name)
        if name not in _FRACTIONAL:  # a class stands for control flow of any width
            kept.add_instruction(gate, None if isinstance(gate, type) else target[name], name=name)
    return kept


def _remote(options: RuntimeOptions) -> Device:
    from qiskit.providers.exceptions import QiskitBackendNotFoundError

    service = _service(options)
    gates = {"use_fractional_gates": options.fractional_gates}
    with service_errors(secrets=secrets_of(service)):
        try:
            if options.device == LEAST_BUSY:
                backend = service.least_busy(**gates)
            else:
                backend = service.backend(options.device, **gates)
        except QiskitBackendNotFoundError:
            service.usage()  # says so if it is the service that is not there
            raise _unknown_device(options.device, service) from None
    return Device(str(backend.name), backend, service, False)


def _unknown_device(name: str, service: Any) -> DeviceError:
    known = sorted(str(backend.name) for backend in service.backends())
    if name == LEAST_BUSY:
        return DeviceError(
            "least_busy chooses among the account's devices that are online",
            got=f"none online of: {', '.join(known) or 'no device at all'}",
            remedy="Try later, or name another instance.",
        )
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return DeviceError(
        "a device is one of the account's",
        got=repr(name),
        remedy=f"{hint}known: {', '.join(known) or 'none'}",
    )


def secrets_of(service: Any) -> tuple[str, ...]:
    """What must not show in messages about this account."""
    account = service.active_account() or {}
    return tuple(str(account[key]) for key in ("token",) if account.get(key))


def _service(options: RuntimeOptions) -> Any:
    """The account, tied to one instance: the one that is asked and charged from here on."""
    from qiskit.providers.exceptions import QiskitBackendNotFoundError
    from qiskit_ibm_runtime import QiskitRuntimeService

    settings = _credentials(options)
    hidden = (str(settings.get("token", "")),)
    with service_errors(secrets=hidden):
        # "auto" is what the library does without an instance, but for its warnings.
        settings["instance"] = settings["instance"] or "auto"
        service = QiskitRuntimeService(**settings)
        if settings["instance"] == "auto" and len(service.instances()) > 1:
            # The instance that has the device becomes the active one; if none has, it is said where
            # the device is opened.
            with suppress(QiskitBackendNotFoundError):
                if options.device == LEAST_BUSY:
                    service.least_busy()
                else:
                    service.backend(options.device)
            settings["instance"] = service.active_instance()
            service = QiskitRuntimeService(**settings)
    return service


def _credentials(options: RuntimeOptions) -> dict[str, Any]:
    """Arguments of the service."""
    proxies = None if options.proxies is None else options.proxies.model_dump()
    settings = {"instance": options.instance, "proxies": proxies}
    if options.url is None:
        # The library takes a name, or looks for an account, not both.
        which = "channel" if options.account is None else "name"
        return {**settings, which: options.account or options.channel}
    # It takes an address only together with a token: look for the account as it would itself.
    from qiskit_ibm_runtime.accounts import AccountManager

    with service_errors():
        account = AccountManager.get(name=options.account, channel=options.channel)
    return {
        "url": options.url,
        "token": account.token,
        "channel": account.channel,
        "verify": account.verify,
        "instance": options.instance or account.instance,
        "proxies": proxies or (account.proxies and account.proxies.to_dict()),
    }
