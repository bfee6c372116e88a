"""The backend that the environment names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from perdure.core.secrets import Secret
from perdure.model.openai import OpenAIBackend
from perdure.model.port import Backend

URL: Final = "PERDURE_MODEL_URL"
MODEL: Final = "PERDURE_MODEL"
KEY: Final = "PERDURE_MODEL_KEY"
OPENAI_URL: Final = "OPENAI_BASE_URL"
OPENAI_KEY: Final = "OPENAI_API_KEY"
OPENAI_HOME: Final = "https://api.openai.com/v1"


def configured_backend(environment: Mapping[str, str]) -> Backend | None:
    """The backend that environment variables name, or `None`. A variable that is empty counts as unset.

    `PERDURE_MODEL_URL` is the base URL, `PERDURE_MODEL_KEY` the key if one is needed. Without that URL,
    `OPENAI_BASE_URL` and `OPENAI_API_KEY` are taken, either of which is enough. A key goes to the URL of its own pair
    only. `PERDURE_MODEL` is the model for requests that name none.

    Args:
        environment: the variables. Keys are looked up later, by the step that asks, in the environment of its runtime.

    Raises:
        ModelConfigurationError: the URL cannot be used.
    """
    url, key = environment.get(URL), KEY
    if not url and (environment.get(OPENAI_URL) or environment.get(OPENAI_KEY)):
        url, key = environment.get(OPENAI_URL) or OPENAI_HOME, OPENAI_KEY
    if not url:
        return None
    api_key = Secret(f"env:{key}") if environment.get(key) else None
    return OpenAIBackend(url, api_key=api_key, model=environment.get(MODEL) or None)
