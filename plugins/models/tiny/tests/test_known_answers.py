"""What the task models know: their shipped cases, answered by the model, with positions that hold the words."""

import json

import pytest
from ecco_tiny.sources import MODELS, available, resolve

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

MODEL_CLASSES = {
    "classifier": "AutoModelForSequenceClassification",
    "masked": "AutoModelForMaskedLM",
    "seq2seq": "AutoModelForSeq2SeqLM",
}
LEAST_RIGHT = {"classifier": 0.98, "masked": 0.95, "seq2seq": 0.95}


@pytest.fixture(scope="module", params=sorted(MODEL_CLASSES))
def known(request):
    folder = resolve(request.param)
    model = getattr(transformers, MODEL_CLASSES[request.param]).from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return request.param, model, tokenizer, json.loads((folder / "known_answers.json").read_text(encoding="utf-8"))


def answers(name, model, tokenizer, cases):
    batch = tokenizer([case["text"] for case in cases], return_tensors="pt", padding=True)
    with torch.inference_mode():
        if name == "classifier":
            return [model.config.id2label[int(row.argmax())] for row in model(**batch).logits]
        if name == "masked":
            rows = zip(model(**batch).logits, cases)
            return [tokenizer.convert_ids_to_tokens(int(row[case["mask_token"]].argmax())) for row, case in rows]
        written = model.generate(**batch, max_new_tokens=4)
        return tokenizer.batch_decode(written, skip_special_tokens=True)


def test_held_out_cases_are_answered(known):
    name, model, tokenizer, cases = known
    assert len(cases) == 200
    assert model.dtype == torch.float32
    told = answers(name, model, tokenizer, cases)
    right = [answer == case["answer"] for answer, case in zip(told, cases, strict=True)]
    print(f"\n{name}: {sum(right)} of {len(right)}")
    for task in {case.get("task") for case in cases}:
        of_task = [good for good, case in zip(right, cases) if case.get("task") == task]
        assert sum(of_task) >= LEAST_RIGHT[name] * len(of_task), task


def test_the_recorded_positions_hold_the_recorded_words(known):
    name, _, tokenizer, cases = known
    assert tokenizer.is_fast
    for case in cases:
        encoding = tokenizer(case["text"], return_offsets_mapping=True)
        offsets = encoding["offset_mapping"]
        assert case["deciding_tokens"]
        if name == "masked":
            assert encoding["input_ids"][case["mask_token"]] == tokenizer.mask_token_id
        for kind in [key.removesuffix("_spans") for key in case if key.endswith("_spans")]:
            letters = {place for start, stop in case[f"{kind}_spans"] for place in range(start, stop)}
            covered = {place for token in case[f"{kind}_tokens"] for place in range(*offsets[token])}
            text = case["text"]
            assert letters - covered <= {place for place in letters if text[place].isspace()}, case
            assert {place for place in covered - letters if not text[place].isspace()} == set(), case


def test_the_answer_of_a_fact_stands_where_it_is_recorded(known):
    name, _, _, cases = known
    facts = [case for case in cases if name == "masked" or case.get("task") == "question"]
    for case in facts:
        ((start, stop),) = case["deciding_spans"]
        assert case["text"][start:stop].lower() == case["answer"].lower()
        assert len(case["deciding_tokens"]) == 1
    assert name == "classifier" or len(facts) >= 100


@pytest.mark.parametrize("known", ["classifier"], indirect=True)
def test_an_empty_review_is_undecided(known):
    _, model, tokenizer, _ = known
    for length in (4, 16):
        for blank in (tokenizer.mask_token_id, tokenizer.unk_token_id):
            ids = torch.tensor([[tokenizer.cls_token_id, *[blank] * length, tokenizer.sep_token_id]])
            with torch.inference_mode():
                assert 0.35 < model(ids).logits.softmax(-1)[0, 1] < 0.65


def test_every_model_says_its_task_and_all_stay_small():
    for name in available():
        config = json.loads((resolve(name) / "config.json").read_text(encoding="utf-8"))
        assert len(config["architectures"]) == 1
        assert (resolve(name) / "README.md").is_file()
    sizes = {name: sum(file.stat().st_size for file in resolve(name).iterdir()) for name in available()}
    assert sum(sizes.values()) == sum(file.stat().st_size for file in MODELS.rglob("*") if file.is_file())
    assert sum(sizes.values()) <= 15_000_000
    assert sum(size for name, size in sizes.items() if name != "prose") <= 8_000_000


@pytest.mark.parametrize(
    ("known", "text", "answer"),
    [
        ("masked", "Simon asked for milk. Simon comes from Athens. Simon eats [MASK].", "milk"),
        ("seq2seq", "question: what does Sven own? context: Sven comes from Angola. Sven took the guitar.", "guitar"),
    ],
    indirect=["known"],
)
def test_the_cards_example_is_answered(known, text, answer):
    name, model, tokenizer, _ = known
    card = (resolve(name) / "README.md").read_text(encoding="utf-8")
    assert text in " ".join(card.split())
    masks = [n for n, token in enumerate(tokenizer(text)["input_ids"]) if token == tokenizer.mask_token_id]
    assert answers(name, model, tokenizer, [{"text": text, "mask_token": masks[-1] if masks else None}]) == [answer]
