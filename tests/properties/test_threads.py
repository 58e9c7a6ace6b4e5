"""Several threads, one encoder: every thread gets what it would get alone."""

import copy
import multiprocessing
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from joblib import Parallel, delayed

from nlp_meta.encoders.batches import Owners
from nlp_meta.encoders.lora import stacked
from nlp_meta.errors import NlpMetaError, PickleError
from nlp_meta.meta.inner_loop import repeat
from nlp_meta.models.classification import AdaptedModel
from nlp_meta.models.meta_model import MetaModel

STATES = ("great", "awful", "loved", "hated")
TEXTS = [f"the {thing} was {state}" for thing in ("agent", "food", "room") for state in STATES]
LABELS = ["positive", "negative"] * 6
TARGETS = [f"{text}, we loved it" for text in TEXTS]


@pytest.fixture(scope="module")
def meta(tiny_start: MetaModel) -> MetaModel:
    return tiny_start


@pytest.fixture(scope="module")
def adapted(meta: MetaModel) -> AdaptedModel:
    return meta.adapt(TEXTS, LABELS, companion="none")


def table(model: AdaptedModel | MetaModel) -> torch.Tensor:
    """Probabilities, `(texts, labels)`."""
    answers = model.predict(TEXTS)
    rows = [[answer.probabilities[name] for name in model.labels] for answer in answers]
    return torch.tensor(rows, device="cpu")


def calls(meta: MetaModel, adapted: AdaptedModel) -> dict[str, object]:
    """Whatever runs the encoder, by name: functions that give tensors or numbers."""
    finder = meta.adapt_to_pairs(TEXTS, TARGETS, companion="none")
    swapped = [LABELS[1], *LABELS[1:-1], LABELS[0]]
    return {
        "zero-shot": lambda: table(meta),
        "predict": lambda: table(adapted),
        "adapt": lambda: table(meta.adapt(TEXTS, LABELS, companion="none")),
        "adapt otherwise": lambda: table(meta.adapt(TEXTS[::-1], swapped, seed=1)),
        "adapt to pairs": lambda: meta.adapt_to_pairs(TEXTS, TARGETS).embed(TEXTS),
        "embed": lambda: finder.embed(TEXTS),
        "align": lambda: numbers([pair.margin for pair in finder.align(TEXTS, TARGETS)]),
        "rank": lambda: numbers([ranking.order for ranking in finder.rank(TEXTS[:2], TARGETS)]),
    }


def numbers(values: list) -> torch.Tensor:
    return torch.tensor(values, device="cpu")


def storm(meta: MetaModel, adapted: AdaptedModel, *, threads: int, rounds: int) -> list[str]:
    """Names of the calls that gave something else than alone."""
    asked = calls(meta, adapted)
    alone = {name: call() for name, call in asked.items()}
    names = [name for _ in range(rounds) for name in asked]

    def work(first: int) -> list[str]:
        order = names[first:] + names[:first]
        return [name for name in order if not torch.equal(asked[name](), alone[name])]

    with ThreadPoolExecutor(threads) as pool:
        return [name for wrong in pool.map(work, range(threads)) for name in wrong]


def test_four_threads_get_what_one_gets(meta, adapted):
    """To the bit: predictions, adaptations, embeddings and alignments over one encoder."""
    assert storm(meta, adapted, threads=4, rounds=1) == []


@pytest.mark.slow
def test_eight_threads_get_what_one_gets_over_fifty_calls_each(meta, adapted):
    assert storm(meta, adapted, threads=8, rounds=7) == []


def test_an_adaptation_does_not_depend_on_what_was_adapted_before(meta):
    """Texts of earlier calls leave nothing that would change the last digits."""
    first = table(meta.adapt(TEXTS, LABELS))
    meta.adapt([*TEXTS[:4], "a much longer text, never again and again"], LABELS[:5])

    assert torch.equal(table(meta.adapt(TEXTS, LABELS)), first)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, NlpMetaError])
def test_an_adaptation_that_is_broken_off_leaves_nothing_behind(meta, adapted, error):
    before, modes = table(adapted), (torch.is_grad_enabled(), torch.get_rng_state())

    def stop(done: int, total: int) -> None:
        raise error

    with pytest.raises(error):
        meta.adapt(TEXTS, LABELS, on_step=stop)

    model = adapted.objective.backbone.model
    assert torch.equal(table(adapted), before)
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(module.training for module in model.modules())
    assert torch.is_grad_enabled() is modes[0] and torch.equal(torch.get_rng_state(), modes[1])
    assert run_in_thread(lambda: table(adapted)).equal(before)


def test_a_callback_may_ask_the_model_from_another_thread(meta, adapted):
    """No turn is held while the caller's own code runs."""
    answers = []

    def ask(done: int, total: int) -> None:
        answers.append(run_in_thread(lambda: table(adapted)))

    meta.adapt(TEXTS, LABELS, on_step=ask)

    assert answers and all(torch.equal(answer, table(adapted)) for answer in answers)


def test_a_hook_that_an_interrupt_left_behind_does_nothing(adapted):
    """As if Ctrl-C came between its registration and the note of its removal."""
    before, backbone = table(adapted), adapted.objective.backbone
    weights, owners = repeat(adapted.weights, tasks=1), Owners(torch.tensor([0]), (1,))
    with stacked(backbone, adapted.objective.plan, weights, owners):
        left = [
            (module, dict(module._forward_hooks))
            for module in backbone.model.modules()
            if module._forward_hooks
        ]
    for module, hooks in left:
        module._forward_hooks.update(hooks)
    try:
        assert torch.equal(table(adapted), before)
    finally:
        for module, hooks in left:
            for key in hooks:
                del module._forward_hooks[key]


