# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from qiskit_kd.errors import ConfigError, UnknownNameError
from qiskit_kd.experiment import loading
from qiskit_kd.experiment.config import ExperimentConfig, set_key
from qiskit_kd.experiment.loading import (
    Origins,
    find_experiment,
    load,
    parse,
    shipped,
    write_template,
)
from qiskit_kd.experiment.plan import plan
from qiskit_kd.experiment.spending import devices_of
from qiskit_kd.yamlfile import parse_yaml

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))

GOOD = """\
schema: 1
name: small
data:
  kind: digits
  options: {classes: [3, 5], train: 30}
teacher:
  kind: mlp
students:
  linear: {kind: linear}
  quantum:
    kind: fully_quantum
    training: {learning_rate: 0.05}
variants:
  plain:
    terms: [{loss: ce}]
  distilled:
    teacher: teacher
    temperature: [1, 4]
    terms: [{loss: ce}, {loss: kl}]
  shuffled:
    teacher: teacher
    placebo: shuffled
    temperature: [1, 4]
    terms: [{loss: ce}, {loss: kl}]
  smoothed:
    terms: [{loss: label_smoothing, options: {smoothing: 0.1}}]
seeds: 3
training: {epochs: 7}
presets:
  quick:
    seeds: 2
    training: {epochs: 2}
    training.batch_size: 16
"""


def faults(text: str, *overrides: str, **options) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, overrides, name="exp.yaml", **options)
    return str(caught.value)


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1, f"{old!r} stands {GOOD.count(old)} times"
    return GOOD.replace(old, new)


def test_good() -> None:
    config = parse(GOOD)
    assert config.seeds == [0, 1, 2]
    assert list(config.students) == ["linear", "quantum"]
    assert config.training.overridden(config.students["quantum"].training).learning_rate == 0.05
    assert config.training.overridden(config.students["quantum"].training).epochs == 7
    assert config.taught() == ["distilled"]
    assert config.controls() == ["shuffled", "smoothed"]
    assert parse(GOOD).resolved() == config.resolved()
    with pytest.raises(ValueError, match="frozen"):
        config.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_examples_and_their_presets(path: Path) -> None:
    config = load(path)
    assert config.name == path.stem
    assert len(config.seeds) >= (5 if "hardware" in config.name else 10)
    for preset in config.presets:
        assert len(load(path, preset=preset).seeds) < len(config.seeds)
    # Placebos are swept like what they stand beside.
    swept = [variant.temperature for variant in config.variants.values() if variant.temperature]
    assert swept == swept[:1] * len(swept)
    sources = [source for variant in config.variants.values() for source in variant.sources]
    assert "shuffled" in [placebo for _, placebo in sources]
    if "distilled" in config.variants:
        assert {
            "linear", "classical_control", "hybrid", "fully_quantum", "fully_quantum_sharp"
        } <= set(config.students)  # fmt: skip
    # What a teacher's labels are worth to the student itself, and fixed beside learnable sharpness.
    labels = [name for name, variant in config.variants.items() if variant.sees == "all"]
    lead = config.resolved()["headline"]
    assert labels == ["teacher_labels"]
    assert "teacher_labels" in config.variants_of(lead)
    modes = {s.options.get("sharpness", "fixed") for s in config.students.values()
             if s.kind == "fully_quantum"}  # fmt: skip
    assert not modes or "hardware" in config.name or modes == {"fixed", "learnable"}


