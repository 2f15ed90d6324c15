"""Age-cGAN: its stages, and the search for the latent of a face (arXiv:1702.01983)."""

import copy
from typing import Any

import pluggy
import pytest
import torch
from torch import Tensor

from i2i import Progress, RecipeError
from i2i.model_file import Header, build, exported_state, grow, load_model, save_model
from i2i.testing.translation import OneFamily
from i2i_face_aging import age_cgan
from i2i_face_aging.age_cgan import AgeCGAN, AgeCGANOptions
from i2i_face_aging.embedding import FaceEmbedding
from tests.contract.aged import faces_of, lively, photograph
from tests.contract.plain_faces import one_hot

SMALL: dict[str, Any] = {
    "latent_size": 4,
    "width": 3,
    "discriminator_width": 2,
    "encoder_width": 2,
    "encoder_hidden": 8,
    "keep": "pixels",
}
SHAPES = {"face": (3, 64, 64)}
AGES = (4.0, 23.5, 37.0, 71.0)
GAME = Progress(seed=1, stage="adversarial", step=0, images=0)
ENCODING = Progress(seed=1, stage="encoder", step=0, images=0)


def built(**changed: Any) -> AgeCGAN:
    """Build a family whose weights and statistics are of a trained one's size."""
    translator = build(AgeCGAN, AgeCGANOptions.model_validate(SMALL | changed), 0)
    for stage in translator.stages:
        grow(translator, stage, SHAPES, 0)
    lively(translator, 0.2)
    generator = torch.Generator().manual_seed(2)
    for name, each in translator.named_buffers():
        if name.endswith("running_var"):
            each.copy_(torch.rand(each.shape, generator=generator) + 0.5)
    return translator


def asked(**changed: Any) -> Any:
    return AgeCGAN.Request(**{"source_age": 25, "age_group": "19-29", "refine_steps": 5} | changed)


def made(translator: AgeCGAN, latents: Tensor, *ages: float) -> Tensor:
    """What the generator makes of latents at these ages, by the statistics it has kept."""
    generator = copy.deepcopy(translator.generator)
    with torch.no_grad():
        return generator(latents, one_hot(ages).float(), running=True)


def encoded(translator: AgeCGAN, faces: Tensor) -> Tensor:
    with torch.no_grad():
        return copy.deepcopy(translator.encoder)(faces, running=True)


def pictures(number: int = 3) -> Tensor:
    return faces_of([0.0] * number, seed=5).images["face"]


def translated(translator: AgeCGAN, faces: Tensor, request: Any) -> Tensor:
    with torch.no_grad():
        return translator.eval().translate(faces, request)


# Stages


def test_game_is_played_under_the_groups_of_the_batch():
    translator, batch = built().train(), faces_of(AGES)
    seen: list[tuple[Tensor, ...]] = []
    for network in (translator.generator, translator.adversary.network):
        network.register_forward_pre_hook(lambda _, given: seen.append(given))
    moves = [*translator.training_step(batch, GAME)]
    assert [move.players for move in moves] == [("discriminator",), ("generator",)]
    latents = GAME.normal(batch, "latent", 4)
    assert torch.equal(seen[0][0], latents)
    assert len(seen) == 4  # made, then real, made, made again judged
    for given in seen:
        assert torch.equal(given[1], one_hot(AGES).float())


def test_encoder_learns_the_latents_of_faces_of_all_groups():
    translator, batch = built().train(), faces_of([30.0] * 12)
    seen: list[Tensor] = []
    translator.encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    encoder = copy.deepcopy(translator.encoder)
    (move,) = translator.training_step(batch, ENCODING)
    (term,) = move.terms
    latents = ENCODING.normal(batch, "latent", 4)
    groups = [int(6 * each) for (each,) in ENCODING.uniform(batch, "group", 1).tolist()]
    assert len({*groups}) > 3  # whatever ages the batch has
    starts = (0, 19, 30, 40, 50, 60)
    expected = made(translator, latents, *(starts[group] for group in groups))
    torch.testing.assert_close(seen[0], expected)
    assert (move.players, term.name, term.weight) == (("encoder",), "latent", 1.0)
    apart = (encoder(expected).detach() - latents).square().mean()
    assert term.value.item() == pytest.approx(apart.item(), rel=1e-5)


