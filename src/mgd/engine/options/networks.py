"""Options of the networks and their first weights."""

from dataclasses import dataclass

from mgd.engine.options.option import WITH_TEACHER, Group, Switch, option


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Group):
    """Networks."""

    arch: str = option(
        "mobilenet_v1",
        "student: a built-in name, torchvision:NAME, timm:NAME or package.module:callable",
        flags=("-a",),
        brief="network to train",
        train_text="network: a built-in name, torchvision:NAME, timm:NAME or "
        "package.module:callable",
    )
    teacher: str = option(
        "",
        "teacher, named as in --arch; default: resnet50, or resnet152 where the student is "
        "resnet50",
        brief="teacher network; default: resnet50",
        commands=WITH_TEACHER,
    )
    teacher_resume: str = option(
        "",
        "file with the teacher's weights; default: published ImageNet weights",
        brief="file with the teacher's weights",
        commands=WITH_TEACHER,
        shown="FILE",
    )
    student_resume: str = option(
        "",
        "file with the student's first weights",
        brief="file with first weights for --arch",
        shown="FILE",
        train_text="file with the network's first weights",
    )
    use_pretrained: Switch | None = option(
        None,
        "published ImageNet weights; 1: for both networks; 0: for neither; default: for the "
        "teacher alone",
        brief="1: start from ImageNet weights; 0: from random",
        train_text="1: start from published ImageNet weights; default: from random weights",
    )
    pretrained: bool = option(False, "the same as --use-pretrained 1")
