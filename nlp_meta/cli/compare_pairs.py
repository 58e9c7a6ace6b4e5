"""`nlp-meta compare` with languages: every method on draws of a user's own sentence pairs."""

from argparse import Namespace
from collections.abc import Mapping

from nlp_meta.cli.adapt_pairs import check_languages
from nlp_meta.cli.compare import show_compared, show_comparing, wanted_of
from nlp_meta.cli.files import Data
from nlp_meta.cli.screen import Screen
from nlp_meta.files.memories import Memory, describe_memory, read_memory, record_memory
from nlp_meta.progress import quiet_libraries


def run_compare_pairs(options: Namespace, screen: Screen) -> Mapping[str, object]:
    """Compare, write the report, and show the scores."""
    check_languages(options)
    memory = _read(options, options.data)
    test = None if options.test_data is None else _read(options, options.test_data)
    with quiet_libraries(), show_comparing(screen) as on_cell:
        from nlp_meta.comparing.own_tables import compare_pairs

        answer = compare_pairs(
            wanted_of(options, metric=options.metric or ""),
            memory,
            test,
            languages=(options.source_lang, options.target_lang),
            folder=options.output_dir,
            on_cell=on_cell,
        )
    found = {"data": memory} | ({} if test is None else {"test data": test})
    facts = {
        f"{name}: {word}": said
        for name, one in found.items()
        for word, said in describe_memory(one).items()
    }
    told = show_compared(answer, options, screen, word="pairs", facts=facts)
    return {**told, **{name.replace(" ", "_"): record_memory(one) for name, one in found.items()}}


def _read(options: Namespace, data: Data) -> Memory:
    return read_memory(
        data,
        source_column=options.source_column,
        target_column=options.target_column,
        source_lang=options.source_lang,
        target_lang=options.target_lang,
    )
