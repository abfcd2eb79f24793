"""Where notes may go: addresses that are this machine, others, and those that are refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fedmedlora.endpoint.settings import Endpoint
from fedmedlora.settings import read_table

LOCAL = "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1:8000/v1", "http://127.0.0.1", "http://localhost:1/", "http://[::1]:65535/v1"),
        *("https://127.0.0.1/v1", "http://127.9.9.9/v1", "https://localhost"),
    ],
)
def test_this_machine_needs_no_permission(url):
    endpoint = Endpoint(url=url, model="m")
    assert endpoint.is_local
    endpoint.refuse_without_permission()


@pytest.mark.parametrize(
    "url",
    [
        *("https://api.example.com/v1", "https://10.0.0.7:8443/openai/v1/", "https://[2001:db8::1]/v1"),
        # Names that only look like this machine.
        *("https://localhost.example.com", "https://127.0.0.1.example.com", "https://xlocalhost"),
        *("https://0.0.0.0/v1", "https://127.1/v1", "https://[::ffff:10.0.0.1]/v1"),
    ],
)
def test_another_machine_needs_permission(url):
    endpoint = Endpoint(url=url, model="the-model")
    assert not endpoint.is_local
    with pytest.raises(ValueError, match="notes_may_leave = true") as refusal:
        endpoint.refuse_without_permission()
    # What would go where, to whom.
    assert url in str(refusal.value)
    assert "the-model" in str(refusal.value)
    assert "Every sentence of the test notes" in str(refusal.value)
    Endpoint(url=url, model="m", notes_may_leave=True).refuse_without_permission()


@pytest.mark.parametrize(
    "url",
    [
        *("", "api.example.com", "ftp://example.com", "file:///etc", "https://", "https:///v1", "HTTPS://a"),
        *("https://me:SECRET@example.com/v1", "https://SECRET@127.0.0.1/v1", "http://127.0.0.1@evil.example"),
        *("https://example.com/v1?key=SECRET", "https://example.com/v1#SECRET", "https://a\\@127.0.0.1/"),
        *("https://example.com:99999/v1", "https://example.com:0/", "https://example.com:/v1"),
        *("https://[1]/v1", "https://[::1/v1", "https://exa mple.com", "https://example.com/\nSECRET"),
        *(
            " http://127.0.0.1",
            "http://127.0.0.1\n",
            "http://127.0.0.1%2eexample.com/",
            "http://１２７.0.0.1/",
        ),
    ],
)
def test_an_address_that_is_none_is_refused_and_not_shown(url):
    with pytest.raises(ValueError, match=r"^url: .* write https://HOST/PATH") as refusal:
        Endpoint(url=url, model="m", notes_may_leave=True)
    assert "SECRET" not in str(refusal.value)


@pytest.mark.parametrize("url", ["http://api.example.com/v1", "http://10.0.0.7:8000/v1", "http://0.0.0.0/v1"])
def test_nothing_goes_unencrypted_over_a_network(url):
    with pytest.raises(ValueError, match="unencrypted"):
        Endpoint(url=url, model="m", notes_may_leave=True)


@pytest.mark.parametrize("name", ["sk-proj-SECRET", "secret", "Secret1", "SECRET KEY", "1SECRET", "S" * 65])
def test_a_key_in_place_of_its_name_is_refused_and_not_shown(name):
    with pytest.raises(ValueError, match="key_env: not the name") as refusal:
        Endpoint(url=LOCAL, model="m", key_env=name)
    assert name not in str(refusal.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"model": "m"}, "url: missing"),
        ({"url": LOCAL}, "model: missing"),
        ({"url": LOCAL, "model": " "}, "model: empty"),
        (
            {"url": LOCAL, "model": "m", "api_key": "x"},
            "api_key: unknown key; known keys: url, model, key_env",
        ),
        ({"url": LOCAL, "model": "m", "structured": "json"}, "json_schema"),
        ({"url": LOCAL, "model": "m", "temperature": 3.0}, "at most 2"),
        ({"url": LOCAL, "model": "m", "temperature": "cold"}, "default"),
        ({"url": LOCAL, "model": "m", "seed": -1}, "at least 0"),
        ({"url": LOCAL, "model": "m", "timeout_s": 0}, "above 0"),
        ({"url": LOCAL, "model": "m", "parallel_requests": 0}, "at least 1"),
        ({"url": LOCAL, "model": "m", "notes_may_leave": "yes"}, "true or false"),
        ({"url": LOCAL, "model": "m", "currency": "US $"}, "currency"),
    ],
)
def test_a_wrong_table_is_refused(table, message):
    with pytest.raises(ValueError, match=message) as refusal:
        read_table(Endpoint, table, "study.toml: [endpoint]")
    assert str(refusal.value).startswith("study.toml: [endpoint]")


def test_a_table_is_an_endpoint():
    table = {"url": LOCAL, "model": "m", "temperature": "default", "seed": "none", "max_retries": 0}
    expected = Endpoint(url=LOCAL, model="m", temperature="default", seed="none", max_retries=0)
    assert read_table(Endpoint, table, "x") == expected
    assert read_table(Endpoint, {"url": LOCAL, "model": "m"}, "x").temperature == 0.0


def test_the_settings_load_no_client():
    told = "import sys, fedmedlora.endpoint.settings, fedmedlora.endpoint.reader; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert not {"openai", "httpx2", "torch", "pydantic"} & set(loaded.stdout.split())
