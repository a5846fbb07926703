"""Taps: the right tensor, of the right call and thread, from a network that is not edited."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mgd
from mgd.inside.taps import Tap, TappedModel, find_module, is_activation, token_grid


class Block(nn.Module):
    """A residual block that calls its one ReLU twice."""

    def __init__(self, inplace=False):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))
        self.relu = nn.ReLU(inplace)

    def forward(self, x):
        return self.relu(self.conv2(self.relu(self.conv1(x))) + x)


class Net(nn.Module):
    def __init__(self, inplace=False):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.block = Block(inplace)
        self.unused = nn.ReLU()
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        return self.head(self.block(self.stem(x)).mean((2, 3)))


def block_sum(net, images):
    """What the input tap of the block's ReLU must read, computed by hand."""
    x = net.stem(images)
    return net.block.conv2(F.relu(net.block.conv1(x))) + x


def tapped_at(net, *texts):
    return TappedModel(net, [Tap.parse(net, text) for text in texts])


def num_hooks(net):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


IMAGES = torch.linspace(-1, 1, 2 * 3 * 6 * 6).view(2, 3, 6, 6)


# --- what a tap reads


def test_input_of_a_shared_relu_is_that_of_its_last_call():
    net = Net()
    (features,), logits = tapped_at(net, "block.relu")(IMAGES)
    torch.testing.assert_close(features, block_sum(net, IMAGES))
    torch.testing.assert_close(logits, net(IMAGES))


def test_output_tap_reads_behind_the_activation():
    net = Net()
    (features,), _ = tapped_at(net, "block.relu:output")(IMAGES)
    torch.testing.assert_close(features, F.relu(block_sum(net, IMAGES)))


def test_features_come_in_the_order_of_the_taps():
    net = Net()
    (relu, stem), _ = tapped_at(net, "block.relu", "stem")(IMAGES)
    torch.testing.assert_close(stem, net.stem(IMAGES))
    torch.testing.assert_close(relu, block_sum(net, IMAGES))


def test_gradients_flow_through_a_tap():
    net = Net()
    (features,), _ = tapped_at(net, "block.relu")(IMAGES)
    features.sum().backward()
    assert net.stem.weight.grad.any()
    assert net.head.weight.grad is None


def test_flat_features_become_one_pixel_maps():
    (features,), logits = tapped_at(Net(), "head")(IMAGES)
    assert features.shape == (2, 5, 1, 1)
    assert torch.equal(features.flatten(1), logits)


class Tokens(nn.Module):
    """Like a vision transformer: class token, then the grid row by row."""

    def __init__(self, prefix=1):
        super().__init__()
        self.norm, self.prefix = nn.Identity(), prefix

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        extra = torch.full((x.shape[0], self.prefix, x.shape[1]), 99.0)
        return self.norm(torch.cat([extra, tokens], dim=1))[:, 0]


@pytest.mark.parametrize(
    ("size", "prefix"),
    [((1, 1), 1), ((2, 2), 1)]
    + [(size, n) for size in ((4, 4), (5, 5), (14, 14), (4, 8), (6, 3)) for n in (0, 1, 5)],
)
def test_tokens_are_laid_out_as_the_image(size, prefix):
    images = torch.randn(2, 3, *size)
    net = Tokens(prefix)
    tap = Tap("norm").with_layout(torch.zeros(2, prefix + size[0] * size[1], 3), size)
    (features,), _ = TappedModel(net, [tap])(images)
    assert tap.prefix_tokens == prefix
    assert torch.equal(features, images)


def test_tokens_that_fill_no_grid_become_a_column():
    (features,), _ = tapped_at(Tokens(2), "norm:output:NLC")(torch.randn(2, 3, 3, 3))
    assert features.shape == (2, 3, 11, 1)


def test_given_class_tokens_are_left_out():
    images = torch.randn(2, 3, 4, 4)
    (features,), _ = tapped_at(Tokens(1), "norm:output:NLC+1")(images)
    assert torch.equal(features, images)


def test_channels_last_layout_is_turned():
    class ChannelsLast(nn.Module):
        def __init__(self):
            super().__init__()
            self.stage = nn.Identity()

        def forward(self, x):
            return self.stage(x.permute(0, 2, 3, 1)).mean((1, 2))

    images = torch.randn(2, 3, 4, 5)
    (features,), _ = tapped_at(ChannelsLast(), "stage:output:NHWC")(images)
    assert torch.equal(features, images)


@pytest.mark.parametrize(
    ("length", "size", "grid"),
    [
        (196, (224, 224), (14, 14)),
        (32, (64, 128), (4, 8)),
        (15, (90, 50), (5, 3)),
        (197, (224, 224), None),
        (20, (64, 64), None),  # 16 patches and 4 registers, not a grid of 4 by 5
        (2, (16, 16), None),
        (0, (16, 16), None),
    ],
)
def test_token_grid_has_the_proportions_of_the_image(length, size, grid):
    assert token_grid(length, size) == grid


