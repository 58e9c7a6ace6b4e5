"""Placeholders: what counts as one, and which ones a translation lost."""

import pytest

from nlp_meta.files.placeholders import (
    PlaceholderLoss,
    find_losses,
    find_placeholders,
    lost_placeholders,
)

ICU = ["{count,number}", "{0,date,short}", "{0,number,#.##}"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Hello %s", ["%s"]),
        ("%(name)s has %(count)d files", ["%(name)s", "%(count)d"]),
        ("%1$s of %2$d, %-5.2f, %ld", ["%1$s", "%2$d", "%-5.2f", "%ld"]),
        ("%ds ago", ["%d"]),
        ("%S is Mozilla's", ["%S"]),
        (
            "{0} and {name} and {} and {price:.2f} and {x!r}",
            "{0} {name} {} {price:.2f} {x!r}".split(),
        ),
        ("{ $count } tabs in { -brand }", ["{$count}", "{-brand}"]),
        ("{ name } and { user.name } and {{ x }}", ["{name}", "{user.name}", "{{x}}"]),
        ("{name:{width}} {0:{a}.{b}f}", ["{name:{width}}", "{0:{a}.{b}f}"]),
        ("%I64d of %I32u", ["%I64d", "%I32u"]),
        ("<0>go</0> <1/> <12 />", ["<0>", "</0>", "<1/>", "<12/>"]),
        ("{count,number} {0, date, short} {0,number,#.##}", ICU),
        ("{n, plural, =0 {no} one {# item} other {# items}} of %s", ["{n,plural,", "%s"]),
        ("{g, select, male {he} other {they}} {x}", ["{g,select,", "{x}"]),
        ("{0,choice,0#no files|1#one file|1<{0,number} files}", ["{0,choice,", "{0,number}"]),
        ("{{user}} and {{{raw}}}", ["{{user}}", "{{{raw}}}"]),
        ("${HOME} and %{ruby}", ["${HOME}", "%{ruby}"]),
        (
            "<a href=\"x\" id='1' rel=no>go</a><br />",
            ["<a href=\"x\" id='1' rel=no>", "</a>", "<br/>"],
        ),
        ('<x id="1"/><g id="2">bold</g>', ['<x id="1"/>', '<g id="2">', "</g>"]),
        ("R&amp;D &#8230; &#x41;", ["&amp;", "&#8230;", "&#x41;"]),
        (r"first\nsecond\t", [r"\n", r"\t"]),
    ],
)
def test_placeholders_of_every_kind_are_found_in_order(text, found):
    assert find_placeholders(text) == tuple(found)


@pytest.mark.parametrize(
    "text",
    [
        "50% discount, 100% sure, 40%ukhwa, 20 %-gui",
        "<<La voix des consommateurs>> { nadie sabe } { ñandú } { 7 }",
        "100%% sure, %%s",
        "a < b > c, I <3 you, 1 <2 and 3> 2",
        "AT&T, R&D, {not a name at all}",
        "set {1, 2}, {a, b}, { }, {time, and place}, {this, number one}",
        "one\nnew line",
    ],
)
def test_plain_text_has_none(text):
    assert find_placeholders(text) == ()


def test_addresses_count_where_they_are_asked_for():
    text = "See https://example.org/a?b=1, or write to help@example.org."

    assert find_placeholders(text) == ()
    assert find_placeholders(text, links=True) == ("https://example.org/a?b=1", "help@example.org")


@pytest.mark.parametrize(
    ("source", "target", "lost", "added"),
    [
        ("%s of %s", "%s dari %s", (), ()),
        ("%1$s of %2$s", "%2$s: %1$s", (), ()),
        ("%s of %s", "semua %s", ("%s",), ()),
        ("Hello {name}", "Halo {nama}", ("{name}",), ("{nama}",)),
        ("<b>Now</b>", "<b>Sekarang", ("</b>",), ()),
        ("line<br/>", "baris<br />", (), ()),
        ("Now", "Sekarang %d", (), ("%d",)),
        ("{ name }", "{name}", (), ()),
        ("<0>Now</0>", "<0>Sekarang", ("</0>",), ()),
        (
            "{n, plural, one {{who} has # item} other {{who} has # items}}",
            "{n,plural,other{{who} punya #}}",
            (),
            (),
        ),
        (
            "{n, plural, one {<b>{a}</b>} other {{m, select, x {{b} y} other {}}}} {a}",
            "{n, plural, other {<b>{a}}}",
            ("{a}", "</b>", "{m,select,", "{b}"),
            (),
        ),
        ("{n, plural, one {a}", "{n, plural, satu {b}", ("{a}",), ("{b}",)),
    ],
)
def test_lost_and_added_placeholders_are_counted(source, target, lost, added):
    assert lost_placeholders(source, target) == (lost, added)


def test_losses_are_reported_with_their_lines():
    pairs = [(3, "Hello %s", "Halo %s"), (7, "Hello %s", "Halo")]

    assert find_losses(pairs) == (PlaceholderLoss(7, ("%s",), ()),)


@pytest.mark.parametrize("text", ["%" + "0" * 50_000, "&" + "a" * 50_000, "%" + "-1" * 50_000])
def test_no_text_takes_long(text):
    """Unbounded repetition took minutes for each of these; pytest would be seen to hang."""
    assert find_placeholders(text) == find_placeholders(text, links=True) == ()


@pytest.mark.parametrize("end", ["", "}}" * 20_000])
def test_no_nesting_takes_long(end):
    assert len(find_placeholders("{n,plural,x{" * 20_000 + end)) > 0
    assert find_placeholders("{a:{" * 20_000 + "{ " * 20_000) == ()
