"""Ranges of an artifact's bytes, at every boundary."""

from __future__ import annotations

from hashlib import sha256

from tests.http.server.served import Served, served

BYTES = b"0123456789"


async def kept(place: Served, text: bytes) -> str:
    """The path of an artifact with these bytes."""
    run_id = await place.start("keep", text=text.decode())
    await place.reaches(run_id, "completed")
    return f"/runs/{run_id}/artifacts/{sha256(text).hexdigest()}"


async def test_ranges_are_given_to_the_byte() -> None:
    async with served() as place:
        path = await kept(place, BYTES)
        for asked, status, content, told in [
            ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
            ("bytes=9-9", 206, b"9", "bytes 9-9/10"),
            ("bytes=0-9", 206, BYTES, "bytes 0-9/10"),
            ("bytes=0-", 206, BYTES, "bytes 0-9/10"),
            ("bytes=9-", 206, b"9", "bytes 9-9/10"),
            ("bytes=3-10", 206, b"3456789", "bytes 3-9/10"),
            (f"bytes=3-{10**17}", 206, b"3456789", "bytes 3-9/10"),
            ("bytes=-1", 206, b"9", "bytes 9-9/10"),
            ("bytes=-10", 206, BYTES, "bytes 0-9/10"),
            ("bytes=-11", 206, BYTES, "bytes 0-9/10"),
            ("bytes= 1 - 2", 206, b"12", "bytes 1-2/10"),
            ("bytes=10-", 416, b"", "bytes */10"),
            ("bytes=10-20", 416, b"", "bytes */10"),
            ("bytes=-0", 416, b"", "bytes */10"),
            ("bytes=5-4", 416, b"", "bytes */10"),
            ("bytes=-", 200, BYTES, None),
            ("bytes=", 200, BYTES, None),
            ("bytes=a-b", 200, BYTES, None),
            ("bytes=1", 200, BYTES, None),
            ("bytes=--1", 200, BYTES, None),
            ("bytes=1-2-3", 200, BYTES, None),
            ("bytes=0-1,4-5", 200, BYTES, None),  # several ranges are answered with the whole, as HTTP allows
            ("items=0-1", 200, BYTES, None),
            ("bytes=" + "9" * 30 + "-", 200, BYTES, None),
            ("", 200, BYTES, None),
        ]:
            answer = await place.client.get(path, headers={"range": asked})
            found = (answer.status_code, answer.content, answer.headers.get("content-range"))
            assert found == (status, content, told), asked
            assert answer.headers["content-length"] == str(len(content)), asked
            head = await place.client.head(path, headers={"range": asked})
            assert (head.status_code, head.content, head.headers["content-length"]) == (status, b"", str(len(content)))
            assert head.headers.get("content-range") == told, asked


async def test_the_rest_of_other_bytes_is_not_given() -> None:
    async with served() as place:
        path = await kept(place, BYTES)
        etag = (await place.client.head(path)).headers["etag"]
        assert etag == f'"{sha256(BYTES).hexdigest()}"'
        rest = {"range": "bytes=4-"}
        assert (await place.client.get(path, headers=rest | {"if-range": etag})).content == BYTES[4:]
        other = await place.client.get(path, headers=rest | {"if-range": '"other"'})
        assert (other.status_code, other.content) == (200, BYTES)


async def test_of_no_bytes_there_is_no_range() -> None:
    async with served() as place:
        path = await kept(place, b"")
        whole = await place.client.get(path)
        assert (whole.status_code, whole.content) == (200, b"")
        for asked in ("bytes=0-0", "bytes=0-", "bytes=-1"):
            answer = await place.client.get(path, headers={"range": asked})
            assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */0"), asked