def test_the_study_of_noise() -> None:
    """What the issue asks of `c2q-noise`: axes, trainings, shots, seeds."""
    config = load(next(path for path in EXAMPLES if path.stem == "c2q-noise"))
    assert {name: axis.labels for name, axis in config.axes.items()} == {
        "scale": [0, 1, 2], "device": ["torino", "marrakesh"],
        "encoding": ["amplitude", "amplitude_mps", "angle"],
    }  # fmt: skip
    assert len(config.seeds) == 10
    assert config.evaluation.shots == [2**k for k in range(6, 15)]
    assert config.backend == "exact"
    trained = {name: (variant.backend or config.backend, variant.teacher, variant.placebo)
               for name, variant in config.variants.items()}  # fmt: skip
    assert trained == {
        "noise_free": ("exact", "none", "none"), "noisy": ("device", "none", "none"),
        "from_quantum": ("device", "quantum", "none"),
        "from_classical": ("device", "classical", "none"),
        "shuffled": ("device", "classical", "shuffled"),
        "teacher_labels": ("device", "none", "none"),
    }  # fmt: skip
    assert config.teachers["quantum"].kind == "fully_quantum"  # teachers run without noise
    for point in config.points():
        here = config.at(point)
        settings = here.backends["device"].settings
        assert settings["scale"] == point["scale"]
        assert settings["noise"] == {"device": f"fake_{point['device']}"}
        assert here.backends["aer_device"].settings["noise"] == settings["noise"]
        assert here.evaluation.backend == "device"
        assert (here.evaluation.side_by_side is not None) == (point["scale"] == 1)
        students = [*here.students.values(), here.teachers["quantum"]]
        assert {student.options["encoding"] for student in students} == {point["encoding"]}


