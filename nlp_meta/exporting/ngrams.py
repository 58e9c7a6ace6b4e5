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
    places, counts = np.unique(_places(text, facts), return_counts=True)
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


def _places(text: str, facts: Mapping[str, Any]) -> Array:
    text = unicodedata.normalize("NFC", text)[: facts["characters"]].lower()
    text = re.sub(r"\s\s+", " ", text)
    shortest, longest = facts["orders"]
    grams = [
        text[first : first + order].encode()
        for order in range(shortest, longest + 1)
        for first in range(len(text) - order + 1)
    ]
    sizes = {len(gram) for gram in grams}
    hashes = [murmur([gram for gram in grams if len(gram) == size]) for size in sizes]
    whole: Array = np.concatenate([np.zeros(0, np.int64), *hashes])
    return np.abs(whole) % int(facts["features"])


def murmur(words: Sequence[bytes]) -> Array:
    """MurmurHash3 of byte strings of one length: x86, 32 bits, seed 0, signed.

    Source:
        Appleby 2011, smhasher, MurmurHash3.cpp (public domain).
    """
    size = len(words[0])
    rows = np.frombuffer(b"".join(words), np.uint8).reshape(len(words), size).astype(np.uint32)
    hashed = np.zeros(len(words), np.uint32)
    for first in range(0, size, 4):
        block = rows[:, first : first + 4]
        part = np.zeros(len(words), np.uint32)
        for place in range(block.shape[1]):
            part |= block[:, place] << np.uint32(8 * place)
        hashed ^= _turn(part * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
        if block.shape[1] == 4:
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
