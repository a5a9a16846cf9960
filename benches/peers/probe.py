"""The linear probe: scikit-learn's logistic regression on standardised features, fitted until it converges.

Features are the pixels of Fashion-MNIST, 20,000 images to fit and 10,000 to judge by. Work is counted in samples fitted; the
answer also has the accuracy, which must not be bought with speed.
"""

import argparse
import time
from typing import Any

import inputs
import worker

SETTINGS = {"probe": ["scikit-learn"]}

SAMPLES, C, TOLERANCE = 20_000, 0.03, 1e-4


def prepare(options: argparse.Namespace) -> worker.Round:
    """Reads both parts; standardising is part of a round, as it is of a probe."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    def part(name: str, count: int) -> tuple[Any, Any]:
        images, labels = inputs.fashion_mnist(options, name, count)
        return images.reshape(len(images), -1).astype(np.float32) / 255, labels

    train, train_labels = part("train", worker.scaled(options, SAMPLES))
    test, test_labels = part("t10k", 10_000)

    def one_round() -> dict[str, Any]:
        started = time.perf_counter()
        with threadpool_limits(options.threads):
            scaler = StandardScaler().fit(train)
            found = LogisticRegression(C=C, tol=TOLERANCE, max_iter=10_000).fit(scaler.transform(train), train_labels)
            accuracy = found.score(scaler.transform(test), test_labels)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "work": float(len(train)), "accuracy": float(accuracy)}

    return one_round


if __name__ == "__main__":
    worker.serve(SETTINGS, prepare)
