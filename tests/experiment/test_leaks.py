# SPDX-License-Identifier: Apache-2.0
"""Only a row's test metrics depend on the test samples, and variants are trained alike.

One small study is run twice, the second time with other test samples: weights, choices and
validation numbers have to be the same bits. Two of its variants are the baseline under another
name, one of them with a teacher that weighs nothing: they have to come out as the baseline does.
Every role's samples are recorded. Then the pipeline is spoilt in one place after the other, and
each time one of these checks has to notice.
"""

from __future__ import annotations
import __future__

import hashlib
import importlib
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
from test_loading import GOOD
from test_result import candidates, result, row

from qiskit_kd.data import Split, datasets
from qiskit_kd.distill import distiller, objective, training
from qiskit_kd.distill.teacher import Teacher
from qiskit_kd.experiment import plan as planner
from qiskit_kd.experiment import result as result_module
from qiskit_kd.experiment import task
from qiskit_kd.experiment.config import ExperimentConfig
from qiskit_kd.experiment.loading import parse
from qiskit_kd.experiment.plan import plan
from qiskit_kd.experiment.result import choose
from qiskit_kd.experiment.task import run_task

STUDY = """
name: leaks
data: {kind: spoilt, options: {%s}}
teachers:
  same: {kind: mlp, options: {hidden: [6]}}
  all: {kind: mlp, options: {hidden: [6]}, sees: all}
students: {student: {kind: mlp, options: {hidden: [6]}}}
variants:
  plain: {terms: [{loss: ce}]}
  again: {terms: [{loss: ce}]}
  whisper: {teacher: same, terms: [{loss: ce}, {loss: logit_mse, weight: 1.0e-30}]}
  taught: {teacher: all, temperature: 2, terms: [{loss: ce}, {loss: kl, weight: 3}]}
  maps:
    teacher: same
    terms:
      - {loss: ce}
      - {loss: feature_mse, adapter: linear, layers: {student: relu_0, teacher: relu_0}}
seeds: 2
training: {epochs: 4, batch_size: 8, learning_rate: 0.03, patience: 3, gradient_every: 0}
"""
CONTROL = """
name: leaks
data: {kind: spoilt, options: {%s}}
students: {student: {kind: classical_control, options: {control: pca_linear, budget: 12}}}
variants: {plain: {terms: [{loss: ce}]}, again: {terms: [{loss: ce}]}}
seeds: 2
training: {epochs: 2, learning_rate: 0.03, gradient_every: 0}
"""
CENTRED, COMPONENTS = "centre: true", "components: 5"
SIZES = {"classes": [3, 5], "train": 12, "validation": 16, "test": 40, "transfer": 20}
ROLES = ("train", "transfer", "validation", "test")
digits_module = importlib.import_module("qiskit_kd.data.digits")  # the package has a function
load_digits = sklearn.datasets.load_digits


def identity(samples: Any) -> set[bytes]:
    return {hashlib.sha256(np.ascontiguousarray(x)).digest()[:8] for x in samples}


def raw(seed: int) -> Split:
    return datasets["digits"](seed=seed, **SIZES)


@contextmanager
def other_samples(test: set[bytes]) -> Iterator[None]:
    """Images of the test set are others, before anything is computed of them."""
    images, labels = load_digits(return_X_y=True)
    images = images.copy()
    for k in np.flatnonzero([identity([x / 16.0]) <= test for x in images]):
        images[k] = 16 - images[k] * (k % 3)
    original, sklearn.datasets.load_digits = load_digits, lambda **_: (images, labels)
    try:
        yield
    finally:
        sklearn.datasets.load_digits = original


@pytest.fixture(autouse=True)
def spoilt() -> Iterator[None]:
    """Digits of which the test samples, or nothing, are spoilt."""

    def build(*, seed: int, other: bool = False, centre: bool = False,
              components: int | None = None) -> Split:  # fmt: skip
        options: dict[str, Any] = {"seed": seed, "centre": centre, "components": components}
        if not other:
            return noted(datasets["digits"](**SIZES, **options))
        with other_samples(identity(TRUE[seed].test.features)):
            split = datasets["digits"](**SIZES, **options)
        labels = (split.test.labels + 1) % 2
        return noted(replace(split, test=replace(split.test, labels=labels)))

    datasets.register("spoilt")(build)
    yield
    datasets._parts.pop("spoilt")


LATEST: dict[str, float] = {}
"""The mean of the test samples that were made last; for mutants."""


def noted(split: Split) -> Split:
    LATEST["test"] = float(split.test.features.mean())
    return split


