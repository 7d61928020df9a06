import unittest

from src import textkit


class Squeeze(unittest.TestCase):
    def test_white_space_becomes_one_space(self) -> None:
        self.assertEqual("a b c", textkit.squeeze("  a \t b\n\nc "))
