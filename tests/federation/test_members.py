"""Who may take part, as files say it that change while the coordinator runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from member_files import AFTER_THE_END, Fellowship, public, signed

from server.coordination.members import LOOK_SECONDS, Members, NotAMember

MESSAGE = b"2026-11-22T12:00:00+00:00"


@pytest.fixture
def fellowship(tmp_path: Path) -> Fellowship:
    """An authority without members."""
    return Fellowship(tmp_path)


def check(members: Members, key: ec.EllipticCurvePrivateKey) -> str:
    """Ask for the merchant whose node shows this key."""
    return members.check(public(key), MESSAGE, signed(key, MESSAGE))


def test_a_member_is_known_by_its_key(fellowship: Fellowship) -> None:
    """The certificate in the folder says whose key it is."""
    key = fellowship.admit("north")
    assert check(fellowship.members(), key) == "north"


def test_a_key_of_nobody_is_turned_away(fellowship: Fellowship) -> None:
    """A key without a certificate in the folder belongs to no member."""
    fellowship.admit("north")
    with pytest.raises(NotAMember, match="belongs to no member") as refusal:
        check(fellowship.members(), ec.generate_private_key(ec.SECP256R1()))
    assert refusal.value.merchant == ""


def test_showing_anothers_key_does_not_help(fellowship: Fellowship) -> None:
    """The signature must be of the key that is shown."""
    north, south = fellowship.admit("north"), fellowship.admit("south")
    with pytest.raises(NotAMember, match="not signed by its key") as refusal:
        fellowship.members().check(public(north), MESSAGE, signed(south, MESSAGE))
    assert refusal.value.merchant == "north"


def test_a_certificate_under_another_file_name_does_not_count(fellowship: Fellowship) -> None:
    """The name in the certificate and that of the file must agree."""
    key = fellowship.admit("north", named="south")
    with pytest.raises(NotAMember, match="names somebody else"):
        check(fellowship.members(), key)


def test_a_revoked_member_is_out_after_one_look(fellowship: Fellowship) -> None:
    """A longer revocation list counts within the time between two looks."""
    key = fellowship.admit("north")
    members = fellowship.members()
    assert check(members, key) == "north"
    fellowship.revoke("north")
    fellowship.times.later(LOOK_SECONDS)
    with pytest.raises(NotAMember, match="revoked"):
        check(members, key)
    assert members.keys() == {}
    assert members.revoked() == {public(key)}


def test_a_member_that_was_struck_off_is_told_that_it_is_revoked(fellowship: Fellowship) -> None:
    """`fedrank merchant revoke` takes its file away: the key is known by what was kept of former members."""
    key = fellowship.admit("north")
    members = fellowship.members()
    fellowship.strike_off("north")
    fellowship.times.later(LOOK_SECONDS)
    for read in (members, fellowship.members()):
        with pytest.raises(NotAMember, match="certificate of north is revoked") as refusal:
            check(read, key)
        assert refusal.value.merchant == "north" and read.keys() == {}


def test_a_member_with_a_new_certificate_is_told_to_start_its_node_with_that(fellowship: Fellowship) -> None:
    """A rotation revokes the former one too: who reads only that would ask for another rotation."""
    former = fellowship.admit("north")
    fellowship.strike_off("north")
    new = fellowship.admit("north")
    with pytest.raises(NotAMember, match="was replaced; start the node with the new one"):
        check(fellowship.members(), former)
    assert check(fellowship.members(), new) == "north"


def test_a_former_certificate_lets_nobody_in_where_the_list_is_late(fellowship: Fellowship) -> None:
    """The folder has come and the revocation list has not: its key is out all the same."""
    key = fellowship.admit("north")
    fellowship.strike_off("north", revoke=False)
    with pytest.raises(NotAMember, match="certificate of north was replaced"):
        check(fellowship.members(), key)


def test_former_certificates_that_cannot_be_read_change_nothing(fellowship: Fellowship) -> None:
    """They only make a refusal clearer."""
    north, south = fellowship.admit("north"), fellowship.admit("south")
    fellowship.strike_off("south")
    (fellowship.files.members / "_former.pem").write_bytes(b"half a file")
    assert check(fellowship.members(), north) == "north"
    with pytest.raises(NotAMember, match="belongs to no member"):
        check(fellowship.members(), south)


def test_an_expired_member_is_out_at_once_and_stays_registered(fellowship: Fellowship) -> None:
    """Time alone ends it; since a renewed certificate may have the same key, the register keeps the key."""
    key = fellowship.admit("north")
    members = fellowship.members()
    fellowship.times.wall += AFTER_THE_END
    with pytest.raises(NotAMember, match="expired"):
        check(members, key)
    assert members.keys() == {"north": public(key)}


def test_a_new_member_comes_in_without_a_restart(fellowship: Fellowship) -> None:
    """A file that appears is read at the next look, and not before."""
    members = fellowship.members()
    key = fellowship.admit("late")
    with pytest.raises(NotAMember):
        check(members, key)
    fellowship.times.later(LOOK_SECONDS)
    assert check(members, key) == "late"


@pytest.mark.parametrize("damaged", ["revoked", "authority"])
def test_a_damaged_list_leaves_what_was_known(fellowship: Fellowship, damaged: str) -> None:
    """A file that cannot be used neither lets anybody in nor shuts the federation down."""
    key = fellowship.admit("north")
    members = fellowship.members()
    getattr(fellowship.files, damaged).write_bytes(b"half a file")
    fellowship.times.later(LOOK_SECONDS)
    assert check(members, key) == "north"


def test_a_damaged_certificate_shuts_out_its_owner_alone(fellowship: Fellowship) -> None:
    """One bad file in the folder is that member's loss."""
    north, south = fellowship.admit("north"), fellowship.admit("south")
    (fellowship.files.members / "south.pem").write_bytes(b"half a file")
    members = fellowship.members()
    assert check(members, north) == "north"
    with pytest.raises(NotAMember):
        check(members, south)
