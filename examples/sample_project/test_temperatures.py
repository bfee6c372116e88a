"""Tests of `temperatures`, for `python3 -m unittest`."""

from __future__ import annotations

import unittest

from temperatures import ABSOLUTE_ZERO_C, fahrenheit, kelvin


class TestTemperatures(unittest.TestCase):
    def test_water_freezes_at_32_and_boils_at_212_degrees_fahrenheit(self) -> None:
        self.assertEqual([fahrenheit(0), fahrenheit(100)], [32, 212])

    def test_nothing_is_colder_than_0_kelvins(self) -> None:
        self.assertEqual(kelvin(ABSOLUTE_ZERO_C), 0)
        with self.assertRaises(ValueError):
            kelvin(-300)
