# SPDX-License-Identifier: Apache-2.0
"""The words and numbers of the page: table, settings, choices, provenance; no HTML, no figures."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qiskit_kd.experiment.schema import VariantConfig
from qiskit_kd.report.grid import grid_of, labels_of, shown, varied
from qiskit_kd.report.palette import TEACHER, listed, look, looks, readable
from qiskit_kd.report.summary import (
    Cell,
    Result,
    cells,
    gains,
    headline,
    interval,
    is_teacher,
    points,
    roles,
    students_of,
    variants_of,
)
from qiskit_kd.report.svg import variable

if TYPE_CHECKING:
    from qiskit_kd.data import Split

__all__ = ["flat", "listed", "options", "others", "plain", "provenance", "runs"]
__all__ += ["settings", "table", "title", "traits", "unfinished"]


_IDENTIFIER = re.compile(r"[a-z0-9]+(_[a-z0-9]+)+")
_WORDS = {"over_seeds": "by the mean over all seeds", "per_seed": "for each seed by itself"}
_LABELS = {
    "scheme": "basis states to classes", "measured": "measured qubits", "budget": "size to match",
    "gradient": "gradient rule", "smoothing": "smoothing of probabilities",
}  # fmt: skip


def table(result: Result) -> list[dict[str, Any]]:
    """The table of results: a group of lines per student, one line per variant."""
    baseline, placebos = roles(result)
    f1 = {(c.student, c.variant): c for c in cells(result.rows, "macro_f1")}
    gain = {
        (g.student, g.variant): g for g in gains(result.rows, result.comparisons, baseline=baseline)
    }
    groups: dict[str, dict[str, Any]] = {}
    drawn = looks(variants_of(result.rows))
    for cell in cells(result.rows):
        own = gain.get((cell.student, cell.variant))
        other = f1[cell.student, cell.variant]
        teacher = is_teacher(cell.student)
        group = groups.setdefault(
            cell.student,
            {"student": readable(cell.student), "size": _size(cell), "lines": []},
        )
        known = own is not None and own.low is not None and own.high is not None
        group["lines"].append(
            {
                "variant": drawn[cell.variant].label if not teacher else "alone",
                "color": variable((look(TEACHER) if teacher else drawn[cell.variant]).color),
                "n": cell.n,
                "accuracy": f"{100 * cell.mean:.1f}",
                "accuracy_half": _half(cell.half),
                "macro_f1": f"{100 * other.mean:.1f}",
                "macro_f1_half": _half(other.half),
                "gain": points(own.mean) if own else "",
                "range": f"{points(own.low or 0.0)}, {points(own.high or 0.0)}"
                if own and known
                else "",
                # "Harmful" is said of a treatment; a placebo's numbers are there to be beaten.
                "verdict": own.verdict if own and cell.variant not in placebos else "",
            }
        )
    return list(groups.values())


def _size(cell: Cell) -> str:
    """`75 parameters, 69 live, 51 effective`; the last two where they are known."""
    counted = (("parameters", cell.parameters), ("live", cell.live), ("effective", cell.effective))
    return ", ".join(f"{n:,} {what}" for what, n in counted if n is not None)


def others(result: Result) -> str:
    """What became of the students that the first line does not speak of."""
    lead = headline(result)
    if lead is None:
        return ""
    rest = [
        g
        for g in gains(result.rows, result.comparisons, baseline=lead.baseline)
        if g.variant == lead.variant and g.student != lead.student
    ]
    if not rest:
        return ""
    parts = []
    for verdict, text in (
        ("confirmed", "a gain is confirmed for"),
        ("not confirmed", "none is confirmed for"),
        ("harmful", "distillation harms"),
    ):
        names = [readable(g.student) for g in rest if g.verdict == verdict]
        if names:
            parts.append(f"{text} {listed(names)}")
    return f"Among the other students, {'; '.join(parts)}."


def options(
    rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Per student and variant: options that differ within a student (what was picked for it).

    With the resolved configuration also those that have several candidates of which every variant
    picked the same.

    A sharpness that is learned stands beside them: what it became is a
    result, but has to be read with the settings.
    """
    out = []
    for student in students_of(rows):
        own = [row for row in rows if row["student"] == student]
        keys = dict.fromkeys(key for row in own for key in row.get("options", {}))
        varied = [k for k in keys if len({plain(r["options"].get(k)) for r in own}) > 1]
        for variant in variants_of(rows, student=student):
            mine = [row for row in own if row["variant"] == variant]
            picked = {}
            for key in dict.fromkeys([*varied, *_swept(config, student, variant)]):
                found = [plain(r["options"].get(key)) for r in mine]
                counts = Counter(text for text in found if text != "")
                if counts:
                    unit = "run" if any(r.get("point") for r in mine) else "seed"
                    picked[readable(key)] = _counted(counts, len(mine), unit)
            reached = [
                r["extra"]["sharpness"]
                for r in mine
                if "sharpness" in r.get("extra", {})
                and r.get("options", {}).get("sharpness_mode") != "fixed"
            ]
            if reached:
                mean, half = interval(reached)
                picked["sharpness reached"] = f"{mean:.2f}" + (f" ± {half:.2f}" if half else "")
            if picked:
                label = "" if is_teacher(student) else look(variant).label
                out.append({"student": readable(student), "variant": label, "picked": picked})
    return out


