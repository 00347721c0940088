"""JSON schemas of what strangers send, to the last key, and the first field that breaks one."""

import reprlib

import jsonschema

# Exactly these types: 2 is not 2.0 here, a truth value no number, and neither is NaN.
_TYPES = {
    "integer": lambda _, value: type(value) is int,
    "decimal": lambda _, value: type(value) is float and value == value,
}
_DRAFT = jsonschema.Draft202012Validator
_VALIDATOR = jsonschema.validators.extend(
    _DRAFT, type_checker=_DRAFT.TYPE_CHECKER.redefine_many(_TYPES)
)
ANY_OBJECT = {"type": "object", "description": "an object"}


def text(pattern: str, description: str) -> dict:
    """A string that a pattern describes from its first character to its last."""
    return {"type": "string", "pattern": rf"^(?:{pattern})\Z", "description": description}


def one_of(*values: object) -> dict:
    """One of these values."""
    kind = {"type": "integer"} if isinstance(values[0], int) else {}
    return kind | {"enum": list(values), "description": " or ".join(map(repr, values))}


def number(kind: str, least: float, most: float) -> dict:
    """An ``integer`` or a ``decimal`` within bounds."""
    words = f"a number from {least} to {most}, of the type {kind}"
    return {"type": kind, "minimum": least, "maximum": most, "description": words}


def list_of(items: dict, most: int) -> dict:
    """A list of one kind, not empty."""
    words = f"a list of 1 to {most}"
    return {"type": "array", "minItems": 1, "maxItems": most, "items": items, "description": words}


def object_of(**properties: dict) -> dict:
    """An object that has these keys and no other."""
    return ANY_OBJECT | {
        "required": list(properties),
        "additionalProperties": False,
        "properties": properties,
    }


def or_null(schema: dict) -> dict:
    """What the schema says, or nothing."""
    return schema | {"type": [schema["type"], "null"]}


def misfit(value: object, schema: dict) -> tuple[str, str] | None:
    """The first field that breaks the schema, as ``noise.seed`` or ``members[3]``, and how."""
    error = next(_VALIDATOR(schema).iter_errors(value), None)
    if error is None:
        return None
    odd, names = error.instance, list(error.absolute_path)
    why = f"is {reprlib.repr(odd)}, but must be {error.schema['description']}"
    if error.validator in ("required", "additionalProperties"):
        known = error.schema["properties"]
        key = next(key for key in (*known, *odd) if (key in known) != (key in odd))
        why = "is missing" if key in known else "is not known to this version"
        names.append(reprlib.repr(key)[1:-1])
    field = "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in names)
    return field.removeprefix("."), why
