"""Image-conditional ageing: its losses, the ages it asks faces to become, what it returns."""

import copy
from importlib import resources
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load as read_safetensors
from scipy.ndimage import map_coordinates
from torch import Tensor
from torch.nn import functional as F

from i2i import Batch, ImageError, Progress, RecipeError
from i2i.model_file import build, grow
from i2i_face_aging.age_network import AgeNetwork
from i2i_face_aging.aging import FaceAging
from i2i_face_aging.embedding import FaceEmbedding
from i2i_face_aging.options import AgingOptions
from tests.contract.aged import faces_of, lively, photograph, real_faces
from tests.contract.plain_faces import SPANS, PlainAges, features, targets_of

SMALL: dict[str, Any] = {
    "width": 2,
    "num_blocks": 1,
    "discriminator_width": 2,
    "age_weight": 0.0,
    "judge_noise": 0.0,
    "identity_weight": 0.0,
    "cycle_weight": 0.0,
    "sparsity_weight": 0.0,
    "reconstruction_weight": 0.0,
    "reconstruction_share": 0.25,
    "game": {"r1_weight": 0.0, "form": "non_saturating"},
}
AGES = (4.0, 23.5, 37.0, 71.0)
GROUPS = ("0-18", "19-29", "30-39", "40-49", "50-59", "60+")


def built(**changed: Any) -> FaceAging:
    translator = build(FaceAging, AgingOptions.model_validate(SMALL | changed), 0)
    grow(translator, "train", {"face": (3, 64, 64)}, 0)
    lively(translator)
    return translator


def now_at(step: int = 0) -> Progress:
    return Progress(seed=1, stage="train", step=step, images=4 * step)


def terms_of(translator: FaceAging, batch: Batch, now: Progress) -> dict[str, tuple[float, float]]:
    """Return weights and values of a step's terms."""
    return {
        term.name: (term.weight, term.value.item())
        for move in translator.training_step(batch, now)
        for term in move.terms
    }


def changed_by(translator: FaceAging, batch: Batch, now: Progress) -> tuple[Tensor, Tensor]:
    """Return what the generator adds to faces, and the ages that they shall become."""
    faces, source = batch.images["face"], batch.labels["age"].float()
    target = torch.tensor(targets_of(batch, now, translator.options.reconstruction_share))
    with torch.no_grad():
        return copy.deepcopy(translator.generator)(faces, source, target), target


def age_logits(faces: Tensor) -> Tensor:
    """What the shipped network says of faces."""
    network = AgeNetwork()
    file = resources.files("i2i_face_aging") / "shipped" / "age.safetensors"
    state = {name: each.float() for name, each in read_safetensors(file.read_bytes()).items()}
    missing = network.load_state_dict(state, strict=False).missing_keys
    assert all(name.endswith("num_batches_tracked") for name in missing)
    with torch.no_grad():
        return network.eval()(faces)


def posed_by_hand(face: Tensor, drawn: list[float]) -> Tensor:
    """A square face moved, turned, sized and mirrored: each pixel is looked up where it was."""
    across, down, turn, size, mirror = (2 * each - 1 for each in drawn)
    side = face.shape[1]
    centres = (2 * np.arange(side) + 1) / side - 1
    places = (-1 if mirror < 0 else 1) * centres[None] + 1j * centres[:, None]
    places = (1 + 0.1 * size) * np.exp(0.15j * turn) * places + 0.1 * (across + 1j * down)
    rows, columns = (((each + 1) * side - 1) / 2 for each in (places.imag, places.real))
    planes = [
        map_coordinates(plane, [rows, columns], order=1, mode="reflect") for plane in face.numpy()
    ]
    return torch.from_numpy(np.stack(planes))


