"""Constant-weight codebooks: theorem 1, appendix A.2, and the algebra of ablations."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abc_lib.ground.errors import AbcError, BadValue, NoSurvivors
from abc_lib.method.code import Codebook, codeword_at, smallest_sufficient_n


@st.composite
def codes(draw):
    """(n, weight, num_sources, seed) with as many sources as there are codewords at most."""
    n = draw(st.integers(2, 9))
    weight = draw(st.integers(1, n - 1))
    return n, weight, draw(st.integers(1, comb(n, weight))), draw(st.integers(0, 2**31))


quick = settings(max_examples=60, deadline=None)


def saw(book: Codebook, source: int) -> set[int]:
    """S(s) of theorem 1."""
    return {i for i in range(book.n) if book.words[source, i]}


@quick
@given(codes())
def test_a_drawn_code_has_its_shape_a_constant_weight_and_no_word_twice(code):
    n, weight, num_sources, seed = code
    book = Codebook.draw(n, weight, num_sources, seed)
    assert book.words.shape == (num_sources, n) and book.words.dtype == np.uint8
    assert (book.num_sources, book.n, book.weight) == (num_sources, n, weight)
    assert (book.words.sum(axis=1) == weight).all()
    assert len({tuple(word) for word in book.words.tolist()}) == num_sources


@quick
@given(codes())
def test_theorem_1_no_ablation_of_one_source_removes_all_that_saw_another(code):
    book = Codebook.draw(*code)
    seen = [saw(book, s) for s in range(book.num_sources)]
    for a, b in combinations(range(min(book.num_sources, 30)), 2):
        assert seen[a] - seen[b] and seen[b] - seen[a]


@quick
@given(codes())
def test_the_same_seed_gives_the_same_code(code):
    assert np.array_equal(Codebook.draw(*code).words, Codebook.draw(*code).words)


def test_other_seeds_give_other_codes():
    drawn = {Codebook.draw(12, 6, 20, seed).words.tobytes() for seed in range(20)}
    assert len(drawn) == 20


def test_a_code_of_today_is_the_code_of_tomorrow():
    # Published ensembles were trained on it: drawing must not change with a version.
    words = Codebook.draw(6, 3, 5, 0).words
    assert ["".join(map(str, word)) for word in words.tolist()] == [
        "111000",
        "001011",
        "110100",
        "110010",
        "001101",
    ]


def test_codewords_are_drawn_evenly():
    # 2,000 codes of 3 of the 6 words with n=4, w=2: each word expects 1,000, s.d. 22.
    counts: dict[tuple, int] = {}
    for seed in range(2000):
        for word in Codebook.draw(4, 2, 3, seed).words.tolist():
            counts[tuple(word)] = counts.get(tuple(word), 0) + 1
    assert len(counts) == 6 and all(abs(count - 1000) < 110 for count in counts.values())


@pytest.mark.parametrize("n", range(1, 9))
def test_codeword_at_lists_every_support_once_in_order(n):
    for weight in range(n + 1):
        listed = [
            tuple(np.flatnonzero(codeword_at(rank, n, weight))) for rank in range(comb(n, weight))
        ]
        assert listed == list(combinations(range(n), weight))


@pytest.mark.parametrize("rank", [-1, 6])
def test_codeword_at_refuses_a_rank_that_there_is_not(rank):
    with pytest.raises(BadValue, match=r"0\.\.5"):
        codeword_at(rank, 4, 2)


@pytest.mark.parametrize("n, weight", [(2, 1), (10, 5), (14, 7), (20, 2)])
def test_every_codeword_there_is_can_be_handed_out(n, weight):
    book = Codebook.draw(n, weight, comb(n, weight), 1)
    assert len({word.tobytes() for word in book.words}) == comb(n, weight)


def test_a_long_code_is_drawn_without_listing_its_words():
    book = Codebook.draw(80, 40, 500, 0)  # C(80, 40) is about 1e23
    assert book.words.shape == (500, 80) and (book.words.sum(axis=1) == 40).all()
    # every member sees about half, as the paper says: 250, s.d. 11
    assert all(abs(seen - 250) < 60 for seen in book.words.sum(axis=0).tolist())


@quick
@given(st.integers(1, 10**9))
def test_a2_the_smallest_sufficient_n_suffices_and_is_smallest(num_sources):
    n = smallest_sufficient_n(num_sources)
    assert comb(n, n // 2) >= num_sources
    assert n == 1 or comb(n - 1, (n - 1) // 2) < num_sources


def test_a2_the_papers_members_suffice_for_its_largest_landscape():
    assert smallest_sufficient_n(50_000) == 19 <= 22
    assert smallest_sufficient_n(252) == 10 and smallest_sufficient_n(253) == 11


@quick
@given(codes(), st.data())
def test_survivors_and_ablation_equal_a_naive_set_computation(code, data):
    book = Codebook.draw(*code)
    sources = data.draw(st.lists(st.integers(0, book.num_sources - 1), max_size=4))
    alive = set(range(book.n)) - set().union(*(saw(book, s) for s in sources))
    if not alive:
        with pytest.raises(NoSurvivors):
            book.survivors(sources)
        with pytest.raises(NoSurvivors):
            book.ablation(sources)
        return
    survivors = book.survivors(sources)
    assert survivors.dtype == bool and set(np.flatnonzero(survivors)) == alive
    c = book.ablation(sources)
    assert c.dtype == np.float64 and c.shape == (book.n,)
    assert c == pytest.approx([book.n / len(alive) if i in alive else 0 for i in range(book.n)])
    # f . c = sum f_i c_i / n is the mean of the survivors
    f = np.arange(1.0, book.n + 1) ** 2
    assert (f * c).sum() / book.n == pytest.approx(np.mean([f[i] for i in alive]))


def test_a_source_alone_and_in_a_list_are_the_same():
    book = Codebook.draw(8, 4, 20, 0)
    assert np.array_equal(book.survivors(7), book.survivors([7]))
    assert np.array_equal(book.survivors(7), book.survivors(np.array([7, 7])))


def test_removing_nothing_leaves_the_whole_ensemble():
    book = Codebook.draw(8, 4, 20, 0)
    assert book.survivors([]).all() and np.array_equal(book.ablation([]), np.ones(8))


def test_no_survivors_says_how_many_members_and_what_to_do():
    book = Codebook.draw(4, 2, 6, 0)
    with pytest.raises(
        NoSurvivors, match="without these 6 sources: each of the 4 members.*remove fewer"
    ):
        book.survivors(range(6))


@quick
@given(codes())
def test_leave_one_out_rows_are_the_ablations_of_each_source(code):
    book = Codebook.draw(*code)
    rows = book.leave_one_out()
    assert rows.dtype == np.float64 and rows.shape == (book.num_sources, book.n)
    assert np.allclose(rows, [book.ablation(s) for s in range(book.num_sources)], rtol=1e-15)


def test_leave_one_out_of_some_sources_keeps_their_order():
    book = Codebook.draw(8, 4, 20, 0)
    assert np.array_equal(
        book.leave_one_out(np.array([5, 2, 5])), np.stack([book.ablation(s) for s in (5, 2, 5)])
    )


@quick
@given(codes())
def test_splits_are_the_columns(code):
    book = Codebook.draw(*code)
    for member in range(book.n):
        assert book.split(member).tolist() == [
            s for s in range(book.num_sources) if member in saw(book, s)
        ]
    assert sum(len(book.split(i)) for i in range(book.n)) == book.num_sources * book.weight


@pytest.mark.parametrize("member", [-1, 8])
def test_split_refuses_a_member_that_there_is_not(member):
    with pytest.raises(BadValue, match=r"outside 0\.\.7"):
        Codebook.draw(8, 4, 20, 0).split(member)


@pytest.mark.parametrize("sources", [-1, 20, [3, 20], [-1, 3]])
def test_survivors_refuses_a_source_that_there_is_not(sources):
    wrong = 20 if 20 in np.atleast_1d(sources) else -1
    with pytest.raises(BadValue, match=rf"source {wrong} is outside 0\.\.19"):
        Codebook.draw(8, 4, 20, 0).survivors(sources)


@pytest.mark.parametrize("source", [-1, 20])
def test_leave_one_out_refuses_a_source_that_there_is_not(source):
    with pytest.raises(BadValue, match=r"outside 0\.\.19"):
        Codebook.draw(8, 4, 20, 0).leave_one_out(np.array([source]))


@pytest.mark.parametrize("sources", [1.5, np.arange(20) == 3])
def test_survivors_does_not_take_fractions_or_masks_for_source_numbers(sources):
    book = Codebook.draw(8, 4, 20, 0)
    try:
        survivors = book.survivors(sources)
    except BadValue:
        return
    assert isinstance(sources, np.ndarray) and np.array_equal(survivors, book.survivors(3))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0, 1, 1, 0), "n is 0"),
        ((4, 0, 1, 0), "weight is 0"),
        ((4, 2, 0, 0), "num_sources is 0"),
        ((4.0, 2, 1, 0), "n is 4.0"),
        ((4, 4, 1, 0), "leaves none"),
        ((4, 2, 7, 0), "4 members of weight 2 give 6 codewords, too few for 7 sources; 5 members"),
    ],
)
def test_draw_refuses_what_cannot_be_a_code(arguments, message):
    with pytest.raises(BadValue, match=message):
        Codebook.draw(*arguments)


def test_what_the_refusal_recommends_holds_for_a_light_code_too():
    # C(20, 2) = 190: 10 members would do only if the weight became 5, so the message has to say so.
    with pytest.raises(BadValue) as error:
        Codebook.draw(20, 2, 191, 0)
    assert "10 members of weight 5" in str(error.value)


@pytest.mark.parametrize(
    "words, message",
    [
        (np.zeros((0, 4), np.uint8), "matrix"),
        (np.array([1, 0], np.uint8), "matrix"),
        (np.array([[2, 0], [0, 2]], np.uint8), "zeros and ones"),
        (np.array([[1, 1, 0], [1, 0, 0]], np.uint8), "weight"),
        (np.array([[1, 0], [1, 0]], np.uint8), "share"),
    ],
)
def test_a_codebook_checks_its_words(words, message):
    with pytest.raises(BadValue, match=message):
        Codebook(words)


def test_a_code_that_leaves_nobody_is_refused_in_one_line():
    with pytest.raises(AbcError):
        Codebook(np.ones((1, 3), np.uint8)).leave_one_out()
