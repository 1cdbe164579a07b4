"""Values of `key=value` on the command line."""

from typing import Any

from detectron2.config import LazyConfig
from omegaconf import OmegaConf


def parse_value(text: str, *, is_text: bool) -> Any:
    """Returns the value that a user typed behind `key=`.

    Numbers, True, False, null, [lists], {dicts} and "quoted text" have hydra's grammar, which is
    detectron2's. That grammar knows few characters of a path; whatever it cannot read is text as
    it was typed: blanks, parentheses, commas, equals signs, umlauts, quotes.

    Args:
        text: what is behind the first equals sign.
        is_text: whether the key holds text, such as a path. A number is then text too.

    Raises:
        ValueError: if a list or a dict is not complete, for a key that does not hold text.
    """
    text = text.strip()
    try:
        node = LazyConfig.apply_overrides(OmegaConf.create(), [f"key={text}"])._get_node("key")
    except Exception as error:  # of hydra, ANTLR, OmegaConf and Python (500 brackets)
        if not is_text and text[:1] in ("[", "{"):
            raise ValueError("expected a complete list [a,b] or dict {a:1,b:2}") from error
        return text
    if OmegaConf.is_config(node):
        return OmegaConf.to_container(node, resolve=False)
    is_unquoted = node._value() is not None and text[:1] not in ("'", '"')
    return text if is_text and is_unquoted else node._value()
