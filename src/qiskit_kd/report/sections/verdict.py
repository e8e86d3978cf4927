# SPDX-License-Identifier: Apache-2.0
"""What was found, in at most three sentences; a line a contrast; and on what it all rests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from qiskit_kd.experiment.result import collapsed_of, longer_training
from qiskit_kd.experiment.statistics import FEWEST, Gain, shared_variance
from qiskit_kd.report.contrasts import contrasts, over
from qiskit_kd.report.document import Block, Facts, Headline, Section, Text, section
from qiskit_kd.report.frame import Contrast, Frame, is_exact, judged_on, noise_of, trained_on
from qiskit_kd.report.grid import varied
from qiskit_kd.report.sections.device import lead
from qiskit_kd.report.style import TEACHER, ends_of, listed, look, points, readable

_JUDGED = "judged, wherever they were trained"
_ON_PAGE = {"question", "run", "trained", _JUDGED, "shots needed per circuit"}
_GRADIENTS = {"shift": "parameter-shift gradients", "spsa": "SPSA gradients"}
_BEATS = {
    "confirmed": "beats",
    "not confirmed": "does not clearly beat",
    "harmful": "does worse than",
}
_LABELS = {"confirmed": "beats", "harmful": "stays behind"}


@section("verdict", place=0, terminal=True)
def verdict(frame: Frame) -> Section:
    """The head of a report."""
    said = lead(frame) or (_plain(frame) if frame.grid is None else _sweep(frame))
    table = contrasts(frame, frame.student, frame.noisy_points or None)
    setup = [(label, text) for label, text in _setup(frame) if text]
    # A study under noise has a table a student: what its page says once more is left out.
    short = [(k, v) for k, v in setup if not frame.noisy_points or k not in _ON_PAGE]
    missing = unfinished(frame)
    warning: list[Block] = [Text(missing, "warning")] if missing else []
    return Section(
        "", [said, *warning, *([table] if table else []), Facts(setup)], [said, Facts(short)]
    )


# The first line.


def _plain(frame: Frame) -> Headline:
    """Of a study without axes."""
    student, treated = frame.student, frame.treated
    if student is None or treated is None:
        return Headline(
            "", "Nothing to compare: the study holds no student both alone and distilled."
        )
    gain = frame.gain(student, treated)
    if gain is None:
        return Headline(
            "",
            f"No verdict yet for the {readable(student)} student: no seed has finished both "
            f"{look(frame.baseline).label} and {look(treated).label}.",
        )
    opening = {"confirmed": "Distillation helps", "harmful": "Distillation harms"}.get(
        gain.verdict, "No gain from distillation is confirmed for"
    )
    span = f"95 % interval {ends_of(gain, joint=' to ')}, n = {gain.n} paired seeds"
    first = (
        f"{opening} the {readable(student)} student: {points(gain.mean)} points of test "
        f"accuracy ({span if gain.ends else f'one seed only, n = {gain.n}'})."
    )
    more = _placebos(frame, student, treated), _labels(frame, student, treated)
    return Headline(gain.verdict, first, tuple(filter(None, more)))


def _said(gain: Gain) -> str:
    """`+1.2 points, +0.4 to +2.0`."""
    ends = ends_of(gain, joint=" to ")
    return f"{points(gain.mean)} points{', ' * bool(ends)}{ends}"


def _placebos(frame: Frame, student: str, treated: str) -> str:
    """Whether the gain is more than what placebos give."""
    found: dict[str, list[str]] = {}
    for name in frame.having("placebo", student):
        if gain := frame.gain(student, treated, name):
            found.setdefault(gain.verdict, []).append(f"{look(name).label} ({_said(gain)})")
    if not found:
        if "placebo" in frame.roles.values():
            return "No placebo has finished a seed of this student yet."
        return "No placebo was run, so the gain may have nothing to do with the teacher."
    parts = [
        f"{verb} the placebo{'s' * (len(found[v]) > 1)} {listed(found[v])}"
        for v, verb in _BEATS.items()
        if v in found
    ]
    return f"With the teacher it {'; it '.join(parts)}."


def _labels(frame: Frame, student: str, treated: str) -> str:
    """How far the gain is from what the teacher's labels give; empty without that row."""
    for name in frame.having("labels", student)[:1]:
        above, rest = frame.gain(student, name), frame.gain(student, treated, name)
        if above and rest:
            verb = _LABELS.get(rest.verdict, "is not told apart from")
            return (
                "The same student trained on the labels that a teacher could see gains "
                f"{_said(above)}; with the teacher it {verb} that ({_said(rest)})."
            )
    return ""


