"""A small encoder-decoder, from nothing to a folder that transformers loads, with its card.

It is for machines without a hub and for tests: about ten million weights that have seen
a few ten thousand sentence pairs. Its vocabulary and its model are built as the config
describes them. Its training on all meta-train pairs together is also where meta-training
begins. The card says plainly what it scores.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, PreTrainedModel, PreTrainedTokenizerBase

from nlp_meta.data.answers import Translation
from nlp_meta.data.cards import find_card, load_card
from nlp_meta.data.episodes import GENERATION, Episode
from nlp_meta.data.languages import split_pair
from nlp_meta.data.tasks import Example, Task
from nlp_meta.encoders.backbone import choose_autocast, load_network, load_tokenizer, reading
from nlp_meta.encoders.batches import PairBatch, PairRow, stack_pairs
from nlp_meta.encoders.seq2seq import Seq2Seq, read_languages
from nlp_meta.errors import DivergedError, SettingsError
from nlp_meta.evaluation.metrics import chrf, signature_of
from nlp_meta.files.outputs import CARD, RUN_LOG, Layout, write_folder
from nlp_meta.hub.pull import TRAINING
from nlp_meta.meta.inner_loop import repeat
from nlp_meta.meta.outer_loop import OuterLoop, build_optimizer, clip, is_due, is_over, rate_at
from nlp_meta.meta.state import (
    CHECKPOINTS,
    Fingerprint,
    Progress,
    StepRecord,
    begin_log,
    hold_run,
    load_checkpoint,
    save_checkpoint,
    stop_signals,
    write_log,
)
from nlp_meta.objectives.generation import Generation, build_generation, token_losses
from nlp_meta.settings import SmallModelSettings, SmallTraining, fingerprint
from nlp_meta.training.plan import plan_outer_loop
from nlp_meta.training.run import check_run_output, hash_rows, with_trackers
from nlp_meta.training.small_corpus import (
    Pair,
    deal_batches,
    encode_corpus,
    encode_pairs,
    gather_pairs,
    target_languages,
)
from nlp_meta.training.small_seq2seq import (
    build_around_encoder,
    build_marian,
    save_marian_vocabulary,
    save_trimmed_vocabulary,
    tag_of,
)


def save_vocabulary(
    settings: SmallTraining, folder: Path, pairs: Sequence[Pair], languages: Sequence[str]
) -> None:
    """Make the tokenizer of a run from the texts that it trains on, and keep it in a folder.

    A run that goes on from an earlier model keeps that one's.

    Raises:
        SettingsError: The earlier model has no tag for a language of the pairs.
    """
    if settings.run.init_from is not None:
        _keep_vocabulary(settings.run.init_from, folder, languages)
        return
    texts = _texts(pairs)
    small = settings.small_model
    if small.encoder_init is None:
        save_marian_vocabulary(
            folder, texts, languages=languages, size=small.vocabulary, max_tokens=small.max_tokens
        )
    else:
        save_trimmed_vocabulary(
            folder,
            texts,
            encoder=small.encoder_init,
            languages=languages,
            size=small.vocabulary,
            max_tokens=small.max_tokens,
        )


def _keep_vocabulary(earlier: str, folder: Path, languages: Sequence[str]) -> None:
    with reading(f"the tokenizer of '{earlier}'", setting="`run.init_from`"):
        tokenizer = load_tokenizer(earlier)
    known = tokenizer.get_vocab().keys()
    missing = [language for language in languages if tag_of(language) not in known]
    if missing:
        raise SettingsError(
            f"cannot go on from '{earlier}': it has no tag for {', '.join(missing)}, and one for "
            "every language of the pairs is needed; change `run.init_from`, or set it to null"
        )
    tokenizer.save_pretrained(folder)


def _texts(pairs: Sequence[Pair]) -> list[str]:
    return list(dict.fromkeys(text for pair in pairs for text in (pair.source, pair.target)))


def build_backbone(settings: SmallTraining, folder: Path, device: torch.device) -> Seq2Seq:
    """Begin with the model of a run: its kept tokenizer and the weights before any step."""
    with reading(f"the tokenizer in '{folder}'", setting="`run.output_dir`"):
        tokenizer = load_tokenizer(str(folder))
    small, seed = settings.small_model, settings.run.seed
    if settings.run.init_from is not None:
        with reading(f"the model '{settings.run.init_from}'", setting="`run.init_from`"):
            model: PreTrainedModel = load_network(
                AutoModelForSeq2SeqLM, settings.run.init_from, dtype=torch.float32
            )
    else:
        model = _build_model(small, tokenizer, seed=seed)
    model.to(device)  # type: ignore[arg-type]  # transformers wraps it without its types
    name, begin = settings.run.output_dir, int(model.config.decoder_start_token_id)
    languages = read_languages(model.config, tokenizer, name=name, begin=begin)
    return Seq2Seq(model.eval(), tokenizer, name, languages, small.max_tokens)


def _build_model(
    small: SmallModelSettings, tokenizer: PreTrainedTokenizerBase, *, seed: int
) -> PreTrainedModel:
    if small.encoder_init is not None:
        return build_around_encoder(
            small.encoder_init,
            tokenizer,
            encoder_layers=small.encoder_layers,
            decoder_layers=small.decoder_layers,
            dropout=small.dropout,
            seed=seed,
        )
    return build_marian(
        tokenizer,
        hidden=small.hidden,
        encoder_layers=small.encoder_layers,
        decoder_layers=small.decoder_layers,
        attention_heads=small.attention_heads,
        feed_forward=small.feed_forward,
        dropout=small.dropout,
        max_tokens=small.max_tokens,
        seed=seed,
    )


VOCABULARY = f"{CHECKPOINTS}/vocabulary"
"""Where a run keeps its tokenizer, so that a resumed one has the same."""
LAYOUT = Layout(what="the model", record=TRAINING, names=("config.json", CARD), run=(RUN_LOG,))
_KEPT = Layout(what="the vocabulary", record="written.json")


@dataclass(frozen=True, slots=True)
class SmallTrained:
    """The end of a training.

    Attributes:
        backbone: The best judged model; the last where nothing was judged.
        held_out: Pairs that it did not learn from.
        loss: Of the held-out pairs, in nats a token, at the best judgement.
        pairs: That the model learned from, each in one direction.
        interrupted: Stopped by a signal; a checkpoint holds the state.
    """

    backbone: Seq2Seq
    held_out: Sequence[Pair]
    pairs: int
    step: int
    best_step: int
    loss: float | None
    interrupted: bool


@dataclass(frozen=True, slots=True)
class _Run:
    """A training that has begun.

    Attributes:
        moving: The parameters themselves; `progress` holds views of them.
        judged: Held-out pairs, in batches.
    """

    settings: SmallTraining
    accelerator: Accelerator
    outer: OuterLoop
    backbone: Seq2Seq
    moving: dict[str, torch.nn.Parameter]
    progress: Progress
    fingerprint: Fingerprint
    judged: Sequence[PairBatch]
    autocast: torch.dtype | None


def train_small_model(
    settings: SmallTraining,
    train: Sequence[Task],
    *,
    accelerator: Accelerator,
    on_step: Callable[[StepRecord], None] | None = None,
) -> SmallTrained:
    """Build the vocabulary and the model of a config and train them on all pairs together.

    Every process deals itself its share of each step's batches, so that two processes
    make the same steps as one.

    Raises:
        CheckpointError: There is nothing to resume from, or it is of another run.
        DivergedError: The gradient is infinite or not a number.
        OutputError: `run.output_dir` holds what would be lost, or the disk takes no more.
    """
    check_run_output(settings.run, LAYOUT)
    corpus, seed = settings.corpus, settings.run.seed
    pairs, held_out = gather_pairs(train, held_out=corpus.held_out, seed=seed)
    same = {**fingerprint(settings), **hash_rows(train)}
    options, folder = settings.run, Path(settings.run.output_dir)
    hold = partial(hold_run, folder, resume=options.resume, replace=options.replace)
    with hold() if accelerator.is_main_process else nullcontext():
        run = _begin(settings, same, pairs, held_out, accelerator)
        interrupted = _train(run, pairs, on_step)
    progress = run.progress
    _put(run, progress.best or progress.current)
    loss = None if progress.best_score is None else -progress.best_score
    ended = (progress.step, progress.best_step, loss, interrupted)
    return SmallTrained(run.backbone, held_out, len(pairs), *ended)


def _train(run: _Run, pairs: Sequence[Pair], on_step: Callable[[StepRecord], None] | None) -> bool:
    """Take the steps that are left; whether a signal ended them."""
    settings, accelerator, corpus = run.settings, run.accelerator, run.settings.corpus
    interrupted = False
    rows = deal_batches(
        encode_corpus(run.backbone, pairs, both_directions=corpus.both_directions),
        copies=corpus.copies,
        undetermined=corpus.undetermined,
        tokens=settings.run.batch_tokens,
        seed=settings.run.seed,
        after=run.progress.step * run.outer.meta_batch_size,
    )
    report = with_trackers(accelerator, on_step)
    with stop_signals() as stopped:
        while not interrupted and not is_over(run.progress, run.outer):
            batches = [next(rows) for _ in range(run.outer.meta_batch_size)]
            record = _judged_step(run, batches)
            interrupted = _any_process(stopped.is_set(), accelerator)
            _keep(run, record, interrupted=interrupted)
            report(record)
    return interrupted


def _begin(
    settings: SmallTraining,
    same: Fingerprint,
    pairs: Sequence[Pair],
    held_out: Sequence[Pair],
    accelerator: Accelerator,
) -> _Run:
    languages = target_languages(pairs, both_directions=settings.corpus.both_directions)
    folder = Path(settings.run.output_dir)
    if accelerator.is_main_process and not settings.run.resume:
        begin_log(folder, after=0)
        with write_folder(folder / VOCABULARY, _KEPT, replace=True) as draft:
            save_vocabulary(settings, draft.path, pairs, languages)
    accelerator.wait_for_everyone()
    backbone = build_backbone(settings, folder / VOCABULARY, accelerator.device)
    outer = plan_outer_loop(settings.outer)
    moving = {n: value for n, value in backbone.model.named_parameters() if value.requires_grad}
    views = {name: value.detach() for name, value in moving.items()}
    progress = Progress(views, build_optimizer(moving, outer))
    if settings.run.resume:
        progress.restore(load_checkpoint(folder / CHECKPOINTS), same)
    if accelerator.is_main_process:
        begin_log(folder, after=progress.step)
    judged = _stack(settings, backbone, encode_pairs(backbone, held_out))
    autocast = choose_autocast(settings.run.mixed_precision, accelerator.device)
    return _Run(settings, accelerator, outer, backbone, moving, progress, same, judged, autocast)


def _stack(settings: SmallTraining, backbone: Seq2Seq, rows: Sequence[PairRow]) -> list[PairBatch]:
    return stack_pairs(
        [rows], padding=backbone.padding, tokens=settings.run.batch_tokens, device=backbone.device
    )


def _judged_step(run: _Run, batches: Sequence[Sequence[PairRow]]) -> StepRecord:
    """One step, judged on the held-out pairs where that is due."""
    began = time.monotonic()
    progress, outer = run.progress, run.outer
    loss, norm = _step(run, batches)
    if progress.step > outer.steps - outer.average_last:
        progress.average()
    score = None
    if run.judged and is_due(progress.step, outer.validate_every, outer):
        score = -_judge(run)
        progress.judge(score)
    return StepRecord(
        step=progress.step,
        examples=progress.examples,
        learning_rate=rate_at(progress.step, outer),
        loss_before=loss,
        loss_after=loss,
        adaptation_size=0.0,
        gradient_norm=norm,
        skills={GENERATION: {"loss_before": loss, "loss_after": loss}},
        score=score,
        best_score=progress.best_score,
        seconds=time.monotonic() - began,
    )


def _step(run: _Run, batches: Sequence[Sequence[PairRow]]) -> tuple[float, float]:
    """Move along the mean gradient of all target tokens of a step; its loss and its length."""
    progress, accelerator = run.progress, run.accelerator
    tokens = sum(len(row.target) for rows in batches for row in rows)
    total = torch.zeros((), device=accelerator.device)
    run.backbone.model.train()
    mine = range(accelerator.process_index, len(batches), accelerator.num_processes)
    for place in mine:
        # Dropout is a function of the seed and of the batch's number, whoever computes it.
        with torch.random.fork_rng():
            torch.manual_seed(hash((run.settings.run.seed, progress.step, place)))
            for piece in _stack(run.settings, run.backbone, batches[place]):
                loss = _loss(run, piece) / tokens
                loss.backward()  # type: ignore[no-untyped-call]
                total += loss.detach()
    run.backbone.model.eval()
    gradient = {n: _gradient(value, accelerator) for n, value in run.moving.items()}
    clipped, norm = clip(gradient, longest=run.outer.max_gradient_norm)
    progress.step += 1
    progress.examples += sum(len(rows) for rows in batches)
    _check_finite(norm, progress.step)
    for group in progress.optimizer.param_groups:
        group["lr"] = rate_at(progress.step, run.outer)
    for name, value in run.moving.items():
        value.grad = clipped[name]
    progress.optimizer.step()
    progress.optimizer.zero_grad()
    return float(accelerator.reduce(total, reduction="sum")), norm


def _gradient(value: torch.nn.Parameter, accelerator: Accelerator) -> Tensor:
    gradient = torch.zeros_like(value) if value.grad is None else value.grad
    summed: Tensor = accelerator.reduce(gradient, reduction="sum")
    return summed


def _loss(run: _Run, batch: PairBatch) -> Tensor:
    """Sum over the target tokens of a batch, in nats."""
    model, smoothing = run.backbone.model, 0.0
    if model.training:
        smoothing = run.settings.corpus.label_smoothing
    device, on = run.accelerator.device.type, run.autocast is not None
    with torch.autocast(device, dtype=run.autocast, enabled=on):
        losses = token_losses(model, batch, padding=run.backbone.padding, label_smoothing=smoothing)
    return losses.sum()


@torch.no_grad()
def _judge(run: _Run) -> float:
    """Loss of the held-out pairs, in nats a token, at what the run has found so far."""
    moving = {name: value.clone() for name, value in run.progress.meta_parameters.items()}
    _put(run, run.progress.current)
    tokens = sum(int((batch.labels >= 0).sum()) for batch in run.judged)
    loss = sum(float(_loss(run, batch)) for batch in run.judged) / tokens
    _put(run, moving)
    return loss


def _put(run: _Run, weights: dict[str, Tensor]) -> None:
    for name, view in run.progress.meta_parameters.items():
        view.copy_(weights[name])


def _any_process(stopped: bool, accelerator: Accelerator) -> bool:
    flag = torch.tensor(float(stopped), device=accelerator.device)
    return float(accelerator.reduce(flag, reduction="sum")) > 0


def _keep(run: _Run, record: StepRecord, *, interrupted: bool) -> None:
    """Log a step, and leave a checkpoint where one is due or a signal came."""
    if not run.accelerator.is_main_process:
        return
    folder = Path(run.settings.run.output_dir)
    write_log(folder, record)
    if interrupted or is_due(record.step, run.outer.checkpoint_every, run.outer):
        first = record.step <= run.outer.checkpoint_every and not run.settings.run.resume
        checkpoint = run.progress.checkpoint(run.fingerprint)
        save_checkpoint(folder / CHECKPOINTS, checkpoint, first=first)


def _check_finite(norm: float, step: int) -> None:
    if norm != norm or norm == float("inf"):
        raise DivergedError(
            f"cannot take step {step}: the gradient's length is {norm} and a finite one is "
            "needed; lower `outer.learning_rate` or set `outer.max_gradient_norm`"
        )


JUDGED_PAIRS = 40
"""Pairs of one direction that are translated for the card."""

_CARD = """\
---
library_name: transformers
pipeline_tag: translation
tags: [nlp-meta]
license: other
---

