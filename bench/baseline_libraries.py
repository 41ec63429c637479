"""Compare baselines with libraries: equal numbers from equal weights, and the time of a sweep.

Install the libraries into a separate folder, so that the project's environment does not change:

    pip install --no-deps --target FOLDER implicit cornac powerlaw
    python bench/baseline_libraries.py FOLDER

- iALS: the vectors of users given those of items, beside `implicit.cpu.als.user_factor`. With confidence 1 + 1/a for
  what was taken and 1 for the rest, and penalty l2 c_u / a, its equations are ours, the solution 1 + a times as long.
  Then the seconds of a sweep over users and items, beside `implicit`'s compiled exact solver on one thread.
- Multi-VAE: loss and logits, beside `cornac`'s VAECF with the same weights and the same noise.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array, csr_matrix

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from symbiosis.recommender.baselines.ials import IALS
from symbiosis.recommender.baselines.multi_vae import MultiVAE
from symbiosis.recommender.data.training_data import TrainingData


def interactions(users: int, items: int, each: int) -> TrainingData:
    """Draw items per user, popular ones more often, at least two each."""
    rng = np.random.default_rng(0)
    appeal = rng.gumbel(size=(users, items)) - np.log(np.arange(1, items + 1))
    counts = 2 + rng.poisson(each - 2, users)
    taken = (-appeal).argsort(axis=1).argsort(axis=1) < counts[:, None]
    return TrainingData(csr_array(taken.astype(np.float32)))


def compare_ials(data: TrainingData, dimension: int) -> None:
    """Solve for the users with both, then time sweeps."""
    from implicit.cpu.als import AlternatingLeastSquares, user_factor

    weight, l2 = 0.1, 0.003
    model = IALS(data, seed=0)
    model.fit(dimension=dimension, unobserved_weight=weight, l2=l2)
    model.epoch()
    items = model.items.astype(np.float64)
    ours = model._solved(model.train, model.items)
    confidences = csr_matrix(model.train * (1 + 1 / weight))
    lengths = np.diff(model.train.indptr)
    gram = items.T @ items
    largest = 0.0
    for user in range(0, len(lengths), max(1, len(lengths) // 500)):
        penalty = l2 * (lengths[user] + weight * len(items)) / weight
        theirs = user_factor(items, gram, confidences, user, penalty, dimension) / (1 + weight)
        largest = max(largest, float(np.abs(theirs - ours[user]).max() / np.abs(theirs).max()))
    print(f"iALS: vectors of users differ by {largest:.1e} of their largest entry")
    if largest > 1e-3:
        sys.exit("that is too much")

    theirs = AlternatingLeastSquares(
        factors=dimension, iterations=3, use_cg=False, num_threads=1, random_state=0, regularization=0.1
    )
    start = time.perf_counter()
    theirs.fit(confidences, show_progress=False)
    middle = time.perf_counter()
    for _ in range(3):
        model.epoch()
    seconds = (middle - start) / 3, (time.perf_counter() - middle) / 3
    print(f"iALS: a sweep takes {seconds[1]:.2f} s, implicit's {seconds[0]:.2f} s: {seconds[0] / seconds[1]:.1f} times")


def compare_multi_vae(data: TrainingData, dimension: int) -> None:
    """Compute loss and logits with both."""
    import torch
    from cornac.models.vaecf.vaecf import VAE
    from torch.nn import functional as F

    model = MultiVAE(data, seed=0)
    model.fit(
        dimension=dimension,
        dropout=0.0,
        hidden=100,
        beta=0.3,
        annealing_epochs=1,
        learning_rate=0.001,
        weight_decay=0.0,
        users_per_batch=100,
    )
    for _ in range(2):
        model.epoch()
    theirs = VAE(dimension, [model.n_items, 100], "tanh", "mult")
    first, second = model.network["encoder"][0], model.network["encoder"][2]
    with torch.no_grad():
        for ours, layer in (
            (first, theirs.encoder.fc0),
            (model.network["decoder"][0], theirs.decoder.fc0),
            (model.network["decoder"][2], theirs.decoder.fc1),
        ):
            layer.load_state_dict(ours.state_dict())
        for part, layer in enumerate((theirs.enc_mu, theirs.enc_logvar)):
            layer.weight.copy_(second.weight.chunk(2)[part])
            layer.bias.copy_(second.bias.chunk(2)[part])
        users = np.arange(50)
        rows = torch.from_numpy(data.interactions[users].toarray())
        mean, log_variance = theirs.encode(F.normalize(rows))
        torch.manual_seed(1)
        expected = theirs.loss(rows, theirs.decode(theirs.reparameterize(mean, log_variance)), mean, log_variance, 0.3)
        torch.manual_seed(1)
        loss = model.loss(users)
        odds = theirs.decode(mean)
        logits = torch.from_numpy(model.scores(users)).softmax(dim=1)
    apart = abs(loss.item() - expected.item()) / abs(expected.item()), (odds - logits).abs().max().item()
    print(f"Multi-VAE: losses differ by {apart[0]:.1e}, probabilities of items by {apart[1]:.1e}")
    if max(apart) > 1e-4:
        sys.exit("that is too much")


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("libraries", type=Path, help="folder with implicit and cornac")
    parser.add_argument("--users", type=int, default=8000)
    parser.add_argument("--items", type=int, default=4000)
    parser.add_argument("--each", type=int, default=6, help="mean items of a user")
    parser.add_argument("--dimension", type=int, default=64)
    arguments = parser.parse_args()
    sys.path.append(str(arguments.libraries))
    data = interactions(arguments.users, arguments.items, arguments.each)
    compare_ials(data, arguments.dimension)
    compare_multi_vae(data, arguments.dimension)


if __name__ == "__main__":
    main()
