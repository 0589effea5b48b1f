"""Chapter 16: each check accepts right answers, however written, and names each mistake."""

import torch
import torch.nn.functional as F
from judging import judged
from pytorch_grad_cam import GradCAM, HiResCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from resnet_lib import checks, explain

# 16.1


def test_class_maps():
    def by_convolution(features, weight):
        return F.conv2d(features, weight[:, :, None, None])

    def by_einsum(features, weight):
        return torch.einsum("ck,nkij->ncij", weight, features)

    def wrong(change):
        return lambda features, weight: change(by_einsum(features, weight))

    def turned(features, weight):
        weight = weight if weight.shape[0] != weight.shape[1] else weight.T
        return by_einsum(features, weight)

    judged(
        checks.check_class_maps,
        right=[by_convolution, by_einsum],
        wrong=[
            (wrong(F.relu), "you cut off what speaks against a class"),
            (wrong(lambda maps: maps / maps[0, 0].numel()), "divide by nothing"),
            (wrong(lambda maps: maps.softmax(1)), "a softmax at each position"),
            (wrong(lambda maps: maps.mean((2, 3))), "these are the logits"),
            (wrong(lambda maps: maps.mT), "rows and columns are swapped"),
            (wrong(lambda maps: maps.transpose(0, 1)), "images come first"),
            (turned, "the weights are turned"),
            (wrong(lambda maps: 2 * maps), "differs from the reference"),
            (torch.rand(2), "hand in the function class_maps itself"),
        ],
    )


# 16.2


def test_shift():
    judged(
        checks.check_shift,
        right=[lambda jump, offset: (jump - 1) / 2 - offset, lambda j, o: 0.5 * j - 0.5 - o],
        wrong=[
            (lambda jump, offset: jump / 2 - offset, "its left edge at -0.5"),
            (lambda jump, offset: offset - (jump - 1) / 2, "the sign is turned"),
            (lambda jump, offset: (jump - 1) / 2, "has to be taken off"),
            (lambda jump, offset: (jump - 1) / 2 + offset, "taken off, not added"),
            (lambda jump, offset: jump - 1 - offset, "not its last pixel"),
            (lambda jump, offset: 9.0, "too large"),
        ],
    )


# 16.3, 16.5: maps from activations and gradients


def maps_from(combine, score=lambda logits: logits, classes_of=lambda logits, classes: classes):
    """A learner's function, written with a hook of its own."""

    def answer(model, images, classes, layer):
        kept = {}
        module = explain.find(model, layer)
        handle = module.register_forward_hook(lambda m, i, output: kept.update(x=output))
        logits = model(images)
        handle.remove()
        wanted = score(logits)[range(len(images)), classes_of(logits, classes)].sum()
        (gradient,) = torch.autograd.grad(wanted, kept["x"])
        return combine(kept["x"].detach(), gradient)

    return answer


def alpha(gradient):
    return gradient.mean((2, 3), keepdim=True)


def own_answers(logits, classes):
    return logits.argmax(1)


def probability(logits):
    return logits.softmax(1)


def grad_cam(model, images, classes, layer):
    return explain.grad_cam(model, images, classes, [layer])[layer]


def by_library(cam_class):
    """pytorch-grad-cam's maps before they are scaled."""

    def answer(model, images, classes, layer):
        with cam_class(model, [explain.find(model, layer)]) as cam:
            cam(images, [ClassifierOutputTarget(label) for label in classes.tolist()])
            seen = cam.activations_and_grads
            parts = seen.activations[0].numpy(), seen.gradients[0].numpy()
            found = cam.get_cam_image(images, None, None, *parts, False)
        return torch.from_numpy(found).relu()

    return answer


def with_a_mark_left(answer):
    def marked(model, images, classes, layer):
        found = answer(model, images, classes, layer)
        model.layer1.register_forward_hook(lambda module, inputs, output: None)
        return found

    return marked


def left_in_training(answer):
    def careless(model, images, classes, layer):
        found = answer(model, images, classes, layer)
        model.train()
        return found

    return careless


def with_changed_weights(answer):
    def careless(model, images, classes, layer):
        found = answer(model, images, classes, layer)
        model.fc.weight.data += 1
        return found

    return careless


def test_against():
    def against(a, g):
        return F.relu(-(alpha(g) * a).sum(1))

    right = maps_from(against)
    judged(
        checks.check_against,
        right=[right, maps_from(lambda a, g: (alpha(-g) * a).sum(1).clamp(min=0))],
        wrong=[
            (grad_cam, "that is Grad-CAM itself"),
            (by_library(GradCAM), "that is Grad-CAM itself"),
            (maps_from(lambda a, g: -(alpha(g) * a).sum(1)), "cut off what is negative after"),
            (maps_from(lambda a, g: (alpha(g) * a).sum(1)), "this is the sum before the cut"),
            (maps_from(lambda a, g: (alpha(g) * a).sum(1).abs()), "the absolute value mixes"),
            (maps_from(lambda a, g: F.relu(-alpha(g) * a).sum(1)), "sum over the channels first"),
            (maps_from(lambda a, g: F.relu(-(g * a).sum(1))), "average the gradient over"),
            (maps_from(against, classes_of=own_answers), "the network's own answers"),
            (maps_from(against, score=probability), "the gradient of the probability"),
            (maps_from(lambda a, g: 3 * against(a, g)), "differs from the reference"),
            (with_a_mark_left(right), "a hook is left on the network"),
            (left_in_training(right), "left in training mode"),
            (with_changed_weights(right), "the network is not as it was"),
            (lambda *arguments: None, "nothing was computed"),
        ],
    )


