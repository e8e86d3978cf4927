# SPDX-License-Identifier: Apache-2.0
"""References between sections, each fault at its place in the file."""

from __future__ import annotations

import pytest
from noisy_study import backends  # noqa: F401 (a fixture)

from qiskit_kd.errors import ConfigError
from qiskit_kd.experiment.loading import parse

GOOD = """\
name: small
data: {kind: digits, options: {train: 40}}
teachers:
  soft: {kind: mlp}
  hybrid: {kind: quanvolution}
students:
  linear: {kind: linear}
  image:
    kind: convolution
    variants: [plain, maps]
variants:
  plain:
    terms: [{loss: ce}]
  soft:
    teacher: soft
    terms: [{loss: ce}, {loss: kl}]
  maps:
    terms:
      - {loss: ce}
      - {loss: feature_mse, teacher: hybrid, layers: {student: filters, teacher: filters}}
  placebo:
    placebo: untrained
    terms: [{loss: kl, teacher: soft}]
axes:
  images: {key: data.options.train, values: [40, 80]}
  sees:
    values:
      same: {teachers.soft.sees: same}
      all: {teachers.soft.sees: all, training.epochs: 7}
evaluation:
  robustness: {noise: [0.1]}
"""


def faults(old: str, new: str, *overrides: str) -> str:
    assert GOOD.count(old) == 1, f"{old!r} stands {GOOD.count(old)} times"
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace(old, new), overrides, name="exp.yaml")
    return str(caught.value)


