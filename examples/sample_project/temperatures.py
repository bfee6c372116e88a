"""Temperatures in three scales: a project that is just large enough to be checked and released."""

from __future__ import annotations

ABSOLUTE_ZERO_C = -273.15


def fahrenheit(celsius: float) -> float:
    """Degrees Celsius as degrees Fahrenheit."""
    return celsius * 9 / 5 + 32


def kelvin(celsius: float) -> float:
    """Degrees Celsius as kelvins.

    Raises:
        ValueError: it cannot be as cold as that.
    """
    if celsius < ABSOLUTE_ZERO_C:
        raise ValueError(f"{celsius} °C is below absolute zero")
    return celsius - ABSOLUTE_ZERO_C
