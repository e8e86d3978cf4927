# SPDX-License-Identifier: Apache-2.0
"""What a file alone may not decide: where the account's token goes, and what may be spent.

Experiments and backend files are passed on. Whoever runs one of somebody else's is asked, outside
that file, before its addresses are contacted and before it spends anything.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from qiskit_kd.errors import AccountError, BudgetError, ConfigError

if TYPE_CHECKING:
    from qiskit_kd.execution.schema import RuntimeOptions

TRUSTED = "QKD_TRUSTED_URLS"
"""Variable with the addresses, beside IBM's, that the user trusts with the account."""
BUDGET = "QKD_BUDGET_SECONDS"
"""Variable with the seconds that the user allows on each device, whatever files say."""

_POSITIVE = "a budget is a positive number of seconds"
_IBM = "cloud.ibm.com"
_PLAIN = re.compile(r"(https?)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[\w./-]*)?")
# A name, or a CRN, whose sixth part (the region) becomes the beginning of an address.
_INSTANCE = re.compile(r"(?!crn:)[\w .:/()+-]*|crn:([\w-]*:){4}[a-z0-9-]*(:[\w./-]*)+")


def check_addresses(options: RuntimeOptions) -> None:
    """Refuse to send the account's token where the user did not say that it may go.

    IBM's own addresses need no word. An address of the backend file needs one in
    `QKD_TRUSTED_URLS`, and https unless it is on this machine; so does a proxy.

    Raises:
        AccountError: If one is not trusted; nobody was contacted.
    """
    if options.local:
        return
    if options.instance and not _INSTANCE.fullmatch(options.instance):
        raise AccountError(
            "an instance is a name or a CRN",
            got=repr(options.instance),
            remedy="QiskitRuntimeService().instances() lists those of the account.",
        )
    proxies = {} if options.proxies is None else options.proxies.urls
    for address in ([options.url] if options.url else []) + list(proxies.values()):
        _check_trusted(address, proxy=address in proxies.values())
    if options.url and urlsplit(options.url).scheme == "http":
        # It would be readable on the way.
        first = proxies.get("http", options.url)
        if not _is_here(urlsplit(first).hostname or ""):
            raise AccountError(
                "the account's token travels over https",
                got=f"{options.url}, by way of {first}",
                expected="https://, or an address on this machine",
                remedy="Correct 'url' in the backend file; nobody was contacted.",
            )


def _check_trusted(address: str, *, proxy: bool) -> None:
    match = _PLAIN.fullmatch(address)
    if match is None:
        raise AccountError(
            "an address is https:// or http://, a host, and perhaps a port",
            got=repr(address),
            expected="for example https://cloud.ibm.com",
        )
    found = urlsplit(address)
    host = found.hostname or ""
    if not proxy and found.scheme == "https" and (host == _IBM or host.endswith(f".{_IBM}")):
        return
    trusted = os.environ.get(TRUSTED, "").replace(",", " ").split()
    if not any(_same(found, one) for one in trusted):
        what = "a proxy" if proxy else "an address"
        raise AccountError(
            f"{what} that a file names is trusted by its user before the account's token goes "
            "there",
            got=address,
            expected=f"an address of IBM's, or one listed in {TRUSTED}",
            remedy=f"If you know who runs it, set {TRUSTED}={address} (several with spaces between "
            "them) and try again; nobody was contacted.",
        )


def _same(found: SplitResult, trusted: str) -> bool:
    """Whether an address is one of those that an entry of the list means: host, scheme, port."""
    try:
        other = urlsplit(trusted if "://" in trusted else f"//{trusted}")
        return (
            found.hostname == other.hostname
            and other.scheme in ("", found.scheme)
            and other.port in (None, found.port)
        )
    except ValueError:  # a host or a port that is none
        return False


def _is_here(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def allowed_seconds() -> float | None:
    """Seconds that the user allows on each device, by `QKD_BUDGET_SECONDS`; None if unsaid."""
    text = os.environ.get(BUDGET)
    if not text:
        return None
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if 0 < found < math.inf:
        return found
    raise ConfigError(
        _POSITIVE,
        got=f"{BUDGET}={text}",
        expected="more than 0",
        remedy=f"Correct the variable {BUDGET}.",
    )


def budget_of(options: RuntimeOptions) -> float | None:
    """Seconds that jobs of an entry may cost: what its file says, at most what its user allows."""
    found = None if options.local else allowed_seconds()
    limits = [one for one in (options.budget_seconds, found) if one is not None]
    return min(limits, default=None)


def check_budget(budget: float | None, *, local: bool, backend: str) -> None:
    """Refuse to send anything to a device without a budget, which is `backend` in its file.

    Raises:
        BudgetError: If there is none, and the device is not local.
        ConfigError: If there is one that is not positive.
    """
    if budget is not None and not budget > 0:
        raise ConfigError(
            _POSITIVE,
            got=f"budget_seconds: {budget:g}",
            expected="more than 0",
            remedy=f"Correct the entry {backend!r} of the backend file.",
        )
    if budget is None and not local:
        raise BudgetError(
            f"a device is used within a budget, and {backend!r} has none",
            got="no budget_seconds",
            expected="seconds of quantum processor time at most",
            remedy=f"Allow some with `qkd run ... --budget SECONDS`, with {BUDGET}, or with "
            f"budget_seconds in the entry {backend!r} of the backend file; `qkd estimate` says how "
            "many an experiment needs.",
        )