def test_the_published_setting_of_images() -> None:
    """What the issue asks of `q2c-fashion`: K, variants, teachers' data, seeds."""
    config = load(next(path for path in EXAMPLES if path.stem == "q2c-fashion"))
    assert config.axes["images"].labels == [50, 100, 500, 5000]
    assert config.axes["teacher_data"].labels == ["same", "all"]
    assert (len(config.seeds), config.points()[0]["images"]) == (10, 50)
    assert set(config.variants_of("classical")) == {
        "plain", "soft", "features", "both", "untrained_features", "shuffled_soft",
        "teacher_labels",
    }  # fmt: skip
    assert config.variants_of("hybrid") == ["plain"]
    assert set(config.taught()) == {"soft", "features", "both"}
    assert config.variants["both"].sources == [("soft", "none"), ("hybrid", "none")]
    assert config.data.options.get("test") is None  # all 10,000
    for point in config.points():
        here = config.at(point)
        assert here.data.options["train"] == point["images"]
        steps = here.training.epochs * -(-int(point["images"]) // here.training.batch_size)
        assert 300 <= steps <= 1500
        for teacher in here.teachers.values():
            assert (teacher.sees, teacher.shared) == (point["teacher_data"], True)


def test_later_settings_win() -> None:
    assert parse(GOOD, preset="quick").training.epochs == 2
    assert parse(GOOD, preset="quick").training.batch_size == 16
    assert parse(GOOD, ["training.epochs=9"], preset="quick").training.epochs == 9
    assert parse(GOOD, ["seeds=[4, 5]"]).seeds == [4, 5]
    assert parse(GOOD, ["seeds=[4, 5]"], seeds=1).seeds == [0]


def test_overrides_reach_everywhere_and_are_yaml() -> None:
    config = parse(
        GOOD,
        ["data.options.train=20", "variants.distilled.terms.1.weight=0.5",
         "students.quantum.options={sharpness: learnable}", "title=no", "training.patience=null"],
    )  # fmt: skip
    assert config.data.options == {"classes": [3, 5], "train": 20}
    assert config.variants["distilled"].terms[1].weight == 0.5
    assert config.students["quantum"].options == {"sharpness": "learnable"}
    assert config.title == "no"
    assert config.training.patience is None


# Every fault: file:line:col: key: what; got; remedy.


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("training: {epochs: 7}", "training: {epohcs: 7}",
         r"exp.yaml:28:12: training.epohcs: unknown key; got 'epohcs'. did you mean 'epochs'?"),
        ("training: {epochs: 7}", "training: {epochs: many}",
         "exp.yaml:28:20: training.epochs: wrong type; got 'many' (str); expected a valid integer"),
        ("training: {epochs: 7}", "training: {epochs: 0}",
         "exp.yaml:28:20: training.epochs: wrong value; got 0 (int)"),
        ("training: {epochs: 7}", "training: {epochs: '7'}",
         "exp.yaml:28:20: training.epochs: wrong type; got '7' (str); expected a valid integer"),
        ("training: {epochs: 7}", "training: {epochs: true}",
         "exp.yaml:28:20: training.epochs: wrong type; got True (bool); expected a valid integer"),
        ("training: {epochs: 7}", "training: {learning_rate: true}",
         "exp.yaml:28:27: training.learning_rate: wrong type; got True (bool); expected a valid"),
        ("training: {epochs: 7}", "training: {gradient_every: false}",
         "training.gradient_every: wrong type; got False (bool)"),
        ("seeds: 3", "seeds: ['1', true]", "seeds.0: wrong type; got '1' (str)"),
        ("  shuffled:", "  shuffled labels!:",
         "exp.yaml:20:3: variants.shuffled labels!: wrong key; got 'shuffled labels!' (str); "
         "expected letters, digits, _, . and -, 60 at most, the first one no sign. "
         "Write, say, shuffled-labels."),
        ("seeds: 3", "seeds: true", "seeds: wrong type; got True (bool)"),
        ("    terms: [{loss: ce}]\n", "    terms: [{loss: ce, weight: '2'}]\n",
         "variants.plain.terms.0.weight: wrong type; got '2' (str)"),
        ("train: 30}", "train: '30'}",
         "exp.yaml:5:37: data.options.train: wrong value; got '30'; expected an integer"),
        ("train: 30}", "train: true}",
         "exp.yaml:5:37: data.options.train: wrong value; got True; expected an integer"),
        ("classes: [3, 5]", "classes: [3, '5']", "data.options.classes: wrong value; got [3, '5']"),
        ("train: 30}", "centre: 1}", "data.options.centre: wrong value; got 1; expected true or"),
        ("smoothing: 0.1", "smoothing: '0.1'",
         "smoothed.terms.0.options.smoothing: wrong value; got '0.1'; expected a number"),
        ("smoothing: 0.1", "smoothing: 2",
         "exp.yaml:26:58: variants.smoothed.terms.0.options.smoothing: label smoothing mixes"),
        ("schema: 1", "schema: 2", "exp.yaml:1:9: schema: unknown value; got 2 (int); expected 1"),
        ("  kind: digits\n", "  kind: digitz\n",
         "exp.yaml:4:9: data.kind: unknown data set; got 'digitz'. did you mean 'digits'?"),
        ("train: 30}", "trian: 30}",
         "exp.yaml:5:37: data.options.trian: unknown option of the data set 'digits'; "
         "got 'trian'. did you mean 'train'?"),
        ("train: 30}", "centre: perhaps}",
         "exp.yaml:5:38: data.options.centre: wrong value; got 'perhaps'; expected a valid"),
        ("{kind: linear}", "{kind: lineer}",
         "exp.yaml:9:18: students.linear.kind: unknown student; got 'lineer'. did you mean "
         "'linear'?"),
        ("{kind: linear}", "{kind: linear, options: {depth: 3}}",
         "students.linear.options.depth: unknown option of the student 'linear'; got 'depth'. "
         "known: none"),
        ("smoothing: 0.1", "smoothness: 0.1",
         "variants.smoothed.terms.0.options.smoothness: unknown option of the loss "
         "'label_smoothing'; got 'smoothness'. did you mean 'smoothing'?"),
        ("    terms: [{loss: ce}]\n", "    terms: [{loss: cee}]\n",
         "variants.plain.terms.0.loss: unknown loss; got 'cee'. did you mean 'ce'?"),
        ("    terms: [{loss: ce}]\n", "    terms: [{loss: kl}]\n",
         "variants.plain.terms: the loss 'kl' needs a teacher; got `teacher: none`. Name a teacher"
         ", or set `placebo: uniform`"),
        ("    terms: [{loss: ce}]\n", "    terms: [{loss: ce}]\n    teacher: uniform\n",
         "variants.plain.teacher: no loss of the variant uses a teacher; got 'uniform'"),
        ("    terms: [{loss: ce}]\n", "    terms: [{loss: ce}]\n    temperature: 2\n",
         "variants.plain.temperature: no loss of the variant has a temperature; got ce. Remove"),
        ("    terms: [{loss: ce}, {loss: kl}]\n  shuffled",
         "    terms: [{loss: ce}, {loss: kl, options: {temperature: 2}}]\n  shuffled",
         "variants.distilled.temperature: every term that has a temperature sets its own; got "
         "[1, 4], which no term would follow. Remove it, or theirs"),
        ("    terms: [{loss: ce}]\n", "    terms: [{loss: ce}, {loss: ce}]\n",
         "two terms are called the same, got ce, ce; give each its own `name`"),
        ("    terms: [{loss: ce}]\n", "    terms: []\n", "variants.plain.terms"),
        ("teacher:\n  kind: mlp\n", "",
         "variants.distilled.teacher: the variant asks for a teacher; got 'teacher', but the "
         "experiment has no `teacher` section"),
        ("seeds: 3", "seeds: 3\nbaseline: alone",
         "baseline: unknown variant; got 'alone'. known: distilled, plain, shuffled, smoothed"),
        ("seeds: 3", "seeds: 3\nheadline: quantm",
         "headline: unknown student; got 'quantm'. did you mean 'quantum'?"),
        ("seeds: 3", "seeds: 0", "seeds: the number of seeds is 1 to 10000, got 0"),
        ("seeds: 3", "seeds: [1, 1]", "seeds are a number, or a list of one or more different"),
        ("seeds: 3", "seeds: [-1]", "exp.yaml:27:9: seeds.0: wrong value; got -1 (int)"),
        ("seeds: 3", "seeds: 3\nbackend: exakt",
         "backend: unknown backend; got 'exakt'. did you mean 'exact'?"),
        ("  linear: {kind", "  teacher: {kind",
         "students.teacher: the row called 'teacher' is the teacher itself; choose another name"),
        ("  linear: {kind", "  'a/b': {kind", "students.a/b"),
        ("students:\n  linear: {kind: linear}", "students:\n  linear: linear",
         "students.linear: wrong type"),
        ("name: small\n", "", "name: the key is missing. Add it."),
        ("name: small\n", "name: small\nname: twice\n", "exp.yaml:3:1: not valid YAML"),
    ],
)  # fmt: skip
def test_fault(old: str, new: str, expected: str) -> None:
    text = faults(changed(old, new))
    assert expected in text
    assert "Traceback" not in text


