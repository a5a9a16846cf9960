"""The linear probe: scikit-learn's logistic regression on standardised features, its strength chosen on a held-out fifth.

Features are the pixels of Fashion-MNIST, 20,000 images to fit and 10,000 to judge by. Both sides choose among the same eleven
strengths by the held-out cross-entropy, each fit starting from the one before, and fit the chosen one anew on all samples; ours
leaves out the weak penalties after the loss has risen, and ends its fits at a smaller gradient. Work is counted in samples; the
answer also has the accuracy, which must not be bought with speed.
"""

import argparse
import time
from typing import Any

import inputs
import worker

SETTINGS = {"probe": ["scikit-learn"]}

SAMPLES = 20_000
STRENGTHS = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0]


def prepare(options: argparse.Namespace) -> worker.Round:
    """Reads both parts; standardising is part of a round, as it is of a probe."""
    import numpy as np
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedShuffleSplit
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
            held_out = StratifiedShuffleSplit(1, test_size=0.2, random_state=options.seed)
            found = LogisticRegressionCV(Cs=STRENGTHS, cv=held_out, scoring="neg_log_loss", max_iter=10_000)
            found.fit(scaler.transform(train), train_labels)
            # Its `score` would be the one that it chose by.
            accuracy = np.mean(found.predict(scaler.transform(test)) == test_labels)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "work": float(len(train)), "accuracy": float(accuracy)}

    return one_round


if __name__ == "__main__":
    worker.serve(SETTINGS, prepare)
