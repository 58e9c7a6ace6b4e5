"""Tensors of texts, each computed once: in memory, and beyond a bound of it in a file.

A file holds what one network says of rows of token ids. It is named and headed by a hash of the
network, each record by one of the ids, so that it never answers for another model, layer,
tokenizer, prefix or length; and it holds no text. Processes append to it in turn. All that is
read is checked: what is damaged, or was cut off, is computed anew.
"""

import hashlib
import mmap
import os
import struct
import tempfile
import time
import weakref
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from nlp_meta.data.clock import Clock
from nlp_meta.encoders.batches import by_length
from nlp_meta.errors import OutputError
from nlp_meta.files.locks import lock

Text = TypeVar("Text")


@dataclass(frozen=True, slots=True)
class Storage:
    """Where tensors of texts are kept.

    Attributes:
        shared: Folder of a file that all go into and that stays, for other processes and runs.
        beside: Without it, folder of a file of what memory has no room for, which ends with the
            process; None takes the system's for temporary files.
        memory: Most bytes in memory.
    """

    shared: Path | None = None
    beside: Path | None = None
    memory: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Computation:
    """What is computed of token ids.

    Attributes:
        run: Rows of ids to a tensor of each, `(n, *width)`, that shares memory with no other.
        tokens: Most of one call, each row as long as the longest.
        dtype, width, device: Of what comes out.
        identity: A hash of all that it depends on beside the ids; it may take seconds.
    """

    run: Callable[[list[Tensor]], Sequence[Tensor]]
    tokens: int
    dtype: torch.dtype
    width: tuple[int, ...]
    device: torch.device
    identity: Callable[[], bytes]


@dataclass(slots=True)
class _Cost:
    """Seconds that a tensor took, and the last job that paid for it."""

    seconds: float
    job: int


