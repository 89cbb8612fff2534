"""Attachments, by themselves and together with their documents."""

from __future__ import annotations

import gzip
from base64 import b64decode, b64encode
from hashlib import md5

import pytest

HELLO = b"hello world"


@pytest.fixture
def db(send):
    assert send("PUT", "/db").status == 201
    return "/db"


@pytest.fixture
def attach(send, db):
    """Write an attachment and return the new revision."""

    def attach(path, data=HELLO, content_type="image/png", **headers):
        response = send("PUT", f"{db}/{path}", body=data, content_type=content_type, **headers)
        assert response.status == 201
        return response.value()["rev"]

    return attach


def failure(response):
    body = response.value()
    return response.status, body["error"], body["reason"]


# --- reading ---------------------------------------------------------------------------------------------------------


def test_attachment_is_returned_with_its_type_and_the_etag_of_its_digest(send, db, attach):
    attach("a/f")
    response = send("GET", f"{db}/a/f")
    tag = f'"{b64encode(md5(HELLO).digest()).decode()}"'
    assert (response.status, response.content()) == (200, HELLO)
    assert response.headers["content-type"] == "image/png"
    assert response.headers["etag"] == tag
    assert response.headers["accept-ranges"] == "bytes"
    assert send("GET", f"{db}/a/f", if_none_match=f'"other", {tag}').status == 304


def test_text_is_stored_gzipped_and_sent_gzipped_if_the_client_accepts_it(send, db, attach):
    attach("a/f", content_type="text/plain; charset=utf-8")
    packed = send("GET", f"{db}/a/f", accept_encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.content()) == HELLO
    for header in ("gzip;q=0", "deflate", "identity"):
        plain = send("GET", f"{db}/a/f", accept_encoding=header)
        assert "content-encoding" not in plain.headers
        assert plain.content() == HELLO
    assert packed.headers["etag"] == plain.headers["etag"]
    stub = send("GET", f"{db}/a?att_encoding_info=true").value()["_attachments"]["f"]
    assert (stub["length"], stub["encoding"], stub["encoded_length"]) == (11, "gzip", len(packed.content()))


@pytest.mark.parametrize(
    ("header", "reason"),
    [("identity;q=0", "unacceptable_encoding"), ("gzip;q=x", "bad_accept_encoding_value")],
)
def test_request_that_accepts_no_encoding_is_an_error(send, db, attach, header, reason):
    attach("a/f")
    response = send("GET", f"{db}/a/f", accept_encoding=header)
    assert (response.status, response.value()) == (500, {"error": "unknown_error", "reason": reason})


@pytest.mark.parametrize(
    ("header", "content_range", "data"),
    [
        ("bytes=0-3", "bytes 0-3/11", b"hell"),
        ("bytes=6-", "bytes 6-10/11", b"world"),
        ("bytes=-3", "bytes 8-10/11", b"rld"),
        ("bytes=8-100", "bytes 8-10/11", b"rld"),
    ],
)
def test_one_range_is_returned(send, db, attach, header, content_range, data):
    attach("a/f")
    response = send("GET", f"{db}/a/f", range=header)
    assert (response.status, response.headers["content-range"], response.content()) == (206, content_range, data)


@pytest.mark.parametrize("header", ["bytes=5-2", "bytes=11-", "bytes=20-30", "bytes=0-1,20-30", "bytes=-0"])
def test_range_beyond_the_end_is_not_satisfiable(send, db, attach, header):
    attach("a/f")
    expected = (416, "requested_range_not_satisfiable", "Requested range not satisfiable")
    assert failure(send("GET", f"{db}/a/f", range=header)) == expected


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=a-b", "items=0-1", "bytes=1-2-3", "bytes=" + "0-0," * 10])
def test_meaningless_range_returns_everything(send, db, attach, header):
    attach("a/f")
    response = send("GET", f"{db}/a/f", range=header)
    assert (response.status, response.content()) == (200, HELLO)


