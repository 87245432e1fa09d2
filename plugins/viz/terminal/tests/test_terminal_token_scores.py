"""The view of token scores says what there is to know, coloured or not."""

import re

import attrs
import numpy as np
import pytest
from ecco_terminal.palette import THEMES, Palette
from ecco_terminal.token_scores import render
from terminal_examples import TEXTS, token_scores, tokens

from ecco_core import LabelledArray, Source, Target, TargetError

SGR = re.compile(r"\x1b\[[0-9;]*m")


def bare(result, **options):
    return SGR.sub("", render(result, **{"width": 100, "colour": "truecolor", **options}))


def style_of(text, word):
    """The codes in force where `word` begins."""
    at = text.index(word)
    return text[:at].rsplit("\x1b[", 1)[1].partition("m")[0]


def test_facts_are_there():
    text = bare(token_scores())
    for fact in ("Integrated gradients", "tiny:prose", "log-probability of ' Nora'", "position 12", "= -0.5", "60.0%",
                 "completeness error -0.012", "0.30% of the change of 4", "baseline: zero embeddings", "read this",
                 "spoke against", "spoke for", "underlined: output"):  # fmt: skip
        assert fact in text


def test_last_target_is_shown_and_others_are_a_line():
    text = bare(token_scores())
    assert "⟦Nora⟧." in text
    assert re.search(r"^8 ' \[bold\]'", text, re.MULTILINE)
    other = bare(token_scores(), target=8)
    assert "⟦[bold]⟧" in other
    assert re.search(r"^12 ' Nora'", other, re.MULTILINE)


def test_many_targets_are_counted():
    texts = [f" t{i}" for i in range(60)]
    text = bare(token_scores(texts, positions=tuple(range(1, 60))))
    assert "38 earlier ones left out" in text
    assert len(re.findall(r"^\d\d ' t", text, re.MULTILINE)) == 20


def test_a_position_that_was_not_explained_is_an_error():
    with pytest.raises(TargetError, match="8, 12"):
        render(token_scores(), target=3)


def test_no_targets_and_no_tokens():
    assert "no targets" in bare(token_scores(positions=(), values=np.zeros((0, len(TEXTS)))))
    assert "⟦next⟧" in bare(token_scores((), positions=(0,), n_input_tokens=0))


def test_the_token_not_chosen_yet_is_a_ghost_at_the_end():
    assert ".␣".replace("␣", " ") + "⟦next⟧" in bare(token_scores(positions=(14,)))


def test_markup_is_plain_text():
    assert " [bold]" in bare(token_scores())
    assert "[/]x[red]" in bare(token_scores(["a", "[/]x[red]", ":smile:"], positions=(2,)))


def test_newlines_are_shown_and_broken():
    assert re.search(r"\.⏎ *\n Ask", bare(token_scores()))


def test_colours_follow_the_score():
    values = np.zeros((1, len(TEXTS)))
    values[0, 2], values[0, 4] = -2.0, 1.0
    text = render(token_scores(positions=(12,), values=values), width=100, colour="truecolor", theme="dark")
    palette = Palette("truecolor", "dark")
    for word, share in (("captain", -1.0), ("Nora.", 0.5)):
        ground = palette.score(share, signed=True).bg
        code = "48;2;" + ";".join(str(int(ground[i : i + 2], 16)) for i in (1, 3, 5))
        assert code in style_of(text[text.index("<s>") :], " " + word[:4])


def test_output_is_underlined_and_prompt_is_not():
    text = render(token_scores(), width=100, colour="truecolor")
    body = text[text.index("<s>") :]
    assert "4" not in style_of(body, "The").split(";")[:1]
    assert style_of(body, " 日本"[1:]).split(";")[0] == "4"


def test_sources_of_several_tokens_are_painted_whole():
    sources = [Source(stack="decoder", positions=(1, 2, 3), text="The captain is"),
               Source(stack="decoder", positions=(4,), text=" Nora")]  # fmt: skip
    result = token_scores(positions=(12,), sources=sources, values=np.array([[3.0, 0.1]]))
    text = render(result, width=100, colour="truecolor")
    assert "The captain is" in text[text.index("<s>") :], "one run of one colour"
    assert "1–3" in SGR.sub("", text)
    marked = SGR.sub("", render(result, width=100, colour="none"))
    assert "The captain is⁺⁺⁺ Nora." in marked


def test_without_colours_signs_tell():
    values = np.zeros((1, len(TEXTS)))
    values[0, 2], values[0, 4], values[0, 3] = -2.0, 1.0, 0.3
    text = bare(token_scores(positions=(12,), values=values), colour="none")
    assert "captain⁻⁻⁻ is⁺ Nora⁺⁺." in text
    assert "⁺⁺⁺ spoke most for it" in text
    unsigned = bare(token_scores(positions=(12,), values=abs(values), signed=False, aggregation="l2"), colour="none")
    assert "captain³ is¹ Nora²." in unsigned
    assert "scores: unsigned, L2 norm" in unsigned