@pytest.mark.parametrize("bad", ["true", "'2'"])
def test_a_temperature_is_a_number(bad: str) -> None:
    text = changed("    placebo: shuffled\n    temperature: [1, 4]",
                   f"    placebo: shuffled\n    temperature: {bad}")  # fmt: skip
    assert "a temperature is a number or a list of numbers, got" in faults(text)
    assert "shuffled.temperature.0: wrong type; got" in faults(text.replace(bad, f"[{bad}]"))


def test_integers_stand_for_floats() -> None:
    config = parse(GOOD, ["training.learning_rate=1", "variants.distilled.temperature=2",
                          "variants.smoothed.terms.0.options.smoothing=0"])  # fmt: skip
    assert config.training.learning_rate == 1.0
    assert config.variants["distilled"].temperature == [2.0]
    assert parse(GOOD, ["training.learning_rate=1e-3"]).training.learning_rate == 1e-3


def test_a_temperature_that_a_loss_refuses_is_found_in_the_file() -> None:
    text = GOOD.replace("{loss: kl}]\n  shuffled", "{loss: kl, options: {temperature: -2}}]\n"
                        "  shuffled")  # fmt: skip
    assert text != GOOD
    found = faults(text)
    assert (
        "exp.yaml:19:59: variants.distilled.terms.1.options.temperature: a temperature is a "
        in (found)
    )
    assert "got -2; expected for example 2.0" in found


def test_an_unknown_loss_is_one_fault() -> None:
    head, tail = GOOD.split("  shuffled:\n")
    text = f"{head}  shuffled:\n{tail.replace('{loss: kl}', '{loss: kll}')}"
    assert "kll" in text
    assert faults(text).count("exp.yaml:") == 1


