"""The application: routes over a pack, a batcher and background adaptations.

Errors are JSON objects with one sentence, `{"error": ...}`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from nlp_meta import __version__
from nlp_meta.errors import MetaModelError, NlpMetaError, RequestError
from nlp_meta.models.companion import check_when
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.serving.batches import Batcher
from nlp_meta.serving.jobs import Jobs, Order
from nlp_meta.serving.limits import Gate, Limits, check_name, check_request
from nlp_meta.serving.measures import Measures
from nlp_meta.serving.pack import Domain, DomainPack

logger = logging.getLogger(__name__)

NO_JSON = "its body is not JSON and a JSON object is needed; correct it"
MOST_STEPS = 100_000
"""Of one adaptation: other jobs wait for its end."""
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Adapting:
    """What `/adapt` needs.

    Attributes:
        name: Of the meta-model, as the user typed it.
        folder: For results that a request asks to save; None refuses to save.
    """

    meta: MetaModel
    name: str
    folder: Path | None


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PredictBody(_Body):
    domain: str
    texts: list[str]


class LoadBody(_Body):
    model: str
    revision: str | None = None


class AdaptBody(_Body):
    domain: str
    texts: list[str]
    labels: list[str]
    label_map: dict[str, str] | None = None
    steps: int | None = Field(default=None, ge=1, le=MOST_STEPS)
    learning_rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    companion: str = "auto"
    seed: int = Field(default=0, ge=0)
    replace: bool = False
    save: bool = False


class Service:
    """The pack, the batcher, the jobs and the counters that all routes share."""

    def __init__(self, pack: DomainPack, limits: Limits, adapting: Adapting | None) -> None:
        self.pack, self.limits, self.measures = pack, limits, Measures()
        self.folder = adapting.folder if adapting else None
        self._batcher: Batcher | None = None
        self._jobs: Jobs | None = None
        if adapting:
            count = self.measures.count_adaptation
            self._jobs = Jobs(pack, adapting.meta, name=adapting.name, on_end=count)

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Answer requests inside; all that were accepted are answered by its end."""
        self._batcher = Batcher(self.pack, self.limits, self.measures.count_batch)
        self.measures.watch(self.pack, self._batcher)
        yield
        if self._jobs:
            await asyncio.to_thread(self._jobs.close)
        await self._batcher.close()

    async def predict(self, body: PredictBody) -> dict[str, object]:
        domain = self.find(body.domain)
        check_request(body.texts, self.limits)
        if self._batcher is None:
            raise RuntimeError("the application has not been started")
        answers = await self._batcher.ask(domain, body.texts)
        self.measures.count_texts(body.domain, len(answers))
        return {"domain": body.domain, "predictions": [asdict(answer) for answer in answers]}

    async def load(self, name: str, body: LoadBody) -> tuple[dict[str, object], bool]:
        check_name(name)
        load = self.pack.load
        try:
            replaced = await asyncio.to_thread(load, name, body.model, revision=body.revision)
        except OSError as error:
            raise RequestError(
                f"cannot load '{body.model[:200]}': {error.strerror} and the folder of an adapted "
                "model, or its id on the Hub, is needed; correct `model`",
                status=422,
            ) from error
        return describe_domain(name, self.find(name)), replaced

    def find(self, name: str) -> Domain:
        try:
            return self.pack.find(name)
        except MetaModelError as error:
            raise RequestError(str(error), status=404) from error

    async def adapt(self, body: AdaptBody) -> dict[str, object]:
        check_name(body.domain)
        check_when(body.companion)
        check_request(body.texts, self.limits, labels=body.labels)
        if not body.replace and body.domain in self.pack.domains:
            raise RequestError(
                f"cannot adapt '{body.domain}': a domain of that name is loaded and a new name is "
                "needed; choose another `domain`, or set `replace` to true",
                status=409,
            )
        folder = self._folder_for(body) if body.save else None
        chosen = ("label_map", "steps", "learning_rate", "companion", "seed")
        options = {name: getattr(body, name) for name in chosen}
        order = Order(body.domain, body.texts, body.labels, folder, options)
        return asdict(await asyncio.to_thread(self.jobs.begin, order))

    @property
    def jobs(self) -> Jobs:
        if self._jobs is None:
            raise RequestError(
                "cannot adapt: this server has no meta-model and one is needed; start it with "
                "`meta`",
                status=409,
            )
        return self._jobs

    def _folder_for(self, body: AdaptBody) -> Path:
        if self.folder is None:
            raise RequestError(
                f"cannot save '{body.domain}': this server has no folder for adapted models and "
                "one is needed; start it with `adapted_dir`, or set `save` to false",
                status=409,
            )
        return self.folder / body.domain


