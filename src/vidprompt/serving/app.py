"""The web application: the paths of the service, their documentation for OpenAPI, and its errors."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

import vidprompt
from vidprompt.prediction.windows import STRIDE_S, WINDOW_S
from vidprompt.serving import answering, schemas
from vidprompt.serving.errors import RequestError, error_body
from vidprompt.serving.fields import Fields
from vidprompt.serving.forms import Form
from vidprompt.serving.metrics import CONTENT_TYPE
from vidprompt.serving.middleware import EarlyAnswers, Guard, Measured, SecurityHeaders
from vidprompt.serving.openapi import (
    EMBED_FIELDS,
    ERRORS,
    EXPLAIN_FIELDS,
    PREDICT_FIELDS,
    SEARCH_FIELDS,
    SEGMENT_FIELDS,
    form_body,
)
from vidprompt.serving.page_files import PageFile, page_files
from vidprompt.serving.pictures import picture_uris
from vidprompt.serving.service import Service

logger = logging.getLogger(__name__)
Value = TypeVar("Value")

DESCRIPTION = """Predict, embed, search and explain videos with one model.

Videos are uploaded as the field `video` of multipart/form-data, one a request; the other fields go beside it.
Requests without a video may be JSON. Paths and URLs are never read. Every error is
`{"error": {"status", "code", "message"}}`; 429 says in `Retry-After` when to come again."""


def create_app(
    service: Service,
    *,
    token: str | None = None,
    hosts: Collection[str] | None = None,
    page: bool = False,
) -> FastAPI:
    """The application of a service.

    `token`: what requests have to send as `Authorization: Bearer TOKEN`; None: nothing. `hosts`: the names
    that it answers for; None: all. `page`: also give the page for people at `/`.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.close()

    app = FastAPI(
        title="VidPrompt",
        version=vidprompt.__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # their scripts come from the internet
        redoc_url=None,
    )
    files = page_files() if page else {}
    _add_information(app, service)
    _add_work(app, service)
    _add_page(app, files)
    _add_errors(app)
    paths = [getattr(route, "path", "") for route in app.routes]
    # the last one added sees a request first
    app.add_middleware(Guard, token=token, hosts=hosts, open_paths={"/healthz", *files})
    app.add_middleware(Measured, metrics=service.metrics, paths=paths)
    app.add_middleware(EarlyAnswers)
    app.add_middleware(SecurityHeaders)
    return app


