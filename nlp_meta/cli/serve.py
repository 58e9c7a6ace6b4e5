"""`nlp-meta serve`: adapted models of many domains over HTTP, until told to stop."""

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from nlp_meta.cli.options import add_shared, positive, read_path, whole
from nlp_meta.cli.screen import Screen
from nlp_meta.errors import SettingsError, need_packages
from nlp_meta.escapes import one_line
from nlp_meta.progress import quiet_libraries, show_count

if TYPE_CHECKING:
    from fastapi import FastAPI

EXAMPLE = "nlp-meta serve real_estate fashion me/travel-sentiment --port 8000"


def add_options(command: ArgumentParser) -> None:
    """Add the options of `serve`; what limits mean by default is `serving.limits.Limits`."""
    main = command.add_argument_group("main options")
    main.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="adapted models over one encoder: folders, or names on the Hub; their domains are "
        "called as the last part of these, or as in NAME=MODEL",
    )
    add_shared(main, "--base")
    main.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    main.add_argument(
        "--port",
        type=partial(whole, least=0, most=65535),
        default=8000,
        help="port, 0 takes any free one (default: %(default)s)",
    )
    _add_access(command)
    adaptation = command.add_argument_group("adaptation")
    adaptation.add_argument(
        "--start",
        metavar="START",
        help="start over the same encoder, from which POST /adapt makes new domains "
        "(default: /adapt is refused)",
    )
    adaptation.add_argument(
        "--adapted-dir",
        type=read_path,
        metavar="DIR",
        help="folder for the models of POST /adapt that are to be saved (default: none is)",
    )
    _add_limits(command)


def _add_access(command: ArgumentParser) -> None:
    access = command.add_argument_group("access")
    token = access.add_mutually_exclusive_group()
    token.add_argument(
        "--token",
        help="word that requests must bear; others on this machine see it in the list of "
        "processes, so rather set the variable NLP_META_SERVE_TOKEN; an address other than "
        "loopback needs one (default: that variable, if it is set)",
    )
    token.add_argument(
        "--token-env", metavar="NAME", help="another environment variable that holds it"
    )
    access.add_argument(
        "--models-dir",
        type=read_path,
        metavar="DIR",
        help="folder below which PUT /domains may load models (default: it loads none)",
    )
    access.add_argument(
        "--allow-hub",
        action="store_true",
        help="let PUT /domains load models from the Hub too (default: it loads none)",
    )


def _add_limits(command: ArgumentParser) -> None:
    limits = command.add_argument_group("limits")
    for name, default, about in (
        ("--max-batch", 64, "texts after which a batch waits for no others"),
        ("--max-texts", 512, "most texts of one request"),
        ("--max-characters", 200_000, "most characters of one request, over all its texts"),
        ("--max-domains", 256, "most domains that are loaded at any time"),
    ):
        limits.add_argument(
            name, type=positive, default=default, metavar="N", help=f"{about} (default: {default})"
        )
    limits.add_argument(
        "--max-wait-ms",
        type=partial(whole, least=0, most=10_000),
        default=5,
        metavar="MS",
        help="milliseconds that a text waits for others to share a batch (default: %(default)s)",
    )
    limits.add_argument(
        "--stop-within",
        type=partial(whole, least=1, most=3600),
        default=6,
        metavar="SECONDS",
        help="seconds in which the server ends once it is told to, whatever is under way; a second "
        "signal ends it at once (default: %(default)s)",
    )


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Load, say where, and answer; returns when all that was accepted is answered."""
    need_packages("serve", "fastapi", "uvicorn", "prometheus_client", extra="serve")
    from nlp_meta.serving.limits import check_reach, read_token
    from nlp_meta.serving.server import listen, run_server

    token = read_token(os.environ, token=options.token, token_env=options.token_env)
    check_reach(options.host, token)
    if options.adapted_dir is not None and options.start is None:
        raise SettingsError(
            f"cannot save to '{options.adapted_dir}': nothing is adapted without a start and "
            "one is needed; name it with `--start`, or leave out `--adapted-dir`"
        )
    # The address is taken first: loading takes longer than being told that it is in use.
    with quiet_libraries(), listen(options.host, options.port) as listening:
        app, domains = _load(options, token, screen)
        port = listening.getsockname()[1]
        host = f"[{options.host}]" if ":" in options.host else options.host
        names = one_line(", ".join(domains))
        screen.notes.print(f"serving {names} at http://{host}:{port}", soft_wrap=True)
        run_server(app, listening)
    return {"host": options.host, "port": port, "domains": list(domains)}


def _load(
    options: Namespace, token: str | None, screen: Screen
) -> tuple["FastAPI", Mapping[str, str]]:
    from nlp_meta.models.meta_model import MetaModel
    from nlp_meta.serving.app import Adapting, build_app
    from nlp_meta.serving.limits import Limits, Sources, name_domains
    from nlp_meta.serving.pack import DomainPack

    limits = Limits(
        max_batch=options.max_batch,
        max_wait=options.max_wait_ms / 1000,
        max_texts=options.max_texts,
        max_characters=options.max_characters,
        max_domains=options.max_domains,
        stop_within=options.stop_within,
    )
    domains = name_domains(options.models, limits)
    sources = Sources(options.models_dir, options.allow_hub)
    with show_count("loading", console=screen.notes) as on_step:
        pack = DomainPack.from_pretrained(domains, base=options.base, on_step=on_step)
    adapting = None
    if options.start is not None:
        adapting = Adapting(
            MetaModel.from_pretrained(options.start, base=options.base),
            options.start,
            options.adapted_dir,
        )
    app = build_app(pack, limits=limits, token=token, adapting=adapting, sources=sources)
    return app, domains
