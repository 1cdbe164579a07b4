"""Values of `key=value` on the command line."""

from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException


def parse_value(text: str, *, is_text: bool) -> Any:
    """Returns the value that a user typed behind `key=`.

    Numbers, True, False, null, [lists], {dicts} and "quoted text" have hydra's grammar, as in
    detectron2. That grammar knows few characters of a path; whatever it cannot read is text as it
    was typed: blanks, parentheses, commas, equals signs, umlauts, quotes.

    Args:
        text: what is behind the first equals sign.
        is_text: whether the key holds text, such as a path. A number is then text too.

    Raises:
        ValueError: if a list or a dict is not complete, for a key that does not hold text.
    """
    text = text.strip()
    try:
        parsed = OverridesParser.create().parse_override(f"key={text}")
        value, is_value = parsed.value(), not parsed.is_sweep_override()  # a,b and range(1,3)
    except (HydraException, ValueError, RecursionError):  # a number of 5,000 digits, 500 brackets
        value, is_value = None, False
    if not is_value and not is_text and text[:1] in ("[", "{"):
        raise ValueError("not a complete list [a,b] or dict {a:1,b:2}")
    is_unquoted_text = isinstance(value, str | bool | int | float) and text[:1] not in ("'", '"')
    return text if not is_value or (is_text and is_unquoted_text) else value
