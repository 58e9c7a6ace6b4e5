"""Dynamic batching: requests that wait at the same time are answered by the same passes.

Requests come in on the event loop. One thread tokenizes, another one owns the model. A
request that is larger than a batch is cut into parts, each of which waits its turn, so small
requests are answered in between.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from nlp_meta.data.answers import Prediction
from nlp_meta.encoders.batches import by_length
from nlp_meta.errors import RequestError
from nlp_meta.serving.limits import THREADS, Limits
from nlp_meta.serving.pack import PASS_TOKENS, Domain, DomainPack, Question


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A part of a request, and where its answers go."""

    questions: Sequence[Question]
    answers: "asyncio.Future[list[Prediction]]"

    @property
    def tokens(self) -> int:
        return sum(len(question.ids) for question in self.questions)


class Batcher:
    """Answers requests in batches, whatever their domains; lives on one event loop.

    Attributes:
        waiting: Texts that are not answered yet.
        on_batch: Called with the questions of each batch.
    """

    def __init__(
        self, pack: DomainPack, limits: Limits, on_batch: Callable[[Sequence[Question]], None]
    ) -> None:
        self.pack, self.limits, self.on_batch = pack, limits, on_batch
        self.waiting = 0
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue()
        self._aside: Waiting | None = None
        self._reader = ThreadPoolExecutor(1, f"{THREADS}reader")
        self._worker = ThreadPoolExecutor(1, f"{THREADS}worker")
        self._runner = asyncio.create_task(self._run())

    async def ask(self, domain: Domain, texts: Sequence[str]) -> list[Prediction]:
        """Answer texts by the weights that a domain has now, even if it is unloaded meanwhile.

        Raises:
            RequestError: Too many texts wait already.
        """
        if self.waiting + len(texts) > self.limits.max_waiting:
            raise RequestError(
                f"cannot take {len(texts)} more texts: {self.waiting} wait already and at most "
                f"{self.limits.max_waiting} may; try again in a second",
                status=503,
            )
        self.waiting += len(texts)
        try:
            return await self._ask(domain, texts)
        finally:
            self.waiting -= len(texts)

    async def close(self) -> None:
        """Stop; what was asked for before must have been answered, or given up."""
        self._runner.cancel()
        await asyncio.gather(self._runner, return_exceptions=True)
        self._reader.shutdown(wait=False)
        self._worker.shutdown(wait=False)

    async def _ask(self, domain: Domain, texts: Sequence[str]) -> list[Prediction]:
        loop = asyncio.get_running_loop()
        questions = await loop.run_in_executor(self._reader, self.pack.read, domain, texts)
        answers: dict[int, Prediction] = {}
        lengths = [len(question.ids) for question in questions]
        for group in by_length(lengths, tokens=PASS_TOKENS):
            for first in range(0, len(group), self.limits.max_batch):
                rows = group[first : first + self.limits.max_batch]
                part = Waiting([questions[row] for row in rows], loop.create_future())
                self._queue.put_nowait(part)
                answers |= zip(rows, await part.answers, strict=True)
        return [answers[row] for row in range(len(texts))]

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = [part for part in await self._gather() if not part.answers.done()]
            if not batch:  # nobody waits for it any more
                continue
            questions = [question for part in batch for question in part.questions]
            self.on_batch(questions)
            try:
                answers = await loop.run_in_executor(self._worker, self.pack.answer, questions)
            except Exception as error:  # the batch fails, the server goes on
                for part in batch:
                    if not part.answers.done():
                        part.answers.set_exception(error)
                continue
            _hand_out(batch, answers)

    async def _gather(self) -> list[Waiting]:
        """Wait for a first part, then shortly for others, until the batch is full."""
        first = self._aside or await self._queue.get()
        self._aside = None
        batch, texts, tokens = [first], len(first.questions), first.tokens
        until = asyncio.get_running_loop().time() + self.limits.max_wait
        while texts < self.limits.max_batch and tokens < PASS_TOKENS:
            part = await self._next(until)
            if part is None:
                break
            texts, tokens = texts + len(part.questions), tokens + part.tokens
            if texts > self.limits.max_batch or tokens > PASS_TOKENS:
                self._aside = part
                break
            batch.append(part)
        return batch

    async def _next(self, until: float) -> Waiting | None:
        if not self._queue.empty():
            return self._queue.get_nowait()
        try:
            async with asyncio.timeout_at(until):
                return await self._queue.get()
        except TimeoutError:
            return None


def _hand_out(batch: Sequence[Waiting], answers: Sequence[Prediction]) -> None:
    rest = iter(answers)
    for part in batch:
        answers_of_part = [next(rest) for _ in part.questions]
        if not part.answers.done():
            part.answers.set_result(answers_of_part)