def test_several_ranges_are_returned_as_multipart(send, db, attach):
    attach("a/f")
    response = send("GET", f"{db}/a/f", range="bytes=0-0,6-7")
    boundary = response.headers["content-type"].partition('boundary="')[2].rstrip('"')
    assert response.status == 206
    assert response.content().decode() == (
        f"--{boundary}\r\nContent-Type: image/png\r\nContent-Range: bytes 0-0/11\r\n\r\nh\r\n"
        f"--{boundary}\r\nContent-Type: image/png\r\nContent-Range: bytes 6-7/11\r\n\r\nwo\r\n--{boundary}--"
    )


def test_compressed_attachment_has_no_ranges(send, db, attach):
    attach("a/f", content_type="text/plain")
    response = send("GET", f"{db}/a/f", range="bytes=0-3")
    assert (response.status, response.content(), response.headers["accept-ranges"]) == (200, HELLO, "none")


def test_missing_attachment_and_missing_document_have_their_own_reasons(send, db, attach):
    rev = attach("a/f")
    assert failure(send("GET", f"{db}/a/g")) == (404, "not_found", "Document is missing attachment")
    assert failure(send("GET", f"{db}/b/f")) == (404, "not_found", "missing")
    assert failure(send("GET", f"{db}/a/f?rev=1-abc")) == (404, "not_found", "missing")
    assert send("DELETE", f"{db}/a?rev={rev}").status == 200
    assert failure(send("GET", f"{db}/a/f")) == (404, "not_found", "deleted")
    assert send("GET", f"{db}/a/f?rev={rev}").content() == HELLO


def test_gzipped_upload_is_stored_unchanged(send, db, attach):
    packed = gzip.compress(HELLO, mtime=0)
    attach("a/f", packed, content_encoding="gzip")
    assert send("GET", f"{db}/a/f", accept_encoding="gzip").content() == packed
    assert send("GET", f"{db}/a/f").content() == HELLO
    assert send("GET", f"{db}/a").value()["_attachments"]["f"]["length"] == len(packed)


# --- writing ---------------------------------------------------------------------------------------------------------


def test_attachment_adds_a_revision_to_its_document(send, db, attach):
    first = attach("a/f")
    response = send("PUT", f"{db}/a/x/y%20z?rev={first}", body=b"1", content_type="image/gif")
    assert (response.status, response.headers["location"]) == (201, "http://127.0.0.1/db/a/x%2Fy%20z")
    assert "etag" not in response.headers
    document = send("GET", f"{db}/a").value()
    assert document["_rev"].startswith("2-")
    assert [(name, stub["revpos"]) for name, stub in document["_attachments"].items()] == [("x/y z", 2), ("f", 1)]
    assert send("GET", f"{db}/a/x/y%20z").content() == b"1"


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        ("a/f", {}, (409, "conflict", "Document update conflict.")),
        ("a/f?rev=1-abc", {}, (409, "not_found", "missing_rev")),
        ("a/f?rev=zz", {}, (400, "bad_request", "Invalid rev format")),
        ("a/f?rev=1-abc", {"if_match": "1-abd"}, (400, "bad_request", "Document rev and etag have different values")),
        ("a/_f", {}, (400, "bad_request", "Attachment name '_f' starts with prohibited character '_'")),
        ("a/%FF", {}, (400, "bad_request", "Attachment name is not UTF-8 encoded")),
        (
            "a/f",
            {"content_encoding": "br"},
            (415, "bad_content_type", "Only gzip and identity content-encodings are supported"),
        ),
        ("_x/f", {}, (400, "illegal_docid", "Only reserved document ids may start with underscore.")),
    ],
)
def test_put_of_attachment_is_refused(send, db, attach, path, headers, expected):
    attach("a/g")
    assert failure(send("PUT", f"{db}/{path}", body=b"1", **headers)) == expected


