"""Scanning: disguised items are found and named, clean text is not, and nothing depends on how documents come."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.decontaminate import blocks
from curate.decontaminate.index import Index, build_index, load_index, save_index, with_weights
from curate.decontaminate.items import Item, Items
from curate.decontaminate.match import scan
from curate.decontaminate.weigh import (
    BIN,
    LOWEST,
    NUM_BINS,
    Scores,
    calibrated,
    count_background,
    empty_background,
    for_calibration,
    score_background,
    weighted,
)

WORDS = re.findall(
    r"\w+",
    "harbor lantern copper violin meadow glacier saddle orchard thunder basket ribbon cannon marble falcon pepper canyon engine velvet "
    "timber garden bishop candle hammer island jacket kettle ladder magnet needle oyster parrot quarry rocket sailor tunnel umbrella valley",
)
COMMON = re.findall(
    r"\w+",
    "the of and to in a is that for it was on with as be by at from this which or an are not have but had they you were their one all we",
)


def prose(rng: random.Random, n: int) -> str:
    """Text of common words and some rare ones, in sentences."""
    words = [rng.choice(COMMON) if rng.random() < 0.6 else rng.choice(WORDS) for _ in range(n)]
    sentences = [" ".join(words[i : i + 12]).capitalize() + "." for i in range(0, n, 12)]
    return " ".join(sentences)


QUESTIONS = [
    "Marta sells 14 copper lanterns at the harbor every morning. She keeps 3 of them for the bishop of the island. "
    "Every lantern costs 7 dollars. How much does Marta earn in 5 days?",
    "A glacier above the quarry loses 12 meters each summer and gains 5 meters each winter. It was 430 meters long when the tunnel "
    "was dug. After how many years does the glacier no longer reach the tunnel?",
    "Which instrument did the sailors of the northern valley use to find their island when the lighthouse had no oil?",
]
SOLUTION = (
    "Marta has 14 - 3 = <<14-3=11>>11 lanterns left to sell at the harbor. She earns 11 * 7 = $77 each morning. In 5 days she earns 5 * 77 = $385."
)
CODE = '''def running_extremes(numbers, window):
    """Compute."""
    result = []
    queue = []
    for index, value in enumerate(numbers):
        while queue and numbers[queue[-1]] <= value:
            queue.pop()
        queue.append(index)
        if queue[0] == index - window:
            queue.pop(0)
        if index >= window - 1:
            result.append(numbers[queue[0]])
    return result
'''
ITEMS = Items(
    items=[
        Item("sums", "m0", "f:1", {"question": QUESTIONS[0], "solution": SOLUTION, "answer": "385"}),
        Item("sums", "m1", "f:2", {"question": QUESTIONS[1], "answer": "62"}),
        Item(
            "quiz",
            "q0",
            "g:1",
            {"question": QUESTIONS[2], "choices": "a magnetic needle\na tame falcon\nthe stars\na glass lens"},
            ["a magnetic needle", "a tame falcon", "the stars", "a glass lens"],
        ),
        Item("quiz", "q1", "g:2", {"question": "What is it?"}),
        Item("code", "c0", "h:1", {"code": CODE}),
    ],
    sizes={"sums": 2, "quiz": 2, "code": 1, "empty": 0},
    canaries=[("quiz", "canary-5d41402abc4b2a76")],
)


@pytest.fixture(scope="module")
def index() -> Index:
    return build_index(ITEMS)


def batch_of(texts: list[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(
        {"id": [f"d{i}" for i in range(len(texts))], "text": texts, "url": [f"https://x.org/{i}" for i in range(len(texts))]}
    )


def found(index: Index, text: str) -> list[dict[str, Any]]:
    rng = random.Random(1)
    return scan(batch_of([f"{prose(rng, 150)}\n\n{text}\n\n{prose(rng, 150)}"]), index).to_pylist()


def typos(text: str) -> str:
    words = text.split()
    for i in range(4, len(words), 10):
        words[i] = words[i][:1] + "q" + words[i][1:]
    return " ".join(words)


SENTENCES = QUESTIONS[0].split(". ")
DISGUISES = {
    "question_only": QUESTIONS[0],
    "verbatim": QUESTIONS[0] + "\n" + SOLUTION,
    "numbers_changed": QUESTIONS[0].replace("14", "23").replace("3 of", "9 of").replace("7 dollars", "8 dollars").replace("5 days", "6 days"),
    "names_changed": QUESTIONS[0].replace("Marta", "Giovanni"),
    "noisy": typos(QUESTIONS[0]),
    "truncated": " ".join(QUESTIONS[0].split()[:30]),
    "reordered": ". ".join([SENTENCES[2], SENTENCES[0], SENTENCES[1], SENTENCES[3]]),
    "split": QUESTIONS[0][:90]
    + "\nBuy two boats and get a third one for free, only this week and only on our own web site, sign up now!\n"
    + QUESTIONS[0][90:],
    "solution_only": SOLUTION,
}


@pytest.mark.parametrize("variant", DISGUISES)
def test_disguises_are_found_and_named(index: Index, variant: str) -> None:
    (match,) = found(index, DISGUISES[variant])
    assert (match["item_id"], match["variant"], match["counted"]) == ("m0", variant, True)
    assert match["score"] >= match["threshold"]


@pytest.mark.parametrize(
    "disguised",
    [
        "\u200b".join(QUESTIONS[0]),
        QUESTIONS[0].translate(str.maketrans("aeopc", "аеорс")),
        " ".join(f"<b>{w}</b>" if i % 3 == 0 else w for i, w in enumerate(QUESTIONS[0].split())),
        " ".join(f"**{w}**" if i % 3 == 0 else w for i, w in enumerate(QUESTIONS[0].split())),
        QUESTIONS[0].upper(),
    ],
)
def test_characters_and_markup_hide_nothing(index: Index, disguised: str) -> None:
    (match,) = found(index, disguised)
    assert match["item_id"] == "m0"
    assert match["score"] == 1.0
    assert match["numbers_equal"] == 1.0


def test_a_word_for_word_copy_scores_exactly_one() -> None:
    rng = random.Random(5)
    questions = [f"{prose(rng, 30)[:-1]}?" for _ in range(30)]
    index = build_index(Items([Item("sums", str(i), f"f:{i}", {"question": text}) for i, text in enumerate(questions)], sizes={"sums": 30}))
    strict = with_weights(index, {}, {}, threshold=1.0)
    for text in questions:
        assert 1.0 in [match["score"] for match in found(strict, text)]


def test_places_are_characters_of_both_texts(index: Index) -> None:
    text = "Überall „ägyptische“ Wörter, 中文.\n\n" + QUESTIONS[1] + "\n\nEnde — fin."
    (match,) = scan(batch_of([text]), index).to_pylist()
    assert text[match["doc_start"] : match["doc_end"]] == QUESTIONS[1].rstrip("?")
    assert (match["item_start"], match["item_end"]) == (0, len(QUESTIONS[1]) - 1)
    assert QUESTIONS[1] in match["doc_excerpt"]
    assert match["url"] == "https://x.org/0"


def test_the_answer_is_reported_only_where_it_stands(index: Index) -> None:
    assert found(index, QUESTIONS[1] + " The answer is 62.")[0]["channels"] == ["question", "answer"]
    assert found(index, QUESTIONS[1] + " The answer is 63.")[0]["channels"] == ["question"]


def test_a_number_that_is_a_part_of_a_name_is_no_answer(index: Index) -> None:
    for text, channels in ((f"{QUESTIONS[1]} A B-62 flies.", ["question"]), (f"{QUESTIONS[1]} -62", ["question", "answer"])):
        assert [match["channels"] for match in found(index, text)] == [channels]


@pytest.mark.parametrize("style", ["{}. {}", "({}) {}", "{}) {}", "- {1}", "**{}.** {}"])
def test_option_formats_and_orders(index: Index, style: str) -> None:
    options = ["the stars", "a glass lens", "a magnetic needle", "a tame falcon"]
    text = QUESTIONS[2] + "\n" + "\n".join(style.format("ABCD"[i], o) for i, o in enumerate(options))
    assert {m["item_id"] for m in found(index, text)} == {"q0"}


def test_renamed_identifiers_are_the_same_code(index: Index) -> None:
    renamed = (
        CODE.replace("numbers", "xs")
        .replace("window", "k")
        .replace("queue", "dq")
        .replace("index", "j")
        .replace("value", "v")
        .replace("result", "acc")
    )
    (match,) = found(index, renamed.replace('"""Compute."""', "# other words here"))
    assert (match["item_id"], match["variant"], match["score"]) == ("c0", "identifiers_renamed", 1.0)
    fresh = itertools.count()
    own = re.compile(r"\b(xs|k|dq|j|v|acc)\b")
    assert all(m["score"] < 0.95 for m in found(index, own.sub(lambda m: f"n{next(fresh)}", renamed)))  # other names at every use: other code


def test_another_instance_of_a_template_is_reported_and_not_counted(index: Index) -> None:
    other = QUESTIONS[0].replace("Marta", "Ola").replace("copper", "paper").replace("bishop", "doctor")
    for old, new in (("14", "31"), ("3 of", "8 of"), ("7 dol", "2 dol"), ("5 days", "9 days")):
        other = other.replace(old, new)
    matches = found(index, other)
    assert [m["variant"] for m in matches] == ["template_sibling"]
    assert not matches[0]["counted"]


def test_a_place_goes_to_the_item_of_which_more_is_there() -> None:
    """Two instances of one template: the page has m0's question with other numbers, some of them those of m9."""
    other = Item(
        "sums", "m9", "f:9", {"question": "How long is the copper tunnel under the glacier, in meters?", "solution": SOLUTION.replace("14", "15")}
    )
    index = build_index(Items(items=[*ITEMS.items, other], sizes={**ITEMS.sizes, "sums": 3}))
    page = QUESTIONS[0].replace("14", "15") + "\n" + SOLUTION.replace("14", "15")
    assert [m["item_id"] for m in found(index, page)] == ["m0"]


