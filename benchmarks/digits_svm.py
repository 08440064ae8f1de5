"""How accurate is a support vector machine on the digits? The context of the table in docs/training.md.

Radial basis functions, C = 10, γ = .001 on the raw pixels, trained without and with the validation part.
Needs scikit-learn:

    python benchmarks/digits_svm.py
"""

import numpy as np
from sklearn.svm import SVC

from lstmjax.data import digits


def main() -> None:
    parts = digits()
    train, validation, test = ((part.x.reshape(len(part.x), -1), part.y) for part in parts)
    train_and_validation = tuple(np.concatenate(pair) for pair in zip(train, validation, strict=True))
    for name, (x, y) in {"train": train, "train and validation": train_and_validation}.items():
        accuracy = SVC(C=10.0, gamma=0.001).fit(x, y).score(*test)
        print(f"{name}, {len(x):,} images: test accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
