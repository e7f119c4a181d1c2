"""Records are one line of JSON each, and say what they were told."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from clips import ROOT
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from edge_runtime.records import (
    CameraRecord,
    EventRecord,
    GapRecord,
    RunRecord,
    SegmentRecord,
    json_schema,
    read_record,
)

SCHEMA = ROOT / "docs" / "records.schema.json"

numbers = st.floats(-1e12, 1e12)
counts = st.integers(0, 2**60)
# Half surrogates come in with paths that are not UTF-8.
names = st.text(st.characters(), max_size=20)
times = st.one_of(st.just(UNSET), names)
every_record = st.one_of(
    st.builds(
        RunRecord,
        run=names,
        started=names,
        bundle_id=names,
        version=names,
        cameras=st.lists(names, max_size=3),
    ),
    st.builds(
        SegmentRecord,
        quality=st.sampled_from([UNSET, ["frozen", "covered"]]),
        time=times,
        camera=names,
        index=counts,
        start_frame=counts,
        end_frame=counts,
        start_s=numbers,
        end_s=numbers,
        score=numbers,
        smoothed=numbers,
        anomalous=st.booleans(),
    ),
    st.builds(
        EventRecord,
        reason=st.sampled_from([UNSET, "restart"]),
        time=times,
        state=st.sampled_from(["new", "update", "end"]),
        id=names,
        camera=names,
        start_s=numbers,
        end_s=numbers,
        start_frame=counts,
        end_frame=counts,
        peak=numbers,
        mean=numbers,
    ),
    st.builds(
        GapRecord,
        time=times,
        camera=names,
        start_s=numbers,
        end_s=numbers,
        reason=st.sampled_from(["lost", "dropped"]),
    ),
    st.builds(
        CameraRecord,
        reason=st.sampled_from([UNSET, "dns"]),
        time=times,
        camera=names,
        state=st.sampled_from(["online", "offline"]),
        detail=names,
    ),
)


@given(record=every_record)
def test_json_round_trip_on_one_line_of_utf8(record):
    line = record.to_json()
    assert b"\n" not in line.encode("utf-8")
    assert "\r" not in line
    document = json.loads(line)
    assert document == record.to_dict()
    said = [name for name in record.__struct_fields__ if getattr(record, name) is not UNSET]
    assert list(document) == ["type", *said]
    for name in said:
        value = getattr(record, name)
        if isinstance(value, float):
            # Six decimals, and the nearest float to them: beyond 2^32 floats lie farther apart than that.
            assert abs(document[name] - value) <= 0.5e-6 + math.ulp(value)
        else:
            assert document[name] == value


def test_the_documented_lines():
    """The formats that other programs read: any change here breaks them."""
    lines = [
        SegmentRecord("gate", 12, 576, 624, 19.2, 20.800000000000001, 0.91, 0.83, True),
        EventRecord("new", "1a-gate-12", "gate", 19.2, 24.0, 576, 720, 0.97, 0.88),
        GapRecord("gate", 24.0, 30.5, "stalled"),
        CameraRecord("gate", "reconnected", "frames of 640 x 480"),
        CameraRecord("gate", "offline", "no such host", "dns", time="2031-01-01T00:00:00.000Z"),
        RunRecord("1a-20310101T000000000", "2031-01-01T00:00:00.000Z", "1a2b", "0.1.0", ["gate", "yard"]),
    ]
    assert [line.to_json() for line in lines] == [
        '{"type":"segment","camera":"gate","index":12,"start_frame":576,"end_frame":624,"start_s":19.2,'
        '"end_s":20.8,"score":0.91,"smoothed":0.83,"anomalous":true}',
        '{"type":"event","state":"new","id":"1a-gate-12","camera":"gate","start_s":19.2,"end_s":24.0,'
        '"start_frame":576,"end_frame":720,"peak":0.97,"mean":0.88}',
        '{"type":"gap","camera":"gate","start_s":24.0,"end_s":30.5,"reason":"stalled"}',
        '{"type":"camera","camera":"gate","state":"reconnected","detail":"frames of 640 x 480"}',
        '{"type":"camera","camera":"gate","state":"offline","detail":"no such host","reason":"dns",'
        '"time":"2031-01-01T00:00:00.000Z"}',
        '{"type":"run","run":"1a-20310101T000000000","started":"2031-01-01T00:00:00.000Z","bundle_id":"1a2b",'
        '"version":"0.1.0","cameras":["gate","yard"]}',
    ]


@pytest.mark.parametrize("number", [math.nan, math.inf, np.float64("nan")])
def test_what_is_not_finite_never_becomes_json(number):
    with pytest.raises(ValueError, match="JSON"):
        GapRecord("gate", number, 1.0, "lost").to_json()


def test_records_are_frozen():
    with pytest.raises(AttributeError):
        GapRecord("gate", 0.0, 1.0, "lost").camera = "yard"


@given(record=every_record)
def test_what_is_read_back_says_the_same(record):
    again = read_record(record.to_json())
    assert type(again) is type(record)
    assert again.to_json() == record.to_json()


def test_keys_that_a_later_version_adds_are_passed_over():
    line = GapRecord("gate", 24.0, 30.5, "stalled").to_json()
    assert read_record(line[:-1] + ',"moon":"full"}') == GapRecord("gate", 24.0, 30.5, "stalled")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "not a record"),
        ('{"type":"gap","camera":"gate"', "not a record"),
        (b'\xff{"type":"gap"}', "not"),
        ('{"type":"verdict","camera":"gate"}', "verdict"),
        ('{"type":"gap","camera":"gate","start_s":"0","end_s":1.0,"reason":"lost"}', "start_s"),
        ('{"type":"gap","camera":"gate","start_s":0.0,"end_s":1.0,"reason":"bored"}', "bored"),
    ],
)
def test_a_line_that_is_no_record_says_why(line, why):
    with pytest.raises(ValueError, match=why):
        read_record(line)


def test_the_committed_schema_is_the_generated_one():
    committed = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert committed == json_schema(), (
        "run: python -c 'import json, edge_runtime.records as r; print(json.dumps(r.json_schema(), indent=2))' "
        f"> {SCHEMA}"
    )