# The losses


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_age_term_is_the_divergence_of_what_the_judge_reads_from_the_age_asked_for(noise):
    """KL(q || p) summed year by year, of faces in another pose; q is a Gaussian of three years."""
    translator = built(age_weight=3.0, judge_noise=noise)
    batch, now = faces_of(AGES), now_at()
    change, target = changed_by(translator, batch, now)
    made = (batch.images["face"] + change).double()
    drawn = now.uniform(batch, "pose", 5).double().tolist()
    assert len({each[4] < 0.5 for each in drawn}) == 2  # some are mirrored
    shown = torch.stack([posed_by_hand(*each) for each in zip(made, drawn, strict=True)])
    shown = shown + noise * now.normal(batch, "judge_noise", 3, 64, 64)
    logits = age_logits(shown.float()).double().numpy()
    divergences = []
    for row, age in zip(logits, target.tolist(), strict=True):
        p = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
        q = np.exp(-((np.arange(101) - age) ** 2) / 18)
        q /= q.sum()
        divergences.append(sum(a * np.log(a / b) for a, b in zip(q, p, strict=True) if a > 1e-300))
    weight, value = terms_of(translator, batch, now)["age"]
    assert weight == 3.0
    assert value == pytest.approx(np.mean(divergences), rel=1e-4)


def test_judge_is_pleased_most_by_its_own_answer():
    """No age is nearer to a face than one about which the judge says so."""
    judge, faces = built().age_judge, real_faces(2, 128)
    said = age_logits(faces).softmax(1) @ torch.arange(101.0)
    apart = [
        [judge.distance(face[None], torch.tensor([age])).item() for age in range(0, 101, 4)]
        for face in faces
    ]
    nearest = 4 * torch.tensor(apart).argmin(1)
    assert (nearest - said).abs().max() <= 6


def test_identity_term_is_one_less_the_cosine_of_the_embeddings():
    translator, batch, now = built(identity_weight=2.5), faces_of(AGES[:2]), now_at()
    change, _ = changed_by(translator, batch, now)
    embed, faces = FaceEmbedding(), batch.images["face"]
    expected = 1 - F.cosine_similarity(embed(faces + change), embed(faces), dim=1).mean()
    weight, value = terms_of(translator, batch, now)["identity"]
    assert weight == 2.5
    assert value == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)


def test_cycle_comes_back_to_the_age_of_the_face_and_weighs_more_the_rarer_it_is():
    translator = built(cycle_weight=3.0, cycle_every=2)
    for step in range(3):
        batch, now = faces_of(AGES, seed=step), now_at(step)
        change, target = changed_by(translator, batch, now)
        found = terms_of(translator, batch, now)
        if step == 1:
            assert "cycle" not in found
            continue
        made = batch.images["face"] + change
        with torch.no_grad():
            back = translator.generator(made, target, batch.labels["age"].float())
        expected = (made + back - batch.images["face"]).abs().mean().item()
        assert found["cycle"] == (6.0, pytest.approx(expected, rel=1e-5))


def test_cycle_weighs_as_many_times_more_as_the_generator_moves_without_it():
    """Every other move of the generator, which moves on every third step."""
    game = SMALL["game"] | {"discriminator_steps": 3}
    translator = built(cycle_weight=1.0, cycle_every=2, game=game)
    weights, num_moves = [], 0
    for step in range(12):
        found = terms_of(translator, faces_of(AGES[:1], seed=step), now_at(step))
        num_moves += "adversarial" in found
        weights += [found["cycle"][0]] if "cycle" in found else []
    assert num_moves == 4
    assert sum(weights) == num_moves
    game = SMALL["game"] | {"discriminator_steps": 2}
    translator = built(cycle_weight=1.0, cycle_every=2, game=game)
    found = [terms_of(translator, faces_of(AGES[:1]), now_at(step)) for step in range(4)]
    assert sum(each["cycle"][0] for each in found if "cycle" in each) == 2


def test_changes_are_kept_small_apart_for_those_who_keep_their_age():
    options = {"reconstruction_weight": 5.0, "sparsity_weight": 0.5, "reconstruction_share": 0.4}
    translator, seen = built(**options), set()
    for step in range(4):
        batch, now = faces_of(AGES, seed=step), now_at(step)
        change, target = changed_by(translator, batch, now)
        sums = {"reconstruction": 0.0, "sparsity": 0.0}
        for each, old, new in zip(change, AGES, target.tolist(), strict=True):
            name = "reconstruction" if old == new else "sparsity"
            sums[name] += float(each.abs().mean())
            seen.add(name)
        found = terms_of(translator, batch, now)
        for name, weight in (("reconstruction", 5.0), ("sparsity", 0.5)):
            assert found[name] == (weight, pytest.approx(sums[name] / 4, rel=1e-5)), name
    assert len(seen) == 2