def taught_over(frame: Frame) -> list[Contrast]:
    """Every taught variant of the headline's student against the baseline, over all points."""
    names = [name for name, role in frame.roles.items() if role == "taught"]
    found = (frame.contrast(str(frame.student), name) for name in names)
    return [one for one in found if one is not None]


def _sweep(frame: Frame) -> Headline:
    """Of a study with axes: at how many settings each taught variant helps."""
    found, student = taught_over(frame), readable(str(frame.student))
    if frame.student is None or "taught" not in frame.roles.values():
        return Headline("", "Nothing to compare: the study holds no student both alone and taught.")
    if not found:
        return Headline(
            "",
            f"No verdict yet for the {student} student: no seed has finished both alone and "
            "taught at the same setting.",
        )
    helped, unsure, harmed = (
        sum(counts) for counts in zip(*(c.counts for c in found), strict=True)
    )
    tried, total = helped + unsure + harmed, max(len(one.places) for one in found)
    where = f"{total} settings" if total > 1 else "the one setting"
    if len(found) > 1 and total > 1:
        where = f"{tried} comparisons ({len(found)} variants, {total} settings)"
    tag = "mixed" if helped and harmed else "confirmed in part" if helped else "harmful"
    first = (
        f"Distillation helps the {student} student at {helped} of {where}, harms it at {harmed} "
        f"and settles nothing at {unsure}."
    )
    if tried == unsure:
        tag, first = "not confirmed", "No gain from distillation is confirmed for the "
        first += f"{student} student at any of {where}."
    elif tried in (helped, harmed):
        tag, verb = ("confirmed", "helps") if helped else ("harmful", "harms")
        first = f"Distillation {verb} the {student} student at all of {where}."
    return Headline(tag, first, (*_hardened(frame), _beaten(frame, found)))


def _hardened(frame: Frame) -> list[str]:
    """Whether training under noise helps; nothing where no training was without."""
    (noisy, free), where = frame.under_noise(), frame.noisy_points
    pairs = [(noisy[0], plain) for plain in free] if where and noisy else []
    said = []
    for under, plain in pairs:
        if one := frame.contrast(str(frame.student), under, plain, points=where):
            better, unsure, worse = one.counts
            said.append(
                f"Training under noise (“{look(under).label}”) beats training without "
                f"(“{look(plain).label}”) at {better} of {len(one.places)} settings with noise, "
                f"does worse at {worse} and settles nothing at {unsure}."
            )
    return said[:1]


def _beaten(frame: Frame, found: Sequence[Contrast]) -> str:
    """At how many settings the real teachers beat each placebo."""
    parts = []
    for name in frame.having("placebo", frame.student):
        duels = [d for one in found if (d := frame.contrast(one.student, one.variant, name))]
        wins, total = sum(d.counts[0] for d in duels), sum(len(d.places) for d in duels)
        parts.append(f"{look(name).label} in {wins} of {total} comparisons")
    if not parts:
        return "No placebo was run, so a gain may have nothing to do with a teacher."
    return f"Real teachers beat the placebo{'s' * (len(parts) > 1)} {listed(parts)}."


# What it rests on.


def _setup(frame: Frame) -> Iterator[tuple[str, str]]:
    """What the teachers and students saw, how they were run, and what to mind."""
    where = [*places(frame)]
    yield "question", "" if lead(frame) else _question(frame)
    yield from _saw(frame)
    yield "run", _run(frame, apart=bool(where))
    yield from where
    yield "shots needed per circuit", _shots(frame)
    yield "gains", f"over {over(frame)}" if frame.over else ""
    yield "mind", "; ".join(_cautions(frame))


