# SPDX-License-Identifier: Apache-2.0
"""The sentences at the head of a report: verdict, placebos, and on what the numbers rest.

The page and the terminal say the same words. A study that is not finished is spoken of as such.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from qiskit_kd.experiment.result import collapsed_of, longer_training
from qiskit_kd.experiment.statistics import shared_variance, sign_flip
from qiskit_kd.report.grid import settled, varied
from qiskit_kd.report.palette import TEACHER, look, readable
from qiskit_kd.report.summary import (
    Cell,
    Gain,
    Result,
    Row,
    gains,
    headline,
    is_placebo,
    is_teacher,
    paired,
    points,
    roles,
    treatment,
    upper_controls,
    values,
    variants_of,
)
from qiskit_kd.report.whereabouts import is_exact, places_sentence

if TYPE_CHECKING:
    from qiskit_kd.data import Split

__all__ = ["chance_sentence", "interval_sentence", "labels_sentence", "placebo_sentence"]
__all__ += ["question_sentence", "setup_sentence", "shots_sentence", "size_sentence"]
__all__ += ["verdict_sentence"]

_GRADIENTS = {"shift": "parameter-shift gradients", "spsa": "SPSA gradients"}


def question_sentence(result: Result, split: Split | None) -> str:
    """Which question a study answers: what its teachers know that its students do not.

    Args:
        result: A study.
        split: Its data for one seed; without it the sentence has no numbers.
    """
    config, changes = result.config, varied(result.config)
    variant: Mapping[str, Any] = config.get("variants", {}).get(treatment(result), {})
    listed = [term.get("teacher") or variant.get("teacher") for term in variant.get("terms", ())]
    wanted = [n for n in dict.fromkeys(listed) if n in (config.get("teachers") or {})]
    seen: dict[str, None] = {}
    for teacher in wanted:
        key = f"teachers.{teacher}.sees"
        seen |= dict.fromkeys(changes.get(key) or [config["teachers"][teacher].get("sees", "same")])
    if not seen:
        return ""
    count = "" if split is None else f"{len(split.train.labels):,} "
    count = "" if "data.options.train" in changes else count
    pool = "more" if split is None else f"{len(split.pool.labels):,}"
    parts = []
    if "same" in seen:
        unlabelled = 0 if split is None else len(split.transfer)
        through = f", by its answers on {unlabelled:,} unlabelled samples" if unlabelled else ""
        parts.append(f"does a teacher help that saw the same {count}labels as its student{through}")
    if "all" in seen:
        than = f" of {count.strip()}" if count else ""
        parts.append(
            f"does a teacher that saw {pool} labels help a student{than}, as much as these labels "
            "themselves would"
        )
    return f"The question: {'; and '.join(parts)}?"


def labels_sentence(result: Result) -> str:
    """How far the headline gain is from what the teacher's labels give; empty without that row."""
    lead, said = headline(result), []
    if lead is None:
        return ""
    for name in upper_controls(result):
        found = _against(result, lead.student, [(name, lead.baseline), (lead.variant, name)])
        if len(found) == 2:
            gain, rest = found
            verb = {"confirmed": "beats", "harmful": "stays behind"}.get(
                rest.verdict, "is not told apart from"
            )
            said.append(
                f"The same student trained on the labels that a teacher could see gains "
                f"{points(gain.mean)} points{_ends(gain)}; with the teacher it {verb} that "
                f"({points(rest.mean)} points{_ends(rest)})."
            )
    return " ".join(said)


def verdict_sentence(result: Result) -> str:
    """The first line of a report."""
    gain = headline(result)
    if gain is None:
        wanted, treated = result.config.get("headline"), treatment(result)
        if wanted is None or treated is None:
            return "Nothing to compare: the study holds no student both alone and distilled."
        baseline, _ = roles(result)
        return (
            f"No verdict yet for the {readable(str(wanted))} student: no seed has finished both "
            f"{look(baseline).label} and {look(treated).label}."
        )
    opening = {
        "confirmed": "Distillation helps",
        "harmful": "Distillation harms",
    }.get(gain.verdict, "No gain from distillation is confirmed for")
    metric = f"{points(gain.mean)} points of test accuracy"
    said = f"{opening} the {readable(gain.student)} student: {metric} ({_range(gain)})."
    longer = longer_training(result.rows, gain.student, gain.variant, gain.baseline)
    return f"{said} {longer[0].upper()}{longer[1:]}." if longer else said


