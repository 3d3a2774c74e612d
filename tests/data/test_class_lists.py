"""Which classes a zero-shot test is among."""

import numpy as np
import pytest

from vidprompt.data.splits import class_lists
from vidprompt.system.errors import DataError

K600 = ["tying knot (not on a tie)", "new one", "b", "renamed", "a, with comma"]


def test_halves_are_those_of_the_published_code() -> None:
    names = [f"c{i}" for i in range(101)]
    for seed in (0, 9):
        np.random.seed(seed)
        expected = [names[i] for i in np.random.permutation(101)[:50]]
        assert class_lists.half_classes(names, seed) == expected


def test_new_classes_by_exact_name_and_without_renamed_ones() -> None:
    new = class_lists.new_classes(K600, ["b", "B", "old name"])
    assert new == ["tying knot (not on a tie)", "new one", "renamed", "a, with comma"]
    assert class_lists.new_classes(new, (), ["renamed"]) == [K600[0], K600[1], K600[4]]


def test_a_drawn_partition_uses_every_class_once() -> None:
    names = [f"c{i:03d}" for i in range(220)]
    validation, test = class_lists.draw_partition(names, 160, 1)
    assert (len(validation), len(test)) == (60, 160)
    assert sorted(validation + test) == names
    assert class_lists.draw_partition(names, 160, 1) == (validation, test)
    assert class_lists.draw_partition(names, 160, 2)[1] != test
    with pytest.raises(DataError, match="160 test classes of 160: none is left for validation"):
        class_lists.draw_partition(names[:160], 160, 1)


@pytest.mark.parametrize(
    "text",
    [
        "tying knot (not on a tie)\nnew one\na, with comma\n",
        '0,tying knot (not on a tie)\n1,new one\n2,"a, with comma"\n',
        "1 tying knot (not on a tie)\r\n2 new one\r\n\r\n3 a, with comma\r\n",
    ],
)
def test_class_files_in_the_forms_of_the_field(tmp_path, text: str) -> None:
    (tmp_path / "classes.txt").write_bytes(text.encode())
    names = class_lists.read_classes_file(tmp_path / "classes.txt")
    assert names == [K600[0], K600[1], K600[4]]
    class_lists.check_known(names, K600, "classes.txt")
    with pytest.raises(DataError, match="1 of 3 classes are not in the dataset, first 'new one'"):
        class_lists.check_known(names, [K600[0], K600[4]], "classes.txt")


def test_a_class_named_twice_is_refused(tmp_path) -> None:
    (tmp_path / "classes.txt").write_text("a\nb\na\n")
    with pytest.raises(DataError, match=r"classes\.txt:3: .*'a' stands there twice"):
        class_lists.read_classes_file(tmp_path / "classes.txt")
