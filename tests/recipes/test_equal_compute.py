"""Equal compute: what joint training is given more of is what meta-training costs.

The numbers come from the configs by hand arithmetic: examples through forward and
backward, of the start and of what follows it, against those of the longer joint training.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

CONFIGS = Path(__file__).resolve().parents[2] / "recipes" / "configs"
LABELS = {"reviews": 2, "languages": 3}


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))


def count_examples(config: dict[str, Any], *, labels: int) -> float:
    """Episodes, times the queries and the support examples of every inner step."""
    episode, inner, outer = config["episode"], config["inner"], config["outer"]
    support = episode["shot"] * labels
    batches = max(1, round(support / (inner["batch_size"] or support or 1)))
    used = inner["steps"] * support / batches + episode["query_shot"] * labels
    return outer["steps"] * outer["meta_batch_size"] * used


@pytest.mark.parametrize("data", ["reviews", "languages"])
@pytest.mark.parametrize("algorithm", ["reptile", "fomaml"])
def test_the_rival_is_trained_on_as_many_examples(data, algorithm):
    """Both go on from the same joint start."""
    ours, rival = read(f"{algorithm}_{data}"), read(f"multitask_{data}_long")

    assert ours["run"]["init_from"] == rival["run"]["init_from"] == f"runs/multitask_{data}"
    begun = count_examples(read(f"multitask_{data}"), labels=LABELS[data])
    further = [count_examples(one, labels=LABELS[data]) for one in (ours, rival)]
    assert begun + further[1] == pytest.approx(begun + further[0], rel=0.01)
    assert further[1] >= further[0]


@pytest.mark.parametrize("data", ["labels", "labels_english"])
def test_the_rival_on_tasks_of_any_labels_is_trained_on_as_many_examples(data):
    """By hand, for each label that an episode draws: 1 to 20 support examples are 10.5.

    With 4 queries, 520 episodes of 14.5 are 7,540; 1,888 of 4 queries alone are 7,552.
    """
    ours, rival = read(f"fomaml_{data}"), read(f"multitask_{data}")

    counts = []
    for config in (ours, rival):
        episode, outer = config["episode"], config["outer"]
        support = (1 + episode["shot"]) / 2 if episode["shot"] else 0
        episodes = outer["steps"] * outer["meta_batch_size"]
        counts.append(episodes * (support + episode["query_shot"]))
    assert counts == [7540, 7552]
    assert ours["inner"]["steps"] == 0 and ours["run"]["init_from"] is None
    for section in ("data", "model", "adaptation"):
        assert ours[section] | {"head": None} == rival[section] | {"head": None}


def count_kind(config: dict[str, Any], kind: str) -> float:
    """The same of one kind of a run that may mix them: its share of the episodes."""
    episode, inner, outer = config["episode"], config["inner"], config["outer"]
    pairs = kind == "retrieval"
    labels = 1 if pairs else LABELS["languages"]
    support = episode["pairs" if pairs else "shot"] * labels
    batches = max(1, round(support / (inner["batch_size"] or support or 1)))
    query = episode["query_pairs" if pairs else "query_shot"] * labels
    shares = episode["shares"] or dict.fromkeys(config["skills"], 1.0)
    share = shares[kind] / sum(shares.values())
    episodes = outer["steps"] * outer["meta_batch_size"] * share
    return episodes * (inner["steps"] * support / batches + query)


@pytest.mark.parametrize(
    ("ours", "start", "kinds"),
    [
        ("retrieval_multilingual", "multitask_retrieval", ["retrieval"]),
        ("mixed_multilingual", "multitask_mixed", ["classification", "retrieval"]),
    ],
)
def test_the_rival_is_trained_on_as_many_examples_of_each_kind(ours, start, kinds):
    """Both go on from the same joint start. By hand: 17,920 pairs and 19,200 labels further."""
    config, rival = read(ours), read(f"{start}_long")

    assert config["run"]["init_from"] == rival["run"]["init_from"] == f"runs/{start}"
    assert sorted(config["skills"]) == kinds
    further = {"retrieval": 17_920, "classification": 19_200}
    for kind in kinds:
        assert count_kind(config, kind) == pytest.approx(further[kind])
        assert count_kind(rival, kind) == pytest.approx(further[kind])


@pytest.mark.parametrize("data", ["reviews", "languages"])
def test_ours_and_the_rival_are_compared_with_one_search(data):
    config = read(f"compare_{data}")
    methods = config["comparison"]["methods"]

    assert methods["multitask"] == f"joint runs/multitask_{data}_long"
    assert methods["reptile"] == f"start runs/reptile_{data}"
    assert read(f"reptile_{data}")["run"]["init_from"] == f"runs/multitask_{data}"
    # One section holds the grid of every start; none has another.
    assert len(config["adaptation"]["steps"]) * len(config["adaptation"]["learning_rates"]) == 6
