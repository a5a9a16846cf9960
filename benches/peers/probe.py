"""The linear probe: scikit-learn's logistic regression on standardised features, its strength chosen on a held-out fifth.

Features are those of images of Fashion-MNIST: for `probe` the pixels, 20,000 images to fit and 10,000 others to judge by; for
`probe-512` the numbers of `features.npy`, 50,000 and 10,000. Both sides choose among the same eleven
strengths by the held-out cross-entropy, each fit starting from the one before, and fit the chosen one anew on all samples; ours
leaves out the weak penalties after the loss has risen, and ends its fits at a smaller gradient. Work is counted in samples; the
answer also has the accuracy, which must not be bought with speed.
"""

import argparse
import time
from typing import Any

import inputs
import worker

SETTINGS = {"probe": ["scikit-learn"], "probe-512": ["scikit-learn"]}

STRENGTHS = [1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0]


def pixels(options: argparse.Namespace) -> tuple[Any, Any, Any, Any]:
    """Features and labels to fit, features and labels to judge by."""
    import numpy as np

    def part(name: str, count: int) -> tuple[Any, Any]:
        images, labels = inputs.fashion_mnist(options, name, count)
        return images.reshape(len(images), -1).astype(np.float32) / 255, labels

    return *part("train", worker.scaled(options, 20_000)), *part("t10k", 10_000)


def features(options: argparse.Namespace) -> tuple[Any, Any, Any, Any]:
    """As `pixels`."""
    import numpy as np

    x = np.load(worker.needed(options, "features.npy"))
    _, labels = inputs.fashion_mnist(options, "train", len(x))
    fitted = slice(worker.scaled(options, 50_000))
    return x[fitted], labels[fitted], x[50_000:], labels[50_000:]


def prepare(options: argparse.Namespace) -> worker.Round:
    """Reads both parts; standardising is part of a round, as it is of a probe."""
    import numpy as np
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedShuffleSplit
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    train, train_labels, test, test_labels = (pixels if options.row == "probe" else features)(options)

    def one_round() -> dict[str, Any]:
        started = time.perf_counter()
        with threadpool_limits(options.threads):
            scaler = StandardScaler().fit(train)
            held_out = StratifiedShuffleSplit(1, test_size=0.2, random_state=options.seed)
            found = LogisticRegressionCV(
                Cs=STRENGTHS,
                l1_ratios=(0,),
                cv=held_out,
                scoring="neg_log_loss",
                max_iter=10_000,
                use_legacy_attributes=False,
            )
            found.fit(scaler.transform(train), train_labels)
            # Its `score` would be the one that it chose by.
            accuracy = np.mean(found.predict(scaler.transform(test)) == test_labels)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "work": float(len(train)), "accuracy": float(accuracy)}

    return one_round


if __name__ == "__main__":
    worker.serve(SETTINGS, prepare)
