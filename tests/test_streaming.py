"""An answer shown while it is generated, in a pipe, a terminal and a real notebook kernel: what is seen, and when."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import time

import pytest
import torch
from hypothesis import given, settings, strategies as st

import ecco_core as ecco
from ecco_core.data.shown import visible
from ecco_core.session.streaming import Streamer


class Watched(io.StringIO):
    """Standard output that knows what it held at each flush."""

    def __init__(self):
        super().__init__()
        self.states = []

    def flush(self):
        self.states.append(self.getvalue())


def streamed(lm, *arguments, **options):
    """The run, and the output at each flush."""
    out = Watched()
    with contextlib.redirect_stdout(out):
        run = lm.generate(*arguments, stream=True, **options)
    return run, out.states


def shown(text):
    """As it is to be read in a terminal: lines stay lines, other characters that act are escaped."""
    return "\n".join(visible(line) for line in text.split("\n"))


def hand_over(lm, prompt, answer):
    """Stream ids that the model did not choose, one by one as transformers does; every one is due."""
    options, out = {}, Watched()
    streamer = Streamer(lm, [prompt], options, True)
    with contextlib.redirect_stdout(out), contextlib.closing(options["streamer"]):
        streamer.put(torch.tensor([prompt]))
        for token in answer:
            streamer._due = 0.0
            streamer.put(torch.tensor([token]))
        streamer.end()
    return out.states


@pytest.fixture(scope="module")
def prose():
    return ecco.from_pretrained("tiny:prose")


def test_text_appears_as_it_is_generated_and_is_the_output(prose):
    plain = prose.generate("The captain is called Nora.", 30)
    run, states = streamed(prose, "The captain is called Nora.", 30)
    assert run.ids.tolist() == plain.ids.tolist()
    assert states[-1] == run.output_text + "\n"
    assert len(set(states)) > 3
    assert all(states[-1].startswith(state) for state in states)


@pytest.mark.parametrize(
    "options", [{"do_sample": True, "seed": 3, "temperature": 3.0}, {"top_k": 5, "do_sample": True, "seed": 1}]
)
def test_sampled_text_is_streamed_too(prose, options):
    run, states = streamed(prose, "The cook", 20, **options)
    assert states[-1] == shown(run.output_text) + "\n"
    assert run.ids.tolist() == prose.generate("The cook", 20, **options).ids.tolist()


def test_an_encoder_decoder_streams_its_answer_without_the_start():
    lm = ecco.from_pretrained("tiny:seq2seq")
    run, states = streamed(lm, "Nora is the cook.", 10)
    assert states[-1] == run.output_text + "\n"
    assert "Nora" not in states[-1]


def test_a_chat_is_streamed_without_its_template(gpt2):
    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}[assistant] "
    before, gpt2.tokenizer.chat_template = gpt2.tokenizer.chat_template, template
    try:
        run, states = streamed(gpt2, [{"role": "user", "content": "Hello"}], 8)
    finally:
        gpt2.tokenizer.chat_template = before
    assert run.transcript.explained.text.startswith("[user] Hello[assistant] ")
    assert states[-1] == shown(run.output_text) + "\n"


HOSTILE = [
    "\x1b[2J\x1b[1;1Hgone",
    "a\rb\x07",
    "שלום \u202e drawkcab",
    "👩‍👩‍👧‍👦 日本語",
    "one\n\ntwo\t",
    "<script>alert(1)</script>",
    "\ufffd",
    "⏎",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_characters_that_act_are_made_visible_and_none_is_shown_in_half(gpt2, text):
    prompt, answer = (gpt2.tokenizer(t)["input_ids"] for t in ("The", text))
    states = hand_over(gpt2, prompt, answer)
    assert states[-1] == shown(text) + "\n"
    assert all(text == "\ufffd" or "\ufffd" not in state for state in states)
    assert not {c for c in states[-1] if ord(c) < 32} - {"\n"}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 319), min_size=1, max_size=30))
def test_any_tokens_stream_to_the_text_of_the_run(gpt2, answer):
    """Random bytes are mostly no characters at all."""
    answer = [token % len(gpt2.tokenizer) for token in answer]
    states = hand_over(gpt2, [1, 2, 3], answer)
    assert states[-1] == shown(gpt2._run([1, 2, 3], answer).output_text) + "\n"
    assert all(states[-1].startswith(state) for state in states[:-1])


@pytest.fixture(scope="module")
def bytewise():
    """A random model whose tokenizer falls back to bytes, where one stray byte undoes the characters before it."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    vocabulary = {piece: n for n, piece in enumerate(["<unk>", *(f"<0x{b:02X}>" for b in range(256)), "▁a"])}
    backend = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>"))
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    config = GPT2Config(vocab_size=len(vocabulary), n_embd=8, n_layer=1, n_head=1, n_positions=64)
    return ecco.from_pretrained((GPT2LMHeadModel(config), PreTrainedTokenizerFast(tokenizer_object=backend)))