def test_two_questions_on_one_passage_share_what_is_left_of_it() -> None:
    """What is cut before the questions differ may be of either, however long they are; a whole question is of its own item alone."""
    ends = (
        " Which valley did it fill before that time?",
        " Who was the first to measure it from the saddle above the orchard, and how, if no rope was long enough?",
    )
    items = [Item("sums", name, f"f:{name}", {"question": QUESTIONS[1] + end}) for name, end in zip("ab", ends, strict=True)]
    index = build_index(Items(items=items, sizes={"sums": 2}))
    assert [(m["item_id"], m["variant"]) for m in found(index, QUESTIONS[1])] == [("a", "truncated"), ("b", "truncated")]
    assert [m["item_id"] for m in found(index, QUESTIONS[1] + ends[1])] == ["b"]


def test_where_a_passage_is_cut_into_units_does_not_decide_whose_it_is() -> None:
    """Questions on one long passage, of which the last fifth and the questions are missing."""
    words = [first + second for first, second in itertools.product(WORDS, WORDS)]
    random.Random(5).shuffle(words)
    passage = " ".join(words[:260])
    ends = (". Which valley did it fill?", ". " + " ".join(words[300:340]), ". " + " ".join(words[400:520]))
    items = [Item("sums", name, f"f:{name}", {"question": passage + end}) for name, end in zip("abc", ends, strict=True)]
    index = build_index(Items(items=items, sizes={"sums": 3}))
    part = " ".join(passage.split()[:208])
    assert {m["item_id"] for m in scan(batch_of([part]), index).to_pylist() if m["counted"]} == {"a", "b", "c"}


