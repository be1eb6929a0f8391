"""Our networks against the authors' model, written anew in plain PyTorch."""

import numpy as np
import pytest
import torch
from phenoembed.batches import Batch, GroupBatches
from phenoembed.groups import group_images
from phenoembed.methods import GroupClassifier, Members, build_method
from phenoembed.model import Encoder, to_network
from tests.authors_model import AuthorsModel
from tests.phenoembed.networks import batch_scores
from tests.phenoembed.screens import layout, table_of
from torch import nn

K = 7


@pytest.fixture(scope="module")
def theirs() -> AuthorsModel:
    """The authors' model with random weights and used batch normalisation, in eval mode."""
    torch.manual_seed(0)
    model = AuthorsModel(K)
    with torch.no_grad():
        model(torch.randn(3, 4, 1, 32, 32))
    return model.eval()


@pytest.fixture(scope="module")
def ours(theirs: AuthorsModel) -> tuple[Encoder, GroupClassifier]:
    """Ours with the same weights: the names below ``encoder`` and ``net`` are the same."""
    encoder, head = Encoder(), build_method("product", K, 512)
    encoder.net.load_state_dict(theirs.encoder.state_dict())
    head.classifier.load_state_dict(theirs.net.state_dict())
    return encoder.eval().to(memory_format=torch.channels_last), head.eval()


def test_group_logits_equal_the_authors(theirs: AuthorsModel, ours: tuple[Encoder, GroupClassifier]) -> None:
    """The same weights and groups give the same group logits to 1e-5, our batch built from stored pixels."""
    groups = group_images(table_of(layout(compounds=4, controls=0, replicates=1)))
    n_images = sum(map(len, groups.rows))
    pixels = np.random.default_rng(0).integers(0, 65536, (n_images, 32, 32)).astype(np.uint16)
    mean, sd, scale = 0.5, 0.29, 1 / 65535
    batches = GroupBatches(pixels, groups, np.arange(len(groups.rows)), np.zeros(len(groups.rows), np.int64), 100)
    (batch,) = batches
    z_scored = (pixels * scale - mean) / sd
    stacked = np.stack([z_scored[rows] for rows in groups.rows])[:, :, None].astype(np.float32)
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(stacked))
        found = batch_scores(*ours, batch, mean, sd, scale)
    assert expected.shape == found.shape == (8, K)
    assert float((expected - found).abs().max()) < 1e-5 * max(1.0, float(expected.abs().max()))


def test_ragged_groups_equal_the_authors_one_by_one(
    theirs: AuthorsModel, ours: tuple[Encoder, GroupClassifier]
) -> None:
    """Their code takes groups of one size only; ours, given several sizes at once, agrees with theirs on each."""
    sizes = [1, 4, 2]
    pixels = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (7, 32, 40)).astype(np.uint8))
    group = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    members = Members(group, torch.zeros(7, dtype=torch.int64), 3)
    images = to_network(pixels, 0.5, 0.29, 1 / 255)
    with torch.inference_mode():
        found = batch_scores(*ours, Batch(pixels, members, torch.zeros(3)), 0.5, 0.29, 1 / 255)
        expected = torch.cat([theirs(images[group == number][None]) for number in range(3)])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_networks_have_the_papers_layers() -> None:
    """One-channel first convolution without bias, no final layer, 512 features; the classifier's six layers."""
    encoder = Encoder()
    assert encoder.net.conv1.weight.shape == (64, 1, 7, 7)
    assert encoder.net.conv1.bias is None
    assert isinstance(encoder.net.fc, nn.Identity)
    names = [type(layer).__name__ for layer in build_method("product", K, 512).classifier]
    assert names == ["Dropout", "Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]


def test_dropout_drops_half_and_doubles_the_rest() -> None:
    """In training each value is 0 or doubled, about half of them; its gradient likewise. In eval mode nothing."""
    dropout = build_method("product", K, 512).classifier[0]
    assert isinstance(dropout, nn.Dropout)
    torch.manual_seed(0)
    values = torch.rand(100, 1000).add_(1).requires_grad_()
    found = dropout(values)
    kept = found != 0
    assert 0.49 < float(kept.float().mean()) < 0.51
    torch.testing.assert_close(found[kept], 2 * values[kept])
    (gradient,) = torch.autograd.grad(found.sum(), values)
    assert torch.equal(gradient, 2.0 * kept)
    assert torch.equal(dropout.eval()(values), values)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_reach_the_network_z_scored(dtype: type) -> None:
    """(value * scale - mean) / sd, with a channel of one, for both depths."""
    top = np.iinfo(dtype).max
    pixels = np.random.default_rng(0).integers(0, top, (3, 5, 4), endpoint=True).astype(dtype)
    found = to_network(torch.from_numpy(pixels), 0.4, 0.2, 1 / top)
    assert found.shape == (3, 1, 5, 4)
    np.testing.assert_allclose(found[:, 0], (pixels / top - 0.4) / 0.2, atol=1e-5)