def test_tokens_that_end_in_no_character_are_not_read_each_time(gpt2):
    half, reads = gpt2.tokenizer("日")["input_ids"][0], []
    streamer = Streamer(gpt2, [[1]], {}, True)
    read = streamer._run_of
    streamer._run_of = lambda ids: (reads.append(len(ids)), read(ids))[1]
    started = time.monotonic()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.closing(streamer):
        for _ in range(400):
            streamer.put(torch.tensor([half]))
    assert len(reads) < 100
    assert time.monotonic() - started < 5


def test_a_notebook_gets_a_display_before_it_is_updated(gpt2, monkeypatch):
    half, whole = gpt2.tokenizer("日")["input_ids"][:1], gpt2.tokenizer("a")["input_ids"]
    seen = []
    monkeypatch.setattr("ecco_core.rendering.in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda run, display_id, update: seen.append((display_id, update)))
    streamer = Streamer(gpt2, [half], {}, True)
    for ids in (half, whole, whole):  # a prompt that ends in half of a character
        streamer._due = 1e-9 * bool(streamer._due)
        streamer.put(torch.tensor(ids))
    streamer.close()
    assert [update for _, update in seen] == [False, True, True]
    assert len({place for place, _ in seen}) == 1


def test_what_a_stray_byte_undoes_is_said_again_in_the_end(bytewise):
    answer = bytewise.tokenizer.convert_tokens_to_ids(["<0x41>", "<0x42>", "<0xFF>"])
    states = hand_over(bytewise, [257], answer)
    assert states == ["", "A", "AB", "AB\n\ufffd\ufffd\ufffd\n"]
    word = bytewise.tokenizer.convert_tokens_to_ids([f"<0x{b:02X}>" for b in "日本".encode()])
    assert [s for s in hand_over(bytewise, [257], word) if s] == ["日", "日本", "日本\n"]


def test_a_terminal_gets_the_text_at_once_and_no_sequence_that_acts(gpt2):
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as terminal, contextlib.redirect_stdout(terminal):
        streamer = Streamer(gpt2, [[1]], {}, True)
        streamer.put(torch.tensor([[1]]))
        streamer._due = 0.0
        streamer.put(torch.tensor(gpt2.tokenizer("one\ntwo\x1b[2J")["input_ids"]))
        assert os.read(ours, 100) == b"one\r\ntwo\\x1b[2J"  # nothing is closed or flushed yet
        streamer.close()
        assert os.read(ours, 100) == b"\r\n"
    os.close(ours)


def test_an_interrupt_ends_the_line_and_leaves_the_model_as_it_was(prose):
    before, passed, out = prose.generate("The captain", 12), [], Watched()

    def interrupt(*_):
        passed.append(None)
        if len(passed) == 6:
            raise KeyboardInterrupt

    handle = prose.model.register_forward_pre_hook(interrupt)
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in prose.model.modules()]
    with pytest.raises(KeyboardInterrupt), contextlib.redirect_stdout(out):
        prose.generate("The captain", 12, stream=True)
    assert hooks == [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in prose.model.modules()]
    handle.remove()
    assert out.getvalue() == before.tokens.part(slice(before.n_input_tokens, before.n_input_tokens + 5)).text + "\n"
    run, states = streamed(prose, "The captain", 12)
    assert run.ids.tolist() == before.ids.tolist()
    assert states[-1] == before.output_text + "\n"