def short_ones() -> Index:
    """Return an index of short questions, some of which begin alike."""
    texts = ["What was Rowena's attitude toward marble?", "Which of the copper lanterns is near the tunnel?"]
    texts += [f"Which of the following statements best describes the {word} of a {other}?" for word, other in itertools.pairwise(WORDS)]
    items = [Item("quiz", f"s{i}", f"s:{i}", {"question": text}) for i, text in enumerate(texts)]
    return build_index(Items(items=items, sizes={"quiz": len(items)}))


def test_another_name_in_a_short_question_hides_nothing() -> None:
    (match,) = found(short_ones(), "What was Ottokar's attitude toward marble?")
    assert (match["item_id"], match["variant"], match["counted"]) == ("s0", "names_changed", True)


def test_another_short_question_of_the_same_form_is_not_counted() -> None:
    assert not any(m["counted"] for m in found(short_ones(), "Which of the violin saddles is near the tunnel?"))
    assert not any(m["counted"] for m in found(short_ones(), "Which of the following statements best describes the weight of a spoon?"))


def test_a_fragment_with_other_numbers_is_taken_for_another_instance(index: Index) -> None:
    fragment = " ".join(QUESTIONS[0].split()[:22])
    assert [m["variant"] for m in found(index, fragment)] == ["truncated"]
    assert not any(m["counted"] for m in found(index, fragment.replace("14", "15")))


