"""Posteriors from stored embeddings against the formula in plain Python floats."""

import math
from pathlib import Path

import numpy as np
import pytest

import phenoembed_store
from phenoembed_store import Head, Store, posterior
from phenoembed_store.errors import NotInStore, StoreError

GATE = {
    "attention_v": (3, 8),
    "attention_v_bias": (3,),
    "attention_u": (3, 8),
    "attention_u_bias": (3,),
    "attention_w": (3,),
}


def make_head(method: str = "product", temperature: float = 1.0, *, encoder: str = "enc0") -> Head:
    draw = np.random.default_rng(7)
    shapes = {"w1": (16, 8), "b1": (16,), "w2": (4, 16), "b2": (4,)} | (GATE if method == "attention" else {})
    arrays = {name: (0.3 * draw.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
    extra = {name: arrays.pop(name) for name in GATE if name in arrays}
    config: dict[str, object] = {"encoder": encoder, "method": method, "temperature": temperature}
    return Head("compound", ("a", "b", "c", "d"), **arrays, config=config, extra=extra)


def image_logits(head: Head, vector: np.ndarray) -> list[float]:
    x = [float(v) for v in vector]
    hidden = [
        max(0.0, sum(float(w) * v for w, v in zip(row, x, strict=True)) + float(b))
        for row, b in zip(head.w1, head.b1, strict=True)
    ]
    return [
        sum(float(w) * h for w, h in zip(row, hidden, strict=True)) + float(b)
        for row, b in zip(head.w2, head.b2, strict=True)
    ]


def softmax(scores: list[float]) -> list[float]:
    raised = [math.exp(s - max(scores)) for s in scores]
    return [r / sum(raised) for r in raised]


def test_the_product_rule_in_plain_python(store: Store) -> None:
    """The posterior of every ragged group is the normalised product of its images' probabilities, Eqs. (1) to (3)."""
    head = make_head()
    where = "NOT (compound = 'taxol' AND plate = 'P1' AND well = 'A07')"
    table, vectors = store.vectors(where)
    keys = table.select(["compound", "replicate"]).to_pylist()
    found = store.posterior(head, where=where, by=["compound", "replicate"]).to_pylist()
    assert len(found) == 12
    for row in found:
        mine = [
            v
            for key, v in zip(keys, vectors, strict=True)
            if (key["compound"], key["replicate"]) == (row["compound"], row["replicate"])
        ]
        product = [
            sum(math.log(p) for p in column)
            for column in zip(*(softmax(image_logits(head, v)) for v in mine), strict=True)
        ]
        assert row["n_images"] == len(mine)
        assert row["probabilities"] == pytest.approx(softmax(product), abs=1e-5)
        assert row["predicted"] == row["classes"][int(np.argmax(product))]


def test_a_temperature_flattens_the_group_posterior(store: Store) -> None:
    head = make_head(temperature=4.0)
    _, vectors = store.vectors("compound = 'taxol'")
    scores = [sum(column) / 4.0 for column in zip(*(image_logits(head, v) for v in vectors), strict=True)]
    (row,) = store.posterior(head, where="compound = 'taxol'").to_pylist()
    assert row["probabilities"] == pytest.approx(softmax(scores), abs=1e-5)


def test_balanced_evidence_does_not_count_duplicates(store: Store) -> None:
    """Averaged within each configuration, a second field of view is no second witness."""
    head = make_head("balanced")
    table, vectors = store.vectors("compound = 'taxol'")
    by_dose: dict[float, list[list[float]]] = {}
    for dose, vector in zip(table.column("concentration_um").to_pylist(), vectors, strict=True):
        by_dose.setdefault(dose, []).append(image_logits(head, vector))
    scores = np.sum([np.mean(images, axis=0) for images in by_dose.values()], axis=0)
    (row,) = store.posterior(head, where="compound = 'taxol'").to_pylist()
    assert row["probabilities"] == pytest.approx(softmax(list(scores)), abs=1e-5)


def attended(head: Head, vectors: np.ndarray) -> np.ndarray:
    """Gated attention pooling of Ilse et al. in Python floats."""
    v, v_bias, u, u_bias, w = ([*map(float, np.ravel(head.extra[name]))] for name in GATE)
    raised = []
    for x in vectors:
        score = 0.0
        for j in range(len(w)):
            left = sum(v[8 * j + i] * float(x[i]) for i in range(8)) + v_bias[j]
            right = sum(u[8 * j + i] * float(x[i]) for i in range(8)) + u_bias[j]
            score += w[j] * math.tanh(left) / (1 + math.exp(-right))
        raised.append(math.exp(score))
    return sum(r * x.astype(np.float64) for r, x in zip(raised, vectors, strict=True)) / sum(raised)


def log_mean_exp(head: Head, vectors: np.ndarray) -> list[float]:
    columns = zip(*(image_logits(head, v) for v in vectors), strict=True)
    return [math.log(sum(math.exp(z) for z in column) / len(vectors)) for column in columns]


ORACLES = {
    "embedding-mean": lambda head, vectors: image_logits(head, vectors.mean(axis=0, dtype=np.float64)),
    "instance-lse": log_mean_exp,
    "attention": lambda head, vectors: image_logits(head, attended(head, vectors)),
}


@pytest.mark.parametrize("method", sorted(ORACLES))
def test_pooled_methods_in_plain_python(store: Store, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ragged groups, a few at a time: each posterior is that of its own images by the method's formula."""
    monkeypatch.setattr(posterior, "CHUNK", 5)
    head = make_head(method, temperature=0.5)
    where = "NOT (compound = 'taxol' AND plate = 'P1' AND well = 'A07')"
    table, vectors = store.vectors(where)
    keys = table.select(["compound", "replicate"]).to_pylist()
    found = store.posterior(head, where=where, by=["compound", "replicate"]).to_pylist()
    assert len(found) == 12
    for row in found:
        key = {"compound": row["compound"], "replicate": row["replicate"]}
        mine = np.stack([v for k, v in zip(keys, vectors, strict=True) if k == key])
        scores = [score / 0.5 for score in ORACLES[method](head, mine)]
        assert row["probabilities"] == pytest.approx(softmax(scores), abs=1e-5)


@pytest.mark.parametrize("method", sorted(posterior.METHODS))
def test_every_method_keeps_the_contract(method: str) -> None:
    """Probabilities sum to 1; the order of images does not matter; a group of one is the image's own model."""
    head = make_head(method)
    draw = np.random.default_rng(3)
    vectors = draw.normal(size=(40, 8)).astype(np.float32)
    group = np.concatenate([np.arange(7), draw.integers(0, 6, 33)])  # group 6 has one image
    configuration = draw.integers(0, 3, 40)
    found = posterior.group_posteriors(head, vectors, group, configuration)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    mixed = draw.permutation(40)
    again = posterior.group_posteriors(head, vectors[mixed], group[mixed], configuration[mixed])
    np.testing.assert_allclose(again, found, atol=1e-6)
    np.testing.assert_allclose(found[6], softmax(image_logits(head, vectors[6])), atol=1e-6)


def test_a_head_that_cannot_be_used_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="no posterior is known for the method 'vote'; there are: product, baseline"):
        store.posterior(make_head("vote"))
    with pytest.raises(StoreError, match=r"\(attention\): attention_v has the shape \(\), not"):
        Head(
            "compound",
            ("a",),
            *(make_head().__dict__[w][:1] for w in ("w1", "b1")),
            np.zeros((1, 1)),
            np.zeros(1),
            {"method": "attention"},
        )
    with pytest.raises(NotInStore, match="no image passes"):
        store.posterior(make_head(), where="false")
    with pytest.raises(StoreError, match="no column 'compond'; did you mean 'compound'"):
        store.posterior(make_head(), by=["compond"])


def test_what_a_method_needs_besides_is_saved_with_the_head(store: Store) -> None:
    head = make_head("attention")
    loaded = store.head(store.save_head(head))
    assert loaded.extra.keys() == head.extra.keys()
    for name, array in head.extra.items():
        np.testing.assert_array_equal(loaded.extra[name], array)
    assert store.posterior(loaded, by="compound").equals(store.posterior(head, by="compound"))


def test_a_head_comes_back_as_it_was_saved(store: Store) -> None:
    """The id is a hash of the content: the same head saved twice is one head, and now the newest."""
    first, other = make_head(), make_head(temperature=2.0)
    ids = [store.save_head(head) for head in (first, other, first)]
    assert ids[0] == ids[2] != ids[1]
    assert [info.id for info in store.heads()] == [ids[1], ids[0]]
    loaded = store.head("compound")
    assert loaded.classes == first.classes
    assert loaded.temperature == 1.0
    for name in ("w1", "b1", "w2", "b2"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(first, name))
    assert store.head(ids[1][:6]).temperature == 2.0
    with pytest.raises(NotInStore, match="no head 'moa'; there is: compound"):
        store.head("moa")
    with pytest.raises(NotInStore, match="no head ''; there is: compound"):
        store.head("")


def test_an_id_s_beginning_that_several_heads_share_is_refused(store: Store) -> None:
    """Of seventeen ids two begin with the same digit of sixteen."""
    ids = [store.save_head(make_head(temperature=float(i))) for i in range(1, 18)]
    shared = next(one[0] for one in ids if sum(other[0] == one[0] for other in ids) > 1)
    with pytest.raises(NotInStore, match=f"head '{shared}' may be any of: {shared}"):
        store.head(shared)


def test_a_head_is_found_for_its_encoder(tmp_path: Path) -> None:
    store = phenoembed_store.open(tmp_path / "s", create=True)
    for name in ("aaa", "bbb"):
        folder = store.path / "encoders" / name
        folder.mkdir()
        (folder / "config.json").write_text(f'{{"id": "{name}", "method": "product", "trained_at": "2024-01-01"}}')
        store.save_head(make_head(encoder=name, temperature=3.0 if name == "aaa" else 1.0))
    assert store.default_encoder() == "bbb"
    assert store.head("compound", encoder="a").temperature == 3.0
    with pytest.raises(NotInStore, match="no encoder 'c' in the store; it has: aaa, bbb"):
        store.resolve_encoder("c")


def test_the_activations_add() -> None:
    """logits of a sum of activations equal the sum of logits."""
    head = make_head()
    vectors = np.random.default_rng(1).normal(size=(20, 8)).astype(np.float32)
    summed = head.activations(vectors).sum(axis=0) @ head.w2.T + 20 * head.b2
    np.testing.assert_allclose(summed, head.logits(vectors).sum(axis=0), rtol=1e-5, atol=1e-5)