@pytest.mark.parametrize("value", ["[1]", "7", "word"])
def test_a_preset_that_is_no_mapping(value: str) -> None:
    text = GOOD.split("presets:")[0] + f"presets: {{quick: {value}}}\n"
    found = faults(text, preset="quick")
    assert "exp.yaml:29:18: presets.quick: a preset is a mapping of keys to values; got" in found
    assert "expected for example {seeds: 2}" in found


@pytest.mark.parametrize("bad", ["[0, 1]", "[2, 2]", "[]", "[hot]"])
def test_bad_temperatures(bad: str) -> None:
    text = changed("    placebo: shuffled\n    temperature: [1, 4]",
                   f"    placebo: shuffled\n    temperature: {bad}")  # fmt: skip
    assert "variants.shuffled.temperature" in faults(text)


def test_all_faults_at_once_in_the_order_of_kind() -> None:
    text = changed("{kind: linear}", "{kind: lineer}").replace("epochs: 7", "epohcs: 7")
    text = text.replace("train: 30", "trian: 30").replace("name: small", "name: 7")
    found = faults(text)
    assert found.startswith("4 faults in exp.yaml:")
    for where in ("exp.yaml:2:7: name", "exp.yaml:5:37:", "exp.yaml:9:18:", "exp.yaml:28:12:"):
        assert where in found


def test_fault_of_an_override_names_it() -> None:
    assert "override training.epohcs: unknown key; got 'epohcs'. did you mean 'epochs'?" in faults(
        GOOD, "training.epohcs=3"
    )
    assert "override training.epochs: wrong type; got 'x' (str)" in faults(
        GOOD, "training.epochs=x"
    )
    assert "override students.linear.kind: unknown student; got 'mlpp'" in faults(
        GOOD, "students.linear.kind=mlpp"
    )
    assert "override distil: unknown key; got 'distil'" in faults(GOOD, "distil.temperature=3")


def test_fault_of_a_preset_stands_where_the_preset_stands() -> None:
    text = GOOD.replace("    training: {epochs: 2}", "    training: {epochs: few}")
    assert "exp.yaml:32:24: training.epochs: wrong type; got 'few'" in faults(text, preset="quick")
    parse(text)  # a preset that is not asked for does no harm


@pytest.mark.parametrize("bad", ["training.epochs", "=3", "training..epochs=3", ""])
def test_malformed_override(bad: str) -> None:
    text = faults(GOOD, bad)
    assert "an override reads key=value; got" in text
    assert "expected for example training.epochs=20" in text


def test_override_below_a_scalar() -> None:
    assert "override name.first: there is nothing below name; got str there" in faults(
        GOOD, "name.first=3"
    )


def test_an_axis_below_a_scalar_is_refused_at_its_place() -> None:
    text = GOOD + "axes:\n  size: {key: training.epochs.few, values: [1, 2]}\n"
    line = text.splitlines().index("axes:") + 2
    assert (
        f"exp.yaml:{line}:15: axis size training.epochs.few: there is nothing below "
        "training.epochs; got int there" in faults(text)
    )
    said = faults(GOOD, "axes.size={key: training.epochs.few, values: [1, 2]}")
    assert said.startswith("axis size training.epochs.few: there is nothing below")


def test_override_that_is_no_yaml() -> None:
    assert "override seeds:1:" in faults(GOOD, "seeds=[1, 2")


def test_unknown_preset() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown preset; got 'quik'. did you mean 'quick'"):
        parse(GOOD, preset="quik")


def test_no_mapping() -> None:
    assert "an experiment is a mapping; got list" in faults("[1]")


# Names of experiments.


def test_find_by_path_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_experiment("c2q-digits") == shipped()["c2q-digits"]
    (tmp_path / "examples").mkdir()
    own = tmp_path / "examples" / "c2q-digits.yaml"
    own.write_text(GOOD)
    assert find_experiment("c2q-digits").resolve() == own
    assert find_experiment(own) == own


