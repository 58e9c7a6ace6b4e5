"""Settings: complete configs, overrides by name, and one sentence for whatever is wrong."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from nlp_meta.comparing.bench import FORMS
from nlp_meta.data.tasks import Task
from nlp_meta.errors import MissingPackageError, SettingsError
from nlp_meta.settings import MetaTraining, SmallTraining, fingerprint
from nlp_meta.training import run
from nlp_meta.training.config import choose_form, describe_settings, read_settings, run_recipe
from nlp_meta.training.plan import check_labels_known, check_plan

CONFIGS = Path(__file__).resolve().parents[2] / "recipes" / "configs"
SHIPPED = sorted(CONFIGS.glob("*.yaml"))
MODEL = CONFIGS / "multitask_reviews.yaml"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write the shipped config with one section's keys changed, and return its path."""

    def write_config(section: str = "inner", *, without: str = "", **changed: Any) -> str:
        values = yaml.safe_load(MODEL.read_text(encoding="utf-8"))
        values[section] |= changed
        values[section].pop(without, None)
        path = tmp_path / "config.yaml"
        path.write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML
        return str(path)

    return write_config


TRAINING = {
    "small_model": SmallTraining,
    "episode": MetaTraining,
}


def read(path: str, *words: str) -> MetaTraining:
    return read_settings(MetaTraining, ["--config", path, *words])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_config_reads(path):
    words = ["--config", str(path)]
    table = FORMS if path.stem.startswith("compare") else TRAINING
    settings = read_settings(choose_form(table, words), words)

    # What holds for one run or one machine is said on the command line.
    assert not settings.run.replace and settings.run.states_dir is None
    read = asdict(settings)
    del read["run"]["replace"], read["run"]["states_dir"]
    assert read == yaml.safe_load(path.read_text(encoding="utf-8"))


def test_a_file_gives_every_value_its_type(write):
    settings = read(write("adaptation", learning_rates=[1, 0.5]))

    assert settings.adaptation.learning_rates == [1.0, 0.5]
    assert settings.episode.sampling == "uniform"
    assert settings.outer.options == {"weight_decay": 0.01}
    assert settings.run.init_from is None
    assert settings.run.resume is False


def test_sampling_may_be_a_power(write):
    assert read(write("episode", sampling=0.5)).episode.sampling == 0.5


def test_the_command_line_goes_before_the_file(write):
    settings = read(
        write(),
        "--inner.learning_rate",
        "1e-4",
        "--outer.steps=7",
        "--data.cards",
        "[nusax, afrisenti]",
        "--run.output_dir",
        "elsewhere",
        "--model.prefix_text",
        "query: ",
    )

    assert settings.inner.learning_rate == 1e-4
    assert settings.outer.steps == 7
    assert settings.data.cards == ["nusax", "afrisenti"]
    assert settings.run.output_dir == "elsewhere"
    assert settings.model.prefix_text == "query: "
    assert settings.inner.optimizer == "adam"


def test_resume_is_short_for_the_setting(write):
    assert read(write(), "--resume").run.resume is True


def test_an_unknown_key_is_named_with_the_nearest_known_one(write):
    with pytest.raises(
        SettingsError, match=r"`inner\.learning_rat` is unknown.*write `learning_rate`"
    ):
        read(write(learning_rat=0.1))


def test_an_unknown_section_is_named(write):
    path = Path(write())
    path.write_text(path.read_text(encoding="utf-8")[:-1] + ', "extra": {"a": 1}}', "utf-8")

    with pytest.raises(SettingsError, match=r"`extra` is unknown.*take it out"):
        read(str(path))


def test_a_missing_key_is_named(write):
    with pytest.raises(SettingsError, match=r"`inner\.steps` is missing.*add the key"):
        read(write(without="steps"))


def test_a_missing_section_is_named(write):
    path = Path(write())
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["outer"]
    path.write_text(json.dumps(values), encoding="utf-8")

    with pytest.raises(SettingsError, match="`outer` is missing"):
        read(str(path))


@pytest.mark.parametrize(
    ("written", "advice"),
    [("1e-3", "1.0e-3"), ("1e5", r"1.0e\+5"), ("2.5e3", r"2.5e\+3"), ("-1E-3", "-1.0e-3")],
)
def test_a_number_that_yaml_takes_for_text_says_how_to_write_it(tmp_path, written, advice):
    """YAML 1.1 wants a point and a signed exponent; the advice is what it does read."""
    text = MODEL.read_text(encoding="utf-8").replace("rate: 1.0e-3", f"rate: {written}")
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")

    says = rf"`inner\.learning_rate` is '{written}'.*write .*{advice}"
    with pytest.raises(SettingsError, match=says):
        read(str(path))

    assert yaml.safe_load(advice.replace("\\", "")) == float(written)


def test_such_a_number_is_found_in_a_list_too(write):
    with pytest.raises(SettingsError, match=r"`adaptation\.learning_rates\[0\]` is '1e-3'"):
        read(write("adaptation", learning_rates=["1e-3"]))


def test_such_a_number_is_found_in_the_options_too(write):
    with pytest.raises(SettingsError, match=r"`outer\.options\.weight_decay` is '1e-3'"):
        read(write("outer", options={"weight_decay": "1e-3"}))


@pytest.mark.parametrize(
    ("section", "changed"),
    [
        ("inner", {"steps": "many"}),
        ("inner", {"steps": 2.5}),
        ("inner", {"learning_rate": None}),
        ("data", {"cards": "fdu_mtl"}),
        ("data", {"cards": [["fdu_mtl"]]}),
        ("adaptation", {"steps": 5}),
        ("model", {"lora_target_modules": "query"}),
        ("run", {"seed": "zero"}),
    ],
)
def test_a_wrong_type_stops_with_one_sentence_that_names_the_key(write, section, changed):
    with pytest.raises(SettingsError) as caught:
        read(write(section, **changed))

    message = str(caught.value)
    assert next(iter(changed)) in message
    assert message.startswith("cannot ")
    assert "\n" not in message