def test_good() -> None:
    assert len(parse(GOOD).points()) == 4


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("    teacher: soft\n", "    teacher: soff\n",
         "exp.yaml:15:14: variants.soft.teacher: unknown teacher; got 'soff'. did you mean 'soft'? "
         "known: hybrid, soft"),
        ("teacher: hybrid,", "teacher: hybird,",
         "exp.yaml:20:38: variants.maps.terms.1.teacher: unknown teacher; got 'hybird'. did you "
         "mean 'hybrid'?"),
        ("    teacher: soft\n", "    teacher: shuffled\n",
         "exp.yaml:15:14: variants.soft.teacher: a placebo is set apart from the teacher; got "
         "`teacher: shuffled`. Write `placebo: shuffled`"),
        ("    teacher: soft\n", "    placebo: shuffled\n",
         "exp.yaml:15:14: variants.soft.placebo: the placebo 'shuffled' is made from a teacher; "
         "got `teacher: none` for the loss 'kl'. Name a teacher"),
        ("{loss: kl, teacher: soft}", "{loss: kl, placebo: untrained}",
         "exp.yaml:23:33: variants.placebo.terms.0.placebo: the placebo 'untrained' is made from"),
        ("{loss: kl, teacher: soft}", "{loss: kl, teacher: none, placebo: none}",
         "exp.yaml:23:13: variants.placebo.terms.0: the loss 'kl' needs a teacher; got `teacher: "
         "none`. Name a teacher, or set `placebo: uniform`"),
        ("    teacher: soft\n", "    placebo: uniformly\n",
         "exp.yaml:15:14: variants.soft.placebo: unknown value; got 'uniformly' (str). did you "
         "mean 'uniform'?"),
        ("    terms: [{loss: ce}]\n", "    terms: [{loss: ce, teacher: soft}]\n",
         "exp.yaml:13:33: variants.plain.terms.0.teacher: the loss 'ce' reads no teacher; got "
         "'soft'. Remove `teacher`"),
        ("    terms: [{loss: ce}]\n", "    terms: [{loss: ce, placebo: uniform}]\n",
         "exp.yaml:13:33: variants.plain.terms.0.placebo: the loss 'ce' reads no teacher; got "
         "'uniform'. Remove `placebo`"),
        ("    terms: [{loss: ce}]\n", "    placebo: uniform\n    terms: [{loss: ce}]\n",
         "exp.yaml:13:14: variants.plain.placebo: no loss of the variant uses a teacher; got "
         "'uniform'; expected a term such as kl. Add one, or remove `placebo`"),
        ("[{loss: ce}, {loss: kl}]",
         "[{loss: ce}, {loss: kl, layers: {student: output, teacher: output}}]",
         "exp.yaml:16:44: variants.soft.terms.1.layers: the loss 'kl' compares class logits; got "
         "`layers`. Remove it, or take a feature loss: attention, feature_"),
        ("[{loss: ce}, {loss: kl}]", "[{loss: ce}, {loss: kl, adapter: linear}]",
         "exp.yaml:16:45: variants.soft.terms.1.adapter: the loss 'kl' compares class logits; got "
         "`adapter`."),
        ("teacher: filters}}", "teacher: filters}, adapter: chanels}",
         "exp.yaml:20:101: variants.maps.terms.1.adapter: unknown adapter; got 'chanels'. did you "
         "mean 'channels'?"),
        ("layers: {student: filters, teacher: filters}", "layers: {student: filters}",
         "variants.maps.terms.1.layers.teacher: the key is missing. Add it."),
        ("layers: {student: filters, teacher: filters}",
         "placebo: uniform, layers: {student: filters, teacher: filters}",
         "exp.yaml:20:72: variants.maps.terms.1.layers: a uniform placebo has no layers; got "
         "`layers`. Set `placebo: untrained` or `shuffled`"),
        ("[plain, maps]", "[plain, maqs]",
         "exp.yaml:10:23: students.image.variants.1: unknown variant; got 'maqs'. did you mean "
         "'maps'?"),
        ("[plain, maps]", "[]", "exp.yaml:10:15: students.image.variants: too few entries; got 0"),
        ("  soft: {kind: mlp}\n", "  none: {kind: mlp}\n  soft: {kind: mlp}\n",
         "exp.yaml:4:9: teachers.none: `teacher: none` means no teacher; choose another name"),
        ("  soft: {kind: mlp}\n", "  soft: {kind: mpl}\n",
         "exp.yaml:4:16: teachers.soft.kind: unknown student; got 'mpl'. did you mean 'mlp'?"),
        ("  soft: {kind: mlp}\n", "  soft: {kind: mlp, options: {hiden: [3]}}\n",
         "exp.yaml:4:38: teachers.soft.options.hiden: unknown option of the student 'mlp'"),
        ("  soft: {kind: mlp}\n", "  soft: {kind: mlp, shard: true}\n",
         "exp.yaml:4:21: teachers.soft.shard: unknown key; got 'shard'. did you mean 'shared'?"),
        ("{noise: [0.1]}", "{nose: [0.1]}",
         "exp.yaml:31:22: evaluation.robustness.nose: unknown perturbation; got 'nose'. did you "
         "mean 'noise'?"),
        ("{noise: [0.1]}", "{noise: [-0.1]}", "evaluation.robustness.noise.0: wrong value; got "
         "-0.1 (float)"),
        # Axes: keys.
        ("key: data.options.train", "key: dat.options.train",
         "exp.yaml:25:17: axes.images.key: unknown key for an axis; got 'dat.options.train'. known"
         ": backend, backends, data, evaluation, students, teacher, teachers, training, variants"),
        ("key: data.options.train", "key: seeds", "unknown key for an axis; got 'seeds'"),
        ("key: data.options.train", "key: data.optoins.train",
         "exp.yaml:25:17: data.optoins: unknown key; got 'optoins'. did you mean 'options'?"),
        ("key: data.options.train", "key: data.options.trian",
         "exp.yaml:25:46: data.options.trian: unknown option of the data set 'digits'; got "
         "'trian'. did you mean 'train'?"),
        ("training.epochs: 7", "training.epohcs: 7",
         "exp.yaml:29:38: training.epohcs: unknown key; got 'epohcs'. did you mean 'epochs'?"),
        ("training.epochs: 7", "teachers.sotf.sees: all",
         "axes.sees.values.all.teachers.sotf.sees: unknown teacher; got 'sotf'. did you mean "
         "'soft'?"),
        ("training.epochs: 7", "students: 7",
         "axes.sees.values.all.students: an axis changes settings of single students; got "
         "'students'; expected for example students.linear"),
        # Axes: values.
        ("training.epochs: 7", "training.epochs: few",
         "exp.yaml:29:55: training.epochs: wrong type; got 'few' (str); expected a valid integer"),
        ("values: [40, 80]", "values: [40, '80']",
         "exp.yaml:25:50: data.options.train: wrong value; got '80'; expected an integer"),
        ("training.epochs: 7", "students.linear.kind: lineer",
         "exp.yaml:29:60: students.linear.kind: unknown student; got 'lineer'"),
        ("training.epochs: 7", "variants.soft.teacher: none",
         "exp.yaml:16:12: variants.soft.terms: the loss 'kl' needs a teacher"),
        ("values: [40, 80]", "values: [40, [80]]",
         "exp.yaml:25:45: axes.images.values: a value of an axis is a number or a word; got [80]"),
        ("{key: data.options.train, values", "{values",
         "exp.yaml:25:11: axes.images: an axis with a list of values names their `key`"),
    ],
)  # fmt: skip
def test_fault(old: str, new: str, expected: str) -> None:
    text = faults(old, new)
    assert expected in text
    assert text.count("exp.yaml:") == 1  # said once, however many points share it