# A small encoder-decoder for low-resource languages

**This model is small and it translates badly.** It has {weights:.1f} million weights and has seen
{pairs} sentence pairs, nothing else: no pretrained weights{start}. It is for machines without a
hub, for tests, and as the start that `nlp-meta` adapts to a new pair of languages from a few
dozen sentences. Do not publish its translations unread.

What it scores, by chrF++ ({signature}), translating greedily, {count} pairs at most a direction:

{scores}

The loss of the {held_out} held-out pairs is {loss} nats a token. Pairs of the meta-validation
tasks are in languages that it has never seen; it is told `>>und<<` there, as for any new language.

Languages that it writes: {languages}.
The pairs are of {cards}.
"""


@dataclass(frozen=True, slots=True)
class Score:
    """chrF++ of one direction; `seen` where the model has learned from other pairs of it."""

    name: str
    language: str
    seen: bool
    pairs: int
    chrf: float


def score_small_model(
    trained: SmallTrained, validation: Sequence[Task], settings: SmallTraining
) -> list[Score]:
    """Translate held-out pairs of every direction, and pairs of the meta-validation tasks."""
    objective = _objective(trained.backbone, settings)
    groups: dict[str, list[Pair]] = {}
    for pair in trained.held_out:
        groups.setdefault(pair.language, []).append(pair)
    scores = [
        _score(objective, language, [Example(p.source, p.target) for p in pairs], language)
        for language, pairs in sorted(groups.items())
    ]
    return scores + [
        replace(_score(objective, task.name, task.test or task.train, task.language), seen=False)
        for task in validation
    ]


def save_small_model(
    folder: Path, trained: SmallTrained, settings: SmallTraining, scores: Sequence[Score]
) -> None:
    """Write the model, its tokenizer, what it was made of and its card; all of it or nothing."""
    stored_settings = asdict(replace(settings, data=replace(settings.data, root=None)))
    del stored_settings["run"]
    with write_folder(folder, LAYOUT, replace=settings.run.replace) as draft:
        trained.backbone.model.save_pretrained(str(draft.path))
        trained.backbone.tokenizer.save_pretrained(str(draft.path))
        card = write_card(trained, settings, scores)
        (draft.path / CARD).write_text(card, encoding="utf-8")
        draft.record = {
            "settings": stored_settings,
            "seed": settings.run.seed,
            "steps": trained.step,
            "best_step": trained.best_step,
            "held_out_loss": trained.loss,
            "pairs": trained.pairs,
            "scores": [asdict(score) for score in scores],
        }


def write_card(trained: SmallTrained, settings: SmallTraining, scores: Sequence[Score]) -> str:
    """The model card: what the model is, that it is small, and what it scores."""
    small, backbone = settings.small_model, trained.backbone
    rows = [
        f"| {score.name} | {score.language} | {'yes' if score.seen else 'no'} | {score.pairs} | "
        f"{score.chrf:.1f} |"
        for score in scores
    ]
    head = ["| | direction | seen in training | pairs | chrF++ |", "| --- " * 5 + "|"]
    loss = "not measured" if trained.loss is None else f"{trained.loss:.3f}"
    start = f" but those of the encoder {small.encoder_init}" if small.encoder_init else ""
    return _CARD.format(
        weights=sum(value.numel() for value in backbone.model.parameters()) / 1e6,
        pairs=trained.pairs,
        start=start,
        signature=signature_of("chrf", ""),
        count=JUDGED_PAIRS,
        scores="\n".join([*head, *rows]) if rows else "not measured",
        held_out=len(trained.held_out),
        loss=loss,
        languages=", ".join(sorted(map(str, backbone.languages.known))),
        cards=", ".join(f"{name} ({license})" for name, license in _licenses(settings).items()),
    )


def _licenses(settings: SmallTraining) -> Mapping[str, str]:
    cards = [load_card(find_card(card)) for card in settings.data.cards]
    return {card.name: card.license for card in cards}


def _objective(backbone: Seq2Seq, settings: SmallTraining) -> Generation:
    """A search with the model as it is: an adapter that has not moved changes nothing."""
    return build_generation(
        backbone,
        lora_r=1,
        lora_alpha=1.0,
        lora_sides="encoder",
        lora_layers=1,
        lora_target_modules=None,
        label_smoothing=0.0,
        num_beams=1,
        autocast=None,
        batch_tokens=settings.run.batch_tokens,
    )


def _score(objective: Generation, name: str, examples: Sequence[Example], language: str) -> Score:
    episode = Episode(
        name, (), (), tuple(examples[:JUDGED_PAIRS]), 0, skill=GENERATION, language=language
    )
    weights = repeat(objective.meta_parameters(torch.Generator().manual_seed(0)), tasks=1)
    answers: list[Translation] = objective.answer(
        weights, objective.query_batches([episode]), [episode]
    )[0]
    _, target = split_pair(language)
    score = chrf([example.target for example in episode.query], answers, (target,))
    return Score(name, language, True, len(answers), score)
