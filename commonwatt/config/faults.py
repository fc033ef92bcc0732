"""The words for a fault of a value in a file or an option."""

from typing import Any

_WORDS = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_parsing_size": "must be a smaller number",
    "decimal_type": "must be an amount such as 12.50",
    "decimal_parsing": "must be an amount such as 12.50",
    "decimal_max_digits": "must be an amount of fewer digits",
    "decimal_max_places": "must have at most {decimal_places} decimals",
    "decimal_whole_digits": "must be an amount of fewer digits",
    "string_too_long": "must have at most {max_length} characters",
    "string_type": "must be a text in quotes",
    "path_type": "must be a path in quotes",
    "list_type": "must be a list in [ ]",
    "tuple_type": "must be a list in [ ]",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_pattern_mismatch": "must match the pattern {pattern}",
    "date_parsing": "must be a date such as 2026-11-01",
    "date_from_datetime_parsing": "must be a date such as 2026-11-01",
    "missing": "is missing",
    "extra_forbidden": "is not a known key",
}
"""By pydantic's type of fault; the texts in braces are in its context."""


_TYPED = {
    "missing": "fill this in",
    "string_type": "write a text here",
    "bool_parsing": "tick it, or leave it",
    "string_pattern_mismatch": "is not written as it has to be",
    "value_error": "is a file where a text belongs, or a text where a file belongs",
    "list_type": "choose one",
    "enum": "choose one that is offered",
    "literal_error": "choose one that is offered",
}
"""Those that differ for a person who fills in a form."""


def typed_words(fault: Any) -> str:
    """Return what is wrong with a field of a form, for a person."""
    return _TYPED.get(fault["type"]) or plain(fault)


def plain(fault: Any) -> str:
    """Return what is wrong, for people; ``fault`` is one of pydantic's ``errors()``."""
    words = _WORDS.get(fault["type"])
    return str(fault["msg"]).removeprefix("Value error, ") if words is None else words.format(**fault.get("ctx", {}))