def test_players_judge_real_faces_by_their_own_age_and_made_ones_by_the_age_asked_for():
    translator, batch, now = built(), faces_of(AGES), now_at()
    change, target = changed_by(translator, batch, now)
    weights = {
        name: each.detach().double()
        for name, each in translator.adversary.network.named_parameters()
    }
    plain, faces = PlainAges(weights), batch.images["face"].double()
    made = faces + change.double()
    (real,), (fake,), (wrong,) = (
        plain.under(features(ages)).logits(pictures)
        for ages, pictures in ((AGES, faces), (target.tolist(), made), (AGES, made))
    )
    found = terms_of(translator, batch, now)
    judged = -real.sigmoid().log().mean() - (-fake).sigmoid().log().mean()
    fooled, unlike = (-each.sigmoid().log().mean().item() for each in (fake, wrong))
    assert found["judge"][1] == pytest.approx(judged.item(), rel=1e-4)
    assert found["adversarial"][1] == pytest.approx(fooled, rel=1e-4)
    assert abs(fooled - unlike) > 1e-3 * abs(fooled)


def test_terms_of_weight_zero_are_not_computed_and_read_no_network(monkeypatch):
    def read(*_: object) -> None:
        raise AssertionError

    translator = built()
    monkeypatch.setattr(translator.age_judge, "_network", read)
    monkeypatch.setattr(translator.embedding, "_network", read)
    assert [*terms_of(translator, faces_of(AGES), now_at())] == ["judge", "adversarial"]


# Ages to become


def many(count: int) -> Batch:
    return Batch({"face": torch.zeros(count, 1)}, torch.arange(count))


def test_groups_are_asked_for_equally_often_and_all_ages_within_one():
    translator, batch = built(), many(6000)
    source = torch.full((6000,), -1.0)  # told from all that is asked for
    target, same = translator._targets(batch, now_at(), source)
    assert torch.equal(target == -1, same.bool())
    assert same.mean().item() == pytest.approx(0.25, abs=0.025)
    rest = target[same == 0]
    for start, end in SPANS:
        group = rest[(start <= rest) & (rest < end)]
        assert len(group) / len(rest) == pytest.approx(1 / 6, abs=0.02)
        quarters = torch.histc((group - start) / (end - start), 4, 0, 1) / len(group)
        assert (quarters - 0.25).abs().max() < 0.07
    assert rest.min() >= 0
    assert rest.max() < 81


def test_ages_asked_for_are_those_of_the_draws_and_change_from_step_to_step():
    translator, batch = built(), faces_of(AGES)
    seen: list[tuple[Tensor, Tensor]] = []
    translator.generator.register_forward_pre_hook(lambda _, given: seen.append(given[1:]))
    for step in range(3):
        list(translator.training_step(batch, now_at(step)))
        expected = targets_of(batch, now_at(step), 0.25)
        torch.testing.assert_close(seen[step][1], torch.tensor(expected))
        assert seen[step][0].tolist() == [*AGES]
    assert not torch.equal(seen[0][1], seen[1][1])


def test_micro_batches_are_asked_what_the_whole_batch_is():
    translator, batch = built(), faces_of([float(age) for age in range(20, 29)])
    whole = translator._targets(batch, now_at(), batch.labels["age"].float())
    parts = [
        translator._targets(part, now_at(), part.labels["age"].float()) for part in batch.split(4)
    ]
    for place in (0, 1):
        assert torch.equal(torch.cat([part[place] for part in parts]), whole[place])


def test_no_share_that_keeps_its_age_has_no_term_of_it():
    translator = built(reconstruction_share=0.0, sparsity_weight=1.0)
    assert [*terms_of(translator, faces_of(AGES), now_at())] == ["judge", "adversarial", "sparsity"]


# Translation


def test_own_age_is_what_the_judge_reads_from_the_face_and_its_mirror_image():
    faces = real_faces(3, 128)
    years = torch.arange(101.0)
    said = [age_logits(each).softmax(1) @ years for each in (faces, faces.flip(3))]
    expected = (said[0] + said[1]) / 2
    torch.testing.assert_close(built().age_judge.estimate(faces), expected, rtol=1e-4, atol=1e-3)


