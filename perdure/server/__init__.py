"""The HTTP service: the same engine behind HTTP and SSE, with its security on by default.

`create_app(runtime)` gives the application, `serve(runtime, port=…)` serves it until told to stop, and `Service` serves
it inside a program of yours. It needs the extra `server`: `pip install 'perdure[server]'`.
"""

from perdure.server.admission.keys import SCOPES, KeyRing
from perdure.server.admission.rates import Rate
from perdure.server.application import create_app
from perdure.server.pipelines import PipelineSettings
from perdure.server.service import Service, serve
from perdure.server.settings import Settings

__all__ = ["SCOPES", "KeyRing", "PipelineSettings", "Rate", "Service", "Settings", "create_app", "serve"]
