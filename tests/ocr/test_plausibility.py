import argparse
import hashlib
import inspect
import itertools
import string
from collections import Counter
from importlib import resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pdf_files import PROSE, shift

from curate.ocr import letter_pairs, plausibility
from curate.specs.ocr import Route

LIMIT = Route().min_letter_bits
LANGUAGES = {
    "German": "Der Ausschuss traf sich im Frühjahr, um zu beraten, wie die alte Bücherei ausgebessert werden "
    "sollte, und beschloss, einen Baumeister zu fragen.",
    "French": "Le comité s'est réuni au printemps pour examiner comment réparer l'ancienne bibliothèque, et il a "
    "décidé de demander l'avis d'un entrepreneur.",
    "Polish": "Komisja zebrała się wiosną, aby zastanowić się, jak naprawić starą bibliotekę, i postanowiła "
    "zapytać o zdanie budowniczego z sąsiedztwa.",
    "Turkish": "Kurul, eski kütüphanenin nasıl onarılması gerektiğini görüşmek için ilkbaharda toplandı ve bir ustanın görüşünü sormaya karar verdi.",
    "Swahili": "Kamati ilikutana wakati wa masika ili kujadili jinsi maktaba ya zamani inavyopaswa kukarabatiwa, na "
    "wakaamua kumwuliza mjenzi maoni yake.",
    "Vietnamese": "Ủy ban đã họp vào mùa xuân để xem xét thư viện cũ nên được sửa chữa như thế nào, và quyết định hỏi ý kiến của một người thợ xây.",
}
HARD_BUT_SOUND = {
    "source code": inspect.getsource(argparse.ArgumentParser)[:3000],
    "chemical names": "2-(2H-benzotriazol-2-yl)-4,6-ditertpentylphenol; Imidazolidine-2-thione; Dihexyl phthalate; "
    "Trixylyl phosphate; Sodium peroxometaborate",
    "references": "Stochholm K, Juul S, Juel K, Naeraa RW, Gravholt CH. J Clin Endocrinol Metab 2006;91:3897-902. "
    "Grossi A, Crino A, Luciano R. Ital J Pediatr",
    "capitals": PROSE.upper(),
}


@pytest.mark.parametrize("text", [*LANGUAGES.values(), *HARD_BUT_SOUND.values(), PROSE], ids=[*LANGUAGES, *HARD_BUT_SOUND, "English"])
def test_text_is_plausible(text):
    letters = plausibility.letter_bits(text)
    assert letters.pairs >= plausibility.MIN_PAIRS
    assert letters.bits > LIMIT
    assert plausibility.best_shift(text) == 0


@pytest.mark.parametrize("places", [1, 3, 13, 25])
@pytest.mark.parametrize("text", [PROSE, LANGUAGES["German"], LANGUAGES["Turkish"]])
def test_shifted_letters_are_noise_and_the_shift_is_found(text, places):
    noise = shift(text, places)
    assert plausibility.letter_bits(noise).bits < LIMIT
    # Letters with marks do not shift in `shift`, so the way back is found on the plain ones.
    assert plausibility.best_shift(noise) == 26 - places


def test_permuted_alphabets_are_noise():
    generator = np.random.default_rng(7)
    caught = 0
    for _ in range(200):
        order = "".join(generator.permutation(list(string.ascii_lowercase)))
        noise = PROSE.lower().translate(str.maketrans(string.ascii_lowercase, order))
        caught += plausibility.letter_bits(noise).bits < LIMIT
    assert caught >= 198


@pytest.mark.parametrize("text", ["", "1,234.5 678 -- 90%", "図書館の屋根を修理する", "Комитет собрался весной", "اجتمعت اللجنة في الربيع"])
def test_numbers_and_other_scripts_are_not_judged(text):
    assert plausibility.letter_bits(text).pairs == 0


@given(st.text(alphabet=string.printable + "éßøﬁŁ\u0301中\ufffd😀", max_size=200))
def test_pairs_are_counted_as_a_slow_reference_counts_them(text):
    folded = {"é": "e", "ß": "s", "ø": "o", "ﬁ": "f", "ł": "l"}
    plain = [folded.get(c.lower(), c.lower()) for c in f" {text} " if c != "\u0301"]
    found = [c if c in string.ascii_lowercase else None for c in plain]
    slow = Counter((a, b) for a, b in itertools.pairwise(found) if a or b)
    pairs = letter_pairs.count_pairs(text)
    assert pairs.sum() == slow.total()
    for (a, b), count in slow.items():
        assert pairs[26 if a is None else ord(a) - 97, 26 if b is None else ord(b) - 97] == count


def test_marks_and_case_are_folded_whether_composed_or_not():
    assert letter_pairs.symbols("École").tolist() == letter_pairs.symbols("e\u0301cole").tolist() == letter_pairs.symbols("ecole").tolist()


def test_the_tables_are_the_ones_the_code_names_and_are_probabilities():
    data = resources.files("curate.ocr").joinpath("letter_pairs.txt").read_bytes()
    assert hashlib.blake2b(data, digest_size=8).hexdigest() == letter_pairs.TABLE_DIGEST
    names, logs = letter_pairs.tables()
    assert len(set(names)) == len(names) == 31
    assert np.allclose(np.exp2(logs).sum(axis=2), 1.0, atol=0.08)


def test_a_table_survives_its_encoding():
    pairs = letter_pairs.count_pairs(PROSE)
    codes = np.frombuffer(letter_pairs.encode_table(pairs).encode("ascii"), dtype=np.uint8).reshape(27, 27)
    exact = np.log2((pairs + 0.5) / (pairs + 0.5).sum(axis=1, keepdims=True))
    read = letter_pairs.FLOOR_BITS + (codes.astype(float) - ord("#")) / letter_pairs.STEPS_PER_BIT
    assert np.abs(read - exact).max() <= 0.5 / letter_pairs.STEPS_PER_BIT + 1e-9


def test_unmapped_characters():
    assert plausibility.unmapped_share("abc\ufffd\ue000\x01 de") == pytest.approx(3 / 8)
    assert plausibility.unmapped_share("  \n") == 0.0
    assert plausibility.unmapped_share("Ωμέγα 図書館 ₤ ∑") == 0.0


def test_words_are_told_from_the_rubble_of_bad_recognition():
    rubble = '.1/1.e_atinc24451a.y, 0-e-el-k- .A.:01.6e.e. "tet:A•44 ,"o44,A4)-0-A:fcfk ltd‘, #41-C-43PU244 .420‘rAdair... -777d4v,'
    assert plausibility.word_share(rubble) < 0.3
    assert plausibility.word_share(PROSE) > 0.95
    assert plausibility.word_share("Комитет собрался (весной) 1943 года, и 12.5 % членов «согласились».") > 0.85
    assert plausibility.word_share("") == 0.0
