"""The zoo: many architectures as student and as teacher, each through one whole training step.

`make test-zoo` runs all of them, writes `docs/zoo.md`, and fails if one of them does.
"""

import sys
import time
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import mgd

TEACHER, STUDENT = "torchvision:resnet50", "torchvision:mobilenet_v2"

# Networks of a fixed input size are built for 64 px where they have an argument for it.
_IMAGE_SIZE = {"torchvision": "image_size", "timm": "img_size"}
# Networks that cannot run at 64 px, and the smallest size that they take.
_SIZES = {
    "torchvision:inception_v3": 128,
    "timm:inception_v4": 128,
    "timm:efficientformerv2_s0": 224,
    "timm:gcvit_xxtiny": 224,
    "timm:levit_128s": 224,
    "timm:coatnet_nano_rw_224": 224,
    "timm:efficientformer_l1": 224,
    "timm:visformer_tiny": 224,
    "timm:tnt_s_patch16_224": 224,
    "torchvision:maxvit_t": 224,
}
_FOR_64 = {
    *("torchvision:vit_b_32", "timm:vit_tiny_patch16_224", "timm:deit_tiny_distilled_patch16_224"),
    *("timm:mixer_s32_224", "timm:swin_tiny_patch4_window7_224", "timm:cait_xxs24_224"),
    *("timm:eva02_tiny_patch14_224", "timm:beit_base_patch16_224", "timm:nest_tiny"),
    *("timm:gmlp_s16_224", "timm:resmlp_12_224", "timm:vit_relpos_small_patch16_224"),
    *("timm:mvitv2_tiny", "timm:pit_ti_224", "timm:volo_d1_224", "timm:vit_small_patch16_dinov3"),
    *("timm:hiera_tiny_224", "timm:vit_small_r26_s32_224"),
}
_ARGUMENTS = {
    "torchvision:googlenet": {"aux_logits": False, "init_weights": False},
    "torchvision:inception_v3": {"aux_logits": False, "init_weights": False},
}