def test_encoders_stage_moves_the_encoder_alone():
    translator, batch = built().train(), faces_of(AGES)
    before = copy.deepcopy(translator.state_dict())
    (players,) = translator.players("encoder").items()
    assert players[0] == "encoder"
    owned = [*players[1]]
    assert {*map(id, owned)} == {*map(id, translator.encoder.parameters())}
    optimizer = torch.optim.SGD(owned, 1e-2)
    for step in range(3):
        now = Progress(1, "encoder", step, 4 * step)
        for move in translator.training_step(batch, now):
            sum(term.weight * term.value for term in move.terms).backward()
            optimizer.step()
        translator.after_step(now, {})
    moved = {
        name.partition(".")[0]
        for name, each in translator.state_dict().items()
        if not torch.equal(each, before[name])
    }
    assert moved == {"encoder"}
    assert all(each.grad is None for each in translator.generator.parameters())


def test_games_stage_leaves_the_encoder_to_its_own():
    translator = built()
    owned = {name: {*map(id, each)} for name, each in translator.players("adversarial").items()}
    assert [*owned] == ["generator", "discriminator"]
    assert not {*map(id, translator.encoder.parameters())} & set.union(*owned.values())


@pytest.mark.parametrize("size", [(32, 32), (64, 80), (128, 128)])
def test_faces_of_another_size_than_the_models_are_refused(size):
    translator = build(AgeCGAN, AgeCGANOptions.model_validate(SMALL), 0)
    with pytest.raises(RecipeError, match=r"64x64, as model\.side says"):
        grow(translator, "adversarial", {"face": (3, *size)}, 0)


# The latent of a face


def test_without_steps_a_face_is_what_the_encoders_latent_gives():
    translator, faces = built(), pictures()
    found = translated(translator, faces, asked(refine_steps=0, age_group="60+"))
    expected = made(translator, encoded(translator, faces), 70, 70, 70)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (expected[0] - expected[1]).abs().max() > 1e-3  # they are told apart


@pytest.mark.parametrize("keep", ["pixels", "identity"])
def test_refinement_brings_what_is_kept_nearer_to_the_face(keep):
    """Measured on what is made for the face's own group: squared distances, of pixels or of
    embeddings.
    """
    translator, faces = built(keep=keep), pictures(2)
    embed = FaceEmbedding()

    def apart(results: Tensor) -> Tensor:
        pair = (results, faces) if keep == "pixels" else (embed(results), embed(faces))
        return (pair[0] - pair[1]).flatten(1).square().sum(1)

    distances = [
        apart(translated(translator, faces, asked(refine_steps=number))) for number in (0, 3, 12)
    ]
    assert (distances[1] < 0.999 * distances[0]).all(), distances
    assert (distances[2] <= distances[1]).all(), distances


def near(translator: AgeCGAN, latent: Tensor) -> None:
    """Let the encoder answer every face with a latent near to this one."""
    with torch.no_grad():
        translator.encoder.last.weight.zero_()
        translator.encoder.last.bias.copy_(latent + 0.1)


def test_known_latent_is_found_again_from_near_it():
    translator, latent = built(), torch.tensor([[0.3, -0.8, 1.1, -0.2]])
    near(translator, latent[0])
    face = made(translator, latent, 25)
    before = translated(translator, face, asked(refine_steps=0))
    found = translated(translator, face, asked(refine_steps=100))
    assert (before - face).abs().max() > 0.02
    assert (found - face).abs().max() < 1e-3
    older = translated(translator, face, asked(refine_steps=100, age_group="60+"))
    expected = made(translator, latent, 60)
    assert (older - expected).abs().max() < 5e-3
    assert (older - found).abs().max() > 0.02


def test_search_is_under_the_group_that_the_face_is_of():
    """The latent of a face under a group it is not of gives another face."""
    translator, latent = built(), torch.tensor([[0.3, -0.8, 1.1, -0.2]])
    near(translator, latent[0])
    face = made(translator, latent, 70)
    own, other = (
        translated(translator, face, asked(refine_steps=60, source_age=age, age_group=group))
        for age, group in ((70, "60+"), (10, "0-18"))
    )
    assert (own - face).abs().max() < 1e-3
    assert (other - own).abs().max() > 1e-3


def test_own_group_is_estimated_where_no_age_is_given():
    translator, faces = built(), pictures(1)
    own = translator.age_judge.estimate(faces).item()
    found = translated(translator, faces, asked(source_age=None))
    assert torch.equal(found, translated(translator, faces, asked(source_age=own)))


def test_a_face_depends_on_neither_its_batch_mates_nor_what_was_asked_before():
    translator, faces = built(), pictures(3)
    together = translated(translator, faces, asked())
    for changed in ({"seed": 3}, {"refine_steps": 2}, {"source_age": 50}, {"age_group": "0-18"}):
        translated(translator, faces.flip(0), asked(**changed))
    torch.testing.assert_close(translated(translator, faces.flip(0), asked()), together.flip(0))
    fresh = built()
    translated(fresh, faces[1:2], asked(age_group="60+", seed=9))
    for index in range(3):
        alone = translated(fresh, faces[index : index + 1], asked())
        torch.testing.assert_close(alone[0], together[index])


