"""Character n-grams beside an encoder, by numpy alone.

A copy of this file stands beside an exported model, so it imports nothing but numpy and
Python's own library. It reads companion.safetensors and companion.json from its folder.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def load(folder: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read the facts, and the tensors `columns`, `weight` and `bias`."""
    facts = json.loads((folder / "companion.json").read_text(encoding="utf-8"))
    raw = (folder / "companion.safetensors").read_bytes()
    begin = 8 + int.from_bytes(raw[:8], "little")
    types = {"F32": np.dtype("<f4"), "I32": np.dtype("<i4")}
    tensors = {}
    for name, header in json.loads(raw[8:begin]).items():
        if name != "__metadata__":
            first, last = (begin + place for place in header["data_offsets"])
            values = np.frombuffer(raw[first:last], types[header["dtype"]])
            tensors[name] = values.reshape(header["shape"])
    return facts, tensors


def mix(
    texts: Sequence[str], logits: Array, facts: Mapping[str, Any], tensors: Mapping[str, Array]
) -> Array:
    """Mix an encoder's logits, `(texts, labels)`, with the scores of the texts' n-grams."""
    scores = _log_softmax(np.array([_score(text.strip(), facts, tensors) for text in texts]))
    factors = facts["factors"]
    mixed: Array = factors["encoder"] * _log_softmax(logits) + factors["ngrams"] * scores
    return mixed


def _score(text: str, facts: Mapping[str, Any], tensors: Mapping[str, Array]) -> Array:
    _, hashed = hash_ngrams([text], orders=facts["orders"], characters=facts["characters"])
    places, counts = np.unique(hashed % int(facts["features"]), return_counts=True)
    if not len(places) or not len(tensors["columns"]):
        return tensors["bias"].astype(np.float64)
    values = 1 + np.log(counts)
    values /= np.sqrt((values**2).sum())
    columns = tensors["columns"]
    # Places without a weight are not among the columns.
    nearest = np.minimum(np.searchsorted(columns, places), len(columns) - 1)
    values = values * (columns[nearest] == places)
    scores: Array = tensors["weight"][:, nearest].astype(np.float64) @ values + tensors["bias"]
    return scores


def hash_ngrams(
    texts: Sequence[str], *, orders: Sequence[int], characters: int
) -> tuple[Array, Array]:
    """Hash every n-gram of some texts, each as often as it occurs.

    Args:
        orders: Characters of the shortest and of the longest n-gram.
        characters: What is read of a text.

    Returns:
        `(n-grams,)` twice: the place of its text, and its hash, which is not negative.
    """
    # Texts that differ in how their characters are composed are the same text.
    plain = [unicodedata.normalize("NFC", text)[:characters].lower() for text in texts]
    plain = [re.sub(r"\s\s+", " ", text) for text in plain]
    raw = np.frombuffer("".join(plain).encode() + bytes(4), np.uint8).astype(np.uint32)
    quads = raw[:-3] | raw[1:-2] << 8 | raw[2:-1] << 16 | raw[3:] << 24
    # Continuation bytes of UTF-8 begin no character; the first of the zeros is the end.
    begins = np.flatnonzero(raw[:-3] & 0xC0 != 0x80)
    owners = np.repeat(np.arange(len(plain)), [len(text) for text in plain])
    owned: list[Array] = [np.zeros(0, np.int64)]
    hashes: list[Array] = [np.zeros(0, np.int64)]
    for order in range(orders[0], orders[1] + 1):
        first = np.flatnonzero(owners[: 1 - order or None] == owners[order - 1 :])
        sizes = begins[first + order] - begins[first]
        for size in np.unique(sizes).tolist():
            chosen = first[sizes == size]
            owned.append(owners[chosen])
            hashes.append(murmur(quads, begins[chosen], size=size))
    return np.concatenate(owned), np.abs(np.concatenate(hashes))


def murmur(quads: Array, begins: Array, *, size: int) -> Array:
    """MurmurHash3 of byte strings of one length: x86, 32 bits, seed 0, signed.

    Args:
        quads: `(bytes,)`, each byte and the three that follow it, little-endian, uint32.
        begins: Where each string begins.
        size: In bytes.

    Source:
        Appleby 2011, smhasher, MurmurHash3.cpp (public domain).
    """
    hashed = np.zeros(len(begins), np.uint32)
    for first in range(0, size, 4):
        part = quads[begins + first]
        if size - first < 4:
            part = part & np.uint32((1 << 8 * (size - first)) - 1)
        hashed ^= _turn(part * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
        if size - first >= 4:
            hashed = _turn(hashed, 13) * np.uint32(5) + np.uint32(0xE6546B64)
    hashed ^= np.uint32(size)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        hashed = (hashed ^ (hashed >> np.uint32(shift))) * np.uint32(factor)
    return hashed.view(np.int32).astype(np.int64)


def _turn(values: Array, bits: int) -> Array:
    turned: Array = (values << np.uint32(bits)) | (values >> np.uint32(32 - bits))
    return turned


def _log_softmax(rows: Array) -> Array:
    shifted = rows - rows.max(1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return logs
