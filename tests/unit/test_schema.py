"""Values of a YAML file as dataclasses: what is read, and what each fault is told."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import yaml

from nlp_meta.data.schema import FieldError, YamlError, read_strict, read_yaml
from nlp_meta.errors import CardError, SettingsError


@dataclass(frozen=True, slots=True)
class Cup:
    material: str
    colors: tuple[str, ...] | str
    handle: str | None = None

    def __post_init__(self) -> None:
        if self.material == "paper" and self.handle:
            raise FieldError("handle", "holds nothing", "paper has none", "drop it")


@dataclass(frozen=True, slots=True)
class Kitchen:
    size: Literal["small", "large"]
    cups: tuple[Cup, ...]
    names: Mapping[str, str]
    price: float
    chairs: int | None
    open: bool


GOOD = {
    "size": "small",
    "cups": [{"material": "glass", "colors": ["red"]}],
    "names": {True: "yes", 2: "two"},
    "price": 1,
    "chairs": None,
    "open": True,
}


def read(changes: dict[str, Any]) -> Kitchen:
    values = {key: value for key, value in (GOOD | changes).items() if value != "nothing"}
    return read_strict(Kitchen, values, where="card 'a.md'", error=CardError, key="nlp_meta")


def test_lists_mappings_and_keys_become_what_the_fields_say():
    kitchen = read({})

    assert kitchen.cups == (Cup("glass", ("red",)),)
    assert kitchen.names == {"True": "yes", "2": "two"}
    assert (kitchen.price, kitchen.chairs) == (1.0, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": "smal"}, "`nlp_meta.size` is 'smal'; it must be one of small, large; write 'sma"),
        ({"sise": 1}, "`nlp_meta.sise` is unknown; the keys here are chairs, cups, names, open, "),
        ({"sise": 1, "size": "nothing"}, "; write `size` for it"),
        ({"zzz": 1}, "take it out"),
        ({"names": "nothing"}, "`nlp_meta.names` is missing; that key is needed; add the key"),
        ({"names": {1: 2}}, "`nlp_meta.names.1` is 2; a text is needed; write it in quotes"),
        ({"price": True}, "`nlp_meta.price` is True; a number is needed"),
        ({"price": "cheap"}, "`nlp_meta.price` is 'cheap'; a number is needed; correct it"),
        ({"chairs": "3"}, "`nlp_meta.chairs` is '3'; a whole number is needed"),
        ({"open": "no"}, "`nlp_meta.open` is 'no'; true or false is needed"),
        (
            {"cups": [{"material": 1, "colors": []}]},
            "`nlp_meta.cups[0].material` is 1; a text is needed; write",
        ),
        ({"cups": [{"matter": "x"}]}, "`nlp_meta.cups[0].matter` is unknown; the keys here are co"),
        ({"cups": [{"material": "x", "colors": 3}]}, "[0].colors` is 3; a list or a text is nee"),
        (
            {"cups": [{"material": "x", "colors": [3]}]},
            "`nlp_meta.cups[0].colors[0]` is 3; a text ",
        ),
        ({"cups": [3]}, "`nlp_meta.cups[0]` is 3; a mapping is needed"),
        (
            {"cups": [{"material": "paper", "colors": [], "handle": "round"}]},
            "`nlp_meta.cups[0].handle` holds nothing; paper has none; drop it",
        ),
    ],
)
def test_fault_names_full_key_value_and_remedy(changes, message):
    with pytest.raises(CardError) as caught:
        read(changes)

    assert str(caught.value).startswith("cannot use card 'a.md': key `")
    assert message in str(caught.value)


def test_what_is_no_mapping_at_all_is_refused():
    with pytest.raises(
        SettingsError, match=r"cannot use config 'b': it is \[1\]; a mapping is nee"
    ):
        read_strict(Kitchen, [1], where="config 'b'", error=SettingsError)


@pytest.mark.parametrize(
    ("written", "remedy"), [("1e-3", "0.001 or 1.0e-3"), ("2.5e4", "25000.0 or 2.5e+4")]
)
def test_number_that_yaml_takes_for_a_text_is_answered_with_one_that_it_reads(written, remedy):
    """PyYAML is the other route: it reads both spellings of the remedy as the number."""
    with pytest.raises(CardError, match="YAML takes it for a text") as caught:
        read({"price": written})

    assert str(caught.value).endswith(f"write {remedy}")
    assert {yaml.safe_load(spelling) for spelling in remedy.split(" or ")} == {float(written)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2024-13-45\n", r"line 2: '2024-13-45' is no date"),
        ("a: !!int x\n", r"line 1: 'x' is no whole number"),
        ("a: !!float x\n", r"line 1: 'x' is no number"),
        ("a: !!bool x\n", r"line 1: 'x' is no bool"),
        ("a: !!timestamp x\n", r"line 1: 'x' is no date"),
        ("a: !!int ''\n", r"line 1: '' is no whole number"),
        (f"\na: {'9' * 5000}\n", r"line 2: a value of 5000 characters is no text"),
        (f"a: {':'.join(['59'] * 5000)}\n", r"a value of 14999 characters is no text"),
        ("a: 1\nb: 2\na: 3\n", r"line 3: the key 'a' is there twice"),
        ("1: a\n'1': b\n", r"line 2: the key '1' is there twice"),
        ("x: 1\n[1, 2]: a\n", r"line 2: a key is no text"),
        ("? {a: b}\n: c\n", r"line 1: a key is no text"),
        ("a:\n\t- b\n", r"line 2: found character '\\t' that cannot start any token"),
        ("a: 1\nb: \x00\n", r"line 2: a character is not allowed"),
        ("a: !!python/object/apply:os.system [ls]\n", r"line 1: could not determine a constructor"),
        ("[" * 200, r"line 1: it is nested more than 50 deep"),
        ("- " * 200, r"line 1: it is nested more than 50 deep"),
        ("a: &a [*a]\n", r"line 1: with what its aliases repeat"),
        ("a: *b\n", r"line 1: found undefined alias"),
        ("a: 1\n--- \nb: 2\n", r"line 2: but found another document"),
        ("a: 'b\n", r"found unexpected end of stream"),
    ],
)
def test_what_is_no_plain_yaml_is_named_with_its_line(text, message):
    with pytest.raises(YamlError, match=message) as caught:
        read_yaml(text)

    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_aliases_that_stand_for_millions_of_values_stop():
    """Nine lists of nine aliases each are 9 ** 9 values."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]

    with pytest.raises(YamlError, match="more than 100,000 values"):
        read_yaml("\n".join(lines))


def test_plain_yaml_means_what_pyyaml_says():
    text = "\ufeffa: &a [1, 2.5, null, true, 2024-01-01]\nb: *a\nc: {<<: {x: 1}, y: 'z'}\n"

    assert read_yaml(text) == yaml.safe_load(text)
    assert read_yaml("") is None


def test_a_long_value_is_not_all_shown():
    with pytest.raises(CardError) as caught:
        read({"open": "x" * 9000})

    assert len(str(caught.value)) < 300