def test_if_match_names_the_revision(send, db, attach):
    rev = attach("a/f")
    attach("a/g", if_match=f'"{rev}"')
    assert list(send("GET", f"{db}/a").value()["_attachments"]) == ["g", "f"]


def test_upload_without_type_is_an_octet_stream(send, db):
    assert send("PUT", f"{db}/a/f", body=b"1").status == 201
    assert send("GET", f"{db}/a/f").headers["content-type"] == "application/octet-stream"


def test_delete_of_attachment_keeps_the_others(send, db, attach):
    rev = attach("a/g", if_match=f'"{attach("a/f")}"')
    assert failure(send("DELETE", f"{db}/a/f")) == (409, "conflict", "Document update conflict.")
    assert failure(send("DELETE", f"{db}/a/h?rev={rev}")) == (404, "not_found", "Document is missing attachment")
    assert send("DELETE", f"{db}/a/f?rev={rev}").status == 200
    assert list(send("GET", f"{db}/a").value()["_attachments"]) == ["g"]


def test_other_methods_are_refused(send, db):
    response = send("POST", f"{db}/a/f", {})
    assert failure(response) == (405, "method_not_allowed", "Only DELETE,GET,HEAD,PUT allowed")


def test_design_documents_take_attachments_and_local_ones_do_not(send, db, attach):
    attach("_design/d/f")
    assert send("GET", f"{db}/_design/d/f").content() == HELLO
    assert send("GET", f"{db}/_design%2Fd/f").status == 301
    expected = (400, "bad_request", "_local documents do not accept attachments.")
    assert failure(send("PUT", f"{db}/_local/l/f", body=b"1")) == expected


def test_recreated_document_with_attachment_has_couchdbs_revision(send, db, attach):
    """After a deletion, the revision id depends only on the number of attachments."""
    revs = []
    for path, data in (("a/f", b"1"), ("b/g", b"2")):
        doc_id = path[0]
        first = send("PUT", f"{db}/{doc_id}", {}).value()["rev"]
        assert send("DELETE", f"{db}/{doc_id}?rev={first}").status == 200
        revs.append(attach(path, data))
    assert revs[0] == revs[1]


# --- with their documents --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stub", "status"),
    [({}, 201), ({"revpos": 1}, 201), ({"revpos": 7}, 412), ({"revpos": None}, 412)],
)
def test_stub_keeps_an_attachment_unless_it_claims_another_revpos(send, db, attach, stub, status):
    rev = attach("a/f")
    response = send("PUT", f"{db}/a", {"_rev": rev, "_attachments": {"f": {"stub": True, **stub}}})
    assert response.status == status
    if status == 412:
        assert failure(response)[1:] == ("missing_stub", "Invalid attachment stub in a for f")


def test_data_that_should_follow_a_plain_body_is_an_error(send, db):
    document = {"_attachments": {"f": {"follows": True, "length": 5}}}
    assert failure(send("PUT", f"{db}/a", document)) == (500, "unknown_error", "function_clause")


def related(document, *parts, boundary="abc"):
    pieces = [f"--{boundary}\r\nContent-Type: application/json\r\n\r\n{document}".encode()]
    pieces += [b"\r\n--%b\r\n\r\n%b" % (boundary.encode(), part) for part in parts]
    return b"".join(pieces) + f"\r\n--{boundary}--".encode()


RELATED = 'multipart/related; boundary="abc"'


