"""Counters of a server, as Prometheus reads them."""

from collections import Counter as Tally
from collections.abc import Sequence
from contextlib import suppress

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

from nlp_meta.serving.batches import Batcher
from nlp_meta.serving.pack import DomainPack, Question

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
