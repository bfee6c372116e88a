"""The typed client of the HTTP service; needs the extra `client`."""

from perdure.client.blocking import BlockingClient as BlockingClient
from perdure.client.client import Client as Client
from perdure.client.portal import BlockingIterator as BlockingIterator
from perdure.client.views.base import View as View
from perdure.client.views.pipelines import PipelineArtifact as PipelineArtifact
from perdure.client.views.pipelines import PipelineEvent as PipelineEvent
from perdure.client.views.pipelines import PipelineQuestion as PipelineQuestion
from perdure.client.views.pipelines import PipelineRef as PipelineRef
from perdure.client.views.pipelines import PipelineSummary as PipelineSummary
from perdure.client.views.runs import ArtifactInfo as ArtifactInfo
from perdure.client.views.runs import FeedEvent as FeedEvent
from perdure.client.views.runs import FeedPage as FeedPage
from perdure.client.views.runs import Inbox as Inbox
from perdure.client.views.runs import JournalPage as JournalPage
from perdure.client.views.runs import Piece as Piece
from perdure.client.views.runs import Question as Question
from perdure.client.views.runs import Reason as Reason
from perdure.client.views.runs import RunEvent as RunEvent
from perdure.client.views.runs import RunPage as RunPage
from perdure.client.views.runs import RunRef as RunRef
from perdure.client.views.runs import RunRow as RunRow
from perdure.client.views.runs import RunView as RunView
from perdure.client.views.runs import StateView as StateView
from perdure.client.views.runs import Verified as Verified
from perdure.client.views.service import Health as Health
from perdure.client.views.service import OpenWait as OpenWait
from perdure.client.views.service import VersionView as VersionView
from perdure.client.views.service import WorkerView as WorkerView
from perdure.client.views.service import WorkflowView as WorkflowView
from perdure.core import webhooks as _webhooks

verify_webhook = _webhooks.verify
"""For receivers of webhooks; see `perdure.core.webhooks.verify`."""
