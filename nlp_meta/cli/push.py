"""`nlp-meta push`: a saved model to the Hub, in one commit, with its card."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_meta.cli.options import read_path
from nlp_meta.cli.screen import Screen, show_facts, show_sentence
from nlp_meta.errors import SettingsError
from nlp_meta.progress import quiet_libraries

if TYPE_CHECKING:
    from argparse import _ActionsContainer as Group

    from nlp_meta.hub.destinations import Destination, Pushed

EXAMPLE = "nlp-meta push adapted --repo-id me/real-estate-sentiment --private"


_SHARED: Mapping[str, Mapping[str, Any]] = {
    "token": {"metavar": "TOKEN", "help": "access token (default: HF_TOKEN, or `hf auth login`)"},
    "private": {"action": "store_true", "default": None, "help": "make a new repository private"},
    "revision": {"metavar": "BRANCH", "help": "branch to push to (default: main)"},
    "hub_base_model": {
        "metavar": "NAME[@REVISION]",
        "help": "name on the Hub of a base model that is a folder here; its sizes and weights are "
        "compared (default: the base's own name)",
    },
}
"""Options that have other names where a command pushes what it made."""


def add_options(command: ArgumentParser) -> None:
    """Add the options of `push`."""
    main = command.add_argument_group("main options")
    main.add_argument("folder", type=read_path, metavar="FOLDER", help="folder of a saved model")
    add_destination(main, command.add_argument_group("Hub"))
    main.add_argument(
        "--results",
        type=read_path,
        metavar="FILE",
        help="results.json of a comparison that judged this model: its scores, and those of every "
        "rival, go into the card (default: the card says that nothing was compared)",
    )
    main.add_argument("--hub-base-model", **_SHARED["hub_base_model"])


def add_destination(main: "Group", hub: "Group") -> None:
    """Add where to push and how."""
    main.add_argument(
        "--repo-id", required=True, metavar="NAME", help="repository, such as me/real-estate"
    )
    main.add_argument("--private", **_SHARED["private"])
    hub.add_argument("--token", **_SHARED["token"])
    hub.add_argument("--revision", **_SHARED["revision"])
    hub.add_argument("--create-pr", action="store_true", help="propose the push as a pull request")
    hub.add_argument("--tag", metavar="TAG", help="name for the commit, such as v1.0")
    hub.add_argument(
        "--commit-message", metavar="TEXT", help="summary of the commit (default: role and skills)"
    )
    hub.add_argument(
        "--exist-ok",
        action="store_true",
        help="push to a repository that holds something else than an earlier version",
    )
    hub.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything, tell what would be sent, and send nothing",
    )


def add_push_after(group: "Group") -> None:
    """Add the options of a command that pushes what it made, by the names of `transformers`."""
    group.add_argument("--push-to-hub", action="store_true", help="push the model once it is saved")
    group.add_argument(
        "--hub-model-id", dest="repo_id", metavar="NAME", help="repository to push to"
    )
    for option, name in (
        ("--token", "token"),
        ("--hub-private-repo", "private"),
        ("--hub-revision", "revision"),
        ("--hub-base-model", "hub_base_model"),
    ):
        group.add_argument(option, dest=name, **_SHARED[name])


def read_destination(options: Namespace) -> "Destination":
    """Where a command pushes to, and how where it has options for that."""
    from nlp_meta.hub.destinations import Destination

    names = {field.name for field in fields(Destination)} & vars(options).keys()
    return Destination(**{name: getattr(options, name) for name in names})


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Push a model and tell what was sent, what was not, and what its licences forbid."""
    return {"pushed": push_saved(options.folder, options, screen, results=options.results)}


def push_saved(
    folder: Path, options: Namespace, screen: Screen, *, results: Path | None = None
) -> Mapping[str, object]:
    """Push a saved model, and tell where it is."""
    from nlp_meta.hub.push import push_folder
    from nlp_meta.hub.refusals import quiet_hub

    with quiet_libraries(), quiet_hub():
        pushed = push_folder(
            folder,
            read_destination(options),
            hub_base_model=options.hub_base_model,
            results=results,
        )
    return show_pushed(pushed, screen)


def check_push_after(options: Namespace) -> None:
    """Stop before the work where the Hub would refuse what a command is to push.

    Raises:
        HubError: The Hub would refuse.
        SettingsError: `--push-to-hub` without a name, or a name without it.
    """
    if options.push_to_hub != (options.repo_id is not None):
        raise SettingsError(
            "cannot push the model: `--push-to-hub` and `--hub-model-id` are needed together; give "
            "both or neither"
        )
    if not options.push_to_hub:
        return
    from nlp_meta.hub.destinations import check_destination, check_replaceable, look
    from nlp_meta.hub.refusals import quiet_hub

    to = read_destination(options)
    with quiet_hub():
        check_replaceable(to, look(check_destination(to), to), None)


def show_pushed(pushed: "Pushed", screen: Screen) -> Mapping[str, object]:
    """Print where a push is and what has to be known of it; the same for machines."""
    facts = {"pushed to": pushed.repo_id, "commit": pushed.commit, "address": pushed.url}
    if not pushed.commit:
        facts = {"would push to": pushed.repo_id}
    if pushed.pr_url:
        facts["pull request"] = pushed.pr_url
    facts["files"] = ", ".join(pushed.files)
    if pushed.left_out:
        facts["left out"] = ", ".join(pushed.left_out)
    show_facts(screen, facts)
    for note in pushed.notes:
        show_sentence(screen, note)
    return asdict(pushed)
