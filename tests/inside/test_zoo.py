"""Any teacher, any student: see zoo.py for what each pair of networks goes through."""

import pytest

import zoo

pytest.importorskip("timm")

# The networks of others warn about their own affairs.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("student", zoo.SAMPLE)
def test_a_sample_of_students(student):
    assert len(zoo.train_one_step("torchvision:resnet18", student, "amp").points) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("student", zoo.STUDENTS)
def test_students_of_resnet50(student):
    assert zoo.train_one_step(zoo.TEACHER, student).points


@pytest.mark.slow
@pytest.mark.parametrize("teacher", zoo.TEACHERS)
def test_teachers_of_mobilenet_v2(teacher):
    assert zoo.train_one_step(teacher, zoo.STUDENT).points
