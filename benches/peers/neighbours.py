"""Nearest neighbours and k-means: FAISS, PyTorch and scikit-learn.

Work is counted in queries for `knn`, and for `kmeans` in points times iterations.
"""

import argparse
import time
from typing import Any

import worker

SETTINGS = {
    "knn": ["faiss", "torch"],
    "kmeans": ["faiss", "scikit-learn"],
}

NEIGHBOURS, CLUSTERS, ITERATIONS = 200, 100, 20
BLOCK = 1000  # Queries whose similarities to all keys are held at once by `torch`: 200 MB.


def vectors(options: argparse.Namespace, name: str) -> Any:
    """`[N, 128]` floats, the first of them for a smaller `--scale`."""
    import numpy as np

    x = np.load(worker.needed(options, name))
    return np.ascontiguousarray(x[: worker.scaled(options, len(x))], dtype=np.float32)


def unit(x: Any) -> Any:
    """Rows of length 1."""
    import numpy as np

    return x / np.linalg.norm(x, axis=1, keepdims=True)


def knn(options: argparse.Namespace) -> worker.Round:
    """The most similar keys of every query by cosine; the index is built before the clock starts."""
    queries, keys = unit(vectors(options, "queries.npy")), unit(vectors(options, "keys.npy"))
    k = min(NEIGHBOURS, len(keys))
    if options.setting == "faiss":
        import faiss

        faiss.omp_set_num_threads(options.threads)
        index = faiss.IndexFlatIP(keys.shape[1])
        index.add(keys)

        def search(queries: Any) -> Any:
            return index.search(queries, k)
    else:
        import torch

        torch.set_num_threads(options.threads)
        columns = torch.from_numpy(keys).T

        def search(queries: Any) -> Any:
            blocks = torch.from_numpy(queries).split(BLOCK)
            similarities, numbers = zip(*((block @ columns).topk(k) for block in blocks))
            return torch.cat(similarities), torch.cat(numbers)

    search(queries[:256])

    def one_round() -> dict[str, Any]:
        started = time.perf_counter()
        search(queries)
        return {"seconds": time.perf_counter() - started, "work": float(len(queries))}

    return one_round


def kmeans(options: argparse.Namespace) -> worker.Round:
    """Lloyd's iterations from random points; the answer also has the mean squared distance, to compare the outcome."""
    points = vectors(options, "keys.npy")
    if options.setting == "faiss":
        import faiss

        faiss.omp_set_num_threads(options.threads)

        def cluster(points: Any, iterations: int) -> tuple[int, float]:
            found = faiss.Kmeans(
                points.shape[1],
                CLUSTERS,
                niter=iterations,
                nredo=1,
                seed=options.seed,
                min_points_per_centroid=1,
                max_points_per_centroid=len(points),  # No sampling: all points count.
            )
            found.train(points)
            return iterations, float(found.obj[-1]) / len(points)
    else:
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        def cluster(points: Any, iterations: int) -> tuple[int, float]:
            found = KMeans(
                CLUSTERS,
                init="random",
                n_init=1,
                max_iter=iterations,
                tol=0.0,
                algorithm="lloyd",
                random_state=options.seed,
            )
            with threadpool_limits(options.threads):
                found.fit(points)
            return found.n_iter_, float(found.inertia_) / len(points)

    cluster(points[:4000], 2)

    def one_round() -> dict[str, Any]:
        started = time.perf_counter()
        iterations, distance = cluster(points, ITERATIONS)
        seconds = time.perf_counter() - started
        return {"seconds": seconds, "work": float(len(points) * iterations), "mean_squared_distance": distance}

    return one_round


def prepare(options: argparse.Namespace) -> worker.Round:
    """The row's own way to prepare."""
    return {"knn": knn, "kmeans": kmeans}[options.row](options)


if __name__ == "__main__":
    worker.serve(SETTINGS, prepare)