def test_every_wrong_value_of_an_axis_is_named() -> None:
    text = faults("values: [40, 80]", "values: [forty, 80, '90']")
    assert text.startswith("2 faults in exp.yaml:")
    for place, value in (("25:46", "forty"), ("25:57", "90")):
        assert f"exp.yaml:{place}: data.options.train: wrong value; got {value!r}" in text


def test_an_axis_from_the_command_line() -> None:
    text = faults("name: small", "name: small", "axes.images.values=[40, many]")
    assert text == (
        "override data.options.train: wrong value; got 'many'; expected a valid integer, unable to "
        "parse string as an integer"
    )  # fmt: skip
    config = parse(GOOD, ["axes.images.values=[60]", "axes.sees.only=[all]"])
    assert config.points() == [{"images": 60, "sees": "all"}]


def test_a_preset_narrows_an_axis() -> None:
    text = GOOD + "presets: {quick: {axes: {images: {only: [80]}, sees: {only: [same]}}}}\n"
    assert parse(text, preset="quick").points() == [{"images": 80, "sees": "same"}]


def test_short_form_and_long_form_together() -> None:
    text = faults("teachers:\n", "teacher: {kind: mlp}\nteachers:\n")
    assert "`teacher` is the short form for a single teacher; got `teachers` too" in text


def test_a_student_called_teacher_is_in_the_way_of_one_only() -> None:
    named = GOOD.replace("  linear: {kind", "  teacher: {kind")
    assert "teacher" in parse(named).students
    with pytest.raises(ConfigError, match="the row called 'teacher' is the teacher itself"):
        parse(named.replace("  soft: {kind: mlp}", "  soft: {kind: mlp}\n  teacher: {kind: mlp}"))


# Backends.

PLACES = """\
name: places
data: {kind: digits}
teachers: {soft: {kind: mlp}, hybrid: {kind: linear}}
students: {linear: {kind: linear}}
backends:
  device: {base: noisy, scale: 2.0}
  sampled: {base: exact, shots: 50}
variants:
  plain: {terms: [{loss: ce}]}
  noisy:
    backend: device
    terms: [{loss: ce}]
    fine_tune: {backend: sampled}
axes:
  scale: {key: backends.device.scale, values: [0, 0.5]}
  where: {values: {here: {evaluation.backend: aer}}}
evaluation:
  backend: lagos
  teacher: soft
  side_by_side: {backends: [exact, device]}
"""