def test_unknown_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError, match=r"unknown experiment; got 'c2q-digit'. did you mean "
                       "'c2q-digits'?"):  # fmt: skip
        find_experiment("c2q-digit")
    (tmp_path / "mine.yaml").write_text(GOOD)
    with pytest.raises(ConfigError, match=r"file does not exist; got 'mime.yaml'. did you mean "
                       r"'mine.yaml'\? Shipped experiments: c2q-digits"):  # fmt: skip
        find_experiment("mime.yaml")


def test_a_file_of_another_name_is_not_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other-study.yaml").write_text(GOOD)
    with pytest.raises(ConfigError) as caught:
        find_experiment("study.yaml")
    assert "did you mean" not in str(caught.value)


def test_a_folder_is_no_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match=r"an experiment is a YAML file or a shipped name; got "
                       r"the folder mine. To see .*: qkd report mine. .*--out mine"):  # fmt: skip
        find_experiment("mine")
    (tmp_path / "c2q-digits").mkdir()
    assert find_experiment("c2q-digits") == shipped()["c2q-digits"]


def test_packaged_examples_are_the_last_resort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert loading.example_folders()[-1].parts[-2:] == ("_data", "examples")


def test_template_is_a_valid_experiment(tmp_path: Path) -> None:
    path = write_template(tmp_path / "first.yaml")
    config = load(path, preset="quick")
    assert (config.name, config.training.epochs) == ("first", 5)
    assert len(path.read_text().splitlines()) < 60
    with pytest.raises(ConfigError, match=r"exists already; got .*first.yaml. Name another one"):
        write_template(path)


@pytest.mark.parametrize(
    ("file", "name"),
    [("my first try.yaml", "my-first-try"), ("_x.yaml", "x"), ("7.yaml", "7"), ("on é.yaml", "on-"),
     ("null.yaml", "null"), ("1e3.yaml", "1e3"), ("---.yaml", "experiment"),
     ("a" * 80 + ".yaml", "a" * 60)],
)  # fmt: skip
def test_template_of_any_file_name(tmp_path: Path, file: str, name: str) -> None:
    assert load(write_template(tmp_path / file)).name == name


AXES = """axes:
  passes: {key: training.epochs, values: [1, 2]}
  size: {values: {few: {data.options.train: 20}, many: {data.options.train: 30,
                                                        teacher.training.epochs: 9}}}
  rate: {values: {low: {students.linear.training: {learning_rate: 0.01}},
                  high: {students.linear.training: {learning_rate: 0.1}}}}
"""


@pytest.mark.parametrize(
    ("override", "axis", "key"),
    [("training.epochs=5", "passes", "training.epochs"),
     ("training={epochs: 5, patience: 2}", "passes", "training.epochs"),
     ("data.options.train=25", "size", "data.options.train"),
     ("teacher.training.epochs=3", "size", "teacher.training.epochs"),
     ("teachers.teacher.training.epochs=3", "size", "teacher.training.epochs"),
     ("teacher.training={}", "size", "teacher.training.epochs"),
     ("students.linear.training.learning_rate=1", "rate", "students.linear.training")],
)  # fmt: skip
def test_an_override_that_an_axis_would_overrule(override: str, axis: str, key: str) -> None:
    text = GOOD + AXES
    if override.startswith("teachers"):
        text = text.replace("teacher:\n  kind: mlp\n", "teachers: {teacher: {kind: mlp}}\n")
    said = faults(text, override)
    assert f": the axis {axis} sets {key} again, so the override would not hold; got" in said


def test_overrides_of_other_keys_and_of_axes_hold() -> None:
    config = parse(GOOD + AXES, ["training.batch_size=5", "axes.passes.values=[7]",
                                 "axes.size.only=[few]", "teacher.training.epochs=3",
                                 "axes.rate.only=[low]", "students.linear.training.patience=2"]
                   )  # fmt: skip
    (point,) = config.points()
    here = config.at(point)
    assert (here.training.epochs, here.training.batch_size) == (7, 5)
    assert here.teachers["teacher"].training.epochs == 3


SWEPT = """\
axes:
  samples: {key: data.options.train, values: [20, 30]}
  rate:
    values:
      slow: {training.learning_rate: 0.01, teacher.options.hidden: [4]}
      fast: {training.learning_rate: 0.1}
"""