TRUE = {seed: raw(seed) for seed in (0, 1)}
SAMPLES = {seed: {role: identity(getattr(raw_split, role) if role == "transfer" else
                                getattr(raw_split, role).features) for role in (*ROLES, "pool")}
          for seed, raw_split in TRUE.items()}  # fmt: skip


def rows(options: str, folder: Path, study: str = STUDY) -> list[dict[str, Any]]:
    """All rows of the study, its tasks run one after the other."""
    config = parse(study % options)
    found, files = [], {}
    for one in plan(config):
        made, weights = run_task(one.spec, teachers={key: files[key] for key in one.needs})
        if weights is not None:
            files[one.key] = str(folder / one.key)
            Path(files[one.key]).write_bytes(weights)
        found.append(made)
    return found


def check(folder: Path, kind: str = CENTRED, study: str = STUDY) -> None:
    """Fails where a test sample is learned from, or variants are not trained alike."""
    spoilt = ", ".join(filter(None, [kind, "other: true"]))
    true, other = rows(kind, folder, study), rows(spoilt, folder, study)
    for one, two in zip(true, other, strict=True):
        label = one["student"], one["variant"], one["seed"]
        assert one["test"] != two["test"], f"{label} was not judged on the test samples"
        judged = {"test", "distribution", "correct"}
        left, right = ({k: v for k, v in r.items() if k not in judged} for r in (one, two))
        assert json.dumps(left) == json.dumps(right), f"{label} depends on the test samples"
        kept = max(one["curves"]["validation/accuracy"])
        assert one["validation"]["accuracy"] == kept, f"{label} did not keep its best epoch"
    by = {(r["student"], r["variant"], r["seed"]): r for r in true}
    for (student, variant, seed), one in by.items():
        if student != "student":
            continue
        base = by["student", "plain", seed]
        assert one["steps_per_epoch"] == base["steps_per_epoch"], "unequal steps"
        if variant in ("again", "whisper"):
            for part in ("validation", "test"):
                assert one[part] == pytest.approx(base[part], rel=1e-9), f"{variant} is not plain"
            ours, theirs = (r["curves"]["validation/loss"] for r in (one, base))
            assert ours == pytest.approx(theirs, rel=1e-9), f"{variant} is not trained as plain is"