def test_multipart_document_is_parsed_in_the_order_of_its_attachments(send, db):
    document = (
        '{"_attachments": {"f": {"follows": true, "length": 5, "content_type": "image/png"},'
        ' "g": {"follows": true, "length": 3, "content_type": "text/plain"}}}'
    )
    body = b"preamble\r\n" + related(document, b"hello", b"abc") + b"\r\nepilogue"
    assert send("PUT", f"{db}/a", body=body, content_type=RELATED).status == 201
    shown = send("GET", f"{db}/a?attachments=true").value()["_attachments"]
    assert {name: b64decode(member["data"]) for name, member in shown.items()} == {"f": b"hello", "g": b"abc"}


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ('"length": 4', (400, "bad_request", "attachment longer than expected")),
        ('"length": 6', (400, "bad_request", "attachment shorter than expected")),
        ('"size": 5', (500, "unknown_error", "function_clause")),
        ('"length": 5, "digest": "md5-AAAA"', (500, "unknown_error", "function_clause")),
        ('"length": 5, "encoding": "br"', (500, "unknown_error", "badarg")),
    ],
)
def test_mismatched_parts_are_refused(send, db, member, expected):
    document = '{"_attachments": {"f": {"follows": true, "content_type": "image/png", ' + member + "}}}"
    response = send("PUT", f"{db}/a", body=related(document, b"hello"), content_type=RELATED)
    assert failure(response) == expected
    assert send("GET", f"{db}/a").status == 404


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        (b"--abc\r\n\r\n{}\r\n--abc--", RELATED, (415, "bad_content_type")),
        (b"--abc\r\nnonsense\r\n\r\n{}\r\n--abc--", RELATED, (400, "bad_request")),
        (b"nothing", RELATED, (500, "error")),
        (related("{}"), "multipart/related; type=x", (500, "error")),
        (related("{}"), "multipart/related", (400, "bad_request")),
    ],
)
def test_body_is_refused_when_its_first_part_is_not_json(send, db, body, content_type, expected):
    response = send("PUT", f"{db}/a", body=body, content_type=content_type)
    assert failure(response)[:2] == expected


def test_document_is_returned_with_its_attachments_if_the_client_accepts_multipart(send, db, attach):
    rev = attach("a/t", content_type="text/plain")
    response = send("GET", f"{db}/a?attachments=true", accept="multipart/related")
    kind, _, boundary = response.headers["content-type"].partition('; boundary="')
    boundary = boundary.rstrip('"')
    packed = send("GET", f"{db}/a/t", accept_encoding="gzip").content()
    assert (kind, response.headers["etag"]) == ("multipart/related", f'"{rev}"')
    first, second, end = response.content().split(f"--{boundary}".encode())[1:]
    assert first.startswith(b'\r\nContent-Type: application/json\r\n\r\n{"_id":"a"')
    assert b'"follows":true,"encoding":"gzip"' in first
    assert second == (
        b'\r\nContent-Disposition: attachment; filename="t"\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n'
        b"Content-Encoding: gzip\r\n\r\n%b\r\n" % (len(packed), packed)
    )
    assert end == b"--"


def test_multipart_answer_can_be_stored_again(send, db, attach):
    rev = attach("a/t", content_type="text/plain")
    sent = send("GET", f"{db}/a?attachments=true&revs=true", accept="multipart/related")
    response = send("PUT", f"{db}/b?new_edits=false", body=sent.content(), content_type=sent.headers["content-type"])
    assert (response.status, response.value()["rev"]) == (201, rev)
    a, b = (send("GET", f"{db}/{doc_id}").value()["_attachments"] for doc_id in ("a", "b"))
    assert a == b


def test_leaves_are_returned_as_multipart(send, db):
    docs = [{"_id": "a", "_rev": "1-x"}, {"_id": "a", "_rev": "1-y"}]
    send("POST", f"{db}/_bulk_docs", {"docs": docs, "new_edits": False})
    response = send("GET", f'{db}/a?open_revs=["1-y","1-z"]', accept="multipart/mixed")
    boundary = response.headers["content-type"].partition('boundary="')[2].rstrip('"')
    assert response.content().decode() == (
        f'--{boundary}\r\nContent-Type: application/json\r\n\r\n{{"_id":"a","_rev":"1-y"}}\r\n'
        f'--{boundary}\r\nContent-Type: application/json; error="true"\r\n\r\n{{"missing":"1-z"}}\r\n--{boundary}--'
    )
