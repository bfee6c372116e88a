"""The syntax of pipelines: text to document, text to tree, tree to text.

Reading a pipeline never executes anything, and costs time in proportion to the text.
"""

from perdure.pipeline.syntax.flatten import MAX_ATTRIBUTES as MAX_ATTRIBUTES
from perdure.pipeline.syntax.flatten import parse as parse
from perdure.pipeline.syntax.formatting import format_tree as format_tree
from perdure.pipeline.syntax.parser import MAX_DEPTH as MAX_DEPTH
from perdure.pipeline.syntax.parser import parse_tree as parse_tree
from perdure.pipeline.syntax.source import MAX_SOURCE_BYTES as MAX_SOURCE_BYTES
from perdure.pipeline.syntax.source import decode as decode