def check_roles(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Fails where a part of the pipeline gets other samples than those of its role."""
    seen: list[tuple[str, set[bytes], set[bytes], set[bytes]]] = []
    asked: list[set[bytes]] = []

    class Spy(task.Distiller):
        def fit(self, train, validation, transfer=None):
            given = [train.features, validation.features, [] if transfer is None else transfer]
            seen.append((train.labels.tobytes(), *map(identity, given)))
            return super().fit(train, validation, transfer)

    def logits_for(self, samples):
        asked.append(identity(np.asarray(samples)))
        return answer(self, samples)

    answer = Teacher.logits_for
    monkeypatch.setattr(task, "Distiller", Spy)
    monkeypatch.setattr(Teacher, "logits_for", logits_for)
    config = parse(STUDY % "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task, "Distiller", Spy)
        found = rows("", folder)
    assert len(found) == len(seen) == len(plan(config))
    for one, (labels, train, validation, transfer) in zip(found, seen, strict=True):
        split = SAMPLES[one["seed"]]
        own = "pool" if one["student"] == "teacher:all" else "train"
        assert train == split[own], f"{one['student']} was not trained on {own}"
        assert labels == getattr(TRUE[one["seed"]], own).labels.tobytes()
        assert validation == split["validation"], "epochs were chosen on other samples"
        taught = one["variant"] in ("whisper", "taught", "maps")
        assert transfer == (split["transfer"] if taught else set())
    for samples in asked:
        assert any(samples == s["train"] | s["transfer"] for s in SAMPLES.values())


def check_choice() -> None:
    """Fails where a candidate is chosen by anything but validation numbers."""
    sweep = [
        "training.learning_rate=[0.01, 0.1]",
        "teacher.training.learning_rate=0.1",
        "students.quantum.training={}",
        "variants.distilled.terms.1.weight=[0.5, 2]",
    ]
    for selection in ("over_seeds", "per_seed"):
        for metric in ("accuracy", "loss"):
            config = parse(GOOD, [*sweep, f"selection={selection}", f"metric={metric}"])
            random = np.random.default_rng(7)
            found = []
            for variant in ("plain", "distilled", "shuffled"):
                for seed in config.seeds:
                    for options in config.candidates("linear", variant):
                        made = row("linear", variant, seed, None)
                        values = random.random(2)
                        made["validation"] = {"accuracy": values[0], "nll": values[1]}
                        made["options"] = {"temperature": None, **options}
                        found.append(made)
            picks = []
            for _ in range(4):
                other = [{**r, "test": dict(zip(r["test"], random.random(4), strict=True))}
                         for r in found]  # fmt: skip
                picks.append([(r["variant"], r["seed"], r["options"])
                              for r in choose(other, config)])  # fmt: skip
            assert all(pick == picks[0] for pick in picks)
            if selection == "per_seed" and metric == "accuracy":
                for variant, seed, options in picks[0]:
                    mine = [r for r in found if (r["variant"], r["seed"]) == (variant, seed)]
                    best = max(mine, key=lambda r: r["validation"]["accuracy"])
                    assert options == best["options"]


def check_tuning() -> None:
    """Fails where the baseline or a placebo is not swept like the rest."""
    classical = GOOD.replace("fully_quantum", "mlp")
    weights = [f"variants.{name}.terms.1.weight=[0.5, 2]" for name in ("distilled", "shuffled")]
    made = plan(parse(classical, ["seeds=1", "training.learning_rate=[0.01, 0.1]",
                                  "teacher.training.learning_rate=0.1", *weights]))  # fmt: skip
    rates: dict[str, set[float]] = {}
    for one in made:
        if one.student == "linear":
            rates.setdefault(one.variant, set()).add(one.spec["training"]["learning_rate"])
    assert all(found == {0.01, 0.1} for found in rates.values())
    for variant in ("distilled", "shuffled"):
        kl = [(t.spec["terms"][1]["options"]["temperature"], t.spec["terms"][1]["weight"])
              for t in made if (t.student, t.variant) == ("linear", variant)]  # fmt: skip
        assert sorted(kl) == sorted(2 * [(1, 0.5), (1, 2), (4, 0.5), (4, 2)])


def check_pairs() -> None:
    """Fails where gains are not of the same seeds, or the headline follows test metrics."""
    shuffled = sorted(candidates(0.1, 0.0), key=lambda r: (r["variant"], -r["seed"] * 7 % 5))
    found = result(shuffled)
    gain = found.gain("quantum", "distilled", "plain")
    by = {(r["variant"], r["seed"]): r["test"]["accuracy"] for r in found.rows
          if r["student"] == "quantum"}  # fmt: skip
    differences = [by["distilled", s] - by["plain", s] for s in range(5)]
    assert gain is not None
    assert gain.mean == pytest.approx(np.mean(differences))
    spread = np.std(differences, ddof=1)
    assert gain.high - gain.low < 10 * spread + 1e-12, "the pairs are not of the same seeds"
    headlines = {result(candidates(g)).headline for g in (-0.3, 0.0, 0.3)}
    assert headlines == {("quantum", "distilled")}


def check_split() -> None:
    """Fails where two parts share a sample, or are centred and turned by others than the pool."""
    for seed in (0, 1):
        split = raw(seed)
        parts = {"transfer": identity(split.transfer)}
        parts |= {p: identity(getattr(split, p).features) for p in ("train", "validation", "test")}
        for one in parts:
            for two in parts:
                assert one == two or not parts[one] & parts[two], f"{one} and {two} overlap"
        assert identity(split.pool.features) == parts["train"] | parts["transfer"]
        assert {p: len(s) for p, s in parts.items()} == {p: SIZES[p] for p in parts}
        centred, turned = (datasets["digits"](seed=seed, **SIZES, **more).pool.features
                           for more in ({"centre": True}, {"components": 5}))  # fmt: skip
        assert np.abs(centred.mean(axis=0)).max() < 1e-12, "centred by other samples"
        assert np.cov(turned.T, bias=True) == pytest.approx(np.eye(5), abs=1e-9), "other components"


Check = Callable[[pytest.MonkeyPatch, Path], None]
CHECKS: dict[str, Check] = {
    "leaks": lambda _, folder: check(folder),
    "components": lambda _, folder: check(folder, COMPONENTS),
    "control": lambda _, folder: check(folder, "", CONTROL),
    "roles": check_roles,
    "choice": lambda *_: check_choice(),
    "tuning": lambda *_: check_tuning(),
    "pairs": lambda *_: check_pairs(),
    "split": lambda *_: check_split(),
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_pipeline_keeps_its_samples_apart(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    CHECKS[name](monkeypatch, tmp_path)


def edited(function: Any, old: str, new: str, **extra: object) -> Any:
    """The code of a function with one piece of its source replaced, in the same module."""
    function = inspect.unwrap(function)
    source = textwrap.dedent(inspect.getsource(function))
    decorators = "".join(re.findall(r"^@spread.*\n", source, flags=re.MULTILINE))
    source = decorators + source[source.index("def ") :]
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {function}"
    # Its names are those of the module, spies that a check puts there included.
    source = textwrap.indent(source.replace(old, new), "    ")
    source = f"def made({', '.join(extra)}):\n{source}\n    return {function.__name__}\n"
    flags, scope = __future__.annotations.compiler_flag, {}
    exec(compile(source, "<mutant>", "exec", flags=flags), function.__globals__, scope)
    made = scope["made"](**extra)
    inner = inspect.unwrap(made)
    inner.__kwdefaults__, inner.__defaults__ = function.__kwdefaults__, function.__defaults__
    return made


class StopOnTest:
    """Early stopping by the test samples."""

    def __init__(self, network, test) -> None:
        self.network, self.test, self.best = network, test, np.inf

    def on_fit_start(self, state) -> None: ...

    def on_step_end(self, state) -> None: ...

    def on_fit_end(self, state) -> None: ...

    def on_epoch_end(self, state) -> None:
        import torch

        self.network.eval()
        with torch.no_grad():
            z = self.network(torch.tensor(self.test.features))
            loss = torch.nn.functional.cross_entropy(z, torch.tensor(self.test.labels)).item()
        self.network.train()
        if loss > self.best:
            state.stopped = "patience"
        self.best = min(self.best, loss)


FIT = "distiller.fit(train, split.validation, transfer=transfer)"
TRAIN = 'split.pool if spec.get("sees") == "all" else split.train'
BOTH = "np.concatenate([split.pool.features, split.test.features])"
HOMES: dict[str, tuple[Any, str]] = {
    "_train": (task, "_train"), "_trained_on": (task, "_trained_on"),
    "_network": (task, "_network"), "split_of": (task, "split_of"),
    "_centred": (digits_module, "_centred"), "_components": (digits_module, "_components"),
    "_merit": (result_module, "_merit"),
    "stratified_split": (digits_module, "stratified_split"),
    "steps_of": (training.Training, "steps_of"), "_rank": (distiller.Distiller, "_rank"),
    "_built": (objective.Objective, "_built"),
    "candidates": (ExperimentConfig, "candidates"), "contrast": (result_module, "contrast"),
    "_terms": (planner, "_terms"),
}  # fmt: skip
MUTANTS: dict[str, tuple[str, str, str, str]] = {
    # name: function, what stands there, what the mutant has, which check notices
    "teacher trained on test": (
        "_trained_on", TRAIN, 'split.test if spec["role"] == "teacher" else split.train', "leaks"),
    "teacher trained on pool and test": (
        "_train", "history = distiller",
        'if spec.get("sees") == "all":\n        train = type(train)(np.concatenate('
        "[train.features, split.test.features]), np.concatenate([train.labels, split.test.labels])"
        ", train.num_classes, train.name, train.shape)\n    history = distiller", "leaks"),
    "student trained on test": (
        "_trained_on", TRAIN, 'split.test if spec["role"] == "student" else split.train', "leaks"),
    "epoch of the student chosen on test": (
        "_train", FIT, FIT.replace("split.validation",
        'split.test if spec["role"] == "student" else split.validation'), "leaks"),
    "epoch of the teacher chosen on test": (
        "_train", FIT, FIT.replace("split.validation",
        'split.test if spec["role"] == "teacher" else split.validation'), "leaks"),
    "epoch of taught variants chosen on test": (
        "_train", FIT, FIT.replace("split.validation",
        "split.test if transfer is not None else split.validation"), "leaks"),
    "early stop on test": (
        "_train", "history = distiller",
        "distiller._callbacks += (StopOnTest(network, split.test),)\n    history = distiller",
        "leaks"),
    "transfer set from test": ("_train", "split.transfer if", "split.test.features if", "leaks"),
    "centring with test": ("_centred", "split.pool.features", BOTH, "leaks"),
    "components with test": ("_components", "pool = split.pool.features", f"pool = {BOTH}",
                             "components"),
    "centring with validation": (
        "_centred", "split.pool.features", BOTH.replace("test", "validation"), "split"),
    "components of training samples": (
        "_components", "pool = split.pool.features", "pool = split.train.features", "split"),
    "scaling with test": (
        "_components", "scale = np.sqrt(len(pool)) / sizes[:count]",
        "scale = 1 / ((split.test.features - mean) @ axes.T).std(axis=0)", "components"),
    "mean of the components with test": (
        "_components", "mean = pool.mean(axis=0)", "mean = split.test.features.mean(axis=0)",
        "components"),
    "adapter from test": (
        "_built", "return module.to(own.device)",
        "next(module.parameters()).data.add_(LATEST['test'])\n"
        "    return module.to(own.device)",
        "leaks"),
    "components of a control from test": (
        "_network", "_trained_on(spec, split).features", "split.test.features", "control"),
    "components of a control from pool and test": (
        "_network", "_trained_on(spec, split).features", BOTH, "control"),
    "candidate chosen on test": ("_merit", 'row["validation"]', 'row["test"]', "choice"),
    "temperature chosen on test": (
        "_merit", 'row["validation"]',
        'row["test" if row["options"].get("temperature") else "validation"]', "choice"),
    "weight chosen on test": (
        "_merit", 'row["validation"]',
        'row["test" if "weight of kl" in row["options"] else "validation"]', "choice"),
    "learning rate chosen on test": (
        "_merit", 'row["validation"]',
        'row["test" if "learning_rate" in row["options"] else "validation"]', "choice"),
    "ties broken on test": (
        "_merit", 'math.inf if v["nll"] is None else v["nll"] for v in known',
        'row["test"]["nll"] for row in rows if row is not None', "choice"),
    "unpaired initial weights": (
        "_network", '"weights", *named', '"weights", *named, spec["variant"]', "leaks"),
    "unpaired batches": (
        "_train", 'derive(spec["seed"], name)', 'derive(spec["seed"], name, spec["variant"])',
        "leaks"),
    "unpaired batches of taught variants": (
        "_train", 'derive(spec["seed"], name)', 'derive(spec["seed"], name, *map(str, taught))',
        "leaks"),
    "unequal splits": (
        "split_of",
        'return _cached_split(data["kind"], options, data["seed"], data["fingerprint"])',
        'seed = data["seed"] if spec["variant"] == "plain" else 1 - data["seed"]\n'
        '    return datasets[data["kind"]](seed=seed, **data["options"])', "leaks"),
    "unequal steps": (
        "steps_of", 'labelled if self.steps == "equal" else total', "total", "leaks"),
    "longer training for taught variants": (
        "_train", "history = distiller",
        "longer = distiller.training.epochs + 3 * bool(taught)\n"
        '    object.__setattr__(distiller.training, "epochs", longer)\n'
        "    history = distiller", "leaks"),
    "the last epoch instead of the best": (
        "_rank", "score > state.best", "score", "leaks"),
    "student trained on the pool's labels": (
        "_trained_on", TRAIN, "split.pool", "roles"),
    "epochs chosen on training samples": (
        "_train", FIT, FIT.replace("split.validation", "split.train"), "roles"),
    "validation from test": (
        "stratified_split", "order[end - sizes[\"validation\"] : end]",
        "order[-sizes[\"validation\"] :]", "split"),
    "train overlaps test": (
        "stratified_split", '"train": order[: sizes["train"]]',
        '"train": order[-sizes["train"] :]', "split"),
    "pool holds test": (
        "stratified_split", 'order[: sizes["train"] + sizes["transfer"]]', "order", "split"),
    "baseline not tuned": (
        "candidates", "if isinstance(rate, list):",
        "if isinstance(rate, list) and variant == self.baseline:\n        rate = rate[:1]\n"
        "    if isinstance(rate, list):", "tuning"),
    "placebo not tuned": (
        "candidates", "[*map(float, v)] for",
        "[*map(float, v)][: 1 if self.variants[variant].is_placebo else None] for", "tuning"),
    "weight not tuned": (
        "_terms", 'candidate.get(f"weight of {term.label}", term.weight)',
        "1.0 if isinstance(term.weight, list) else term.weight", "tuning"),
    "gains of unpaired seeds": (
        "contrast", "(treated, control,", "(treated, control[::-1],", "pairs"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_spoilt_pipeline_is_noticed(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    where, old, new, notices = MUTANTS[name]
    home, attribute = HOMES[where]
    extra = {"np": np, "LATEST": LATEST, "StopOnTest": StopOnTest}
    monkeypatch.setattr(home, attribute, edited(getattr(home, attribute), old, new, **extra))
    with pytest.raises(AssertionError):
        CHECKS[notices](monkeypatch, tmp_path)
