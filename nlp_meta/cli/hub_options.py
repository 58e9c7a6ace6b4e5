"""Options of everything that pushes to the Hub, by the Hub's own names."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nlp_meta.hub.destinations import Destination


def add_push(command: ArgumentParser) -> None:
    """Add the options of `nlp-meta push`."""
    command.add_argument("folder", type=Path, metavar="FOLDER", help="folder of a saved model")
    add_destination(command)
    _add_base(command)
    command.add_argument(
        "--results",
        type=Path,
        metavar="FILE",
        help="results.json of a comparison that judged this model: its scores, and those of every "
        "rival, go into the card (default: the card says that nothing was compared)",
    )


def add_destination(command: ArgumentParser) -> None:
    """Add where to push and how."""
    command.add_argument(
        "--repo-id", required=True, metavar="NAME", help="repository, such as me/real-estate"
    )
    command.add_argument(
        "--private", action="store_true", default=None, help="make a new repository private"
    )
    command.add_argument(
        "--token", metavar="TOKEN", help="access token (default: HF_TOKEN, or `hf auth login`)"
    )
    command.add_argument("--revision", metavar="BRANCH", help="branch to push to (default: main)")
    command.add_argument(
        "--create-pr", action="store_true", help="propose the push as a pull request"
    )
    command.add_argument("--tag", metavar="TAG", help="name for the commit, such as v1.0")
    command.add_argument(
        "--commit-message", metavar="TEXT", help="summary of the commit (default: its kind)"
    )
    command.add_argument(
        "--exist-ok",
        action="store_true",
        help="push to a repository that holds something else than an earlier version",
    )


def add_push_after(command: ArgumentParser) -> None:
    """Add the options of a command that pushes what it made."""
    command.add_argument(
        "--push-to-hub", action="store_true", help="push the model once it is saved"
    )
    command.add_argument("--hub-model-id", metavar="NAME", help="repository to push to")
    command.add_argument(
        "--hub-token", metavar="TOKEN", help="access token (default: HF_TOKEN, or `hf auth login`)"
    )
    command.add_argument(
        "--hub-private-repo",
        action="store_true",
        default=None,
        help="make a new repository private",
    )
    command.add_argument("--hub-revision", metavar="BRANCH", help="branch (default: main)")
    _add_base(command)


def read_destination(options: Namespace) -> "Destination":
    """Where `nlp-meta push` and `nlp-meta cards push` push to."""
    from nlp_meta.hub.destinations import Destination

    return Destination(
        options.repo_id,
        token=options.token,
        private=options.private,
        revision=options.revision,
        create_pr=options.create_pr,
        tag=options.tag,
        exist_ok=options.exist_ok,
        commit_message=options.commit_message,
    )


def _add_base(command: ArgumentParser) -> None:
    command.add_argument(
        "--hub-base-model",
        metavar="NAME[@REVISION]",
        help="name on the Hub of a base model that is a folder here; its sizes and weights are "
        "compared (default: the base's own name)",
    )
