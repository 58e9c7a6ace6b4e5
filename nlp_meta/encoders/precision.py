"""Where models compute, and in which dtype their matrix products."""

from contextlib import AbstractContextManager

import torch

from nlp_meta.errors import SettingsError

PRECISIONS = ("auto", "bf16", "no")


def choose_device(device: torch.device | str | None = None) -> torch.device:
    """The device asked for; of no other, the machine's GPU where it has one."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def choose_autocast(precision: str, device: torch.device) -> torch.dtype | None:
    """Dtype for autocast: bfloat16 where the processor multiplies it, None for float32.

    A CPU without bfloat16 instructions computes it a hundred times slower than float32,
    so `auto` asks the processor.

    Args:
        precision: `auto`, `bf16` (wherever it runs, at whatever speed) or `no`.
    """
    if precision not in PRECISIONS:
        raise SettingsError(
            f"cannot compute with the precision '{precision}': one of {', '.join(PRECISIONS)} is "
            "needed; change `run.mixed_precision`"
        )
    if precision == "no":
        return None
    return torch.bfloat16 if precision == "bf16" or _multiplies_bfloat16(device) else None


def autocasting(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[None]:
    """Compute matrix products in a dtype; None computes as the tensors are."""
    found: AbstractContextManager[None] = torch.autocast(
        device.type, dtype=dtype, enabled=dtype is not None
    )
    return found


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu":
        return False
    # torch has no public name for these two questions.
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in asked)