STUDENTS = [
    f"torchvision:{name}"
    for name in (
        *("alexnet", "vgg11", "vgg11_bn", "squeezenet1_0", "squeezenet1_1", "densenet121"),
        *("googlenet", "inception_v3", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small"),
        *("mobilenet_v3_large", "shufflenet_v2_x0_5", "resnet18", "resnext50_32x4d"),
        *("wide_resnet50_2", "efficientnet_b0", "efficientnet_v2_s", "regnet_y_400mf"),
        *("regnet_x_400mf", "convnext_tiny", "swin_t", "swin_v2_t", "vit_b_32", "maxvit_t"),
    )
] + [
    f"timm:{name}"
    for name in (
        *(
            "resnet18",
            "resnet26d",
            "resnetv2_50",
            "resnetv2_50x1_bit",
            "seresnet18",
            "ecaresnet50t",
        ),
        *("res2net50_26w_4s", "resnest14d", "skresnet18", "nf_resnet26", "nfnet_f0", "tresnet_m"),
        *("densenet121", "dpn48b", "dla34", "hrnet_w18_small", "cspresnet50", "cspdarknet53"),
        *("vovnet39a", "selecsls42", "xception41", "inception_v4", "inception_next_atto"),
        *("mobilenetv3_small_050", "mobilenetv4_conv_small", "efficientnet_lite0", "tinynet_e"),
        *("mixnet_s", "fbnetc_100", "lcnet_050", "ghostnet_050", "rexnet_100", "gernet_s"),
        *("regnetz_b16", "regnetv_040", "repvgg_a0", "mobileone_s0", "repvit_m0_9"),
        *("hgnetv2_b0", "fasternet_t0", "starnet_s1", "convnext_atto", "convnextv2_atto"),
        *("convmixer_768_32", "poolformer_s12", "poolformerv2_s12", "fastvit_t8"),
        *("efficientvit_b0", "efficientvit_m0", "efficientformer_l1", "efficientformerv2_s0"),
        *("swiftformer_xs", "edgenext_xx_small", "mobilevit_xxs", "mobilevitv2_050"),
        *("coatnet_nano_rw_224", "levit_128s", "pvt_v2_b0", "twins_svt_small", "tiny_vit_5m_224"),
        *("swin_tiny_patch4_window7_224", "focalnet_tiny_srf", "davit_tiny", "gcvit_xxtiny"),
        *("nest_tiny", "mvitv2_tiny", "hiera_tiny_224", "pit_ti_224", "xcit_nano_12_p16_224"),
        *("vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "cait_xxs24_224"),
        *("beit_base_patch16_224", "eva02_tiny_patch14_224", "vit_small_patch16_dinov3"),
        *("vit_relpos_small_patch16_224", "vit_small_r26_s32_224", "visformer_tiny"),
        *("tnt_s_patch16_224", "volo_d1_224", "sequencer2d_s", "mixer_s32_224", "gmlp_s16_224"),
        *("resmlp_12_224",),
    )
]
TEACHERS = [
    *("torchvision:resnet18", "torchvision:vgg11_bn", "torchvision:densenet121"),
    *("torchvision:googlenet", "torchvision:efficientnet_b0", "torchvision:swin_t"),
    *("timm:convnext_atto", "timm:vit_tiny_patch16_224", "timm:resnetv2_50x1_bit"),
    *("timm:mobilevit_xxs", "timm:mixer_s32_224", "timm:nfnet_f0"),
]
# One of each kind that discovery treats in its own way.
SAMPLE = [
    *("torchvision:shufflenet_v2_x0_5", "torchvision:googlenet", "timm:convnext_atto"),
    *("timm:vit_tiny_patch16_224", "timm:densenet121", "timm:mobilevit_xxs", "timm:nf_regnet_b0"),
]


_PAGE = """# The zoo

This page lists networks that work as teacher or as student without any preparation. Read it to
see whether a network like yours was tried, and which points were found in it.

Each row is a pair of networks with random weights. The points are found automatically; then the
matching is updated once (sparse), and one training step is made. A pair passes if every parameter
of the student that the network uses gets a finite gradient, no captured feature is kept in
memory, no hook is left, and no key of a state dict has changed. The image size is 64 px, or a
size that both networks accept. The seconds are those of the whole test, from start-up to
gradients, on two CPU cores that also did other work.

`make test-zoo` runs all pairs and writes this page.
"""
_HEADER = (
    "| teacher | student | px | result | s | student tap, channels@height <- teacher tap |\n"
    "| --- | --- | --- | --- | --- | --- |"
)


@dataclass
class Outcome:
    """What happened to one pair of networks."""

    teacher: str
    student: str
    size: int
    points: mgd.PointList = field(default_factory=mgd.PointList)
    seconds: float = 0.0
    failure: str = ""


def create(name: str, size: int) -> nn.Module:
    """Builds a network of ten classes for images of a size."""
    source, _, rest = name.partition(":")
    arguments = dict(_ARGUMENTS.get(name, {}))
    if name in _FOR_64:
        arguments[_IMAGE_SIZE[source]] = size
    if source == "torchvision":
        return torchvision.models.get_model(rest, num_classes=10, **arguments)
    import timm

    return timm.create_model(rest, num_classes=10, **arguments)


def train_one_step(teacher_name: str, student_name: str, reducer: str = "sm") -> Outcome:
    """Discovers points, updates the matching, takes a training step, and checks every trace of it.

    Sparse matching is the default: its assignments take a tenth of the time, and what the others
    add does not depend on the network.

    Raises:
        AssertionError: If a gradient is missing or not finite, or something is left behind.
    """
    torch.manual_seed(0)
    size = max(_SIZES.get(name, 64) for name in (teacher_name, student_name))
    teacher, student = create(teacher_name, size), create(student_name, size)
    keys = [list(network.state_dict()) for network in (teacher, student)]
    hooks = [_num_hooks(network) for network in (teacher, student)]
    images, labels = torch.randn(2, 3, size, size), torch.tensor([1, 2])
    start = time.perf_counter()
    with mgd.Distiller(
        teacher, student, reducer=reducer, kd_weight=1.0, example=images
    ) as distiller:
        outcome = Outcome(teacher_name, student_name, size, distiller_points(distiller))
        mgd.update_matching(distiller, [images])
        distiller.train()
        out = distiller(images)
        loss = F.cross_entropy(out.logits, labels) + out.loss.mean()
        loss.backward()
        assert not distiller.learner.tapped_student._frames, "features kept"
        assert not distiller.frozen_teacher.tapped._frames, "features kept"
        assert [list(network.state_dict()) for network in (teacher, student)] == keys
        points = list(distiller.points.parameters())
    outcome.seconds = time.perf_counter() - start
    assert [_num_hooks(network) for network in (teacher, student)] == hooks, "hooks left"
    assert all(weight.grad is None for weight in teacher.parameters())
    assert all(weight.grad.isfinite().all() for weight in points)
    without = [name for name, weight in student.named_parameters() if weight.grad is None]
    assert set(without) <= set(_unused(student, images, without)), f"no gradient: {without[:3]}"
    for name, weight in student.named_parameters():
        assert weight.grad is None or weight.grad.isfinite().all(), f"gradient of {name}"
    return outcome


def distiller_points(distiller: mgd.Distiller) -> mgd.PointList:
    """Returns the points of a distiller as a table."""
    return distiller.points.pairs


def _num_hooks(network: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules()
    )


def _unused(student: nn.Module, images: torch.Tensor, suspects: list[str]) -> list[str]:
    """Names the parameters that the network itself, without distillation, does not use."""
    if not suspects:
        return []
    student.zero_grad()
    student(images).sum().backward()
    return [name for name, weight in student.named_parameters() if weight.grad is None]


def _row(outcome: Outcome) -> str:
    stages = ", ".join(
        f"`{pair.student}` {pair.student_shape[0]}@{pair.size[0]} <- `{pair.teacher}` "
        f"{pair.teacher_shape[0]}"
        for pair in outcome.points
    )
    result = f"FAILS: {outcome.failure}" if outcome.failure else "passes"
    return (
        f"| {outcome.teacher} | {outcome.student} | {outcome.size} | {result} "
        f"| {outcome.seconds:.1f} | {stages} |"
    )


def _survive(teacher: str, student: str) -> Outcome:
    try:
        return train_one_step(teacher, student)
    except Exception as error:
        size = max(_SIZES.get(name, 64) for name in (teacher, student))
        reason = " ".join(str(error).split())[:160]
        return Outcome(teacher, student, size, failure=f"{type(error).__name__}: {reason}")


def main() -> int:
    """Runs the zoo, prints the page, and returns the number of failures."""
    torch.set_num_threads(2)
    pairs = [(TEACHER, name) for name in STUDENTS] + [(name, STUDENT) for name in TEACHERS]
    rows, failures = [], 0
    for teacher, student in pairs:
        outcome = _survive(teacher, student)
        failures += bool(outcome.failure)
        rows.append(_row(outcome))
        print(f"{teacher} -> {student}: {outcome.failure or 'passes'}", file=sys.stderr, flush=True)
    versions = f"PyTorch {torch.__version__}, torchvision {torchvision.__version__}"
    counts = f"{len(STUDENTS)} students, {len(TEACHERS)} teachers, {failures} failures"
    print(f"{_PAGE}\n{versions}: {counts}.\n\n{_HEADER}")
    print("\n".join(rows))
    return failures


if __name__ == "__main__":
    sys.exit(main() > 0)