def _swept(config: Mapping[str, Any] | None, student: str, variant: str) -> list[str]:
    """Options of which the validation split chose one of several."""
    if config is None or student not in config.get("students", {}):
        return []
    own, training = config["students"][student], config.get("training") or {}
    rate = (own.get("training") or {}).get("learning_rate") or training.get("learning_rate")
    terms = config.get("variants", {}).get(variant)
    taught = VariantConfig.model_validate(terms).candidates if terms else {}
    several = {**(own.get("candidates") or {}), **taught, "learning_rate": rate}
    return [key for key, values in several.items() if isinstance(values, list) and values[1:]]


def _counted(counts: Counter[str], total: int, unit: str) -> str:
    if len(counts) == 1:
        value, n = next(iter(counts.items()))
        return value if n == total else f"{value} ({n} of {total} {unit}s)"
    return ", ".join(f"{value} ({n} {unit}{'s' * (n > 1)})" for value, n in sorted(counts.items()))


def unfinished(result: Result) -> str:
    """A warning where rows are missing; empty for a finished study."""
    missing, failures = getattr(result, "missing", 0), getattr(result, "failures", {})
    if not missing:
        return ""
    failed = f", {len(failures)} of them failed" if failures else ""
    first = next(iter(failures.values()), None)
    why = f" First error: {first['label']}: {first['error']}" if first else ""
    return (
        f"This study is not finished: {missing} task{'s have' if missing > 1 else ' has'} no row"
        f"{failed}. Run the command below again to do what is missing.{why}"
    )


def provenance(result: Result, split: Split | None) -> list[tuple[str, str]]:
    """What the numbers rest on: rows, hashes, versions."""
    seeds = sorted({int(row["seed"]) for row in result.rows})
    data = [] if split is None else [(f"data, seed {seeds[0]}", split.fingerprint[:16])]
    return [
        ("rows", f"{len(result.rows):,} over {len(seeds)} seeds ({seeds[0]} to {seeds[-1]})"),
        ("configuration", result.fingerprint[:16]),
        *data,
        *((str(key), str(value)) for key, value in result.environment.items()),
    ]


def settings(config: Mapping[str, Any], *, with_students: bool = True) -> dict[str, Any]:
    """The configuration less what the page says elsewhere.

    What an axis changes stands with all its values: the one written beside it may never be run.
    """
    skip = {"name", "title", "schema", "headline", "presets", "baseline"}
    if not with_students:
        skip.add("students")
    kept = {key: value for key, value in _with_axes(config).items() if key not in skip}
    if isinstance(variants := kept.get("variants"), Mapping):
        kept["variants"] = {name: _lesson(variant) for name, variant in variants.items()}
    if isinstance(axes := kept.get("axes"), Mapping):
        kept["axes"] = {axis.get("title") or name: labels_of(axis) for name, axis in axes.items()}
    if isinstance(teachers := kept.get("teachers"), Mapping):
        said = {
            name: {key: value for key, value in item.items() if value is not False}
            for name, item in teachers.items()
        }
        kept["teachers"] = said
        if [*said] == [TEACHER]:
            kept = {TEACHER if k == "teachers" else k: v for k, v in kept.items()}
            kept[TEACHER] = said[TEACHER]
    return kept