def test_names_at_every_turn_and_many_typos_hide_nothing(index: Index) -> None:
    text = (
        "Ada and Ben met Cleo at the harbor. Ada sold Cleo a copper lantern, Ben sold Cleo a marble falcon. What did Cleo carry home from the harbor?"
    )
    named = build_index(Items(items=[*ITEMS.items, Item("sums", "n", "n:1", {"question": text})], sizes={**ITEMS.sizes, "sums": 3}))
    other = text.replace("Ada", "Yusuf").replace("Ben", "Zoe").replace("Cleo", "Xaver")
    assert [(m["item_id"], m["variant"]) for m in found(named, other)] == [("n", "names_changed")]
    words = QUESTIONS[2].split()
    words[6] = "sailorz"
    words[13] = "isl4nd"
    assert [m["variant"] for m in found(index, " ".join(words))] == ["noisy"]


def test_a_typing_error_costs_a_part_of_its_word_and_no_number(index: Index) -> None:
    """Another word in the same place costs all of it, and what it led to; a number with a letter in it is not another number."""
    wrong = QUESTIONS[2].replace("northern", "nortehrn").replace("lighthouse", "lightouse")
    other = QUESTIONS[2].replace("northern", "painted").replace("lighthouse", "cathedral")
    whole, typed, changed = (found(index, text)[0]["score"] for text in (QUESTIONS[2], wrong, other))
    assert changed < typed < whole
    (match,) = found(index, QUESTIONS[1].replace("430", "4z30").replace("12", "1q2").replace(" 5 ", " b5 "))
    assert (match["item_id"], match["variant"], match["counted"]) == ("m1", "noisy", True)


def test_a_phrase_in_the_middle_of_a_sentence_says_less_than_a_text_of_its_own(index: Index) -> None:
    part = " ".join(QUESTIONS[1].split()[:24])
    alone, inside = (found(index, text)[0]["information"] for text in (part, f"so {part} and so on"))
    assert inside < alone


def test_a_line_or_sentence_of_its_own_tells_more(index: Index) -> None:
    alone, inside = (found(index, text)[0]["score"] for text in (QUESTIONS[1], f"so {QUESTIONS[1][:-1]} and so"))
    assert inside < alone == 1.0


def test_items_too_short_to_be_found_are_never_matched(index: Index) -> None:
    assert found(index, "What is it?") == []


def test_weak_questions_count_only_as_a_whole_and_with_their_numbers() -> None:
    weak = "Which of the 12 answers below is the best one of all?"
    bare = build_index(Items(items=[*ITEMS.items, Item("sums", "weak", "w:99", {"question": weak})], sizes={**ITEMS.sizes, "sums": 3}))
    rng = random.Random(8)
    phrases = [
        "Which of the following",
        "of the answers below",
        "the 5 answers below is not",
        "below is the best",
        "is the best one of",
        "one of all times",
    ]
    texts = [" ".join(f"{prose(rng, 12)} {phrase}" for phrase in rng.sample(phrases, 6)) for _ in range(400)]
    index = weighted(bare, count_background([batch_of(texts)], bare))
    (unit,) = np.flatnonzero(index.words.unit_item == index.item_ids.index("weak"))
    assert index.whole_only(index.words)[unit]
    assert [m["item_id"] for m in found(index, weak)] == ["weak"]
    assert found(index, weak.replace("12", "13")) == []
    assert found(index, weak.replace("best", "worst")) == []


