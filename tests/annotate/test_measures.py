"""What the text annotators measure, and that the published rules can be said over their fields."""

from __future__ import annotations

import random
import re
import time

import pyarrow as pa
import pytest

from curate.annotate import NAMES, annotate, annotators
from curate.errors import SpecError


def measured(name: str, *texts: str | None, **options: object) -> list[dict[str, object]]:
    found: list[dict[str, object]] = annotate(pa.record_batch({"text": pa.array(texts, pa.string())}), name, options).to_pylist()
    return found


def test_gopher_counts() -> None:
    (row,) = measured("gopher", "The end of it ... # and\n• one-two\n- three…\n")
    assert row == {
        "words": 7, "tokens": 12, "mean_word_length": pytest.approx(25 / 7), "symbol_ratio": 2 / 12, "hashes": 1, "ellipses": 2,
        "bullet_lines": pytest.approx(2 / 3), "ellipsis_lines": pytest.approx(1 / 3), "alphabetic_words": pytest.approx(7 / 12), "stop_words": 3,
        "white_space_words": 11, "mean_white_space_word_length": pytest.approx(32 / 11), "alphabetic_white_space_words": pytest.approx(7 / 11),
    }  # fmt: skip


def test_gopher_stop_words_are_an_option() -> None:
    assert [r["stop_words"] for r in measured("gopher", "Der Hund und die Katze", "die DIE die", "", stop_words=["der", "die", "und"])] == [3, 1, 0]
    with pytest.raises(SpecError, match="'in the' is 2 words"):
        measured("gopher", "x", stop_words=["in the"])


def test_c4_counts_sentences_of_the_lines_that_it_keeps() -> None:
    text = (
        "One good line here. And more.\n\nPlease enable JavaScript now.\nOur Privacy Policy is long.\nToo short\nno mark at the end\n"
        + "x" * 1001
        + " y z\n{ a b c"
    )
    (row,) = measured("c4", text)
    assert row == {
        "lines": 7, "kept_lines": 3, "sentences": 4, "javascript_lines": 1, "policy_lines": 1, "short_lines": 1, "long_word_lines": 1,
        "unterminated_lines": 4, "lorem_ipsum": False, "curly_braces": 1,
    }  # fmt: skip
    (strict,) = measured("c4", text, terminal_punctuation=True)
    assert (strict["kept_lines"], strict["sentences"]) == (1, 2)
    assert [r["lorem_ipsum"] for r in measured("c4", "Lorem  ipsum", "dolor LOREM Ipsum sit")] == [False, True]


def test_fineweb_ratios() -> None:
    line = "A line that is longer than thirty characters."
    (row,) = measured("fineweb", f"{line}\n{line}\n \nshort\n")
    assert row["lines"] == 3
    assert row["lines_ending_in_punctuation"] == pytest.approx(2 / 3)
    assert row["duplicated_line_characters"] == pytest.approx(len(line) / (2 * len(line) + 6))
    assert row["short_lines"] == pytest.approx(1 / 3)
    assert row["newline_ratio"] == pytest.approx(4 / 19)
    assert measured("fineweb", f"{line}\nshort", short_line_characters=100)[0]["short_lines"] == 1.0


def test_character_damage_and_shares() -> None:
    (row,) = measured("characters", "AB cd 12\ufffd\n\x07é Ã©")
    assert row == {
        "count": 15, "bytes": 20, "replacements": 1, "controls": 1, "mojibake": pytest.approx(2 / 15), "longest_line": 9,
        "non_ascii": pytest.approx(4 / 15), "digits": pytest.approx(2 / 15), "uppercase": pytest.approx(3 / 6),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("en", "The quick brown fox jumps over the lazy dog, and then it runs away into the forest."),
        ("de", "Der schnelle braune Fuchs springt über den faulen Hund und läuft dann in den Wald."),
        ("fr", "Le renard brun saute par-dessus le chien paresseux, puis il s'enfuit dans la forêt."),
        ("ru", "Быстрая коричневая лиса прыгает через ленивую собаку и убегает в лес."),
        ("ja", "素早い茶色の狐は怠け者の犬を飛び越えて、それから森へ逃げていきます。"),
        ("de", "DER SCHNELLE BRAUNE FUCHS SPRINGT ÜBER DEN FAULEN HUND UND LÄUFT DANN IN DEN WALD."),
        ("fr", "L'e\u0301te\u0301 a e\u0301te\u0301 tre\u0300s agre\u0301able, nous avons profite\u0301 du soleil apre\u0300s la pluie."),
    ],
)  # fmt: skip
def test_language(code: str, text: str) -> None:
    (row,) = measured("language", text)
    assert row["code"] == code
    assert row["score"] > 0.9


def test_language_agrees_with_the_package() -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    texts = ["This is plain English text.", "Ceci est du français.", "Straße und Brücke, größer!", "12345", "नमस्ते दुनिया", "ΚΑΛΗΜΕΡΑ ΚΟΣΜΕ"]
    package = LanguageIdentifier.from_model_file(MODEL_FILE)
    for row, text in zip(measured("language", *texts), texts, strict=True):
        assert row["code"] == package.classify(text)[0]
        assert 0 <= row["score"] <= 1


def test_language_of_nothing_is_unknown() -> None:
    assert measured("language", "", None, "!!!", "\n") == [{"code": "und", "score": 0.0}] * 4


