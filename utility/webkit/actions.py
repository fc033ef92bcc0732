"""Actions, declared once: each has a route of the API, a form of the console, and `commonwatt do` at a terminal.

An action is a function of an ``Act``, of the parts of its path, and of at most one model of fields. It returns the
answer of the API, or the words that say what happened. The form takes the same fields, and its page shows the words.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict, model_validator

from commonwatt.model.units import EpochSeconds
from utility.access.decisions import Second
from utility.access.people import Actor, Right
from utility.database.database import Database
from utility.webkit.console import answers
from utility.webkit.console.console import RequestConsole
from utility.webkit.requests import LOCAL_TIMES, refusing
from utility.webkit.rights import may
from utility.webkit.services import Api, RequestApi

F = TypeVar("F", bound=Callable[..., Any])


class Words(BaseModel):
    """What happened."""

    words: list[str]


@dataclass(frozen=True, kw_only=True)
class Act:
    """The circumstances of an action: the service, the person, the request."""

    api: Api  # the service
    actor: Actor  # the person, who has the right
    request: Request  # the request

    @property
    def database(self) -> Database:
        """The service's database."""
        return self.api.database

    @property
    def now(self) -> EpochSeconds:
        """The time of the service's clock."""
        return int(self.api.clock.now())

    @property
    def second(self) -> Second:
        """The person as the second of two people."""
        return self.api.second(self.actor)


class Actions:
    """The actions of a room, with their routes: ``json`` for its API, ``forms`` for its pages."""

    def __init__(self) -> None:
        self.json = APIRouter()
        self.forms = APIRouter(include_in_schema=False)

    def add(
        self,
        path: str,
        right: Right,
        *,
        back: str = "",
        said: str = "",
        page: str = "",
        status: int = 200,
        refused: int = 409,
    ) -> Callable[[F], F]:
        """Return the decorator that adds an action.

        Args:
            path: Its path in the API; parts in braces are arguments of the function.
            right: The right that it needs.
            back: The page that follows the form, with parts of the path and of the answer in braces; empty: no form.
            said: What that page says, likewise; empty: the words that the function returns.
            page: The form's path; empty: ``/console`` and ``path``.
            status: The status of the API's answer.
            refused: The status of the answer if the decision is refused.
        """

        def added(do: F) -> F:
            def answered(given: dict[str, Any]) -> Any:
                with refusing(refused):
                    answer = do(**given)
                return Words(words=[answer]) if isinstance(answer, str) else answer

            def shown(given: dict[str, Any]) -> RedirectResponse:
                console = given.pop("console")
                with answers.refusing(refused):
                    answer = do(**given)
                facts = {**given, **_facts(answer)}
                words = answer if isinstance(answer, str) else said.format(**facts)
                redirect: RedirectResponse = console.see_other(given["act"].actor, back.format(**facts), words)
                return redirect

            post: dict[str, Any] = {"methods": ["POST"], "dependencies": [LOCAL_TIMES]}
            self.json.add_api_route(path, _route(do, right, answered), status_code=status, **post)
            if back:
                form = _route(do, right, shown, is_form=True)
                self.forms.add_api_route(page or f"/console{path}", form, response_model=None, **post)
            return do

        return added


def _facts(answer: object) -> Mapping[str, Any]:
    """Return the parts of an answer by name."""
    return answer if isinstance(answer, Mapping) else getattr(answer, "__dict__", {})


def _route(
    do: Callable[..., Any], right: Right, run: Callable[[dict[str, Any]], Any], *, is_form: bool = False
) -> Callable[..., Any]:
    """Return an endpoint with the parameters of an action, which hands what is given to ``run``."""
    own = inspect.signature(do)
    parameters = [
        each.replace(kind=each.KEYWORD_ONLY, annotation=_form_of(each.annotation) if is_form else each.annotation)
        for each in own.parameters.values()
        if each.name != "act"
    ]
    added = {"act": Annotated[Act, Depends(_acting(right))]} | ({"console": RequestConsole} if is_form else {})
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=one) for name, one in added.items()
    ]
    answer = RedirectResponse if is_form else Words if own.return_annotation is str else own.return_annotation

    @wraps(do)
    def endpoint(**given: Any) -> Any:
        return run(given)

    endpoint.__signature__ = own.replace(parameters=parameters, return_annotation=answer)  # type: ignore[attr-defined]
    return endpoint


def _acting(right: Right) -> Callable[..., Act]:
    def act(request: Request, api: RequestApi, actor: Annotated[Actor, may(right)]) -> Act:
        return Act(api=api, actor=actor, request=request)

    return act


def _form_of(annotation: Any) -> Any:
    """Return a model of fields as a form sends it; what is no model stays as it is."""
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return annotation
    optional = {name for name, one in annotation.model_fields.items() if not one.is_required()}

    def bare(given: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if value != "" or name not in optional}

    content = {
        "__module__": annotation.__module__,
        "__doc__": annotation.__doc__,
        # A form also has what proves its session; an empty field was not filled in.
        "model_config": ConfigDict(extra="ignore"),
        "bare": model_validator(mode="before")(staticmethod(bare)),
    }
    return Annotated[type(f"{annotation.__name__}Form", (annotation,), content), Form()]