def weak_ones(texts: list[str], phrases: list[str]) -> Index:
    """Return an index of questions that say little, since the background is full of `phrases`."""
    items = [Item("quiz", f"w{i}", f"w:{i}", {"question": text}) for i, text in enumerate(texts)]
    bare = build_index(Items(items=[*ITEMS.items, *items], sizes={**ITEMS.sizes, "quiz": 2 + len(items)}))
    rng = random.Random(8)
    background = [" ".join(f"{prose(rng, 6)} {phrase}" for phrase in rng.sample(phrases, len(phrases))) for _ in range(400)]
    return weighted(bare, count_background([batch_of(background)], bare))


@pytest.mark.parametrize("question", ["The law of rising copper", "Solve the equation x + 71 = 22."])
def test_short_questions_count_where_they_are_a_line_of_their_own(question: str) -> None:
    index = weak_ones([question], ["the copper law", "copper law of", "the law of", "the equation", "solve for"])
    assert index.alone_only(index.words)[index.words.unit_item == index.item_ids.index("w0")].all()
    assert [(m["item_id"], m["variant"]) for m in found(index, question)] == [("w0", "verbatim")]
    assert [m["item_id"] for m in found(index, f"<p>{question.upper()}</p>")] == ["w0"]
    for other in (f"and {question}", f"{question} and", question.replace("law", "law too"), question.replace("71", "72"), question.split(" ", 1)[1]):
        assert other == question or found(index, other) == []


def test_a_short_question_that_any_quiz_has_does_not_count() -> None:
    index = weak_ones(["Which of these is false?"], ["which of these is", "of these is"])
    assert found(index, "Which of these is false?") == []


def test_two_questions_of_one_form_share_a_place_that_has_all_their_words() -> None:
    """With other numbers it is of both, though one says more by the same words, as names say less; with its own it is its own."""
    text = "How many copper ladders of {} meters reach the glacier above the {} tunnels, if {} are lost?"
    texts = {"a": text.format(17, 18, 2), "b": text.replace("copper ladders", "Copper Ladders").replace("glacier", "Glacier").format(30, 31, 5)}
    items = [Item("sums", name, f"f:{name}", {"question": text}) for name, text in texts.items()]
    index = build_index(Items(items=items, sizes={"sums": 2}))
    assert [m["item_id"] for m in found(index, text.format(40, 41, 9))] == ["a", "b"]
    for name, own in texts.items():
        assert [m["item_id"] for m in found(index, own)] == [name]
    longer = Item("sums", "c", "f:c", {"question": texts["a"] + " Of the velvet ones, how many?"})
    assert [m["item_id"] for m in found(build_index(Items(items=[items[0], longer], sizes={"sums": 2})), texts["a"])] == ["a"]


def test_a_claim_goes_on_only_over_the_same_numbers() -> None:
    """Two questions on a passage of two units, in which the numbers of the second are others: it is the one whose question is there."""
    words = [first + second for first, second in itertools.product(WORDS, WORDS)]
    random.Random(5).shuffle(words)
    passage = " ".join(f"{word} {i}" if i > 200 and i % 9 == 0 else word for i, word in enumerate(words[:330]))
    ends = (" or the valley that it filled before that?", " or the sailor who was first to measure it?")
    items = [Item("sums", name, f"f:{name}", {"question": passage + end}) for name, end in zip("ab", ends, strict=True)]
    index = build_index(Items(items=items, sizes={"sums": 2}))
    for item, end in zip("ab", ends, strict=True):
        page = re.sub(r"\d+", "77", passage) + end
        assert item in {m["item_id"] for m in scan(batch_of([page]), index).to_pylist() if m["counted"]}


def test_canaries_are_found_as_they_are_written(index: Index) -> None:
    (match,) = found(index, "see canary-5d41402abc4b2a76 there")
    assert (match["benchmark"], match["item_id"], match["variant"]) == ("quiz", "canary", "canary")
    assert found(index, "see canary-5d41402abc4b2a77 there") == []