def interval_sentence(result: Result) -> str:
    """What intervals are about, and how many seeds collapsed."""
    said: list[str] = []
    cells: dict[tuple[str, str, str], list[Row]] = {}
    for row in result.rows:
        key = str(row.get("point", {})), str(row["student"]), str(row["variant"])
        cells.setdefault(key, []).append(row)
    if any(map(shared_variance, cells.values())):
        said.append(
            "Intervals are about other data of the same kind: splits of several seeds share "
            "samples, which Student's t is corrected for (after Nadeau and Bengio)."
        )
    gain = None if result.config.get("axes") else headline(result)
    if gain is not None and len(gain.differences) > 1:
        said.append(
            "The sign-flip test of the gain, which needs no bell shape, has p = "
            f"{sign_flip(gain.differences):.2g}."
        )
    fallen: dict[str, list[int]] = {}
    for (_, student, variant), rows in cells.items():
        if count := collapsed_of(rows):
            name = f"{readable(student)}, {look(variant).label}"
            fallen.setdefault(name, []).append(count)
    if fallen:
        named = "; ".join(f"{name} {sum(counts)}" for name, counts in fallen.items())
        said.append(
            "Seeds that collapsed, less than a third of the way from chance to the median: "
            f"{named}."
        )
    return " ".join(said)


def placebo_sentence(result: Result) -> str:
    """Whether the headline gain is more than what its placebos give.

    A placebo that does worse than the student alone is a low bar, which is then said.
    """
    lead = headline(result)
    if lead is None:
        return ""
    _, placebos = roles(result)
    names = [v for v in variants_of(result.rows, student=lead.student) if v in placebos]
    against = _against(result, lead.student, [(lead.variant, name) for name in names])
    if not against:
        planned = any(
            is_placebo(item) and name != lead.baseline
            for name, item in result.config.get("variants", {}).items()
        )
        return (
            "No placebo has finished a seed of this student yet."
            if planned or names
            else "No placebo was run, so the gain may have nothing to do with the teacher."
        )
    parts = []
    for verb, wanted in (
        ("beats", "confirmed"), ("does not clearly beat", "not confirmed"),
        ("does worse than", "harmful"),
    ):  # fmt: skip
        named = [
            f"{look(item.baseline).label} ({points(item.mean)} points{_ends(item)})"
            for item in against
            if item.verdict == wanted
        ]
        if named:
            parts.append(f"{verb} the placebo{'s' * (len(named) > 1)} {' and '.join(named)}")
    said = f"With the teacher it {'; it '.join(parts)}."
    for item in _against(result, lead.student, [(name, lead.baseline) for name in names]):
        if item.verdict == "harmful":
            said += (
                f" The {look(item.variant).label} is itself harmful ({points(item.mean)} points "
                f"against {look(lead.baseline).label}), so beating it says little."
            )
    return said


def setup_sentence(result: Result, split: Split | None) -> str:
    """What the teacher saw, what the students saw, and how the headline's student was run.

    Args:
        result: A study.
        split: Its data for one seed; without it the sentence has no numbers.
    """
    config, said = result.config, []
    teachers: Mapping[str, Any] = config.get("teachers") or {}
    if config.get("axes") or len(teachers) > 1:
        said = _teachers(config, split)
    elif split is None:
        said = [_unseen(item.get("sees", "same")) for item in teachers.values()]
    else:
        said = [_counted(next(iter(teachers.values()), None), split)]
    said += [_shared(config), _run_of(result), shots_sentence(result)]
    return " ".join(part for part in said if part)


