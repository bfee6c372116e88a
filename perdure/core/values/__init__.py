"""Values: what may be recorded, and how it becomes JSON and comes back.

A value is written by its *declared* type, through a `Codec` that `codec_for` makes of that type. What is recorded is
canonical JSON (RFC 8785); what JSON lacks travels as an object of one key, the tag: `{"$int": "9007199254740992"}`,
`{"$bytes": "aGk="}`. A key of the user's own that begins with `$` is written with one more, so the two cannot meet.

A codec never guesses. It writes exact types only: a subclass would come back as its base. Where a class rebuilds its
instances in code of its own (a model's validators, `__post_init__`), the value is read back before it is accepted, and
refused if it would not come back as it was. So user code may be given the decoded value everywhere, live and replayed.

Codecs are plain Python for all types of the standard library. Of pydantic they need only what a user of pydantic has
loaded already; `pydantic` itself is imported for `Annotated` constraints, for types that nothing else here knows, and
for JSON schemas.
"""

from perdure.core.values.choosing import codec_for
from perdure.core.values.codec import HARD_LIMIT_BYTES, Codec
from perdure.core.values.refusals import MAX_DEPTH
from perdure.core.values.scalars import is_scalar
from perdure.core.values.trees import differing_path

__all__ = ["HARD_LIMIT_BYTES", "MAX_DEPTH", "Codec", "codec_for", "differing_path", "is_scalar"]