def test_clean_prose_has_no_match(index: Index) -> None:
    rng = random.Random(5)
    assert scan(batch_of([prose(rng, 400) for _ in range(100)]), index).num_rows == 0


def test_every_place_is_found_in_a_long_document_on_one_line(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_TOKENS", 6000)
    rng = random.Random(2)
    parts = [prose(rng, 2700) for _ in range(8)]
    text = f" {QUESTIONS[1]} ".join(parts)
    matches = scan(batch_of([text, QUESTIONS[0], text]), index).to_pylist()
    assert [m["doc_id"] for m in matches] == ["d0"] * 7 + ["d1"] + ["d2"] * 7
    assert [m["score"] for m in matches] == [1.0] * 15
    assert [text[m["doc_start"] : m["doc_end"]] for m in matches[:7]] == [QUESTIONS[1].rstrip("?")] * 7


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 7), min_size=1, max_size=5))
def test_matches_do_not_depend_on_batches(index: Index, seed: int, sizes: list[int]) -> None:
    rng = random.Random(seed)
    disguised = list(DISGUISES.values())
    texts = [prose(rng, rng.randint(0, 60)) + "\n" + (rng.choice(disguised) if rng.random() < 0.5 else "") for _ in range(sum(sizes))]
    whole = scan(batch_of(texts), index)
    parts, at = [], 0
    for size in sizes:
        parts.append(scan(batch_of(texts).slice(at, size), index))
        at += size
    assert pa.concat_tables(parts).equals(whole)


@pytest.mark.parametrize(
    "hostile",
    [
        "",
        "lantern " * 300_000,
        "x" * 2_000_000,
        "".join(map(chr, range(1, 32))) * 5000,
        "\u0000" * 1000,
        (QUESTIONS[0] + " ") * 400,
        "the " * 5 + QUESTIONS[0][:40],
    ],
)
def test_hostile_documents_do_no_harm(index: Index, hostile: str) -> None:
    matches = scan(batch_of([hostile, QUESTIONS[1]]), index).to_pylist()
    assert [m["item_id"] for m in matches if m["doc_id"] == "d1"] == ["m1"]


def test_an_index_is_the_same_after_saving(index: Index, tmp_path: Path) -> None:
    save_index(index, tmp_path / "a")
    opened = load_index(tmp_path / "a")
    save_index(opened, tmp_path / "b")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert opened.key == index.key
    texts = [prose(random.Random(3), 50) + text for text in DISGUISES.values()]
    assert scan(batch_of(texts), opened).equals(scan(batch_of(texts), index))


def test_background_counts_add_up_and_lower_the_weight_of_what_is_common(index: Index) -> None:
    rng = random.Random(4)
    boilerplate = "Every lantern costs 7 dollars."
    texts = [prose(rng, 80) + " " + boilerplate for _ in range(60)]
    one = batch_of(texts)
    whole = count_background([one], index)
    parts = count_background([one.slice(0, 25)], index) + count_background([one.slice(25, 15), one.slice(40)], index)
    assert whole.documents == parts.documents == 60 - for_calibration(one).sum()
    for name in ("word_grams", "word_pairs", "word_words", "code_grams"):
        assert (getattr(whole, name) == getattr(parts, name)).all()
    heavy, light = weighted(index, empty_background(index)), weighted(index, whole)
    assert light.words.information[0] < heavy.words.information[0]
    assert found(light, QUESTIONS[0])[0]["score"] == 1.0


def test_a_contaminated_background_does_not_hide_the_item(index: Index) -> None:
    rng = random.Random(6)
    texts = [prose(rng, 80) + (QUESTIONS[0] if i % 4 == 0 else "") for i in range(80)]
    batch = batch_of(texts)
    leaks, kept = np.arange(80) % 4 == 0, for_calibration(batch)
    counts = count_background([batch], index)
    assert (counts.documents, counts.suspects) == ((~leaks & ~kept).sum(), (leaks & ~kept).sum())
    weighted_index = weighted(index, counts)
    ready = calibrated(weighted_index, score_background([batch], weighted_index), 1e-4)
    assert ready.calibration["suspects"] == (leaks & kept).sum()
    assert len({m["doc_id"] for m in scan(batch, ready).to_pylist()}) == 20


