"""The options of `nlp-meta serve`."""

from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

from nlp_meta.cli.options import positive, whole


def add_serve(command: ArgumentParser) -> None:
    """Add the options of `serve`; what limits mean by default is `serving.limits.Limits`."""
    command.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="adapted models over one encoder: folders, or names on the Hub; their domains are "
        "called as the last part of these, or as in NAME=MODEL",
    )
    command.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    command.add_argument(
        "--port", type=_port, default=8000, help="0 takes any free one (default: %(default)s)"
    )
    command.add_argument(
        "--token-env",
        metavar="NAME",
        help="environment variable with a token that requests must bear (default: none is asked)",
    )
    _add_limits(command)
    _add_adapting(command)


def _add_limits(command: ArgumentParser) -> None:
    for name, default, about in (
        ("--max-batch", 64, "texts after which a batch waits for no others"),
        ("--max-texts", 512, "most texts of one request"),
        ("--max-characters", 200_000, "most characters of one request, over all its texts"),
    ):
        command.add_argument(
            name, type=positive, default=default, metavar="N", help=f"{about} (default: {default})"
        )
    command.add_argument(
        "--max-wait-ms",
        type=_wait,
        default=5,
        metavar="MS",
        help="milliseconds that a text waits for others to share a batch (default: %(default)s)",
    )


def _add_adapting(command: ArgumentParser) -> None:
    command.add_argument(
        "--meta",
        metavar="META",
        help="meta-model over the same encoder, from which POST /adapt makes new domains "
        "(default: /adapt is refused)",
    )
    command.add_argument(
        "--adapted-dir",
        type=Path,
        metavar="DIR",
        help="folder for the models of POST /adapt that are to be saved (default: none is)",
    )


def _port(text: str) -> int:
    found = whole(text, least=0)
    if found > 65535:
        raise ArgumentTypeError(f"{text!r} is not a port, one up to 65535 is needed")
    return found


def _wait(text: str) -> int:
    found = whole(text, least=0)
    if found > 10_000:
        raise ArgumentTypeError(f"{text!r} is too long a wait, one up to 10000 is needed")
    return found