@pytest.mark.filterwarnings("ignore::qiskit_kd.circuits.DeadWeightsWarning")
def test_points_are_validated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    validate, validated = ExperimentConfig.model_validate, []

    def counted(tree: object) -> ExperimentConfig:
        validated.append(tree)
        return validate(tree)

    monkeypatch.setattr(ExperimentConfig, "model_validate", counted)
    config = parse(GOOD + SWEPT, ["training.epochs=1"], seeds=1)
    assert len(validated) == 1 + 4
    assert len(plan(config)) > 4
    assert devices_of(config) == []
    assert [here.config for here in config.resolved_points] == [*map(config.at, config.points())]
    assert len(validated) == 1 + 4


@pytest.mark.parametrize("name", sorted(shipped()))
def test_points_of_a_file_are_those_of_its_configuration(name: str) -> None:
    config = load(find_experiment(name))
    again = ExperimentConfig.model_validate(config.model_dump(by_alias=True))
    assert [here.config for here in again.resolved_points] == [
        here.config for here in config.resolved_points
    ]
    assert all(here.checked for here in config.resolved_points)


def test_a_copy_has_points_of_its_own() -> None:
    config = parse(GOOD)
    copied = config.model_copy(update={"baseline": "distilled"})
    assert copied.resolved_points[0].config is copied
    assert copied.roles != config.roles


# Setting dotted keys.


def test_mappings_are_merged_and_lists_are_reached() -> None:
    tree = {"a": {"b": 1, "c": [{"d": 2}]}, "e": None}
    set_key(tree, ["a"], {"b": 3, "new": {"x": 4}})
    set_key(tree, ["a", "c", "0", "d"], 5)
    set_key(tree, ["e", "f"], 6)
    set_key(tree, ["a", "new"], {})
    assert tree == {"a": {"b": 3, "c": [{"d": 5}], "new": {}}, "e": {"f": 6}}


def test_a_key_that_is_a_number_is_found_by_its_digits() -> None:
    tree = {50: {"x": 1}}
    set_key(tree, ["50", "x"], 2)
    set_key(tree, ["50"], {"y": 3})
    assert tree == {50: {"x": 2, "y": 3}}


def test_every_value_keeps_the_place_where_it_was_said() -> None:
    data, locate = parse_yaml("a: {b: 1, e: [8, {f: 9}]}\n")
    value, other = parse_yaml("\n\n  {b: 2, c: {d: 3}}", name="other")
    tree = Origins(locate, data)
    tree.set(["a"], value, other)
    tree.set(["a", "e", "1", "f"], 7, parse_yaml("\n7", name="third")[1])
    assert data == {"a": {"b": 2, "c": {"d": 3}, "e": [8, {"f": 7}]}}
    assert tree(("a", "b")) == "other:3:7"
    assert tree(("a", "c", "d")) == "other:3:17"
    assert tree(("a", "e", 0)) == "<text>:1:15"
    assert tree(("a", "e", 1, "f")) == "third:2:1"
    tree.set(["a"], {"b": {}}, parse_yaml("b: {}", name="last")[1])
    assert tree(("a", "b")) == "last:1:4"
    tree.set(["a", "c"], {}, parse_yaml("{}", name="empty")[1])  # nothing of before is left
    assert tree(("a", "c", "d")) == "empty:1:1"


def test_new_keys_stand_where_the_path_is_named() -> None:
    data, locate = parse_yaml("a: 1\n")
    tree = Origins(locate, data)
    tree.set(["x", "y"], 7, parse_yaml("\n\n\n7")[1], key_place="<text>:9:9")
    assert tree(("x", "y"), key=True) == "<text>:9:9"
    assert tree(("x",), key=True) == "<text>:9:9"
    assert tree(("x", "y")) == "<text>:4:1"


def test_nothing_grows_below_a_number() -> None:
    with pytest.raises(
        ConfigError,
        match=r"axis a x.y: there is nothing below x; got int there; "
        r"expected a mapping, or a list and a position in it",
    ):
        set_key({"x": 3}, ["x", "y"], 1, what="axis a")