def shots_sentence(result: Result) -> str:
    """How many shots the headline's student will need on a device; empty where nobody counted."""
    wanted, names = result.config.get("headline"), (roles(result)[0], treatment(result))
    said = []
    for name in dict.fromkeys(filter(None, names)):
        found = [
            row["extra"]["shots_needed"]
            for row in result.rows
            if (row["student"], row["variant"]) == (wanted, name)
            and "shots_needed" in (row.get("extra") or {})
        ]
        if found:
            ends = f"{min(found):,} to {max(found):,}"
            said.append(f"{look(name).label} {round(median(found)):,} ({ends})")
    if not said:
        return ""
    return (
        f"Shots per circuit that this student needs when sampled (median and range over rows): "
        f"{'; '.join(said)}."
    )


def chance_sentence(
    count: int, *, excluding: int | None = None, over: str = "the student alone"
) -> str:
    """What to expect of `count` intervals where nothing is true.

    Args:
        count: How many intervals are shown.
        excluding: How many of them exclude zero; said beside what chance would give.
        over: What the gains are over.
    """
    if count < 2:
        return ""
    if excluding is None:
        return (
            f"{count} comparisons are shown; at 95 % about one in twenty would exclude zero by "
            "chance."
        )
    expected = f"about {0.05 * count:.0f}" if count >= 30 else f"{0.05 * count:.1f} on average"
    return (
        f"{count} intervals of gains over {over} are shown and {excluding} of them "
        f"exclude zero; if no variant changed anything, {expected} would (one in twenty), and not "
        "singly, for settings share seeds and samples."
    )


def size_sentence(table: Collection[Cell]) -> str:
    """What is written behind numbers of parameters; empty where nothing is."""
    less = any("−" in cell.size for cell in table)
    rank = any("(" in cell.size for cell in table)
    said = ["params: trained numbers"] * (less or rank)
    said += ["minus those that cannot move the outputs"] * less
    said += ["in brackets the effective number, by the rank of the circuit's Jacobian"] * rank
    return f"{', '.join(said)}." if said else ""


def _unseen(sees: str) -> str:
    if sees == "all":
        return (
            "The teacher was trained on the whole labelled pool (sees: all), which may be more "
            "than the students' own samples."
        )
    return "The teacher was trained on the students' own samples (sees: same)."


def _counted(teacher: Mapping[str, Any] | None, split: Split) -> str:
    """What a single teacher and the students saw, in numbers."""
    own, unlabelled = len(split.train.labels), len(split.transfer)
    if teacher is None:
        return f"Students were trained on {own:,} labelled samples; there is no teacher."
    sees = teacher.get("sees", "same")
    pool = len(split.pool.labels) if sees == "all" else own
    same = "the same " if sees != "all" else ""
    through = f", and through the teacher on {unlabelled:,} unlabelled ones" if unlabelled else ""
    return (
        f"The teacher was trained on {pool:,} labelled samples (sees: {sees}); students on "
        f"{same}{own:,}{through}."
    )


def _teachers(config: Mapping[str, Any], split: Split | None) -> list[str]:
    """What each of several teachers saw, and the students, where axes may change either."""
    changes = varied(config)
    pool = "" if split is None else f" of {len(split.pool.labels):,} samples"
    kinds = {"same": "the students' own samples", "all": f"the whole labelled pool{pool}"}
    groups: dict[str, list[str]] = {}
    for name, item in config.get("teachers", {}).items():
        sees = changes.get(f"teachers.{name}.sees") or [item.get("sees", "same")]
        text = f"{' or '.join(kinds[s] for s in sees)} (sees: {' or '.join(sees)})"
        shared = changes.get(f"teachers.{name}.shared") or [item.get("shared")]
        if any(shared) and "all" in sees:
            text += "; trained on the pool once, for all seeds and settings"
        called = "" if name == TEACHER else f"{readable(name)} "  # the teacher teacher
        groups.setdefault(text, []).append(f"{called}({readable(str(item['kind']))})")
    said = []
    for text, names in groups.items():
        many = "teachers" if len(names) > 1 else "teacher"
        was = "were each" if len(names) > 1 else "was"
        said.append(f"The {many} {' and '.join(names)} {was} trained on {text}.")
    if trained := changes.get("data.options.train"):
        counts = [f"{n:,}" if isinstance(n, int) else "all" for n in trained]
        own = " or ".join([", ".join(counts[:-1]), counts[-1]] if counts[1:] else counts)
    else:
        own = "" if split is None else f"{len(split.train.labels):,}"
    if own:
        tested = "" if split is None else f" and tested on {len(split.test.labels):,}"
        said.append(f"Students were trained on {own} labelled samples{tested}.")
    return said