@pytest.mark.usefixtures("backends")
@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        # Names.
        ("    backend: device", "    backend: devise",
         "exp.yaml:11:14: variants.noisy.backend: unknown backend; got 'devise'. known: aer, exact,"
         " exact_shots, lagos, noisy; this study's own: device, sampled"),
        ("    backend: device", "    backend: nosy",
         "variants.noisy.backend: unknown backend; got 'nosy'. did you mean 'noisy'?"),
        ("{backend: sampled}", "{backend: smapled}",
         "exp.yaml:13:26: variants.noisy.fine_tune.backend: unknown backend; got 'smapled'."),
        ("  backend: lagos", "  backend: lagoss",
         "exp.yaml:18:12: evaluation.backend: unknown backend; got 'lagoss'. did you mean 'lagos'"),
        ("[exact, device]", "[exact, exackt]",
         "exp.yaml:20:36: evaluation.side_by_side.backends.1: unknown backend; got 'exackt'. did "
         "you mean 'exact'?"),
        ("name: places", "name: places\nbackend: exackt",
         "exp.yaml:2:10: backend: unknown backend; got 'exackt'. did you mean 'exact'?"),
        ("  teacher: soft", "  teacher: sotf",
         "exp.yaml:19:12: evaluation.teacher: unknown teacher; got 'sotf'. did you mean 'soft'?"),
        ("  teacher: soft", "  teacher: none",
         "evaluation.teacher: unknown teacher; got 'none'. known: hybrid, soft"),
        # Entries of the study.
        ("{base: noisy, scale: 2.0}", "{base: nosy, scale: 2.0}",
         "exp.yaml:6:18: backends.device.base: unknown backend; got 'nosy'. did you mean 'noisy'?"),
        ("{base: noisy, scale: 2.0}", "{base: device, scale: 2.0}",
         "exp.yaml:6:18: backends.device.base: unknown backend; got 'device'."),
        ("{base: noisy, scale: 2.0}", "{base: noisy, scael: 2.0}",
         "exp.yaml:6:32: backends.device.scael: unknown key; got 'scael'. did you mean 'scale'?"),
        ("{base: exact, shots: 50}", "{base: exact, shots: fifty}",
         "exp.yaml:7:33: backends.sampled.shots: wrong type; got 'fifty' (str); expected a valid "
         "integer"),
        ("{base: exact, shots: 50}", "{base: exact, scale: 2}",
         "exp.yaml:7:33: backends.sampled.scale: unknown key; got 'scale'."),
        ("{base: exact, shots: 50}", "{base: exact, kind: nosy}",
         "exp.yaml:7:32: backends.sampled.kind: unknown value; got 'nosy'. did you mean 'noisy'?"),
        ("{base: exact, shots: 50}", "{base: exact, kind: noisy}",
         "exp.yaml:7:12: backends.sampled.noise: the key is missing. Add it."),
        ("{base: noisy, scale: 2.0}", "{base: noisy, noise: {rates: {t1_us: 10, t2_us: 21}}}",
         "exp.yaml:6:40: backends.device.noise.rates: T2 is at most 2 T1: a qubit that relaxes "
         "loses its phase; got t2_us: 21 beside t1_us: 10; expected t2_us up to 20"),
        ("{base: noisy, scale: 2.0}", "{base: noisy, noise: {rates: {two_qubit: 1.5}}}",
         "exp.yaml:6:52: backends.device.noise.rates.two_qubit: wrong value; got 1.5 (float); "
         "expected less than or equal to 1"),
        ("{base: noisy, scale: 2.0}", "{base: noisy, noise: {devise: fake_lagos}}",
         "exp.yaml:6:41: backends.device.noise.devise: unknown key; got 'devise'. did you mean "
         "'device'?"),
        ("{base: noisy, scale: 2.0}", "{base: noisy, noise: {device: a, snapshot: b}}",
         "exp.yaml:6:32: backends.device.noise: noise comes from one source; got device and "),
        ("{base: noisy, scale: 2.0}", "{scale: 2.0}",
         "exp.yaml:6:11: backends.device.base: the key is missing. Add it."),
        ("{base: noisy, scale: 2.0}", "noisy", "exp.yaml:6:11: backends.device: wrong type"),
        ("  sampled: {base: exact, shots: 50}",
         "  sampled: {base: exact, shots: 50}\n  exact: {base: noisy}",
         "exp.yaml:8:10: backends.exact: the backend 'exact' is where teachers run; got an entry "
         "of the study under that name. Choose another name"),
        # Axes.
        ("key: backends.device.scale", "key: backends.devise.scale",
         "exp.yaml:15:16: axes.scale.key: unknown backend; got 'devise'. did you mean 'device'? "
         "known: device, sampled"),
        ("key: backends.device.scale", "key: backends.noisy.scale",
         "exp.yaml:15:16: axes.scale.key: unknown backend; got 'noisy'."),
        ("key: backends.device.scale", "key: backends",
         "exp.yaml:15:16: axes.scale.key: an axis changes settings of single backends; got "
         "'backends'; expected for example backends.device"),
        ("values: [0, 0.5]", "values: [0, -0.5]",
         "exp.yaml:15:51: backends.device.scale: wrong value; got -0.5 (float);"),
        ("key: backends.device.scale", "key: backends.device.scael",
         "exp.yaml:15:48: backends.device.scael: unknown key; got 'scael'. did you mean 'scale'?"),
        ("{evaluation.backend: aer}", "{evaluation.backend: aerr}",
         "exp.yaml:16:47: evaluation.backend: unknown backend; got 'aerr'. did you mean 'aer'?"),
        ("{evaluation.backend: aer}", "{backends.device.base: nosy}",
         "exp.yaml:16:49: backends.device.base: unknown backend; got 'nosy'. did you mean 'noisy'"),
        ("{evaluation.backend: aer}", "{variants.noisy.backend: nosy}",
         "exp.yaml:16:51: variants.noisy.backend: unknown backend; got 'nosy'"),
    ],
)  # fmt: skip
def test_fault_of_a_backend(old: str, new: str, expected: str) -> None:
    assert PLACES.count(old) == 1, f"{old!r} stands {PLACES.count(old)} times"
    with pytest.raises(ConfigError) as caught:
        parse(PLACES.replace(old, new), name="exp.yaml")
    text = str(caught.value)
    assert expected in text
    assert text.count("exp.yaml:") == 1