def _question(frame: Frame) -> str:
    """What the teachers know that their students do not."""
    config, changes, split = frame.config, varied(frame.config), frame.split
    variant, teachers = frame.listed.get(frame.treated or "", {}), config.get("teachers") or {}
    named = (term.get("teacher") or variant.get("teacher") for term in variant.get("terms", ()))
    seen = {
        sees
        for name in {*named} & {*teachers}
        for sees in changes.get(f"teachers.{name}.sees") or [teachers[name].get("sees", "same")]
    }
    own, pool, through = "", "more", ""
    if split is not None:
        pool = f"{len(split.pool.labels):,}"
        if "data.options.train" not in changes:
            own = f"{len(split.train.labels):,}"
        if len(split.transfer):
            through = f", by its answers on {len(split.transfer):,} unlabelled samples"
    parts = {
        "same": f"does a teacher help that saw the same {own}{' ' * bool(own)}labels as its "
        f"student{through}",
        "all": f"does a teacher that saw {pool} labels help a student"
        f"{' of ' * bool(own)}{own}, as much as these labels themselves would",
    }
    said = "; and ".join(text for sees, text in parts.items() if sees in seen)
    return f"{said}?" if said else ""


def _saw(frame: Frame) -> Iterator[tuple[str, str]]:
    """What each teacher saw, and the students, where axes may change either."""
    config, changes, split = frame.config, varied(frame.config), frame.split
    own = through = pool = tested = ""
    if split is not None:
        own = f"{len(split.train.labels):,} labelled samples"
        pool = f" of {len(split.pool.labels):,} samples"
        tested = f"; tested on {len(split.test.labels):,}"
        if len(split.transfer):
            through = f", and through teachers on {len(split.transfer):,} unlabelled ones"
    if counts := changes.get("data.options.train"):
        numbers = [f"{n:,}" if isinstance(n, int) else "all" for n in counts]
        said = filter(None, (", ".join(numbers[:-1]), numbers[-1]))
        own = f"{' or '.join(said)} labelled samples"
    kinds = {"same": "the students' own samples", "all": f"the whole labelled pool{pool}"}
    groups: dict[str, list[str]] = {}
    for name, item in (config.get("teachers") or {}).items():
        sees = changes.get(f"teachers.{name}.sees") or [item.get("sees", "same")]
        text = f"{' or '.join(kinds[s] for s in sees)} (sees: {' or '.join(sees)})"
        if any(changes.get(f"teachers.{name}.shared") or [item.get("shared")]) and "all" in sees:
            text += (
                "; one for all seeds and settings, so that intervals do not contain what "
                "another training of it would change"
            )
        called = f"{readable(name)} " * (name != TEACHER)
        groups.setdefault(text, []).append(f"{called}({readable(str(item.get('kind', '')))})")
    for text, names in groups.items():
        yield f"teacher{'s' * (len(names) > 1)} {listed(names)}", f"trained on {text}"
    if not groups:
        yield "teacher", "none"
    yield "students", f"trained on {own}{through * bool(groups)}{tested}" if own else ""


def _run(frame: Frame, *, apart: bool) -> str:
    """Gradient and sharpness of the headline's student; empty for a classical one.

    Its backend too, unless variants are trained in different places.
    """
    wanted = frame.config.get("headline") or next(iter(frame.students), None)
    found = (r.get("options", {}) for r in frame.rows if r["student"] == wanted)
    options: Mapping[str, Any] = next(found, {})
    if "backend" not in options:
        return ""
    backend, gradient = str(options["backend"]), str(options.get("gradient", "auto"))
    last = frame.settled()
    # The engines' own rule for "auto": exact where the state is at hand, else SPSA.
    auto = {True: "exact gradients", False: _GRADIENTS["spsa"]}
    said = _GRADIENTS.get(gradient, auto[backend == "exact" or is_exact(last, backend)])
    stages = [item["fine_tune"] for item in frame.listed.values() if item.get("fine_tune")]
    if stages and gradient == "auto":
        after = auto[is_exact(last, str(stages[0]["backend"]))]
        said += f", {after} while fine-tuning" * (after != said)
    text = said if apart else f"backend {readable(backend)}, {said}"
    text += f", {options['shots']:,} shots" if options.get("shots") else ""
    mode = options.get("sharpness_mode")
    return f"{text}; sharpness {mode}" if mode else text