def _shared(config: Mapping[str, Any]) -> str:
    """What the intervals leave out where one teacher stands for all seeds."""
    changes = varied(config)
    names = []
    for name, item in config.get("teachers", {}).items():
        sees = changes.get(f"teachers.{name}.sees") or [item.get("sees", "same")]
        shared = changes.get(f"teachers.{name}.shared") or [item.get("shared")]
        if any(shared) and "all" in sees:
            names.append(readable(name))
    if not names:
        return ""
    many = len(names) > 1
    return (
        f"The teacher{'s' * many} {' and '.join(names)}, trained on the pool, "
        f"{'are' if many else 'is'} the same for all seeds: intervals of what "
        f"{'they taught' if many else 'it taught'} contain the spread over the students' samples "
        "and initial weights, not what another training of the teacher would change."
    )


def _run_of(result: Result) -> str:
    """Backend, gradient and sharpness of the headline's student; empty for a classical one."""
    students = [str(r["student"]) for r in result.rows if not is_teacher(r["student"])]
    wanted = result.config.get("headline") or next(iter(students), None)
    found = (r.get("options", {}) for r in result.rows if r["student"] == wanted)
    options: Mapping[str, Any] = next(found, {})
    if "backend" not in options:
        return ""
    backend, gradient = str(options["backend"]), str(options.get("gradient", "auto"))
    # The engines' own rule for "auto": exact where the state is at hand, else SPSA.
    exact = backend == "exact" or is_exact(settled(result.config), backend)
    said = _GRADIENTS.get(gradient, "exact gradients" if exact else _GRADIENTS["spsa"])
    places = places_sentence(result)
    later = _later(result.config) if gradient == "auto" else None
    said += "" if later is None or later == said else f", {later} while fine-tuning"
    # Where variants are trained in different places, no single backend has run the student.
    text = (
        f"{places} {said[0].upper()}{said[1:]}"
        if places
        else f"Backend {readable(backend)}, {said}"
    )
    if options.get("shots"):
        text += f", {options['shots']:,} shots"
    mode = options.get("sharpness_mode")
    return f"{text}; sharpness {mode}." if mode else f"{text}."


def _later(config: Mapping[str, Any]) -> str | None:
    """The gradients of a second stage of training, as the engines' rule has them; None without."""
    stages = [item.get("fine_tune") for item in config.get("variants", {}).values()]
    places = [str(stage["backend"]) for stage in stages if stage]
    if not places:
        return None
    return "exact gradients" if is_exact(settled(config), places[0]) else _GRADIENTS["spsa"]


def _against(result: Result, student: str, pairs: Sequence[tuple[str, str]]) -> list[Gain]:
    """One comparison per (variant, baseline) that share a seed; the study's own where it has it."""
    known = {(g.student, g.variant, g.baseline): g for g in gains(result.rows, result.comparisons)}
    found = []
    for variant, baseline in pairs:
        sides = [values(result.rows, student, name, "accuracy") for name in (variant, baseline)]
        if sides[0].keys() & sides[1].keys():
            found.append(
                known.get((student, variant, baseline))
                or paired(result.rows, student, variant, baseline)
            )
    return found


def _range(gain: Gain) -> str:
    if gain.low is None or gain.high is None:
        return f"one seed only, n = {gain.n}"
    return f"95 % interval {points(gain.low)} to {points(gain.high)}, n = {gain.n} paired seeds"


def _ends(gain: Gain) -> str:
    if gain.low is None or gain.high is None:
        return ""
    return f", {points(gain.low)} to {points(gain.high)}"
