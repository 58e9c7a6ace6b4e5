"""`nlp-meta app`: label a table in the browser, and get a model of it."""

import secrets
import shlex
import webbrowser
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from functools import partial

from nlp_meta.cli.options import read_path, whole
from nlp_meta.cli.screen import Screen
from nlp_meta.progress import quiet_libraries

EXAMPLE = """\
nlp-meta app reviews
  nlp-meta adapt --data reviews --output-dir adapted"""


def add_options(command: ArgumentParser) -> None:
    """Add the options of `app`."""
    main = command.add_argument_group("main options")
    main.add_argument(
        "folder",
        nargs="?",
        type=read_path,
        default="project",
        metavar="FOLDER",
        help="folder of the project, made where there is none; labels, model and table are kept in "
        "it, and other commands read it as `--data` (default: %(default)s)",
    )
    main.add_argument(
        "--start",
        metavar="START",
        help="start to learn from: a folder, a name on the Hub, or builtin:NAME (default: the one "
        "that comes with the package and suits the language of the texts)",
    )
    main.add_argument(
        "--port",
        type=partial(whole, least=0, most=65535),
        default=0,
        help="port of this machine's loopback, 0 takes any free one (default: %(default)s)",
    )
    main.add_argument(
        "--no-browser", action="store_true", help="print the address and open no browser"
    )


def run(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Open the project, say where, and answer until told to stop."""
    from nlp_meta.app.server import LearnerProcess, build_app, check_packages

    check_packages()
    from nlp_meta.files.projects import Project
    from nlp_meta.serving.server import listen, run_server

    token = secrets.token_urlsafe(24)
    with quiet_libraries(), listen("127.0.0.1", options.port) as listening:
        project = Project(options.folder, create=True)
        learner = LearnerProcess(project, start=options.start)
        app = build_app(project, token=token, order=learner.order, stop=learner.stop)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/?token={token}"
        screen.notes.print(
            f"open {address}\nthe project is kept in {shlex.quote(str(options.folder))}; "
            "Ctrl-C ends the app and loses nothing",
            soft_wrap=True,
        )
        if not options.no_browser:
            webbrowser.open(address)
        run_server(app, listening)
    return {"folder": str(options.folder)}
