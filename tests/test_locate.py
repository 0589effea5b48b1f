from dataclasses import replace

import pytest
import torch

from resnet_lib import UserError, data, locate, train

CPU = torch.device("cpu")


def shapes(count=40, split="train"):
    return data.load("scaled-shapes", split, limit=count)


@pytest.mark.parametrize("level", locate.LEVELS)
def test_every_level_gives_scores_for_every_cell(level):
    model = locate.build(level, num_classes=3, width=4, channels=8)
    assert model(torch.randn(2, 3, 64, 48)).shape == (2, 4, 16, 12)
    again = locate.build(**model.spec)
    again.load_state_dict(model.state_dict(), strict=True)


def test_an_unknown_level_is_refused():
    with pytest.raises(UserError, match="level must be one of C2"):
        locate.build("P9")


@pytest.mark.parametrize(("level", "hears"), [("C2", False), ("C5", True), ("P2", True)])
def test_what_the_head_hears_of(level, hears):
    torch.manual_seed(0)
    model = locate.build(level, width=4, channels=8)
    model(torch.randn(2, 3, 64, 64)).sum().backward()
    last, first = model.body.layer4[1].conv1.weight, model.body.layer1[0].conv1.weight
    # Branches start at zero, so their gradient is looked for at the batch norm behind them.
    norm = model.body.layer4[1].bn2.weight
    assert (norm.grad is not None and norm.grad.abs().max() > 0) == hears
    assert first.grad is not None and (last.grad is not None) == hears


def test_a_cell_belongs_to_the_object_that_covers_half_of_it():
    masks = torch.zeros(2, 8, 12, dtype=torch.bool)
    masks[0, 0:4, 0:2] = True  # half of the first cell
    masks[0, 4:8, 4:5] = True  # a quarter of another
    masks[1, 3:8, 8:12] = True  # a quarter of the upper right one, all of the lower
    found = locate.cell_labels(masks, torch.tensor([0, 6]))
    assert found.tolist() == [[[1, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 7]]]


def test_labels_turn_with_the_images():
    part = shapes()
    config = replace(train.TrainConfig.quick(), batch_size=8)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (part.mean, part.std))
    plain = {image.numpy().tobytes(): index for index, image in enumerate(part.images)}
    symmetries = set()
    seen = []
    for epoch in range(1, 7):
        for images, cells in locate.batches(part, config, epoch, CPU):
            raw = ((images * std + mean) * 255).round().to(torch.uint8)
            for image, labels in zip(raw, cells, strict=True):
                for turn in range(8):
                    back, back_labels = image, labels
                    if turn >= 4:
                        back, back_labels = back.flip(-1), back_labels.flip(-1)
                    back = torch.rot90(back, -(turn % 4), (-2, -1)).contiguous()
                    index = plain.get(back.numpy().tobytes())
                    if index is not None:
                        symmetries.add(turn)
                        seen.append(index)
                        want = locate.cell_labels(
                            part.attributes["mask"][index : index + 1],
                            part.labels[index : index + 1],
                        )[0]
                        back_labels = torch.rot90(back_labels, -(turn % 4), (-2, -1))
                        assert torch.equal(back_labels, want)
                        break
                else:
                    raise AssertionError("an image that is none of the set")
    assert sorted(seen) == sorted(list(range(len(part))) * 6)
    assert len(symmetries) > 4


class Oracle(torch.nn.Module):
    """Knows the answers, and gives one at a place and of a class of the test's choice."""

    def __init__(self, cells, labels):
        super().__init__()
        self.cells, self.labels, self.at = cells, labels, 0

    def forward(self, x):
        count = len(x)
        scores = torch.zeros(count, 11, 16, 16)
        scores[:, 0] = 1
        rows = torch.arange(count)
        cell, label = (v[self.at : self.at + count] for v in (self.cells, self.labels))
        scores[rows, 1 + label, cell // 16, cell % 16] = 5
        self.at += count
        return scores


def test_answers_count_place_and_kind():
    part = shapes(300, "test")
    inside = locate.cell_labels(part.attributes["mask"], part.labels).flatten(1).argmax(1)
    corner = torch.zeros_like(inside)  # no object reaches the first cell
    assert not part.attributes["mask"][:, :4, :4].any()
    cases = {
        (True, True): Oracle(inside, part.labels),
        (True, False): Oracle(inside, (part.labels + 1) % 10),
        (False, True): Oracle(corner, part.labels),
    }
    for (place, kind), oracle in cases.items():
        found = locate.answers(oracle, part, CPU)
        assert found["place"].all() == place and found["place"].any() == place
        assert found["kind"].all() == kind and found["kind"].any() == kind
        assert found["both"].all() == (place and kind) and len(found["both"]) == 300


def test_shares_by_size():
    right = torch.tensor([True, False, True, True])
    sizes = torch.tensor([8.0, 8.0, 12.0, 24.0])
    assert locate.by_size(right, sizes) == {"8": 0.5, "12": 1.0, "24": 1.0}


def test_training_lowers_the_loss_and_repeats():
    parts = {split: shapes(90, split) for split in ("train", "val", "test")}
    config = replace(
        train.TrainConfig.quick(), epochs=4, batch_size=16, device="cpu", precision="float32"
    )
    spec = {"level": "P2", "width": 4, "channels": 8}
    lines = []
    history, result = locate.measure(spec, parts, config, lines.append)
    assert len(lines) == 4 and history[-1]["train_loss"] < 0.6 * history[0]["train_loss"]
    again, result_again = locate.measure(spec, parts, config, lines.append)
    assert again == history and result_again == result
    other, _ = locate.measure(spec, parts, replace(config, seed=1), lines.append)
    assert other != history
