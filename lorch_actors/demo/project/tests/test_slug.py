import unittest

from src import textkit


class Slug(unittest.TestCase):
    def test_words_are_joined_by_hyphens(self) -> None:
        self.assertEqual("hello-world", textkit.slug("Hello, World!"))

    def test_hyphens_do_not_stand_at_the_ends(self) -> None:
        self.assertEqual("v2-0-final", textkit.slug("-- v2.0 (final) --"))

    def test_nothing_gives_nothing(self) -> None:
        self.assertEqual("", textkit.slug("?!"))
