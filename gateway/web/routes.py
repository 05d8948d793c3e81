"""Routes as values: each carries its scope, query model and answer; the OpenAPI document is drawn from them.

    table = routes.Table()

    @table.get("/api/v1/things", scope=Scope.CALLS_READ, query=ThingsQuery, out=Things, summary="Things")
    async def list_things(request: web.Request, query: ThingsQuery) -> web.StreamResponse: ...

`Table.install` adds them to an application, wrapped in the access check. There is no other way to add a route, and a
test walks the application's router to prove it.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

import pydantic
from aiohttp import web
from pydantic.json_schema import models_json_schema

from gateway.web import auth, problems

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Access = auth.Scope | auth.Open

GATE: web.AppKey[auth.Gate] = web.AppKey("gate", auth.Gate)
OPERATIONS: web.AppKey[dict[web.AbstractRoute, Operation]] = web.AppKey("operations")
"""Which operation each route of the application belongs to."""
PRINCIPAL: web.RequestKey[auth.Principal] = web.RequestKey("principal", auth.Principal)


class Query(pydantic.BaseModel):
    """Base of query strings: an unknown parameter is an error, so that a misspelt filter does not show everything."""

    model_config = pydantic.ConfigDict(extra="forbid", populate_by_name=False)

    lists: ClassVar[frozenset[str]] = frozenset()
    """Parameters that may be given several times or with commas."""


QueryT = TypeVar("QueryT", bound=Query)


class Body(pydantic.BaseModel):
    """Base of JSON bodies; an unknown field is an error here too."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)


BodyT = TypeVar("BodyT", bound=Body)


class NoQuery(Query):
    """Takes no parameter."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One route. `media_type` is that of a success; `out` its JSON model, if it has one."""

    method: str
    path: str
    scope: Access
    handler: Callable[..., Awaitable[web.StreamResponse]]
    query: type[Query]
    body: type[Body] | None
    out: type[pydantic.BaseModel] | None
    summary: str
    media_type: str
    slugs: tuple[str, ...]
    is_page: bool

    @property
    def is_documented(self) -> bool:
        """Whether the OpenAPI document lists it: all but pages, their forms and static files."""
        return not self.is_page


@dataclass(slots=True)
class Table:
    """The routes of one part of the listener."""

    operations: list[Operation] = field(default_factory=list)

    def get(self, path: str, **facts: Any) -> Callable[[Any], Any]:
        """Register a GET route, see `add`."""
        return self.add("GET", path, **facts)

    def post(self, path: str, **facts: Any) -> Callable[[Any], Any]:
        """Register a POST route, see `add`."""
        return self.add("POST", path, **facts)

    def add(
        self,
        method: str,
        path: str,
        *,
        scope: Access,
        query: type[Query] = NoQuery,
        body: type[Body] | None = None,
        out: type[pydantic.BaseModel] | None = None,
        summary: str = "",
        media_type: str = "application/json",
        slugs: tuple[str, ...] = (),
        is_page: bool = False,
    ) -> Callable[[Any], Any]:
        """Register a handler. It is called as `handler(request)`, or `handler(request, query)` with a query model;
        one with a body model takes the body itself, by `parse_body`.

        `slugs` are the problems it may answer with besides those of access and of the query.
        """

        def register(handler: Callable[..., Awaitable[web.StreamResponse]]) -> Any:
            self.operations.append(
                Operation(method, path, scope, handler, query, body, out, summary, media_type, slugs, is_page)
            )
            return handler

        return register

    def install(self, app: web.Application) -> None:
        """Add the routes to an application."""
        for operation in self.operations:
            methods = [operation.method]
            if operation.method == "GET" and operation.media_type != "text/event-stream":
                methods.append("HEAD")
            for method in methods:
                route = app.router.add_route(method, operation.path, guarded(operation))
                app[OPERATIONS][route] = operation


def guarded(operation: Operation) -> Handler:
    """The handler behind its access check, with its query parsed."""

    async def handle(request: web.Request) -> web.StreamResponse:
        await _admit(request, operation)
        if operation.query is NoQuery:
            if not operation.is_page:
                parse_query(NoQuery, request)
            return await operation.handler(request)
        return await operation.handler(request, parse_query(operation.query, request))

    return handle


async def _admit(request: web.Request, operation: Operation) -> None:
    gate = request.app[GATE]
    if operation.scope is auth.Open.SIGNED:
        return
    # A bearer token is no ambient credential: only what a browser sends by itself can be forged by another site.
    if request.method not in auth.SAFE_METHODS and "Authorization" not in request.headers:
        gate.check_same_site(request)
    if operation.scope is auth.Open.ANYONE:
        return
    principal = await gate.principal(request)
    if principal is None:
        raise auth.unauthenticated()
    request[PRINCIPAL] = principal
    if principal is not auth.LOCAL_PRINCIPAL:
        await gate.count_request(principal)
    if isinstance(operation.scope, auth.Scope) and not principal.may(operation.scope):
        if principal is auth.LOCAL_PRINCIPAL:
            raise auth.unauthenticated()
        raise problems.Problem("missing-scope", f"This needs the scope {operation.scope}.")