@pytest.mark.parametrize(
    "words",
    [["--inner.stepz", "3"], ["--inner.steps", "x"], ["--inner.steps", "2.5"], ["--resum"], ["x"]],
)
def test_a_wrong_override_stops(write, words):
    with pytest.raises(SettingsError, match=r"cannot (use|read) ") as caught:
        read(write(), *words)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [None, "- a\n- b\n", "a: [1\n", b"\xff\xfe\x00a"])
def test_a_file_that_is_no_config_stops(tmp_path, content):
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(SettingsError, match="cannot read the config"):
        read(str(path))


def test_no_config_stops():
    with pytest.raises(SettingsError):
        read_settings(MetaTraining, [])


def test_a_section_that_is_no_section_stops(tmp_path):
    path = tmp_path / "config.yaml"
    values = yaml.safe_load(MODEL.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**values, "inner": 3}), encoding="utf-8")

    with pytest.raises(SettingsError, match="inner"):
        read(str(path))


def test_fingerprint_ignores_where_a_run_is_written_and_resumed(write):
    settings = read(write())
    moved = replace(
        settings,
        run=replace(
            settings.run,
            output_dir="b",
            resume=True,
            replace=True,
            num_processes=2,
            report_to=["tensorboard"],
        ),
    )

    assert fingerprint(moved) == fingerprint(settings)


@pytest.mark.parametrize(
    ("section", "changed"),
    [
        ("inner", {"learning_rate": 0.5}),
        ("outer", {"steps": 7}),
        ("model", {"lora_r": 4}),
        ("run", {"seed": 1}),
        ("run", {"init_from": "a"}),
        ("data", {"exclude": ["fdu_mtl/mr"]}),
        ("adaptation", {"max_query": 7}),
    ],
)
def test_fingerprint_knows_what_decides_the_numbers(write, section, changed):
    assert fingerprint(read(write(section, **changed))) != fingerprint(read(write()))


def test_fingerprint_knows_by_which_adaptation_a_run_is_judged(write):
    """The first rate and the most steps judge meta-parameters, so they choose the best ones."""
    settings = read(write())
    slower = read(write("adaptation", learning_rates=[0.5]))
    longer = read(write("adaptation", steps=[5, 40]))

    same, other, third = (fingerprint(one) for one in (settings, slower, longer))
    assert same != other != third != same


def test_a_shared_head_learns_from_no_episodes_of_some_labels(write):
    with pytest.raises(SettingsError, match=r"`shared` head.*`model\.head`.*`episode\.ways`"):
        check_plan(read(write("episode", ways=8)))


def test_a_shared_head_is_judged_on_no_label_that_it_has_no_place_for(write):
    task = Task("a/x", "classification", "eng", "a", "meta-validation", ("joy", "fear"), (), ())
    settings = read(write())

    check_labels_known(settings, ("fear", "joy", "anger"), [task])
    with pytest.raises(SettingsError, match=r"task 'a/x': its label 'joy'.*`model\.head`"):
        check_labels_known(settings, ("fear", "anger"), [task])
    model = replace(settings.model, head="prototype")
    check_labels_known(replace(settings, model=model), ("fear",), [task])


def test_the_options_of_the_hub_are_written_as_the_hub_has_them(write):
    words = ["--push-to-hub", "--hub-model-id", "me/x", "--hub-strategy=checkpoint"]

    hub = read(write(), *words).hub

    assert (hub.push_to_hub, hub.hub_model_id, hub.hub_strategy) == (True, "me/x", "checkpoint")


def test_a_token_may_not_stand_in_a_file(write):
    with pytest.raises(SettingsError, match="write `hub_token_env`"):
        read(write("hub", hub_token="hf_secret"))


def test_where_a_run_is_pushed_decides_none_of_its_numbers(write):
    settings = read(write())

    assert fingerprint(settings) == fingerprint(read(write(), "--push-to-hub"))


FORMS_OF_RUNS = [*FORMS.values(), MetaTraining, SmallTraining]


@pytest.mark.parametrize("form", FORMS_OF_RUNS, ids=lambda form: form.__name__)
def test_help_explains_every_key_of_a_config(form):
    """Each key stands at the beginning of a line, with words behind it."""
    text = describe_settings(form)

    for section, hint in get_type_hints(form).items():
        variants = [one for one in (hint, *get_args(hint)) if is_dataclass(one)]
        for key in [field.name for variant in variants for field in fields(variant)] or [section]:
            assert re.search(rf"^ *{key} +\S+", text, re.MULTILINE), key


def test_a_recipe_shows_its_help_without_a_config(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["meta_train.py", "--help"])

    with pytest.raises(SystemExit) as left:
        run_recipe(lambda settings: 1, MetaTraining)

    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert "meta_batch_size" in shown and "Episodes per outer step" in shown


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("tensorbord", SettingsError, "one of .*tensorboard.* is needed; change `run.report_to`"),
        ("clearml", MissingPackageError, "`pip install clearml`"),
    ],
)
def test_a_tracker_that_accelerate_would_leave_out_stops_the_run(monkeypatch, name, error, said):
    monkeypatch.setattr(run, "get_available_trackers", lambda: ["tensorboard"])
    run.check_trackers(["tensorboard"])

    with pytest.raises(error, match=said):
        run.check_trackers([name])