class TextCache(Generic[Text]):
    """Tensors by text; every job pays for each once, whoever computed it."""

    def __init__(
        self,
        tokenize: Callable[[Sequence[Text]], list[Tensor]],
        computation: Computation,
        *,
        clock: Clock,
        storage: Storage,
    ) -> None:
        """Keep what a computation makes of the ids that `tokenize` makes of texts."""
        self._tokenize, self._computation = tokenize, computation
        self._clock, self._storage = clock, storage
        self._keys: dict[bytes, bytes] = {}
        self._costs: dict[bytes, _Cost] = {}
        self._memory: dict[bytes, Tensor] = {}
        self._used = 0
        self._file: StateFile | None = None

    def take(self, texts: Sequence[Text]) -> list[Tensor]:
        """The tensors of some texts, in their order."""
        names = [_digest(repr(text).encode()) for text in texts]
        asked = dict(zip(names, texts, strict=True))
        known = {self._keys[name] for name in asked if name in self._keys}
        for key in known:
            self._charge(self._costs[key])
        tensors = self._add({name: text for name, text in asked.items() if name not in self._keys})
        tensors |= self._read({self._keys[name] for name in asked} - tensors.keys())
        lost = {name: t for name, t in asked.items() if self._keys[name] not in tensors}
        for name in lost:  # damaged in the file
            self._costs.pop(self._keys[name], None)
        tensors |= self._add(lost)
        return [tensors[self._keys[name]] for name in names]

    def _charge(self, cost: _Cost) -> None:
        if cost.job != self._clock.job:
            self._clock.charge(cost.seconds)
            cost.job = self._clock.job

    def _add(self, texts: Mapping[bytes, Text]) -> dict[bytes, Tensor]:
        """Enter new texts, and give the tensors that had to be computed."""
        if not texts:
            return {}
        began = time.perf_counter()
        ids = self._tokenize(list(texts.values()))
        token_seconds = (time.perf_counter() - began) / max(sum(map(len, ids)), 1)
        keys = [_digest(row.numpy().tobytes()) for row in ids]
        self._keys.update(zip(texts, keys, strict=True))
        rows = dict(zip(keys, ids, strict=True))
        for key in rows.keys() & self._costs.keys():  # of another text with the same ids
            self._charge(self._costs[key])
        tensors: dict[bytes, Tensor] = {}
        for group in self._group(self._missing(rows, token_seconds)):
            # Another process may have come to it meanwhile.
            missing = self._missing(group, token_seconds)
            tensors |= self._compute(missing, token_seconds) if missing else {}
        return tensors

    def _missing(self, rows: Mapping[bytes, Tensor], token_seconds: float) -> dict[bytes, Tensor]:
        """Rows that nobody has computed; what another process has is charged for."""
        missing = {key: row for key, row in rows.items() if key not in self._costs}
        if self._storage.shared is None or not missing:
            return missing
        for key, seconds in self._open().find(missing).items():
            self._clock.charge(max(0.0, seconds - token_seconds * len(missing.pop(key))))
            self._costs[key] = _Cost(seconds, self._clock.job)
        return missing

    def _group(self, rows: Mapping[bytes, Tensor]) -> list[dict[bytes, Tensor]]:
        """Rows of like length; processes that have the same begin at different ones."""
        keys = list(rows)
        lengths = [len(row) for row in rows.values()]
        groups = [
            {keys[place]: rows[keys[place]] for place in group}
            for group in by_length(lengths, tokens=self._computation.tokens)
        ]
        turn = os.getpid() % max(len(groups), 1) if self._storage.shared else 0
        return groups[turn:] + groups[:turn]

    def _compute(self, rows: Mapping[bytes, Tensor], token_seconds: float) -> dict[bytes, Tensor]:
        began = time.perf_counter()
        tensors = dict(zip(rows, self._computation.run(list(rows.values())), strict=True))
        seconds = (time.perf_counter() - began) / sum(map(len, rows.values())) + token_seconds
        for key, row in rows.items():
            self._costs[key] = _Cost(seconds * len(row), self._clock.job)
        kept = {key for key, tensor in tensors.items() if self._remember(key, tensor)}
        written = tensors.keys() if self._storage.shared else tensors.keys() - kept
        if written:
            self._open().append(
                {key: (_bytes(tensors[key]), self._costs[key].seconds) for key in written}
            )
        return tensors

    def _remember(self, key: bytes, tensor: Tensor) -> bool:
        fits = self._used + tensor.nbytes <= self._storage.memory
        if fits:
            self._memory[key] = tensor
            self._used += tensor.nbytes
        return fits

    def _read(self, keys: Collection[bytes]) -> dict[bytes, Tensor]:
        tensors = {key: self._memory[key] for key in keys if key in self._memory}
        rest = [key for key in keys if key not in tensors]
        for key, content in self._open().read(rest).items() if rest else ():
            flat = torch.frombuffer(content, dtype=self._computation.dtype)
            shaped = flat.view(-1, *self._computation.width)
            tensors[key] = shaped.to(self._computation.device)
            self._remember(key, tensors[key])
        return tensors

    def _open(self) -> "StateFile":
        if self._file is None:
            began, shared = time.perf_counter(), self._storage.shared
            identity = self._computation.identity() if shared else None
            self._file = StateFile(shared or self._storage.beside, identity)
            # No method that runs alone hashes a model.
            self._clock.charge(began - time.perf_counter())
        return self._file


_MAKE = b"nlp_meta states "
_MAGIC = (_MAKE + b"1").ljust(32)
_RECORD = struct.Struct("<16sIIfI")
"""Before the values: their key, length, checksum and seconds, then the checksum of these four."""
_SEAL = struct.Struct("<I")
_SECONDS = struct.Struct("<f")