def parse_query(model: type[QueryT], request: web.Request) -> QueryT:
    """The query string as `model`. Raises Problem `invalid-query` with every field that does not fit."""
    values: dict[str, Any] = {}
    errors: list[dict[str, str]] = []
    for name in dict.fromkeys(request.query):
        given = request.query.getall(name)
        if name in model.lists:
            values[name] = [part for text in given for part in text.split(",") if part]
        elif len(given) > 1:
            errors.append({"field": name[:64], "message": "given more than once"})
        elif given[0]:
            values[name] = given[0]
    try:
        parsed = model.model_validate(values)
    except pydantic.ValidationError as error:
        errors += [_field_error(item) for item in error.errors(include_url=False, include_input=False)]
    else:
        if not errors:
            return parsed
    raise problems.Problem("invalid-query", errors=errors)


async def parse_body(model: type[BodyT], request: web.Request) -> BodyT:
    """The JSON body as `model`. Raises Problem `invalid-body` with every field that does not fit."""
    try:
        raw = await request.read()
    except ConnectionError:
        # The client left in the middle of its own body.
        raise problems.Problem("bad-request") from None
    try:
        return model.model_validate_json(raw)
    except pydantic.ValidationError as error:
        errors = [_field_error(item, "body") for item in error.errors(include_url=False, include_input=False)]
    raise problems.Problem("invalid-body", errors=errors)


def _field_error(item: Mapping[str, Any], whole: str = "query") -> dict[str, str]:
    name = str(item["loc"][0])[:64] if item["loc"] else whole
    message = "unknown parameter" if item["type"] == "extra_forbidden" else str(item["msg"])
    return {"field": name, "message": message}


def json_response(content: object, *, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer that no cache keeps: it holds callers' numbers."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=str)
    return encoded_response(text, "application/json", headers=headers)


def encoded_response(
    text: str, content_type: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A text answer in UTF-8. Half a character in a caller's name becomes `?` instead of an error."""
    body = text.encode(errors="replace")
    return web.Response(body=body, status=status, content_type=content_type, charset="utf-8", headers=headers)


def openapi(tables: tuple[Table, ...], version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of all documented operations."""
    operations = [operation for table in tables for operation in table.operations if operation.is_documented]
    models: dict[str, tuple[type[pydantic.BaseModel], Literal["serialization", "validation"]]] = {}
    for operation in operations:
        if operation.out is not None:
            models[operation.out.__name__] = (operation.out, "serialization")
        if operation.body is not None:
            models[operation.body.__name__] = (operation.body, "validation")
    _, schemas = models_json_schema(
        [models[name] for name in sorted(models)],
        ref_template="#/components/schemas/{model}",
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(_bare(operation.path), {})[operation.method.lower()] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Dialmark HTTP API", "version": version, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": {**schemas.get("$defs", {}), "Problem": _PROBLEM_SCHEMA},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": auth.COOKIE},
            },
        },
    }


def _describe(operation: Operation) -> dict[str, Any]:
    slugs = [*operation.slugs, "invalid-query"]
    if operation.scope is not auth.Open.ANYONE:
        slugs += ["unauthenticated", "too-many-attempts", "too-many-requests"]
    if isinstance(operation.scope, auth.Scope):
        slugs.append("missing-scope")
    if operation.body is not None:
        slugs += ["invalid-body", "too-large"]
    description: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": operation.handler.__name__,
        "parameters": [*_path_parameters(operation.path), *_query_parameters(operation.query)],
        "responses": {"200": _success(operation), **_failures(slugs)},
    }
    if operation.body is not None:
        schema = {"$ref": f"#/components/schemas/{operation.body.__name__}"}
        description["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if operation.scope in (auth.Open.ANYONE, auth.Open.SIGNED):
        description["security"] = []
    else:
        description["security"] = [{"token": []}, {"session": []}]
        description["x-scope"] = str(operation.scope)
    return description


def _success(operation: Operation) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"} if operation.media_type != "application/json" else {"type": "object"}
    if operation.out is not None:
        schema = {"$ref": f"#/components/schemas/{operation.out.__name__}"}
    return {"description": operation.summary, "content": {operation.media_type: {"schema": schema}}}


def _failures(slugs: list[str]) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for slug in slugs:
        by_status.setdefault(problems.TITLES[slug][0], []).append(slug)
    content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        str(status): {"description": ", ".join(names), "content": content}
        for status, names in sorted(by_status.items())
    }


def _path_parameters(path: str) -> list[dict[str, Any]]:
    names = [part[1:-1].partition(":")[0] for part in path.split("/") if part.startswith("{")]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(model: type[Query]) -> list[dict[str, Any]]:
    schema = model.model_json_schema(by_alias=True)
    definitions = schema.get("$defs", {})
    parameters = []
    for name, facts in schema.get("properties", {}).items():
        description = facts.pop("description", "")
        parameters.append(
            {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "description": description,
                "schema": _inlined(facts, definitions),
                "explode": True,
            }
        )
    return parameters


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """A parameter's schema with its enumerations in place: parameters have no components of their own."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return {key: _inlined(value, definitions) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    return schema


def _bare(path: str) -> str:
    return "/".join(
        "{" + part[1:-1].partition(":")[0] + "}" if part.startswith("{") else part for part in path.split("/")
    )


_PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "instance"],
    "properties": {
        "type": {"type": "string", "enum": [problems.TYPE_PREFIX + slug for slug in problems.TITLES]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "instance": {"type": "string"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
                "required": ["field", "message"],
            },
        },
    },
}