@pytest.mark.parametrize(
    "tensor", [torch.zeros(2, 3, 4, 5, 6), torch.zeros(3), torch.ones(2, 3).long()]
)
def test_what_cannot_be_features_is_refused(tensor):
    with pytest.raises(mgd.TapError, match="needed are features"):
        Tap("x").with_layout(tensor, (8, 8))


# --- naming a tap


@pytest.mark.parametrize(
    ("text", "tap"),
    [
        ("stem", Tap("stem", "output")),
        ("block.relu", Tap("block.relu", "input")),
        ("block.relu:output", Tap("block.relu", "output")),
        ("stem:input:NHWC", Tap("stem", "input", "NHWC")),
        ("block:output:NLC+5", Tap("block", "output", "NLC", 5)),
    ],
)
def test_tap_parses_and_prints(text, tap):
    net = Net()
    assert Tap.parse(net, text) == tap
    assert Tap.parse(net, str(tap)) == tap


@pytest.mark.parametrize("text", ["stem:sideways", "stem:output:CHWN", "stem:output:NLC+x"])
def test_a_malformed_tap_is_told_the_form(text):
    with pytest.raises(mgd.TapError, match=f"tap '{text.replace('+', '[+]')}' is not of the form"):
        Tap.parse(Net(), text)


def test_an_unknown_path_names_the_nearest():
    with pytest.raises(mgd.TapError, match=r"Net has no module 'block.rely'; nearest: block.relu"):
        find_module(Net(), "block.rely")


def test_activations_are_known_and_attention_is_none():
    assert all(map(is_activation, (nn.ReLU(), nn.GELU(), nn.Hardswish(), nn.PReLU(), nn.SiLU())))
    assert not any(
        map(is_activation, (nn.MultiheadAttention(4, 2), nn.Softmax(1), nn.Conv2d(1, 1, 1), Net()))
    )


# --- taps that cannot work


def test_a_tap_that_never_fires_is_named():
    with pytest.raises(mgd.TapError, match="tap 'unused:input' did not fire"):
        tapped_at(Net(), "unused")(IMAGES)


def test_a_tap_that_reads_no_tensor_is_named():
    class Dicts(nn.Module):
        def forward(self, x):
            return {"x": x}

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Dicts()

        def forward(self, x):
            return self.inner(x)["x"]

    tapped = tapped_at(Outer(), "inner")
    for run in (tapped, tapped.check):
        with pytest.raises(mgd.TapError, match="tap 'inner:output' reads a dict, not a tensor"):
            run(IMAGES)


class Overwriting(nn.Module):
    """Writes over its convolution's output by other means than an activation module."""

    def __init__(self, how):
        super().__init__()
        self.conv, self.how = nn.Conv2d(3, 4, 1), how

    def forward(self, x):
        x = self.conv(x)
        if self.how == "functional":
            return F.relu(x, inplace=True)
        if self.how == "sum":
            x += 1
            return x
        if self.how == "view":
            x[:, :2].relu_()
            return x
        return F.relu(x)


@pytest.mark.parametrize("how", ["functional", "sum", "view"])
def test_a_tap_that_is_overwritten_later_is_named(how):
    with pytest.raises(mgd.TapError, match="tap 'conv:output' is overwritten in place"):
        tapped_at(Overwriting(how), "conv").check(IMAGES)


def test_a_tap_that_is_not_overwritten_passes_the_check():
    tapped_at(Overwriting("not at all"), "conv").check(IMAGES)


# --- in-place activations


def test_an_in_place_relu_behind_a_tap_is_made_out_of_place():
    net = Net(inplace=True)
    tapped = tapped_at(net, "block.relu")
    tapped.check(IMAGES)
    (features,), _ = tapped(IMAGES)
    assert features.min() < 0
    torch.testing.assert_close(features, block_sum(net, IMAGES))


def test_an_in_place_module_behind_an_output_tap_is_made_out_of_place():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True))
    tapped = tapped_at(net, "0")
    tapped.check(IMAGES)
    (features,), _ = tapped(IMAGES)
    assert features.min() < 0


def test_only_the_module_behind_the_tap_loses_its_in_place():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(True), nn.Conv2d(4, 4, 1), nn.ReLU(True))
    tapped_at(net, "2").check(IMAGES)
    assert (net[1].inplace, net[3].inplace) == (True, False)


def test_close_takes_every_hook_out_and_gives_in_place_back():
    net = Net(inplace=True)
    tapped = tapped_at(net, "block.relu", "stem")
    tapped.check(IMAGES)
    assert (num_hooks(net), net.block.relu.inplace) == (2, False)
    tapped.close()
    assert (num_hooks(net), net.block.relu.inplace) == (0, True)


