"""The `/pipelines` views of the HTTP service: everything in them is a function of a run's journal.

The application includes `router`, keeps a `Library` as its state's `pipeline_library`, and before it serves the first
request awaits `Library.know_unfinished`. When it shuts down, it ends the streams by `Followed.close`.
"""

from perdure.server.pipelines.following import Followed as Followed
from perdure.server.pipelines.library import Library as Library
from perdure.server.pipelines.loading import PipelineSettings as PipelineSettings
from perdure.server.pipelines.routes import router as router