def places(frame: Frame) -> Iterator[tuple[str, str]]:
    """Where each variant is trained and where all are judged; nothing where that is one place."""
    config, last = frame.config, frame.settled()

    def called(backend: str) -> str:
        return f"“{readable(backend)}”" + " (noisy)" * (noise_of(last, backend) is not None)

    groups: dict[tuple[str, ...], list[str]] = {}
    for variant in frame.variants_of():
        first = frame.listed.get(variant, {}).get("backend") or config.get("backend", "exact")
        stages = tuple(dict.fromkeys((str(first), trained_on(config, variant))))
        groups.setdefault(stages, []).append(look(variant).label)
    judged = judged_on(config)
    if len(groups) < 2 and (judged is None or (judged,) in groups):
        return
    said = (
        f"{listed(names)} on {', then on '.join(map(called, stages))}"
        for stages, names in groups.items()
    )
    yield "trained", "; ".join(said)
    if judged:
        exact = ", with exact probabilities" if is_exact(last, judged) else ""
        yield _JUDGED, f"on {called(judged)}{exact}"


def _shots(frame: Frame) -> str:
    """How many shots the headline's student will need on a device; empty where nobody counted."""
    said = []
    for name in dict.fromkeys(filter(None, (frame.baseline, frame.treated))):
        found = [
            row["extra"]["shots_needed"]
            for row in frame.rows
            if (row["student"], row["variant"]) == (frame.config.get("headline"), name)
            and "shots_needed" in (row.get("extra") or {})
        ]
        if found:
            ends = f"{min(found):,} to {max(found):,}"
            said.append(f"{look(name).label} {round(median(found)):,} ({ends})")
    return f"{'; '.join(said)}; median and range over rows" if said else ""


def _cautions(frame: Frame) -> Iterator[str]:
    """What keeps the numbers from being one."""
    student, found = str(frame.student), taught_over(frame)
    if found and all(gain.n < FEWEST for one in found for _, gain in one.places):
        yield "fewer than five paired seeds settle nothing"
    for name in frame.having("placebo", student) if frame.grid is None else ():
        gain = frame.gain(student, name)
        if gain and gain.verdict == "harmful":
            yield (
                f"the {look(name).label} is itself harmful ({points(gain.mean)} points "
                f"against {look(frame.baseline).label}), so beating it says little"
            )
    longer = {
        longer_training(frame.at(point), one.student, one.variant, one.baseline)
        for one in found
        for point, _ in one.places
    }
    yield from sorted(longer - {""})[:2]
    if any(map(shared_variance, frame.cells.values())):
        yield (
            "intervals are about other data of the same kind: splits of several seeds share "
            "samples, which Student's t is corrected for (after Nadeau and Bengio)"
        )
    fallen: dict[str, int] = {}
    for (_, one, variant), rows in frame.cells.items():
        if count := collapsed_of(rows):
            name = f"{readable(one)}, {look(variant).label}"
            fallen[name] = fallen.get(name, 0) + count
    if fallen:
        yield (
            "seeds that collapsed, less than a third of the way from chance to the median: "
            + "; ".join(f"{name} {count}" for name, count in fallen.items())
        )


def unfinished(frame: Frame) -> str:
    """A warning where rows are missing; empty for a finished study."""
    missing = getattr(frame.result, "missing", 0)
    failures = getattr(frame.result, "failures", {})
    if not missing:
        return ""
    failed = f", {len(failures)} of them failed" if failures else ""
    first = next(iter(failures.values()), None)
    why = f" First error: {first['label']}: {first['error']}" if first else ""
    return (
        f"This study is not finished: {missing} task{'s have' if missing > 1 else ' has'} no row"
        f"{failed}. Run the command below again to do what is missing.{why}"
    )