def build_app(
    pack: DomainPack,
    *,
    limits: Limits,
    token: str | None = None,
    adapting: Adapting | None = None,
) -> FastAPI:
    """Build the application.

    Args:
        token: Every request but `/healthz` must bear it; None lets everybody in.
        adapting: None refuses `/adapt`.

    Raises:
        BackboneError: The meta-model is of another encoder.
    """
    service = Service(pack, limits, adapting)
    app = FastAPI(
        title="nlp-meta",
        version=__version__,
        lifespan=service.lifespan,
        docs_url=None,
        redoc_url=None,
    )
    count = service.measures.count_request
    app.add_middleware(Gate, token=token, max_bytes=limits.max_bytes, count=count)
    _add_routes(app, service)
    app.add_exception_handler(NlpMetaError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_unexpected)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.post("/predict")
    async def predict(body: PredictBody) -> dict[str, object]:
        return await service.predict(body)

    @app.get("/domains")
    async def list_domains() -> dict[str, object]:
        table = service.pack.domains
        return {"domains": [describe_domain(name, table[name]) for name in sorted(table)]}

    @app.put("/domains/{name}")
    async def load_domain(name: str, body: LoadBody, response: Response) -> dict[str, object]:
        described, replaced = await service.load(name, body)
        response.status_code = 200 if replaced else 201
        return described

    @app.delete("/domains/{name}", status_code=204)
    async def unload_domain(name: str) -> None:
        service.find(name)
        service.pack.unload(name)

    @app.post("/adapt", status_code=202)
    async def adapt(body: AdaptBody) -> dict[str, object]:
        return await service.adapt(body)

    @app.get("/adapt/{job}")
    async def show_job(job: str) -> dict[str, object]:
        return asdict(service.jobs.find(job))

    @app.get("/healthz")
    async def healthz() -> dict[str, object]:
        return {"status": "ok", "domains": len(service.pack.domains)}

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.measures.write(), media_type=METRICS_TYPE)


def describe_domain(name: str, domain: Domain) -> dict[str, object]:
    """Describe a domain as `/domains` lists it."""
    return {
        "domain": name,
        "labels": list(domain.labels),
        "model": domain.source or None,
        "ngrams": domain.companion is not None,
        "bytes": domain.bytes,
    }


async def _answer_error(_: Request, error: Exception) -> JSONResponse:
    status = error.status if isinstance(error, RequestError) else 422
    retry = {"Retry-After": "1"} if status == 503 else None
    return _say(" ".join(str(error).split()), status, headers=retry)


async def _answer_invalid(_: Request, error: Exception) -> JSONResponse:
    first: Mapping[str, Any] = {}
    if isinstance(error, RequestValidationError) and error.errors():
        first = error.errors()[0]
    if first.get("type") == "json_invalid":
        return _say(f"cannot read the request: {NO_JSON}", 400)
    place = ".".join(str(part) for part in first.get("loc", ())[1:]) or "body"
    reason = str(first.get("msg", "it is not valid"))
    reason = (reason[:1].lower() + reason[1:]).rstrip(".")
    return _say(f"cannot read the request: {reason}; correct `{place}`", 422)


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    asked = f"{request.method} {request.url.path}"
    messages = {
        400: f"cannot read the request: {NO_JSON}",
        404: f"cannot answer {asked}: a route of this server is needed; see /openapi.json",
        405: f"cannot answer {asked}: another method is needed; see /openapi.json",
    }
    message = messages.get(error.status_code, str(error.detail))
    return _say(message, error.status_code, headers=error.headers)


async def _answer_unexpected(_: Request, error: Exception) -> JSONResponse:
    logger.error("a request failed", exc_info=error)
    return _say(
        "cannot answer: something unexpected went wrong and the server's log says what; report it "
        "with that log",
        500,
    )


def _say(message: str, status: int, *, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": message}, status_code=status, headers=headers)
