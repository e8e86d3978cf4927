# SPDX-License-Identifier: Apache-2.0
"""How the study was set up, what the validation data picked, and how to do it again."""

from __future__ import annotations

import copy
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from qiskit_kd.experiment.schema import VariantConfig, is_teacher
from qiskit_kd.report.document import (
    Block,
    Code,
    Details,
    Facts,
    Section,
    Table,
    Text,
    section,
    tabled,
)
from qiskit_kd.report.frame import Frame, Row, interval
from qiskit_kd.report.grid import labels_of, shown, varied
from qiskit_kd.report.style import TEACHER, look, readable

_IDENTIFIER = re.compile(r"[a-z0-9]+(_[a-z0-9]+)+")
_WORDS = {"over_seeds": "by the mean over all seeds", "per_seed": "for each seed by itself"}


@section("settings", place=70)
def settings(frame: Frame) -> Section:
    """The configuration, and what was chosen of several candidates."""
    blocks: list[Block] = [Facts(list(dict(flat(settings_of(frame.config))).items()))]
    picked = list(choices(frame))
    if picked:
        keys = list(dict.fromkeys(key for *_, found in picked for key in found))
        note = (
            "Where temperature, a weight, the learning rate or an option of a student has several "
            "candidates, one was chosen on the validation split, for the student alone and "
            "placebos as for the real thing."
        )
        lines = [[*names, *(found.get(key, "") for key in keys)] for *names, found in picked]
        blocks += [Text(note), Table(["student", "variant", *keys], lines, words=2 + len(keys))]
    return Section("Settings", blocks)


@section("again", place=80)
def again(frame: Frame) -> Section:
    """The command, what the numbers rest on, every run and the whole configuration."""
    config = json.dumps(frame.config, indent=2, default=str, ensure_ascii=False)
    return Section(
        "Do it again",
        [
            Code(frame.result.command),
            Facts(provenance(frame)),
            Details(f"Every run ({len(frame.rows)} rows)", [runs(frame)]),
            Details("Whole configuration", [Code(config)]),
        ],
    )


def provenance(frame: Frame) -> list[tuple[str, str]]:
    """What the numbers rest on: rows, hashes, versions."""
    seeds, split = frame.seeds, frame.split
    data = [] if split is None else [(f"data, seed {seeds[0]}", split.fingerprint[:16])]
    return [
        ("rows", f"{len(frame.rows):,} over {len(seeds)} seeds ({seeds[0]} to {seeds[-1]})"),
        ("configuration", frame.result.fingerprint[:16]),
        *data,
        *((str(key), str(value)) for key, value in frame.result.environment.items()),
    ]


def runs(frame: Frame) -> Table:
    """Every row with its test metrics."""

    def metric(key: str, scale: int, digits: int) -> Callable[[Row], str]:
        return lambda row: (
            "" if row["test"].get(key) is None else f"{scale * row['test'][key]:.{digits}f}"
        )

    def value(axis: str) -> Callable[[Row], str]:
        return lambda row: shown(row["point"][axis])

    axes = {} if frame.grid is None else frame.grid.titles
    return tabled(
        frame.rows,
        {
            **{title: value(name) for name, title in axes.items()},
            "student": lambda row: readable(str(row["student"])),
            "variant": lambda row: "" if is_teacher(row["student"]) else look(row["variant"]).label,
            "seed": lambda row: str(row["seed"]),
            "accuracy, %": metric("accuracy", 100, 1),
            "macro-F1, %": metric("macro_f1", 100, 1),
            "log loss": metric("nll", 1, 3),
            "calibration error, %": metric("ece", 100, 1),
            "KL, nats": any("kl" in row["test"] for row in frame.rows) and metric("kl", 1, 3),
        },
        words=len(axes) + 2,
    )