def test_a_failed_check_leaves_no_hooks_of_its_own():
    net = Overwriting("functional")
    tapped = tapped_at(net, "conv")
    with pytest.raises(mgd.TapError):
        tapped.check(IMAGES)
    assert num_hooks(net) == 1


# --- the network stays the user's


def test_the_network_is_not_edited():
    net = Net()
    keys, paths = list(net.state_dict()), [path for path, _ in net.named_modules()]
    tapped_at(net, "block.relu", "stem")
    assert list(net.state_dict()) == keys
    assert [path for path, _ in net.named_modules()] == paths


def test_the_users_own_call_keeps_nothing():
    net = Net()
    tapped = tapped_at(net, "stem")
    net(IMAGES)
    assert tapped._frames == {}


def test_nothing_is_kept_after_a_forward_or_a_failure():
    net = Net()
    tapped = tapped_at(net, "stem")
    tapped(IMAGES)
    assert tapped._frames == {}
    with pytest.raises(RuntimeError, match="channels"):
        tapped(torch.zeros(1, 7, 4, 4))
    assert tapped._frames == {}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_of_a_tapped_network_works_and_keeps_nothing(copied):
    net = Net()
    tapped = tapped_at(net, "block.relu")
    twin = copied(net)
    assert torch.equal(twin(IMAGES), net(IMAGES))
    # The copy runs while the original collects: nothing of the copy may get into its frame.
    net.head.register_forward_pre_hook(lambda *_: [twin(-IMAGES)].clear())
    (features,), _ = tapped(IMAGES)
    torch.testing.assert_close(features, block_sum(net, IMAGES))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_of_a_tapped_model_taps_its_own_network(copied):
    tapped = tapped_at(Net(), "block.relu")
    twin = copied(tapped)
    assert twin.network is not tapped.network
    with torch.no_grad():
        twin.network.stem.weight.zero_()
    (features,), _ = twin(IMAGES)
    torch.testing.assert_close(features, block_sum(twin.network, IMAGES))


def test_two_models_may_tap_one_network():
    net = Net()
    one, other = tapped_at(net, "stem"), tapped_at(net, "block.relu")
    one.close()
    (features,), _ = other(IMAGES)
    torch.testing.assert_close(features, block_sum(net, IMAGES))


# --- threads, replicas, compilation


def at_once(meeting_point, runs, inputs):
    """Runs in one thread each; both have reached `meeting_point` before either goes on."""
    together = threading.Barrier(len(runs), timeout=600)
    handle = meeting_point.register_forward_hook(lambda *_: [together.wait()].clear())
    with ThreadPoolExecutor(len(runs)) as pool:
        outputs = list(pool.map(lambda run, x: run(x), runs, inputs))
    handle.remove()
    return outputs


def test_threads_never_mix():
    net = Net().eval()
    tapped = tapped_at(net, "stem", "block.relu")
    shards = IMAGES.chunk(2)
    for _ in range(10):
        outputs = at_once(net.block, [tapped, tapped], shards)
        for ((stem, relu), _), shard in zip(outputs, shards, strict=True):
            torch.testing.assert_close(stem, net.stem(shard))
            torch.testing.assert_close(relu, block_sum(net, shard))
    assert tapped._frames == {}


def replicate(module: nn.Module) -> nn.Module:
    """Copies as DataParallel does, on one device: shallow, with hook dictionaries shared."""
    replica = module._replicate_for_data_parallel()
    for name, child in module.named_children():
        replica._modules[name] = replicate(child)
    for name, parameter in module._parameters.items():
        value: Tensor | None = None if parameter is None else parameter.detach() * 1
        setattr(replica, name, value)
    return replica


def test_data_parallel_replicas_read_their_own_features():
    net = Net()
    tapped = tapped_at(net, "block.relu")
    replicas = [replicate(tapped) for _ in range(2)]
    shards = IMAGES.chunk(2)
    outputs = at_once(net.block, replicas, shards)
    for ((features,), logits), shard in zip(outputs, shards, strict=True):
        torch.testing.assert_close(features, block_sum(net, shard))
        torch.testing.assert_close(logits, net(shard))


@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_forward_gives_the_same_features():
    net = Net()
    tapped = tapped_at(net, "block.relu", "stem")
    expected = tapped(IMAGES)
    compiled = torch.compile(tapped, backend="eager")
    for images, (features, logits) in ((IMAGES, expected), (-IMAGES, tapped(-IMAGES))):
        found, found_logits = compiled(images)
        for ours, theirs in zip(found, features, strict=True):
            torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(found_logits, logits)
    torch._dynamo.reset()
