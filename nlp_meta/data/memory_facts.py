"""What of a translation memory was left out or is doubtful, for people and for machines."""

from nlp_meta.data.memories import Memory
from nlp_meta.data.placeholders import describe_losses, record_losses

# Lines and groups that people are shown of each reason.
_SHOWN = 3


def describe_memory(memory: Memory) -> dict[str, str]:
    """Say how many pairs there are; what was left out and what is doubtful only where it is."""
    facts = {"pairs": str(len(memory.pairs))}
    if memory.left_out:
        facts["left out"] = "; ".join(
            f"{count} {reason} (line {_list(list(map(str, memory.lines[reason])), count)})"
            for reason, count in memory.left_out.items()
        )
    if memory.contradictions:
        groups = [
            "line " + " and ".join(str(pair.line) for pair in group)
            for group in memory.contradictions
        ]
        facts["contradictions"] = (
            f"{len(groups)} source{'s' * (len(groups) > 1)} with different targets, all used: "
            f"{_list(groups, len(groups))}"
        )
    if memory.losses:
        facts["placeholders"] = describe_losses(memory.losses)
    return facts


def record_memory(memory: Memory) -> dict[str, object]:
    """The same for machines: lines of every contradiction and of every lost placeholder."""
    return {
        "pairs": len(memory.pairs),
        "left_out": dict(memory.left_out),
        "lines_left_out": {reason: list(lines) for reason, lines in memory.lines.items()},
        "contradictions": [[pair.line for pair in group] for group in memory.contradictions],
        "placeholders": record_losses(memory.losses),
    }


def _list(shown: list[str], count: int) -> str:
    return ", ".join(shown[:_SHOWN]) + (", ..." if count > _SHOWN else "")
