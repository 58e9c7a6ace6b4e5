"""`nlp-meta push`: a saved model to the Hub, in one commit, with its card."""

from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nlp_meta.cli.hub_options import read_destination
from nlp_meta.cli.screen import Screen, show_facts
from nlp_meta.errors import SettingsError
from nlp_meta.progress import quiet_libraries

if TYPE_CHECKING:
    from nlp_meta.hub.destinations import Destination, Pushed


def run_push(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Push a model and tell what was sent, what was not, and what its licences forbid."""
    from nlp_meta.hub.push import push_folder
    from nlp_meta.hub.refusals import quiet_hub

    with quiet_libraries(), quiet_hub():
        pushed = push_folder(
            options.folder,
            read_destination(options),
            hub_base_model=options.hub_base_model,
            results=options.results,
        )
    show_pushed(pushed, screen)
    return {"pushed": record_of(pushed)}


def check_push_after(options: Namespace) -> "Destination | None":
    """Where a command pushes what it makes, checked before the work; None where it does not.

    Raises:
        HubError: The Hub would refuse.
        SettingsError: `--push-to-hub` without a name, or a name without it.
    """
    if not options.push_to_hub and options.hub_model_id is None:
        return None
    if not options.push_to_hub or options.hub_model_id is None:
        raise SettingsError(
            "cannot push the model: `--push-to-hub` and `--hub-model-id` are needed together; give "
            "both or neither"
        )
    from nlp_meta.hub.destinations import Destination, check_destination, check_replaceable, look
    from nlp_meta.hub.refusals import quiet_hub

    to = Destination(
        options.hub_model_id,
        token=options.hub_token,
        private=options.hub_private_repo,
        revision=options.hub_revision,
    )
    with quiet_hub():
        check_replaceable(to, look(check_destination(to), to), None)
    return to


def show_pushed(pushed: "Pushed", screen: Screen) -> None:
    """Print where a push is and what has to be known of it."""
    facts = {"pushed to": pushed.repo_id, "commit": pushed.commit, "address": pushed.url}
    if pushed.pr_url:
        facts["pull request"] = pushed.pr_url
    facts["files"] = ", ".join(pushed.files)
    if pushed.left_out:
        facts["left out"] = ", ".join(pushed.left_out)
    show_facts(screen, facts)
    for note in pushed.notes:
        screen.results.print(note, soft_wrap=True)


def record_of(pushed: "Pushed") -> dict[str, object]:
    """What `--json` prints of a push."""
    return {
        "repo_id": pushed.repo_id,
        "commit": pushed.commit,
        "url": pushed.url,
        "pr_url": pushed.pr_url,
        "files": list(pushed.files),
        "left_out": list(pushed.left_out),
        "notes": list(pushed.notes),
    }
