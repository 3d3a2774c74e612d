"""The answers of the service, as OpenAPI describes them."""

from __future__ import annotations

from pydantic import BaseModel, Field


class ErrorDetail(BaseModel):
    status: int = Field(examples=[422])
    code: str = Field(description="One word, for programs.", examples=["invalid"])
    message: str = Field(examples=["clip.mp4: it has no video stream (mp3)"])


class Error(BaseModel):
    """Every error has this shape."""

    error: ErrorDetail


class ClassProbability(BaseModel):
    class_: str = Field(alias="class", examples=["open door"])
    probability: float = Field(ge=0, le=1, examples=[0.93])


class PredictionAnswer(BaseModel):
    """The most probable classes of a video, best first."""

    video: str = Field(description="The file's name, as the client gave it.", examples=["clip.mp4"])
    label: str = Field(description='The best class, or "unknown".', examples=["open door"])
    score: float = Field(description="Its probability.", examples=[0.93])
    classes: list[ClassProbability]
    unknown: bool | None = Field(
        None, description="Whether it shows none of the classes, if asked."
    )
    cosine: float | None = Field(
        None, description="The best cosine similarity, if unknown is asked."
    )
    text: str = Field(
        description="What stood for the classes: learned context, descriptions, prompts or class names.",
        examples=["class names"],
    )
    duration_s: float = Field(examples=[3.2])
    note: str | None = Field(None, description="A sentence on damage of the file.")


class SpanAnswer(BaseModel):
    start: float = Field(description="Seconds.", examples=[12.0])
    end: float = Field(examples=[15.5])
    label: str = Field(examples=["close door"])
    score: float = Field(description="Mean probability of its windows.", examples=[0.81])


class SegmentsAnswer(BaseModel):
    """Which class a long video shows when."""

    video: str
    duration_s: float
    spans: list[SpanAnswer]


class EmbeddingAnswer(BaseModel):
    """Features of unit length; their dot products are cosine similarities."""

    identity: str = Field(description="Features of equal identities can be compared.")
    width: int
    feature: list[float] | None = Field(None, description="Of the video.")
    features: list[list[float]] | None = Field(None, description="Of the texts, in order.")
    duration_s: float | None = None


class HitAnswer(BaseModel):
    rank: int = Field(examples=[1])
    video: str = Field(description="Its path below the folder that was indexed.")
    start: float | None = Field(None, description="Seconds, where the rows are windows of videos.")
    end: float | None = None
    score: float = Field(description="Cosine similarity.", ge=-1, le=1)


class SearchAnswer(BaseModel):
    """The videos of the index that are most similar, best first."""

    hits: list[HitAnswer]
    rows: int = Field(description="Rows of the index: videos, or windows of them.")


class ExplainedFrame(BaseModel):
    number: int = Field(description="In the video, from 0.")
    time_s: float
    share: float = Field(description="Of the relevance; the shares of all frames sum to 1.")
    places: list[list[float]] = Field(
        description="Shares of the cells of what the model saw, row by row; they sum to the frame's."
    )
    picture: str | None = Field(None, description="The frame, as a data: URI of a JPEG.")


class Size(BaseModel):
    width: int
    height: int


class Region(BaseModel):
    """Pixels of a frame."""

    left: int
    top: int
    right: int
    bottom: int


class ExplanationAnswer(BaseModel):
    """Which frames, and which places in them, a video's feature (or its fit to a text) follows from."""

    video: str
    text: str | None = None
    text_source: str | None = Field(None, description="What stood for the text.")
    similarity: float | None = Field(None, description="Cosine similarity of video and text.")
    duration_s: float
    frame_size: Size
    seen: Region = Field(description="The part of a frame that the model saw; `places` divide it.")
    frames: list[ExplainedFrame]
    note: str | None = None


class Limits(BaseModel):
    upload_mb: float
    seconds: float
    pixels: int
    classes: int


class ModelAnswer(BaseModel):
    """What is served."""

    model: str
    method: str
    backbone: str
    identity: str
    device: str
    num_frames: int
    width: int
    classes: list[str] = Field(
        description="Of the training; they are used where a request has none."
    )
    unknown: bool = Field(description="Whether the model has a threshold for unknown classes.")
    index_rows: int | None = Field(
        description="Rows of the index that /search looks at; null: none."
    )
    limits: Limits
    version: str


class Health(BaseModel):
    status: str = Field(examples=["ok"])