def _with_axes(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which settings that an axis changes at all its values are texts: `50 or 500`."""
    found = copy.deepcopy(dict(config))
    partly = {
        key
        for name, axis in config.get("axes", {}).items()
        for key in varied({"axes": {name: axis}})
        if any(key not in varied({"axes": {name: {**axis, "only": [label]}}})
               for label in labels_of(axis))
    }  # fmt: skip
    for key, values in varied(config).items():
        *path, last = key.split(".")
        if path[:1] in (["variants"], ["students"]) or key in partly:
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
        extra = plain(term.get("options"))
        weight = term.get("weight", 1)
        several = f"({' or '.join(map(plain, weight))})" if isinstance(weight, list) else None
        weight = "" if weight == 1 else f"{several or plain(weight)} × "
        said = [extra] if extra else []
        said += [f"{key} {plain(term[key])}" for key in ("teacher", "placebo", "layers", "adapter")
                 if term.get(key) not in (None, "none")]  # fmt: skip
        terms.append(f"{weight}{readable(term['loss'])}" + (f" ({'; '.join(said)})" * bool(said)))
    text = " + ".join(terms)
    if variant.get("sees") == "all":
        text += "; on all labels of the pool (sees: all)"
        own = plain({k: v for k, v in (variant.get("training") or {}).items() if v is not None})
        text += f", trained with {own}" if own else ""
    if variant.get("teacher") not in (None, "none"):
        text += f"; teacher: {variant['teacher']}"
    if variant.get("placebo") not in (None, "none"):
        text += f"; placebo: {variant['placebo']}"
    if variant.get("backend"):
        text += f"; trained on: {variant['backend']}"
    if stage := variant.get("fine_tune"):
        text += f"; then on {stage['backend']}: {plain(stage.get('training'))}"
    if variant.get("temperature"):
        text += f"; temperature from {plain(variant['temperature'])}"
    return text


def flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Two levels of the configuration as label and text; deeper ones on one line."""
    out = []
    for key, value in config.items():
        label = f"{prefix}{readable(str(key))}"
        if isinstance(value, Mapping) and value and not prefix:
            out += flat(value, f"{label}: ")
        elif (text := plain(value)) != "":
            out.append((label, text))
    return out


def plain(value: Any) -> str:
    """A setting as people write it; empty for nothing."""
    if value is None or value == {} or value == []:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(
            f"{readable(str(k))} {plain(v)}" for k, v in value.items() if plain(v) != ""
        )
    if isinstance(value, list | tuple):
        whole = all(isinstance(item, int) for item in value) and len(value) > 2
        if whole and list(value) == list(range(value[0], value[0] + len(value))):
            return f"{value[0]} to {value[-1]}"
        if any(isinstance(item, Mapping) for item in value):
            return " + ".join(plain(item) for item in value)
        return ", ".join(plain(item) for item in value)
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return _WORDS.get(text, readable(text) if _IDENTIFIER.fullmatch(text) else text)


def traits(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a network says of itself, as labels and text for people."""
    kept = dict(facts)
    for key in ("dead_weights", "effective_weights"):  # counted with the circuits
        kept.pop(key, None)
    for key in ("parameters", "live_parameters", "effective_parameters"):
        if isinstance(kept.get(key), int):
            kept[key] = f"{kept[key]:,}"
    mode, sharpness = kept.pop("sharpness_mode", None), kept.pop("sharpness", None)
    if sharpness is not None:
        kept["initial_sharpness" if mode == "learnable" else "sharpness"] = (
            f"{plain(sharpness)} ({mode})" if mode else sharpness
        )
    if kept.get("ansatz_options"):
        chosen = [
            readable(key) if value is True else f"{readable(key)} {plain(value)}"
            for key, value in kept["ansatz_options"].items()
        ]
        kept["ansatz"] = f"{plain(kept['ansatz'])} ({', '.join(chosen)})"
    kept.pop("ansatz_options", None)
    return [
        (_LABELS.get(key, readable(key)), text)
        for key, value in kept.items()
        if (text := plain(value)) != ""
    ]


def runs(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every row with its test metrics, as text."""

    def cell(row: Mapping[str, Any], key: str, scale: float, digits: int) -> str:
        value = row["test"].get(key)
        return "" if value is None else f"{scale * value:.{digits}f}"

    return [
        {
            "point": [shown(value) for value in row.get("point", {}).values()],
            "student": readable(str(row["student"])), "seed": str(row["seed"]),
            "variant": "" if is_teacher(row["student"]) else look(row["variant"]).label,
            "accuracy": cell(row, "accuracy", 100, 1), "macro_f1": cell(row, "macro_f1", 100, 1),
            "nll": cell(row, "nll", 1, 3), "ece": cell(row, "ece", 100, 1),
            "kl": cell(row, "kl", 1, 3),
        }
        for row in rows
    ]  # fmt: skip


def title(result: Result) -> str:
    """The line above the verdict."""
    seeds = len({row["seed"] for row in result.rows})
    students = sum(not is_teacher(name) for name in students_of(result.rows))
    title = result.config.get("title") or result.name
    grid = grid_of(result)
    points = "" if grid is None else f" · {len(grid.points)} settings"
    return (
        f"{title} · {students} student{'s' * (students != 1)}{points} · {seeds} "
        f"{'paired seeds' if seeds > 1 else 'seed'}"
    )


def _half(half: float | None) -> str:
    return "" if half is None else f"{100 * half:.1f}"
