"""Which images a build that goes on may need."""

from __future__ import annotations

from cnm.launcher.images_in_work import ImagesInWork


def test_what_a_build_begins_with_and_what_came_since() -> None:
    images = {"base", "other"}
    work = ImagesInWork(lambda: images)

    with work.needing(["base", ""]):
        images.add("made")
        assert [work.may_need(each) for each in ("base", "other", "made")] == [True, False, True]

    assert [work.may_need(each) for each in ("base", "other", "made")] == [False, False, False]


def test_a_second_build_counts_what_came_since_the_first_began() -> None:
    images = {"base"}
    work = ImagesInWork(lambda: images)

    with work.needing(["base"]):
        images.add("early")
        with work.needing([]):
            assert work.may_need("early")
        assert work.may_need("base")
        assert work.may_need("early")


def test_what_was_made_before_whoever_goes_on_began_is_not_kept() -> None:
    images = {"base"}
    work = ImagesInWork(lambda: images)
    first, second = work.needing([]), work.needing([])

    with first:
        images.add("early")
        second.__enter__()
        images.add("late")

    assert [work.may_need(each) for each in ("early", "late")] == [False, True]
    second.__exit__(None, None, None)