@pytest.mark.usefixtures("backends")
def test_backends_that_are_named_well() -> None:
    config = parse(PLACES)
    assert config.backends["device"].settings == {"scale": 2.0}
    assert [here.evaluation.backend for here in map(config.at, config.points())] == ["aer", "aer"]
    own = PLACES.replace("scale: 2.0", "noise: {rates: {two_qubit: 0.1}}")
    at = parse(own, ["axes.scale.key=backends.device.noise.rates.two_qubit"])
    scales = [at.at(point).backends["device"].settings["noise"] for point in at.points()]
    assert scales == [{"rates": {"two_qubit": 0}}, {"rates": {"two_qubit": 0.5}}]


@pytest.mark.usefixtures("backends")
def test_faults_of_backends_from_the_command_line() -> None:
    for override, expected in (
        ("variants.noisy.backend=lagoss",
         "override variants.noisy.backend: unknown backend; got 'lagoss'"),
        ("evaluation.teacher=sotf", "override evaluation.teacher: unknown teacher; got 'sotf'"),
        ("backends.device.shots=-1", "override backends.device.shots: wrong value; got -1 (int); "
         "expected greater than or equal to 1"),
        ("backends.device.scale=1", "override backends.device.scale: the axis scale sets "
         "backends.device.scale again, so the override would not hold"),
    ):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            parse(PLACES, [override], name="exp.yaml")
        assert expected in str(caught.value)


@pytest.mark.usefixtures("backends")
def test_every_fault_of_an_entry_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(PLACES.replace("scale: 2.0", "scale: -1, shotz: 3"), name="exp.yaml")
    assert str(caught.value).startswith(
        "2 faults in exp.yaml:\n  exp.yaml:6:32: backends.device.scale: wrong value; got -1 (int);"
    )
    assert "\n  exp.yaml:6:43: backends.device.shotz: unknown key; got 'shotz'." in str(
        caught.value
    )


@pytest.mark.usefixtures("backends")
def test_without_teachers_nobody_can_be_compared_with() -> None:
    text = PLACES.replace("teachers: {soft: {kind: mlp}, hybrid: {kind: linear}}\n", "")
    with pytest.raises(ConfigError, match=r"evaluation.teacher: unknown teacher; got 'soft'"):
        parse(text)
