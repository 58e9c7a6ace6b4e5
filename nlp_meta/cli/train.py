"""`nlp-meta train`: a start from a config; under `accelerate launch`, in several processes."""

import shlex
import sys
import textwrap
from argparse import SUPPRESS, Action, ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_meta.cli.push import show_pushed
from nlp_meta.cli.screen import Screen, show_facts, show_sentence, show_table
from nlp_meta.progress import quiet_libraries, show_steps

if TYPE_CHECKING:
    from nlp_meta.settings import MetaTraining, SmallTraining

EXAMPLE = """nlp-meta train --config reptile_reviews --outer.steps 200
  accelerate launch --num_processes 2 -m nlp_meta.train --config reviews.yaml"""


class _Keep(Action):
    """Keeps an option as it was written, for the reader of configs."""

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        value = [] if self.nargs == 0 else [str(values)]
        namespace.words = [*namespace.words, str(option_string), *value]


def add_options(command: ArgumentParser) -> None:
    """Add the options of `train`: every key of a config is one."""
    from nlp_meta.settings import MetaTraining, SmallTraining
    from nlp_meta.training.config import explain_sections

    main = command.add_argument_group("main options")
    main.add_argument(
        "--config",
        action=_Keep,
        default=SUPPRESS,
        metavar="FILE",
        help="the run, a complete YAML file, or the name of a config that --list shows; an option "
        "below changes one of its keys",
    )
    main.add_argument("--list", action="store_true", help="list the configs that are here")
    for option, about in (
        ("--resume", "go on where the run was stopped"),
        ("--replace", "replace what stands in the run's folder"),
        ("--push-to-hub", "push the start once it is saved"),
    ):
        main.add_argument(option, action=_Keep, nargs=0, default=SUPPRESS, help=about)
    command.set_defaults(words=())
    known: set[str] = set()
    for form in (MetaTraining, SmallTraining):
        for name, summary, explained in explain_sections(form):
            keys = {f"{name}.{key}".lstrip("."): about for key, about in explained.items()}
            new = sorted(keys.keys() - known, key=list(keys).index)
            about_it = textwrap.fill(summary, 70) if name else None
            group = command.add_argument_group(name or "skills", about_it) if new else command
            for key in new:
                group.add_argument(
                    f"--{key}",
                    *_short_names(key),
                    action=_Keep,
                    dest=key.replace(".", "_"),
                    default=SUPPRESS,
                    metavar="VALUE",
                    help=keys[key].replace("%", "%%"),
                )
            known |= keys.keys()


def _short_names(key: str) -> list[str]:
    """The Hub's own name of a key of its section, such as --hub-model-id."""
    name = key.removeprefix("hub.")
    return [f"--{name.replace('_', '-')}"] if name.startswith("hub_") and name != key else []


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Train, save and tell; processes other than the main one say nothing."""
    if options.list:
        return _list(screen)
    with quiet_libraries():
        from nlp_meta.settings import MetaTraining, SmallTraining
        from nlp_meta.training.config import choose_form, read_settings, start_logging

        start_logging()
        forms = {"small_model": SmallTraining, "episode": MetaTraining}
        settings = read_settings(choose_form(forms, options.words), options.words)
        if isinstance(settings, SmallTraining):
            return _train_small_model(settings, screen)
        return _train_start(settings, screen)


def _list(screen: Screen) -> Mapping[str, object]:
    from nlp_meta.training.config import shipped_configs

    paths = shipped_configs()
    texts = {name: path.read_text(encoding="utf-8") for name, path in paths.items()}
    rows = {
        name: text.splitlines()[0].removeprefix("# ")
        for name, text in texts.items()
        if "\nouter:" in text
    }
    folder = str(next(iter(paths.values())).parent)
    show_facts(screen, rows | {"folder to copy from": folder})
    return {"configs": rows, "folder": folder}


def _train_start(settings: "MetaTraining", screen: Screen) -> Mapping[str, object]:
    """The steps of `recipes/meta_train.py`, which is there to be read and changed."""
    from nlp_meta.training.plan import load_splits
    from nlp_meta.training.pushes import check_push, push_finished
    from nlp_meta.training.run import start_accelerator, train_meta_model

    accelerator = start_accelerator(settings.run)
    if accelerator.is_main_process:
        check_push(settings)
    train, validation = load_splits(settings.data, "meta-train", "meta-validation")
    with show_steps(settings.outer.steps, enabled=accelerator.is_main_process) as on_step:
        model, ended = train_meta_model(
            settings, train, validation, accelerator=accelerator, on_step=on_step
        )
    _leave(accelerator, screen, stopped_at=ended.step if model is None else None)
    assert model is not None  # noqa: S101  an interrupted run has left
    folder = settings.run.output_dir
    model.save_pretrained(folder)
    facts = {
        "start": folder,
        "best judged": f"{ended.best_score} after outer step {ended.best_step} of {ended.step}",
    }
    for skill, how in model.adaptation.items():
        inner = how.inner
        facts[skill] = f"{inner.steps} steps of {inner.optimizer} at {inner.learning_rate}"
    command = f"nlp-meta adapt {shlex.quote(folder)} --data labeled.csv --output-dir adapted"
    show_facts(screen, facts | {"next": command})
    pushed = push_finished(settings)
    record = {"output_dir": folder, **_plain(ended), "pushed": None}
    return record if pushed is None else {**record, "pushed": show_pushed(pushed, screen)}


def _train_small_model(settings: "SmallTraining", screen: Screen) -> Mapping[str, object]:
    """The steps of `recipes/multitask_train.py` that build an encoder-decoder."""
    from nlp_meta.training.plan import load_splits
    from nlp_meta.training.run import start_accelerator
    from nlp_meta.training.small_model import save_small_model, score_small_model, train_small_model

    accelerator = start_accelerator(settings.run)
    train, validation = load_splits(settings.data, "meta-train", "meta-validation")
    with show_steps(settings.outer.steps, enabled=accelerator.is_main_process) as on_step:
        trained = train_small_model(settings, train, accelerator=accelerator, on_step=on_step)
    _leave(accelerator, screen, stopped_at=trained.step if trained.interrupted else None)
    scores = score_small_model(trained, validation, settings)
    save_small_model(Path(settings.run.output_dir), trained, settings, scores)
    rows = [(score.name, f"{score.chrf:.1f}", str(score.pairs)) for score in scores]
    show_table(screen, ("pair", "chrF++", "pairs"), rows)
    folder = settings.run.output_dir
    loss = f"{trained.loss} after step {trained.best_step} of {trained.step}"
    show_facts(screen, {"model": folder, "held-out loss": loss})
    return {
        "output_dir": folder,
        "held_out_loss": trained.loss,
        "scores": list(map(asdict, scores)),
    }


def _leave(accelerator: Any, screen: Screen, *, stopped_at: int | None) -> None:
    """End the trackers; all processes but the main one leave, and all of a run that was stopped."""
    accelerator.end_training()
    if stopped_at is not None:
        if accelerator.is_main_process:
            show_sentence(screen, f"stopped after step {stopped_at}; go on with --resume")
        raise KeyboardInterrupt
    if not accelerator.is_main_process:
        sys.exit(0)


def _plain(ended: Any) -> dict[str, object]:
    return {name: getattr(ended, name) for name in ("step", "best_step", "best_score")}
