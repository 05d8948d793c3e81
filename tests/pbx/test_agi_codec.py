"""The FastAGI codec: each part fed whole, cut short, with trailing data, and by a hostile caller."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pbx import agi

# Captured from Asterisk 22.10.1; a caller can write into the marked headers (asterisk.md, section 1).
HEAD = (
    b"agi_network: yes\n"
    b"agi_network_script: route\n"
    b"agi_request: agi://127.0.0.1:4573/route\n"
    b"agi_channel: PJSIP/carrier-a-00000001\n"
    b"agi_language: en\n"
    b"agi_type: PJSIP\n"
    b"agi_uniqueid: 1795299516.1\n"
    b"agi_version: 22.10.1+dfsg+~cs6.17.60671434-1\n"
    b"agi_callerid: %b\n"
    b"agi_calleridname: %b\n"
    b"agi_rdnis: unknown\n"
    b"agi_context: dialmark-inbound\n"
    b"agi_extension: 74990000001\n"
    b"agi_priority: 1\n"
    b"agi_enhanced: 0.0\n"
    b"agi_accountcode: \n"
    b"agi_threadid: 140390654174912\n"
)
TAIL = b"agi_arg_1: 01234567-89ab-cdef-0123-456789abcdef\nagi_arg_2: 74990000001\nagi_arg_3: \nagi_arg_4: carrier-a\n\n"
ARGUMENTS = ("01234567-89ab-cdef-0123-456789abcdef", "74990000001", "", "carrier-a")


def block(caller: bytes = b"unknown", name: bytes = b"unknown", tail: bytes = TAIL) -> bytes:
    """A header block as Asterisk writes it."""
    return HEAD % (caller, name) + tail


def test_a_request_is_its_script_and_its_arguments() -> None:
    assert agi.parse_request(block()) == agi.AgiRequest("route", ARGUMENTS)


def test_a_request_without_arguments() -> None:
    assert agi.parse_request(block(tail=b"\n")) == agi.AgiRequest("route", ())


@pytest.mark.parametrize(
    "hostile",
    [
        "Zoë".encode(),
        b"\xff\xfe",
        b"Jo\xc3",
        b"x" * 3_000,
        b"${SHELL(id)}",
        b"a\r\nb: c",
        b"x\nagi_network_script: other",
        b"x\r\nagi_arg_2: 9902",
        b"x agi_arg_2: 9902",
    ],
)
def test_what_a_caller_sends_changes_nothing(hostile: bytes) -> None:
    """R49: a strange caller is routed like any other. A CR alone ends no line for us."""
    if b"\nagi_arg" in hostile:
        with pytest.raises(agi.GarbageError):
            agi.parse_request(block(name=hostile))
    else:
        assert agi.parse_request(block(caller=hostile, name=hostile)) == agi.AgiRequest("route", ARGUMENTS)


@pytest.mark.parametrize(
    "forged",
    [
        b"x\nagi_arg_2: 9902",
        b"x\nagi_arg_1: 0",
        b"x\nagi_arg_5: 1",
        b"x\nagi_arg_1: 0\nagi_arg_2: 9902\nagi_arg_3: \nagi_arg_4: ",
        b"x\nagi_arg_: 1",
    ],
)
def test_a_forged_argument_refuses_the_request(forged: bytes) -> None:
    """A forged Diversion put `agi_arg_2` before the real one and stole the call (asterisk.md, section 1)."""
    with pytest.raises(agi.GarbageError):
        agi.parse_request(block(name=forged))


@pytest.mark.parametrize(
    "tail",
    [
        b"agi_arg_1: a\nagi_arg_1: b\n\n",
        b"agi_arg_2: a\n\n",
        b"agi_arg_1: a\nagi_arg_3: b\n\n",
        b"agi_arg_1: a\nagi_arg_2: b\nx: y\n\n",
        b"agi_arg_1:a\n\n",
        b"agi_arg_01: a\n\n",
    ],
)
def test_arguments_that_are_not_numbered_through_refuse_the_request(tail: bytes) -> None:
    with pytest.raises(agi.GarbageError):
        agi.parse_request(block(tail=tail))


def test_a_block_cut_anywhere_is_never_a_request() -> None:
    whole = block()
    for length in range(len(whole) - 1):
        with pytest.raises(agi.GarbageError):
            agi.parse_request(whole[:length])


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_nothing_worse(noise: bytes) -> None:
    with pytest.raises(agi.GarbageError):
        agi.parse_request(noise)


@given(st.binary(max_size=300).filter(lambda noise: b"\n" not in noise))
def test_no_name_without_a_line_feed_changes_the_arguments(name: bytes) -> None:
    assert agi.parse_request(block(name=name)).arguments == ARGUMENTS


def test_the_answer_is_one_line() -> None:
    line = agi.exec_mset(
        [("DM_S1", "PJSIP/desk-1&PJSIP/74951234567@carrier-a-out"), ("DM_L1", "Zo%C3%AB"), ("DM_OK", "1")]
    )
    assert line == b'EXEC MSet "DM_S1=PJSIP/desk-1&PJSIP/74951234567@carrier-a-out,DM_L1=Zo%C3%AB,DM_OK=1"\n'


def test_an_inherited_variable_and_an_empty_value_are_permitted() -> None:
    assert agi.exec_mset([("__DM_ID", "a-b"), ("DM_MSG", "")]) == b'EXEC MSet "__DM_ID=a-b,DM_MSG="\n'


@pytest.mark.parametrize(
    "value", ['a"b', "a,b", "a\\b", "a\nb", "a\rb", "a\0b", "${X}", "a b", "a;b", "a'b", "(", "ё", "x" * 401]
)
def test_what_mset_would_parse_again_is_refused(value: str) -> None:
    with pytest.raises(agi.AnswerError) as caught:
        agi.exec_mset([("DM_S1", value), ("DM_OK", "1")])
    assert "DM_S1" in str(caught.value)
    assert value not in str(caught.value)


@pytest.mark.parametrize("name", ["", "dm_ok", "DM OK", "DM_OK=1,X", "___X", "1X", "DB(a/b)", "X" * 42])
def test_what_is_no_variable_name_is_refused(name: str) -> None:
    with pytest.raises(agi.AnswerError):
        agi.exec_mset([(name, "1")])


def test_the_line_may_have_3500_bytes_and_not_one_more() -> None:
    pairs = [(f"A{index}", "x" * 400) for index in range(8)]
    room = agi.LINE_BYTES - len(agi.exec_mset(pairs)) - len(",LAST=")
    assert len(agi.exec_mset([*pairs, ("LAST", "x" * room)])) == agi.LINE_BYTES
    with pytest.raises(agi.AnswerError, match="3501 bytes"):
        agi.exec_mset([*pairs, ("LAST", "x" * (room + 1))])


def test_as_many_pairs_as_mset_takes() -> None:
    agi.exec_mset([("A", "1")] * 99)
    for count in (0, 100):
        with pytest.raises(agi.AnswerError):
            agi.exec_mset([("A", "1")] * count)


REPLIES = [
    (b"200 result=0\n", agi.AgiReply(200, 0)),
    (b"200 result=-1\n", agi.AgiReply(200, -1)),
    (b"200 result=-2\n", agi.AgiReply(200, -2)),
    (b"200 result=1 (text with spaces)\n", agi.AgiReply(200, 1)),
    (b"HANGUP\n200 result=0\n", agi.AgiReply(200, 0)),
    (b"HANGUP\nHANGUP\n200 result=0\n", agi.AgiReply(200, 0)),
    (b"100 result=0 Trying...\n200 result=0\n", agi.AgiReply(200, 0)),
    (b"510 Invalid or unknown command\n", agi.AgiReply(510, None)),
    (b"511 Command Not Permitted on a dead channel or intercept routine\n", agi.AgiReply(511, None)),
    (b"520-Invalid command syntax.  Proper usage follows:\n EXEC\n520 End of proper usage.\n", agi.AgiReply(520, None)),
]


@pytest.mark.parametrize(("received", "reply"), REPLIES)
def test_a_reply_is_read_when_its_line_is_complete_and_not_before(received: bytes, reply: agi.AgiReply) -> None:
    for length in range(len(received)):
        assert agi.parse_reply(received[:length]) is None
    assert agi.parse_reply(received) == reply
    assert agi.parse_reply(received + b"HANGUP\n200 result=5\n") == reply


@pytest.mark.parametrize("noise", [b"\n", b"hello\n", b"2000 result=0\n", b"\xff\xff\n", b"HANGUP \n"])
def test_what_is_no_reply_is_garbage(noise: bytes) -> None:
    with pytest.raises(agi.GarbageError):
        agi.parse_reply(noise)


def test_a_reply_without_end_is_garbage() -> None:
    with pytest.raises(agi.GarbageError):
        agi.parse_reply(b"x" * (agi.REPLY_BYTES + 1))


@pytest.mark.parametrize(("received", "reply"), REPLIES)
def test_only_success_with_result_0_is_taken(received: bytes, reply: agi.AgiReply) -> None:
    assert reply.is_taken == received.endswith(b"200 result=0\n")