@pytest.mark.parametrize(
    ("prompts", "options", "wrong"),
    [
        (["a", "b"], {}, "one prompt"),
        ("a", {"num_beams": 2}, "no beams"),
        ("a", {"beam_size": 2}, "no beams"),
        ("a", {"streamer": object()}, "no streamer"),
        ("a", {"stream": "yes"}, "stream takes bool"),
        ("a", {"output": "b"}, "nothing is generated"),
    ],
)
def test_what_cannot_be_streamed_is_refused(gpt2, capsys, prompts, options, wrong):
    with pytest.raises(ecco.OptionError, match=wrong):
        gpt2.generate(prompts, **{"stream": True, **options})
    assert capsys.readouterr().out == ""


def test_beams_that_the_model_brings_are_refused_too(gpt2):
    gpt2.model.generation_config.num_beams = 2
    try:
        with pytest.raises(ecco.OptionError, match="beam search"):
            gpt2.generate("a", 3, stream=True)
    finally:
        gpt2.model.generation_config.num_beams = 1


def test_a_list_of_one_prompt_is_streamed_and_without_stream_nothing_is_shown(gpt2, capsys):
    (run,) = gpt2.generate(["a"], 3, stream=True)
    assert capsys.readouterr().out == shown(run.output_text) + "\n"
    gpt2.generate("a", 3)
    assert capsys.readouterr().out == ""


CELL = """
import torch, ecco_core as ecco
torch.set_num_threads(1)
lm = ecco.from_pretrained("tiny:prose")
slow = lm.model.register_forward_pre_hook(lambda *_: __import__("time").sleep(0.03))
run = lm.generate("The captain", 30, stream=True)
"""


@pytest.fixture(scope="module")
def kernel():
    """A real kernel; a function runs a cell in it and returns the displays and what else it sent."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3")

    def run(code, interrupt_at=0):
        displays, others = [], []

        def hear(message):
            kind, content = message["msg_type"], message["content"]
            if kind in ("display_data", "update_display_data"):
                displays.append((kind, content["data"], content["transient"]["display_id"]))
                if len(displays) == interrupt_at:
                    manager.interrupt_kernel()
            elif kind in ("error", "execute_result") or content.get("name") == "stdout":
                others.append(content.get("text") or content.get("ename") or content["data"]["text/plain"])

        client.execute_interactive(code, output_hook=hear, timeout=120)
        return displays, others

    yield run
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_in_a_notebook_one_display_grows_into_the_runs_own(kernel):
    displays, others = kernel(CELL)
    assert others == []
    assert [kind for kind, *_ in displays] == ["display_data"] + ["update_display_data"] * (len(displays) - 1)
    assert len({place for *_, place in displays}) == 1
    assert 5 <= len(displays) <= 14  # of 31: no more than ten in a second
    texts = [bundle["text/plain"].split("\n", 1)[1] for _, bundle, _ in displays]
    assert texts[0] == "The captain│"
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
    assert displays[-1][1]["text/html"].startswith('<pre style="white-space:pre-wrap">The captain<b>')
    _, (run,) = kernel("run")
    assert run == displays[-1][1]["text/plain"]


def test_an_interrupted_notebook_keeps_what_came_and_works_on(kernel):
    displays, others = kernel('lm.generate("The captain", 60, stream=True)', interrupt_at=3)
    assert others == ["KeyboardInterrupt"]
    assert 3 <= len(displays) < 10
    assert displays[-1][1]["text/plain"].split("│")[1]
    displays, others = kernel('again = lm.generate("The captain", 30, stream=True)\nprint(repr(again) == repr(run))')
    assert others == ["True\n"]