def _add_information(app: FastAPI, service: Service) -> None:
    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", tags=["server"], responses={503: {"model": schemas.Error}})
    async def healthz() -> schemas.Health:
        """Whether the server takes requests. Needs no token."""
        if service.capacity.stopping:
            raise RequestError(503, "The server is stopping.", "stopping")
        return schemas.Health(status="ok")

    @app.get("/metrics", tags=["server"], response_class=Response)
    async def metrics() -> Response:
        """Counters and times in Prometheus' text format."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/model", tags=["server"])
    async def model() -> schemas.ModelAnswer:
        """What is served, and the limits of requests."""
        served, limits = service.model, service.limits
        return schemas.ModelAnswer(
            model=service.model_name,
            method=served.method,
            backbone=served.encoder.backbone.tag,
            identity=await service.in_thread(lambda: served.identity),
            device=str(served.device),
            num_frames=served.input.num_frames,
            width=served.width,
            classes=list(served.class_names),
            unknown=served.unknown_threshold is not None,
            index_rows=None if service.index is None else len(service.index),
            limits=schemas.Limits(
                upload_mb=limits.upload_mb,
                seconds=limits.seconds,
                pixels=limits.pixels,
                classes=limits.classes,
            ),
            version=vidprompt.__version__,
        )


def _add_work(app: FastAPI, service: Service) -> None:
    """The paths that take a video."""

    def post(
        path: str, fields: dict[str, Any], *, video: bool = True, **options: Any
    ) -> Callable[..., Any]:
        return app.post(
            path,
            **options,
            tags=["videos"],
            response_model_exclude_none=True,
            responses=ERRORS,
            openapi_extra={"requestBody": form_body(fields, video)},
        )

    @post("/predict", PREDICT_FIELDS)
    async def predict(request: Request) -> schemas.PredictionAnswer:
        """The probabilities of classes for a video."""

        async def work(form: Form) -> dict[str, Any]:
            fields = Fields(form, tuple(PREDICT_FIELDS))
            top = fields.whole("top", 5, 1, service.limits.classes)
            prediction = await service.predict(
                form,
                fields.classes(service.limits),
                fields.texts("prompts") or None,
                fields.switch("unknown"),
            )
            return prediction.to_dict(top)

        return schemas.PredictionAnswer.model_validate(
            await answering.answer(service, request, work)
        )

    @post("/segments", SEGMENT_FIELDS, response_model=schemas.SegmentsAnswer)
    async def segments(request: Request) -> Any:
        """Which class a long video shows when: it is cut into windows, and these are joined to spans.

        With `Accept: application/x-ndjson` the answer comes in lines: `{"seconds": …}` of the video that are
        done, now and then, and at last `{"result": …}`, or `{"error": …}`.
        """

        async def work(form: Form, report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
            fields = Fields(form, tuple(SEGMENT_FIELDS))
            spans, duration = await service.segments(
                form,
                fields.classes(service.limits),
                fields.number("window", WINDOW_S, 0.1, 3600),
                fields.number("stride", STRIDE_S, 0.1, 3600),
                fields.texts("prompts") or None,
                fields.switch("unknown"),
                on_progress=lambda seconds: report({"seconds": round(seconds, 2)}),
            )
            return {
                "video": form.video_name,
                "duration_s": round(duration, 3),
                "spans": [span.to_dict() for span in spans],
            }

        if answering.LINES in request.headers.get("accept", ""):
            return await answering.answer_in_lines(service, request, work)
        return await answering.answer(
            service, request, lambda form: work(form, lambda _event: None)
        )

    @post("/explain", EXPLAIN_FIELDS)
    async def explain(request: Request) -> schemas.ExplanationAnswer:
        """Which frames of a video, and which places in them, its feature (or fit to a text) follows from."""

        async def work(form: Form) -> dict[str, Any]:
            fields = Fields(form, tuple(EXPLAIN_FIELDS))
            pictures = fields.switch("pictures", True)
            explanation = await service.explain(form, fields.text("text") or None)
            values = explanation.to_dict()
            if pictures:
                uris = await service.in_thread(lambda: picture_uris(explanation.pictures))
                for frame, uri in zip(values["frames"], uris, strict=True):
                    frame["picture"] = uri
            return values

        return schemas.ExplanationAnswer.model_validate(
            await answering.answer(service, request, work)
        )

    @post("/embed", EMBED_FIELDS, video=False)
    async def embed(request: Request) -> schemas.EmbeddingAnswer:
        """The feature of a video, or those of texts: of unit length, as JSON numbers."""

        async def work(form: Form) -> schemas.EmbeddingAnswer:
            texts = Fields(form, tuple(EMBED_FIELDS)).texts("text")
            if not texts and form.video is None:
                raise RequestError(422, "There is nothing to embed: send a video or a text.")
            model = service.model
            result = schemas.EmbeddingAnswer(
                identity=model.identity, width=model.width, feature=None, features=None
            )
            if form.video is not None:
                feature, result.duration_s = await service.embed(form)
                result.feature = feature.tolist()
            if texts:
                result.features = (await service.embed_texts(texts)).tolist()
            return result

        return await answering.answer(service, request, work)

    @post("/search", SEARCH_FIELDS, video=False)
    async def search(request: Request) -> schemas.SearchAnswer:
        """The videos of the server's index that fit a text, look like a video, or both."""
        index = service.require_index()

        async def work(form: Form) -> schemas.SearchAnswer:
            fields = Fields(form, tuple(SEARCH_FIELDS))
            texts = fields.texts("text")
            if not texts and form.video is None:
                raise RequestError(422, "There is nothing to search for: send a text or a video.")
            top, overlapping = fields.whole("top", 20, 1, 1000), fields.switch("overlapping")
            windows = index.info.window is not None  # else a row is a whole video
            hits = [
                schemas.HitAnswer(
                    rank=hit.rank,
                    video=hit.video,
                    start=hit.start if windows else None,
                    end=hit.end if windows else None,
                    score=hit.score,
                )
                for hit in await service.search(form, texts, top, overlapping)
            ]
            return schemas.SearchAnswer(hits=hits, rows=len(index))

        return await answering.answer(service, request, work)


def _add_page(app: FastAPI, files: dict[str, PageFile]) -> None:
    """The page for people; without it, `/` says where the documentation is."""

    def give(file: PageFile) -> Callable[[Request], Awaitable[Response]]:
        async def page_file(request: Request) -> Response:
            return file.response(request.headers.get("if-none-match", ""))

        return page_file

    for path, file in files.items():
        app.get(path, include_in_schema=False)(give(file))
    if not files:

        @app.get("/", include_in_schema=False)
        async def root() -> dict[str, str]:
            return {"service": f"{app.title} {app.version}", "documentation": "/openapi.json"}


def _add_errors(app: FastAPI) -> None:
    """Every error is the JSON of `error_body`."""

    @app.exception_handler(RequestError)
    async def refused(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestError)
        body = error_body(error.status, error.message, error.code)
        return JSONResponse(body, error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        message = {
            404: f"There is no {request.url.path[:80]}: /openapi.json describes what there is.",
            405: f"{request.url.path[:80]} does not take {request.method}.",
        }.get(error.status_code, "")
        return JSONResponse(
            error_body(error.status_code, message), error.status_code, error.headers
        )