def tail(documents: int, fall: float, leaks: int = 0) -> Scores:
    """Documents of which a twentieth have evidence of 1 and more, falling off by exp(-fall · evidence), and some leaks."""
    histogram = np.zeros(NUM_BINS, np.int64)
    above = [round(documents / 20 * 2.718281828 ** (-fall * BIN * i)) for i in range(100)]
    histogram[round((1 - LOWEST) / BIN) :][:100] = -np.diff([*above, 0])
    histogram[round((4 - LOWEST) / BIN)] += leaks
    return Scores(documents, 0, histogram)


def test_calibration_follows_the_tail(index: Index) -> None:
    for fall in (2.0, 2.5):
        ready = calibrated(index, tail(100_000, fall), 1e-4)
        assert ready.evidence == pytest.approx(1 + np.log(500) / fall, abs=0.5)
        assert ready.calibration["expected_rate"] == pytest.approx(1e-4, rel=0.3)
    assert calibrated(index, tail(100_000, 3.5), 1e-4).evidence == index.options.least_evidence > 1 + np.log(500) / 3.5
    steep, flat = calibrated(index, tail(100_000, 20.0), 1e-4), calibrated(index, tail(100_000, 0.3), 1e-4)
    assert (steep.evidence, steep.calibration["bound"]) == (index.options.least_evidence, "least")
    assert (flat.evidence, flat.calibration["bound"]) == (index.options.max_evidence, "most")


def test_a_lower_rate_needs_more_evidence(index: Index) -> None:
    evidence = [calibrated(index, tail(100_000, 3.0), rate).evidence for rate in (1e-2, 1e-3, 1e-4, 1e-5)]
    assert evidence == sorted(evidence)
    assert evidence[0] < evidence[-1]


def test_small_samples_are_believed_less_and_tiny_ones_not_at_all(index: Index) -> None:
    assert calibrated(index, tail(20, 3.0), 1e-4).evidence == index.options.evidence
    assert calibrated(index, tail(20, 3.0), 1e-4).calibration["bound"] == "sample"
    small = calibrated(index, tail(200, 3.0), 1e-4)
    assert index.options.least_evidence < small.evidence < index.options.max_evidence


def test_a_few_leaks_in_the_sample_do_not_move_the_threshold_far(index: Index) -> None:
    clean, leaky = (calibrated(index, tail(10_000, 3.0, leaks), 1e-4).evidence for leaks in (0, 8))
    assert clean <= leaky < clean + 0.5


def test_a_benchmark_that_is_given_twice_is_found_as_well(index: Index) -> None:
    again = [Item("copy", item.id, "c" + item.place, item.channels, item.choices) for item in ITEMS.items]
    both = build_index(Items(items=[*ITEMS.items, *again], sizes={**ITEMS.sizes, "copy": 5}))
    assert {(m["benchmark"], m["item_id"]) for m in found(both, QUESTIONS[0])} == {("sums", "m0"), ("copy", "m0")}
    first = both.words.unit_item == 0
    assert both.words.information[first] == pytest.approx(index.words.information[index.words.unit_item == 0], rel=0.01)


def test_numbers_with_units_at_them_are_numbers() -> None:
    """A letter that the item has at its number, too, is a unit; only another one is a typing error."""
    question = (
        "A truck carries oranges 30km to the harbor at 60mph and then 45km along the coast to the market. How many minutes does the driver need?"
    )
    index = build_index(Items(items=[Item("sums", "u", "f:1", {"question": question})], sizes={"sums": 1}))
    other = question.replace("30km", "70km").replace("60mph", "35mph").replace("45km", "12km")
    assert [m["variant"] for m in found(index, other)] == ["numbers_changed"]
    assert [m["variant"] for m in found(index, question.replace("60mph", "6q0mph"))] == ["noisy"]
