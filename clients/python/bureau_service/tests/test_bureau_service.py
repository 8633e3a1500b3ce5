"""Run: python -m unittest discover -s tests"""

import unittest
from unittest import mock

from bureau_service import Caller, Refused, Service
from bureau_service.ed25519 import verify
from bureau_service.tokens import TokenGate, Unauthorized, matches
from bureau_service.wire import encode

# Made by a Go program with crypto/ed25519 and CBOR written by hand: the key of the seed 00 01 … 1f.
KEY = bytes.fromhex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8")
TOKEN = bytes.fromhex(
    "a701781e40622f666c6565742f702f6167656e742f613a6578616d706c652e6f726702782040622f666c6565742f702f6d616368696e652f"
    "6d3a6578616d706c652e6f726703667469636b65740482a10181697469636b65742f2a2aa201816c7469636b65742f636c6f736502816761"
    "67656e742f2a0578203030303130323033303430353036303730383039306130623063306430653066061a6955b900071a6955ba2c2b7a7d"
    "c5dffa384db3a661c5f37322755aa23c88694e1fcb881db0d571d6a50d3e9c12b14ba819d7dc03ecf17e0f4b64f0f8673cec8ce0b4260ead"
    "8a7e195308"
)
REVOCATION = bytes.fromhex(
    "a20181a20178203030303130323033303430353036303730383039306130623063306430653066021a6955ba2c021a6955b96430e09c5649"
    "9cb2c36c9d940fab6f4636e6c3c903ebd6050b6bcb27066e9648689342dd7eb15068721ce76c6905ac618d7756f02f88fa7d5f3a7f7ac051"
    "25a003"
)
MACHINE = "@b/fleet/p/machine/m:example.org"
ISSUED = 1767225600


def gate(role: str = "ticket", machine: str = MACHINE) -> TokenGate:
    return TokenGate(role, machine, lambda: KEY)


class Signatures(unittest.TestCase):
    def test_accepts_the_vectors_of_rfc_8032(self) -> None:
        vectors = [
            (
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                "",
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                "72",
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
        ]
        for key, message, signature in vectors:
            self.assertTrue(verify(bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature)))
            self.assertFalse(verify(bytes.fromhex(key), b"other", bytes.fromhex(signature)))

    def test_refuses_a_signature_whose_scalar_is_not_reduced(self) -> None:
        order = 2**252 + 27742317777372353535851937790883648493
        scalar = int.from_bytes(TOKEN[-32:], "little") + order
        self.assertFalse(verify(KEY, TOKEN[:-64], TOKEN[-64:-32] + scalar.to_bytes(32, "little")))


class Tokens(unittest.TestCase):
    def setUp(self) -> None:
        clock = mock.patch("time.time", lambda: ISSUED + 1)
        clock.start()
        self.addCleanup(clock.stop)

    def refusal(self, checked: TokenGate, token: object) -> str:
        with self.assertRaises(Unauthorized) as caught:
            checked.check(token)
        return str(caught.exception)

    def test_reads_a_token_of_go(self) -> None:
        token = gate().check(TOKEN)
        self.assertEqual(token.subject, "@b/fleet/p/agent/a:example.org")
        self.assertTrue(token.permits("ticket/create"))
        self.assertTrue(token.permits("ticket/close", "agent/x"))
        self.assertFalse(token.permits("ticket/create", "agent/x"))
        self.assertFalse(token.permits("fleet/drain"))

    def test_refuses_missing_forged_foreign_expired_and_revoked_tokens(self) -> None:
        self.assertEqual(self.refusal(gate(), None), "authentication required: missing token field")
        for at in (0, 40, len(TOKEN) - 1):
            forged = bytearray(TOKEN)
            forged[at] ^= 1
            self.assertEqual(self.refusal(gate(), bytes(forged)), "authentication failed")
        self.assertEqual(self.refusal(gate(), "text"), "authentication failed")
        self.assertEqual(self.refusal(gate("fleet"), TOKEN), "authentication failed")
        self.assertEqual(self.refusal(gate(machine="@other:s"), TOKEN), "authentication failed")
        with mock.patch("time.time", lambda: ISSUED + 300):
            self.assertEqual(self.refusal(gate(), TOKEN), "authentication failed: token expired")
        revoked = gate()
        revoked.revoke(REVOCATION)
        self.assertEqual(self.refusal(revoked, TOKEN), "authentication failed: token revoked")

    def test_a_revocation_needs_the_signature(self) -> None:
        for forged in (b"", REVOCATION[:-1] + b"\0", TOKEN, None):
            with self.assertRaises(Unauthorized):
                gate().revoke(forged)


class Globs(unittest.TestCase):
    def test_match_as_the_wire_says(self) -> None:
        for pattern, value in [
            ("**", "a/b"),
            ("a/**", "a"),
            ("a/**", "a/b/c"),
            ("**/c", "c"),
            ("**/c", "a/b/c"),
            ("a/**/c", "a/c"),
            ("a/**/c", "a/b/b/c"),
            ("a/*", "a/b"),
            ("a/?", "a/b"),
        ]:
            self.assertTrue(matches(pattern, value), (pattern, value))
        for pattern, value in [
            ("**", ""),
            ("a/*", "a/b/c"),
            ("a/*", "a"),
            ("a/**", "ab"),
            ("a**", "ab"),
            ("**/**", "a"),
            ("a/[b]", "a/b"),
            ("a/**", "a//b"),
            ("a.c", "abc"),
        ]:
            self.assertFalse(matches(pattern, value), (pattern, value))


class Dispatch(unittest.TestCase):
    def setUp(self) -> None:
        clock = mock.patch("time.time", lambda: ISSUED + 1)
        clock.start()
        self.addCleanup(clock.stop)
        self.service = Service("ticket", description="")
        self.service._gate = gate()

        @self.service.action("create", needs="ticket/create")
        def create(caller: Caller, title: str) -> dict[str, str]:
            return {"title": title, "by": caller.user}

        @self.service.action("purge", needs="fleet/purge")
        def purge(caller: Caller) -> None:
            raise AssertionError("it must not run")

        @self.service.action("fails")
        def fails() -> None:
            raise Refused("conflict", "no")

    def test_runs_what_the_token_grants_and_refuses_the_rest(self) -> None:
        answer = self.service.answer
        self.assertEqual(answer({"action": "create", "token": TOKEN, "title": "x"})["data"]["title"], "x")
        self.assertEqual(answer({"action": "create", "title": "x"})["code"], "unauthorized")
        self.assertEqual(answer({"action": "purge", "token": TOKEN})["error"], "access denied: no grant for fleet/purge")
        self.assertEqual(answer({"action": "create", "token": TOKEN})["code"], "invalid-input")
        self.assertEqual(answer({"action": "create", "token": TOKEN, "title": "x", "more": 1})["code"], "invalid-input")
        self.assertEqual(answer({"action": "nonsense"})["error"], 'unknown action "nonsense"')
        self.assertEqual(answer(5)["error"], "missing required field: action")
        self.assertEqual(answer({"action": "fails"})["code"], "conflict")
        self.assertEqual(answer({"action": "health"})["data"], {"healthy": True})
        self.assertEqual(encode({"b": 1, "a": 2}), encode({"a": 2, "b": 1}))


if __name__ == "__main__":
    unittest.main()