def choices(frame: Frame) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Per student and variant: options that differ within a student (what was picked for it).

    Also those that have several candidates of which every variant picked the same, and a sharpness
    that is learned: what it became is a result, but has to be read with the settings.
    """
    for student in frame.networks:
        own = [row for row in frame.rows if row["student"] == student]
        keys = dict.fromkeys(key for row in own for key in row.get("options", {}))
        differ = [k for k in keys if len({plain(r["options"].get(k)) for r in own}) > 1]
        for variant in frame.variants_of(student):
            mine = [row for row in own if row["variant"] == variant]
            picked = {}
            for key in dict.fromkeys([*differ, *_swept(frame.config, student, variant)]):
                counts = Counter(filter(None, (plain(r["options"].get(key)) for r in mine)))
                if counts:
                    unit = "run" if frame.grid is not None else "seed"
                    picked[readable(key)] = _counted(counts, len(mine), unit)
            reached = [
                row["extra"]["sharpness"]
                for row in mine
                if "sharpness" in row.get("extra", {})
                and row.get("options", {}).get("sharpness_mode") != "fixed"
            ]
            if reached:
                mean, half = interval(reached)
                picked["sharpness reached"] = f"{mean:.2f}" + (f" ± {half:.2f}" if half else "")
            if picked:
                label = "" if is_teacher(student) else look(variant).label
                yield readable(student), label, picked


def _swept(config: Mapping[str, Any], student: str, variant: str) -> list[str]:
    """Options of which the validation split chose one of several."""
    if student not in config.get("students", {}):
        return []
    own, training = config["students"][student], config.get("training") or {}
    rate = (own.get("training") or {}).get("learning_rate") or training.get("learning_rate")
    terms = config.get("variants", {}).get(variant)
    taught = VariantConfig.model_validate(terms).candidates if terms else {}
    several = {**(own.get("candidates") or {}), **taught, "learning_rate": rate}
    return [key for key, values in several.items() if isinstance(values, list) and values[1:]]


def _counted(counts: Counter[str], total: int, unit: str) -> str:
    if len(counts) == 1:
        ((value, n),) = counts.items()
        return value + f" ({n} of {total} {unit}s)" * (n != total)
    return ", ".join(f"{value} ({n} {unit}{'s' * (n > 1)})" for value, n in sorted(counts.items()))


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration less what the page says elsewhere.

    What an axis changes stands with all its values: the one written beside it may never be run.
    """
    skip = {"name", "title", "schema", "headline", "presets", "baseline"}
    kept = {key: value for key, value in _with_axes(config).items() if key not in skip}
    if isinstance(variants := kept.get("variants"), Mapping):
        kept["variants"] = {name: _lesson(variant) for name, variant in variants.items()}
    if isinstance(axes := kept.get("axes"), Mapping):
        kept["axes"] = {axis.get("title") or name: labels_of(axis) for name, axis in axes.items()}
    if isinstance(teachers := kept.get("teachers"), Mapping):
        kept["teachers"] = {
            name: {key: value for key, value in item.items() if value is not False}
            for name, item in teachers.items()
        }
        if [*teachers] == [TEACHER]:
            said = {"teachers": (TEACHER, kept["teachers"][TEACHER])}
            kept = dict(said.get(key, (key, value)) for key, value in kept.items())
    return kept


def _with_axes(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which settings that an axis changes at all its values are texts: `50 or 500`."""
    found = copy.deepcopy(dict(config))
    for key, values in varied(config, always=True).items():
        *path, last = key.split(".")
        if path[:1] in (["variants"], ["students"]):
            continue  # the whole configuration says it
        here: Any = found
        for part in ["teachers", *path] if path[:1] == [TEACHER] else path:
            here = here.setdefault(part, {}) if isinstance(here, dict) else None
        if isinstance(here, dict):
            here[last] = " or ".join(plain(value) for value in values)
    return found


def _lesson(variant: Mapping[str, Any]) -> str:
    """A variant in one line: weighted losses, teacher, temperatures."""
    terms = []
    for term in variant.get("terms", ()):
        weight = term.get("weight", 1)
        several = f"({' or '.join(map(plain, weight))})" if isinstance(weight, list) else None
        times = "" if weight == 1 else f"{several or plain(weight)} × "
        said = [plain(term.get("options"))] + [
            f"{key} {plain(term[key])}"
            for key in ("teacher", "placebo", "layers", "adapter")
            if term.get(key) not in (None, "none")
        ]
        more = "; ".join(filter(None, said))
        terms.append(f"{times}{readable(term['loss'])}" + f" ({more})" * bool(more))
    parts = [" + ".join(terms)]
    if variant.get("sees") == "all":
        own = plain({k: v for k, v in (variant.get("training") or {}).items() if v is not None})
        parts.append("on all labels of the pool (sees: all)" + f", trained with {own}" * bool(own))
    for key in ("teacher", "placebo"):
        if variant.get(key) not in (None, "none"):
            parts.append(f"{key}: {variant[key]}")
    if variant.get("backend"):
        parts.append(f"trained on: {variant['backend']}")
    if stage := variant.get("fine_tune"):
        parts.append(f"then on {stage['backend']}: {plain(stage.get('training'))}")
    if variant.get("temperature"):
        parts.append(f"temperature from {plain(variant['temperature'])}")
    return "; ".join(parts)


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Two levels of the configuration as label and text; deeper ones on one line."""
    for key, value in config.items():
        label = f"{prefix}{readable(str(key))}"
        if isinstance(value, Mapping) and value and not prefix:
            yield from flat(value, f"{label}: ")
        elif text := plain(value):
            yield label, text


def plain(value: Any) -> str:
    """A setting as people write it; empty for nothing."""
    if value is None or value == {} or value == []:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(
            f"{readable(str(k))} {text}" for k, v in value.items() if (text := plain(v))
        )
    if isinstance(value, list | tuple):
        whole = all(isinstance(item, int) for item in value) and len(value) > 2
        if whole and list(value) == list(range(value[0], value[0] + len(value))):
            return f"{value[0]} to {value[-1]}"
        joint = " + " if any(isinstance(item, Mapping) for item in value) else ", "
        return joint.join(plain(item) for item in value)
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return _WORDS.get(text, readable(text) if _IDENTIFIER.fullmatch(text) else text)
