"""VICReg against plain numpy, and which images the warm start sees."""

import numpy as np
import pytest
import torch
from phenoembed.pairs import Origins
from phenoembed.warm_start import PAIRS, PairBatches, vicreg_loss


def vicreg_by_hand(first: np.ndarray, second: np.ndarray) -> float:
    """Bardes et al. (2022), Algorithm 1, with the authors' code's half of each variance term."""
    n, dim = first.shape
    variance = covariance = 0.0
    for view in (first, second):
        variance += sum(max(0.0, 1 - (view[:, j].var(ddof=1) + 1e-4) ** 0.5) for j in range(dim)) / dim / 2
        centred = view - view.mean(0)
        for j in range(dim):
            for k in range(dim):
                if j != k:
                    covariance += ((centred[:, j] * centred[:, k]).sum() / (n - 1)) ** 2 / dim
    return float(25 * ((first - second) ** 2).mean() + 25 * variance + covariance)


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_vicreg_is_that_by_hand(scale: float) -> None:
    """For features that vary too little and enough."""
    rng = np.random.default_rng(0)
    first, second = (scale * rng.normal(size=(9, 5)) for _ in range(2))
    found = vicreg_loss(torch.from_numpy(first), torch.from_numpy(second))
    assert float(found) == pytest.approx(vicreg_by_hand(first, second))


@pytest.fixture
def numbered() -> tuple[np.ndarray, Origins]:
    """300 images that carry their number, of 20 treatments and 3 replicates."""
    pixels = np.broadcast_to(np.arange(300, dtype=np.uint16)[:, None, None], (300, 2, 2)).copy()
    return pixels, Origins(np.arange(300) % 20, np.arange(300) // 100)


def test_an_epoch_pairs_the_images_it_was_given(numbered: tuple[np.ndarray, Origins]) -> None:
    """Each image at most once, beside one of its treatment and another replicate; no image that was not given."""
    pixels, origins = numbered
    rows = np.arange(250)
    batches = PairBatches(pixels, origins, rows, seed=3)
    found = list(batches)
    assert len(found) == len(batches) == -(-batches.n_pairs // PAIRS)
    numbers = [batch.pixels[:, 0, 0].numpy() for batch in found]
    seen = np.concatenate(numbers)
    assert len(set(seen.tolist())) == len(seen) == 2 * batches.n_pairs >= 240
    assert set(seen.tolist()) <= set(rows.tolist())
    for own in numbers:
        first, second = own.reshape(2, -1)
        assert (origins.treatment[first] == origins.treatment[second]).all()
        assert (origins.replicate[first] != origins.replicate[second]).all()


def test_pairs_follow_from_seed_and_epoch(numbered: tuple[np.ndarray, Origins]) -> None:
    """And not from the order the rows are given in."""
    pixels, origins = numbered

    def draw(rows: np.ndarray, seed: int, epoch: int) -> list[int]:
        batches = PairBatches(pixels, origins, rows, seed)
        batches.epoch = epoch
        return np.concatenate(list(batches.draw())).ravel().tolist()

    rows = np.arange(250)
    assert draw(rows, 3, -2) == draw(rows[::-1], 3, -2)
    assert len({tuple(draw(rows, seed, epoch)) for seed in (3, 4) for epoch in (-1, -2)}) == 4


@pytest.mark.parametrize("n", [1, 2, 3])
def test_every_pair_of_a_batch_goes_to_one_process(numbered: tuple[np.ndarray, Origins], n: int) -> None:
    """The shares are disjoint and cover what one process would see, batch by batch."""
    pixels, origins = numbered
    whole = PairBatches(pixels, origins, np.arange(300), seed=0)
    shares = [PairBatches(pixels, origins, np.arange(300), 0, (r, n)) for r in range(n)]
    for batch, *parts in zip(whole.draw(), *(share.draw() for share in shares), strict=True):
        assert min(map(len, parts)) >= 2
        assert np.concatenate(parts).tolist() == batch.tolist()
