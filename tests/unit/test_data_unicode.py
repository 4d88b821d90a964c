"""Text is Unicode: one normal form, marks belong to their letters, in every view."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from data_files import language, task

from normlab.config.schema import InputError
from normlab.data.load import load
from normlab.views import text


@pytest.mark.parametrize(
    "words",
    [
        ["हिन्दी", "अच्छी", "किताब"],
        ["ภาษาไทย", "น้ำ"],
        ["שָׁלוֹם", "עוֹלָם"],
        ["مُحَمَّد", "كِتَاب"],
        ["می‌خواهم"],
        ["தமிழ்", "বাংলা"],
        ["x̌", "q̇a"],  # no composed form exists
        ["don't", "l’été"],
        ["naïve", "i̇stanbul"],
    ],
)
def test_words_keep_their_marks(words: list[str]) -> None:
    assert text.split_words(" ".join(words)) == words
    assert text.split_words(", ".join(words)) == [part for word in words for part in (word, ",")][:-1]


def test_other_characters_stand_alone() -> None:
    assert text.split_words("a_b (c)! ❤️ 10 ½") == ["a", "_", "b", "(", "c", ")", "!", "❤️", "10", "½"]


@pytest.mark.parametrize("view", ["characters", "words", "subwords"])
def test_all_views_see_one_normal_form(tmp_path: Path, view: str) -> None:
    prints = set()
    for form in ("NFC", "NFD"):
        rows = "".join(f"café हिन्दी Ångström {i % 2},{label}\n" for i in range(5) for label in ("é", "a"))
        path = tmp_path / f"{form}.csv"
        path.write_text(unicodedata.normalize(form, "text,label\n" + rows), encoding="utf-8")
        data = load(task(path, view=view, vocabulary=60), tmp_path / "cache")
        assert data.classes == ("a", "é")
        prints.add(data.fingerprint)
    assert len(prints) == 1


def test_two_forms_of_a_label_are_one_class(tmp_path: Path) -> None:
    labels = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")] + ["a"]
    path = tmp_path / "in.csv"
    path.write_text("text,label\n" + "".join(f"t,{label}\n" for label in labels * 4), encoding="utf-8")
    assert load(task(path), tmp_path / "cache").classes == ("a", "é")
    (tmp_path / "in.csv").unlink()


def test_subwords_keep_marks_within_words(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_text("हिन्दी किताब " * 50, encoding="utf-8")
    vocabulary = load(language(path, view="subwords", vocabulary=40), tmp_path / "cache").vocabulary
    assert vocabulary is not None
    assert " हिन्दी" in vocabulary.pieces


def test_a_limit_of_the_vocabulary_is_kept_or_refused(tmp_path: Path) -> None:
    letters = "".join(chr(0x4E00 + i) for i in range(300))
    path = tmp_path / "in.txt"
    path.write_text(letters + letters[:50] * 3, encoding="utf-8")
    with pytest.raises(InputError, match=r"task\.vocabulary=100: .* 300 different characters.*vocabulary=302 or more"):
        load(language(path, view="subwords", vocabulary=100, validation=0.01), tmp_path / "cache")
    for view in ("characters", "words"):
        path.write_text(letters[:50] * 9 + letters + " ".join(letters), encoding="utf-8")
        data = load(language(path, view=view, vocabulary=52, validation=0.01), tmp_path / "cache")
        assert data.vocabulary is not None
        assert len(data.vocabulary) == data.sizes.outputs == 52
        if view == "characters":
            assert data.vocabulary.pieces[3:] == tuple(letters[:49])  # and the space, which is frequent
