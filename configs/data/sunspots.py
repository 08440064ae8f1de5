"""Write the files of the sunspot configurations from sunspots.csv: python configs/data/sunspots.py

The yearly mean sunspot numbers of 1700 to 2008 are of the National Geophysical Data Center (public domain), as
statsmodels distributes them. A sequence is 33 years, three cycles of the sun; the numbers are divided by 100. Parts
follow each other in time, by the year that is predicted.

- sunspots-PART.npz: y is the number of the year after the sequence.
- rising-PART.npz: y is, for each year of the sequence, whether the next year has more spots.
- ahead-PART.csv: a row for each year of every fourth sequence, with the numbers of the next year and the one after.
"""

import csv
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
LENGTH, EVERY = 33, 4
PARTS = {"train": (1733, 1930), "validation": (1931, 1960), "test": (1961, 2008)}
TAGGED = {"train": (1733, 1900), "validation": (1933, 1955), "test": (1988, 2008)}  # no year is in two parts

year, spots = np.loadtxt(FOLDER / "sunspots.csv", delimiter=",", skiprows=1, unpack=True)


def windows(first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of 33 years before each year, and those of the years that follow each of them."""
    ends = [int(target - year[0]) for target in range(first, last + 1)]
    before = np.stack([spots[end - LENGTH : end] for end in ends])
    after = np.stack([spots[end - LENGTH + 1 : end + 1] for end in ends])
    return before.astype(np.float32), after.astype(np.float32)


for part, years in PARTS.items():
    before, after = windows(*years)
    np.savez_compressed(FOLDER / f"sunspots-{part}.npz", x=before[..., None] / 100, y=after[:, -1])
for part, years in TAGGED.items():
    before, after = windows(*years)
    words = np.where(after > before, "rising", "falling")
    np.savez_compressed(FOLDER / f"rising-{part}.npz", x=before[..., None] / 100, y=words)
for part, (first, last) in TAGGED.items():
    with (FOLDER / f"ahead-{part}.csv").open("w", newline="", encoding="utf-8") as file:
        write = csv.writer(file, lineterminator="\n").writerow
        write(["sequence", "year", "spots", "next_year", "second_year"])
        for end in range(first - 1, last - 1, EVERY):  # the last year of a sequence, of which two more are known
            for place in range(int(end - year[0]) - LENGTH + 1, int(end - year[0]) + 1):
                numbers = (f"{number:g}" for number in spots[place : place + 3])
                write([f"{end - LENGTH + 1}-{end}", f"{year[place]:.0f}", *numbers])
