"""Webhooks: messages to endpoints outside, about runs that ended, questions that opened and steps in doubt.

What is sent is read from the journal, from a place that each endpoint keeps in the data directory. So nothing is lost
over a kill and a restart; what was under way then is sent again, with the same id.

The application includes the router of `perdure.server.routes.webhooks`, keeps a `Webhooks` as its state's `webhooks`,
starts it before the first request, and closes it when it shuts down.
"""
