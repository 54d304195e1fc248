"""Values that somebody may write where they do not belong."""

import random

WORDS = (
    "", " ", "0", "-0", "1", "-1", "2", "3", "4", "5", "8", "-5", "+3", "007", "1_000", " 7", "1.0", "1.5", "0.5", "-0.5",
    "1e3", "1E3", "1e-3", ".5", "5.", "1e308", "1e309", "-1e309", "1e-320", "5e-324", "1e16", "1e100", "0x10", "1,000",
    "1k", "10%", "40%", "400%", "-10%", "%", "nan", "NaN", "inf", "-inf", "Infinity", "1e400", "999999999",
    "2147483648", "4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551615",
    "18446744073709551616", "100000000000000000000000000", "-9223372036854775809", "9" * 400, "9" * 5000,
    "None", "none", "null", "nil", "True", "true", "False", "yes", "on", "auto", "default", "[]", "{}", "()", "[1, 2]",
    "1 2", "1;2", "'1'", '"1"', "--", "-", "---", "-h", "=", "==", ".", "..", "/", "//", "~", "~/x", "../x", "../../etc/passwd",
    "/dev/null", "/dev/full", "/proc/self/mem", "/nonexistent/a/b", "a/b", "a\\b", "a:b", "a:b:c", ":", "::", "os:system",
    "os:path", "json:JSONDecoder", "nofile.py:X", "missing_module:Class", "sys:exit", "torch.nn:Linear", "builtins:int",
    "@", "x@", "@500", "x@500", "x@best", "x@-1", "x@999999999999999999999", "x@nan", "#", "?", "why?1", "%20", "a%20b", "&", "*", "**", "$HOME",
    "$(touch EXECUTED)", "`touch EXECUTED`", "; touch EXECUTED", "| touch EXECUTED", "__import__('os').system('touch EXECUTED')",
    "{0.__class__}", "%s%n", "{}", "${jndi:ldap://x}", "<script>alert(1)</script>", "\n", "a\nb", "\t", "a\tb", "\r", "\x1b[31mred",
    "\x07", "\x7f", "a\x01b", "\u202egnp", "\ufeff1", "\u200b", "\u0663", "\uff11", "½", "²", "é", "e\u0301", "日本語", "🙂", "\udcff", "a\udcfe", "x" * 255, "x" * 256, "x" * 5000, "x" * 100_000,
    "-1e-300", "1__0", "1e", "e5", "1e+", "0b1", "0o7", "1/2", "1+1", "1j", "∞", "−1", "١٢", "1 ", "0.0", "-0.0", "1e-10", "0.9999999999999999", "1.0000000000000002",
)
"""Texts, as a command line may have them."""

JSON = (
    None, True, False, 0, -1, 1, 2, 3, 4, 7, 10, 100, 0.0, -0.0, 0.5, 1.0, 1.5, -0.5, 1e-3, 1e308, -1e308, 5e-324, 1e-10, 0.999, 2**31, 2**32,
    2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, -(10**30), 10**400, "", " ", "1", "0.5", "nan", "auto", "None", "null", "true", "a\nb", "\x1b[31m", "\x00", "\u202e",
    "日本語", "🙂", "\ud800", "x" * 5000, "../x", "/dev/null", "$(touch EXECUTED)", "canary.py:Canary", "canary:Canary", "os:system", "nofile.py:X",
    [], {}, [1], [None], ["a"], [[]], {"a": 1}, {"kind": "Parity"}, {"kind": "canary.py:Canary", "options": {}}, {"": None}, [1, 2], [2, 1], [0.1, 0.2], {"options": {}},
)
"""Values, as a JSON file may have them."""


def draw(number: int, kind: str) -> random.Random:
    """The random numbers of one case: the same whenever it runs."""
    return random.Random(f"{kind}:{number}")


def misspelt(word: str, source: random.Random) -> str:
    """A word with one slip: a letter left out, doubled, changed, or two of them swapped."""
    place = source.randrange(len(word))
    other = source.choice("abcdefghijklmnopqrstuvwxyz_-0")
    return source.choice(
        (
            word[:place] + word[place + 1 :],
            word[:place] + word[place] + word[place:],
            word[:place] + other + word[place + 1 :],
            word[:place] + word[place : place + 2][::-1] + word[place + 2 :],
        )
    )
