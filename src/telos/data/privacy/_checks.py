"""Check digits and dates, each by its standard."""

import datetime
from collections.abc import Iterable, Sequence

__all__ = ["date", "digits_of", "iso7064_11_2", "luhn", "mod97", "verhoeff", "weighted"]


def digits_of(text: str) -> str:
    """The digits alone."""
    return "".join(character for character in text if character in "0123456789")


def weighted(text: Iterable[str], weights: Sequence[int]) -> int:
    """Σ wᵢ · vᵢ; letters count as 10 for A to 35 for Z."""
    return sum(weight * int(character, 36) for character, weight in zip(text, weights, strict=True))


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: every second digit from the right doubled, the sum of all digits ends in 0."""
    doubled = sum(int(digit) * 2 - 9 * (digit > "4") for digit in digits[-2::-2])
    return (doubled + sum(map(int, digits[::-2]))) % 10 == 0


def mod97(text: str) -> bool:
    """ISO 7064 MOD 97-10 as an IBAN has it (ISO 13616): four characters to the end, letters as 10 … 35."""
    return int("".join(str(int(character, 36)) for character in text[4:] + text[:4])) % 97 == 1


def iso7064_11_2(digits: str) -> str:
    """The check character of ISO 7064 MOD 11-2: 0 … 9 or X."""
    total = 0
    for digit in digits:
        total = (total + int(digit)) * 2 % 11
    return "0123456789X"[(12 - total) % 11]


def verhoeff(digits: str) -> bool:
    """Verhoeff (1969): the dihedral group of order 10, with the last digit as the check."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        total = _dihedral(total, _permuted(int(digit), place % 8))
    return total == 0


def _dihedral(a: int, b: int) -> int:
    """The product in D₅: 0 … 4 are rotations, 5 … 9 reflections."""
    if a < 5:
        return (a + b) % 5 if b < 5 else 5 + (a + b) % 5
    return 5 + (a - b) % 5 if b < 5 else (a - b) % 5


def _permuted(digit: int, times: int) -> int:
    for _ in range(times):
        digit = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit]
    return digit


def date(text: str, *, centuries: Sequence[int] = (19, 20)) -> bool:
    """Whether YYYYMMDD, or YYMMDD in one of `centuries`, is a day."""
    years = [int(text[:4])] if len(text) == 8 else [100 * century + int(text[:2]) for century in centuries]
    month, day = int(text[-4:-2]), int(text[-2:])
    return any(_is_day(year, month, day) for year in years)


def _is_day(year: int, month: int, day: int) -> bool:
    try:
        datetime.date(year, month, day)
    except ValueError:
        return False
    return True
