# SPDX-License-Identifier: Apache-2.0
"""Where the students of a study are trained and judged, and under how much noise, point by point.

Read from the configuration: rows name backends, but do not say what an axis made of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qiskit_kd.errors import QiskitKDError
from qiskit_kd.report.grid import settled
from qiskit_kd.report.palette import listed, look, readable
from qiskit_kd.report.summary import Result, variants_of

__all__ = ["is_exact", "judged_on", "noise_of", "places_sentence", "settings_of", "trained_on"]


def trained_on(config: Mapping[str, Any], variant: str) -> str:
    """Name of the backend that a variant's weights come from: that of its last stage."""
    own = config.get("variants", {}).get(variant, {})
    last = (own.get("fine_tune") or {}).get("backend")
    return str(last or own.get("backend") or config.get("backend", "exact"))


def judged_on(config: Mapping[str, Any]) -> str | None:
    """Name of the backend that all students are judged on; None: each where it was trained."""
    found = (config.get("evaluation") or {}).get("backend")
    return None if found is None else str(found)


def noise_of(config: Mapping[str, Any], backend: str) -> float | None:
    """The factor on the errors of a noisy backend; None for one without noise of its own.

    Args:
        config: The configuration of one point (see `settled`).
        backend: A backend of the study, or of the backend file.
    """
    settings = settings_of(config, backend)
    return float(settings.get("scale", 1.0)) if settings.get("noise") else None


def settings_of(config: Mapping[str, Any], backend: str) -> dict[str, Any]:
    """The settings of a backend of a study, or of the backend file as it is today.

    Args:
        config: The configuration of one point (see `settled`).
        backend: A backend of the study, or of the backend file.
    """
    own = dict(config.get("backends", {}).get(backend, {}))
    base = _entry(str(own.pop("base", backend)))
    if own.get("kind", base.get("kind")) != base.get("kind"):
        return own  # as `Backend.changed`: another kind takes nothing over
    return {**base, **own}


def _entry(name: str) -> Mapping[str, Any]:
    """What the backend file says; nothing where it does not know the name."""
    from qiskit_kd.execution.backends import load_backend

    try:
        return load_backend(name).describe()
    except QiskitKDError:
        return {}


def places_sentence(result: Result) -> str:
    """Where each variant is trained and where all are judged; empty where that is one place."""
    config = result.config
    groups: dict[tuple[str, ...], list[str]] = {}
    for variant in variants_of(result.rows):
        groups.setdefault(_stages(config, variant), []).append(look(variant).label)
    judged = judged_on(config)
    if len(groups) < 2 and (judged is None or (judged,) in groups):
        return ""
    last = settled(config)
    said = [
        f"{listed(names)} on {', then on '.join(_called(last, place) for place in places)}"
        for places, names in groups.items()
    ]
    text = f"Trained: {'; '.join(said)}."
    if judged:
        text += f" Judged, wherever they were trained: on {_called(last, judged)}"
        text += ", with exact probabilities." if is_exact(last, judged) else "."
    return text


def _stages(config: Mapping[str, Any], variant: str) -> tuple[str, ...]:
    """The backends a variant is trained on, in order; one of two equal stages stands for both."""
    own = config.get("variants", {}).get(variant, {})
    first = str(own.get("backend") or config.get("backend", "exact"))
    return tuple(dict.fromkeys((first, trained_on(config, variant))))


def _called(config: Mapping[str, Any], backend: str) -> str:
    under = "" if noise_of(config, backend) is None else " (noisy)"
    return f"“{readable(backend)}”{under}"


def is_exact(config: Mapping[str, Any], backend: str) -> bool:
    """Whether a backend gives probabilities rather than shots, and exact gradients with them."""
    entry = settings_of(config, backend)
    return entry.get("kind") in ("exact", "noisy") and not entry.get("shots")