def test_hires_cam():
    def hires(a, g):
        return F.relu((g * a).sum(1))

    right = maps_from(hires)
    judged(
        checks.check_hires_cam,
        right=[right, by_library(HiResCAM)],
        wrong=[
            (grad_cam, "that is Grad-CAM: its gradient is averaged"),
            (maps_from(lambda a, g: (g * a).sum(1)), "cut off what is negative after the sum"),
            (maps_from(lambda a, g: F.relu(g * a).sum(1)), "sum over the channels first"),
            (maps_from(lambda a, g: F.relu((g * a).mean(1))), "do not average"),
            (maps_from(lambda a, g: (g * a).sum(1).abs()), "the absolute value mixes"),
            (maps_from(lambda a, g: F.relu(g.sum(1))), "multiply the gradient by the activation"),
            (maps_from(hires, classes_of=own_answers), "the network's own answers"),
            (maps_from(hires, score=probability), "the gradient of the probability"),
            (maps_from(lambda a, g: hires(a, g).mT), "differs from the reference"),
            (with_a_mark_left(right), "a hook is left on the network"),
        ],
    )


# 16.4


def occluding(value=0.0, finish=lambda fall: fall, score=lambda logits: logits, restore=True):
    def occlusion(model, images, classes, cell):
        def of_classes(pictures):
            return score(model(pictures)).gather(1, classes[:, None])[:, 0]

        side = images.shape[-1] // cell
        found, covered = torch.zeros(len(images), side, side), images.clone()
        with torch.no_grad():
            whole = of_classes(images)
            for row in range(side):
                for column in range(side):
                    covered = images.clone() if restore else covered
                    y, x = row * cell, column * cell
                    covered[:, :, y : y + cell, x : x + cell] = value
                    found[:, row, column] = whole - of_classes(covered)
        return finish(found)

    return occlusion


def test_occlusion():
    def at_once(model, images, classes, cell):
        """All squares in one batch."""
        side = images.shape[-1] // cell
        keep = 1 - torch.eye(side**2).view(-1, 1, side, side)
        keep = keep.repeat_interleave(cell, 2).repeat_interleave(cell, 3).double()
        falls = []
        for image, label in zip(images, classes, strict=True):
            logits = model(torch.cat([image[None], image * keep]))[:, label]
            falls.append((logits[0] - logits[1:]).view(side, side))
        return torch.stack(falls)

    def own(model, images, classes, cell):
        return occluding()(model, images, model(images).argmax(1), cell)

    def spoiling(model, images, classes, cell):
        found = occluding()(model, images, classes, cell)
        images[:, :, :cell, :cell] = 0
        return found

    def logits_themselves(model, images, classes, cell):
        whole = model(images).gather(1, classes[:, None])[:, :, None]
        return whole - occluding()(model, images, classes, cell)

    judged(
        checks.check_occlusion,
        right=[occluding(), at_once],
        wrong=[
            (occluding(finish=lambda fall: -fall), "the sign is turned"),
            (occluding(finish=F.relu), "a rise is negative"),
            (occluding(finish=lambda fall: fall.mT), "rows and columns are swapped"),
            (own, "the network's own answers"),
            (occluding(score=probability), "the fall of the probability"),
            (logits_themselves, "the logit itself"),
            (occluding(restore=False), "still covered"),
            (occluding(value=1.0), "differs from the reference"),
            (spoiling, "the images that were handed in are changed"),
        ],
    )


def test_occlusion_with_the_darkest_value():
    def darkest(model, images, classes, cell):
        return occluding(value=images.min())(model, images, classes, cell)

    judged(checks.check_occlusion, wrong=[(darkest, "cover with zeros")])


# 16.6


def share(maps, masks):
    return (maps * masks).sum((1, 2)) / maps.sum((1, 2))


def scaled(maps):
    return maps / maps.sum((1, 2), keepdim=True).clamp(min=1e-12)


def blind(maps, masks):
    maps = scaled(maps)
    return share(maps.sum(0) - maps, masks)


def test_blind_share():
    def one_by_one(maps, masks):
        found = []
        for index in range(len(maps)):
            others = [m / m.sum() for i, m in enumerate(maps) if i != index and m.sum() > 0]
            mean = torch.stack(others).mean(0)
            found.append(mean[masks[index]].sum())
        return torch.stack(found)

    def with_nan(maps, masks):
        maps = maps / maps.sum((1, 2), keepdim=True)
        return share(maps.sum(0) - maps, masks)

    def own_too(maps, masks):
        return share(scaled(maps).sum(0).expand_as(maps), masks)

    def undivided(maps, masks):
        maps = scaled(maps)
        return ((maps.sum(0) - maps) * masks).sum((1, 2))

    judged(
        checks.check_blind_share,
        right=[blind, one_by_one],
        wrong=[
            (own_too, "the image's own map is in the mean"),
            (lambda maps, masks: share(maps.sum(0) - maps, masks), "scale each map to the sum 1"),
            (share, "each image's own map"),
            (lambda maps, masks: masks.double().mean((1, 2)), "a uniform map"),
            (lambda maps, masks: share(maps.roll(1, 0), masks), "the map of one other image"),
            (lambda maps, masks: share(maps.roll(-1, 0), masks), "the map of one other image"),
            (undivided, "divide by the sum of the mean map"),
            (lambda maps, masks: undivided(maps, masks) / len(maps), "one image fewer"),
            (with_nan, "a map of zeros makes NaN"),
            (lambda maps, masks: blind(maps, masks).mean(), "has the shape ()"),
        ],
    )
