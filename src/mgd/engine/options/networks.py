"""Options of the networks and their first weights."""

from dataclasses import dataclass

from mgd.engine.options.option import TRAINING, WITH_TEACHER, Group, Switch, option


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Group):
    """Networks."""

    arch: str = option(
        "",
        "student: a built-in name, torchvision:NAME, timm:NAME, hf:NAME or "
        "package.module:callable; default: the network of --student-resume, else mobilenet_v1",
        flags=("-a",),
        brief="network, such as resnet18",
        train_text="network: a built-in name, torchvision:NAME, timm:NAME, hf:NAME or "
        "package.module:callable; default: the network of --student-resume, else mobilenet_v1",
    )
    teacher: str = option(
        "",
        "teacher, named as in --arch; default: the network of --teacher-resume, else resnet50, or "
        "resnet152 where the student is resnet50",
        brief="teacher network; default: resnet50",
        commands=WITH_TEACHER,
    )
    teacher_resume: str = option(
        "",
        "the teacher's weights: a run folder, or a file; default: published ImageNet weights, and "
        "with --prune-channels or --qat the weights of --student-resume",
        brief="run folder or file of the teacher",
        commands=WITH_TEACHER,
        shown="RUN|FILE",
    )
    student_resume: str = option(
        "",
        "the student's first weights, or in an evaluation the student: a run folder, or a file of "
        "weights; an evaluation takes exported .pt2 and .onnx files as well. Loading a .pt2 can "
        "run code in it: use none of a stranger's",
        flags=("--model",),
        brief="run folder or file of the student",
        shown="RUN|FILE",
        train_text="the network's first weights: a run folder, or a file",
    )
    use_pretrained: Switch | None = option(
        None,
        "published ImageNet weights; 1: for both networks; 0: for neither; default: for the "
        "teacher alone",
        brief="1: start from ImageNet weights; 0: from random",
        train_text="1: start from published ImageNet weights; default: from random weights",
    )
    pretrained: bool = option(False, "the same as --use-pretrained 1")
    prune_channels: float = option(
        0.0,
        "share of the channels that are removed from the trained student before the first step, "
        "such as 0.5: of every layer those with the smallest weights, but no class; by default the "
        "teacher is the network as it was. Needs the package torch-pruning",
        commands=TRAINING,
        least=0,
        most=0.95,
        train_text="share of the channels that are removed from the trained network before the "
        "first step, such as 0.5: of every layer those with the smallest weights, but no class. "
        "Needs the package torch-pruning",
    )
    qat: bool = option(
        False,
        "quantisation-aware training, for mgd export --int8: each step rounds the weights of the "
        "student's convolutions and linear layers and what they read to 8 bits; validation and "
        "the saved weights do not. By default the teacher is the network as it was",
        commands=TRAINING,
        train_text="quantisation-aware training, for mgd export --int8: each step rounds the "
        "weights of convolutions and linear layers and what they read to 8 bits; validation and "
        "the saved weights do not",
    )

    @property
    def has_weights(self) -> bool:
        """Whether the student begins with trained weights."""
        return bool(self.student_resume) or self.use_pretrained == 1 or self.pretrained

    @property
    def is_compressed(self) -> bool:
        """Whether the student is made smaller, so that it can learn from itself as it was."""
        return self.has_weights and (self.prune_channels > 0 or self.qat)
