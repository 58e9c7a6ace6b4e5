"""A process with the real client of the Hub, whose address it reads when it is imported.

Each line on standard input is one JSON object: words of a command line, or code to run; each
line on standard output is what came of it. One process serves many tests.
"""

import contextlib
import io
import json
import os
import resource
import sys
import time
import traceback
from typing import Any

waits: list[float] = []


def run(asked: dict[str, Any]) -> dict[str, Any]:
    """Run one request; environment variables and the longest file are as it says."""
    out, err = io.StringIO(), io.StringIO()
    before, found = dict(os.environ), None
    os.environ.update({name: value for name, value in asked["env"].items() if value is not None})
    for name in [name for name, value in asked["env"].items() if value is None]:
        os.environ.pop(name, None)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    waits.clear()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            if asked["longest_file"]:
                resource.setrlimit(resource.RLIMIT_FSIZE, (asked["longest_file"], limit[1]))
            found = call(asked)
    except SystemExit as left:
        found = left.code
    except BaseException:
        err.write(traceback.format_exc())
        found = "raised"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        os.environ.clear()
        os.environ.update(before)
    return {"value": found, "out": out.getvalue(), "err": err.getvalue(), "waits": list(waits)}


def call(asked: dict[str, Any]) -> Any:
    if "words" in asked:
        from nlp_meta.cli import main

        return main(asked["words"])
    values: dict[str, Any] = {}
    exec(asked["code"], values)
    return values.get("found")


def main() -> None:
    import huggingface_hub.utils._http as http

    # Waits are told instead of waited for: the backoff of the client takes half a minute.
    http.time = type("Time", (), {"sleep": staticmethod(waits.append), "time": time.time})
    from nlp_meta.hub import refusals

    refusals.time = http.time
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(run(json.loads(line)), default=str) + "\n")
        answers.flush()


main()