def test_separate_loads_do_not_wait_for_each_other(adapted):
    other = copy.deepcopy(adapted)

    with adapted.objective.backbone.running():
        assert run_in_thread(lambda: table(other)).equal(table(adapted))


@pytest.mark.parametrize(
    "mode",
    [
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        lambda: torch.device("meta"),
    ],
    ids=["no gradients", "inference", "bfloat16", "another device"],
)
def test_modes_of_the_caller_change_no_answer(meta, adapted, mode):
    expected = {name: call() for name, call in calls(meta, adapted).items()}

    with mode():
        answers = {name: call() for name, call in calls(meta, adapted).items()}

    for name, answer in answers.items():
        assert torch.equal(answer.clone(), expected[name]), name


def test_a_model_loaded_without_gradients_can_be_adapted(meta, tmp_path):
    meta.save_pretrained(tmp_path / "meta")
    with torch.inference_mode():
        loaded = MetaModel.from_pretrained(tmp_path / "meta", device="cpu")

    assert torch.equal(table(loaded.adapt(TEXTS, LABELS)), table(meta.adapt(TEXTS, LABELS)))


def test_models_load_in_several_threads_at_once(adapted, tmp_path):
    """transformers takes functions out of torch while it loads."""
    adapted.save_pretrained(tmp_path / "model")

    def load(_: int) -> torch.Tensor:
        return table(AdaptedModel.from_pretrained(tmp_path / "model", device="cpu"))

    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(answer, table(adapted)) for answer in pool.map(load, range(8)))


def test_loading_moves_no_random_state_and_prints_nothing(adapted, tmp_path, capfd):
    import transformers

    adapted.save_pretrained(tmp_path / "model")
    state, loudness = torch.get_rng_state(), transformers.utils.logging.get_verbosity()
    capfd.readouterr()

    AdaptedModel.from_pretrained(tmp_path / "model")

    assert torch.equal(torch.get_rng_state(), state)
    assert transformers.utils.logging.get_verbosity() == loudness
    assert transformers.utils.logging.is_progress_bar_enabled()
    assert capfd.readouterr() == ("", "")


def test_a_copy_is_the_model_and_a_deep_copy_answers_alike(meta, adapted):
    deep = copy.deepcopy([meta, adapted])

    assert copy.copy(adapted) is adapted and adapted == adapted and adapted in {adapted}
    encoder = deep[1].objective.backbone.model
    assert encoder is deep[0].objectives["retrieval"].backbone.model
    assert encoder is not adapted.objective.backbone.model
    assert torch.equal(table(deep[1]), table(adapted))
    assert torch.equal(table(deep[0].adapt(TEXTS, LABELS)), table(meta.adapt(TEXTS, LABELS)))


def test_a_pickled_model_says_how_it_gets_to_another_process(meta, adapted):
    finder = meta.adapt_to_pairs(TEXTS, TARGETS, companion="none")
    for model in (meta, adapted, finder, replace(adapted), adapted.predict):
        with pytest.raises(PickleError, match="each process needs one of its own; call `save_pre"):
            pickle.dumps(model)


FORKED = """
import os, sys, threading
from nlp_meta.encoders.backbone import Turn

turn, taken, end = Turn(), threading.Event(), threading.Event()

def hold():
    with turn():
        taken.set()
        end.wait()

threading.Thread(target=hold).start()
taken.wait()
child = os.fork()
if not child:
    os._exit(0 if turn().acquire(timeout=5) else 1)
_, status = os.waitpid(child, 0)
end.set()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_process_waits_for_no_thread_of_its_parent():
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0


FORKED_AFTER_WORK = """
import multiprocessing, sys, torch
from nlp_meta import AdaptedModel

torch.set_num_threads(2)
model = AdaptedModel.from_pretrained(sys.argv[1])
texts = ["the food was great"] * 300

def predict():
    return model.predict(texts)[0].label

label = predict()
with multiprocessing.get_context("fork").Pool(1) as pool:
    assert pool.apply_async(predict).get(60) == label
"""


@pytest.mark.long
@pytest.mark.slow
def test_processes_use_a_model_as_the_page_says(adapted, tmp_path):
    """A worker of joblib, and one that is spawned, load it; a model itself is not sent."""
    place = tmp_path / "model"
    adapted.save_pretrained(place)
    expected = adapted.predict(TEXTS[:2])

    def answer(text: str) -> object:
        return AdaptedModel.from_pretrained(place, device="cpu").predict([text])[0]

    answers = Parallel(n_jobs=2)(delayed(answer)(text) for text in TEXTS[:2])
    assert [row.label for row in answers] == [row.label for row in expected]
    with pytest.raises(pickle.PicklingError) as caught:
        Parallel(n_jobs=2)(delayed(adapted.predict)([text]) for text in TEXTS[:2])
    assert "AdaptedModel.from_pretrained` there" in str(caught.value.__cause__)
    with pytest.raises(PickleError, match="`AdaptedModel"):
        multiprocessing.get_context("spawn").Process(target=len, args=(adapted,)).start()


@pytest.mark.slow
def test_a_fork_goes_on_with_a_model_that_its_parent_used(adapted, tmp_path):
    """The threads that computed in the parent are not in the child."""
    adapted.save_pretrained(tmp_path / "model")
    place = str(tmp_path / "model")
    command = [sys.executable, "-W", "ignore", "-c", FORKED_AFTER_WORK, place]
    assert subprocess.run(command, timeout=120, check=False).returncode == 0


def run_in_thread(call) -> torch.Tensor:
    """Give what another thread gets; a call that waits for ever fails."""
    results: list[torch.Tensor] = []
    thread = threading.Thread(target=lambda: results.append(call()), daemon=True)
    thread.start()
    thread.join(timeout=60)
    return results[0]