def test_translation_adds_what_the_generator_says_between_both_ages():
    translator, faces = built().eval(), faces_of(AGES[:2]).images["face"]
    with torch.no_grad():
        asked = FaceAging.Request(age=61.0, source_age=20.0)
        found = translator.translate(faces, asked)
        ages = torch.full((2,), 20.0), torch.full((2,), 61.0)
        expected = (faces + translator.generator(faces, *ages)).clamp(-1, 1)
        assert torch.equal(found, expected)
        estimated = translator.translate(faces[:1], FaceAging.Request(age=61.0))
        own = translator.age_judge.estimate(faces[:1]).item()
        asked = FaceAging.Request(age=61.0, source_age=own)
        torch.testing.assert_close(estimated, translator.translate(faces[:1], asked))
        assert not torch.equal(estimated, found[:1])


def test_group_asks_for_its_middle_and_nothing_for_the_oldest():
    translator, faces = built().eval(), faces_of(AGES[:1]).images["face"]
    with torch.no_grad():
        made = [
            translator.translate(faces, FaceAging.Request(source_age=30, **asked))
            for asked in ({"age_group": "19-29"}, {"age": 24}, {}, {"age_group": "60+"})
        ]
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[2], made[3])
    assert not torch.equal(made[0], made[2])


def test_translation_under_autocast_is_float32_and_near():
    translator, faces = built().eval(), faces_of(AGES[:2]).images["face"]
    asked = FaceAging.Request(age=61.0)
    with torch.no_grad():
        expected = translator.translate(faces, asked)
        with torch.autocast("cpu", torch.bfloat16):
            found = translator.translate(faces, asked)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 0.1


@pytest.mark.parametrize("size", [(32, 32), (64, 80), (72, 72), (48, 48)])
def test_faces_of_other_sizes_are_refused_before_training(size):
    translator = build(FaceAging, AgingOptions.model_validate(SMALL), 0)
    with pytest.raises(RecipeError, match=f"faces are {size[1]}x{size[0]}"):
        grow(translator, "train", {"face": (3, *size)}, 0)
    assert translator.fit.trained_size is None


@pytest.mark.parametrize("side", [64, 80, 128])
def test_fit_remembers_the_side_that_was_trained_on(side):
    translator = build(FaceAging, AgingOptions.model_validate(SMALL), 0)
    grow(translator, "train", {"face": (3, side, side)}, 0)
    assert (translator.fit.trained_size, translator.fit.multiple) == (side, 8)


# Requests


@pytest.mark.parametrize("group", ["60+", "all"])
def test_age_and_group_together_are_refused(group):
    with pytest.raises(ValidationError, match="age and age_group ask for the same: give one"):
        FaceAging.Request(age=30, age_group=group)


@pytest.mark.parametrize(
    "asked", [{"age": -1}, {"age": 101}, {"age_group": "61+"}, {"source_age": -3}, {"face": "any"}]
)
def test_ages_and_groups_that_there_are_not_are_refused(asked):
    with pytest.raises(ValidationError):
        FaceAging.Request.model_validate(asked)


def test_all_groups_are_six_requests_by_their_names():
    asked = FaceAging.Request(age_group="all", source_age=20, face="detect")
    variants = FaceAging.variants(asked)
    assert [*variants] == [*GROUPS]
    for group, each in variants.items():
        expected = FaceAging.Request(age_group=group, source_age=20, face="detect")
        assert each == expected
    one = FaceAging.Request(age=3)
    assert FaceAging.variants(one) == {"": one}


def test_faces_of_a_photograph_are_found_where_they_are():
    translator = built().eval()
    picture = photograph(left=170, top=90, side=150)
    assert not translator.locates(FaceAging.Request())
    assert translator.locates(FaceAging.Request(face="detect"))
    (region,) = translator.locate(picture, FaceAging.Request(face="detect"))
    height, width = region.size
    (a, b, x), (c, d, y) = region.matrix
    middle = (a * width / 2 + b * height / 2 + x, c * width / 2 + d * height / 2 + y)
    assert middle == pytest.approx((245, 165), abs=15)
    assert a * width == pytest.approx(150, rel=0.15)


def test_photograph_without_a_face_is_named():
    with pytest.raises(ImageError, match="no face was found in it"):
        built().locate(torch.zeros(3, 200, 300), FaceAging.Request(face="detect"))
