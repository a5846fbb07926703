"""What the page says of the answers: counts by hand, pictures with words, names that stay text."""

import re
from html import unescape

import pytest
from reported import SCRIPT, make_run, read_page

from mgd.report import write_report
from mgd.report.answers import answered, tally
from mgd.report.groups import group_runs
from mgd.runfolder import ImageAnswer, write_answers, write_thumbnails

PNG = b"\x89PNG" + bytes(20)


def answer(label, student, teacher=None, share=0.5, image="i.png"):
    return ImageAnswer(image, label, student, share, teacher, None if teacher is None else 0.25)


FIRST = [
    answer("cat", "dog", "dog", 0.9, "1.png"),
    answer("cat", "dog", "cat", 0.8, "2.png"),
    answer("cat", "cat", "dog", 0.7, "3.png"),
    answer("cat", "cat", "cat", 0.6, "4.png"),
    answer("dog", "cow", "dog", 0.5, "5.png"),
    answer("dog", "dog", "dog", 0.4, "6.png"),
]
SECOND = [*FIRST[2:], answer("cat", "dog", "dog", 0.9), answer("dog", "dog", "dog")]


@pytest.fixture
def page(tmp_path):
    """Writes a report of runs with answers, and reads it."""

    def write(*answers_of_runs, **options):
        runs = []
        for place, (name, answers) in enumerate(answers_of_runs):
            run = make_run(tmp_path, name, 70.0, "mgd", 90.0, seed=place, **options)
            write_answers(run.folder, answers)
            pictures = {each.image: PNG for each in answers[:2]}
            write_thumbnails(run.folder, pictures)
            runs.append(run)
        write_report(runs, tmp_path / "report.html", "Title")
        return read_page(tmp_path / "report.html")

    return write


def rows(text, label):
    """Returns the texts of the cells of a table, row by row."""
    body = text.partition(f'aria-label="{label}"')[2].partition("</table>")[0]
    return [
        [
            unescape(re.sub("<.*?>", "", cell))
            for cell in re.findall(r"<t[dh].*?>(.*?)</t[dh]>", row)
        ]
        for row in re.findall(r"<tr>(.*?)</tr>", body)
    ]


def section(page, name):
    return page.text.partition(f'<section id="{name}">')[2].partition("</section>")[0]


def test_the_count_of_a_hand_made_case():
    found = tally([*FIRST, answer(None, "cat", "dog"), answer("dog", "cow")])
    assert found.images == 8
    assert found.of_class == {"cat": 4, "dog": 3}
    assert found.student == {("cat", "dog"): 2, ("dog", "cow"): 2}
    assert found.teacher == {("cat", "dog"): 2}
    assert found.verdicts == {
        "both right": 2,
        "only the teacher right": 2,
        "only the student right": 1,
        "both wrong": 1,
        "another answer": 1,
    }


def test_confusions_of_the_student_beside_the_teachers(page):
    found = rows(page(("run", FIRST)).text, "Classes that run confuses most")
    assert found == [
        ["true class", "taken for", "student", "of the class", "teacher"],
        ["cat", "dog", "2", "50.0 %", "2"],
        ["dog", "cow", "1", "50.0 %", "0"],
    ]


def test_counts_are_means_over_the_runs_of_a_method(page):
    read = page(("a-seed0", FIRST), ("a-seed1", SECOND))
    assert rows(read.text, "Classes that a confuses most")[1:] == [
        ["cat", "dog", "1.5", "42.9 %", "2"],
        ["dog", "cow", "1", "40.0 %", "0"],
    ]
    assert rows(read.text, "Images by who is right") == [
        ["method", "images", "both right", "only the teacher right", "only the student right",
         "both wrong"],
        ["a", "6", "2.5 (41.7 %)", "1.5 (25.0 %)", "1 (16.7 %)", "1 (16.7 %)"],
    ]  # fmt: skip
    assert "Run a-seed0." in section(read, "worst")
    assert section(read, "worst").count("<figure>") == 3  # of one run