class StateFile:
    """Values by key in a file, which processes append to in turn."""

    def __init__(self, folder: Path | None, identity: bytes | None) -> None:
        """Open a file, or begin it.

        Args:
            identity: 32 bytes that its values depend on; None begins one that this process
                alone sees and that ends with it.

        Raises:
            OutputError: The disk does not take it.
        """
        self._folder, self._is_shared = folder, identity is not None
        self._places: dict[bytes, tuple[int, int, float]] = {}
        header = _MAGIC + (identity or bytes(32))
        self._begin = self._end = len(header)
        with self._turn(shared=False):
            if folder is None or identity is None:
                self._handle = _open_unseen(folder, header)
            else:
                self._handle = _open_shared(folder / f"{identity.hex()[:16]}.states", header)
        weakref.finalize(self, os.close, self._handle)

    def find(self, keys: Collection[bytes]) -> dict[bytes, float]:
        """The seconds that values took, of those keys that are here."""
        with self._turn(shared=True):
            self._look()
        return {key: self._places[key][2] for key in keys if key in self._places}

    def read(self, keys: Collection[bytes]) -> dict[bytes, bytearray]:
        """Values that are here and whole; the others are forgotten.

        Raises:
            OutputError: The disk does not give them.
        """
        values: dict[bytes, bytearray] = {}
        with self._turn(shared=True), self._mapped() as content:
            for key in keys:
                place, length, seconds = self._places.pop(key, (0, 0, 0.0))
                value = content[place + _RECORD.size : place + _RECORD.size + length]
                if _head(key, value, seconds) == content[place : place + _RECORD.size]:
                    values[key] = bytearray(value)
                    self._places[key] = (place, length, seconds)
                value.release()
        return values

    def append(self, values: Mapping[bytes, tuple[memoryview, float]]) -> None:
        """Add values with the seconds they took, but not what is here already.

        Raises:
            OutputError: The disk does not take them.
        """
        with self._turn(shared=False):
            self._look()
            os.ftruncate(self._handle, self._end)  # a killed process may leave half a record
            for key, (value, seconds) in values.items():
                if key not in self._places:
                    seconds = _SECONDS.unpack(_SECONDS.pack(seconds))[0]
                    _write(self._handle, _head(key, value, seconds) + value, self._end)
                    self._places[key] = (self._end, len(value), seconds)
                    self._end += _RECORD.size + len(value)

    def _look(self) -> None:
        """Enter what other processes have added since."""
        size = os.fstat(self._handle).st_size
        if size < self._end:  # somebody cut it off
            self._places.clear()
            self._end = self._begin
        if size == self._end:
            return
        with self._mapped() as content:
            while self._end + _RECORD.size <= size:
                head = bytes(content[self._end : self._end + _RECORD.size])
                key, length, _, seconds, seal = _RECORD.unpack(head)
                after = self._end + _RECORD.size + length
                if seal != zlib.crc32(head[: -_SEAL.size]) or after > size:
                    break
                self._places[key] = (self._end, length, seconds)
                self._end = after

    @contextmanager
    def _mapped(self) -> Iterator[memoryview]:
        """The bytes of the file; mapped for as long as they are read, or they count as memory."""
        with (
            mmap.mmap(self._handle, 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as content,
        ):
            yield content

    @contextmanager
    def _turn(self, *, shared: bool) -> Iterator[None]:
        """Use the file alone, or with others who read it."""
        try:
            if self._folder is not None:
                self._folder.mkdir(parents=True, exist_ok=True)
            if self._folder is None or not self._is_shared:
                yield
            else:
                with lock(self._folder, shared=shared, wait=True):
                    yield
        except OSError as error:
            raise OutputError(
                f"cannot keep what the frozen layers give in '{self._folder or 'a temporary file'}'"
                f" ({error.strerror}): a folder with room that you may write to is needed; free "
                "some room, or name another one with `run.states_dir`"
            ) from error


def _open_unseen(folder: Path | None, header: bytes) -> int:
    with tempfile.TemporaryFile(dir=folder) as file:
        handle = os.dup(file.fileno())
    _write(handle, header, 0)
    return handle


def _open_shared(path: Path, header: bytes) -> int:
    """Open a file of values, if it is ours; one of another network steps aside, still readable."""
    options = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
    handle = os.open(path, options, 0o666)
    begin = os.read(handle, len(header))
    if begin != header:
        os.close(handle)
        # Ours may be damaged, or of a killed process that has written a part of its header.
        same_network = begin[len(_MAGIC) :] == header[len(_MAGIC) :]
        if not (begin.startswith(_MAKE) or same_network or header.startswith(begin)):
            raise OutputError(
                f"cannot keep what the frozen layers give in '{path}': another program's file is "
                "there and a free name is needed; move the file, or name another folder with "
                "`run.states_dir`"
            )
        path.unlink()
        handle = os.open(path, options, 0o666)
        _write(handle, header, 0)
    return handle


def _head(key: bytes, value: memoryview, seconds: float) -> bytes:
    head = _RECORD.pack(key, len(value), zlib.crc32(value), seconds, 0)[: -_SEAL.size]
    return head + _SEAL.pack(zlib.crc32(head))


def _write(handle: int, content: bytes, place: int) -> None:
    os.lseek(handle, place, os.SEEK_SET)
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _bytes(tensor: Tensor) -> memoryview:
    content: Any = tensor.cpu().contiguous().view(torch.uint8).numpy()
    return memoryview(content).cast("B")
