import unittest

from src import textkit


class Excerpt(unittest.TestCase):
    def test_a_short_text_stays_whole(self) -> None:
        self.assertEqual("short", textkit.excerpt("short", 5))

    def test_a_long_text_is_cut_at_a_space(self) -> None:
        self.assertEqual("the quick…", textkit.excerpt("the quick brown fox", 12))

    def test_a_long_word_is_cut_anyway(self) -> None:
        self.assertEqual("unbe…", textkit.excerpt("unbelievable", 5))

    def test_a_limit_below_one_is_refused(self) -> None:
        with self.assertRaises(ValueError):
            textkit.excerpt("text", 0)