def test_no_more_than_ten_pairs_are_listed(page):
    answers = [answer("cat", f"class {i:02}") for i in range(30)] + [answer("cat", "class 29")]
    found = rows(page(("run", answers)).text, "Classes that run confuses most")
    assert len(found) == 11
    assert found[1][1:3] == ["class 29", "2"]
    assert found[2][1] == "class 00"
    assert "teacher" not in found[0]


def test_the_worst_images_are_told_in_words(page):
    read = page(("run", FIRST))
    pictures = [v for tag, v in read.elements if tag == "img"]
    assert pictures[0]["alt"] == "1.png; true: cat, student: dog (90 %), teacher: dog (25 %)"
    assert all(v["src"].startswith("data:image/png;base64,") and v["alt"] for v in pictures)
    worst = section(read, "worst")
    assert re.findall(r'<span title="(.*?)"', worst) == ["1.png", "2.png", "5.png"]
    assert worst.count("<img") == 2  # an image without a picture has its words alone
    assert "<dt>true</dt><dd>cat</dd></div><div><dt>student</dt><dd>dog (90 %)</dd>" in worst


def test_images_of_a_disagreement_are_those_that_one_has_right(page):
    found = re.findall(r'<span title="(.*?)"', section(page(("run", FIRST)), "disagreements"))
    assert found == ["2.png", "3.png", "5.png"]


def test_pictures_are_let_in_by_the_policy(page):
    read = page(("run", FIRST))
    (policy,) = (v["content"] for _, v in read.elements if v.get("http-equiv"))
    assert "img-src data:;" in policy
    assert all(source.startswith(("#", "data:image/")) for source in read.sources)


def test_without_a_teacher_there_is_no_disagreement(page):
    answers = [each._replace(teacher=None, teacher_probability=None) for each in FIRST]
    read = page(("run", answers))
    assert {"confusions", "worst"} < set(read.ids())
    assert "disagreements" not in read.ids()
    assert "teacher" not in section(read, "worst").replace("each network", "")


def test_without_labels_there_is_agreement_alone(page):
    read = page(("run", [answer(None, "a", "a"), answer(None, "a", "b"), answer(None, "a", "a")]))
    assert not {"confusions", "worst"} & set(read.ids())
    assert rows(read.text, "Images by who is right") == [
        ["method", "images", "same answer", "another answer"],
        ["run", "3", "2 (66.7 %)", "1 (33.3 %)"],
    ]


def test_a_run_of_an_earlier_version_has_no_such_section(tmp_path):
    run = make_run(tmp_path, "old", 70.0)
    write_report([run], tmp_path / "report.html", "Title")
    assert not {"confusions", "worst", "disagreements"} & set(
        read_page(tmp_path / "report.html").ids()
    )


def test_names_of_classes_and_files_stay_text(page):
    names = (SCRIPT, '"><img src=x onerror=alert(1)>', "half\udcff\nline")
    answers = [
        answer(label, student, teacher, image=f"{label}/{student}.png")
        for label in names
        for student in names
        for teacher in names
    ]
    read = page(("run", answers))
    assert read.tags.count("script") == 1
    assert all(v.get("class") == "shot" for tag, v in read.elements if tag == "img")
    assert SCRIPT in "".join(read.texts)


def test_many_runs_with_pictures_are_a_page_of_less_than_5_mb(tmp_path):
    """Five seeds of three methods, and more methods than are drawn."""
    runs = []
    for method in range(40):
        for seed in range(5 if method < 3 else 1):
            run = make_run(tmp_path, f"m{method}-{seed}", 70.0, "mgd", 90.0, seed=seed, lr=method)
            kinds = (("a", "b", "a"), ("a", "a", "b"))
            answers = [answer(*kinds[i % 2], image=f"{i}.png") for i in range(48)]
            write_answers(run.folder, answers)
            write_thumbnails(run.folder, {each.image: PNG + bytes(5000) for each in answers})
            runs.append(run)
    assert len(answered(group_runs(runs))) == 40
    write_report(runs, tmp_path / "report.html", "Title")
    text = (tmp_path / "report.html").read_text()
    assert text.count('class="shot"') == 12 * 24
    assert 1_000_000 < len(text) < 5_000_000