def test_latents_are_searched_anew_once_the_weights_have_moved():
    """A run looks at the same faces again and again, each time with other weights."""
    translator, faces = built(), pictures(1)
    translated(translator, faces, asked(refine_steps=0))
    lively(translator.encoder, 0.2, seed=8)
    expected = made(translator, encoded(translator, faces), 25)
    found = translated(translator, faces, asked(refine_steps=0))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    other = lively(built(), 0.2, seed=9)
    translator.load_state_dict(other.state_dict())
    expected = made(other, encoded(other, faces), 25)
    found = translated(translator, faces, asked(refine_steps=0))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_as_many_steps_are_searched_as_are_asked_for(monkeypatch):
    searches: list[Any] = []

    class Noted(torch.optim.LBFGS):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            searches.append(self)

    monkeypatch.setattr(torch.optim, "LBFGS", Noted)
    for steps in (1, 4, 9):
        translated(built(), pictures(1), asked(refine_steps=steps))
        (state,) = searches[-1].state.values()
        assert state["n_iter"] == steps


def test_only_the_last_few_latents_are_remembered(monkeypatch):
    monkeypatch.setattr(age_cgan, "_REMEMBERED", 16)
    translator, faces = built(), pictures(40)
    translated(translator, faces, asked(refine_steps=0))
    kept = [each for each in vars(translator).values() if hasattr(each, "popitem")]
    assert max(len(each) for each in kept if isinstance(each, dict)) < 40


def test_seeds_start_elsewhere_and_leave_the_global_generator_alone():
    translator, faces = built(), pictures(1)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    made = [translated(translator, faces, asked(seed=each, refine_steps=0)) for each in (0, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(made[0], made[1])
    assert not torch.equal(made[1], made[2])
    again = translated(built(), faces, asked(seed=2, refine_steps=0))
    assert torch.equal(again, made[2])


def test_search_is_in_float32_whatever_the_autocast():
    translator, faces = built(), pictures(2)
    expected = translated(translator, faces, asked(source_age=None))
    with torch.autocast("cpu", torch.bfloat16):
        found = translated(built(), faces, asked(source_age=None))
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_translation_leaves_weights_statistics_and_gradients_alone():
    translator = built()
    before = copy.deepcopy(translator.state_dict())
    translated(translator, pictures(2), asked())
    for name, each in translator.state_dict().items():
        assert torch.equal(each, before[name]), name
    assert all(each.grad is None for each in translator.parameters())


def test_model_file_brings_back_what_translates_alike(tmp_path):
    translator = built()
    for tensor in exported_state(translator).values():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half())
    header = Header(
        family="age-cgan",
        distribution="under test",
        options=translator.options.model_dump(mode="json"),
        request={},
        stages=dict.fromkeys(translator.stages, SHAPES),
    )
    save_model(tmp_path / "model.safetensors", translator, header)
    plugins = OneFamily(pluggy.PluginManager("i2i"), offered=AgeCGAN)
    loaded = load_model(tmp_path / "model.safetensors", plugins).translator
    assert {name.partition(".")[0] for name in exported_state(loaded)} == {"generator", "encoder"}
    assert loaded.fit == translator.fit
    assert loaded.fit.exact_size == (64, 64)
    for request in (asked(), asked(refine_steps=0, age_group="60+"), asked(seed=4)):
        found = translated(loaded, pictures(), request)
        torch.testing.assert_close(found, translated(translator, pictures(), request))


def test_all_groups_of_a_face_come_from_one_search(monkeypatch):
    """Six translations cost one search, and are the same latent's faces."""
    translator, faces, calls = built(), pictures(1), []
    latent = encoded(translator, faces)
    original = AgeCGAN._found

    def found(self: AgeCGAN, *given: Any) -> Tensor:
        calls.append(given)
        return original(self, *given)

    monkeypatch.setattr(AgeCGAN, "_found", found)
    every = AgeCGAN.variants(asked(age_group="all", refine_steps=0))
    assert [*every] == ["0-18", "19-29", "30-39", "40-49", "50-59", "60+"]
    for request, age in zip(every.values(), (9, 24, 34, 44, 54, 70), strict=True):
        expected = made(translator, latent, age)
        found_now = translated(translator, faces, request)
        torch.testing.assert_close(found_now, expected, rtol=1e-4, atol=1e-5)
    assert len(calls) == 1


def test_faces_of_a_photograph_are_found():
    picture = photograph(left=30, top=40, side=160)
    assert not built().locates(AgeCGAN.Request())
    assert built().locates(AgeCGAN.Request(face="detect"))
    assert len(built().locate(picture, AgeCGAN.Request(face="detect"))) == 1
