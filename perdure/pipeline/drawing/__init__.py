"""Drawing: one neutral picture of a workflow or a run, and a writer for each format.

A picture is plain data. Writers take whatever text it holds, and none of that can become anything but text.
"""

from perdure.pipeline.drawing.as_json import picture_data as picture_data
from perdure.pipeline.drawing.as_json import write_json as write_json
from perdure.pipeline.drawing.dot import write_dot as write_dot
from perdure.pipeline.drawing.errors import DrawingError as DrawingError
from perdure.pipeline.drawing.errors import DrawingExtraMissingError as DrawingExtraMissingError
from perdure.pipeline.drawing.errors import LayoutFailedError as LayoutFailedError
from perdure.pipeline.drawing.errors import PictureTooLargeError as PictureTooLargeError
from perdure.pipeline.drawing.mermaid import write_mermaid as write_mermaid
from perdure.pipeline.drawing.picture import Picture as Picture
from perdure.pipeline.drawing.picture import PictureEdge as PictureEdge
from perdure.pipeline.drawing.picture import PictureNode as PictureNode
from perdure.pipeline.drawing.picture import of_document as of_document
from perdure.pipeline.drawing.picture import of_graph as of_graph
from perdure.pipeline.drawing.svg import write_svg as write_svg
from perdure.pipeline.drawing.text import write_text as write_text
from perdure.pipeline.drawing.trail import with_run as with_run
