"""The reference model's training: what it samples, what it asks, that it learns and that it resumes exactly."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import seeing
from transformers import InternVLForConditionalGeneration

from edge_runtime.errors import UsageError
from models.loading import load
from models.prompts import PROMPTS
from models.reference import reference_checkpoint
from models.reference.architecture import REFERENCE, REFERENCE_LARGE, build_tokenizer
from offline.reference_training.attention import attend
from offline.reference_training.batches import IGNORED, Packer
from offline.reference_training.checkpoint import write_checkpoint
from offline.reference_training.clips import CELL_NAMES, ClipPool
from offline.reference_training.growing import grow
from offline.reference_training.measure import judge
from offline.reference_training.network import Trainee
from offline.reference_training.pool import (
    CLIPS_A_PAIR,
    FIRST_SEED,
    TRAINED,
    UNSEEN,
    WINDOW,
    render_pair,
    scene_pair,
    windows,
    write_pool,
)
from offline.reference_training.questions import Asker, all_texts, present_names
from offline.reference_training.training import POOL, Recipe, Trainer, TrainingStage
from offline.scenes import ABNORMAL_ACTIONS, KIND_ACTIONS, KINDS, plan
from offline.scenes.dataset import SceneSet

RECIPE = Recipe(
    stages=(
        TrainingStage("frames", steps=2, batch=8, rate=1e-3, warmup=1, decay=1),
        TrainingStage("clips", steps=2, batch=2, rate=1e-3, warmup=1, decay=1),
        TrainingStage("clips", steps=2, batch=2, rate=1e-3, warmup=1, decay=1, muon=True),
    ),
    pairs=8,
    shards=2,
    held_out=1,
)


@pytest.fixture(scope="session")
def pool_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    write_pool(folder / POOL, RECIPE.shards, pairs=RECIPE.pairs)
    return folder


@pytest.fixture(scope="session")
def pool(pool_folder: Path) -> ClipPool:
    return ClipPool.open(pool_folder / POOL, 0, RECIPE.shards)


def fresh(folder: Path, pool_folder: Path, recipe: Recipe = RECIPE) -> Trainer:
    folder.mkdir(exist_ok=True)
    if not (folder / POOL).exists():
        (folder / POOL).symlink_to(pool_folder / POOL)
    return Trainer(recipe, folder)


def run(trainer: Trainer, stop_after: int | None = None) -> None:
    for _ in trainer.run(lambda _: None, save_every=100, stop_after=stop_after):
        pass


# --- what is sampled ---
@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_the_unseen_kinds_are_never_played(number: int) -> None:
    event, twin = scene_pair(number)
    assert event.kind in TRAINED
    assert event.kind not in UNSEEN
    assert twin.kind is None
    assert (twin.layout, twin.time_of_day, twin.weather, twin.frames, twin.size) == (
        event.layout, event.time_of_day, event.weather, event.frames, event.size,
    )  # fmt: skip


def test_every_other_kind_is_trained() -> None:
    assert set(TRAINED) | set(UNSEEN) == set(KINDS)
    assert {scene_pair(number)[0].kind for number in range(len(TRAINED))} == set(TRAINED)


def test_no_data_set_shares_a_scene_with_the_pool() -> None:
    assert scene_pair(0)[0].seed == FIRST_SEED
    assert all(clip.spec.seed < FIRST_SEED for seed in range(20) for clip in plan(SceneSet(), seed=seed))


@given(st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_windows_lie_in_the_scene_and_the_first_overlaps_the_event(number: int) -> None:
    event, _ = scene_pair(number)
    assert event.event is not None
    starts = windows(event, np.random.default_rng(number))
    assert all(0 <= start <= max(0, event.frames - WINDOW) for start in starts)
    assert starts[0] < event.event[1]
    assert starts[0] + WINDOW > event.event[0]


def test_twins_hold_nothing_abnormal_and_event_scenes_mostly_do(pool: ClipPool) -> None:
    found = []
    for number in range(len(pool)):
        actions = {action for _, action in pool.clip(number).facts.actions}
        is_twin = number % CLIPS_A_PAIR >= CLIPS_A_PAIR // 2
        assert not (is_twin and actions & ABNORMAL_ACTIONS)
        if not is_twin:
            found.append(bool(actions & ABNORMAL_ACTIONS))
    assert np.mean(found) > 0.5


def test_a_clip_of_the_pool_is_the_pair_rendered_again(pool: ClipPool) -> None:
    pair = RECIPE.pairs + 3  # in the second shard
    again = [pictures for pictures, _ in render_pair(pair)]
    clips = [pool.clip(pair * CLIPS_A_PAIR + i) for i in range(CLIPS_A_PAIR)]
    assert all(clip.pair == pair for clip in clips)
    for pictures, clip in zip(again, clips, strict=True):
        np.testing.assert_array_equal(pictures, clip.pictures)


def test_flipped_cells_mirror_and_left_becomes_right(pool: ClipPool) -> None:
    straight, flipped = pool.clip(1).cells(flipped=False), pool.clip(1).cells(flipped=True)
    mirrored = straight.reshape(16, 4, 4, -1)[:, :, ::-1].reshape(straight.shape).copy()
    left, right = CELL_NAMES.index("to the left"), CELL_NAMES.index("to the right")
    mirrored[..., [left, right]] = mirrored[..., [right, left]]
    # A box on the edge of the threshold may round to the other side.
    assert np.mean(mirrored != flipped) < 1e-3
    assert straight.any()


# --- what is asked ---
def test_neither_labels_nor_unseen_kinds_are_ever_told(pool: ClipPool) -> None:
    words = " ".join(all_texts())
    for number in range(len(pool)):
        rng = np.random.default_rng(number)
        for exchange in Asker({}).ask(pool.clip(number).facts, rng, flipped=False, count=8):
            words += f" {exchange.question} {exchange.answer}"
    spoken = set(re.findall(r"[a-z]+", words.lower()))
    labels = {"normal", "abnormal", "anomaly", "anomalous", "unusual", "event", "routine", "dangerous"}
    assert not spoken & labels
    assert not spoken & {"climbing", "climbs", "climb"}
    for kind in UNSEEN:
        assert not any(action in words for action in KIND_ACTIONS[kind])


def test_yes_and_no_are_equally_likely_for_every_action(pool: ClipPool) -> None:
    facts = [pool.clip(number).facts for number in range(len(pool))]
    present = [present_names(one) for one in facts]
    prevalence = {name: np.mean([name in names for names in present]) for name in frozenset().union(*present)}
    asker, rng = Asker({name: float(share) for name, share in prevalence.items()}), np.random.default_rng(0)
    answers: dict[str, list[bool]] = {}
    for _ in range(150):
        for one in facts:
            exchange = asker.yes_no(one, rng)
            answers.setdefault(exchange.subject, []).append(exchange.answer == "yes")
    common = {name: np.mean(said) for name, said in answers.items() if 0.1 < prevalence.get(name, 0) < 0.9}
    assert len(common) >= 8
    assert all(0.3 < share < 0.7 for share in common.values()), common


def test_flipping_swaps_left_and_right_in_the_answers(pool: ClipPool) -> None:
    swap = {"left": "right", "right": "left"}
    compared = 0
    for number in range(len(pool)):
        facts = pool.clip(number).facts
        pair = [
            Asker({}).one_of_them(facts, np.random.default_rng(number), flipped=flipped) for flipped in (False, True)
        ]
        if pair[0] is not None and pair[0].topic == "which way":
            assert pair[1] is not None
            assert pair[1].answer == swap.get(pair[0].answer, pair[0].answer)
            compared += pair[0].answer in swap
    assert compared > 0


def test_the_tokenizer_knows_every_word(pool: ClipPool) -> None:
    tokenizer = build_tokenizer(all_texts())
    for number in range(len(pool)):
        rng = np.random.default_rng(number)
        for exchange in Asker({}).ask(pool.clip(number).facts, rng, flipped=True, count=6):
            ids = tokenizer(f"{exchange.question} {exchange.answer}", add_special_tokens=False)["input_ids"]
            assert tokenizer.unk_token_id not in ids


# --- how it is packed ---
def test_packed_questions_are_answered_as_if_each_were_alone(
    pool: ClipPool, pool_folder: Path, tmp_path: Path
) -> None:
    trainer = fresh(tmp_path, pool_folder)
    batch = trainer.packer.pack(pool, np.array([0, 5]), np.random.default_rng(1))
    net = trainer.net.eval()
    with torch.no_grad():
        _, states = net._states(batch)
        row, last = (int(value) for value in batch.asked[1])  # the second question of the first clip
        first = int(batch.asked[0, 1]) + 1
        while batch.labels[row, first - 1] != IGNORED:
            first += 1
        P = len(trainer.packer.prefix)
        ids = torch.cat([batch.ids[row, :P], batch.ids[row, first : last + 1]])[None]
        net.model.model.language_model.config._attn_implementation = "sdpa"
        outputs = net.model(input_ids=ids, pixel_values=batch.pixels[row], output_hidden_states=True)
    # The last hidden state that transformers hands out is behind the norm.
    alone = outputs.hidden_states[-2][0, -1]
    torch.testing.assert_close(states[-2][row, last], alone, atol=2e-4, rtol=2e-3)


def test_the_prompt_is_laid_out_as_in_the_hunt(tmp_path: Path, pool_folder: Path) -> None:
    trainer = fresh(tmp_path, pool_folder)
    write_checkpoint(tmp_path / "out", trainer.net.model, trainer.tokenizer)
    mllm = load(str(tmp_path / "out"), device="cpu")
    packer = Packer(trainer.tokenizer, Asker({}))
    layout = mllm.layout(PROMPTS[0], seeing(16))
    before = [token for run in layout.before for token in (*run, *[int(packer.prefix[packer.visual[0]])] * 16)]
    assert before == packer.prefix.tolist()
    assert packer.behind_frames(PROMPTS[0].text) == layout.after


def test_attention_row_by_row_is_attention() -> None:
    query, key, value = torch.randn(2, 6, 9, 8), torch.randn(2, 2, 9, 8), torch.randn(2, 2, 9, 8)
    allowed = torch.ones(9, 9, dtype=torch.bool).tril().expand(2, 1, 9, 9)
    mask = torch.zeros(allowed.shape).masked_fill(~allowed, -1e4)
    out, _ = attend(None, query, key, value, mask, 8**-0.5)
    oracle = torch.nn.functional.scaled_dot_product_attention(
        query, key.repeat_interleave(3, 1), value.repeat_interleave(3, 1), attn_mask=allowed
    )
    torch.testing.assert_close(out, oracle.transpose(1, 2))


def test_judging_counts_the_right_answers_only(pool: ClipPool, pool_folder: Path, tmp_path: Path) -> None:
    batch = fresh(tmp_path, pool_folder).packer.pack(pool, np.array([0, 3]), np.random.default_rng(2))
    assert all(correct for _, correct in judge(batch, batch.labels))
    assert not any(correct for _, correct in judge(batch, torch.zeros_like(batch.labels)))


# --- how it learns ---
def test_a_run_that_was_stopped_ends_with_the_same_weights(pool_folder: Path, tmp_path: Path) -> None:
    whole, stopped = fresh(tmp_path / "a", pool_folder), tmp_path / "b"
    run(whole)
    for stop in (1, 2, 2, None):  # within each stage, and to the end
        run(fresh(stopped, pool_folder), stop)
    resumed = fresh(stopped, pool_folder)
    assert (resumed.stage, resumed.step) == (3, 0)
    for name, tensor in whole.net.state_dict().items():
        assert torch.equal(tensor, resumed.net.state_dict()[name]), name


@pytest.mark.parametrize(
    "stage",
    [
        TrainingStage("frames", steps=20, batch=24, rate=1e-3, warmup=4, decay=4),
        TrainingStage("clips", steps=9, batch=2, rate=1e-3, warmup=2, decay=3),
        # Muon orthogonalises in bfloat16, which many processors emulate slowly: few steps.
        TrainingStage("clips", steps=6, batch=2, rate=1e-3, warmup=1, decay=2, muon=True),
    ],
    ids=["frames", "clips", "clips by Muon"],
)
def test_the_loss_goes_down(stage: TrainingStage, pool_folder: Path, tmp_path: Path) -> None:
    trainer = fresh(tmp_path, pool_folder, replace(RECIPE, stages=(stage,)))
    losses = []
    for step in range(stage.steps):
        trainer.step = step
        losses.append(trainer._one(stage)["total"])
    assert np.mean(losses[-2:]) < 0.8 * np.mean(losses[:2])


def test_a_state_of_another_recipe_is_refused(pool_folder: Path, tmp_path: Path) -> None:
    fresh(tmp_path, pool_folder).save()
    with pytest.raises(UsageError, match="another recipe"):
        fresh(tmp_path, pool_folder, replace(RECIPE, seed=1))


def test_the_parts_of_a_batch_add_up_to_the_whole(pool: ClipPool, pool_folder: Path, tmp_path: Path) -> None:
    trainer = fresh(tmp_path, pool_folder)
    batch = trainer.packer.pack(pool, np.arange(4), np.random.default_rng(3))
    with torch.no_grad():
        whole = trainer.net.losses(batch)
        parts = [trainer.net.losses(batch.part(index, 2)) for index in range(2)]
    for name, value in whole.items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], value, atol=1e-4, rtol=1e-4)


def test_the_rate_rises_stays_and_falls() -> None:
    stage = TrainingStage("clips", steps=100, batch=1, rate=1.0, warmup=10, decay=20)
    rates = [stage.rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:80] == pytest.approx([1.0] * 71)
    assert all(a > b for a, b in pairwise(rates[80:]))
    assert 0 < rates[-1] < 0.05


def test_a_checkpoint_is_small_half_precision_and_gives_finite_features(pool_folder: Path, tmp_path: Path) -> None:
    trainer = fresh(tmp_path, pool_folder)
    write_checkpoint(tmp_path / "out", trainer.net.model, trainer.tokenizer)
    assert (tmp_path / "out" / "model.safetensors").stat().st_size <= 12 * 2**20
    mllm = load(str(tmp_path / "out"), device="cpu")
    assert 2e6 <= sum(parameter.numel() for parameter in trainer.net.model.parameters()) <= 8e6
    pictures = trainer.pool.clip(0).pictures[None]
    assert np.isfinite(mllm.head_features(iter(np.asarray(pictures)), PROMPTS, seeing(pictures.shape[1]))).all()


# --- a larger model that begins as a smaller one ---
@pytest.fixture(scope="module")
def grown() -> Trainee:
    tokenizer = build_tokenizer(all_texts())
    net = Trainee(tokenizer, REFERENCE_LARGE)
    grow(REFERENCE, net.model, tokenizer)
    for part in (net.model.model.language_model, net.model.model.vision_tower):
        part.config._attn_implementation = "sdpa"
    return net


def test_a_grown_model_answers_as_the_smaller_one(grown: Trainee) -> None:
    small = InternVLForConditionalGeneration.from_pretrained(reference_checkpoint(REFERENCE), dtype=torch.float32)
    context = small.config.image_token_id
    ids, pixels = torch.tensor([[9, 5, *[context] * 16, 40, 21, 33]]), torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        expected, given = (model(input_ids=ids, pixel_values=pixels).logits for model in (small, grown.model))
    torch.testing.assert_close(given, expected)


def test_what_is_new_in_a_grown_model_can_learn_and_is_not_alike(grown: Trainee) -> None:
    # 84 of 120 heads are new; no two of a layer begin with the same queries.
    for layer in grown.model.model.language_model.layers:
        queries = layer.self_attn.q_proj.weight.reshape(12, 32, -1).flatten(1)
        assert len(torch.unique(queries, dim=0)) == 12
    context = grown.model.config.image_token_id
    ids = torch.tensor([[9, 5, *[context] * 16, 40, 21, 33]])
    grown.model(input_ids=ids, pixel_values=torch.randn(1, 3, 96, 96)).logits.square().mean().backward()
    for layer in grown.model.model.language_model.layers:
        new = layer.self_attn.o_proj.weight.grad[:, 6 * 32 :]
        assert (new.abs().amax(0) > 0).all()


def test_growing_from_other_words_is_refused() -> None:
    tokenizer = build_tokenizer(["zebra"])
    with pytest.raises(UsageError, match="other words"):
        grow(REFERENCE, Trainee(tokenizer, REFERENCE_LARGE).model, tokenizer)