def test_language_by_fasttext(tmp_path) -> None:
    fasttext = pytest.importorskip("fasttext")
    lines = [f"__label__{label} {text}" for label, text in [("aaa_Latn", "alpha beta gamma"), ("bbb_Latn", "one two three")] * 50]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    # Ten threads: with fewer, part of the matrix stays uninitialized.
    model = fasttext.train_supervised(str(tmp_path / "train.txt"), dim=20, epoch=50, lr=1.0, thread=10, verbose=0)
    model.save_model(str(tmp_path / "model.bin"))
    batch = pa.record_batch({"text": ["alpha\nbeta gamma", "two three one", " \n"]})
    rows = annotate(batch, "language", {"model": "model.bin"}, tmp_path).to_pylist()
    assert [row["code"] for row in rows] == ["aaa_Latn", "bbb_Latn", "und"]
    (tmp_path / "model.bin").write_bytes(b"not a model")
    with pytest.raises(SpecError, match="not a fastText model"):
        annotate(batch, "language", {"model": "model.bin"}, tmp_path)


def test_pii_counts() -> None:
    rows = measured(
        "pii",
        "Write to jane.doe+news@mail.host.co.uk, or bob@host.org; not to a@b, me@example.com or logo@2x.png",
        "From 8.8.8.8 and 8.8.4.4, not 192.168.1.1, 999.1.1.1 or 1.2.3.4.5",
        "Call +49 (0)711 123456, (555) 234-5678 or 01 23 45 67 89; in 2012-03-04 12:30 we had 1,234,567.89 and 12345678",
        "DE89 3704 0044 0532 0130 00 or GB82WEST12345698765432; not DE88 3704 0044 0532 0130 00",
        "4111 1111 1111 1111, 378282246310005; not 4111 1111 1111 1112 nor 0000 0000 0000 0000",
        "nothing here at 5 or 10:30, v1.2.3, 2024",
        None,
    )
    names = ("emails", "ip_addresses", "phone_numbers", "ibans", "credit_cards")
    assert [tuple(row[name] for name in names) for row in rows][:2] == [(2, 0, 0, 0, 0), (0, 2, 0, 0, 0)]
    assert rows[2]["phone_numbers"] == 3
    assert rows[3]["ibans"] == 2
    assert rows[4]["credit_cards"] == 2
    assert all(value == 0 for row in rows[5:] for value in row.values())


CARDS = [
    "4111111111111111", "4222222222222", "5555555555554444", "2223003122003222", "378282246310005", "6011111111111117", "30569309025904",
    "3530111333300000", "6200000000000005", "6759649826438453", "5000550000000029", "4111 1111 1111 1111", "4111-1111-1111-1111", "3782 822463 10005",
    "3056 930902 5904", "4111 1111 1111 1111 12/25", "no. 1234: 4111 1111 1111 1111, 123",
]  # fmt: skip
NUMBERS = [
    "6929 8303 3640 7551 8559", "8559 4111 1111 1111 1111", "4111-1111-1111-1111-8559",  # rows of numbers, of which four would be a card's
    "4111 11111111 1111", "4111 1111-1111 1111", "41111 11111 11111 1", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
    "3.4111111111111111", "4111111111111111.5", "4006381333931", "490154203237518", "7992739871300000002",  # a bar code, a phone's IMEI, no issuer
]  # fmt: skip


def test_cards_are_told_from_rows_of_numbers() -> None:
    counts = [row["credit_cards"] for row in measured("pii", *CARDS, *NUMBERS)]
    assert counts == [1] * len(CARDS) + [0] * len(NUMBERS)


def test_a_table_of_numbers_has_no_cards() -> None:
    draw = random.Random(2)
    for low, high, columns in ((1000, 9999, 5), (10_000, 99_999, 4), (1000, 99_999, 9)):
        table = "\n".join("Town " + " ".join(str(draw.randint(low, high)) for _ in range(columns)) for _ in range(1000))
        assert measured("pii", table)[0]["credit_cards"] == 0


def test_pii_takes_a_line_of_many_addresses() -> None:
    began = time.process_time()
    (row,) = measured("pii", " ".join(f"{11 + k % 80}.{k % 250}.{k * 7 % 250}.{1 + k % 200}" for k in range(8_000)))
    assert row["ip_addresses"] == 8_000
    assert time.process_time() - began < 2, "linear in the matches"


def test_large_strings_are_taken() -> None:
    batch = pa.record_batch({"text": pa.array(["some words"], pa.large_string())})
    assert annotate(batch, "gopher")[0].as_py()["words"] == 2


def rules(name: str) -> list[tuple[str, str]]:
    """Return (reason, condition) of each rule in an annotator's docstring."""
    documentation = annotators()[name].__doc__ or ""
    lines = [line for block in re.findall(r"Rules.*?:\n(.*?)(?:\n\n|\Z)", documentation, re.DOTALL) for line in block.splitlines() if line.strip()]
    joined = re.sub(r"\n\s+(?=or )", " ", "\n".join(lines))
    found = [re.match(r"\s+(\w+)\s+(.*?)(?:\s{2,}\(.*)?$", line) for line in joined.splitlines()]
    return [(match[1], match[2]) for match in found if match]


@pytest.mark.parametrize("name", NAMES)
def test_documented_rules_are_sql_over_the_fields(name: str) -> None:
    duckdb = pytest.importorskip("duckdb")
    column = annotate(pa.record_batch({"text": ["Some text, and the rest of it."], "url": ["https://a.example/"]}), name)
    table = pa.table({name: column})
    assert rules(name), "every annotator shows how it is used"
    connection = duckdb.connect()
    connection.register("documents", table)
    for reason, condition in rules(name):
        assert re.fullmatch(r"[a-z_]+", reason)
        (answer,) = connection.execute(f"select {condition} from documents").fetchone()
        assert answer in (True, False, None), f"{name}.{reason}: {condition}"
