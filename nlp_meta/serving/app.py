"""The application: routes over a pack, a batcher and background adaptations, and their counters.

Errors are JSON objects whose `detail` is one sentence. Prometheus reads the counters.
"""

import asyncio
import html
import time
from collections import Counter as Tally
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.exceptions import HTTPException

from nlp_meta import __version__
from nlp_meta.data.cards import CLASSIFICATION
from nlp_meta.data.cells import KEEP, STOP, is_empty
from nlp_meta.data.inputs import as_texts, check_choice
from nlp_meta.errors import MetaModelError, NlpMetaError, OutputError, RequestError
from nlp_meta.files.outputs import check_folder
from nlp_meta.hub.records import ADAPTED
from nlp_meta.hub.storage import layout_of
from nlp_meta.models.adaptation import WHEN
from nlp_meta.models.meta_model import MetaModel
from nlp_meta.serving.batches import Batcher
from nlp_meta.serving.bodies import (
    PROBLEM,
    AdaptBody,
    JsonRoute,
    LoadBody,
    PredictBody,
    describe_invalid,
    write_problem,
)
from nlp_meta.serving.gate import Gate, Requests
from nlp_meta.serving.jobs import Jobs, Order
from nlp_meta.serving.limits import (
    THREADS,
    Limits,
    Sources,
    check_name,
    check_request,
    hide_folders,
    shorten,
)
from nlp_meta.serving.pack import Domain, DomainPack, Question

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Measures:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._requests = Counter(
            "nlp_meta_requests",
            "Requests answered, by route and status.",
            ("route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "nlp_meta_request_seconds",
            "Time from a request to its answer.",
            ("route",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._texts = Counter(
            "nlp_meta_texts", "Texts answered.", ("domain",), registry=self._registry
        )
        self._batches, self._mixed = (
            Histogram(name, about, buckets=SIZES, registry=self._registry)
            for name, about in (
                ("nlp_meta_batch_texts", "Texts of a batch."),
                ("nlp_meta_batch_domains", "Domains of a batch."),
            )
        )
        self._jobs = Counter(
            "nlp_meta_adaptations", "Adaptations ended.", ("status",), registry=self._registry
        )

    def watch(self, pack: DomainPack, batcher: Batcher) -> None:
        """Report from now on how many domains are loaded and how many texts wait."""
        self._registry.register(_Now(pack, batcher))

    def count_request(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def count_texts(self, domain: str, texts: int) -> None:
        self._texts.labels(domain).inc(texts)

    def forget_domain(self, domain: str) -> None:
        """Drop the count of a domain that was unloaded: names come and go without end."""
        with suppress(KeyError):  # it was never asked
            self._texts.remove(domain)

    def count_batch(self, questions: Sequence[Question]) -> None:
        self._batches.observe(len(questions))
        self._mixed.observe(len(Tally(id(question.domain) for question in questions)))

    def count_adaptation(self, status: str) -> None:
        self._jobs.labels(status).inc()

    def write(self) -> bytes:
        """Write all counters in Prometheus's text format."""
        return generate_latest(self._registry)


class _Now(Collector):
    """Numbers that are read at the moment when Prometheus asks."""

    def __init__(self, pack: DomainPack, batcher: Batcher) -> None:
        self.pack, self.batcher = pack, batcher

    def collect(self) -> list[Metric]:
        domains = self.pack.domains.values()
        return [
            GaugeMetricFamily("nlp_meta_domains", "Domains loaded.", len(domains)),
            GaugeMetricFamily(
                "nlp_meta_domain_bytes",
                "Memory of all adapters, heads and n-grams.",
                sum(domain.bytes for domain in domains),
            ),
            GaugeMetricFamily(
                "nlp_meta_waiting_texts", "Texts that wait for an answer.", self.batcher.waiting
            ),
        ]


METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>nlp-meta</title>
<style>body{{font:1rem sans-serif;margin:2rem}}td{{padding:.2rem 1rem .2rem 0}}</style>
<h1>nlp-meta {version}</h1><p>Bodies are JSON, sent as <code>application/json</code>; their fields
stand in <a href="/openapi.json">openapi.json</a>.</p><table>{rows}</table></html>"""


@dataclass(frozen=True, slots=True)
class Adapting:
    """What `/adapt` needs.

    Attributes:
        name: Of the start, as the user typed it.
        folder: For results that a request asks to save; None refuses to save.
    """

    meta: MetaModel
    name: str
    folder: Path | None


class Service:
    """The pack, the batcher, the jobs and the counters that all routes share."""

    def __init__(
        self, pack: DomainPack, limits: Limits, adapting: Adapting | None, sources: Sources
    ) -> None:
        self.pack, self.limits, self.sources = pack, limits, sources
        self.requests, self.measures = Requests(), Measures()
        self.folder = adapting.folder if adapting else None
        self._batcher: Batcher | None = None
        self._jobs: Jobs | None = None
        self._coming: list[str] = []
        self._until = 0.0
        self._loader = ThreadPoolExecutor(1, f"{THREADS}loader")
        if adapting:
            count = self.measures.count_adaptation
            self._jobs = Jobs(pack, adapting.meta, name=adapting.name, on_end=count)

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Answer requests inside; all that were accepted are answered by its end."""
        self._batcher = Batcher(self.pack, self.limits, self.measures.count_batch)
        self.measures.watch(self.pack, self._batcher)
        yield
        self.stop()
        if self._jobs:
            while self._jobs.domains and time.monotonic() < self._until:
                await asyncio.sleep(0.02)
            self._jobs.close()
        self._loader.shutdown(wait=False)
        await self._batcher.close()

    def stop(self) -> None:
        """Take no more requests; end in time those that were accepted, and the jobs."""
        if not self.requests.stopping:
            self._until = time.monotonic() + 0.85 * self.limits.stop_within
            self.requests.stop(within=self.limits.answer_within)
            if self._jobs:
                self._jobs.stop(within=self.limits.answer_within)

    async def predict(self, body: PredictBody) -> dict[str, object]:
        domain = self.find(body.domain)
        check_request(body.texts, self.limits)
        if check_choice(body.empty, (STOP, KEEP), "empty") == STOP:
            as_texts(body.texts, "texts")
        asked = [text for text in body.texts if not is_empty(text)]
        if self._batcher is None:
            raise RuntimeError("the application has not been started")
        answers = await self._batcher.ask(domain, asked) if asked else []
        if body.domain in self.pack.domains:
            self.measures.count_texts(body.domain, len(answers))
        rest = iter(answers)
        predictions = [None if is_empty(text) else asdict(next(rest)) for text in body.texts]
        return {"domain": body.domain, "predictions": predictions}

    async def load(self, name: str, body: LoadBody) -> tuple[dict[str, object], bool]:
        check_name(name)
        with self._room_for(name):
            run = asyncio.get_running_loop().run_in_executor
            replaced = await run(self._loader, self._load, name, body)
        return describe_domain(name, self.find(name)), replaced

    def _load(self, name: str, body: LoadBody) -> bool:
        folder: str | Path = ""
        try:
            folder, source = self.sources.find(body.model, revision=body.revision)
            return self.pack.load(name, folder, source=source)
        except RequestError:
            raise
        except (NlpMetaError, OSError) as error:
            model = shorten(body.model, 200)
            message = str(error) if isinstance(error, NlpMetaError) else _explain(error, model)
            message = hide_folders(message.replace(str(folder) or model, model))
            raise RequestError(message, status=422) from error

    @contextmanager
    def _room_for(self, name: str) -> Iterator[None]:
        """Keep a place among the domains for one that comes."""
        taken = {*self.pack.domains, *self._coming, *(self._jobs.domains if self._jobs else ())}
        if name not in taken and len(taken) >= self.limits.max_domains:
            raise RequestError(
                f"cannot take the domain '{name}': {len(taken)} are loaded or on their way and at "
                f"most {self.limits.max_domains} may; unload another one",
                status=409,
            )
        self._coming.append(name)
        try:
            yield
        finally:
            self._coming.remove(name)

    def unload(self, name: str) -> None:
        self.find(name)
        self.pack.unload(name)
        self.measures.forget_domain(name)

    def find(self, name: str) -> Domain:
        try:
            return self.pack.find(name)
        except MetaModelError as error:
            raise RequestError(str(error), status=404) from error

    async def adapt(self, body: AdaptBody) -> dict[str, object]:
        check_name(body.domain)
        check_choice(body.companion, WHEN, "companion")
        check_request(body.texts, self.limits, labels=body.labels)
        if not body.replace and body.domain in self.pack.domains:
            raise RequestError(
                f"cannot adapt '{body.domain}': a domain of that name is loaded and a new name is "
                "needed; choose another `domain`, or set `replace` to true",
                status=409,
            )
        folder = await asyncio.to_thread(self._folder_for, body) if body.save else None
        request = {"domain", "texts", "labels", "replace", "save"}
        options = {name: getattr(body, name) for name in AdaptBody.model_fields.keys() - request}
        order = Order(body.domain, body.texts, body.labels, folder, options)
        with self._room_for(body.domain):
            return asdict(await asyncio.to_thread(self.jobs.begin, order))

    @property
    def jobs(self) -> Jobs:
        if self._jobs is None:
            raise RequestError(
                "cannot adapt: this server has no start and one is needed; ask for a server "
                "that was started with one",
                status=409,
            )
        return self._jobs

    def _folder_for(self, body: AdaptBody) -> Path:
        if self.folder is None:
            raise RequestError(
                f"cannot save '{body.domain}': this server has no folder for adapted models and "
                "one is needed; set `save` to false",
                status=409,
            )
        folder = self.folder / body.domain
        try:
            check_folder(folder, layout_of(ADAPTED, [CLASSIFICATION]))
        except OutputError as error:
            reason = hide_folders(str(error).partition(": ")[2].partition(";")[0])
            raise RequestError(
                f"cannot save '{body.domain}': {reason}; choose another `domain`, or set `save` to "
                "false",
                status=409,
            ) from error
        return folder


def build_app(
    pack: DomainPack,
    *,
    limits: Limits,
    token: str | None = None,
    adapting: Adapting | None = None,
    sources: Sources | None = None,
) -> FastAPI:
    """Build the application; its `state.service` has `stop`.

    Args:
        token: Every request but those for `/`, `/docs` and `/healthz` must bear it; None lets
            everybody in who asks by a name of this machine's loopback.
        adapting: None refuses `/adapt`.
        sources: None loads nothing that a request names.

    Raises:
        BackboneError: The start is of another encoder.
    """
    service = Service(pack, limits, adapting, sources or Sources())
    app = FastAPI(
        title="nlp-meta",
        version=__version__,
        lifespan=service.lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.router.route_class = JsonRoute
    count = service.measures.count_request
    app.add_middleware(Gate, requests=service.requests, limits=limits, token=token, count=count)
    _add_routes(app, service)
    _add_pages(app, service)
    for kind in (NlpMetaError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _answer_error)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.post("/predict", summary="answers `texts` of a `domain`")
    async def predict(body: PredictBody) -> dict[str, object]:
        return await service.predict(body)

    @app.get("/domains", summary="lists the domains")
    async def list_domains() -> dict[str, object]:
        table = service.pack.domains
        return {"domains": [describe_domain(name, table[name]) for name in sorted(table)]}

    @app.put("/domains/{name}", summary="loads or replaces a domain from a `model`")
    async def load_domain(name: str, body: LoadBody, response: Response) -> dict[str, object]:
        described, replaced = await service.load(name, body)
        response.status_code = 200 if replaced else 201
        return described

    @app.delete("/domains/{name}", status_code=204, summary="unloads a domain")
    async def unload_domain(name: str) -> None:
        service.unload(name)

    @app.post("/adapt", status_code=202, summary="adapts to `texts` and `labels`: a new `domain`")
    async def adapt(body: AdaptBody) -> dict[str, object]:
        return await service.adapt(body)

    @app.get("/adapt/{job}", summary="tells how far an adaptation is")
    async def show_job(job: str) -> dict[str, object]:
        return asdict(service.jobs.find(job))

    @app.delete("/adapt/{job}", status_code=202, summary="cancels an adaptation")
    async def cancel_job(job: str) -> dict[str, object]:
        return asdict(service.jobs.cancel(job))


def _add_pages(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", summary="tells that the server answers")
    async def healthz() -> dict[str, object]:
        return {"status": "ok", "domains": len(service.pack.domains)}

    @app.get("/metrics", summary="counters, for Prometheus")
    async def metrics() -> Response:
        return Response(service.measures.write(), media_type=METRICS_TYPE)

    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    rows = [
        f"<tr><td><code>{html.escape(f'{method} {route.path}')}</code><td>"
        f"{html.escape(route.summary or '')}"
        for route in routes
        for method in sorted(route.methods or ())
    ]
    page = _PAGE.format(version=__version__, rows="".join(rows))

    @app.get("/", include_in_schema=False)
    @app.get("/docs", include_in_schema=False)
    async def show_page() -> HTMLResponse:
        policy = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return HTMLResponse(page, headers=policy)


def describe_domain(name: str, domain: Domain) -> dict[str, object]:
    """Describe a domain as `/domains` lists it."""
    return {
        "domain": name,
        "labels": list(domain.labels),
        "model": domain.source or None,
        "ngrams": domain.companion is not None,
        "bytes": domain.bytes,
    }


async def _answer_error(request: Request, error: Exception) -> Response:
    headers: dict[str, str] = {}
    if isinstance(error, RequestValidationError):
        message, status = describe_invalid(error.errors()), 422
    elif isinstance(error, HTTPException):
        message, status = _describe_http(request, error), error.status_code
        headers |= error.headers or {}
    else:
        message, status = str(error), error.status if isinstance(error, RequestError) else 422
    if status == 503:
        headers["retry-after"] = "1"
    return Response(write_problem(message, status), status, headers, PROBLEM)


def _describe_http(request: Request, error: HTTPException) -> str:
    asked = shorten(f"{request.method} {request.url.path}", 200)
    needs = {404: "a route of this server", 405: "another method"}
    if error.status_code not in needs:
        return str(error.detail)
    return f"cannot answer {asked}: {needs[error.status_code]} is needed; see /docs"


def _explain(error: OSError, model: str) -> str:
    return (
        f"cannot load '{model}': {error.strerror} and the folder of an adapted model, or its id on "
        "the Hub, is needed; correct `model`"
    )