def test_a_dumb_terminal_sees_where_output_begins(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    text = render(token_scores(), width=100)
    assert "‖Ask" in text
    assert "after ‖ output" in text


def test_stacks_have_their_own_blocks():
    sources = [Source(stack=s, positions=(0,), text="x") for s in ("encoder", "decoder")]
    both = {"encoder": tokens(["Bonjour", " Nora"]), "decoder": tokens(["Hello", " Nora"])}
    values = np.array([[1.0, -1.0]])
    result = token_scores(["Hello", " Nora"], positions=(1,), tokens=both, sources=sources, values=values)
    text = bare(result)
    assert re.search(r"^source text  encoder *\n Bonjour Nora", text, re.MULTILINE)
    assert re.search(r"^output  decoder *\n Hello ⟦Nora⟧", text, re.MULTILINE)
    assert "encoder 0" in text
    other = attrs.evolve(result, targets=result.targets * 2, completeness=None, change=None,
                         values=LabelledArray(np.array([[1.0, -1.0]] * 2), ("target", "source")))  # fmt: skip
    assert "← encoder 'x' +1  decoder 'x' -1" in bare(other), "which of the two texts a source is in"


def classes(names=("negative", "positive"), **fields):
    """Classes of the whole text."""
    n = len(TEXTS)
    targets = [Target(position=n, token_id=i, text=name, kind="class", value=-0.5) for i, name in enumerate(names)]
    values = np.array([[(-1) ** i * (j + 1) / n for j in range(n)] for i in range(len(names))])
    return token_scores(positions=(n,) * len(names), targets=targets, values=values, n_input_tokens=n, **fields)


def at_tokens(kind, *found):
    """Targets (position, text) of a kind, at tokens that are explained by what comes later, too."""
    targets = [Target(position=p, token_id=p if TEXTS[p] == text else 99, text=text, kind=kind) for p, text in found]
    values = np.array([[0.0 if j in (p, 13) else 0.5 for j in range(len(TEXTS))] for p, _ in found])
    return token_scores(positions=[p for p, _ in found], targets=targets, values=values, n_input_tokens=len(TEXTS))


def test_a_class_of_the_text_does_not_come_after_it():
    text = bare(classes())
    assert "explains log-probability of class 'positive' = -0.5" in text
    assert re.search(r"Nora\. *\n\nclass ⟦positive⟧\n", text)
    assert "position 14" not in text
    assert "comes later" not in text
    assert re.search(r"^'negative' logprob -0.5", text, re.MULTILINE)
    assert "option target=CLASS" in text


def test_a_class_is_chosen_by_its_name():
    assert "class ⟦negative⟧" in bare(classes(), target="negative")
    with pytest.raises(TargetError, match=r"'neutral' was not explained; .* one of: negative, positive\."):
        render(classes(), target="neutral")


def test_only_what_a_model_did_not_read_is_dim():
    grey = "38;2;" + ";".join(str(c) for c in THEMES["dark"].muted)

    def dimmed(result):
        text = render(result, width=100, colour="truecolor", theme="dark")
        assert (grey in text) == ("grey: comes later" in text)
        return grey in text

    assert dimmed(token_scores(positions=(8,)))
    assert not dimmed(token_scores(positions=(13,))), "nothing comes later"
    assert not dimmed(at_tokens("masked", (8, " cook")))
    assert not dimmed(at_tokens("class", (8, "O")))
    assert not dimmed(classes())


def test_a_masked_place_tells_what_stands_there_and_what_fills_it():
    text = bare(at_tokens("masked", (2, " captain"), (8, " cook")))
    assert "explains log-probability of ' cook' at ' [bold]', position 8" in text
    assert "2 ' captain'" in text
    other = bare(at_tokens("masked", (2, " captain"), (8, " cook")), target=2)
    assert "explains log-probability of ' captain' at masked position 2" in other
    assert "8 ' [bold]': ' cook'" in other


def test_a_class_of_a_token_names_the_token():
    text = bare(at_tokens("class", (4, "PERSON"), (8, "O")))
    assert "explains log-probability of class 'O' for ' [bold]' at position 8" in text
    assert "4 ' Nora': 'PERSON'" in text
    assert "class 'PERSON' for ' Nora'" in bare(at_tokens("class", (4, "PERSON"), (8, "O")), target=4)


def test_a_hostile_class_does_not_act():
    for colour in ("truecolor", "none"):
        assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", bare(classes(("a", "\x1b[31m\u202e\n")), colour=colour))


def test_scores_that_are_not_numbers():
    values = np.array([[np.nan, np.inf, -np.inf, 0.5] + [0.0] * (len(TEXTS) - 4)])
    text = bare(token_scores(positions=(12,), values=values))
    assert "nan" in text
    assert "inf" in text
    assert "nothing is coloured" in bare(token_scores(positions=(12,), values=np.zeros((1, len(TEXTS)))))


def test_split_characters_show_their_bytes():
    assert "<E2>€" in bare(token_scores(["a", "", "€"], positions=(2,), target_text="x", n_input_tokens=3)).replace(
        "⟦", "").replace("⟧", "")  # fmt: skip
