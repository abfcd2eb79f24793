from fedmedlora.report.study.slugs import slugs


def test_by_hand():
    assert slugs(["A noisy site", "a  noisy-site", "Ä", "", "../../etc", "A noisy site"]) == {
        "A noisy site": "a-noisy-site",
        "a  noisy-site": "a-noisy-site-2",
        "Ä": "unnamed",
        "": "unnamed-2",
        "../../etc": "etc",
    }


def test_a_number_may_be_taken():
    assert list(slugs(["a", "a-2", "A"]).values()) == ["a", "a-2", "a-3"]


def test_long_names():
    found = slugs(["x" * 200, "x" * 201])
    assert list(found.values()) == ["x" * 40, "x" * 40 + "-2"]
