import unittest

from src import textkit


class WordCounts(unittest.TestCase):
    def test_the_most_frequent_word_comes_first(self) -> None:
        self.assertEqual([("b", 3), ("a", 1), ("c", 1)], list(textkit.word_counts("B a b, c b").items()))

    def test_an_empty_text_has_no_words(self) -> None:
        self.assertEqual({}, textkit.word_counts(" … "))
