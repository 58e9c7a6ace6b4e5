"""`nlp-meta serve`: adapted models of many domains over HTTP, until told to stop."""

import os
from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING

from nlp_meta.cli.screen import Screen, show_progress
from nlp_meta.errors import SettingsError
from nlp_meta.progress import quiet_libraries
from nlp_meta.serving.server import check_packages, listen, run_server

if TYPE_CHECKING:
    from fastapi import FastAPI


LOOPBACK = ("127.0.0.1", "::1", "localhost")


def run_serve(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Load, say where, and answer; returns when all that was accepted is answered."""
    check_packages()
    if options.adapted_dir is not None and options.meta is None:
        raise SettingsError(
            f"cannot save to '{options.adapted_dir}': nothing is adapted without a meta-model and "
            "one is needed; name it with `--meta`, or leave out `--adapted-dir`"
        )
    # The address is taken first: loading takes longer than being told that it is in use.
    with quiet_libraries(), listen(options.host, options.port) as listening:
        app, domains = _load(options, screen)
        port = listening.getsockname()[1]
        host = f"[{options.host}]" if ":" in options.host else options.host
        screen.notes.print(f"serving {', '.join(domains)} at http://{host}:{port}", soft_wrap=True)
        if options.token_env is None and options.host not in LOOPBACK:
            screen.notes.print(
                "anybody who reaches this address may ask, load and unload; ask for a token with "
                "`--token-env`",
                soft_wrap=True,
            )
        run_server(app, listening)
    return {"host": options.host, "port": port, "domains": list(domains)}


def _load(options: Namespace, screen: Screen) -> tuple["FastAPI", Mapping[str, str]]:
    from nlp_meta.models.meta_model import MetaModel
    from nlp_meta.serving.app import Adapting, build_app
    from nlp_meta.serving.limits import Limits, name_domains, read_token
    from nlp_meta.serving.pack import DomainPack

    token = read_token(options.token_env, os.environ)
    domains = name_domains(options.models)
    limits = Limits(
        options.max_batch, options.max_wait_ms / 1000, options.max_texts, options.max_characters
    )
    with show_progress(screen, "loading") as on_step:
        pack = DomainPack.from_pretrained(domains, on_step=on_step)
    adapting = None
    if options.meta is not None:
        adapting = Adapting(
            MetaModel.from_pretrained(options.meta), options.meta, options.adapted_dir
        )
    return build_app(pack, limits=limits, token=token, adapting=adapting), domains
